//! Rules about what the node's agent says, of the pod and of itself.

use super::{
    Finding,
    cluster::{logs, trouble},
    has, has_not, next,
};
use crate::{
    agent::{Explanation, PodState},
    cluster::Seen,
    explain::{advice, facts::Facts},
};

fn said(facts: &Facts, state: PodState) -> Option<&Explanation> {
    facts.agent.is().filter(|said| said.state == state)
}

pub(super) fn attached(facts: &Facts) -> Option<Finding> {
    let said = said(facts, PodState::Attached)?;
    let held = said.addresses.join(" and ");
    let eni = said.eni.as_deref().unwrap_or("an ENI of its node");
    let name = &facts.name;
    match &facts.pod {
        Seen::Is(_) => has(
            format!(
                "{name} has {held} on {eni}; kubelet has not reported it to the API server yet"
            ),
            "kubelet reports it once the sandbox runs, within seconds",
        ),
        _ => has(
            format!("{name} has {held} on {eni}, as its node's agent says"),
            &next(said, "nothing"),
        ),
    }
}

pub(super) fn waiting(facts: &Facts) -> Option<Finding> {
    let said = said(facts, PodState::Waiting)?;
    let agent = facts.status.as_ref().map(|status| &status.agent);
    let exhausted = agent.and_then(|agent| agent.exhausted.as_ref());
    let missing = said
        .missing
        .clone()
        .unwrap_or_else(|| "a free address".into());
    let verdict = match exhausted {
        Some(exhausted) => format!(
            "{} waits for an address, and its node's pool cannot grow: {}",
            facts.name,
            crate::text::foreign(&exhausted.reason)
        ),
        None => format!("{} waits for an address on its node", facts.name),
    };
    let mut clues = vec![missing.clone()];
    clues.extend(exhausted.map(|exhausted| exhausted.reason.clone()));
    let trouble = agent.and_then(|agent| agent.last_cloud_error.as_ref());
    clues.extend(trouble.map(|trouble| trouble.text.clone()));
    has_not(
        verdict,
        crate::text::foreign(&missing),
        next(
            said,
            "the pool grows, and the pod gets the first address that is free",
        ),
        advice::about(&clues),
    )
}

pub(super) fn failed(facts: &Facts) -> Option<Finding> {
    let said = said(facts, PodState::Failed)?;
    let missing = said.missing.clone().unwrap_or_default();
    has_not(
        format!("the last attempt to attach {} failed", facts.name),
        crate::text::foreign(&missing),
        next(
            said,
            "kubelet makes a new sandbox and asks again, ever more slowly up to 5 minutes",
        ),
        advice::about(&[missing]),
    )
}

pub(super) fn detaching(facts: &Facts) -> Option<Finding> {
    let said = said(facts, PodState::Detaching)?;
    let missing = said.missing.clone().unwrap_or_default();
    has_not(
        format!("the former sandbox of {} is being taken down", facts.name),
        crate::text::foreign(&missing),
        next(
            said,
            "kubelet makes a new sandbox, and that one is given an address",
        ),
        advice::about(&[missing]),
    )
}

pub(super) fn agent_not_ready(facts: &Facts) -> Option<Finding> {
    let name = &facts.name;
    let agent = facts.status.as_ref().map(|status| &status.agent);
    if let Some(agent) = agent.filter(|agent| agent.ready == Some(false)) {
        let why = agent
            .not_ready
            .clone()
            .unwrap_or_else(|| "it does not say why".into());
        let mut clues = vec![why.clone()];
        clues.extend(
            agent
                .last_cloud_error
                .as_ref()
                .map(|trouble| trouble.text.clone()),
        );
        return has_not(
            format!("the agent on the node of {name} runs and is not ready"),
            crate::text::foreign(&why),
            "the agent tries again every few seconds",
            advice::about(&clues),
        );
    }
    let pod = facts.agent_pod.is().filter(|pod| !pod.ready)?;
    if agent.is_some_and(|agent| agent.ready == Some(true)) {
        return None;
    }
    has_not(
        format!("the agent on the node of {name} runs and is not ready"),
        trouble(pod),
        "the agent tries again every few seconds",
        logs(pod),
    )
}

pub(super) fn never_asked(facts: &Facts) -> Option<Finding> {
    let said = said(facts, PodState::Unknown)?;
    let name = &facts.name;
    // Without it nobody says that there is such a pod, or that it is on this node.
    facts.pod.is()?;
    if let Some(node) = facts.node.is().filter(|node| !node.ready) {
        return has_not(
            format!(
                "the node of {name} is not ready, and nobody has asked the agent for an address yet"
            ),
            format!("the node: {}", node.why),
            "kubelet starts pods when its node is ready",
            ["look at kubelet's log on the node".into()],
        );
    }
    has_not(
        format!("the agent is ready, and nobody has asked it for an address for {name} yet"),
        said.missing.clone().unwrap_or_else(|| "the container runtime's request".into()),
        next(said, "the container runtime asks once kubelet has the pod, its volumes and its sandbox"),
        [
            "if it stays so: a CNI configuration of another plugin may sort first in /etc/cni/net.d of the node".into(),
            "look at the logs of kubelet and the container runtime on the node".into(),
        ],
    )
}
