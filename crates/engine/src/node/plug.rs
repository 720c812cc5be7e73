//! An ENI's way to the node: the attach, and how it is known that it is there.
//!
//! A link with the ENI's MAC is proof, and looking at links costs no call of the account: a thousand
//! nodes that start at once attach thousands of ENIs, each of which would be asked about several times.
//! The cloud is asked when the link takes long, or when an answer was lost.

use model::{EniId, EniStatus, Exhausted, FaultClass, Timestamp};

use super::{
    Node, Op,
    budget::Api,
    exhaustion::{ExhaustionKind, QUOTA, REFUSED, Way},
    inventory::INVENTORY_SECOND_LOOK,
    message::{CloudAnswer, CloudCall, CloudFault},
};
use crate::{
    ledger::{EniEntry, EniStage},
    retry::Backoff,
};

/// Looks at the cloud before an ENI still `Available` is taken for one that was never attached: the
/// cloud may show an old state for a moment.
const ATTACH_LOOKS: u32 = 5;

impl Node {
    /// Takes ENIs whose link is here for attached, whatever the cloud was last seen to say.
    pub(super) fn notice_links(&mut self, now: Timestamp) {
        let coming = self.ledger.enis().filter(|eni| {
            let comes = matches!(eni.stage, EniStage::Created | EniStage::Attaching);
            comes && self.links.contains_key(&eni.mac)
        });
        for id in coming.map(|eni| eni.id.clone()).collect::<Vec<_>>() {
            if !self.progress(&id).busy {
                self.plugged(now, &id);
            }
        }
    }

    fn plugged(&mut self, now: Timestamp, id: &EniId) {
        self.set_stage(id, EniStage::Attached);
        // What was asked of the cloud before does not show it yet.
        let progress = self.progress(id);
        (progress.attaches, progress.changed) = (0, now);
        self.goes_on(Way::NewEni, true);
    }

    pub(super) fn attach_eni(&mut self, now: Timestamp, eni: &EniEntry) {
        if !self.may_call(now, Api::AttachNetworkInterface, self.growth_purpose()) {
            return;
        }
        self.set_stage(&eni.id, EniStage::Attaching);
        self.progress(&eni.id).busy = true;
        let op = Op::Attach(eni.id.clone());
        self.call(now, op, CloudCall::AttachEni(eni.id.clone()));
    }

    pub(super) fn attach_done(
        &mut self,
        now: Timestamp,
        id: &EniId,
        result: Result<CloudAnswer, CloudFault>,
    ) {
        self.progress(id).busy = false;
        let Err(fault) = result else {
            self.progress(id).accepted = true;
            return self.put_off(now, id, Backoff::PLUG);
        };
        self.cloud_failed(&format!("attaching {id}"), &fault);
        if fault.class == FaultClass::Denied {
            let reason = format!("attaching {id}: {}", fault.text);
            self.stop(now, Way::NewEni, ExhaustionKind::Denied, REFUSED, reason);
        }
        // A cloud that shows late what it made knows it a moment later; an instance it does not know stays so.
        let wrong = match fault.class {
            FaultClass::Gone => self.progress(id).attaches > 0,
            class => class == FaultClass::Invalid,
        };
        if wrong && !self.is_trunk(id) {
            let reason = format!("attaching {id}: {}", fault.text);
            self.stop(
                now,
                Way::NewEni,
                ExhaustionKind::Misconfigured,
                REFUSED,
                reason,
            );
        }
        match fault.class {
            // Ordinary pods go on without a trunk.
            FaultClass::Exhausted(_) | FaultClass::Invalid if self.is_trunk(id) => {
                self.set_stage(id, EniStage::Deleting);
                self.trunk_refused(now, format!("attaching {id}: {}", fault.text));
            }
            FaultClass::Unknown => self.put_off(now, id, Backoff::CLOUD),
            // It may be attached already, or it is the instance that is not known: one look tells.
            FaultClass::Conflict | FaultClass::Gone => {
                self.progress(id).failures = ATTACH_LOOKS - 1;
                self.put_off(now, id, Backoff::APPEAR);
            }
            FaultClass::Exhausted(what) => {
                if what == Exhausted::EniPerInstance {
                    let reason = format!("the instance takes no further ENI: {}", fault.text);
                    self.stop(now, Way::NewEni, ExhaustionKind::EniQuota, QUOTA, reason);
                }
                self.set_stage(id, EniStage::Deleting);
            }
            // Not carried out. The API rests as a whole.
            FaultClass::Throttled => self.set_stage(id, EniStage::Created),
            FaultClass::Denied | FaultClass::TokenMismatch | FaultClass::Invalid => {
                self.attach_again(now, id, REFUSED);
            }
        }
    }

