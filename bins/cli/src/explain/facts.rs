//! What is known about a pod that asks for an address, cut down from the objects of the API server and
//! the agent's words to what the verdict depends on. Gathers nothing and concludes nothing.

use k8s_openapi::{
    api::{
        apps::v1::DaemonSet as DaemonSetObject,
        core::v1::{
            ConfigMap, ContainerState, ContainerStateTerminated, ContainerStatus,
            Event as EventObject, Node as NodeObject, Pod as PodObject,
        },
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::Value;

use super::own_eni::OwnEni;
use crate::{
    agent::Explanation,
    cluster::{AGENT_CONTAINER, Seen, name},
    status::document::Status,
    text::foreign,
};

/// Events kept, the latest: a pod that was tried for hours has the same few over and over.
const EVENTS_MAX: usize = 20;

/// Everything that is known.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// `namespace/name`.
    pub(crate) name: String,
    pub(crate) pod: Seen<Pod>,
    /// The node the pod is bound to.
    pub(crate) node: Seen<Node>,
    /// The agent's pod there.
    pub(crate) agent_pod: Seen<AgentPod>,
    pub(crate) daemonset: Seen<DaemonSet>,
    /// Whether `eni_conf` of ConfigMap eni-config can be read, else what is wrong.
    pub(crate) config: Seen<Result<(), String>>,
    /// The pod's events, oldest first.
    pub(crate) events: Seen<Vec<Event>>,
    /// What the node's agent says of the pod.
    pub(crate) agent: Seen<Explanation>,
    /// What it says of itself.
    pub(crate) status: Option<Status>,
    /// If the pod gets ENIs of its own.
    pub(crate) own_eni: Option<OwnEni>,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) node: Option<String>,
    pub(crate) host_network: bool,
    pub(crate) phase: String,
    pub(crate) deleting: bool,
    pub(crate) addresses: Vec<String>,
    /// Why the scheduler has not placed it.
    pub(crate) unscheduled: Option<String>,
    /// Scheduling gates nobody has removed.
    pub(crate) gates: Vec<String>,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Node {
    pub(crate) ready: bool,
    /// Whether its kubelet has stopped to report.
    pub(crate) silent: bool,
    /// What condition Ready says.
    pub(crate) why: String,
}

/// The agent's pod of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct AgentPod {
    pub(crate) name: String,
    /// Its container runs.
    pub(crate) running: bool,
    pub(crate) ready: bool,
    pub(crate) restarts: i32,
    /// Why it does not run, or what its last end was.
    pub(crate) trouble: Option<String>,
}

/// The agents' DaemonSet.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct DaemonSet {
    pub(crate) desired: i32,
    pub(crate) ready: i32,
}

/// An event of the pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Event {
    /// Seconds since the Unix epoch, of the last time.
    pub(crate) at: u64,
    pub(crate) reason: String,
    pub(crate) text: String,
    pub(crate) times: i32,
}

impl Pod {
    pub(crate) fn of(pod: &PodObject) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let unscheduled = conditions
            .iter()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
        let mut addresses: Vec<String> = status.pod_ip.into_iter().collect();
        for ip in status.pod_ips.unwrap_or_default() {
            if !addresses.contains(&ip.ip) {
                addresses.push(ip.ip);
            }
        }
        addresses.retain(|address| !address.is_empty());
        let gates = spec.scheduling_gates.unwrap_or_default();
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            node: spec.node_name.filter(|node| !node.is_empty()),
            host_network: spec.host_network.unwrap_or_default(),
            phase: status.phase.unwrap_or_default(),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            addresses,
            unscheduled: unscheduled.map(|condition| {
                let text = [&condition.reason, &condition.message];
                said(text.into_iter().flatten())
            }),
            gates: gates.into_iter().map(|gate| gate.name).collect(),
        }
    }

    /// Whether its containers have ended for good.
    pub(crate) fn finished(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }
}

impl Node {
    pub(crate) fn of(node: &NodeObject) -> Self {
        let conditions = node
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref());
        let ready = conditions.and_then(|all| all.iter().find(|one| one.type_ == "Ready"));
        let Some(ready) = ready else {
            return Self {
                why: "it has no condition Ready yet".into(),
                ..Self::default()
            };
        };
        Self {
            ready: ready.status == "True",
            silent: ready.status == "Unknown",
            why: said([&ready.reason, &ready.message].into_iter().flatten()),
        }
    }
}

