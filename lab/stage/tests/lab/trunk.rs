//! Pods with ENIs of their own beside an ordinary one, and the control plane killed in between.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::rig::{Lab, until};

/// Which pods get an ENI, and which a fixed one.
pub(crate) const STATELESS: &str = include_str!("../seed/stateless.yaml");
const FIXED: &str = include_str!("../seed/fixed-ip.yaml");
const CONTROL_PLANE: &str = "terway-controlplane";
/// Where it runs.
const REPLICAS: [&str; 2] = ["node-1", "node-2"];
/// How often it is killed, and between how many pods they come and go.
const DEATHS: usize = 50;
const PODS: u64 = 12;
/// Longest pause between two deaths: some come while it starts, some while it waits for the cloud, some when
/// it is at rest.
const PAUSE_MAX: u64 = 1500;
/// How long a fixed address is kept where that is waited for: a detach takes seconds of it.
const KEPT: Duration = Duration::from_secs(10);

pub(crate) fn members(lab: &Lab, node: &str) -> Vec<Value> {
    let enis = lab.node(node)["enis"].as_array().unwrap().clone();
    enis.into_iter()
        .filter(|eni| eni["kind"] == "Member")
        .collect()
}

#[test]
fn a_trunk_pod_has_an_eni_of_its_own_whatever_happens_to_the_control_plane() {
    let lab = trunks("trunk", 2);
    network(&lab, STATELESS);
    lab.apply(&pod("own", ["front", "nginx"], None));
    let own = lab.address_when_ready("own");
    let status = lab.status();
    let pods = status["pods"].as_array().unwrap();
    let node = pods.iter().find(|pod| pod["name"] == "own").unwrap()["node"].clone();
    let node = node.as_str().unwrap();
    let member = members(&lab, node).pop().unwrap();
    assert_eq!(
        (&member["primary"], &member["status"]),
        (&json!(own), &json!("InUse"))
    );
    let elastic = json!({ "type": "Elastic", "releaseAfter": "0s" });
    is_as_documented(&lab, node, &member, &elastic);

    lab.create_pod(
        "ordinary",
        if node == "node-1" { "node-2" } else { "node-1" },
    );
    let ordinary = lab.address_when_ready("ordinary");
    let speak = || {
        lab.exec_ok("own", &["terway-probe", "tcp", &format!("{ordinary}:8080")]);
        lab.exec_ok("ordinary", &["terway-probe", "tcp", &format!("{own}:8080")]);
    };
    speak();
    for node in REPLICAS {
        lab.run_ok(&["kill", node, CONTROL_PLANE]);
    }
    speak();
    lab.delete_pod("own");
    until("the ENI goes with its pod", || {
        members(&lab, node).is_empty() && lab.status()["detached"] == json!([])
    });
    lab.down_leaves_nothing();
}

/// Every fact that the users' document prints of a PodENI is in the only one there is.
fn is_as_documented(lab: &Lab, node: &str, member: &Value, tenure: &Value) {
    let nodes = get(lab, &["nodes"]);
    let mut nodes = nodes.iter();
    let on = nodes.find(|one| one["metadata"]["name"] == node).unwrap();
    let instance = on["spec"]["providerID"].as_str().unwrap();
    let (_, instance) = instance.split_once('.').unwrap();
    let record = get(lab, &["podenis"]).remove(0);
    let (one, status) = (&record["spec"]["allocations"][0], &record["status"]);
    let (zone, trunk) = ("topology.kubernetes.io/zone", "k8s.aliyun.com/trunk-on");
    for (ours, documented) in [
        (&one["eni"]["id"], &member["id"]),
        (&one["eni"]["mac"], &member["mac"]),
        (&one["eni"]["zone"], &on["metadata"]["labels"][zone]),
        (&one["allocationType"], tenure),
        (&one["ipv4"], &member["primary"]),
        (&status["instanceID"], &json!(instance)),
        (&status["phase"], &json!("Bind")),
        (&status["trunkENIID"], &on["metadata"]["annotations"][trunk]),
    ] {
        assert!(
            ours == documented && !ours.is_null(),
            "{documented}: {record}"
        );
    }
    assert!(status["podLastSeen"].is_string(), "{record}");
}

/// A lab whose nodes have trunks and whose control plane is ready.
pub(crate) fn trunks(name: &str, nodes: u32) -> Lab {
    let lab = Lab::up_with(name, nodes, &["--trunk"]);
    for node in REPLICAS {
        until("the control plane is ready", || {
            lab.node(node)["agent"]["control_plane"]["ready"] == true
        });
    }
    until("the trunks are announced", || {
        let nodes = get(&lab, &["nodes"]);
        nodes.iter().all(|node| {
            node["metadata"]["annotations"]["k8s.aliyun.com/trunk-on"].is_string()
                && node["status"]["capacity"]["aliyun/member-eni"] == "52"
        })
    });
    lab
}

/// Applies a PodNetworking and waits until it serves.
pub(crate) fn network(lab: &Lab, networking: &str) {
    lab.apply(networking);
    until("its vSwitches are found", || {
        let all = get(lab, &["podnetworkings"]);
        all.iter().all(|one| one["status"]["status"] == "Ready")
    });
}

pub(crate) fn pod(name: &str, [kind, app]: [&str; 2], node: Option<&str>) -> String {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "kind": kind, "app": app } },
        "spec": { "containers": [{ "name": "main", "image": "probe" }] },
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod.to_string()
}

