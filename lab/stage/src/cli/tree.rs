//! The status document as people read it: nodes, their ENIs, addresses, and the pods that have them.

use serde_json::Value;

pub(crate) fn tree(document: &Value) -> String {
    let [region, vpc, cidr, kubernetes, openapi] =
        ["region", "vpc", "vpc_cidr", "kubernetes", "openapi"].map(|key| text(&document[key]));
    let mut lines = vec![
        format!("region {region} · {vpc} {cidr}"),
        format!("kubernetes {kubernetes} · openapi {openapi}"),
    ];
    for node in list(&document["nodes"]) {
        let what = fields(node, &["name", "instance", "type", "zone", "address"]);
        let ready = node["ready"].as_bool().unwrap_or_default();
        let ready = if ready { "Ready" } else { "NotReady" };
        let agent = text(&node["agent"]["pid"]);
        lines.push(format!("{what} {ready}, agent {agent}"));
        for eni in list(&node["enis"]) {
            let what = fields(eni, &["link", "id", "kind", "status", "mac"]);
            let ride = &eni["ride"];
            lines.push(match ride.is_null() {
                true => format!("  {what}"),
                false => format!("  {what} on {}", fields(ride, &["trunk", "vlan"])),
            });
            lines.push(address(document, &eni["primary"], " (primary)"));
            let secondary = list(&eni["secondary"]);
            lines.extend(secondary.map(|ip| address(document, ip, "")));
        }
    }
    let failures = list(&document["failures"]);
    lines.extend(failures.map(|failure| format!("FAILED {}", text(failure))));
    lines.join("\n")
}

fn address(document: &Value, address: &Value, note: &str) -> String {
    let pod = list(&document["pods"]).find(|pod| pod["address"] == *address);
    let pod = pod.map(|pod| fields(pod, &["namespace", "name", "phase"]));
    let line = format!("    {}{note} {}", text(address), pod.unwrap_or_default());
    line.trim_end().to_owned()
}

fn fields(of: &Value, keys: &[&str]) -> String {
    let texts: Vec<_> = keys.iter().map(|key| text(&of[*key])).collect();
    texts.join(" ")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
