//! How many spare ENIs a place keeps: as many as are wanted while its pods run there, as its trunk has room
//! for, and one after the other.
//!
//! A pod goes before a spare: while one waits here nothing is begun, and when the trunk has no room for the
//! pods that came, spares leave.

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;
use model::{
    DualStack, InterfaceName, PodKey, Timestamp, VSwitchId, ZoneId,
    podeni::{Allocation, Phase, PodEni},
    podnetworking::{EniAttachment, PodNetworking, Tenure},
};

use super::{Cluster, Place, Slot, SlotId, Standing};
use crate::{
    podeni::{Choice, Node, Progress, choose},
    retry::Backoff,
};

/// How long spares stay where no pod of their PodNetworking runs any more: a rolling update that empties a
/// node comes back to it sooner, and an address nobody needs is missed elsewhere.
const IDLE: Duration = Duration::from_secs(600);

/// Spares on their way at once in the cluster. One takes three calls and five seconds, so ten use up at
/// most 120 creates and attaches of the 500 a minute, and a hundred nodes have their first within a minute.
const COMING_MOST: usize = 10;

/// One that takes longer than this waits for something else than its turn, and must not keep others from
/// theirs: a node that is stopped, a call whose end nobody knows.
const COMING_LONGEST: Duration = Duration::from_secs(60);

/// How long a waiting pod keeps spares from being made on its node. What waits longer waits for people.
const PODS_FIRST: Duration = Duration::from_secs(60);

/// A place where the cloud refused one, by number or for want of addresses: nobody waits for it.
const REFUSED: Backoff = Backoff {
    first: Duration::from_secs(10),
    longest: Duration::from_secs(600),
};

impl Cluster {
    /// Brings the spares of a place nearer to what is wanted there.
    pub(super) fn keep_place(&mut self, now: Timestamp, place: &Place) {
        let editions: BTreeSet<String> = {
            let planes = self.planes.values().map(|plane| &plane.networking);
            let wanted = planes.filter(|one| self.wants_at(one, place) > 0);
            let kept = self.pool.of(place).map(|(_, slot)| slot.edition.clone());
            wanted.map(|one| one.edition.clone()).chain(kept).collect()
        };
        let mut room = self.room(place);
        for edition in editions {
            let wanted = self.wanted(now, &edition, place);
            let mine = self
                .pool
                .of(place)
                .filter(|(_, one)| one.edition == edition);
            let mine: Vec<(SlotId, bool, Timestamp)> = mine
                .filter(|(_, one)| one.counts())
                .map(|(id, one)| (id, one.is_spoken_for(), one.since))
                .collect();
            let surplus = mine.len().saturating_sub(wanted);
            let mut free: Vec<_> = mine.iter().filter(|(_, spoken, _)| !spoken).collect();
            // The one that has rested longest is the next to be drawn.
            free.sort_by_key(|(id, _, since)| (std::cmp::Reverse(*since), *id));
            let leave: Vec<SlotId> = free.into_iter().take(surplus).map(|(id, ..)| *id).collect();
            for id in leave {
                self.pool.stand(now, id, Standing::Leaving);
            }
            if mine.len() < wanted && room.is_some_and(|room| room > 0) {
                room = room.map(|room| room - i64::from(self.begin(now, &edition, place)));
            }
        }
        if room.is_some_and(|room| room < 0) {
            self.make_room(now, place, room.unwrap_or(0).unsigned_abs());
        }
    }

    /// How many of an edition are wanted here now.
    fn wanted(&mut self, now: Timestamp, edition: &str, place: &Place) -> usize {
        let wanted = self.edition(edition);
        let wanted = wanted.map_or(0, |one| self.wants_at(one, place));
        let gone = matches!(place, Place::Node(name) if self.trunk_of(name).is_none());
        if wanted == 0 || gone {
            return 0;
        }
        let at = (edition.to_owned(), place.clone());
        let idles = match self.pool.used.get(&at) {
            _ if self.records.stands(edition, place) => None,
            Some(used) => Some(used.after(IDLE)).filter(|until| *until > now),
            None => return 0,
        };
        match idles {
            None if self.records.stands(edition, place) => wanted,
            None => {
                self.pool.used.remove(&at);
                0
            }
            Some(until) => {
                let place = super::Matter::Place(place.clone());
                self.pool.alarms.set(place, until);
                wanted
            }
        }
    }

