//! The pods of this node, as the API server has them: a watch keeps their UIDs, and a pod the watch
//! has not brought yet is asked for by name.
//!
//! An ADD is served only for a pod that exists. The watch is believed when the UID is the one the
//! runtime passed; a pod re-created under its name is never mistaken for the old one.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use model::{PodKey, PodUid};
use tokio::runtime::Handle;
use wire::cni::{Code, Error};

/// What asking for one pod may take. It is inside the ADD's 90 s and leaves time for the rest.
const LOOKUP_BUDGET: Duration = Duration::from_secs(10);

/// Pods kept. A node runs at most a few hundred; ten times that is a watch gone wrong, and then names
/// beyond it are asked for one by one.
const POD_MAX: usize = 4096;

/// The pods of this node.
pub(crate) struct Pods {
    client: Client,
    runtime: Handle,
    node: String,
    known: Mutex<BTreeMap<PodKey, String>>,
}

impl Pods {
    pub(crate) fn new(client: Client, runtime: Handle, node: String) -> Self {
        Self {
            client,
            runtime,
            node,
            known: Mutex::default(),
        }
    }

    /// Makes sure `pod` exists with `uid`, if one was passed. Blocks for an answer of the API server
    /// when the watch cannot tell.
    pub(crate) fn expect(&self, pod: &PodKey, uid: Option<&PodUid>) -> Result<(), Error> {
        if self
            .known(pod)
            .is_some_and(|known| uid.is_some_and(|uid| uid.as_str() == known))
        {
            return Ok(());
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let lookup =
            async { tokio::time::timeout(LOOKUP_BUDGET, api.get_metadata_opt(&pod.name)).await };
        let found = match self.runtime.block_on(lookup) {
            Err(_) => {
                return Err(unreachable_api(
                    pod,
                    format!("no answer within {LOOKUP_BUDGET:?}"),
                ));
            }
            Ok(Err(error)) => return Err(unreachable_api(pod, crate::kernel::chain(&error))),
            Ok(Ok(found)) => found,
        };
        let found = found.and_then(|pod| pod.metadata.uid);
        match (found, uid) {
            (None, _) => Err(Error::new(
                Code::TryLater,
                format!("pod {pod} does not exist in the API server"),
            )),
            (Some(found), Some(uid)) if found != uid.as_str() => Err(Error::new(
                Code::TryLater,
                format!("pod {pod} with UID {uid} is gone; one with UID {found} has its name now"),
            )),
            _ => Ok(()),
        }
    }

    fn known(&self, pod: &PodKey) -> Option<String> {
        self.lock().get(pod).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PodKey, String>> {
        // A panic while the map was held leaves a map: every change of it is one insert or remove.
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps the pods up to date for ever.
    pub(crate) async fn watch(&self) {
        let api: Api<PartialObjectMeta<Pod>> = Api::all(self.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node));
        let mut events = kube::runtime::watcher(api, config)
            .default_backoff()
            .boxed();
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(pod)) => insert(&mut listed, &pod),
                Ok(Event::InitDone) => *self.lock() = std::mem::take(&mut listed),
                Ok(Event::Apply(pod)) => insert(&mut self.lock(), &pod),
                Ok(Event::Delete(pod)) => {
                    if let Some(key) = key(&pod) {
                        self.lock().remove(&key);
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %crate::kernel::chain(&error), "watching pods")
                }
            }
        }
    }
}

fn insert(pods: &mut BTreeMap<PodKey, String>, pod: &PartialObjectMeta<Pod>) {
    if let (Some(key), Some(uid), true) = (key(pod), &pod.metadata.uid, pods.len() < POD_MAX) {
        pods.insert(key, uid.clone());
    }
}

fn key(pod: &PartialObjectMeta<Pod>) -> Option<PodKey> {
    PodKey::new(pod.metadata.namespace.clone()?, pod.metadata.name.clone()?).ok()
}

fn unreachable_api(pod: &PodKey, why: String) -> Error {
    Error::new(
        Code::TryLater,
        format!("asking the API server for pod {pod}"),
    )
    .with_details(why)
}
