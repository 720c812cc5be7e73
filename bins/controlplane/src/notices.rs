//! What people are told: every notice of the machine is a log line and a count, and those that concern an
//! object are events of it, by the reasons operators know.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use engine::cluster::{Doing, Notice};
use herald::Herald;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType},
};
use model::{EniId, PodKey};
use tokio::sync::mpsc;

use crate::cause::of_kube;

/// Events that may wait to be sent. 500 ENIs a minute make some 30 a second; beyond a minute's worth they
/// are dropped and counted, because nothing may wait for them.
const EVENTS_MAX: usize = 2048;

/// An event on its way.
struct Outgoing {
    about: ObjectReference,
    event: Event,
}

/// How often each reason was told.
type Counts = BTreeMap<&'static str, u64>;

/// Where notices go; a clone goes to the same place.
#[derive(Clone)]
pub(crate) struct Notices {
    counts: Arc<Mutex<Counts>>,
    events: mpsc::Sender<Outgoing>,
}

impl Notices {
    /// Events are sent by a task of the current runtime, in the name of `controller`.
    pub(crate) fn new(client: Client, controller: &str, replica: &str) -> Self {
        let (events, mut outgoing) = mpsc::channel::<Outgoing>(EVENTS_MAX);
        let herald = Herald::new(client, controller, replica);
        tokio::spawn(async move {
            let mut complaint = String::new();
            while let Some(Outgoing { about, event }) = outgoing.recv().await {
                match herald.send(&event, &about).await {
                    Ok(()) => complaint.clear(),
                    Err(error) => {
                        // Said once, not for every event of a storm.
                        let text = of_kube(&error);
                        if text != complaint {
                            tracing::warn!(error = text, "events cannot be sent");
                            complaint = text;
                        }
                    }
                }
            }
        });
        Self {
            counts: Arc::default(),
            events,
        }
    }

