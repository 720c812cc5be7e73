//! The service row, and the one cell of endpoints.

use serde_json::Value;

use super::{AGE, Column, NAME, NONE, age, or};
use crate::{
    object::{entries, items, text},
    time::UnixTime,
};

/// How many endpoints a cell lists.
const ENDPOINTS_SHOWN: usize = 3;

pub(super) const COLUMNS: [Column; 7] = [
    NAME,
    ("Type", "string", 0),
    ("Cluster-IP", "string", 0),
    ("External-IP", "string", 0),
    ("Port(s)", "string", 0),
    AGE,
    ("Selector", "string", 1),
];

pub(super) fn cells(now: UnixTime, service: &Value) -> Vec<Value> {
    let selector: Vec<_> = entries(service, "/spec/selector")
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    vec![
        text(service, "/metadata/name").into(),
        text(service, "/spec/type").into(),
        or(text(service, "/spec/clusterIPs/0"), NONE).into(),
        external(service).into(),
        or(&ports(service), NONE).into(),
        age(now, service).into(),
        or(&selector.join(","), NONE).into(),
    ]
}

fn external(service: &Value) -> String {
    let texts = |pointer| items(service, pointer).iter().filter_map(Value::as_str);
    let listed = texts("/spec/externalIPs").collect::<Vec<_>>().join(",");
    match text(service, "/spec/type") {
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = items(service, "/status/loadBalancer/ingress").iter();
            let balanced: Vec<_> = ingress
                .map(|i| or(text(i, "/ip"), text(i, "/hostname")))
                .collect();
            let all = [balanced.join(","), listed].join(",");
            or(all.trim_matches(','), "<pending>").to_owned()
        }
        _ => or(&listed, NONE).to_owned(),
    }
}

fn ports(service: &Value) -> String {
    let port = |port: &Value| {
        let (number, protocol) = (&port["port"], text(port, "/protocol"));
        match port["nodePort"].as_u64() {
            Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    };
    items(service, "/spec/ports")
        .iter()
        .map(port)
        .collect::<Vec<_>>()
        .join(",")
}

pub(super) fn endpoints(endpoints: &Value) -> String {
    let mut all = Vec::new();
    for subset in items(endpoints, "/subsets") {
        let addresses = items(subset, "/addresses").iter().map(|a| text(a, "/ip"));
        let ports = items(subset, "/ports");
        if ports.is_empty() {
            all.extend(addresses.map(str::to_owned));
        } else {
            for port in ports {
                let addresses = items(subset, "/addresses").iter().map(|a| text(a, "/ip"));
                all.extend(addresses.map(|ip| format!("{ip}:{}", port["port"])));
            }
        }
    }
    let shown = all
        .iter()
        .take(ENDPOINTS_SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(",");
    match all.len().saturating_sub(ENDPOINTS_SHOWN) {
        0 => or(&shown, NONE).to_owned(),
        more => format!("{shown} + {more} more..."),
    }
}
