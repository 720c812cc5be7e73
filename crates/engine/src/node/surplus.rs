//! When addresses go back to the cloud, and which: what the pool held too many of for a while, and what
//! nobody used for long.
//!
//! Pods come and go, and the pool with them. What is given back at the crest is asked for again in the
//! trough, so only what was too much during all of a while goes back. What the cloud does not take back
//! serves pods again.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use model::{EniId, FaultClass, Ipv4Prefix, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Node, Op, exhaustion::REFUSED, message::CloudCall, prefix::CALL_MAX};
use crate::{
    ledger::{AddressEntry, AddressState, EniEntry, EniStage},
    retry::Backoff,
};

/// Addresses one UnassignPrivateIpAddresses takes (ECS API, `PrivateIpAddress.N`, N up to 10).
const UNASSIGN_MAX: u32 = 10;

/// How long a surplus must stand. The usual reason of a short one is a rollout or a batch of jobs, whose
/// pods come back within minutes; an address kept that long too much costs nothing but the address.
const HOLD: Duration = Duration::from_secs(300);

/// What was too much lately, and when idle addresses went back last.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Surplus {
    standing: Option<Standing>,
    reclaim_at: Timestamp,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Standing {
    since: Timestamp,
    least: u32,
}

impl Surplus {
    pub(super) fn forget(&mut self) {
        self.standing = None;
    }
}

impl Node {
    pub(super) fn plan_surplus(&mut self, now: Timestamp) {
        let most = self.config.idle_max.max(self.idle_floor());
        let excess = self.idle(now).saturating_sub(most);
        if excess == 0 || self.waiting_count() > 0 {
            self.surplus.forget();
        } else {
            let standing = self.surplus.standing.get_or_insert(Standing {
                since: now,
                least: excess,
            });
            standing.least = standing.least.min(excess);
            let Standing { since, least } = *standing;
            if now.since(since) >= HOLD {
                let gave = self.give_idle_back(now, least, Duration::ZERO);
                // Less than a prefix may be all that was too much at first, and cannot go.
                let too_few = self.prefixes_held() > 0 && least < Ipv4Prefix::ADDRESSES;
                if gave > 0 || too_few {
                    self.surplus.forget();
                }
            }
        }
        self.reclaim(now);
    }

    /// Gives back what has been idle for as long as the configuration says, some at a time.
    fn reclaim(&mut self, now: Timestamp) {
        let Some(reclaim) = self.config.policy.reclaim else {
            return;
        };
        let above = self.idle(now).saturating_sub(self.config.idle_min);
        if above == 0 || self.surplus.reclaim_at > now || self.waiting_count() > 0 {
            return;
        }
        // A batch smaller than a prefix would never give one back.
        let batch = match self.config.policy.prefixes {
            Some(_) => reclaim.batch.max(Ipv4Prefix::ADDRESSES),
            None => reclaim.batch,
        };
        if self.give_idle_back(now, above.min(batch), reclaim.after) == 0 {
            return;
        }
        // What nobody used for so long is not kept for a start that is over.
        self.warm_left = 0;
        let spread = u64::from(reclaim.jitter_per_mille) + 1;
        let per_mille = u32::try_from(self.dice.roll() % spread).unwrap_or(0);
        let interval = reclaim.interval + reclaim.interval * per_mille / 1000;
        self.surplus.reclaim_at = now.after(interval);
    }

    /// Gives back up to `excess` addresses that were idle for `idle_for`: whole ENIs nobody uses first,
    /// then single addresses, then whole prefixes. Says how many.
    fn give_idle_back(&mut self, now: Timestamp, excess: u32, idle_for: Duration) -> u32 {
        if self.ledger.intents().next().is_some() {
            return 0;
        }
        let mut left = excess;
        for (free, in_use, id) in self.enis_by_use(now, idle_for) {
            if left == 0 {
                break;
            }
            let whole = free > 0 && free <= left && self.prefixes_spare(&id);
            if in_use == 0 && whole && !self.is_trunk(&id) {
                left -= free;
                self.set_stage(&id, EniStage::Detaching);
                continue;
            }
            let spare = self
                .ledger
                .addresses_of(&id)
                .filter(|entry| !entry.primary && entry.prefix.is_none())
                .filter(|entry| self.spare(entry, now, idle_for));
            let give: Vec<IpAddr> = spare
                .map(|entry| entry.address)
                .take(left.min(UNASSIGN_MAX) as usize)
                .collect();
            left -= u32::try_from(give.len()).unwrap_or(left);
            for address in give {
                self.set_address(address, AddressState::Releasing);
            }
            left -= self.give_prefixes_back(now, &id, left, idle_for);
        }
        excess - left
    }

