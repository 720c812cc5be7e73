//! Named failures on a kernel, with the real programs: what docs/simulator.md lists, ended alike.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    plugin::Plugin,
    rig::{Lab, until},
};

const NODE: &str = "node-1";
const INTERFACE: &str = "eth9";
/// A port of the node that leads to a pod.
const PORT: &str = "18080";

/// The plugin as a runtime calls it for sandbox `container`, whose namespace has the same name.
fn plugin(lab: &Lab, verb: &str, container: &str, pod: &str) -> Value {
    let netns = format!("/run/netns/{container}");
    let call = Plugin {
        lab,
        node: NODE,
        verb,
        container,
        netns: &netns,
        interface: INTERFACE,
        pod,
        config: json!({ "cniVersion": "1.0.0", "name": "terway-chainer", "type": "terway" }),
    };
    call.call()
        .unwrap_or_else(|refusal| panic!("{verb} {container}: {refusal}"))
}

fn sandbox(lab: &Lab, container: &str, pod: &str) -> Value {
    on(lab, &format!("ip netns add {container}"));
    plugin(lab, "ADD", container, pod)
}

/// A command line on the node.
fn on(lab: &Lab, line: &str) -> String {
    lab.on_node(NODE, &["sh", "-c", line])
}

fn kubectl(lab: &Lab, line: &str, input: &Value) -> String {
    let kubeconfig = lab.run_ok(&["kubeconfig"]);
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["--kubeconfig", kubeconfig.trim()]);
    kubectl.args(line.split(' ')).stdin(Stdio::piped());
    let mut kubectl = kubectl.stdout(Stdio::piped()).spawn().unwrap();
    serde_json::to_writer(kubectl.stdin.take().unwrap(), input).unwrap();
    let output = kubectl.wait_with_output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn probe() -> String {
    let lab = Path::new(env!("CARGO_BIN_EXE_terway-lab"));
    lab.with_file_name("terway-probe").display().to_string()
}

fn kill_agent(lab: &Lab) {
    let restarts = || lab.node(NODE)["agent"]["restarts"].as_u64().unwrap();
    let before = restarts();
    lab.run_ok(&["kill-agent", NODE]);
    until("the agent is back", || restarts() > before);
}

fn gone(lab: &Lab, pod: &str) {
    lab.delete_pod(pod);
    until("the pod is gone", || {
        let status = lab.status();
        let mut pods = status["pods"].as_array().unwrap().iter();
        pods.all(|entry| entry["name"] != pod)
    });
}

/// F4 and F5: sandboxes that never get a DEL; and what a crash left behind.
#[test]
fn what_nobody_takes_away_is_collected() {
    let lab = Lab::up("collect", 1);
    lab.create_pod("stays", NODE);
    lab.create_pod("goes", NODE);
    let stays = lab.address_when_ready("stays");
    lab.address_when_ready("goes");
    sandbox(&lab, "first", "stays");
    sandbox(&lab, "second", "stays");
    sandbox(&lab, "third", "goes");
    gone(&lab, "goes");
    on(&lab, "ip netns del third");
    for rule in [
        "priority 512 to 10.1.15.249 lookup main protocol 157",
        "priority 2048 from 10.1.15.249 lookup 1042 protocol 157",
        "priority 2048 from 10.1.15.248 lookup 1042",
    ] {
        on(&lab, &format!("ip rule add {rule}"));
    }
    let route = format!("$(ip -o route show {stays} | grep -o 'dev [^ ]*') protocol 157");
    on(&lab, &format!("ip route add 192.0.2.9 {route}"));
    until("only the deleted pod's own address is free again", || {
        lab.pool(NODE)["assigned"] == 4
    });

    // The next agent looks at once, and again after half a minute, which is what confirms it.
    kill_agent(&lab);
    until("the two sandboxes without a DEL are collected", || {
        lab.pool(NODE)["assigned"] == 2
    });
    until(
        "what belongs to nobody is gone, and what is not ours stays",
        || {
            let rules = on(&lab, "ip rule; ip route");
            let ours = rules.contains("10.1.15.249") || rules.contains("192.0.2.9");
            assert!(rules.contains("10.1.15.248"), "{rules}");
            !ours
        },
    );
    let notices = &lab.pool(NODE)["notices"];
    assert_eq!(notices["Collected"], 2, "{notices}");
    let target = format!("{stays}:8080");
    on(&lab, &format!("{} tcp {target} --count 1", probe()));
    on(
        &lab,
        &format!("ip netns exec second {} tcp {target} --count 1", probe()),
    );
    plugin(&lab, "DEL", "second", "stays");
    plugin(&lab, "DEL", "first", "stays");
    on(
        &lab,
        "ip netns del first; ip netns del second; ip rule del from 10.1.15.248",
    );
    gone(&lab, "stays");
    until("nothing is left", || lab.leftovers(NODE).is_empty());
    lab.down_leaves_nothing();
}

