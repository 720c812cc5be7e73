//! The region process: the cloud, the cluster's API, the fabric and the nodes' keeper, until told to
//! end.

mod arguments;
mod cluster;
mod endpoints;
mod keeper;
mod nodes;
mod pool;
mod seed;
mod services;
mod status;
mod wiring;

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use cloudsim::{Instance, InstanceSpec, Region, http::Shared};
use futures::future::try_join_all;
use kubesim::http::Api;
use model::InstanceId;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};

pub(crate) use self::arguments::PoolArgs;
use self::{
    cluster::{Cluster, Real},
    nodes::Node,
    services::Services,
    wiring::Wiring,
};
pub(crate) use self::{
    seed::SERVICE_CIDR,
    services::{KUBERNETES, KUBERNETES_PORT, OPENAPI, kubernetes_url},
};
use crate::{
    cgroups::{self, Hierarchy},
    control::{Answer, NodeRequest, Request, line},
    fabric::Fabric,
    node::{NodeArgs, Sources},
    statedir::{Process, Record, StateDir},
};

/// How long a link of an instance's primary ENI may take: `ip` runs twice, milliseconds each.
const PLUG_MAX: Duration = Duration::from_secs(20);
/// How often links are looked for that died: a kernel sends a device home within milliseconds.
const MEND_PERIOD: Duration = Duration::from_millis(200);
/// How long somebody who connected to the control socket may take to ask.
const QUESTION_MAX: Duration = Duration::from_secs(5);

/// What the control plane is called where nodes are named.
const CONTROL_PLANE: &str = "control-plane";

/// Replicas of the control plane of trunk pods, as its manifest says; each on a node of its own.
const CONTROL_PLANES: usize = 2;

/// What a region is made with.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RegionArgs {
    /// Number of nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(crate) nodes: u8,
    /// Where terway, terwayd and terway-probe are [default: beside this program]
    #[arg(long)]
    pub(crate) bin_dir: Option<PathBuf>,
    /// Instance type of the nodes: how many ENIs, and addresses on each [default: ecs.g7.4xlarge, with
    /// --trunk ecs.g6.16xlarge]
    #[arg(long)]
    pub(crate) instance_type: Option<String>,
    /// All nodes in one zone [default: in two, by turns]
    #[arg(long)]
    pub(crate) one_zone: bool,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    #[command(flatten)]
    pub(crate) kubernetes: KubernetesArgs,
}

impl RegionArgs {
    /// The instance type of the nodes.
    pub(crate) fn instance_type(&self) -> &str {
        // 8 ENIs with 30 addresses: 50 pods a node need four, so the address quota is no lab's first
        // limit. With trunks 8 with 20, and 52 members.
        let usual = match self.pool.trunk {
            false => "ecs.g7.4xlarge",
            true => "ecs.g6.16xlarge",
        };
        self.instance_type.as_deref().unwrap_or(usual)
    }

    /// Whether a replica of the control plane runs on this node of a simulated cluster; in a real one
    /// its scheduler decides.
    fn controls(&self, number: usize) -> bool {
        self.pool.controlled() && self.kubernetes.kubernetes.is_none() && number < CONTROL_PLANES
    }
}

/// With which Kubernetes.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct KubernetesArgs {
    /// A real Kubernetes: where kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and
    /// kube-proxy are [default: a simulated one]
    #[arg(long, value_name = "DIR")]
    pub(crate) kubernetes: Option<PathBuf>,
    /// With --kubernetes: archives of images, `*.tar` [default: images beside the programs' directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
    /// With --kubernetes: the manifests to install [default: those this program was built beside]
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
}

impl KubernetesArgs {
    /// What the nodes need, with every path spelled out.
    pub(crate) fn sources(&self) -> Result<Sources> {
        let absolute = |path: &Option<PathBuf>, what| {
            let path = path.as_ref().ok_or_else(|| anyhow!("no --{what}"))?;
            fs::canonicalize(path).with_context(|| format!("no directory {}", path.display()))
        };
        Ok(Sources {
            programs: absolute(&self.kubernetes, "kubernetes")?,
            images: absolute(&self.images, "images")?,
        })
    }

