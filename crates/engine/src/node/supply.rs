//! How many addresses the node should have, and the calls that bring them or give them back.
//!
//! What is asked for covers the pods that wait and the idle addresses to keep, less what is idle or
//! on its way. Resting addresses do not count as idle: they are not there for the next pod. A call
//! that creates something is written down with its token before it is made.

use std::{net::IpAddr, time::Duration};

use model::{EniId, Exhausted, FaultClass, Timestamp, VSwitch, VSwitchId};
use sha1::{Digest, Sha1};

use super::{
    Node, Op,
    message::{CloudAnswer, CloudCall, CloudFault, Notice},
};
use crate::{
    ledger::{AddressState, Change, CreateEni, EniStage, Entry, EntryKey, Intent, IntentCall},
    retry::Backoff,
};

/// Addresses one AssignPrivateIpAddresses may ask for (ECS API, `SecondaryPrivateIpAddressCount` and
/// the limit of 10 addresses a call).
const ASSIGN_MAX: u32 = 10;

/// Addresses one CreateNetworkInterface may bring: the primary one and 49 more (ECS API,
/// `SecondaryPrivateIpAddressCount`).
const CREATE_MAX: u32 = 50;

/// Addresses one UnassignPrivateIpAddresses takes (ECS API, `PrivateIpAddress.N`, N up to 10).
const UNASSIGN_MAX: u32 = 10;

/// How long a vSwitch or ENI that is full is left alone. Space returns when somebody frees some,
/// which takes minutes; asking every ten costs six calls an hour.
const FULL_REST: Duration = Duration::from_secs(600);

/// How long what is known about vSwitches serves.
const VSWITCH_KEEP: Duration = Duration::from_secs(600);

/// How long the pool does not grow after a refusal that only a person can lift.
const REFUSED_REST: Duration = Duration::from_secs(30);

/// Whether the pool may grow.
#[derive(Debug, Default)]
pub(super) struct Growth {
    until: Timestamp,
    reason: String,
}

/// What is known about an open call beyond the ledger.
#[derive(Debug, Default)]
pub(super) struct IntentProgress {
    busy: bool,
    failures: u32,
    not_before: Timestamp,
}

/// What is known about a configured vSwitch.
#[derive(Debug, Default)]
pub(super) struct VSwitchState {
    described: Option<VSwitch>,
    /// The cloud answered, and it was not among the answers.
    absent: bool,
    full_until: Timestamp,
}

impl Node {
    pub(super) fn stop_growth(&mut self, now: Timestamp, rest: Duration, reason: String) {
        let until = now.after(rest);
        self.notice(Notice::Exhausted(reason.clone(), until));
        self.growth = Growth { until, reason };
    }

