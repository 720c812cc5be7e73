//! What must hold of ENIs that pods share: those kept ready for pods that come, and those a pod leaves to
//! the next one. Judged from cloud and API server, never from what the machine thinks it keeps.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use engine::podeni::CreateEni;
use model::{
    EniId, EniStatus, Timestamp,
    podeni::{Allocation, Phase, PodEni},
    podnetworking::PodNetworking,
};

use super::{
    api::ApiServer,
    cloud::{Cloud, CloudEni, NOBODY},
    oracle::Oracle,
    world::World,
};

/// How long an address rests between two pods (docs/controlplane.md).
const RESTS: Duration = Duration::from_secs(60);

/// How long what is over may take to be given back while the next is made.
const CHANGES: Duration = Duration::from_secs(300);

/// What is known of shared ENIs.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// The record that named each last, by UID, and until when it or its pod had it.
    had: BTreeMap<EniId, (String, Timestamp)>,
    /// Those that were nobody's and that some life began to take away; and which this one began to.
    left: BTreeSet<EniId>,
    leaving: BTreeSet<EniId>,
    /// Those of which this life wants to make a record.
    drawn: BTreeSet<EniId>,
    /// The PodNetworking as this life was told it is.
    networking: Option<PodNetworking>,
    /// When that changed last how many are wanted, or of what.
    changed: Timestamp,
    /// Since when this life lasts.
    since: Timestamp,
    /// The edition of which people know that none can be made; nothing since a call was answered.
    pub(super) failed: Option<String>,
}

impl Spares {
    /// A controller starts and knows nothing.
    pub(super) fn boot(&mut self, now: Timestamp) {
        (self.networking, self.failed, self.since) = (None, None, now);
        self.leaving.clear();
        self.drawn.clear();
    }

    /// This life is told what the PodNetworking is.
    pub(super) fn told(&mut self, now: Timestamp, networking: Option<&PodNetworking>) {
        let wants = |one: &PodNetworking| (one.warm, one.edition.clone());
        if self.networking.as_ref().map(wants) != networking.map(wants) {
            self.changed = now;
        }
        self.networking = networking.cloned();
    }

    /// Whether it is one that pods leave to each other, and not what a record failed to take along.
    pub(super) fn left(&self, eni: &EniId) -> bool {
        self.left.contains(eni)
    }
}

impl Oracle {
    /// Shared ENIs at this instant.
    pub(super) fn check_shared(&mut self, now: Timestamp, api: &ApiServer, cloud: &Cloud) {
        let shared = |eni: &EniId| cloud.enis.get(eni).filter(|one| one.edition.is_some());
        for record in api.records.values() {
            for allocation in &record.allocations {
                let eni = allocation.eni.as_ref();
                if let Some(real) = eni.and_then(|eni| shared(&eni.id)) {
                    self.check_holder(now, record, allocation, real);
                }
            }
        }
        let mut users = BTreeMap::new();
        let live = api.pods.iter().filter(|(_, live)| !live.pod.finished);
        for (key, eni) in
            live.flat_map(|(key, live)| live.uses.iter().map(move |(eni, _)| (key, eni)))
        {
            if let Some(other) = users.insert(eni, key) {
                self.fail("an ENI has one user", format!("{eni}: {other} and {key}"));
            }
            if let Some((_, until)) = self.spares.had.get_mut(eni) {
                *until = now;
            }
        }
    }

    fn check_holder(&mut self, now: Timestamp, record: &PodEni, one: &Allocation, real: &CloudEni) {
        // A hand may have cleared the groups.
        let groups = one.security_groups.is_empty() || one.security_groups == real.security_groups;
        if one.edition != real.edition || one.vswitch != real.vswitch || !groups {
            let text = format!("{} is {one:?}, made as {real:?}", record.key);
            self.fail("a shared ENI is what its pod asks for", text);
        }
        let had = self
            .spares
            .had
            .insert(real.id.clone(), (record.uid.clone(), now));
        if let Some((_, until)) = had.filter(|(uid, _)| *uid != record.uid)
            && now.since(until) < RESTS
        {
            let rested = now.since(until);
            let text = format!("{}, for {} after {rested:?}", real.id, record.key);
            self.fail("a shared address rests its time", text);
        }
    }

