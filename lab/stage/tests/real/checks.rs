//! The checks, in the order in which they build on each other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    permissions,
    rig::{Lab, NODES, POOL, level, list, until},
    trunk, upgrade, way_back,
};

/// Pods of the Deployment.
const PODS: usize = 40;
/// The image of everything that runs in a pod here.
pub(crate) const IMAGE: &str = "terway-rs/probe:v0.1.0";

/// What is claimed, and the check of it.
type Check = (&'static str, fn(&Lab));

/// All of them.
pub(crate) const ALL: [Check; 18] = [
    ("nodes without the product are not ready", not_ready),
    ("the manifests make them ready", installed),
    ("forty pods get addresses of the pods' vSwitches", deployed),
    ("they reach each other", connected),
    ("a ClusterIP and a NodePort lead to them", services),
    (
        "a port of a node leads to its pod, also from the other node",
        way_back::host_port,
    ),
    (
        "NodePorts lead to the asked node's own pods, and Local ones see who asks",
        way_back::node_ports,
    ),
    ("the way back is put in place again", way_back::repaired),
    ("the control plane runs beside the agents", trunk::installed),
    ("stateless: pods get ENIs of their own", trunk::stateless),
    ("fixed-ip: a pod keeps its address", trunk::fixed),
    ("what the webhooks refuse they explain", trunk::refused),
    ("their ENIs go with them", trunk::removed),
    (
        "kubelet, containerd and agent are killed under traffic",
        killed,
    ),
    (
        "to the next release and back under traffic: nothing is lost, pods start on time",
        upgrade::upgraded,
    ),
    (
        "each permission is needed, and named when it lacks",
        permissions::each_verb_is_needed,
    ),
    (
        "one script of conversations is answered as the simulated API answers it",
        conversations,
    ),
    ("the account is as before when the pods are gone", settled),
];

fn not_ready(lab: &Lab) {
    for node in lab.get(&["nodes"]) {
        let ready = condition(&node, "Ready");
        let message = ready["message"].as_str().unwrap_or_default();
        assert!(
            ready["status"] == "False" && message.contains("cni"),
            "{ready}"
        );
        let labels = &node["metadata"]["labels"];
        let zone = labels["topology.kubernetes.io/zone"]
            .as_str()
            .unwrap_or_default();
        assert!(zone.starts_with("cn-hangzhou-"), "{labels}");
    }
}

fn installed(lab: &Lab) {
    lab.run_ok(&["install"]);
    until("every node is ready", || {
        let nodes = lab.get(&["nodes"]);
        let ready = |node: &Value| condition(node, "Ready")["status"] == "True";
        level(nodes.iter().all(ready), agents(lab))
    });
    until("every agent is ready", || {
        let set = &lab.get(&["daemonset", "terway", "--namespace=kube-system"])[0]["status"];
        level(set["numberReady"] == NODES.len(), set)
    });
    at_rest(lab);
}

fn deployed(lab: &Lab) {
    lab.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "echo" },
        "spec": {
            "replicas": PODS,
            "selector": { "matchLabels": { "app": "echo" } },
            "template": {
                "metadata": { "labels": { "app": "echo" } },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "main", "image": IMAGE, "args": ["serve"],
                        "readinessProbe": { "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 },
                    }],
                },
            },
        },
    }));
    let pods = echoes(lab);
    let addresses: BTreeSet<&str> = pods.iter().map(address).collect();
    assert_eq!(addresses.len(), PODS, "no two pods have one address");
    let status = lab.status();
    for node in list(&status["nodes"]) {
        let mine: Vec<&Value> = pods
            .iter()
            .filter(|pod| pod["spec"]["nodeName"] == node["name"])
            .collect();
        assert!(!mine.is_empty(), "{} has no pod", node["name"]);
        let owned: BTreeSet<&str> = list(&node["enis"])
            .filter(|eni| {
                eni["vswitch"]
                    .as_str()
                    .unwrap()
                    .starts_with("vsw-bp1labpods")
            })
            .flat_map(|eni| list(&eni["secondary"]).chain([&eni["primary"]]))
            .map(|address| address.as_str().unwrap())
            .collect();
        for pod in mine {
            assert!(
                owned.contains(address(pod)),
                "{} is no address of {}",
                address(pod),
                node["name"]
            );
        }
    }
}

