//! ENIs kept ready for pods that come: members on the trunk of a node, or on no node in a zone.
//!
//! The cloud is their record: each carries the edition of its PodNetworking as a tag, from the call that
//! makes it. A machine that starts anew finds them in the list it makes for leaked ENIs, and lets each rest
//! before it draws on it, as long as a write of the machine before it can still be under way.
//!
//! Must not know: how an ENI is made or moved (`crate::podeni`), how calls are counted.

mod adopt;
mod draw;
mod place;
mod slot;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    EniId, PodKey, Timestamp, ZoneId,
    podeni::Allocation,
    podnetworking::{EniAttachment, PodNetworking, Tenure},
};

use super::{Cluster, registry::Changed};
use crate::podeni::{Progress, SeenEni};

/// How long an address rests between two pods: the cooldown of a node's own addresses.
const COOLDOWN: Duration = Duration::from_secs(60);

/// How long a write of the leader before this one can take effect: the API server gives a request up
/// after a minute (`--request-timeout`).
const WRITE_LASTS: Duration = Duration::from_secs(60);

/// How long an ENI rests that this machine did not make: both reasons at once, counted from when it was
/// first seen without a record.
const RESTS: Duration = match COOLDOWN.as_secs() > WRITE_LASTS.as_secs() {
    true => COOLDOWN,
    false => WRITE_LASTS,
};

/// Where spare ENIs are kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// As members of the trunk of this node.
    Node(String),
    /// On no node, in this zone.
    Zone(ZoneId),
}

/// The machine's number for a spare ENI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotId(u64);

/// Something the pool must look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Matter {
    Slot(SlotId),
    Place(Place),
}

/// How far a spare ENI is.
#[derive(Debug)]
enum Standing {
    /// Its record is being let go; the ENI stays.
    Given,
    /// Nobody gets it before.
    Resting(Timestamp),
    /// It is made, attached or looked at.
    Coming,
    /// The next pod may have it.
    Ready(SeenEni),
    /// The record of this pod that names it is being written.
    Drawn(PodKey, SeenEni),
    /// It is taken out of the cloud.
    Leaving,
}

/// One spare ENI.
#[derive(Debug)]
struct Slot {
    place: Place,
    edition: String,
    /// What its token is made of.
    identity: String,
    allocation: Allocation,
    progress: Progress,
    standing: Standing,
    /// Since when it stands so.
    since: Timestamp,
}

impl Slot {
    /// Whether it counts as one of those that are wanted.
    fn counts(&self) -> bool {
        !matches!(self.standing, Standing::Drawn(..) | Standing::Leaving)
    }

    /// Whether a record may name it just now.
    fn is_spoken_for(&self) -> bool {
        matches!(self.standing, Standing::Drawn(..) | Standing::Given)
    }
}

/// What became of spare ENIs since the machine started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Pods' interfaces that got one.
    pub drawn: u64,
    /// Pods' interfaces that found none.
    pub missed: u64,
    /// Pods' ENIs that stayed for the next pod.
    pub kept: u64,
    /// Spare ENIs that were taken out of the cloud.
    pub returned: u64,
}

/// All spare ENIs.
#[derive(Debug, Default)]
pub(super) struct Pool {
    slots: BTreeMap<SlotId, Slot>,
    at: BTreeMap<Place, BTreeSet<SlotId>>,
    by_eni: BTreeMap<EniId, SlotId>,
    alarms: Alarms,
    /// When the last pod of an edition left a place.
    used: BTreeMap<(String, Place), Timestamp>,
    /// Places where an edition was refused: how often in a row, and until when it is left alone.
    refused: BTreeMap<(String, Place), (u32, Timestamp)>,
    /// Pods whose ENI the cloud refused because the trunk of their node is full.
    crowded: BTreeSet<PodKey>,
    /// Places that wait until fewer are being made.
    queue: BTreeSet<Place>,
    /// Editions of which people know that none can be made.
    told: BTreeSet<String>,
    /// Whether what an earlier machine left was looked at.
    listed: bool,
    last: u64,
    spent: Spent,
}

