//! The control plane's machine in a small world: pods that come and go on two nodes, an API server that
//! counts versions and whose watch is late, a cloud, hands that meddle, a controller that dies at any step.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use engine::{
    cluster::{
        Action, Cluster, ClusterPod, Config, Input, Listed, Notice, OpNumber, Store, WriteFault,
    },
    podeni::{Call, Fault, Node, Pod, SeenEni},
    retry::Dice,
};
use model::{
    Eni, EniId, EniKind, EniStatus, FaultClass, Mac, PodKey, PodUid, PrivateIp, SecurityGroupId,
    Timestamp, VSwitch, VSwitchId, ZoneId,
    podeni::{Phase, PodEni},
    podnetworking::{
        EniAttachment, Labels, PodNetworking, Release, Selector, Tenure, VSwitchPreference, Warm,
    },
};

use crate::{
    cloud::Cloud,
    world::{network, node},
};

const NAMES: usize = 6;

pub(crate) struct Region {
    pub(crate) now: Timestamp,
    dice: Dice,
    machine: Cluster,
    cloud: Cloud,
    nodes: [Node; 2],
    pub(crate) pods: BTreeMap<PodKey, Pod>,
    pub(crate) records: BTreeMap<PodKey, PodEni>,
    pub(crate) networking: PodNetworking,
    /// What the VPC has.
    pub(crate) vswitches: BTreeSet<String>,
    versions: u64,
    uids: u64,
    /// What the watch has yet to tell.
    watch: VecDeque<Input>,
    under_way: Vec<Action>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) faults: bool,
}

pub(crate) fn name(at: u64) -> PodKey {
    PodKey::new("default", format!("web-{at}")).unwrap()
}

fn tags() -> BTreeMap<String, String> {
    [("ack.aliyun.com".to_owned(), "c1".to_owned())].into()
}

fn config() -> Config {
    Config {
        tags: tags(),
        ..Config::default()
    }
}

/// Even names are of StatefulSets and keep their address.
fn tenure(key: &PodKey) -> Tenure {
    match key.name.ends_with(['0', '2', '4']) {
        true => Tenure::Fixed(Release::After(Duration::from_secs(300))),
        false => Tenure::Elastic,
    }
}

impl Region {
    pub(crate) fn new(seed: u64) -> Self {
        let mut region = Self {
            now: Timestamp::EPOCH.after(Duration::from_secs(1_000_000)),
            dice: Dice::new(seed),
            machine: Cluster::new(config(), seed),
            cloud: Cloud::default(),
            nodes: [node("a"), node("b")],
            pods: BTreeMap::new(),
            records: BTreeMap::new(),
            networking: PodNetworking {
                name: "plane".into(),
                edition: "plane.1".into(),
                warm: Warm::default(),
                attachment: EniAttachment::Default,
                tenure: Tenure::Elastic,
                pods: Some(Selector::default()),
                namespaces: None,
                vswitches: vec![VSwitchId::new("vsw-1").unwrap()],
                preference: VSwitchPreference::Ordered,
                security_groups: vec![SecurityGroupId::new("sg-1").unwrap()],
                resolved: None,
            },
            vswitches: ["vsw-1".to_owned()].into(),
            versions: 0,
            uids: 0,
            watch: VecDeque::new(),
            under_way: Vec::new(),
            notices: Vec::new(),
            faults: true,
        };
        region.boot();
        region
    }

