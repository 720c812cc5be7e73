//! The region's things and the rules by which they change.
//!
//! Every change goes through here, so that accounting, effects, late views and due transitions can't
//! drift apart. Nothing here knows about signatures, JSON or parameters.

mod addresses;
mod groups;
mod life;
mod members;
mod routes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::{
    EniId, EniKind, EniStatus, InstanceId, RouteEntryId, SecurityGroupId, Timestamp, VSwitchId,
};

use crate::{
    config::RegionConfig,
    dice::Dice,
    effect::Effect,
    fault::Faults,
    group::SecurityGroup,
    history::History,
    instance_types::{InstanceType, instance_type},
    refusal::{Outcome, Refusal},
    state::{Eni, Instance},
    vswitch::VSwitch,
};

/// What happens to an ENI when its time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Due {
    Attached(EniId),
    Detached(EniId),
    Deleted(EniId),
    RouteMade(RouteEntryId),
    RouteDeleted(RouteEntryId),
}

pub(crate) use addresses::{ADDRESSES_UNATTACHED, Wanted};
pub(crate) use routes::{NewRoute, ROUTE_TABLE, Route, RouteStatus};

/// All things of the region.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) config: RegionConfig,
    pub(crate) dice: Dice,
    pub(crate) faults: Faults,
    pub(crate) vswitches: BTreeMap<VSwitchId, VSwitch>,
    pub(crate) enis: BTreeMap<EniId, Eni>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) groups: BTreeMap<SecurityGroupId, SecurityGroup>,
    pub(crate) routes: BTreeMap<RouteEntryId, Route>,
    pub(crate) history: History,
    pub(crate) effects: VecDeque<Effect>,
    due: BTreeMap<(Timestamp, u64), Due>,
    sequence: u64,
}

impl World {
    pub(crate) fn new(config: RegionConfig) -> Self {
        let vswitch = |spec: &crate::VSwitchSpec| (spec.id.clone(), VSwitch::new(spec.clone()));
        let group = |id: &SecurityGroupId| (id.clone(), SecurityGroup::of_the_account(id.clone()));
        let reach = config.timing.describe_lag.max(config.timing.metadata_lag);
        Self {
            dice: Dice::new(config.seed),
            faults: Faults::default(),
            vswitches: config.vswitches.iter().map(vswitch).collect(),
            enis: BTreeMap::new(),
            instances: BTreeMap::new(),
            groups: config.security_groups.iter().map(group).collect(),
            routes: BTreeMap::new(),
            history: History::new(reach),
            effects: VecDeque::new(),
            due: BTreeMap::new(),
            sequence: 0,
            config,
        }
    }

    // Looking things up.

    pub(crate) fn eni(&self, id: &str) -> Outcome<&Eni> {
        let eni = EniId::new(id).ok().and_then(|id| self.enis.get(&id));
        eni.ok_or_else(|| Refusal::no_eni(id))
    }

    pub(crate) fn instance(&self, id: &str) -> Outcome<&Instance> {
        let instance = InstanceId::new(id)
            .ok()
            .and_then(|id| self.instances.get(&id));
        instance.ok_or_else(|| Refusal::no_instance(id))
    }

    pub(crate) fn vswitch(&self, id: &str) -> Outcome<&VSwitch> {
        let vswitch = VSwitchId::new(id)
            .ok()
            .and_then(|id| self.vswitches.get(&id));
        vswitch.ok_or_else(|| Refusal::no_vswitch(id))
    }

    fn type_of(&self, instance: &InstanceId) -> Option<&'static InstanceType> {
        instance_type(&self.instances.get(instance)?.instance_type)
    }

    /// ENIs of an instance, the ones on their way included: a place is taken from the call on.
    pub(crate) fn enis_of<'a>(&'a self, instance: &'a InstanceId) -> impl Iterator<Item = &'a Eni> {
        let of = move |eni: &&Eni| eni.instance.as_ref() == Some(instance);
        self.enis.values().filter(of)
    }

    /// Addresses `vswitch` can give right now.
    pub(crate) fn free(&self, vswitch: &VSwitch) -> usize {
        if self.faults.is_full(&vswitch.spec.id) {
            0
        } else {
            vswitch.free()
        }
    }

    // ENIs.

    /// A MAC that no ENI of the region has. 2^24 of them against hundreds of ENIs: a second draw is rare.
    pub(crate) fn fresh_mac(&mut self) -> model::Mac {
        let taken: BTreeSet<_> = self.enis.values().map(|eni| eni.mac).collect();
        loop {
            let mac = self.dice.mac();
            if !taken.contains(&mac) {
                return mac;
            }
        }
    }

    /// Adds an ENI whose addresses have been taken.
    pub(crate) fn add(&mut self, now: Timestamp, eni: Eni) {
        let id = eni.id.clone();
        for (address, _) in eni.addresses() {
            self.own(address, &id);
        }
        for prefix in &eni.prefixes {
            self.own_prefix(*prefix, &id);
        }
        self.history.record(now, &id, Some(eni.clone()));
        self.enis.insert(id, eni);
    }

    /// Changes an ENI and remembers the new version.
    pub(crate) fn change(&mut self, now: Timestamp, id: &EniId, apply: impl FnOnce(&mut Eni)) {
        if let Some(eni) = self.enis.get_mut(id) {
            apply(eni);
            self.history.record(now, id, Some(eni.clone()));
        }
    }

    // Time.

    fn later(&mut self, time: Timestamp, due: Due) {
        self.sequence += 1;
        self.due.insert((time, self.sequence), due);
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.due.keys().next().map(|(time, _)| *time)
    }

    /// Carries out what is due, each at the time it was due at.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((time, _), due) = entry.remove_entry();
            match due {
                Due::Attached(id) => self.plugged(time, &id),
                Due::Detached(id) => self.unplug(time, &id),
                Due::Deleted(id) => self.remove(time, &id),
                Due::RouteMade(id) => self.route_made(&id),
                Due::RouteDeleted(id) => self.route_deleted(&id),
            }
        }
    }

    fn plugged(&mut self, time: Timestamp, id: &EniId) {
        self.change(time, id, |eni| eni.status = EniStatus::InUse);
        self.plug(id);
    }

    /// Says that an ENI is on its instance.
    pub(crate) fn plug(&mut self, id: &EniId) {
        let Some(eni) = self.enis.get(id) else { return };
        let Some(instance) = eni.instance.clone() else {
            return;
        };
        let (mac, source_dest_check) = (eni.mac, eni.source_dest_check);
        let groups = eni.security_groups.clone();
        let eni_id = id.clone();
        self.effects.push_back(match eni.ride.clone() {
            Some(ride) => Effect::PlugMember {
                eni: eni_id,
                mac,
                instance,
                ride,
                source_dest_check,
                groups,
            },
            None => Effect::Plug {
                eni: eni_id,
                mac,
                instance,
                primary: eni.kind == EniKind::Primary,
                source_dest_check,
                groups,
            },
        });
    }
}