    /// The same as a command line, with every path spelled out.
    pub(crate) fn words(&self) -> Result<Vec<OsString>> {
        if self.kubernetes.is_none() {
            return Ok(Vec::new());
        }
        let Sources { programs, images } = self.sources()?;
        let manifests = self.manifests();
        let manifests = fs::canonicalize(&manifests)
            .with_context(|| format!("no manifests in {}", manifests.display()))?;
        let paths = [
            ("kubernetes", programs),
            ("images", images),
            ("manifests", manifests),
        ];
        let words = paths.map(|(name, path)| [format!("--{name}").into(), path.into()]);
        Ok(words.into_iter().flatten().collect())
    }

    fn manifests(&self) -> PathBuf {
        let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy"));
        self.manifests.clone().unwrap_or_else(beside)
    }
}

/// A lab that is up.
struct Lab {
    dir: StateDir,
    cloud: Shared,
    cluster: Cluster,
    wiring: Arc<Wiring>,
    doors: Doors,
    groups: Groups,
    record: Mutex<Record>,
    nodes: Mutex<Vec<Arc<Node>>>,
    end: Notify,
    /// The services' namespace lives as long as this.
    _services: Services,
}

/// Where people reach the services, as URLs.
struct Doors {
    kubernetes: String,
    openapi: String,
}

/// The lab's control groups.
struct Groups {
    trees: Vec<Hierarchy>,
    name: String,
}

/// Runs a region in the directory that the caller has claimed, until it is told to end.
///
/// # Errors
/// When a part of it cannot be made; what was made is gone then.
pub(crate) fn run(dir: &StateDir, args: &RegionArgs) -> Result<()> {
    // A process that leads its session already was started by hand.
    let _ = rustix::process::setsid();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let lab = Arc::new(open(dir.clone(), args, &mut tasks).await?);
        let mut terminate = signal(SignalKind::terminate())?;
        let outcome = tokio::select! {
            Err(error) = populate(&lab, args) => Err(error),
            () = lab.end.notified() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        let closed = close(&lab).await;
        outcome.and(closed)
    })
}

/// Makes everything but the nodes.
async fn open(dir: StateDir, args: &RegionArgs, tasks: &mut JoinSet<()>) -> Result<Lab> {
    // A second provider is refused, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let groups = Groups {
        trees: cgroups::hierarchies(args.kubernetes.kubernetes.is_some())?,
        name: format!("terway-lab-{}", std::process::id()),
    };
    let own = groups.trees.iter().map(|tree| tree.group(&groups.name));
    let mut record = Record {
        processes: vec![Process::of(std::process::id())?],
        cgroups: own.collect(),
    };
    dir.write(&record)?;
    if groups.trees.is_empty() {
        tracing::warn!("no control groups are mounted: nodes have none of their own");
    }
    for group in &record.cgroups {
        cgroups::create(group)?;
    }
    let cloud = Shared::new(Region::new(seed::region(&args.pool))?);
    let fabric = Fabric::start("lab")?;
    let known: Vec<_> = cloud.with(|_, region| region.security_groups().cloned().collect());
    known
        .into_iter()
        .try_for_each(|group| fabric.set_group(group))?;
    let services = Services::open(&fabric)?;
    let openapi = services.serve_cloud(&cloud, tasks)?;
    let wiring = Arc::new(Wiring::new(fabric));
    tasks.spawn(carry_out(cloud.clone(), Arc::clone(&wiring)));
    tasks.spawn(mend(Arc::clone(&wiring)));
    let (cluster, kubernetes) = match args.kubernetes.kubernetes {
        None => simulated(&dir, args, &services, tasks)?,
        Some(_) => {
            let kubernetes = &args.kubernetes;
            let (real, door) = Real::start(&dir, kubernetes, &args.pool, &services, tasks).await?;
            record.processes.push(real.process()?);
            dir.write(&record)?;
            (Cluster::Real(Box::new(real)), format!("https://{door}"))
        }
    };
    let openapi = format!("http://{openapi}");
    Ok(Lab {
        dir,
        cloud,
        cluster,
        wiring,
        doors: Doors {
            kubernetes,
            openapi,
        },
        groups,
        record: Mutex::new(record),
        nodes: Mutex::default(),
        end: Notify::new(),
        _services: services,
    })
}