/// F15 and F16: a foreign process flushes and deletes, and ENIs come back under other names.
#[test]
fn what_somebody_takes_away_is_put_back() {
    let lab = Lab::up("repair", 2);
    lab.create_pod("near", NODE);
    lab.create_pod("far", "node-2");
    let (near, far) = (
        lab.address_when_ready("near"),
        lab.address_when_ready("far"),
    );

    // A port of the node, as portmap makes it, asked from outside.
    let port = format!(
        "nft add table ip ports; nft 'add chain ip ports pre {{ type nat hook prerouting priority dstnat; }}'; \
         nft add rule ip ports pre iifname eth0 tcp dport {PORT} dnat to {near}:8080"
    );
    on(&lab, &port);
    let node = lab.node(NODE)["address"].as_str().unwrap().to_owned();
    let url = format!("http://{node}:{PORT}/");
    let probe = probe();
    let asked = || {
        let asked = lab.try_on_node("node-2", &[&probe, "get", &url, "--timeout-ms", "1000"]);
        asked.is_ok_and(|said| said.contains("\"peer\""))
    };
    until("the port is answered the way it was asked", asked);
    on(
        &lab,
        "nft delete table inet terway; ip rule del priority 600",
    );
    until("it is again", asked);

    let result = sandbox(&lab, "scene", "near");
    let own = result["ips"][0]["address"].as_str().unwrap();
    let own = own.split('/').next().unwrap();
    let talk = format!("ip netns exec scene {probe} tcp {far}:8080 --count 1");
    on(&lab, &talk);
    for damage in [
        format!("ip link del $(ip -o route show {own} | grep -o 'cali[^ ]*')"),
        format!("ip rule del from {own}; ip rule del to {own}"),
    ] {
        on(&lab, &damage);
        plugin(&lab, "CHECK", "scene", "near");
        on(&lab, &talk);
    }
    plugin(&lab, "DEL", "scene", "near");
    on(&lab, "ip netns del scene");

    // Setting a link down takes its routes away.
    on(
        &lab,
        "ip link set eth1 down; ip link set eth1 name ens9; ip link set ens9 up",
    );
    kill_agent(&lab);
    lab.create_pod("next", NODE);
    lab.address_when_ready("next");
    until("pods of the renamed ENI reach other nodes", || {
        let talk = [
            "exec",
            "next",
            "--",
            &probe,
            "tcp",
            &format!("{far}:8080"),
            "--count",
            "1",
        ];
        lab.run(&talk).status.success()
    });
    lab.down_leaves_nothing();
}

/// F13, for the node's object; and what is sticky stays so through the death of an agent.
#[test]
fn a_stateful_pod_finds_its_address_and_a_deleted_node_its_pods() {
    let lab = Lab::up("sticky", 1);
    let owner = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "1", "controller": true });
    let web = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web-0", "namespace": "default", "ownerReferences": [owner] },
        "spec": { "nodeName": NODE, "containers": [{ "name": "main", "image": "probe" }] },
    });
    kubectl(&lab, "create -f -", &web);
    let before = lab.address_when_ready("web-0");
    gone(&lab, "web-0");
    kill_agent(&lab);
    for other in ["one", "two", "three"] {
        lab.create_pod(other, NODE);
        assert_ne!(lab.address_when_ready(other), before);
    }
    kubectl(&lab, "create -f -", &web);
    assert_eq!(lab.address_when_ready("web-0"), before);

    let node = kubectl(&lab, &format!("get node {NODE} -o json"), &Value::Null);
    let mut node: Value = serde_json::from_str(&node).unwrap();
    kubectl(&lab, &format!("delete node {NODE}"), &Value::Null);
    kill_agent(&lab);
    until("the agent serves without the node's object", || {
        lab.pool(NODE)["assigned"] == 4
    });
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        node["metadata"].as_object_mut().unwrap().remove(field);
    }
    kubectl(&lab, "create -f -", &node);
    lab.create_pod("four", NODE);
    lab.address_when_ready("four");
    assert_eq!(lab.address_when_ready("web-0"), before);
    on(&lab, &format!("{} tcp {before}:8080 --count 1", probe()));
    lab.down_leaves_nothing();
}