    fn roll(&mut self, n: u64) -> u64 {
        self.dice.roll() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    /// A controller that knows nothing reads everything.
    fn boot(&mut self) {
        self.machine = Cluster::new(config(), self.dice.roll());
        self.watch.clear();
        let mut inputs = Vec::new();
        for node in &self.nodes {
            inputs.push(Input::Node(node.name.clone(), Some(node.clone())));
        }
        inputs.push(Input::Namespace("default".into(), Some(Labels::new())));
        let networking = Box::new(self.networking.clone());
        inputs.push(Input::Networking("plane".into(), Some(networking)));
        inputs.extend(self.pods.values().map(|pod| self.told(pod)));
        for (key, record) in &self.records {
            inputs.push(Input::Record(key.clone(), Some(Box::new(record.clone()))));
        }
        inputs.push(Input::Complete);
        for input in inputs {
            self.machine.handle(self.now, input);
        }
    }

    fn told(&self, pod: &Pod) -> Input {
        let record = self.records.get(&pod.key);
        let bound = record.filter(|record| record.phase == Phase::Bind && record.pod == pod.uid);
        let addresses: BTreeSet<_> = bound
            .into_iter()
            .flat_map(|record| record.allocations.iter())
            .filter_map(|one| one.addresses.v4)
            .collect();
        let told = ClusterPod {
            pod: pod.clone(),
            labels: Labels::new(),
            exempt: false,
            complaint: None,
            addresses,
        };
        Input::Pod(pod.key.clone(), Some(Box::new(told)))
    }

    fn watch_record(&mut self, key: &PodKey) {
        let record = self.records.get(key).cloned().map(Box::new);
        self.watch.push_back(Input::Record(key.clone(), record));
    }

    /// Something happens, then everybody does a little.
    pub(crate) fn step(&mut self) {
        let which = self.roll(NAMES as u64);
        let key = name(which);
        match self.roll(20) {
            0..=2 => self.create(&key),
            3 => self.delete(&key),
            4 => self.finish(&key),
            5 if self.faults => self.crash(),
            6 if self.one_in(6) => self.meddle(&key),
            _ => {}
        }
        self.turn(Duration::from_millis(900));
        self.check();
    }

    pub(crate) fn create(&mut self, key: &PodKey) {
        if self.pods.contains_key(key) {
            return;
        }
        self.uids += 1;
        let at = usize::try_from(self.roll(2)).unwrap();
        let pod = Pod {
            key: key.clone(),
            uid: PodUid::new(format!("uid-{}", self.uids)).unwrap(),
            node: Some(self.nodes[at].name.clone()),
            finished: false,
            stable_name: tenure(key).is_fixed(),
            networks: vec![network(tenure(key), vec![VSwitchId::new("vsw-1").unwrap()])],
        };
        self.watch.push_back(self.told(&pod));
        self.pods.insert(key.clone(), pod);
    }

    pub(crate) fn delete(&mut self, key: &PodKey) {
        if self.pods.remove(key).is_some() {
            self.watch.push_back(Input::Pod(key.clone(), None));
        }
    }

    fn finish(&mut self, key: &PodKey) {
        let Some(pod) = self.pods.get_mut(key) else {
            return;
        };
        pod.finished = true;
        let pod = pod.clone();
        self.watch.push_back(self.told(&pod));
    }

    /// Somebody changes a record by hand, asks for its deletion, or tears it out with its finalizer.
    fn meddle(&mut self, key: &PodKey) {
        match self.roll(3) {
            // Its ENI stands: only what describes it is changed.
            0 => self.edit(key, |record| {
                let allocation = &mut record.allocations[0];
                if allocation.eni.is_some() {
                    allocation.security_groups.clear();
                }
            }),
            1 => self.edit(key, |record| record.deleting = true),
            _ => {
                self.records.remove(key);
                self.watch_record(key);
            }
        }
    }

    pub(crate) fn edit(&mut self, key: &PodKey, edit: impl Fn(&mut PodEni)) {
        self.versions += 1;
        if let Some(record) = self.records.get_mut(key) {
            record.version = self.versions.to_string();
            edit(record);
            self.watch_record(key);
        }
    }

    /// The controller dies; what was under way is carried out or not.
    fn crash(&mut self) {
        for action in std::mem::take(&mut self.under_way) {
            if self.one_in(2) {
                let _ = self.carry_out(action);
            }
        }
        self.boot();
    }

    /// Time passes, the watch tells, answers arrive.
    pub(crate) fn turn(&mut self, at_most: Duration) {
        let most = u64::try_from(at_most.as_millis()).unwrap();
        let passed = 1 + self.roll(most);
        self.now = self.now.after(Duration::from_millis(passed));
        self.cloud.settle(self.now);
        while !self.watch.is_empty() && !self.one_in(3) {
            let input = self.watch.pop_front().expect("one is there");
            self.machine.handle(self.now, input);
        }
        self.collect_actions();
        while !self.under_way.is_empty() && !self.one_in(3) {
            let at = usize::try_from(self.dice.roll()).unwrap_or(0) % self.under_way.len();
            let action = self.under_way.swap_remove(at);
            if let Some(input) = self.answer(action) {
                self.machine.handle(self.now, input);
                self.collect_actions();
            }
        }
        if self
            .machine
            .deadline(self.now)
            .is_some_and(|at| at <= self.now)
        {
            self.machine.handle(self.now, Input::Tick);
        }
        self.collect_actions();
        let late = self.machine.deadline(self.now);
        assert!(
            late.is_none_or(|at| at > self.now) || !self.under_way.is_empty(),
            "a deadline that passed and does not go away"
        );
    }

    fn collect_actions(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Notice(notice) => self.notices.push(notice),
                action => self.under_way.push(action),
            }
        }
    }

    fn answer(&mut self, action: Action) -> Option<Input> {
        if !self.faults || !self.one_in(8) {
            return self.carry_out(action);
        }
        let class = match self.one_in(2) {
            true => FaultClass::Throttled,
            false => FaultClass::Unknown,
        };
        let done = class == FaultClass::Unknown && self.one_in(2);
        let fault = Fault {
            class,
            text: "injected".into(),
        };
        let lost = lose(&action, fault);
        if done {
            let _ = self.carry_out(action);
        }
        lost
    }

    fn carry_out(&mut self, action: Action) -> Option<Input> {
        let (now, fault) = (self.now, |class| Fault {
            class,
            text: "refused".into(),
        });
        Some(match action {
            Action::Store(key, store) => {
                let result = self.store(&key, store);
                Input::Written(key, result)
            }
            Action::Resolve(name, resolved) => {
                self.networking.resolved = Some(resolved);
                let networking = Box::new(self.networking.clone());
                self.watch
                    .push_back(Input::Networking(name.clone(), Some(networking)));
                Input::Resolved(name, Ok(()))
            }
            Action::Call(op, call) => {
                Input::Called(op, self.cloud.carry_out(now, &call).map_err(fault))
            }
            Action::Look(op, enis) => {
                let mut seen: BTreeMap<EniId, _> = BTreeMap::new();
                for id in enis {
                    // A describe may not show yet what exists.
                    let late = self.faults && self.one_in(12);
                    let is_trunk = self
                        .nodes
                        .iter()
                        .any(|node| node.trunk.as_ref() == Some(&id));
                    let eni = self.cloud.seen(&id).filter(|_| !late);
                    if let Some(eni) = eni.or_else(|| is_trunk.then(trunk)) {
                        seen.insert(id, eni);
                    }
                }
                Input::Looked(op, Ok(seen))
            }
            Action::DescribeVSwitches(op, ids) => {
                let exists = ids
                    .into_iter()
                    .filter(|id| self.vswitches.contains(id.as_str()));
                Input::VSwitches(op, Ok(exists.map(vswitch).collect()))
            }
            Action::ListEnis(op) => self.list(op),
            Action::Notice(_) => return None,
        })
    }

    fn list(&self, op: OpNumber) -> Input {
        let listed = self.cloud.enis.iter().map(|eni| {
            let seen = self.cloud.seen(&eni.id).expect("it is there");
            Listed {
                eni: Eni {
                    id: eni.id.clone(),
                    mac: Mac::locally_administered([2, 0, 0, 0, 0, 0]),
                    kind: EniKind::Member,
                    status: seen.status,
                    instance: seen.instance,
                    vswitch: VSwitchId::new("vsw-1").unwrap(),
                    vpc: None,
                    zone: ZoneId::new("z-a").unwrap(),
                    security_groups: vec![],
                    addresses: vec![PrivateIp {
                        address: eni.address,
                        primary: true,
                    }],
                    prefixes: vec![],
                    tags: tags(),
                },
                trunk: seen.trunk,
            }
        });
        Input::Listed(op, Ok(listed.collect()))
    }

    fn store(&mut self, key: &PodKey, store: Store) -> Result<Option<Box<PodEni>>, WriteFault> {
        let half = self.faults && self.one_in(10);
        self.versions += 1;
        let version = self.versions.to_string();
        let found = self.records.get_mut(key);
        match (store, found) {
            (Store::Create(record), None) => {
                self.uids += 1;
                let record = PodEni {
                    uid: format!("record-{}", self.uids),
                    version,
                    ..*record
                };
                self.records.insert(key.clone(), record);
            }
            (Store::Write(record), Some(found)) if found.version == record.version => {
                let (deleting, held) = (found.deleting, found.held);
                let stops = half && record.phase != found.phase;
                assert_ne!(*record, *found, "a write that changes nothing");
                let mut next = *record;
                if stops {
                    // The second half is never written.
                    let PodEni {
                        phase,
                        instance,
                        trunk,
                        attached,
                        last_seen,
                        message,
                        ..
                    } = found.clone();
                    (next.phase, next.instance, next.trunk) = (phase, instance, trunk);
                    (next.attached, next.last_seen, next.message) = (attached, last_seen, message);
                }
                *found = PodEni {
                    version,
                    deleting,
                    held,
                    ..next
                };
                if stops {
                    self.watch_record(key);
                    return Err(WriteFault::Failed("injected".into()));
                }
            }
            (Store::Delete(uid), Some(found)) if found.uid == uid => {
                (found.deleting, found.version) = (true, version);
            }
            (Store::LetGo(uid), Some(found)) if found.uid == uid && found.deleting => {
                self.records.remove(key);
            }
            _ => return Err(WriteFault::Stale),
        }
        self.watch_record(key);
        Ok(self.records.get(key).cloned().map(Box::new))
    }

    /// What must hold at every instant.
    fn check(&self) {
        let mut owners: BTreeMap<&EniId, &PodKey> = BTreeMap::new();
        for (key, record) in &self.records {
            for eni in record.allocations.iter().filter_map(|one| one.eni.as_ref()) {
                let other = owners.insert(&eni.id, key);
                assert_eq!(other, None, "an ENI two records name");
            }
            if record.phase != Phase::Bind || record.deleting {
                continue;
            }
            for (eni, attached) in &record.attached {
                let real = self.cloud.seen(eni).expect("bound to an ENI that exists");
                assert_eq!(real.status, EniStatus::InUse, "bound means attached");
                assert_eq!(real.vlan, attached.vlan, "and its VLAN is known");
                assert_eq!(real.instance, record.instance);
            }
        }
    }

    /// Faults have stopped: everything wanted is reached, and what nobody refers to is collected.
    pub(crate) fn calm(&mut self) {
        self.faults = false;
        for _ in 0..400 {
            self.turn(Duration::from_millis(500));
            self.check();
        }
        for _ in 0..400 {
            self.turn(Duration::from_secs(10));
            self.check();
        }
    }

    /// What must hold in the end.
    pub(crate) fn check_at_rest(&self) {
        for (key, pod) in &self.pods {
            let record = self.records.get(key);
            if pod.finished {
                continue;
            }
            let record = record.unwrap_or_else(|| panic!("{key} has no record"));
            let why = self.machine.waiting(key);
            assert_eq!(
                (record.phase, &record.pod),
                (Phase::Bind, &pod.uid),
                "{key} waits for {why:?}"
            );
            assert_eq!(Some(&record.node), pod.node.as_ref());
        }
        let named = self.records.values().flat_map(|record| &record.allocations);
        let named: BTreeSet<&EniId> = named
            .filter_map(|one| Some(&one.eni.as_ref()?.id))
            .collect();
        let spared = |eni: &EniId| {
            let mut notices = self.notices.iter();
            notices.any(|notice| matches!(notice, Notice::Unrecorded(spared, _) if spared == eni))
        };
        let real = self.cloud.enis.iter().map(|eni| &eni.id);
        let real: BTreeSet<&EniId> = real.filter(|eni| !spared(eni)).collect();
        assert_eq!(named, real, "what the records name is what there is");
        assert!(self.networking.is_ready());
    }
}

