//! Applying over what a crash, a person or an earlier owner left.

use model::{Mac, net::ENI_TABLE_BASE};
use serde_json::json;
use terway_datapath::{Difference, apply_pod, check_pod};

use crate::stage::{Namespace, Node, Pod, assert_some};

/// One kind of damage: what somebody runs on the node or in the pod, and how CHECK names it.
struct Damage {
    on_node: bool,
    command: &'static str,
    named: &'static str,
}

const fn on_node(command: &'static str, named: &'static str) -> Damage {
    Damage {
        on_node: true,
        command,
        named,
    }
}

const fn in_pod(command: &'static str, named: &'static str) -> Damage {
    Damage {
        on_node: false,
        command,
        named,
    }
}

/// The table of docs/self-heal.md.
const DAMAGES: [Damage; 24] = [
    on_node(
        "ip link set cali00000000005 down",
        "on the node, link cali00000000005 is down",
    ),
    on_node(
        "ip link set cali00000000005 mtu 1300",
        "on the node, link cali00000000005 has MTU 1300 instead of 1400",
    ),
    on_node(
        "ip link set cali00000000005 address 02:00:00:00:00:09",
        "on the node, link cali00000000005 has MAC 02:00:00:00:00:09 instead of ee:00:00:00:01:05",
    ),
    on_node(
        "ip link set cali00000000005 group 7",
        "on the node, link cali00000000005 is in group 7 instead of 0",
    ),
    on_node(
        "ip link set cali00000000005 down; ip link set cali00000000005 name other",
        "on the node, link cali00000000005 is missing",
    ),
    on_node(
        "ip link del cali00000000005",
        "in the pod, link eth0 is missing",
    ),
    on_node(
        "ip route del 10.0.0.5",
        "on the node, route 10.0.0.5/32 dev cali00000000005 table 254 is missing",
    ),
    on_node(
        "ip route replace 10.0.0.5 dev lo",
        "on the node, route 10.0.0.5/32 dev cali00000000005 table 254 is missing",
    ),
    on_node(
        "ip -6 route del fd00::5",
        "on the node, route fd00::5/128 dev cali00000000005 table 254 is missing",
    ),
    on_node(
        "ip neigh replace 10.0.0.5 lladdr 02:00:00:00:00:09 nud permanent dev cali00000000005",
        "on the node, neighbour 10.0.0.5 lladdr ee:00:00:00:02:05 dev cali00000000005 is missing",
    ),
    on_node(
        "ip neigh del fd00::5 dev cali00000000005",
        "on the node, neighbour fd00::5 lladdr ee:00:00:00:02:05 dev cali00000000005 is missing",
    ),
    on_node(
        "ip rule del priority 512 to 10.0.0.5",
        "on the node, rule priority 512 to 10.0.0.5/32 table 254 is missing",
    ),
    on_node(
        "ip -6 rule del priority 2048 from fd00::5",
        "on the node, rule priority 2048 from fd00::5/128 table 1042 is missing",
    ),
    on_node(
        "ip rule add priority 2048 from 10.0.0.5 table 43 protocol 157",
        "on the node, rule priority 2048 from 10.0.0.5/32 leads to table 43 instead of 1042",
    ),
    in_pod("ip link set eth0 down", "in the pod, link eth0 is down"),
    in_pod(
        "ip link set eth0 mtu 1300",
        "in the pod, link eth0 has MTU 1300 instead of 1400",
    ),
    in_pod(
        "ip link set eth0 address 02:00:00:00:00:09",
        "in the pod, link eth0 has MAC 02:00:00:00:00:09 instead of ee:00:00:00:02:05",
    ),
    in_pod(
        "ip link set eth0 down; ip link set eth0 name other",
        "in the pod, link eth0 is missing",
    ),
    in_pod(
        "ip addr del 10.0.0.5/32 dev eth0",
        "in the pod, address 10.0.0.5/32 dev eth0 is missing",
    ),
    in_pod(
        "ip -6 addr del fd00::5/128 dev eth0",
        "in the pod, address fd00::5/128 dev eth0 is missing",
    ),
    in_pod(
        "ip route del default",
        "in the pod, route 0.0.0.0/0 via 169.254.1.1 dev eth0 table 254 onlink is missing",
    ),
    in_pod(
        "ip -6 route replace default dev lo metric 1024",
        "in the pod, route ::/0 via fe80::1 dev eth0 table 254 onlink is missing",
    ),
    in_pod(
        "ip neigh del 169.254.1.1 dev eth0",
        "in the pod, neighbour 169.254.1.1 lladdr ee:00:00:00:01:05 dev eth0 is missing",
    ),
    in_pod(
        "ip neigh replace fe80::1 lladdr 02:00:00:00:00:09 nud permanent dev eth0",
        "in the pod, neighbour fe80::1 lladdr ee:00:00:00:01:05 dev eth0 is missing",
    ),
];

