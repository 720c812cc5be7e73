//! Records that name one ENI: a hand wrote one, or two leaders overlapped. Who keeps the ENI, and who is told.
//!
//! Must not know how another is made for the others.

use std::collections::BTreeSet;

use model::{
    EniId, PodKey,
    podeni::{Phase, PodEni},
};

use super::{Cluster, message::Notice};

impl Cluster {
    /// Whether another record names the ENI too and has the better right to it: a bound one before others; of
    /// bound ones that whose pod runs with it; then the first by name. What leaves has none.
    pub(super) fn is_anothers(&self, record: &PodEni, eni: &EniId) -> bool {
        let unbound = |one: &PodEni| matches!(one.phase, Phase::Initial | Phase::Binding);
        let others = self.records.owners(eni).filter(|key| **key != record.key);
        let mut others = others.filter_map(|key| self.records.get(key));
        let first = |other: &PodEni| match (unbound(record), unbound(other)) {
            (true, true) => other.key < record.key,
            (one, another) if one != another => one,
            _ if self.runs_with(record, eni) => false,
            _ => self.runs_with(other, eni) || other.key < record.key,
        };
        others.any(|other| record.deleting || !other.deleting && first(other))
    }

    /// Whether the pod of a record reports an address of the ENI.
    fn runs_with(&self, record: &PodEni, eni: &EniId) -> bool {
        let pod = self.pods.get(&record.key);
        let pod = pod.filter(|pod| pod.pod.uid == record.pod && !pod.pod.finished);
        let its = record.allocations.iter();
        let mut its = its.filter(|one| one.eni.as_ref().is_some_and(|own| own.id == *eni));
        let reports = |pod: &super::ClusterPod, address| pod.addresses.contains(&address);
        pod.is_some_and(|pod| its.any(|one| one.addresses.iter().any(|(_, ip)| reports(pod, *ip))))
    }

    /// Tells, once, of bound records that name one ENI, and has them thought about.
    pub(super) fn look_for_doubles(&mut self, eni: &EniId) {
        let owners = self.records.owners(eni);
        let bound = owners
            .filter_map(|key| self.records.get(key))
            .filter(|one| {
                let bound = one.phase == Phase::Bind;
                bound && !one.deleting
            });
        let bound: BTreeSet<PodKey> = bound.map(|one| one.key.clone()).collect();
        if bound.len() < 2 {
            self.doubled.remove(eni);
            return;
        }
        if self.doubled.insert(eni.clone()) {
            self.notice(Notice::Doubled(eni.clone(), bound.clone()));
        }
        for key in bound {
            self.think(key);
        }
    }
}
