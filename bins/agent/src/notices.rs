//! What people are told: every notice of the node machine is a log line and a count, and those that
//! concern a pod or the node are events in the API server.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use engine::node::{Exhaustion, ExhaustionKind, Notice};
use herald::Herald;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType},
};
use model::PodKey;
use tokio::sync::mpsc;

/// Events that may wait to be sent. A wave of 256 pods makes one each; beyond that events are dropped
/// and counted, because nothing may wait for them.
const EVENTS_MAX: usize = 512;

/// Whose events they are.
const CONTROLLER: &str = "terwayd";

/// An event on its way.
struct Outgoing {
    about: ObjectReference,
    event: Event,
}

/// How often each kind of notice came.
type Counts = BTreeMap<&'static str, u64>;

/// Where notices go; a clone goes to the same place.
#[derive(Clone)]
pub(crate) struct Notices {
    node: String,
    counts: Arc<Mutex<Counts>>,
    events: mpsc::Sender<Outgoing>,
}

impl Notices {
    /// Notices of `node`; events are sent by a task of the current runtime.
    pub(crate) fn new(client: Client, node: String) -> Self {
        let (events, mut outgoing) = mpsc::channel::<Outgoing>(EVENTS_MAX);
        let herald = Herald::new(client, CONTROLLER, &node);
        tokio::spawn(async move {
            let mut complaint = String::new();
            while let Some(Outgoing { about, event }) = outgoing.recv().await {
                match herald.send(&event, &about).await {
                    Ok(()) => complaint.clear(),
                    Err(error) => {
                        // Said once, not for every event of a storm.
                        let text = crate::cause::chain(&error);
                        if text != complaint {
                            tracing::warn!(error = text, "events cannot be sent");
                            complaint = text;
                        }
                    }
                }
            }
        });
        Self {
            node,
            counts: Arc::default(),
            events,
        }
    }

    /// Sends one warning about `node` and waits until it is there.
    pub(crate) async fn now(
        client: Client,
        node: &str,
        reason: &str,
        note: &str,
    ) -> anyhow::Result<()> {
        let event = event(reason, EventType::Warning, note.to_owned());
        let about = node_reference(node);
        Ok(Herald::new(client, CONTROLLER, node)
            .send(&event, &about)
            .await?)
    }

