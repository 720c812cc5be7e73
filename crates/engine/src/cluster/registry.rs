//! The records, and what follows from all of them together: who names an ENI, what stands where.
//!
//! Must not know what any of them is for.

use std::collections::{BTreeMap, BTreeSet};

use model::{EniId, PodKey, podeni::PodEni};

use super::pool::Place;

/// All records, by name.
#[derive(Debug, Default)]
pub(super) struct Registry {
    all: BTreeMap<PodKey, PodEni>,
    owners: BTreeMap<EniId, BTreeSet<PodKey>>,
    on_node: BTreeMap<String, BTreeSet<PodKey>>,
    /// How many interfaces of an edition stand in a place.
    standing: BTreeMap<(String, Place), usize>,
    changed: Changed,
}

/// What is not as it was.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// ENIs that a record names since, or names no more.
    pub(super) enis: BTreeSet<EniId>,
    /// Where records came, went or became different.
    pub(super) places: BTreeSet<Place>,
    /// Editions of which nothing stands in the place any more.
    pub(super) left: BTreeSet<(String, Place)>,
}

impl Registry {
    pub(super) fn get(&self, key: &PodKey) -> Option<&PodEni> {
        self.all.get(key)
    }

    pub(super) fn contains_key(&self, key: &PodKey) -> bool {
        self.all.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &PodKey> {
        self.all.keys()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &PodEni> {
        self.all.values()
    }

    pub(super) fn insert(&mut self, key: PodKey, record: PodEni) {
        self.remove(&key);
        for eni in named(&record) {
            self.changed.enis.insert(eni.clone());
            let owners = self.owners.entry(eni.clone()).or_default();
            owners.insert(key.clone());
        }
        let node = self.on_node.entry(record.node.clone()).or_default();
        node.insert(key.clone());
        for (edition, place) in editions(&record) {
            self.changed.left.remove(&(edition.clone(), place.clone()));
            *self.standing.entry((edition, place)).or_default() += 1;
        }
        self.changed.places.extend(places(&record));
        self.all.insert(key, record);
    }

    pub(super) fn remove(&mut self, key: &PodKey) {
        let Some(record) = self.all.remove(key) else {
            return;
        };
        for eni in named(&record) {
            self.changed.enis.insert(eni.clone());
            forget(&mut self.owners, eni, key);
        }
        forget(&mut self.on_node, &record.node, key);
        for stood in editions(&record) {
            if let Some(count) = self.standing.get_mut(&stood) {
                *count -= 1;
                if *count == 0 {
                    self.standing.remove(&stood);
                    self.changed.left.insert(stood);
                }
            }
        }
        self.changed.places.extend(places(&record));
    }

    /// The records that name an ENI: more than one only when two leaders overlapped.
    pub(super) fn owners(&self, eni: &EniId) -> impl Iterator<Item = &PodKey> {
        self.owners.get(eni).into_iter().flatten()
    }

    /// The records last bound to a node.
    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = &PodEni> {
        let keys = self.on_node.get(node).into_iter().flatten();
        keys.filter_map(|key| self.all.get(key))
    }

    /// Whether an interface of this edition stands in the place.
    pub(super) fn stands(&self, edition: &str, place: &Place) -> bool {
        let at = (edition.to_owned(), place.clone());
        self.standing.contains_key(&at)
    }

    /// What changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }
}

fn named(record: &PodEni) -> impl Iterator<Item = &EniId> {
    let made = record.allocations.iter().filter_map(|one| one.eni.as_ref());
    made.map(|eni| &eni.id)
}

fn places(record: &PodEni) -> [Place; 2] {
    let (node, zone) = (record.node.clone(), record.zone.clone());
    [Place::Node(node), Place::Zone(zone)]
}

fn editions(record: &PodEni) -> impl Iterator<Item = (String, Place)> {
    let all = record.allocations.iter();
    let all = all.filter_map(|one| one.edition.as_ref());
    all.flat_map(|edition| places(record).map(|place| (edition.clone(), place)))
}

fn forget<K: Ord>(index: &mut BTreeMap<K, BTreeSet<PodKey>>, at: &K, key: &PodKey) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}
