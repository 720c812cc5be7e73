//! Trunks at both ends of one wire: streams, a new process, and what is repaired and removed.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Instant,
};

use model::net::{EniNet, Tag};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use terway_datapath::{
    Difference, Error, Netlink, Trunk, apply_eni, check_pod, remove_eni, remove_pod,
};

use crate::{
    stage::{Namespace, Node, Pod, addresses},
    traffic::asks,
    trunk::{ANSWER_WITHIN, standard, trunk, vlan},
};

/// Two nodes whose trunks are the two ends of one wire, with a pod of the same VLAN on each.
fn wired() -> [(Node, EniNet, Pod); 2] {
    let (mut one, two) = (Node::new(), Node::new());
    let near = one.add_eni("eth1", &two.namespace, "eth2");
    let far = two.namespace.ip_json("link show eth2")[0]["ifindex"].as_u64();
    let far = u32::try_from(far.unwrap()).unwrap();
    let ends = [(one, "eth1", near, 1), (two, "eth2", far, 2)];
    ends.map(|(mut node, link, index, number)| {
        let mut member = standard(number, index);
        member.tags.iter_mut().for_each(|tag| tag.vlan = vlan(1));
        let eni = trunk(&node, link, index, member.tags.clone());
        apply_eni(&mut node.netlink, &node.trunk, &eni).unwrap();
        let mut pod = Pod::new(member);
        node.apply(&mut pod).unwrap();
        (node, eni, pod)
    })
}

/// The address that stands for all of the family of `address`.
fn any(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => [0; 4].into(),
        IpAddr::V6(_) => [0; 16].into(),
    }
}

#[test]
fn a_stream_keeps_its_large_segments_under_a_tag() {
    const BYTES: usize = 64 << 20;
    /// What a frame of Ethernet carries of a stream at most.
    const SEGMENT: u64 = 1500 - 20 - 20;
    let [(one, _, asker), (_two, _, answerer)] = wired();
    for address in addresses(2) {
        let bind = || TcpListener::bind(SocketAddr::new(address, 0)).unwrap();
        let listener = answerer.namespace.run(bind);
        let to = listener.local_addr().unwrap();
        let before = one.trunk.counters().unwrap().unwrap().tagged;
        let sent: Vec<u8> = (0..BYTES).map(|at| (at >> 8 ^ at) as u8).collect();
        let connect = || TcpStream::connect_timeout(&to, ANSWER_WITHIN).unwrap();
        let mut stream = asker.namespace.run(connect);
        let (mut accepted, _) = listener.accept().unwrap();
        for end in [&stream, &accepted] {
            end.set_write_timeout(Some(ANSWER_WITHIN)).unwrap();
            end.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        }
        std::thread::scope(|scope| {
            let received = scope.spawn(move || {
                let mut all = Vec::with_capacity(BYTES);
                accepted.read_to_end(&mut all).unwrap();
                all
            });
            stream.write_all(&sent).unwrap();
            drop(stream);
            assert!(received.join().unwrap() == sent, "the bytes are others");
        });
        let frames = one.trunk.counters().unwrap().unwrap().tagged - before;
        let smallest = BYTES as u64 / SEGMENT;
        assert!(
            frames < smallest / 4,
            "{frames} frames: segmented before the tag"
        );
    }
}

/// Ends a talk, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_process_takes_over_without_losing_a_frame() {
    let [(mut one, eni, asker), (_two, _, answerer)] = wired();
    let done = AtomicBool::new(false);
    for address in addresses(2) {
        assert!(
            asks(
                &asker.namespace,
                &answerer.namespace,
                address,
                ANSWER_WITHIN
            )
            .is_some()
        );
        let bind = |at| move || UdpSocket::bind((at, 0)).unwrap();
        let server = answerer.namespace.run(bind(address));
        let client = asker.namespace.run(bind(any(address)));
        client.connect(server.local_addr().unwrap()).unwrap();
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        }
        done.store(false, Relaxed);
        std::thread::scope(|scope| {
            let over = Over(&done);
            let talk = scope.spawn(|| {
                let mut rounds = 0_u32;
                while !done.load(Relaxed) {
                    let mut buffer = [0; 4];
                    client.send(&rounds.to_be_bytes()).unwrap();
                    let (_, from) = server.recv_from(&mut buffer).expect("a question was lost");
                    server.send_to(&buffer, from).unwrap();
                    client.recv(&mut buffer).expect("an answer was lost");
                    assert_eq!(u32::from_be_bytes(buffer), rounds);
                    rounds += 1;
                }
                rounds
            });
            for _ in 0..10 {
                let next = Trunk::default();
                apply_eni(&mut one.netlink, &next, &eni).unwrap();
                one.trunk = next;
                let tagged = |trunk: &Trunk| trunk.counters().unwrap().unwrap().tagged;
                let deadline = Instant::now() + ANSWER_WITHIN;
                while tagged(&one.trunk) < 10 && !talk.is_finished() {
                    assert!(Instant::now() < deadline, "the new programs see no frame");
                    std::thread::yield_now();
                }
            }
            drop(over);
            assert!(talk.join().unwrap() >= 100);
        });
    }
}

