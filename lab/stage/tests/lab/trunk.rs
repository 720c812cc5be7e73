//! A pod with an ENI of its own beside an ordinary one, and the control plane killed in between.

use serde_json::{Value, json};

use crate::rig::{Lab, until};

/// Where every node is, and which pods get an ENI.
const NETWORKING: &str = include_str!("../seed/stateless.yaml");
const CONTROL_PLANE: &str = "terway-controlplane";

fn members(lab: &Lab, node: &str) -> Vec<Value> {
    let enis = lab.node(node)["enis"].as_array().unwrap().clone();
    enis.into_iter()
        .filter(|eni| eni["kind"] == "Member")
        .collect()
}

#[test]
fn a_trunk_pod_has_an_eni_of_its_own_whatever_happens_to_the_control_plane() {
    let lab = Lab::up_with("trunk", 2, &["--trunk"]);
    for node in ["node-1", "node-2"] {
        until("the control plane is ready", || {
            lab.node(node)["agent"]["control_plane"]["ready"] == true
        });
        until("the trunk is announced", || {
            let shown = lab.kubectl(&["get", "node", node, "-o", "json"]);
            let shown: Value = serde_json::from_str(&shown).unwrap();
            shown["metadata"]["annotations"]["k8s.aliyun.com/trunk-on"].is_string()
                && shown["status"]["capacity"]["aliyun/member-eni"] == "52"
        });
    }
    lab.apply(NETWORKING);
    until("its vSwitches are found", || {
        lab.kubectl(&["get", "podnetworkings"]).contains("Ready")
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "own", "labels": { "kind": "front", "app": "nginx" } },
        "spec": { "containers": [{ "name": "main", "image": "probe" }] },
    });
    lab.apply(&pod.to_string());
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
    for node in ["node-1", "node-2"] {
        lab.run_ok(&["kill", node, CONTROL_PLANE]);
    }
    speak();
    lab.delete_pod("own");
    until("the ENI goes with its pod", || {
        members(&lab, node).is_empty() && lab.status()["detached"] == json!([])
    });
    lab.down_leaves_nothing();
}
