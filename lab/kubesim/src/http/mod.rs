//! The cluster on a socket: what clients of a Kubernetes API speak to.
//!
//! Decides nothing about objects; it parses requests, calls [`Cluster`], writes
//! answers, and is the only place with a clock and a lock.

mod accept;
mod admit;
mod discovery;
mod path;
mod protobuf;
mod stream;
mod verbs;
mod webhook;

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{Router, extract::Request, response::Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    ApiError, Cluster, UnixTime, object, schedule,
    time::{rfc3339, rfc3339_micro},
};

/// Largest request body: the API server's own limit, 3 MiB.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

struct Shared {
    cluster: Mutex<Cluster>,
    clock: Box<dyn Fn() -> UnixTime + Send + Sync>,
    revision: watch::Sender<u64>,
    /// How programs of the cluster are reached.
    dial: webhook::Dial,
}

/// A cluster that many requests share.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

impl Api {
    /// Serves `cluster` by the system's clock, with webhooks where this process can connect to.
    pub fn new(cluster: Cluster) -> Self {
        Self::dialing(cluster, TcpStream::connect)
    }

    /// The same, with webhooks where `dial`, which may block, connects to.
    pub fn dialing(
        cluster: Cluster,
        dial: impl Fn(SocketAddr) -> io::Result<TcpStream> + Send + Sync + 'static,
    ) -> Self {
        // A clock before 1970 reads as 1970: ages are then wrong, nothing else.
        let clock = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.unwrap_or_default()
        };
        Self::make(cluster, clock, dial)
    }

    /// Serves `cluster` by another clock.
    pub fn with_clock(
        cluster: Cluster,
        clock: impl Fn() -> UnixTime + Send + Sync + 'static,
    ) -> Self {
        Self::make(cluster, clock, TcpStream::connect)
    }

    fn make(
        cluster: Cluster,
        clock: impl Fn() -> UnixTime + Send + Sync + 'static,
        dial: impl Fn(SocketAddr) -> io::Result<TcpStream> + Send + Sync + 'static,
    ) -> Self {
        let (revision, _) = watch::channel(cluster.revision());
        Self(Arc::new(Shared {
            cluster: Mutex::new(cluster),
            clock: Box::new(clock),
            revision,
            dial: Arc::new(dial),
        }))
    }

    /// The time by this server's clock.
    pub fn now(&self) -> UnixTime {
        (self.0.clock)()
    }

    /// Looks at the cluster.
    pub fn read<T>(&self, look: impl FnOnce(&Cluster) -> T) -> T {
        look(
            &self
                .0
                .cluster
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Changes the cluster and wakes whoever watches it.
    pub fn write<T>(&self, change: impl FnOnce(&mut Cluster, UnixTime) -> T) -> T {
        let now = self.now();
        let mut cluster = self
            .0
            .cluster
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut cluster, now);
        let revision = cluster.revision();
        self.0
            .revision
            .send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
        outcome
    }

    /// The revision of the cluster, to wait on.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }

    /// Creates an object from a whole manifest, as `kubectl create` would: its kind and namespace
    /// (`default` if it says none) are its own.
    ///
    /// # Errors
    /// `BadRequest` for a kind that is not served, and those of [`Cluster::create`].
    pub fn create_object(&self, manifest: Value) -> Result<Arc<Value>, ApiError> {
        let (version, kind) = (
            object::text(&manifest, "/apiVersion"),
            object::text(&manifest, "/kind"),
        );
        let resource = self.read(|cluster| cluster.of_kind(version, kind));
        let resource = resource.ok_or_else(|| {
            ApiError::bad_request(format!(
                "no matches for kind {kind:?} in version {version:?}"
            ))
        })?;
        let namespace = match object::text(&manifest, "/metadata/namespace") {
            _ if !resource.namespaced => String::new(),
            "" => "default".to_owned(),
            namespace => namespace.to_owned(),
        };
        self.write(|cluster, now| cluster.create(now, resource, &namespace, manifest))
    }
}

/// Every path of the API.
pub fn router(api: Api) -> Router {
    let serve = move |request: Request| {
        let api = api.clone();
        async move { answer(&api, request).await }
    };
    Router::new().fallback(serve)
}

async fn answer(api: &Api, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let outcome = match discovery::answer(api, &parts) {
        Some(answer) => answer,
        None => verbs::answer(api, &parts, body).await,
    };
    outcome.unwrap_or_else(|refusal| verbs::refused(&refusal))
}

/// Binds waiting pods to nodes for as long as it is polled, and leaves the event the real scheduler
/// leaves.
pub async fn run_scheduler(api: Api) {
    let mut revision = api.revision();
    loop {
        revision.borrow_and_update();
        api.write(|cluster, now| {
            for assignment in schedule(cluster) {
                let binding = json!({ "target": { "kind": "Node", "name": assignment.node } });
                let (namespace, pod) = (&assignment.namespace, &assignment.pod);
                match cluster.bind(now, namespace, pod, &binding) {
                    Ok(()) => note_binding(cluster, now, &assignment),
                    Err(error) => tracing::warn!(%error, namespace, pod, "pod not bound"),
                }
            }
        });
        // The server is gone when the sender is; nobody is left to schedule for.
        if revision.changed().await.is_err() {
            return;
        }
    }
}

fn note_binding(cluster: &mut Cluster, now: UnixTime, done: &crate::Assignment) {
    let crate::Assignment {
        namespace,
        pod,
        node,
    } = done;
    let target = crate::cluster::Target {
        resource: &crate::registry::PODS,
        namespace,
        name: pod,
    };
    let uid = cluster
        .get(target)
        .map(|pod| object::text(&pod, "/metadata/uid").to_owned())
        .unwrap_or_default();
    let event = json!({
        "metadata": { "generateName": format!("{pod}.") },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod, "uid": uid,
        },
        "type": "Normal", "reason": "Scheduled", "action": "Binding",
        "message": format!("Successfully assigned {namespace}/{pod} to {node}"),
        "eventTime": rfc3339_micro(now), "firstTimestamp": rfc3339(now),
        "lastTimestamp": rfc3339(now), "reportingComponent": "default-scheduler",
        "source": { "component": "default-scheduler" },
    });
    if let Err(error) = cluster.create(now, &crate::registry::EVENTS, namespace, event) {
        tracing::warn!(%error, "event not recorded");
    }
}
