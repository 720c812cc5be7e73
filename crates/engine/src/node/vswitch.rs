//! Which vSwitch the next ENI's addresses come from: one of the node's zone that has some left, as far
//! as is known, by the configured policy.
//!
//! What is known comes from describing them and from refusals. They are described before the pool grows
//! by an ENI, when what is known is old, and never at rest. A vSwitch that refused is asked for less
//! until it has given its last address, then it is left alone until it shows more than it did, or time
//! has passed.

use std::{cmp::Reverse, time::Duration};

use model::{Timestamp, VSwitch, VSwitchId};
use serde::{Deserialize, Serialize};

use super::{
    Node, Op,
    budget::Api,
    exhaustion::{ExhaustionKind, REFUSED, Way},
    message::{CloudAnswer, CloudCall, CloudFault, Notice},
    policy::VSwitchPolicy,
};
use crate::retry::Backoff;

/// How long what is known about vSwitches serves. A node that grows by an ENI more often than that
/// counts along what it takes itself.
const VSWITCH_KEEP: Duration = Duration::from_secs(600);

/// How long a full vSwitch is left alone when it does not show more free addresses before: space
/// returns when somebody frees some, which takes minutes, and each try is a call.
const FULL: Backoff = Backoff {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(600),
};

/// Of the addresses of a vSwitch, the part that one node may take for pods that have not come yet: so many nodes
/// may do that at once, and it is left as soon as that would matter.
const SHARE: u32 = 64;

/// What is known about a configured vSwitch.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct VSwitchState {
    described: Option<VSwitch>,
    /// The cloud listed others, and not this one.
    absent: bool,
    /// It had no address left; it is not asked before.
    full_until: Timestamp,
    /// Times in a row it had none left.
    refusals: u32,
    /// Free addresses it showed when it refused: only more than that is news.
    shown: u32,
    /// It refused as many as twice this.
    most: Option<u32>,
    /// It refused more than this since it was described.
    cap: Option<u32>,
}

impl VSwitchState {
    /// Free addresses as it was described.
    fn described_free(&self) -> Option<u32> {
        self.described
            .as_ref()
            .map(|vswitch| vswitch.available_addresses)
    }

    /// Free addresses as far as is known: a refusal is newer than the description.
    fn available(&self) -> Option<u32> {
        let free = self.described_free()?;
        Some(self.cap.map_or(free, |cap| free.min(cap)))
    }
}

/// What the cloud was asked about vSwitches.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Looks {
    pub(super) under_way: bool,
    not_before: Timestamp,
    answered: Option<Timestamp>,
}

impl Looks {
    /// What is known does not serve any more.
    pub(super) fn doubt(&mut self) {
        self.answered = None;
    }
}

impl Node {
    /// Asks about the configured vSwitches when what is known is old.
    pub(super) fn look_at_vswitches(&mut self, now: Timestamp) {
        let looks = &self.vswitch_looks;
        let known = looks.answered.is_some_and(|at| {
            let rested = |it: &VSwitchState| at < it.full_until && it.full_until <= now;
            now.since(at) < VSWITCH_KEEP && !self.vswitches.values().any(rested)
        });
        if known || looks.under_way || looks.not_before > now || self.config.vswitches.is_empty() {
            return;
        }
        if self.may_call(now, Api::DescribeVSwitches, self.growth_purpose()) {
            self.vswitch_looks.under_way = true;
            let ids = self.config.vswitches.clone();
            self.call(now, Op::VSwitches, CloudCall::DescribeVSwitches(ids));
        }
    }

    /// Why a configured vSwitch cannot serve, if it cannot; the flag says whether it is full.
    fn obstacle(&self, now: Timestamp, id: &VSwitchId) -> Option<(bool, String)> {
        let state = self.vswitches.get(id)?;
        if state.full_until > now {
            return Some((true, format!("{id} has no free address")));
        }
        if state.absent {
            return Some((false, format!("{id} does not exist in the region")));
        }
        let elsewhere = state.described.as_ref();
        let elsewhere = elsewhere.filter(|it| it.zone != self.config.zone)?;
        Some((false, format!("{id} is in zone {}", elsewhere.zone)))
    }

    /// Whether an ENI of this vSwitch may be given more addresses.
    pub(super) fn vswitch_full(&self, now: Timestamp, id: &VSwitchId) -> bool {
        self.obstacle(now, id).is_some_and(|(full, _)| full)
    }

    /// Whether it had no address left when it was asked last.
    pub(super) fn vswitch_refused_last(&self, id: &VSwitchId) -> bool {
        self.vswitches
            .get(id)
            .is_some_and(|state| state.refusals > 0)
    }

