//! What goes into the node machine and what comes out, as plain data that can be written down and
//! fed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use model::{
    AttachmentKey, ClientToken, DualStack, Eni, EniId, FaultClass, InstanceId, InstanceLimits,
    InterfaceName, Ipv4Prefix, Mac, PodKey, PodUid, SecurityGroupId, Timestamp, VSwitch, VSwitchId,
    ZoneId,
    net::{EniNet, Link, PodPlan, Route, Rule, Sysctl},
    podeni::PodEni,
};
use serde::{Deserialize, Serialize};

use super::{
    exhaustion::{Exhaustion, ExhaustionKind},
    heal::{Finding, Remedy},
    policy::Policy,
    trunk::TrunkLack,
};
use crate::ledger::{Attachment, Change, CreateEni};

/// What the node machine is told about its node and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The node's instance.
    pub instance: InstanceId,
    /// Its zone; vSwitches of others cannot serve it.
    pub zone: ZoneId,
    /// MAC of the instance's primary ENI: an answer of the cloud that lacks this one ENI proves
    /// nothing about any other.
    pub primary_mac: Mac,
    /// What the instance type allows.
    pub limits: InstanceLimits,
    /// ENIs we may have beside the primary one.
    pub enis_max: u32,
    /// vSwitches of the node's zone, in the order of the configuration.
    pub vswitches: Vec<VSwitchId>,
    /// Security groups of new ENIs.
    pub security_groups: Vec<SecurityGroupId>,
    /// Tags of new ENIs; an ENI on the node is ours only if it carries them all.
    pub tags: BTreeMap<String, String>,
    /// Idle addresses to keep ready (`min_pool_size`).
    pub idle_min: u32,
    /// Idle addresses above which some go back to the cloud (`max_pool_size`).
    pub idle_max: u32,
    /// How long a released address rests.
    pub cooldown: Duration,
    /// MTU of pod links and ENIs.
    pub mtu: u32,
    /// What else an operator may choose.
    #[serde(default)]
    pub policy: Policy,
}

/// The shell's number for one request of the plugin, by which the answer finds its way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestNumber(pub u64);

/// The machine's number for one cloud call or observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpNumber(pub u64);

/// An ADD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddRequest {
    /// Sandbox and interface.
    pub key: AttachmentKey,
    /// The pod.
    pub pod: PodKey,
    /// Its UID, when the runtime passed it.
    pub uid: Option<PodUid>,
    /// Path of the network namespace.
    pub netns: String,
    /// When the plugin started, by the node's wall clock.
    pub started: Timestamp,
    /// When the plugin's patience ends.
    pub deadline: Timestamp,
    /// MTU the configuration asks for; the node's default without one.
    pub mtu: Option<u32>,
    /// Whether the pod's name comes back (a StatefulSet's pod), so that its address waits for it.
    #[serde(default)]
    pub sticky: bool,
    /// Whether an ENI of its own serves it, which its PodENI names, and never the pool. (Usually one of
    /// the node's trunk, hence the name.)
    #[serde(default)]
    pub trunk: bool,
    /// Networks that a pod with a whole ENI reaches by the node (`host_stack_cidrs`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_stack: Vec<IpNet>,
}

/// An interface of the instance, as its metadata shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its MAC.
    pub mac: Mac,
    /// Its ENI.
    pub eni: EniId,
    /// All its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// All its prefixes; nothing when the metadata does not speak of prefixes.
    #[serde(default)]
    pub prefixes: Option<BTreeSet<Ipv4Prefix>>,
    /// The vSwitch's gateways.
    pub gateway: DualStack<IpAddr>,
    /// The vSwitch's blocks.
    pub subnet: DualStack<IpNet>,
}

/// What stands in the node's kernel, as far as pods are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelView {
    /// All links of the node.
    pub links: Vec<Link>,
    /// Addresses routed over pod links, whoever made the routes.
    pub routed: BTreeSet<IpAddr>,
    /// The ipvlan devices that stand in pods: what is written on each, and the addresses it has.
    #[serde(default)]
    pub slaves: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Routes that carry our protocol id.
    pub routes: Vec<Route>,
    /// Rules that carry our protocol id.
    pub rules: Vec<Rule>,
}

/// Routes and rules of ours that belong to nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftovers {
    /// Routes.
    pub routes: BTreeSet<Route>,
    /// Rules.
    pub rules: BTreeSet<Rule>,
}

