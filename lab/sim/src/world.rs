//! The world of a run: one queue of events in order of time, the cloud, the nodes, and whoever
//! watches. Nothing happens outside the queue, and every latency comes from the seed.

use std::{collections::BTreeSet, time::Duration};

use cloudsim::Effect;
use engine::{
    ledger::Change,
    node::{CloudCall, Input, OpNumber},
    retry::Dice,
};
use model::{EniId, Mac, Timestamp};

use crate::{
    agent::KernelWork,
    cloud::Cloud,
    node::SimNode,
    oracle::{Oracle, Violation},
    plan::ENOUGH_PREFIXES,
    queue::{Log, Queue},
    report::Report,
    rest::Rest,
    runtime::Later,
    schedule::{Planned, Schedule, Step},
};

/// 2026-11-22T22:06:00Z: where simulated time starts.
pub(crate) const START: Timestamp = Timestamp::from_nanos(1_795_385_160_000_000_000);

/// Something due.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A step of the schedule.
    Step(usize),
    /// A machine's deadline.
    Tick(usize),
    /// An outcome reaches a life of an agent.
    Input(usize, u64, Box<Input>),
    /// A write of the ledger ends.
    Written(usize, u64, u64, Vec<Change>),
    /// A call reaches the cloud.
    Call(Box<Sent>),
    /// Metadata is read.
    Metadata(usize, u64, OpNumber),
    /// The kernel is looked at.
    Observe(usize, u64, OpNumber),
    /// The API server lists pods.
    Pods(usize, u64, OpNumber),
    /// The kernel is changed.
    Kernel(usize, u64, Box<KernelWork>),
    /// The kernel's links are listed.
    Links(usize, u64),
    /// An agent starts.
    Start(usize, u64),
    /// Something of the runtime.
    Runtime(usize, Later),
    /// Something of the region is due.
    Region,
    /// An ENI's link appears on its host.
    Link(usize, EniId, Mac),
    /// The steps are over: faults end, and the world shall come to rest.
    Calm,
    /// Has it come to rest?
    Look(Rest),
}

/// A call on its way.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) node: usize,
    pub(crate) life: u64,
    pub(crate) op: OpNumber,
    pub(crate) call: CloudCall,
    /// Milliseconds the answer is late; nobody waits for it when absent.
    pub(crate) answer: Option<u64>,
    pub(crate) answer_twice: bool,
    pub(crate) answer_lost: bool,
}

/// Numbers below a bound from the seed.
#[derive(Debug)]
pub(crate) struct Chance(Dice);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Dice::new(seed))
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.roll() % bound.max(1)
    }

    pub(crate) fn seed(&mut self) -> u64 {
        self.0.roll()
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The first oracle that was tripped.
    pub violation: Option<Violation>,
    /// What happened, when a log was asked for.
    pub log: String,
    /// Figures.
    pub report: Report,
}

/// A world.
pub(crate) struct World {
    pub(crate) schedule: Schedule,
    pub(crate) now: Timestamp,
    queue: Queue<Event>,
    pub(crate) dice: Chance,
    pub(crate) cloud: Cloud,
    pub(crate) nodes: Vec<SimNode>,
    pub(crate) oracle: Oracle,
    pub(crate) report: Report,
    /// Nothing reaches the cloud before.
    pub(crate) outage: Timestamp,
    region_at: Option<Timestamp>,
    log: Log,
    /// Whether the ledger is looked at after every event; off where only the scale matters.
    pub(crate) thorough: bool,
    /// There is nothing more to see.
    pub(crate) finished: bool,
}

impl World {
    pub(crate) fn new(schedule: Schedule, log: bool) -> anyhow::Result<Self> {
        let setup = schedule.setup.clone();
        let mut world = Self {
            now: START,
            queue: Queue::new(),
            dice: Chance::new(setup.seed),
            cloud: Cloud::new(&setup)?,
            nodes: Vec::new(),
            oracle: Oracle::default(),
            report: Report::default(),
            outage: START,
            region_at: None,
            log: Log::new(log),
            thorough: true,
            finished: false,
            schedule,
        };
        // First, so that of one time a step comes before all else.
        for (index, step) in world.schedule.steps.iter().enumerate() {
            let at = START.after(Duration::from_millis(step.at));
            world.queue.push(at, Event::Step(index));
        }
        for number in 0..setup.nodes {
            let node = SimNode::new(&setup, number, &mut world.cloud, START)?;
            for _ in 0..setup.foreign {
                let eni = world.cloud.foreign(START, &node.config.instance)?;
                world.oracle.foreign.insert(eni);
            }
            world.nodes.push(node);
            world.push(
                START.after(Duration::from_millis(10)),
                Event::Start(number, 0),
            );
        }
        let calm = START.after(Duration::from_secs(setup.length));
        world.push(calm, Event::Calm);
        world.oracle.roomy = world.roomy();
        world.follow_region();
        Ok(world)
    }

