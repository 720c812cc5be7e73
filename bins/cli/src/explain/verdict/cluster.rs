//! Rules about what an agent needs before it can say anything: an installation, a configuration, a node,
//! a container that runs; and about what kubelet says when the agent was never asked.

use super::{Finding, has_not};
use crate::{
    cluster::Seen,
    explain::{
        advice,
        facts::{AgentPod, Facts},
    },
};

pub(super) fn not_installed(facts: &Facts) -> Option<Finding> {
    if facts.daemonset != Seen::Absent {
        return None;
    }
    has_not(
        format!("nobody can give {} an address: Terway is not installed", facts.name),
        "DaemonSet terway",
        "nothing",
        ["apply the manifests of the release, or name the namespace they are in (--agent-namespace)".into()],
    )
}

pub(super) fn misconfigured(facts: &Facts) -> Option<Finding> {
    let told = facts
        .status
        .as_ref()
        .and_then(|status| status.agent.config_error.clone());
    let wrong = match (&facts.config, told) {
        (Seen::Absent, _) => "ConfigMap eni-config does not exist".to_owned(),
        (Seen::Is(Err(why)), _) => format!("ConfigMap eni-config: {why}"),
        (_, Some(told)) => crate::text::foreign(&told),
        _ => return None,
    };
    has_not(
        format!("the agent has no configuration it can use, so {} gets no address", facts.name),
        wrong,
        "the agent goes on by itself once the ConfigMap is right; kubelet takes up to 2 minutes to bring it",
        ["mend key eni_conf of ConfigMap eni-config: `kubectl -n kube-system edit configmap eni-config`".into()],
    )
}

pub(super) fn node_away(facts: &Facts) -> Option<Finding> {
    let name = &facts.name;
    let node = facts
        .pod
        .is()
        .and_then(|pod| pod.node.as_deref())
        .unwrap_or("its node");
    match &facts.node {
        Seen::Absent => has_not(
            format!("{name} is bound to node {node}, which does not exist any more"),
            "the node",
            "the pod is removed by the pod garbage collector",
            [format!(
                "if it stays: `kubectl delete pod --force` for {name}"
            )],
        ),
        Seen::Is(state) if state.silent => has_not(
            format!("{name} is on node {node}, whose kubelet has stopped to report"),
            format!("the node: {}", state.why),
            "the pod is evicted after its tolerations' time, by default 5 minutes",
            [format!(
                "look at node {node}: is it up, does kubelet run, can it reach the API server"
            )],
        ),
        _ => None,
    }
}

pub(super) fn no_agent(facts: &Facts) -> Option<Finding> {
    let name = &facts.name;
    match &facts.agent_pod {
        Seen::Absent => {
            let set = facts.daemonset.is();
            let count = set.map_or_else(String::new, |set| {
                format!(" (it wants {} and has {} ready)", set.desired, set.ready)
            });
            has_not(
                format!("no agent runs on the node of {name}"),
                format!("a pod of DaemonSet terway on that node{count}"),
                "the DaemonSet controller makes one when the node fits it",
                ["compare the DaemonSet's nodeSelector and tolerations with the node's labels and taints".into()],
            )
        }
        Seen::Is(pod) if !pod.running => has_not(
            format!("the agent on the node of {name} does not run"),
            trouble(pod),
            "kubelet starts it again, ever more slowly up to 5 minutes; kubelet asks again for the pod too",
            logs(pod),
        ),
        _ => None,
    }
}

pub(super) fn sandbox_trouble(facts: &Facts) -> Option<Finding> {
    const KINDS: [(&str, &str); 4] = [
        ("FailedCreatePodSandBox", "its sandbox could not be made"),
        (
            "FailedMount",
            "a volume of it could not be mounted, and that comes before the address",
        ),
        (
            "FailedAttachVolume",
            "a volume of it could not be attached, and that comes before the address",
        ),
        (
            "NetworkNotReady",
            "kubelet says that the node's network is not ready",
        ),
    ];
    let events = facts.events.is()?;
    let (event, what) = events.iter().rev().find_map(|event| {
        let kind = KINDS.iter().find(|(reason, _)| *reason == event.reason)?;
        Some((event, kind.1))
    })?;
    has_not(
        format!("{} has no address: {what}", facts.name),
        event.text.clone(),
        "kubelet tries again, ever more slowly up to 5 minutes",
        advice::about(std::slice::from_ref(&event.text)),
    )
}

pub(super) fn trouble(pod: &AgentPod) -> String {
    format!("pod {}: {}", pod.name, pod.sentence())
}

pub(super) fn logs(pod: &AgentPod) -> Vec<String> {
    let name = &pod.name;
    let mut todo = vec![format!(
        "read its log: `kubectl -n kube-system logs {name} --all-containers`"
    )];
    if pod.restarts > 0 {
        todo.push(format!(
            "and the one before: `kubectl -n kube-system logs {name} --previous`"
        ));
    }
    todo
}
