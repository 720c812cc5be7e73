//! Everything the program consists of, started in the order in which it is needed.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use crd::{PodEni, PodNetworking};
use engine::cluster::{Cluster, Input};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::Client;
use model::{PodKey, RouteTableId, VpcId};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{OnceCell, mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    Arguments,
    calls::Cloud,
    config::Config,
    definitions,
    degradation::Brake,
    door::{self, Door},
    driver::{self, Driver, Message},
    election::{Election, Lead},
    facts,
    metrics::Metrics,
    notices::Notices,
    records::Records,
    routes::{self, Blocks, Nodes, Table},
    told,
    watch::{Listed, Told, Watches},
    webhook,
};

/// Kinds that are watched: pods, nodes, namespaces, PodENIs, PodNetworkings.
const KINDS: usize = 5;

/// What giving the lead up may take when the program is told to end.
const RELEASE_MAX: Duration = Duration::from_secs(3);

/// Serves the cluster until the process is told to end, or no longer leads.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Two providers in one program would have to be told apart at every connection.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a TLS provider is installed already");
    }
    let config = Config::read(&arguments.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(serve(arguments, config))
}

async fn serve(arguments: &Arguments, config: Config) -> anyhow::Result<()> {
    // First of all: the first process of a container that has not said what it does about SIGTERM is not even
    // ended by it.
    let mut end = End::new()?;
    let started = tokio::select! {
        started = start(arguments, &config) => started?,
        () = end.told() => return Ok(()),
    };
    let (stop, stopped) = oneshot::channel();
    let admitting = admit(
        &config,
        started.kube.clone(),
        started.known.clone(),
        stopped,
    );
    let leading = lead(&started, &config, arguments, end);
    let mut admitting = std::pin::pin!(admitting);
    tokio::select! {
        ended = leading => ended?,
        ended = &mut admitting => return ended,
    }
    drop(stop);
    admitting.await
}

/// What ends the program: SIGTERM, or SIGINT of a person who started it.
struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listening for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listening for SIGINT")?,
        })
    }

    /// Waits until the program is told to end.
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What runs before it is known who leads.
struct Started {
    kube: Client,
    known: webhook::Publisher,
    elected: Lead,
    driver: mpsc::Sender<Message>,
    routes: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    /// The machine's turns.
    machine: JoinHandle<()>,
}

/// Starts everything, and waits until all that the API server has is known.
async fn start(arguments: &Arguments, config: &Config) -> anyhow::Result<Started> {
    let metrics = Arc::new(Metrics::new());
    let door = open_door(config, &metrics)?;
    let kube = Client::try_default()
        .await
        .context("a client of the API server")?;
    let client = facts::client(config, &arguments.credential, &arguments.metadata).await?;
    let elected = Lead::new(config.leader_election);
    let cloud = Arc::new(Cloud {
        client,
        vpc: VpcId::new(&config.vpc_id).context("vpcID")?,
        tags: config.tags(),
        metrics: Arc::clone(&metrics),
        brake: brake(config, arguments, &metrics),
        lead: elected.clone(),
    });
    definitions::install(&kube).await;
    let notices = Notices::new(kube.clone(), &config.controller_name, &arguments.name);
    let records = Arc::new(Records::new(kube.clone(), elected.clone()));
    let (outbox, inbox) = mpsc::channel(driver::QUEUE_MAX);
    let around = (kube.clone(), Arc::clone(&cloud), notices.clone(), &metrics);
    let driver = Driver {
        machine: Cluster::new(config.limits(), driver::now().as_nanos()),
        inbox,
        outbox: outbox.clone(),
        cloud,
        records: Arc::clone(&records),
        notices: notices.clone(),
    };
    let machine = tokio::spawn(driver.run());
    // Set once, here.
    let _ = (door.driver.set(outbox.clone()), door.notices.set(notices));
    let watches = Watches {
        client: kube.clone(),
        driver: outbox.clone(),
        listed: Arc::new(Listed::new(KINDS)),
    };
    let standing = config.known();
    let users = standing.users.clone();
    let known = webhook::Publisher::new(standing);
    let (blocks, seen) = Blocks::new(config.route_node_selector.clone());
    watch_all(&watches, config, &records, (&known, users), blocks);
    watches.listed.wait().await;
    door.listed.store(true, Ordering::Relaxed);
    tracing::info!("all that the API server has is known");
    let routes = start_routes(config, around, seen)?;
    Ok(Started {
        kube,
        known,
        elected,
        driver: outbox,
        routes,
        metrics,
        machine,
    })
}

/// Starts the route controller where the configuration asks for it; it begins when the sender says that this
/// replica leads.
fn start_routes(
    config: &Config,
    (kube, cloud, notices, metrics): (Client, Arc<Cloud>, Notices, &Arc<Metrics>),
    nodes: watch::Receiver<Nodes>,
) -> anyhow::Result<watch::Sender<bool>> {
    let (leads, leading) = watch::channel(false);
    if !config.configure_cloud_routes {
        return Ok(leads);
    }
    let id = match config.route_table_id.as_str() {
        "" => OnceCell::new(),
        id => OnceCell::new_with(Some(RouteTableId::new(id).context("routeTableID")?)),
    };
    let limits = config.routes();
    let name = limits.name.clone();
    let driver = routes::Driver {
        machine: engine::route::Routes::new(limits, driver::now().as_nanos()),
        nodes,
        leads: leading,
        table: Arc::new(Table { cloud, name, id }),
        kube,
        notices,
        metrics: Arc::clone(metrics),
    };
    tokio::spawn(driver.run());
    Ok(leads)
}

