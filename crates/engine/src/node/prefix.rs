//! Growing by prefixes: sixteen addresses for one call and one place on an ENI, as long as the vSwitch
//! has a reserved block left. Where none is left the pool goes on by single addresses, on the same
//! ENIs, and asks for a prefix again after a rest.
//!
//! Each address of a prefix lives its own life; only coming and going they share. A prefix goes back
//! when all of its addresses are free at once.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use model::{EniId, Ipv4Prefix, Timestamp, VSwitchId};
use serde::{Deserialize, Serialize};

use super::{
    Node,
    budget::Api,
    exhaustion::{Exhaustion, ExhaustionKind, Way},
    history::seconds,
};
use crate::{
    ledger::{AddressEntry, AddressState, IntentCall},
    retry::Backoff,
};

/// Prefixes one call may ask for or give back (ECS API, `Ipv4PrefixCount` and `Ipv4Prefix.N`: 1 to 10).
pub(super) const CALL_MAX: u32 = 10;

/// How long a vSwitch without a block is not asked for one: somebody must give a prefix back or reserve
/// another block, which takes minutes, and single addresses serve meanwhile. A node that is to have more
/// prefixes than there are asks for ever: within an hour at the most, so that each vSwitch costs it one
/// call an hour, or two with the random part of a rest.
const NO_BLOCK: Backoff = Backoff {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(3600),
};

/// What is known about the reserved blocks of vSwitches, which no call describes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Blocks(BTreeMap<VSwitchId, State>);

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// It refused as many as twice this.
    most: Option<u32>,
    /// Refusals of a single prefix in a row.
    refusals: u32,
    /// It is not asked before.
    until: Timestamp,
    /// What the cloud said.
    reason: String,
}

/// What the pool lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// Addresses.
    pub(super) addresses: u32,
    /// Prefixes that are to be there however few addresses are needed.
    pub(super) prefixes: u32,
}

impl Need {
    /// Prefixes that cover it.
    pub(super) fn in_prefixes(self) -> u32 {
        let covering = self.addresses.div_ceil(Ipv4Prefix::ADDRESSES);
        covering.max(self.prefixes)
    }

    /// That many prefixes are on their way.
    pub(super) fn met_by_prefixes(&mut self, count: u32) {
        self.prefixes = self.prefixes.saturating_sub(count);
        let addresses = count.saturating_mul(Ipv4Prefix::ADDRESSES);
        self.addresses = self.addresses.saturating_sub(addresses);
    }
}

/// The addresses of some prefixes.
pub(super) fn addresses(prefixes: &[Ipv4Prefix]) -> Vec<IpAddr> {
    prefixes
        .iter()
        .flat_map(|prefix| prefix.addresses())
        .collect()
}

impl Node {
    /// As many of `wanted` prefixes as this vSwitch may be asked for in one call.
    pub(super) fn blocks_left(&self, now: Timestamp, vswitch: &VSwitchId, wanted: u32) -> u32 {
        if self.config.policy.prefixes.is_none() {
            return 0;
        }
        let state = self.blocks.0.get(vswitch);
        if state.is_some_and(|state| state.until > now) {
            return 0;
        }
        // What had none left is asked for one, once.
        let on_trial = state.is_some_and(|state| state.refusals > 0);
        if on_trial && self.asked_for_prefixes(vswitch) {
            return 0;
        }
        let most = state.and_then(|state| state.most).unwrap_or(CALL_MAX);
        wanted.min(most).min(CALL_MAX)
    }

    fn asked_for_prefixes(&self, vswitch: &VSwitchId) -> bool {
        let mut open = self.ledger.intents().map(|intent| &intent.call);
        open.any(|call| call.prefixes() > 0 && self.asks(call).as_ref() == Some(vswitch))
    }

    /// Asks for prefixes on an ENI that may have some right now.
    pub(super) fn grow_by_prefixes(&mut self, now: Timestamp, id: &EniId, need: &mut Need) {
        let Some(vswitch) = self.ledger.eni(id).map(|eni| eni.vswitch.clone()) else {
            return;
        };
        let wanted = need.in_prefixes().min(self.places(now, id));
        let count = self.blocks_left(now, &vswitch, wanted);
        if count > 0 && self.may_grow(now, Api::AssignPrivateIpAddresses) {
            need.met_by_prefixes(count);
            let eni = id.clone();
            self.open(now, IntentCall::AssignPrefixes { eni, count });
        }
    }

    /// Prefixes to ask for now because the node has fewer than its least.
    pub(super) fn prefixes_lacking(&self, now: Timestamp) -> u32 {
        let asked: u32 = self.ledger.intents().map(|it| it.call.prefixes()).sum();
        let lacking = self.prefixes_below_least(now, |way| !self.stops.closed(way, now));
        lacking.saturating_sub(asked)
    }

    /// Whether the node has fewer prefixes than its least though some vSwitch may give one, asked for or
    /// not, and whatever stands in the way.
    pub(super) fn wants_prefixes(&self, now: Timestamp) -> bool {
        self.prefixes_below_least(now, |_| true) > 0
    }

