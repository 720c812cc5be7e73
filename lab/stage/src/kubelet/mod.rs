//! The kubelet and the container runtime, as far as a CNI can tell them from the real ones: they
//! call the plugin in the same way and order, and tell the API server the same things.

mod cni;
mod pod;
mod report;
mod sandbox;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};

use self::{cni::Chain, pod::Order};
use crate::node::LAB;

/// Sandboxes being made or removed at once. More than the 8 at once that the benchmarks measure, and
/// few enough that the plugins' processes leave a small machine its processors.
const SANDBOXES_AT_ONCE: usize = 16;
/// How often is looked for a network configuration, as runtimes watch its directory.
const POLL: Duration = Duration::from_millis(20);

/// The kubelet of one node.
pub(crate) struct Kubelet {
    client: Client,
    node: String,
    address: Ipv4Addr,
    slots: Semaphore,
    /// Namespace files of the pods that have a sandbox, by namespace and name.
    sandboxes: Mutex<BTreeMap<(String, String), PathBuf>>,
}

/// Pods by UID, and the line to the task that looks after each.
type Workers = BTreeMap<String, watch::Sender<Order>>;

impl Kubelet {
    pub(crate) fn new(client: Client, node: &str, address: Ipv4Addr) -> Self {
        Self {
            client,
            node: node.to_owned(),
            address,
            slots: Semaphore::new(SANDBOXES_AT_ONCE),
            sandboxes: Mutex::default(),
        }
    }

    /// The namespace file of a pod, as this node sees it.
    pub(crate) fn netns(&self, namespace: &str, name: &str) -> Option<PathBuf> {
        let sandboxes = self
            .sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sandboxes
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    fn remember(&self, pod: &Pod, netns: &Path) {
        let mut sandboxes = self
            .sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sandboxes.insert(key(pod), netns.to_owned());
    }

    /// A pod that was removed by force may have a successor of its name here already.
    fn forget(&self, pod: &Pod, netns: &Path) {
        let mut sandboxes = self
            .sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = key(pod);
        if sandboxes.get(&key).is_some_and(|known| known == netns) {
            sandboxes.remove(&key);
        }
    }

    fn record(&self) -> PathBuf {
        PathBuf::from(format!("{LAB}/logs/{}-cni.jsonl", self.node))
    }

    /// Runs this node's pods, for ever, from the moment the network is configured.
    pub(crate) async fn run(self: Arc<Self>) {
        while !matches!(Chain::installed(), Ok(Some(_))) {
            sleep(POLL).await;
        }
        tokio::spawn(report::heartbeat(Arc::clone(&self)));
        let pods: Api<Pod> = Api::all(self.client.clone());
        let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node));
        let mut events = Box::pin(watcher(pods, mine).default_backoff());
        let mut workers = Workers::new();
        let mut listed: Option<Workers> = None;
        loop {
            match events.try_next().await {
                Ok(Some(event)) => self.handle(event, &mut workers, &mut listed),
                Ok(None) => return,
                // The stream goes on by itself, after a pause.
                Err(error) => tracing::warn!(%error, "the watch of pods was interrupted"),
            }
        }
    }

    fn handle(
        self: &Arc<Self>,
        event: watcher::Event<Pod>,
        workers: &mut Workers,
        listed: &mut Option<Workers>,
    ) {
        match event {
            watcher::Event::Init => *listed = Some(Workers::new()),
            watcher::Event::InitApply(pod) => {
                // Those that are listed move over; who is left behind is gone.
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                let listed = listed.get_or_insert_default();
                if let Some((uid, worker)) = workers.remove_entry(&uid) {
                    listed.insert(uid, worker);
                }
                self.apply(pod, listed);
            }
            watcher::Event::InitDone => {
                let gone = std::mem::replace(workers, listed.take().unwrap_or_default());
                gone.values().for_each(dismiss);
            }
            watcher::Event::Apply(pod) => self.apply(pod, workers),
            watcher::Event::Delete(pod) => {
                if let Some(worker) = pod.metadata.uid.and_then(|uid| workers.remove(&uid)) {
                    dismiss(&worker);
                }
            }
        }
    }

    fn apply(self: &Arc<Self>, pod: Pod, workers: &mut Workers) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let order = Order {
            pod: Arc::new(pod),
            gone: false,
        };
        match workers.get(&uid) {
            Some(worker) => drop(worker.send_replace(order)),
            None => {
                let (worker, orders) = watch::channel(order);
                tokio::spawn(pod::look_after(Arc::clone(self), orders));
                workers.insert(uid, worker);
            }
        }
    }
}

fn key(pod: &Pod) -> (String, String) {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    (text(&pod.metadata.namespace), text(&pod.metadata.name))
}

/// The object is gone, so the pod must go.
fn dismiss(worker: &watch::Sender<Order>) {
    worker.send_modify(|order| order.gone = true);
}