    /// The node, if it has a trunk.
    pub(in crate::cluster) fn trunk_of(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).filter(|node| node.trunk.is_some())
    }

    /// How many more ENIs the place can take beside its pods' and its spares; nothing when it does not say.
    pub(super) fn room(&self, place: &Place) -> Option<i64> {
        let Place::Node(name) = place else {
            return Some(i64::MAX);
        };
        // A node whose kubelet has just started says 0 until its agent has put it right.
        let members = self
            .nodes
            .get(name)?
            .members
            .filter(|members| *members > 0)?;
        let spares = self.pool.of(place);
        let spares = spares.filter(|(_, one)| !one.is_spoken_for()).count();
        let taken = self.taken(name).saturating_add(spares);
        Some(i64::from(members) - i64::try_from(taken).unwrap_or(i64::MAX))
    }

    /// Members that pods of the node have, will have, or had and still hold.
    fn taken(&self, node: &str) -> usize {
        let member = |attachment: EniAttachment| attachment != EniAttachment::Own;
        let records = self.records.on_node(node).map(|record| {
            let there = record.phase != Phase::Unbind;
            let all = record.allocations.iter();
            all.filter(|one| there && member(one.attachment)).count()
        });
        let pods = self.by_node.get(node).into_iter().flatten();
        let pods = pods.filter(|key| self.records.get(key).is_none_or(|one| one.node != node));
        let pods = pods.filter_map(|key| self.pods.get(key)).map(|pod| {
            let all = pod.pod.networks.iter();
            all.filter(|one| !pod.pod.finished && member(one.attachment))
                .count()
        });
        records.sum::<usize>() + pods.sum::<usize>()
    }

    /// The cloud refused a pod's ENI for want of room where there should be some: what nobody knows of takes
    /// it, as long as the collector has not found it. A spare makes way, and no other comes before the pod.
    pub(in crate::cluster) fn crowded(&mut self, now: Timestamp, key: &PodKey) {
        let Some(record) = self.records.get(key) else {
            return;
        };
        let place = Place::Node(record.node.clone());
        let spares = self.pool.of(&place).filter(|(_, one)| one.counts());
        let editions: BTreeSet<String> = spares.map(|(_, one)| one.edition.clone()).collect();
        for edition in editions {
            self.refused(now, &edition, &place);
        }
        self.make_room(now, &place, 1);
        // What is on its way would take what becomes free.
        let all = self.pool.of(&place);
        let coming = all.filter(|(_, one)| matches!(one.standing, Standing::Coming));
        for id in coming.map(|(id, _)| id).collect::<Vec<_>>() {
            self.pool.stand(now, id, Standing::Leaving);
        }
        let waits = |key: &PodKey| self.records.get(key).is_some_and(waits);
        self.pool.crowded.retain(waits);
        self.pool.crowded.insert(key.clone());
    }

    /// Whether a pod waits for room in a place that had none: what becomes free there is the pod's.
    pub(super) fn is_crowded(&self, place: &Place) -> bool {
        let Place::Node(name) = place else {
            return false;
        };
        let crowded = self.pool.crowded.iter();
        let mut records = crowded.filter_map(|key| self.records.get(key));
        records.any(|record| record.node == *name && waits(record))
    }

    /// Lets as many spares leave as pods lack room.
    fn make_room(&mut self, now: Timestamp, place: &Place, lacking: u64) {
        let all = self.pool.of(place);
        let on_their_way = all.filter(|(_, one)| matches!(one.standing, Standing::Leaving));
        let lacking = usize::try_from(lacking).unwrap_or(usize::MAX);
        let lacking = lacking.saturating_sub(on_their_way.count());
        let all = self.pool.of(place);
        let free = all.filter(|(_, one)| one.counts() && !one.is_spoken_for());
        let mut free: Vec<_> = free.collect();
        // Those that have a place there first.
        free.sort_by_key(|(id, one)| (matches!(one.standing, Standing::Coming), *id));
        let leave: Vec<SlotId> = free.into_iter().take(lacking).map(|(id, _)| id).collect();
        for id in leave {
            self.pool.stand(now, id, Standing::Leaving);
        }
    }

    /// Begins to make one more, if now is the time; says whether it did.
    fn begin(&mut self, now: Timestamp, edition: &str, place: &Place) -> bool {
        if let Some(until) = self.not_before(now, edition, place) {
            let place = super::Matter::Place(place.clone());
            self.pool.alarms.set(place, until);
            return false;
        }
        let coming = |slot: &Slot| matches!(slot.standing, Standing::Coming);
        let here = self.pool.of(place).any(|(_, slot)| coming(slot));
        let late = |slot: &Slot| now.since(slot.since) >= COMING_LONGEST;
        let all = self.pool.slots.values();
        let all = all.filter(|slot| coming(slot) && !late(slot));
        if !self.pool.listed || here || all.count() >= COMING_MOST {
            self.pool.queue.insert(place.clone());
            let again = now.after(COMING_LONGEST);
            let place = super::Matter::Place(place.clone());
            self.pool.alarms.set(place, again);
            return false;
        }
        let Some(zone) = self.zone_of(place) else {
            return false;
        };
        let Some(networking) = self.edition(edition).filter(|one| one.is_ready()).cloned() else {
            return false;
        };
        let choice = choose(
            now,
            &networking.vswitches,
            networking.preference,
            &zone,
            self.vswitches.known(),
            self.dice.roll(),
        );
        let (vswitch, blocks) = match choice {
            Choice::Take { vswitch, blocks } => (vswitch, blocks),
            Choice::None { why, .. } => {
                self.tell_failed(edition.to_owned(), &why);
                self.refused(now, edition, place);
                return false;
            }
        };
        let Some(allocation) = Self::blank(&networking, vswitch, blocks) else {
            return false;
        };
        let identity = format!("spare-{:016x}{:016x}", self.dice.roll(), self.dice.roll());
        let mut progress = Progress::new(self.dice.roll());
        progress.born();
        let id = self.pool.insert(Slot {
            place: place.clone(),
            edition: edition.to_owned(),
            identity,
            allocation,
            progress,
            standing: Standing::Coming,
            since: now,
        });
        self.pool.look_at(id);
        true
    }

    /// Until when nothing is begun here: pods wait, or the cloud refused the last one.
    fn not_before(&self, now: Timestamp, edition: &str, place: &Place) -> Option<Timestamp> {
        let at = (edition.to_owned(), place.clone());
        let refused = self.pool.refused.get(&at).map(|(_, until)| *until);
        let refused = refused.filter(|until| *until > now);
        let held = !self.held.is_empty() || self.pods_wait(now, place);
        let held = held.then(|| now.after(Duration::from_secs(1)));
        // Its end is a change of the pod's record, which is looked at anyway.
        let crowded = self.is_crowded(place).then(|| now.after(PODS_FIRST));
        [held, crowded, refused].into_iter().flatten().max()
    }

    /// Whether a pod of the node waits for its ENIs.
    fn pods_wait(&self, now: Timestamp, place: &Place) -> bool {
        let Place::Node(name) = place else {
            return false;
        };
        let mut pods = self.by_node.get(name).into_iter().flatten();
        pods.any(|key| {
            let pod = self.pods.get(key).map(|pod| &pod.pod);
            let Some(pod) = pod.filter(|pod| !pod.finished && !pod.networks.is_empty()) else {
                return false;
            };
            let record = self.records.get(key);
            let bound =
                record.is_some_and(|record| record.phase == Phase::Bind && record.pod == pod.uid);
            let since = self.waiting(key).map(|waiting| waiting.since);
            !bound && since.is_none_or(|since| now.since(since) < PODS_FIRST)
        })
    }

    pub(super) fn zone_of(&self, place: &Place) -> Option<ZoneId> {
        match place {
            Place::Node(name) => Some(self.trunk_of(name)?.zone.clone()),
            Place::Zone(zone) => Some(zone.clone()),
        }
    }

    /// What a spare ENI of the PodNetworking is to be in this vSwitch.
    pub(super) fn blank(
        networking: &PodNetworking,
        vswitch: VSwitchId,
        blocks: DualStack<IpNet>,
    ) -> Option<Allocation> {
        Some(Allocation {
            // The name in a pod is the pod's to give.
            interface: InterfaceName::new("eth0").ok()?,
            tenure: Tenure::Elastic,
            attachment: networking.attachment,
            vswitch,
            blocks,
            security_groups: networking.security_groups.clone(),
            resource_group: None,
            default_route: false,
            routes: Vec::new(),
            edition: Some(networking.edition.clone()),
            attempt: 0,
            addresses: DualStack::default(),
            eni: None,
        })
    }

    /// None can be made here now.
    pub(super) fn refused(&mut self, now: Timestamp, edition: &str, place: &Place) {
        let at = (edition.to_owned(), place.clone());
        let times = self.pool.refused.get(&at).map_or(1, |(times, _)| times + 1);
        let until = now.after(REFUSED.wait(times, &mut self.dice));
        self.pool.refused.insert(at, (times, until));
        let place = super::Matter::Place(place.clone());
        self.pool.alarms.set(place, until);
    }
}

/// Whether the ENIs of a record are on their way to its node.
fn waits(record: &PodEni) -> bool {
    !record.deleting && matches!(record.phase, Phase::Initial | Phase::Binding)
}