    /// An ENI is asked for that no pod asked for.
    pub(super) fn wants_spare(
        &mut self,
        now: Timestamp,
        create: &CreateEni,
        again: bool,
        api: &ApiServer,
        cloud: &Cloud,
    ) {
        let Some(networking) = &self.spares.networking else {
            return;
        };
        let same = create.edition.as_ref() == Some(&networking.edition)
            && create.security_groups == networking.security_groups
            && networking.vswitches.contains(&create.vswitch);
        // Of an edition that is over only what was asked for already is asked for again, to be taken away.
        if !same && !again {
            let text = format!("{create:?} for {networking:?}");
            self.fail("a shared ENI is what its pod asks for", text);
            return;
        }
        let warm = networking.warm;
        let nodes = u32::try_from(api.nodes.len()).unwrap_or(u32::MAX);
        let members = warm.members_per_node.unwrap_or(0) * nodes;
        let wanted = members + warm.enis_per_zone.unwrap_or(0);
        // A record may name one by now though the machine waits for the answer to its write.
        let named = api.records.values().flat_map(|record| &record.allocations);
        let named: BTreeSet<&EniId> = named
            .filter_map(|one| Some(&one.eni.as_ref()?.id))
            .collect();
        let kept = cloud.enis.values().filter(|eni| {
            eni.edition == create.edition
                && !named.contains(&eni.id)
                && self.is_this_lifes(eni)
                && (eni.group == NOBODY || self.spares.had.contains_key(&eni.id))
                && self.nobodys.contains_key(&eni.id)
                && !self.spares.leaving.contains(&eni.id)
                && !self.spares.drawn.contains(&eni.id)
        });
        // One too many on a node waits until the cloud takes it off, which others may keep it from for as long as
        // they use the calls up.
        let (on, free): (Vec<_>, Vec<_>) = kept.partition(|eni| eni.on.is_some());
        let kept = free.len() + on.len().min(members as usize);
        // A record that was torn out leaves an ENI that is nobody's and not kept ready either.
        let settled = !self.torn && now.since(self.spares.changed) >= CHANGES;
        if settled && !again && kept >= wanted as usize {
            let text = format!("one more than {wanted} of {:?}", create.edition);
            self.fail("no more are kept ready than are asked for", text);
        }
    }

    /// A record is to be made that names what is kept ready.
    pub(super) fn draws(&mut self, now: Timestamp, record: &PodEni, cloud: &Cloud) {
        for eni in record.allocations.iter().filter_map(|one| one.eni.as_ref()) {
            let real = cloud.enis.get(&eni.id);
            let found = real.is_some_and(|real| !self.is_this_lifes(real));
            let age = now.since(self.spares.since);
            if found && age < RESTS {
                let text = format!("{} for {}, after {age:?}", eni.id, record.key);
                self.fail("nothing is drawn while the last life may still write", text);
            }
            self.spares.drawn.insert(eni.id.clone());
        }
    }

    fn is_this_lifes(&self, eni: &CloudEni) -> bool {
        let asked = self.asked.get(&eni.token);
        asked.is_some_and(|asked| *asked >= self.spares.since)
    }

    /// Whether an ENI that no record names may be taken away at once: one that is kept ready, as far as this
    /// life can know that no request for it is open.
    pub(super) fn gives_back(&mut self, eni: &CloudEni) -> bool {
        let shared = eni.edition.is_some();
        let had = self.spares.had.contains_key(&eni.id);
        if shared && (eni.group == NOBODY || had) {
            self.spares.left.insert(eni.id.clone());
        }
        let known = had || self.spares.leaving.contains(&eni.id) || self.is_this_lifes(eni);
        let at_once = shared && (known || eni.on.is_some());
        if at_once {
            self.spares.leaving.insert(eni.id.clone());
        }
        at_once
    }

    /// People are told that none can be kept ready.
    pub(super) fn spare_failed(&mut self) {
        let Some(networking) = &self.spares.networking else {
            return;
        };
        let edition = networking.edition.clone();
        if self.spares.failed.replace(edition.clone()).as_ref() == Some(&edition) {
            self.fail("people are told once that none can be kept ready", edition);
        }
    }
}

impl World {
    /// Where not as many are kept ready as are asked for.
    pub(super) fn spares_restless(&self, nobodys: &BTreeSet<&EniId>) -> Option<String> {
        let networking = &self.api.networking;
        let stands = |record: &&PodEni| {
            let mut all = record.allocations.iter();
            all.any(|one| one.edition.as_ref() == Some(&networking.edition))
        };
        let nobodys = nobodys.iter().filter_map(|eni| self.cloud.enis.get(*eni));
        let (ours, others): (Vec<_>, Vec<_>) =
            nobodys.partition(|eni| eni.edition.as_ref() == Some(&networking.edition));
        if let Some(other) = others.first() {
            return Some(format!("{} is nobody's", other.id));
        }
        let bound = self
            .api
            .records
            .values()
            .filter(|one| one.phase == Phase::Bind);
        let bound: Vec<_> = bound.collect();
        let zone = networking.warm.enis_per_zone.unwrap_or(0);
        let zone = bound
            .iter()
            .find(|one| stands(one))
            .map_or(0, |_| zone as usize);
        let free = ours.iter().filter(|eni| eni.status == EniStatus::Available);
        let free = free.count();
        if free != zone {
            return Some(format!("{free} of {zone} are kept ready in the zone"));
        }
        self.api.nodes.iter().find_map(|node| {
            let here = bound.iter().filter(|one| one.node == node.name);
            let taken: usize = here.clone().map(|one| one.allocations.len()).sum();
            let room = (self.schedule.setup.members as usize).saturating_sub(taken);
            let wanted = networking.warm.members_per_node.unwrap_or(0) as usize;
            let wanted = if here.clone().any(stands) {
                wanted.min(room)
            } else {
                0
            };
            let on = |eni: &&&CloudEni| eni.on.as_ref().is_some_and(|on| on.0 == node.instance);
            let kept = ours.iter().filter(on).count();
            (kept != wanted).then(|| format!("{kept} of {wanted} are kept ready on {}", node.name))
        })
    }
}
