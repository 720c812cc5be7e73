//! Whose sockets are taken, with which rights, and that none outlives its use.

use std::{
    fs::File,
    net::UdpSocket,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with},
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};
use terway_datapath::{Error, Netlink, Trunk, apply_pod, check_pod, remove_pod};

use crate::stage::{Namespace, Node, Pod};

fn netlink_socket(protocol: Option<rustix::net::Protocol>) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol).unwrap()
}

#[test]
fn only_a_route_socket_is_taken() {
    assert!(Netlink::from_fd(netlink_socket(None)).is_ok());
    let (pipe, _writer) = std::io::pipe().unwrap();
    for (fd, is) in [
        (
            OwnedFd::from(File::open("/dev/null").unwrap()),
            "no socket (",
        ),
        (pipe.into(), "no socket ("),
        (
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            "a socket of family 2",
        ),
        (
            netlink_socket(Some(netlink::NETFILTER)),
            "a netlink socket of protocol 12",
        ),
    ] {
        let error = Netlink::from_fd(fd).unwrap_err();
        assert!(
            matches!(&error, Error::NotRouteSocket { found } if found.starts_with(is)),
            "{error}"
        );
    }
}

#[test]
fn cap_net_admin_alone_is_enough() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    // As the plugin does it: opened with full rights inside the pod, used with less outside.
    let opened_inside = pod.namespace.run(|| netlink_socket(None));
    pod.netlink = Netlink::from_fd(opened_inside).unwrap();
    let namespace = std::mem::replace(&mut node.namespace, Namespace::new());
    namespace.run(|| {
        set_capabilities(
            None,
            CapabilitySets {
                effective: CapabilitySet::NET_ADMIN,
                permitted: CapabilitySet::NET_ADMIN,
                inheritable: CapabilitySet::empty(),
            },
        )
        .unwrap();
        let (mut host, trunk) = (Netlink::open().unwrap(), Trunk::default());
        apply_pod(
            &mut host,
            &trunk,
            &mut pod.netlink,
            pod.namespace.as_fd(),
            &pod.plan,
        )
        .unwrap();
        assert_eq!(
            check_pod(&mut host, &trunk, &mut pod.netlink, &pod.plan).unwrap(),
            []
        );
        apply_pod(
            &mut host,
            &trunk,
            &mut pod.netlink,
            pod.namespace.as_fd(),
            &pod.plan,
        )
        .unwrap();
        remove_pod(&mut host, &trunk, &pod.plan).unwrap();
    });
}

#[test]
fn a_sandbox_vanishes_when_its_descriptors_are_closed() {
    let (mut node, mut pod) = (Node::new(), Pod::numbered(5, 42));
    node.apply(&mut pod).unwrap();
    drop(pod);
    let deadline = Instant::now() + Duration::from_secs(20);
    while node.namespace.ip("link").contains("cali") {
        assert!(
            Instant::now() < deadline,
            "something still holds the pod's namespace"
        );
        std::thread::yield_now();
    }
}

#[test]
fn an_answer_to_somebody_elses_question_is_passed_over() {
    // The plugin may have talked on the socket before it handed it over.
    let namespace = Namespace::new();
    let fd = namespace.run(|| netlink_socket(None));
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    // RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, sequence 77, and an empty struct ifinfomsg.
    let mut question = vec![32, 0, 0, 0, 18, 0, 1, 3, 77, 0, 0, 0, 0, 0, 0, 0];
    question.resize(32, 0);
    rustix::net::sendto(&fd, &question, rustix::net::SendFlags::empty(), &kernel).unwrap();
    let mut netlink = Netlink::from_fd(fd).unwrap();
    assert_eq!(netlink.links().unwrap(), []);
    assert_eq!(netlink.link_by_mac(model::Mac([2; 6])).unwrap(), None);
}
