//! The node's trunk ENI: the one that carries the ENIs of trunk pods, each under a VLAN.
//!
//! It is made before any other, because without one the control plane can bind no pod to the node, and
//! serves ordinary pods as every ENI does. It never goes back: who is on it is not the node's to know.
//! A node that cannot have one says so and serves ordinary pods. Must not know what a PodENI says.

use core::fmt;

use model::{EniId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Node,
    exhaustion::{QUOTA, Way},
    message::Notice,
};
use crate::ledger::{EniEntry, EniStage};

/// What is known of the node's trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trunk {
    /// The cloud has not said yet what the node has.
    Unknown,
    /// There is none.
    Absent,
    /// This one is attached.
    Attached(EniId),
}

/// Why a node that should have a trunk has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrunkLack {
    /// Its instance type supports none (`EniTrunkSupported`).
    Unsupported,
    /// It has this many ENIs, all it may have, and none of them is a trunk.
    NoRoom(u32),
    /// The cloud refused to make or to attach one, and how.
    Refused(String),
}

impl fmt::Display for TrunkLack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrunkLack::Unsupported => f.write_str(
                "the instance type supports no trunk ENI (eni_conf key enable_eni_trunking); \
                 the node serves ordinary pods only",
            ),
            TrunkLack::NoRoom(enis) => write!(
                f,
                "the node has all {enis} ENIs it may have and none of them is a trunk; trunk pods can run \
                 here once one of them is gone (drain the node and wait, or replace it) or eni_conf key \
                 max_eni allows one more"
            ),
            TrunkLack::Refused(why) => write!(
                f,
                "the cloud gives the node no trunk ENI; it is asked again by itself: {why}"
            ),
        }
    }
}

/// What is known of the trunk beyond the ledger.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct TrunkState {
    /// The cloud has listed the node's ENIs since the start.
    looked: bool,
    refused: Option<Refusal>,
    told: Option<TrunkLack>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    why: String,
    until: Timestamp,
    failures: u32,
}

impl TrunkState {
    pub(super) fn looked(&mut self) {
        self.looked = true;
    }

    /// What was refused or told belongs to a configuration that is over.
    pub(super) fn reconfigured(&mut self) {
        (self.refused, self.told) = (None, None);
    }
}

impl Node {
    /// What is known of the node's trunk.
    pub fn trunk(&self) -> Trunk {
        match self.trunk_here() {
            Some(eni) if eni.stage == EniStage::Attached => Trunk::Attached(eni.id.clone()),
            _ if self.trunk.looked => Trunk::Absent,
            _ => Trunk::Unknown,
        }
    }

    pub(super) fn is_trunk(&self, id: &EniId) -> bool {
        self.ledger.eni(id).is_some_and(|eni| eni.trunk)
    }

    /// The trunk, attached or on its way to the node.
    pub(super) fn trunk_here(&self) -> Option<&EniEntry> {
        let trunks = self.ledger.enis().filter(|eni| eni.trunk);
        let staying = trunks.filter(|eni| {
            let leaves = matches!(eni.stage, EniStage::Detaching | EniStage::Deleting);
            !leaves && !self.excluded(&eni.id)
        });
        staying.max_by_key(|eni| eni.stage)
    }

    fn trunk_wanted(&self) -> bool {
        self.config.policy.trunk.is_some() && self.config.limits.trunk
    }

    fn trunk_refusal(&self, now: Timestamp) -> Option<&Refusal> {
        self.trunk.refused.as_ref().filter(|it| it.until > now)
    }

    /// Whether the next ENI is to be a trunk, as far as one may be asked for now.
    pub(super) fn trunk_due(&self, now: Timestamp) -> bool {
        self.trunk_wanted()
            && self.trunk.looked
            && self.trunk_here().is_none()
            && self.trunk_refusal(now).is_none()
            && !self.stops.closed(Way::NewEni, now)
            && self.ledger.enis().count() < self.config.enis_max as usize
            && !self.ledger.intents().any(|intent| intent.call.is_trunk())
    }

    /// How many ENIs there may be when one more is made. A trunk that is still to come has its place
    /// kept; until the cloud was asked once whether there is one, nothing else is made.
    pub(super) fn places_for_enis(&self, now: Timestamp, trunk: bool) -> u32 {
        let most = self.enis_beside_lent();
        let comes = self.trunk_wanted() && self.trunk_here().is_none();
        if trunk || !comes || self.trunk_refusal(now).is_some() {
            return most;
        }
        match self.trunk_looks_due() {
            true => 0,
            false => most.saturating_sub(1),
        }
    }

    /// How many ENIs the pool may have beside those that pods have wholly.
    pub(super) fn enis_beside_lent(&self) -> u32 {
        let slots = self.config.limits.enis.saturating_sub(1);
        self.config
            .enis_max
            .min(slots.saturating_sub(self.lent_enis()))
    }

    /// Whether the first ENI waits for the cloud to say whether there is a trunk.
    pub(super) fn trunk_looks_due(&self) -> bool {
        self.trunk_wanted() && !self.trunk.looked && self.inventory.failures == 0
    }

    /// The cloud gives no trunk; it is asked again, each time later.
    pub(super) fn trunk_refused(&mut self, now: Timestamp, why: String) {
        let earlier = self.trunk.refused.as_ref();
        let failures = earlier.map_or(0, |it| it.failures) + 1;
        let until = now.after(self.wait(QUOTA, failures));
        self.trunk.refused = Some(Refusal {
            why,
            until,
            failures,
        });
    }

    pub(super) fn trunk_deadline(&self) -> Option<Timestamp> {
        self.trunk.refused.as_ref().map(|it| it.until)
    }

    /// Why the node has no trunk though it should, if that is known.
    pub(super) fn trunk_lack(&self, now: Timestamp) -> Option<TrunkLack> {
        self.config.policy.trunk?;
        if self.trunk_here().is_some() {
            return None;
        }
        if !self.config.limits.trunk {
            return Some(TrunkLack::Unsupported);
        }
        if let Some(refusal) = self.trunk_refusal(now) {
            return Some(TrunkLack::Refused(refusal.why.clone()));
        }
        let enis = u32::try_from(self.ledger.enis().count()).unwrap_or(u32::MAX);
        let full = self.trunk.looked && enis >= self.config.enis_max;
        full.then_some(TrunkLack::NoRoom(enis))
    }

    /// Tells people once for each kind of lack, until there is a trunk.
    pub(super) fn tell_trunk(&mut self, now: Timestamp) {
        if matches!(self.trunk(), Trunk::Attached(_)) {
            (self.trunk.told, self.trunk.refused) = (None, None);
            return;
        }
        let Some(lack) = self.trunk_lack(now) else {
            return;
        };
        let kind = core::mem::discriminant::<TrunkLack>;
        if self.trunk.told.as_ref().map(kind) != Some(kind(&lack)) {
            self.trunk.told = Some(lack.clone());
            self.notice(Notice::TrunkMissing(lack));
        }
    }
}
