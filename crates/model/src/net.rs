//! Kernel state as data: what a decision wants on the node and in a pod, for `datapath` to apply,
//! to compare and to remove.
//!
//! Every object names its link; nothing here holds an interface index except through a table id,
//! because indexes belong to the kernel of the moment.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    Family, InterfaceName, Mac,
    ipvlan::{IpvlanEni, IpvlanPod},
};

/// Rules that keep on the node what a trunk pod sends to itself, which kube-proxy does with a pod that is
/// the answer to its own question.
pub const RULE_PRIORITY_TO_SELF: u32 = 510;
/// Rules that send packets *from* a trunk pod to the table of the trunk ENI before any rule may keep
/// them on the node: one before [`RULE_PRIORITY_TO_POD`].
pub const RULE_PRIORITY_FROM_MEMBER: u32 = 511;
/// Rules that send packets *to* a pod to the main table (what other software on a node looks for).
pub const RULE_PRIORITY_TO_POD: u32 = 512;
/// Rules that send answers back by the node's own ENI, when the connection came in there: after the
/// pods' addresses and before the tables of their ENIs. The Go Terway's number.
pub const RULE_PRIORITY_RETURN: u32 = 600;
/// The bit of packet and connection marks that says so: the Go Terway's. kube-proxy has 0x4000 and
/// 0x8000, Calico the upper half, Cilium 0xf00; no other bit is ever touched.
pub const MARK_RETURN: u32 = 0x10;
/// Rules that send packets *from* a pod to the table of its ENI.
pub const RULE_PRIORITY_FROM_POD: u32 = 2048;
/// Rules *in a pod* with several interfaces, which send what bears an interface's address, or is bound to
/// it, out by that interface. The Go Terway's number.
pub const RULE_PRIORITY_IN_POD: u32 = 512;
/// The main routing table, RT_TABLE_MAIN (include/uapi/linux/rtnetlink.h).
pub const TABLE_MAIN: u32 = 254;
/// The table of an ENI is this plus its interface index on the node.
pub const ENI_TABLE_BASE: u32 = 1000;
/// *In a pod* with several interfaces, the table of each is this plus its place among them, from 1. (The
/// Go Terway adds its index, which nobody can know before the link is there.)
pub const POD_TABLE_BASE: u32 = 1000;
/// Who made a route or a rule: `RTPROT` value of ours, free in include/uapi/linux/rtnetlink.h and in
/// iproute2's `rt_protos`. Only objects that carry it are ever removed.
pub const PROTOCOL_TERWAY: u8 = 157;

/// The group (`IFLA_GROUP`) of the node's ends of pods that have an ENI wholly their own: what comes to
/// the node by such an end is for the node or a Service, and nothing else tells the links apart. Our
/// protocol id, which no other software is known to give a link.
pub const LINK_GROUP_OWN_ENI: u32 = 157;

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// Its table.
    pub table: u32,
    /// Its destination; `0.0.0.0/0` or `::/0` is the default route.
    pub destination: IpNet,
    /// The next hop; without one the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The link it leaves by.
    pub link: InterfaceName,
    /// Whether the kernel shall believe that the next hop is on the link.
    pub onlink: bool,
}

/// A policy rule: packets from or to a network look into `table`. Every condition it names must hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// Lower is asked first.
    pub priority: u32,
    /// The link the packet came in by, when the rule asks for one. `lo` stands for the node's own packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came_by: Option<InterfaceName>,
    /// The link the sender chose (`SO_BINDTODEVICE`), when the rule asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves_by: Option<InterfaceName>,
    /// Bits of the packet's mark that must be clear; 0 asks for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unmarked: u32,
    /// Source, when the rule asks for one.
    pub from: Option<IpNet>,
    /// Destination, when the rule asks for one.
    pub to: Option<IpNet>,
    /// Where to look.
    pub table: u32,
}

impl Rule {
    /// A rule that asks for source and destination only.
    pub fn new(priority: u32, from: Option<IpNet>, to: Option<IpNet>, table: u32) -> Self {
        Self {
            priority,
            came_by: None,
            leaves_by: None,
            unmarked: 0,
            from,
            to,
            table,
        }
    }
}

fn is_zero(bits: &u32) -> bool {
    *bits == 0
}

/// Whose a VLAN of the trunk ENI is: frames with `address` as source that came in by `link` leave the
/// trunk with the tag, frames to `address` must come with it, and neither is anybody else's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tag {
    /// The member ENI's VLAN on the trunk: 1 to 4094 (IEEE 802.1Q reserves 0 and 4095).
    pub vlan: u16,
    /// The pod's address.
    pub address: IpAddr,
    /// The node's end of the pod's link.
    pub link: InterfaceName,
    /// MAC of that end, which tells the sandboxes of one pod apart.
    pub link_mac: Mac,
}

/// A permanent neighbour entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Neighbour {
    /// The address.
    pub address: IpAddr,
    /// Whose frames it gets.
    pub mac: Mac,
    /// On which link.
    pub link: InterfaceName,
}

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkAddress {
    /// The address with its prefix length.
    pub address: IpNet,
    /// The link.
    pub link: InterfaceName,
}

/// A veth pair: one end on the node, one in the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VethPair {
    /// The node's end.
    pub host: InterfaceName,
    /// MAC of the node's end.
    pub host_mac: Mac,
    /// The pod's end.
    pub pod: InterfaceName,
    /// MAC of the pod's end.
    pub pod_mac: Mac,
    /// MTU of both.
    pub mtu: u32,
    /// Group of the node's end; 0 is every link's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub group: u32,
}