impl AgentPod {
    pub(crate) fn of(pod: &PodObject) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let agent = containers.iter().find(|one| one.name == AGENT_CONTAINER);
        let running = agent.is_some_and(|one| state(one).running.is_some());
        let init = status.init_container_statuses.unwrap_or_default();
        // An init container that has not ended well is what everything else waits for.
        let init = init.iter().filter(|one| !ended_well(one)).find_map(held_up);
        Self {
            name: name(pod),
            running,
            ready: agent.is_some_and(|one| one.ready),
            restarts: agent.map_or(0, |one| one.restart_count),
            trouble: init
                .or_else(|| agent.and_then(held_up))
                .or_else(|| status.reason.or(status.message).filter(|_| !running))
                .or_else(|| (!running).then(|| unplaced(pod)).flatten()),
        }
    }

    /// What it does, in a few words.
    pub(crate) fn sentence(&self) -> String {
        let restarts = match self.restarts {
            0 => String::new(),
            times => format!(", restarted {times} times"),
        };
        let state = if self.running {
            "running"
        } else {
            "not running"
        };
        match &self.trouble {
            Some(trouble) => format!("{state}{restarts}: {trouble}"),
            None => format!("{state}{restarts}"),
        }
    }
}

/// Why the scheduler has not placed `pod`.
fn unplaced(pod: &PodObject) -> Option<String> {
    Pod::of(pod).unscheduled
}

fn state(container: &ContainerStatus) -> ContainerState {
    container.state.clone().unwrap_or_default()
}

fn ended_well(container: &ContainerStatus) -> bool {
    state(container)
        .terminated
        .is_some_and(|ended| ended.exit_code == 0)
}

/// Why a container does not run, or how it ended last.
fn held_up(container: &ContainerStatus) -> Option<String> {
    let state = state(container);
    let last = container.last_state.clone().unwrap_or_default().terminated;
    let last = state
        .terminated
        .or(last)
        .map(|ended| ending(&container.name, &ended));
    let waits = state.waiting.map(|waits| {
        let text = [&waits.reason, &waits.message];
        format!(
            "container {} waits: {}",
            container.name,
            said(text.into_iter().flatten())
        )
    });
    let parts: Vec<String> = [waits, last].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn ending(container: &str, ended: &ContainerStateTerminated) -> String {
    let text = [&ended.reason, &ended.message];
    let text = said(text.into_iter().flatten());
    let code = ended.exit_code;
    format!("container {container} last ended with code {code} ({text})")
}

impl DaemonSet {
    pub(crate) fn of(object: &DaemonSetObject) -> Self {
        let status = object.status.clone().unwrap_or_default();
        Self {
            desired: status.desired_number_scheduled,
            ready: status.number_ready,
        }
    }
}

/// Whether the agent can read `eni_conf` of the ConfigMap, as far as form goes; its values are the
/// agent's to judge.
pub(crate) fn config(object: &ConfigMap) -> Result<(), String> {
    let data = object.data.as_ref().and_then(|data| data.get("eni_conf"));
    let text = data.ok_or("it has no key eni_conf")?;
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(_)) => Ok(()),
        Ok(_) => Err("its key eni_conf is no JSON object".into()),
        Err(error) => Err(format!(
            "its key eni_conf is no JSON (line {}, column {})",
            error.line(),
            error.column()
        )),
    }
}

/// The events of the pod with `uid`, oldest first, the latest only. Those of a pod that had the name
/// before are not its own.
pub(crate) fn events(objects: &[EventObject], uid: Option<&str>) -> Vec<Event> {
    let own = |event: &&EventObject| {
        let theirs = event.involved_object.uid.as_deref().unwrap_or_default();
        uid.is_none_or(|uid| uid.is_empty() || theirs.is_empty() || theirs == uid)
    };
    let mut list: Vec<Event> = objects.iter().filter(own).map(event).collect();
    list.sort_by(|one, other| (one.at, &one.reason).cmp(&(other.at, &other.reason)));
    list.split_off(list.len().saturating_sub(EVENTS_MAX))
}

