//! The agent around the machine: it carries out actions with the latencies of disk, network and
//! kernel, brings outcomes back, and dies where the schedule says.

use std::time::Duration;

use engine::{
    ledger::{Change, EntryKey},
    node::{
        Action, CloudAnswer, CloudCall, CloudFault, Input, Leftovers, Node, Notice, OpNumber,
        Reply, Standing,
    },
};
use model::{
    AttachmentKey, EniId, FaultClass, Timestamp,
    net::{EniNet, PodNet, PodPlan},
};

use crate::{
    runtime::Later,
    schedule::{CrashPoint, Fate},
    world::{Event, Sent, World},
};

/// What one exchange with the cloud may take before the client gives up (20 s in the product).
const CALL_TIMEOUT: u64 = 20_000;

/// Ticks a machine may ask for in one simulated minute. Every object of a node may be due ten times.
const TICKS_MAX: u32 = 3_000;

/// A change of the kernel under way.
#[derive(Debug, Clone)]
pub(crate) enum KernelWork {
    Eni(EniId, EniNet),
    Apply(AttachmentKey, PodNet),
    Check(AttachmentKey, PodNet),
    Remove(AttachmentKey, PodNet),
    Leftovers(OpNumber, Leftovers),
    Compare(Box<Standing>),
    Mend(AttachmentKey, Box<PodNet>),
}

/// No node of these has pods on ipvlan: how the machine joins them is in its own random lives.
fn veth(plan: PodPlan) -> PodNet {
    match plan {
        PodPlan::Veth(net) => net,
        PodPlan::Ipvlan(pod) => panic!("no scenario asks for ipvlan: {pod:?}"),
    }
}

impl World {
    /// A new life of the agent: from its disk, its kernel, and the runtime that waits.
    pub(crate) fn start_agent(&mut self, node: usize) {
        let seed = self.dice.seed();
        let here = &mut self.nodes[node];
        let ledger = match here.disk.ledger() {
            Ok(ledger) => ledger,
            Err(error) => return self.oracle.fail("what is on disk is a ledger", error),
        };
        let occupied = here.kernel.occupied();
        here.life += 1;
        here.sent.clear();
        self.oracle.forget_throttling(node);
        let here = &mut self.nodes[node];
        here.stepped_back = Duration::ZERO;
        here.machine = Some(Node::new(here.config.clone(), ledger, occupied, seed));
        self.log(|| format!("node {node}: the agent starts"));
        self.feed(node, Input::Tick);
        self.reconnect(node);
    }

    /// The agent is gone; all it had in memory is lost.
    pub(crate) fn crash_agent(&mut self, node: usize, down: u64) {
        let here = &mut self.nodes[node];
        if here.machine.take().is_none() {
            return;
        }
        here.tick = None;
        here.crash = None;
        let life = here.life;
        self.log(|| format!("node {node}: the agent dies"));
        self.connections_broke(node);
        self.after(
            Duration::from_millis(down.max(20)),
            Event::Start(node, life),
        );
    }

    pub(crate) fn tick(&mut self, node: usize) {
        if self.nodes[node].tick != Some(self.now) {
            return;
        }
        self.nodes[node].tick = None;
        let minute = self.now.as_nanos() / 60_000_000_000;
        let ticks = &mut self.nodes[node].ticks;
        *ticks = if ticks.0 == minute {
            (minute, ticks.1 + 1)
        } else {
            (minute, 1)
        };
        if ticks.1 > TICKS_MAX {
            self.oracle.fail(
                "the machine does not spin",
                format!("{TICKS_MAX} ticks in a minute"),
            );
        }
        self.feed(node, Input::Tick);
    }

    /// Hands the machine one input and carries out all it then wants.
    pub(crate) fn feed(&mut self, node: usize, input: Input) {
        if let Input::Cloud(op, answer) = &input
            && let Some(call) = self.nodes[node].sent.remove(op)
        {
            let now = self.nodes[node].time(self.now);
            let throttled = matches!(answer, Err(fault) if fault.class == FaultClass::Throttled);
            self.oracle.throttled(node, &call, throttled.then_some(now));
        }
        let now = self.nodes[node].time(self.now);
        let Some(mut machine) = self.nodes[node].machine.take() else {
            return;
        };
        let back = std::mem::take(&mut self.nodes[node].stepped_back);
        let stepped = (!back.is_zero()).then(|| Input::ClockSteppedBack {
            from: now.after(back),
        });
        for input in stepped.into_iter().chain([input]) {
            self.report.input(&input);
            self.log(|| format!("node {node} <- {}", shown(&format!("{input:?}"))));
            machine.handle(now, input);
        }
        let life = self.nodes[node].life;
        let deadline = loop {
            let Some(action) = machine.poll_action(now) else {
                break machine.deadline(now);
            };
            self.report.action(&action);
            self.log(|| format!("node {node} -> {}", shown(&format!("{action:?}"))));
            if let Some(down) = self.carry_out(node, life, action) {
                // The machine is put back only to be lost: dying needs somebody alive.
                self.nodes[node].machine = Some(machine);
                return self.crash_agent(node, down);
            }
        };
        if self.thorough {
            let here = &self.nodes[node];
            self.oracle
                .ledger(machine.ledger(), &here.kernel, &here.config);
            self.judge_reason(node, &machine);
        }
        self.nodes[node].machine = Some(machine);
        self.schedule_tick(node, deadline);
    }

