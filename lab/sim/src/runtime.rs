//! Kubelet and container runtime of a node, as badly behaved as real ones: what they believe about
//! pods and sandboxes, and what they asked the agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use engine::node::{AddRequest, Input, Reply, RequestNumber};
use model::{AttachmentKey, ContainerId, InterfaceName, PodKey, PodUid, Timestamp};

use crate::{
    schedule::{AddQuirk, DelQuirk},
    world::{Event, World},
};

/// How long the plugin waits for an answer to ADD.
const PATIENCE: Duration = Duration::from_secs(90);

/// A pod as the API server and kubelet know it.
#[derive(Debug, Default)]
pub(crate) struct Pod {
    /// Kubelet wants it to run.
    pub(crate) wanted: bool,
    /// The API server has its object, and it has not ended.
    object: bool,
    /// Counts the sandboxes ever made for the name.
    generation: u32,
    /// Counts the pods ever made under the name.
    incarnation: u32,
    pub(crate) sandbox: Option<Sandbox>,
}

/// A sandbox of a pod.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) key: AttachmentKey,
    /// The ADD was answered with an address.
    pub(crate) ready: bool,
    /// When the pod began to wait.
    since: Timestamp,
}

/// What the agent was asked.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Add {
        pod: u16,
        key: AttachmentKey,
        started: Timestamp,
        again: bool,
    },
    Del {
        key: AttachmentKey,
    },
    Check,
    Gc,
}

/// Something the runtime does later.
#[derive(Debug, Clone)]
pub(crate) enum Later {
    /// Kubelet looks at a pod.
    Sync(u16),
    /// The ADD of a pod's sandbox is repeated, for the same pod or another.
    AddAgain(u16, u16, AttachmentKey),
    /// A DEL is sent, or sent again.
    Del(AttachmentKey),
    /// A sandbox is torn down while its ADD may be under way.
    TearDown(u16, AttachmentKey, DelQuirk),
    /// A GC arrives: when it began, and what was in use then.
    Gc(Timestamp, BTreeSet<AttachmentKey>),
    /// The answer to a request arrives.
    Answer(Box<(Asked, Reply)>),
}

/// Kubelet and runtime of one node.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    pub(crate) pods: BTreeMap<u16, Pod>,
    last_request: u64,
    pub(crate) asked: BTreeMap<RequestNumber, Asked>,
    /// ADDs that wait for an agent.
    parked: Vec<(RequestNumber, Input)>,
    /// DELs left behind for an agent that was away, and when they began.
    pub(crate) tombstones: BTreeMap<AttachmentKey, Timestamp>,
    /// Sandboxes the agent in this life was told to delete, and when the last DEL began.
    deleted: BTreeMap<AttachmentKey, Timestamp>,
    /// Sandboxes whose DEL has not succeeded.
    pub(crate) ending: BTreeMap<AttachmentKey, u32>,
}

impl Runtime {
    /// Sandboxes with an address.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &AttachmentKey> {
        let sandboxes = self.pods.values().filter_map(|pod| pod.sandbox.as_ref());
        sandboxes
            .filter(|sandbox| sandbox.ready)
            .map(|sandbox| &sandbox.key)
    }

    /// Pods whose ADD has reached the agent and is not answered.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u16> {
        let arrived = self.asked.iter().filter(|(number, _)| {
            let parked = self.parked.iter().any(|(parked, _)| parked == *number);
            !parked
        });
        arrived.filter_map(|(_, asked)| match asked {
            Asked::Add {
                pod, again: false, ..
            } => Some(*pod),
            _ => None,
        })
    }

    /// Whether the agent was told that a sandbox is deleted after the ADD of it began.
    pub(crate) fn is_deleted(&self, asked: &Asked) -> bool {
        let Asked::Add { key, started, .. } = asked else {
            return false;
        };
        self.deleted
            .get(key)
            .is_some_and(|deleted| deleted >= started)
    }
}

pub(crate) fn pod_key(pod: u16) -> PodKey {
    PodKey::new("default", format!("pod-{pod}")).expect("a legal name")
}

