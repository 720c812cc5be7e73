//! The things of a region: instances and ENIs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use model::{
    EniId, EniKind, EniStatus, InstanceId, Ipv4Prefix, Mac, SecurityGroupId, Timestamp, VSwitchId,
    ZoneId,
};
use serde::{Deserialize, Serialize};

/// What an instance shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Its id; one is made when absent.
    pub id: Option<InstanceId>,
    /// Its name, as people see it.
    pub name: String,
    /// Its type, for example `ecs.g7.xlarge`; see [`crate::instance_types()`].
    pub instance_type: String,
    /// The vSwitch of its primary ENI.
    pub vswitch: VSwitchId,
    /// The security groups of its primary ENI.
    pub security_groups: Vec<SecurityGroupId>,
    /// The RAM role whose credentials its metadata shows.
    pub ram_role: Option<String>,
}

/// A running instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: String,
    /// Its type.
    pub instance_type: String,
    /// Its zone.
    pub zone: ZoneId,
    /// The vSwitch of its primary ENI.
    pub vswitch: VSwitchId,
    /// The gateway of that vSwitch.
    pub gateway: Ipv4Addr,
    /// Bits of that vSwitch's mask.
    pub prefix_len: u8,
    /// Its primary ENI.
    pub primary_eni: EniId,
    /// Ethernet address of its primary ENI.
    pub primary_mac: Mac,
    /// Address of its primary ENI.
    pub primary_address: Ipv4Addr,
    /// Its RAM role.
    pub ram_role: Option<String>,
    /// When it was started.
    pub created: Timestamp,
}

/// A member ENI's place on its trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ride {
    /// The trunk ENI.
    pub trunk: EniId,
    /// The VLAN that carries the member's packets there, 1 to 4094.
    pub vlan: u16,
}

/// An ENI in every detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Eni {
    pub(crate) id: EniId,
    pub(crate) kind: EniKind,
    pub(crate) status: EniStatus,
    pub(crate) mac: Mac,
    pub(crate) vswitch: VSwitchId,
    pub(crate) zone: ZoneId,
    pub(crate) primary: Ipv4Addr,
    pub(crate) secondary: BTreeSet<Ipv4Addr>,
    pub(crate) prefixes: BTreeSet<Ipv4Prefix>,
    pub(crate) security_groups: Vec<SecurityGroupId>,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) resource_group: String,
    pub(crate) traffic_mode: &'static str,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) created: Timestamp,
    pub(crate) delete_on_release: bool,
    pub(crate) source_dest_check: bool,
    /// The instance it is attached to, or on its way to or from.
    pub(crate) instance: Option<InstanceId>,
    /// Where it rides while it is a member.
    pub(crate) ride: Option<Ride>,
}

impl Eni {
    /// Its own addresses, the primary one first; not those of its prefixes.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (Ipv4Addr, bool)> {
        let secondary = self.secondary.iter().map(|address| (*address, false));
        std::iter::once((self.primary, true)).chain(secondary)
    }

    /// Places it has used up of those its instance type gives: a prefix takes one.
    pub(crate) fn places(&self) -> usize {
        1 + self.secondary.len() + self.prefixes.len()
    }
}

/// The words of the API for kinds of ENI.
pub(crate) const KINDS: [(&str, EniKind); 4] = [
    ("Primary", EniKind::Primary),
    ("Secondary", EniKind::Secondary),
    ("Trunk", EniKind::Trunk),
    ("Member", EniKind::Member),
];

/// The words of the API for states of an ENI.
pub(crate) const STATUSES: [(&str, EniStatus); 5] = [
    ("Available", EniStatus::Available),
    ("Attaching", EniStatus::Attaching),
    ("InUse", EniStatus::InUse),
    ("Detaching", EniStatus::Detaching),
    ("Deleting", EniStatus::Deleting),
];

pub(crate) fn kind_word(kind: EniKind) -> &'static str {
    word_of(&KINDS, kind)
}

pub(crate) fn status_word(status: EniStatus) -> &'static str {
    word_of(&STATUSES, status)
}

fn word_of<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words
        .iter()
        .find(|(_, known)| *known == value)
        .map_or("", |(word, _)| word)
}