/// What to look at when, each matter once.
#[derive(Debug, Default)]
struct Alarms {
    at: BTreeMap<Matter, Timestamp>,
    order: BTreeSet<(Timestamp, Matter)>,
}

impl Alarms {
    /// Looks at it then, or before if that was said already.
    fn set(&mut self, matter: Matter, at: Timestamp) {
        let known = self.at.get(&matter).copied();
        if known.is_some_and(|known| known <= at) {
            return;
        }
        if let Some(known) = known {
            self.order.remove(&(known, matter.clone()));
        }
        self.at.insert(matter.clone(), at);
        self.order.insert((at, matter));
    }

    fn pop(&mut self, now: Timestamp) -> Option<Matter> {
        let (at, _) = self.order.first()?;
        if *at > now {
            return None;
        }
        let (_, matter) = self.order.pop_first()?;
        self.at.remove(&matter);
        Some(matter)
    }
}

impl Pool {
    /// Nothing is made before it is known what there is; where nobody lists, that is never known.
    pub(super) fn start(&mut self, lists: bool) {
        self.listed = !lists;
    }

    /// Whether what an earlier machine left was looked at.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    fn insert(&mut self, slot: Slot) -> SlotId {
        self.last += 1;
        let id = SlotId(self.last);
        let place = self.at.entry(slot.place.clone()).or_default();
        place.insert(id);
        if let Some(eni) = &slot.allocation.eni {
            self.by_eni.insert(eni.id.clone(), id);
        }
        self.slots.insert(id, slot);
        id
    }

    fn remove(&mut self, id: SlotId) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        if let Some(ids) = self.at.get_mut(&slot.place) {
            ids.remove(&id);
            if ids.is_empty() {
                self.at.remove(&slot.place);
            }
        }
        if let Some(eni) = &slot.allocation.eni {
            self.by_eni.remove(&eni.id);
        }
        self.alarms.set(Matter::Place(slot.place), Timestamp::EPOCH);
    }

    /// The spare ENIs of a place.
    fn of<'a>(&'a self, place: &Place) -> impl Iterator<Item = (SlotId, &'a Slot)> + use<'a> {
        let ids = self.at.get(place).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.slots.get(id)?)))
    }

    fn count(&self, edition: &str, place: &Place) -> usize {
        let all = self.of(place);
        all.filter(|(_, slot)| slot.edition == edition && slot.counts())
            .count()
    }

    fn stand(&mut self, now: Timestamp, id: SlotId, standing: Standing) {
        if let Some(slot) = self.slots.get_mut(&id) {
            (slot.standing, slot.since) = (standing, now);
            self.alarms.set(Matter::Slot(id), Timestamp::EPOCH);
        }
    }

    pub(super) fn progress_of(&mut self, id: SlotId) -> Option<&mut Progress> {
        Some(&mut self.slots.get_mut(&id)?.progress)
    }

    /// Something about it may have changed.
    pub(super) fn look_at(&mut self, id: SlotId) {
        self.alarms.set(Matter::Slot(id), Timestamp::EPOCH);
    }

    /// Something about the place may have changed.
    pub(super) fn visit(&mut self, place: Place) {
        self.alarms.set(Matter::Place(place), Timestamp::EPOCH);
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.alarms.order.first().map(|(at, _)| *at)
    }

    pub(super) fn spent(&self) -> Spent {
        self.spent
    }

    /// How many are how far, in the words of the metrics.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for slot in self.slots.values() {
            let name = match slot.standing {
                Standing::Given | Standing::Resting(_) => "resting",
                Standing::Coming => "coming",
                Standing::Ready(_) => "ready",
                Standing::Drawn(..) => "drawn",
                Standing::Leaving => "leaving",
            };
            *counts.entry(name).or_default() += 1;
        }
        counts
    }
}