/// Admits pods, leader or not, until told to stop.
async fn admit(
    config: &Config,
    kube: Client,
    known: webhook::Publisher,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    // Dropping the sender is the message.
    let stopped = async { drop(stopped.await) };
    if config.disable_webhook {
        stopped.await;
        return Ok(());
    }
    let settings = webhook::Settings {
        controller: config.controller_name.clone(),
        namespace: config.controller_namespace.clone(),
        cluster_domain: config.cluster_domain.clone(),
        listen: SocketAddr::from(([0, 0, 0, 0], config.webhook_port)),
    };
    Ok(webhook::serve(settings, kube, known, stopped).await?)
}

/// The operator's brake, which follows the configuration file.
fn brake(config: &Config, arguments: &Arguments, metrics: &Arc<Metrics>) -> Brake {
    let brake = Brake::new(config.degradation);
    let file = arguments.config.clone();
    tokio::spawn(brake.clone().follow(file, Arc::clone(metrics)));
    brake
}

fn open_door(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Arc<Door>> {
    let door = Arc::new(Door {
        driver: OnceLock::new(),
        notices: OnceLock::new(),
        metrics: Arc::clone(metrics),
        listed: AtomicBool::new(false),
    });
    let healthz = config.healthz_bind_address;
    tokio::spawn(door::serve(
        healthz,
        Arc::clone(&door),
        "healthzBindAddress",
    ));
    if let Some(address) = config.metrics_address()?.filter(|one| *one != healthz) {
        tokio::spawn(door::serve(
            address,
            Arc::clone(&door),
            "metricsBindAddress",
        ));
    }
    Ok(door)
}

/// Waits for the lead, tells the machine, and keeps the lead until told to end.
async fn lead(
    started: &Started,
    config: &Config,
    arguments: &Arguments,
    mut end: End,
) -> anyhow::Result<()> {
    let (kube, elected) = (started.kube.clone(), started.elected.clone());
    let election = Election::new(kube, config, arguments.name.clone(), elected);
    if config.leader_election {
        tokio::select! {
            () = election.win() => {}
            () = end.told() => return Ok(()),
        }
    }
    tracing::info!(name = arguments.name, "this replica leads");
    started.metrics.leads(true);
    let complete = Message::Input(Input::Complete);
    started.driver.send(complete).await?;
    started.routes.send_replace(true);
    if !config.leader_election {
        end.told().await;
        started.machine.abort();
        return Ok(());
    }
    tokio::select! {
        why = election.keep() => anyhow::bail!("this replica does not lead any more: {why}"),
        () = end.told() => {
            // Nothing is begun while the next replica begins.
            started.machine.abort();
            started.routes.send_replace(false);
            // Calls under way end by themselves or are repeated under their tokens by the next replica.
            let _ = tokio::time::timeout(RELEASE_MAX, election.release()).await;
            Ok(())
        }
    }
}

fn watch_all(
    watches: &Watches,
    config: &Config,
    records: &Arc<Records>,
    (known, users): (&webhook::Publisher, webhook::Users),
    blocks: Blocks,
) {
    let kinds = config.custom_stateful_workload_kinds.clone();
    watches.follow::<Pod>("pods", move |told| match told {
        Told::Is(pod) => {
            let input = told::pod(&pod, &kinds)?;
            if let Input::Pod(key, _) = &input {
                users.told(key.clone(), told::networkings(&pod));
            }
            Some(input)
        }
        Told::Gone(name) => {
            let key = told::key(&name)?;
            users.told(key.clone(), BTreeSet::new());
            Some(Input::Pod(key, None))
        }
    });
    watches.follow::<Node>("nodes", move |told| match told {
        Told::Is(node) => {
            blocks.is(&node);
            told::node(&node)
        }
        Told::Gone(name) => {
            blocks.gone(&name.name);
            Some(Input::Node(name.name, None))
        }
    });
    watches.follow::<Namespace>("namespaces", |told| match told {
        Told::Is(one) => {
            let labels = one.metadata.labels.unwrap_or_default();
            Some(Input::Namespace(one.metadata.name?, Some(labels)))
        }
        Told::Gone(name) => Some(Input::Namespace(name.name, None)),
    });
    let podenis = Arc::clone(records);
    watches.follow::<PodEni>("podenis", move |told| match told {
        Told::Is(one) => {
            let (namespace, name) = (one.metadata.namespace.clone()?, one.metadata.name.clone()?);
            let key = PodKey::new(namespace, name).ok()?;
            Some(podenis.seen(key, Some(*one)))
        }
        Told::Gone(name) => Some(podenis.seen(told::key(&name)?, None)),
    });
    let (networkings, known) = (Arc::clone(records), known.clone());
    watches.follow::<PodNetworking>("podnetworkings", move |told| match told {
        Told::Is(one) => {
            let name = one.metadata.name.clone()?;
            known.networking(&name, (&*one).try_into().ok());
            Some(networkings.networking_seen(*one))
        }
        Told::Gone(name) => {
            known.networking(&name.name, None);
            Some(networkings.networking_gone(name.name))
        }
    });
}
