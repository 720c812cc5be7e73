//! `terwayd run`: everything the agent consists of, started in the order in which it is needed.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, mpsc},
    thread,
    time::Instant,
};

use anyhow::Context;
use clap::Args;
use cloud::Metadata;
use engine::{node::Node, recording::Recorded};
use model::Mac;
use wire::{SOCKET_PATH, TOMBSTONE_DIR, socket::Listener};

use crate::{
    begin::{Begun, Outside, begin},
    bell::Bell,
    calls::Cloud,
    card::Card,
    cniconf,
    config::Settings,
    driver::{self, Driver},
    facts::{self, Asker},
    filters, heal,
    health::{Health, Part},
    incumbent::{self, Term},
    keeper::Keeper,
    kernel, masquerade,
    metrics::Metrics,
    mode::Mode,
    notices::{self, Notices},
    observe::{self, Address, Door},
    plugin, podenis,
    pods::Pods,
    privileges::{self, Privileges},
    return_path, trunk,
};

/// Room for what the machine was told lately. A pod that comes and goes takes about 4 KiB, a look at the
/// kernel of a node of 250 pods about 150 KiB every five minutes: 250 pods' coming and going, or half an
/// hour at rest. The machine itself is kept twice beside it, 0.3 MiB each at 250 pods.
const RECORDING_BYTES: usize = 1 << 20;

/// What the agent is told.
#[derive(Args)]
pub(crate) struct RunArgs {
    /// File with eni_conf, the agent's part of ConfigMap kube-system/eni-config.
    #[arg(long, default_value = "/etc/eni/eni_conf")]
    config: PathBuf,
    /// The node's directory of CNI configurations; none is written without it.
    #[arg(long)]
    cni_conf_dir: Option<PathBuf>,
    /// Address for probes and metrics.
    #[arg(long, default_value = ":9190", value_parser = observe::address)]
    listen: Address,
    /// Name of this node in the cluster.
    #[arg(long, env = "NODE_NAME")]
    node_name: String,
    /// Directory for what must survive a restart.
    #[arg(long, default_value = "/var/lib/cni/terway")]
    state: PathBuf,
    /// Where pods' addresses come from.
    #[arg(long, env = "DAEMON_MODE", value_enum, default_value = "ENIMultiIP")]
    daemon_mode: Mode,
    /// The instance metadata service.
    #[arg(long, default_value = "http://100.100.100.200")]
    metadata: String,
    /// Wait until no other agent serves this node, without asking it to hand over.
    #[arg(long, hide = true)]
    standby: bool,
}

/// Serves the node until the process is told to end.
pub(crate) fn run(arguments: RunArgs) -> anyhow::Result<()> {
    let (called, started) = (Instant::now(), plugin::now().as_nanos());
    let runtime = async_runtime()?;
    let _entered = runtime.enter();
    let term = Arc::new(Term::default());
    term.end_when_told(&runtime)?;
    let kube = kube_client(&runtime)?;
    let notices = Notices::new(kube.clone(), arguments.node_name.clone());
    check_capabilities(&runtime, &kube, &arguments.node_name)?;
    let _lock = incumbent::lock(&arguments.state, arguments.standby)?;
    term.begin();
    let metadata = Arc::new(Metadata::new(&arguments.metadata).context("--metadata")?);
    let privileges = Arc::new(Privileges::default());
    runtime.spawn(Arc::clone(&privileges).watch(kube.clone(), notices.clone()));
    let health = Arc::new(Health::new());
    let metrics = Arc::new(Metrics::new(started / 1_000_000_000));
    let door = open_door(&runtime, arguments.listen.clone(), &health, &metrics);
    let asker = Asker {
        mode: arguments.daemon_mode,
        kube,
        node: arguments.node_name.clone(),
        metadata,
        notices: notices.clone(),
    };
    let outside = Outside {
        asker: &asker,
        health: &health,
    };
    let begun = begin(&runtime, (&arguments.config, &arguments.state), &outside)?;
    let primary = begun.config.primary_mac;
    let (trunk_ring, bell) = Bell::new();
    let asked = begun.links.asked.clone();
    let around = Around {
        runtime: &runtime,
        asker,
        health: Arc::clone(&health),
        metrics,
        privileges,
        bell,
    };
    let (outbox, pods) = start_driver(around, begun, &arguments, started)?;
    // Set once, here.
    let _ = door.driver.set(outbox.clone());

    let beside = arguments.config.parent().unwrap_or(Path::new("/"));
    let (tables_ring, bell) = Bell::new();
    keep_tables(&arguments, primary, &notices, bell)?;
    let (told, rings) = (outbox.clone(), [trunk_ring, tables_ring]);
    spawn("watch", move || heal::listen(&told, &rings))?;
    let listener = listen(Path::new(SOCKET_PATH))?;
    tracing::info!(
        ms = called.elapsed().as_millis(),
        "serving at {SOCKET_PATH}"
    );
    health.stands(Part::Socket);
    match arguments.cni_conf_dir {
        Some(target) => {
            let keeper = cniconf::Keeper {
                source: beside.to_owned(),
                target,
                asked,
                health,
                notices,
            };
            runtime.spawn(keeper.run());
        }
        None => health.stands(Part::Chain),
    }
    plugin::serve(&listener, &pods, &outbox, &term);
    Ok(())
}

