//! One pod name: when the planner is asked, and what its steps become.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    EniId, InstanceId, PodKey, PodUid, Timestamp, ZoneId,
    podeni::{Allocation, Attached, Phase, PodEni},
};

use super::{
    Cluster,
    message::{Action, Doing, Notice, Store, Waiting, WriteFault},
};
use crate::{
    podeni::{Observed, Plan, Progress, SeenEni, Step, plan},
    retry::Backoff,
};

/// How long a write that was refused for its version waits for the watch to tell the newer one. The watch
/// is late by milliseconds; past this it is broken, and trying again shows it.
const STALE: Duration = Duration::from_secs(2);

/// How long something must be waited for before people are told: a cold ENI takes about five seconds.
const TOLD_AFTER: Duration = Duration::from_secs(5);

/// Between two sentences written into records. They wait behind every other write: at two a second a
/// thousand waiting pods have theirs after eight minutes, and the API server hardly notices.
const MESSAGE_GAP: Duration = Duration::from_millis(500);

/// How often a record that somebody changes by hand is changed back before we give in: an endless fight
/// with another controller would be worse than either's opinion.
const UNDONE_MAX: u32 = 3;

/// What is going on about one pod name.
#[derive(Debug)]
pub(super) struct Thread {
    progress: Progress,
    /// The UID of the record that `progress` is about.
    of: String,
    /// What was written last, or is being written.
    last: Option<Store>,
    writing: bool,
    /// The record as it was before that: the watch may tell of the write before its answer comes.
    before: Option<PodEni>,
    /// Writes that failed since the record was last known to be newer: any of them may have been done, by
    /// half or whole, and the watch may tell of it after the next one was tried.
    doubtful: Vec<PodEni>,
    /// What was known of spare ENIs when that record was made of them.
    drawn: Vec<(EniId, SeenEni)>,
    /// Since when the watch has owed us a newer version.
    stale: Option<Timestamp>,
    /// The record as it was before a hand changed it, until that is written.
    back: Option<PodEni>,
    /// The record, by UID, that the watch last said to be gone: an answer may come after that.
    ended: Option<String>,
    failures: u32,
    not_before: Timestamp,
    wake: Option<Timestamp>,
    waiting: Option<Waiting>,
    told: bool,
    undone: u32,
}

impl Thread {
    fn new(seed: u64) -> Self {
        Self {
            progress: Progress::new(seed),
            of: String::new(),
            last: None,
            writing: false,
            before: None,
            doubtful: Vec::new(),
            drawn: Vec::new(),
            stale: None,
            back: None,
            ended: None,
            failures: 0,
            not_before: Timestamp::EPOCH,
            wake: None,
            waiting: None,
            told: false,
            undone: 0,
        }
    }

    pub(super) fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_ref()
    }

    pub(super) fn is_writing(&self) -> bool {
        self.writing
    }

    /// What was learned about the record with this UID; nothing when the thread is about another by now.
    pub(super) fn progress_of(&mut self, uid: &str) -> Option<&mut Progress> {
        (self.of == uid).then_some(&mut self.progress)
    }

    /// Begins to think about the record with this UID.
    fn turn_to(&mut self, uid: String, seed: u64) {
        (self.progress, self.of) = (Progress::new(seed), uid);
        for (eni, seen) in &self.drawn {
            self.progress.found(eni, seen.clone());
        }
    }

    fn note(&mut self, now: Timestamp, why: Option<String>) {
        match (why, &mut self.waiting) {
            (None, waiting) => {
                *waiting = None;
                self.told = false;
            }
            (Some(why), Some(waiting)) if waiting.why == why => {}
            // Another reason is no new wait: a pod that waits for one thing after the other has waited
            // since the first.
            (Some(why), Some(waiting)) => {
                waiting.why = why;
                self.told = false;
            }
            (Some(why), none) => *none = Some(Waiting { why, since: now }),
        }
    }
}

impl Cluster {
    /// Asks the planner about one name and does what it says, until there is nothing to be done now.
    pub(super) fn advance(&mut self, now: Timestamp, key: &PodKey) {
        if !self.records.contains_key(key) && !self.pods.contains_key(key) {
            // An answer under way would be taken for the next record's.
            if !self.threads.get(key).is_some_and(Thread::is_writing) {
                self.forget(key);
            }
            return;
        }
        if self.unreadable.contains_key(key) {
            return;
        }
        let record = self.records.get(key);
        let uid = record.map(|record| record.uid.clone()).unwrap_or_default();
        let thread = self
            .threads
            .entry(key.clone())
            .or_insert_with(|| Thread::new(self.dice.roll()));
        if thread.of != uid {
            thread.turn_to(uid, self.dice.roll());
        }
        if thread.writing {
            return;
        }
        let stale = thread.stale.map(|since| since.after(STALE));
        let rests = stale.into_iter().chain([thread.not_before]).max();
        if let Some(until) = rests.filter(|until| *until > now) {
            self.wake(key, Some(until));
            return;
        }
        thread.stale = None;
        if let Some(back) = thread.back.clone() {
            let known = self.records.get(key).map(|known| &known.version);
            if known == Some(&back.version) {
                self.store(key, Store::Write(Box::new(back)));
                return;
            }
            thread.back = None;
        }
        let Plan { step, why } = self.plan(now, key);
        if let Some(thread) = self.threads.get_mut(key) {
            thread.note(now, why);
        }
        self.carry(now, key, step);
    }