    fn roomy(&self) -> bool {
        let created = |planned: &Planned| match planned.step {
            Step::Create(_, pod, _) => Some(pod),
            _ => None,
        };
        let pods: BTreeSet<u16> = self.schedule.steps.iter().filter_map(created).collect();
        let wide = self.schedule.setup.vswitches.iter().all(|bits| *bits <= 24);
        let enough = self.schedule.setup.prefixes;
        let enough = enough.is_none_or(|prefixes| prefixes >= ENOUGH_PREFIXES);
        wide && enough
            && self.nodes.iter().all(|node| {
                let most = node.config.enis_max * node.config.limits.ipv4_per_eni;
                pods.len() * 2 <= most as usize
            })
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(mut self) -> Outcome {
        while self.oracle.violation.is_none() && !self.finished && self.step() {}
        self.sum_up();
        Outcome {
            violation: self.oracle.violation,
            log: self.log.text(),
            report: self.report,
        }
    }

    /// Takes what others counted into the report.
    pub(crate) fn sum_up(&mut self) {
        self.report.minutes = self.now.since(START).as_secs() / 60;
        self.report.calls = self.cloud.calls.clone();
        self.report.throttled = self.cloud.throttled;
    }

    /// Carries out the next event, if there is one.
    pub(crate) fn step(&mut self) -> bool {
        let Some((at, event)) = self.queue.pop() else {
            return false;
        };
        self.now = at;
        self.report.events += 1;
        self.dispatch(event);
        true
    }

    pub(crate) fn push(&mut self, at: Timestamp, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.push(self.now.after(delay), event);
    }

    /// After a few hundred microseconds to `millis_max` milliseconds.
    pub(crate) fn soon(&mut self, millis_max: u64, event: Event) {
        let micros = 200 + self.dice.below(millis_max * 1000);
        self.after(Duration::from_micros(micros), event);
    }

    pub(crate) fn log(&mut self, line: impl FnOnce() -> String) {
        self.log.line(self.now, line);
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Step(index) => {
                if let Some(planned) = self.schedule.steps.get(index).cloned() {
                    self.log(|| format!("step {:?}", planned.step));
                    self.carry_out_step(planned.step);
                }
            }
            Event::Tick(node) => self.tick(node),
            Event::Input(node, life, input) => self.input(node, life, *input),
            Event::Written(node, life, batch, changes) => self.written(node, life, batch, &changes),
            Event::Call(sent) => self.call_arrived(*sent),
            Event::Metadata(node, life, op) => self.metadata_read(node, life, op),
            Event::Observe(node, life, op) => {
                let view = self.nodes[node].kernel.view();
                self.input(node, life, Input::Kernel(op, Ok(view)));
            }
            Event::Pods(node, life, op) => self.list_pods(node, life, op),
            Event::Kernel(node, life, work) => self.kernel_changed(node, life, *work),
            Event::Links(node, life) => {
                if self.alive(node, life) {
                    self.nodes[node].relinked = false;
                }
                let links = self.nodes[node].kernel.links();
                self.input(node, life, Input::Links(links));
            }
            Event::Start(node, life) => {
                if self.nodes[node].machine.is_none() && self.nodes[node].life == life {
                    self.start_agent(node);
                }
            }
            Event::Runtime(node, what) => self.runtime(node, what),
            Event::Region => {
                self.region_at = None;
                self.cloud.region.advance(self.now);
                self.follow_region();
            }
            Event::Link(node, eni, mac) => {
                self.nodes[node].kernel.plug(&eni, mac);
                let life = self.nodes[node].life;
                // Notifications get lost now and then; the machine looks by itself.
                if self.dice.below(4) != 0 {
                    self.soon(5, Event::Links(node, life));
                }
            }
            Event::Calm => self.calm(),
            Event::Look(rest) => self.look(rest),
        }
    }

    fn input(&mut self, node: usize, life: u64, input: Input) {
        if self.alive(node, life) {
            self.feed(node, input);
        }
    }

    pub(crate) fn alive(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.nodes[node].machine.is_some()
    }

    /// Takes what the region did to kernels and to the truth about addresses.
    pub(crate) fn follow_region(&mut self) {
        self.follow(true);
    }

    pub(crate) fn follow(&mut self, orderly: bool) {
        for effect in self.cloud.effects() {
            self.log(|| format!("region {effect:?}"));
            self.oracle.effect(&effect, orderly);
            match effect {
                Effect::Plug {
                    eni, mac, instance, ..
                } => {
                    let host = self
                        .nodes
                        .iter()
                        .position(|node| node.config.instance == instance);
                    if let Some(node) = host {
                        let delay = self.nodes[node].link_delay;
                        self.after(delay, Event::Link(node, eni, mac));
                    }
                }
                Effect::Unplug { eni, instance } => {
                    let host = self
                        .nodes
                        .iter()
                        .position(|node| node.config.instance == instance);
                    if let Some(node) = host {
                        self.nodes[node].kernel.unplug(&eni);
                        let life = self.nodes[node].life;
                        self.soon(5, Event::Links(node, life));
                    }
                }
                // A member has no link.
                Effect::PlugMember { .. }
                | Effect::Own { .. }
                | Effect::Disown { .. }
                | Effect::SourceDestCheck { .. }
                | Effect::Join { .. }
                | Effect::Group(_)
                | Effect::GroupGone(_)
                | Effect::Route { .. }
                | Effect::Unroute { .. } => {}
            }
        }
        let due = self.cloud.region.deadline();
        if let Some(due) = due.filter(|due| self.region_at.is_none_or(|at| *due < at)) {
            self.region_at = Some(due);
            self.push(due, Event::Region);
        }
        self.judge_cloud();
    }

    fn judge_cloud(&mut self) {
        // Many nodes together cannot know each other's calls: that is for the figures, not for an oracle.
        let few = self.nodes.len() <= 4;
        if let Some(text) = self.cloud.over.take().filter(|_| few) {
            self.oracle
                .fail("never over the cloud's window by ourselves", text);
        }
        if let Some(text) = self.cloud.token_twice.take() {
            self.oracle.fail("a token is for one call", text);
        }
        if let Some(text) = self.cloud.quota.take().filter(|_| !self.oracle.misled) {
            self.oracle.fail("never over a quota", text);
        }
    }
}
