//! What leaves the cluster leaves with the node's address.

use std::time::Duration;

use terway_datapath::{Nftables, keep_masquerade};

use crate::{
    return_path::{OF_NODE, give_own_eni},
    stage::{Namespace, Node, Pod, addresses, ip_address},
    traffic::asks_bound,
};

/// Long enough for a loaded machine; only a failing test waits so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const OUTSIDE: [&str; 2] = ["198.51.100.1", "fd99::1"];
const INSIDE: [&str; 2] = ["10.0.77.1", "fd00::77"];

#[test]
fn what_leaves_the_cluster_leaves_with_the_nodes_address() {
    let (mut node, client, elsewhere) = (Node::new(), Namespace::new(), Namespace::new());
    give_own_eni(&mut node, &client);
    let index = node.add_eni("eth1", &elsewhere, "far");
    let mut pod = Pod::numbered(1, index);
    node.apply(&mut pod).unwrap();
    let own = addresses(1);
    for family in [0, 1] {
        let flag = ["-4", "-6"][family];
        // As in mode VPC: the main table alone, and others know the way to the pod.
        node.namespace.ip(&format!("{flag} rule del priority 2048"));
        let (pod, via) = (own[family], OF_NODE[family]);
        client.ip(&format!("{flag} route add {pod} via {via}"));
        client.ip(&format!("{flag} addr add {} dev lo", INSIDE[family]));
        let gateway = ["10.0.8.253", "fd00:8::fffd"][family];
        let to = INSIDE[family];
        node.namespace
            .ip(&format!("{flag} route add {to} via {gateway}"));
    }
    // Answered from the address that was asked, or no connection would be known again.
    let seen = |to: &str| {
        let to = ip_address(to);
        asks_bound(&pod.namespace, (&client, to), to, ANSWER_WITHIN)
    };
    for family in [0, 1] {
        assert_eq!(seen(OUTSIDE[family]), Some(own[family]), "before");
    }
    let mut nftables = node.namespace.run(|| Nftables::open().unwrap());
    let inside = ["10.0.0.0/16", "fd00::/64"].map(|net| net.parse().unwrap());
    let mut keep = |inside| keep_masquerade(&mut nftables, inside).unwrap();
    assert!(keep(&inside[..]));
    assert!(!keep(&inside[..]), "it stands");
    for family in [0, 1] {
        assert_eq!(seen(OUTSIDE[family]), Some(ip_address(OF_NODE[family])));
        assert_eq!(seen(INSIDE[family]), Some(own[family]), "pods keep theirs");
    }
    node.namespace.shell("nft flush table inet terway");
    assert!(keep(&inside[..]), "it is put back");
    assert!(keep(&[]), "and goes when nothing is inside");
    assert_eq!(seen(OUTSIDE[0]), Some(own[0]));
}
