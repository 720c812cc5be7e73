//! The node agent: wires the node machine of `engine` to the plugin's socket, the store, the kernel,
//! the cloud and the API server. No decision is taken here.

mod calls;
mod config;
mod driver;
mod facts;
mod kernel;
mod notices;
mod plugin;
mod pods;
mod store;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use cloud::Metadata;
use engine::{ledger::Ledger, node::Node};
use rustix::fs::{FlockOperation, Mode, OFlags};
use wire::{SOCKET_PATH, TOMBSTONE_DIR, socket::Listener};

use crate::{
    calls::Cloud, config::Settings, driver::Driver, notices::Notices, pods::Pods, store::Store,
};

/// How long a predecessor may take to end: a DaemonSet's update stops it before it starts us.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// The node agent of Terway.
#[derive(Parser)]
#[command(name = "terwayd", version)]
struct Arguments {
    /// File with eni_conf, the agent's part of ConfigMap kube-system/eni-config.
    #[arg(long, default_value = "/etc/eni/eni_conf")]
    config: PathBuf,
    /// Name of this node in the cluster.
    #[arg(long, env = "NODE_NAME")]
    node_name: String,
    /// Directory for what must survive a restart.
    #[arg(long, default_value = "/var/lib/cni/terway")]
    state: PathBuf,
    /// The instance metadata service.
    #[arg(long, default_value = "http://100.100.100.200")]
    metadata: String,
    /// What to log, for example info or terwayd=debug.
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
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let begun = Instant::now();
    // Two providers in one program would have to be told apart at every connection.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a TLS provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let _lock = lock(&arguments.state)?;
    let metadata = Arc::new(Metadata::new(&arguments.metadata).context("--metadata")?);
    let kube = kube_client(&runtime)?;
    let _entered = runtime.enter();
    let mut notices = Notices::new(kube.clone(), arguments.node_name.clone());

    let instance = runtime.block_on(facts::instance_now(&metadata));
    let (store, contents) = open_store(&arguments.state, instance)?;
    let ledger =
        Ledger::restore(contents.rows).context("the ledger's rows contradict each other")?;
    let mut netlink = datapath::Netlink::open().context("opening netlink on the node")?;
    let occupied = kernel::occupied(&mut netlink).context("reading the node's routes")?;

    let settings = settings(&arguments.config, contents.config.is_some(), &mut notices)?;
    let known = match contents.known {
        Some(known) => known,
        None => runtime.block_on(facts::discover(settings.as_ref(), &metadata)),
    };
    let client = facts::client(settings.as_ref(), &known.region, &metadata)?;
    let config = match (&settings, contents.config) {
        (Some(settings), _) => facts::config(settings, &known),
        (None, Some(config)) => config,
        (None, None) => anyhow::bail!("there is no configuration to go on with"),
    };
    store.keep(&config, &known)?;

    let (outbox, inbox) = mpsc::sync_channel(driver::QUEUE_MAX);
    let (released, flows) = mpsc::sync_channel(kernel::QUEUE_MAX);
    spawn("flows", move || kernel::forget_flows(&flows))?;
    let set_up = kernel_threads("set-up", 1, &outbox, &released)?;
    let take_down = kernel_threads("take-down", kernel::TAKE_DOWN_THREADS, &outbox, &released)?;
    runtime.spawn(facts::watch(
        arguments.config,
        Arc::clone(&metadata),
        Some(config.clone()),
        outbox.clone(),
    ));
    let pods = Arc::new(Pods::new(
        kube,
        runtime.handle().clone(),
        arguments.node_name,
    ));
    let watched = Arc::clone(&pods);
    runtime.spawn(async move { watched.watch().await });

    let seed = plugin::now().as_nanos();
    let instance = config.instance.clone();
    let resource_group = settings.and_then(|settings| settings.resource_group);
    let driver = Driver {
        node: Node::new(config, ledger, occupied, seed),
        store,
        inbox,
        outbox: outbox.clone(),
        set_up,
        take_down,
        runtime: runtime.handle().clone(),
        cloud: Arc::new(Cloud {
            client,
            instance,
            resource_group,
        }),
        metadata,
        notices,
        tombstones: PathBuf::from(TOMBSTONE_DIR),
    };
    spawn("driver", move || driver.run())?;