fn connected(lab: &Lab) {
    let pods = echoes(lab);
    for node in NODES {
        let from = name(on(&pods, node));
        for to in &pods {
            let target = format!("{}:8080", address(to));
            let report = lab.probe(
                from,
                &["tcp", &target, "--count", "3", "--interval-ms", "1"],
            );
            let report = report.unwrap_or_else(|why| panic!("{from} to {}: {why}", name(to)));
            assert_eq!(report["lost"], 0, "{from} to {}", name(to));
        }
    }
    let (from, to) = (name(on(&pods, NODES[0])), address(on(&pods, NODES[1])));
    let url = format!("http://{to}:8080/bytes?n=10000000");
    lab.probe(from, &["get", &url, "--digest"])
        .unwrap_or_else(|why| panic!("{why}"));
}

fn services(lab: &Lab) {
    let pods = echoes(lab);
    lab.apply(&service("echo", json!({ "app": "echo" }), json!({})));
    let address = cluster_ip(lab, "echo");
    let url = format!("http://{address}:80/");
    for node in NODES {
        let from = name(on(&pods, node));
        let mut answered = BTreeSet::new();
        until("the Service leads to its pods from a pod", || {
            lab.probe(from, &["get", &url])
        });
        for _ in 0..20 {
            let said = lab
                .probe(from, &["get", &url])
                .unwrap_or_else(|why| panic!("{why}"));
            answered.insert(said["local"].as_str().unwrap().to_owned());
        }
        assert!(
            answered.len() > 1,
            "all of 20 requests went to {answered:?}"
        );
        until("it does from the node too", || {
            lab.probe_on(node, &["get", &url])
        });
    }
    // Every node leads to every pod, and to answer it puts its own address for who asked.
    lab.apply(&service(
        "spread",
        json!({ "app": "echo" }),
        json!({ "type": "NodePort" }),
    ));
    let port = node_port(lab, "spread");
    for (asks, asked) in [(NODES[0], NODES[1]), (NODES[1], NODES[0])] {
        let url = format!("http://{}:{port}/", node_address(lab, asked));
        until("a NodePort answers on both nodes", || {
            lab.probe_on(asks, &["get", &url])
        });
    }
}

pub(crate) fn node_address(lab: &Lab, node: &str) -> String {
    lab.node(node)["address"].as_str().unwrap().to_owned()
}

pub(crate) fn node_port(lab: &Lab, service: &str) -> String {
    lab.get(&["service", service])[0]["spec"]["ports"][0]["nodePort"].to_string()
}

/// Names the test program that holds the script.
const CONVERSATIONS: &str = "TERWAY_CONVERSATIONS";

fn conversations(lab: &Lab) {
    let program = std::env::var_os(CONVERSATIONS);
    let program = program.unwrap_or_else(|| panic!("{CONVERSATIONS} is not set"));
    let mut script = std::process::Command::new(program);
    script.env("TERWAY_API_SERVER_KUBECONFIG", lab.kubeconfig());
    let output = script.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn killed(lab: &Lab) {
    let pods = echoes(lab);
    let (from, to) = (on(&pods, NODES[0]), on(&pods, NODES[1]));
    for (at, component) in ["kubelet", "containerd", "terwayd"].into_iter().enumerate() {
        let target = format!("{}:8080", address(to));
        let stream = ["udp", &target, "--count", "400", "--interval-ms", "10"];
        let stream = lab.probe_beside(name(from), &stream);
        for node in NODES {
            lab.run_ok(&["kill", node, component]);
        }
        let newcomer = format!("newcomer-{at}");
        lab.apply(&pod(&newcomer, NODES[0], json!({})));
        let output = stream.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && said.contains("\"lost\":0"),
            "{component}: {output:?}"
        );
        let there = ready(lab, &newcomer);
        let reached = lab.probe(name(to), &["tcp", &format!("{there}:8080"), "--count", "3"]);
        reached.unwrap_or_else(|why| panic!("after {component} was killed: {why}"));
    }
    until("every agent is ready again", || {
        let set = &lab.get(&["daemonset", "terway", "--namespace=kube-system"])[0]["status"];
        level(set["numberReady"] == NODES.len(), set)
    });
}

