//! How many addresses the node should have: when to ask for more, of which ENI, and when to give some
//! back.
//!
//! What is asked for covers the pods that wait and the idle addresses to keep, less what is idle or
//! on its way. Resting addresses do not count as idle: they are not there for the next pod.

use std::{net::IpAddr, time::Duration};

use model::{EniId, Timestamp};

use super::{Node, message::Notice};
use crate::ledger::{AddressState, CreateEni, EniStage, IntentCall};

/// Addresses one AssignPrivateIpAddresses may ask for (ECS API, `SecondaryPrivateIpAddressCount` and
/// the limit of 10 addresses a call).
const ASSIGN_MAX: u32 = 10;

/// Addresses one CreateNetworkInterface may bring: the primary one and 49 more (ECS API,
/// `SecondaryPrivateIpAddressCount`).
const CREATE_MAX: u32 = 50;

/// Addresses one UnassignPrivateIpAddresses takes (ECS API, `PrivateIpAddress.N`, N up to 10).
const UNASSIGN_MAX: u32 = 10;

/// Whether the pool may grow.
#[derive(Debug, Default)]
pub(super) struct Growth {
    until: Timestamp,
    reason: String,
}

impl Node {
    pub(super) fn stop_growth(&mut self, now: Timestamp, rest: Duration, reason: String) {
        let until = now.after(rest);
        self.notice(Notice::Exhausted(reason.clone(), until));
        self.growth = Growth { until, reason };
    }

    pub(super) fn plan_supply(&mut self, now: Timestamp) {
        self.look_at_vswitches(now);
        let waiting = u32::try_from(self.waiting_count()).unwrap_or(u32::MAX);
        let idle = self.idle(now);
        let wanted = waiting.saturating_add(self.config.idle_min);
        let missing = wanted.saturating_sub(idle + self.coming(now));
        if missing > 0 {
            self.grow(now, missing);
        } else if waiting == 0 && idle > self.config.idle_max.max(self.config.idle_min) {
            let most = self.config.idle_max.max(self.config.idle_min);
            self.shrink(now, idle - most);
        }
    }

    /// Addresses ready for the next pod.
    pub(super) fn idle(&self, now: Timestamp) -> u32 {
        let free = self
            .ledger
            .addresses()
            .filter(|entry| self.free_since(entry, now).is_some());
        u32::try_from(free.count()).unwrap_or(u32::MAX)
    }

    /// Addresses asked for, or here but not usable yet.
    fn coming(&self, now: Timestamp) -> u32 {
        let asked: u32 = self
            .ledger
            .intents()
            .map(|intent| match &intent.call {
                IntentCall::CreateEni(create) => create.address_count,
                IntentCall::AssignAddresses { count, .. } => *count,
            })
            .sum();
        let on_the_way = self.ledger.addresses().filter(|entry| {
            let coming = match entry.state {
                AddressState::Fresh => true,
                AddressState::Idle { .. } => !self.eni_usable(&entry.eni),
                AddressState::Resting { until } => until <= now && !self.eni_usable(&entry.eni),
                AddressState::Assigned { .. } | AddressState::Releasing => false,
            };
            let staying = self.ledger.eni(&entry.eni).is_some_and(|eni| {
                matches!(
                    eni.stage,
                    EniStage::Created | EniStage::Attaching | EniStage::Attached
                )
            });
            coming && staying && entry.unseen == 0 && !self.occupied.contains(&entry.address)
        });
        asked + u32::try_from(on_the_way.count()).unwrap_or(u32::MAX)
    }

    fn grow(&mut self, now: Timestamp, mut missing: u32) {
        if self.growth.until > now {
            return;
        }
        let enis: Vec<EniId> = self.ledger.enis().map(|eni| eni.id.clone()).collect();
        for id in &enis {
            let count = missing.min(self.room(now, id)).min(ASSIGN_MAX);
            if count > 0 {
                missing -= count;
                let eni = id.clone();
                self.open(now, IntentCall::AssignAddresses { eni, count });
            }
        }
        // What an ENI that is busy now will take in its next call comes sooner than a new ENI.
        let later: u32 = enis.iter().map(|id| self.room_later(now, id)).sum();
        let missing = missing.saturating_sub(later);
        let creating = self
            .ledger
            .intents()
            .any(|i| matches!(i.call, IntentCall::CreateEni(_)));
        let count = u32::try_from(enis.len()).unwrap_or(u32::MAX);
        if missing == 0 || creating || count >= self.config.enis_max {
            return;
        }
        let Some(vswitch) = self.choose_vswitch(now) else {
            return;
        };
        let create = CreateEni {
            vswitch,
            security_groups: self.config.security_groups.clone(),
            address_count: missing
                .min(self.config.limits.ipv4_per_eni)
                .clamp(1, CREATE_MAX),
            tags: self.config.tags.clone(),
        };
        self.open(now, IntentCall::CreateEni(create));
    }

    /// Addresses an ENI may get right now.
    fn room(&self, now: Timestamp, id: &EniId) -> u32 {
        let busy = self.progress.get(id).is_some_and(|progress| progress.busy);
        if busy || self.asked_for(id) > 0 || !self.eni_usable(id) {
            0
        } else {
            self.room_later(now, id)
        }
    }

