//! From ENIs on a node to ENIs on none, and from there out of the cloud.

use std::collections::BTreeSet;

use model::{
    EniId, EniStatus, InstanceId, Timestamp,
    podeni::{Allocation, Phase, PodEni},
};

use super::{
    Call, Plan, Step, earlier, making,
    progress::{Belief, MISSING_OFF, Progress, Requested, Standing},
};

/// Takes the ENIs off their node and keeps them: the record says so before the first call and after the
/// last. Instance and trunk stay written; they tell where the pod was.
pub(super) fn unbind(now: Timestamp, record: &PodEni, progress: &Progress) -> Plan {
    let mut next = record.clone();
    if record.phase != Phase::Detaching {
        next.phase = Phase::Detaching;
        // The promise counts from here: the pod is gone now, and was there until just before.
        next.last_seen = Some(now.max(record.last_seen.unwrap_or_default()));
        return Plan::step(Step::Write(Box::new(next)));
    }
    for allocation in &mut next.allocations {
        making::adopt(now, allocation, progress);
    }
    // An ENI that came after its pod had gone: kept with the others, and first of all written.
    if next.allocations != record.allocations {
        return Plan::step(Step::Write(Box::new(next)));
    }
    let ways = record.allocations.iter().map(|one| match &one.eni {
        Some(eni) => off(now, &eni.id, home(record, &eni.id), progress),
        None => unmade(now, &record.uid, one, progress),
    });
    match Ways::of(ways) {
        Ways::Done => {
            next.phase = Phase::Unbind;
            next.attached.clear();
            Plan::step(Step::Write(Box::new(next)))
        }
        Ways::Open(step) => Plan {
            step,
            why: Some("waiting for the ENI to be detached".into()),
        },
    }
}

/// Takes the ENIs out of the cloud, then lets the record go.
pub(super) fn delete(
    now: Timestamp,
    record: &PodEni,
    parted: &BTreeSet<EniId>,
    progress: &Progress,
) -> Plan {
    if !record.held {
        return Plan::rest();
    }
    let ways = record.allocations.iter().map(|one| match &one.eni {
        Some(eni) if parted.contains(&eni.id) => Way::Done,
        Some(eni) => out(now, &eni.id, home(record, &eni.id), progress),
        None => unmade(now, &record.uid, one, progress),
    });
    match Ways::of(ways) {
        Ways::Done => Plan::step(Step::LetGo),
        Ways::Open(step) => Plan {
            step,
            why: Some("waiting for the ENI to be deleted".into()),
        },
    }
}

/// What is left to do with one ENI.
pub(super) enum Way {
    Done,
    Call(Call),
    Wait(Option<Timestamp>),
}

/// What is left to do with all of them.
enum Ways {
    Done,
    Open(Step),
}

impl Ways {
    fn of(ways: impl Iterator<Item = Way>) -> Self {
        let (mut calls, mut until, mut open) = (Vec::new(), None::<Timestamp>, false);
        for way in ways {
            match way {
                Way::Done => {}
                Way::Call(call) => calls.push(call),
                Way::Wait(again) => {
                    open = true;
                    until = earlier(until, again);
                }
            }
        }
        match (calls.is_empty(), open) {
            (true, false) => Ways::Done,
            (true, true) => Ways::Open(Step::Wait(until)),
            (false, _) => Ways::Open(Step::Call(calls)),
        }
    }
}

/// An instance, and the trunk there.
type Home<'a> = (&'a InstanceId, Option<&'a EniId>);

/// Where the record says that the ENI is.
fn home<'a>(record: &'a PodEni, eni: &EniId) -> Option<Home<'a>> {
    let attached = record.attached.get(eni)?;
    let trunk = attached.vlan.and(record.trunk.as_ref());
    Some((record.instance.as_ref()?, trunk))
}

/// Off its instance.
pub(super) fn off(now: Timestamp, eni: &EniId, home: Option<Home<'_>>, progress: &Progress) -> Way {
    let belief = match progress.eni(now, eni) {
        Standing::Busy => return Way::Wait(None),
        Standing::Resting(until) => return Way::Wait(Some(until)),
        Standing::Believed(belief) => belief,
    };
    match belief {
        Some(Belief::Gone | Belief::Fresh) => Way::Done,
        Some(Belief::Missing(looks)) if *looks >= MISSING_OFF => Way::Done,
        Some(Belief::Missing(_)) => Way::Call(Call::Look(eni.clone())),
        Some(Belief::Moving) => Way::Call(Call::Look(eni.clone())),
        Some(Belief::Seen(seen)) => match (seen.status, &seen.instance) {
            (EniStatus::Available | EniStatus::Deleting, _) => Way::Done,
            (EniStatus::InUse, Some(instance)) => Way::Call(Call::Detach {
                eni: eni.clone(),
                instance: instance.clone(),
                trunk: seen.trunk.clone(),
            }),
            _ => Way::Call(Call::Look(eni.clone())),
        },
        // The record says where it is; a detach of what is not there is refused and then looked at.
        None => match home.filter(|_| progress.complaint(eni).is_none()) {
            Some((instance, trunk)) => Way::Call(Call::Detach {
                eni: eni.clone(),
                instance: instance.clone(),
                trunk: trunk.cloned(),
            }),
            None => Way::Call(Call::Look(eni.clone())),
        },
    }
}

/// Off its instance and deleted.
pub(super) fn out(now: Timestamp, eni: &EniId, home: Option<Home<'_>>, progress: &Progress) -> Way {
    match progress.eni(now, eni) {
        Standing::Believed(Some(Belief::Gone)) => return Way::Done,
        // The delete tells: it is refused for what is attached.
        Standing::Believed(Some(Belief::Missing(_))) => {
            return Way::Call(Call::Delete(eni.clone()));
        }
        _ => {}
    }
    match off(now, eni, home, progress) {
        Way::Done => Way::Call(Call::Delete(eni.clone())),
        other => other,
    }
}

/// An allocation without an ENI may have one all the same: the process that asked for it died, or the
/// answer was lost. Asking again under its token names it.
pub(super) fn unmade(
    now: Timestamp,
    uid: &str,
    allocation: &Allocation,
    progress: &Progress,
) -> Way {
    match progress.request(now, &allocation.interface, allocation.attempt) {
        Requested::Never => Way::Done,
        Requested::Busy => Way::Wait(None),
        Requested::Made(new) => out(now, &new.eni.id, None, progress),
        Requested::Refused { empty: true, .. } => Way::Done,
        Requested::Refused {
            again, due: false, ..
        } => Way::Wait(Some(again)),
        Requested::Unknown | Requested::Refused { .. } => {
            match making::create(uid, allocation) {
                Ok(call) => Way::Call(call),
                // Never asked under a token that cannot exist.
                Err(_) => Way::Done,
            }
        }
    }
}
