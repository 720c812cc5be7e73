//! A node that lacks something, or a manifest that gives too little: each ends in an event of the node that
//! names it, and where an agent runs `terway-cli status` says the same.

use serde_json::{Value, json};

use crate::rig::{Lab, until};

const NODE: &str = "node-1";
const CLI: &str = "/run/lab/bin/terway-cli";

/// What is wrong, how it comes about, the event's reason and a part of its note, and whether an agent
/// runs that can be asked.
type Case = (&'static str, fn(&Lab), &'static str, &'static str, bool);

const CASES: [Case; 5] = [
    (
        "ipvlan is asked for and the agent may load no program",
        |lab| {
            let map = get(lab, "configmap/eni-config");
            let chain = map["data"]["10-terway.conflist"].as_str().unwrap();
            let mut chain: Value = serde_json::from_str(chain).unwrap();
            chain["plugins"][0]["eniip_virtual_type"] = json!("IPVlan");
            let path = "/data/10-terway.conflist";
            let patch = json!([{ "op": "replace", "path": path, "value": chain.to_string() }]);
            patch_with(lab, "configmap/eni-config", &patch);
            until("an agent that runs says that it must start anew", || {
                told(lab, "ConfigNeedsRestart", "eniip_virtual_type")
            });
            lab.run_ok(&["kill-agent", NODE]);
        },
        "VirtualModeChanged",
        "new pods get veth links: the agent may load no eBPF program",
        true,
    ),
    (
        "another plugin's configuration comes first",
        |lab| sh(lab, "echo {} > /etc/cni/net.d/05-other.conflist"),
        "ConfigError",
        "05-other.conflist sorts before 10-terway.conflist",
        true,
    ),
    (
        "no vSwitch in the node's zone",
        |lab| {
            sh(lab, "rm /etc/cni/net.d/05-other.conflist");
            let map = get(lab, "configmap/eni-config");
            let mut conf: Value =
                serde_json::from_str(map["data"]["eni_conf"].as_str().unwrap()).unwrap();
            conf["vswitches"] = json!({ "cn-hangzhou-x": ["vsw-1"] });
            // More than the first ENI holds.
            conf["min_pool_size"] = json!(60);
            conf["max_pool_size"] = json!(60);
            let patch =
                json!([{ "op": "replace", "path": "/data/eni_conf", "value": conf.to_string() }]);
            patch_with(lab, "configmap/eni-config", &patch);
        },
        "IPNotEnough",
        "vswitches lists none for the node's zone",
        true,
    ),
    (
        "no eni-config, on a node that never had one",
        |lab| {
            lab.kubectl(&["-n", "kube-system", "delete", "configmap", "eni-config"]);
            sh(lab, "rm /var/lib/cni/terway/ledger.redb");
            lab.run_ok(&["kill-agent", NODE]);
        },
        "ConfigError",
        "it is the key eni_conf of ConfigMap kube-system/eni-config",
        true,
    ),
    (
        "an old kernel",
        |lab| {
            let install = [
                "env",
                "NODE_NAME=node-1",
                "KUBECONFIG=/run/lab/node/kubeconfig",
                "setarch",
                "--uname-2.6",
                "/run/lab/bin/terwayd",
                "install",
                "--plugin",
                "/run/lab/bin/terway",
                "--bin-dir",
                "/opt/cni/bin",
            ];
            let output = lab.command_on(NODE).args(install).output().unwrap();
            assert!(!output.status.success(), "{output:?}");
        },
        "NodeNotSupported",
        "Terway needs 4.19 or newer",
        false,
    ),
];

#[test]
fn what_a_node_lacks_is_an_event_and_a_status() {
    let lab = Lab::up("prerequisites", 1);
    for (what, arrange, reason, note, running) in CASES {
        arrange(&lab);
        until(what, || told(&lab, reason, note));
        if running {
            until(what, || asked(&lab, &["status"]).contains(note));
        }
        println!("{what}: {reason}, {note}");
    }
    // The agent without eni_conf serves nobody, and says so to whoever asks about a pod.
    lab.create_pod("late", NODE);
    let why = "the agent runs and cannot serve yet";
    until("explain says why a pod waits", || {
        asked(&lab, &["explain", "default/late"]).contains(why)
    });
    each_capability_is_needed(&lab);
    lab.down_leaves_nothing();
}

/// Takes from the DaemonSet, one at a time, what it gives the agent.
fn each_capability_is_needed(lab: &Lab) {
    let path = "/spec/template/spec/containers/0/securityContext/capabilities/add";
    let set = get(lab, "daemonset/terway");
    let given = set.pointer(path).unwrap().as_array().unwrap().clone();
    assert!(!given.is_empty());
    for lacking in &given {
        let rest: Vec<&Value> = given.iter().filter(|it| *it != lacking).collect();
        let patch = json!([{ "op": "replace", "path": path, "value": rest }]);
        patch_with(lab, "daemonset/terway", &patch);
        // It may be on its way up again.
        lab.run(&["kill-agent", NODE]);
        let note = format!("capability {} is missing", lacking.as_str().unwrap());
        until(&note, || told(lab, "NodeNotSupported", &note));
        println!("without {lacking}: {note}");
    }
}

/// Whether an event of the node has this reason and says this.
fn told(lab: &Lab, reason: &str, note: &str) -> bool {
    let events = lab.kubectl(&["get", "events", "--all-namespaces", "-o", "json"]);
    let events: Value = serde_json::from_str(&events).unwrap();
    events["items"].as_array().unwrap().iter().any(|event| {
        let said = event["message"].as_str().unwrap_or_default();
        event["reason"] == reason && event["involvedObject"]["name"] == NODE && said.contains(note)
    })
}

fn asked(lab: &Lab, question: &[&str]) -> String {
    let output = lab
        .command_on(NODE)
        .arg(CLI)
        .args(question)
        .output()
        .unwrap();
    [output.stdout, output.stderr]
        .map(|text| String::from_utf8(text).unwrap())
        .concat()
}

fn sh(lab: &Lab, line: &str) {
    lab.on_node(NODE, &["sh", "-c", line]);
}

fn get(lab: &Lab, what: &str) -> Value {
    serde_json::from_str(&lab.kubectl(&["-n", "kube-system", "get", what, "-o", "json"])).unwrap()
}

fn patch_with(lab: &Lab, what: &str, patch: &Value) {
    let patch = patch.to_string();
    lab.kubectl(&[
        "-n",
        "kube-system",
        "patch",
        what,
        "--type=json",
        "-p",
        &patch,
    ]);
}