    pub(super) fn plan_supply(&mut self, now: Timestamp) {
        if self.vswitch_poll.is_new() && !self.config.vswitches.is_empty() {
            self.vswitch_poll.want();
        }
        if self.vswitch_poll.take_due(now) {
            let ids = self.config.vswitches.clone();
            self.call(Op::VSwitches, CloudCall::DescribeVSwitches(ids));
        }
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

    /// The first configured vSwitch of the node's zone that has addresses left, as far as is known.
    fn choose_vswitch(&mut self, now: Timestamp) -> Option<VSwitchId> {
        if self.vswitch_poll.in_flight {
            return None;
        }
        let usable = |id: &&VSwitchId| {
            let state = self.vswitches.get(*id);
            let elsewhere = state
                .and_then(|state| state.described.as_ref())
                .is_some_and(|vswitch| {
                    vswitch.zone != self.config.zone || vswitch.available_addresses == 0
                });
            !elsewhere && state.is_none_or(|state| !state.absent && state.full_until <= now)
        };
        if let Some(id) = self.config.vswitches.iter().find(usable) {
            return Some(id.clone());
        }
        let names: Vec<_> = self
            .config
            .vswitches
            .iter()
            .map(VSwitchId::as_str)
            .collect();
        let reason = if names.is_empty() {
            format!(
                "eni_conf key vswitches lists none for the node's zone {}",
                self.config.zone
            )
        } else {
            format!(
                "none of the vSwitches {} has a free address in zone {} (eni_conf key vswitches)",
                names.join(", "),
                self.config.zone
            )
        };
        self.stop_growth(now, REFUSED_REST, reason);
        self.vswitch_poll.again(now.after(REFUSED_REST), 0);
        None
    }

    fn open(&mut self, now: Timestamp, call: IntentCall) {
        self.intent_last += 1;
        let id = self.intent_last;
        // The token is the intent's identity: instance, number, and the time, because a ledger that
        // was lost starts to count again and must not repeat a token the cloud remembers.
        let identity = format!("{}/{id}/{}", self.config.instance, now.as_nanos());
        let digest = Sha1::digest(identity);
        let token: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        match model::ClientToken::new(token) {
            Ok(token) => {
                self.record(Change::Put(Entry::Intent(Intent { id, token, call })));
            }
            Err(error) => self.notice(Notice::Defect(error.to_string())),
        }
    }

    pub(super) fn drive_intents(&mut self, now: Timestamp) {
        let intents: Vec<Intent> = self.ledger.intents().cloned().collect();
        for intent in intents {
            let progress = self.intents.entry(intent.id).or_default();
            if progress.busy || progress.not_before > now {
                continue;
            }
            progress.busy = true;
            let call = match intent.call {
                IntentCall::CreateEni(create) => CloudCall::CreateEni(intent.token, create),
                IntentCall::AssignAddresses { eni, count } => {
                    CloudCall::AssignAddresses(intent.token, eni, count)
                }
            };
            self.call(Op::Intent(intent.id), call);
        }
    }

    pub(super) fn intent_done(
        &mut self,
        now: Timestamp,
        id: u64,
        result: Result<CloudAnswer, CloudFault>,
    ) {
        let Some(intent) = self.ledger.intent(id).cloned() else {
            return;
        };
        match (result, &intent.call) {
            (Ok(CloudAnswer::Created(eni)), IntentCall::CreateEni(_)) => {
                self.put_new_eni(&eni, EniStage::Created);
                self.succeeded(id);
            }
            (Ok(CloudAnswer::Assigned(addresses)), IntentCall::AssignAddresses { eni, .. }) => {
                self.progress(eni).changed = now;
                for address in addresses {
                    self.put_fresh(address, eni, false);
                }
                self.succeeded(id);
            }
            (Ok(_), _) => {
                let class = FaultClass::Unknown;
                let text = "the answer is of another call".into();
                self.intent_failed(now, &intent, &CloudFault { class, text });
            }
            (Err(fault), _) => self.intent_failed(now, &intent, &fault),
        }
    }

    /// An answer that brought something: whatever stood in the way is gone.
    fn succeeded(&mut self, id: u64) {
        self.growth = Growth::default();
        self.close(id);
    }

    fn close(&mut self, id: u64) {
        self.record(Change::Delete(EntryKey::Intent(id)));
        self.intents.remove(&id);
    }

    fn intent_failed(&mut self, now: Timestamp, intent: &Intent, fault: &CloudFault) {
        let what = match &intent.call {
            IntentCall::CreateEni(create) => format!("creating an ENI in {}", create.vswitch),
            IntentCall::AssignAddresses { eni, count } => {
                format!("assigning {count} addresses to {eni}")
            }
        };
        self.cloud_failed(&what, fault);
        match fault.class {
            // Not carried out, or nobody knows: the same call under the same token is safe.
            FaultClass::Throttled | FaultClass::Conflict | FaultClass::Unknown => {
                let failures = self.intents.entry(intent.id).or_default().failures + 1;
                let not_before = now.after(self.wait(Backoff::CLOUD, failures));
                self.intents.insert(
                    intent.id,
                    IntentProgress {
                        busy: false,
                        failures,
                        not_before,
                    },
                );
            }
            FaultClass::Exhausted(what) => {
                self.exhausted(now, &intent.call, what, &fault.text);
                self.close(intent.id);
            }
            FaultClass::TokenMismatch => self.close(intent.id),
            FaultClass::Gone | FaultClass::Denied | FaultClass::Invalid => {
                if let IntentCall::AssignAddresses { .. } = intent.call {
                    self.inventory.want();
                }
                self.close(intent.id);
                self.stop_growth(now, REFUSED_REST, format!("{what}: {}", fault.text));
            }
        }
    }

    fn exhausted(&mut self, now: Timestamp, call: &IntentCall, what: Exhausted, text: &str) {
        let until = now.after(FULL_REST);
        if let IntentCall::AssignAddresses { eni, .. } = call {
            self.progress(eni).full_until = until;
        }
        let vswitch = match call {
            IntentCall::CreateEni(create) => Some(create.vswitch.clone()),
            IntentCall::AssignAddresses { eni, .. } => {
                self.ledger.eni(eni).map(|eni| eni.vswitch.clone())
            }
        };
        match (what, vswitch) {
            (Exhausted::VSwitch, Some(vswitch)) => {
                self.vswitches.entry(vswitch).or_default().full_until = until;
                self.notice(Notice::Exhausted(text.into(), until));
            }
            (Exhausted::AddressPerEni, _) => self.notice(Notice::Exhausted(text.into(), until)),
            _ => self.stop_growth(now, Duration::from_secs(60), text.into()),
        }
    }

    pub(super) fn vswitches_done(
        &mut self,
        now: Timestamp,
        result: Result<CloudAnswer, CloudFault>,
    ) {
        self.vswitch_poll.answered();
        match result {
            Ok(CloudAnswer::VSwitches(list)) => {
                for id in self.config.vswitches.clone() {
                    let described = list.iter().find(|vswitch| vswitch.id == id).cloned();
                    self.judge_vswitch(&id, described.as_ref());
                    let state = self.vswitches.entry(id).or_default();
                    state.absent = described.is_none();
                    state.described = described;
                }
                self.vswitch_poll.again(now.after(VSWITCH_KEEP), 0);
            }
            Ok(_) => self.vswitch_poll.again(now.after(REFUSED_REST), 0),
            Err(fault) => {
                self.cloud_failed("describing the vSwitches of eni_conf key vswitches", &fault);
                self.vswitch_poll.again(now.after(REFUSED_REST), 0);
            }
        }
    }

    fn judge_vswitch(&mut self, id: &VSwitchId, described: Option<&VSwitch>) {
        let zone = &self.config.zone;
        let complaint = match described {
            None => {
                format!("eni_conf key vswitches names {id}, which does not exist in the region")
            }
            Some(vswitch) if vswitch.zone != *zone => format!(
                "eni_conf key vswitches lists {id} under zone {zone}, but it is in {}",
                vswitch.zone
            ),
            Some(_) => return,
        };
        self.notice(Notice::CloudFailed(complaint));
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
