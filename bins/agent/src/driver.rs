//! Drives the node machine: takes inputs from everywhere, writes the ledger, and hands each action to
//! whoever carries it out.
//!
//! One thread, no locks. It alone owns the machine and the store; a write of the store blocks it for
//! one sync of the disk, and everything that arrives meanwhile goes into the next write together.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    time::{Duration, Instant},
};

use cloud::Metadata;
use engine::{
    ledger::Change,
    node::{
        Action, AddRequest, Attached, CloudCall, Config, Failure, FailureKind, Input, OpNumber,
        Remedy, Reply as EngineReply, RequestNumber,
    },
    recording::Recorded,
};
use model::{AttachmentKey, PodKey};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot, watch},
};
use wire::{
    cni::{Code, Error},
    message::{Reply, Request, Verb},
    socket::Connection,
    tombstone::{self, Tombstone},
};

use crate::{
    calls::{self, Cloud},
    card::Card,
    clock::Clock,
    facts::Known,
    health::Health,
    keeper::Keeper,
    kernel::{PodDescriptors, Programs, Work},
    metrics::Metrics,
    notices::Notices,
    observe::Observation,
    plugin::{self, Caller, now},
    pods::{Expected, Pods},
    result,
    trunk::Seen,
};

/// Inputs that may wait for the driver: each connection has one at the most, each ENI and cloud call
/// one more.
pub(crate) const QUEUE_MAX: usize = 2048;

/// How often tombstones are looked for: a DEL that found no agent waits this long for its clean-up
/// when the agent came back in between.
const TOMBSTONE_PERIOD: Duration = Duration::from_secs(5);

/// Cloud calls of one node under way at once. Each ENI has at most one, and a node's share of the
/// account's budget is small.
const CALLS_MAX: usize = 8;

/// What the driver is told.
pub(crate) enum Message {
    Input(Input),
    Asked(Box<Asked>),
    Configured(Box<Config>, Known),
    Observe(oneshot::Sender<Box<Observation>>),
    /// What was recorded of the machine.
    Dump(SyncSender<Vec<u8>>),
}

/// A request of the plugin.
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) descriptors: Option<PodDescriptors>,
    pub(crate) connection: Connection,
    pub(crate) received: Instant,
    /// What is known of the pod of an ADD.
    pub(crate) expected: Expected,
}

/// Who waits for an answer.
enum Asker {
    Plugin(Caller),
    Tombstone(Tombstone),
}

/// Everything the driver needs.
pub(crate) struct Driver {
    pub(crate) node: Recorded,
    pub(crate) keeper: Keeper,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) outbox: SyncSender<Message>,
    pub(crate) set_up: SyncSender<Work>,
    pub(crate) take_down: SyncSender<Work>,
    pub(crate) runtime: Handle,
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) notices: Notices,
    pub(crate) tombstones: PathBuf,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) card: Card,
    pub(crate) pods: Arc<Pods>,
    /// What the cluster is to know of the node's trunk.
    pub(crate) trunk: watch::Sender<Seen>,
    /// The filters at the ENIs, for what the trunk's counted.
    pub(crate) programs: Arc<Programs>,
}

struct Running {
    driver: Driver,
    clock: Clock,
    calls: Arc<Semaphore>,
    askers: BTreeMap<RequestNumber, Asker>,
    descriptors: BTreeMap<RequestNumber, PodDescriptors>,
    /// What came with the DELs that are not answered yet.
    handed: BTreeMap<AttachmentKey, (RequestNumber, PodDescriptors)>,
    last: u64,
    tombstones_at: Instant,
}

impl Driver {
    /// Runs until nobody can send inputs any more, which is when the agent ends.
    pub(crate) fn run(self) {
        let mut running = Running {
            driver: self,
            clock: Clock::default(),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            askers: BTreeMap::new(),
            descriptors: BTreeMap::new(),
            handed: BTreeMap::new(),
            last: 0,
            tombstones_at: Instant::now(),
        };
        running.tell(Input::Tick);
        loop {
            running.act();
            running.show_trunk();
            if running.tombstones_at <= Instant::now() {
                running.settle_tombstones();
                continue;
            }
            let message = match running.driver.inbox.recv_timeout(running.patience()) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => Message::Input(Input::Tick),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            running.take(message);
            // Whatever else is there goes into the same write of the ledger.
            while let Ok(message) = running.driver.inbox.try_recv() {
                running.take(message);
            }
        }
    }
}