    /// The attach came to nothing: it is asked for again, each time later.
    fn attach_again(&mut self, now: Timestamp, id: &EniId, backoff: Backoff) {
        self.set_stage(id, EniStage::Created);
        let attaches = self.progress(id).attaches + 1;
        let wait = self.wait(backoff, attaches);
        let progress = self.progress(id);
        (progress.attaches, progress.not_before) = (attaches, now.after(wait));
    }

    /// Asks the cloud about attaches whose link has not come.
    pub(super) fn inspect(&mut self, now: Timestamp, enis: Vec<EniId>) {
        let may = self.may_call(now, Api::DescribeNetworkInterfaces, self.growth_purpose());
        if !may || enis.is_empty() {
            return;
        }
        for id in &enis {
            self.progress(id).busy = true;
        }
        let op = Op::Inspect(enis.clone());
        self.call(now, op, CloudCall::DescribeEnis(enis));
    }

    pub(super) fn inspected(
        &mut self,
        now: Timestamp,
        asked: &[EniId],
        result: Result<CloudAnswer, CloudFault>,
    ) {
        for id in asked {
            self.progress(id).busy = false;
        }
        let enis = match result {
            Ok(CloudAnswer::Enis(enis)) => enis,
            Ok(_) => Vec::new(),
            Err(fault) => {
                self.cloud_failed("looking at an attach", &fault);
                for id in asked {
                    self.put_off(now, id, Backoff::CLOUD);
                }
                return;
            }
        };
        for id in asked {
            let late = match self.progress(id).accepted {
                true => Backoff::PLUG,
                false => Backoff::APPEAR,
            };
            let Some(eni) = enis.iter().find(|eni| eni.id == *id) else {
                self.not_shown(now, id, !enis.is_empty());
                continue;
            };
            self.progress(id).absent_since = None;
            let elsewhere = eni.instance.as_ref();
            match eni.status {
                EniStatus::InUse if elsewhere.is_some_and(|it| *it != self.config.instance) => {
                    self.forget_eni(id);
                }
                EniStatus::InUse => self.plugged(now, id),
                EniStatus::Available if self.progress(id).failures >= ATTACH_LOOKS => {
                    self.attach_again(now, id, Backoff::CLOUD);
                }
                EniStatus::Deleting => self.forget_eni(id),
                EniStatus::Available | EniStatus::Attaching | EniStatus::Detaching => {
                    self.put_off(now, id, late);
                }
            }
        }
    }

    /// The cloud does not show an ENI that is to be attached. What it shows trails behind what it did, and
    /// an answer without any may be one that nobody may read: only what stays away for a while is given
    /// up, and not forgotten but deleted.
    fn not_shown(&mut self, now: Timestamp, id: &EniId, others: bool) {
        let believed = others || self.inventory.failures == 0;
        let since = *self.progress(id).absent_since.get_or_insert(now);
        if believed && now.since(since) >= INVENTORY_SECOND_LOOK {
            return self.set_stage(id, EniStage::Deleting);
        }
        self.put_off(now, id, Backoff::PLUG);
    }
}
