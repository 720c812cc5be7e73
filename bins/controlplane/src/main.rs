//! The control plane: wires the machine of `engine::cluster` and the planners of `engine::admission` to the
//! API server and the cloud. No decision is taken here.

mod backoff;
mod calls;
mod cause;
mod config;
mod definitions;
mod degradation;
mod door;
mod driver;
mod election;
mod facts;
mod metrics;
mod notices;
mod records;
mod routes;
mod run;
mod told;
mod watch;
mod webhook;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Which release this is; a build may be told another, to rehearse an upgrade.
const VERSION: &str = match option_env!("TERWAY_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// The control plane of Terway: ENIs of trunk pods, admission, the collector of leaked ENIs.
#[derive(Parser)]
#[command(name = "terway-controlplane", version = VERSION)]
struct Arguments {
    /// The configuration, YAML or JSON.
    #[arg(long, default_value = "/etc/config/ctrl-config.yaml")]
    config: PathBuf,
    /// The AccessKey, YAML or JSON; without it the instance's RAM role signs.
    #[arg(long, default_value = "/etc/credential/ctrl-secret.yaml")]
    credential: PathBuf,
    /// The instance metadata service.
    #[arg(long, default_value = "http://100.100.100.200")]
    metadata: String,
    /// Name of this replica, for the lease that says who leads.
    #[arg(long, env = "POD_NAME", default_value = "terway-controlplane")]
    name: String,
    /// What to log, for example info or terway_controlplane=debug.
    #[arg(long, env = "RUST_LOG", default_value = "info,kube_runtime=warn")]
    log: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&arguments.log))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
