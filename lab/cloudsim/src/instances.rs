//! Starting and releasing instances: what the lab does to the region without a signed call.

use std::collections::{BTreeMap, BTreeSet};

use model::{EniId, EniKind, EniStatus, InstanceId, SecurityGroupId, Timestamp, VSwitchId};

use crate::{
    Region,
    instance_types::instance_type,
    state::{Eni, Instance, InstanceSpec},
    world::{Wanted, World},
};

/// Why an instance could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The region offers no such type.
    #[error(
        "instance type {0:?} is not offered: see cloudsim::instance_types() for those that are"
    )]
    InstanceType(String),
    /// An instance of this id runs already.
    #[error("instance {0} runs already: release it or choose another id")]
    Taken(InstanceId),
    /// The region has no such vSwitch.
    #[error("vSwitch {0} does not exist in the region's configuration")]
    VSwitch(VSwitchId),
    /// The region has no such security group.
    #[error("security group {0} does not exist in the region")]
    SecurityGroup(SecurityGroupId),
    /// The region has no such RAM role.
    #[error("RAM role {0:?} does not exist in the region's configuration")]
    Role(String),
    /// No address for the primary ENI.
    #[error("vSwitch {0} has no free address for the instance's primary ENI")]
    VSwitchFull(VSwitchId),
}

impl Region {
    /// Starts an instance with its primary ENI, which is plugged at once.
    ///
    /// # Errors
    /// When the region has not what the specification names; see [`RunError`].
    pub fn run_instance(
        &mut self,
        now: Timestamp,
        spec: InstanceSpec,
    ) -> Result<Instance, RunError> {
        self.advance(now);
        let world = &mut self.world;
        check(world, &spec)?;
        let Some(vswitch) = world.vswitches.get(&spec.vswitch) else {
            return Err(RunError::VSwitch(spec.vswitch));
        };
        let (zone, gateway) = (vswitch.spec.zone.clone(), vswitch.gateway());
        let prefix_len = vswitch.spec.cidr.prefix_len();
        let made =
            |world: &mut World| InstanceId::new(world.dice.id("i")).expect("a word is an id");
        let id = spec.id.unwrap_or_else(|| made(world));
        if world.instances.contains_key(&id) {
            return Err(RunError::Taken(id));
        }
        let wanted = Wanted {
            named: Vec::new(),
            any: 1,
        };
        let address = world
            .take(&spec.vswitch, &wanted)
            .ok()
            .and_then(|mut taken| taken.pop());
        let Some(primary_address) = address else {
            return Err(RunError::VSwitchFull(spec.vswitch));
        };
        let primary_eni = EniId::new(world.dice.id("eni")).expect("a word is an id");
        let instance = Instance {
            id: id.clone(),
            name: spec.name,
            instance_type: spec.instance_type,
            zone,
            vswitch: spec.vswitch,
            gateway,
            prefix_len,
            primary_eni: primary_eni.clone(),
            primary_mac: world.fresh_mac(),
            primary_address,
            ram_role: spec.ram_role,
            created: now,
        };
        world.instances.insert(id, instance.clone());
        let eni = primary(
            &instance,
            spec.security_groups,
            world.config.source_dest_check,
        );
        world.add(now, eni);
        world.plug(&primary_eni);
        Ok(instance)
    }

    /// Ends an instance: its ENIs are unplugged; the primary one and those with `DeleteOnRelease` end
    /// with it, the others stay Available. False when no such instance runs.
    pub fn release_instance(&mut self, now: Timestamp, id: &InstanceId) -> bool {
        self.advance(now);
        let world = &mut self.world;
        if !world.instances.contains_key(id) {
            return false;
        }
        let enis: Vec<(EniId, bool)> = world
            .enis_of(id)
            .map(|eni| {
                (
                    eni.id.clone(),
                    eni.kind == EniKind::Primary || eni.delete_on_release,
                )
            })
            .collect();
        for (eni, ends) in enis {
            world.unplug(now, &eni);
            if ends {
                world.remove(now, &eni);
            }
        }
        world.instances.remove(id);
        true
    }
}

/// Whether the region has what `spec` names.
fn check(world: &World, spec: &InstanceSpec) -> Result<(), RunError> {
    if instance_type(&spec.instance_type).is_none() {
        return Err(RunError::InstanceType(spec.instance_type.clone()));
    }
    let unknown = |group: &&SecurityGroupId| !world.groups.contains_key(*group);
    if let Some(group) = spec.security_groups.iter().find(unknown) {
        return Err(RunError::SecurityGroup(group.clone()));
    }
    match &spec.ram_role {
        Some(role) if !world.config.roles.contains_key(role) => Err(RunError::Role(role.clone())),
        _ => Ok(()),
    }
}

fn primary(
    instance: &Instance,
    security_groups: Vec<SecurityGroupId>,
    source_dest_check: bool,
) -> Eni {
    Eni {
        id: instance.primary_eni.clone(),
        kind: EniKind::Primary,
        status: EniStatus::InUse,
        mac: instance.primary_mac,
        vswitch: instance.vswitch.clone(),
        zone: instance.zone.clone(),
        primary: instance.primary_address,
        secondary: BTreeSet::new(),
        prefixes: BTreeSet::new(),
        security_groups,
        name: String::new(),
        description: String::new(),
        resource_group: String::new(),
        traffic_mode: "Standard",
        tags: BTreeMap::new(),
        created: instance.created,
        delete_on_release: true,
        source_dest_check,
        instance: Some(instance.id.clone()),
        ride: None,
    }
}
