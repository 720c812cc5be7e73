//! Removing: nothing of ours stays, nothing of others goes.

use model::{Mac, net::TABLE_MAIN};
use serde_json::json;
use terway_datapath::{Leftover, leftovers, observe, remove_leftover, remove_pod};

use crate::stage::{Node, Pod, assert_some, plan};

#[test]
fn removing_leaves_the_node_as_it_was() {
    let (mut node, mut other, mut pod) = (Node::new(), Pod::numbered(1, 42), Pod::numbered(5, 42));
    node.apply(&mut other).unwrap();
    let (node_before, pod_before) = (node.namespace.snapshot(), pod.namespace.snapshot());

    node.apply(&mut pod).unwrap();
    assert_ne!(node_before, node.namespace.snapshot());
    remove_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
    assert_eq!(node_before, node.namespace.snapshot());
    assert_eq!(pod_before, pod.namespace.snapshot());

    // Container runtimes repeat DEL, also for what never was.
    remove_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
    remove_pod(&mut node.netlink, &node.trunk, &plan(99, 7)).unwrap();
    assert_eq!(node_before, node.namespace.snapshot());
}

#[test]
fn what_a_crash_left_half_removed_is_removed_by_the_next_attempt() {
    for already_gone in [
        "link del cali00000000005",
        "rule del priority 512 to 10.0.0.5",
        "-6 rule del priority 2048 from fd00::5",
        "route del 10.0.0.5",
    ] {
        let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
        let before = node.namespace.snapshot();
        node.apply(&mut pod).unwrap();
        node.namespace.ip(already_gone);
        remove_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
        assert_eq!(before, node.namespace.snapshot(), "{already_gone}");
    }
}

#[test]
fn a_pod_is_removed_by_somebody_who_forgot_its_enis_table() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    let before = node.namespace.snapshot();
    node.apply(&mut pod).unwrap();
    let mut forgotten = pod.plan.clone();
    for rule in &mut forgotten.host_rules {
        rule.table = TABLE_MAIN;
    }
    remove_pod(&mut node.netlink, &node.trunk, &forgotten).unwrap();
    assert_eq!(before, node.namespace.snapshot());
}

#[test]
fn a_rule_that_is_not_ours_is_never_removed() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    for foreign in [
        "rule add priority 512 to 10.0.0.5 table main",
        "rule add priority 2048 from 10.0.0.5 table 1042 protocol boot",
        "rule add priority 100 from 10.0.0.5 table 99 protocol 157",
    ] {
        node.namespace.ip(foreign);
    }
    let before = node.namespace.snapshot();
    node.apply(&mut pod).unwrap();
    let rules = node.namespace.ip_json("-4 rule");
    let ours = json!({"priority": 512, "dst": "10.0.0.5", "table": "main", "protocol": "157"});
    assert_some(&rules, &ours);
    remove_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
    remove_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
    assert_eq!(before, node.namespace.snapshot());
}

#[test]
fn a_newer_sandbox_under_the_same_name_keeps_its_link() {
    let (mut node, mut newer) = (Node::new(), Pod::numbered(5, 42));
    node.apply(&mut newer).unwrap();
    let mut older = plan(6, 42);
    older.veth.host = newer.plan.veth.host.clone();
    older.veth.host_mac = Mac([0xee, 0, 0, 0, 9, 9]);
    let before = node.namespace.snapshot();
    remove_pod(&mut node.netlink, &node.trunk, &older).unwrap();
    assert_eq!(before, node.namespace.snapshot());
}

#[test]
fn a_link_that_is_no_veth_is_not_removed() {
    let (mut node, pod) = (Node::new(), Pod::numbered(5, 42));
    node.namespace
        .ip("link add cali00000000005 address ee:00:00:00:01:05 type bridge");
    remove_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
    assert_eq!(node.namespace.ip_json("link show type bridge").len(), 1);
}

#[test]
fn leftovers_are_exactly_what_no_owner_has() {
    let mut node = Node::new();
    let (mut kept, mut lost) = (Pod::numbered(1, 42), Pod::numbered(5, 42));
    node.apply(&mut kept).unwrap();
    let before = node.namespace.snapshot();
    node.apply(&mut lost).unwrap();
    node.namespace
        .ip("route add 10.0.0.77 dev lo protocol boot");

    let owners = [kept.plan.clone()];
    let observed = observe(&mut node.netlink).unwrap();
    let found = leftovers(&observed, &owners, &[]);
    let rules = |found: &[Leftover]| {
        found
            .iter()
            .filter(|leftover| matches!(leftover, Leftover::Rule(_)))
            .count()
    };
    assert_eq!(
        (found.len(), rules(&found)),
        (6, 4),
        "two routes and four rules"
    );

    for leftover in &found {
        remove_leftover(&mut node.netlink, leftover).unwrap();
        remove_leftover(&mut node.netlink, leftover).ok();
    }
    node.apply(&mut kept).unwrap();
    node.namespace.ip("link del cali00000000005");
    node.namespace.ip("route del 10.0.0.77");
    assert_eq!(before, node.namespace.snapshot());
}
