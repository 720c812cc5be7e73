//! Mode VPC: addresses of podCIDRs, which the control plane has the VPC's route table lead to their nodes.

use std::process::{Child, Stdio};

use serde_json::Value;

use crate::{
    rig::{Lab, until},
    trunk::get,
};

/// Where the region's nodes have the program of pods.
const PROBE: &str = "/run/lab/bin/terway-probe";

/// The blocks the route table has entries for, in order.
fn routes(lab: &Lab) -> Vec<String> {
    let table = ["RouteTableId=vtb-bp1lab", "MaxResult=100"];
    let shown = lab.run_ok(&[&["call", "DescribeRouteEntryList"], &table[..]].concat());
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let entries = shown["RouteEntrys"]["RouteEntry"].as_array().unwrap();
    let block = |entry: &Value| entry["DestinationCidrBlock"].as_str().unwrap().to_owned();
    let mut blocks: Vec<String> = entries.iter().map(block).collect();
    blocks.sort();
    blocks
}

fn reachable(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let own = |it: &&Value| it["type"] == "NetworkUnavailable";
    conditions
        .iter()
        .find(own)
        .is_some_and(|it| it["status"] == "False")
}

/// A server of the node itself, ended when dropped.
struct Server(Child);

impl Server {
    fn on(lab: &Lab, node: &str, port: &str) -> Self {
        let mut command = lab.command_on(node);
        command
            .args([PROBE, "serve", "--port", port])
            .stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// Who `pod` is to the server at `target`.
fn seen_as(lab: &Lab, pod: &str, target: &str) -> String {
    let url = format!("http://{target}/");
    let mut seen = None;
    until("the server answers", || {
        let output = lab.run(&["exec", pod, "--", "terway-probe", "get", &url]);
        seen = serde_json::from_slice::<Value>(&output.stdout).ok();
        seen.is_some()
    });
    let seen = seen.unwrap();
    let peer = seen["peer"].as_str().unwrap();
    peer.rsplit_once(':').unwrap().0.to_owned()
}

#[test]
fn pods_of_pod_cidrs_reach_each_other_by_the_route_table_and_the_outside_as_their_node() {
    let lab = Lab::up_with("vpc", 3, &["--vpc"]);
    until("the route table leads to every node", || {
        let nodes = get(&lab, &["nodes"]);
        nodes.iter().all(reachable)
    });
    let blocks = ["172.16.1.0/24", "172.16.2.0/24", "172.16.3.0/24"];
    assert_eq!(routes(&lab), blocks);
    for (pod, node) in [("a", "node-1"), ("b", "node-2"), ("c", "node-1")] {
        lab.create_pod(pod, node);
    }
    let [a, b, c] = ["a", "b", "c"].map(|pod| lab.address_when_ready(pod));
    assert!(
        a.starts_with("172.16.1.") && b.starts_with("172.16.2."),
        "{a} {b}"
    );
    let speak = || {
        for (pod, target) in [("a", &b), ("b", &a), ("a", &c), ("c", &b)] {
            let target = format!("{target}:8080");
            lab.exec_ok(pod, &["terway-probe", "tcp", &target]);
        }
    };
    speak();
    assert_eq!(
        seen_as(&lab, "a", &format!("{b}:8080")),
        a,
        "across nodes as itself"
    );
    // An address of the VPC and not of the cluster's pods: what is outside.
    let own = |node: &str| lab.node(node)["address"].as_str().unwrap().to_owned();
    let _server = Server::on(&lab, "node-2", "9000");
    let outside = format!("{}:9000", own("node-2"));
    assert_eq!(seen_as(&lab, "a", &outside), own("node-1"), "as its node");
    lab.on_node("node-1", &["nft", "delete", "table", "inet", "terway"]);
    until("the masquerade is put back", || {
        seen_as(&lab, "a", &outside) == own("node-1")
    });
    lab.run_ok(&["kill-agent", "node-1"]);
    lab.run_ok(&["kill", "node-1", "terway-controlplane"]);
    speak();
    until("the agent runs again", || {
        lab.node("node-1")["agent"]["restarts"] == 1
    });
    lab.delete_pod("a");
    lab.create_pod("d", "node-1");
    assert_ne!(lab.address_when_ready("d"), a, "it rests");
    lab.kubectl(&["delete", "node", "node-3"]);
    until("the entry goes with its node", || {
        routes(&lab) == blocks[..2]
    });
    speak_no_more(&lab);
    lab.down_leaves_nothing();
}

/// With the last pod the node is as it was.
fn speak_no_more(lab: &Lab) {
    for pod in ["b", "c", "d"] {
        lab.delete_pod(pod);
    }
    for node in ["node-1", "node-2"] {
        until("nothing of a pod is left", || {
            lab.leftovers(node).is_empty()
        });
    }
}