/// A trunk as the cloud describes it: that it exists is all that matters.
pub(crate) fn trunk() -> SeenEni {
    SeenEni {
        status: EniStatus::InUse,
        kind: EniKind::Trunk,
        instance: None,
        trunk: None,
        vlan: None,
    }
}

fn vswitch(id: VSwitchId) -> VSwitch {
    VSwitch {
        id,
        zone: ZoneId::new("z-a").unwrap(),
        available_addresses: 60_000,
        cidr: "10.0.0.0/16".parse().unwrap(),
        ipv6_cidr: None,
    }
}

/// The answer to an action whose outcome nobody knows, or that was throttled.
fn lose(action: &Action, fault: Fault) -> Option<Input> {
    let text = fault.text.clone();
    Some(match action {
        Action::Store(key, _) => Input::Written(key.clone(), Err(WriteFault::Failed(text))),
        Action::Resolve(name, _) => Input::Resolved(name.clone(), Err(text)),
        Action::Call(op, Call::Look(_)) => Input::Looked(*op, Err(fault)),
        Action::Call(op, _) => Input::Called(*op, Err(fault)),
        Action::Look(op, _) => Input::Looked(*op, Err(fault)),
        Action::DescribeVSwitches(op, _) => Input::VSwitches(*op, Err(fault)),
        Action::ListEnis(op) => Input::Listed(*op, Err(fault)),
        Action::Notice(_) => return None,
    })
}
