//! Pods on ipvlan devices: real packets, what is repaired, and removal from outside the pod. For a kernel
//! with ipvlan and iptables' translation; tier T5 brings one.

mod scene;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use ipnet::IpNet;
use model::net::{ENI_TABLE_BASE, Route};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use terway_datapath::{
    HostStack, Netlink, apply_eni, apply_ipvlan_eni, ipvlan_devices_of_pods, probe_ipvlan,
    remove_ipvlan_eni, remove_ipvlan_pod,
};

use self::scene::{OF_NODE, OUTSIDE, Pod, Scene, apply, plan};
use crate::{
    stage::{self, Namespace, Node, addresses, ip_address},
    traffic::asks,
};

/// Long enough for a loaded machine; only a failing test waits so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// A few questions, of which each would be answered at once.
const SILENT_FOR: Duration = Duration::from_millis(300);

/// Whom the answerer saw, when `from` asks `to`.
fn reached(from: &Namespace, server: &Namespace, to: IpAddr) -> Option<IpAddr> {
    asks(from, server, to, ANSWER_WITHIN)
}

#[test]
fn pods_their_node_and_the_vpc_reach_each_other() {
    let scene = Scene::new();
    let node = &scene.node.namespace;
    for family in [0, 1] {
        let of = |number| addresses(number)[family];
        for (from, to, how) in [
            (1, 2, "on one ENI"),
            (2, 1, "on one ENI, back"),
            (1, 3, "on two ENIs"),
            (3, 1, "on two ENIs, back"),
        ] {
            let seen = reached(scene.pod(from), scene.pod(to.into()), of(to));
            assert_eq!(seen, Some(of(u8::try_from(from).unwrap())), "{how}");
        }
        let (of_node, outside) = (ip_address(OF_NODE[family]), ip_address(OUTSIDE[family]));
        for number in [1_u8, 3] {
            let pod = scene.pod(number.into());
            assert_eq!(reached(node, pod, of(number)), Some(of_node), "node to pod");
            assert_eq!(reached(pod, node, of_node), Some(of(number)), "pod to node");
            assert_eq!(reached(pod, &scene.vpc, outside), Some(of(number)), "out");
            assert!(reached(&scene.vpc, pod, of(number)).is_some(), "in");
        }
    }
}

#[test]
fn what_a_pod_sends_under_another_address_does_not_get_to_the_node() {
    let scene = Scene::new();
    let (pod, node) = (scene.pod(1), &scene.node.namespace);
    pod.ip("addr add 192.0.2.7/32 dev lo");
    // The gateway's answer would not find the pod under that address.
    pod.ip("neigh replace 10.0.0.253 lladdr ee:ff:ff:ff:ff:ff dev eth0");
    pod.ip("route add 10.0.8.8 via 10.0.0.253 dev eth0 onlink src 192.0.2.7");
    let bind = || UdpSocket::bind("0.0.0.0:0").unwrap();
    let (server, client) = (node.run(bind), pod.run(bind));
    let to = SocketAddr::new(ip_address(OF_NODE[0]), server.local_addr().unwrap().port());
    let slave = &scene.enis[0].slave;
    // The second is the control: it is the check at the node's slave that drops the first.
    for (check, within, heard) in [("1", SILENT_FOR, false), ("0", ANSWER_WITHIN, true)] {
        let path = format!("/proc/sys/net/ipv4/conf/{slave}/rp_filter");
        node.run(|| std::fs::write(path, check).unwrap());
        server.set_read_timeout(Some(within)).unwrap();
        client.send_to(b"it is me", to).unwrap();
        assert_eq!(server.recv_from(&mut [0; 8]).is_ok(), heard, "{check}");
    }
}

