//! What goes into the control plane's machine and what comes out, as plain data.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use model::{
    Eni, EniId, PodKey, Timestamp, VSwitch, VSwitchId,
    podeni::PodEni,
    podnetworking::{Labels, PodNetworking, Resolved, Warm},
};

pub use super::pool::Spent;
use crate::{
    budget::Api,
    podeni::{Answer, Call, Fault, Node, Pod, SeenEni, Waits},
};

/// Calls a minute of an API the configuration does not name. The default of the cloud's own limits is
/// higher, but other tenants of the account use them too.
const CALLS_PER_MINUTE: u32 = 500;

/// What the machine is told about its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Calls a minute of an API that is not named below.
    pub calls_per_minute: u32,
    /// Calls a minute of some APIs (configuration key `rateLimit`).
    pub calls_of: BTreeMap<Api, u32>,
    /// Tags of the ENIs we make: what carries them all and belongs to no record is ours to collect.
    pub tags: BTreeMap<String, String>,
    /// Whether ENIs of ours that nothing refers to are taken away.
    pub collect: bool,
    /// Spare ENIs of PodNetworkings that do not say how many.
    pub warm: Warm,
    /// How long to wait between two tries (configuration key `backoffOverride`).
    pub waits: Waits,
}

impl Default for Config {
    fn default() -> Self {
        let calls_of = [
            (Api::DescribeNetworkInterfaces, 800),
            (Api::DetachNetworkInterface, 400),
            (Api::DescribeVSwitches, 300),
        ];
        Self {
            calls_per_minute: CALLS_PER_MINUTE,
            calls_of: calls_of.into(),
            tags: BTreeMap::new(),
            collect: true,
            warm: Warm::default(),
            waits: Waits::default(),
        }
    }
}

impl Config {
    /// Calls of `api` a minute.
    pub fn calls(&self, api: Api) -> u32 {
        let named = self.calls_of.get(&api).copied();
        named.unwrap_or(self.calls_per_minute)
    }
}

/// A pod of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPod {
    /// What its ENIs follow from.
    pub pod: Pod,
    /// Its labels, to find a pod that admission overlooked.
    pub labels: Labels,
    /// Whether it may be overlooked: it shares the node's network, or somebody asked us to leave it alone.
    pub exempt: bool,
    /// Why what it says about its networks cannot be followed, if it cannot.
    pub complaint: Option<String>,
    /// The addresses it reports.
    pub addresses: BTreeSet<IpAddr>,
}

/// The machine's number for a call, by which the answer finds its way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpNumber(pub u64);

/// Why a record was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteFault {
    /// Somebody else wrote in between, or it exists already, or it is gone: the watch will tell.
    Stale,
    /// The API server refused it or did not answer, in its words.
    Failed(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A pod as it is now; nothing when it is gone.
    Pod(PodKey, Option<Box<ClusterPod>>),
    /// A node as it is now.
    Node(String, Option<Node>),
    /// The labels of a namespace.
    Namespace(String, Option<Labels>),
    /// A record as it is now.
    Record(PodKey, Option<Box<PodEni>>),
    /// A record that cannot be read, and the ENIs it names if that much could be read.
    Unreadable(PodKey, Option<BTreeSet<EniId>>, String),
    /// A PodNetworking as it is now.
    Networking(String, Option<Box<PodNetworking>>),
    /// Everything there was at the start has been told: from here on what is missing does not exist.
    Complete,
    /// A write of a record ended: as it stands now, or nothing when it is gone.
    Written(PodKey, Result<Option<Box<PodEni>>, WriteFault>),
    /// A write of a PodNetworking's status ended.
    Resolved(String, Result<(), String>),
    /// A call ended.
    Called(OpNumber, Result<Answer, Fault>),
    /// ENIs were looked at: those the answer held.
    Looked(OpNumber, Result<BTreeMap<EniId, SeenEni>, Fault>),
    /// vSwitches were looked at: those the answer held.
    VSwitches(OpNumber, Result<Vec<VSwitch>, Fault>),
    /// All ENIs of the VPC that could be ours, every page of them.
    Listed(OpNumber, Result<Vec<Listed>, Fault>),
    /// The configuration changed.
    Configured(Box<Config>),
    /// The deadline passed.
    Tick,
}

