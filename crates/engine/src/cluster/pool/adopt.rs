//! What an earlier machine kept ready, found in the list of all ENIs.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use model::{
    DualStack, Eni, EniId, EniKind, EniStatus, Family, Timestamp,
    podeni::{Allocation, EDITION_TAG, OwnedEni},
};

use super::{Cluster, Place, RESTS, Slot, Standing};
use crate::{cluster::message::Listed, podeni::Progress};

impl Cluster {
    /// Whether the list shows it as a spare of this machine.
    pub(in crate::cluster) fn is_spare(&self, eni: &EniId) -> bool {
        self.pool.by_eni.contains_key(eni)
    }

    /// The whole list: what is not where it was is looked at again. `began` is when it was asked for.
    pub(in crate::cluster) fn compare_spares(
        &mut self,
        now: Timestamp,
        began: Timestamp,
        listed: &[Listed],
    ) {
        let listed: BTreeMap<&EniId, &Listed> =
            listed.iter().map(|one| (&one.eni.id, one)).collect();
        let mut doubtful = Vec::new();
        for (id, slot) in &self.pool.slots {
            let (Standing::Ready(seen), Some(eni)) = (&slot.standing, &slot.allocation.eni) else {
                continue;
            };
            let found = listed.get(&eni.id);
            let same = found.is_some_and(|found| {
                (&found.eni.status, &found.eni.instance, &found.trunk)
                    == (&seen.status, &seen.instance, &seen.trunk)
            });
            if !same && slot.since < began {
                doubtful.push(*id);
            }
        }
        for id in doubtful {
            self.pool.stand(now, id, Standing::Resting(now));
        }
        if !self.pool.listed {
            self.pool.listed = true;
            self.visit_all();
        }
    }

    /// Takes an ENI nobody refers to as a spare, if it is one and is wanted; says whether it did. `confirmed`
    /// when it has been so for long enough that no request for it can still be without its answer.
    pub(in crate::cluster) fn adopt(
        &mut self,
        now: Timestamp,
        stray: &Listed,
        confirmed: bool,
    ) -> bool {
        let eni = &stray.eni;
        let Some(edition) = eni.tags.get(EDITION_TAG).cloned() else {
            return false;
        };
        let Some(place) = self.place_of(stray) else {
            return false;
        };
        let attached = matches!(place, Place::Node(_));
        let full = self.room(&place).is_none_or(|room| room <= 0) || self.is_crowded(&place);
        let wanted = self.edition(&edition);
        let wanted = wanted.map_or(0, |one| self.wants_at(one, &place));
        if !(attached || confirmed) || full || self.pool.count(&edition, &place) >= wanted {
            return false;
        }
        if self.is_leaked(&eni.id) || self.pod_with(stray).is_some() {
            return false;
        }
        let Some(allocation) = self.as_allocation(eni, &edition) else {
            return false;
        };
        let at = (edition.clone(), place.clone());
        self.pool.used.entry(at).or_insert(now);
        let id = self.pool.insert(Slot {
            place,
            edition,
            identity: eni.id.to_string(),
            allocation,
            progress: Progress::new(0),
            standing: Standing::Resting(now.after(RESTS)),
            since: now,
        });
        self.pool.look_at(id);
        true
    }

    /// Where an ENI could be a spare: on the trunk of a node, or free.
    fn place_of(&self, one: &Listed) -> Option<Place> {
        match (one.eni.status, one.eni.kind) {
            (EniStatus::Available, _) => Some(Place::Zone(one.eni.zone.clone())),
            (EniStatus::InUse, EniKind::Member) => {
                let mut nodes = self.nodes.values();
                let node = nodes.find(|node| one.eni.instance.as_ref() == Some(&node.instance))?;
                let trunk = one.trunk.is_some() && one.trunk == node.trunk;
                trunk.then(|| Place::Node(node.name.clone()))
            }
            _ => None,
        }
    }

    /// The allocation it would be; nothing when it is not what its PodNetworking describes.
    fn as_allocation(&self, eni: &Eni, edition: &str) -> Option<Allocation> {
        let networking = self.edition(edition)?;
        let zone = &eni.zone;
        let known = self.vswitches.known().get(&eni.vswitch)?;
        let groups = |all: &[model::SecurityGroupId]| all.iter().cloned().collect::<BTreeSet<_>>();
        let same = networking.vswitches.contains(&eni.vswitch)
            && known.described.zone == *zone
            && groups(&networking.security_groups) == groups(&eni.security_groups);
        if !same {
            return None;
        }
        let address = eni.primary_address()?;
        let (v4, v6) = (known.described.cidr, known.described.ipv6_cidr);
        let blocks = DualStack {
            v4: Some(IpNet::V4(v4)),
            v6: v6.map(IpNet::V6),
        };
        let blank = Self::blank(networking, eni.vswitch.clone(), blocks)?;
        Some(Allocation {
            addresses: DualStack::only(Family::of(address), address),
            eni: Some(OwnedEni {
                id: eni.id.clone(),
                mac: eni.mac,
                vpc: eni.vpc.clone(),
            }),
            ..blank
        })
    }
}
