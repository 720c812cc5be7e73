//! The verdict: from everything that is known to one answer. Pure: no clock, no question asked.
//!
//! The rules stand in the order in which they decide; the first that applies answers. What the agent
//! says it does for the pod beats what could be guessed from outside; what keeps the agent from working
//! beats what its absence causes.

mod agent;
mod cluster;
mod own_eni;
mod pod;
#[cfg(test)]
mod tests;

use super::facts::Facts;
use crate::{agent::Explanation, cluster::Seen};

/// Whether the pod has its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has.
    Has,
    /// It has not.
    HasNot,
    /// That could not be found out.
    Undecided,
}

/// What a rule found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) outcome: Outcome,
    /// What is, in one sentence.
    pub(crate) verdict: String,
    /// What is missing.
    pub(crate) missing: Option<String>,
    /// What happens by itself.
    pub(crate) next: String,
    /// What a person can do.
    pub(crate) todo: Vec<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) finding: Finding,
    /// What was tried, oldest first: seconds since the Unix epoch, and what.
    pub(crate) tried: Vec<(u64, String)>,
    /// What could not be asked.
    pub(crate) unasked: Vec<String>,
}

type Rule = fn(&Facts) -> Option<Finding>;

const RULES: [Rule; 18] = [
    pod::gone,
    pod::host_network,
    pod::finished,
    pod::has_address,
    pod::deleting,
    pod::unscheduled,
    agent::attached,
    own_eni::unbound,
    agent::waiting,
    agent::failed,
    agent::detaching,
    cluster::not_installed,
    cluster::misconfigured,
    cluster::node_away,
    cluster::no_agent,
    agent::agent_not_ready,
    cluster::sandbox_trouble,
    agent::never_asked,
];

/// Answers.
pub(crate) fn verdict(facts: &Facts) -> Answer {
    let finding = RULES.iter().find_map(|rule| rule(facts));
    Answer {
        finding: finding.unwrap_or_else(|| undecided(facts)),
        tried: tried(facts),
        unasked: unasked(facts),
    }
}

fn has(verdict: String, next: &str) -> Option<Finding> {
    Some(Finding {
        outcome: Outcome::Has,
        verdict,
        missing: None,
        next: next.into(),
        todo: Vec::new(),
    })
}

fn has_not(
    verdict: String,
    missing: impl Into<String>,
    next: impl Into<String>,
    todo: impl IntoIterator<Item = String>,
) -> Option<Finding> {
    let missing: String = missing.into();
    Some(Finding {
        outcome: Outcome::HasNot,
        verdict,
        missing: (!missing.is_empty()).then_some(missing),
        next: next.into(),
        todo: todo.into_iter().collect(),
    })
}

fn next(said: &Explanation, otherwise: &str) -> String {
    match said.next.as_str() {
        "" => otherwise.to_owned(),
        text => crate::text::foreign(text),
    }
}

fn undecided(facts: &Facts) -> Finding {
    let pending = facts.pod.is().is_some();
    Finding {
        outcome: if pending { Outcome::HasNot } else { Outcome::Undecided },
        verdict: if pending {
            format!("{} has no address, and who could say why could not be asked", facts.name)
        } else {
            format!("whether {} has an address could not be found out", facts.name)
        },
        missing: Some("answers: see what could not be asked".into()),
        next: "unknown".into(),
        todo: vec![
            "run this where a kubeconfig is (--kubeconfig), with a user who may read pods, nodes and events and exec into the agents' pods".into(),
            "or in the agent's pod on the pod's node: `kubectl -n kube-system exec POD -c terway -- terway-cli explain NAMESPACE/POD`".into(),
        ],
    }
}

/// The agent's steps and the pod's events, by time.
fn tried(facts: &Facts) -> Vec<(u64, String)> {
    let mut list = Vec::new();
    for step in facts.agent.is().iter().flat_map(|said| &said.tried) {
        list.push((
            step.at,
            format!("agent: {}", crate::text::foreign(&step.what)),
        ));
    }
    for event in facts.events.is().into_iter().flatten() {
        let times = if event.times > 1 {
            format!(" ({} times)", event.times)
        } else {
            String::new()
        };
        list.push((
            event.at,
            format!("event {}{times}: {}", event.reason, event.text),
        ));
    }
    list.sort_by_key(|(at, _)| *at);
    list
}

fn unasked(facts: &Facts) -> Vec<String> {
    let own = facts.own_eni.as_ref();
    let asked = [
        ("the pod", reason(&facts.pod)),
        ("its node", reason(&facts.node)),
        ("the agent's pod", reason(&facts.agent_pod)),
        ("DaemonSet terway", reason(&facts.daemonset)),
        ("ConfigMap eni-config", reason(&facts.config)),
        ("events", reason(&facts.events)),
        ("the node's agent", reason(&facts.agent)),
        ("its PodENI", own.and_then(|own| reason(&own.record))),
        (
            "the control plane",
            own.and_then(|own| reason(&own.control_plane)),
        ),
    ];
    // One cause, such as an API server that is away, is said once with all it hides.
    let mut list: Vec<(Vec<&str>, &String)> = Vec::new();
    for (what, why) in asked {
        let Some(why) = why else { continue };
        match list.iter_mut().find(|(_, known)| *known == why) {
            Some((all, _)) => all.push(what),
            None => list.push((vec![what], why)),
        }
    }
    let line = |(all, why): (Vec<&str>, &String)| {
        format!("{}: {}", all.join(", "), crate::text::foreign(why))
    };
    list.into_iter().map(line).collect()
}

fn reason<T>(seen: &Seen<T>) -> Option<&String> {
    match seen {
        Seen::Unknown(why) => Some(why),
        _ => None,
    }
}