fn event(object: &EventObject) -> Event {
    let series = object.series.clone().unwrap_or_default();
    let times = series.count.or(object.count).unwrap_or(1);
    let plain = [&object.last_timestamp, &object.first_timestamp];
    let plain = plain.into_iter().flatten().map(seconds).next();
    let micro = [&series.last_observed_time, &object.event_time];
    let micro = micro
        .into_iter()
        .flatten()
        .map(|time| whole(time.0.as_second()))
        .next();
    let born = object.metadata.creation_timestamp.as_ref().map(seconds);
    Event {
        at: plain.or(micro).or(born).unwrap_or(0),
        reason: foreign(object.reason.as_deref().unwrap_or_default()),
        text: foreign(object.message.as_deref().unwrap_or_default()),
        times,
    }
}

fn seconds(time: &Time) -> u64 {
    whole(time.0.as_second())
}

fn whole(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0)
}

/// Reason and message as one text.
fn said<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    let texts: Vec<String> = texts
        .filter(|text| !text.is_empty())
        .map(|text| foreign(text))
        .collect();
    if texts.is_empty() {
        return "no reason given".into();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_crash_loop_is_read_with_its_last_end() {
        let pod = serde_json::from_value(json!({ "metadata": { "name": "terway-x" }, "status": {
            "phase": "Running",
            "initContainerStatuses": [{ "name": "install", "image": "", "imageID": "", "ready": true,
                "restartCount": 0, "state": { "terminated": { "exitCode": 0 } } }],
            "containerStatuses": [{ "name": "terway", "image": "", "imageID": "", "ready": false,
                "restartCount": 7,
                "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 5m" } },
                "lastState": { "terminated": { "exitCode": 1, "reason": "Error" } } }] } }));
        let state = AgentPod::of(&pod.unwrap());
        assert!(!state.running);
        assert_eq!(
            state.sentence(),
            "not running, restarted 7 times: container terway waits: CrashLoopBackOff: back-off 5m; \
             container terway last ended with code 1 (Error)"
        );
    }

    #[test]
    fn an_init_container_that_fails_is_the_trouble() {
        let pod = serde_json::from_value(json!({ "metadata": { "name": "t" }, "status": {
            "initContainerStatuses": [{ "name": "install", "image": "", "imageID": "", "ready": false,
                "restartCount": 2, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
                "lastState": { "terminated": { "exitCode": 1, "message": "kernel 4.4 is too old" } } }] } }));
        let trouble = AgentPod::of(&pod.unwrap()).trouble.unwrap();
        assert!(
            trouble.contains("install") && trouble.contains("kernel 4.4"),
            "{trouble}"
        );
    }

    #[test]
    fn events_of_a_former_pod_of_the_name_are_left_out() {
        let event = |uid: &str, reason: &str, at: &str| {
            serde_json::from_value(json!({ "metadata": {}, "involvedObject": { "uid": uid },
                "reason": reason, "lastTimestamp": at, "message": "m" }))
            .unwrap()
        };
        let objects = [
            event("u2", "Late", "2026-11-22T10:00:01Z"),
            event("u1", "Former", "2026-11-22T10:00:00Z"),
            event("u2", "Early", "2026-11-22T10:00:00Z"),
        ];
        let list = events(&objects, Some("u2"));
        let reasons: Vec<&str> = list.iter().map(|event| event.reason.as_str()).collect();
        assert_eq!(reasons, ["Early", "Late"]);
        assert_eq!(list[1].at - list[0].at, 1);
    }

    #[test]
    fn a_broken_eni_conf_is_told_without_quoting_it() {
        for (data, expected) in [
            (json!({}), "no key eni_conf"),
            (json!({ "eni_conf": "[]" }), "no JSON object"),
            (json!({ "eni_conf": "{\"access_secret\": hush" }), "line 1"),
        ] {
            let object: ConfigMap = serde_json::from_value(json!({ "data": data })).unwrap();
            let text = config(&object).unwrap_err();
            assert!(text.contains(expected) && !text.contains("hush"), "{text}");
        }
    }
}
