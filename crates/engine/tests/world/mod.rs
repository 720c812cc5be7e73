//! One node's world: runtime, kernel and disk around the machine, one small step at a time.

mod check;
mod cloud;
mod faults;
mod heal;
pub(crate) mod joint;
mod kernel;
pub(crate) mod member;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use engine::{
    ledger::Ledger,
    node::{
        Action, AddRequest, CloudFault, Config, Explanation, Input, Node, Notice, OpNumber, Policy,
        Reply, RequestNumber, Trunk, View,
    },
    recording::{self, Recorded},
};
use model::{
    AttachmentKey, ContainerId, FaultClass, InstanceId, InstanceLimits, InterfaceName, Mac, PodKey,
    PodUid, SecurityGroupId, Timestamp, VSwitchId, ZoneId, podeni::PodEni,
};

use self::{cloud::Cloud, heal::Harm, kernel::Kernel};

/// What may happen.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// The runtime adds a pod, or repeats its ADD.
    Add(u8),
    /// The runtime deletes it, or repeats its DEL.
    Del(u8),
    /// That many actions or outcomes are carried out or delivered.
    Deliver(u8),
    /// Milliseconds pass.
    Wait(u64),
    /// The agent dies and starts again from its disk.
    Kill,
    /// The next cloud call is carried out and its answer lost.
    LoseAnswer,
    /// The next cloud call is throttled.
    Throttle,
    /// The next describe answers nothing.
    EmptyDescribe,
    /// The next change of the kernel fails.
    KernelRefuses,
    /// The pod is gone from the API server, its sandbox from the kernel, and no DEL ever comes.
    Vanish(u8),
    /// The runtime loses the sandbox and makes another for the same pod, without a DEL for the first.
    Recreate(u8),
    /// The next look at the kernel fails.
    BlindKernel,
    /// The next list of pods fails.
    ListFails,
    /// The next list of pods is empty.
    EmptyList,
    /// Somebody flushes the rules; the kernel announces it, or does not.
    Flush(bool),
    /// The control plane binds an ENI for the trunk pod, as it is now, to the node's trunk.
    Bind(u8),
    /// The control plane takes it away.
    Unbind(u8),
    /// The agent starts again, and the node has another way to join its pods: on ipvlan, on veth pairs where
    /// it could do both, or on veth pairs alone.
    Switch,
}

#[derive(Default)]
struct Faults {
    lose: bool,
    throttle: bool,
    empty: bool,
    kernel: bool,
    cut_off: bool,
    blind: bool,
    list_fails: bool,
    list_empty: bool,
    list_late: bool,
    filters: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Add(u8),
    Del(u8),
    Check(u8),
}

impl Asked {
    fn pod(self) -> u8 {
        let (Asked::Add(pod) | Asked::Del(pod) | Asked::Check(pod)) = self;
        pod
    }
}

/// Pods from here on have a name that comes back.
const FIRST_STICKY: u8 = 20;

/// Pods from here on are trunk pods.
pub(crate) const FIRST_TRUNK: u8 = 24;

fn pod_key(pod: u8) -> PodKey {
    PodKey::new("default", format!("pod-{pod}")).unwrap()
}

#[derive(Debug, Default, Clone)]
struct PodState {
    /// Of the sandbox.
    generation: u32,
    /// Of the pod.
    incarnation: u32,
    exists: bool,
    failure: Option<String>,
}

pub(crate) struct World {
    now: Timestamp,
    config: Config,
    node: Recorded,
    disk: Ledger,
    cloud: Cloud,
    kernel: Kernel,
    /// The pods the API server has.
    api: BTreeMap<PodKey, PodUid>,
    /// Attachments the ledger knew before it was lost.
    lost: BTreeSet<AttachmentKey>,
    pub(crate) notices: Vec<Notice>,
    inbox: VecDeque<Input>,
    /// A list of pods on its way.
    late: Option<Input>,
    /// What the API server has of PodENIs for the node.
    records: BTreeMap<PodKey, PodEni>,
    asked: BTreeMap<RequestNumber, Asked>,
    requests: u64,
    pods: BTreeMap<u8, PodState>,
    /// Pods whose ADD was answered, until their DEL is.
    given: BTreeMap<AttachmentKey, BTreeSet<IpAddr>>,
    faults: Faults,
    /// VLANs the trunk was set up with last.
    tags: Vec<u16>,
    /// What others did to the node.
    pub(crate) harm: Harm,
}