    fn schedule_tick(&mut self, node: usize, deadline: Option<Timestamp>) {
        let Some(deadline) = deadline else { return };
        let here = &self.nodes[node];
        // As in the product: a deadline that has passed is a millisecond away.
        let at = here
            .when(deadline)
            .max(self.now.after(Duration::from_millis(1)));
        if here.tick.is_none_or(|tick| at < tick || tick < self.now) {
            self.nodes[node].tick = Some(at);
            self.push(at, Event::Tick(node));
        }
    }

    /// Carries out an action; says how long the agent stays dead if it died over it.
    fn carry_out(&mut self, node: usize, life: u64, action: Action) -> Option<u64> {
        match action {
            Action::Persist(batch, changes) => {
                self.oracle.forgets(&changes, &self.nodes[node].disk);
                if let Some(down) = self.nodes[node].dies(CrashPoint::BeforeWrite(0)) {
                    return Some(down);
                }
                let disk = &mut self.nodes[node].disk;
                if disk.refuse > 0 {
                    disk.refuse -= 1;
                    let failed = Input::PersistFailed(batch, "No space left on device".into());
                    self.soon(2, Event::Input(node, life, Box::new(failed)));
                } else {
                    self.soon(3, Event::Written(node, life, batch, changes));
                }
            }
            Action::Cloud(op, call) => {
                if let Some(down) = self.nodes[node].dies(CrashPoint::BeforeCall(0)) {
                    return Some(down);
                }
                self.send(node, life, op, call);
                return self.nodes[node].dies(CrashPoint::AfterCall(0));
            }
            Action::ReadInterfaces(op) => self.soon(15, Event::Metadata(node, life, op)),
            Action::ReadLinks => self.soon(2, Event::Links(node, life)),
            Action::ApplyEni(eni, net) => {
                return self.change_kernel(node, life, KernelWork::Eni(eni, net));
            }
            Action::ApplyPod(_, key, net) => {
                self.attachment_is_durable(node, &key);
                return self.change_kernel(node, life, KernelWork::Apply(key, veth(*net)));
            }
            Action::CheckPod(_, key, net) => {
                return self.change_kernel(node, life, KernelWork::Check(key, veth(*net)));
            }
            Action::RemovePod(key, net) => {
                return self.change_kernel(node, life, KernelWork::Remove(key, veth(*net)));
            }
            Action::Heal(remedy) => return self.heal(node, life, remedy),
            Action::ObserveKernel(op) => self.soon(20, Event::Observe(node, life, op)),
            Action::ListPods(op, _) => self.soon(50, Event::Pods(node, life, op)),
            Action::RemoveLeftovers(op, left) => {
                return self.change_kernel(node, life, KernelWork::Leftovers(op, left));
            }
            Action::Reply(number, reply) => {
                if let Some(asked) = self.nodes[node].runtime.asked.remove(&number) {
                    let attached = matches!(reply, Reply::Attached(_));
                    if attached && self.nodes[node].runtime.is_deleted(&asked) {
                        let text = format!("{asked:?} has an address after its DEL");
                        self.oracle.fail("a deleted sandbox gets no address", text);
                    }
                    let answer = Later::Answer(Box::new((asked, reply)));
                    self.after(Duration::from_micros(100), Event::Runtime(node, answer));
                }
            }
            Action::Notice(notice) => {
                self.report.notice(&notice);
                if let Notice::Exhausted(state) = &notice {
                    self.nodes[node].ran_out = Some(state.clone());
                }
                self.oracle.notice(self.now, &notice);
            }
        }
        None
    }