/// A simulated cluster, and where people reach it.
fn simulated(
    dir: &StateDir,
    args: &RegionArgs,
    services: &Services,
    tasks: &mut JoinSet<()>,
) -> Result<(Cluster, String)> {
    let cluster = kubesim::Cluster::new(seed::SEED, since_epoch());
    let cluster = Api::dialing(cluster, services.dialer()?);
    let door = format!("http://{}", services.serve_cluster(&cluster, tasks)?);
    fs::write(dir.kubeconfig(), seed::kubeconfig(&door)).context("cannot write the kubeconfig")?;
    seed::install(dir, &args.kubernetes.manifests(), &args.pool)?;
    tasks.spawn(kubesim::http::run_scheduler(cluster.clone()));
    Ok((Cluster::Simulated(cluster), door))
}

/// The time as the cluster counts it.
fn since_epoch() -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default()
}

async fn carry_out(cloud: Shared, wiring: Arc<Wiring>) {
    let apply = |effect| {
        let wiring = Arc::clone(&wiring);
        async move {
            if let Err(error) = tokio::task::spawn_blocking(move || wiring.apply(&effect)).await {
                tracing::error!(%error, "an order's thread has failed");
            }
        }
    };
    cloudsim::http::drive(cloud, apply).await;
}

/// Brings back the links of ENIs whose pods' namespaces ended.
async fn mend(wiring: Arc<Wiring>) {
    let mut complaint = String::new();
    loop {
        tokio::time::sleep(MEND_PERIOD).await;
        let wiring = Arc::clone(&wiring);
        let mended = tokio::task::spawn_blocking(move || wiring.mend()).await;
        if let Err(error) = mended.unwrap_or_else(|error| Err(error.into())) {
            let text = format!("{error:#}");
            if text != complaint {
                tracing::error!(error = text, "a link could not be brought back");
                complaint = text;
            }
        }
    }
}

/// Starts the nodes, and answers questions for ever.
async fn populate(lab: &Arc<Lab>, args: &RegionArgs) -> Result<()> {
    let path = lab.dir.socket();
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot listen at {}", path.display()))?;
    tokio::spawn(answer(Arc::clone(lab), listener));
    if let Cluster::Real(real) = &lab.cluster {
        real.serves().await;
    }
    let starts = (0..usize::from(args.nodes)).map(|number| start(lab, args, number));
    try_join_all(starts).await?;
    if let (Cluster::Simulated(cluster), true) = (&lab.cluster, args.pool.controlled()) {
        let instances = lab.cloud.with(|_, region| region.snapshot().instances);
        let controls = instances.iter().take(CONTROL_PLANES);
        let addresses: Vec<_> = controls.map(|one| one.primary_address).collect();
        endpoints::publish(cluster, &addresses)?;
    }
    tracing::info!(nodes = args.nodes, "the lab is up");
    Ok(())
}

async fn start(lab: &Lab, args: &RegionArgs, number: usize) -> Result<()> {
    let name = format!("node-{}", number + 1);
    let instance = InstanceId::new(format!("i-bp1lab{:04}", number + 1))?;
    let node_args = NodeArgs {
        name: name.clone(),
        bin_dir: bin_dir(args)?,
        cgroup: lab.groups.of(&name),
        control_plane: args.controls(number),
        kubernetes: lab.cluster.sources(),
    };
    let node = Arc::new(Node::start(&lab.dir, &node_args, instance.clone()).await?);
    let process = Process::of(node.pid())?;
    lab.with_record(|record| record.processes.push(process))?;
    lab.wiring.place(instance.clone(), node.netns()?);
    lab.lock_nodes().push(Arc::clone(&node));
    let instance = lab.cloud.with(|now, region| {
        let spec = InstanceSpec {
            id: Some(instance),
            name,
            instance_type: args.instance_type().to_owned(),
            vswitch: seed::node_vswitch(number, args.one_zone),
            security_groups: region.config().security_groups.clone(),
            ram_role: Some(seed::ROLE.into()),
        };
        region.run_instance(now, spec)
    })?;
    lab.wiring.plugged(&instance.primary_eni, PLUG_MAX).await?;
    lab.cluster
        .welcome(&lab.dir, &args.pool, "cn-hangzhou", &instance)?;
    let Instance {
        primary_address: address,
        gateway,
        ..
    } = instance;
    node.ask(&NodeRequest::Boot { address, gateway }).await?;
    Ok(())
}