    /// The call that gives back what of an ENI is on its way back. Not while an answer about more is
    /// open: the cloud may give what came back in between, and nobody could tell which of both is true.
    pub(super) fn going_back(&self, id: &EniId) -> Option<(Op, CloudCall)> {
        if self.excluded(id) || self.asked_for(id) > 0 {
            return None;
        }
        let singly = self.progress.get(id).is_some_and(|it| it.singly);
        let at_most = |calls: u32| if singly { 1 } else { calls as usize };
        let releasing = |entry: &&AddressEntry| entry.state == AddressState::Releasing;
        let leaving: Vec<_> = self.ledger.addresses_of(id).filter(releasing).collect();
        let single: Vec<IpAddr> = leaving
            .iter()
            .filter(|entry| entry.prefix.is_none())
            .map(|entry| entry.address)
            .take(at_most(UNASSIGN_MAX))
            .collect();
        if !single.is_empty() {
            let op = Op::Unassign(id.clone(), single.clone());
            return Some((op, CloudCall::UnassignAddresses(id.clone(), single)));
        }
        let prefixes: BTreeSet<_> = leaving.iter().filter_map(|entry| entry.prefix).collect();
        let prefixes: Vec<_> = prefixes.into_iter().take(at_most(CALL_MAX)).collect();
        (!prefixes.is_empty()).then(|| {
            let op = Op::UnassignPrefixes(id.clone(), prefixes.clone());
            (op, CloudCall::UnassignPrefixes(id.clone(), prefixes))
        })
    }

    pub(super) fn spare(&self, entry: &AddressEntry, now: Timestamp, idle_for: Duration) -> bool {
        let since = self.free_since(entry, now);
        self.free_for_all(entry, now) && since.is_some_and(|since| now.since(since) >= idle_for)
    }

    /// Quiet ENIs, those with the fewest addresses in use first: (spare, not spare, id).
    fn enis_by_use(&self, now: Timestamp, idle_for: Duration) -> Vec<(u32, u32, EniId)> {
        let quiet = self.ledger.enis().filter(|eni| {
            let busy = self
                .progress
                .get(&eni.id)
                .is_some_and(|progress| progress.busy || progress.not_before > now);
            !busy && self.eni_usable(&eni.id) && !self.excluded(&eni.id)
        });
        let mut list: Vec<_> = quiet
            .map(|eni| {
                let (mut free, mut in_use) = (0, 0);
                for entry in self.ledger.addresses_of(&eni.id) {
                    match self.spare(entry, now, idle_for) {
                        true => free += 1,
                        false => in_use += 1,
                    }
                }
                (free, in_use, eni.id.clone())
            })
            .collect();
        list.sort_by_key(|(free, in_use, id)| (*in_use, *free, id.clone()));
        list
    }

    /// The cloud does not take something back. What only a person can change is asked for less and less
    /// often.
    pub(super) fn not_let_go(&mut self, now: Timestamp, id: &EniId, class: FaultClass) {
        let refused = matches!(
            class,
            FaultClass::Denied | FaultClass::Invalid | FaultClass::Exhausted(_)
        );
        self.progress(id).kept |= refused;
        let backoff = if refused { REFUSED } else { Backoff::CLOUD };
        self.put_off(now, id, backoff);
    }

    /// Takes an ENI back that was to go and that the cloud keeps: it serves pods, in place of a new one.
    pub(super) fn take_back(&mut self) -> bool {
        let kept = |eni: &&EniEntry| {
            let kept = self.progress.get(&eni.id).is_some_and(|it| it.kept);
            kept && !eni.trunk && !self.excluded(&eni.id)
        };
        let Some(eni) = self.ledger.enis().find(kept).cloned() else {
            return false;
        };
        let stage = match eni.stage {
            EniStage::Detaching => EniStage::Attached,
            EniStage::Deleting if !self.links.contains_key(&eni.mac) => EniStage::Created,
            // A link that is still known would be taken for the proof of an attach that nobody asked for.
            EniStage::Deleting => {
                self.links_wanted.want();
                return false;
            }
            EniStage::Created | EniStage::Attaching | EniStage::Attached => return false,
        };
        self.set_stage(&eni.id, stage);
        true
    }

    pub(super) fn surplus_deadlines(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let held = self.surplus.standing.map(|it| it.since.after(HOLD));
        let reclaim = self.config.policy.reclaim.and_then(|reclaim| {
            let free = self.ledger.addresses();
            let since = free.filter_map(|entry| self.free_since(entry, now)).min()?;
            Some(since.after(reclaim.after).max(self.surplus.reclaim_at))
        });
        held.into_iter().chain(reclaim)
    }
}