    /// As many of `wanted` as this vSwitch may still have.
    pub(super) fn vswitch_has(&self, id: &VSwitchId, wanted: u32) -> u32 {
        let state = self.vswitches.get(id);
        // What had none left is asked for one first.
        if self.vswitch_refused_last(id) {
            return wanted.min(1);
        }
        let shown = state.and_then(VSwitchState::available).unwrap_or(wanted);
        let most = state.and_then(|state| state.most).unwrap_or(wanted);
        wanted.min(shown).min(most)
    }

    /// Whether it has as many addresses as an ENI takes, as far as is known.
    fn vswitch_fills_an_eni(&self, id: &VSwitchId) -> bool {
        self.vswitches.get(id).is_none_or(|state| {
            let shown = state.available();
            let whole = shown.is_none_or(|free| free >= self.config.limits.ipv4_per_eni);
            whole && state.refusals == 0 && state.most.is_none()
        })
    }

    /// How many addresses beyond the needed ones the node may take: pods of other nodes come first where a vSwitch
    /// has few left. What one ENI takes while nothing is known of any: many nodes that start at once wait for each
    /// other's looks.
    pub(super) fn fair_share(&self, now: Timestamp) -> u32 {
        let usable = self.usable_vswitches(now);
        let shown = usable.filter_map(|id| self.vswitches.get(id)?.available());
        let one_eni = self.config.limits.ipv4_per_eni;
        shown.max().map_or(one_eni, |most| most / SHARE)
    }

    /// The vSwitch of the next ENI. Nothing while the cloud is asked about them, or when none can serve;
    /// the latter is then said.
    pub(super) fn choose_vswitch(&mut self, now: Timestamp) -> Option<VSwitchId> {
        self.look_at_vswitches(now);
        if self.vswitch_looks.under_way {
            return None;
        }
        let mut usable: Vec<VSwitchId> = self.usable_vswitches(now).cloned().collect();
        if usable.is_empty() {
            self.no_vswitch(now);
            return None;
        }
        // One with a block for a prefix comes before one without.
        let with_block = |id: &VSwitchId| self.blocks_left(now, id, 1) > 0;
        if usable.iter().any(with_block) {
            usable.retain(with_block);
        }
        // An ENI keeps its vSwitch, and a node has few: one in a vSwitch that cannot fill it stays half empty.
        let fills = |id: &VSwitchId| self.vswitch_fills_an_eni(id);
        if usable.iter().any(fills) {
            usable.retain(fills);
        }
        match self.config.policy.vswitches {
            VSwitchPolicy::Ordered => usable.into_iter().next(),
            VSwitchPolicy::Random => {
                let at = self.dice.roll() % (usable.len() as u64);
                usable.into_iter().nth(usize::try_from(at).unwrap_or(0))
            }
            VSwitchPolicy::Most => {
                let free =
                    |id: &VSwitchId| self.vswitches.get(id).and_then(VSwitchState::available);
                // The first of the list among equals.
                let ranked = usable.iter().enumerate();
                let best = ranked.max_by_key(|(at, id)| (free(id), Reverse(*at)));
                best.map(|(_, id)| id.clone())
            }
        }
    }

    fn usable_vswitches(&self, now: Timestamp) -> impl Iterator<Item = &VSwitchId> {
        let listed = self.config.vswitches.iter();
        listed.filter(move |id| self.obstacle(now, id).is_none())
    }

    fn no_vswitch(&mut self, now: Timestamp) {
        let zone = &self.config.zone;
        let listed = self.config.vswitches.iter();
        let obstacles: Vec<_> = listed.filter_map(|id| self.obstacle(now, id)).collect();
        let kind = match obstacles.iter().any(|(full, _)| *full) {
            true => ExhaustionKind::VSwitch,
            false => ExhaustionKind::Misconfigured,
        };
        let reasons: Vec<_> = obstacles.into_iter().map(|(_, why)| why).collect();
        let reason = if reasons.is_empty() {
            format!("eni_conf key vswitches lists none for the node's zone {zone}")
        } else {
            format!(
                "{} (eni_conf key vswitches, zone {zone})",
                reasons.join(", ")
            )
        };
        self.stop(now, Way::NewEni, kind, REFUSED, reason);
        self.vswitch_looks.doubt();
    }