    fn attachment_is_durable(&mut self, node: usize, key: &AttachmentKey) {
        if !self.nodes[node]
            .disk
            .has(&EntryKey::Attachment(key.clone()))
        {
            let text = format!("{key} is set up in the kernel and not on disk");
            self.oracle
                .fail("a decision is durable before it is carried out", text);
        }
    }

    pub(crate) fn change_kernel(
        &mut self,
        node: usize,
        life: u64,
        work: KernelWork,
    ) -> Option<u64> {
        if let Some(down) = self.nodes[node].dies(CrashPoint::BeforeKernel(0)) {
            return Some(down);
        }
        let took = Duration::from_micros(200 + self.dice.below(8000));
        let mut done = self.now.after(took);
        if !matches!(work, KernelWork::Remove(..)) {
            done = self.now.max(self.nodes[node].set_up_free).after(took);
            self.nodes[node].set_up_free = done;
        }
        self.push(done, Event::Kernel(node, life, Box::new(work)));
        None
    }

    pub(crate) fn kernel_changed(&mut self, node: usize, life: u64, work: KernelWork) {
        if !self.alive(node, life) {
            return;
        }
        let now = self.nodes[node].time(self.now);
        let kernel = &mut self.nodes[node].kernel;
        let input = match work {
            KernelWork::Eni(eni, net) => {
                let result = kernel.apply_eni(&eni, &net);
                Input::EniApplied(eni, result)
            }
            KernelWork::Apply(key, net) => {
                let result = kernel.apply(&key, &net);
                Input::PodApplied(key, result)
            }
            KernelWork::Check(key, net) => {
                let result = kernel.check(&key, &net);
                Input::PodChecked(key, result)
            }
            KernelWork::Leftovers(op, left) => {
                Input::LeftoversRemoved(op, kernel.remove_leftovers(&left))
            }
            KernelWork::Compare(standing) => Input::Heal(kernel.compare(*standing)),
            KernelWork::Mend(key, net) => Input::Heal(kernel.mend(key, &net)),
            KernelWork::Remove(key, net) => {
                let machine = self.nodes[node].machine.as_ref();
                let pod = machine
                    .and_then(|machine| Some(machine.ledger().attachment(&key)?.pod.clone()));
                let result = self.nodes[node].kernel.remove(&key, &net);
                if let (Ok(()), Some(pod)) = (&result, pod) {
                    for entry in &net.pod_addresses {
                        self.oracle
                            .released(node, entry.address.addr(), now, pod.clone());
                    }
                }
                Input::PodRemoved(key, result)
            }
        };
        match self.nodes[node].dies(CrashPoint::AfterKernel(0)) {
            Some(down) => self.crash_agent(node, down),
            None => self.feed(node, input),
        }
    }

    pub(crate) fn written(&mut self, node: usize, life: u64, batch: u64, changes: &[Change]) {
        if !self.alive(node, life) {
            // The agent died while the disk was at it: all of the batch got there, or nothing.
            if self.nodes[node].life == life && self.dice.below(2) == 0 {
                self.nodes[node].disk.write(changes);
            }
            return;
        }
        self.nodes[node].disk.write(changes);
        match self.nodes[node].dies(CrashPoint::AfterWrite(0)) {
            Some(down) => self.crash_agent(node, down),
            None => self.feed(node, Input::Persisted(batch)),
        }
    }

    fn send(&mut self, node: usize, life: u64, op: OpNumber, call: CloudCall) {
        let now = self.nodes[node].time(self.now);
        let here = &mut self.nodes[node];
        // What gives back ends when there is nothing left to give.
        let gives_back = matches!(
            call,
            CloudCall::UnassignAddresses(..) | CloudCall::DetachEni(_) | CloudCall::DeleteEni(_)
        );
        here.calls += u64::from(!gives_back);
        self.oracle
            .call((node, now), &call, &here.disk, &here.config);
        if here.sent.len() > 64 {
            here.sent.pop_first();
        }
        here.sent.insert(op, call.clone());
        let fate = here.fates.pop_front();
        let mut sent = Sent {
            node,
            life,
            op,
            call,
            answer: Some(0),
            answer_twice: false,
            answer_lost: false,
        };
        let mut way = 2 + self.dice.below(25);
        let safe = has_token(&sent.call);
        match fate {
            _ if self.outage > self.now => return self.no_answer(&sent, 1000),
            Some(Fate::NeverSent) => return self.no_answer(&sent, CALL_TIMEOUT),
            Some(Fate::AnswerLost) => sent.answer_lost = true,
            Some(Fate::AnswerLate(millis)) => sent.answer = Some(millis),
            Some(Fate::CallLate(millis)) => {
                way += match safe {
                    true => millis,
                    false => millis.min(CALL_TIMEOUT / 2),
                };
                if way > CALL_TIMEOUT {
                    sent.answer = None;
                    self.no_answer(&sent, CALL_TIMEOUT);
                }
            }
            Some(Fate::CallTwice) => {
                let mut twin = sent.clone();
                twin.answer = None;
                let later = match safe {
                    true => 1 + self.dice.below(4000),
                    false => 1,
                };
                let delay = Duration::from_millis(way + later);
                self.after(delay, Event::Call(Box::new(twin)));
            }
            Some(Fate::AnswerTwice) => sent.answer_twice = true,
            None => {}
        }
        self.after(Duration::from_millis(way), Event::Call(Box::new(sent)));
    }

