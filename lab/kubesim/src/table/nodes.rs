//! The node row.

use serde_json::Value;

use super::{AGE, Column, NAME, NONE, UNKNOWN, age, or};
use crate::{
    object::{entries, items, text},
    time::UnixTime,
};

pub(super) const COLUMNS: [Column; 10] = [
    NAME,
    ("Status", "string", 0),
    ("Roles", "string", 0),
    AGE,
    ("Version", "string", 0),
    ("Internal-IP", "string", 1),
    ("External-IP", "string", 1),
    ("OS-Image", "string", 1),
    ("Kernel-Version", "string", 1),
    ("Container-Runtime", "string", 1),
];

pub(super) fn cells(now: UnixTime, node: &Value) -> Vec<Value> {
    let info = |field: &str| text(node, &format!("/status/nodeInfo/{field}"));
    vec![
        text(node, "/metadata/name").into(),
        status(node).into(),
        roles(node).into(),
        age(now, node).into(),
        info("kubeletVersion").into(),
        address(node, "InternalIP").into(),
        address(node, "ExternalIP").into(),
        or(info("osImage"), UNKNOWN).into(),
        or(info("kernelVersion"), UNKNOWN).into(),
        or(info("containerRuntimeVersion"), UNKNOWN).into(),
    ]
}

fn status(node: &Value) -> String {
    let ready = items(node, "/status/conditions")
        .iter()
        .find(|c| c["type"] == "Ready");
    let ready = match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    format!(
        "{ready}{}",
        if cordoned { ",SchedulingDisabled" } else { "" }
    )
}

/// Labels `node-role.kubernetes.io/ROLE` and `kubernetes.io/role=ROLE`, sorted.
fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = entries(node, "/metadata/labels")
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                None if key == "kubernetes.io/role" => value.as_str(),
                role => role,
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    or(&roles.join(","), NONE).to_owned()
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let found = items(node, "/status/addresses")
        .iter()
        .find(|a| a["type"] == kind);
    found.map_or(NONE, |address| text(address, "/address"))
}