fn uid(node: usize, pod: u16, incarnation: u32) -> PodUid {
    PodUid::new(format!("uid-{node}-{pod}-{incarnation}")).expect("a legal UID")
}

impl World {
    fn number(&mut self, node: usize, asked: Asked) -> RequestNumber {
        let runtime = &mut self.nodes[node].runtime;
        runtime.last_request += 1;
        let number = RequestNumber(runtime.last_request);
        runtime.asked.insert(number, asked);
        number
    }

    fn later(&mut self, node: usize, millis: u64, what: Later) {
        self.after(Duration::from_millis(millis), Event::Runtime(node, what));
    }

    pub(crate) fn runtime(&mut self, node: usize, what: Later) {
        match what {
            Later::Sync(pod) => self.sync(node, pod, AddQuirk::Plain),
            Later::AddAgain(pod, named, key) => self.send_add(node, pod, named, key, true),
            Later::Del(key) => self.send_del(node, key),
            Later::TearDown(pod, key, quirk) => {
                let current = self.nodes[node]
                    .runtime
                    .pods
                    .get(&pod)
                    .and_then(|pod| pod.sandbox.as_ref());
                if current.is_some_and(|sandbox| sandbox.key == key) {
                    self.end_sandbox(node, pod, quirk);
                    self.later(node, 1000, Later::Sync(pod));
                }
            }
            Later::Gc(started, valid) => self.send_gc(node, started, valid),
            Later::Answer(answer) => self.answered(node, answer.0, answer.1),
        }
    }

    pub(crate) fn create_pod(&mut self, node: usize, pod: u16, quirk: AddQuirk) {
        let state = self.nodes[node].runtime.pods.entry(pod).or_default();
        if !state.wanted {
            (state.wanted, state.object) = (true, true);
            state.incarnation += 1;
            self.sync(node, pod, quirk);
        }
    }

    pub(crate) fn delete_pod(&mut self, node: usize, pod: u16, quirk: DelQuirk) {
        if let Some(state) = self.nodes[node].runtime.pods.get_mut(&pod) {
            (state.wanted, state.object) = (false, false);
            self.end_sandbox(node, pod, quirk);
        }
    }

    /// A pod ended by itself: its object stays and says so, its sandbox is torn down.
    pub(crate) fn finish_pod(&mut self, node: usize, pod: u16) {
        if let Some(state) = self.nodes[node].runtime.pods.get_mut(&pod) {
            (state.wanted, state.object) = (false, false);
            self.end_sandbox(node, pod, DelQuirk::Plain);
        }
    }

    /// What the API server says exists and has not ended.
    pub(crate) fn listed(&self, node: usize) -> BTreeMap<PodKey, PodUid> {
        let pods = self.nodes[node]
            .runtime
            .pods
            .iter()
            .filter(|(_, pod)| pod.object);
        pods.map(|(pod, state)| (pod_key(*pod), uid(node, *pod, state.incarnation)))
            .collect()
    }

    pub(crate) fn resandbox(&mut self, node: usize, pod: u16, quirk: DelQuirk) {
        self.end_sandbox(node, pod, quirk);
        self.later(node, 1000, Later::Sync(pod));
    }

