//! Calls of the cloud: counted a minute, held back where a budget is spent, and looks made together.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{EniId, Exhausted, FaultClass, PodKey, Timestamp, VSwitchId};

use super::{
    Cluster,
    message::{Action, Doing, Notice, OpNumber},
    pool::SlotId,
};
use crate::{
    budget::{Api, Purpose},
    podeni::{Answer, Call, Fault, SeenEni},
};

/// ENIs in one look, the witness included (`NetworkInterfaceId.N` of DescribeNetworkInterfaces: 1 to 100).
const LOOK_MOST: usize = 100;

/// How long a look waits for others to go with it. An attach takes seconds, so a quarter of one is not
/// felt; at 500 attaches a minute two go into one call, and when the cloud throttles a hundred do.
const LOOK_GATHER: Duration = Duration::from_millis(250);

/// Looks under way at once: with more the budget of a minute would be gone in its first seconds.
const LOOKS_IN_FLIGHT: usize = 4;

/// Calls under way at once, looks not counted: 500 calls a minute that take 2 s each are 17 at a time, and
/// a burst may have three times that.
const CALLS_IN_FLIGHT: usize = 50;

/// For whom something is asked about an ENI.
#[derive(Debug, Clone)]
pub(super) enum Asker {
    /// A pod, by the record with this UID.
    Pod(PodKey, String),
    /// The pool.
    Spare(SlotId),
}

/// What a call was about.
#[derive(Debug)]
pub(super) enum Op {
    /// An ENI that somebody has or keeps.
    Eni(Asker, Call),
    /// ENIs that are looked at together, beside one that exists if any was known to.
    Look(Vec<(EniId, Asker)>, Option<EniId>),
    /// vSwitches.
    VSwitches(Vec<VSwitchId>),
    /// All ENIs.
    List,
    /// An ENI nobody refers to.
    Orphan(EniId, Doing),
}

impl Op {
    fn api(&self) -> Api {
        match self {
            Op::Eni(_, call) => api_of(call),
            Op::Look(..) | Op::List => Api::DescribeNetworkInterfaces,
            Op::VSwitches(_) => Api::DescribeVSwitches,
            Op::Orphan(_, Doing::Delete) => Api::DeleteNetworkInterface,
            Op::Orphan(..) => Api::DetachNetworkInterface,
        }
    }
}

pub(super) fn api_of(call: &Call) -> Api {
    match call {
        Call::Create(_) => Api::CreateNetworkInterface,
        Call::Attach { .. } => Api::AttachNetworkInterface,
        Call::Detach { .. } => Api::DetachNetworkInterface,
        Call::Delete(_) => Api::DeleteNetworkInterface,
        Call::Look(_) => Api::DescribeNetworkInterfaces,
    }
}

/// ENIs to look at, first come first served.
#[derive(Debug, Default)]
pub(super) struct Looks {
    wanted: BTreeMap<EniId, Asker>,
    since: Option<Timestamp>,
    in_flight: usize,
}

impl Looks {
    /// Whether any is wanted.
    fn wait(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// When those wanted have gathered long enough, unless enough are under way.
    fn deadline(&self) -> Option<Timestamp> {
        let since = self.since.filter(|_| self.in_flight < LOOKS_IN_FLIGHT)?;
        Some(since.after(LOOK_GATHER))
    }
}

impl Cluster {
    /// Makes a call for a pod's ENI, or holds it back.
    pub(super) fn place(&mut self, now: Timestamp, key: &PodKey, uid: &str, call: Call) {
        if let Call::Look(eni) = &call {
            self.begun(key, uid, &call);
            let asker = Asker::Pod(key.clone(), uid.to_owned());
            self.want_look(now, eni.clone(), asker);
            return;
        }
        let api = api_of(&call);
        if !self.may_call(now, api) {
            let held = self.held.entry(api).or_default();
            if !held.contains(key) {
                held.push_back(key.clone());
            }
            return;
        }
        self.begun(key, uid, &call);
        let asker = Asker::Pod(key.clone(), uid.to_owned());
        let op = self.start(now, Op::Eni(asker, call.clone()));
        self.emit(Action::Call(op, call));
    }

