//! The pod row: READY, STATUS and RESTARTS are derived from container states.

use serde_json::{Value, json};

use super::{AGE, Column, NAME, NONE, age, or, since};
use crate::{
    object::{items, text},
    time::{UnixTime, parse_rfc3339},
};

pub(super) const COLUMNS: [Column; 9] = [
    NAME,
    ("Ready", "string", 0),
    ("Status", "string", 0),
    ("Restarts", "string", 0),
    AGE,
    ("IP", "string", 1),
    ("Node", "string", 1),
    ("Nominated Node", "string", 1),
    ("Readiness Gates", "string", 1),
];

pub(super) fn cells(now: UnixTime, pod: &Value) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(at) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, since(now, at))
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        text(pod, "/metadata/name").into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(now, pod).into(),
        or(text(pod, "/status/podIPs/0/ip"), NONE).into(),
        or(text(pod, "/spec/nodeName"), NONE).into(),
        or(text(pod, "/status/nominatedNodeName"), NONE).into(),
        readiness_gates(pod).into(),
    ]
}

/// Ended pods carry a condition, by which clients hide them.
pub(super) fn row_conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{ "type": "Completed", "status": "True", "reason": reason, "message": message }]))
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.into();
    }
    let holds = |gate: &&Value| condition_is_true(pod, text(gate, "/conditionType"));
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
}

fn condition_is_true(pod: &Value, kind: &str) -> bool {
    items(pod, "/status/conditions")
        .iter()
        .any(|c| c["type"] == kind && c["status"] == "True")
}

#[derive(Default)]
struct Summary<'a> {
    reason: String,
    ready: usize,
    total: usize,
    restarts: u64,
    last_restart: Option<&'a str>,
}

impl<'a> Summary<'a> {
    fn of(pod: &'a Value) -> Self {
        let mut summary = Self {
            reason: or(text(pod, "/status/reason"), text(pod, "/status/phase")).to_owned(),
            total: items(pod, "/spec/containers").len()
                + items(pod, "/spec/initContainers")
                    .iter()
                    .filter(|c| is_sidecar(c))
                    .count(),
            ..Self::default()
        };
        let gated = |c: &Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
        if items(pod, "/status/conditions").iter().any(gated) {
            summary.reason = "SchedulingGated".into();
        }
        let mut sidecars = Self::default();
        let initializing = summary.walk_init(pod, &mut sidecars);
        if !initializing || condition_is_true(pod, "Initialized") {
            summary.restarts = sidecars.restarts;
            summary.last_restart = sidecars.last_restart;
            summary.walk_containers(pod);
        }
        if !text(pod, "/metadata/deletionTimestamp").is_empty() {
            if text(pod, "/status/reason") == "NodeLost" {
                summary.reason = "Unknown".into();
            } else if !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
                summary.reason = "Terminating".into();
            }
        }
        summary
    }

    fn count_restarts(&mut self, status: &'a Value) {
        self.restarts += status["restartCount"].as_u64().unwrap_or_default();
        let at = text(status, "/lastState/terminated/finishedAt");
        if parse_rfc3339(at) > self.last_restart.and_then(parse_rfc3339) {
            self.last_restart = Some(at);
        }
    }

    /// Whether init containers still hold the pod up; if so the reason says at which.
    fn walk_init(&mut self, pod: &'a Value, sidecars: &mut Self) -> bool {
        let specs = items(pod, "/spec/initContainers");
        for (index, status) in items(pod, "/status/initContainerStatuses")
            .iter()
            .enumerate()
        {
            let sidecar = specs
                .iter()
                .any(|spec| spec["name"] == status["name"] && is_sidecar(spec));
            self.count_restarts(status);
            if sidecar {
                sidecars.count_restarts(status);
            }
            let terminated = status.pointer("/state/terminated");
            let waiting = text(status, "/state/waiting/reason");
            if terminated.is_some_and(|t| t["exitCode"] == 0) {
                continue;
            }
            if sidecar && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            self.reason = match terminated {
                Some(terminated) => format!("Init:{}", ended(terminated)),
                None if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    fn walk_containers(&mut self, pod: &'a Value) {
        let mut running = false;
        for status in items(pod, "/status/containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = status.pointer("/state/terminated") {
                self.reason = ended(terminated);
            } else if status["ready"] == true && status.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = condition_is_true(pod, "Ready");
            self.reason = if ready { "Running" } else { "NotReady" }.into();
        }
    }
}

fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

fn ended(terminated: &Value) -> String {
    match (
        text(terminated, "/reason"),
        terminated["signal"].as_i64().unwrap_or_default(),
    ) {
        ("", 0) => format!(
            "ExitCode:{}",
            terminated["exitCode"].as_i64().unwrap_or_default()
        ),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