fn settled(lab: &Lab) {
    lab.kubectl(&[
        "delete",
        "deployment,service",
        "--selector=!component",
        "--wait=false",
    ]);
    lab.kubectl(&["delete", "pods", "--all", "--wait=false"]);
    until("every pod is gone", || {
        let left = lab.get(&["pods"]);
        level(left.is_empty(), left.len())
    });
    at_rest(lab);
}

/// No pod holds anything, and what the cloud counts on each node is idle in its pool, address by address: nothing is
/// lost between the two. How much a pool keeps for how long is not asked here; surplus goes back after
/// five minutes (docs/configuration.md), which the engine's tests and the simulator show without waiting.
fn at_rest(lab: &Lab) {
    until("pools and cloud agree, and are at rest", || {
        let status = lab.status();
        level(
            status["detached"] == json!([]) && status["failures"] == json!([]),
            &status["detached"],
        )?;
        for node in list(&status["nodes"]) {
            let pool = &node["pool"];
            let busy = ["assigned", "resting", "waiting", "open_calls"]
                .into_iter()
                .filter(|what| pool[*what].as_u64() != Some(0));
            let busy: Vec<_> = busy.collect();
            let held: usize = list(&node["enis"])
                .filter(|eni| eni["kind"] == "Secondary" || eni["kind"] == "Trunk")
                .map(|eni| 1 + list(&eni["secondary"]).count())
                .sum();
            let idle = pool["idle"].as_u64();
            let kept = idle.is_some_and(|idle| idle >= POOL);
            let calm = busy.is_empty() && kept && Some(held as u64) == idle;
            level(
                calm,
                format!(
                    "{}: {held} in the cloud, busy {busy:?}, {pool}",
                    node["name"]
                ),
            )?;
        }
        Ok(())
    });
}

/// The pods of the Deployment, when all are ready.
pub(crate) fn echoes(lab: &Lab) -> Vec<Value> {
    until("every pod of the Deployment is ready", || {
        let mut pods = lab.get(&["pods", "--selector=app=echo"]);
        pods.retain(|pod| condition(pod, "Ready")["status"] == "True");
        match pods.len() {
            PODS => Ok(pods),
            other => Err(format!("{other} of {PODS} are ready")),
        }
    })
}

/// The address of a pod, when it is ready.
pub(crate) fn ready(lab: &Lab, pod: &str) -> String {
    until("the pod is ready", || {
        let pod = &lab.get(&["pod", pod])[0];
        let ready = condition(pod, "Ready");
        level(ready["status"] == "True", &pod["status"])?;
        Ok(address(pod).to_owned())
    })
}

/// What the agents' pods say of themselves.
fn agents(lab: &Lab) -> String {
    let pods = lab.get(&["pods", "--namespace=kube-system", "--selector=app=terway"]);
    let statuses: BTreeMap<&str, &Value> = pods
        .iter()
        .map(|pod| (name(pod), &pod["status"]["containerStatuses"]))
        .collect();
    format!("{statuses:?}")
}

pub(crate) fn pod(name: &str, node: &str, ports: Value) -> Value {
    let mut container = json!({
        "name": "main", "image": IMAGE, "args": ["serve"],
        "readinessProbe": { "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 },
    });
    if !ports["ports"].is_null() {
        container["ports"] = ports["ports"].clone();
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "pod": name } },
        "spec": { "nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container] },
    })
}

pub(crate) fn service(name: &str, selector: Value, more: Value) -> Value {
    let mut spec = json!({
        "selector": selector,
        "ports": [{ "port": 80, "targetPort": 8080, "protocol": "TCP" }],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec })
}

fn cluster_ip(lab: &Lab, service: &str) -> String {
    let service = &lab.get(&["service", service])[0];
    service["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

pub(crate) fn on<'a>(pods: &'a [Value], node: &str) -> &'a Value {
    let found = pods.iter().find(|pod| pod["spec"]["nodeName"] == node);
    found.unwrap_or_else(|| panic!("no pod on {node}"))
}

pub(crate) fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap()
}

pub(crate) fn address(pod: &Value) -> &str {
    pod["status"]["podIP"].as_str().unwrap_or_default()
}

pub(crate) fn condition(object: &Value, name: &str) -> Value {
    let mut conditions = list(&object["status"]["conditions"]);
    conditions
        .find(|condition| condition["type"] == name)
        .cloned()
        .unwrap_or_default()
}