pub(crate) fn get(lab: &Lab, what: &[&str]) -> Vec<Value> {
    let shown = lab.kubectl(&[&["get"], what, &["-o", "json"]].concat());
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown["items"].as_array().unwrap().clone()
}

/// F2 for the control plane: killed again and again while pods come and go.
#[test]
fn fifty_deaths_of_the_control_plane_lose_and_double_nothing() {
    let lab = trunks("deaths", 2);
    network(&lab, STATELESS);
    let dice = RandomState::new();
    let mut there = BTreeSet::new();
    for death in 0..DEATHS {
        // Some are made again under their names while what they had is being given back.
        let name = format!("own-{}", dice.hash_one(death) % PODS);
        match there.remove(&name) {
            true => lab.delete_pod(&name),
            false => {
                until("the pod before it is gone", || {
                    get(&lab, &["pods"])
                        .iter()
                        .all(|pod| pod["metadata"]["name"] != *name)
                });
                lab.apply(&pod(&name, ["front", "nginx"], None));
                there.insert(name);
            }
        }
        thread::sleep(Duration::from_millis(
            dice.hash_one(("pause", death)) % PAUSE_MAX,
        ));
        let kill = ["kill", REPLICAS[death % REPLICAS.len()], CONTROL_PLANE];
        until("it runs again and is killed", || {
            lab.run(&kill).status.success()
        });
    }
    let addresses: Vec<String> = there
        .iter()
        .map(|pod| lab.address_when_ready(pod))
        .collect();
    let mut shown = Vec::new();
    until("each pod has one ENI, and there is no other", || {
        let status = lab.status();
        let nodes = status["nodes"].as_array().unwrap().iter();
        let mut held: Vec<Value> = nodes
            .flat_map(|node| members(&lab, node["name"].as_str().unwrap()))
            .map(|eni| eni["primary"].clone())
            .collect();
        held.sort_by_key(Value::to_string);
        let mut wanted = addresses.clone();
        wanted.sort();
        shown = held;
        json!(shown) == json!(wanted) && status["detached"] == json!([])
    });
    let records = get(&lab, &["podenis"]);
    let named: BTreeSet<&str> = records
        .iter()
        .filter_map(|one| one["metadata"]["name"].as_str())
        .collect();
    assert_eq!(named, there.iter().map(String::as_str).collect());
    for name in &there {
        lab.delete_pod(name);
    }
    until("every ENI goes with its pod", || {
        let members: Vec<_> = REPLICAS
            .iter()
            .flat_map(|node| members(&lab, node))
            .collect();
        members.is_empty()
            && lab.status()["detached"] == json!([])
            && get(&lab, &["podenis"]).is_empty()
    });
    lab.down_leaves_nothing();
}

/// node-1 and node-3 are in one zone.
#[test]
fn a_fixed_pod_keeps_eni_and_address_on_another_node_of_its_zone() {
    let lab = trunks("fixed", 3);
    network(&lab, FIXED);
    lab.create_pod("ordinary", "node-2");
    let ordinary = lab.address_when_ready("ordinary");
    let run = |node: &str| {
        lab.apply(&pod("web-0", ["backend", "sts-pod"], Some(node)));
        let address = lab.address_when_ready("web-0");
        lab.exec_ok(
            "web-0",
            &["terway-probe", "tcp", &format!("{ordinary}:8080")],
        );
        lab.exec_ok(
            "ordinary",
            &["terway-probe", "tcp", &format!("{address}:8080")],
        );
        let mut member = members(&lab, node).pop().unwrap();
        let fixed = json!({ "type": "Fixed", "releaseStrategy": "TTL", "releaseAfter": "5m0s" });
        is_as_documented(&lab, node, &member, &fixed);
        (address, member["id"].take(), member["mac"].take())
    };
    let first = run("node-1");
    lab.delete_pod("web-0");
    until("its ENI leaves the node and waits", || {
        let records = get(&lab, &["podenis"]);
        members(&lab, "node-1").is_empty() && records[0]["status"]["phase"] == "Unbind"
    });
    assert_eq!(run("node-3"), first);
    assert!(members(&lab, "node-1").is_empty());
    is_collected_in_time(&lab, &first.1);
    lab.down_leaves_nothing();
}

/// Two pods go: to web-0 five minutes were promised, to web-1, created since, as long as `KEPT`.
fn is_collected_in_time(lab: &Lab, long: &Value) {
    lab.apply(&FIXED.replace("5m0s", &format!("{}s", KEPT.as_secs())));
    lab.apply(&pod("web-1", ["backend", "sts-pod"], Some("node-1")));
    lab.address_when_ready("web-1");
    let began = Instant::now();
    for pod in ["web-0", "web-1"] {
        lab.delete_pod(pod);
    }
    let detached = || lab.status()["detached"].as_array().unwrap().clone();
    until("both records and both ENIs wait", || {
        let records = get(lab, &["podenis"]);
        let waits = |one: &Value| one["status"]["phase"] == "Unbind";
        records.len() == 2 && records.iter().all(waits) && detached().len() == 2
    });
    until("the record goes with its ENI", || {
        get(lab, &["podenis"]).len() == 1 && detached().len() == 1
    });
    // A record tells the time by the second.
    assert!(began.elapsed() + Duration::from_secs(1) >= KEPT);
    assert_eq!(get(lab, &["podenis"])[0]["metadata"]["name"], "web-0");
    assert_eq!(detached()[0]["id"], *long);
}