    /// How often each reason was told.
    pub(crate) fn counts(&self) -> Counts {
        let counts = self.counts.lock();
        counts.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells people about `notice`.
    pub(crate) fn tell(&self, notice: &Notice) {
        match notice {
            Notice::Did(pod, doing, eni) => {
                let (reason, action) = done(*doing);
                tracing::info!(%pod, %eni, reason, "ENI");
                self.pod(reason, action, EventType::Normal, pod, eni.to_string());
            }
            Notice::Failed(pod, doing, why) => {
                let (reason, action) = failed(*doing);
                tracing::warn!(%pod, why, reason, "ENI");
                self.pod(reason, action, EventType::Warning, pod, why.clone());
            }
            Notice::Waiting(pod, why) => {
                tracing::warn!(%pod, why, "a pod waits for its ENI");
                self.warning("PodENIWaiting", pod, why.clone());
            }
            Notice::StoreFailed(pod, why) => {
                tracing::warn!(%pod, why, "writing a PodENI");
                self.pod(
                    "UpdatePodENIFailed",
                    "UpdatePodENI",
                    EventType::Warning,
                    pod,
                    why.clone(),
                );
            }
            Notice::Undone(pod, why) => {
                tracing::warn!(%pod, why, "a PodENI was changed by hand");
                self.podeni("PodENIRestored", pod, why.clone());
            }
            Notice::Unreadable(pod, why) => {
                tracing::error!(%pod, why, "a PodENI cannot be read; nothing is done about it");
                self.podeni("PodENIUnreadable", pod, why.clone());
            }
            Notice::NetworkingReady(name) => {
                tracing::info!(name, "PodNetworking is Ready");
                let note = "its vSwitches are there".into();
                self.networking("SyncPodNetworkingSucceed", EventType::Normal, name, note);
            }
            Notice::NetworkingFailed(name, why) => {
                tracing::warn!(name, why, "PodNetworking cannot be used");
                self.networking(
                    "SyncPodNetworkingFailed",
                    EventType::Warning,
                    name,
                    why.clone(),
                );
            }
            Notice::Overlooked(pod, networking) => {
                tracing::warn!(%pod, networking, "a pod was created past the webhook");
                let note = format!(
                    "PodNetworking {networking} selects this pod, but it was created while the webhook did not \
                     answer, or before the PodNetworking: it has an address of the node's shared ENIs; delete \
                     it so that it is created again"
                );
                self.warning("PodNetworkingMissed", pod, note);
            }
            Notice::Unused(pod, why) => {
                tracing::warn!(%pod, why, "a pod has not the ENI it is selected for");
                self.warning("PodNetworkingUnused", pod, why.clone());
            }
            Notice::SpareFailed(name, why) => {
                tracing::warn!(name, why, "no ENI can be kept ready for a PodNetworking");
                let note = format!(
                    "no ENI can be kept ready for its pods, which wait for theirs meanwhile: {why}"
                );
                self.networking("WarmENIFailed", EventType::Warning, name, note);
            }
            Notice::Collected(eni) => {
                tracing::warn!(%eni, "an ENI of ours that nothing refers to was deleted");
                self.count("LeakedENICollected");
            }
            Notice::Unrecorded(eni, pod) => {
                tracing::error!(%eni, %pod, "a pod uses an ENI of ours that no PodENI names");
                let note = format!(
                    "the pod uses {eni}, but its PodENI was removed by hand: the ENI is kept as long as the pod \
                     lives; delete the pod so that it gets another"
                );
                self.warning("PodENIMissing", pod, note);
            }
            Notice::Doubled(eni, pods) => self.doubled(eni, pods),
            Notice::CloudFailed(text) => {
                tracing::warn!(text, "cloud");
                self.count("CloudFailed");
            }
        }
    }

    fn doubled(&self, eni: &EniId, pods: &BTreeSet<PodKey>) {
        let names: Vec<String> = pods.iter().map(PodKey::to_string).collect();
        let names = names.join(", ");
        tracing::error!(%eni, pods = names, "PodENIs name one ENI");
        let note = format!(
            "the PodENIs of {names} name the same ENI, {eni}: who runs with it keeps it, else the first by \
             name, and another is made for the rest; where several run with it, delete all but one of these pods"
        );
        for pod in pods {
            self.podeni("PodENIDoubled", pod, note.clone());
        }
    }

    pub(crate) fn count(&self, reason: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(reason).or_default() += 1;
    }

    fn pod(
        &self,
        reason: &'static str,
        action: &str,
        type_: EventType,
        pod: &PodKey,
        note: String,
    ) {
        self.send(
            reason,
            action,
            type_,
            about("v1", "Pod", Some(pod), &pod.name),
            note,
        );
    }

    /// Something a new pod lacks.
    fn warning(&self, reason: &'static str, pod: &PodKey, note: String) {
        self.pod(reason, "CreatePod", EventType::Warning, pod, note);
    }

    /// An event of a node.
    pub(crate) fn node(&self, reason: &'static str, type_: EventType, name: &str, note: String) {
        self.send(
            reason,
            "SyncRoute",
            type_,
            about("v1", "Node", None, name),
            note,
        );
    }

    fn podeni(&self, reason: &'static str, pod: &PodKey, note: String) {
        let about = about(&group(), "PodENI", Some(pod), &pod.name);
        self.send(reason, "UpdatePodENI", EventType::Warning, about, note);
    }

    fn networking(&self, reason: &'static str, type_: EventType, name: &str, note: String) {
        let about = about(&group(), "PodNetworking", None, name);
        self.send(reason, "SyncPodNetworking", type_, about, note);
    }

    fn send(
        &self,
        reason: &'static str,
        action: &str,
        type_: EventType,
        about: ObjectReference,
        note: String,
    ) {
        self.count(reason);
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note),
            action: action.into(),
            secondary: None,
        };
        if self.events.try_send(Outgoing { about, event }).is_err() {
            self.count("EventsDropped");
        }
    }
}

fn group() -> String {
    format!("{}/{}", crd::GROUP, crd::VERSION)
}

fn about(version: &str, kind: &str, pod: Option<&PodKey>, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(version.into()),
        kind: Some(kind.into()),
        namespace: pod.map(|pod| pod.namespace.clone()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

/// Reason and action of a step that succeeded.
fn done(doing: Doing) -> (&'static str, &'static str) {
    match doing {
        Doing::Create => ("CreateENISucceed", "CreateENI"),
        Doing::Attach => ("AttachENISucceed", "AttachENI"),
        Doing::Detach => ("DetachENISucceed", "DetachENI"),
        Doing::Delete => ("DeleteENISucceed", "DeleteENI"),
    }
}

/// Reason and action of a step that was refused.
fn failed(doing: Doing) -> (&'static str, &'static str) {
    match doing {
        Doing::Create => ("CreateENIFailed", "CreateENI"),
        Doing::Attach => ("AttachENIFailed", "AttachENI"),
        Doing::Detach => ("DetachENIFailed", "DetachENI"),
        Doing::Delete => ("DeleteENIFailed", "DeleteENI"),
    }
}
