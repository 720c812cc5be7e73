//! What is done about an ENI, one step at a time: its link set up while it serves, its addresses given
//! back, and its way off the node. How it comes to the node is `plug.rs`.
//!
//! Each stage knows one call that leads on; a lost answer is settled by looking or asking again.

use std::{net::IpAddr, time::Duration};

use model::{EniId, FaultClass, Timestamp, ipvlan::IpvlanEni, net::Link};
use serde::{Deserialize, Serialize};

use super::{
    Node, Op,
    budget::{Api, Purpose},
    message::{Action, CloudAnswer, CloudCall, CloudFault, Notice},
};
use crate::{
    ledger::{AddressState, Change, EniEntry, EniStage, Entry, EntryKey},
    retry::Backoff,
};

/// Deletions refused because the ENI is busy before it is detached again.
const DELETE_TRIES: u32 = 5;

/// Refusals of the kernel to set a link up before pods are served by other ENIs.
const SET_UP_TRIES: u32 = 3;

/// How long an attached ENI's link may stay away before pods are served by other ENIs. It comes within
/// seconds of the attach; a minute is less than kubelet's patience with an ADD.
const LINK_PATIENCE: Duration = Duration::from_secs(60);

/// What is known about an ENI beyond the ledger.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct EniProgress {
    /// A call about it is under way.
    pub(super) busy: bool,
    /// Failures, or looks in vain, in a row.
    pub(super) failures: u32,
    /// Attaches in a row that came to nothing.
    pub(super) attaches: u32,
    /// The cloud accepted the last attach.
    pub(super) accepted: bool,
    /// Nothing is done about it before.
    pub(super) not_before: Timestamp,
    /// Its link as it was when it was last set up.
    applied: Option<Link>,
    applying: bool,
    /// What it needs has changed since it was last set up.
    again: bool,
    /// What it was last set up with for pods on ipvlan, and what the set-up under way brings.
    #[serde(default)]
    ipvlan: Option<IpvlanEni>,
    #[serde(default)]
    ipvlan_coming: Option<IpvlanEni>,
    /// When its addresses were last changed by us.
    pub(super) changed: Timestamp,
    /// No further addresses are asked for before.
    pub(super) full_until: Timestamp,
    /// Metadata shows its link and does not speak of prefixes: the cloud's own list counts instead.
    pub(super) prefixes_unseen: bool,
    /// Trustworthy answers in a row that did not list it.
    pub(super) unseen: u8,
    /// Its tags give it to somebody else.
    pub(super) excluded: bool,
    /// Since when the cloud does not show it, while it is to be attached.
    pub(super) absent_since: Option<Timestamp>,
    /// Since when it is attached and its link is not on the node.
    linkless_since: Option<Timestamp>,
    /// The cloud refuses to take it off the node or to delete it, and goes on refusing until a person
    /// changes something.
    pub(super) kept: bool,
    /// Nobody knows whether addresses of it went back: an answer was lost.
    unsure: bool,
    /// What goes back goes one by one: of several in one call the cloud did not have all.
    pub(super) singly: bool,
}

impl Node {
    /// Whether pods can use the ENI's addresses: attached, and its link set up as it is now.
    pub(super) fn eni_usable(&self, id: &EniId) -> bool {
        if self.is_own(id) {
            return self.own_usable();
        }
        let attached = self
            .ledger
            .eni(id)
            .is_some_and(|eni| eni.stage == EniStage::Attached);
        attached
            && self
                .progress
                .get(id)
                .is_some_and(|progress| progress.applied.is_some())
    }

    /// Whether the ENI's link is set up and stays as it is for now.
    pub(super) fn is_set_up(&self, id: &EniId) -> bool {
        let at_rest = |it: &EniProgress| it.applied.is_some() && !it.applying && !it.again;
        self.eni_usable(id) && !self.is_own(id) && self.progress.get(id).is_some_and(at_rest)
    }

    /// Whether nobody should wait for the ENI's link any more: it does not come, or the kernel refused
    /// again and again to set it up.
    pub(super) fn stuck(&self, id: &EniId) -> bool {
        let refused = |it: &EniProgress| {
            let late = |since| self.latest.since(since) >= LINK_PATIENCE;
            it.applied.is_none()
                && (it.failures >= SET_UP_TRIES || it.linkless_since.is_some_and(late))
        };
        let attached = |it: &EniEntry| it.stage == EniStage::Attached;
        self.ledger.eni(id).is_some_and(attached) && self.progress.get(id).is_some_and(refused)
    }

    /// The ENI's link on the node.
    pub(super) fn eni_link(&self, id: &EniId) -> Option<&Link> {
        self.links.get(&self.ledger.eni(id)?.mac)
    }

    pub(super) fn progress(&mut self, id: &EniId) -> &mut EniProgress {
        self.progress.entry(id.clone()).or_default()
    }

