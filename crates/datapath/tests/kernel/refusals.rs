//! What must fail, and that the error says what, on which object and why.

use std::os::fd::OwnedFd;

use model::net::{Route, TABLE_MAIN};
use terway_datapath::{Error, apply_pod, remove_pod};

use crate::stage::{Node, Pod, name};

#[test]
fn the_kernels_refusal_names_operation_object_and_reason() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    pod.plan.pod_routes[0].onlink = false;
    let error = node.apply(&mut pod).unwrap_err();
    assert_eq!(
        error.to_string(),
        "adding route 0.0.0.0/0 via 169.254.1.1 dev eth0 table 254: Network is unreachable (os error 101): \
         Nexthop has invalid gateway"
    );
    assert_eq!(error.os_error(), Some(101));
}

#[test]
fn a_failed_application_is_undone_by_removing() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    let before = (node.namespace.snapshot(), pod.namespace.snapshot());
    pod.plan.pod_routes[1].onlink = false;
    pod.plan.pod_routes[1].gateway = Some("fd99::1".parse().unwrap());
    node.apply(&mut pod).unwrap_err();
    remove_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
    assert_eq!(
        before,
        (node.namespace.snapshot(), pod.namespace.snapshot())
    );
}

#[test]
fn an_interface_of_somebody_else_in_the_pod_is_not_taken() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    pod.namespace.ip("link add eth0 type veth peer name other");
    let before = (node.namespace.snapshot(), pod.namespace.snapshot());
    let error = node.apply(&mut pod).unwrap_err();
    let start = "creating veth eth0: the name is taken in the pod by another veth with MAC ";
    assert!(error.to_string().starts_with(start), "{error}");
    assert_eq!(
        before,
        (node.namespace.snapshot(), pod.namespace.snapshot())
    );
}

#[test]
fn a_link_of_the_node_that_is_no_veth_is_not_replaced() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    node.namespace.ip("link add cali00000000005 type bridge");
    let error = node.apply(&mut pod).unwrap_err();
    let sentence = "creating veth cali00000000005: the name is taken on the node by a link that is no veth; \
        remove or rename that link";
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn a_plan_that_names_a_missing_link_says_which() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    pod.plan.host_routes.push(Route {
        table: TABLE_MAIN,
        destination: "192.0.2.0/24".parse().unwrap(),
        gateway: None,
        link: name("eth9"),
        onlink: false,
    });
    let error = node.apply(&mut pod).unwrap_err();
    let sentence = "adding route 192.0.2.0/24 dev eth9 table 254: there is no link eth9";
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn an_impossible_rule_is_refused_before_anything_is_made() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    let before = node.namespace.snapshot();
    pod.plan.host_rules[0].to = None;
    let error = node.apply(&mut pod).unwrap_err();
    assert!(matches!(error, Error::Plan { .. }), "{error}");
    assert_eq!(before, node.namespace.snapshot());
}

#[test]
fn what_is_no_namespace_is_refused_with_the_pairs_name() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let fd = std::os::fd::AsFd::as_fd(&file);
    let error = apply_pod(
        &mut node.netlink,
        &node.trunk,
        &mut pod.netlink,
        fd,
        &pod.plan,
    )
    .unwrap_err();
    let start = "adding veth cali00000000005 with peer eth0: Invalid argument (os error 22)";
    assert!(error.to_string().starts_with(start), "{error}");
}

#[test]
fn removing_goes_on_after_a_failure() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    node.apply(&mut pod).unwrap();
    let mut plan = pod.plan.clone();
    plan.host_rules[0].to = None;
    plan.host_rules[2].to = None;
    let failures = remove_pod(&mut node.netlink, &node.trunk, &plan).unwrap_err();
    assert_eq!(failures.list().len(), 2, "{failures}");
    assert!(!node.namespace.ip("link").contains("cali"));
    assert!(!node.namespace.ip("rule").contains("2048:"));
}
