//! How many addresses the node should have, and how the pool grows towards that: by addresses on the
//! ENIs there are, then by another ENI.
//!
//! What is asked for covers the pods that wait and the idle addresses to keep, less what is idle or
//! on its way. Resting addresses do not count as idle: they are not there for the next pod. Where the
//! pool may grow by prefixes it does, and by single addresses for the rest.

use std::{cmp::Reverse, time::Duration};

use model::{EniId, Ipv4Prefix, Timestamp, VSwitchId};

use super::{Node, budget::Api, exhaustion::Way, policy::EniPolicy, prefix::Need};
use crate::ledger::{AddressEntry, AddressState, CreateEni, EniStage, IntentCall};

/// Addresses one AssignPrivateIpAddresses may ask for (ECS API, `SecondaryPrivateIpAddressCount` and
/// the limit of 10 addresses a call).
const ASSIGN_MAX: u32 = 10;

/// Addresses one CreateNetworkInterface may bring: the primary one and 49 more (ECS API,
/// `SecondaryPrivateIpAddressCount`).
const CREATE_MAX: u32 = 50;

/// How long a need is gathered before it becomes a call. kubelet starts the pods of a burst within
/// some tens of milliseconds, and a call takes the cloud hundreds: what comes together waits once.
const GATHER: Duration = Duration::from_millis(50);

impl Node {
    pub(super) fn plan_supply(&mut self, now: Timestamp) {
        self.held.clear();
        let waiting = u32::try_from(self.waiting_count()).unwrap_or(u32::MAX);
        let wanted = waiting.saturating_add(self.idle_floor());
        let here = self.idle(now).saturating_add(self.coming(now));
        let missing = wanted.saturating_sub(here);
        let growth = self
            .trend
            .growth(now, waiting.saturating_add(self.served()));
        let need = Need {
            addresses: match missing {
                0 => 0,
                _ => self
                    .ample(now, waiting, growth)
                    .saturating_sub(here)
                    .max(missing),
            },
            prefixes: self.prefixes_lacking(now),
        };
        let trunk = self.trunk_due(now);
        // Prefixes that lack are no reason to keep single addresses nobody needs.
        match need.addresses {
            0 if !trunk => self.plan_surplus(now),
            _ => self.surplus.forget(),
        }
        if need.in_prefixes() == 0 && !trunk {
            self.missing_since = None;
            return;
        }
        let since = *self.missing_since.get_or_insert(now);
        if trunk || missing >= ASSIGN_MAX || now.since(since) >= GATHER {
            self.grow(now, need, missing);
        }
    }

    /// How many addresses there are to be when there are too few: while pods come, what the next minute will
    /// take, and a full pool; and a full pool while pods wait and the account's calls are what runs short. Calls
    /// are what many nodes share. What no pod takes goes back like any surplus.
    fn ample(&self, now: Timestamp, waiting: u32, growth: u32) -> u32 {
        let growing = [Api::CreateNetworkInterface, Api::AssignPrivateIpAddresses];
        let scarce = growing.iter().any(|api| self.budget.is_throttled(*api));
        if growth == 0 && !(scarce && waiting > 0) {
            return 0;
        }
        let kept = self.idle_floor().saturating_add(growth);
        let more = kept.max(self.config.idle_max).min(self.fair_share(now));
        waiting.saturating_add(more)
    }

    /// Pods that have an address of the pool.
    fn served(&self) -> u32 {
        let held = |entry: &&AddressEntry| matches!(entry.state, AddressState::Assigned { .. });
        u32::try_from(self.ledger.addresses().filter(held).count()).unwrap_or(u32::MAX)
    }

    /// Idle addresses to keep: those of the configuration, and of the warm-up what no pod took yet.
    pub(super) fn idle_floor(&self) -> u32 {
        self.config.idle_min.max(self.warm_left)
    }

    /// Addresses ready for the next pod.
    pub(super) fn idle(&self, now: Timestamp) -> u32 {
        let free = self
            .ledger
            .addresses()
            .filter(|entry| self.free_for_all(entry, now));
        u32::try_from(free.count()).unwrap_or(u32::MAX)
    }