    fn plan(&mut self, now: Timestamp, key: &PodKey) -> Plan {
        let Some(thread) = self.threads.get(key) else {
            return Plan::rest();
        };
        if let Some(leaving) = self.records.get(key).filter(|record| record.deleting) {
            let (leaving, progress) = (leaving.clone(), thread.progress.clone());
            self.keep_back(now, &leaving, &progress);
        }
        let record = self.records.get(key);
        let pod = self.pods.get(key).map(|pod| &pod.pod);
        let node = pod.and_then(|pod| self.nodes.get(pod.node.as_ref()?));
        let comes = pod.zip(node).filter(|_| record.is_none());
        let spares = comes.map(|(pod, node)| self.spares_for(pod, node));
        let parted = record.map(|record| self.parted(record));
        let seen = Observed {
            pod,
            node,
            record,
            vswitches: self.vswitches.known(),
            spares: &spares.unwrap_or_default(),
            parted: &parted.unwrap_or_default(),
        };
        match self.threads.get(key) {
            Some(thread) => plan(now, &seen, &thread.progress),
            None => Plan::rest(),
        }
    }

    fn carry(&mut self, now: Timestamp, key: &PodKey, step: Step) {
        let uid = self.records.get(key).map(|record| record.uid.clone());
        let uid = uid.unwrap_or_default();
        match step {
            Step::Wait(until) => self.rest(now, key, until),
            Step::Create(record) => {
                self.try_vswitches(now, &record);
                let drawn = self.draw(now, key, &record);
                self.store(key, Store::Create(record));
                if let Some(thread) = self.threads.get_mut(key) {
                    thread.drawn = drawn;
                }
            }
            Step::Write(record) => {
                self.try_vswitches(now, &record);
                self.store(key, Store::Write(record));
            }
            Step::Delete => self.store(key, Store::Delete(uid)),
            Step::LetGo => self.store(key, Store::LetGo(uid)),
            Step::Call(calls) => {
                for call in calls {
                    self.place(now, key, &uid, call);
                }
                self.rest(now, key, None);
            }
        }
    }

    fn store(&mut self, key: &PodKey, store: Store) {
        self.wake(key, None);
        if let Some(thread) = self.threads.get_mut(key) {
            (thread.last, thread.writing) = (Some(store.clone()), true);
            thread.before = self.records.get(key).cloned();
            thread.drawn.clear();
        }
        self.emit(Action::Store(key.clone(), store));
    }

    /// Nothing can be done before `until`, or before something happens; but people are told in time.
    fn rest(&mut self, now: Timestamp, key: &PodKey, until: Option<Timestamp>) {
        let tell = self.threads.get(key).and_then(|thread| {
            let waiting = thread.waiting.as_ref().filter(|_| !thread.told)?;
            Some(waiting.since.after(TOLD_AFTER))
        });
        match tell {
            Some(at) if at <= now => {
                self.tell(key);
                self.wake(key, until);
            }
            tell => self.wake(key, tell.into_iter().chain(until).min()),
        }
    }

    fn tell(&mut self, key: &PodKey) {
        let Some(thread) = self.threads.get_mut(key) else {
            return;
        };
        thread.told = true;
        let why = thread.waiting.as_ref().map(|waiting| waiting.why.clone());
        if let Some(why) = why {
            self.notice(Notice::Waiting(key.clone(), why));
            self.messages.push_back(key.clone());
        }
    }

    /// Writes the sentences of records that wait, one at a time.
    pub(super) fn drive_messages(&mut self, now: Timestamp) {
        while self.message_next <= now
            && let Some(key) = self.messages.pop_front()
        {
            let idle = |thread: &&Thread| {
                !thread.is_writing() && thread.stale.is_none() && thread.back.is_none()
            };
            let thread = self.threads.get(&key).filter(idle);
            let why = thread.and_then(|thread| Some(thread.waiting.as_ref()?.why.clone()));
            let (Some(record), Some(why)) = (self.records.get(&key), why) else {
                continue;
            };
            if record.message == why {
                continue;
            }
            let mut next = record.clone();
            next.message = why;
            self.message_next = now.after(MESSAGE_GAP);
            self.store(&key, Store::Write(Box::new(next)));
        }
    }

