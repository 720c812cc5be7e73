//! A pod with two interfaces, each a member of the trunk: what comes in by one is answered by it.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{
    family::host_net,
    net::{POD_TABLE_BASE, PodNet, RULE_PRIORITY_IN_POD, Route, Rule, TABLE_MAIN},
};
use terway_datapath::{apply_eni, check_pod, remove_pod};

use crate::{
    stage::{self, Node, Pod, addresses, name},
    traffic::{asks, asks_bound},
    trunk::{ANSWER_WITHIN, both_ways, strict, trunk, vlan},
    vpc::Vpc,
};

const FAMILIES: [usize; 2] = [0, 1];

/// Pod 1 with the interfaces of pods 1 and 2: the second is called eth1, and is the way to pod 3 only.
fn two_interfaces(trunk: u32) -> PodNet {
    let (mut plan, mut second) = (strict(1, trunk), strict(2, trunk));
    second.veth.pod = name("eth1");
    let links = (second.pod_addresses.iter_mut().map(|it| &mut it.link))
        .chain(second.pod_neighbours.iter_mut().map(|it| &mut it.link))
        .chain(second.pod_routes.iter_mut().map(|it| &mut it.link));
    links.for_each(|link| *link = name("eth1"));
    for (net, number, table) in [(&mut plan, 1, 1), (&mut second, 2, 2)] {
        let table = POD_TABLE_BASE + table;
        let defaults = net.pod_routes.clone();
        for (default, own) in defaults.iter().zip(addresses(number)) {
            net.pod_routes.push(Route {
                table,
                ..default.clone()
            });
            let rule = |from| Rule::new(RULE_PRIORITY_IN_POD, Some(from), None, table);
            net.pod_rules.push(rule(host_net(own)));
            net.pod_rules.push(Rule {
                leaves_by: Some(default.link.clone()),
                ..rule(default.destination)
            });
        }
    }
    let to_three = addresses(3).map(IpNet::from);
    let mains = second.pod_routes.iter_mut();
    for (route, to) in mains.filter(|it| it.table == TABLE_MAIN).zip(to_three) {
        route.destination = to;
    }
    plan.further.push(second.veth);
    plan.pod_addresses.extend(second.pod_addresses);
    plan.pod_neighbours.extend(second.pod_neighbours);
    plan.pod_routes.extend(second.pod_routes);
    plan.pod_rules.extend(second.pod_rules);
    plan.host_routes.extend(second.host_routes);
    plan.host_rules.extend(second.host_rules);
    plan.tags.extend(second.tags);
    plan
}

/// The pod, and pods 3 and 4, ordinary ones, behind a VPC that sees all of it.
fn scene() -> (Node, Vpc, Pod, [Pod; 2]) {
    let mut node = Node::new();
    let owners = [(1, Some(vlan(1))), (2, Some(vlan(2))), (3, None), (4, None)];
    let owners = owners.map(|(number, vlan)| addresses(number).map(|address| (address, vlan)));
    let vpc = Vpc::plug(&mut node, owners.as_flattened());
    let plan = trunk(&node, "eth1", vpc.index, Vec::new());
    apply_eni(&mut node.netlink, &node.trunk, &plan).unwrap();
    let ordinary = [3, 4].map(|number| {
        let mut plan = stage::plan(number, vpc.index);
        plan.veth.mtu = 1500;
        let mut pod = Pod::new(plan);
        node.apply(&mut pod).unwrap();
        pod
    });
    let pod = Pod::new(two_interfaces(vpc.index));
    (node, vpc, pod, ordinary)
}

#[test]
fn an_answer_leaves_by_the_interface_that_was_asked() {
    let (mut node, vpc, mut pod, [three, four]) = scene();
    node.apply(&mut pod).unwrap();
    let mut expected = Vec::new();
    for family in FAMILIES {
        for (peer, of_peer) in [(&three, 3), (&four, 4)] {
            for own in [1, 2] {
                let to = addresses(own)[family];
                let (from, server) = (&peer.namespace, &pod.namespace);
                assert!(asks_bound(from, (server, to), to, ANSWER_WITHIN).is_some());
                expected.extend(both_ways((of_peer, None), (own, Some(vlan(own))), family));
            }
        }
    }
    expected.sort();
    assert_eq!(vpc.seen(), expected);
}

#[test]
fn what_the_pod_asks_goes_by_the_default_or_by_the_route_that_is_nearer() {
    let (mut node, _vpc, mut pod, [three, four]) = scene();
    node.apply(&mut pod).unwrap();
    for family in FAMILIES {
        for (peer, of_peer, own) in [(&three, 3, 2), (&four, 4, 1)] {
            let to = addresses(of_peer)[family];
            let seen = asks(&pod.namespace, &peer.namespace, to, ANSWER_WITHIN);
            assert_eq!(seen, Some(addresses(own)[family]));
        }
        // Whoever binds to an interface gets it, whatever the main table says.
        let by = |link: &str| -> IpAddr {
            let to = addresses(4)[family];
            let family = ["-4", "-6"][family];
            let routes = pod
                .namespace
                .ip_json(&format!("{family} route get {to} oif {link}"));
            routes[0]["prefsrc"].as_str().unwrap().parse().unwrap()
        };
        assert_eq!(
            ["eth0", "eth1"].map(by),
            [1, 2].map(|own| addresses(own)[family])
        );
    }
}

#[test]
fn it_is_checked_repaired_and_removed_whole() {
    let (mut node, _vpc, mut pod, _others) = scene();
    let before = node.namespace.snapshot();
    node.apply(&mut pod).unwrap();
    let differences = |node: &mut Node, pod: &mut Pod| -> Vec<String> {
        let found = check_pod(&mut node.netlink, &node.trunk, &mut pod.netlink, &pod.plan);
        found.unwrap().iter().map(ToString::to_string).collect()
    };
    assert_eq!(differences(&mut node, &mut pod), [""; 0]);
    let second = pod.plan.further[0].host.clone();
    for (inside, harm, missing) in [
        (
            true,
            "rule del from 10.0.0.2 table 1002",
            "in the pod, rule",
        ),
        (true, "route del default table 1002", "in the pod, route"),
        (true, "link set eth1 down", "in the pod, link eth1 is down"),
        (
            false,
            &*format!("link del {second}"),
            "on the node, tag vlan 102",
        ),
    ] {
        match inside {
            true => pod.namespace.ip(harm),
            false => node.namespace.ip(harm),
        };
        let found = differences(&mut node, &mut pod);
        assert!(found.iter().any(|it| it.starts_with(missing)), "{found:?}");
        node.apply(&mut pod).unwrap();
        assert_eq!(differences(&mut node, &mut pod), [""; 0]);
    }
    remove_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
    assert_eq!(node.namespace.snapshot(), before);
    assert_eq!(
        pod.namespace.ip_json("link show type veth"),
        [] as [serde_json::Value; 0]
    );
    // The runtime asks again with the same namespace.
    node.apply(&mut pod).unwrap();
    assert_eq!(differences(&mut node, &mut pod), [""; 0]);
}
