//! A node: the first process of its own network, mount, process, host name and IPC namespaces.
//!
//! It does what the operating system, the container runtime and the cluster's installer do on a real
//! node. It ends with its standard input, and with it everything on the node.

mod mounts;
mod workload;

use std::{ffi::OsString, fs, io::Write, net::Ipv4Addr, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use kube::Client;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::workload::{Product, Workload};
use crate::{
    control::{Answer, NodeRequest, line},
    kubelet::Kubelet,
    kubernetes, region,
    statedir::StateDir,
    tool,
};

/// The lab's own files as a node sees them, wherever its directory is on the machine.
pub(crate) const LAB: &str = "/run/lab";
/// The programs under test, inside a node.
pub(crate) const BIN: &str = "/run/lab/bin";
/// The programs of a real Kubernetes, inside a node.
pub(crate) const KUBERNETES: &str = "/run/lab/kubernetes";
/// The images its containers are made from, inside a node.
pub(crate) const IMAGES: &str = "/run/lab/images";

/// The image the node boots: IPv6 is off, because the fabric does not carry it yet, and neighbour
/// discovery would stand in its counters as refused packets.
const SYSCTLS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
];
/// What preparing a machine for Kubernetes adds to the image.
const FORWARDS: (&str, &str) = ("/proc/sys/net/ipv4/ip_forward", "1");

/// What a node is started with.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NodeArgs {
    /// Name of the node
    #[arg(long)]
    pub(crate) name: String,
    /// Where the programs under test are
    #[arg(long)]
    pub(crate) bin_dir: PathBuf,
    /// The node's control group, in each hierarchy below the one it starts in
    #[arg(long)]
    pub(crate) cgroup: String,
    /// Whether a replica of the control plane of trunk pods runs here
    #[arg(long)]
    pub(crate) control_plane: bool,
    #[command(flatten)]
    pub(crate) kubernetes: Option<Sources>,
}

/// What a node with a real kubelet needs of the machine.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Sources {
    /// Where the programs of Kubernetes are
    #[arg(long = "kubernetes", required = false)]
    pub(crate) programs: PathBuf,
    /// Where the images are
    #[arg(long, required = false)]
    pub(crate) images: PathBuf,
}

impl NodeArgs {
    /// The same as a command line.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["--name".into(), self.name.clone().into()];
        words.extend(["--bin-dir".into(), self.bin_dir.clone().into()]);
        words.extend(["--cgroup".into(), self.cgroup.clone().into()]);
        words.extend(self.control_plane.then(|| "--control-plane".into()));
        if let Some(Sources { programs, images }) = &self.kubernetes {
            words.extend(["--kubernetes".into(), programs.into()]);
            words.extend(["--images".into(), images.into()]);
        }
        words
    }
}

/// What runs on a node that has booted.
enum Booted {
    Model {
        /// The agent first.
        workloads: Vec<Arc<Workload>>,
        kubelet: Arc<Kubelet>,
    },
    Real(kubernetes::Node),
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
    serve(args, &runtime)
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
    // A kubelet's node forwards already: runtimes and their preflights ask for it.
    let forwards = args.kubernetes.as_ref().map(|_| FORWARDS);
    for (path, value) in SYSCTLS.into_iter().chain(forwards) {
        if fs::exists(path)? {
            fs::write(path, value).with_context(|| format!("cannot write {path}"))?;
        }
    }
    tool::run("ip link set lo up")?;
    // A second provider is refused, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(())
}

fn serve(args: &NodeArgs, runtime: &Runtime) -> Result<()> {
    let mut booted = None;
    for request in std::io::stdin().lines() {
        let reply = match serde_json::from_str(&request?) {
            Ok(request) => runtime.block_on(reply(args, &mut booted, request)),
            Err(error) => Err(error.into()),
        };
        say(&Answer::from(reply))?;
    }
    tracing::info!("the region is gone, so is this node");
    Ok(())
}

async fn reply(
    args: &NodeArgs,
    booted: &mut Option<Booted>,
    request: NodeRequest,
) -> Result<Value> {
    if let NodeRequest::Boot { address, gateway } = request {
        // What the cloud's image does with the primary ENI; every other one is the agent's.
        tool::run(&format!("ip addr add {address}/32 dev eth0"))?;
        tool::run("ip link set eth0 up")?;
        tool::run(&format!(
            "ip route add default via {gateway} dev eth0 onlink"
        ))?;
        *booted = Some(match &args.kubernetes {
            None => model(args, address)?,
            Some(_) => Booted::Real(kubernetes::Node::boot(&args.name)?),
        });
        return Ok(Value::Null);
    }
    match booted.as_ref().context("the node has not booted")? {
        Booted::Model { workloads, kubelet } => match request {
            NodeRequest::Pod { namespace, name } => {
                let netns = kubelet.netns(&namespace, &name);
                Ok(json!(netns.with_context(|| format!(
                    "pod {namespace}/{name} has no sandbox"
                ))?))
            }
            NodeRequest::Kill { component } => {
                let mut all = workloads.iter();
                match all.find(|workload| workload.program() == component) {
                    Some(workload) => workload.kill(),
                    None => bail!("no {component} runs on this node"),
                }
            }
            NodeRequest::Agent | NodeRequest::Boot { .. } => {
                let mut described = workloads.iter().map(|workload| workload.describe());
                let mut agent = described.next().context("no agent runs on this node")?;
                agent["control_plane"] = described.next().into();
                Ok(agent)
            }
        },
        Booted::Real(node) => match request {
            NodeRequest::Pod { namespace, name } => node.netns(&namespace, &name),
            NodeRequest::Kill { component } => node.kill(&component),
            NodeRequest::Agent | NodeRequest::Boot { .. } => Ok(node.agent()),
        },
    }
}

/// Starts the model of a kubelet, and the product's programs beside it.
fn model(args: &NodeArgs, address: Ipv4Addr) -> Result<Booted> {
    let (name, url) = (&args.name, region::kubernetes_url());
    let client = Client::try_from(kube::Config::new(url.parse()?))?;
    let control_plane = args.control_plane.then_some(Product::ControlPlane);
    let products = [Product::Agent].into_iter().chain(control_plane);
    let workloads: Vec<_> = products
        .map(|product| Arc::new(Workload::new(product, name, address)))
        .collect();
    for workload in &workloads {
        tokio::spawn(workload::supervise(Arc::clone(workload), client.clone()));
    }
    let kubelet = Arc::new(Kubelet::new(client, name, address));
    tokio::spawn(Arc::clone(&kubelet).run());
    Ok(Booted::Model { workloads, kubelet })
}