    fn no_answer(&mut self, sent: &Sent, millis: u64) {
        let text = "no answer before the deadline".into();
        let result = Err(CloudFault {
            class: FaultClass::Unknown,
            text,
        });
        let input = Box::new(Input::Cloud(sent.op, result));
        self.after(
            Duration::from_millis(millis),
            Event::Input(sent.node, sent.life, input),
        );
    }

    pub(crate) fn call_arrived(&mut self, sent: Sent) {
        let here = &self.nodes[sent.node];
        if here.machine.is_some() && here.life != sent.life && !has_token(&sent.call) {
            return;
        }
        let instance = self.nodes[sent.node].config.instance.clone();
        let result = self.cloud.carry_out(self.now, &instance, &sent.call);
        self.log(|| {
            format!(
                "node {} cloud {:?} = {}",
                sent.node,
                sent.op,
                shown(&format!("{result:?}"))
            )
        });
        if let Ok(answer) = &result {
            self.granted(&sent, answer);
        }
        self.follow_region();
        let Some(late) = sent.answer else { return };
        let millis = 3 + self.dice.below(60) + late;
        if sent.answer_lost || millis > CALL_TIMEOUT {
            return self.no_answer(&sent, CALL_TIMEOUT.min(1000 + late));
        }
        let input = Box::new(Input::Cloud(sent.op, result));
        let event = Event::Input(sent.node, sent.life, input);
        if sent.answer_twice {
            self.after(Duration::from_millis(millis + 500), event.clone());
        }
        self.after(Duration::from_millis(millis), event);
    }

    /// What is granted under a token that is on no disk any more is known to nobody: a ledger was lost,
    /// or a call arrived after it had been refused: a second copy of it, or one of an agent that died.
    fn granted(&mut self, sent: &Sent, answer: &CloudAnswer) {
        let (CloudCall::CreateEni(token, _)
        | CloudCall::AssignAddresses(token, ..)
        | CloudCall::AssignPrefixes(token, ..)) = &sent.call
        else {
            return;
        };
        let here = &self.nodes[sent.node];
        if here.disk.has_intent(token) {
            return;
        }
        let copy = sent.answer.is_none() && !self.cloud.repeats;
        self.oracle.misled |= here.life != sent.life || copy;
        if let CloudAnswer::Created(eni) = answer
            && !here.disk.has(&EntryKey::Eni(eni.id.clone()))
            && self.oracle.misled
        {
            self.oracle.abandoned.insert(eni.id.clone());
        }
    }

    pub(crate) fn list_pods(&mut self, node: usize, life: u64, op: OpNumber) {
        let pods = self.listed(node);
        let deaf = &mut self.nodes[node].deaf;
        let result = if *deaf > 0 {
            Err("no answer".into())
        } else {
            Ok(pods)
        };
        *deaf = deaf.saturating_sub(1);
        if self.alive(node, life) {
            self.feed(node, Input::Pods(op, result));
        }
    }

    pub(crate) fn metadata_read(&mut self, node: usize, life: u64, op: OpNumber) {
        if !self.alive(node, life) {
            return;
        }
        let instance = self.nodes[node].config.instance.clone();
        let interfaces = self.cloud.interfaces(self.now, &instance);
        for interface in &interfaces {
            self.oracle.shown(interface);
        }
        self.feed(node, Input::Interfaces(op, Ok(interfaces)));
    }
}

/// The beginning of a long text.
fn shown(text: &str) -> String {
    text.chars().take(400).collect()
}

/// Whether the call may be carried out whenever it arrives. What has no token never is after its client
/// gave up, had its answer or began another life: no agent could tell such a call from a foreigner's.
fn has_token(call: &CloudCall) -> bool {
    matches!(
        call,
        CloudCall::CreateEni(..) | CloudCall::AssignAddresses(..) | CloudCall::AssignPrefixes(..)
    )
}