/// What kube-proxy does: a Service leads to `backend`, and what is marked leaves as the node's.
fn serve(node: &Namespace, backend: u8) {
    let [v4, v6] = addresses(backend);
    for (command, service, backend) in
        [("iptables", "172.16.0.1", v4), ("ip6tables", "fd01::1", v6)]
    {
        node.shell(&format!(
            "{command}-legacy -t nat -F && {command}-legacy -t nat -A PREROUTING -d {service} -j DNAT \
             --to-destination {backend} && {command}-legacy -t nat -A POSTROUTING -m mark --mark \
             0x4000/0x4000 -j MASQUERADE"
        ));
    }
}

#[test]
fn what_is_for_a_service_passes_the_nodes_stack_and_its_answer_too() {
    let mut scene = Scene::new();
    let services = ["172.16.0.1", "fd01::1"].map(ip_address);
    for backend in [2, 3] {
        serve(&scene.node.namespace, backend);
        for (service, of_node) in services.into_iter().zip(OF_NODE) {
            let seen = reached(scene.pod(1), scene.pod(backend.into()), service);
            assert_eq!(
                seen,
                Some(ip_address(of_node)),
                "by {service} to pod {backend}"
            );
        }
    }
    // A Service that is not named any more is no business of the node's.
    for eni in &mut scene.enis {
        eni.to_host.truncate(OF_NODE.len());
    }
    scene.apply_eni(0);
    for service in services {
        let seen = asks(scene.pod(1), scene.pod(3), service, SILENT_FOR);
        assert_eq!(
            seen, None,
            "{service} goes to the VPC, which does not know it"
        );
    }
    // The other ENI's pods follow their own plan.
    assert!(reached(scene.pod(3), scene.pod(3), services[0]).is_some());
}

#[test]
fn whatever_is_missing_is_found_by_check_and_put_back() {
    let mut scene = Scene::new();
    let slave = scene.enis[0].slave.clone();
    let on_node = |command: &str| (true, command.to_owned());
    let in_pod = |command: &str| (false, command.to_owned());
    let over = format!("dev {slave} table 254 is missing");
    for ((node_side, damage), sentence) in [
        (
            in_pod("link set eth0 down"),
            "in the pod, link eth0 is down".to_owned(),
        ),
        (
            in_pod("link set eth0 mtu 1300"),
            "in the pod, link eth0 has MTU 1300 instead of 1400".into(),
        ),
        (
            in_pod("addr del 10.0.0.1/32 dev eth0"),
            "in the pod, address 10.0.0.1/32 dev eth0 is missing".into(),
        ),
        (
            in_pod("-6 addr del fd00::1/128 dev eth0"),
            "in the pod, address fd00::1/128 dev eth0 is missing".into(),
        ),
        (
            in_pod("route del default"),
            "in the pod, route 0.0.0.0/0 via 10.0.0.253 dev eth0 table 254 onlink is missing"
                .into(),
        ),
        (
            in_pod("route del 10.0.0.0/24"),
            "in the pod, route 10.0.0.0/24 dev eth0 table 254 is missing".into(),
        ),
        (
            in_pod("link set eth0 alias nobody"),
            "in the pod, link eth0 is missing".into(),
        ),
        (
            in_pod("link del eth0"),
            "in the pod, link eth0 is missing".into(),
        ),
        (
            on_node("route del 10.0.0.1"),
            format!("on the node, route 10.0.0.1/32 {over}"),
        ),
        (
            on_node("-6 route del fd00::1"),
            format!("on the node, route fd00::1/128 {over}"),
        ),
        (
            on_node(&format!("link del {slave}")),
            format!("on the node, route 10.0.0.1/32 {over}"),
        ),
    ] {
        let namespace = if node_side {
            &scene.node.namespace
        } else {
            scene.pod(1)
        };
        namespace.ip(&damage);
        let found = scene.check(0);
        assert!(found.contains(&sentence), "{damage}: {found:#?}");
        scene.apply_eni(0);
        scene.apply(0);
        assert_eq!(
            scene.check(0),
            Vec::<String>::new(),
            "after repairing: {damage}"
        );
    }
    let of_node = ip_address(OF_NODE[0]);
    let keep = |scene: &mut Scene| scene.stack.keep(&mut scene.node.netlink).unwrap();
    assert_eq!(keep(&mut scene), Vec::<String>::new());
    scene
        .node
        .namespace
        .shell("tc filter del dev eth1 egress prio 39999");
    assert_eq!(
        asks(scene.pod(1), &scene.node.namespace, of_node, SILENT_FOR),
        None
    );
    assert_eq!(keep(&mut scene), ["bpf filter to_host dev eth1"]);
    assert!(reached(scene.pod(1), &scene.node.namespace, of_node).is_some());
    // With the node's slave everything goes that hangs on it; the pods' checks put their routes back.
    scene.node.namespace.ip(&format!("link del {slave}"));
    let lacked = format!("link {slave} link eth1 type ipvlan mode l2");
    assert_eq!(keep(&mut scene), [lacked]);
    (0..2).for_each(|pod| scene.apply(pod));
    assert!(reached(scene.pod(1), &scene.node.namespace, of_node).is_some());
    // A process that starts knows nothing of the one before, and takes its place. What the Go project
    // left for the same purpose is its own to remove.
    scene.node.namespace.shell(
        "tc filter add dev eth1 egress prio 40000 protocol ip u32 match ip dst 172.16.0.0/16 classid 1:1",
    );
    scene.stack = HostStack::default();
    scene.apply_eni(0);
    assert!(reached(scene.pod(1), &scene.node.namespace, of_node).is_some());
    let filters = scene.node.namespace.shell("tc filter show dev eth1 egress");
    assert_eq!(filters.matches("terway_to_host").count(), 1, "{filters}");
    assert!(filters.contains("u32"), "{filters}");
}

