//! Pods whose addresses came in a prefix, beside pods of the same ENI whose addresses came one by one.

use std::collections::BTreeSet;

use crate::rig::{Lab, addresses, until};

/// Idle addresses to keep: more than the primary address and the one prefix of a vSwitch.
const IDLE: &str = "18";
/// Pods: the addresses that are there first, and two of those that came later.
const PODS: usize = 19;

#[test]
fn pods_talk_by_addresses_of_a_prefix_and_by_single_ones() {
    let options = [
        "--prefixes",
        "1",
        "--min-pool-size",
        IDLE,
        "--max-pool-size",
        "40",
    ];
    let lab = Lab::up_with("prefix", 2, &options);
    for node in ["node-1", "node-2"] {
        until("single addresses stand in for a second prefix", || {
            lab.pool(node)["idle"] == IDLE.parse::<u32>().unwrap()
        });
        lab.pool_is_what_the_cloud_has(node);
        assert_eq!(lab.pool(node)["exhausted"]["kind"], "prefix");
    }
    let enis = lab.node("node-1")["enis"].clone();
    let enis = enis.as_array().unwrap().iter();
    let prefixes = enis.filter_map(|eni| eni["prefixes"].as_array());
    let prefixed: BTreeSet<String> = prefixes
        .flatten()
        .map(|prefix| serde_json::from_value(prefix.clone()).unwrap())
        .flat_map(addresses)
        .collect();
    assert_eq!(prefixed.len(), 16, "one prefix is reserved in the zone");

    lab.create_pod("peer", "node-2");
    let pods: Vec<String> = (0..PODS).map(|pod| format!("p{pod}")).collect();
    for pod in &pods {
        lab.create_pod(pod, "node-1");
    }
    let peer = lab.address_when_ready("peer");
    let (mut by_prefix, mut single) = (0, 0);
    for pod in &pods {
        let address = lab.address_when_ready(pod);
        match prefixed.contains(&address) {
            true => by_prefix += 1,
            false => single += 1,
        }
        lab.exec_ok(pod, &["terway-probe", "tcp", &format!("{peer}:8080")]);
        lab.exec_ok("peer", &["terway-probe", "tcp", &format!("{address}:8080")]);
    }
    assert_eq!((by_prefix, single), (16, PODS - 16), "both kinds serve");
    lab.run_ok(&["kill-agent", "node-1"]);
    until("the agent runs again", || {
        lab.node("node-1")["agent"]["restarts"] == 1
    });
    lab.pool_is_what_the_cloud_has("node-1");
    lab.down_leaves_nothing();
}
