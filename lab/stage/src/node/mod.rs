//! A node: the first process of its own network, mount, process, host name and IPC namespaces.
//!
//! It does what the operating system, the container runtime and the cluster's installer do on a real
//! node. It ends with its standard input, and with it everything on the node.

mod agent;
mod mounts;

use std::{fs, io::Write, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, anyhow};
use kube::Client;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::agent::Agent;
use crate::{
    control::{Answer, NodeRequest, line},
    kubelet::Kubelet,
    region,
    statedir::StateDir,
    tool,
};

/// The lab's own files as a node sees them, wherever its directory is on the machine.
pub(crate) const LAB: &str = "/run/lab";
/// The programs under test, inside a node.
pub(crate) const BIN: &str = "/run/lab/bin";

/// The image the node boots: IPv6 is off, because the fabric does not carry it yet, and neighbour
/// discovery would stand in its counters as refused packets.
const SYSCTLS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
];

/// What a node is started with.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NodeArgs {
    /// Name of the node
    #[arg(long)]
    pub(crate) name: String,
    /// Where the programs under test are
    #[arg(long)]
    pub(crate) bin_dir: PathBuf,
    /// The node's cgroup
    #[arg(long)]
    pub(crate) cgroup: Option<PathBuf>,
}

/// What runs on a node that has booted.
struct Booted {
    agent: Arc<Agent>,
    kubelet: Arc<Kubelet>,
}

/// Makes this process a node and serves the region's requests until its standard input ends.
///
/// # Errors
/// When the node cannot be made; the region reads why before it asks anything.
pub(crate) fn run(dir: &StateDir, args: &NodeArgs) -> Result<()> {
    let stands = stand(dir, args);
    let failed = stands.as_ref().err().map(|error| anyhow!("{error:#}"));
    say(&Answer::from(stands.map(|()| Value::Null)))?;
    if let Some(error) = failed {
        return Err(error);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    serve(&args.name, &runtime)
}

fn say(answer: &Answer) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(&line(answer)?)?;
    Ok(out.flush()?)
}

/// Everything that must be done while this process has one thread.
fn stand(dir: &StateDir, args: &NodeArgs) -> Result<()> {
    std::env::set_current_dir("/")?;
    mounts::arrange(dir, args)?;
    rustix::system::sethostname(args.name.as_bytes()).context("cannot set the host name")?;
    for (path, value) in SYSCTLS {
        if fs::exists(path)? {
            fs::write(path, value).with_context(|| format!("cannot write {path}"))?;
        }
    }
    tool::run("ip link set lo up")?;
    // A second provider is refused, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(())
}

fn serve(name: &str, runtime: &Runtime) -> Result<()> {
    let mut booted = None;
    for request in std::io::stdin().lines() {
        let reply = match serde_json::from_str(&request?) {
            Ok(request) => runtime.block_on(reply(name, &mut booted, request)),
            Err(error) => Err(error.into()),
        };
        say(&Answer::from(reply))?;
    }
    tracing::info!("the region is gone, so is this node");
    Ok(())
}

async fn reply(name: &str, booted: &mut Option<Booted>, request: NodeRequest) -> Result<Value> {
    if let NodeRequest::Boot { address, gateway } = request {
        // What the cloud's image does with the primary ENI; every other one is the agent's.
        tool::run(&format!("ip addr add {address}/32 dev eth0"))?;
        tool::run("ip link set eth0 up")?;
        tool::run(&format!(
            "ip route add default via {gateway} dev eth0 onlink"
        ))?;
        let url = region::kubernetes_url();
        let client = Client::try_from(kube::Config::new(url.parse()?))?;
        let agent = Arc::new(Agent::default());
        let kubelet = Arc::new(Kubelet::new(client.clone(), name, address));
        tokio::spawn(agent::supervise(
            Arc::clone(&agent),
            client,
            name.to_owned(),
        ));
        tokio::spawn({
            let kubelet = Arc::clone(&kubelet);
            async move {
                if let Err(error) = agent::install_plugin().await {
                    tracing::error!(error = format!("{error:#}"), "the plugin is not installed");
                }
                kubelet.run().await;
            }
        });
        *booted = Some(Booted { agent, kubelet });
        return Ok(Value::Null);
    }
    let booted = booted.as_ref().context("the node has not booted")?;
    match request {
        NodeRequest::Agent => Ok(booted.agent.describe()),
        NodeRequest::KillAgent => booted.agent.kill(),
        NodeRequest::Pod { namespace, name } => {
            let netns = booted.kubelet.netns(&namespace, &name);
            Ok(json!(netns.with_context(|| format!(
                "pod {namespace}/{name} has no sandbox"
            ))?))
        }
        NodeRequest::Boot { .. } => Ok(Value::Null),
    }
}
