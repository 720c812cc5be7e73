//! Trunk pods behind a VPC that reads every tag: who may send and receive what, and which way it goes.

use std::{
    net::{IpAddr, UdpSocket},
    time::{Duration, Instant},
};

use model::{
    InterfaceName,
    family::host_net,
    net::{
        ENI_TABLE_BASE, EniNet, MARK_RETURN, PodNet, RULE_PRIORITY_FROM_MEMBER,
        RULE_PRIORITY_TO_POD, RULE_PRIORITY_TO_SELF, Route, Rule, TABLE_MAIN, Tag,
    },
};
use terway_datapath::{Nftables, TrunkCounters, apply_eni, diff_pod, keep_return_path, observe};

use crate::{
    return_path,
    stage::{self, Namespace, Node, Pod, addresses, ip_address, name},
    traffic::asks,
    vpc::{Seen, Vpc},
};

/// Long enough for a loaded machine; only a failing test waits so long.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How often something is sent again: the first may be lost while the kernel starts a new link.
const ASK_EVERY: Duration = Duration::from_millis(20);
const GATEWAYS: [&str; 2] = ["10.0.9.253", "fd00:9::fffd"];

/// The plan of a trunk ENI; its gateway is a neighbour of `node` already, with the MAC all have.
pub(crate) fn trunk(node: &Node, link: &str, index: u32, tags: Vec<Tag>) -> EniNet {
    let routes = ["0.0.0.0/0", "::/0"].into_iter().zip(GATEWAYS);
    for gateway in GATEWAYS {
        let lladdr = "lladdr ee:ff:ff:ff:ff:ff nud permanent";
        node.namespace
            .ip(&format!("neigh replace {gateway} {lladdr} dev {link}"));
    }
    EniNet {
        link: name(link),
        mtu: 1500,
        addresses: Vec::new(),
        routes: routes
            .map(|(destination, gateway)| Route {
                table: ENI_TABLE_BASE + index,
                destination: destination.parse().unwrap(),
                gateway: Some(ip_address(gateway)),
                link: name(link),
                onlink: true,
            })
            .collect(),
        tags: Some(tags),
        rules: Vec::new(),
        ipvlan: None,
    }
}

/// Pod `number` as a member with VLAN 100 + `number`, whose traffic may stay on the node.
pub(crate) fn standard(number: u8, trunk: u32) -> PodNet {
    let mut plan = stage::plan(number, trunk);
    plan.veth.mtu = 1500;
    let tag = |address| Tag {
        vlan: vlan(number),
        address,
        link: plan.veth.host.clone(),
        link_mac: plan.veth.host_mac,
    };
    plan.tags = addresses(number).map(tag).into();
    plan
}

pub(crate) fn vlan(number: u8) -> u16 {
    100 + u16::from(number)
}

/// The same, whose traffic must pass the VPC.
pub(crate) fn strict(number: u8, trunk: u32) -> PodNet {
    let mut plan = standard(number, trunk);
    let to_own = |priority, own, came_by: &InterfaceName| Rule {
        came_by: Some(came_by.clone()),
        ..Rule::new(priority, None, Some(own), TABLE_MAIN)
    };
    let pod = &plan.veth.host;
    plan.host_rules
        .retain(|rule| rule.priority != RULE_PRIORITY_TO_POD);
    for own in addresses(number).map(host_net) {
        let table = ENI_TABLE_BASE + trunk;
        plan.host_rules.extend([
            to_own(RULE_PRIORITY_TO_SELF, own, pod),
            Rule {
                came_by: Some(pod.clone()),
                unmarked: MARK_RETURN,
                ..Rule::new(RULE_PRIORITY_FROM_MEMBER, Some(own), None, table)
            },
            to_own(RULE_PRIORITY_TO_POD, own, &name("lo")),
            to_own(RULE_PRIORITY_TO_POD, own, &name("eth1")),
        ]);
    }
    plan
}

/// A node whose trunk is plugged into a VPC that carries between trunk pods 1 and 2 and pod 3, an
/// ordinary one of the same ENI.
struct Scene {
    node: Node,
    vpc: Vpc,
    pods: [Pod; 3],
}

impl Scene {
    fn new(member: fn(u8, u32) -> PodNet) -> Self {
        let mut node = Node::new();
        let owners: Vec<_> = [(1, Some(vlan(1))), (2, Some(vlan(2))), (3, None)]
            .into_iter()
            .flat_map(|(number, vlan)| addresses(number).map(|address| (address, vlan)))
            .collect();
        let vpc = Vpc::plug(&mut node, &owners);
        let plan = trunk(&node, "eth1", vpc.index, Vec::new());
        apply_eni(&mut node.netlink, &node.trunk, &plan).unwrap();
        // The address the node asks its pods from.
        node.namespace.ip("addr add 10.0.8.8/32 dev lo");
        node.namespace.ip("addr add fd00:8::8/128 dev lo");
        let mut ordinary = stage::plan(3, vpc.index);
        ordinary.veth.mtu = 1500;
        let plans = [member(1, vpc.index), member(2, vpc.index), ordinary];
        let mut pods = plans.map(Pod::new);
        for pod in &mut pods {
            node.apply(pod).unwrap();
        }
        Self { node, vpc, pods }
    }