/// What a cloud call brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloudAnswer {
    /// The ENI that was made.
    Created(Eni),
    /// The ENIs that were asked for.
    Enis(Vec<Eni>),
    /// The addresses that were assigned.
    Assigned(Vec<IpAddr>),
    /// The prefixes that were assigned.
    AssignedPrefixes(Vec<Ipv4Prefix>),
    /// The vSwitches that were asked for.
    VSwitches(Vec<VSwitch>),
    /// The call was accepted.
    Accepted,
}

/// Why a cloud call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudFault {
    /// The class decisions look at.
    pub class: FaultClass,
    /// The cloud's words, code and RequestId, for people.
    pub text: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The plugin asks for an attachment.
    Add(RequestNumber, Box<AddRequest>),
    /// An ADD for this pod was refused before it came here, and why; kept for people.
    Refused(PodKey, String),
    /// The plugin gives an attachment back. A DEL left behind while the agent was down comes without
    /// anybody to answer.
    Del {
        /// Whom to answer.
        request: Option<RequestNumber>,
        /// Sandbox and interface.
        key: AttachmentKey,
        /// When the plugin started: an ADD that started earlier is dead from now on.
        started: Timestamp,
    },
    /// The plugin asks whether an attachment is whole.
    Check(RequestNumber, AttachmentKey),
    /// The runtime tells which attachments are in use; all others may go.
    Gc {
        /// Whom to answer.
        request: RequestNumber,
        /// When the plugin started: attachments made later are not judged.
        started: Timestamp,
        /// What is in use.
        valid: BTreeSet<AttachmentKey>,
    },
    /// The changes of this batch, and of all before it, will survive a crash.
    Persisted(u64),
    /// The changes of this batch could not be written.
    PersistFailed(u64, String),
    /// A cloud call ended.
    Cloud(OpNumber, Result<CloudAnswer, CloudFault>),
    /// The instance's metadata was read.
    Interfaces(OpNumber, Result<Vec<Interface>, String>),
    /// The node's links, asked for or because they changed.
    Links(Vec<Link>),
    /// An ENI's link was set up, or could not be.
    EniApplied(EniId, Result<(), String>),
    /// A pod's links, routes and rules were set up, or could not be.
    PodApplied(AttachmentKey, Result<(), String>),
    /// What a pod lacked; repaired when it is not empty and all went well.
    PodChecked(AttachmentKey, Result<Vec<String>, String>),
    /// A pod's links, routes and rules are gone, or not yet.
    PodRemoved(AttachmentKey, Result<(), String>),
    /// The node's kernel was looked at, or could not be.
    Kernel(OpNumber, Result<KernelView, String>),
    /// The pods that exist and have not ended (no container of theirs runs or will run): all of this
    /// node from a list that the API server answered in full, and of those asked for by name the ones it
    /// has.
    Pods(
        OpNumber,
        #[serde(with = "crate::pairs::perhaps")] Result<BTreeMap<PodKey, PodUid>, String>,
    ),
    /// The PodENI of a pod as the API server has it now; nothing when it has none for this node.
    PodEni(PodKey, Option<Box<PodEni>>),
    /// Leftovers were taken away, or not all of them.
    LeftoversRemoved(OpNumber, Result<(), String>),
    /// What somebody else did to the node's network, and what became of repairs.
    Heal(Finding),
    /// The configuration changed.
    Configured(Box<Config>),
    /// The node's clock stepped back since the last input. A step shorter than the silence before it
    /// cannot be told by the time of inputs.
    ClockSteppedBack {
        /// What the clock would show now without that.
        from: Timestamp,
    },
    /// The deadline passed.
    Tick,
}