    /// Has an ENI looked at with others.
    pub(super) fn want_look(&mut self, now: Timestamp, eni: EniId, asker: Asker) {
        self.looks.since.get_or_insert(now);
        self.looks.wanted.insert(eni, asker);
    }

    fn begun(&mut self, key: &PodKey, uid: &str, call: &Call) {
        let thread = self.threads.get_mut(key);
        if let Some(progress) = thread.and_then(|thread| thread.progress_of(uid)) {
            progress.called(call);
        }
    }

    pub(super) fn may_call(&self, now: Timestamp, api: Api) -> bool {
        self.opens(now, api, Purpose::Pod) == Some(now)
    }

    /// From when `api` may be called; nothing when something under way must end first.
    pub(super) fn opens(&self, now: Timestamp, api: Api, purpose: Purpose) -> Option<Timestamp> {
        let looks = api == Api::DescribeNetworkInterfaces;
        if !looks && self.ops.len() >= CALLS_IN_FLIGHT {
            return None;
        }
        let calls = self.config.calls(api);
        self.budget.opens(now, api, calls, purpose)
    }

    /// When what waits for a call may go on.
    pub(super) fn call_deadlines(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let held = self
            .held
            .keys()
            .filter_map(move |api| self.opens(now, *api, Purpose::Pod));
        let due = [
            (Api::DescribeNetworkInterfaces, self.looks.deadline()),
            (Api::DescribeVSwitches, self.vswitch_deadline()),
            (Api::DescribeNetworkInterfaces, self.orphan_deadline()),
        ];
        let due = due
            .into_iter()
            .filter_map(move |(api, at)| Some(at?.max(self.opens(now, api, Purpose::Pod)?)));
        held.chain(due)
    }

    pub(super) fn start(&mut self, now: Timestamp, op: Op) -> OpNumber {
        self.op_last += 1;
        let number = OpNumber(self.op_last);
        self.budget.called(now, op.api());
        self.ops.insert(number, op);
        number
    }

    /// The operation with this number has ended, throttled or not.
    pub(super) fn end<T>(
        &mut self,
        now: Timestamp,
        number: OpNumber,
        result: &Result<T, Fault>,
    ) -> Option<Op> {
        let op = self.ops.remove(&number)?;
        let throttled = matches!(result, Err(fault) if fault.class == FaultClass::Throttled);
        self.budget
            .answered(now, op.api(), throttled, &mut self.dice);
        Some(op)
    }

    /// Names whose next call may be made now are thought about again, as many as there is room for.
    pub(super) fn release_held(&mut self, now: Timestamp) {
        let apis: Vec<Api> = self.held.keys().copied().collect();
        for api in apis {
            // Thinking makes the call and uses the budget up, so it is asked anew for each.
            while self.may_call(now, api)
                && let Some(key) = self.held.get_mut(&api).and_then(|held| held.pop_front())
            {
                self.advance(now, &key);
            }
        }
        self.held.retain(|_, held| !held.is_empty());
    }

    /// A call ended.
    pub(super) fn called(
        &mut self,
        now: Timestamp,
        number: OpNumber,
        result: Result<Answer, Fault>,
    ) {
        match self.end(now, number, &result) {
            Some(Op::Eni(Asker::Pod(key, uid), call)) => {
                self.pod_called(now, key, uid, &call, result);
            }
            Some(Op::Eni(Asker::Spare(id), call)) => self.spare_called(now, id, &call, result),
            Some(Op::Orphan(eni, doing)) => self.orphan_called(&eni, doing, result),
            Some(Op::Look(..) | Op::VSwitches(_) | Op::List) | None => {}
        }
    }

    fn pod_called(
        &mut self,
        now: Timestamp,
        key: PodKey,
        uid: String,
        call: &Call,
        result: Result<Answer, Fault>,
    ) {
        match (&result, call) {
            (Ok(Answer::Created(new)), Call::Create(create)) => {
                self.took(&create.vswitch);
                let eni = new.eni.id.clone();
                self.notice(Notice::Did(key.clone(), Doing::Create, eni));
            }
            (Err(fault), Call::Create(create)) => {
                if fault.class == FaultClass::Exhausted(Exhausted::VSwitch) {
                    self.vswitches.filled(now, &create.vswitch);
                }
                self.failed(&key, Doing::Create, fault);
            }
            (Err(fault), Call::Attach { .. }) => {
                if fault.class == FaultClass::Exhausted(Exhausted::EniPerInstance) {
                    self.crowded(now, &key);
                }
                self.failed(&key, Doing::Attach, fault);
            }
            (Err(fault), Call::Detach { .. }) => self.failed(&key, Doing::Detach, fault),
            (Err(fault), Call::Delete(_)) if fault.class != FaultClass::Gone => {
                self.failed(&key, Doing::Delete, fault);
            }
            _ => {}
        }
        self.tell_asker(now, Asker::Pod(key, uid), call, result);
    }