fn config() -> Config {
    let vswitch = |id: &str| VSwitchId::new(id).unwrap();
    Config {
        instance: InstanceId::new("i-1").unwrap(),
        zone: ZoneId::new("zone-a").unwrap(),
        primary_mac: Mac([0, 0x16, 0x3e, 0, 0, 1]),
        limits: InstanceLimits {
            enis: 4,
            ipv4_per_eni: 6,
            ipv6_per_eni: 0,
            enis_total: 4,
            trunk: false,
        },
        enis_max: 3,
        vswitches: vec![vswitch("vsw-1"), vswitch("vsw-2")],
        security_groups: vec![SecurityGroupId::new("sg-1").unwrap()],
        tags: BTreeMap::from([("creator".into(), "terway".into())]),
        idle_min: 2,
        idle_max: 4,
        cooldown: Duration::from_secs(60),
        mtu: 1500,
        policy: Policy::default(),
    }
}

/// Recorded in so little room that the older half is forgotten in most lives.
fn recorded(node: Node) -> Recorded {
    Recorded::new(node, 64 * 1024)
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A world whose configuration differs from the usual one.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let (mut config, disk) = (config(), Ledger::default());
        change(&mut config);
        Self {
            now: Timestamp::from_nanos(1_000_000_000_000),
            node: recorded(Node::new(config.clone(), disk.clone(), BTreeSet::new(), 7)),
            cloud: Cloud::new(&config),
            config,
            disk,
            kernel: Kernel::default(),
            api: BTreeMap::new(),
            lost: BTreeSet::new(),
            notices: Vec::new(),
            inbox: VecDeque::from([Input::Tick]),
            records: BTreeMap::new(),
            asked: BTreeMap::new(),
            requests: 0,
            pods: BTreeMap::new(),
            given: BTreeMap::new(),
            faults: Faults::default(),
            late: None,
            tags: Vec::new(),
            harm: Harm::default(),
        }
    }

    fn key(&self, pod: u8) -> AttachmentKey {
        let generation = self.pods.get(&pod).map_or(0, |state| state.generation);
        AttachmentKey {
            container: ContainerId::new(format!("c{pod}-{generation}")).unwrap(),
            interface: InterfaceName::new("eth0").unwrap(),
        }
    }

    fn request(&mut self, asked: Asked) -> RequestNumber {
        self.requests += 1;
        let number = RequestNumber(self.requests);
        self.asked.insert(number, asked);
        number
    }

    pub(crate) fn step(&mut self, step: Step) {
        // Time never stands still, so that "started before" is always decided.
        self.now = self.now.after(Duration::from_micros(10));
        match step {
            Step::Add(pod) => self.add(pod),
            Step::Del(pod) => self.del(pod),
            Step::Deliver(count) => {
                for _ in 0..count {
                    self.deliver();
                }
            }
            Step::Wait(millis) => {
                self.now = self.now.after(Duration::from_millis(millis));
                self.inbox.push_back(Input::Tick);
            }
            Step::Kill => self.kill(),
            Step::LoseAnswer => self.faults.lose = true,
            Step::Throttle => self.faults.throttle = true,
            Step::EmptyDescribe => self.faults.empty = true,
            Step::KernelRefuses => self.faults.kernel = true,
            Step::Vanish(pod) => {
                if self.let_go(pod) {
                    self.api.remove(&pod_key(pod));
                    let state = self.pods.entry(pod).or_default();
                    state.incarnation += 1;
                    state.exists = false;
                }
            }
            Step::Recreate(pod) => {
                if self.let_go(pod) {
                    self.add(pod);
                }
            }
            Step::BlindKernel => self.faults.blind = true,
            Step::ListFails => self.faults.list_fails = true,
            Step::EmptyList => self.faults.list_empty = true,
            Step::Flush(true) => self.flush_rules(),
            Step::Flush(false) => self.kernel.rules.clear(),
            Step::Bind(pod) => {
                if let Trunk::Attached(trunk) = self.trunk() {
                    let record = member::record(pod, self.uid(pod), &self.config, trunk);
                    self.write_record(pod, Some(record));
                }
            }
            Step::Unbind(pod) => self.write_record(pod, None),
            Step::Switch => self.switch(),
        }
    }

    /// The record of a trunk pod is written or deleted, and the node's watch sees it.
    pub(crate) fn write_record(&mut self, pod: u8, record: Option<PodEni>) {
        match record.clone() {
            Some(record) => self.records.insert(pod_key(pod), record),
            None => self.records.remove(&pod_key(pod)),
        };
        let input = Input::PodEni(pod_key(pod), record.map(Box::new));
        self.inbox.push_back(input);
    }

    /// The record of a trunk pod.
    pub(crate) fn record(&self, pod: u8) -> PodEni {
        self.records[&pod_key(pod)].clone()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn uid(&self, pod: u8) -> PodUid {
        let incarnation = self.pods.get(&pod).map_or(0, |state| state.incarnation);
        PodUid::new(format!("u{pod}-{incarnation}")).unwrap()
    }

    /// A sandbox nothing is being done about is gone from the kernel, and the runtime forgets it.
    fn let_go(&mut self, pod: u8) -> bool {
        let key = self.key(pod);
        let asked = self.asked.values().any(|asked| asked.pod() == pod);
        if asked || self.given.remove(&key).is_none() {
            return false;
        }
        self.kernel.unlink(&key);
        self.pods.entry(pod).or_default().generation += 1;
        true
    }

    fn add(&mut self, pod: u8) {
        let state = self.pods.entry(pod).or_default();
        state.exists = true;
        state.failure = None;
        let uid = self.uid(pod);
        self.api.insert(pod_key(pod), uid.clone());
        let number = self.request(Asked::Add(pod));
        let request = AddRequest {
            key: self.key(pod),
            pod: pod_key(pod),
            uid: Some(uid),
            netns: "/run/netns/x".into(),
            started: self.now,
            deadline: self.now.after(Duration::from_secs(90)),
            mtu: None,
            sticky: (FIRST_STICKY..FIRST_TRUNK).contains(&pod),
            trunk: pod >= FIRST_TRUNK,
            host_stack: vec!["169.254.20.10/32".parse().unwrap()],
        };
        self.inbox.push_back(Input::Add(number, Box::new(request)));
    }

    fn del(&mut self, pod: u8) {
        let request = Some(self.request(Asked::Del(pod)));
        let input = Input::Del {
            request,
            key: self.key(pod),
            started: self.now,
        };
        self.inbox.push_back(input);
    }

    /// Everything in memory is lost; disk, kernel and cloud stay. The runtime, whose calls broke, will
    /// delete what it tried to add.
    fn kill(&mut self) {
        self.inbox.clear();
        let occupied = self.kernel.routed();
        self.replays();
        let node = Node::new(self.config.clone(), self.disk.clone(), occupied, 7);
        self.node = recorded(node);
        self.inbox.push_back(Input::Tick);
        for (pod, record) in self.records.clone() {
            self.inbox
                .push_back(Input::PodEni(pod, Some(Box::new(record))));
        }
        for asked in std::mem::take(&mut self.asked).into_values() {
            self.del(asked.pod());
        }
    }

    pub(crate) fn recording(&self) -> String {
        String::from_utf8(self.node.recording()).unwrap()
    }

    /// What was recorded runs to the same decisions and ends in the same state.
    pub(crate) fn replays(&self) {
        let text = self.recording();
        if text.is_empty() {
            return;
        }
        let machine = recording::replay(&text, |_, _| {}).unwrap();
        assert_eq!(format!("{machine:?}"), format!("{:?}", *self.node));
    }

    /// Carries out one action, or delivers one outcome.
    pub(crate) fn deliver(&mut self) -> bool {
        if let Some(action) = self.node.poll_action(self.now) {
            self.carry_out(action);
            return true;
        }
        let Some(input) = self.inbox.pop_front() else {
            return false;
        };
        self.node.handle(self.now, input);
        true
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Persist(batch, changes) => {
                for change in &changes {
                    self.disk
                        .apply(change)
                        .expect("the machine checked the change");
                }
                self.inbox.push_back(Input::Persisted(batch));
            }
            Action::Cloud(op, call) => self.call(op, call),
            Action::ReadInterfaces(op) => {
                let result = match self.faults.cut_off {
                    true => Err("no answer".into()),
                    false => Ok(self.cloud.interfaces(self.now)),
                };
                self.inbox.push_back(Input::Interfaces(op, result));
            }
            Action::ReadLinks => self
                .inbox
                .push_back(Input::Links(self.cloud.links(self.now))),
            Action::ApplyEni(eni, net) => {
                let refused = self.faults.filters && net.tags.is_some();
                if let Some(tags) = &net.tags {
                    self.tags = tags.iter().map(|tag| tag.vlan).collect();
                }
                let result = match refused {
                    true => Err("refused".into()),
                    false => {
                        self.kernel.apply_eni(&net);
                        self.harm.enis.remove(&eni);
                        Ok(())
                    }
                };
                self.inbox.push_back(Input::EniApplied(eni, result));
            }
            Action::CheckPod(_, key, net) => {
                self.kernel.apply(&key, &net);
                self.inbox.push_back(Input::PodChecked(key, Ok(Vec::new())));
            }
            Action::ApplyPod(_, key, net) => {
                self.kernel.apply(&key, &net);
                let result = self.kernel_says();
                self.inbox.push_back(Input::PodApplied(key, result));
            }
            Action::RemovePod(key, net) => {
                let result = self.kernel_says();
                if result.is_ok() {
                    self.kernel.remove(&key, &net);
                }
                self.inbox.push_back(Input::PodRemoved(key, result));
            }
            Action::ObserveKernel(op) => {
                let result = match std::mem::take(&mut self.faults.blind) {
                    true => Err("no answer".into()),
                    false => Ok(self.kernel.view()),
                };
                self.inbox.push_back(Input::Kernel(op, result));
            }
            Action::Heal(remedy) => self.heal(remedy),
            Action::ListPods(op, _) => {
                let result = if std::mem::take(&mut self.faults.list_fails) {
                    Err("no answer".into())
                } else if std::mem::take(&mut self.faults.list_empty) {
                    Ok(BTreeMap::new())
                } else {
                    Ok(self.api.clone())
                };
                let answer = Input::Pods(op, result);
                match std::mem::take(&mut self.faults.list_late) {
                    true => self.late = Some(answer),
                    false => self.inbox.push_back(answer),
                }
            }
            Action::RemoveLeftovers(op, leftovers) => {
                self.kernel
                    .rules
                    .retain(|rule| !leftovers.rules.contains(rule));
                self.kernel.remove_routes(&leftovers.routes);
                self.inbox.push_back(Input::LeftoversRemoved(op, Ok(())));
            }
            Action::Reply(number, reply) => self.replied(number, reply),
            Action::Notice(engine::node::Notice::Defect(text)) => panic!("defect: {text}"),
            Action::Notice(notice) => self.notices.push(notice),
        }
    }

    fn kernel_says(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.faults.kernel) {
            Err("refused".into())
        } else {
            Ok(())
        }
    }

    fn call(&mut self, op: OpNumber, call: engine::node::CloudCall) {
        let fault = |class| {
            Err(CloudFault {
                class,
                text: "injected".into(),
            })
        };
        let describes = matches!(
            call,
            engine::node::CloudCall::DescribeNode
                | engine::node::CloudCall::DescribeEnis(_)
                | engine::node::CloudCall::FindEni(_)
        );
        let result = if self.faults.cut_off {
            fault(FaultClass::Unknown)
        } else if std::mem::take(&mut self.faults.throttle) {
            fault(FaultClass::Throttled)
        } else if describes && std::mem::take(&mut self.faults.empty) {
            Ok(engine::node::CloudAnswer::Enis(Vec::new()))
        } else {
            let answer = self.cloud.call(self.now, call);
            if std::mem::take(&mut self.faults.lose) {
                fault(FaultClass::Unknown)
            } else {
                answer
            }
        };
        self.inbox.push_back(Input::Cloud(op, result));
    }

    fn replied(&mut self, number: RequestNumber, reply: Reply) {
        let Some(asked) = self.asked.remove(&number) else {
            return;
        };
        match (asked, reply) {
            (Asked::Add(_), Reply::Attached(attached)) => {
                let given = attached.attachment;
                let addresses = given.every_address().collect();
                self.given.insert(given.key, addresses);
            }
            (Asked::Add(pod), Reply::Failed(failure)) => {
                self.pods.entry(pod).or_default().failure = Some(failure.message);
                // As runtimes do after a failed ADD.
                self.del(pod);
            }
            (Asked::Del(pod), Reply::Done) => {
                let key = self.key(pod);
                let busy = self.asked.values().any(|other| *other == Asked::Add(pod));
                self.given.remove(&key);
                if !busy {
                    let state = self.pods.entry(pod).or_default();
                    state.generation += 1;
                    state.incarnation += 1;
                    state.exists = false;
                    self.api.remove(&pod_key(pod));
                    // The runtime destroys the namespace, and the link with it.
                    self.kernel.unlink(&key);
                }
            }
            (Asked::Check(_), Reply::Attached(_)) => self.harm.checked += 1,
            (Asked::Del(pod), Reply::Failed(_)) => self.del(pod),
            (asked, reply) => panic!("{asked:?} was answered {reply:?}"),
        }
    }

    /// Delivers everything that is there, without letting time pass.
    pub(crate) fn settle(&mut self) {
        let mut steps = 0;
        while self.deliver() {
            self.now = self.now.after(Duration::from_micros(1));
            steps += 1;
            assert!(
                steps < 20_000,
                "the machine never comes to rest: {:?}",
                self.view()
            );
        }
    }

    /// Faults stop, and forty minutes pass.
    pub(crate) fn calm(&mut self) {
        self.faults = Faults::default();
        let end = self.now.after(Duration::from_secs(2_400));
        for _ in 0..2_000 {
            self.settle();
            let next = self.node.deadline(self.now).unwrap_or(end);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now.after(Duration::from_micros(1)));
            self.inbox.push_back(Input::Tick);
        }
        panic!("the machine asks for the time more than 2,000 times in 40 minutes");
    }

    pub(crate) fn explain(&self, pod: u8) -> Explanation {
        self.node.explain(&pod_key(pod), self.now)
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        self.node.ledger()
    }

    /// From now on the kernel takes no filter.
    pub(crate) fn refuse_trunk_filters(&mut self) {
        self.faults.filters = true;
    }

    /// The rules of the node's pods.
    pub(crate) fn rules(&self) -> &BTreeSet<model::net::Rule> {
        &self.kernel.rules
    }

    /// VLANs the trunk was set up with last.
    pub(crate) fn tags(&self) -> &[u16] {
        &self.tags
    }

    pub(crate) fn trunk(&self) -> Trunk {
        self.node.trunk()
    }

    pub(crate) fn view(&self) -> View {
        self.node.view(self.now)
    }

    pub(crate) fn failure(&self, pod: u8) -> Option<String> {
        self.pods.get(&pod)?.failure.clone()
    }

    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        let config = Box::new(self.config.clone());
        self.inbox.push_back(Input::Configured(config));
    }

    /// Lets `seconds` pass, with every deadline on the way kept.
    pub(crate) fn pass(&mut self, seconds: u64) {
        self.pass_for(Duration::from_secs(seconds));
    }

    fn pass_for(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            self.settle();
            let next = self.node.deadline(self.now).unwrap_or(end);
            if next >= end {
                self.now = end;
                self.inbox.push_back(Input::Tick);
                return self.settle();
            }
            self.now = next.max(self.now.after(Duration::from_micros(1)));
            self.inbox.push_back(Input::Tick);
        }
    }

    /// The next list of pods stays on its way.
    pub(crate) fn hold_list(&mut self) {
        self.faults.list_late = true;
    }

    pub(crate) fn list_is_held(&self) -> bool {
        self.late.is_some()
    }

    /// The list that was held arrives.
    pub(crate) fn deliver_list(&mut self) {
        self.inbox.extend(self.late.take());
        self.settle();
    }

    /// The addresses a pod was given.
    pub(crate) fn addresses(&self, pod: u8) -> BTreeSet<IpAddr> {
        self.given.get(&self.key(pod)).cloned().unwrap_or_default()
    }

    /// Somebody deletes the link of a pod that lives.
    pub(crate) fn cut_link(&mut self, pod: u8) {
        let key = self.key(pod);
        self.kernel.unlink(&key);
    }

    /// Other software of the node gives a pod's link another MAC.
    pub(crate) fn renumber_link(&mut self, pod: u8) {
        let key = self.key(pod);
        if let Some((link, _)) = self.kernel.links.get_mut(&key) {
            link.mac = Mac([2, 2, 2, 2, 2, 2]);
        }
    }

    /// The pod is deleted by force: its object is gone, its sandbox is not.
    pub(crate) fn forget_pod(&mut self, pod: u8) {
        self.api.remove(&pod_key(pod));
    }

    pub(crate) fn has_rules(&self) -> bool {
        !self.kernel.rules.is_empty()
    }

    pub(crate) fn cloud(&mut self) -> &mut Cloud {
        &mut self.cloud
    }

    pub(crate) fn forget_vswitches(&mut self) {
        self.cloud.forget_vswitches();
    }
}