    /// Addresses an ENI may get beyond those it has and those asked for.
    fn room_later(&self, now: Timestamp, id: &EniId) -> u32 {
        let leaving = self
            .ledger
            .eni(id)
            .is_none_or(|eni| matches!(eni.stage, EniStage::Detaching | EniStage::Deleting));
        let full = self
            .progress
            .get(id)
            .is_some_and(|progress| progress.full_until > now);
        if leaving || full {
            return 0;
        }
        let has = u32::try_from(self.ledger.addresses_of(id).count()).unwrap_or(u32::MAX);
        self.config
            .limits
            .ipv4_per_eni
            .saturating_sub(has.saturating_add(self.asked_for(id)))
    }

    /// Addresses asked for on an ENI whose answer is open.
    fn asked_for(&self, id: &EniId) -> u32 {
        let on_it = self
            .ledger
            .intents()
            .filter_map(|intent| match &intent.call {
                IntentCall::AssignAddresses { eni, count } if eni == id => Some(*count),
                IntentCall::AssignAddresses { .. } | IntentCall::CreateEni(_) => None,
            });
        on_it.sum()
    }

    /// Gives idle addresses back: whole ENIs nobody uses first, then single addresses.
    fn shrink(&mut self, now: Timestamp, mut excess: u32) {
        if self.ledger.intents().next().is_some() {
            return;
        }
        for (free, in_use, id) in self.enis_by_use(now) {
            if excess == 0 {
                return;
            }
            if in_use == 0 && free > 0 && free <= excess {
                excess -= free;
                self.set_stage(&id, EniStage::Detaching);
                continue;
            }
            let spare = self
                .ledger
                .addresses_of(&id)
                .filter(|entry| !entry.primary && self.free_since(entry, now).is_some());
            let give: Vec<IpAddr> = spare
                .map(|entry| entry.address)
                .take(excess.min(UNASSIGN_MAX) as usize)
                .collect();
            excess -= u32::try_from(give.len()).unwrap_or(excess);
            for address in give {
                self.set_address(address, AddressState::Releasing);
            }
        }
    }

    /// Quiet ENIs, those with the fewest addresses in use first: (free, not free, id).
    fn enis_by_use(&self, now: Timestamp) -> Vec<(u32, u32, EniId)> {
        let quiet = self.ledger.enis().filter(|eni| {
            let busy = self
                .progress
                .get(&eni.id)
                .is_some_and(|progress| progress.busy);
            !busy && self.eni_usable(&eni.id)
        });
        let mut list: Vec<_> = quiet
            .map(|eni| {
                let (mut free, mut in_use) = (0, 0);
                for entry in self.ledger.addresses_of(&eni.id) {
                    match self.free_since(entry, now) {
                        Some(_) => free += 1,
                        None => in_use += 1,
                    }
                }
                (free, in_use, eni.id.clone())
            })
            .collect();
        list.sort_by_key(|(free, in_use, id)| (*in_use, *free, id.clone()));
        list
    }

    /// Why a pod has no address right now, in one sentence.
    pub(super) fn waiting_for(&self, now: Timestamp) -> String {
        if self.growth.until > now
            || (self.ledger.intents().next().is_none() && !self.growth.reason.is_empty())
        {
            return self.growth.reason.clone();
        }
        if let Some(intent) = self.ledger.intents().next() {
            let failures = self
                .intents
                .get(&intent.id)
                .map_or(0, |progress| progress.failures);
            let what = match &intent.call {
                IntentCall::CreateEni(create) => format!("a new ENI in {}", create.vswitch),
                IntentCall::AssignAddresses { eni, count } => format!("{count} addresses on {eni}"),
            };
            return format!("the cloud was asked for {what} ({failures} failures so far)");
        }
        if let Some(eni) = self.ledger.enis().find(|eni| !self.eni_usable(&eni.id)) {
            let link = if self.links.contains_key(&eni.mac) {
                "present"
            } else {
                "missing"
            };
            return format!(
                "{} is {:?}, its link is {link} on the node",
                eni.id, eni.stage
            );
        }
        let fresh = self
            .ledger
            .addresses()
            .filter(|entry| entry.state == AddressState::Fresh)
            .count();
        if fresh > 0 {
            return format!("{fresh} new addresses are not visible in the instance's metadata yet");
        }
        let enis = self.ledger.enis().count();
        format!(
            "the node has {enis} of {} ENIs with {} addresses each, all in use or resting",
            self.config.enis_max, self.config.limits.ipv4_per_eni
        )
    }

    pub(super) fn supply_deadlines(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let intents = self
            .intents
            .values()
            .filter(|p| !p.busy)
            .map(|p| p.not_before);
        let full = self.progress.values().map(|progress| progress.full_until);
        let vswitches = self.vswitches.values().map(|state| state.full_until);
        let all = intents
            .chain(full)
            .chain(vswitches)
            .chain([self.growth.until]);
        all.filter(move |at| *at > now)
    }
}