#[test]
fn a_pod_is_removed_from_outside_and_its_address_is_free() {
    let mut scene = Scene::new();
    let devices = |pod: &Namespace| pod.ip_json("link").len();
    let Scene {
        node,
        stack,
        pods,
        enis,
        vpc: _vpc,
    } = &mut scene;
    for _ in 0..2 {
        remove_ipvlan_pod(&mut node.netlink, &pods[0].plan).unwrap();
        assert_eq!(devices(&pods[0].namespace), 1, "only lo is left");
        assert!(!node.namespace.ip("route").contains("10.0.0.1 "));
    }
    // A new sandbox of pod 2, whose old one nobody removed: the kernel has an address once.
    let mut newer = Pod::new(plan(2, &enis[0], "b"));
    apply(node, &mut newer);
    assert_eq!(devices(&pods[1].namespace), 1, "the old one has lost it");
    let before = node.namespace.snapshot();
    remove_ipvlan_pod(&mut node.netlink, &pods[1].plan).unwrap();
    assert_eq!(before, node.namespace.snapshot(), "a late removal");
    assert_eq!(devices(&newer.namespace), 2);
    let to = addresses(2)[0];
    assert!(reached(&node.namespace, &newer.namespace, to).is_some());
    // With the ENI gone there is nothing left to remove.
    remove_ipvlan_eni(&mut node.netlink, stack, &enis[0]).unwrap();
    assert!(!node.namespace.ip("link").contains(enis[0].slave.as_str()));
    node.namespace.ip("link del eth1");
    remove_ipvlan_pod(&mut node.netlink, &newer.plan).unwrap();
    remove_ipvlan_eni(&mut node.netlink, stack, &enis[0]).unwrap();
}

