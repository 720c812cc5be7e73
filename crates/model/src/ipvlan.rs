//! Kernel state as data, for pods on ipvlan devices: an ENI's link has a slave in every pod and one on the
//! node, all with the ENI's MAC, and the kernel gives a frame to the slave that has its destination (mode
//! L2, Documentation/networking/ipvlan.rst).

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    InterfaceName,
    net::{LinkAddress, Route},
};

/// What one ENI needs on the node before a pod can have a slave of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IpvlanEni {
    /// The ENI's link, found by its MAC.
    pub link: InterfaceName,
    /// MTU of it and of the node's slave.
    pub mtu: u32,
    /// The node's slave. The link itself never talks to a slave, so by this one node and pods do.
    pub slave: InterfaceName,
    /// What pods send here is the node's to take: its own addresses, Services, and what the configuration
    /// names.
    pub to_host: Vec<IpNet>,
}

/// Everything one attachment on a slave needs in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IpvlanPod {
    /// The ENI's link.
    pub link: InterfaceName,
    /// The pod's slave, as it is called in the pod.
    pub device: InterfaceName,
    /// MTU of it.
    pub mtu: u32,
    /// Whose the slave is; written on it, so that it is known for this sandbox's from outside the pod. At
    /// most 255 bytes (IFALIASZ, include/uapi/linux/if.h).
    pub owner: String,
    /// In the pod: addresses on the slave.
    pub addresses: Vec<LinkAddress>,
    /// In the pod: routes.
    pub pod_routes: Vec<Route>,
    /// On the node: routes, over the node's slave.
    pub host_routes: Vec<Route>,
}