    fn wake(&mut self, key: &PodKey, at: Option<Timestamp>) {
        let Some(thread) = self.threads.get_mut(key) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut thread.wake, at) {
            self.wakes.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.wakes.insert((at, key.clone()));
        }
    }

    fn forget(&mut self, key: &PodKey) {
        self.wake(key, None);
        self.threads.remove(key);
    }

    /// The watch told of a record.
    pub(super) fn record_seen(&mut self, key: PodKey, record: Option<PodEni>) {
        self.unreadable.remove(&key);
        if self.is_past(&key, record.as_ref()) {
            return;
        }
        let known = self.records.get(&key);
        match record {
            Some(record) if known.is_some_and(|known| older(&record, known)) => return,
            // Behind what was known already: a write that was refused for its version waits for the newer.
            Some(record) if known.is_some_and(|known| alike(&record, known)) => return,
            Some(record) => {
                let before = known.filter(|known| known.uid == record.uid).cloned();
                self.orphans.named(enis(&record));
                self.records.insert(key.clone(), record);
                if let Some(before) = before {
                    self.undo(&key, before);
                }
            }
            None => {
                let gone = known.map(|known| known.uid.clone());
                self.records.remove(&key);
                if let Some(thread) = self.threads.get_mut(&key) {
                    thread.ended = gone;
                }
            }
        }
        if let Some(thread) = self.threads.get_mut(&key) {
            thread.stale = None;
            thread.doubtful.clear();
        }
        self.think(key);
    }

    /// Whether the watch tells of a record that a write of ours ended: it is behind, and what it says to be
    /// gone is not the next one of the name.
    fn is_past(&mut self, key: &PodKey, record: Option<&PodEni>) -> bool {
        let Some(gone) = self.gone.get_mut(key) else {
            return false;
        };
        let past = match record {
            Some(record) => gone.contains(&record.uid),
            None => gone.pop_front().is_some(),
        };
        if !past || gone.is_empty() {
            self.gone.remove(key);
        }
        past
    }

    /// Brings a record back that somebody changed by hand: what is in it is what the cloud was asked for.
    fn undo(&mut self, key: &PodKey, before: PodEni) {
        let (Some(thread), Some(found)) = (self.threads.get_mut(key), self.records.get(key)) else {
            return;
        };
        let last = match &thread.last {
            Some(Store::Write(record) | Store::Create(record)) => Some(&**record),
            _ => None,
        };
        let mut writes = thread.doubtful.iter().chain(last);
        let ours = writes.any(|record| written_by(found, record, &before));
        if let Some(back) = thread.back.as_mut().filter(|_| !ours)
            && same(found, &before)
        {
            back.version.clone_from(&found.version);
            return;
        }
        if ours || found.deleting || same(found, &before) || thread.undone >= UNDONE_MAX {
            return;
        }
        thread.undone += 1;
        // A second change before the first was taken back.
        let mut back = thread.back.take().unwrap_or(before);
        back.version.clone_from(&found.version);
        (back.deleting, back.held) = (found.deleting, found.held);
        back.message =
            "this record is kept by the control plane: a change by hand was taken back".into();
        let why = format!(
            "a change by hand was taken back; to give its addresses up delete it ({})",
            difference(found, &back)
        );
        thread.back = Some(back);
        self.notice(Notice::Undone(key.clone(), why));
    }

    /// The watch told of a record nobody can read.
    pub(super) fn unreadable(&mut self, key: PodKey, enis: Option<BTreeSet<EniId>>, why: String) {
        self.records.remove(&key);
        self.unreadable.insert(key.clone(), enis);
        self.notice(Notice::Unreadable(key, why));
    }

    /// A write of a record ended.
    pub(super) fn written(
        &mut self,
        now: Timestamp,
        key: PodKey,
        result: Result<Option<Box<PodEni>>, WriteFault>,
    ) {
        let seed = self.dice.roll();
        let Some(thread) = self.threads.get_mut(&key) else {
            return;
        };
        let Some(store) = thread.last.clone().filter(|_| thread.writing) else {
            return;
        };
        thread.writing = false;
        match result {
            Ok(after) => {
                (thread.failures, thread.stale) = (0, None);
                thread.doubtful.clear();
                if let (Store::Create(_), Some(record)) = (&store, &after) {
                    thread.turn_to(record.uid.clone(), seed);
                    thread.progress.born();
                }
                let before = thread.before.take();
                let (known, ended) = (self.records.get(&key), thread.ended.as_ref());
                match after {
                    // The watch told of a change that came after ours, before our answer came.
                    Some(record) if known.is_some_and(|known| older(&record, known)) => {}
                    Some(record) if ended == Some(&record.uid) => {}
                    Some(record) => {
                        self.orphans.named(enis(&record));
                        self.records.insert(key.clone(), *record);
                    }
                    None => {
                        let let_go = match &store {
                            Store::LetGo(uid) | Store::Delete(uid) => Some(uid),
                            Store::Create(_) | Store::Write(_) => None,
                        };
                        // The next one of the name may be known by now; then the watch has told of this one's end.
                        if let Some(gone) =
                            let_go.filter(|uid| known.is_some_and(|known| known.uid == **uid))
                        {
                            self.gone
                                .entry(key.clone())
                                .or_default()
                                .push_back(gone.clone());
                            self.records.remove(&key);
                        }
                    }
                }
                self.tell_done(&key, before.as_ref(), &store);
            }
            Err(WriteFault::Stale) => thread.stale = Some(now),
            Err(WriteFault::Failed(why)) => {
                thread.failures += 1;
                let failures = thread.failures;
                thread.not_before = now.after(Backoff::CLOUD.wait(failures, &mut self.dice));
                if let Store::Write(record) = store
                    && !thread.doubtful.contains(&record)
                {
                    thread.doubtful.push(*record);
                }
                self.notice(Notice::StoreFailed(key.clone(), why));
            }
        }
        self.think(key);
    }

    /// Tells of what the write says was reached.
    fn tell_done(&mut self, key: &PodKey, before: Option<&PodEni>, store: &Store) {
        let record = match store {
            Store::Write(record) => record,
            // The last thing that happens to a record: its ENIs are gone.
            Store::LetGo(_) => {
                let enis = before.into_iter().flat_map(enis).collect::<Vec<_>>();
                for eni in enis {
                    self.notice(Notice::Did(key.clone(), Doing::Delete, eni));
                }
                return;
            }
            Store::Create(_) | Store::Delete(_) => return,
        };
        let phase = before.map(|before| before.phase);
        let doing = match record.phase {
            reached if Some(reached) == phase => return,
            Phase::Bind => Doing::Attach,
            Phase::Unbind => Doing::Detach,
            Phase::Initial | Phase::Binding | Phase::Detaching | Phase::Deleting => return,
        };
        for eni in enis(record) {
            self.notice(Notice::Did(key.clone(), doing, eni));
        }
    }
}