#[test]
fn fragments_of_a_large_datagram_wear_the_tag_where_flows_are_tracked() {
    let [(one, _, asker), (_two, _, answerer)] = wired();
    // Tracking puts fragments together at the way in, and the kernel takes them apart again.
    one.namespace.shell(
        "nft 'table inet t { chain c { type filter hook forward priority 0; ct state invalid drop; }; }'",
    );
    for address in addresses(2) {
        assert!(
            asks(
                &asker.namespace,
                &answerer.namespace,
                address,
                ANSWER_WITHIN
            )
            .is_some()
        );
        let server = answerer
            .namespace
            .run(|| UdpSocket::bind((address, 0)).unwrap());
        let client = asker
            .namespace
            .run(|| UdpSocket::bind((any(address), 0)).unwrap());
        let mut buffer = vec![7; 9000];
        client
            .send_to(&buffer, server.local_addr().unwrap())
            .unwrap();
        server.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        assert_eq!(server.recv(&mut buffer).unwrap(), 9000, "{address}");
        assert_eq!(one.trunk.counters().unwrap().unwrap().foreign_source, 0);
    }
}

#[test]
fn what_is_missing_is_seen_and_put_back_and_filters_of_others_stay() {
    let [(mut node, eni, mut pod), (_two, ..)] = wired();
    let tags = pod.plan.tags.clone();
    let filters = |node: &Node| {
        let list = |side| {
            node.namespace
                .shell(&format!("tc filter show dev eth1 {side}"))
        };
        list("ingress") + &list("egress")
    };
    assert_eq!(
        node.trunk.keep(&mut node.netlink).unwrap(),
        Vec::<String>::new()
    );
    node.namespace.shell("tc qdisc del dev eth1 clsact");
    let both = ["bpf filter arrive dev eth1", "bpf filter leave dev eth1"];
    assert_eq!(node.trunk.keep(&mut node.netlink).unwrap(), both);
    assert_eq!(
        node.trunk.keep(&mut node.netlink).unwrap(),
        Vec::<String>::new()
    );
    let theirs = "prio 20000 protocol 802.1q u32 match u32 0 0";
    node.namespace
        .shell(&format!("tc filter add dev eth1 ingress {theirs}"));
    apply_eni(&mut node.netlink, &node.trunk, &eni).unwrap();
    let listed = filters(&node);
    for expected in [
        "protocol all pref 19999 bpf chain 0 handle 0x1 terway_arrive direct-action",
        "protocol all pref 50000 bpf chain 0 handle 0x1 terway_leave direct-action",
        "pref 20000 u32",
    ] {
        assert!(listed.contains(expected), "no {expected} in {listed}");
    }

    // The DEL of an older sandbox, late, is not the newer one's.
    let mut older = pod.plan.clone();
    older.veth.host_mac = model::Mac([2; 6]);
    older.host_rules.clear();
    older
        .tags
        .iter_mut()
        .for_each(|tag| tag.link_mac = older.veth.host_mac);
    remove_pod(&mut node.netlink, &node.trunk, &older).unwrap();
    let check = |node: &mut Node, pod: &mut Pod| {
        check_pod(&mut node.netlink, &node.trunk, &mut pod.netlink, &pod.plan).unwrap()
    };
    assert_eq!(check(&mut node, &mut pod), []);
    pod.plan.tags.iter_mut().for_each(|tag| tag.vlan = 300);
    let sentences: Vec<_> = check(&mut node, &mut pod)
        .iter()
        .map(ToString::to_string)
        .collect();
    let sentence = |address| {
        let link = "link cali00000000001 (ee:00:00:00:01:01)";
        format!("on the node, tag vlan 300 for {address} of {link} is missing")
    };
    assert_eq!(sentences, addresses(1).map(sentence));
    node.apply(&mut pod).unwrap();
    assert_eq!(check(&mut node, &mut pod), []);

    remove_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
    assert_eq!(check_tags(&mut node, &mut pod, &tags), tags.len());
    remove_eni(&mut node.netlink, &node.trunk, &eni).unwrap();
    let listed = filters(&node);
    assert!(
        !listed.contains("terway") && listed.contains("u32"),
        "{listed}"
    );
    let error = node.apply(&mut pod).unwrap_err();
    assert!(matches!(error, Error::NoTrunk { .. }), "{error}");
    for vlan in [0, 4095] {
        pod.plan.tags.iter_mut().for_each(|tag| tag.vlan = vlan);
        let error = node.apply(&mut pod).unwrap_err();
        assert!(matches!(error, Error::Plan { .. }), "{error}");
    }
}

/// How many of `tags` the removed pod lacks.
fn check_tags(node: &mut Node, pod: &mut Pod, tags: &[Tag]) -> usize {
    pod.plan.tags = tags.to_vec();
    let found = check_pod(&mut node.netlink, &node.trunk, &mut pod.netlink, &pod.plan).unwrap();
    let missing = |it: &&Difference| it.to_string().contains("tag vlan");
    found.iter().filter(missing).count()
}

#[test]
fn cap_bpf_is_needed_beside_cap_net_admin_and_no_other() {
    let (mut node, outside) = (Node::new(), Namespace::new());
    let index = node.add_eni("eth1", &outside, "far");
    let plan = trunk(&node, "eth1", index, Vec::new());
    let with = |capabilities: CapabilitySet| {
        node.namespace.run(|| {
            let sets = CapabilitySets {
                effective: capabilities,
                permitted: capabilities,
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, sets).unwrap();
            apply_eni(&mut Netlink::open().unwrap(), &Trunk::default(), &plan)
        })
    };
    with(CapabilitySet::NET_ADMIN | CapabilitySet::BPF).unwrap();
    let error = with(CapabilitySet::NET_ADMIN).unwrap_err();
    assert!(matches!(error, Error::Bpf { .. }), "{error}");
    assert!(error.to_string().contains("CAP_BPF"), "{error}");
}
