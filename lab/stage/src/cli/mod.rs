//! The command line: bring a lab up, look at it, go into its pods, take it down.

pub(crate) mod inside;
pub(crate) mod tree;
pub(crate) mod up;

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::{
    bench::{self, BenchArgs, NodeBenchArgs},
    control::{Request, ask},
    demo::{self, DemoArgs},
    kubernetes::{self, AGENT, ControlPlaneArgs},
    node::{self, NodeArgs},
    region::{self, RegionArgs},
    statedir::{DIR, StateDir},
};

/// A region of the cloud, a cluster and its nodes on this machine.
#[derive(Debug, Parser)]
#[command(name = "terway-lab", version)]
pub struct Cli {
    /// Where the lab keeps its state, its socket and its logs
    #[arg(long, global = true, default_value = DIR)]
    dir: PathBuf,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring up a lab and stay until Ctrl-C
    Up {
        #[command(flatten)]
        region: RegionArgs,
        /// With --kubernetes: leave the product out, so that nodes are up and not ready
        #[arg(long)]
        no_install: bool,
        /// Return when the nodes are ready and leave the lab up
        #[arg(long)]
        detach: bool,
    },
    /// Show what is up
    Status {
        /// As one document
        #[arg(long)]
        json: bool,
    },
    /// Run a command in a pod's network namespace, with its node's files and processes
    Exec {
        /// Namespace of the pod
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// The pod
        pod: String,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print the path of the kubeconfig
    Kubeconfig,
    /// Print a component's log, or which there are
    Logs {
        /// For example `region`, `node-1` or `node-1-terwayd`
        component: Option<String>,
    },
    /// Kill a node's agent without warning; the node starts it again
    KillAgent {
        /// The node
        node: String,
    },
    /// Kill a program on a node without warning; the node starts it again
    Kill {
        /// The node; `control-plane` where the cluster is a real one
        node: String,
        /// `terwayd`; in a real cluster also kubelet, kube-proxy, containerd, or kube-apiserver and the like
        component: String,
    },
    /// Call the simulated cloud as the account's owner, and print the answer
    Call {
        /// For example `AuthorizeSecurityGroup`
        action: String,
        /// Its parameters, `Name=value`; RegionId is known
        #[arg(value_parser = parameter)]
        parameters: Vec<(String, String)>,
    },
    /// Apply the product's manifests to a lab with a real Kubernetes
    Install,
    /// Take the lab down, whatever is left of it
    Down,
    /// Show the product's main job step by step, and check every claim
    Demo(DemoArgs),
    /// Measure ADD and DEL beside the reference plugins and bare netlink
    Bench(BenchArgs),
    /// Measure on the node this runs on; `bench` and `demo` run it
    #[command(hide = true)]
    BenchNode(NodeBenchArgs),
    /// The lab's own process; `up` runs it
    #[command(hide = true)]
    Region(RegionArgs),
    /// A node's first process; the region runs it
    #[command(hide = true)]
    Node(NodeArgs),
    /// The first process beside a real API server; the region runs it
    #[command(hide = true)]
    ControlPlane(ControlPlaneArgs),
}

/// Carries out a command line.
///
/// # Errors
/// A sentence about what was tried and what to do.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let dir = StateDir::at(&cli.dir)?;
    match cli.command {
        Verb::Up {
            region,
            no_install,
            detach,
        } => up::up(&dir, &region, !no_install, detach)?,
        Verb::Status { json: true } => {
            println!("{}", serde_json::to_string_pretty(&look(&dir)?)?);
        }
        Verb::Status { json: false } => println!("{}", tree::tree(&look(&dir)?)),
        Verb::Exec {
            namespace,
            pod: name,
            command,
        } => {
            let place = question(&dir, &Request::Pod { namespace, name })?;
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let error = inside::pod(&place, &words)?.exec();
            return Err(anyhow!(error).context("cannot run `nsenter`"));
        }
        Verb::Kubeconfig => {
            must_be_up(&dir)?;
            println!("{}", dir.kubeconfig().display());
        }
        Verb::Logs { component } => logs(&dir, component.as_deref())?,
        Verb::KillAgent { node } => {
            let component = AGENT.to_owned();
            println!("{}", question(&dir, &Request::Kill { node, component })?);
        }
        Verb::Kill { node, component } => {
            println!("{}", question(&dir, &Request::Kill { node, component })?);
        }
        Verb::Call { action, parameters } => {
            let answer = question(&dir, &Request::Call { action, parameters })?;
            println!("{}", serde_json::to_string_pretty(&answer)?);
        }
        Verb::Install => {
            must_be_up(&dir)?;
            print!("{}", up::install(&dir)?);
        }
        Verb::Down => up::down(&dir)?,
        Verb::Demo(args) => return demo::run(&dir, &args),
        Verb::Bench(args) => bench::lab(&dir, &args)?,
        Verb::BenchNode(args) => bench::node(&args)?,
        Verb::Region(args) => {
            log_to_stderr();
            region::run(&dir, &args)?;
        }
        Verb::Node(args) => {
            log_to_stderr();
            node::run(&dir, &args)?;
        }
        Verb::ControlPlane(args) => {
            log_to_stderr();
            kubernetes::run_control_plane(&dir, &args)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parameter(word: &str) -> Result<(String, String)> {
    let (name, value) = word
        .split_once('=')
        .with_context(|| format!("{word:?} is no Name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    log.with_ansi(false).with_writer(std::io::stderr).init();
}

fn must_be_up(dir: &StateDir) -> Result<()> {
    if !dir.is_up() {
        let here = dir.path().display();
        bail!("no lab is up in {here}: run `terway-lab up`");
    }
    Ok(())
}

fn question(dir: &StateDir, request: &Request) -> Result<Value> {
    must_be_up(dir)?;
    ask(&dir.socket(), request)
}

/// The status document.
fn look(dir: &StateDir) -> Result<Value> {
    question(dir, &Request::Status)
}

fn logs(dir: &StateDir, component: Option<&str>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if let Some(component) = component {
        let path = dir.log(component);
        let mut log = File::open(&path)
            .with_context(|| format!("no log {}: `terway-lab logs` lists them", path.display()))?;
        std::io::copy(&mut log, &mut out)?;
        return Ok(());
    }
    let here = dir.path().display();
    let entries = fs::read_dir(dir.logs()).with_context(|| format!("no lab has run in {here}"))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "log"));
    paths.sort();
    for stem in paths.iter().filter_map(|path| path.file_stem()) {
        writeln!(out, "{}", stem.to_string_lossy())?;
    }
    Ok(())
}
