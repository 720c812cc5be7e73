//! A cluster in virtual time: an API server, a cloud that takes its time and counts a trunk's members, and
//! control planes that may die or overlap. After every event it is checked that no ENI serves two pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use engine::{
    cluster::{
        Action, Cluster, ClusterPod, Config, Input, Listed, Notice, OpNumber, Store, WriteFault,
    },
    podeni::{Answer, Call, CreateEni, Fault, NewEni, Node, Pod, SeenEni},
};
use model::{
    ClientToken, DualStack, Eni, EniId, EniKind, EniStatus, Exhausted, Family, FaultClass,
    InstanceId, InterfaceName, Mac, PodKey, PodUid, PrivateIp, SecurityGroupId, Timestamp, VSwitch,
    VSwitchId, ZoneId,
    podeni::{EDITION_TAG, NetworkRequest, OwnedEni, Phase, PodEni},
    podnetworking::{
        EniAttachment, Labels, PodNetworking, Selector, Tenure, VSwitchPreference, Warm,
    },
};

/// What a write, a call that changes something, a look and the move of an ENI take.
const WRITE: Duration = Duration::from_millis(10);
const CALL: Duration = Duration::from_millis(400);
const LOOK: Duration = Duration::from_millis(200);
const MOVE: Duration = Duration::from_secs(2);

/// How long an address rests.
const COOLDOWN: Duration = Duration::from_secs(60);

/// The tag of every ENI of the cluster.
fn tags() -> BTreeMap<String, String> {
    [("ack.aliyun.com".to_owned(), "c1".to_owned())].into()
}

pub(crate) fn zone() -> ZoneId {
    ZoneId::new("z-a").unwrap()
}

pub(crate) fn pod_name(at: usize) -> PodKey {
    PodKey::new("default", format!("web-{at:03}")).unwrap()
}

enum Event {
    /// A control plane's action reaches whom it is for.
    Do(usize, Action),
    /// A control plane is told.
    Tell(usize, Input),
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    /// Those that died are gone from here.
    pub(crate) planes: BTreeMap<usize, Cluster>,
    booted: usize,
    queue: BTreeMap<(Timestamp, u64), Event>,
    serial: u64,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) pods: BTreeMap<PodKey, Pod>,
    pub(crate) records: BTreeMap<PodKey, PodEni>,
    pub(crate) networking: PodNetworking,
    pub(crate) enis: BTreeMap<EniId, Eni>,
    on: BTreeMap<EniId, EniId>,
    settles: BTreeMap<EniId, Timestamp>,
    tokens: BTreeMap<ClientToken, EniId>,
    /// Members a trunk takes.
    pub(crate) members: usize,
    /// ENIs the vSwitch still has addresses for.
    pub(crate) addresses: usize,
    /// Why no ENI is made at all.
    pub(crate) barred: Option<FaultClass>,
    /// What its description says of them, if that is not the truth.
    pub(crate) shown: Option<usize>,
    /// Lists of all ENIs that will still come empty.
    pub(crate) blind: usize,
    /// Places of each trunk that are taken by what is no ENI of the cluster.
    pub(crate) strangers: usize,
    /// Pods whose record a hand wrote: they do not run with what it says.
    pub(crate) by_hand: BTreeSet<PodKey>,
    /// Instances that take no ENI, and what the cloud says then.
    pub(crate) refusing: BTreeMap<InstanceId, FaultClass>,
    /// Creates of records that still fail.
    pub(crate) failing: usize,
    pub(crate) calls: BTreeMap<&'static str, usize>,
    pub(crate) actions: usize,
    /// Kill whoever acts at this action, and whether it is carried out all the same.
    pub(crate) kill_at: Option<(usize, bool)>,
    pub(crate) came: BTreeMap<PodKey, Timestamp>,
    pub(crate) bound: BTreeMap<PodKey, Duration>,
    freed: BTreeMap<EniId, Timestamp>,
    pub(crate) notices: Vec<Notice>,
}