    /// Kubelet wants a sandbox for a pod that has none.
    fn sync(&mut self, node: usize, pod: u16, quirk: AddQuirk) {
        let now = self.now;
        let Some(state) = self.nodes[node].runtime.pods.get_mut(&pod) else {
            return;
        };
        if !state.wanted || state.sandbox.is_some() {
            return;
        }
        state.generation += 1;
        let container = ContainerId::new(format!("n{node}p{pod}g{}", state.generation));
        let key = AttachmentKey {
            container: container.expect("a legal id"),
            interface: InterfaceName::new("eth0").expect("a legal name"),
        };
        state.sandbox = Some(Sandbox {
            key: key.clone(),
            ready: false,
            since: now,
        });
        match quirk {
            AddQuirk::DelFirst => self.send_del(node, key.clone()),
            AddQuirk::Twice => self.later(node, 40, Later::AddAgain(pod, pod, key.clone())),
            AddQuirk::OtherPod => {
                self.later(node, 40, Later::AddAgain(pod, pod + 1000, key.clone()));
            }
            AddQuirk::DelAfter(millis) => {
                self.later(
                    node,
                    millis,
                    Later::TearDown(pod, key.clone(), DelQuirk::Plain),
                );
            }
            AddQuirk::GivesUp(millis) => {
                self.later(
                    node,
                    millis,
                    Later::TearDown(pod, key.clone(), DelQuirk::Never),
                );
            }
            AddQuirk::Refused => {
                let refused = Input::Refused(pod_key(pod), "the UID is another pod's".into());
                self.feed(node, refused);
            }
            AddQuirk::Plain => {}
        }
        self.send_add(node, pod, pod, key, false);
    }

    /// Sends the ADD of a sandbox of `pod` in the name of `named`.
    fn send_add(&mut self, node: usize, pod: u16, named: u16, key: AttachmentKey, again: bool) {
        let Some(state) = self.nodes[node].runtime.pods.get(&pod) else {
            return;
        };
        if state
            .sandbox
            .as_ref()
            .is_none_or(|sandbox| sandbox.key != key)
        {
            return;
        }
        let uid = Some(uid(node, pod, state.incarnation));
        let started = self.nodes[node].time(self.now);
        let number = self.number(
            node,
            Asked::Add {
                pod: named,
                key: key.clone(),
                started,
                again,
            },
        );
        let request = AddRequest {
            trunk: false,
            host_stack: Vec::new(),
            netns: format!("/run/netns/{}", key.container),
            key,
            pod: pod_key(named),
            uid,
            started,
            deadline: started.after(PATIENCE),
            mtu: None,
            sticky: pod.is_multiple_of(5),
        };
        let input = Input::Add(number, Box::new(request));
        if self.nodes[node].machine.is_some() {
            self.feed(node, input);
        } else {
            // The plugin waits a while for an agent that is being restarted.
            self.nodes[node].runtime.parked.push((number, input));
        }
    }

    /// Ends the sandbox of a pod: its processes are gone, its DEL is sent or not.
    fn end_sandbox(&mut self, node: usize, pod: u16, quirk: DelQuirk) {
        let state = self.nodes[node].runtime.pods.get_mut(&pod);
        let Some(Sandbox { key, .. }) = state.and_then(|state| state.sandbox.take()) else {
            return;
        };
        self.oracle.take(node, &key);
        if matches!(quirk, DelQuirk::NoNetns | DelQuirk::Never) {
            self.nodes[node].kernel.unlink(&key);
        }
        match quirk {
            DelQuirk::Never => return,
            DelQuirk::Twice => self.later(node, 30, Later::Del(key.clone())),
            DelQuirk::Plain | DelQuirk::NoNetns => {}
        }
        self.send_del(node, key);
    }

    fn send_del(&mut self, node: usize, key: AttachmentKey) {
        let started = self.nodes[node].time(self.now);
        if self.nodes[node].machine.is_none() {
            return self.leave_tombstone(node, key, started);
        }
        self.nodes[node]
            .runtime
            .ending
            .entry(key.clone())
            .or_default();
        self.ask_del(node, key, started);
    }

    /// The plugin answers for an agent that is away; the agent settles it when it is back.
    fn leave_tombstone(&mut self, node: usize, key: AttachmentKey, started: Timestamp) {
        let runtime = &mut self.nodes[node].runtime;
        runtime.ending.remove(&key);
        runtime.tombstones.insert(key.clone(), started);
        self.nodes[node].kernel.unlink(&key);
    }

    pub(crate) fn check_pod(&mut self, node: usize, pod: u16) {
        let runtime = &self.nodes[node].runtime;
        let sandbox = runtime.pods.get(&pod).and_then(|pod| pod.sandbox.as_ref());
        let key = sandbox
            .filter(|sandbox| sandbox.ready)
            .map(|sandbox| sandbox.key.clone());
        if let (Some(key), true) = (key, self.nodes[node].machine.is_some()) {
            let number = self.number(node, Asked::Check);
            self.feed(node, Input::Check(number, key));
        }
    }

