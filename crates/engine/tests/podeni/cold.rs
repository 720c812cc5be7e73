//! Many trunk pods at once on nodes that have none of their ENIs, against a cloud that counts calls by the
//! minute. Virtual time; every call takes as long as the cloud's own take on a quiet day.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use engine::{
    budget::Api,
    cluster::{Action, Cluster, ClusterPod, Config, Input, Store},
    podeni::{Call, Fault, Pod},
};
use model::{
    FaultClass, PodKey, PodUid, Timestamp, VSwitch, VSwitchId, ZoneId,
    podeni::{Phase, PodEni},
    podnetworking::Tenure,
};

use crate::{
    cloud::{Cloud, MOVES},
    world::{network, node},
};

/// A call that makes something, one that looks, a write of the API server.
const CALL: Duration = Duration::from_millis(400);
const LOOK: Duration = Duration::from_millis(200);
const WRITE: Duration = Duration::from_millis(10);

const MINUTE: Duration = Duration::from_secs(60);

/// What came of a cold start.
pub(crate) struct Outcome {
    /// How long until the last pod was bound.
    pub(crate) took: Duration,
    /// The shortest time the windows of each API allow for the calls that were let through.
    pub(crate) bounds: BTreeMap<Api, Duration>,
    /// Calls by API, those refused for their number included.
    pub(crate) calls: BTreeMap<Api, u32>,
    /// Calls refused for their number.
    pub(crate) throttled: u32,
}

struct World {
    now: Timestamp,
    machine: Cluster,
    cloud: Cloud,
    config: Config,
    /// What ends when, in order.
    ends: BinaryHeap<Reverse<(Timestamp, u64)>>,
    actions: BTreeMap<u64, Action>,
    serial: u64,
    bound: usize,
    windows: BTreeMap<(Api, u64), u32>,
    calls: BTreeMap<Api, u32>,
    throttled: u32,
}

/// Brings up `pods` pods on `nodes` nodes.
pub(crate) fn start(pods: usize, nodes: usize) -> Outcome {
    // Some seconds into one of the cloud's minutes, of which the machine does not know.
    let began = Timestamp::EPOCH.after(Duration::from_secs(1_000_017));
    let config = Config::default();
    let mut world = World {
        now: began,
        machine: Cluster::new(config.clone(), 1),
        cloud: Cloud::default(),
        config,
        ends: BinaryHeap::new(),
        actions: BTreeMap::new(),
        serial: 0,
        bound: 0,
        windows: BTreeMap::new(),
        calls: BTreeMap::new(),
        throttled: 0,
    };
    for at in 0..nodes {
        let node = node(&format!("n{at}"));
        world.tell(Input::Node(node.name.clone(), Some(node)));
    }
    world.tell(Input::Complete);
    for at in 0..pods {
        let key = PodKey::new("default", format!("p{at}")).unwrap();
        let pod = Pod {
            key: key.clone(),
            uid: PodUid::new(format!("uid-{at}")).unwrap(),
            node: Some(format!("n{}", at % nodes)),
            finished: false,
            stable_name: false,
            networks: vec![network(Tenure::Elastic, vec![vsw()])],
        };
        let told = ClusterPod {
            pod,
            labels: BTreeMap::new(),
            exempt: false,
            complaint: None,
            addresses: [].into(),
        };
        world.tell(Input::Pod(key, Some(Box::new(told))));
    }
    let took = world.run(pods).since(began);
    let bounds = world.calls.iter().map(|(api, calls)| {
        let full_windows =
            calls.saturating_sub(world.throttled).saturating_sub(1) / world.config.calls(*api);
        (*api, MINUTE * full_windows)
    });
    Outcome {
        took,
        bounds: bounds.collect(),
        calls: world.calls.clone(),
        throttled: world.throttled,
    }
}

fn vsw() -> VSwitchId {
    VSwitchId::new("vsw-1").unwrap()
}

impl World {
    fn tell(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        while let Some(action) = self.machine.poll_action() {
            let lasts = match action {
                Action::Call(..) => CALL,
                Action::Look(..) | Action::DescribeVSwitches(..) | Action::ListEnis(_) => LOOK,
                Action::Store(..) | Action::Resolve(..) => WRITE,
                Action::Notice(_) => continue,
            };
            self.serial += 1;
            self.ends
                .push(Reverse((self.now.after(lasts), self.serial)));
            self.actions.insert(self.serial, action);
        }
    }

