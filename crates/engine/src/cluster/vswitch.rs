//! What is known of vSwitches: described when somebody names one, again from time to time, and at once
//! when one that was full may have room.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{Timestamp, VSwitch, VSwitchId, ZoneId, podeni::PodEni};

use super::{
    Cluster,
    calls::Op,
    message::{Action, ClusterPod, Notice, OpNumber},
};
use crate::{
    budget::Api,
    podeni::{Fault, KnownVSwitch, VSwitches},
    retry::Backoff,
};

/// How old a description may be. Free addresses are counted along in between; what others take is seen
/// this late, or when the vSwitch refuses an ENI.
const FRESH: Duration = Duration::from_secs(600);

/// How long a vSwitch that refused an ENI for want of addresses is left alone before it is described anew.
const FULL: Duration = Duration::from_secs(60);

/// How long the pod that asks one first, of all that wait for it, is waited for: an ENI is made within
/// seconds, and a pod that went meanwhile holds nobody up for long.
const TRIED: Duration = Duration::from_secs(10);

/// How long one that the region does not have is not asked for again: somebody may be making it.
const ABSENT: Duration = Duration::from_secs(30);

/// Answers in a row that leave out a vSwitch that was there before that is believed: one may be cut short, or
/// come from a moment in which the permission was missing.
const GONE_CONFIRMED: u32 = 3;

/// vSwitches in one call: they are asked for one page at a time (`PageSize` of DescribeVSwitches: 50).
const DESCRIBE_MOST: usize = 50;

/// When a vSwitch is due to be described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    At(Timestamp),
    /// It is being described.
    Asked,
}

/// All vSwitches anybody named.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    known: VSwitches,
    due: BTreeMap<VSwitchId, Due>,
    absent: BTreeSet<VSwitchId>,
    misses: BTreeMap<VSwitchId, u32>,
    /// Those in which no ENI was made since they were full.
    doubted: BTreeSet<VSwitchId>,
    failures: u32,
}

/// What is known of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was not described yet.
    Unknown,
    /// The region does not have it.
    Absent,
    /// It is in this zone.
    In(ZoneId),
}

impl Catalogue {
    pub(super) fn known(&self) -> &VSwitches {
        &self.known
    }

    pub(super) fn want(&mut self, id: &VSwitchId) {
        let due = self.due.entry(id.clone());
        due.or_insert(Due::At(Timestamp::EPOCH));
    }

    pub(super) fn standing(&self, id: &VSwitchId) -> Standing {
        match self.known.get(id) {
            Some(known) => Standing::In(known.described.zone.clone()),
            None if self.absent.contains(id) => Standing::Absent,
            None => Standing::Unknown,
        }
    }

    /// How many refused an ENI lately.
    pub(super) fn full(&self) -> usize {
        let full = |known: &&KnownVSwitch| known.described.available_addresses == 0;
        self.known.values().filter(full).count()
    }

    /// An ENI was made in it; says whether others wait for that.
    fn took(&mut self, id: &VSwitchId) -> bool {
        let doubted = self.doubted.remove(id);
        if let Some(known) = self.known.get_mut(id) {
            let left = &mut known.described.available_addresses;
            *left = left.saturating_sub(1);
            if doubted {
                known.full_until = Timestamp::EPOCH;
            }
        }
        doubted
    }

    /// An ENI is being asked of it: where that may be refused again, others wait for the answer.
    fn tried(&mut self, now: Timestamp, id: &VSwitchId) {
        if let Some(known) = self.known.get_mut(id)
            && self.doubted.contains(id)
        {
            known.full_until = now.after(TRIED);
        }
    }

    /// An answer left it out.
    fn missed(&mut self, id: &VSwitchId) {
        let misses = self.misses.entry(id.clone()).or_default();
        *misses += 1;
        if *misses >= GONE_CONFIRMED || !self.known.contains_key(id) {
            self.known.remove(id);
            self.absent.insert(id.clone());
        }
    }

    /// It refused an ENI for want of addresses.
    pub(super) fn filled(&mut self, now: Timestamp, id: &VSwitchId) {
        if let Some(known) = self.known.get_mut(id) {
            known.described.available_addresses = 0;
            known.full_until = now.after(FULL);
        }
        self.doubted.insert(id.clone());
        self.due.insert(id.clone(), Due::At(now.after(FULL)));
    }
}