    /// A vSwitch refused `count` addresses. For a new ENI another one may serve as well; an ENI that is
    /// there, or that only this one can serve, takes what is left.
    pub(super) fn vswitch_refused(
        &mut self,
        now: Timestamp,
        id: &VSwitchId,
        count: u32,
        new_eni: bool,
    ) {
        let known = self.vswitches.entry(id.clone()).or_default();
        let less = count.saturating_sub(1).max(1);
        known.cap = Some(known.cap.map_or(less, |cap| cap.min(less)));
        let others = self.usable_vswitches(now).any(|other| other != id);
        if count > 1 && !(new_eni && others) {
            self.vswitches.entry(id.clone()).or_default().most = Some(count / 2);
            return;
        }
        self.vswitch_rests(now, id);
    }

    /// A vSwitch has no address left, and is left alone longer each time.
    fn vswitch_rests(&mut self, now: Timestamp, id: &VSwitchId) {
        let refusals = self.vswitches.get(id).map_or(0, |state| state.refusals) + 1;
        let wait = self.wait(FULL, refusals);
        let state = self.vswitches.entry(id.clone()).or_default();
        state.shown = state.described_free().unwrap_or(0);
        (state.refusals, state.most) = (refusals, None);
        state.full_until = now.after(wait);
    }

    /// A vSwitch gave `count` addresses.
    pub(super) fn vswitch_gave(&mut self, id: &VSwitchId, count: u32) {
        let state = self.vswitches.entry(id.clone()).or_default();
        (state.refusals, state.full_until) = (0, Timestamp::EPOCH);
        state.cap = state.cap.map(|cap| cap.saturating_sub(count).max(1));
        if let Some(vswitch) = &mut state.described {
            // Never to zero by counting alone: others give back what we cannot see, and only the
            // cloud's own answer makes a vSwitch full.
            let left = vswitch.available_addresses.saturating_sub(count);
            vswitch.available_addresses = left.max(1);
        }
    }

    pub(super) fn vswitches_done(
        &mut self,
        now: Timestamp,
        result: Result<CloudAnswer, CloudFault>,
    ) {
        self.vswitch_looks.under_way = false;
        match result {
            // As an answer that nothing is permitted looks the same, it proves nothing.
            Ok(CloudAnswer::VSwitches(list)) if list.is_empty() => {
                let text = "the cloud lists none of eni_conf key vswitches; \
                            is vpc:DescribeVSwitches permitted?";
                self.notice(Notice::CloudFailed(text.into()));
                self.vswitch_looks.not_before = now.after(REFUSED.first);
            }
            Ok(CloudAnswer::VSwitches(list)) => {
                self.vswitch_looks.answered = Some(now);
                for id in self.config.vswitches.clone() {
                    let described = list.iter().find(|vswitch| vswitch.id == id).cloned();
                    self.vswitch_described(now, &id, described);
                }
            }
            Ok(_) => self.vswitch_looks.not_before = now.after(REFUSED.first),
            Err(fault) => {
                self.cloud_failed("describing the vSwitches of eni_conf key vswitches", &fault);
                self.vswitch_looks.not_before = now.after(REFUSED.first);
            }
        }
        if self.usable_vswitches(now).next().is_some() {
            self.vswitch_serves();
        }
    }

    fn vswitch_described(&mut self, now: Timestamp, id: &VSwitchId, described: Option<VSwitch>) {
        self.judge_vswitch(id, described.as_ref());
        let state = self.vswitches.entry(id.clone()).or_default();
        state.absent = described.is_none();
        (state.described, state.cap) = (described, None);
        match state.described_free() {
            Some(0) if state.full_until <= now => self.vswitch_rests(now, id),
            Some(free) if free > state.shown => {
                (state.full_until, state.refusals) = (Timestamp::EPOCH, 0);
                (state.shown, state.most) = (0, None);
            }
            Some(_) | None => {}
        }
    }

    pub(super) fn vswitch_deadlines(&self) -> impl Iterator<Item = Timestamp> {
        let rests = self.vswitches.values().map(|state| state.full_until);
        rests.chain([self.vswitch_looks.not_before])
    }

    /// Complains about what a vSwitch should not be, once for each answer that changes.
    fn judge_vswitch(&mut self, id: &VSwitchId, described: Option<&VSwitch>) {
        let zone = &self.config.zone;
        let before = self.vswitches.get(id);
        let complaint = match described {
            None if before.is_some_and(|state| state.absent) => return,
            None => {
                format!("eni_conf key vswitches names {id}, which does not exist in the region")
            }
            Some(vswitch) if vswitch.zone != *zone => {
                if before.is_some_and(|state| state.described.is_some()) {
                    return;
                }
                format!(
                    "eni_conf key vswitches lists {id} under zone {zone}, but it is in {}",
                    vswitch.zone
                )
            }
            Some(_) => return,
        };
        self.notice(Notice::CloudFailed(complaint));
    }
}
