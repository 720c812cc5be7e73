//! Spare ENIs that become a pod's, and ENIs of pods that stay when the pod goes.

use std::collections::BTreeSet;

use model::{
    EniId, PodKey, SecurityGroupId, Timestamp,
    podeni::{Allocation, NetworkRequest, Phase, PodEni},
    podnetworking::{PodNetworking, Tenure},
};

use super::{Cluster, Place, Slot, SlotId, Standing};
use crate::podeni::{Node, Pod, Progress, SeenEni, Spare, Spares};

impl Cluster {
    /// What is kept ready for the interfaces of a pod, on its node or else in its zone.
    pub(in crate::cluster) fn spares_for(&self, pod: &Pod, node: &Node) -> Spares {
        let (mut spares, mut taken) = (Spares::new(), BTreeSet::new());
        for request in &pod.networks {
            let Some(networking) = self.shared(request) else {
                continue;
            };
            let edition = networking.edition.clone();
            let chosen = self.ready(&pod.key, &edition, node, &taken);
            taken.extend(chosen);
            let chosen = chosen.and_then(|id| self.pool.slots.get(&id));
            let ready = chosen.map(|slot| slot.allocation.clone());
            spares.insert(request.interface.clone(), Spare { edition, ready });
        }
        spares
    }

    /// The PodNetworking with spare ENIs that are just what is asked for.
    fn shared(&self, request: &NetworkRequest) -> Option<&PodNetworking> {
        let mut all = self.planes.values().map(|plane| &plane.networking);
        all.find(|one| {
            let same = one.attachment == request.attachment
                && one.vswitches == request.vswitches
                && one.security_groups == request.security_groups;
            let elastic = request.tenure == Tenure::Elastic && request.resource_group.is_none();
            same && elastic && self.wants(one) != (0, 0)
        })
    }

    /// The one that has been ready longest.
    fn ready(
        &self,
        key: &PodKey,
        edition: &str,
        node: &Node,
        taken: &BTreeSet<SlotId>,
    ) -> Option<SlotId> {
        let places = [
            Place::Node(node.name.clone()),
            Place::Zone(node.zone.clone()),
        ];
        places.iter().find_map(|place| {
            let all = self.pool.of(place);
            let all = all.filter(|(id, slot)| slot.edition == edition && !taken.contains(id));
            let mut all: Vec<_> = all.collect();
            // What the pod drew before comes first, or each try of a write would take another one.
            all.sort_by_key(|(id, slot)| {
                let drawn = matches!(slot.standing, Standing::Drawn(..));
                (!drawn, slot.since, *id)
            });
            let mut all = all.into_iter();
            let first = all.find(|(_, slot)| self.may_have(key, slot, node));
            first.map(|(id, _)| id)
        })
    }

    fn may_have(&self, key: &PodKey, slot: &Slot, node: &Node) -> bool {
        let seen = match &slot.standing {
            Standing::Ready(seen) => seen,
            // Its record may have been written though the answer was lost.
            Standing::Drawn(by, _) => return by == key,
            _ => return false,
        };
        let here = match &slot.place {
            Place::Node(_) => {
                seen.instance.as_ref() == Some(&node.instance) && seen.trunk == node.trunk
            }
            Place::Zone(_) => true,
        };
        let Some(eni) = &slot.allocation.eni else {
            return false;
        };
        let mut unreadable = self.unreadable.values();
        let named = unreadable.any(|enis| enis.as_ref().is_none_or(|all| all.contains(&eni.id)));
        let addresses = &slot.allocation.addresses;
        let used = self.pod_at(|address| addresses.iter().any(|(_, own)| *own == address));
        here && !named && used.is_none()
    }

    /// A record is being made that names some of them: what they look like.
    pub(in crate::cluster) fn draw(
        &mut self,
        now: Timestamp,
        key: &PodKey,
        record: &PodEni,
    ) -> Vec<(EniId, SeenEni)> {
        let mut drawn = Vec::new();
        for allocation in &record.allocations {
            let eni = allocation.eni.as_ref().map(|eni| &eni.id);
            let id = eni.and_then(|eni| self.pool.by_eni.get(eni)).copied();
            let (Some(id), Some(eni)) = (id, eni) else {
                self.pool.spent.missed += u64::from(allocation.edition.is_some());
                continue;
            };
            let seen = match self.pool.slots.get(&id).map(|slot| &slot.standing) {
                Some(Standing::Ready(seen)) => {
                    self.pool.spent.drawn += 1;
                    seen.clone()
                }
                Some(Standing::Drawn(_, seen)) => seen.clone(),
                _ => continue,
            };
            drawn.push((eni.clone(), seen.clone()));
            let standing = Standing::Drawn(key.clone(), seen);
            self.pool.stand(now, id, standing);
        }
        drawn
    }

    /// ENIs a record names that are not its own any more.
    pub(in crate::cluster) fn parted(&self, record: &PodEni) -> BTreeSet<EniId> {
        let enis = record.allocations.iter().filter_map(|one| one.eni.as_ref());
        let parted = enis.map(|eni| &eni.id).filter(|eni| {
            let kept = self.pool.by_eni.get(eni);
            let kept = kept.and_then(|id| self.pool.slots.get(id));
            kept.is_some_and(|slot| matches!(slot.standing, Standing::Given))
                || self.is_anothers(record, eni)
        });
        parted.cloned().collect()
    }

    /// Keeps the ENIs of a record that leaves, as far as they are wanted.
    pub(in crate::cluster) fn keep_back(
        &mut self,
        now: Timestamp,
        record: &PodEni,
        progress: &Progress,
    ) {
        let pod = self.pods.get(&record.key).map(|pod| &pod.pod);
        let used = pod.is_some_and(|pod| pod.uid == record.pod && !pod.finished);
        if !record.deleting || record.phase != Phase::Bind || used {
            return;
        }
        let place = Place::Node(record.node.clone());
        let node = self.trunk_of(&record.node);
        let there = node.is_some_and(|node| {
            record.instance.as_ref() == Some(&node.instance) && record.trunk == node.trunk
        });
        let full = self.room(&place).is_none_or(|room| room < 0) || self.is_crowded(&place);
        if !there || full {
            return;
        }
        for allocation in &record.allocations {
            let (Some(edition), Some(eni)) = (&allocation.edition, &allocation.eni) else {
                continue;
            };
            let wanted = self.edition(edition).filter(|one| is_of(allocation, one));
            let wanted = wanted.map_or(0, |one| self.wants_at(one, &place));
            let attached = record.attached.get(&eni.id);
            let member = attached.is_some_and(|one| one.vlan.is_some());
            let shared = self.records.owners(&eni.id).count() > 1;
            let known = self.pool.by_eni.contains_key(&eni.id);
            if !member || shared || known || !progress.untouched(&eni.id) {
                continue;
            }
            if self.pool.count(edition, &place) >= wanted {
                continue;
            }
            self.pool.spent.kept += 1;
            self.pool.insert(Slot {
                place: place.clone(),
                edition: edition.clone(),
                identity: record.uid.clone(),
                allocation: allocation.clone(),
                progress: Progress::new(0),
                standing: Standing::Given,
                since: now,
            });
        }
    }
}

/// Whether it is what the PodNetworking describes: the edition that a record says may be anybody's word.
pub(super) fn is_of(allocation: &Allocation, networking: &PodNetworking) -> bool {
    let groups = |all: &[SecurityGroupId]| all.iter().cloned().collect::<BTreeSet<_>>();
    networking.vswitches.contains(&allocation.vswitch)
        && groups(&networking.security_groups) == groups(&allocation.security_groups)
}
