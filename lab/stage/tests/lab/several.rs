//! A pod with two interfaces beside an ordinary one, through the death of its node's agent.

use serde_json::{Value, json};

use crate::{
    rig::{Lab, until},
    trunk::{get, members, network, trunks},
};

/// What both interfaces are of: the vSwitches and security groups of `eni_conf`.
const NETWORK: &str = "both";
const NODE: &str = "node-1";

fn addresses(lab: &Lab) -> Vec<String> {
    let record = get(lab, &["podenis"]).pop().unwrap();
    let allocations = record["spec"]["allocations"].as_array().unwrap().iter();
    let addresses = allocations.map(|one| one["ipv4"].as_str().unwrap().to_owned());
    addresses.collect()
}

#[test]
fn a_pod_with_two_interfaces_is_reached_at_both_and_goes_whole() {
    let lab = trunks("several", 2);
    let networking = json!({
        "apiVersion": "network.alibabacloud.com/v1beta1", "kind": "PodNetworking",
        "metadata": { "name": NETWORK }, "spec": {},
    });
    network(&lab, &networking.to_string());
    lab.create_pod("ordinary", "node-2");
    let ordinary = lab.address_when_ready("ordinary");
    let request = json!([
        { "interfaceName": "eth0", "network": NETWORK, "defaultRoute": true },
        { "interfaceName": "eth1", "network": NETWORK,
          "routes": [{ "dst": format!("{ordinary}/32") }] },
    ]);
    let annotations = json!({ "k8s.aliyun.com/pod-networks-request": request.to_string() });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "two", "annotations": annotations },
        "spec": { "nodeName": NODE, "containers": [{ "name": "main", "image": "probe" }] },
    });
    lab.apply(&pod.to_string());
    let reported = lab.address_when_ready("two");
    let own = addresses(&lab);
    assert_eq!((own.len(), &reported), (2, &own[0]), "eth0's is the pod's");
    let mut primaries: Vec<Value> = members(&lab, NODE)
        .iter()
        .map(|eni| eni["primary"].clone())
        .collect();
    primaries.sort_by_key(Value::to_string);
    let mut wanted = own.clone();
    wanted.sort();
    assert_eq!(json!(primaries), json!(wanted), "a member for each");
    // The VPC carries an answer only under the VLAN whose address it bears, and to the ordinary pod
    // the way is eth1.
    let speak = || {
        for address in &own {
            let target = format!("{address}:8080");
            lab.exec_ok("ordinary", &["terway-probe", "tcp", &target]);
        }
        let target = format!("{ordinary}:8080");
        lab.exec_ok("two", &["terway-probe", "tcp", &target]);
    };
    speak();
    lab.run_ok(&["kill-agent", NODE]);
    until("the agent runs again", || {
        lab.node(NODE)["agent"]["restarts"] == 1
    });
    speak();
    lab.delete_pod("two");
    until("both ENIs go with the pod", || {
        members(&lab, NODE).is_empty() && lab.status()["detached"] == json!([])
    });
    lab.down_leaves_nothing();
}