/// As after a change of the configuration. The VPC answers for every host of the vSwitch, and gives no frame back
/// to the ENI it came from.
#[test]
fn a_pod_with_a_veth_pair_of_the_same_eni_is_met_on_the_node() {
    let mut scene = Scene::new();
    let index = scene.enis[0].slave.as_str().trim_start_matches("ipvl_");
    let index: u32 = index.parse().unwrap();
    let Node { netlink, trunk, .. } = &mut scene.node;
    apply_eni(netlink, trunk, &crate::eni::plan(index)).unwrap();
    let mut other = stage::Pod::numbered(9, index);
    scene.node.apply(&mut other).unwrap();
    let [of_one, of_nine] = [1, 9].map(addresses);
    for ip in of_nine {
        scene.vpc.ip(&format!("route add {ip} dev far2"));
    }
    let answers = format!("-6 neigh add proxy {} dev far1", of_nine[1]);
    scene.vpc.ip(&answers);
    let other = &other.namespace;
    for family in [0, 1] {
        let pod = scene.pod(1);
        let seen = asks(pod, other, of_nine[family], SILENT_FOR);
        assert_eq!(seen, None, "it is not led to the node");
        let seen = asks(other, pod, of_one[family], SILENT_FOR);
        assert_eq!(seen, None, "the ENI's table has the VPC alone");
    }
    scene.enis[0].to_host.extend(of_nine.map(IpNet::from));
    scene.apply_eni(0);
    let routes = &mut scene.pods[0].plan.host_routes;
    let of_eni = |route: &Route| Route {
        table: ENI_TABLE_BASE + index,
        ..route.clone()
    };
    routes.extend(routes.iter().map(of_eni).collect::<Vec<_>>());
    scene.apply(0);
    assert_eq!(scene.check(0), Vec::<String>::new());
    for family in [0, 1] {
        let (pod, nine) = (scene.pod(1), of_nine[family]);
        assert_eq!(reached(pod, other, nine), Some(of_one[family]));
        let seen = reached(other, pod, of_one[family]);
        assert_eq!(seen, Some(nine));
    }
}

/// What an agent asks when it starts, and what it then finds.
#[test]
fn a_node_that_can_is_known_and_enis_and_pods_are_told_apart_from_slaves() {
    let mut scene = Scene::new();
    let before = scene.node.namespace.snapshot();
    // As a process that ended in the middle of it leaves it.
    scene
        .node
        .namespace
        .ip("link add terway-probe0 type veth peer name terway-probe1");
    probe_ipvlan(&mut scene.node.netlink).unwrap();
    assert_eq!(before, scene.node.namespace.snapshot(), "nothing is left");
    let netlink = &mut scene.node.netlink;
    let links = netlink.links().unwrap();
    for eni in &scene.enis {
        let own = links.iter().find(|link| link.name == eni.link).unwrap();
        assert_eq!(netlink.link_by_mac(own.mac).unwrap().as_ref(), Some(own));
        assert!(links.iter().all(|link| link.name != eni.slave));
    }
    let expected = [1, 2, 3].map(|pod| {
        let plan = &scene.pods[pod - 1].plan;
        let held = plan.addresses.iter().map(|it| it.address.addr());
        (plan.owner.clone(), held.collect())
    });
    let found = ipvlan_devices_of_pods(netlink).unwrap();
    let held = |ip: &IpAddr| {
        addresses(1).contains(ip) || addresses(2).contains(ip) || addresses(3).contains(ip)
    };
    let found = found
        .into_iter()
        .map(|(owner, all)| (owner, all.into_iter().filter(held).collect()));
    assert_eq!(found.collect::<BTreeMap<_, BTreeSet<_>>>(), expected.into());
    remove_ipvlan_pod(netlink, &scene.pods[0].plan).unwrap();
    let found = ipvlan_devices_of_pods(netlink).unwrap();
    assert!(!found.contains_key(&scene.pods[0].plan.owner), "{found:?}");
}

#[test]
fn cap_bpf_beside_cap_net_admin_is_enough() {
    let scene = Scene::new();
    let sets = CapabilitySet::NET_ADMIN | CapabilitySet::BPF;
    scene.node.namespace.run(|| {
        let sets = CapabilitySets {
            effective: sets,
            permitted: sets,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets).unwrap();
        let mut netlink = Netlink::open().unwrap();
        probe_ipvlan(&mut netlink).unwrap();
        assert_eq!(ipvlan_devices_of_pods(&mut netlink).unwrap().len(), 3);
        apply_ipvlan_eni(&mut netlink, &HostStack::default(), &scene.enis[0]).unwrap();
    });
}
