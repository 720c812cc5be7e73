//! What an operator may choose about the pool beside its size. Every choice has a default, so that a
//! configuration written by an older release is still a whole one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::IpNet;
use model::Eni;
use serde::{Deserialize, Serialize};

use super::{block::PodBlock, budget::Api};
use crate::netplan::LocalTraffic;

/// How long an address waits for the pod that had it, when the pod's name is one that comes back. A
/// StatefulSet's pod is re-created as soon as the old one is gone; pulling an image and mounting a
/// volume take it minutes at the most.
const STICKY_KEEP: Duration = Duration::from_secs(300);

/// Calls of one API a node may make in a minute when nothing else is said. A node that starts with 250
/// pods makes about forty calls of all kinds; the account's own limits are 400 to 800 for each.
const CALLS_PER_MINUTE: u32 = 60;

/// ENIs that belong to other software of this cloud, by tag.
const BLOCKED: [(&str, &str); 2] = [
    ("creator", "alibabacloud-erdma-controller"),
    ("terway.alibabacloud.com/excluded", "true"),
];

/// Which vSwitch serves next among those with a free address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VSwitchPolicy {
    /// The first of the list.
    #[default]
    Ordered,
    /// Any.
    Random,
    /// The one with the most free addresses.
    Most,
}

/// Which ENI grows first, and which one serves a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EniPolicy {
    /// The one with the most addresses grows first, and a new one is made when all are full. A pod gets
    /// the address that has been free the longest, wherever it is.
    #[default]
    MostIps,
    /// A new one is made while the node may have more; then the one with the fewest addresses grows
    /// first. A pod gets an address of the one that has the fewest.
    LeastIps,
}

/// How the pool uses prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixPolicy {
    /// Prefixes the node has at least, however few of their addresses are used.
    pub least: u32,
}

/// When idle addresses go back though the pool is not above its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    /// How long an address must have been idle.
    pub after: Duration,
    /// How many go at once.
    pub batch: u32,
    /// How long between two batches.
    pub interval: Duration,
    /// Up to how many thousandths of the interval are added, so that nodes do not go together.
    pub jitter_per_mille: u32,
}

/// How a node that can have pods on ipvlan devices has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpvlanPolicy {
    /// Whether new pods of the pool are; otherwise only those that stand.
    pub new_pods: bool,
    /// What they reach by the node beside Services: its own addresses, and what is configured
    /// (`host_stack_cidrs`).
    pub by_host: Vec<IpNet>,
}

/// What an operator may choose about the pool beside its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Pods get addresses of the node's own block and none of ENIs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<PodBlock>,
    /// Which vSwitch serves next.
    pub vswitches: VSwitchPolicy,
    /// Which ENI grows first.
    pub enis: EniPolicy,
    /// The pool grows by prefixes, and by single addresses only where no prefix is left.
    pub prefixes: Option<PrefixPolicy>,
    /// Addresses to have once, when the node is new; they are not replaced as pods take them.
    pub warm_up: u32,
    /// When idle addresses go back though the pool is not above its size.
    pub reclaim: Option<Reclaim>,
    /// An ENI without all of these tags is somebody else's.
    pub tag_filter: BTreeMap<String, String>,
    /// An ENI with any of these tags is somebody else's.
    pub tag_blocks: BTreeSet<(String, String)>,
    /// How long an address waits for the pod that had it, for pods whose name comes back.
    pub sticky_keep: Duration,
    /// Calls a minute of an API that is not named below.
    pub calls_per_minute: u32,
    /// Calls a minute of some APIs.
    pub calls_of: BTreeMap<Api, u32>,
    /// The node has a trunk ENI, and its trunk pods reach each other this way.
    pub trunk: Option<LocalTraffic>,
    /// Addresses of Services, which a pod with a whole ENI or on ipvlan reaches by the node.
    #[serde(default)]
    pub services: Vec<IpNet>,
    /// Pods may be on ipvlan devices. Without it new pods have veth pairs, and those on ipvlan that stand keep
    /// what they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipvlan: Option<IpvlanPolicy>,
}

impl Default for Policy {
    fn default() -> Self {
        let blocked = BLOCKED.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self {
            block: None,
            vswitches: VSwitchPolicy::default(),
            enis: EniPolicy::default(),
            prefixes: None,
            warm_up: 0,
            reclaim: None,
            tag_filter: BTreeMap::new(),
            tag_blocks: blocked.into(),
            sticky_keep: STICKY_KEEP,
            calls_per_minute: CALLS_PER_MINUTE,
            calls_of: BTreeMap::new(),
            trunk: None,
            services: Vec::new(),
            ipvlan: None,
        }
    }
}

impl Policy {
    /// Whether the tags of `eni` leave it to us.
    pub fn allows(&self, eni: &Eni) -> bool {
        let filtered = self
            .tag_filter
            .iter()
            .all(|(key, value)| eni.tags.get(key) == Some(value));
        let blocked = self
            .tag_blocks
            .iter()
            .any(|(key, value)| eni.tags.get(key) == Some(value));
        filtered && !blocked
    }

    /// Calls of `api` a minute.
    pub fn calls(&self, api: Api) -> u32 {
        self.calls_of
            .get(&api)
            .copied()
            .unwrap_or(self.calls_per_minute)
    }
}
