//! The cloud's objects, as far as decisions need them, free of any wire format.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{EniId, InstanceId, Ipv4Prefix, Mac, SecurityGroupId, VSwitchId, VpcId, ZoneId};

/// What kind of interface an ENI is (ECS API, field `Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EniKind {
    /// Came with the instance; never ours to detach or delete.
    Primary,
    /// An additional interface.
    Secondary,
    /// Carries member ENIs by VLAN.
    Trunk,
    /// Lives on a trunk.
    Member,
}

/// Where an ENI is in its life (ECS API, field `Status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EniStatus {
    /// Exists, attached to nothing.
    Available,
    /// On its way to an instance.
    Attaching,
    /// Attached.
    InUse,
    /// On its way off an instance.
    Detaching,
    /// On its way out of the world.
    Deleting,
}

/// One private address of an ENI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PrivateIp {
    /// The address.
    pub address: IpAddr,
    /// Whether it is the ENI's primary address, which lives and dies with it: the cloud takes it back
    /// only with the ENI. It serves a pod like any other.
    pub primary: bool,
}

/// An ENI as the cloud describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eni {
    /// Its id.
    pub id: EniId,
    /// Its Ethernet address: how the node finds the link.
    pub mac: Mac,
    /// Primary, Secondary, Trunk or Member.
    pub kind: EniKind,
    /// Where it is in its life.
    pub status: EniStatus,
    /// The instance it is attached to, if any.
    pub instance: Option<InstanceId>,
    /// The vSwitch its addresses come from.
    pub vswitch: VSwitchId,
    /// The VPC of that vSwitch, when the answer names it.
    pub vpc: Option<VpcId>,
    /// The zone of that vSwitch.
    pub zone: ZoneId,
    /// Its security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// Its addresses, the primary one included and those of its prefixes not.
    pub addresses: Vec<PrivateIp>,
    /// The prefixes it holds beside them; each takes the place of one address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<Ipv4Prefix>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Eni {
    /// The primary IPv4 address, if the answer had one.
    pub fn primary_address(&self) -> Option<IpAddr> {
        self.addresses
            .iter()
            .find(|ip| ip.primary)
            .map(|ip| ip.address)
    }

    /// Its addresses that can be taken back one by one.
    pub fn secondary_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses
            .iter()
            .filter(|ip| !ip.primary)
            .map(|ip| ip.address)
    }
}

/// A vSwitch as the cloud describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VSwitch {
    /// Its id.
    pub id: VSwitchId,
    /// Its zone.
    pub zone: ZoneId,
    /// Free IPv4 addresses at the time of the answer.
    pub available_addresses: u32,
    /// Its IPv4 block.
    pub cidr: ipnet::Ipv4Net,
    /// Its IPv6 block, if it has one.
    pub ipv6_cidr: Option<ipnet::Ipv6Net>,
}

/// What an instance type allows (ECS API DescribeInstanceTypes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceLimits {
    /// ENIs, the primary one included (`EniQuantity`).
    pub enis: u32,
    /// IPv4 addresses an ENI, the primary one included (`EniPrivateIpAddressQuantity`).
    pub ipv4_per_eni: u32,
    /// IPv6 addresses an ENI (`EniIpv6AddressQuantity`).
    pub ipv6_per_eni: u32,
    /// ENIs and trunk members together (`EniTotalQuantity`).
    pub enis_total: u32,
    /// Whether one of the ENIs may be a trunk (`EniTrunkSupported`).
    pub trunk: bool,
}
