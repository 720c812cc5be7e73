//! The control plane's machine: pods, nodes, records and PodNetworkings come in as they are; writes of
//! records and calls of the cloud come out.
//!
//! It keeps one thread of thought per pod name and asks the planner of `crate::podeni` whenever something
//! that thread depends on has changed. What is one pod's is decided there; here is what pods share: calls
//! that are counted, looks that are made together, vSwitches, ENIs that nobody refers to any more. Nothing
//! here is written down: a machine that starts anew asks again.
//!
//! Must not know: the Kubernetes types, the cloud's wire format, who leads.

mod calls;
mod doubled;
mod message;
mod networking;
mod orphan;
mod overlooked;
mod pool;
mod registry;
mod thread;
mod vswitch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::{EniId, PodKey, Timestamp, podeni::Phase, podnetworking::Labels};

use self::{
    calls::{Looks, Op},
    networking::Plane,
    orphan::Orphans,
    pool::{Place, Pool},
    registry::Registry,
    thread::Thread,
    vswitch::Catalogue,
};
use crate::{
    budget::{Api, Budget},
    podeni::Node,
    retry::Dice,
};

pub use self::message::{
    Action, ClusterPod, Config, Doing, Input, Listed, Notice, OpNumber, Spent, Store, View,
    Waiting, WriteFault,
};

/// The machine of one cluster.
#[derive(Debug)]
pub struct Cluster {
    config: Config,
    dice: Dice,
    /// Whether all there was at the start has been told.
    complete: bool,
    pods: BTreeMap<PodKey, ClusterPod>,
    by_node: BTreeMap<String, BTreeSet<PodKey>>,
    nodes: BTreeMap<String, Node>,
    namespaces: BTreeMap<String, Labels>,
    records: Registry,
    /// Records of a name, by UID, that writes of ours ended one after the other and the watch has not told of.
    gone: BTreeMap<PodKey, VecDeque<String>>,
    /// ENIs of which people know that several bound records name them.
    doubled: BTreeSet<EniId>,
    /// Records that cannot be read, with the ENIs they name if those can.
    unreadable: BTreeMap<PodKey, Option<BTreeSet<EniId>>>,
    planes: BTreeMap<String, Plane>,
    threads: BTreeMap<PodKey, Thread>,
    /// Names to think about, each once, first come first served.
    due: VecDeque<PodKey>,
    due_set: BTreeSet<PodKey>,
    /// When to think about a name again.
    wakes: BTreeSet<(Timestamp, PodKey)>,
    /// Names whose next call the budget holds back, by API.
    held: BTreeMap<Api, VecDeque<PodKey>>,
    /// Names whose sentence is to be written into their record.
    messages: VecDeque<PodKey>,
    message_next: Timestamp,
    budget: Budget,
    ops: BTreeMap<OpNumber, Op>,
    op_last: u64,
    looks: Looks,
    vswitches: Catalogue,
    orphans: Orphans,
    pool: Pool,
    out: VecDeque<Action>,
}