    /// The runtime takes down what is in use; the agent hears of it a moment later.
    pub(crate) fn gc(&mut self, node: usize) {
        let runtime = &self.nodes[node].runtime;
        let sandboxes = runtime.pods.values().filter_map(|pod| pod.sandbox.as_ref());
        let current = sandboxes.map(|sandbox| sandbox.key.clone());
        let valid = current.chain(runtime.ending.keys().cloned()).collect();
        let started = self.nodes[node].time(self.now);
        let delay = self.dice.below(1500);
        self.later(node, delay, Later::Gc(started, valid));
    }

    fn send_gc(&mut self, node: usize, started: Timestamp, valid: BTreeSet<AttachmentKey>) {
        if self.nodes[node].machine.is_some() {
            let request = self.number(node, Asked::Gc);
            self.feed(
                node,
                Input::Gc {
                    request,
                    started,
                    valid,
                },
            );
        }
    }

    /// An answer came back.
    fn answered(&mut self, node: usize, asked: Asked, reply: Reply) {
        match (asked, reply) {
            (Asked::Add { pod, key, .. }, Reply::Attached(attached)) => {
                if attached.attachment.pod != pod_key(pod) {
                    let text = format!("{pod} was answered with {:?}", attached.attachment);
                    return self.oracle.fail("an answer is about its pod", text);
                }
                let now = self.now;
                let state = self.nodes[node].runtime.pods.get_mut(&pod);
                let sandbox = state.and_then(|state| state.sandbox.as_mut());
                // An answer for a sandbox that was torn down meanwhile goes to nobody.
                let Some(sandbox) = sandbox.filter(|sandbox| sandbox.key == key) else {
                    return self.descriptor_closed(node, pod, &key);
                };
                let first = !std::mem::replace(&mut sandbox.ready, true);
                let waited = now.since(sandbox.since);
                if first {
                    self.report.started(waited);
                }
                let here = &self.nodes[node];
                let place = (node, &here.config.instance);
                // Links that were made anew behind the agent's back are nothing it could know.
                let kernel = Some(&here.kernel).filter(|_| !here.relinked);
                self.oracle.give(
                    place,
                    &attached,
                    kernel,
                    here.time(now),
                    here.config.cooldown,
                );
            }
            // The first ADD decides; the runtime does not care for the other's answer.
            (Asked::Add { again: true, .. }, Reply::Failed(_)) => {}
            (
                Asked::Add {
                    pod,
                    key,
                    again: false,
                    ..
                },
                Reply::Failed(failure),
            ) => {
                self.add_failed(node, pod, &key, &failure.message);
            }
            (Asked::Del { key }, Reply::Done) => {
                let here = &mut self.nodes[node];
                here.runtime.ending.remove(&key);
                here.runtime.tombstones.remove(&key);
                here.kernel.unlink(&key);
            }
            (Asked::Del { key }, Reply::Failed(_)) => {
                let tries = self.nodes[node]
                    .runtime
                    .ending
                    .entry(key.clone())
                    .or_default();
                *tries += 1;
                let wait = 1000 * u64::from((*tries).min(10));
                self.later(node, wait, Later::Del(key));
            }
            (Asked::Check | Asked::Gc, Reply::Done | Reply::Attached(_) | Reply::Failed(_)) => {}
            (asked, reply) => {
                self.oracle.fail(
                    "an answer fits its question",
                    format!("{asked:?}: {reply:?}"),
                );
            }
        }
    }

    fn add_failed(&mut self, node: usize, pod: u16, key: &AttachmentKey, why: &str) {
        self.report.refused(why);
        let state = self.nodes[node].runtime.pods.get_mut(&pod);
        let Some(state) = state.filter(|state| {
            state
                .sandbox
                .as_ref()
                .is_some_and(|s| s.key == *key && !s.ready)
        }) else {
            return;
        };
        state.sandbox = None;
        self.send_del(node, key.clone());
        self.later(node, 2000, Later::Sync(pod));
    }