/// An ENI in a list of the whole VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The ENI.
    pub eni: Eni,
    /// The trunk it is a member of.
    pub trunk: Option<EniId>,
}

/// A change of a stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// Make it.
    Create(Box<PodEni>),
    /// Bring it to this state, if it still is of the version it carries. Where the store takes description
    /// and status one after the other the description goes first: the planner finds its way from a crash
    /// between the two.
    Write(Box<PodEni>),
    /// Ask for its deletion, if it still has this UID.
    Delete(String),
    /// Take our finalizer off, if it still has this UID.
    LetGo(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Change a record, then say so ([`Input::Written`]).
    Store(PodKey, Store),
    /// Write what was found out about a PodNetworking.
    Resolve(String, Resolved),
    /// Call the cloud for a record's ENI.
    Call(OpNumber, Call),
    /// Look at these ENIs in one call.
    Look(OpNumber, Vec<EniId>),
    /// Look at these vSwitches.
    DescribeVSwitches(OpNumber, Vec<VSwitchId>),
    /// List all ENIs of the VPC that could be ours.
    ListEnis(OpNumber),
    /// Tell people.
    Notice(Notice),
}

/// A step of an ENI's life that people follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// It is made.
    Create,
    /// It is brought to a node.
    Attach,
    /// It is taken off a node.
    Detach,
    /// It is deleted.
    Delete,
}

/// Something people may want to know. Each is a log line, a counter, and an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A step of a pod's ENI succeeded.
    Did(PodKey, Doing, EniId),
    /// A step of a pod's ENI was refused; it is tried again.
    Failed(PodKey, Doing, String),
    /// A pod waits, and for what.
    Waiting(PodKey, String),
    /// A record could not be written.
    StoreFailed(PodKey, String),
    /// Somebody changed a record by hand; what it said before is written again.
    Undone(PodKey, String),
    /// A record cannot be read.
    Unreadable(PodKey, String),
    /// A PodNetworking can be used.
    NetworkingReady(String),
    /// A PodNetworking cannot be used, and why.
    NetworkingFailed(String, String),
    /// A pod runs without the ENI a PodNetworking promises it: it was created while the webhook did not
    /// answer, or before the PodNetworking.
    Overlooked(PodKey, String),
    /// A pod runs without the ENI of the PodNetworking that selects it, because that one is not Ready or not for
    /// pods of its sort: the sentence.
    Unused(PodKey, String),
    /// No ENI can be kept ready for a PodNetworking, and why; told once until one can be.
    SpareFailed(String, String),
    /// An ENI of ours that nothing refers to is taken away.
    Collected(EniId),
    /// An ENI of ours that no record refers to, though a pod uses its address: somebody deleted the record.
    Unrecorded(EniId, PodKey),
    /// Bound records of these pods name one ENI: a hand wrote one of them, or two leaders overlapped.
    Doubled(EniId, BTreeSet<PodKey>),
    /// The cloud refused or did not answer something that is no pod's.
    CloudFailed(String),
}

/// How many records are where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// By phase, in the words of the API.
    pub phases: BTreeMap<&'static str, u64>,
    /// Records or pods about which something is being waited for.
    pub waiting: u64,
    /// Pods whose next call the budget holds back, by API.
    pub held_back: BTreeMap<&'static str, u64>,
    /// Calls under way.
    pub calls: u64,
    /// Writes of records under way.
    pub writes: u64,
    /// vSwitches that refused an ENI lately for want of addresses.
    pub vswitches_full: u64,
    /// ENIs of ours nothing refers to, seen once or more.
    pub orphans: u64,
    /// ENIs kept ready, by how far they are.
    pub spares: BTreeMap<&'static str, u64>,
    /// What became of them.
    pub spent: Spent,
}

/// Why a pod has no network yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// One sentence.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}