    /// Addresses asked for, or here but not usable yet.
    fn coming(&self, now: Timestamp) -> u32 {
        let asked: u32 = self
            .ledger
            .intents()
            .map(|intent| intent.call.addresses())
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
            let ours = !self.excluded(&entry.eni) && !self.stuck(&entry.eni);
            coming && staying && ours && entry.unseen == 0 && !self.is_occupied(entry.address)
        });
        asked.saturating_add(u32::try_from(on_the_way.count()).unwrap_or(u32::MAX))
    }

    /// Grows by what is in `need`, of which `missing` addresses are needed now: for the rest no ENI is made.
    fn grow(&mut self, now: Timestamp, mut need: Need, missing: u32) {
        let ahead = need.addresses.saturating_sub(missing);
        let spread = self.config.policy.enis == EniPolicy::LeastIps || self.trunk_due(now);
        if spread {
            self.grow_by_eni(now, &mut need);
            // Where a new one may go is being asked; until then nothing says that there is none.
            if self.vswitch_looks.under_way && self.may_have_another(now) {
                return;
            }
        }
        // What is known of vSwitches is renewed while the pool grows, also where no further ENI may be made.
        if !self.stops.closed(Way::NewEni, now) {
            self.look_at_vswitches(now);
        }
        let enis = self.enis_to_grow();
        for id in &enis {
            self.grow_by_prefixes(now, id, &mut need);
        }
        for id in &enis {
            let count = need.addresses.min(self.room(now, id)).min(ASSIGN_MAX);
            if count > 0 && self.may_grow(now, Api::AssignPrivateIpAddresses) {
                need.addresses = need.addresses.saturating_sub(count);
                let eni = id.clone();
                self.open(now, IntentCall::AssignAddresses { eni, count });
            }
        }
        // What an ENI that is busy now will take in its next calls comes sooner than a new ENI, unless
        // those calls may not be made and the other may. Where the cloud throttles both, an ENI more takes
        // two calls of many nodes' that wait.
        let later: u32 = enis.iter().map(|id| self.room_later(now, id)).sum();
        let scarce = self.budget.is_throttled(Api::CreateNetworkInterface);
        if later > 0 && (scarce || self.may_grow(now, Api::AssignPrivateIpAddresses)) {
            need.addresses = need.addresses.saturating_sub(later);
        }
        if !spread {
            need.addresses = need.addresses.saturating_sub(ahead);
            self.grow_by_eni(now, &mut need);
        }
    }

    /// The ENIs in the order in which they grow.
    fn enis_to_grow(&self) -> Vec<EniId> {
        let mut enis: Vec<_> = self
            .ledger
            .enis()
            .map(|eni| (self.ledger.places_of(&eni.id), eni.id.clone()))
            .collect();
        match self.config.policy.enis {
            EniPolicy::MostIps => enis.sort_by_key(|(places, _)| Reverse(*places)),
            EniPolicy::LeastIps => enis.sort_by_key(|(places, _)| *places),
        }
        enis.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether the pool may have one more ENI, as far as anybody said.
    fn may_have_another(&self, now: Timestamp) -> bool {
        let count = u32::try_from(self.ledger.enis().count()).unwrap_or(u32::MAX);
        let places = self.places_for_enis(now, self.trunk_due(now));
        !self.stops.closed(Way::NewEni, now) && count < places
    }

    fn grow_by_eni(&mut self, now: Timestamp, need: &mut Need) {
        let creating = self
            .ledger
            .intents()
            .any(|i| matches!(i.call, IntentCall::CreateEni(_)));
        let trunk = self.trunk_due(now);
        let needless = need.in_prefixes() == 0 && !trunk;
        if needless || creating || self.stops.closed(Way::NewEni, now) {
            return;
        }
        // What it brings counts as coming from the next look on.
        if !trunk && self.take_back() || !self.may_have_another(now) {
            return;
        }
        if !self.may_grow(now, Api::CreateNetworkInterface) {
            return;
        }
        let Some(vswitch) = self.choose_vswitch(now) else {
            return;
        };
        let places = self.config.limits.ipv4_per_eni;
        let prefixes = need.in_prefixes().min(places.saturating_sub(1));
        let prefix_count = self.blocks_left(now, &vswitch, prefixes);
        let single = match (prefix_count, need.addresses) {
            (0, 0) if !trunk => return,
            (0, missing) => {
                let ahead = match self.trend.grows() {
                    true => places.min(self.fair_share(now)),
                    false => 0,
                };
                self.vswitch_has(&vswitch, missing.max(ahead).min(places))
            }
            // The primary address alone: a create asks for secondary ones or for prefixes.
            _ => 1,
        };
        let create = CreateEni {
            address_count: single.clamp(1, CREATE_MAX),
            prefix_count,
            vswitch,
            security_groups: self.config.security_groups.clone(),
            tags: self.config.tags.clone(),
            trunk,
        };
        need.addresses = need.addresses.saturating_sub(create.address_count);
        need.met_by_prefixes(prefix_count);
        self.open(now, IntentCall::CreateEni(create));
    }

    /// Whether the pool may grow by a call of `api` now. What is not asked for goes on growing, and is
    /// asked for whole when the call may be made.
    pub(super) fn may_grow(&mut self, now: Timestamp, api: Api) -> bool {
        let may = self.may_call(now, api, self.growth_purpose());
        if !may {
            self.held.insert(api);
        }
        may
    }

    /// Single addresses an ENI may get right now.
    fn room(&self, now: Timestamp, id: &EniId) -> u32 {
        self.single(now, id, self.places(now, id))
    }

    /// Places an ENI may fill right now, with whatever its vSwitch has.
    pub(super) fn places(&self, now: Timestamp, id: &EniId) -> u32 {
        let busy = self.progress.get(id).is_some_and(|progress| progress.busy);
        if busy || self.asked_for(id) > 0 || !self.eni_usable(id) {
            0
        } else {
            self.places_later(now, id)
        }
    }

    /// Places an ENI may fill beyond those it has and those asked for, as far as is known now.
    fn places_later(&self, now: Timestamp, id: &EniId) -> u32 {
        let full = self
            .progress
            .get(id)
            .is_some_and(|progress| progress.full_until > now);
        if full || self.stops.closed(Way::Addresses, now) {
            return 0;
        }
        self.lacks(id)
    }

    /// As many of `places` as the ENI's vSwitch has single addresses for.
    fn single(&self, now: Timestamp, id: &EniId, places: u32) -> u32 {
        let vswitch = self.ledger.eni(id).map(|eni| &eni.vswitch);
        match vswitch {
            Some(vswitch) if self.vswitch_full(now, vswitch) || self.is_tried(vswitch) => 0,
            Some(vswitch) => self.vswitch_has(vswitch, places),
            None => 0,
        }
    }

    /// Whether a vSwitch that had none left is being asked for an address: one try tells for all its ENIs.
    fn is_tried(&self, vswitch: &VSwitchId) -> bool {
        let mut asked = self.ledger.intents().filter_map(|it| it.call.eni());
        self.vswitch_refused_last(vswitch)
            && asked.any(|id| {
                self.ledger
                    .eni(id)
                    .is_some_and(|eni| eni.vswitch == *vswitch)
            })
    }

    /// Addresses an ENI may get beyond those it has and those asked for.
    fn room_later(&self, now: Timestamp, id: &EniId) -> u32 {
        let places = self.places_later(now, id);
        let vswitch = self.ledger.eni(id).map(|eni| &eni.vswitch);
        if vswitch.is_some_and(|vswitch| self.blocks_left(now, vswitch, 1) > 0) {
            return places.saturating_mul(Ipv4Prefix::ADDRESSES);
        }
        self.single(now, id, places)
    }

    /// Places an ENI lacks of those the instance type allows: an address takes one, and so does a prefix.
    pub(super) fn lacks(&self, id: &EniId) -> u32 {
        let leaving = self
            .ledger
            .eni(id)
            .is_none_or(|eni| matches!(eni.stage, EniStage::Detaching | EniStage::Deleting));
        if leaving || self.excluded(id) || self.stuck(id) {
            return 0;
        }
        let has = self.ledger.places_of(id);
        self.config
            .limits
            .ipv4_per_eni
            .saturating_sub(has.saturating_add(self.asked_for(id)))
    }

    /// Places asked for on an ENI whose answer is open.
    pub(super) fn asked_for(&self, id: &EniId) -> u32 {
        let intents = self.ledger.intents().map(|intent| &intent.call);
        let on_it = intents.filter(|call| call.eni() == Some(id));
        on_it.map(IntentCall::places).sum()
    }

    /// Why a pod has no address right now, in one sentence.
    pub(super) fn waiting_for(&self, now: Timestamp) -> String {
        if let Some(lack) = self.block_lacks() {
            return lack;
        }
        if let Some(exhaustion) = self.exhausted(now) {
            return exhaustion.reason;
        }
        if let Some(intent) = self.ledger.intents().next() {
            let failures = self
                .intents
                .get(&intent.id)
                .map_or(0, |progress| progress.failures);
            let what = match &intent.call {
                IntentCall::CreateEni(create) => format!("a new ENI in {}", create.vswitch),
                IntentCall::AssignAddresses { eni, count } => format!("{count} addresses on {eni}"),
                IntentCall::AssignPrefixes { eni, count } => format!("{count} prefixes on {eni}"),
            };
            return format!("the cloud was asked for {what} ({failures} failures so far)");
        }
        if let Some(api) = self.held.first() {
            return format!("no call of {} may be made right now", api.name());
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
        if enis == 0 && self.trunk_looks_due() {
            return "the cloud is asked whether the node has a trunk ENI".into();
        }
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
        let gathered = self.missing_since.map(|since| since.after(GATHER));
        let all = intents
            .chain(full)
            .chain(self.vswitch_deadlines())
            .chain(self.stops.deadlines())
            .chain(self.block_deadlines())
            .chain(gathered)
            .chain(self.surplus_deadlines(now))
            .chain(self.sticky_deadlines())
            .chain(self.trunk_deadline())
            .chain(self.budget_deadlines(now));
        all.filter(move |at| *at > now)
    }
}