/// Keeps what the mode needs of nf_tables.
fn keep_tables(
    arguments: &RunArgs,
    primary: Mac,
    notices: &Notices,
    bell: Bell,
) -> anyhow::Result<()> {
    let notices = notices.clone();
    match arguments.daemon_mode {
        Mode::EniMultiIp => {
            let beside = arguments.config.parent().unwrap_or(Path::new("/"));
            let source = beside.to_owned();
            let keeper = return_path::Keeper {
                primary,
                source,
                notices,
                bell,
            };
            spawn("return-path", move || keeper.run())
        }
        Mode::Vpc => {
            let source = arguments.config.clone();
            let keeper = masquerade::Keeper {
                source,
                notices,
                bell,
            };
            spawn("masquerade", move || keeper.run())
        }
    }
}

/// A capability that is missing is said in the cluster before the process ends for it.
fn check_capabilities(
    runtime: &tokio::runtime::Runtime,
    kube: &kube::Client,
    node: &str,
) -> anyhow::Result<()> {
    let Err(error) = privileges::check_capabilities() else {
        return Ok(());
    };
    let text = error.to_string();
    let told = Notices::now(kube.clone(), node, "NodeNotSupported", &text);
    runtime.block_on(notices::in_time(told));
    Err(error.into())
}

/// The threads that change the kernel: what sets up, and what takes down.
type KernelThreads = (
    mpsc::SyncSender<kernel::Work>,
    mpsc::SyncSender<kernel::Work>,
);

fn all_kernel_threads(
    programs: &Arc<kernel::Programs>,
    outbox: &mpsc::SyncSender<driver::Message>,
) -> anyhow::Result<KernelThreads> {
    let (released, flows) = mpsc::sync_channel(kernel::QUEUE_MAX);
    spawn("flows", move || kernel::forget_flows(&flows))?;
    let threads = |name, count| kernel_threads(name, count, programs, outbox, &released);
    let set_up = threads("set-up", 1)?;
    let take_down = threads("take-down", kernel::TAKE_DOWN_THREADS)?;
    Ok((set_up, take_down))
}

/// What the driver stands between.
struct Around<'a> {
    runtime: &'a tokio::runtime::Runtime,
    asker: Asker,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    privileges: Arc<Privileges>,
    /// What the keeper of the trunk's filters waits by.
    bell: Bell,
}

/// Starts what decides and what carries out; what comes back asks it.
fn start_driver(
    around: Around<'_>,
    begun: Begun,
    arguments: &RunArgs,
    started: u64,
) -> anyhow::Result<(mpsc::SyncSender<driver::Message>, Arc<Pods>)> {
    let Begun {
        store,
        ledger,
        occupied,
        settings,
        own,
        known,
        config,
        links,
    } = begun;
    let node = arguments.node_name.clone();
    let client = facts::client(settings.as_ref(), &known.region, &around.asker.metadata)?;
    let (outbox, inbox) = mpsc::sync_channel(driver::QUEUE_MAX);
    let programs = Arc::new(kernel::Programs::default());
    let (set_up, take_down) = all_kernel_threads(&programs, &outbox)?;
    let (kept, told) = (Arc::clone(&programs), around.asker.notices.clone());
    let bell = around.bell;
    spawn("filters", move || filters::keep(&kept, &told, bell))?;
    let handle = around.runtime.handle().clone();
    let pods = Arc::new(Pods::new(
        around.asker.kube.clone(),
        handle.clone(),
        node.clone(),
    ));
    let watch = facts::Watch {
        path: arguments.config.clone(),
        asker: around.asker.clone(),
        driver: outbox.clone(),
        health: Arc::clone(&around.health),
        notices: around.asker.notices.clone(),
        pods: Arc::clone(&pods),
    };
    let trunk = follow_trunk(around.runtime, &watch);
    let running = facts::Running {
        config: config.clone(),
        known: known.clone(),
        fixed: settings.as_ref().map(Settings::fixed),
        own,
    };
    follow(around.runtime, watch, running, settings.as_ref());
    let cloud = Arc::new(Cloud {
        client,
        instance: config.instance.clone(),
        resource_group: settings.and_then(|settings| settings.resource_group),
        metrics: Arc::clone(&around.metrics),
    });
    let since = started / 1_000_000_000;
    let card = Card::new(
        (node, since),
        config.clone(),
        known,
        (around.privileges, links.lack),
    );
    let machine = Node::new(config, ledger, occupied, started);
    let (notices, health) = (around.asker.notices, around.health);
    let driver = Driver {
        node: Recorded::new(machine, RECORDING_BYTES),
        keeper: Keeper::new(store, notices.clone(), Arc::clone(&health)),
        inbox,
        outbox: outbox.clone(),
        set_up,
        take_down,
        runtime: handle,
        cloud,
        metadata: around.asker.metadata,
        notices,
        tombstones: PathBuf::from(TOMBSTONE_DIR),
        health,
        metrics: around.metrics,
        card,
        pods: Arc::clone(&pods),
        trunk,
        programs,
    };
    spawn("driver", move || driver.run())?;
    Ok((outbox, pods))
}

