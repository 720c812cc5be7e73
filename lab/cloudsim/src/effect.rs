//! What a change in the region means for wires and forwarding: the stage's orders.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{EniId, InstanceId, Mac, SecurityGroupId};
use serde::{Deserialize, Serialize};

use crate::{group::SecurityGroup, state::Ride};

/// One change of the network that a call or the passing of time brought about.
///
/// Effects come in the order in which they happened and are complete: whoever applies all of them
/// has the region's network. Ownership of addresses and the plugging of links are told apart, as an
/// ENI owns its addresses from its creation on, attached or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// An attach is complete: the instance has a new link.
    Plug {
        /// The ENI.
        eni: EniId,
        /// Ethernet address of the link on the instance.
        mac: Mac,
        /// The instance.
        instance: InstanceId,
        /// Whether it is the instance's own ENI, which came with it.
        primary: bool,
        /// Whether the fabric drops packets whose source the ENI does not own.
        source_dest_check: bool,
        /// Its security groups.
        groups: Vec<SecurityGroupId>,
    },
    /// An ENI has become a trunk's member: its packets are those of the trunk's link under its VLAN.
    PlugMember {
        /// The ENI.
        eni: EniId,
        /// Its Ethernet address, which no link of the instance has.
        mac: Mac,
        /// The instance of the trunk.
        instance: InstanceId,
        /// The trunk ENI and the VLAN there.
        ride: Ride,
        /// As for [`Effect::Plug`].
        source_dest_check: bool,
        /// Its security groups.
        groups: Vec<SecurityGroupId>,
    },
    /// A detach is complete, or the instance was released: the link is gone, or the member has left
    /// its trunk. Members leave before their trunk does.
    Unplug {
        /// The ENI.
        eni: EniId,
        /// The instance it was attached to.
        instance: InstanceId,
    },
    /// An address belongs to an ENI from now on.
    Own {
        /// The address.
        address: IpAddr,
        /// Its ENI.
        eni: EniId,
    },
    /// An address belongs to nobody any more.
    Disown {
        /// The address.
        address: IpAddr,
        /// The ENI that had it.
        eni: EniId,
    },
    /// The source and destination check of an ENI was switched.
    SourceDestCheck {
        /// The ENI.
        eni: EniId,
        /// Whether the fabric checks from now on.
        enabled: bool,
    },
    /// The route table leads this block to an ENI from now on: to the primary one of an instance.
    Route {
        /// The block.
        destination: IpNet,
        /// The ENI.
        eni: EniId,
    },
    /// The route table has no entry for this block any more.
    Unroute {
        /// The block.
        destination: IpNet,
    },
    /// An ENI is in these security groups from now on, and in no others.
    Join {
        /// The ENI.
        eni: EniId,
        /// Its groups.
        groups: Vec<SecurityGroupId>,
    },
    /// A security group is new, or no longer what it was. Those a region starts with come without; see
    /// [`crate::Region::security_groups`].
    Group(SecurityGroup),
    /// A security group, which no ENI was in, is no more.
    GroupGone(SecurityGroupId),
}
