//! Pods with ENIs of their own on the trunks of both nodes: the control plane from its manifests, and the
//! examples of the users' document.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    checks::{IMAGE, address, name, ready},
    rig::{Lab, NODES, level, list, until},
};

const STATELESS: &str = include_str!("../seed/stateless.yaml");
const FRONT: &str = include_str!("../seed/nginx-front.yaml");
const FIXED: &str = include_str!("../seed/fixed-ip.yaml");
const STATEFUL: &str = include_str!("../seed/sts-fixed-ip.yaml");

/// An ordinary pod, to speak to those of trunks.
const ORDINARY: &str = "ordinary";

/// What a trunk of an ecs.g6.16xlarge takes: EniTotalQuantity less EniQuantity.
const MEMBERS: &str = "52";

/// The node agents make trunks and say so; the control plane runs beside them.
pub(crate) fn installed(lab: &Lab) {
    let maps = lab.get(&["configmap", "eni-config", "--namespace=kube-system"]);
    let conf = maps[0]["data"]["eni_conf"].as_str().unwrap();
    let mut conf: Value = serde_json::from_str(conf).unwrap();
    conf["enable_eni_trunking"] = true.into();
    let patch = json!({ "data": { "eni_conf": conf.to_string() } }).to_string();
    let map = [
        "patch",
        "configmap",
        "eni-config",
        "--namespace=kube-system",
        "--patch",
    ];
    lab.kubectl(&[&map[..], &[&patch]].concat());
    // deploy/overlays/trunk over whatever is installed; it also starts the agents anew.
    let overlay = include_str!("../../../../deploy/overlays/trunk/capabilities.yaml");
    let set = [
        "patch",
        "daemonset",
        "terway",
        "--namespace=kube-system",
        "--patch",
    ];
    lab.kubectl(&[&set[..], &[overlay]].concat());
    until(
        "every node has a trunk and says how many members it takes",
        || {
            let nodes = lab.get(&["nodes"]);
            let whole = |node: &Value| {
                node["metadata"]["annotations"]["k8s.aliyun.com/trunk-on"].is_string()
                    && node["status"]["allocatable"]["aliyun/member-eni"] == MEMBERS
            };
            level(
                nodes.iter().all(whole),
                format!(
                    "{:?}",
                    nodes
                        .iter()
                        .map(|node| &node["status"]["allocatable"])
                        .collect::<Vec<_>>()
                ),
            )
        },
    );
    apply_control_plane(lab);
    until("the control plane is ready", || {
        let of = [
            "deployment",
            "terway-controlplane",
            "--namespace=kube-system",
        ];
        let status = lab.get(&of)[0]["status"].clone();
        level(status["readyReplicas"] == 2, status)
    });
}

/// `deploy/controlplane` with the region's addresses laid over it.
fn apply_control_plane(lab: &Lab) {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/controlplane");
    let config = fs::read_to_string(deploy.join("ctrl-config.yaml")).unwrap();
    let config = config
        .replace("clusterID: \"\"", "clusterID: lab")
        .replace("vpcID: \"\"", "vpcID: vpc-bp1lab");
    lab.apply_text(&config);
    lab.kubectl(&["apply", "--kustomize", deploy.to_str().unwrap()]);
    let agent = lab.get(&["daemonset", "terway", "--namespace=kube-system"]);
    let environment = list(&agent[0]["spec"]["template"]["spec"]["containers"][0]["env"])
        .filter(|one| one["value"].is_string() && one["name"] != "RUST_LOG")
        .cloned();
    let patch = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "controlplane", "env": environment.collect::<Value>() },
    ] } } } });
    lab.kubectl(&[
        "patch",
        "deployment",
        "terway-controlplane",
        "--namespace=kube-system",
        "--patch",
        &patch.to_string(),
    ]);
}

