//! The region process: the cloud, the cluster's API, the fabric and the nodes' keeper, until told to
//! end.

mod nodes;
mod pool;
mod seed;
mod services;
mod status;
mod wiring;

use std::{
    fs,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use cloudsim::{Instance, InstanceSpec, Region, http::Shared};
use futures::future::try_join_all;
use kubesim::{Cluster, http::Api};
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

pub(crate) use self::services::{OPENAPI, kubernetes_url};
use self::{nodes::Node, services::Doors, wiring::Wiring};
use crate::{
    control::{Answer, NodeRequest, Request, line},
    fabric::Fabric,
    node::NodeArgs,
    statedir::{Process, Record, StateDir, remove_cgroup},
};

/// How long a link of an instance's primary ENI may take: `ip` runs twice, milliseconds each.
const PLUG_MAX: Duration = Duration::from_secs(20);
/// How long somebody who connected to the control socket may take to ask.
const QUESTION_MAX: Duration = Duration::from_secs(5);

/// What a region is made with.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RegionArgs {
    /// Number of nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(crate) nodes: u8,
    /// Where terway, terwayd and terway-probe are [default: beside this program]
    #[arg(long)]
    pub(crate) bin_dir: Option<PathBuf>,
    /// Instance type of the nodes: how many ENIs, and addresses on each
    // 8 ENIs with 30 addresses: 50 pods a node need four, so the address quota is no lab's first limit.
    #[arg(long, default_value = "ecs.g7.4xlarge")]
    pub(crate) instance_type: String,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
}

/// What `eni_conf` of the cluster says about the nodes' pools.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PoolArgs {
    /// Key min_pool_size of eni_conf
    #[arg(long, default_value_t = 2)]
    pub(crate) min_pool_size: u32,
    /// Key max_pool_size of eni_conf
    #[arg(long, default_value_t = 5)]
    pub(crate) max_pool_size: u32,
    /// Key ip_cooldown of eni_conf
    #[arg(long, default_value = "60s")]
    pub(crate) ip_cooldown: String,
}

/// A lab that is up.
struct Lab {
    dir: StateDir,
    cloud: Shared,
    cluster: Api,
    wiring: Arc<Wiring>,
    doors: Doors,
    record: Mutex<Record>,
    nodes: Mutex<Vec<Arc<Node>>>,
    end: Notify,
    /// The services' namespace lives as long as this.
    _services: OwnedFd,
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
        let lab = Arc::new(open(dir.clone(), &args.pool, &mut tasks)?);
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
fn open(dir: StateDir, pool: &PoolArgs, tasks: &mut JoinSet<()>) -> Result<Lab> {
    let me = Process::of(std::process::id())?;
    let cgroup = nodes::cgroup(&format!("terway-lab-{}", std::process::id()))?;
    let record = Record {
        processes: vec![me],
        cgroup,
    };
    dir.write(&record)?;
    match &record.cgroup {
        Some(path) => {
            fs::create_dir(path).with_context(|| format!("cannot create {}", path.display()))?;
        }
        None => tracing::warn!("no cgroup2 mount: nodes have no cgroup of their own"),
    }
    let config = seed::region();
    let eni_config = seed::eni_config(&config, pool)?;
    let cloud = Shared::new(Region::new(config)?);
    let cluster = Api::new(Cluster::new(seed::SEED, since_epoch()));
    cluster.create_object(eni_config)?;
    let fabric = Fabric::start("lab")?;
    let (doors, services) = services::open(&fabric, &cloud, &cluster, tasks)?;
    let kubeconfig = seed::kubeconfig(&format!("http://{}", doors.kubernetes));
    fs::write(dir.kubeconfig(), kubeconfig).context("cannot write the kubeconfig")?;
    let wiring = Arc::new(Wiring::new(fabric));
    tasks.spawn(carry_out(cloud.clone(), Arc::clone(&wiring)));
    tasks.spawn(kubesim::http::run_scheduler(cluster.clone()));
    Ok(Lab {
        dir,
        cloud,
        cluster,
        wiring,
        doors,
        record: Mutex::new(record),
        nodes: Mutex::default(),
        end: Notify::new(),
        _services: services,
    })
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

/// Starts the nodes, and answers questions for ever.
async fn populate(lab: &Arc<Lab>, args: &RegionArgs) -> Result<()> {
    let path = lab.dir.socket();
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot listen at {}", path.display()))?;
    tokio::spawn(answer(Arc::clone(lab), listener));
    let starts = (0..usize::from(args.nodes)).map(|number| start(lab, args, number));
    try_join_all(starts).await?;
    tracing::info!(nodes = args.nodes, "the lab is up");
    Ok(())
}

async fn start(lab: &Lab, args: &RegionArgs, number: usize) -> Result<()> {
    let name = format!("node-{}", number + 1);
    let instance = InstanceId::new(format!("i-bp1lab{:04}", number + 1))?;
    let cgroup = lab.with_record(|record| record.cgroup.as_ref().map(|path| path.join(&name)))?;
    let node_args = NodeArgs {
        name: name.clone(),
        bin_dir: bin_dir(args)?,
        cgroup,
    };
    let node = Arc::new(Node::start(&lab.dir, &node_args, instance.clone()).await?);
    let process = Process::of(node.pid)?;
    lab.with_record(|record| record.processes.push(process))?;
    lab.wiring.place(instance.clone(), node.netns()?);
    lab.lock_nodes().push(Arc::clone(&node));
    let instance = lab.cloud.with(|now, region| {
        let spec = InstanceSpec {
            id: Some(instance),
            name,
            instance_type: args.instance_type.clone(),
            vswitch: seed::node_vswitch(number),
            security_groups: region.config().security_groups.clone(),
            ram_role: Some(seed::ROLE.into()),
        };
        region.run_instance(now, spec)
    })?;
    lab.wiring.plugged(&instance.primary_eni, PLUG_MAX).await?;
    lab.cluster
        .create_object(seed::node("cn-hangzhou", &instance))?;
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
        Request::Ready => status::ready(lab).map(Value::from),
        Request::Status => status::document(lab).await,
        Request::KillAgent { node } => lab.node(node)?.ask(&NodeRequest::KillAgent).await,
        Request::Pod { namespace, name } => {
            let target = kubesim::Target {
                resource: &kubesim::registry::PODS,
                namespace,
                name,
            };
            let pod = lab.cluster.read(|cluster| cluster.get(target))?;
            let node = pod["spec"]["nodeName"].as_str();
            let node = lab.node(node.ok_or_else(|| anyhow!("pod {name} has no node yet"))?)?;
            let (namespace, name) = (namespace.clone(), name.clone());
            let netns = node.ask(&NodeRequest::Pod { namespace, name }).await?;
            let cgroup = lab.with_record(|record| record.cgroup.clone())?;
            let cgroup = cgroup.map(|cgroup| cgroup.join(&node.name));
            Ok(json!({ "pid": node.pid, "netns": netns, "cgroup": cgroup }))
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
    match lab.with_record(|record| record.cgroup.clone())? {
        Some(cgroup) => tokio::task::block_in_place(|| remove_cgroup(&cgroup)),
        None => Ok(()),
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
