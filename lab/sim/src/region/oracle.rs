//! What must hold at every instant of a region, judged from the truth of cloud and API server and from
//! what the machine was told; its own opinion is never asked.
//!
//! What it does and wants is judged in `judge`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use engine::cluster::{Input, Store};
use model::{
    ClientToken, DualStack, EniId, EniStatus, InterfaceName, PodKey, Timestamp, VSwitchId,
    podeni::{Phase, PodEni},
    podnetworking::{Release, Tenure},
};

use super::{
    api::{ApiServer, LivePod, group},
    cloud::Cloud,
    spare::Spares,
    world::World,
};
use crate::Violation;

/// How often in its life a machine takes a change by hand back before it gives in.
const TAKEN_BACK: u32 = 3;

/// The truth about the past, what the machine knows, and the first thing that was wrong.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The records as the machine was told they are.
    pub(super) known: BTreeMap<PodKey, PodEni>,
    /// Records that a write ended and of whose end the watch has not told: it is behind.
    ended: BTreeMap<PodKey, VecDeque<String>>,
    /// Records the watch said to be gone, by UID: an answer may come after that.
    past: BTreeSet<String>,
    /// ENIs that no known record names, and since when.
    pub(super) nobodys: BTreeMap<EniId, Timestamp>,
    /// When each token was first used, and for which attempt of which record.
    pub(super) asked: BTreeMap<ClientToken, Timestamp>,
    pub(super) tokens: BTreeMap<(String, InterfaceName, u32), ClientToken>,
    /// When each record was made.
    born: BTreeMap<String, Timestamp>,
    /// Fixed addresses by record and interface, once it has one.
    promised: BTreeMap<(String, InterfaceName), DualStack<IpAddr>>,
    /// Since when nobody uses the ENIs of a name that were once used.
    unused: BTreeMap<PodKey, Timestamp>,
    /// Names whose records another hand than this life's changed, how often.
    pub(super) others: BTreeMap<PodKey, u32>,
    /// Changes by hand that the machine was told of and has to take back.
    owed: BTreeMap<PodKey, String>,
    /// Whether a record was ever torn out.
    pub(super) torn: bool,
    /// Names with a write under way.
    pub(super) writing: BTreeSet<PodKey>,
    /// vSwitches this life has seen, and how many answers in a row lacked each since.
    pub(super) shown: BTreeMap<VSwitchId, u32>,
    pub(super) spares: Spares,
    pub(super) violation: Option<Violation>,
}

impl Oracle {
    pub(super) fn fail(&mut self, oracle: &'static str, text: impl Into<String>) {
        // The first is the cause; what follows may be its consequence.
        if self.violation.is_none() {
            let text = text.into();
            self.violation = Some(Violation { oracle, text });
        }
    }

    /// A controller starts and knows nothing.
    pub(super) fn boot(&mut self, now: Timestamp) {
        self.spares.boot(now);
        self.known.clear();
        self.ended.clear();
        self.nobodys.clear();
        self.others.clear();
        self.owed.clear();
        self.writing.clear();
        self.shown.clear();
    }

    /// The machine is told this.
    pub(super) fn told(&mut self, now: Timestamp, input: &Input, cloud: &Cloud) {
        match input {
            Input::Record(key, record) => self.record_told(key, record.as_deref(), true),
            Input::Written(key, result) => {
                self.writing.remove(key);
                if let Ok(record) = result {
                    self.record_told(key, record.as_deref(), false);
                }
            }
            Input::Called(_, Ok(_)) => self.spares.failed = None,
            Input::Networking(_, told) => self.spares.told(now, told.as_deref()),
            Input::VSwitches(_, Ok(found)) => {
                for misses in self.shown.values_mut() {
                    *misses += 1;
                }
                for one in found {
                    self.shown.insert(one.id.clone(), 0);
                }
            }
            _ => {}
        }
        self.count_nobodys(now, cloud);
    }

    fn record_told(&mut self, key: &PodKey, record: Option<&PodEni>, watched: bool) {
        if let Some(ended) = self.ended.get_mut(key).filter(|_| watched) {
            let behind = match record {
                Some(record) => ended.contains(&record.uid),
                None => ended.pop_front().is_some(),
            };
            if !behind || ended.is_empty() {
                self.ended.remove(key);
            }
            if behind {
                return;
            }
        }
        let Some(record) = record else {
            match self.known.remove(key) {
                Some(known) if watched => drop(self.past.insert(known.uid)),
                Some(known) => self
                    .ended
                    .entry(key.clone())
                    .or_default()
                    .push_back(known.uid),
                None => {}
            }
            self.owed.remove(key);
            return;
        };
        if self.past.contains(&record.uid) {
            return;
        }
        let version = |record: &PodEni| record.version.parse::<u64>().unwrap_or_default();
        let before = self.known.get(key).filter(|known| known.uid == record.uid);
        if before.is_some_and(|before| version(before) > version(record)) {
            return;
        }
        let edited = before.is_some_and(World::as_asked) && !World::as_asked(record);
        let often = self.others.get(key).copied().unwrap_or_default();
        if watched && edited && !record.deleting && often <= TAKEN_BACK {
            self.owed.insert(key.clone(), record.uid.clone());
        }
        if record.deleting || World::as_asked(record) {
            self.owed.remove(key);
        }
        self.known.insert(key.clone(), record.clone());
    }

    fn count_nobodys(&mut self, now: Timestamp, cloud: &Cloud) {
        let known = self.known.values();
        let named: BTreeSet<&EniId> = known
            .flat_map(|record| &record.allocations)
            .filter_map(|one| Some(&one.eni.as_ref()?.id))
            .collect();
        let there = cloud.enis.keys();
        let nobodys = there.filter(|eni| !named.contains(eni));
        let before = std::mem::take(&mut self.nobodys);
        self.nobodys = nobodys
            .map(|eni| (eni.clone(), before.get(eni).copied().unwrap_or(now)))
            .collect();
    }

