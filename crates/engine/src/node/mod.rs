//! The machine of one node: it answers the plugin, keeps a pool of addresses, and brings ENIs and
//! their addresses from the cloud to the pods and back.
//!
//! One input is handled at a time; after each, `Node::settle` looks at the whole state and decides
//! what is due. So nothing depends on the order in which outcomes arrive, and a machine rebuilt from
//! the ledger after a crash finds its way from wherever it was.

mod allot;
mod attach;
mod block;
mod budget;
mod collect;
mod detach;
mod eni;
mod exhaustion;
mod explain;
mod heal;
mod history;
mod intent;
mod inventory;
mod joint;
mod member;
mod message;
mod missing;
mod outbox;
mod own;
mod plug;
mod policy;
mod prefix;
mod seek;
mod sticky;
mod supply;
mod surplus;
mod trend;
mod trunk;
mod upkeep;
mod view;
mod vswitch;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use model::{AttachmentKey, EniId, Ipv4Prefix, Mac, Timestamp, VSwitchId, net::Link};
use serde::{Deserialize, Serialize};

use self::{
    attach::Work,
    budget::Budget,
    collect::Doubts,
    eni::EniProgress,
    exhaustion::Stops,
    heal::Heal,
    history::History,
    intent::IntentProgress,
    inventory::Poll,
    member::Members,
    outbox::Outbox,
    prefix::Blocks,
    surplus::Surplus,
    trend::Trend,
    trunk::TrunkState,
    upkeep::Sweep,
    vswitch::{Looks, VSwitchState},
};
use crate::{
    ledger::{AddressEntry, AddressState, Change, Entry, Ledger},
    retry::{Backoff, Dice},
};

pub use self::{
    block::PodBlock,
    budget::Api,
    exhaustion::{Exhaustion, ExhaustionKind},
    explain::{Explanation, Happening, PodState},
    heal::{Finding, Lack, Lacks, Remedy, Standing},
    joint::{IpvlanCase, ipvlan_policy},
    message::{
        Action, AddRequest, Attached, CloudAnswer, CloudCall, CloudFault, Config, Failure,
        FailureKind, Input, Interface, KernelView, Leftovers, Notice, OpNumber, Reply,
        RequestNumber,
    },
    policy::{EniPolicy, IpvlanPolicy, Policy, PrefixPolicy, Reclaim, VSwitchPolicy},
    trunk::{Trunk, TrunkLack},
    view::{EniView, View},
};

/// How long a failed write to the ledger's store rests. A full disk does not heal in milliseconds,
/// and pods wait: half a second costs at most that.
const PERSIST_RETRY: Duration = Duration::from_millis(500);

/// What a cloud call or observation was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Op {
    Intent(u64),
    Seek(u64),
    Attach(EniId),
    Detach(EniId),
    Delete(EniId),
    Unassign(EniId, Vec<IpAddr>),
    UnassignPrefixes(EniId, Vec<Ipv4Prefix>),
    Inspect(Vec<EniId>),
    Inventory {
        sent: Timestamp,
    },
    Interfaces,
    VSwitches,
    Kernel {
        sent: Timestamp,
    },
    /// The pods of these attachments, whose sandboxes a look answered `seen` showed gone.
    Pods {
        asked: BTreeSet<AttachmentKey>,
        seen: Timestamp,
    },
    Leftovers(Leftovers),
}

/// The machine of one node. Written down and read again it goes on as it would have.
#[derive(Debug, Serialize, Deserialize)]
pub struct Node {
    config: Config,
    ledger: Ledger,
    out: Outbox,
    dice: Dice,
    ops: BTreeMap<OpNumber, Op>,
    op_last: u64,
    intent_last: u64,
    /// Attachments something is being done about.
    #[serde(with = "crate::pairs")]
    work: BTreeMap<AttachmentKey, Work>,
    /// ADDs without an address, first come first served. Those of trunk pods wait among them, each for an
    /// address of its own.
    waiting: VecDeque<(RequestNumber, AddRequest)>,
    /// Attachments whose DEL was answered, and when it started.
    #[serde(with = "crate::pairs")]
    settled: BTreeMap<AttachmentKey, Timestamp>,
    sweeps: Vec<Sweep>,
    links: BTreeMap<Mac, Link>,
    links_wanted: Poll,
    progress: BTreeMap<EniId, EniProgress>,
    intents: BTreeMap<u64, IntentProgress>,
    vswitches: BTreeMap<VSwitchId, VSwitchState>,
    blocks: Blocks,
    vswitch_looks: Looks,
    stops: Stops,
    budget: Budget,
    /// Calls the pool would grow by and that may not be made now.
    held: BTreeSet<Api>,
    surplus: Surplus,
    trend: Trend,
    trunk: TrunkState,
    members: Members,
    /// Since when addresses are missing that nobody was asked for.
    missing_since: Option<Timestamp>,
    /// Addresses of the warm-up that no pod took yet.
    warm_left: u32,
    inventory: Poll,
    /// When an answer last lacked something that the one before it had.
    lacked_at: Option<Timestamp>,
    interfaces: Poll,
    kernel: Poll,
    doubts: Doubts,
    heal: Heal,
    /// Addresses the kernel routes to pods that the ledger does not know, and how many looks in a row
    /// did not show it any more.
    occupied: BTreeMap<IpAddr, u8>,
    history: History,
    /// The latest time seen.
    latest: Timestamp,
    /// The latest time from which the clock stepped back.
    stepped_back_from: Timestamp,
}

