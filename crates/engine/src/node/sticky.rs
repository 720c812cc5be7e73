//! Which address a pod gets: the one that waits for it, or the one that has been free the longest.
//!
//! A pod whose name comes back (a StatefulSet's) finds its address again if it returns to this node
//! while the address waits. Waiting is a preference, never a claim: when the pool cannot grow, a pod
//! that needs an address now takes one that waits, once it has rested as every address does.

use std::{collections::BTreeMap, net::IpAddr};

use model::{EniId, PodKey, Timestamp};

use super::{Node, policy::EniPolicy};
use crate::ledger::{AddressEntry, AddressState, Attachment, Reservation};

impl Node {
    /// The address `pod` would get now.
    pub(super) fn address_for(&self, pod: &PodKey, now: Timestamp) -> Option<AddressEntry> {
        let own = self.ledger.addresses().find(|entry| {
            let waits = reserved(entry, now).is_some_and(|it| it.pod == *pod);
            // The same pod again: nobody else is talked to by its old peers, so it needs no rest.
            let given_back = matches!(
                entry.state,
                AddressState::Resting { .. } | AddressState::Idle { .. }
            );
            waits && given_back && self.serviceable(entry)
        });
        let free = self
            .ledger
            .addresses()
            .filter(|entry| self.free_for_all(entry, now));
        let free: Vec<&AddressEntry> = match self.config.policy.enis {
            EniPolicy::MostIps => free.collect(),
            EniPolicy::LeastIps => self.of_smallest_eni(free),
        };
        own.or_else(|| self.longest_free(free.into_iter(), now))
            .or_else(|| self.yielded(now))
            .cloned()
    }

    /// Those of the ENI with the fewest addresses.
    fn of_smallest_eni<'a>(
        &self,
        free: impl Iterator<Item = &'a AddressEntry>,
    ) -> Vec<&'a AddressEntry> {
        let mut by_eni: BTreeMap<&EniId, Vec<&AddressEntry>> = BTreeMap::new();
        for entry in free {
            by_eni.entry(&entry.eni).or_default().push(entry);
        }
        let places = |id: &EniId| self.ledger.places_of(id);
        let smallest = by_eni.into_iter().min_by_key(|(id, _)| (places(id), *id));
        smallest.map(|(_, entries)| entries).unwrap_or_default()
    }

    /// The address that has been free the longest, so that an address is reused as late as can be.
    fn longest_free<'a>(
        &self,
        free: impl Iterator<Item = &'a AddressEntry>,
        now: Timestamp,
    ) -> Option<&'a AddressEntry> {
        let since = free.filter_map(|entry| Some((self.free_since(entry, now)?, entry)));
        since
            .min_by_key(|(since, entry)| (*since, entry.address))
            .map(|(_, entry)| entry)
    }

    /// An address that waits for another pod, when nothing else can be had.
    fn yielded(&self, now: Timestamp) -> Option<&AddressEntry> {
        if self.config.policy.block.is_none() {
            self.exhausted(now)?;
        }
        let waiting = self
            .ledger
            .addresses()
            .filter(|entry| reserved(entry, now).is_some());
        self.longest_free(waiting, now)
    }

    /// Whether an address is free for any pod.
    pub(super) fn free_for_all(&self, entry: &AddressEntry, now: Timestamp) -> bool {
        reserved(entry, now).is_none() && self.free_since(entry, now).is_some()
    }

    /// Takes an address back from an attachment: it rests, and waits for the pod if that comes back.
    pub(super) fn give_back(
        &mut self,
        now: Timestamp,
        address: IpAddr,
        from: &Attachment,
        until: Timestamp,
    ) {
        let held = self
            .ledger
            .address(address)
            .filter(
                |entry| matches!(&entry.state, AddressState::Assigned { to } if *to == from.key),
            )
            .cloned();
        let Some(entry) = held else {
            return;
        };
        let reserved = from.sticky.then(|| Reservation {
            pod: from.pod.clone(),
            until: now.after(self.config.policy.sticky_keep),
        });
        self.put_address(AddressEntry {
            state: AddressState::Resting { until },
            reserved,
            ..entry
        });
    }

    /// When addresses stop to wait.
    pub(super) fn sticky_deadlines(&self) -> impl Iterator<Item = Timestamp> {
        self.ledger
            .addresses()
            .filter_map(|entry| entry.reserved.as_ref().map(|it| it.until))
    }
}

fn reserved(entry: &AddressEntry, now: Timestamp) -> Option<&Reservation> {
    entry.reserved.as_ref().filter(|it| it.until > now)
}
