//! The pods of this node, as the API server has them: a watch keeps their UIDs, and a pod the watch
//! has not brought yet is asked for by name.
//!
//! An ADD is served only for a pod that exists. The watch is believed when the UID is the one the
//! runtime passed; a pod re-created under its name is never mistaken for the old one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crd::keys;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::ListParams,
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

/// What listing this node's pods may take. Nobody waits for it.
const LIST_BUDGET: Duration = Duration::from_secs(30);

/// The kind whose pods keep their names without being configured.
const STATEFUL_SET: &str = "statefulset";

/// The annotation by which any pod asks that its address waits for it.
const RESERVATION: &str = "k8s.aliyun.com/pod-ip-reservation";

/// Pods kept. A node runs at most a few hundred; ten times that is a watch gone wrong, and then names
/// beyond it are asked for one by one.
const POD_MAX: usize = 4096;

/// Pods that have not ended. Kubelet reports one of the other two phases only when no container of the
/// pod runs or will run, so an address of it is nobody's, however long its object is kept.
const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// The pods of this node.
pub(crate) struct Pods {
    client: Client,
    runtime: Handle,
    node: String,
    known: Mutex<Known>,
    /// Kinds of owners, in small letters, whose pods keep their names.
    sticky_kinds: Mutex<BTreeSet<String>>,
}

type Known = BTreeMap<PodKey, PodFacts>;

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PodFacts {
    uid: String,
    /// Kinds of its owners, in small letters.
    owners: Vec<String>,
    /// An annotation asks to keep its address.
    reserves: bool,
    /// An annotation says that it has an ENI of its own.
    trunk: bool,
}

/// What an ADD must know of a pod that exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Its UID.
    pub(crate) uid: Option<PodUid>,
    /// Whether it will come back under its name, so that its address should wait.
    pub(crate) sticky: bool,
    /// Whether its network is an ENI of its own, which its PodENI names.
    pub(crate) trunk: bool,
}

impl Pods {
    pub(crate) fn new(client: Client, runtime: Handle, node: String) -> Self {
        Self {
            client,
            runtime,
            node,
            known: Mutex::default(),
            sticky_kinds: Mutex::new(BTreeSet::from([STATEFUL_SET.to_owned()])),
        }
    }

    /// Sets the kinds of owners whose pods keep their names, beside StatefulSet.
    pub(crate) fn set_sticky_kinds(&self, kinds: &BTreeSet<String>) {
        let mut all = kinds.clone();
        all.insert(STATEFUL_SET.to_owned());
        *hold(&self.sticky_kinds) = all;
    }

    fn expected(&self, facts: &PodFacts) -> Expected {
        let kinds = hold(&self.sticky_kinds);
        Expected {
            uid: PodUid::new(facts.uid.as_str()).ok(),
            sticky: facts.reserves || facts.owners.iter().any(|it| kinds.contains(it)),
            trunk: facts.trunk,
        }
    }

    /// The pods that exist and have not ended: those of this node, read from the API server's store and
    /// not from a cache, and whichever of `asked` it has by name. A pod that the list leaves out for whatever reason is so
    /// still found; an answer that cannot be had is an error, never absence.
    pub(crate) async fn list_anew(
        &self,
        asked: BTreeSet<PodKey>,
    ) -> Result<BTreeMap<PodKey, PodUid>, String> {
        let listing = tokio::time::timeout(LIST_BUDGET, self.list_all(asked));
        match listing.await {
            Ok(result) => result.map_err(|error| crate::cause::chain(&error)),
            Err(_) => Err(format!("no answer within {LIST_BUDGET:?}")),
        }
    }

