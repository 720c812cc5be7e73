//! Every verb of the CNI specification against a real agent, and what a runtime may get wrong.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    plugin::Plugin,
    rig::{Lab, programs},
};

const CONTAINER: &str = "sandbox-of-the-test";
const INTERFACE: &str = "eth9";

/// The plugin on node-1 as a runtime calls it, for an interface beside pod a's own.
fn plugin<'a>(lab: &'a Lab, verb: &'a str) -> Plugin<'a> {
    Plugin {
        lab,
        node: "node-1",
        verb,
        container: CONTAINER,
        netns: "/run/netns/verbs",
        interface: INTERFACE,
        pod: "a",
        config: json!({ "cniVersion": "1.1.0", "name": "terway-chainer", "type": "terway" }),
    }
}

fn code(answer: &Result<Value, Value>) -> u64 {
    let error = answer.as_ref().expect_err("the plugin must refuse");
    error["code"].as_u64().unwrap()
}

#[test]
fn every_verb_does_what_the_specification_says() {
    let lab = Lab::up("verbs", 1);
    lab.create_pod("a", "node-1");
    lab.address_when_ready("a");
    lab.on_node("node-1", &["ip", "netns", "add", "verbs"]);

    let versions = plugin(&lab, "VERSION").call().unwrap();
    let supported = versions["supportedVersions"].as_array().unwrap();
    assert!(supported.contains(&json!("0.3.0")) && supported.contains(&json!("1.1.0")));
    plugin(&lab, "STATUS").call().unwrap();
    assert_eq!(
        code(&plugin(&lab, "CHECK").call()),
        3,
        "there is no such attachment yet"
    );

    let result = plugin(&lab, "ADD").call().unwrap();
    let again = plugin(&lab, "ADD").call().unwrap();
    assert_eq!(result, again, "ADD is the same by sandbox and interface");
    let address = result["ips"][0]["address"]
        .as_str()
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    assert_eq!(
        result["ips"][0]["interface"], 1,
        "the address is the container's"
    );
    assert_eq!(result["interfaces"][1]["sandbox"], "/run/netns/verbs");
    let mut old = plugin(&lab, "ADD");
    old.config["cniVersion"] = json!("0.3.0");
    assert_eq!(old.call().unwrap()["ips"][0]["version"], "4");

    plugin(&lab, "CHECK").call().unwrap();
    let rule = ["ip", "rule", "del", "from", address, "priority", "2048"];
    lab.on_node("node-1", &rule);
    let link = [
        "ip", "netns", "exec", "verbs", "ip", "route", "del", "default",
    ];
    lab.on_node("node-1", &link);
    plugin(&lab, "CHECK").call().unwrap();
    let rules = lab.on_node("node-1", &["ip", "rule", "show"]);
    assert!(
        rules.contains(&format!("from {address} ")),
        "CHECK puts the rule back: {rules}"
    );
    let routes = lab.on_node("node-1", &["ip", "netns", "exec", "verbs", "ip", "route"]);
    assert!(
        routes.contains("default via 169.254.1.1"),
        "and the pod's route: {routes}"
    );

    // The runtime names every attachment that is in use; ours is not among them, pod a's is.
    let record = lab.on_node("node-1", &["ls", "/run/netns"]);
    assert!(record.contains("verbs"));
    let mut gc = plugin(&lab, "GC");
    gc.config["cni.dev/valid-attachments"] = lab.attachments("node-1", CONTAINER);
    gc.call().unwrap();
    let rules = lab.on_node("node-1", &["ip", "rule", "show"]);
    assert!(
        !rules.contains(&format!("from {address} ")),
        "GC removes what is not named: {rules}"
    );
    assert_eq!(lab.pool("node-1")["assigned"], 1, "and nothing else");

    plugin(&lab, "DEL").call().unwrap();
    let mut without = plugin(&lab, "DEL");
    without.netns = "";
    without.call().unwrap();
    lab.on_node("node-1", &["ip", "netns", "del", "verbs"]);
    refusals(&lab);
    what_the_agent_recorded_runs_again(&lab);
    lab.delete_pod("a");
    lab.down_leaves_nothing();
}

/// The simulator decides as the agent did, from its start to now.
fn what_the_agent_recorded_runs_again(lab: &Lab) {
    let recording = lab.on_node("node-1", &["/run/lab/bin/terway-cli", "dump"]);
    let file = std::env::temp_dir().join(format!("recording-{}", std::process::id()));
    std::fs::write(&file, &recording).unwrap();
    let replay = Command::new(programs().join("terway-sim"))
        .arg("replay")
        .arg(&file)
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    let said = String::from_utf8_lossy(&replay.stdout);
    assert!(
        replay.status.success() && said.contains("each as recorded; 1 ENIs"),
        "{replay:?}"
    );
    let inputs: u32 = said.split(' ').next().unwrap().parse().unwrap();
    assert!(inputs > 20, "{said}");
}

fn refusals(lab: &Lab) {
    let before = lab.pool("node-1");
    let mut wrong = plugin(lab, "ADD");
    wrong.netns = "/run/netns/nowhere";
    assert_eq!(code(&wrong.call()), 4, "a namespace that is not there");
    let mut wrong = plugin(lab, "ADD");
    wrong.netns = "/etc/hostname";
    assert_eq!(code(&wrong.call()), 4, "a file that is no namespace");
    let mut wrong = plugin(lab, "ADD");
    wrong.netns = "";
    assert_eq!(code(&wrong.call()), 4, "no namespace");
    let mut wrong = plugin(lab, "FLY");
    wrong.container = "x";
    assert_eq!(code(&wrong.call()), 4, "no such verb");
    let mut wrong = plugin(lab, "ADD");
    wrong.config["cniVersion"] = json!("9.9.9");
    assert_eq!(code(&wrong.call()), 1, "no such version");
    let mut wrong = plugin(lab, "ADD");
    wrong.config = json!("junk");
    assert_eq!(code(&wrong.call()), 6, "no configuration");
    let mut wrong = plugin(lab, "ADD");
    (wrong.pod, wrong.netns) = ("nobody", "/proc/self/ns/net");
    let refusal = wrong.call();
    assert_eq!(code(&refusal), 11, "a pod that does not exist");
    assert!(
        refusal.unwrap_err()["msg"]
            .as_str()
            .unwrap()
            .contains("does not exist")
    );
    assert_eq!(
        lab.pool("node-1")["assigned"],
        before["assigned"],
        "nothing was changed"
    );
}
