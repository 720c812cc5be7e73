//! The rows of the ledger: ENIs, addresses, attachments, open calls.
//!
//! A row is written and read whole; what a later release adds has a default, so that rows of an earlier
//! one stay readable. Must never know which changes are allowed.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{
    AttachmentKey, DualStack, EniId, InterfaceName, Ipv4Prefix, Mac, PodKey, PodUid, Timestamp,
    VSwitchId, net::Link,
};
use serde::{Deserialize, Serialize};

use super::Intent;
use crate::netplan::LocalTraffic;

/// How far an ENI of ours has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EniStage {
    /// The cloud made it; it is attached to nothing.
    Created,
    /// An attach was asked for.
    Attaching,
    /// It is attached to this node: its link is here, or the cloud says so.
    Attached,
    /// It is to go: a detach is due or under way.
    Detaching,
    /// It is off the node; its deletion is due or under way.
    Deleting,
}

/// An ENI of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniEntry {
    /// Its id.
    pub id: EniId,
    /// Its MAC, by which its link is found.
    pub mac: Mac,
    /// Where its addresses come from.
    pub vswitch: VSwitchId,
    /// How far it has come.
    pub stage: EniStage,
    /// Whether it is the trunk, which carries the ENIs of trunk pods beside addresses of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trunk: bool,
    /// The vSwitch's gateways, once metadata told them.
    pub gateway: DualStack<IpAddr>,
    /// The vSwitch's blocks, once metadata told them.
    pub subnet: DualStack<IpNet>,
}

/// What an address is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressState {
    /// The cloud assigned it; the node has not been seen to be able to use it.
    Fresh,
    /// Free for the next pod since then.
    Idle {
        /// When it became free.
        since: Timestamp,
    },
    /// Held by an attachment.
    Assigned {
        /// The attachment.
        to: AttachmentKey,
    },
    /// Given back and resting, so that nobody still talks to its last pod.
    Resting {
        /// When it is free again.
        until: Timestamp,
    },
    /// Being handed back to the cloud.
    Releasing,
}

/// An address of an ENI of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressEntry {
    /// The address.
    pub address: IpAddr,
    /// Its ENI.
    pub eni: EniId,
    /// Whether it is the ENI's primary address, which the cloud takes back only with the ENI.
    pub primary: bool,
    /// The prefix it came in, if it did: the cloud knows it, and takes it back, only as that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Ipv4Prefix>,
    /// What it is doing.
    pub state: AddressState,
    /// How many trustworthy answers of the cloud in a row did not list it. It is handed out only
    /// while this is zero.
    pub unseen: u8,
    /// The pod it waits for, if its last one's name comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Reservation>,
}

/// An address that waits for a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The pod.
    pub pod: PodKey,
    /// Until when it waits.
    pub until: Timestamp,
}

/// A sandbox's interface and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Sandbox and interface.
    pub key: AttachmentKey,
    /// The pod.
    pub pod: PodKey,
    /// The pod's UID, when the runtime passed it.
    pub uid: Option<PodUid>,
    /// Path of the network namespace at the time, for the CNI result only.
    pub netns: String,
    /// The addresses of its interface.
    pub addresses: DualStack<IpAddr>,
    /// The ENI its packets leave by: the trunk for a trunk pod, its own for a pod that has it whole.
    pub eni: EniId,
    /// Name of the veth end on the node; of a pod that has none, the one it would have.
    pub host_link: InterfaceName,
    /// How the pod is joined to the node. It stays so while the pod lives, whatever the configuration says later.
    #[serde(default, skip_serializing_if = "Joint::is_veth")]
    pub joint: Joint,
    /// MTU at the time.
    pub mtu: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Whether the runtime has since asked for another sandbox of the pod. It stays true when that one
    /// is gone.
    #[serde(default)]
    pub superseded: bool,
    /// Whether its addresses wait for the pod when it is gone.
    #[serde(default)]
    pub sticky: bool,
    /// The ENI of its own that a trunk pod has. Its addresses are that ENI's then and of no pool, and
    /// [`Attachment::eni`] is the trunk that carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Box<Member>>,
    /// What a trunk pod has beside that interface, in the order of its PodENI: one row, so that all of
    /// them stand or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Further>,
}

/// How a pod is joined to the node. A row that does not say so is of a release that knew veth pairs only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Joint {
    /// By veth pairs.
    #[default]
    Veth,
    /// By an ipvlan device of the ENI whose link was this when the pod came.
    Ipvlan(Link),
}

impl Joint {
    /// Whether it is by veth pairs.
    pub fn is_veth(&self) -> bool {
        *self == Self::Veth
    }
}