    fn prefixes_below_least(&self, now: Timestamp, open: impl Fn(Way) -> bool) -> u32 {
        let Some(policy) = self.config.policy.prefixes else {
            return 0;
        };
        let lacking = policy.least.saturating_sub(self.prefixes_held());
        let may_give = |vswitch: &VSwitchId| self.blocks_left(now, vswitch, 1) > 0;
        let mut enis = self.ledger.enis();
        let on_eni = open(Way::Addresses)
            && enis.any(|eni| self.lacks(&eni.id) > 0 && may_give(&eni.vswitch));
        let count = u32::try_from(self.ledger.enis().count()).unwrap_or(u32::MAX);
        let on_new = open(Way::NewEni)
            && count < self.enis_beside_lent()
            && self.config.vswitches.iter().any(may_give);
        if on_eni || on_new { lacking } else { 0 }
    }

    pub(super) fn prefixes_held(&self) -> u32 {
        let held = self.ledger.enis().map(|eni| self.prefixes_on(&eni.id));
        held.sum()
    }

    fn prefixes_on(&self, id: &EniId) -> u32 {
        u32::try_from(self.ledger.prefixes_of(id).len()).unwrap_or(u32::MAX)
    }

    /// Prefixes that may go without leaving fewer than the least.
    fn prefixes_above_least(&self) -> u32 {
        let least = self.config.policy.prefixes.map_or(0, |it| it.least);
        self.prefixes_held().saturating_sub(least)
    }

    /// Whether the node has prefixes enough without this ENI.
    pub(super) fn prefixes_spare(&self, id: &EniId) -> bool {
        let on_it = self.prefixes_on(id);
        on_it == 0 || on_it <= self.prefixes_above_least()
    }

    /// A vSwitch gave prefixes.
    pub(super) fn block_given(&mut self, vswitch: &VSwitchId) {
        self.blocks.0.remove(vswitch);
    }

    /// A vSwitch refused `count` prefixes: it is asked for fewer, and after one for none, for a while.
    pub(super) fn block_refused(
        &mut self,
        now: Timestamp,
        vswitch: &VSwitchId,
        count: u32,
        reason: &str,
    ) {
        let refusals = self.blocks.0.get(vswitch).map_or(1, |it| it.refusals + 1);
        let wait = self.wait(NO_BLOCK, refusals);
        let state = self.blocks.0.entry(vswitch.clone()).or_default();
        if count > 1 {
            state.most = Some(count / 2);
            return;
        }
        *state = State {
            most: Some(1),
            refusals,
            until: now.after(wait),
            reason: reason.to_owned(),
        };
    }

    /// That the pool goes on by single addresses though prefixes are configured, if it does.
    pub(super) fn without_block(&self, now: Timestamp) -> Option<Exhaustion> {
        self.config.policy.prefixes?;
        let standing = |state: &&State| state.refusals > 0 && state.until > now;
        let mut refused = self.blocks.0.iter();
        let (vswitch, state) = refused.find(|(_, state)| standing(state))?;
        let reason = format!(
            "{vswitch} gives no prefix (eni_conf key enable_ip_prefix); the pool grows by single addresses \
             there: {}",
            state.reason
        );
        Some(Exhaustion {
            kind: ExhaustionKind::Prefix,
            reason,
            until: Some(seconds(state.until)),
        })
    }

    pub(super) fn block_deadlines(&self) -> impl Iterator<Item = Timestamp> {
        self.blocks.0.values().map(|state| state.until)
    }

    /// Puts the addresses of a prefix that are not known yet into the ledger.
    pub(super) fn put_prefix(&mut self, prefix: Ipv4Prefix, eni: &EniId) {
        for address in prefix.addresses() {
            self.put_unknown(AddressEntry {
                address,
                eni: eni.clone(),
                primary: false,
                prefix: Some(prefix),
                state: AddressState::Fresh,
                unseen: 0,
                reserved: None,
            });
        }
    }

    /// What the cloud lists counts as usable where metadata does not speak of prefixes.
    pub(super) fn listed_is_usable(&mut self, now: Timestamp, id: &EniId, listed: &[Ipv4Prefix]) {
        if !self.progress(id).prefixes_unseen {
            return;
        }
        let fresh = self.ledger.addresses_of(id).filter(|entry| {
            let listed = entry.prefix.is_some_and(|prefix| listed.contains(&prefix));
            listed && entry.state == AddressState::Fresh
        });
        for address in fresh.map(|entry| entry.address).collect::<Vec<_>>() {
            self.set_address(address, AddressState::Idle { since: now });
        }
    }

    /// Marks whole prefixes of an ENI for the way back, `left` addresses at the most. Says how many.
    pub(super) fn give_prefixes_back(
        &mut self,
        now: Timestamp,
        id: &EniId,
        left: u32,
        idle_for: Duration,
    ) -> u32 {
        let most = (left / Ipv4Prefix::ADDRESSES).min(self.prefixes_above_least());
        let whole = |prefix: &Ipv4Prefix| {
            prefix.addresses().all(|address| {
                let entry = self.ledger.address(address);
                entry.is_some_and(|it| it.eni == *id && self.spare(it, now, idle_for))
            })
        };
        let prefixes = self.ledger.prefixes_of(id).into_iter();
        let give: Vec<Ipv4Prefix> = prefixes
            .filter(whole)
            .take(most.min(CALL_MAX) as usize)
            .collect();
        let addresses = addresses(&give);
        for address in &addresses {
            self.set_address(*address, AddressState::Releasing);
        }
        u32::try_from(addresses.len()).unwrap_or(left)
    }
}
