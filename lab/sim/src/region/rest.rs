//! When a region has come to rest, and that it stays so.

use std::{collections::BTreeSet, time::Duration};

use engine::budget::Api;
use model::{
    EniId, EniStatus, PodKey,
    podeni::Phase,
    podnetworking::{Release, Tenure},
};

use super::{
    api::LivePod,
    schedule::Setup,
    world::{Event, World},
};

/// How long a pod may wait once nothing goes wrong any more: retries wait half a minute at most, and a
/// small window may be full for the minutes that a dozen calls for each of eight pods take.
const SERVED: Duration = Duration::from_secs(10 * 60);

/// How long all the rest may take: an address is kept for 5 minutes, then two lists, ten minutes apart,
/// find an ENI, the next detaches and the one after that deletes it; a hand may have torn a record out
/// just before.
const SETTLED: Duration = Duration::from_secs(45 * 60);

/// How long it must stay as it is.
const STAYS: Duration = Duration::from_secs(60 * 60);

/// Calls that look, in that hour: a list and each of two vSwitches every ten minutes, and one more of each;
/// and the last ENI kept ready is looked at until the machine has seen it where it is.
const LOOKS: u64 = 3 * 7 + 8;

/// How long what is kept ready stays where no pod runs any more, and what begins in that time takes.
const IDLE: Duration = Duration::from_secs(660);

/// Between two looks at the world.
const EVERY: u64 = 20_000;

impl World {
    /// Has it come to rest?
    pub(super) fn look(&mut self) {
        let Some(calm) = self.calm else { return };
        let since = self.now.since(calm);
        match (self.restless(), self.rested) {
            (None, None) => self.rested = Some((self.now, self.calls())),
            (None, Some((at, calls))) if self.now.since(at) >= STAYS => {
                let made = (self.calls().0 - calls.0, self.calls().1 - calls.1);
                self.report.calls_at_rest = made.0 + made.1;
                if made.0 > 0 || made.1 > LOOKS {
                    let text = format!("{} calls that change, {} that look", made.0, made.1);
                    self.oracle.fail("few calls at rest", text);
                }
                self.report.rested(at);
                self.finished = true;
                return;
            }
            (None, Some(_)) => {}
            (Some(why), Some(_)) => self.oracle.fail("what is at rest stays so", why),
            (Some(why), None) => {
                // ENIs that a list did not show keep their places on a trunk until two have shown them.
                let roomy = self.schedule.setup.members == Setup::default().members;
                let served = self.unserved().filter(|_| roomy && since > SERVED);
                if let Some(why) = served.or((since > SETTLED).then_some(why)) {
                    let oracle = "the wanted state within a bounded time";
                    self.oracle.fail(oracle, why);
                }
            }
        }
        self.after(EVERY, Event::Look);
    }

    /// Calls that change something, and calls that look.
    fn calls(&self) -> (u64, u64) {
        let looks = [Api::DescribeNetworkInterfaces, Api::DescribeVSwitches];
        let calls = self.cloud.calls.iter();
        calls.fold((0, 0), |(moves, seen), (api, calls)| {
            match looks.contains(api) {
                true => (moves, seen + calls),
                false => (moves + calls, seen),
            }
        })
    }

    /// A pod that has not what it wants.
    fn unserved(&self) -> Option<String> {
        let mut pods = self.api.pods.iter().filter(|(_, live)| !live.pod.finished);
        pods.find_map(|(key, live)| self.lacks(key, live))
    }

    fn lacks(&self, key: &PodKey, live: &LivePod) -> Option<String> {
        let Some(record) = self.api.records.get(key) else {
            return Some(format!("{key} has no record"));
        };
        let machine = self.machine.as_ref();
        let why = machine.and_then(|machine| machine.waiting(key));
        let served = record.phase == Phase::Bind
            && record.pod == live.pod.uid
            && Some(&record.node) == live.pod.node.as_ref()
            && live.reported;
        (!served).then(|| format!("{key} is {:?} and waits for {why:?}", record.phase))
    }

    /// What is not as it shall be in the end.
    fn restless(&self) -> Option<String> {
        self.unserved()
            .or_else(|| self.records_restless())
            .or_else(|| self.enis_restless())
            .or_else(|| {
                let ready = self.api.networking.is_ready();
                (!ready).then(|| "the PodNetworking is not ready".into())
            })
            .or_else(|| self.oracle.owed())
    }

    fn records_restless(&self) -> Option<String> {
        self.api.records.iter().find_map(|(key, record)| {
            let live = self.api.pods.get(key).filter(|live| !live.pod.finished);
            if live.is_some() {
                return None;
            }
            let mut all = record.allocations.iter();
            let kept = record.phase == Phase::Unbind
                && !record.deleting
                && all.any(|one| one.tenure == Tenure::Fixed(Release::Never));
            (!kept).then(|| format!("nobody needs the record of {key}: {:?}", record.phase))
        })
    }

    fn enis_restless(&self) -> Option<String> {
        let records = self.api.records.values();
        let named: BTreeSet<&EniId> = records
            .flat_map(|record| &record.allocations)
            .filter_map(|one| Some(&one.eni.as_ref()?.id))
            .collect();
        let live = self.api.pods.values().filter(|live| !live.pod.finished);
        let used: BTreeSet<&EniId> = live
            .flat_map(|live| &live.uses)
            .map(|(eni, _)| eni)
            .collect();
        let there: BTreeSet<&EniId> = self.cloud.enis.keys().collect();
        let all: BTreeSet<&EniId> = named.union(&used).copied().collect();
        let calm = self.calm.map(|calm| self.now.since(calm));
        if !self.schedule.setup.ready.is_none() && calm.is_some_and(|calm| calm < IDLE) {
            return Some("ENIs may still be made ready for pods that went".into());
        }
        let nobodys = there.difference(&all).copied().collect();
        if let Some(why) = self.spares_restless(&nobodys) {
            return Some(why);
        }
        // An ENI that was deleted by hand is missed when the next pod of the name comes.
        let records = self.api.records.values();
        let idle = records.filter(|record| record.phase == Phase::Unbind);
        let mut idle = idle
            .flat_map(|record| &record.allocations)
            .filter_map(|one| self.cloud.enis.get(&one.eni.as_ref()?.id));
        let astray = idle.find(|eni| eni.status != EniStatus::Available)?;
        Some(format!("{} is {:?} and unused", astray.id, astray.status))
    }

    /// Whether nothing was changed by hand that shall be as it was.
    pub(super) fn as_asked(record: &model::podeni::PodEni) -> bool {
        let mut all = record.allocations.iter();
        all.all(|one| !one.security_groups.is_empty())
    }
}