impl Running {
    fn patience(&self) -> Duration {
        let now = now();
        let machine = self.driver.node.deadline(now).map(|at| at.since(now));
        let tombstones = self.tombstones_at.saturating_duration_since(Instant::now());
        // A deadline that has just passed is a millisecond away, so that a machine that asks for the
        // past cannot spin.
        machine
            .unwrap_or(tombstones)
            .min(tombstones)
            .max(Duration::from_millis(1))
    }

    /// Gives the machine an input, and before it what happened to the clock.
    fn tell(&mut self, input: Input) {
        let now = now();
        if let Some(from) = self.clock.stepped_back(now, Instant::now()) {
            tracing::warn!(%from, %now, "the node's clock stepped back");
            self.driver
                .node
                .handle(now, Input::ClockSteppedBack { from });
        }
        self.driver.node.handle(now, input);
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Input(input) => self.tell(input),
            Message::Asked(asked) => self.asked(*asked),
            Message::Configured(config, known) => {
                if let Err(error) = self.driver.keeper.store().keep(&config, &known) {
                    tracing::error!(error = %crate::cause::chain(&error), "keeping the configuration");
                }
                self.driver.card.configured(&config, &known);
                self.tell(Input::Configured(config));
            }
            Message::Dump(answer) => {
                // Whoever asked may have given up.
                let _ = answer.try_send(self.driver.node.recording());
            }
            Message::Observe(answer) => {
                // Whoever asked may have given up.
                let _ = answer.send(Box::new(self.observation()));
            }
        }
    }

    fn observation(&self) -> Observation {
        let (node, now) = (&self.driver.node, now());
        Observation {
            view: node.view(now),
            limits: self.driver.card.limits(),
            cloud_failure: node.last_cloud_failure().cloned(),
            notices: self.driver.notices.counts(),
            // What cannot be read is left out, as there is no trunk.
            frames: self.driver.programs.trunk.counters().ok().flatten(),
        }
    }

    fn show_trunk(&self) {
        let driver = &self.driver;
        let node = &driver.node;
        let seen = driver.card.trunk(
            node.trunk(),
            node.has_pod_enis(),
            node.ledger().enis().count(),
        );
        driver.trunk.send_if_modified(|shown| {
            let changed = *shown != seen;
            *shown = seen;
            changed
        });
    }

    fn number(&mut self) -> RequestNumber {
        self.last += 1;
        RequestNumber(self.last)
    }

    fn asked(&mut self, asked: Asked) {
        let Asked {
            request,
            mut descriptors,
            connection,
            received,
            expected,
        } = asked;
        let number = self.number();
        let started = request.started;
        let verb = verb_name(&request.verb);
        let input = match request.verb {
            Verb::Add {
                key,
                pod,
                uid,
                netns,
                mtu,
                host_stack,
                runtime,
            } => {
                if let Some(error) = self.no_ledger() {
                    plugin::answer(&connection, &error.clone().into());
                    let input = Input::Refused(pod, error.to_string());
                    return self.tell(input);
                }
                if runtime.ingress_rate > 0 || runtime.egress_rate > 0 {
                    tracing::warn!(%pod, "bandwidth limits are not applied by this release");
                }
                let deadline = started.after(request.patience);
                let Expected {
                    uid: found,
                    sticky,
                    trunk,
                } = expected;
                Input::Add(
                    number,
                    Box::new(AddRequest {
                        key,
                        pod,
                        uid: uid.or(found),
                        netns,
                        started,
                        deadline,
                        mtu,
                        sticky,
                        trunk,
                        host_stack,
                    }),
                )
            }
            Verb::Del { key } => {
                let handed = descriptors.take().map(|it| (number, it));
                self.handed.extend(handed.map(|it| (key.clone(), it)));
                Input::Del {
                    request: Some(number),
                    key,
                    started,
                }
            }
            Verb::Check { key } => Input::Check(number, key),
            Verb::Gc { valid } => Input::Gc {
                request: number,
                started,
                valid,
            },
            Verb::Status | Verb::View | Verb::Explain { .. } | Verb::HandOver | Verb::Dump => {
                return plugin::answer(&connection, &self.look(request.verb));
            }
        };
        let caller = Caller {
            connection,
            verb,
            started,
            received,
        };
        self.askers.insert(number, Asker::Plugin(caller));
        if let Some(descriptors) = descriptors {
            self.descriptors.insert(number, descriptors);
        }
        self.tell(input);
    }

    /// Answers a verb that changes nothing.
    fn look(&self, verb: Verb) -> Reply {
        match verb {
            Verb::Status => match self.driver.health.not_ready() {
                None => Reply::Done,
                Some(why) => Error::new(Code::NotAvailable, why).into(),
            },
            Verb::Explain { pod } => {
                let told = self.driver.node.explain(&pod, now());
                Reply::View(serde_json::to_value(told).unwrap_or_default())
            }
            _ => {
                let seen = self.observation();
                let mut view = serde_json::to_value(&seen.view).unwrap_or_default();
                if let Some(view) = view.as_object_mut() {
                    let notices = serde_json::to_value(&seen.notices).unwrap_or_default();
                    view.insert("notices".into(), notices);
                    let agent = self.driver.card.agent(&seen, &self.driver.health);
                    view.insert("agent".into(), agent);
                }
                Reply::View(view)
            }
        }
    }

    /// DELs that found no agent.
    fn settle_tombstones(&mut self) {
        self.tombstones_at = Instant::now() + TOMBSTONE_PERIOD;
        let (found, errors) = tombstone::read(&self.driver.tombstones);
        for error in errors {
            tracing::warn!(error = %crate::cause::chain(&error), "reading a tombstone");
        }
        for tombstone in found {
            let asked =
                |asker: &Asker| matches!(asker, Asker::Tombstone(asked) if *asked == tombstone);
            if self.askers.values().any(asked) {
                continue;
            }
            let number = self.number();
            let (key, started) = (tombstone.key.clone(), tombstone.deleted);
            self.askers.insert(number, Asker::Tombstone(tombstone));
            self.tell(Input::Del {
                request: Some(number),
                key,
                started,
            });
        }
    }

    fn act(&mut self) {
        let mut actions = VecDeque::new();
        loop {
            while let Some(action) = self.driver.node.poll_action(now()) {
                actions.push_back(action);
            }
            let Some(action) = actions.pop_front() else {
                return;
            };
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Persist(batch, changes) => self.persist(batch, &changes),
            Action::Cloud(op, call) => self.call(op, call),
            Action::ReadInterfaces(op) => self.read_interfaces(op),
            Action::ReadLinks => self.kernel(Work::ReadLinks),
            Action::ApplyEni(eni, net) => self.kernel(Work::ApplyEni(eni, net)),
            Action::ApplyPod(number, key, net) => {
                let descriptors = self.descriptors.remove(&number);
                self.kernel(Work::ApplyPod(key, net, descriptors));
            }
            Action::CheckPod(number, key, net) => {
                let descriptors = self.descriptors.remove(&number);
                self.kernel(Work::CheckPod(key, net, descriptors));
            }
            Action::RemovePod(key, net) => {
                let handed = self.handed.remove(&key);
                let handed = handed.filter(|_| !net.devices().is_empty());
                self.kernel(Work::RemovePod(key, net, handed.map(|(_, it)| it)));
            }
            Action::ObserveKernel(op) => self.kernel(Work::Observe(op)),
            Action::Heal(remedy) => self.kernel(Work::Heal(remedy)),
            Action::ListPods(op, pods) => self.list_pods(op, pods),
            Action::RemoveLeftovers(op, leftovers) => {
                self.kernel(Work::RemoveLeftovers(op, leftovers));
            }
            Action::Reply(number, reply) => self.reply(number, reply),
            Action::Notice(notice) => self.driver.notices.tell(&notice),
        }
    }

    fn persist(&mut self, batch: u64, changes: &[Change]) {
        let began = Instant::now();
        let driver = &mut self.driver;
        let written = driver.keeper.write(changes, driver.node.ledger());
        driver.metrics.ledger_write(began.elapsed());
        let input = match written {
            Ok(()) => Input::Persisted(batch),
            Err(error) => Input::PersistFailed(batch, error),
        };
        self.tell(input);
        self.refuse_adds();
    }

    /// Answers the ADDs that wait for a disk in trouble. Should it recover first, the machine sets their
    /// pods up without descriptors, which fails, and takes them down again.
    fn refuse_adds(&mut self) {
        let Some(error) = self.no_ledger() else {
            return;
        };
        let is_add = |asker: &Asker| matches!(asker, Asker::Plugin(caller) if caller.verb == "add");
        let waiting = self.askers.iter().filter(|(_, asker)| is_add(asker));
        for number in waiting.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.descriptors.remove(&number);
            if let Some(Asker::Plugin(caller)) = self.askers.remove(&number) {
                caller.answer(&error.clone().into(), true, &self.driver.metrics);
            }
        }
    }

    /// Why nothing can be promised to a pod, if the ledger cannot be written.
    fn no_ledger(&self) -> Option<Error> {
        let why = self.driver.keeper.refusal()?;
        let message = "the agent cannot write down which pod has which address";
        Some(Error::new(Code::TryLater, message).with_details(why))
    }

    fn kernel(&self, work: Work) {
        let thread = match work {
            // Reading what stands takes milliseconds that no ADD should wait for.
            Work::RemovePod(..) | Work::Observe(_) | Work::Heal(Remedy::Compare(_)) => {
                &self.driver.take_down
            }
            Work::ReadLinks
            | Work::ApplyEni(..)
            | Work::ApplyPod(..)
            | Work::CheckPod(..)
            | Work::Heal(_)
            | Work::RemoveLeftovers(..) => &self.driver.set_up,
        };
        // The threads end only with the agent.
        let _ = thread.send(work);
    }

    fn call(&self, op: OpNumber, call: CloudCall) {
        let (cloud, done, calls) = (
            Arc::clone(&self.driver.cloud),
            self.driver.outbox.clone(),
            Arc::clone(&self.calls),
        );
        self.driver.runtime.spawn(async move {
            let result = match calls.acquire().await {
                Ok(_permit) => cloud.carry_out(call).await,
                Err(_) => Err(calls::not_tried("the agent is ending")),
            };
            give(&done, Input::Cloud(op, result)).await;
        });
    }

    fn list_pods(&self, op: OpNumber, asked: BTreeSet<PodKey>) {
        let (pods, done) = (Arc::clone(&self.driver.pods), self.driver.outbox.clone());
        self.driver.runtime.spawn(async move {
            let result = pods.list_anew(asked).await;
            if let Err(error) = &result {
                tracing::warn!(
                    error,
                    "listing the node's pods to confirm that some are gone"
                );
            }
            give(&done, Input::Pods(op, result)).await;
        });
    }

    fn read_interfaces(&self, op: OpNumber) {
        let (metadata, done, metrics) = (
            Arc::clone(&self.driver.metadata),
            self.driver.outbox.clone(),
            Arc::clone(&self.driver.metrics),
        );
        self.driver.runtime.spawn(async move {
            let began = Instant::now();
            let result = calls::interfaces(&metadata).await;
            metrics.metadata("network/interfaces", began.elapsed(), result.is_err());
            give(&done, Input::Interfaces(op, result)).await;
        });
    }

    fn reply(&mut self, number: RequestNumber, reply: EngineReply) {
        self.descriptors.remove(&number);
        self.handed.retain(|_, (of, _)| *of != number);
        match (self.askers.remove(&number), reply) {
            (Some(Asker::Plugin(caller)), reply) => {
                let failed = matches!(reply, EngineReply::Failed(_));
                caller.answer(&wire_reply(reply), failed, &self.driver.metrics);
            }
            (Some(Asker::Tombstone(tombstone)), EngineReply::Done) => {
                if let Err(error) = tombstone.remove(&self.driver.tombstones) {
                    tracing::warn!(error = %crate::cause::chain(&error), "removing a tombstone");
                }
            }
            (Some(Asker::Tombstone(_)) | None, _) => {}
        }
    }
}

/// Brings an outcome to the driver; a full queue is waited for without blocking the runtime.
pub(crate) async fn give(done: &SyncSender<Message>, input: Input) {
    let mut message = Message::Input(input);
    while let Err(TrySendError::Full(back)) = done.try_send(message) {
        message = back;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A verb as metrics call it.
fn verb_name(verb: &Verb) -> &'static str {
    match verb {
        Verb::Add { .. } => "add",
        Verb::Del { .. } => "del",
        Verb::Check { .. } => "check",
        Verb::Gc { .. } => "gc",
        Verb::Status => "status",
        Verb::View | Verb::Explain { .. } | Verb::HandOver | Verb::Dump => "look",
    }
}

fn wire_reply(reply: EngineReply) -> Reply {
    match reply {
        EngineReply::Attached(attached) => {
            let result = result::of(&attached);
            let Attached { sysctls, .. } = *attached;
            Reply::Attached { result, sysctls }
        }
        EngineReply::Done => Reply::Done,
        EngineReply::Failed(Failure { kind, message }) => {
            let code = match kind {
                FailureKind::TryLater | FailureKind::Deleted => Code::TryLater,
                FailureKind::Unknown => Code::UnknownContainer,
            };
            Error::new(code, message).into()
        }
    }
}
