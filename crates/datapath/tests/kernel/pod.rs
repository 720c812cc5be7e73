//! Applying a pod: what the witness finds, and that repeating changes nothing.

use serde_json::json;
use terway_datapath::{check_pod, diff_pod, observe};

use crate::stage::{Node, Pod, assert_some};

#[test]
fn a_pod_gets_exactly_its_plan() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    node.apply(&mut pod).unwrap();

    let host_end = json!({"ifname": "cali00000000005", "address": "ee:00:00:00:01:05", "mtu": 1400,
        "flags": ["UP", "LOWER_UP"]});
    assert_some(&node.namespace.ip_json("link"), &host_end);
    let pod_end = json!({"ifname": "eth0", "address": "ee:00:00:00:02:05", "mtu": 1400,
        "flags": ["UP", "LOWER_UP"]});
    assert_some(&pod.namespace.ip_json("link"), &pod_end);

    let addresses = pod.namespace.ip_json("addr show dev eth0");
    let of_link = addresses[0]["addr_info"].as_array().unwrap();
    assert_some(
        of_link,
        &json!({"local": "10.0.0.5", "prefixlen": 32, "scope": "global"}),
    );
    assert_some(
        of_link,
        &json!({"local": "fd00::5", "prefixlen": 128, "nodad": true}),
    );
    assert!(
        of_link
            .iter()
            .all(|address| address["tentative"].is_null() || address["scope"] == "link")
    );

    let routes = pod.namespace.ip_json("route");
    assert_some(
        &routes,
        &json!({"dst": "default", "gateway": "169.254.1.1", "dev": "eth0",
        "protocol": "157", "flags": ["onlink"]}),
    );
    let routes = pod.namespace.ip_json("-6 route");
    assert_some(
        &routes,
        &json!({"dst": "default", "gateway": "fe80::1", "dev": "eth0",
        "protocol": "157", "flags": ["onlink"]}),
    );
    let neighbours = pod.namespace.ip_json("neigh show nud permanent");
    for gateway in ["169.254.1.1", "fe80::1"] {
        assert_some(
            &neighbours,
            &json!({"dst": gateway, "dev": "eth0",
            "lladdr": "ee:00:00:00:01:05", "state": ["PERMANENT"]}),
        );
    }

    let dev = "cali00000000005";
    let neighbours = node.namespace.ip_json("neigh show nud permanent");
    for ip in ["10.0.0.5", "fd00::5"] {
        assert_some(
            &neighbours,
            &json!({"dst": ip, "dev": dev, "lladdr": "ee:00:00:00:02:05", "state": ["PERMANENT"]}),
        );
    }
    assert_some(
        &node.namespace.ip_json("route show table 254"),
        &json!({"dst": "10.0.0.5", "dev": dev, "scope": "link", "protocol": "157"}),
    );
    assert_some(
        &node.namespace.ip_json("-6 route show table 254"),
        &json!({"dst": "fd00::5", "dev": dev, "protocol": "157"}),
    );
    for (family, ip) in [("-4", "10.0.0.5"), ("-6", "fd00::5")] {
        let rules = node.namespace.ip_json(&format!("{family} rule"));
        assert_some(
            &rules,
            &json!({"priority": 512, "src": "all", "dst": ip, "table": "main", "protocol": "157"}),
        );
        assert_some(
            &rules,
            &json!({"priority": 2048, "src": ip, "table": "1042", "protocol": "157"}),
        );
    }
}

#[test]
fn applying_again_changes_nothing() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    node.apply(&mut pod).unwrap();
    let before = (node.namespace.snapshot(), pod.namespace.snapshot());
    for _ in 0..3 {
        node.apply(&mut pod).unwrap();
    }
    assert_eq!(
        before,
        (node.namespace.snapshot(), pod.namespace.snapshot())
    );
}

#[test]
fn what_was_applied_is_observed_without_a_difference() {
    let mut node = Node::new();
    let mut pods: Vec<_> = (1..=3).map(|number| Pod::numbered(number, 42)).collect();
    for pod in &mut pods {
        node.apply(pod).unwrap();
    }
    for pod in &mut pods {
        assert_eq!(
            check_pod(&mut node.netlink, &node.trunk, &mut pod.netlink, &pod.plan).unwrap(),
            []
        );
    }
    let observed = observe(&mut node.netlink).unwrap();
    assert_eq!(diff_pod(&pods[0].plan, &observed), []);
    assert_eq!((observed.routes.len(), observed.rules.len()), (6, 12));
}

#[test]
fn a_pod_of_one_family_gets_nothing_of_the_other() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    pod.plan.pod_addresses.truncate(1);
    pod.plan.pod_neighbours.truncate(1);
    pod.plan.pod_routes.truncate(1);
    pod.plan.host_routes.truncate(1);
    pod.plan.host_rules.truncate(2);
    node.apply(&mut pod).unwrap();
    assert_eq!(
        node.namespace.ip_json("-6 rule").len(),
        2,
        "the kernel's own two"
    );
    assert!(!pod.namespace.ip("-6 route").contains("default"));
    assert_eq!(
        check_pod(&mut node.netlink, &node.trunk, &mut pod.netlink, &pod.plan).unwrap(),
        []
    );
}
