//! Whether the machine may want what it wants: each action against what it was told, and each call that
//! arrives against the truth.

use std::{collections::btree_map::Entry, time::Duration};

use engine::{
    cluster::{Action, Notice, Store},
    podeni::{Call, CreateEni},
};
use model::{
    EniId, PodKey, Timestamp,
    podeni::{Phase, PodEni},
    podnetworking::Resolved,
};

use super::{
    api::{ApiServer, group},
    cloud::{Cloud, NOBODY, made_for},
    oracle::Oracle,
};

/// How long an ENI must have been nobody's before it is taken away: two lists, ten minutes apart, less
/// what one may be late.
const TWO_LISTS: Duration = Duration::from_secs(590);

/// Answers in a row without a vSwitch that was there before it counts as gone.
const ANSWERS: u32 = 3;

impl Oracle {
    /// The machine wants this.
    pub(super) fn wanted(
        &mut self,
        now: Timestamp,
        action: &Action,
        api: &ApiServer,
        cloud: &Cloud,
    ) {
        match action {
            Action::Store(key, store) => self.wants_write(now, key, store, cloud),
            Action::Resolve(_, resolved) => self.wants_verdict(resolved, cloud),
            Action::Call(_, Call::Create(create)) => {
                let first = self.asked.entry(create.token.clone());
                let again = matches!(first, Entry::Occupied(_));
                first.or_insert(now);
                match made_for(create).as_str() {
                    NOBODY => self.wants_spare(now, create, again, api, cloud),
                    name => self.wants_eni(create, name),
                }
            }
            Action::Call(_, Call::Detach { eni, .. }) => self.wants_off(now, eni, cloud, false),
            Action::Call(_, Call::Delete(eni)) => self.wants_off(now, eni, cloud, true),
            Action::Notice(notice) => self.says(notice),
            _ => {}
        }
    }

    fn wants_write(&mut self, now: Timestamp, key: &PodKey, store: &Store, cloud: &Cloud) {
        if !self.writing.insert(key.clone()) {
            self.fail("one write of a record at a time", format!("{key}"));
        }
        if let Store::Create(record) = store {
            self.draws(now, record, cloud);
        }
        let Some(known) = self.known.get(key) else {
            return;
        };
        match store {
            Store::Write(record) if **record == *known => {
                self.fail("a write changes something", format!("{key}"));
            }
            Store::Delete(_)
                if known.phase != Phase::Deleting && !self.promise_over(now, key, known) =>
            {
                let text = format!("{key} is to go, {:?}", known.phase);
                self.fail("a fixed address is kept its time", text);
            }
            _ => {}
        }
    }

    fn wants_verdict(&mut self, resolved: &Resolved, cloud: &Cloud) {
        if resolved.ready {
            return;
        }
        let there = cloud.vswitches.keys();
        let mut early = there.filter(|id| {
            let named = resolved.message.contains(id.as_str());
            named && self.shown.get(*id).is_some_and(|misses| *misses < ANSWERS)
        });
        if let Some(id) = early.next() {
            let text = format!("{id} is there: {}", resolved.message);
            self.fail("a vSwitch is given up after three answers", text);
        }
    }

    fn wants_eni(&mut self, create: &CreateEni, name: &str) {
        let mut known = self.known.values();
        let record = known.find(|one| name == group(&one.key));
        let allocation = record.and_then(|record| {
            let mut all = record.allocations.iter();
            let one = all.find(|one| one.interface == create.interface)?;
            Some((record.uid.clone(), one))
        });
        let described = allocation.as_ref().is_some_and(|(_, one)| {
            (one.attempt, &one.vswitch, one.addresses)
                == (create.attempt, &create.vswitch, create.addresses)
        });
        let Some((uid, _)) = allocation.filter(|_| described) else {
            let text = format!("{create:?}");
            return self.fail("an ENI is asked for as its record says", text);
        };
        let which = (uid, create.interface.clone(), create.attempt);
        let first = self.tokens.entry(which).or_insert(create.token.clone());
        if *first != create.token {
            let text = format!("{first}, then {}", create.token);
            self.fail("a request has one token", text);
        }
    }

    /// An ENI leaves its node, or the cloud.
    fn wants_off(&mut self, now: Timestamp, eni: &EniId, cloud: &Cloud, delete: bool) {
        let names = |record: &&PodEni| {
            let mut made = record.allocations.iter();
            made.any(|one| one.eni.as_ref().is_some_and(|made| made.id == *eni))
        };
        if let Some(record) = self.known.values().find(names) {
            let says = match (record.deleting, delete) {
                (true, _) => true,
                (false, true) => false,
                // On its way to a node it may be on another.
                (false, false) => record.phase != Phase::Bind && record.phase != Phase::Unbind,
            };
            if !says {
                let text = format!("{eni} of {}, which is {:?}", record.key, record.phase);
                self.fail("an ENI goes after its record says so", text);
            }
            return;
        }
        let Some(real) = cloud.enis.get(eni) else {
            return;
        };
        // A record that goes may have asked for it and not have named it.
        let mut going = self.known.values().filter(|record| record.deleting);
        let its = going.any(|record| {
            let unmade = record.allocations.iter().any(|one| one.eni.is_none());
            unmade && real.group == group(&record.key)
        });
        let nobodys = self.nobodys_for(now, eni).unwrap_or_default();
        let kept = self.gives_back(real);
        if !its && !kept && nobodys < TWO_LISTS {
            let text = format!("{eni} of {}, nobody's for {nobodys:?}", real.group);
            self.fail("what is nobody's is collected after two lists", text);
        }
    }

    fn says(&mut self, notice: &Notice) {
        match notice {
            Notice::Undone(key, why) if !self.others.contains_key(key) => {
                let text = format!("{key}: {why}");
                self.fail("what is taken back was changed by hand", text);
            }
            // Its record was written before it was asked for, and goes after it.
            Notice::Collected(eni) if !self.torn && !self.spares.left(eni) => {
                self.fail("nothing leaks that no hand tore off", eni.to_string());
            }
            Notice::SpareFailed(..) => self.spare_failed(),
            _ => {}
        }
    }

    /// A call reaches the cloud.
    pub(super) fn arrived(&mut self, call: &Call, api: &ApiServer) {
        let (Call::Detach { eni, .. } | Call::Delete(eni)) = call else {
            return;
        };
        let mut live = api.pods.iter().filter(|(_, live)| !live.pod.finished);
        let user = live.find(|(_, live)| live.uses.iter().any(|(used, _)| used == eni));
        if let Some((key, _)) = user {
            let text = format!("{key} uses {eni}");
            self.fail("a running pod keeps its ENI", text);
        }
    }
}
