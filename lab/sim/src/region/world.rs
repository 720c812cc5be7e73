//! The world of a region's life: one queue of events, the cloud, the API server with its watch, and the
//! control plane's machine between them. Nothing happens outside the queue, and every latency comes from
//! the seed.

use std::{collections::BTreeMap, time::Duration};

use engine::cluster::{Action, Cluster, Config, Input};
use model::{PodKey, PodUid, Timestamp, VSwitchId, podnetworking::Labels};

use super::{
    api::{ApiServer, PLANE},
    calls::{Pace, target},
    cloud::Cloud,
    names,
    oracle::Oracle,
    schedule::{Fate, Setup, Step, Target},
};
use crate::{
    queue::{Log, Queue},
    report::{Kind, Report},
    schedule::Schedule,
    world::{Chance, Outcome, START},
};

/// Something due.
#[derive(Debug)]
pub(super) enum Event {
    /// A step of the schedule.
    Step(usize),
    /// A controller starts.
    Boot(u64),
    /// Its machine's deadline.
    Tick,
    /// A call or a write of a life reaches its server.
    Arrive(u64, Box<Action>, Option<Fate>),
    /// An answer, or what the watch tells, reaches a life.
    Input(u64, Box<Input>),
    /// A pod's status names its addresses.
    Report(PodKey, PodUid),
    /// The steps are over: faults end, and the world shall come to rest.
    Calm,
    /// Has it come to rest?
    Look,
}

/// Refusals that follow a lost answer where they do: the waits between them leave a pod time to go.
const REFUSALS: usize = 3;

/// Milliseconds a write of a dead controller may be under way: the API server gives a request up after a
/// minute.
const WRITE_LASTS: u64 = 59_000;

/// What the watch tells of: each in its own order.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    Pods,
    Records,
}

/// A world.
pub(super) struct World {
    pub(super) schedule: Schedule<Setup, Step>,
    pub(super) now: Timestamp,
    pub(super) queue: Queue<Event>,
    pub(super) dice: Chance,
    pub(super) log: Log,
    pub(super) report: Report,
    pub(super) machine: Option<Cluster>,
    pub(super) life: u64,
    pub(super) config: Config,
    pub(super) cloud: Cloud,
    pub(super) api: ApiServer,
    pub(super) oracle: Oracle,
    pub(super) fates: Vec<(Target, Fate)>,
    /// Nothing reaches the cloud before.
    pub(super) outage: Timestamp,
    /// Milliseconds by which the watch is late at most.
    pub(super) late: u64,
    /// Until when each stream of the watch has told.
    told: [Timestamp; 2],
    pub(super) pace: Pace,
    tick: Option<Timestamp>,
    /// Since when faults are over.
    pub(super) calm: Option<Timestamp>,
    /// Since when the world is at rest, and the calls made until then: changes, looks.
    pub(super) rested: Option<(Timestamp, (u64, u64))>,
    /// Whether everything is looked at after every event; off where only the scale matters.
    pub(super) thorough: bool,
    pub(super) finished: bool,
}

/// The vSwitches of every region.
pub(super) fn vswitches() -> Vec<VSwitchId> {
    let names = ["vsw-1", "vsw-2"];
    names
        .map(|id| VSwitchId::new(id).expect("a literal id"))
        .to_vec()
}

pub(super) fn tags() -> BTreeMap<String, String> {
    [("ack.aliyun.com".to_owned(), "c1".to_owned())].into()
}

impl World {
    pub(super) fn new(schedule: Schedule<Setup, Step>, nodes: usize, log: bool) -> Self {
        let setup = schedule.setup.clone();
        let mut config = Config {
            tags: tags(),
            ..Config::default()
        };
        if setup.calls_a_minute > 0 {
            (config.calls_per_minute, config.calls_of) = (setup.calls_a_minute, BTreeMap::new());
        }
        let mut world = Self {
            now: START,
            queue: Queue::new(),
            dice: Chance::new(setup.seed),
            log: Log::new(log),
            report: Report::of(Kind::Region),
            machine: None,
            life: 0,
            cloud: Cloud::new(&setup, tags(), &vswitches()),
            config,
            api: ApiServer::new(nodes, vswitches(), &setup),
            oracle: Oracle::default(),
            fates: Vec::new(),
            outage: START,
            late: 0,
            told: [START; 2],
            pace: Pace::Random,
            tick: None,
            calm: None,
            rested: None,
            thorough: true,
            finished: false,
            schedule,
        };
        world.queue.push(START, Event::Boot(0));
        for (index, step) in world.schedule.steps.iter().enumerate() {
            let at = START.after(Duration::from_millis(step.at));
            world.queue.push(at, Event::Step(index));
        }
        let calm = START.after(Duration::from_secs(setup.length));
        world.queue.push(calm, Event::Calm);
        world
    }

