//! Drives the node machine: takes inputs from everywhere, writes the ledger, and hands each action to
//! whoever carries it out.
//!
//! One thread, no locks. It alone owns the machine and the store; a write of the store blocks it for
//! one sync of the disk, and everything that arrives meanwhile goes into the next write together.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    time::{Duration, Instant},
};

use cloud::Metadata;
use engine::node::{
    Action, AddRequest, Attached, CloudCall, Config, Failure, FailureKind, Input, Node, OpNumber,
    Reply as EngineReply, RequestNumber,
};
use ipnet::IpNet;
use model::family::host_net;
use tokio::{runtime::Handle, sync::Semaphore};
use wire::{
    cni::{AddResult, Code, Error, Interface, Ip},
    message::{Reply, Request, Verb},
    socket::Connection,
    tombstone::{self, Tombstone},
};

use crate::{
    calls::{self, Cloud},
    facts::Known,
    kernel::{PodDescriptors, Work},
    notices::Notices,
    plugin::{self, now},
    store::Store,
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
}

/// A request of the plugin.
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) descriptors: Option<PodDescriptors>,
    pub(crate) connection: Connection,
}

/// Who waits for an answer.
enum Asker {
    Plugin(Connection),
    Tombstone(Tombstone),
}

/// Everything the driver needs.
pub(crate) struct Driver {
    pub(crate) node: Node,
    pub(crate) store: Store,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) outbox: SyncSender<Message>,
    pub(crate) set_up: SyncSender<Work>,
    pub(crate) take_down: SyncSender<Work>,
    pub(crate) runtime: Handle,
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) notices: Notices,
    pub(crate) tombstones: PathBuf,
}

struct Running {
    driver: Driver,
    calls: Arc<Semaphore>,
    askers: BTreeMap<RequestNumber, Asker>,
    descriptors: BTreeMap<RequestNumber, PodDescriptors>,
    last: u64,
    tombstones_at: Instant,
}