    let listener = listen(Path::new(SOCKET_PATH))?;
    tracing::info!(ms = begun.elapsed().as_millis(), "serving at {SOCKET_PATH}");
    spawn("plugin", move || plugin::serve(&listener, &pods, &outbox))?;
    runtime.block_on(ended())
}

fn kernel_threads(
    name: &str,
    count: usize,
    done: &mpsc::SyncSender<driver::Message>,
    released: &mpsc::SyncSender<std::net::IpAddr>,
) -> anyhow::Result<mpsc::SyncSender<kernel::Work>> {
    let (sender, work) = mpsc::sync_channel(kernel::QUEUE_MAX);
    let work = Arc::new(Mutex::new(work));
    for _ in 0..count {
        let netlink = datapath::Netlink::open().context("opening netlink on the node")?;
        let (work, done, released) = (Arc::clone(&work), done.clone(), released.clone());
        spawn(name, move || kernel::run(netlink, &work, &done, &released))?;
    }
    Ok(sender)
}

/// A client of the API server: the pod's service account, or what KUBECONFIG names.
fn kube_client(runtime: &tokio::runtime::Runtime) -> anyhow::Result<kube::Client> {
    runtime
        .block_on(kube::Client::try_default())
        .context("a client of the API server")
}

/// The store of this instance. A ledger that another instance wrote (a disk that moved, an image made
/// of a node) is set aside: its ENIs are not here.
fn open_store(
    state: &Path,
    instance: Option<model::InstanceId>,
) -> anyhow::Result<(Store, store::Contents)> {
    let path = state.join("ledger.redb");
    let (store, contents, aside) = Store::open(&path)?;
    if let Some(aside) = aside {
        let aside = aside.display();
        tracing::error!(%aside, "the ledger was damaged and is set aside; it is rebuilt from kernel and cloud");
    }
    let wrote = contents.known.as_ref().map(|known| known.instance.clone());
    match (wrote, instance) {
        (Some(wrote), Some(instance)) if wrote != instance => {
            tracing::error!(%wrote, %instance, "the ledger is another instance's and is set aside");
            drop(store);
            std::fs::rename(&path, path.with_extension("foreign"))
                .context("setting the ledger aside")?;
            let (store, contents, _) = Store::open(&path)?;
            Ok((store, contents))
        }
        _ => Ok((store, contents)),
    }
}

/// `eni_conf`. One that makes no sense is complained about; with an earlier configuration the agent
/// goes on serving by that.
fn settings(path: &Path, earlier: bool, notices: &mut Notices) -> anyhow::Result<Option<Settings>> {
    if !config::policy_is_disabled(path) {
        notices.policy_not_enforced();
    }
    match Settings::load(path) {
        Ok(settings) => {
            for (key, feature) in &settings.ignored {
                let text =
                    format!("eni_conf key {key} is set, but this release does not do {feature}");
                notices.config_error(&text);
            }
            Ok(Some(settings))
        }
        Err(error) => {
            notices.config_error(&kernel::chain(&error));
            if earlier { Ok(None) } else { Err(error.into()) }
        }
    }
}

/// Makes sure this is the only agent of the node. The lock is held until the descriptor closes.
fn lock(state: &Path) -> anyhow::Result<std::os::fd::OwnedFd> {
    std::fs::create_dir_all(state).with_context(|| format!("making {}", state.display()))?;
    let path = state.join("terwayd.lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
        .with_context(|| format!("opening {}", path.display()))?;
    let begun = Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LOCK_PATIENCE => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("another agent holds {}", path.display()));
            }
        }
    }
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

/// Waits until the agent is told to end. Nothing has to be put away: what must survive is on disk.
async fn ended() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    Ok(())
}