/// Opens the door for probes and metrics; the driver is told to it once there is one.
fn open_door(
    runtime: &tokio::runtime::Runtime,
    address: Address,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
) -> Arc<Door> {
    let door = Arc::new(Door {
        health: Arc::clone(health),
        metrics: Arc::clone(metrics),
        driver: OnceLock::new(),
    });
    runtime.spawn(observe::serve(address, Arc::clone(&door)));
    door
}

/// Follows the pods of the node and the configuration, for ever.
fn follow(
    runtime: &tokio::runtime::Runtime,
    watch: facts::Watch,
    running: facts::Running,
    settings: Option<&Settings>,
) {
    if let Some(settings) = settings {
        watch.pods.set_sticky_kinds(&settings.sticky_kinds);
    }
    let watched = Arc::clone(&watch.pods);
    runtime.spawn(async move { watched.watch().await });
    runtime.spawn(watch.run(running));
}

/// Follows the PodENIs of the node, and tells the cluster of its trunk, for ever; what there is to tell
/// comes from the driver.
fn follow_trunk(
    runtime: &tokio::runtime::Runtime,
    around: &facts::Watch,
) -> tokio::sync::watch::Sender<trunk::Seen> {
    let (sender, seen) = tokio::sync::watch::channel(trunk::Seen::default());
    let (client, node) = (around.asker.kube.clone(), around.asker.node.clone());
    runtime.spawn(podenis::watch(
        (client.clone(), node.clone()),
        around.driver.clone(),
        seen.clone(),
    ));
    runtime.spawn(trunk::keep(client, node, seen));
    sender
}

/// What runs everything that waits on a network. One thread: the driver decides, this only waits.
fn async_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // Two providers in one program would have to be told apart at every connection.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a TLS provider is installed already");
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting the runtime")
}

fn kernel_threads(
    name: &str,
    count: usize,
    programs: &Arc<kernel::Programs>,
    done: &mpsc::SyncSender<driver::Message>,
    released: &mpsc::SyncSender<std::net::IpAddr>,
) -> anyhow::Result<mpsc::SyncSender<kernel::Work>> {
    let (sender, work) = mpsc::sync_channel(kernel::QUEUE_MAX);
    let work = Arc::new(Mutex::new(work));
    for _ in 0..count {
        let netlink = datapath::Netlink::open().context("opening netlink on the node")?;
        let (work, done, released) = (Arc::clone(&work), done.clone(), released.clone());
        let programs = Arc::clone(programs);
        let run = move || kernel::run(netlink, &programs, &work, &done, &released);
        spawn(name, run)?;
    }
    Ok(sender)
}

/// A client of the API server: the pod's service account, or what KUBECONFIG names.
fn kube_client(runtime: &tokio::runtime::Runtime) -> anyhow::Result<kube::Client> {
    runtime
        .block_on(kube::Client::try_default())
        .context("a client of the API server")
}

fn listen(path: &Path) -> anyhow::Result<Listener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("making {}", directory.display()))?;
    }
    Ok(Listener::bind(path)?)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    // A thread of the agent that panics leaves pods waiting for ever; ending lets a fresh agent go on
    // from the ledger.
    let guarded = move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
            std::process::exit(70);
        }
    };
    thread::Builder::new()
        .name(name.into())
        .spawn(guarded)
        .with_context(|| format!("starting thread {name}"))?;
    Ok(())
}