    fn counters(&self) -> TrunkCounters {
        self.node.trunk.counters().unwrap().unwrap()
    }

    /// Whether pod `from` gets an answer of pod `to` at its address of `family`.
    fn talk(&self, from: usize, to: usize, family: usize, within: Duration) -> bool {
        let [from, to] = [from, to].map(|number| &self.pods[number - 1].namespace);
        let number = self
            .pods
            .iter()
            .position(|pod| std::ptr::eq(&pod.namespace, to));
        let address = addresses(u8::try_from(number.unwrap() + 1).unwrap())[family];
        asks(from, to, address, within).is_some()
    }
}

/// What the VPC sees when pods `one` and `two` talk.
pub(crate) fn both_ways(
    one: (u8, Option<u16>),
    two: (u8, Option<u16>),
    family: usize,
) -> Vec<Seen> {
    let way = |from: (u8, Option<u16>), to: (u8, Option<u16>)| Seen {
        vlan: from.1,
        source: addresses(from.0)[family],
        destination: addresses(to.0)[family],
    };
    vec![way(one, two), way(two, one)]
}

#[test]
fn strict_sends_pods_of_one_node_through_the_vpc_each_under_its_vlan() {
    let scene = Scene::new(strict);
    let [one, two, three] = [(1, Some(vlan(1))), (2, Some(vlan(2))), (3, None)];
    // One comparison for all: questions that were repeated may be late.
    let mut expected = Vec::new();
    for family in [0, 1] {
        for (from, to) in [(one, two), (one, three), (three, two)] {
            let (asker, answerer) = (usize::from(from.0), usize::from(to.0));
            assert!(scene.talk(asker, answerer, family, ANSWER_WITHIN));
            expected.extend(both_ways(from, to, family));
        }
    }
    expected.sort();
    assert_eq!(scene.vpc.seen(), expected);
    let counters = scene.counters();
    assert!(counters.tagged > 0 && counters.untagged > 0);
    let carried = TrunkCounters {
        tagged: counters.tagged,
        untagged: counters.untagged,
        ..TrunkCounters::default()
    };
    assert_eq!(counters, carried, "something was dropped");
}

#[test]
fn standard_keeps_pods_of_one_node_on_the_node() {
    let scene = Scene::new(standard);
    for family in [0, 1] {
        for (from, to) in [(1, 2), (1, 3), (3, 2)] {
            assert!(scene.talk(from, to, family, ANSWER_WITHIN));
        }
    }
    assert_eq!(scene.vpc.seen(), []);
    assert_eq!(scene.counters(), TrunkCounters::default());
}

#[test]
fn pods_that_stand_follow_from_strict_to_standard_and_back() {
    let mut scene = Scene::new(strict);
    for (member, through_vpc) in [(standard as fn(u8, u32) -> PodNet, false), (strict, true)] {
        let index = scene.vpc.index;
        let plan = EniNet {
            rules: [1, 2].map(|pod| member(pod, index).host_rules).concat(),
            ..trunk(&scene.node, "eth1", index, Vec::new())
        };
        let Node {
            netlink,
            trunk: filters,
            ..
        } = &mut scene.node;
        apply_eni(netlink, filters, &plan).unwrap();
        for pod in [1, 2] {
            let lacks = diff_pod(&member(pod, index), &observe(netlink).unwrap());
            assert_eq!(lacks, []);
        }
        for family in [0, 1] {
            assert!(scene.talk(1, 2, family, ANSWER_WITHIN));
        }
        assert_eq!(scene.vpc.seen().is_empty(), !through_vpc);
    }
}

#[test]
fn a_probe_of_the_node_and_a_pods_question_to_itself_stay_on_the_node() {
    let scene = Scene::new(strict);
    // What kube-proxy does with a pod that asks a Service it is itself behind.
    scene.node.namespace.shell(
        "nft -f - <<'E'
table inet services {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr 172.16.0.1 dnat ip to 10.0.0.1
    ip6 daddr fd01::1 dnat ip6 to fd00::1
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr 10.0.0.1 ip daddr 10.0.0.1 masquerade
    ip6 saddr fd00::1 ip6 daddr fd00::1 masquerade
  }
}
E",
    );
    let pod = &scene.pods[0].namespace;
    let services = ["172.16.0.1", "fd01::1"].map(ip_address);
    for (address, service) in addresses(1).into_iter().zip(services) {
        let node = &scene.node.namespace;
        assert!(asks(node, pod, address, ANSWER_WITHIN).is_some());
        assert!(asks(pod, pod, service, ANSWER_WITHIN).is_some());
    }
    assert_eq!(scene.vpc.seen(), []);
}

