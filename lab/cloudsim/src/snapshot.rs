//! The region at one moment, for people, pages and checks.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use model::{
    EniId, EniKind, EniStatus, InstanceId, Ipv4Prefix, Mac, RegionId, VSwitchId, VpcId, ZoneId,
};
use serde::{Deserialize, Serialize};

use crate::{
    state::{Eni, Instance, Ride},
    world::World,
};

/// An ENI as the region really has it, no view's lag applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniView {
    /// Its id.
    pub id: EniId,
    /// Primary, Secondary, Trunk, or Member while it is on a trunk.
    pub kind: EniKind,
    /// Where it is in its life.
    pub status: EniStatus,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its vSwitch.
    pub vswitch: VSwitchId,
    /// Its zone.
    pub zone: ZoneId,
    /// The instance it is attached to, or on its way to or from.
    pub instance: Option<InstanceId>,
    /// Where it rides while it is a member.
    pub ride: Option<Ride>,
    /// Its primary address.
    pub primary: Ipv4Addr,
    /// Its secondary addresses.
    pub secondary: Vec<Ipv4Addr>,
    /// Its prefixes.
    #[serde(default)]
    pub prefixes: Vec<Ipv4Prefix>,
    /// Whether the fabric checks its sources.
    pub source_dest_check: bool,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A vSwitch and how full it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VSwitchView {
    /// Its id.
    pub id: VSwitchId,
    /// Its zone.
    pub zone: ZoneId,
    /// Its block.
    pub cidr: Ipv4Net,
    /// Its gateway.
    pub gateway: Ipv4Addr,
    /// Addresses it can still give out.
    pub free: usize,
}

/// Everything in the region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionSnapshot {
    /// The region.
    pub region: RegionId,
    /// Its VPC.
    pub vpc: VpcId,
    /// The VPC's block.
    pub vpc_cidr: Ipv4Net,
    /// The vSwitches, by id.
    pub vswitches: Vec<VSwitchView>,
    /// The instances, by id.
    pub instances: Vec<Instance>,
    /// The ENIs, by id.
    pub enis: Vec<EniView>,
}

pub(crate) fn of(world: &World) -> RegionSnapshot {
    let eni = |eni: &Eni| EniView {
        id: eni.id.clone(),
        kind: eni.kind,
        status: eni.status,
        mac: eni.mac,
        vswitch: eni.vswitch.clone(),
        zone: eni.zone.clone(),
        instance: eni.instance.clone(),
        ride: eni.ride.clone(),
        primary: eni.primary,
        secondary: eni.secondary.iter().copied().collect(),
        prefixes: eni.prefixes.iter().copied().collect(),
        source_dest_check: eni.source_dest_check,
        tags: eni.tags.clone(),
    };
    let vswitches = world.vswitches.values().map(|vswitch| VSwitchView {
        id: vswitch.spec.id.clone(),
        zone: vswitch.spec.zone.clone(),
        cidr: vswitch.spec.cidr,
        gateway: vswitch.gateway(),
        free: world.free(vswitch),
    });
    RegionSnapshot {
        region: world.config.region.clone(),
        vpc: world.config.vpc.clone(),
        vpc_cidr: world.config.vpc_cidr,
        vswitches: vswitches.collect(),
        instances: world.instances.values().cloned().collect(),
        enis: world.enis.values().map(eni).collect(),
    }
}
