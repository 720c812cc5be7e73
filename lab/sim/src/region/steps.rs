//! What the steps of a schedule do to the region.

use std::time::Duration;

use engine::cluster::Input;
use model::{EniStatus, PodKey, podnetworking::Tenure};

use super::{
    api::{name, wish},
    schedule::{Hand, Step},
    world::{Event, Stream, World, vswitches},
};

/// The controller is away for up to so many milliseconds: two lease durations.
const AWAY: u64 = 30_000;

impl World {
    pub(super) fn carry_out_step(&mut self, step: Step) {
        if let Some(kind) = step.fault() {
            self.report.fault(kind);
        }
        match step {
            Step::Pod(number, node) => self.create(number, wish(number), node),
            Step::Schedule(number, node) => self.schedule_pod(number, node),
            Step::Gone(number) => self.gone(&name(number)),
            Step::Finish(number) => {
                let key = name(number);
                if let Some(live) = self.api.pods.get_mut(&key) {
                    self.oracle.left(self.now, live);
                    live.pod.finished = true;
                    self.watch_pod(&key);
                }
            }
            Step::Supplant(number, node) => {
                self.meddle(&name(number), Hand::TearOut);
                self.gone(&name(number));
                self.create(number, wish(number), Some(node));
            }
            Step::Meddle(number, hand) => self.meddle(&name(number), hand),
            Step::Vanish(number) => self.vanish(&name(number)),
            Step::Crash => {
                let short = self.dice.below(2) == 0;
                let down = 20 + self.dice.below(if short { 100 } else { AWAY });
                self.crash(down);
            }
            Step::Fate(target, times, fate) => {
                self.fates.extend((0..times).map(|_| (target, fate)));
            }
            Step::Outage(millis) => {
                self.outage = self.now.after(Duration::from_millis(millis));
            }
            Step::Late(millis) => self.late = millis,
            Step::Fill(at, full) => {
                if let Some(is_full) = self.cloud.vswitches.values_mut().nth(at) {
                    *is_full = full;
                }
            }
            Step::VSwitch(at, there) => {
                if let Some(id) = vswitches().into_iter().nth(at) {
                    match there {
                        true => drop(self.cloud.vswitches.entry(id).or_insert(false)),
                        false => drop(self.cloud.vswitches.remove(&id)),
                    }
                }
            }
            Step::Ready(ready) => {
                self.api.keep_ready(ready);
                self.watch_networking();
            }
            Step::Leave => self.leave(),
            Step::Renew => {
                self.api.renew();
                self.watch_networking();
            }
            Step::Tenants(calls) => self.cloud.tenants = calls,
        }
    }

    pub(super) fn create(&mut self, number: u16, wish: (Tenure, usize), node: Option<usize>) {
        if self.api.create(self.now, number, wish, node) {
            self.watch_pod(&name(number));
        }
    }

    pub(super) fn schedule_pod(&mut self, number: u16, node: usize) {
        let name_of = self.api.nodes.get(node).map(|node| node.name.clone());
        let key = name(number);
        let live = self.api.pods.get_mut(&key);
        if let Some(live) = live.filter(|live| live.pod.node.is_none()) {
            live.pod.node = name_of;
            self.watch_pod(&key);
        }
    }

    fn gone(&mut self, key: &PodKey) {
        if let Some(live) = self.api.pods.remove(key) {
            self.oracle.left(self.now, &live);
            self.watch_pod(key);
        }
    }

    fn leave(&mut self) {
        let Some(node) = self.api.nodes.pop() else {
            return;
        };
        let pods = self.api.pods.iter();
        let pods = pods.filter(|(_, live)| live.pod.node.as_ref() == Some(&node.name));
        for key in pods.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.gone(&key);
        }
        self.cloud.release(&node.instance);
        self.watch(Stream::Pods, Input::Node(node.name, None));
    }

    fn meddle(&mut self, key: &PodKey, hand: Hand) {
        if !self.api.records.contains_key(key) {
            return;
        }
        match hand {
            Hand::Edit => self.api.edit(key, |record| {
                // Its ENI stands: only what describes it is changed.
                let made = record.allocations.iter_mut();
                for allocation in made.filter(|one| one.eni.is_some()) {
                    allocation.security_groups.clear();
                }
            }),
            Hand::Delete => self.api.edit(key, |record| record.deleting = true),
            Hand::TearOut => {
                self.api.records.remove(key);
                self.oracle.torn = true;
            }
        }
        self.oracle.other_hand(self.api.records.get(key));
        self.watch_record(key);
    }

    fn vanish(&mut self, key: &PodKey) {
        let record = self.api.records.get(key);
        let made = record
            .into_iter()
            .flat_map(|record| &record.allocations)
            .filter_map(|one| one.eni.as_ref());
        for eni in made.map(|eni| eni.id.clone()).collect::<Vec<_>>() {
            let used = self.api.pods.values().flat_map(|live| &live.uses);
            let used = used.into_iter().any(|(used, _)| *used == eni);
            let there = self.cloud.enis.get(&eni);
            if !used && there.is_some_and(|eni| eni.status == EniStatus::Available) {
                self.cloud.enis.remove(&eni);
            }
        }
    }

    /// Faults end, and every pod gets a node.
    pub(super) fn calm_down(&mut self) {
        self.line(|| "calm".into());
        self.fates.clear();
        (self.outage, self.late, self.cloud.tenants) = (self.now, 0, 0);
        self.cloud.vswitches = vswitches().into_iter().map(|id| (id, false)).collect();
        let unscheduled = self.api.pods.iter_mut();
        let unscheduled = unscheduled.filter(|(_, live)| live.pod.node.is_none());
        let first = self.api.nodes.first().map(|node| node.name.clone());
        let mut keys = Vec::new();
        for (key, live) in unscheduled {
            live.pod.node.clone_from(&first);
            keys.push(key.clone());
        }
        for key in keys {
            let told = self.api.told(&key);
            self.watch(Stream::Pods, told);
        }
        self.calm = Some(self.now);
        self.after(0, Event::Look);
    }
}
