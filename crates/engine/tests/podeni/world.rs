//! One pod name in a small world: a cloud, an API server that keeps one record, a controller
//! that may die between any two steps.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use engine::{
    podeni::{
        Answer, Call, Fault, KnownVSwitch, Node, Observed, Pod, Progress, Spares, Step, VSwitches,
        plan,
    },
    retry::Dice,
};
use model::{
    DualStack, EniId, EniStatus, FaultClass, InstanceId, InterfaceName, PodKey, PodUid,
    SecurityGroupId, Timestamp, VSwitch, VSwitchId, ZoneId,
    podeni::{NetworkRequest, Phase, PodEni},
    podnetworking::{EniAttachment, Tenure, VSwitchPreference},
};

use crate::cloud::Cloud;

pub(crate) struct World {
    pub(crate) now: Timestamp,
    dice: Dice,
    tenure: Tenure,
    pub(crate) pod: Option<Pod>,
    pods: u32,
    pub(crate) record: Option<PodEni>,
    writes: u32,
    progress: Progress,
    cloud: Cloud,
    in_flight: Vec<Call>,
    nodes: [Node; 2],
    vswitches: VSwitches,
    pub(crate) faults: bool,
    promised: Option<DualStack<IpAddr>>,
}

pub(crate) fn node(name: &str) -> Node {
    Node {
        name: name.into(),
        instance: InstanceId::new(format!("i-{name}")).unwrap(),
        zone: ZoneId::new("z-a").unwrap(),
        trunk: Some(EniId::new(format!("eni-trunk-{name}")).unwrap()),
        members: Some(100),
    }
}

fn vswitch(id: &str, zone: &str) -> (VSwitchId, KnownVSwitch) {
    let id = VSwitchId::new(id).unwrap();
    let described = VSwitch {
        id: id.clone(),
        zone: ZoneId::new(zone).unwrap(),
        available_addresses: 100,
        cidr: "10.0.0.0/24".parse().unwrap(),
        ipv6_cidr: None,
    };
    let known = KnownVSwitch {
        described,
        full_until: Timestamp::EPOCH,
    };
    (id, known)
}

pub(crate) fn network(tenure: Tenure, vswitches: Vec<VSwitchId>) -> NetworkRequest {
    NetworkRequest {
        interface: InterfaceName::new("eth0").unwrap(),
        tenure,
        attachment: EniAttachment::Default,
        vswitches,
        preference: VSwitchPreference::Ordered,
        security_groups: vec![SecurityGroupId::new("sg-1").unwrap()],
        resource_group: None,
        default_route: true,
        routes: vec![],
    }
}

impl World {
    pub(crate) fn new(seed: u64, tenure: Tenure) -> Self {
        Self {
            now: Timestamp::EPOCH.after(Duration::from_secs(1_000_000)),
            dice: Dice::new(seed),
            tenure,
            pod: None,
            pods: 0,
            record: None,
            writes: 0,
            progress: Progress::new(seed),
            cloud: Cloud::default(),
            in_flight: Vec::new(),
            nodes: [node("a"), node("b")],
            vswitches: [vswitch("vsw-far", "z-b"), vswitch("vsw-1", "z-a")].into(),
            faults: true,
            promised: None,
        }
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.dice.roll().is_multiple_of(n)
    }

    /// Something happens: to the pod, to the controller, or a plan is made and carried out.
    pub(crate) fn step(&mut self) {
        match self.dice.roll() % 24 {
            0 => self.create_pod(),
            1 => self.pod = None,
            2 => self.finish_pod(),
            3 => self.schedule_pod(),
            4 if self.faults => self.crash(),
            _ => {}
        }
        self.turn();
        self.check();
    }

    pub(crate) fn create_pod(&mut self) {
        self.pods += 1;
        self.pod = Some(Pod {
            key: PodKey::new("default", "web-0").unwrap(),
            uid: PodUid::new(format!("uid-{}", self.pods)).unwrap(),
            node: None,
            finished: false,
            stable_name: self.tenure.is_fixed(),
            networks: vec![network(
                self.tenure,
                self.vswitches.keys().cloned().collect(),
            )],
        });
    }

    pub(crate) fn schedule_pod(&mut self) {
        let at = usize::from(self.one_in(2));
        let name = self.nodes[at].name.clone();
        if let Some(pod) = self.pod.as_mut().filter(|pod| pod.node.is_none()) {
            pod.node = Some(name);
        }
    }

    fn finish_pod(&mut self) {
        if let Some(pod) = &mut self.pod {
            pod.finished = true;
        }
    }

    /// The controller dies; what was under way is carried out or not.
    fn crash(&mut self) {
        for call in std::mem::take(&mut self.in_flight) {
            if self.one_in(2) {
                let _ = self.cloud.carry_out(self.now, &call);
            }
        }
        self.progress = Progress::new(self.dice.roll());
    }