/// A device of the node that one pod has for itself: an ENI's, known by its MAC wherever it is and
/// whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device {
    /// Its MAC.
    pub mac: Mac,
    /// Its name on the node, which it gets back.
    pub home: InterfaceName,
    /// Whether it was up there, as it will be again.
    pub up: bool,
    /// Its name in the pod.
    pub pod: InterfaceName,
    /// Its MTU in the pod.
    pub mtu: u32,
}

/// Everything one attachment needs in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodNet {
    /// The pair that joins pod and node.
    pub veth: VethPair,
    /// The pairs of its further interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<VethPair>,
    /// Devices of the node that are in the pod while it lives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// In the pod: addresses on its ends.
    pub pod_addresses: Vec<LinkAddress>,
    /// In the pod: permanent neighbours.
    pub pod_neighbours: Vec<Neighbour>,
    /// In the pod: routes.
    pub pod_routes: Vec<Route>,
    /// In the pod: rules. A pod with one interface needs none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_rules: Vec<Rule>,
    /// On the node: routes.
    pub host_routes: Vec<Route>,
    /// On the node: rules.
    pub host_rules: Vec<Rule>,
    /// At the trunk ENI: what a trunk pod's frames carry. An ordinary pod has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

impl PodNet {
    /// A plan of nothing but the pair of the pod's first interface.
    pub fn new(veth: VethPair) -> Self {
        Self {
            veth,
            further: Vec::new(),
            devices: Vec::new(),
            pod_addresses: Vec::new(),
            pod_neighbours: Vec::new(),
            pod_routes: Vec::new(),
            pod_rules: Vec::new(),
            host_routes: Vec::new(),
            host_rules: Vec::new(),
            tags: Vec::new(),
        }
    }

    /// The pairs of all its interfaces, in their order.
    pub fn pairs(&self) -> impl Iterator<Item = &VethPair> {
        std::iter::once(&self.veth).chain(&self.further)
    }
}

/// What one attachment needs in the kernel, by how its pod is joined to the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodPlan {
    /// By veth pairs.
    Veth(PodNet),
    /// By an ipvlan device of its ENI.
    Ipvlan(IpvlanPod),
}

impl PodPlan {
    /// In the pod: its addresses.
    pub fn addresses(&self) -> &[LinkAddress] {
        match self {
            Self::Veth(net) => &net.pod_addresses,
            Self::Ipvlan(pod) => &pod.addresses,
        }
    }

    /// On the node: routes.
    pub fn host_routes(&self) -> &[Route] {
        match self {
            Self::Veth(net) => &net.host_routes,
            Self::Ipvlan(pod) => &pod.host_routes,
        }
    }

    /// On the node: rules.
    pub fn host_rules(&self) -> &[Rule] {
        match self {
            Self::Veth(net) => &net.host_rules,
            Self::Ipvlan(_) => &[],
        }
    }

    /// Devices of the node that are in the pod while it lives.
    pub fn devices(&self) -> &[Device] {
        match self {
            Self::Veth(net) => &net.devices,
            Self::Ipvlan(_) => &[],
        }
    }
}

/// Everything one ENI needs on the node before a pod can use an address of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EniNet {
    /// The ENI's link, found by its MAC.
    pub link: InterfaceName,
    /// MTU of it.
    pub mtu: u32,
    /// Addresses the node itself has on it; none in the mode that gives all of them to pods.
    pub addresses: Vec<LinkAddress>,
    /// Routes in the ENI's table.
    pub routes: Vec<Route>,
    /// The tags of all trunk pods, when it is the trunk ENI. Those that are there stay there: a pod's own
    /// plan brings and takes them; this is for a trunk that is set up, or a process that starts, with
    /// pods already there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<Tag>>,
    /// The rules of those pods: of ours, only these may lead to and from the addresses they name. They
    /// follow a configuration that changed while the pods stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What pods on ipvlan devices of it need beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipvlan: Option<IpvlanEni>,
}

/// How answers of pods find back the way the question came. A connection that came in by `uplink` was
/// translated to the pod on the node, so only the node's own routes lead its answers through the
/// translation and past a cloud that checks sources; the table of the pod's ENI does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReturnPath {
    /// The link of the node's own ENI.
    pub uplink: InterfaceName,
    /// How the names of the node's ends of pod links begin.
    pub pod_links: String,
    /// Families with pods.
    pub families: Vec<Family>,
}

/// How a pod with an ENI wholly its own reaches Services by the node. Its packets leave the node under
/// the node's address, since the cloud lets the pod's leave by the pod's ENI only; so do those that come
/// through the node to the pod, or it would answer past it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServicePath {
    /// The group of the node's ends of such pods' links.
    pub group: u32,
    /// How the names of the node's ends of all pod links begin.
    pub pod_links: String,
    /// Families with pods.
    pub families: Vec<Family>,
}

/// In whose view of `/proc/sys` a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SysctlScope {
    /// The node's network namespace.
    Node,
    /// The pod's.
    Pod,
}

/// One value under `/proc/sys`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sysctl {
    /// The node's view or the pod's.
    pub scope: SysctlScope,
    /// Path below `/proc/sys`, for example `net/ipv4/conf/eth1/rp_filter`.
    pub path: String,
    /// What shall stand there.
    pub value: String,
}

/// A link of the node, as observed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: InterfaceName,
    /// Its index, of which the ENI's table id is made.
    pub index: u32,
    /// Its MAC.
    pub mac: Mac,
    /// Whether it is administratively up.
    pub up: bool,
}