/// The first example: a Deployment whose pods get an ENI each.
pub(crate) fn stateless(lab: &Lab) {
    lab.apply_text(STATELESS);
    until("the PodNetworking is Ready with both vSwitches", || {
        let status = lab.get(&["podnetworking", "stateless"])[0]["status"].clone();
        let vswitches = status["vSwitches"].as_array().map_or(0, Vec::len);
        level(status["status"] == "Ready" && vswitches == 2, status)
    });
    lab.apply_text(FRONT);
    let pods = running(lab, "kind=front", 2);
    for pod in &pods {
        let record = record(lab, name(pod));
        assert_eq!(record["spec"]["allocations"][0]["ipv4"], address(pod));
        assert_eq!(record["status"]["phase"], "Bind");
        let on = node_of(lab, pod);
        let trunk = &on["metadata"]["annotations"]["k8s.aliyun.com/trunk-on"];
        assert_eq!(&record["status"]["trunkENIID"], trunk);
        let eni = record["spec"]["allocations"][0]["eni"]["id"]
            .as_str()
            .unwrap();
        let vlan = record["status"]["eniInfos"][eni]["vid"].as_u64().unwrap();
        assert!((1..=4094).contains(&vlan), "{vlan}");
        assert_eq!(
            pod["metadata"]["annotations"]["k8s.aliyun.com/pod-eni"],
            "true"
        );
    }
    reach(lab, &pods);
}

/// Trunk pods, an ordinary pod and the nodes reach each other.
fn reach(lab: &Lab, pods: &[Value]) {
    let mut ordinary = crate::checks::pod(ORDINARY, NODES[0], json!([]));
    ordinary["spec"]["containers"][0]["image"] = IMAGE.into();
    lab.apply(&ordinary);
    let plain = ready(lab, ORDINARY);
    let url = |address: &str| format!("http://{address}:8080/");
    for pod in pods {
        for other in pods.iter().map(address).chain([plain.as_str()]) {
            got(lab.probe(name(pod), &["get", &url(other)]));
        }
        got(lab.probe(ORDINARY, &["get", &url(address(pod))]));
        for node in NODES {
            got(lab.probe_on(node, &["get", &url(address(pod))]));
        }
    }
}

fn got(answer: Result<Value, String>) {
    let answer = answer.unwrap_or_else(|why| panic!("{why}"));
    assert!(answer["local"].is_string(), "{answer}");
}

