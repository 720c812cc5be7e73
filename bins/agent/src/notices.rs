//! What people are told: every notice of the node machine is a log line and a count, and those that
//! concern a pod or the node are events in the API server.

use std::collections::BTreeMap;

use engine::node::Notice;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use model::PodKey;
use tokio::sync::mpsc;

/// Events that may wait to be sent. A wave of 256 pods makes one each; beyond that events are dropped
/// and counted, because nothing may wait for them.
const EVENTS_MAX: usize = 512;

/// An event on its way.
struct Outgoing {
    about: ObjectReference,
    event: Event,
}

/// Where notices go.
pub(crate) struct Notices {
    node: String,
    counts: BTreeMap<&'static str, u64>,
    events: mpsc::Sender<Outgoing>,
}

impl Notices {
    /// Notices of `node`; events are sent by a task of the current runtime.
    pub(crate) fn new(client: Client, node: String) -> Self {
        let (events, mut outgoing) = mpsc::channel::<Outgoing>(EVENTS_MAX);
        let reporter = Reporter {
            controller: "terwayd".into(),
            instance: Some(node.clone()),
        };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            while let Some(Outgoing { about, event }) = outgoing.recv().await {
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::debug!(error = %crate::kernel::chain(&error), "sending an event");
                }
            }
        });
        Self {
            node,
            counts: BTreeMap::new(),
            events,
        }
    }

    /// How often each kind of notice came, as JSON.
    pub(crate) fn counts(&self) -> serde_json::Value {
        serde_json::to_value(&self.counts).unwrap_or_default()
    }

    /// Tells people about `notice`.
    pub(crate) fn tell(&mut self, notice: &Notice) {
        match notice {
            Notice::Allocated(pod, key, addresses) => {
                let list: Vec<_> = addresses.iter().map(|(_, ip)| ip.to_string()).collect();
                let list = list.join(",");
                tracing::info!(%pod, %key, addresses = list, "attached");
                self.pod(
                    "AllocIPSucceed",
                    EventType::Normal,
                    pod,
                    format!("Alloc IP {list}"),
                );
            }
            Notice::Released(key, addresses) => {
                let list: Vec<_> = addresses.iter().map(|(_, ip)| ip.to_string()).collect();
                tracing::info!(%key, addresses = list.join(","), "released");
                self.count("Released");
            }
            Notice::Waiting(pod, count, reason) => {
                tracing::info!(%pod, waiting = count, reason, "waiting for an address");
                self.count("Waiting");
            }
            Notice::TimedOut(pod, reason) => {
                tracing::warn!(%pod, reason, "no address in time");
                self.pod("AllocIPFailed", EventType::Warning, pod, reason.clone());
            }
            Notice::EniReady(eni) => {
                tracing::info!(%eni, "ENI ready");
                self.count("EniReady");
            }
            Notice::CloudFailed(text) => {
                tracing::warn!(text, "cloud");
                self.node("AllocIPFailed", text.clone());
            }
            Notice::Exhausted(reason, until) => {
                tracing::warn!(reason, %until, "the pool cannot grow");
                self.node("IPNotEnough", reason.clone());
            }
            Notice::Repaired(key, lacked) => {
                tracing::warn!(%key, lacked = lacked.join("; "), "repaired");
                self.count("Repaired");
            }
            Notice::KernelFailed(text) => {
                tracing::error!(text, "kernel");
                self.count("KernelFailed");
            }
            Notice::AddressLost(address, key) => {
                let text =
                    format!("address {address} of {key} is not in the cloud's answer any more");
                tracing::error!(text);
                self.node("ResourceInvalid", text);
            }
            Notice::Defect(text) => {
                tracing::error!(
                    text,
                    "a decision would have broken an invariant and was dropped"
                );
                self.count("Defect");
            }
        }
    }

    /// A standing complaint about the configuration.
    pub(crate) fn config_error(&mut self, text: &str) {
        tracing::error!(text, "configuration");
        self.node("ConfigError", text.to_owned());
    }

    /// NetworkPolicy objects have no effect, and nobody said that this is wanted.
    pub(crate) fn policy_not_enforced(&mut self) {
        let text = "NetworkPolicy is not enforced by this release: every pod may talk to every pod; \
                    set disable_network_policy to \"true\" in ConfigMap kube-system/eni-config to accept that";
        tracing::warn!(text, "network policy");
        self.node("NetworkPolicyNotEnforced", text.to_owned());
    }

    fn count(&mut self, reason: &'static str) {
        *self.counts.entry(reason).or_default() += 1;
    }

    fn node(&mut self, reason: &'static str, note: String) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(self.node.clone()),
            uid: Some(self.node.clone()),
            ..Default::default()
        };
        self.send(reason, EventType::Warning, about, note);
    }

    fn pod(&mut self, reason: &'static str, kind: EventType, pod: &PodKey, note: String) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            ..Default::default()
        };
        self.send(reason, kind, about, note);
    }

    fn send(
        &mut self,
        reason: &'static str,
        type_: EventType,
        about: ObjectReference,
        note: String,
    ) {
        self.count(reason);
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note),
            action: "Allocate".into(),
            secondary: None,
        };
        if self.events.try_send(Outgoing { about, event }).is_err() {
            self.count("EventsDropped");
        }
    }
}
