//! `status`: what is on this node, or on all of them.
//!
//! On a node the agent is asked over its socket, and neither API server nor runtime is needed. Anywhere
//! else each node's own `terway-cli` is asked through the API server.

pub(crate) mod document;
pub(crate) mod nodes;
mod tree;

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use wire::message::Verb;

use crate::{
    agent::{self, now_seconds},
    cluster::{Cluster, Where},
    text::Paint,
};
use document::Status;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// As one document
    #[arg(long)]
    json: bool,
    /// This node of the cluster, asked through the API server
    #[arg(long, conflicts_with = "all")]
    node: Option<String>,
    /// All nodes, also when this runs on one
    #[arg(long)]
    all: bool,
}

/// Carries out `status`. Fails with code 1 when something is wrong, 2 when it cannot be found out.
pub(crate) fn run(arguments: &StatusArgs, socket: &Path, place: &Where) -> Result<ExitCode> {
    if arguments.node.is_none() && !arguments.all && socket.exists() {
        return here(arguments.json, socket);
    }
    let runtime = crate::runtime()?;
    runtime.block_on(async {
        let cluster = Cluster::connect(place).await.with_context(|| {
            let socket = socket.display();
            format!("no agent's socket at {socket}, so this is no node of Terway, and no cluster can be asked")
        })?;
        match &arguments.node {
            Some(node) => there(&cluster, node, arguments.json).await,
            None => everywhere(&cluster, arguments.json).await,
        }
    })
}

fn here(as_json: bool, socket: &Path) -> Result<ExitCode> {
    let document = agent::ask(socket, Verb::View).map_err(|silence| {
        anyhow!("{silence}; look at the log of this node's pod of DaemonSet terway (kubectl logs)")
    })?;
    show(&document, as_json)
}

async fn there(cluster: &Cluster, node: &str, as_json: bool) -> Result<ExitCode> {
    let mut pods = cluster.agents(Some(node)).await?;
    // During an update the old pod and the new one are both there.
    pods.sort_by_key(|pod| pod.metadata.deletion_timestamp.is_some());
    let pod = pods.first().ok_or_else(|| {
        anyhow!("no agent's pod on node {node}; `kubectl get nodes` lists nodes, and DaemonSet terway says why it has none there")
    })?;
    let printed = cluster
        .command(&crate::cluster::name(pod), &["status", "--json"])
        .await
        .map_err(|why| anyhow!("node {node}: {why}"))?;
    let document = serde_json::from_str(&printed).context("the answer is no JSON")?;
    show(&document, as_json)
}

fn show(document: &Value, as_json: bool) -> Result<ExitCode> {
    let status = Status::read(document).map_err(|why| anyhow!("the agent: {why}"));
    if as_json {
        crate::print(&serde_json::to_string_pretty(document)?)?;
        return Ok(status.map_or(ExitCode::from(1), |status| code(&[status])));
    }
    let status = status?;
    crate::print(&tree::tree(&status, now_seconds(), Paint::for_stdout()))?;
    Ok(code(&[status]))
}

async fn everywhere(cluster: &Cluster, as_json: bool) -> Result<ExitCode> {
    let nodes = nodes::gather(cluster).await?;
    if as_json {
        let list: Vec<Value> = nodes.iter().map(|node| node.document()).collect();
        crate::print(&serde_json::to_string_pretty(&json!({ "nodes": list }))?)?;
    } else {
        crate::print(&nodes::table(&nodes, now_seconds(), Paint::for_stdout()))?;
    }
    let well = nodes.iter().all(|node| node.wrong(now_seconds()).is_none());
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn code(statuses: &[Status]) -> ExitCode {
    let well = statuses
        .iter()
        .all(|status| status.wrong(now_seconds()).is_empty());
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}
