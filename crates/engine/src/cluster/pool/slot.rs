//! One spare ENI: its next step, and what its calls came to.

use std::time::Duration;

use model::{Exhausted, FaultClass, Timestamp};

use super::{Cluster, Matter, Place, RESTS, SlotId, Standing};
use crate::{
    budget::Purpose,
    cluster::{
        calls::{Asker, Op, api_of},
        message::{Action, Notice},
    },
    podeni::{Answer, Call, Fault, Keeping, Progress, keep, remove},
};

/// When a call that something under way holds back is tried again.
const HELD_BACK: Duration = Duration::from_secs(1);

/// When one whose address a pod reports is looked at again.
const IN_USE: Duration = Duration::from_secs(60);

impl Cluster {
    /// Does the next thing for a spare ENI.
    pub(super) fn advance_slot(&mut self, now: Timestamp, id: SlotId) {
        while let Some(next) = self.next_of(now, id) {
            let Some(slot) = self.pool.slots.get_mut(&id) else {
                return;
            };
            match next {
                Keeping::Call(call) => return self.call_for(now, id, call),
                Keeping::Wait(until) => {
                    if let Some(until) = until {
                        self.pool.alarms.set(Matter::Slot(id), until);
                    }
                    return;
                }
                Keeping::Made(new) => {
                    slot.allocation.addresses = new.addresses;
                    self.pool.by_eni.insert(new.eni.id.clone(), id);
                    slot.allocation.eni = Some(new.eni);
                }
                Keeping::Ready(seen) => {
                    (slot.standing, slot.since) = (Standing::Ready(seen), now);
                    let place = slot.place.clone();
                    self.pool.visit(place);
                    return self.make_way();
                }
                Keeping::Gone(refusal) => {
                    let leaving = matches!(slot.standing, Standing::Leaving);
                    self.pool.spent.returned += u64::from(leaving && slot.allocation.eni.is_some());
                    let at = (slot.edition.clone(), slot.place.clone());
                    self.pool.remove(id);
                    if refusal.is_some() && !leaving {
                        self.refused(now, &at.0, &at.1);
                    }
                    return self.make_way();
                }
            }
        }
    }

    /// What is next; nothing when it stands where it is.
    fn next_of(&mut self, now: Timestamp, id: SlotId) -> Option<Keeping> {
        let seed = self.dice.roll();
        if let Some(until) = self.not_given_up(now, id) {
            return Some(Keeping::Wait(Some(until)));
        }
        let slot = self.pool.slots.get_mut(&id)?;
        match &slot.standing {
            Standing::Given | Standing::Ready(_) => return None,
            Standing::Resting(until) if *until > now => return Some(Keeping::Wait(Some(*until))),
            // What is known of it is as old as its rest.
            Standing::Resting(_) => {
                slot.standing = Standing::Coming;
                slot.progress = Progress::new(seed);
                slot.progress.born();
            }
            Standing::Drawn(..) => {
                let until = now.after(RESTS);
                slot.standing = Standing::Resting(until);
                return Some(Keeping::Wait(Some(until)));
            }
            Standing::Coming | Standing::Leaving => {}
        }
        let node = match &slot.place {
            Place::Node(name) => Some(name),
            Place::Zone(_) => None,
        };
        let found = node.and_then(|name| self.nodes.get(name));
        if node.is_some() && found.is_none_or(|node| node.trunk.is_none()) {
            slot.standing = Standing::Leaving;
        }
        let (identity, one) = (&slot.identity, &slot.allocation);
        Some(match slot.standing {
            Standing::Leaving => remove(now, identity, one, &slot.progress),
            _ => keep(now, identity, one, found, &slot.progress),
        })
    }

    /// Until when the pod that drew it is waited for: its record may be written yet.
    fn not_given_up(&self, now: Timestamp, id: SlotId) -> Option<Timestamp> {
        let Standing::Drawn(key, _) = &self.pool.slots.get(&id)?.standing else {
            return None;
        };
        let writes = self.threads.get(key).is_some_and(|one| one.is_writing());
        let pod = self.pods.get(key).filter(|pod| !pod.pod.finished);
        let waits = pod.is_some() && !self.records.contains_key(key);
        (writes || waits).then(|| now.after(RESTS))
    }