    fn run(&mut self, pods: usize) -> Timestamp {
        loop {
            if self.bound == pods {
                return self.now;
            }
            let end = self.ends.peek().map(|Reverse((at, _))| *at);
            let tick = self.machine.deadline(self.now);
            let next = end.into_iter().chain(tick).min();
            self.now = next.expect("something is to come").max(self.now);
            self.cloud.settle(self.now);
            match self.ends.pop_if_due(self.now) {
                Some(serial) => {
                    let action = self.actions.remove(&serial).expect("it was put there");
                    let input = self.end(action);
                    self.tell(input);
                }
                None => self.tell(Input::Tick),
            }
        }
    }

    /// Whether the cloud lets a call through.
    fn counted(&mut self, api: Api) -> Result<(), Fault> {
        *self.calls.entry(api).or_default() += 1;
        let minute = self.now.since(Timestamp::EPOCH).as_secs() / 60;
        let used = self.windows.entry((api, minute)).or_default();
        *used += 1;
        if *used <= self.config.calls(api) {
            return Ok(());
        }
        self.throttled += 1;
        Err(refused(FaultClass::Throttled))
    }

    fn end(&mut self, action: Action) -> Input {
        match action {
            Action::Store(key, store) => {
                let record = match store {
                    Store::Create(record) => PodEni {
                        uid: format!("uid-of-{key}"),
                        ..*record
                    },
                    Store::Write(record) => *record,
                    other => panic!("nothing is taken away: {other:?}"),
                };
                self.bound += usize::from(record.phase == Phase::Bind);
                Input::Written(key, Ok(Some(Box::new(record))))
            }
            Action::Call(op, call) => {
                let api = match call {
                    Call::Create(_) => Api::CreateNetworkInterface,
                    _ => Api::AttachNetworkInterface,
                };
                let now = self.now;
                let result = self.counted(api).and_then(|()| {
                    let done = self.cloud.carry_out(now, &call);
                    done.map_err(refused)
                });
                Input::Called(op, result)
            }
            Action::Look(op, ids) => {
                let let_through = self.counted(Api::DescribeNetworkInterfaces);
                let seen = ids.into_iter().filter_map(|id| {
                    let eni = self.cloud.seen(&id);
                    let trunk = id
                        .as_str()
                        .starts_with("eni-trunk")
                        .then(crate::cluster::trunk);
                    Some((id, eni.or(trunk)?))
                });
                Input::Looked(op, let_through.map(|()| seen.collect()))
            }
            Action::DescribeVSwitches(op, _) => {
                let let_through = self.counted(Api::DescribeVSwitches);
                let vswitch = VSwitch {
                    id: vsw(),
                    zone: ZoneId::new("z-a").unwrap(),
                    available_addresses: 60_000,
                    cidr: "10.0.0.0/16".parse().unwrap(),
                    ipv6_cidr: None,
                };
                Input::VSwitches(op, let_through.map(|()| vec![vswitch]))
            }
            Action::ListEnis(op) => {
                let let_through = self.counted(Api::DescribeNetworkInterfaces);
                Input::Listed(op, let_through.map(|()| Vec::new()))
            }
            Action::Resolve(name, _) => Input::Resolved(name, Ok(())),
            Action::Notice(_) => unreachable!("not put there"),
        }
    }
}

fn refused(class: FaultClass) -> Fault {
    Fault {
        class,
        text: class.to_string(),
    }
}

/// The next that is due.
trait Due {
    fn pop_if_due(&mut self, now: Timestamp) -> Option<u64>;
}

impl Due for BinaryHeap<Reverse<(Timestamp, u64)>> {
    fn pop_if_due(&mut self, now: Timestamp) -> Option<u64> {
        let due = self.peek().is_some_and(|Reverse((at, _))| *at <= now);
        let Reverse((_, serial)) = due.then(|| self.pop()).flatten()?;
        Some(serial)
    }
}

/// What one pod takes on its own, from its node being known to its ENI being bound.
pub(crate) fn alone() -> Duration {
    // Looking at the vSwitch, then record, ENI, id, attach; the look that sees it, the last write.
    LOOK + WRITE * 3 + CALL * 2 + MOVES + LOOK
}