/// Where the programs under test are.
pub(crate) fn bin_dir(args: &RegionArgs) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find my own program")?;
    let dir = args
        .bin_dir
        .clone()
        .or_else(|| own.parent().map(PathBuf::from));
    dir.ok_or_else(|| anyhow!("{} has no directory", own.display()))
}

async fn answer(lab: Arc<Lab>, listener: UnixListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let lab = Arc::clone(&lab);
        tokio::spawn(async move {
            if let Err(error) = converse(&lab, stream).await {
                tracing::warn!(error = format!("{error:#}"), "a question was not answered");
            }
        });
    }
}

async fn converse(lab: &Lab, stream: UnixStream) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut question = String::new();
    timeout(QUESTION_MAX, BufReader::new(read).read_line(&mut question)).await??;
    let request: Request = serde_json::from_str(&question).context("no question")?;
    let answer = Answer::from(reply(lab, &request).await);
    write.write_all(&line(&answer)?).await?;
    if request == Request::Down {
        lab.end.notify_one();
    }
    Ok(())
}

async fn reply(lab: &Lab, request: &Request) -> Result<Value> {
    match request {
        Request::Ready => status::ready(lab).await,
        Request::Status => status::document(lab).await,
        Request::Kill { node, component } => kill(lab, node, component.clone()).await,
        Request::Pod { namespace, name } => {
            let node = lab.node(&lab.cluster.node_of(namespace, name).await?)?;
            let (namespace, name) = (namespace.clone(), name.clone());
            let netns = node.ask(&NodeRequest::Pod { namespace, name }).await?;
            let unified = lab
                .groups
                .trees
                .iter()
                .find(|tree| tree.controllers.is_none());
            let cgroup = unified.map(|tree| tree.group(&lab.groups.of(&node.name)));
            Ok(json!({ "pid": node.pid(), "netns": netns, "cgroup": cgroup }))
        }
        Request::Call { action, parameters } => {
            let ask = |now, region: &mut Region| region.ask(now, action, parameters.clone());
            lab.cloud.with(ask).map_err(|refusal| anyhow!(refusal))
        }
        Request::SourceDestCheck { eni, enabled } => {
            lab.wiring.fabric().source_dest_check(eni, *enabled)?;
            Ok(Value::Null)
        }
        Request::Down => Ok(Value::Null),
    }
}

/// Ends the nodes and removes what is outside of this process.
async fn close(lab: &Lab) -> Result<()> {
    let nodes = lab.nodes();
    let ends = futures::future::join_all(nodes.iter().map(|node| node.stop())).await;
    for node in &nodes {
        lab.wiring.displace(&node.instance);
    }
    ends.into_iter().collect::<Result<()>>()?;
    if let Cluster::Real(real) = &lab.cluster {
        real.stop().await?;
    }
    let groups = lab.with_record(|record| record.cgroups.clone())?;
    tokio::task::block_in_place(|| groups.iter().try_for_each(|group| cgroups::remove(group)))
}

/// Kills a program on a node, or of the control plane.
async fn kill(lab: &Lab, node: &str, component: String) -> Result<Value> {
    match &lab.cluster {
        Cluster::Real(real) if node == CONTROL_PLANE => real.kill(component).await,
        _ => lab.node(node)?.ask(&NodeRequest::Kill { component }).await,
    }
}

impl Groups {
    /// A node's group.
    fn of(&self, node: &str) -> String {
        format!("{}/{node}", self.name)
    }
}

impl Lab {
    fn lock_nodes(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The nodes that stand, by name.
    fn nodes(&self) -> Vec<Arc<Node>> {
        let mut nodes = self.lock_nodes().clone();
        nodes.sort_by_key(|node| (node.name.len(), node.name.clone()));
        nodes
    }

    fn node(&self, name: &str) -> Result<Arc<Node>> {
        let found = self.nodes().into_iter().find(|node| node.name == name);
        found.ok_or_else(|| anyhow!("there is no node {name:?}: `terway-lab status` lists them"))
    }

    /// Changes or reads the record, which is written again when it is not as before.
    fn with_record<T>(&self, act: impl FnOnce(&mut Record) -> T) -> Result<T> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let before = record.processes.len();
        let outcome = act(&mut record);
        if record.processes.len() != before {
            self.dir.write(&record)?;
        }
        Ok(outcome)
    }
}
