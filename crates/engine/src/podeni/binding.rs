//! From ENIs that exist to ENIs the pod's node can use.

use std::collections::BTreeSet;

use model::{
    EniId, EniStatus, Timestamp,
    podeni::{Allocation, Attached, Phase, PodEni},
    podnetworking::EniAttachment,
};

use super::{
    Call, Node, Plan, SeenEni, Step, earlier,
    progress::{Belief, Progress, Standing},
};

/// Brings every ENI of the record to `node`, and says so in the record when all are there.
pub(super) fn bind(now: Timestamp, record: &PodEni, node: &Node, progress: &Progress) -> Plan {
    let mut next = record.clone();
    next.attached.clear();
    let (mut calls, mut whys, mut until) = (Vec::new(), Vec::new(), None::<Timestamp>);
    for (at, allocation) in record.allocations.iter().enumerate() {
        let Some(eni) = allocation.eni.as_ref().map(|eni| &eni.id) else {
            continue;
        };
        match toward(now, eni, allocation, node, progress) {
            Toward::There(attached) => {
                next.attached.insert(eni.clone(), attached);
            }
            Toward::Call(call) => calls.push(call),
            Toward::Wait(again) => until = earlier(until, again),
            Toward::Lost => {
                whys.push(format!(
                    "{eni} is gone from the cloud; another is made for it"
                ));
                lose(&mut next, at);
            }
        }
        whys.extend(complaint(progress, eni));
    }
    let why = match (
        whys.is_empty(),
        next.attached.len() == record.allocations.len(),
    ) {
        (false, _) => Some(whys.join("; ")),
        (true, true) => None,
        (true, false) => Some(format!(
            "waiting for the ENI to be attached to {}",
            node.name
        )),
    };
    let lost = next.allocations != record.allocations;
    let step = if lost {
        Step::Write(Box::new(next))
    } else if next.attached.len() == record.allocations.len() {
        next.phase = Phase::Bind;
        next.instance = Some(node.instance.clone());
        next.trunk.clone_from(&node.trunk);
        next.message = String::new();
        next.last_seen = Some(now);
        Step::Write(Box::new(next))
    } else if calls.is_empty() {
        Step::Wait(until)
    } else {
        Step::Call(calls)
    };
    Plan { step, why }
}

fn complaint(progress: &Progress, eni: &EniId) -> Option<String> {
    let fault = progress.complaint(eni)?;
    Some(format!("{eni}: {}", fault.text))
}

/// The ENI is gone: the next one is asked for under a new token, with the same addresses if they were
/// promised.
fn lose(record: &mut PodEni, at: usize) {
    if let Some(allocation) = record.allocations.get_mut(at) {
        allocation.eni = None;
        allocation.attempt += 1;
        if !allocation.tenure.is_fixed() {
            allocation.addresses = model::DualStack::default();
        }
    }
    record.phase = Phase::Initial;
}

/// Gives up ENIs that another record has the better right to, and their addresses, promised or not.
pub(super) fn part(record: &PodEni, parted: &BTreeSet<EniId>) -> Plan {
    let mut next = record.clone();
    for (at, allocation) in record.allocations.iter().enumerate() {
        let eni = allocation.eni.as_ref();
        if eni.is_some_and(|eni| parted.contains(&eni.id)) {
            next.attached.clear();
            lose(&mut next, at);
            if let Some(lost) = next.allocations.get_mut(at) {
                lost.addresses = model::DualStack::default();
            }
        }
    }
    Plan {
        step: Step::Write(Box::new(next)),
        why: Some("its ENI serves another pod; another is made for it".into()),
    }
}

/// What brings an ENI to a node.
pub(super) enum Toward {
    There(Attached),
    Call(Call),
    Wait(Option<Timestamp>),
    Lost,
}

pub(super) fn toward(
    now: Timestamp,
    eni: &EniId,
    allocation: &Allocation,
    node: &Node,
    progress: &Progress,
) -> Toward {
    let belief = match progress.eni(now, eni) {
        Standing::Busy => return Toward::Wait(None),
        Standing::Resting(until) => return Toward::Wait(Some(until)),
        Standing::Believed(belief) => belief,
    };
    let trunk = match allocation.attachment {
        EniAttachment::Own => None,
        EniAttachment::Default | EniAttachment::Trunk => node.trunk.clone(),
    };
    let attach = || {
        Toward::Call(Call::Attach {
            eni: eni.clone(),
            instance: node.instance.clone(),
            trunk: trunk.clone(),
        })
    };
    match belief {
        None | Some(Belief::Moving) => Toward::Call(Call::Look(eni.clone())),
        Some(Belief::Gone) => Toward::Lost,
        Some(Belief::Fresh | Belief::Missing(_)) => attach(),
        Some(Belief::Seen(seen)) => match seen.status {
            EniStatus::Available => attach(),
            EniStatus::Attaching | EniStatus::Detaching | EniStatus::Deleting => {
                Toward::Call(Call::Look(eni.clone()))
            }
            EniStatus::InUse => in_use(eni, seen, trunk.as_ref(), node),
        },
    }
}

fn in_use(eni: &EniId, seen: &SeenEni, trunk: Option<&EniId>, node: &Node) -> Toward {
    let here = seen.instance.as_ref() == Some(&node.instance) && seen.trunk.as_ref() == trunk;
    match (here, trunk, seen.vlan) {
        (true, None, _) => Toward::There(Attached { vlan: None }),
        (true, Some(_), Some(vlan)) => Toward::There(Attached { vlan: Some(vlan) }),
        // A member without its VLAN: the answer was written before the attach was complete.
        (true, Some(_), None) => Toward::Call(Call::Look(eni.clone())),
        (false, ..) => match &seen.instance {
            Some(instance) => Toward::Call(Call::Detach {
                eni: eni.clone(),
                instance: instance.clone(),
                trunk: seen.trunk.clone(),
            }),
            None => Toward::Call(Call::Look(eni.clone())),
        },
    }
}