    /// Runs to the end, or to the first violation.
    pub(super) fn run(mut self) -> Outcome {
        while self.oracle.violation.is_none() && !self.finished && self.step() {}
        self.sum_up();
        Outcome {
            violation: self.oracle.violation,
            log: self.log.text(),
            report: self.report,
        }
    }

    /// Takes what others counted into the report.
    pub(super) fn sum_up(&mut self) {
        self.report.minutes = self.now.since(START).as_secs() / 60;
        let calls = self.cloud.calls.iter();
        self.report.calls = calls.map(|(api, calls)| (api.name(), *calls)).collect();
        self.report.throttled = self.cloud.throttled;
    }

    /// Carries out the next event, if there is one.
    pub(super) fn step(&mut self) -> bool {
        let Some((at, event)) = self.queue.pop() else {
            return false;
        };
        self.now = at;
        self.report.events += 1;
        self.cloud.settle(at);
        self.dispatch(event);
        if self.thorough {
            self.oracle.check(self.now, &self.api, &self.cloud);
        }
        true
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Step(index) => {
                if let Some(planned) = self.schedule.steps.get(index).cloned() {
                    self.line(|| format!("step {:?}", planned.step));
                    self.carry_out_step(planned.step);
                }
            }
            Event::Boot(life) if life == self.life => self.boot(),
            Event::Boot(_) => {}
            Event::Tick => self.ticked(),
            Event::Arrive(life, action, fate) => self.arrived(life, *action, fate),
            Event::Input(life, input) if life == self.life => self.tell(*input),
            Event::Input(..) => {}
            Event::Report(key, uid) => {
                let live = self.api.pods.get_mut(&key);
                if let Some(live) = live.filter(|live| live.pod.uid == uid) {
                    live.reported = true;
                    self.watch_pod(&key);
                }
            }
            Event::Calm => self.calm_down(),
            Event::Look => self.look(),
        }
    }

    pub(super) fn line(&mut self, line: impl FnOnce() -> String) {
        self.log.line(self.now, line);
    }

    pub(super) fn after(&mut self, millis: u64, event: Event) {
        let at = self.now.after(Duration::from_millis(millis));
        self.queue.push(at, event);
    }

    /// A controller that knows nothing reads everything.
    pub(super) fn boot(&mut self) {
        self.line(|| "the controller starts".into());
        let seed = self.dice.seed();
        self.machine = Some(Cluster::new(self.config.clone(), seed));
        self.oracle.boot(self.now);
        let nodes = self.api.nodes.iter();
        let nodes = nodes.map(|node| Input::Node(node.name.clone(), Some(node.clone())));
        let networking = Box::new(self.api.networking.clone());
        let rest = [
            Input::Namespace("default".into(), Some(Labels::new())),
            Input::Networking(PLANE.into(), Some(networking)),
        ];
        let pods = self.api.pods.keys().map(|key| self.api.told(key));
        let records = self.api.records.iter();
        let records =
            records.map(|(key, one)| Input::Record(key.clone(), Some(Box::new(one.clone()))));
        let all: Vec<Input> = nodes.chain(rest).chain(pods).chain(records).collect();
        for input in all {
            self.tell(input);
        }
        self.tell(Input::Complete);
    }

    /// The controller dies. A write that left it may still arrive; a call is carried out now or never.
    pub(super) fn crash(&mut self, down: u64) {
        self.line(|| "the controller dies".into());
        self.machine = None;
        self.life += 1;
        let left = |event: &Event| matches!(event, Event::Arrive(..));
        for event in self.queue.take(left) {
            if self.dice.below(2) == 0 {
                continue;
            }
            match event {
                Event::Arrive(_, action, _) if matches!(*action, Action::Call(..)) => {
                    self.carry_out(*action, None);
                }
                late => {
                    let soon = self.dice.below(4) != 0;
                    let wait = if soon {
                        5
                    } else {
                        self.dice.below(WRITE_LASTS)
                    };
                    self.after(wait, late);
                }
            }
        }
        self.after(down, Event::Boot(self.life));
    }

    pub(super) fn tell(&mut self, input: Input) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        names::input(&mut self.report, &input);
        self.log.line(self.now, || format!("<- {input:?}"));
        if self.thorough {
            self.oracle.told(self.now, &input, &self.cloud);
        }
        machine.handle(self.now, input);
        while let Some(action) = self.machine.as_mut().and_then(Cluster::poll_action) {
            names::action(&mut self.report, &action);
            self.log.line(self.now, || format!("-> {action:?}"));
            if self.thorough {
                self.oracle
                    .wanted(self.now, &action, &self.api, &self.cloud);
            }
            if !matches!(action, Action::Notice(_)) {
                self.send(action);
            }
        }
        self.wind();
    }

    /// Sets the clock for the machine's deadline.
    fn wind(&mut self) {
        let machine = self.machine.as_ref();
        let deadline = machine.and_then(|machine| machine.deadline(self.now));
        if let Some(at) = deadline.filter(|at| self.tick.is_none_or(|tick| *at < tick)) {
            let at = at.max(self.now);
            self.tick = Some(at);
            self.queue.push(at, Event::Tick);
        }
    }

    fn ticked(&mut self) {
        if self.tick != Some(self.now) {
            return;
        }
        self.tick = None;
        let deadline = |world: &Self| world.machine.as_ref()?.deadline(world.now);
        if deadline(self).is_some_and(|at| at <= self.now) {
            self.tell(Input::Tick);
            if deadline(self).is_some_and(|at| at <= self.now) {
                let text = "its deadline passed and does not go away";
                self.oracle.fail("the machine does not spin", text);
            }
        } else {
            self.wind();
        }
    }

    fn send(&mut self, action: Action) {
        let target = target(&action);
        let armed = self.fates.iter().position(|(about, _)| *about == target);
        let fate = armed.map(|at| self.fates.remove(at).1);
        if fate == Some(Fate::LostThenRefused) {
            let refusals = [(target, Fate::Refused); REFUSALS];
            self.fates.extend(refusals);
        }
        let there = self.pace.there(target, &mut self.dice);
        self.after(there, Event::Arrive(self.life, Box::new(action), fate));
    }

    fn arrived(&mut self, life: u64, action: Action, fate: Option<Fate>) {
        let cut = self.now < self.outage && target(&action) != Target::Write;
        let fate = if cut { Some(Fate::NeverSent) } else { fate };
        let (input, wait) = self.end(action, fate, life);
        if life == self.life {
            let wait = wait + self.pace.back(&mut self.dice);
            self.after(wait, Event::Input(life, Box::new(input)));
        }
    }

    pub(super) fn watch_pod(&mut self, key: &PodKey) {
        let told = self.api.told(key);
        self.watch(Stream::Pods, told);
    }

    pub(super) fn watch_record(&mut self, key: &PodKey) {
        let record = self.api.records.get(key).cloned().map(Box::new);
        self.watch(Stream::Records, Input::Record(key.clone(), record));
        if let Some((uid, since)) = self.api.start(key) {
            self.report.started(self.now.since(since));
            let wait = 500 + self.dice.below(4_500);
            self.after(wait, Event::Report(key.clone(), uid));
        }
    }

    pub(super) fn watch_networking(&mut self) {
        let networking = Some(Box::new(self.api.networking.clone()));
        self.watch(Stream::Records, Input::Networking(PLANE.into(), networking));
    }

    /// Tells the controller of a change, in the order of its stream; the next one reads everything.
    pub(super) fn watch(&mut self, stream: Stream, input: Input) {
        if self.machine.is_none() {
            return;
        }
        let lag = self.pace.watch(&mut self.dice) + self.dice.below(self.late + 1);
        let told = &mut self.told[stream as usize];
        *told = (*told).max(self.now.after(Duration::from_millis(lag)));
        let at = *told;
        self.queue
            .push(at, Event::Input(self.life, Box::new(input)));
    }
}