impl Cluster {
    /// The vSwitches a pod that has no ENI yet names.
    pub(super) fn want_vswitches(&mut self, pod: &ClusterPod) {
        for network in &pod.pod.networks {
            for id in &network.vswitches {
                self.vswitches.want(id);
            }
        }
    }

    pub(super) fn vswitch_deadline(&self) -> Option<Timestamp> {
        let due = self.vswitches.due.values();
        due.filter_map(|due| match due {
            Due::At(at) => Some(*at),
            Due::Asked => None,
        })
        .min()
    }

    pub(super) fn drive_vswitches(&mut self, now: Timestamp) {
        loop {
            let due = self.vswitches.due.iter();
            let ids: Vec<VSwitchId> = due
                .filter(|(_, due)| matches!(due, Due::At(at) if *at <= now))
                .map(|(id, _)| id.clone())
                .take(DESCRIBE_MOST)
                .collect();
            if ids.is_empty() || !self.may_call(now, Api::DescribeVSwitches) {
                return;
            }
            for id in &ids {
                self.vswitches.due.insert(id.clone(), Due::Asked);
            }
            let op = self.start(now, Op::VSwitches(ids.clone()));
            self.emit(Action::DescribeVSwitches(op, ids));
        }
    }

    /// vSwitches were looked at.
    pub(super) fn vswitches_seen(
        &mut self,
        now: Timestamp,
        number: OpNumber,
        result: Result<Vec<VSwitch>, Fault>,
    ) {
        let Some(Op::VSwitches(asked)) = self.end(now, number, &result) else {
            return;
        };
        let found = match result {
            Ok(found) => found,
            Err(fault) => {
                self.vswitches.failures += 1;
                let failures = self.vswitches.failures;
                let again = now.after(Backoff::CLOUD.wait(failures, &mut self.dice));
                for id in asked {
                    self.vswitches.due.insert(id, Due::At(again));
                }
                let text = format!("describing vSwitches: {}", fault.text);
                self.notice(Notice::CloudFailed(text));
                return;
            }
        };
        self.vswitches.failures = 0;
        let mut found: BTreeMap<_, _> =
            found.into_iter().map(|one| (one.id.clone(), one)).collect();
        for id in asked {
            let again = match found.remove(&id) {
                Some(described) => {
                    self.vswitches.absent.remove(&id);
                    self.vswitches.misses.remove(&id);
                    let full = described.available_addresses == 0;
                    let known = KnownVSwitch {
                        described,
                        full_until: if full {
                            now.after(FULL)
                        } else {
                            Timestamp::EPOCH
                        },
                    };
                    self.vswitches.known.insert(id.clone(), known);
                    if full {
                        self.vswitches.doubted.insert(id.clone());
                        FULL
                    } else {
                        FRESH
                    }
                }
                None => {
                    self.vswitches.missed(&id);
                    ABSENT
                }
            };
            self.vswitches.due.insert(id, Due::At(now.after(again)));
        }
        self.judge_networkings();
        self.think_of_waiting();
        self.hasten_list(now);
    }

    /// An ENI was made in a vSwitch.
    pub(super) fn took(&mut self, id: &VSwitchId) {
        if self.vswitches.took(id) {
            self.think_of_waiting();
        }
    }

    /// A record is to be written that asks for ENIs it did not ask for before.
    pub(super) fn try_vswitches(&mut self, now: Timestamp, next: &PodEni) {
        let before = self.records.get(&next.key);
        let before = before.map_or(&[][..], |record| record.allocations.as_slice());
        for (at, one) in next.allocations.iter().enumerate() {
            let asked = before.get(at).map(|before| before.attempt);
            if one.eni.is_none() && asked != Some(one.attempt) {
                self.vswitches.tried(now, &one.vswitch);
            }
        }
    }

    /// Whoever waits may have waited for a vSwitch.
    fn think_of_waiting(&mut self) {
        let waiting = self.threads.iter();
        let waiting: Vec<_> = waiting
            .filter(|(_, thread)| thread.waiting().is_some())
            .map(|(key, _)| key.clone())
            .collect();
        for key in waiting {
            self.think(key);
        }
    }
}