/// A call to the cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloudCall {
    /// Make an ENI.
    CreateEni(ClientToken, CreateEni),
    /// Attach it to the node.
    AttachEni(EniId),
    /// Detach it from the node.
    DetachEni(EniId),
    /// Delete it.
    DeleteEni(EniId),
    /// More addresses on an ENI.
    AssignAddresses(ClientToken, EniId, u32),
    /// Fewer addresses on an ENI.
    UnassignAddresses(EniId, Vec<IpAddr>),
    /// Prefixes on an ENI.
    AssignPrefixes(ClientToken, EniId, u32),
    /// Fewer prefixes on an ENI.
    UnassignPrefixes(EniId, Vec<Ipv4Prefix>),
    /// All ENIs of this node.
    DescribeNode,
    /// Some ENIs.
    DescribeEnis(Vec<EniId>),
    /// The ENI that a create under this token made.
    FindEni(ClientToken),
    /// Some vSwitches.
    DescribeVSwitches(Vec<VSwitchId>),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Write these changes so that they survive a crash, all or none, then say so.
    Persist(u64, Vec<Change>),
    /// Call the cloud.
    Cloud(OpNumber, CloudCall),
    /// Read the instance's metadata.
    ReadInterfaces(OpNumber),
    /// List the node's links.
    ReadLinks,
    /// Set up an ENI's link.
    ApplyEni(EniId, EniNet),
    /// Set up a pod.
    ApplyPod(RequestNumber, AttachmentKey, Box<PodPlan>),
    /// Compare a pod with its plan and repair it.
    CheckPod(RequestNumber, AttachmentKey, Box<PodPlan>),
    /// Take a pod's links, routes and rules away.
    RemovePod(AttachmentKey, Box<PodPlan>),
    /// Look at the node's kernel.
    ObserveKernel(OpNumber),
    /// List the node's pods anew, and ask for each of these by name as well: an answer that leaves one
    /// of them out must mean that it does not exist or has ended.
    ListPods(OpNumber, BTreeSet<PodKey>),
    /// Take routes and rules away that belong to nobody.
    RemoveLeftovers(OpNumber, Leftovers),
    /// Look for what somebody else took away, or put it back.
    Heal(Remedy),
    /// Answer the plugin.
    Reply(RequestNumber, Reply),
    /// Tell people.
    Notice(Notice),
}

/// An answer to the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The attachment stands.
    Attached(Box<Attached>),
    /// Nothing more to say.
    Done,
    /// It did not work.
    Failed(Failure),
}

/// A standing attachment, with what the CNI result and the plugin need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The attachment.
    pub attachment: Attachment,
    /// What is in the kernel for it.
    pub net: PodPlan,
    /// The blocks of the vSwitch of [`Attachment::eni`], whose addresses those of an ordinary pod are.
    pub subnet: DualStack<IpNet>,
    /// Its gateways.
    pub gateway: DualStack<IpAddr>,
    /// What the plugin writes under `/proc/sys`.
    pub sysctls: Vec<Sysctl>,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which kind; it decides the CNI code.
    pub kind: FailureKind,
    /// What was tried and what stood in the way.
    pub message: String,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// May work when tried again.
    TryLater,
    /// There is no such attachment.
    Unknown,
    /// The sandbox was deleted while this was under way.
    Deleted,
}

/// Something people may want to know. Each is a log line, a counter, and where it says so an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A pod got its addresses.
    Allocated(PodKey, AttachmentKey, Vec<IpAddr>),
    /// Addresses came back from a pod.
    Released(AttachmentKey, Vec<IpAddr>),
    /// A pod waits for an address: how many wait now, and for what.
    Waiting(PodKey, u32, String),
    /// A pod waited in vain.
    TimedOut(PodKey, String),
    /// An ENI is ready to serve.
    EniReady(EniId),
    /// The cloud refused or did not answer.
    CloudFailed(String),
    /// The pool cannot grow though it should.
    Exhausted(Exhaustion),
    /// The pool can grow again, or needs to no more.
    Recovered(ExhaustionKind),
    /// An attachment whose DEL never came is taken down, and what proves that its sandbox is gone.
    Collected(AttachmentKey, PodKey, String),
    /// Routes and rules that belonged to nobody were taken away.
    LeftoversRemoved(Vec<String>),
    /// A pod lacked something that was put back.
    Repaired(AttachmentKey, Vec<String>),
    /// ENIs or sysctls of the node lacked something that was put back.
    NodeRepaired(Vec<String>),
    /// Something is put back again and again, now ever more rarely: whose it is, if it is one pod's, and
    /// what was missing last.
    Contested(Option<PodKey>, String),
    /// Sysctls of the node that pods rely on are wrong and cannot be put right from here.
    SysctlsWrong(Vec<String>),
    /// The node's end of a pod, a link of this name, was deleted, and so the pod is cut off.
    CutOff(PodKey, InterfaceName),
    /// The kernel refused something.
    KernelFailed(String),
    /// The cloud's answer contradicts the ledger about an address somebody uses.
    AddressLost(IpAddr, AttachmentKey),
    /// The node should have a trunk ENI and has none, and why.
    TrunkMissing(TrunkLack),
    /// The PodENI of a trunk pod that runs does not give it its network any more, and why.
    MemberLost(PodKey, String),
    /// A decision would have broken an invariant and was not carried out: a defect of ours.
    Defect(String),
}