impl Cluster {
    /// How many spare ENIs of a PodNetworking are wanted on a node, and in a zone.
    fn wants(&self, networking: &PodNetworking) -> (u32, u32) {
        let elastic = networking.tenure == Tenure::Elastic;
        if !elastic || networking.attachment == EniAttachment::Own || networking.edition.is_empty()
        {
            return (0, 0);
        }
        let (own, default) = (networking.warm, self.config.warm);
        let node = own.members_per_node.or(default.members_per_node);
        let zone = own.enis_per_zone.or(default.enis_per_zone);
        (node.unwrap_or(0), zone.unwrap_or(0))
    }

    /// The same for one place.
    fn wants_at(&self, networking: &PodNetworking, place: &Place) -> usize {
        let (node, zone) = self.wants(networking);
        let number = match place {
            Place::Node(_) => node,
            Place::Zone(_) => zone,
        };
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    /// The PodNetworking of an edition; nothing when it is gone or was changed.
    fn edition(&self, edition: &str) -> Option<&PodNetworking> {
        let mut all = self.planes.values().map(|plane| &plane.networking);
        all.find(|one| one.edition == edition)
    }

    /// Whether anybody wants spare ENIs, or some are left.
    pub(super) fn keeps_spares(&self) -> bool {
        let mut all = self.planes.values().map(|plane| &plane.networking);
        !self.pool.slots.is_empty() || all.any(|one| self.wants(one) != (0, 0))
    }

    /// A node changed.
    pub(super) fn visit_node(&mut self, name: &str) {
        if !self.keeps_spares() {
            return;
        }
        let place = Place::Node(name.to_owned());
        let ids = self.pool.at.get(&place).cloned().unwrap_or_default();
        for id in ids {
            self.pool.look_at(id);
        }
        self.pool.visit(place);
    }

    /// PodNetworkings or the configuration changed.
    pub(super) fn visit_all(&mut self) {
        if !self.keeps_spares() {
            return;
        }
        self.forget_the_dead();
        let nodes = self.nodes.values();
        let both = nodes.flat_map(|node| {
            let zone = Place::Zone(node.zone.clone());
            [Place::Node(node.name.clone()), zone]
        });
        let places: BTreeSet<Place> = both.chain(self.pool.at.keys().cloned()).collect();
        for place in places {
            self.pool.visit(place);
        }
    }

    /// Drops what is remembered of editions and nodes that are no more.
    fn forget_the_dead(&mut self) {
        let planes = self.planes.values().map(|plane| &plane.networking);
        let editions: BTreeSet<&String> = planes.map(|one| &one.edition).collect();
        let lives = |(edition, place): &(String, Place)| {
            let there = match place {
                Place::Node(name) => self.nodes.contains_key(name),
                Place::Zone(_) => true,
            };
            there && editions.contains(edition)
        };
        self.pool.used.retain(|at, _| lives(at));
        self.pool.refused.retain(|at, _| lives(at));
        self.pool.told.retain(|edition| editions.contains(edition));
    }

    /// Records came, went or changed: what they name is theirs, what they named may rest now.
    pub(super) fn follow_records(&mut self, now: Timestamp) {
        let Changed { enis, places, left } = self.records.take_changed();
        for eni in enis {
            self.look_for_doubles(&eni);
            let Some(id) = self.pool.by_eni.get(&eni).copied() else {
                continue;
            };
            let free = self.records.owners(&eni).next().is_none();
            let given = self.pool.slots.get(&id);
            let given = given.is_some_and(|slot| matches!(slot.standing, Standing::Given));
            match (given, free) {
                (true, true) => {
                    let until = now.after(RESTS);
                    self.pool.stand(now, id, Standing::Resting(until));
                }
                (false, false) => self.pool.remove(id),
                _ => {}
            }
        }
        if !self.keeps_spares() {
            return;
        }
        for stood in left {
            self.pool.used.insert(stood, now);
        }
        for place in places {
            self.pool.visit(place);
        }
    }

    /// Does what is due about spare ENIs.
    pub(super) fn drive_pool(&mut self, now: Timestamp) {
        while let Some(matter) = self.pool.alarms.pop(now) {
            match matter {
                Matter::Slot(id) => self.advance_slot(now, id),
                Matter::Place(place) => self.keep_place(now, &place),
            }
        }
    }
}
