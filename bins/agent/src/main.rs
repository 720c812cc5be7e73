//! The node agent: wires the node machine of `engine` to the plugin's socket, the store, the kernel,
//! the cloud and the API server. No decision is taken here.

mod begin;
mod bell;
mod calls;
mod card;
mod cause;
mod clock;
mod cniconf;
mod config;
mod driver;
mod dynamic;
mod facts;
mod filters;
mod heal;
mod health;
mod incumbent;
mod install;
mod keeper;
mod kernel;
mod masquerade;
mod metrics;
mod mode;
mod notices;
mod observe;
mod plugin;
mod pod_links;
mod podenis;
mod pods;
mod privileges;
mod result;
mod return_path;
mod run;
mod store;
mod trunk;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Which release this is; a build may be told another, to rehearse an upgrade.
const VERSION: &str = match option_env!("TERWAY_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// The node agent of Terway.
#[derive(Parser)]
#[command(name = "terwayd", version = VERSION)]
struct Arguments {
    /// What to log, for example info or terwayd=debug.
    #[arg(
        long,
        env = "RUST_LOG",
        default_value = "info,kube_runtime=warn",
        global = true
    )]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve this node.
    Run(run::RunArgs),
    /// Check the node and install the plugin on it.
    Install(install::InstallArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&arguments.log))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let outcome = match arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Install(arguments) => install::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