#[test]
fn whatever_is_missing_is_found_by_check_and_put_back() {
    for Damage {
        on_node,
        command,
        named,
    } in DAMAGES
    {
        let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
        node.apply(&mut pod).unwrap();
        let namespace = if on_node {
            &node.namespace
        } else {
            &pod.namespace
        };
        namespace.shell(command);
        let mut check =
            || check_pod(&mut node.netlink, &node.trunk, &mut pod.netlink, &pod.plan).unwrap();
        let sentences: Vec<_> = check().iter().map(Difference::to_string).collect();
        assert!(
            sentences.iter().any(|found| found == named),
            "{command}: {sentences:#?}"
        );

        node.apply(&mut pod).unwrap();
        let left = check_pod(&mut node.netlink, &node.trunk, &mut pod.netlink, &pod.plan).unwrap();
        assert_eq!(left, [], "after repairing: {command}");
    }
}

#[test]
fn a_repair_keeps_the_pair_and_its_open_flows() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    node.apply(&mut pod).unwrap();
    let index =
        |node: &Node| node.namespace.ip_json("link show cali00000000005")[0]["ifindex"].clone();
    let before = index(&node);
    node.namespace.ip("rule flush priority 512");
    node.apply(&mut pod).unwrap();
    assert_eq!(index(&node), before);
}

#[test]
fn a_pair_with_another_mac_is_made_anew() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    node.apply(&mut pod).unwrap();
    pod.plan.veth.pod_mac = Mac([0xee, 0, 0, 0, 7, 7]);
    node.apply(&mut pod).unwrap();
    assert_eq!(
        check_pod(&mut node.netlink, &node.trunk, &mut pod.netlink, &pod.plan).unwrap(),
        []
    );
}

#[test]
fn a_stale_link_to_another_namespace_is_replaced() {
    let (mut node, mut old, mut new) = (Node::new(), Pod::numbered(5, 42), Pod::numbered(5, 42));
    node.apply(&mut old).unwrap();
    node.apply(&mut new).unwrap();
    assert_eq!(
        check_pod(&mut node.netlink, &node.trunk, &mut new.netlink, &new.plan).unwrap(),
        []
    );
    assert_eq!(
        old.namespace.ip_json("link").len(),
        1,
        "only lo is left in the old sandbox"
    );
}

#[test]
fn a_pod_end_whose_node_end_was_renamed_is_replaced() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    node.apply(&mut pod).unwrap();
    node.namespace.ip("link set cali00000000005 down");
    node.namespace.ip("link set cali00000000005 name other");
    node.apply(&mut pod).unwrap();
    assert_eq!(
        check_pod(&mut node.netlink, &node.trunk, &mut pod.netlink, &pod.plan).unwrap(),
        []
    );
    assert!(!node.namespace.ip("link").contains("other"));
}

#[test]
fn a_rule_of_an_earlier_owner_does_not_win() {
    for repeated in [false, true] {
        let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
        if repeated {
            node.apply(&mut pod).unwrap();
        }
        for stale in ["43", "44"] {
            node.namespace.ip(&format!(
                "rule add priority 2048 from 10.0.0.5 table {stale} protocol 157"
            ));
        }
        if repeated {
            let differences =
                check_pod(&mut node.netlink, &node.trunk, &mut pod.netlink, &pod.plan).unwrap();
            let sentence = "on the node, rule priority 2048 from 10.0.0.5/32 leads to table 43 instead of 1042";
            assert!(
                differences
                    .iter()
                    .any(|found| found.to_string() == sentence),
                "{differences:?}"
            );
        }
        node.apply(&mut pod).unwrap();
        let rules = node.namespace.ip("-4 rule show priority 2048");
        assert_eq!(rules.trim(), "2048:\tfrom 10.0.0.5 lookup 1042 proto 157");
    }
}

#[test]
fn a_doubled_rule_becomes_one_again() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    node.apply(&mut pod).unwrap();
    // The only thing of iproute2 that adds a rule which is there already.
    node.namespace.shell("ip rule save | ip rule restore");
    assert_eq!(node.namespace.ip_json("-4 rule show priority 512").len(), 2);
    node.apply(&mut pod).unwrap();
    assert_eq!(node.namespace.ip_json("-4 rule show priority 512").len(), 1);
}

#[test]
fn an_address_that_moves_to_another_eni_takes_its_rule_along() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    node.apply(&mut pod).unwrap();
    for rule in pod
        .plan
        .host_rules
        .iter_mut()
        .filter(|rule| rule.table != 254)
    {
        rule.table = ENI_TABLE_BASE + 50;
    }
    node.apply(&mut pod).unwrap();
    for family in ["-4", "-6"] {
        let rules = node
            .namespace
            .ip_json(&format!("{family} rule show priority 2048"));
        assert_eq!(rules.len(), 1);
        assert_some(&rules, &json!({"table": "1050"}));
    }
}

#[test]
fn a_name_is_free_again_at_once_when_its_sandbox_dies() {
    // The kernel deletes a namespace, and the node's end with it, some time after the last
    // descriptor is closed; the next sandbox of the same pod does not wait for that.
    let mut node = Node::new();
    let plan = Pod::numbered(5, 42).plan;
    for _ in 0..20 {
        let namespace = Namespace::new();
        let mut netlink = namespace.netlink();
        apply_pod(
            &mut node.netlink,
            &node.trunk,
            &mut netlink,
            namespace.as_fd(),
            &plan,
        )
        .unwrap();
    }
    assert_eq!(node.namespace.ip_json("-4 rule show priority 512").len(), 1);
}