    /// Time passes, answers arrive, and what the planner wants next is done.
    pub(crate) fn turn(&mut self) {
        self.now = self
            .now
            .after(Duration::from_millis(self.dice.roll() % 900));
        self.cloud.settle(self.now);
        while !self.in_flight.is_empty() && self.one_in(2) {
            let at = usize::try_from(self.dice.roll()).unwrap_or(0) % self.in_flight.len();
            let call = self.in_flight.swap_remove(at);
            let answer = self.answer(&call);
            self.progress.answered(self.now, &call, answer);
        }
        let pod = self.pod.clone();
        let node = pod.as_ref().and_then(|pod| pod.node.clone());
        let node = node.and_then(|name| self.nodes.iter().find(|node| node.name == name));
        let seen = Observed {
            pod: pod.as_ref(),
            node,
            record: self.record.as_ref(),
            vswitches: &self.vswitches,
            spares: &Spares::new(),
            parted: &BTreeSet::new(),
        };
        let step = plan(self.now, &seen, &self.progress).step;
        self.carry(step);
    }

    fn carry(&mut self, step: Step) {
        // The API server refuses a write now and then: another wrote in between.
        if self.faults && !matches!(step, Step::Call(_)) && self.one_in(6) {
            return;
        }
        match step {
            Step::Wait(_) => {}
            Step::Create(record) => {
                self.writes += 1;
                let mut record = *record;
                record.uid = format!("record-{}", self.writes);
                self.progress = Progress::new(self.dice.roll());
                self.progress.born();
                self.record = Some(record);
            }
            Step::Write(record) => {
                assert_ne!(
                    self.record.as_ref(),
                    Some(&*record),
                    "a write that changes nothing"
                );
                self.record = Some(*record);
            }
            Step::Delete => {
                if let Some(record) = &mut self.record {
                    record.deleting = true;
                }
            }
            Step::LetGo => self.record = None,
            Step::Call(calls) => {
                for call in calls {
                    self.progress.called(&call);
                    self.in_flight.push(call);
                }
            }
        }
    }

    fn answer(&mut self, call: &Call) -> Result<Answer, Fault> {
        let fault = |class| Fault {
            class,
            text: "injected".into(),
        };
        if !self.faults {
            return self.cloud.carry_out(self.now, call).map_err(fault);
        }
        if self.one_in(10) {
            let class = match self.one_in(2) {
                true => FaultClass::Throttled,
                false => FaultClass::Unknown,
            };
            return Err(fault(class));
        }
        let done = self.cloud.carry_out(self.now, call).map_err(fault);
        if self.one_in(10) {
            return Err(fault(FaultClass::Unknown));
        }
        // A describe may not show yet what exists.
        if matches!(call, Call::Look(_)) && self.one_in(12) {
            return Ok(Answer::Missing);
        }
        done
    }

    /// What must hold at every instant.
    fn check(&mut self) {
        assert!(
            self.cloud.enis.len() <= 2,
            "an ENI a record at most, and one of its predecessor on its way out"
        );
        for eni in &self.cloud.enis {
            assert_eq!(eni.elastic, !self.tenure.is_fixed());
        }
        let Some(record) = &self.record else {
            self.promised = None;
            return;
        };
        let addresses = record.allocations[0].addresses;
        if self.tenure.is_fixed() && addresses.v4.is_some() && !record.deleting {
            let promised = *self.promised.get_or_insert(addresses);
            assert_eq!(promised, addresses, "a promised address never changes");
        }
        if record.phase == Phase::Bind && !record.deleting {
            let eni = record.allocations[0]
                .eni
                .as_ref()
                .expect("bound with an ENI");
            let real = self.cloud.enis.iter().find(|one| one.id == eni.id);
            let real = real.expect("bound to an ENI that exists");
            assert_eq!(real.status, EniStatus::InUse, "bound means attached");
            let on = real.on.as_ref().map(|(instance, _)| instance);
            assert_eq!(on, record.instance.as_ref());
            assert!(record.attached[&eni.id].vlan.is_some());
        }
    }

    /// Faults have stopped: the wanted state is reached within a minute, and stays.
    pub(crate) fn calm(&mut self) {
        self.faults = false;
        for _ in 0..600 {
            self.turn();
            self.check();
        }
        assert!(
            self.in_flight.is_empty(),
            "still calling: {:?}",
            self.in_flight
        );
    }

    /// What must hold in the end.
    pub(crate) fn check_at_rest(&self) {
        let live = self
            .pod
            .as_ref()
            .filter(|pod| !pod.finished && pod.node.is_some());
        let Some(record) = &self.record else {
            assert!(live.is_none(), "a pod has a node and no record");
            assert!(self.cloud.enis.is_empty(), "an ENI nothing refers to");
            return;
        };
        assert_eq!(self.cloud.enis.len(), 1, "the record's ENI and no other");
        match live {
            Some(pod) => {
                assert_eq!((record.phase, &record.pod), (Phase::Bind, &pod.uid));
                assert_eq!(Some(&record.node), pod.node.as_ref());
            }
            None => {
                assert!(self.tenure.is_fixed(), "an elastic record without a pod");
                assert_eq!(record.phase, Phase::Unbind);
                assert_eq!(self.cloud.enis[0].status, EniStatus::Available);
            }
        }
    }

    pub(crate) fn wait(&mut self, delay: Duration) {
        self.now = self.now.after(delay);
    }
}