impl World {
    pub(crate) fn new(nodes: usize, warm: Warm) -> Self {
        let nodes = (0..nodes).map(|at| {
            let name = format!("n{at}");
            let node = Node {
                name: name.clone(),
                instance: InstanceId::new(format!("i-{at}")).unwrap(),
                zone: zone(),
                trunk: Some(EniId::new(format!("eni-trunk-{at}")).unwrap()),
                members: None,
            };
            (name, node)
        });
        let mut world = Self {
            now: Timestamp::EPOCH.after(Duration::from_secs(1_000_000)),
            planes: BTreeMap::new(),
            booted: 0,
            queue: BTreeMap::new(),
            serial: 0,
            nodes: nodes.collect(),
            pods: BTreeMap::new(),
            records: BTreeMap::new(),
            networking: PodNetworking {
                name: "front".into(),
                edition: "uid.1".into(),
                warm,
                attachment: EniAttachment::Default,
                tenure: Tenure::Elastic,
                pods: Some(Selector::default()),
                namespaces: None,
                vswitches: vec![VSwitchId::new("vsw-1").unwrap()],
                preference: VSwitchPreference::Ordered,
                security_groups: vec![SecurityGroupId::new("sg-1").unwrap()],
                resolved: None,
            },
            enis: BTreeMap::new(),
            on: BTreeMap::new(),
            settles: BTreeMap::new(),
            tokens: BTreeMap::new(),
            members: 30,
            addresses: 1000,
            barred: None,
            shown: None,
            blind: 0,
            strangers: 0,
            by_hand: BTreeSet::new(),
            refusing: BTreeMap::new(),
            failing: 0,
            calls: BTreeMap::new(),
            actions: 0,
            kill_at: None,
            came: BTreeMap::new(),
            bound: BTreeMap::new(),
            freed: BTreeMap::new(),
            notices: Vec::new(),
        };
        world.boot();
        world
    }

    /// A control plane starts, reads everything and leads.
    pub(crate) fn boot(&mut self) -> usize {
        self.booted += 1;
        let config = Config {
            tags: tags(),
            ..Config::default()
        };
        let mut plane = Cluster::new(config, self.booted as u64);
        let members = u32::try_from(self.members).ok();
        for node in self.nodes.values_mut() {
            node.members = members;
            plane.handle(self.now, Input::Node(node.name.clone(), Some(node.clone())));
        }
        let mut inputs = vec![self.told_networking()];
        inputs.extend(self.pods.values().map(|pod| self.told(pod)));
        for (key, record) in &self.records {
            inputs.push(Input::Record(key.clone(), Some(Box::new(record.clone()))));
        }
        inputs.push(Input::Complete);
        for input in inputs {
            plane.handle(self.now, input);
        }
        self.planes.insert(self.booted, plane);
        self.collect();
        self.booted
    }

    fn told_networking(&self) -> Input {
        let networking = Box::new(self.networking.clone());
        Input::Networking("front".into(), Some(networking))
    }

    fn told(&self, pod: &Pod) -> Input {
        let record = self.records.get(&pod.key);
        let bound = record.filter(|one| one.phase == Phase::Bind && one.pod == pod.uid);
        let bound = bound.filter(|one| !self.by_hand.contains(&one.key));
        let addresses = bound.into_iter().flat_map(|one| &one.allocations);
        let told = ClusterPod {
            pod: pod.clone(),
            labels: Labels::new(),
            exempt: false,
            complaint: None,
            addresses: addresses.filter_map(|one| one.addresses.v4).collect(),
        };
        Input::Pod(pod.key.clone(), Some(Box::new(told)))
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.serial += 1;
        self.queue
            .insert((self.now.after(after), self.serial), event);
    }

    /// Every control plane's watch tells.
    fn watch(&mut self, input: &Input) {
        let planes: Vec<usize> = self.planes.keys().copied().collect();
        for plane in planes {
            self.later(WRITE, Event::Tell(plane, input.clone()));
        }
    }

    /// As `kubectl delete podeni`: it waits for its finalizer.
    pub(crate) fn delete_record(&mut self, at: usize) {
        let (key, version) = (pod_name(at), self.next_version());
        let record = self.records.get_mut(&key).expect("it is there");
        (record.deleting, record.version) = (true, version);
        let record = Some(Box::new(record.clone()));
        self.watch(&Input::Record(key, record));
    }

    pub(crate) fn create(&mut self, at: usize, node: &str) {
        let key = pod_name(at);
        let networking = &self.networking;
        let pod = Pod {
            key: key.clone(),
            uid: PodUid::new(format!("pod-{}-{}", at, self.serial)).unwrap(),
            node: Some(node.into()),
            finished: false,
            stable_name: false,
            networks: vec![NetworkRequest {
                interface: InterfaceName::new("eth0").unwrap(),
                tenure: Tenure::Elastic,
                attachment: networking.attachment,
                vswitches: networking.vswitches.clone(),
                preference: networking.preference,
                security_groups: networking.security_groups.clone(),
                resource_group: None,
                default_route: true,
                routes: vec![],
            }],
        };
        let told = self.told(&pod);
        self.pods.insert(key.clone(), pod);
        self.came.insert(key, self.now);
        self.watch(&told);
    }

