//! ENIs of ours that nothing refers to: their record was lost, or the process that asked for them was.
//!
//! Two lists, ten minutes apart, must both show one unreferenced before it is touched; and one whose
//! address a pod reports is never touched. It may be free, a member of a trunk, or a whole ENI on a node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use model::{EniId, EniKind, EniStatus, FaultClass, InstanceId, PodKey, Timestamp, podeni::Phase};

use super::{
    Cluster,
    calls::Op,
    message::{Action, Doing, Listed, Notice, OpNumber},
    vswitch::Standing,
};
use crate::{
    budget::Api,
    podeni::{Answer, Call, Fault},
    retry::Dice,
};

/// Between two lists. A list costs a page per 500 ENIs.
const LIST_EVERY: Duration = Duration::from_secs(600);

/// Between two lists while one found earlier is on its way out: a detach takes seconds.
const LIST_SOON: Duration = Duration::from_secs(30);

/// How long an ENI must have been without a record. A create whose answer was lost is repeated, and its
/// ENI named in its record, within half a minute of the cloud answering again.
const CONFIRMED: Duration = Duration::from_secs(590);

/// First lists in a row that lack what a record says is on a trunk before one is believed: it may be cut
/// short, or come from a moment in which the permission was missing. Then somebody took that ENI away.
const LACKS_CONFIRMED: u32 = 3;

/// ENIs taken away after one list, so that a mistake nobody thought of is a small one.
const COLLECT_MOST: usize = 20;

/// What is known of ENIs nothing refers to.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// Since when each has been without a record.
    suspects: BTreeMap<EniId, Timestamp>,
    unrecorded: BTreeSet<EniId>,
    list_at: Option<Timestamp>,
    /// When the list under way was asked for.
    began: Timestamp,
    in_flight: usize,
    again_soon: bool,
    /// First lists that lacked what there is.
    lacking: u32,
}

impl Orphans {
    pub(super) fn start(&mut self, now: Timestamp, dice: &mut Dice) {
        // Not all clusters of an account at once.
        let spread = Duration::from_millis(dice.roll() % 30_000);
        self.list_at = Some(now.after(LIST_SOON).after(spread));
    }

    /// A record names these: whoever loses its record after this is nobody's from then on.
    pub(super) fn named(&mut self, enis: impl Iterator<Item = EniId>) {
        for eni in enis {
            self.suspects.remove(&eni);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.suspects.len()
    }
}

impl Cluster {
    pub(super) fn orphan_deadline(&self) -> Option<Timestamp> {
        self.orphans.list_at.filter(|_| self.config.collect)
    }

    /// Lists at once when that shows what an earlier machine kept ready, and all it takes to tell is known.
    pub(super) fn hasten_list(&mut self, now: Timestamp) {
        let mut named = self
            .planes
            .values()
            .flat_map(|one| &one.networking.vswitches);
        let known = named.all(|id| self.vswitches.standing(id) != Standing::Unknown);
        // One that was doubted is asked for again in its own time.
        let first = !self.pool.is_listed() && self.orphans.lacking == 0;
        if known && first && self.keeps_spares() {
            self.orphans.list_at = self.orphans.list_at.map(|at| at.min(now));
        }
    }

    pub(super) fn drive_orphans(&mut self, now: Timestamp) {
        let due = self.orphan_deadline().is_some_and(|at| at <= now);
        if due && self.may_call(now, Api::DescribeNetworkInterfaces) {
            (self.orphans.list_at, self.orphans.began) = (None, now);
            let op = self.start(now, Op::List);
            self.emit(Action::ListEnis(op));
        }
    }

    /// All ENIs of the VPC that could be ours.
    pub(super) fn listed(
        &mut self,
        now: Timestamp,
        number: OpNumber,
        result: Result<Vec<Listed>, Fault>,
    ) {
        let Some(Op::List) = self.end(now, number, &result) else {
            return;
        };
        self.orphans.list_at = Some(now.after(LIST_EVERY));
        let listed = match result {
            Ok(listed) => listed,
            Err(fault) => {
                let text = format!("listing the ENIs of the VPC: {}", fault.text);
                self.notice(Notice::CloudFailed(text));
                if !self.pool.is_listed() {
                    self.orphans.list_at = Some(now.after(LIST_SOON));
                }
                return;
            }
        };
        if let Some(lacks) = self.lacks(&listed) {
            self.orphans.lacking += 1;
            if self.orphans.lacking < LACKS_CONFIRMED {
                self.notice(Notice::CloudFailed(lacks));
                self.orphans.list_at = Some(now.after(LIST_SOON));
                return;
            }
        }
        self.compare_spares(now, self.orphans.began, &listed);
        // A record nobody can read may refer to any of them.
        let Some(referenced) = self.referenced() else {
            self.orphans.suspects.clear();
            return;
        };
        let strays: Vec<Listed> = listed
            .into_iter()
            .filter(|one| self.is_ours(one) && !referenced.contains(&one.eni.id))
            .filter(|one| !self.is_spare(&one.eni.id))
            .collect();
        let (_, strays): (Vec<Listed>, Vec<Listed>) = strays.into_iter().partition(|one| {
            let since = self.orphans.suspects.get(&one.eni.id);
            let confirmed = since.is_some_and(|since| now.since(*since) >= CONFIRMED);
            self.adopt(now, one, confirmed)
        });
        let before = std::mem::take(&mut self.orphans.suspects);
        self.orphans.suspects = strays
            .iter()
            .map(|one| {
                let since = before.get(&one.eni.id).copied().unwrap_or(now);
                (one.eni.id.clone(), since)
            })
            .collect();
        for stray in strays {
            self.judge_stray(now, &stray);
        }
        if std::mem::take(&mut self.orphans.again_soon) {
            self.orphans.list_at = Some(now.after(LIST_SOON));
        }
    }