impl Cluster {
    /// A machine that knows nothing yet; `seed` spreads its retries.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            dice: Dice::new(seed),
            complete: false,
            pods: BTreeMap::new(),
            by_node: BTreeMap::new(),
            nodes: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            records: Registry::default(),
            gone: BTreeMap::new(),
            doubled: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            planes: BTreeMap::new(),
            threads: BTreeMap::new(),
            due: VecDeque::new(),
            due_set: BTreeSet::new(),
            wakes: BTreeSet::new(),
            held: BTreeMap::new(),
            messages: VecDeque::new(),
            message_next: Timestamp::EPOCH,
            budget: Budget::default(),
            ops: BTreeMap::new(),
            op_last: 0,
            looks: Looks::default(),
            vswitches: Catalogue::default(),
            orphans: Orphans::default(),
            pool: Pool::default(),
            out: VecDeque::new(),
        }
    }

    /// Takes one input. Actions may be due afterwards.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Pod(key, pod) => self.pod_seen(key, pod.map(|pod| *pod)),
            Input::Node(name, node) => self.node_seen(&name, node),
            Input::Namespace(name, labels) => self.namespace_seen(&name, labels),
            Input::Record(key, record) => self.record_seen(key, record.map(|one| *one)),
            Input::Unreadable(key, enis, why) => self.unreadable(key, enis, why),
            Input::Networking(name, networking) => {
                self.networking_seen(now, name, networking.map(|one| *one));
            }
            Input::Complete => self.complete(now),
            Input::Written(key, result) => self.written(now, key, result),
            Input::Resolved(name, result) => self.networking_written(now, &name, result),
            Input::Called(op, result) => self.called(now, op, result),
            Input::Looked(op, result) => self.looked(now, op, &result),
            Input::VSwitches(op, result) => self.vswitches_seen(now, op, result),
            Input::Listed(op, result) => self.listed(now, op, result),
            Input::Configured(config) => {
                self.config = *config;
                self.visit_all();
            }
            Input::Tick => {}
        }
        self.settle(now);
    }

    /// The next thing to do, if anything is due.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.pop_front()
    }

    /// When the machine wants to be ticked if nothing else happens.
    pub fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.complete {
            return None;
        }
        let wake = self.wakes.first().map(|(at, _)| *at);
        let message = (!self.messages.is_empty()).then_some(self.message_next);
        let networking = self.networking_deadline();
        let own = [wake, message, networking, self.pool.deadline()];
        own.into_iter()
            .flatten()
            .chain(self.call_deadlines(now))
            .min()
    }

    /// What people watch.
    pub fn view(&self) -> View {
        let mut view = View {
            calls: self.ops.len() as u64,
            vswitches_full: self.vswitches.full() as u64,
            orphans: self.orphans.count() as u64,
            spares: self.pool.counts(),
            spent: self.pool.spent(),
            ..View::default()
        };
        for record in self.records.values() {
            *view.phases.entry(phase_name(record.phase)).or_default() += 1;
        }
        for thread in self.threads.values() {
            view.waiting += u64::from(thread.waiting().is_some());
            view.writes += u64::from(thread.is_writing());
        }
        for (api, held) in &self.held {
            view.held_back.insert(api.name(), held.len() as u64);
        }
        view
    }

    /// What the pod of this name waits for, if for anything.
    pub fn waiting(&self, key: &PodKey) -> Option<&Waiting> {
        self.threads.get(key)?.waiting()
    }

    fn complete(&mut self, now: Timestamp) {
        if self.complete {
            return;
        }
        self.complete = true;
        let names: BTreeSet<PodKey> = self
            .records
            .keys()
            .chain(self.pods.keys())
            .cloned()
            .collect();
        for name in names {
            self.overlook(&name);
            self.think(name);
        }
        self.orphans.start(now, &mut self.dice);
        self.pool.start(self.config.collect);
        self.hasten_list(now);
        self.visit_all();
    }

    fn settle(&mut self, now: Timestamp) {
        if !self.complete {
            return;
        }
        self.follow_records(now);
        self.drive_networkings(now);
        self.drive_vswitches(now);
        self.release_held(now);
        while let Some((at, _)) = self.wakes.first()
            && *at <= now
        {
            if let Some((_, key)) = self.wakes.pop_first() {
                self.think(key);
            }
        }
        while let Some(key) = self.due.pop_front() {
            self.due_set.remove(&key);
            self.advance(now, &key);
        }
        self.drive_pool(now);
        self.drive_messages(now);
        self.drive_looks(now);
        self.drive_orphans(now);
    }

    /// The name is thought about before the machine rests again.
    fn think(&mut self, key: PodKey) {
        if self.due_set.insert(key.clone()) {
            self.due.push_back(key);
        }
    }

    fn pod_seen(&mut self, key: PodKey, pod: Option<ClusterPod>) {
        let spares = self.keeps_spares();
        let node_of = |pod: &ClusterPod| pod.pod.node.clone();
        if let Some(node) = self.pods.get(&key).and_then(node_of)
            && let Some(pods) = self.by_node.get_mut(&node)
        {
            pods.remove(&key);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
            if spares {
                self.pool.visit(Place::Node(node));
            }
        }
        if let Some(node) = pod.as_ref().and_then(node_of) {
            if spares {
                self.pool.visit(Place::Node(node.clone()));
            }
            self.by_node.entry(node).or_default().insert(key.clone());
        }
        match pod {
            Some(pod) => {
                self.want_vswitches(&pod);
                let uid = pod.pod.uid.clone();
                let before = self.pods.insert(key.clone(), pod);
                let new = before.is_none_or(|before| before.pod.uid != uid);
                if new && self.complete {
                    self.overlook(&key);
                }
            }
            None => drop(self.pods.remove(&key)),
        }
        self.think(key);
    }

    fn node_seen(&mut self, name: &str, node: Option<Node>) {
        if self.nodes.get(name) == node.as_ref() {
            return;
        }
        match node {
            Some(node) => drop(self.nodes.insert(name.to_owned(), node)),
            None => drop(self.nodes.remove(name)),
        }
        let pods = self.by_node.get(name).cloned().unwrap_or_default();
        for pod in pods {
            self.think(pod);
        }
        self.visit_node(name);
    }

    fn emit(&mut self, action: Action) {
        self.out.push_back(action);
    }

    fn notice(&mut self, notice: Notice) {
        self.emit(Action::Notice(notice));
    }
}

/// A phase in the words of the API.
fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Initial => "Initial",
        Phase::Binding => "Binding",
        Phase::Bind => "Bind",
        Phase::Detaching => "Detaching",
        Phase::Unbind => "Unbind",
        Phase::Deleting => "Deleting",
    }
}