/// A further interface of a trunk pod, with an ENI of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Further {
    /// Its name in the pod.
    pub interface: InterfaceName,
    /// Name of the veth end on the node.
    pub host_link: InterfaceName,
    /// Its addresses.
    pub addresses: DualStack<IpAddr>,
    /// Its ENI.
    pub member: Member,
}

/// One interface of an attachment, the first like the further ones.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a> {
    /// Its name in the pod.
    pub interface: &'a InterfaceName,
    /// Name of the veth end on the node.
    pub host_link: &'a InterfaceName,
    /// Its addresses.
    pub addresses: &'a DualStack<IpAddr>,
    /// The ENI of its own that a trunk pod's has.
    pub member: Option<&'a Member>,
}

impl Attachment {
    /// The interface the runtime asked for.
    pub fn first(&self) -> Wire<'_> {
        Wire {
            interface: &self.key.interface,
            host_link: &self.host_link,
            addresses: &self.addresses,
            member: self.member.as_deref(),
        }
    }

    /// All its interfaces: the one the runtime asked for, then those its PodENI names beside it. A runtime
    /// that takes the first address of a result takes the pod's.
    pub fn wires(&self) -> impl Iterator<Item = Wire<'_>> {
        let further = self.further.iter().map(|it| Wire {
            interface: &it.interface,
            host_link: &it.host_link,
            addresses: &it.addresses,
            member: Some(&it.member),
        });
        std::iter::once(self.first()).chain(further)
    }

    /// The ENIs of its own that a trunk pod has.
    pub fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        let further = self.further.iter_mut().map(|it| &mut it.member);
        self.member.as_deref_mut().into_iter().chain(further)
    }

    /// Whether it has ENIs wholly its own, whose packets pass the node only on their way to a Service.
    pub fn is_whole(&self) -> bool {
        self.member.as_ref().is_some_and(|it| it.device().is_some())
    }

    /// The addresses of all its interfaces.
    pub fn every_address(&self) -> impl Iterator<Item = IpAddr> {
        self.wires()
            .flat_map(|wire| wire.addresses.iter().map(|(_, address)| *address))
    }

    /// Whether one of its interfaces has `address`.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.every_address().any(|own| own == address)
    }
}

/// An ENI of a pod's own, as it was when the pod was attached: a restart needs nobody to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub eni: EniId,
    /// How it reaches the pod.
    #[serde(flatten)]
    pub reach: Reach,
    /// The blocks of its vSwitch.
    pub subnet: DualStack<IpNet>,
    /// Whether the pod's default route goes by its interface.
    #[serde(default = "alone")]
    pub default_route: bool,
    /// Further destinations that go by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<IpNet>,
    /// Which way packets between the pod and others of its node take.
    #[serde(default)]
    pub local: LocalTraffic,
}

impl Member {
    /// Its VLAN on the trunk, if it is a member of one.
    pub fn vlan(&self) -> Option<u16> {
        match self.reach {
            Reach::Vlan(vlan) => Some(vlan),
            Reach::Device(_) => None,
        }
    }

    /// Its device, if the pod has that.
    pub fn device(&self) -> Option<&Lent> {
        match &self.reach {
            Reach::Vlan(_) => None,
            Reach::Device(lent) => Some(lent),
        }
    }
}

/// How an ENI of a pod's own reaches the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// As a member of the trunk, under this VLAN.
    Vlan(u16),
    /// As a device in the pod.
    Device(Lent),
}

/// The device of an ENI while a pod has it, and what the pod needs to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// Its MAC.
    pub mac: Mac,
    /// Its name on the node when the pod came.
    pub home: InterfaceName,
    /// Whether it was up then.
    pub up: bool,
    /// Its vSwitch's gateways.
    pub gateway: DualStack<IpAddr>,
    /// What the pod reaches by the node and not by the ENI: Services, programs of the node, and the
    /// node itself.
    pub by_host: Vec<IpNet>,
}

/// A row that does not say so is of a release whose trunk pods had one interface.
fn alone() -> bool {
    true
}

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// An ENI.
    Eni(EniEntry),
    /// An address.
    Address(AddressEntry),
    /// An attachment.
    Attachment(Attachment),
    /// An open call.
    Intent(Intent),
}

/// The identity of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EntryKey {
    /// An ENI.
    Eni(EniId),
    /// An address.
    Address(IpAddr),
    /// An attachment.
    Attachment(AttachmentKey),
    /// An open call.
    Intent(u64),
}

impl Entry {
    /// The row's identity.
    pub fn key(&self) -> EntryKey {
        match self {
            Entry::Eni(eni) => EntryKey::Eni(eni.id.clone()),
            Entry::Address(address) => EntryKey::Address(address.address),
            Entry::Attachment(attachment) => EntryKey::Attachment(attachment.key.clone()),
            Entry::Intent(intent) => EntryKey::Intent(intent.id),
        }
    }
}