    /// Why the first list cannot be the whole truth, if it cannot: it says what is kept ready, and whoever
    /// took an empty one for that would make everything twice.
    fn lacks(&self, listed: &[Listed]) -> Option<String> {
        if self.pool.is_listed() {
            return None;
        }
        let listed: BTreeSet<&EniId> = listed.iter().map(|one| &one.eni.id).collect();
        let bound = self.records.values().filter(|record| {
            let there = self.trunk_of(&record.node).is_some();
            there && !record.deleting && record.phase == Phase::Bind
        });
        let attached = bound.flat_map(|record| &record.attached);
        let mut members = attached.filter(|(_, attached)| attached.vlan.is_some());
        let (eni, _) = members.find(|(eni, _)| !listed.contains(eni))?;
        Some(format!(
            "the list of the VPC's ENIs lacks {eni}, which a PodENI says is on a trunk: is \
             ecs:DescribeNetworkInterfaces permitted?"
        ))
    }

    fn is_ours(&self, one: &Listed) -> bool {
        let tags = &self.config.tags;
        let tagged = tags
            .iter()
            .all(|(key, value)| one.eni.tags.get(key) == Some(value));
        let kind = matches!(one.eni.kind, EniKind::Secondary | EniKind::Member);
        !tags.is_empty() && tagged && kind
    }

    /// Every ENI a record names or a request of ours made; nothing when that cannot be told.
    fn referenced(&self) -> Option<BTreeSet<EniId>> {
        let mut all: BTreeSet<EniId> = BTreeSet::new();
        for enis in self.unreadable.values() {
            all.extend(enis.as_ref()?.iter().cloned());
        }
        for record in self.records.values() {
            let made = record.allocations.iter().filter_map(|one| one.eni.as_ref());
            all.extend(made.map(|eni| eni.id.clone()));
            all.extend(record.attached.keys().cloned());
        }
        Some(all)
    }

    fn judge_stray(&mut self, now: Timestamp, stray: &Listed) {
        let eni = &stray.eni;
        let since = self.orphans.suspects.get(&eni.id).copied();
        if since.is_none_or(|since| now.since(since) < CONFIRMED) {
            return;
        }
        if let Some(pod) = self.pod_with(stray) {
            if self.orphans.unrecorded.insert(eni.id.clone()) {
                self.notice(Notice::Unrecorded(eni.id.clone(), pod));
            }
            return;
        }
        if self.orphans.in_flight >= COLLECT_MOST {
            self.orphans.again_soon = true;
            return;
        }
        let (doing, call) = match (eni.status, &eni.instance) {
            (EniStatus::Available, _) => (Doing::Delete, Call::Delete(eni.id.clone())),
            (EniStatus::InUse, Some(instance)) => (Doing::Detach, detach(stray, instance)),
            _ => {
                self.orphans.again_soon = true;
                return;
            }
        };
        let api = match doing {
            Doing::Delete => Api::DeleteNetworkInterface,
            _ => Api::DetachNetworkInterface,
        };
        if !self.may_call(now, api) {
            self.orphans.again_soon = true;
            return;
        }
        self.orphans.in_flight += 1;
        self.orphans.again_soon |= doing == Doing::Detach;
        let op = self.start(now, Op::Orphan(eni.id.clone(), doing));
        self.emit(Action::Call(op, call));
    }

    /// Whether it is being taken away.
    pub(super) fn is_leaked(&self, eni: &EniId) -> bool {
        let mut ops = self.ops.values();
        ops.any(|op| matches!(op, Op::Orphan(one, _) if one == eni))
    }

    /// The pod that reports an address of it.
    pub(super) fn pod_with(&self, stray: &Listed) -> Option<PodKey> {
        self.pod_at(|address| stray.eni.addresses.iter().any(|ip| ip.address == address))
    }

    pub(super) fn pod_at(&self, has: impl Fn(IpAddr) -> bool) -> Option<PodKey> {
        let mut pods = self.pods.iter().filter(|(_, pod)| !pod.pod.finished);
        let found = pods.find(|(_, pod)| pod.addresses.iter().any(|address| has(*address)));
        found.map(|(key, _)| key.clone())
    }

    pub(super) fn orphan_called(
        &mut self,
        eni: &EniId,
        doing: Doing,
        result: Result<Answer, Fault>,
    ) {
        self.orphans.in_flight = self.orphans.in_flight.saturating_sub(1);
        match (result, doing) {
            (Ok(_), Doing::Delete) => {
                self.orphans.suspects.remove(eni);
                self.notice(Notice::Collected(eni.clone()));
            }
            (Ok(_), _) => {}
            (Err(fault), _) if fault.class == FaultClass::Gone => {
                self.orphans.suspects.remove(eni);
            }
            (Err(fault), _) => {
                let text = format!("taking {eni} away, which nothing refers to: {}", fault.text);
                self.notice(Notice::CloudFailed(text));
            }
        }
    }
}

fn detach(stray: &Listed, instance: &InstanceId) -> Call {
    Call::Detach {
        eni: stray.eni.id.clone(),
        instance: instance.clone(),
        trunk: stray.trunk.clone(),
    }
}