    pub(super) fn drive_enis(&mut self, now: Timestamp) {
        self.notice_links(now);
        let enis: Vec<EniEntry> = self.ledger.enis().cloned().collect();
        let mut inspect = Vec::new();
        for eni in &enis {
            let drifted = self.drifted(eni);
            let progress = self.progress(&eni.id);
            let due = progress.not_before <= now;
            let early = progress.busy || !due;
            if due && (progress.again || drifted) && eni.stage == EniStage::Attached {
                // Its pods do not wait for what the cloud is asked about it.
                self.set_up(eni);
            }
            if eni.stage == EniStage::Attaching {
                self.links_wanted.want();
            }
            if early {
                continue;
            }
            match eni.stage {
                EniStage::Created => self.attach_eni(now, eni),
                EniStage::Attaching => inspect.push(eni.id.clone()),
                EniStage::Attached => self.drive_attached(now, eni),
                EniStage::Detaching => {
                    let op = Op::Detach(eni.id.clone());
                    self.tidy_away(now, &eni.id, op, CloudCall::DetachEni(eni.id.clone()));
                }
                EniStage::Deleting => {
                    let op = Op::Delete(eni.id.clone());
                    self.tidy_away(now, &eni.id, op, CloudCall::DeleteEni(eni.id.clone()));
                }
            }
        }
        self.inspect(now, inspect);
    }

    /// Makes a call that nobody waits for, if the budget has one left.
    fn tidy_away(&mut self, now: Timestamp, id: &EniId, op: Op, call: CloudCall) {
        if self.may_call(now, Api::of(&call), Purpose::Housekeeping) {
            self.progress(id).busy = true;
            self.call(now, op, call);
        }
    }

    pub(super) fn set_stage(&mut self, id: &EniId, stage: EniStage) {
        if let Some(eni) = self.ledger.eni(id) {
            let eni = EniEntry {
                stage,
                ..eni.clone()
            };
            self.record(Change::Put(Entry::Eni(eni)));
        }
        *self.progress(id) = EniProgress {
            attaches: self.progress(id).attaches,
            changed: self.progress(id).changed,
            excluded: self.progress(id).excluded,
            ..EniProgress::default()
        };
    }

    fn drive_attached(&mut self, now: Timestamp, eni: &EniEntry) {
        if let Some((op, call)) = self.going_back(&eni.id) {
            return self.tidy_away(now, &eni.id, op, call);
        }
        let fresh = self
            .ledger
            .addresses_of(&eni.id)
            .any(|entry| entry.state == AddressState::Fresh);
        if fresh || eni.gateway.is_empty() {
            self.interfaces.want();
        }
        if self.progress(&eni.id).applied.is_none() {
            self.set_up(eni);
        }
    }

    /// Sets an attached ENI's link up, one time after the other: of two under way nobody could tell which
    /// an answer is for.
    fn set_up(&mut self, eni: &EniEntry) {
        let Some(link) = self.links.get(&eni.mac).cloned() else {
            return self.links_wanted.want();
        };
        let progress = self.progress(&eni.id);
        if progress.applying || eni.gateway.is_empty() {
            return;
        }
        (progress.applying, progress.again) = (true, false);
        let net = self.eni_net(eni, &link);
        self.progress(&eni.id).ipvlan_coming.clone_from(&net.ipvlan);
        self.out.emit(Action::ApplyEni(eni.id.clone(), net));
    }

    /// Whether an ENI that serves was set up for other pods on ipvlan than it has now.
    fn drifted(&self, eni: &EniEntry) -> bool {
        let (progress, link) = (self.progress.get(&eni.id), self.links.get(&eni.mac));
        let serves = progress.filter(|it| it.applied.is_some() && !it.applying);
        serves
            .zip(link)
            .is_some_and(|(progress, link)| progress.ipvlan != self.ipvlan_eni(eni, link))
    }

    /// Whether the node has its slave on the ENI.
    pub(super) fn has_slave(&self, id: &EniId) -> bool {
        let progress = self.progress.get(id);
        progress.is_some_and(|it| it.applied.is_some() && it.ipvlan.is_some())
    }

    /// Sets an ENI's link up anew though it is the one it was: what it needs has changed. It is used meanwhile.
    pub(super) fn set_up_again(&mut self, id: &EniId) {
        self.progress(id).again = true;
    }

    pub(super) fn eni_applied(&mut self, now: Timestamp, id: &EniId, result: Result<(), String>) {
        let link = self.eni_link(id).cloned();
        let failures = self.progress(id).failures + 1;
        let wait = self.wait(Backoff::KERNEL, failures);
        let progress = self.progress(id);
        if !core::mem::take(&mut progress.applying) {
            return;
        }
        match result {
            Ok(()) => {
                progress.applied = link.map(|link| Link { up: true, ..link });
                progress.ipvlan = progress.ipvlan_coming.take();
                progress.failures = 0;
                self.notice(Notice::EniReady(id.clone()));
                self.eni_healed(now, id);
            }
            Err(error) => {
                progress.failures = failures;
                progress.not_before = now.after(wait);
                progress.again |= progress.applied.is_some();
                self.notice(Notice::KernelFailed(format!("setting up {id}: {error}")));
            }
        }
    }

