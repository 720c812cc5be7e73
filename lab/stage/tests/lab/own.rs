//! A pod with an ENI wholly its own, and where the ENI's device is meanwhile.

use serde_json::{Value, json};

use crate::{
    plugin::Plugin,
    rig::{Lab, until},
    trunk::{STATELESS, get, network, pod, trunks},
};

const NODE: &str = "node-1";
/// Services as kube-proxy makes them: one behind another node, one on this one.
const FAR_SERVICE: &str = "10.96.7.7";
const NEAR_SERVICE: &str = "10.96.7.8";

/// The pod's ENI as the cloud has it.
fn eni(lab: &Lab, address: &str) -> Option<Value> {
    let node = lab.node(NODE);
    let mut enis = node["enis"].as_array().unwrap().iter();
    enis.find(|eni| eni["primary"] == *address).cloned()
}

/// The name of the device with this MAC on the node itself.
fn on_node(lab: &Lab, mac: &str) -> Option<String> {
    let links = lab.on_node(NODE, &["ip", "-json", "link"]);
    let links: Vec<Value> = serde_json::from_str(&links).unwrap();
    let mut links = links.iter().filter(|link| link["address"] == *mac);
    Some(links.next()?["ifname"].as_str()?.to_owned())
}

fn plugin<'a>(lab: &'a Lab, verb: &'a str, container: &'a str, netns: &'a str) -> Plugin<'a> {
    Plugin {
        lab,
        node: NODE,
        verb,
        container,
        netns,
        interface: "eth0",
        pod: "whole",
        config: json!({ "cniVersion": "1.0.0", "name": "terway-chainer", "type": "terway" }),
    }
}

#[test]
fn a_pod_has_a_whole_eni_and_the_node_has_it_back_afterwards() {
    let lab = trunks("own", 2);
    network(
        &lab,
        &format!("{STATELESS}\n  eniOptions:\n    eniType: ENI\n"),
    );
    lab.apply(&pod("whole", ["front", "nginx"], Some(NODE)));
    let own = lab.address_when_ready("whole");
    let container = lab.attachments(NODE, "")[0]["containerID"].clone();
    let container = container.as_str().unwrap();
    let netns = format!("/run/netns/cni-{}", &container[..32]);
    let attached = eni(&lab, &own).unwrap();
    assert_eq!(attached["kind"], "Secondary");
    let mac = attached["mac"].as_str().unwrap();
    assert_eq!(on_node(&lab, mac), None);
    let pool = lab.pool(NODE);
    let of_pool = pool["enis"].as_array().unwrap();
    assert!(of_pool.iter().all(|eni| eni["id"] != attached["id"]));

    lab.create_pod("beside", NODE);
    lab.create_pod("far", "node-2");
    let [beside, far] = ["beside", "far"].map(|pod| lab.address_when_ready(pod));
    let services = format!(
        "table ip services {{ chain prerouting {{\n type nat hook prerouting priority -100;\n \
         ip daddr {FAR_SERVICE} dnat to {far}\n ip daddr {NEAR_SERVICE} dnat to {beside}\n }}\n }}"
    );
    lab.on_node(NODE, &["nft", &services]);
    let speak = || {
        for to in [&*far, &*beside, FAR_SERVICE, NEAR_SERVICE] {
            lab.exec_ok("whole", &["terway-probe", "tcp", &format!("{to}:8080")]);
        }
        let to_own = format!("{own}:8080");
        for from in ["far", "beside"] {
            lab.exec_ok(from, &["terway-probe", "tcp", &to_own]);
        }
        for node in [NODE, "node-2"] {
            lab.on_node(node, &["/run/lab/bin/terway-probe", "tcp", &to_own]);
        }
    };
    speak();

    // The runtime takes the pod down and up again.
    plugin(&lab, "DEL", container, &netns).call().unwrap();
    let home = on_node(&lab, mac).expect("the device is on the node when DEL is answered");
    assert!(home.starts_with("eth") && home != "eth0", "{home}");
    let result = plugin(&lab, "ADD", container, &netns).call().unwrap();
    assert_eq!(result["interfaces"][2]["mac"], *mac);
    assert_eq!(on_node(&lab, mac), None);
    plugin(&lab, "CHECK", container, &netns).call().unwrap();
    speak();

    // A sandbox ends without a DEL, and the runtime makes another.
    plugin(&lab, "DEL", container, &netns).call().unwrap();
    lab.on_node(NODE, &["ip", "netns", "add", "lost"]);
    let lost = plugin(&lab, "ADD", "lost-sandbox", "/run/netns/lost");
    lost.call().unwrap();
    lab.on_node(NODE, &["ip", "netns", "del", "lost"]);
    until("the device is back on the node", || {
        on_node(&lab, mac).is_some()
    });
    plugin(&lab, "ADD", container, &netns).call().unwrap();
    speak();

    lab.delete_pod("whole");
    until("the ENI goes with its pod", || {
        eni(&lab, &own).is_none()
            && lab.status()["detached"] == json!([])
            && get(&lab, &["podenis"]).is_empty()
    });
    lab.down_leaves_nothing();
}
