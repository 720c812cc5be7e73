//! The operator's tool: what is on this node, why a pod has no address, what to send with a report, and
//! whether the cloud answers as this software expects.
//!
//! It changes nothing in cluster and node. `cloud-check` alone makes something in the cloud, and
//! removes it.

mod agent;
mod cloud_check;
mod cluster;
mod dump;
mod explain;
mod metadata;
mod status;
mod sysdump;
mod text;
mod version;

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// The operator's tool of Terway.
#[derive(Debug, Parser)]
#[command(name = "terway-cli", version)]
struct Cli {
    /// Socket of this node's agent
    #[arg(long, global = true, default_value = wire::SOCKET_PATH)]
    socket: PathBuf,
    #[command(flatten)]
    place: cluster::Where,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What is on this node, or on all of them
    Status(status::StatusArgs),
    /// Why a pod has no address
    Explain(explain::ExplainArgs),
    /// One archive for a report, without secrets
    Sysdump(sysdump::SysdumpArgs),
    /// What an agent was told and decided lately, for `terway-sim replay`
    Dump(dump::DumpArgs),
    /// Whether the cloud answers as this software expects: makes one ENI and deletes it
    CloudCheck(cloud_check::CloudCheckArgs),
    /// What the instance metadata service says of this node
    Metadata(metadata::MetadataArgs),
    /// Versions of this program and of the node's agent
    Version,
    /// What this node's agent says of a pod, unexplained
    #[command(hide = true)]
    Ask(explain::AskArgs),
}

/// Could not find out.
const UNDECIDED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match carry_out(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("terway-cli: {}", text::foreign(&format!("{error:#}")));
            ExitCode::from(UNDECIDED)
        }
    }
}

fn carry_out(cli: &Cli) -> Result<ExitCode> {
    match &cli.verb {
        Verb::Status(arguments) => status::run(arguments, &cli.socket, &cli.place),
        Verb::Explain(arguments) => explain::run(arguments, &cli.socket, &cli.place),
        Verb::Sysdump(arguments) => sysdump::run(arguments, &cli.socket, &cli.place),
        Verb::Dump(arguments) => dump::run(arguments, &cli.socket, &cli.place),
        Verb::CloudCheck(arguments) => cloud_check::run(arguments, &cli.place),
        Verb::Metadata(arguments) => metadata::run(arguments),
        Verb::Version => version::run(&cli.socket),
        Verb::Ask(arguments) => explain::ask(arguments, &cli.socket),
    }
}

/// A runtime for what waits on a network; made only where something does, so that a look at this node's
/// agent costs a process and one exchange.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
}

/// Prints `text` and a line's end. Nobody reading any more is no failure: `terway-cli status | head`.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}
