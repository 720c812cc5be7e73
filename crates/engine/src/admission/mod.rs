//! Admission: what a new pod must carry to get ENIs of its own, and which PodNetworkings may be written.
//!
//! Asked again about its own answer it changes nothing: webhooks are re-invoked when a later one changes
//! the pod.
//!
//! Must not know: the review documents, JSON patches, annotations' texts.

mod networking;
mod pod;

use std::{collections::BTreeMap, time::Duration};

use model::{
    SecurityGroupId, VSwitchId, ZoneId,
    podeni::NetworkRequest,
    podnetworking::{Labels, PodNetworking},
};

pub use networking::{Admitted, admit_networking, deletion_warning};
pub use pod::{INTERFACE_LENGTH_MAX, admit_pod};
pub(crate) use pod::{is_for, needs_a_name, not_usable};

/// What a pod itself says about its networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: a PodNetworking may select it.
    Nothing,
    /// One PodNetworking by name (annotation `pod-networking`).
    Networking(String),
    /// Its interfaces, each in full (annotation `pod-networks`).
    Networks(Vec<NetworkRequest>),
    /// Its interfaces, each by the name of a PodNetworking (annotation `pod-networks-request`).
    Named(Vec<Named>),
}

/// An interface by the name of a PodNetworking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name in the pod; `eth0` unless given.
    pub interface: String,
    /// The PodNetworking.
    pub networking: String,
    /// Whether the pod's default route goes by it.
    pub default_route: bool,
    /// Further destinations that go by it.
    pub routes: Vec<ipnet::IpNet>,
}

/// A pod that is about to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPod {
    /// Its labels.
    pub labels: Labels,
    /// The labels of its namespace.
    pub namespace_labels: Labels,
    /// Whether it shares the node's network.
    pub host_network: bool,
    /// Whether somebody asked us to leave it alone (label `k8s.aliyun.com/ignore-by-terway`).
    pub ignored: bool,
    /// Whether it already says that it uses a PodENI (annotation `k8s.aliyun.com/pod-eni`).
    pub wants_eni: bool,
    /// Whether the next pod of its name is its successor.
    pub stable_name: bool,
    /// Whether a DaemonSet made it: its node is chosen already.
    pub of_daemon_set: bool,
    /// What it says about its networks; more than one is refused.
    pub asked: Vec<Asked>,
    /// The zone of the PodENI an earlier pod of its name left behind.
    pub previous_zone: Option<ZoneId>,
}

/// What `eni_conf` gives to networks that leave something open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// vSwitches by zone.
    pub vswitches: BTreeMap<ZoneId, Vec<VSwitchId>>,
    /// Security groups.
    pub security_groups: Vec<SecurityGroupId>,
}

/// What admission stands on.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// All PodNetworkings, by name.
    pub networkings: &'a BTreeMap<String, PodNetworking>,
    /// The zones of vSwitches the control plane has seen.
    pub zones: &'a BTreeMap<VSwitchId, ZoneId>,
    /// What `eni_conf` says.
    pub defaults: &'a Defaults,
    /// Whether ENIs of pods are trunk members (`enableTrunk`).
    pub trunk: bool,
    /// Whether the pod is to request the resource (`enableWebhookInjectResource`).
    pub inject_resource: bool,
    /// The shortest time a fixed address may be promised for (`releaseAfterMin`).
    pub release_after_min: Duration,
}

/// The resource a pod requests so that the scheduler counts its ENIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `aliyun/member-eni`.
    MemberEni,
    /// `aliyun/eni`.
    Eni,
}

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is added; what its author should know.
    Unchanged(Vec<String>),
    /// It may not be created so; one sentence for its author.
    Denied(String),
    /// This is added.
    Changed(Box<Additions>),
}

/// What is added to a pod that gets ENIs of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Additions {
    /// The PodNetworking that selected it.
    pub networking: Option<String>,
    /// Its interfaces, each in full.
    pub networks: Vec<NetworkRequest>,
    /// What it requests, and how many.
    pub resource: Option<(Resource, usize)>,
    /// Zones it may be scheduled to; each list is a condition of its own.
    pub zones: Vec<Vec<ZoneId>>,
    /// What its author should know.
    pub warnings: Vec<String>,
}