    pub(crate) fn delete(&mut self, at: usize) {
        let key = pod_name(at);
        self.pods.remove(&key);
        self.watch(&Input::Pod(key, None));
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut PodNetworking)) {
        change(&mut self.networking);
        self.watch(&self.told_networking());
    }

    pub(crate) fn node_gone(&mut self, name: &str) {
        if let Some(node) = self.nodes.remove(name) {
            let instance = Some(node.instance);
            self.enis.retain(|_, eni| eni.instance != instance);
        }
        self.watch(&Input::Node(name.into(), None));
    }

    pub(crate) fn run(&mut self, long: Duration) {
        let end = self.now.after(long);
        loop {
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let due = self
                .planes
                .iter()
                .filter_map(|(at, one)| Some((one.deadline(self.now)?, *at)));
            let due = due.min();
            let next = event.into_iter().chain(due.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.settle();
            if event.is_some_and(|at| at <= self.now) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.happen(event);
                }
            } else if let Some((_, plane)) = due {
                self.tell(plane, Input::Tick);
            }
            self.check();
        }
        self.now = end;
        self.settle();
    }

    fn tell(&mut self, plane: usize, input: Input) {
        let now = self.now;
        if let Some(plane) = self.planes.get_mut(&plane) {
            plane.handle(now, input);
        }
        self.collect();
    }

    fn collect(&mut self) {
        let names: Vec<usize> = self.planes.keys().copied().collect();
        for name in names {
            while let Some(action) = self.planes.get_mut(&name).and_then(Cluster::poll_action) {
                if let Action::Notice(notice) = action {
                    self.notices.push(notice);
                    continue;
                }
                self.actions += 1;
                let takes = match &action {
                    Action::Store(..) | Action::Resolve(..) => WRITE,
                    Action::Call(..) => CALL,
                    _ => LOOK,
                };
                let killed = self.kill_at.filter(|(at, _)| *at == self.actions);
                if killed.is_none_or(|(_, carried_out)| carried_out) {
                    self.later(takes, Event::Do(name, action));
                }
                if killed.is_some() {
                    self.planes.remove(&name);
                    self.boot();
                    break;
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tell(plane, input) => self.tell(plane, input),
            Event::Do(plane, action) => {
                let input = self.carry_out(action);
                self.tell(plane, input);
            }
        }
    }

    fn carry_out(&mut self, action: Action) -> Input {
        match action {
            Action::Store(key, store) => {
                let result = self.store(&key, store);
                Input::Written(key, result)
            }
            Action::Resolve(name, resolved) => {
                self.networking.resolved = Some(resolved);
                self.watch(&self.told_networking());
                Input::Resolved(name, Ok(()))
            }
            Action::Call(op, call) => {
                let text = || "refused".to_owned();
                let result = self.call(&call);
                Input::Called(
                    op,
                    result.map_err(|class| Fault {
                        class,
                        text: text(),
                    }),
                )
            }
            Action::Look(op, ids) => {
                let seen = ids
                    .into_iter()
                    .filter_map(|id| Some((id.clone(), self.seen(&id)?)));
                Input::Looked(op, Ok(seen.collect()))
            }
            Action::DescribeVSwitches(op, ids) => {
                let all = ids.into_iter().map(|id| VSwitch {
                    id,
                    zone: zone(),
                    available_addresses: u32::try_from(self.shown.unwrap_or(self.addresses))
                        .unwrap(),
                    cidr: "10.0.0.0/16".parse().unwrap(),
                    ipv6_cidr: None,
                });
                Input::VSwitches(op, Ok(all.collect()))
            }
            Action::ListEnis(op) => self.list(op),
            Action::Notice(_) => unreachable!("kept"),
        }
    }

    fn list(&mut self, op: OpNumber) -> Input {
        if self.blind > 0 {
            self.blind -= 1;
            return Input::Listed(op, Ok(vec![]));
        }
        let all = self.enis.values().map(|eni| Listed {
            eni: eni.clone(),
            trunk: self.on.get(&eni.id).cloned(),
        });
        let there =
            |one: &Listed| matches!(one.eni.status, EniStatus::Available | EniStatus::InUse);
        Input::Listed(op, Ok(all.filter(there).collect()))
    }

    /// The version the API server would give to what is written now.
    pub(crate) fn next_version(&mut self) -> String {
        self.serial += 1;
        self.serial.to_string()
    }

    fn store(&mut self, key: &PodKey, store: Store) -> Result<Option<Box<PodEni>>, WriteFault> {
        let version = self.next_version();
        self.by_hand.remove(key);
        if self.failing > 0 && matches!(store, Store::Create(_)) {
            self.failing -= 1;
            return Err(WriteFault::Failed("no answer".into()));
        }
        match (store, self.records.get_mut(key)) {
            (Store::Create(record), None) => {
                let uid = format!("record-{version}");
                let record = PodEni {
                    uid,
                    version,
                    ..*record
                };
                self.records.insert(key.clone(), record);
            }
            (Store::Write(record), Some(found)) if found.version == record.version => {
                let (deleting, held) = (found.deleting, found.held);
                *found = PodEni {
                    version,
                    deleting,
                    held,
                    ..*record
                };
            }
            (Store::Delete(uid), Some(found)) if found.uid == uid => {
                (found.deleting, found.version) = (true, version);
            }
            (Store::LetGo(uid), Some(found)) if found.uid == uid && found.deleting => {
                let gone = self.records.remove(key).expect("found");
                let enis = gone.allocations.into_iter().filter_map(|one| one.eni);
                let now = self.now;
                self.freed.extend(enis.map(|eni| (eni.id, now)));
            }
            _ => return Err(WriteFault::Stale),
        }
        let record = self.records.get(key).cloned().map(Box::new);
        self.reached(key);
        self.watch(&Input::Record(key.clone(), record.clone()));
        Ok(record)
    }

    /// A record is as it is now: is its pod bound, and did its ENI rest?
    fn reached(&mut self, key: &PodKey) {
        let Some(record) = self.records.get(key) else {
            return;
        };
        let pod = self.pods.get(key).filter(|pod| pod.uid == record.pod);
        if record.phase != Phase::Bind || record.deleting || pod.is_none() {
            return;
        }
        for eni in record.allocations.iter().filter_map(|one| one.eni.as_ref()) {
            let freed = self.freed.remove(&eni.id);
            let rested = freed.is_none_or(|at| self.now.since(at) >= COOLDOWN);
            assert!(rested, "{} was used before it rested", eni.id);
        }
        let came = self.came[key];
        self.bound
            .entry(key.clone())
            .or_insert_with(|| self.now.since(came));
        // It starts, and reports its address.
        let told = self.told(&self.pods[key]);
        self.watch(&told);
    }

    fn seen(&self, id: &EniId) -> Option<SeenEni> {
        if id.as_str().starts_with("eni-trunk") {
            return Some(SeenEni {
                status: EniStatus::InUse,
                kind: EniKind::Trunk,
                instance: None,
                trunk: None,
                vlan: None,
            });
        }
        let eni = self.enis.get(id)?;
        let [.., high, low] = eni.mac.0;
        let there = eni.status == EniStatus::InUse;
        Some(SeenEni {
            status: eni.status,
            kind: eni.kind,
            instance: eni.instance.clone(),
            trunk: self.on.get(id).cloned(),
            vlan: there.then(|| u16::from_be_bytes([high, low])),
        })
    }

    fn settle(&mut self) {
        let now = self.now;
        let done: Vec<EniId> = self
            .settles
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in done {
            self.settles.remove(&id);
            let Some(eni) = self.enis.get_mut(&id) else {
                continue;
            };
            match eni.status {
                EniStatus::Attaching => {
                    (eni.status, eni.kind) = (EniStatus::InUse, EniKind::Member)
                }
                _ => {
                    (eni.status, eni.kind) = (EniStatus::Available, EniKind::Secondary);
                    eni.instance = None;
                    self.on.remove(&id);
                }
            }
        }
    }

    fn call(&mut self, call: &Call) -> Result<Answer, FaultClass> {
        let settles = self.now.after(MOVE);
        let count = |call: &Call| match call {
            Call::Create(_) => "create",
            Call::Attach { .. } => "attach",
            Call::Detach { .. } => "detach",
            Call::Delete(_) => "delete",
            Call::Look(_) => "look",
        };
        *self.calls.entry(count(call)).or_default() += 1;
        match call {
            Call::Create(create) => return self.make(create),
            Call::Attach {
                eni,
                instance,
                trunk,
            } => {
                let trunk = trunk.clone().ok_or(FaultClass::Invalid)?;
                if let Some(class) = self.refusing.get(instance) {
                    return Err(*class);
                }
                let taken = self.on.values().filter(|one| **one == trunk).count();
                if taken + self.strangers >= self.members {
                    return Err(FaultClass::Exhausted(Exhausted::EniPerInstance));
                }
                let one = self.enis.get_mut(eni).ok_or(FaultClass::Gone)?;
                if one.status != EniStatus::Available {
                    return Err(FaultClass::Conflict);
                }
                (one.status, one.instance) = (EniStatus::Attaching, Some(instance.clone()));
                self.on.insert(eni.clone(), trunk);
                self.settles.insert(eni.clone(), settles);
            }
            Call::Detach { eni, .. } => {
                let one = self.enis.get_mut(eni).ok_or(FaultClass::Gone)?;
                if one.status != EniStatus::InUse {
                    return Err(FaultClass::Conflict);
                }
                one.status = EniStatus::Detaching;
                self.settles.insert(eni.clone(), settles);
            }
            Call::Delete(eni) => {
                let one = self.enis.get(eni).ok_or(FaultClass::Gone)?;
                if one.status != EniStatus::Available {
                    return Err(FaultClass::Conflict);
                }
                self.enis.remove(eni);
                self.addresses += 1;
            }
            Call::Look(_) => unreachable!("looks are made together"),
        }
        Ok(Answer::Accepted)
    }

    fn make(&mut self, create: &CreateEni) -> Result<Answer, FaultClass> {
        let known = self.tokens.get(&create.token).cloned();
        let id = match known {
            Some(id) => id,
            None if self.barred.is_some() => return self.barred.map_or(Ok(Answer::Accepted), Err),
            None if self.addresses == 0 => return Err(FaultClass::Exhausted(Exhausted::VSwitch)),
            None => {
                self.addresses -= 1;
                self.serial += 1;
                let number = u16::try_from(self.tokens.len() + 1).unwrap();
                let [high, low] = number.to_be_bytes();
                let id = EniId::new(format!("eni-{number}")).unwrap();
                let edition = create.edition.iter();
                let edition = edition.map(|one| (EDITION_TAG.to_owned(), one.clone()));
                let eni = Eni {
                    id: id.clone(),
                    mac: Mac([2, 0, 0, 0, high, low]),
                    kind: EniKind::Secondary,
                    status: EniStatus::Available,
                    instance: None,
                    vswitch: create.vswitch.clone(),
                    vpc: None,
                    zone: zone(),
                    security_groups: create.security_groups.clone(),
                    addresses: vec![PrivateIp {
                        address: [10, 0, high, low].into(),
                        primary: true,
                    }],
                    prefixes: vec![],
                    tags: tags().into_iter().chain(edition).collect(),
                };
                self.enis.insert(id.clone(), eni);
                self.tokens.insert(create.token.clone(), id.clone());
                id
            }
        };
        let eni = self.enis.get(&id).ok_or(FaultClass::Gone)?;
        let address = eni.primary_address().expect("it has one");
        Ok(Answer::Created(Box::new(NewEni {
            eni: OwnedEni {
                id,
                mac: eni.mac,
                vpc: None,
            },
            addresses: DualStack::only(Family::V4, address),
        })))
    }

    /// What must hold at every instant.
    fn check(&self) {
        let mut owners: BTreeMap<&EniId, &PodKey> = BTreeMap::new();
        for (key, record) in &self.records {
            if record.phase != Phase::Bind || record.deleting || self.by_hand.contains(key) {
                continue;
            }
            let Some(eni) = record.allocations[0].eni.as_ref() else {
                panic!("{key} is bound without an ENI");
            };
            assert_eq!(owners.insert(&eni.id, key), None, "an ENI serves two pods");
            let real = self.enis.get(&eni.id);
            let there = real.filter(|one| one.status == EniStatus::InUse);
            let gone = !self.nodes.contains_key(&record.node);
            let instance = there.and_then(|one| one.instance.as_ref());
            assert!(
                gone || instance == record.instance.as_ref(),
                "{key} is bound to {}, which is {real:?}",
                eni.id
            );
        }
    }

    /// ENIs no record names.
    pub(crate) fn spare(&self) -> Vec<&Eni> {
        let all = self.records.values().flat_map(|one| &one.allocations);
        let named: BTreeSet<&EniId> = all.filter_map(|one| Some(&one.eni.as_ref()?.id)).collect();
        let all = self.enis.values();
        all.filter(|eni| !named.contains(&eni.id)).collect()
    }

    pub(crate) fn all_bound(&self) -> bool {
        let bound = |pod: &Pod| {
            let record = self.records.get(&pod.key);
            record.is_some_and(|one| one.phase == Phase::Bind && one.pod == pod.uid)
        };
        self.pods.values().all(bound)
    }
}