impl Node {
    /// A machine that goes on from `ledger`. `occupied` are the addresses the kernel routes to pods;
    /// those without an attachment are not handed out, whatever the ledger says. `seed` spreads retries.
    pub fn new(config: Config, ledger: Ledger, occupied: BTreeSet<IpAddr>, seed: u64) -> Self {
        let held = |address: &IpAddr| ledger.attachments().any(|it| it.holds(*address));
        let occupied = occupied
            .into_iter()
            .filter(|address| !held(address))
            .map(|address| (address, 0))
            .collect();
        let warm_left = match ledger.enis().next() {
            None => config.policy.warm_up,
            Some(_) => 0,
        };
        let intent_last = ledger.intents().map(|intent| intent.id).max().unwrap_or(0);
        let mut node = Self {
            config,
            ledger,
            out: Outbox::default(),
            dice: Dice::new(seed),
            ops: BTreeMap::new(),
            op_last: 0,
            intent_last,
            work: BTreeMap::new(),
            waiting: VecDeque::new(),
            settled: BTreeMap::new(),
            sweeps: Vec::new(),
            links: BTreeMap::new(),
            links_wanted: Poll::default(),
            progress: BTreeMap::new(),
            intents: BTreeMap::new(),
            vswitches: BTreeMap::new(),
            blocks: Blocks::default(),
            vswitch_looks: Looks::default(),
            stops: Stops::default(),
            budget: Budget::default(),
            held: BTreeSet::new(),
            surplus: Surplus::default(),
            trend: Trend::default(),
            trunk: TrunkState::default(),
            members: Members::default(),
            missing_since: None,
            warm_left,
            inventory: Poll::default(),
            lacked_at: None,
            interfaces: Poll::default(),
            kernel: Poll::default(),
            doubts: Doubts::default(),
            heal: Heal::default(),
            occupied,
            history: History::default(),
            latest: Timestamp::EPOCH,
            stepped_back_from: Timestamp::EPOCH,
        };
        node.follow_local_traffic();
        node
    }

