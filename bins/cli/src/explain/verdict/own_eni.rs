//! Rules about a pod that gets ENIs of its own: they are made by the control plane, and the node's agent
//! waits for them.

use super::{Finding, has_not};
use crate::{
    cluster::Seen,
    explain::{
        advice,
        facts::{Event, Facts},
        own_eni::{CONTROL_PLANE, OwnEni, Record},
    },
};

/// What the control plane does next, if it runs.
const GOES_ON: &str = "the control plane goes on by itself, and the agent gives the pod its ENI as soon as it is bound";

/// The ENIs are not bound yet.
pub(super) fn unbound(facts: &Facts) -> Option<Finding> {
    let own = facts.own_eni.as_ref()?;
    let uid = facts.pod.is().map_or("", |pod| pod.uid.as_str());
    match &own.record {
        Seen::Is(record) if record.is_bound_for(uid) => None,
        Seen::Is(record) => unmade(facts, own, Some(record)),
        Seen::Absent => unmade(facts, own, None),
        // What the agent says is more than a guess.
        Seen::Pointless | Seen::Unknown(_) => None,
    }
}

fn unmade(facts: &Facts, own: &OwnEni, record: Option<&Record>) -> Option<Finding> {
    nobody(facts, own).or_else(|| waiting(facts, own, record))
}

/// Nobody makes them.
fn nobody(facts: &Facts, own: &OwnEni) -> Option<Finding> {
    let name = &facts.name;
    let verdict = format!("{name} waits for an ENI of its own, and no control plane makes it");
    match &own.control_plane {
        Seen::Absent => has_not(
            verdict,
            format!("Deployment {CONTROL_PLANE}: it is not installed"),
            "nothing, until a control plane runs",
            [
                "install it: docs/controlplane.md".into(),
                "or delete the pod, and the PodNetworking that selects it: the next one gets an address of the \
                 node's shared ENIs"
                    .into(),
            ],
        ),
        Seen::Is(replicas) if replicas.ready == 0 => has_not(
            verdict,
            format!("a ready replica of Deployment {CONTROL_PLANE}: 0 of {} are", replicas.wanted),
            "the control plane goes on where it was as soon as one is ready; nothing is lost",
            [
                format!("kubectl -n kube-system get pods -l app={CONTROL_PLANE}"),
                format!("kubectl -n kube-system logs deployment/{CONTROL_PLANE}"),
            ],
        ),
        _ => None,
    }
}

fn waiting(facts: &Facts, own: &OwnEni, record: Option<&Record>) -> Option<Finding> {
    let name = &facts.name;
    let uid = facts.pod.is().map_or("", |pod| pod.uid.as_str());
    let before = record.is_some_and(|record| !record.deleting && record.pod_uid != uid);
    let message = record
        .map(|record| record.message.clone())
        .filter(|text| !text.is_empty());
    let missing = message
        .or_else(|| told(facts))
        .or_else(|| (own.trunk == Seen::Is(false)).then(|| "its node has no trunk ENI".into()))
        .unwrap_or_else(|| match record {
            Some(_) if before => {
                "a PodENI of its own: what the pod before it had is taken back, or given to it, first".into()
            }
            Some(_) => "the cloud's answer".into(),
            None => "its PodENI, which the control plane makes first".into(),
        });
    let at = match record {
        None => "no PodENI is there yet".to_owned(),
        Some(record) if record.deleting => {
            "the PodENI of the pod before it is being deleted".to_owned()
        }
        Some(_) if before => "its PodENI is still that of the pod before it".to_owned(),
        Some(record) if record.phase.is_empty() => "its PodENI was just made".to_owned(),
        Some(record) => format!("its PodENI is in phase {}", record.phase),
    };
    has_not(
        format!("{name} waits for an ENI of its own: {at}"),
        crate::text::foreign(&missing),
        GOES_ON,
        advice::about(&[missing]),
    )
}

/// What the control plane said last in an event of the pod.
fn told(facts: &Facts) -> Option<String> {
    let ours = |event: &&Event| {
        ["PodENIWaiting", "CreateENIFailed", "AttachENIFailed"].contains(&event.reason.as_str())
    };
    let last = facts.events.is()?.iter().rev().find(ours)?;
    Some(last.text.clone())
}