/// The second example: a StatefulSet's pod keeps ENI and address when it is made again.
pub(crate) fn fixed(lab: &Lab) {
    lab.apply_text(FIXED);
    until("the PodNetworking is Ready", || {
        let status = lab.get(&["podnetworking", "fixed-ip"])[0]["status"].clone();
        level(status["status"] == "Ready", status)
    });
    lab.apply_text(STATEFUL);
    let first = running(lab, "kind=backend", 1).remove(0);
    let before = record(lab, name(&first));
    lab.kubectl(&["delete", "pod", name(&first)]);
    let uid = &first["metadata"]["uid"];
    until("the next pod of the name is there", || {
        let pods = lab.get(&["pods", "--selector=kind=backend"]);
        level(
            pods.iter().any(|pod| pod["metadata"]["uid"] != *uid),
            pods.len(),
        )
    });
    let second = running(lab, "kind=backend", 1).remove(0);
    let after = record(lab, name(&second));
    assert_eq!(before["spec"]["allocations"], after["spec"]["allocations"]);
    assert_eq!(address(&first), address(&second));
    let zone = &after["spec"]["zone"];
    let terms = &second["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"];
    let wanted =
        json!({ "key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone] });
    let bound = list(terms).all(|term| list(&term["matchExpressions"]).any(|one| *one == wanted));
    assert!(bound, "{terms}");
    got(lab.probe(
        name(&second),
        &["get", &format!("http://{}:8080/", ready(lab, ORDINARY))],
    ));
    // The record outlives the StatefulSet, and goes when it is deleted.
    lab.kubectl(&["delete", "statefulset", "sts-fixed-ip"]);
    until("the record waits for the next pod", || {
        let phase = record(lab, name(&second))["status"]["phase"].clone();
        level(phase == "Unbind", phase)
    });
    lab.kubectl(&["delete", "podeni", name(&second)]);
}

/// What the webhooks refuse, each with its sentence.
pub(crate) fn refused(lab: &Lab) {
    let short = FIXED
        .replace("5m0s", "1m0s")
        .replace("name: fixed-ip", "name: short");
    let never = FIXED
        .replace("TTL", "Never")
        .replace("name: fixed-ip", "name: never");
    let groups = "    - sg-bp1lab\n".repeat(11);
    let many = STATELESS
        .replace("    - sg-bp1lab\n", &groups)
        .replace("name: stateless", "name: many");
    let pod = |key: &str, value: &str| {
        let mut pod = crate::checks::pod("refused", NODES[0], json!([]));
        pod["metadata"]["annotations"] = json!({ format!("k8s.aliyun.com/{key}"): value });
        pod.to_string()
    };
    let long = r#"{"podNetworks":[{"interface":"eth000"}]}"#;
    let mut both = crate::checks::pod("refused", NODES[0], json!([]));
    both["metadata"]["annotations"] = json!({
        "k8s.aliyun.com/pod-networking": "stateless",
        "k8s.aliyun.com/pod-networks-request": r#"[{"network":"stateless"}]"#,
    });
    let table = [
        (short, "releaseAfter is 60s, but at least 300s are needed"),
        (never, "releaseStrategy Never takes no duration"),
        (many, "has 11 entries: 1 to 10 are possible"),
        (pod("pod-networks", "{"), "pod-networks cannot be read"),
        (
            pod("pod-networks", long),
            "interface name eth000 is too long",
        ),
        (
            pod("pod-networking", "none"),
            "PodNetworking none does not exist",
        ),
        (both.to_string(), "only one of the annotations"),
    ];
    for (document, expected) in table {
        let said = lab.kubectl_with(&["apply", "-f", "-"], &document);
        assert!(
            said.as_ref().is_err_and(|why| why.contains(expected)),
            "{expected}: {said:?}"
        );
    }
}

/// A PodNetworking goes with a warning and takes nothing from its pods; with them nothing is left in the cloud.
pub(crate) fn removed(lab: &Lab) {
    let pods = running(lab, "kind=front", 2);
    let warned = lab.warnings(&["delete", "podnetworking", "stateless"]);
    let expected = format!("pods that use PodNetworking stateless: {}", pods.len());
    assert!(warned.contains(&expected), "{warned}");
    got(lab.probe(
        name(&pods[0]),
        &["get", &format!("http://{}:8080/", address(&pods[1]))],
    ));
    lab.kubectl(&["delete", "deployment", "nginx-front"]);
    lab.kubectl(&["delete", "pod", ORDINARY, "--wait=false"]);
    until("no PodENI is left", || {
        let left = lab.get(&["podenis"]);
        level(left.is_empty(), format!("{left:?}"))
    });
    let enis = lab.status();
    let members = list(&enis["nodes"]).flat_map(|node| list(&node["enis"]));
    let members: Vec<_> = members.filter(|eni| eni["kind"] == "Member").collect();
    assert!(members.is_empty(), "{members:?}");
}

fn running(lab: &Lab, selector: &str, count: usize) -> Vec<Value> {
    let selector = format!("--selector={selector}");
    until(&format!("{count} pods of {selector} run"), || {
        let pods = lab.get(&["pods", &selector]);
        let runs = |pod: &&Value| {
            pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
        };
        match pods.iter().filter(runs).count() == count && pods.len() == count {
            true => Ok(pods),
            false => Err(lab.kubectl(&["get", "pods,podenis", "-o", "wide"])),
        }
    })
}

fn record(lab: &Lab, pod: &str) -> Value {
    lab.get(&["podeni", pod]).remove(0)
}

fn node_of(lab: &Lab, pod: &Value) -> Value {
    let node = pod["spec"]["nodeName"].as_str().unwrap();
    lab.get(&["node", node]).remove(0)
}