    /// How often each kind of notice came.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells people about `notice`.
    pub(crate) fn tell(&self, notice: &Notice) {
        match notice {
            Notice::Allocated(pod, key, addresses) => {
                let list = joined(addresses);
                tracing::info!(%pod, %key, addresses = list, "attached");
                self.pod(
                    "AllocIPSucceed",
                    EventType::Normal,
                    pod,
                    format!("Alloc IP {list}"),
                );
            }
            Notice::Released(key, addresses) => {
                tracing::info!(%key, addresses = joined(addresses), "released");
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
            Notice::Exhausted(state) => self.exhausted(state),
            Notice::Recovered(kind) => self.recovered(*kind),
            Notice::Collected(key, pod, why) => {
                tracing::warn!(%key, %pod, why, "an attachment whose DEL never came is taken down");
                self.count("Collected");
            }
            Notice::LeftoversRemoved(what) => {
                let what = what.join("; ");
                tracing::warn!(
                    what,
                    "removed routes and rules of ours that belonged to nobody"
                );
                self.count("LeftoversRemoved");
            }
            Notice::Repaired(key, lacked) => {
                tracing::warn!(%key, lacked = lacked.join("; "), "repaired");
                self.count("Repaired");
            }
            Notice::NodeRepaired(lacked) => {
                tracing::warn!(lacked = lacked.join("; "), "repaired on the node");
                self.count("NodeRepaired");
            }
            Notice::Contested(pod, what) => self.contested(pod.as_ref(), what),
            Notice::SysctlsWrong(what) => {
                let what = what.join("; ");
                let text = format!("what pods of this node need of its sysctls is not so: {what}");
                tracing::error!(text, "sysctls");
                self.node("SysctlWrong", text);
            }
            Notice::CutOff(pod, link) => {
                let text = format!(
                    "somebody deleted the pod's link {link} on the node, and so the pod has no network. It takes the \
                     pod's namespace to make it anew: CHECK by the container runtime does, or delete the pod"
                );
                tracing::warn!(%pod, text, "a pod is cut off");
                self.pod("PodCutOff", EventType::Warning, pod, text);
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
            Notice::MemberLost(pod, why) => {
                tracing::warn!(%pod, why, "a trunk pod is cut off");
                self.pod("PodENILost", EventType::Warning, pod, why.clone());
            }
            Notice::TrunkMissing(lack) => {
                let text = lack.to_string();
                tracing::warn!(text, "no trunk ENI");
                self.node("TrunkMissing", text);
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

    fn exhausted(&self, state: &Exhaustion) {
        let Exhaustion {
            kind,
            reason,
            until,
        } = state;
        let note = format!("{reason}; {}", kind.remedy());
        match kind {
            ExhaustionKind::Prefix => {
                tracing::warn!(reason, until, "the pool grows without prefixes");
                self.node("PrefixNotEnough", note);
            }
            kind => {
                tracing::warn!(kind = kind.name(), reason, until, "the pool cannot grow");
                self.node("IPNotEnough", note);
            }
        }
    }

    fn recovered(&self, kind: ExhaustionKind) {
        tracing::info!(kind = kind.name(), "the pool can grow again");
        let note = match kind {
            ExhaustionKind::Prefix => "prefixes are given again, or not needed any more".into(),
            kind => format!(
                "the pool can grow again, or needs to no more ({})",
                kind.name()
            ),
        };
        let about = node_reference(&self.node);
        self.send("IPSufficient", EventType::Normal, about, note);
    }

    /// A standing complaint about the configuration.
    pub(crate) fn config_error(&self, text: &str) {
        tracing::error!(text, "configuration");
        self.node("ConfigError", text.to_owned());
    }

    /// A change of the configuration that this process cannot make.
    pub(crate) fn restart_needed(&self, text: &str) {
        tracing::warn!(text, "configuration");
        self.node("ConfigNeedsRestart", text.to_owned());
    }

    /// The node was given another podCIDR (mode VPC).
    pub(crate) fn pod_cidr_changed(&self, before: Ipv4Net, now: Ipv4Net) {
        tracing::warn!(%before, %now, "the node has another podCIDR");
        let text = format!(
            "the node's podCIDR was {before} and is {now}: pods get addresses of {now} from now on; those that have \
             addresses of {before} are reached no more, as the route table leads it here no longer: delete them"
        );
        self.node("PodCIDRChanged", text);
    }

    /// The ledger can be neither read nor written, so nothing can be promised to a pod.
    pub(crate) fn ledger_unusable(&self, text: &str) {
        tracing::error!(text, "the ledger cannot be used; no pod can be served");
        self.node("LedgerUnusable", text.to_owned());
    }

    /// The ledger is written again.
    pub(crate) fn ledger_usable(&self) {
        tracing::info!("the ledger is written again");
        let note = "the ledger is written again".to_owned();
        let about = node_reference(&self.node);
        self.send("LedgerUsable", EventType::Normal, about, note);
    }

    /// A ledger that is no use here was put beside a new one.
    pub(crate) fn ledger_set_aside(&self, text: &str) {
        tracing::error!(text, "the ledger is set aside");
        self.node("LedgerSetAside", text.to_owned());
    }

    /// Pods do not get the links that are asked for. The event has the reason the Go project gives it.
    pub(crate) fn veth_instead(&self, text: &str) {
        tracing::warn!(text, "pod links");
        self.node("VirtualModeChanged", text.to_owned());
    }

    /// The cluster's roles do not let this agent do what it must.
    pub(crate) fn permission_missing(&self, text: &str) {
        tracing::error!(text, "permissions");
        self.node("PermissionMissing", text.to_owned());
    }

    /// NetworkPolicy objects have no effect, and nobody said that this is wanted.
    pub(crate) fn policy_not_enforced(&self) {
        let text = "NetworkPolicy is not enforced by this release: every pod may talk to every pod; \
                    set disable_network_policy to \"true\" in ConfigMap kube-system/eni-config to accept that";
        tracing::warn!(text, "network policy");
        self.node("NetworkPolicyNotEnforced", text.to_owned());
    }

    /// The way back of what comes in by the node's own ENI cannot be kept.
    pub(crate) fn return_path_missing(&self, why: &str) {
        let text = format!(
            "what comes in by the node's own ENI for a pod (hostPort and NodePort from outside the node) \
             is answered by the pod's ENI and lost: {why}"
        );
        tracing::error!(text, "return path");
        self.node("ReturnPathMissing", text);
    }

    /// Something is put back again and again.
    pub(crate) fn contested(&self, pod: Option<&PodKey>, what: &str) {
        let text = format!(
            "somebody keeps changing what the agent puts back, which it does ever more rarely now, up to once a \
             minute; find out who: {what}"
        );
        tracing::error!(text, "contested");
        match pod {
            Some(pod) => self.pod("NetworkContested", EventType::Warning, pod, text),
            None => self.node("NetworkContested", text),
        }
    }

    /// Somebody took it away, and it was put back.
    pub(crate) fn return_path_repaired(&self, lacked: &[String]) {
        tracing::warn!(lacked = lacked.join("; "), "return path repaired");
        self.count("ReturnPathRepaired");
    }

    /// Pods cannot reach what is outside the cluster.
    pub(crate) fn masquerade_missing(&self, why: &str) {
        let text = format!(
            "what pods send outside the cluster keeps their own addresses, to which nobody there has a way: {why}"
        );
        tracing::error!(text, "masquerade");
        self.node("MasqueradeMissing", text);
    }

    /// Somebody took filters from the trunk ENI, and they were put back.
    pub(crate) fn trunk_repaired(&self, lacked: &[String]) {
        tracing::warn!(lacked = lacked.join("; "), "trunk filters repaired");
        self.count("TrunkRepaired");
    }

    /// The filters at the trunk ENI cannot be kept.
    pub(crate) fn trunk_broken(&self, why: &str) {
        let text = format!("trunk pods of this node have no network: {why}");
        tracing::error!(text, "trunk filters");
        self.node("TrunkBroken", text);
    }

    /// Somebody took filters from ENIs with pods on ipvlan, and they were put back.
    pub(crate) fn ipvlan_repaired(&self, lacked: &[String]) {
        tracing::warn!(lacked = lacked.join("; "), "ipvlan filters repaired");
        self.count("IpvlanRepaired");
    }

    /// Those filters cannot be kept.
    pub(crate) fn ipvlan_broken(&self, why: &str) {
        let text = format!("pods on ipvlan of this node reach neither it nor Services: {why}");
        tracing::error!(text, "ipvlan filters");
        self.node("IpvlanBroken", text);
    }

    pub(crate) fn count(&self, reason: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(reason).or_default() += 1;
    }

    fn node(&self, reason: &'static str, note: String) {
        self.send(reason, EventType::Warning, node_reference(&self.node), note);
    }

    fn pod(&self, reason: &'static str, kind: EventType, pod: &PodKey, note: String) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            ..Default::default()
        };
        self.send(reason, kind, about, note);
    }

    fn send(&self, reason: &'static str, type_: EventType, about: ObjectReference, note: String) {
        self.count(reason);
        let event = event(reason, type_, note);
        if self.events.try_send(Outgoing { about, event }).is_err() {
            self.count("EventsDropped");
        }
    }
}

/// What telling the API server may take for somebody who is about to end: kubelet starts it again anyway.
const TELL_MAX: Duration = Duration::from_secs(5);

/// Waits for an event that tells why this program ends, a bounded time; the log has it in any case.
pub(crate) async fn in_time(told: impl Future<Output = anyhow::Result<()>>) {
    let outcome = match tokio::time::timeout(TELL_MAX, told).await {
        Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("no answer within {TELL_MAX:?}")),
    };
    if let Err(error) = outcome {
        tracing::warn!(error, "no event tells of it");
    }
}

fn joined(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// A node as kubelet refers to it: `kubectl describe node` looks for its name as UID.
fn node_reference(node: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Node".into()),
        name: Some(node.to_owned()),
        uid: Some(node.to_owned()),
        ..Default::default()
    }
}

fn event(reason: &str, type_: EventType, note: String) -> Event {
    Event {
        type_,
        reason: reason.into(),
        note: Some(note),
        action: "Allocate".into(),
        secondary: None,
    }
}
