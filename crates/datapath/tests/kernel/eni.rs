//! An ENI on its node.

use std::net::IpAddr;

use model::net::{ENI_TABLE_BASE, EniNet, LinkAddress, Route, TABLE_MAIN};
use serde_json::json;
use terway_datapath::{Difference, Error, apply_eni, diff_eni, leftovers, observe, remove_eni};

use crate::stage::{Namespace, Node, assert_some, ip_address, name};

/// The plan of an ENI whose link `eth1` has index `index`.
pub(crate) fn plan(index: u32) -> EniNet {
    let link = name("eth1");
    let table = ENI_TABLE_BASE + index;
    let route = |destination: &str, gateway: Option<&str>, table: u32| Route {
        table,
        destination: destination.parse().unwrap(),
        gateway: gateway.map(ip_address),
        link: link.clone(),
        onlink: gateway.is_some(),
    };
    let addresses: [IpAddr; 2] = ["10.0.9.9", "fd00:9::9"].map(ip_address);
    EniNet {
        mtu: 1450,
        addresses: addresses
            .map(|ip| LinkAddress {
                address: ip.into(),
                link: link.clone(),
            })
            .into(),
        routes: vec![
            route("0.0.0.0/0", Some("10.0.9.253"), table),
            route("::/0", Some("fd00:9::fffd"), table),
            route("fd00:9::fffd/128", None, TABLE_MAIN),
        ],
        tags: None,
        rules: Vec::new(),
        ipvlan: None,
        link,
    }
}

fn node_with_eni() -> (Node, Namespace, EniNet) {
    let (mut node, outside) = (Node::new(), Namespace::new());
    let index = node.add_eni("eth1", &outside, "far");
    (node, outside, plan(index))
}

#[test]
fn an_eni_gets_exactly_its_plan_and_again_the_same() {
    let (mut node, _outside, plan) = node_with_eni();
    apply_eni(&mut node.netlink, &node.trunk, &plan).unwrap();
    let before = node.namespace.snapshot();

    let addresses = node.namespace.ip_json("addr show dev eth1");
    assert_some(&addresses, &json!({"mtu": 1450, "flags": ["UP"]}));
    let of_link = addresses[0]["addr_info"].as_array().unwrap();
    assert_some(
        of_link,
        &json!({"local": "10.0.9.9", "prefixlen": 32, "noprefixroute": true}),
    );
    assert_some(
        of_link,
        &json!({"local": "fd00:9::9", "prefixlen": 128, "nodad": true}),
    );
    let table = plan.routes[0].table;
    for (family, gateway) in [("-4", "10.0.9.253"), ("-6", "fd00:9::fffd")] {
        let routes = node
            .namespace
            .ip_json(&format!("{family} route show table {table}"));
        assert_eq!(routes.len(), 1);
        assert_some(
            &routes,
            &json!({"dst": "default", "gateway": gateway, "dev": "eth1",
            "protocol": "157", "flags": ["onlink"]}),
        );
    }

    apply_eni(&mut node.netlink, &node.trunk, &plan).unwrap();
    assert_eq!(before, node.namespace.snapshot());
    let observed = observe(&mut node.netlink).unwrap();
    assert_eq!(diff_eni(&plan, &observed), []);
    assert_eq!(leftovers(&observed, &[], std::slice::from_ref(&plan)), []);
    assert_eq!(leftovers(&observed, &[], &[]).len(), 3);
}

#[test]
fn what_was_flushed_is_seen_and_put_back() {
    let (mut node, _outside, plan) = node_with_eni();
    apply_eni(&mut node.netlink, &node.trunk, &plan).unwrap();
    node.namespace.ip("addr flush dev eth1");
    node.namespace.ip("link set eth1 mtu 1400");
    node.namespace
        .ip(&format!("route flush table {}", plan.routes[0].table));
    let observed = observe(&mut node.netlink).unwrap();
    let sentences: Vec<_> = diff_eni(&plan, &observed)
        .iter()
        .map(Difference::to_string)
        .collect();
    assert_eq!(
        sentences[0],
        "on the node, link eth1 has MTU 1400 instead of 1450"
    );
    assert!(
        sentences.len() >= 4,
        "two addresses and a route at least: {sentences:?}"
    );
    apply_eni(&mut node.netlink, &node.trunk, &plan).unwrap();
    let observed = observe(&mut node.netlink).unwrap();
    assert_eq!(diff_eni(&plan, &observed), []);
}

#[test]
fn removing_an_eni_keeps_its_link_and_what_is_not_ours() {
    let (mut node, _outside, plan) = node_with_eni();
    node.namespace.ip("link set eth1 up mtu 1450");
    node.namespace.ip("addr add 192.0.2.1/24 dev eth1");
    let before = node.namespace.snapshot();
    apply_eni(&mut node.netlink, &node.trunk, &plan).unwrap();
    for _ in 0..2 {
        remove_eni(&mut node.netlink, &node.trunk, &plan).unwrap();
        assert_eq!(before, node.namespace.snapshot());
    }
    node.namespace.ip("link del eth1");
    remove_eni(&mut node.netlink, &node.trunk, &plan).unwrap();
}

#[test]
fn an_eni_that_is_not_there_yet_is_a_missing_link() {
    let mut node = Node::new();
    let error = apply_eni(&mut node.netlink, &node.trunk, &plan(7)).unwrap_err();
    assert!(matches!(error, Error::NoLink { .. }));
    assert_eq!(
        error.to_string(),
        "setting up link eth1: there is no link eth1"
    );
}

#[test]
fn an_eni_is_found_by_its_mac() {
    let (mut node, _outside, _) = node_with_eni();
    node.namespace.ip("link set eth1 address 00:16:3e:01:02:03");
    let found = node
        .netlink
        .link_by_mac("00:16:3e:01:02:03".parse().unwrap())
        .unwrap()
        .unwrap();
    assert_eq!((found.name.as_str(), found.up), ("eth1", false));
    assert!(
        node.netlink
            .links()
            .unwrap()
            .iter()
            .all(|link| link.name.as_str() != "lo")
    );
}