    pub(super) fn links_read(&mut self, now: Timestamp, links: Vec<Link>) {
        self.links = links.into_iter().map(|link| (link.mac, link)).collect();
        let looks = self.links_wanted.failures + 1;
        self.links_wanted.answered();
        for eni in self.ledger.enis().cloned().collect::<Vec<_>>() {
            let link = self.links.get(&eni.mac).cloned();
            let progress = self.progress(&eni.id);
            if progress.applied != link {
                progress.applied = None;
            }
            progress.linkless_since = match (eni.stage, &link) {
                (EniStage::Attached, None) => progress.linkless_since.or(Some(now)),
                _ => None,
            };
            let here = matches!(eni.stage, EniStage::Attaching | EniStage::Attached);
            if link.is_none() && here {
                let wait = self.wait(Backoff::APPEAR, looks);
                self.links_wanted.again(now.after(wait), looks);
            }
        }
        self.look_again_for_devices(now, looks);
    }

    pub(super) fn put_off(&mut self, now: Timestamp, id: &EniId, backoff: Backoff) {
        let failures = self.progress(id).failures + 1;
        let wait = self.wait(backoff, failures);
        let progress = self.progress(id);
        progress.failures = failures;
        progress.not_before = now.after(wait);
    }

    pub(super) fn detach_done(
        &mut self,
        now: Timestamp,
        id: &EniId,
        result: Result<CloudAnswer, CloudFault>,
    ) {
        self.progress(id).busy = false;
        match result {
            Ok(_) => {
                self.set_stage(id, EniStage::Deleting);
                self.put_off(now, id, Backoff::DETACH);
            }
            // Off the instance already, or gone with it.
            Err(fault) if matches!(fault.class, FaultClass::Gone | FaultClass::Conflict) => {
                self.set_stage(id, EniStage::Deleting);
                self.put_off(now, id, Backoff::CLOUD);
            }
            Err(fault) => {
                self.cloud_failed(&format!("detaching {id}"), &fault);
                self.not_let_go(now, id, fault.class);
            }
        }
    }

    pub(super) fn delete_done(
        &mut self,
        now: Timestamp,
        id: &EniId,
        result: Result<CloudAnswer, CloudFault>,
    ) {
        self.progress(id).busy = false;
        let Err(fault) = result else {
            return self.forget_eni(id);
        };
        match fault.class {
            FaultClass::Gone => self.forget_eni(id),
            FaultClass::Conflict if self.progress(id).failures >= DELETE_TRIES => {
                self.set_stage(id, EniStage::Detaching);
            }
            FaultClass::Conflict => self.put_off(now, id, Backoff::DETACH),
            FaultClass::Throttled
            | FaultClass::Exhausted(_)
            | FaultClass::Denied
            | FaultClass::Unknown
            | FaultClass::TokenMismatch
            | FaultClass::Invalid => {
                self.cloud_failed(&format!("deleting {id}"), &fault);
                self.not_let_go(now, id, fault.class);
            }
        }
    }

    /// What was to go back is gone, or is not. A call is carried out whole or not at all: when the cloud
    /// lacks one of several, as it does after an answer that was lost, the others are still there.
    pub(super) fn unassign_done(
        &mut self,
        now: Timestamp,
        id: &EniId,
        (addresses, several): (&[IpAddr], bool),
        result: Result<CloudAnswer, CloudFault>,
    ) {
        let progress = self.progress(id);
        progress.busy = false;
        progress.changed = now;
        match result {
            Err(fault) if fault.class == FaultClass::Gone && several => progress.singly = true,
            Err(fault) if fault.class != FaultClass::Gone => {
                self.cloud_failed(&format!("giving addresses of {id} back"), &fault);
                self.progress(id).unsure |= fault.class == FaultClass::Unknown;
                self.not_let_go(now, id, fault.class);
                // They are ours still, and serve pods once they are seen.
                let kept = core::mem::take(&mut self.progress(id).kept);
                if kept && !self.progress(id).unsure {
                    for address in addresses {
                        self.set_address(*address, AddressState::Fresh);
                    }
                }
            }
            Ok(_) | Err(_) => {
                (progress.failures, progress.unsure) = (0, false);
                progress.singly &= result.is_ok();
                for address in addresses {
                    self.record(Change::Delete(EntryKey::Address(*address)));
                }
            }
        }
    }

    /// Removes an ENI that the cloud says is gone, unless a pod's packets still leave by it.
    pub(super) fn forget_eni(&mut self, id: &EniId) {
        let holder = self.ledger.holder_on(id).cloned();
        let held = holder.and_then(|key| self.ledger.attachment(&key));
        if let Some(held) = held.cloned() {
            for address in held.every_address() {
                self.notice(Notice::AddressLost(address, held.key.clone()));
            }
            return;
        }
        self.record(Change::Delete(EntryKey::Eni(id.clone())));
        self.progress.remove(id);
    }

    pub(super) fn eni_deadlines(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let known = self
            .progress
            .iter()
            .filter(|(id, _)| self.ledger.eni(id).is_some());
        let due = known
            .filter(|(_, progress)| !progress.busy)
            .map(|(_, progress)| progress.not_before);
        due.filter(move |at| *at > now)
    }
}
