//! Real packets over what was applied.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use terway_datapath::{apply_eni, remove_pod};

use crate::stage::{Namespace, Node, Pod, addresses, ip_address};

/// Long enough for a loaded machine; only a failing test waits so long.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How often a question is put again: the first may be lost while the kernel starts a new link.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Whether a datagram from `from` to `to` and its answer get through; tells the asker's address as
/// the answerer saw it.
pub(crate) fn asks(
    from: &Namespace,
    server: &Namespace,
    to: IpAddr,
    within: Duration,
) -> Option<IpAddr> {
    asks_bound(from, (server, any(to)), to, within)
}

/// The address no socket is bound to, of the family of `like`.
fn any(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => [0; 4].into(),
        IpAddr::V6(_) => [0; 16].into(),
    }
}

/// The same with an answerer that is bound to an address, and so answers from it.
pub(crate) fn asks_bound(
    from: &Namespace,
    (server, bound): (&Namespace, IpAddr),
    to: IpAddr,
    within: Duration,
) -> Option<IpAddr> {
    // Any free port: a child that another test is starting may hold an earlier socket a while longer.
    let bind = |address| UdpSocket::bind(SocketAddr::new(address, 0)).unwrap();
    let (answerer, asker) = (server.run(|| bind(bound)), from.run(|| bind(any(to))));
    let to = SocketAddr::new(to, answerer.local_addr().unwrap().port());
    asker.set_read_timeout(Some(ASK_EVERY)).unwrap();
    answerer.set_read_timeout(Some(ASK_EVERY)).unwrap();
    let deadline = Instant::now() + within;
    let mut buffer = [0; 64];
    while Instant::now() < deadline {
        if asker.send_to(b"are you there", to).is_err() {
            continue;
        }
        let Ok((_, seen)) = answerer.recv_from(&mut buffer) else {
            continue;
        };
        answerer.send_to(b"yes", seen).unwrap();
        if let Ok((3, _)) = asker.recv_from(&mut buffer) {
            return Some(seen.ip());
        }
    }
    None
}

#[test]
fn pods_of_a_node_reach_each_other_and_the_node() {
    let (mut node, mut one, mut two) = (Node::new(), Pod::numbered(1, 42), Pod::numbered(2, 42));
    // The source a node uses towards its pods.
    node.namespace.ip("addr add 10.0.8.8/32 dev lo");
    node.namespace.ip("addr add fd00:8::8/128 dev lo");
    node.apply(&mut one).unwrap();
    node.apply(&mut two).unwrap();
    for (of_one, of_two) in addresses(1).into_iter().zip(addresses(2)) {
        let seen = asks(&one.namespace, &two.namespace, of_two, ANSWER_WITHIN);
        assert_eq!(seen, Some(of_one));
        let seen = asks(&two.namespace, &one.namespace, of_one, ANSWER_WITHIN);
        assert_eq!(seen, Some(of_two));
        assert!(asks(&node.namespace, &one.namespace, of_one, ANSWER_WITHIN).is_some());
    }
    remove_pod(&mut node.netlink, &node.trunk, &two.plan).unwrap();
    for of_two in addresses(2) {
        let seen = asks(&one.namespace, &two.namespace, of_two, ASK_EVERY * 3);
        assert_eq!(seen, None, "a removed pod answered");
    }
}

#[test]
fn a_pod_reaches_the_outside_by_its_own_eni() {
    let (mut node, outside, elsewhere) = (Node::new(), Namespace::new(), Namespace::new());
    let index = node.add_eni("eth1", &outside, "far");
    let wrong = node.add_eni("eth0", &elsewhere, "far");
    assert_ne!(index, wrong);
    // The node's own default route leads elsewhere, and there is no answer there.
    node.namespace.ip("link set eth0 up");
    node.namespace.ip("route add default dev eth0");
    node.namespace.ip("-6 route add default dev eth0");
    apply_eni(&mut node.netlink, &node.trunk, &crate::eni::plan(index)).unwrap();
    let mut pod = Pod::numbered(1, index);
    node.apply(&mut pod).unwrap();

    // The cloud's side: a gateway that knows by which ENI the pod's addresses are reached.
    for setup in [
        "addr add 10.0.9.253/32 dev far",
        "-6 addr add fd00:9::fffd/128 dev far nodad",
        "addr add 198.51.100.1/32 dev lo",
        "-6 addr add fd99::1/128 dev lo nodad",
        "route add 10.0.9.9 dev far",
        "route add 10.0.0.1 via 10.0.9.9 dev far onlink",
        "-6 route add fd00:9::9 dev far",
        "-6 route add fd00::1 via fd00:9::9 dev far",
    ] {
        outside.ip(setup);
    }
    for (of_pod, service) in addresses(1).into_iter().zip(["198.51.100.1", "fd99::1"]) {
        let service = ip_address(service);
        let seen = asks(&pod.namespace, &outside, service, ANSWER_WITHIN);
        assert_eq!(seen, Some(of_pod));
        let seen = asks(&outside, &pod.namespace, of_pod, ANSWER_WITHIN);
        assert!(seen.is_some());
    }
}
