//! What comes to a node's own address for a pod is answered the way it came, not by the pod's ENI, where
//! a cloud that checks sources drops it.

use serde_json::json;

use crate::{
    checks::{node_address, node_port, pod, ready, service},
    rig::{Lab, NODES, level, list, until},
};

/// A port of the node that a pod asks for.
const HOST_PORT: u16 = 18080;
/// Requests in a row. Half of them meet a pod of the node that is asked: none of ten such would be lost
/// by chance only once in a thousand.
const ASKED: u32 = 20;

pub(crate) fn host_port(lab: &Lab) {
    let ports = json!({ "ports": [{ "containerPort": 8080, "hostPort": HOST_PORT }] });
    lab.apply(&pod("ported", NODES[0], ports));
    let own = ready(lab, "ported");
    let url = format!("http://{}:{HOST_PORT}/", node_address(lab, NODES[0]));
    for node in NODES {
        let said = lab
            .probe_on(node, &["get", &url])
            .unwrap_or_else(|why| panic!("from {node}: {why}"));
        assert!(said["local"].as_str().unwrap().starts_with(&own), "{said}");
    }
    no_answer_was_dropped(lab);
}

pub(crate) fn node_ports(lab: &Lab) {
    let only_local = json!({ "type": "NodePort", "externalTrafficPolicy": "Local" });
    lab.apply(&service("local", json!({ "pod": "ported" }), only_local));
    let local = node_port(lab, "local");
    until("the node without the pod refuses", || {
        let other = format!("http://{}:{local}/", node_address(lab, NODES[1]));
        let asked = lab.probe_on(NODES[0], &["get", &other, "--timeout-ms", "1000"]);
        level(asked.is_err(), format!("{asked:?}"))
    });
    let spread = node_port(lab, "spread");
    let node = node_address(lab, NODES[0]);
    for (port, keeps_client) in [(local, true), (spread, false)] {
        for _ in 0..ASKED {
            let url = format!("http://{node}:{port}/");
            let said = lab
                .probe_on(NODES[1], &["get", &url])
                .unwrap_or_else(|why| panic!("{url}: {why}"));
            let client = node_address(lab, NODES[1]);
            let peer = said["peer"].as_str().unwrap();
            assert_eq!(peer.starts_with(&client), keeps_client, "{said}");
        }
    }
    no_answer_was_dropped(lab);
}

pub(crate) fn repaired(lab: &Lab) {
    let url = format!("http://{}:{HOST_PORT}/", node_address(lab, NODES[0]));
    lab.command_on(NODES[0], &["nft", "delete", "table", "inet", "terway"]);
    lab.command_on(NODES[0], &["ip", "rule", "del", "priority", "600"]);
    until("the agent has put the way back in place again", || {
        lab.probe_on(NODES[1], &["get", &url, "--timeout-ms", "1000"])
    });
}

/// No packet left by a pod's ENI with another source than the cloud knows there.
fn no_answer_was_dropped(lab: &Lab) {
    for name in NODES {
        let node = lab.node(name);
        for eni in list(&node["enis"]).filter(|eni| eni["kind"] == "Secondary") {
            assert_eq!(eni["counters"]["spoofed"], 0, "{name}: {eni}");
        }
    }
}
