//! Which vSwitch the next ENI's addresses come from: one of the node's zone that has some left, as far
//! as is known, by the configured policy.
//!
//! What is known comes from describing them and from refusals. A vSwitch that refused is asked for less
//! until it has given its last address, then it is left alone until it shows more than it did, or time
//! has passed.

use std::{cmp::Reverse, time::Duration};

use model::{Timestamp, VSwitch, VSwitchId};

use super::{
    Node, Op,
    budget::{Api, Purpose},
    exhaustion::{ExhaustionKind, REFUSED, Way},
    message::{CloudAnswer, CloudCall, CloudFault, Notice},
    policy::VSwitchPolicy,
};
use crate::retry::Backoff;

/// How long what is known about vSwitches serves.
const VSWITCH_KEEP: Duration = Duration::from_secs(600);

/// How long a full vSwitch is left alone when it does not show more free addresses before: space
/// returns when somebody frees some, which takes minutes, and each try is a call.
const FULL: Backoff = Backoff {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(600),
};

/// What is known about a configured vSwitch.
#[derive(Debug, Default)]
pub(super) struct VSwitchState {
    described: Option<VSwitch>,
    /// The cloud answered, and it was not among the answers.
    absent: bool,
    /// It refused a single address; it is not asked before.
    full_until: Timestamp,
    /// Refusals in a row.
    refusals: u32,
    /// Free addresses it showed when it refused: only more than that is news.
    shown: u32,
    /// It refused as many as twice this.
    most: Option<u32>,
}

impl VSwitchState {
    fn available(&self) -> Option<u32> {
        self.described
            .as_ref()
            .map(|vswitch| vswitch.available_addresses)
    }
}

impl Node {
    /// Asks about the configured vSwitches when what is known is old.
    pub(super) fn look_at_vswitches(&mut self, now: Timestamp) {
        if self.vswitch_poll.is_new() && !self.config.vswitches.is_empty() {
            self.vswitch_poll.want();
        }
        let purpose = match self.waiting_count() {
            0 => Purpose::Housekeeping,
            _ => Purpose::Pod,
        };
        if self.may_call(now, Api::DescribeVSwitches, purpose) && self.vswitch_poll.take_due(now) {
            let ids = self.config.vswitches.clone();
            self.call(now, Op::VSwitches, CloudCall::DescribeVSwitches(ids));
        }
    }

    /// Why a configured vSwitch cannot serve, if it cannot; the flag says whether it is full.
    fn obstacle(&self, now: Timestamp, id: &VSwitchId) -> Option<(bool, String)> {
        let state = self.vswitches.get(id)?;
        if state.absent {
            return Some((false, format!("{id} does not exist in the region")));
        }
        if let Some(elsewhere) = state
            .described
            .as_ref()
            .filter(|vswitch| vswitch.zone != self.config.zone)
        {
            return Some((false, format!("{id} is in zone {}", elsewhere.zone)));
        }
        let full = state.full_until > now || state.available() == Some(0);
        full.then(|| (true, format!("{id} has no free address")))
    }

    /// Whether an ENI of this vSwitch may be given more addresses.
    pub(super) fn vswitch_full(&self, now: Timestamp, id: &VSwitchId) -> bool {
        self.obstacle(now, id).is_some_and(|(full, _)| full)
    }

    /// As many of `wanted` as this vSwitch may still have.
    pub(super) fn vswitch_has(&self, id: &VSwitchId, wanted: u32) -> u32 {
        let state = self.vswitches.get(id);
        let shown = state.and_then(VSwitchState::available).unwrap_or(wanted);
        let most = state.and_then(|state| state.most).unwrap_or(wanted);
        wanted.min(shown).min(most)
    }

    /// The vSwitch of the next ENI. Nothing when none is known yet, or none can serve; the latter is
    /// then said.
    pub(super) fn choose_vswitch(&mut self, now: Timestamp) -> Option<VSwitchId> {
        let known = self.vswitches.values().any(|s| s.described.is_some());
        if self.vswitch_poll.in_flight && !known {
            return None;
        }
        let mut usable: Vec<VSwitchId> = self
            .config
            .vswitches
            .iter()
            .filter(|id| self.obstacle(now, id).is_none())
            .cloned()
            .collect();
        if usable.is_empty() {
            self.no_vswitch(now);
            return None;
        }
        // One with a block for a prefix comes before one without.
        let with_block = |id: &VSwitchId| self.blocks_left(now, id, 1) > 0;
        if usable.iter().any(with_block) {
            usable.retain(with_block);
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
        let again = self.stops.standing(now).map_or(now, |(_, until)| until);
        self.vswitch_poll.again(again, 0);
    }

    /// A vSwitch refused `count` addresses.
    pub(super) fn vswitch_refused(&mut self, now: Timestamp, id: &VSwitchId, count: u32) {
        let wait = {
            let refusals = self.vswitches.entry(id.clone()).or_default().refusals + 1;
            self.wait(FULL, refusals)
        };
        let state = self.vswitches.entry(id.clone()).or_default();
        if count > 1 {
            state.most = Some(count / 2);
            return;
        }
        state.shown = state.available().unwrap_or(0);
        state.refusals += 1;
        state.full_until = now.after(wait);
        state.most = None;
    }

    /// A vSwitch gave `count` addresses.
    pub(super) fn vswitch_gave(&mut self, id: &VSwitchId, count: u32) {
        let state = self.vswitches.entry(id.clone()).or_default();
        (state.refusals, state.full_until) = (0, Timestamp::EPOCH);
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
        self.vswitch_poll.answered();
        match result {
            Ok(CloudAnswer::VSwitches(list)) => {
                for id in self.config.vswitches.clone() {
                    let described = list.iter().find(|vswitch| vswitch.id == id).cloned();
                    self.judge_vswitch(&id, described.as_ref());
                    let state = self.vswitches.entry(id).or_default();
                    state.absent = described.is_none();
                    state.described = described;
                    if state.available().unwrap_or(0) > state.shown {
                        (state.full_until, state.shown) = (Timestamp::EPOCH, 0);
                        state.most = None;
                    }
                }
                self.vswitch_poll.again(now.after(VSWITCH_KEEP), 0);
            }
            Ok(_) => self.vswitch_poll.again(now.after(REFUSED.first), 0),
            Err(fault) => {
                self.cloud_failed("describing the vSwitches of eni_conf key vswitches", &fault);
                self.vswitch_poll.again(now.after(REFUSED.first), 0);
            }
        }
        if self
            .config
            .vswitches
            .iter()
            .any(|id| self.obstacle(now, id).is_none())
        {
            self.vswitch_serves();
        }
    }

    pub(super) fn vswitch_deadlines(&self) -> impl Iterator<Item = Timestamp> {
        self.vswitches.values().map(|state| state.full_until)
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