    async fn list_all(
        &self,
        asked: BTreeSet<PodKey>,
    ) -> Result<BTreeMap<PodKey, PodUid>, kube::Error> {
        let all: Api<Pod> = Api::all(self.client.clone());
        // Without resourceVersion the list is the newest there is.
        let newest = |of: String| ListParams::default().fields(&format!("{of},{NOT_ENDED}"));
        let of_node = newest(format!("spec.nodeName={}", self.node));
        let mut found = all.list_metadata(&of_node).await?.items;
        let listed: BTreeSet<PodKey> = found.iter().filter_map(key).collect();
        for pod in asked.difference(&listed) {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
            let named = newest(format!("metadata.name={}", pod.name));
            found.extend(api.list_metadata(&named).await?.items);
        }
        let uid = |pod: &PartialObjectMeta<Pod>| PodUid::new(pod.metadata.uid.clone()?).ok();
        Ok(found
            .iter()
            .filter_map(|pod| Some((key(pod)?, uid(pod)?)))
            .collect())
    }

    /// Makes sure `pod` exists with `uid`, if one was passed. Blocks for an answer of the API server
    /// when the watch cannot tell.
    pub(crate) fn expect(&self, pod: &PodKey, uid: Option<&PodUid>) -> Result<Expected, Error> {
        let passed = |known: &PodFacts| uid.is_some_and(|uid| uid.as_str() == known.uid);
        if let Some(known) = self.known(pod).filter(passed) {
            return Ok(self.expected(&known));
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
            Ok(Err(error)) => return Err(unreachable_api(pod, crate::cause::chain(&error))),
            Ok(Ok(found)) => found,
        };
        if let Some(pod) = &found {
            insert(&mut self.lock(), pod);
        }
        match (found.as_ref().and_then(facts), uid) {
            (None, _) => Err(Error::new(
                Code::TryLater,
                format!("pod {pod} does not exist in the API server"),
            )),
            (Some(PodFacts { uid: found, .. }), Some(uid)) if found != uid.as_str() => {
                let message = format!(
                    "pod {pod} with UID {uid} is gone; one with UID {found} has its name now"
                );
                Err(Error::new(Code::TryLater, message))
            }
            (Some(facts), _) => Ok(self.expected(&facts)),
        }
    }

    fn known(&self, pod: &PodKey) -> Option<PodFacts> {
        self.lock().get(pod).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        hold(&self.known)
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
                    tracing::warn!(error = %crate::cause::chain(&error), "watching pods")
                }
            }
        }
    }
}

/// A panic while such a value was held leaves a whole one: every change is one insert, remove or
/// replacement.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn insert(pods: &mut Known, pod: &PartialObjectMeta<Pod>) {
    if let (Some(key), Some(facts), true) = (key(pod), facts(pod), pods.len() < POD_MAX) {
        pods.insert(key, facts);
    }
}

fn facts(pod: &PartialObjectMeta<Pod>) -> Option<PodFacts> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let annotations = pod.metadata.annotations.as_ref();
    let asks = |name: &str| {
        let text = annotations.and_then(|all| all.get(name));
        text.is_some_and(|text| is_true(text))
    };
    Some(PodFacts {
        uid: pod.metadata.uid.clone()?,
        owners: owners.map(|owner| owner.kind.to_lowercase()).collect(),
        reserves: asks(RESERVATION),
        trunk: asks(keys::POD_ENI),
    })
}

/// What Go's strconv.ParseBool takes for true.
fn is_true(text: &str) -> bool {
    ["1", "t", "T", "TRUE", "true", "True"].contains(&text)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotations_say_what_an_add_must_know() {
        let cases = [
            (json!({}), (false, false)),
            (json!({ "k8s.aliyun.com/pod-eni": "true" }), (false, true)),
            (json!({ "k8s.aliyun.com/pod-eni": "false" }), (false, false)),
            (
                json!({ "k8s.aliyun.com/pod-ip-reservation": "1" }),
                (true, false),
            ),
        ];
        for (annotations, (reserves, trunk)) in cases {
            let pod = json!({ "metadata": { "name": "web", "namespace": "default", "uid": "u1",
                "annotations": annotations } });
            let pod: PartialObjectMeta<Pod> = serde_json::from_value(pod).unwrap();
            let expected = PodFacts {
                uid: "u1".into(),
                owners: Vec::new(),
                reserves,
                trunk,
            };
            assert_eq!(facts(&pod), Some(expected), "{pod:?}");
        }
    }
}
