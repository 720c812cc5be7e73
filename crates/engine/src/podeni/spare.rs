//! An ENI that no pod has: made and brought to where it is kept ready, or taken away.
//!
//! The same steps as for a pod's, without a record: the cloud is the record.

use model::{FaultClass, Timestamp, podeni::Allocation};

use super::{
    Call, NewEni, Node, Progress, SeenEni,
    binding::{Toward, toward},
    leaving::{Way, off, out, unmade},
    making::create,
    progress::{Belief, Requested, Standing},
};

/// How far it is.
#[derive(Debug)]
pub(crate) enum Keeping {
    /// This must be asked of the cloud.
    Call(Call),
    /// Nothing before an answer comes, or before this time if it is given.
    Wait(Option<Timestamp>),
    /// It exists now.
    Made(Box<NewEni>),
    /// It is where it is kept, and looks like this.
    Ready(SeenEni),
    /// There is none, and will be none: with the refusal, if there was one.
    Gone(Option<FaultClass>),
}

/// Brings a spare ENI to `node`, or without one off every node. `uid` makes its token.
pub(crate) fn keep(
    now: Timestamp,
    uid: &str,
    allocation: &Allocation,
    node: Option<&Node>,
    progress: &Progress,
) -> Keeping {
    let Some(eni) = allocation.eni.as_ref().map(|eni| &eni.id) else {
        return make(now, uid, allocation, progress);
    };
    let (wait, call) = match node {
        Some(node) => match toward(now, eni, allocation, node, progress) {
            Toward::Call(call) => (None, Some(call)),
            Toward::Wait(until) => (until, None),
            Toward::Lost => return Keeping::Gone(None),
            Toward::There(_) => return ready(now, allocation, progress),
        },
        None => match off(now, eni, None, progress) {
            Way::Call(call) => (None, Some(call)),
            Way::Wait(until) => (until, None),
            Way::Done => return ready(now, allocation, progress),
        },
    };
    call.map_or(Keeping::Wait(wait), Keeping::Call)
}

fn make(now: Timestamp, uid: &str, allocation: &Allocation, progress: &Progress) -> Keeping {
    match progress.request(now, &allocation.interface, allocation.attempt) {
        Requested::Made(new) => Keeping::Made(Box::new(new.clone())),
        Requested::Busy => Keeping::Wait(None),
        Requested::Refused {
            empty: true, fault, ..
        } => Keeping::Gone(Some(fault.class)),
        Requested::Refused {
            again, due: false, ..
        } => Keeping::Wait(Some(again)),
        Requested::Never | Requested::Unknown | Requested::Refused { .. } => {
            match create(uid, allocation) {
                Ok(call) => Keeping::Call(call),
                // No ENI is under a token that cannot exist.
                Err(_) => Keeping::Gone(None),
            }
        }
    }
}

/// What was seen last, which is as new as the step that led here.
fn ready(now: Timestamp, allocation: &Allocation, progress: &Progress) -> Keeping {
    let Some(eni) = allocation.eni.as_ref() else {
        return Keeping::Gone(None);
    };
    match progress.eni(now, &eni.id) {
        Standing::Believed(Some(Belief::Seen(seen))) => Keeping::Ready(seen.clone()),
        Standing::Believed(Some(Belief::Gone | Belief::Missing(_))) => Keeping::Gone(None),
        _ => Keeping::Call(Call::Look(eni.id.clone())),
    }
}

/// Takes a spare ENI out of the cloud.
pub(crate) fn remove(
    now: Timestamp,
    uid: &str,
    allocation: &Allocation,
    progress: &Progress,
) -> Keeping {
    let way = match &allocation.eni {
        Some(eni) => out(now, &eni.id, None, progress),
        None => unmade(now, uid, allocation, progress),
    };
    match way {
        Way::Done => Keeping::Gone(None),
        Way::Call(call) => Keeping::Call(call),
        Way::Wait(until) => Keeping::Wait(until),
    }
}