    fn failed(&mut self, key: &PodKey, doing: Doing, fault: &Fault) {
        // A throttled call is no news about the pod: the budget says so for all of them.
        if fault.class != FaultClass::Throttled {
            self.notice(Notice::Failed(key.clone(), doing, fault.text.clone()));
        }
    }

    /// Sends the looks that have gathered.
    pub(super) fn drive_looks(&mut self, now: Timestamp) {
        while self.looks.wait() && self.looks.in_flight < LOOKS_IN_FLIGHT {
            let ripe = self.looks.deadline().is_some_and(|at| at <= now);
            let full = self.looks.wanted.len() >= LOOK_MOST;
            if !(ripe || full) || !self.may_call(now, Api::DescribeNetworkInterfaces) {
                return;
            }
            self.look(now);
        }
    }

    fn look(&mut self, now: Timestamp) {
        let witness = self.witness();
        let most = LOOK_MOST - usize::from(witness.is_some());
        let mut about = Vec::new();
        while about.len() < most
            && let Some(one) = self.looks.wanted.pop_first()
        {
            about.push(one);
        }
        let enis: BTreeSet<EniId> = about
            .iter()
            .map(|(eni, _)| eni.clone())
            .chain(witness.clone())
            .collect();
        self.looks.since = self.looks.wait().then_some(now);
        self.looks.in_flight += 1;
        let op = self.start(now, Op::Look(about, witness));
        self.emit(Action::Look(op, enis.into_iter().collect()));
    }

    /// An ENI that surely exists: an answer without any ENI at all may only mean that we may not look.
    fn witness(&self) -> Option<EniId> {
        self.nodes.values().find_map(|node| node.trunk.clone())
    }

    /// ENIs were looked at.
    pub(super) fn looked(
        &mut self,
        now: Timestamp,
        number: OpNumber,
        result: &Result<BTreeMap<EniId, SeenEni>, Fault>,
    ) {
        let Some(Op::Look(about, witness)) = self.end(now, number, result) else {
            return;
        };
        self.looks.in_flight = self.looks.in_flight.saturating_sub(1);
        let unseen = witness.filter(|witness| {
            let seen = result.as_ref();
            seen.is_ok_and(|seen| !seen.contains_key(witness))
        });
        for (eni, asker) in about {
            let answer = match (result, &unseen) {
                (Err(fault), _) => Err(fault.clone()),
                (Ok(seen), _) if seen.contains_key(&eni) => Ok(Answer::Seen(seen[&eni].clone())),
                (Ok(_), None) => Ok(Answer::Missing),
                (Ok(_), Some(witness)) => Err(withheld(witness)),
            };
            self.tell_asker(now, asker, &Call::Look(eni), answer);
        }
    }

    fn tell_asker(
        &mut self,
        now: Timestamp,
        asker: Asker,
        call: &Call,
        answer: Result<Answer, Fault>,
    ) {
        match asker {
            Asker::Pod(key, uid) => {
                let thread = self.threads.get_mut(&key);
                if let Some(progress) = thread.and_then(|thread| thread.progress_of(&uid)) {
                    progress.answered(now, &self.config.waits, call, answer);
                }
                self.think(key);
            }
            Asker::Spare(id) => {
                if let Some(progress) = self.pool.progress_of(id) {
                    progress.answered(now, &self.config.waits, call, answer);
                }
                self.pool.look_at(id);
            }
        }
    }
}

/// An answer that lacks what exists proves nothing about what it lacks besides.
fn withheld(witness: &EniId) -> Fault {
    Fault {
        class: FaultClass::Unknown,
        text: format!(
            "the cloud's answer lacks the trunk {witness}, which exists: is \
             ecs:DescribeNetworkInterfaces permitted?"
        ),
    }
}