#[test]
fn what_came_in_by_the_nodes_own_eni_is_answered_there_and_not_under_the_vlan() {
    let (mut scene, client) = (Scene::new(strict), Namespace::new());
    return_path::give_own_eni(&mut scene.node, &client);
    let Node {
        namespace, netlink, ..
    } = &mut scene.node;
    let mut nftables = namespace.run(|| Nftables::open().unwrap());
    keep_return_path(netlink, &mut nftables, &return_path::plan()).unwrap();
    for to in return_path::OF_NODE.map(ip_address) {
        assert!(asks(&client, &scene.pods[0].namespace, to, ANSWER_WITHIN).is_some());
    }
    assert_eq!(scene.vpc.seen(), []);
}

#[test]
fn nobody_sends_under_an_address_that_is_not_his() {
    let scene = Scene::new(strict);
    let node = &scene.node.namespace;
    // Whatever no rule of ours catches leaves by the trunk as well.
    node.ip("route add default via 10.0.9.253 dev eth1 onlink");
    node.ip("-6 route add default via fd00:9::fffd dev eth1 onlink");
    let [far, stranger, of_one] = [
        ["198.51.100.1", "fd99::1"].map(ip_address),
        ["10.0.0.77", "fd00::77"].map(ip_address),
        addresses(1),
    ];
    let until_dropped = |from: &Namespace, source: IpAddr, to: IpAddr| {
        let socket = from.run(|| UdpSocket::bind((source, 0)).unwrap());
        let before = scene.counters().foreign_source;
        eventually(|| {
            socket.send_to(b"it is me", (to, 9)).unwrap();
            scene.counters().foreign_source > before
        });
    };
    for family in [0, 1] {
        for (number, source) in [(0, stranger), (1, of_one), (2, of_one)] {
            let (source, pod) = (source[family], &scene.pods[number].namespace);
            let bits = host_net(source);
            pod.ip(&format!(
                "addr add {bits} dev eth0 {}",
                ["", "nodad"][family]
            ));
            until_dropped(pod, source, far[family]);
        }
        // The node itself has no business there either.
        let bits = host_net(of_one[family]);
        node.ip(&format!("addr add {bits} dev lo {}", ["", "nodad"][family]));
        until_dropped(node, of_one[family], far[family]);
    }
    let of_stranger =
        |seen: &Seen| stranger.contains(&seen.source) || of_one.contains(&seen.source);
    assert!(!scene.vpc.seen().iter().any(of_stranger));
}

#[track_caller]
fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + ANSWER_WITHIN;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to hold");
        std::thread::yield_now();
    }
}

#[test]
fn only_the_right_vlan_leads_to_a_pod() {
    let scene = Scene::new(strict);
    let far = ip_address("198.51.100.1");
    let [of_one, of_three] = [1, 3].map(|number| addresses(number)[0]);
    let listen = |number: usize| {
        let bind = || UdpSocket::bind("0.0.0.0:0").unwrap();
        let socket = scene.pods[number - 1].namespace.run(bind);
        socket.set_read_timeout(Some(ASK_EVERY)).unwrap();
        let port = socket.local_addr().unwrap().port();
        (socket, port)
    };
    let ((one, to_one), (three, to_three)) = (listen(1), listen(3));
    let forged = ip_address("198.51.100.66");
    for (vlan, to) in [
        (None, (of_one, to_one)),
        (Some(vlan(2)), (of_one, to_one)),
        (Some(99), (of_one, to_one)),
        (Some(vlan(1)), (of_three, to_three)),
    ] {
        let dropped = || match vlan {
            None => scene.counters().bare,
            Some(_) => scene.counters().wrong_vlan,
        };
        let before = dropped();
        eventually(|| {
            scene.vpc.send(vlan, forged, to);
            dropped() > before
        });
    }
    for (socket, vlan, to) in [
        (one, Some(vlan(1)), (of_one, to_one)),
        (three, None, (of_three, to_three)),
    ] {
        eventually(|| {
            scene.vpc.send(vlan, far, to);
            let received = socket.recv_from(&mut [0; 16]);
            received.is_ok_and(|(_, from)| {
                assert_eq!(from.ip(), far, "one was not dropped");
                true
            })
        });
    }
}