    /// Takes one input. Actions may be due afterwards.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.history.tick(now);
        if now < self.latest {
            self.stepped_back(now, self.latest);
        }
        self.latest = now;
        match input {
            Input::Add(number, request) => {
                self.history.asked(number, &request.pod);
                self.add(now, number, *request);
            }
            Input::Refused(pod, reason) => self.history.refused(pod, &reason),
            Input::Del {
                request,
                key,
                started,
            } => self.del(now, request, key, started),
            Input::Check(number, key) => self.check(number, key),
            Input::Gc {
                request,
                started,
                valid,
            } => self.gc(now, request, started, &valid),
            Input::Persisted(batch) => self.out.persisted(batch),
            // Whoever failed to write tells people, once; a notice each half second would fill the disk.
            Input::PersistFailed(batch, _) => self.out.failed(batch, now.after(PERSIST_RETRY)),
            Input::Cloud(op, result) => self.cloud_done(now, op, result),
            Input::Interfaces(op, result) => self.interfaces_read(now, op, result),
            Input::Links(links) => self.links_read(now, links),
            Input::EniApplied(eni, result) => self.eni_applied(now, &eni, result),
            Input::PodApplied(key, result) => self.pod_applied(now, key, result),
            Input::PodChecked(key, result) => self.pod_checked(now, key, result),
            Input::PodRemoved(key, result) => self.pod_removed(now, key, result),
            Input::Kernel(op, result) => self.kernel_seen(now, op, result),
            Input::Pods(op, result) => self.pods_listed(op, result),
            Input::LeftoversRemoved(op, result) => self.leftovers_removed(op, result),
            Input::Heal(finding) => self.found(now, finding),
            Input::PodEni(pod, record) => self.pod_eni(now, pod, record.map(|it| *it)),
            Input::Configured(config) => self.configured(*config),
            Input::ClockSteppedBack { from } => self.stepped_back(now, from),
            Input::Tick => {}
        }
        self.settle(now);
    }

    fn stepped_back(&mut self, now: Timestamp, from: Timestamp) {
        self.stepped_back_from = self.stepped_back_from.max(from);
        self.surplus.forget();
        self.missing_since = None;
        self.lacked_before(now);
    }

    /// The next thing to do, if anything is due.
    pub fn poll_action(&mut self, now: Timestamp) -> Option<Action> {
        self.out.poll(now)
    }

    /// When the machine wants to be ticked if nothing else happens.
    pub fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        self.rests(now)
            .chain(self.out.deadline())
            .chain(self.attach_deadlines())
            .chain(self.eni_deadlines(now))
            .chain(self.supply_deadlines(now))
            .chain(self.poll_deadlines(now))
            .chain(self.heal.deadline(now))
            .min()
    }

    /// When each address that rests at `now` may be used again.
    fn rests(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let entries = self.ledger.addresses();
        entries.filter_map(move |entry| match entry.state {
            AddressState::Resting { until } if until > now => Some(until),
            _ => None,
        })
    }

    /// What the ledger says.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn settle(&mut self, now: Timestamp) {
        if self.config.policy.block.is_some() {
            return self.settle_block(now);
        }
        self.leave_block();
        self.expire(now);
        self.serve_waiting(now);
        self.retry_removals(now);
        self.drive_enis(now);
        self.drive_whole();
        self.plan_supply(now);
        self.drive_intents(now);
        self.drive_polls(now);
        self.drive_heal(now);
        self.tell_exhaustion(now);
        self.tell_trunk(now);
    }

    fn configured(&mut self, config: Config) {
        if config.vswitches != self.config.vswitches {
            self.vswitches.retain(|id, _| config.vswitches.contains(id));
            self.vswitch_looks.doubt();
        }
        self.stops.clear();
        self.trunk.reconfigured();
        self.blocks = Blocks::default();
        self.config = config;
        self.follow_local_traffic();
    }

    fn cloud_done(
        &mut self,
        now: Timestamp,
        number: OpNumber,
        result: Result<CloudAnswer, CloudFault>,
    ) {
        self.call_answered(now, number, &result);
        let Some(op) = self.ops.remove(&number) else {
            return;
        };
        match op {
            Op::Intent(id) => self.intent_done(now, id, result),
            Op::Seek(id) => self.seek_done(now, id, result),
            Op::Attach(eni) => self.attach_done(now, &eni, result),
            Op::Detach(eni) => self.detach_done(now, &eni, result),
            Op::Delete(eni) => self.delete_done(now, &eni, result),
            Op::Unassign(eni, addresses) => {
                let several = addresses.len() > 1;
                self.unassign_done(now, &eni, (&addresses, several), result);
            }
            Op::UnassignPrefixes(eni, prefixes) => {
                let addresses = prefix::addresses(&prefixes);
                self.unassign_done(now, &eni, (&addresses, prefixes.len() > 1), result);
            }
            Op::Inspect(enis) => self.inspected(now, &enis, result),
            Op::Inventory { sent } => self.inventory_done(now, sent, result),
            Op::VSwitches => self.vswitches_done(now, result),
            // Answered by an input of their own.
            Op::Interfaces | Op::Kernel { .. } | Op::Pods { .. } | Op::Leftovers(_) => {}
        }
    }

    fn start(&mut self, op: Op) -> OpNumber {
        self.op_last += 1;
        let number = OpNumber(self.op_last);
        self.ops.insert(number, op);
        number
    }

    fn call(&mut self, now: Timestamp, op: Op, call: CloudCall) {
        let number = self.start(op);
        self.called(now, number, budget::Api::of(&call));
        self.out.emit(Action::Cloud(number, call));
    }

    /// Records a change; one that would break an invariant is dropped and reported, because a wrong
    /// ledger is worse than a pod that waits.
    fn record(&mut self, change: Change) -> bool {
        match self.ledger.apply(&change) {
            Ok(()) => {
                self.out.record(change);
                true
            }
            Err(violation) => {
                self.notice(Notice::Defect(violation.to_string()));
                false
            }
        }
    }

    fn put_address(&mut self, entry: AddressEntry) -> bool {
        self.record(Change::Put(Entry::Address(entry)))
    }

    fn set_address(&mut self, address: IpAddr, state: AddressState) {
        if let Some(entry) = self.ledger.address(address) {
            let entry = AddressEntry {
                state,
                ..entry.clone()
            };
            self.put_address(entry);
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.history.notice(&notice);
        self.out.emit(Action::Notice(notice));
    }

    fn reply(&mut self, request: RequestNumber, reply: Reply) {
        self.history.answered(request, &reply);
        self.out.emit(Action::Reply(request, reply));
    }

    fn fail(&mut self, request: RequestNumber, kind: FailureKind, message: impl Into<String>) {
        let message = message.into();
        self.reply(request, Reply::Failed(Failure { kind, message }));
    }

    fn cloud_failed(&mut self, what: &str, fault: &CloudFault) {
        self.notice(Notice::CloudFailed(format!("{what}: {}", fault.text)));
    }

    fn wait(&mut self, backoff: Backoff, failures: u32) -> Duration {
        backoff.wait(failures, &mut self.dice)
    }
}