    fn call_for(&mut self, now: Timestamp, id: SlotId, call: Call) {
        let Some(slot) = self.pool.slots.get(&id) else {
            return;
        };
        let purpose = match slot.standing {
            // A pod waits for its room.
            Standing::Leaving if self.room(&slot.place).is_some_and(|room| room < 0) => {
                Purpose::Pod
            }
            Standing::Leaving => Purpose::Housekeeping,
            _ => Purpose::Refill,
        };
        let takes = matches!(call, Call::Detach { .. } | Call::Delete(_));
        let addresses = &slot.allocation.addresses;
        let has = |address| addresses.iter().any(|(_, own)| *own == address);
        if takes && self.pod_at(has).is_some() {
            // Somebody deleted the record of a pod that runs.
            let at = now.after(IN_USE);
            return self.pool.alarms.set(Matter::Slot(id), at);
        }
        let Some(slot) = self.pool.slots.get_mut(&id) else {
            return;
        };
        if let Call::Look(eni) = &call {
            slot.progress.called(&call);
            return self.want_look(now, eni.clone(), Asker::Spare(id));
        }
        match self.opens(now, api_of(&call), purpose) {
            Some(at) if at <= now => {}
            opens => {
                let at = opens.unwrap_or_else(|| now.after(HELD_BACK));
                return self.pool.alarms.set(Matter::Slot(id), at);
            }
        }
        if let Some(progress) = self.pool.progress_of(id) {
            progress.called(&call);
        }
        let op = self.start(now, Op::Eni(Asker::Spare(id), call.clone()));
        self.emit(Action::Call(op, call));
    }

    /// A call for a spare ENI ended.
    pub(in crate::cluster) fn spare_called(
        &mut self,
        now: Timestamp,
        id: SlotId,
        call: &Call,
        result: Result<Answer, Fault>,
    ) {
        match (&result, call) {
            (Ok(_), Call::Create(create)) => self.took(&create.vswitch),
            (Err(fault), Call::Create(create))
                if fault.class == FaultClass::Exhausted(Exhausted::VSwitch) =>
            {
                self.vswitches.filled(now, &create.vswitch);
            }
            _ => {}
        }
        let Some(slot) = self.pool.slots.get_mut(&id) else {
            return;
        };
        let refused = result.as_ref().err().cloned();
        let taken = match slot.place {
            Place::Node(_) => matches!(call, Call::Attach { .. }),
            Place::Zone(_) => matches!(call, Call::Create(_)),
        };
        if result.is_ok() && taken {
            let at = (slot.edition.clone(), slot.place.clone());
            self.pool.told.remove(&at.0);
            self.pool.refused.remove(&at);
        }
        let waits = &self.config.waits;
        slot.progress.answered(now, waits, call, result);
        self.pool.look_at(id);
        let Some(fault) = refused.filter(|_| matches!(call, Call::Create(_) | Call::Attach { .. }))
        else {
            return;
        };
        self.tell_refused(id, &fault);
        // What time alone does not mend is not tried again here and now.
        let passes = matches!(
            fault.class,
            FaultClass::Throttled | FaultClass::Conflict | FaultClass::Unknown
        );
        if matches!(call, Call::Attach { .. }) && !passes {
            let Some(slot) = self.pool.slots.get(&id) else {
                return;
            };
            let at = (slot.edition.clone(), slot.place.clone());
            self.pool.stand(now, id, Standing::Leaving);
            self.refused(now, &at.0, &at.1);
        }
    }

    fn tell_refused(&mut self, id: SlotId, fault: &Fault) {
        let slot = self.pool.slots.get(&id);
        let edition = slot.map(|slot| slot.edition.clone());
        // What is gone says nothing about the next one.
        let passes = matches!(fault.class, FaultClass::Throttled | FaultClass::Gone);
        if let Some(edition) = edition.filter(|_| !passes) {
            self.tell_failed(edition, &fault.text);
        }
    }

    /// Tells once that no spare ENI of an edition can be made, until one is.
    pub(super) fn tell_failed(&mut self, edition: String, why: &str) {
        let name = self.edition(&edition).map(|one| one.name.clone());
        if let Some(name) = name
            && self.pool.told.insert(edition)
        {
            self.notice(Notice::SpareFailed(name, why.to_owned()));
        }
    }

    /// One fewer is on its way: those that wait for that are looked at.
    fn make_way(&mut self) {
        for place in std::mem::take(&mut self.pool.queue) {
            self.pool.visit(place);
        }
    }
}