impl Driver {
    /// Runs until nobody can send inputs any more, which is when the agent ends.
    pub(crate) fn run(self) {
        let mut running = Running {
            driver: self,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            askers: BTreeMap::new(),
            descriptors: BTreeMap::new(),
            last: 0,
            tombstones_at: Instant::now(),
        };
        running.driver.node.handle(now(), Input::Tick);
        loop {
            running.act();
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

    fn take(&mut self, message: Message) {
        match message {
            Message::Input(input) => self.driver.node.handle(now(), input),
            Message::Asked(asked) => self.asked(*asked),
            Message::Configured(config, known) => {
                if let Err(error) = self.driver.store.keep(&config, &known) {
                    tracing::error!(error = %crate::kernel::chain(&error), "keeping the configuration");
                }
                self.driver.node.handle(now(), Input::Configured(config));
            }
        }
    }

    fn number(&mut self) -> RequestNumber {
        self.last += 1;
        RequestNumber(self.last)
    }

    fn asked(&mut self, asked: Asked) {
        let Asked {
            request,
            descriptors,
            connection,
        } = asked;
        let number = self.number();
        let started = request.started;
        let input = match request.verb {
            Verb::Add {
                key,
                pod,
                uid,
                netns,
                mtu,
                runtime,
            } => {
                if runtime.ingress_rate > 0 || runtime.egress_rate > 0 {
                    tracing::warn!(%pod, "bandwidth limits are not applied by this release");
                }
                let deadline = started.after(request.patience);
                Input::Add(
                    number,
                    Box::new(AddRequest {
                        key,
                        pod,
                        uid,
                        netns,
                        started,
                        deadline,
                        mtu,
                    }),
                )
            }
            Verb::Del { key } => Input::Del {
                request: Some(number),
                key,
                started,
            },
            Verb::Check { key } => Input::Check(number, key),
            Verb::Gc { valid } => Input::Gc {
                request: number,
                started,
                valid,
            },
            Verb::Status => return plugin::answer(&connection, &Reply::Done),
            Verb::View => {
                let view = self.driver.node.view(now());
                let mut view = serde_json::to_value(view).unwrap_or_default();
                if let Some(view) = view.as_object_mut() {
                    view.insert("notices".into(), self.driver.notices.counts());
                }
                return plugin::answer(&connection, &Reply::View(view));
            }
        };
        self.askers.insert(number, Asker::Plugin(connection));
        if let Some(descriptors) = descriptors {
            self.descriptors.insert(number, descriptors);
        }
        self.driver.node.handle(now(), input);
    }

    /// DELs that found no agent.
    fn settle_tombstones(&mut self) {
        self.tombstones_at = Instant::now() + TOMBSTONE_PERIOD;
        let (found, errors) = tombstone::read(&self.driver.tombstones);
        for error in errors {
            tracing::warn!(error = %crate::kernel::chain(&error), "reading a tombstone");
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
            self.driver.node.handle(
                now(),
                Input::Del {
                    request: Some(number),
                    key,
                    started,
                },
            );
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
            Action::Persist(batch, changes) => {
                let input = match self.driver.store.write(&changes) {
                    Ok(()) => Input::Persisted(batch),
                    Err(error) => Input::PersistFailed(batch, crate::kernel::chain(&error)),
                };
                self.driver.node.handle(now(), input);
            }
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
            Action::RemovePod(key, net) => self.kernel(Work::RemovePod(key, net)),
            Action::Reply(number, reply) => self.reply(number, reply),
            Action::Notice(notice) => self.driver.notices.tell(&notice),
        }
    }

    fn kernel(&self, work: Work) {
        let thread = match work {
            Work::RemovePod(..) => &self.driver.take_down,
            Work::ReadLinks | Work::ApplyEni(..) | Work::ApplyPod(..) | Work::CheckPod(..) => {
                &self.driver.set_up
            }
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

    fn read_interfaces(&self, op: OpNumber) {
        let (metadata, done) = (
            Arc::clone(&self.driver.metadata),
            self.driver.outbox.clone(),
        );
        self.driver.runtime.spawn(async move {
            let result = calls::interfaces(&metadata).await;
            give(&done, Input::Interfaces(op, result)).await;
        });
    }

    fn reply(&mut self, number: RequestNumber, reply: EngineReply) {
        self.descriptors.remove(&number);
        match (self.askers.remove(&number), reply) {
            (Some(Asker::Plugin(connection)), reply) => {
                plugin::answer(&connection, &wire_reply(reply));
            }
            (Some(Asker::Tombstone(tombstone)), EngineReply::Done) => {
                if let Err(error) = tombstone.remove(&self.driver.tombstones) {
                    tracing::warn!(error = %crate::kernel::chain(&error), "removing a tombstone");
                }
            }
            (Some(Asker::Tombstone(_)) | None, _) => {}
        }
    }
}

/// Brings an outcome to the driver; a full queue is waited for without blocking the runtime.
async fn give(done: &SyncSender<Message>, input: Input) {
    let mut message = Message::Input(input);
    while let Err(TrySendError::Full(back)) = done.try_send(message) {
        message = back;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn wire_reply(reply: EngineReply) -> Reply {
    match reply {
        EngineReply::Attached(attached) => {
            let Attached { sysctls, .. } = &*attached;
            Reply::Attached {
                sysctls: sysctls.clone(),
                result: result(&attached),
            }
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

fn result(attached: &Attached) -> AddResult {
    let veth = &attached.net.veth;
    let interface = |name: &model::InterfaceName, mac, sandbox| Interface {
        name: name.to_string(),
        mac,
        sandbox,
    };
    let ips = attached
        .attachment
        .addresses
        .iter()
        .map(|(family, address)| {
            let bits = attached
                .subnet
                .get(family)
                .map_or(family.bits(), IpNet::prefix_len);
            Ip {
                address: IpNet::new(*address, bits).unwrap_or_else(|_| host_net(*address)),
                gateway: attached.gateway.get(family).copied(),
                interface: 1,
            }
        });
    AddResult {
        ips: ips.collect(),
        interfaces: vec![
            interface(&veth.host, veth.host_mac, None),
            interface(
                &veth.pod,
                veth.pod_mac,
                Some(attached.attachment.netns.clone()),
            ),
        ],
    }
}
