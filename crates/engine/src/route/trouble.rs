//! What failed for single blocks: how often in a row, how long each rests, and when it is in the way for good. One
//! block's trouble is no other's. It must not know how a change is made, nor who is told.

use std::{collections::BTreeMap, fmt};

use ipnet::IpNet;
use model::{FaultClass, InstanceId, RouteEntryId, Timestamp};

use super::{FAILED, OBSTRUCTED, plan::Plan};
use crate::{podeni::Fault, retry::Dice};

/// Failures in a row before a node is told that it has no route. The rests between them are seven and a half seconds
/// at the most (0.5 + 1 + 2 + 4), a few times what the cloud takes for an entry.
const FAILURES_MAX: u32 = 5;

/// What is done for a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Its entry is made, for this node and its instance.
    Create(String, InstanceId),
    /// Its entry is deleted.
    Delete(RouteEntryId),
}

impl Step {
    fn is_due(&self, block: &IpNet, plan: &Plan) -> bool {
        match self {
            Step::Create(node, instance) => plan
                .missing
                .get(block)
                .is_some_and(|(other, to)| (other, to) == (node, instance)),
            Step::Delete(entry) => plan.astray.contains_key(entry),
        }
    }

    /// Whether the same step would be refused again until somebody changes something.
    fn is_refused(&self, class: FaultClass) -> bool {
        match class {
            FaultClass::Invalid | FaultClass::Denied => true,
            FaultClass::Gone => matches!(self, Step::Create(..)),
            _ => false,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Create(node, _) => write!(f, "making the route of node {node}"),
            Step::Delete(entry) => write!(f, "deleting route entry {entry}"),
        }
    }
}

/// What failed, by block.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    blocks: BTreeMap<IpNet, Trouble>,
    /// A change that met a conflict: the next look shows whether the table was only busy.
    unjudged: Option<((IpNet, Step), Fault)>,
}

#[derive(Debug)]
struct Trouble {
    step: Step,
    failures: u32,
    rests_until: Timestamp,
    /// Why it is in the way, while it rests for that.
    refusal: Option<String>,
}

impl Troubles {
    pub(super) fn failed(
        &mut self,
        now: Timestamp,
        change: (IpNet, Step),
        fault: Fault,
        dice: &mut Dice,
    ) {
        match fault.class {
            FaultClass::Conflict => self.unjudged = Some((change, fault)),
            _ => self.count(now, change, fault, dice),
        }
    }

    /// The table was read, and is busy or not. A conflict with a busy table says nothing about the block.
    pub(super) fn judge(&mut self, now: Timestamp, busy: bool, dice: &mut Dice) {
        if let Some((change, fault)) = self.unjudged.take().filter(|_| !busy) {
            self.count(now, change, fault, dice);
        }
    }

    fn count(
        &mut self,
        now: Timestamp,
        (block, step): (IpNet, Step),
        fault: Fault,
        dice: &mut Dice,
    ) {
        let earlier = self.blocks.remove(&block).filter(|it| it.step == step);
        let failures = earlier.map_or(1, |it| it.failures + 1);
        let refusal = step.is_refused(fault.class) || failures >= FAILURES_MAX;
        let rest = match refusal {
            true => OBSTRUCTED,
            false => FAILED.wait(failures, dice),
        };
        let trouble = Trouble {
            refusal: refusal.then(|| format!("{step}: {}", fault.text)),
            step,
            failures,
            rests_until: now.after(rest),
        };
        self.blocks.insert(block, trouble);
    }

    pub(super) fn forget(&mut self, block: &IpNet) {
        self.blocks.remove(block);
    }

    /// Drops what is not to be done any more, and ends rests.
    pub(super) fn settle(&mut self, now: Timestamp, plan: &Plan) {
        self.blocks
            .retain(|block, trouble| trouble.step.is_due(block, plan));
        for trouble in self.blocks.values_mut() {
            trouble.refusal = trouble.refusal.take().filter(|_| trouble.rests_until > now);
        }
    }

    /// Whose turn it is of those that something is to be done for: what failed least, and does not rest.
    pub(super) fn next<T>(
        &self,
        now: Timestamp,
        due: impl Iterator<Item = (IpNet, T)>,
    ) -> Option<(IpNet, T)> {
        let failures = |block: &IpNet| self.blocks.get(block).map_or(0, |it| it.failures);
        let rests = |block: &IpNet| {
            let trouble = self.blocks.get(block);
            trouble.is_some_and(|it| it.rests_until > now)
        };
        due.filter(|(block, _)| !rests(block))
            .min_by_key(|(block, _)| (failures(block), *block))
    }

    /// Why nothing is done for `block` now.
    pub(super) fn refusal(&self, block: &IpNet) -> Option<&str> {
        self.blocks.get(block)?.refusal.as_deref()
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Timestamp> {
        self.blocks.values().map(|it| it.rests_until)
    }
}