    /// The agent is gone, and with it every connection of the plugin.
    pub(crate) fn connections_broke(&mut self, node: usize) {
        let started = self.nodes[node].time(self.now);
        let asked = std::mem::take(&mut self.nodes[node].runtime.asked);
        let parked = std::mem::take(&mut self.nodes[node].runtime.parked);
        self.nodes[node].runtime.deleted.clear();
        for (number, asked) in asked {
            if let Some(at) = parked.iter().position(|(parked, _)| *parked == number) {
                let runtime = &mut self.nodes[node].runtime;
                runtime.parked.extend(parked.get(at).cloned());
                runtime.asked.insert(number, asked);
                continue;
            }
            if let Asked::Add { pod, key, .. } = &asked {
                self.descriptor_closed(node, *pod, key);
            }
            match asked {
                Asked::Add {
                    pod,
                    key,
                    again: false,
                    ..
                } => self.add_failed(node, pod, &key, "the agent went away"),
                Asked::Del { key } => self.leave_tombstone(node, key, started),
                Asked::Add { .. } | Asked::Check | Asked::Gc => {}
            }
        }
    }

    /// Nobody works on the ADD of `key` any more. The agent's descriptor was the last that held the
    /// namespace of a sandbox that was torn down meanwhile.
    fn descriptor_closed(&mut self, node: usize, pod: u16, key: &AttachmentKey) {
        let here = &mut self.nodes[node];
        let state = here.runtime.pods.get(&pod);
        let current = state.and_then(|state| state.sandbox.as_ref());
        if current.is_none_or(|sandbox| sandbox.key != *key) {
            here.kernel.unlink(key);
        }
    }

    fn ask_del(&mut self, node: usize, key: AttachmentKey, started: Timestamp) {
        let request = Some(self.number(node, Asked::Del { key: key.clone() }));
        let deleted = &mut self.nodes[node].runtime.deleted;
        let last = deleted.entry(key.clone()).or_insert(started);
        *last = started.max(*last);
        self.feed(
            node,
            Input::Del {
                request,
                key,
                started,
            },
        );
    }

    /// The agent is back.
    pub(crate) fn reconnect(&mut self, node: usize) {
        for (key, started) in self.nodes[node].runtime.tombstones.clone() {
            if self.nodes[node].machine.is_none() {
                return;
            }
            self.ask_del(node, key, started);
        }
        // Settling any of those may be the death of it.
        while self.nodes[node].machine.is_some() && !self.nodes[node].runtime.parked.is_empty() {
            let (_, input) = self.nodes[node].runtime.parked.remove(0);
            self.feed(node, input);
        }
    }

    /// The node rebooted: every sandbox is gone, and the runtime remembers some of them.
    pub(crate) fn sandboxes_died(&mut self, node: usize) {
        // The plugins that waited are gone as well.
        self.nodes[node].runtime.parked.clear();
        self.nodes[node].runtime.asked.clear();
        let pods: Vec<u16> = self.nodes[node].runtime.pods.keys().copied().collect();
        for pod in pods {
            let remembered = self.dice.below(2) == 0;
            let quirk = if remembered {
                DelQuirk::NoNetns
            } else {
                DelQuirk::Never
            };
            self.end_sandbox(node, pod, quirk);
            self.later(node, 8000, Later::Sync(pod));
        }
    }

    /// The node is gone: so are its pods.
    pub(crate) fn forget_pods(&mut self, node: usize) {
        let last_request = self.nodes[node].runtime.last_request;
        let mut pods = std::mem::take(&mut self.nodes[node].runtime.pods);
        for pod in pods.values_mut() {
            (pod.wanted, pod.object, pod.sandbox) = (false, false, None);
        }
        self.nodes[node].runtime = Runtime {
            pods,
            last_request,
            ..Runtime::default()
        };
    }
}
