//! Rules about the pod itself: it is gone, ended, not scheduled, or has an address already.

use super::{Finding, Outcome, has, has_not, next};
use crate::{
    agent::{Explanation, PodState},
    cluster::Seen,
    explain::facts::{Facts, Pod},
};

pub(super) fn gone(facts: &Facts) -> Option<Finding> {
    if facts.pod != Seen::Absent {
        return None;
    }
    let name = &facts.name;
    match facts.agent.is().map(|said| said.state) {
        Some(PodState::Attached | PodState::Detaching) => has_not(
            format!("{name} does not exist any more; its node's agent still holds its address"),
            "",
            "the container runtime takes the sandbox down, and the address rests before its next pod",
            [format!(
                "if it stays so for minutes, look at the node's container runtime: {}",
                "`crictl pods` shows sandboxes it could not remove"
            )],
        ),
        _ => has_not(
            format!("{name} does not exist"),
            "",
            "nothing",
            ["check namespace and name: `kubectl get pods -A | grep NAME`".to_owned()],
        ),
    }
}

pub(super) fn host_network(facts: &Facts) -> Option<Finding> {
    let pod = facts.pod.is().filter(|pod| pod.host_network)?;
    let name = &facts.name;
    if pod.node.is_none() {
        return unscheduled(facts);
    }
    match pod.addresses.first() {
        Some(address) => has(
            format!(
                "{name} uses its node's network and has the node's address {address}; Terway gives it none"
            ),
            "nothing",
        ),
        None => has_not(
            format!(
                "{name} uses its node's network; Terway gives it no address, and kubelet has not reported the node's yet"
            ),
            "kubelet's report",
            "kubelet reports the address when the pod's sandbox runs",
            [describe(facts)],
        ),
    }
}

pub(super) fn finished(facts: &Facts) -> Option<Finding> {
    let pod = facts.pod.is().filter(|pod| pod.finished())?;
    has_not(
        format!(
            "{} has ended ({}); an ended pod gives its address back",
            facts.name, pod.phase
        ),
        "",
        "nothing, unless its controller makes another pod",
        [format!("why it ended: {}", describe(facts))],
    )
}

pub(super) fn has_address(facts: &Facts) -> Option<Finding> {
    let pod = facts.pod.is()?;
    if pod.addresses.is_empty() {
        return None;
    }
    let (name, addresses) = (&facts.name, pod.addresses.join(" and "));
    match facts.agent.is() {
        Some(said) if said.state == PodState::Attached && !same(pod, said) => {
            let held = said.addresses.join(" and ");
            Some(Finding {
                outcome: Outcome::Has,
                verdict: format!(
                    "{name} has {addresses} in the API server and {held} on its node: they differ"
                ),
                missing: Some("agreement between kubelet's report and the agent".into()),
                next: "kubelet reports again within seconds if its sandbox was just made anew"
                    .into(),
                todo: vec![format!(
                    "if it stays so, delete the pod, and report it with `terway-cli sysdump`: {}",
                    "this must not happen"
                )],
            })
        }
        Some(said) if said.state == PodState::Attached => {
            let eni = said.eni.as_deref().unwrap_or("an ENI of its node");
            let what = match said.interfaces.as_slice() {
                [] => {
                    let by = said.link.as_ref().map(|link| format!(" by {link}"));
                    format!("{name} has {addresses}, on {eni}{}", by.unwrap_or_default())
                }
                several => format!("{name} has {addresses}, and by {}", several.join("; by ")),
            };
            has(what, &next(said, "nothing"))
        }
        Some(said) if said.state == PodState::Detaching => has(
            format!("{name} has {addresses}; its sandbox is being taken down"),
            &next(said, "kubelet makes a new sandbox if the pod is to live on"),
        ),
        // What the API server has is of the sandbox before.
        Some(said) if matches!(said.state, PodState::Waiting | PodState::Failed) => None,
        Some(_) if !pod.deleting => has(
            format!(
                "{name} has {addresses}, but not from this node's agent: another CNI plugin gave it, or it was given before the agent's ledger began"
            ),
            "nothing: Terway leaves it alone",
        ),
        _ => has(
            format!("{name} has {addresses}, as the API server says"),
            "nothing",
        ),
    }
}

fn same(pod: &Pod, said: &Explanation) -> bool {
    said.addresses.is_empty()
        || said
            .addresses
            .iter()
            .any(|held| pod.addresses.contains(held))
}

pub(super) fn deleting(facts: &Facts) -> Option<Finding> {
    facts.pod.is().filter(|pod| pod.deleting)?;
    has_not(
        format!("{} is being deleted and gets no address any more", facts.name),
        "",
        "kubelet ends its containers and removes it when its grace period is over",
        ["if it stays for long: a finalizer, or a node that is away, keeps it (`kubectl get pod -o yaml`)".into()],
    )
}

pub(super) fn unscheduled(facts: &Facts) -> Option<Finding> {
    let pod = facts.pod.is().filter(|pod| pod.node.is_none())?;
    let name = &facts.name;
    if !pod.gates.is_empty() {
        let gates = pod.gates.join(", ");
        return has_not(
            format!("{name} is held back from the scheduler by its scheduling gates"),
            format!("the removal of {gates}"),
            "nothing until whoever set the gates removes them",
            ["ask the controller the gates are named after".into()],
        );
    }
    match &pod.unscheduled {
        Some(why) => has_not(
            format!("{name} has no node yet, and an address comes after that"),
            format!("a node it fits on: {why}"),
            "the scheduler tries again whenever a node or a pod changes",
            ["add what the scheduler names: a node, resources, a toleration".into()],
        ),
        None => has_not(
            format!("{name} has no node yet, and the scheduler has not said a word about it"),
            "a scheduler that answers for it",
            "the scheduler takes a pod up within seconds",
            ["look whether kube-scheduler runs, and at the pod's spec.schedulerName".into()],
        ),
    }
}

fn describe(facts: &Facts) -> String {
    match facts.name.split_once('/') {
        Some((namespace, name)) => format!("`kubectl -n {namespace} describe pod {name}`"),
        None => "`kubectl describe pod`".into(),
    }
}