fn enis(record: &PodEni) -> impl Iterator<Item = EniId> + '_ {
    let made = record.allocations.iter().filter_map(|one| one.eni.as_ref());
    made.map(|eni| eni.id.clone())
}

/// Whether the watch is behind what a write of ours was answered with. Versions are counted up by every
/// API server there is; one that cannot be read as a number is taken as it comes, and a write on it is
/// refused if it was old.
fn older(record: &PodEni, known: &PodEni) -> bool {
    let number = |record: &PodEni| record.version.parse::<u64>().ok();
    record.uid == known.uid
        && number(record)
            .zip(number(known))
            .is_some_and(|(a, b)| a < b)
}

/// Whether it is the same version of the same record.
fn alike(record: &PodEni, known: &PodEni) -> bool {
    (&record.uid, &record.version) == (&known.uid, &known.version)
}

/// Whether nothing differs that only we write.
fn same(one: &PodEni, other: &PodEni) -> bool {
    describes(one) == describes(other) && status(one) == status(other)
}

/// Whether `found` is what a write of `wanted` over `before` makes, or the first half of it.
fn written_by(found: &PodEni, wanted: &PodEni, before: &PodEni) -> bool {
    let reached = status(found);
    describes(found) == describes(wanted)
        && (reached == status(wanted) || reached == status(before))
}

/// What a record describes, and whose it is.
fn describes(record: &PodEni) -> (&PodUid, &str, &ZoneId, &[Allocation]) {
    let PodEni {
        pod,
        node,
        zone,
        allocations,
        ..
    } = record;
    (pod, node, zone, allocations)
}

/// Where a record is in its life.
#[derive(PartialEq)]
struct Standing<'a> {
    phase: Phase,
    instance: Option<&'a InstanceId>,
    trunk: Option<&'a EniId>,
    attached: &'a BTreeMap<EniId, Attached>,
    /// In whole seconds: the API server keeps no more.
    last_seen: Option<u64>,
}

fn status(record: &PodEni) -> Standing<'_> {
    let seen = record.last_seen;
    Standing {
        phase: record.phase,
        instance: record.instance.as_ref(),
        trunk: record.trunk.as_ref(),
        attached: &record.attached,
        last_seen: seen.map(|at| at.as_nanos() / 1_000_000_000),
    }
}

fn difference(found: &PodEni, back: &PodEni) -> &'static str {
    match describes(found) == describes(back) {
        false => "its spec was changed",
        true => "its status was changed",
    }
}
