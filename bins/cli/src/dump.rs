//! `dump`: what the node machine of an agent was told and decided lately, for `terway-sim replay`.
//!
//! The agent writes into a file that is sent along, because the whole is longer than a message may be.

use std::{
    fs::File,
    io::{Read, Seek},
    os::fd::AsFd,
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow};
use rustix::fs::{MemfdFlags, memfd_create};
use wire::message::{Reply, Verb};

use crate::{
    agent::{self, Silence},
    cluster::{Cluster, Where, name},
    sysdump::redact::Redactor,
};

/// Arguments of `dump`.
#[derive(Debug, clap::Args)]
pub(crate) struct DumpArgs {
    /// The node; without it, this one
    node: Option<String>,
}

/// Carries out `dump`.
pub(crate) fn run(arguments: &DumpArgs, socket: &Path, place: &Where) -> Result<ExitCode> {
    let recording = match &arguments.node {
        None => here(socket).map_err(|silence| anyhow!("{silence}"))?,
        Some(node) => crate::runtime()?.block_on(async {
            let cluster = Cluster::connect(place).await?;
            let pods = cluster.agents(Some(node)).await?;
            let pod = pods.first();
            let pod = pod.with_context(|| format!("no agent's pod on node {node}"))?;
            there(&cluster, &name(pod))
                .await
                .map_err(anyhow::Error::msg)
        })?,
    };
    crate::print(recording.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// The recording of this node's agent.
pub(crate) fn here(socket: &Path) -> Result<String, Silence> {
    let broken = |error: std::io::Error| Silence::Refused(format!("a file for it: {error}"));
    let file = memfd_create("recording", MemfdFlags::CLOEXEC);
    let mut file = File::from(file.map_err(|error| broken(error.into()))?);
    match agent::exchange(socket, Verb::Dump, &[file.as_fd()])? {
        Reply::Done => {}
        other => return Err(agent::refused(other)),
    }
    let mut text = String::new();
    file.rewind().map_err(broken)?;
    file.read_to_string(&mut text).map_err(broken)?;
    Ok(Redactor::default().forms(&text))
}

/// The recording of the agent in pod `name`.
pub(crate) async fn there(cluster: &Cluster, name: &str) -> Result<String, String> {
    cluster.command(name, &["dump"]).await
}