    /// A change by hand that the machine has not taken back yet.
    pub(super) fn owed(&self) -> Option<String> {
        let key = self.owed.keys().next()?;
        Some(format!("the change of {key}'s record was not taken back"))
    }

    /// Another hand than this life's changed a record.
    pub(super) fn other_hand(&mut self, record: Option<&PodEni>) {
        if let Some(record) = record {
            *self.others.entry(record.key.clone()).or_default() += 1;
        }
    }

    /// A pod goes, or ends.
    pub(super) fn left(&mut self, now: Timestamp, live: &LivePod) {
        if !live.uses.is_empty() && !live.pod.finished {
            self.unused.insert(live.pod.key.clone(), now);
        }
    }

    /// A record was written.
    pub(super) fn born(&mut self, now: Timestamp, record: Option<&PodEni>) {
        if let Some(record) = record {
            self.born.entry(record.uid.clone()).or_insert(now);
        }
    }

    /// Whether the address of a record is nobody's any more.
    pub(super) fn promise_over(&self, now: Timestamp, key: &PodKey, record: &PodEni) -> bool {
        let unused = self.unused.get(key).map(|at| now.since(*at));
        let over = |tenure: Tenure| match tenure {
            Tenure::Elastic => true,
            Tenure::Fixed(Release::After(kept)) => unused.is_none_or(|unused| unused >= kept),
            Tenure::Fixed(Release::Never) => false,
        };
        let promised = record.allocations.iter();
        let mut promised = promised.filter(|one| !one.addresses.is_empty());
        promised.all(|one| over(one.tenure))
    }

    /// What holds whatever is under way.
    pub(super) fn check(&mut self, now: Timestamp, api: &ApiServer, cloud: &Cloud) {
        self.check_shared(now, api, cloud);
        let mut owners: BTreeMap<&EniId, &PodKey> = BTreeMap::new();
        for (key, record) in &api.records {
            for allocation in &record.allocations {
                self.check_promise(record, allocation);
                let Some(eni) = allocation.eni.as_ref().map(|eni| &eni.id) else {
                    continue;
                };
                if let Some(other) = owners.insert(eni, key) {
                    self.fail("an ENI has one record", format!("{eni}: {other} and {key}"));
                }
                self.check_origin(record, eni, cloud);
            }
            // With a node that was deleted its ENIs went.
            if api.nodes.iter().any(|node| node.name == record.node) {
                self.check_bound(key, record, cloud);
            }
        }
    }

    fn check_promise(&mut self, record: &PodEni, allocation: &model::podeni::Allocation) {
        let addresses = allocation.addresses;
        if !allocation.tenure.is_fixed() || addresses.is_empty() {
            return;
        }
        let which = (record.uid.clone(), allocation.interface.clone());
        let promised = *self.promised.entry(which).or_insert(addresses);
        if promised != addresses {
            let text = format!("{}: {promised:?} became {addresses:?}", record.key);
            self.fail("a promised address never changes", text);
        }
    }

    fn check_origin(&mut self, record: &PodEni, eni: &EniId, cloud: &Cloud) {
        let Some(made) = cloud.enis.get(eni) else {
            return;
        };
        let asked = self.asked.get(&made.token);
        let born = self.born.get(&record.uid);
        // What pods share was another's before.
        let shared = made.edition.is_some();
        if !shared && asked.zip(born).is_none_or(|(asked, born)| asked < born) {
            let text = format!("{eni}, asked for at {asked:?}: {} of {born:?}", record.key);
            self.fail("a record names what was made for it", text);
        }
    }

    fn check_bound(&mut self, key: &PodKey, record: &PodEni, cloud: &Cloud) {
        if record.phase != Phase::Bind || record.deleting {
            return;
        }
        for allocation in &record.allocations {
            let eni = allocation.eni.as_ref().map(|eni| &eni.id);
            let attached = eni.and_then(|eni| record.attached.get(eni));
            let real = eni.and_then(|eni| cloud.seen(eni));
            let bound = real.as_ref().zip(attached).is_some_and(|(real, attached)| {
                real.status == EniStatus::InUse
                    && real.instance == record.instance
                    && real.vlan.is_some()
                    && real.vlan == attached.vlan
            });
            if !bound {
                let text = format!("{key}: {eni:?} is {real:?}, recorded as {attached:?}");
                self.fail("bound means attached", text);
            }
        }
    }

    /// A write of the machine reaches the API server.
    pub(super) fn stored(&mut self, key: &PodKey, store: &Store, api: &ApiServer, cloud: &Cloud) {
        let Some(record) = api.records.get(key) else {
            return;
        };
        let Store::LetGo(uid) = store else {
            return;
        };
        let born = self.born.get(uid);
        let left = cloud.enis.values().find(|eni| {
            let asked = self.asked.get(&eni.token);
            let its = asked.zip(born).is_some_and(|(asked, born)| asked >= born);
            // The next pod of the node has it.
            let stays = eni.edition.is_some();
            eni.group == group(key) && its && *uid == record.uid && !stays
        });
        if let Some(left) = left {
            let text = format!("{} of {key} is still {:?}", left.id, left.status);
            self.fail("a record goes after its ENIs", text);
        }
    }

    /// Since the machine knows nobody who names it.
    pub(super) fn nobodys_for(&self, now: Timestamp, eni: &EniId) -> Option<Duration> {
        self.nobodys.get(eni).map(|since| now.since(*since))
    }
}
