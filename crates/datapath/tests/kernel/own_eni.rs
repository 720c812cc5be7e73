//! A pod with an ENI wholly its own: the device in the pod and back, and both of its ways out.

use model::{
    Family,
    net::{Device, LINK_GROUP_OWN_ENI, LinkAddress, PodNet, Route, ServicePath},
};
use serde_json::json;
use terway_datapath::{
    Error, Nftables, bring_devices_home, check_pod, keep_service_path, remove_pod,
};

use crate::{
    return_path::{OF_NODE, give_own_eni},
    stage::{self, Namespace, Node, Pod, addresses, assert_some, ip_address, name},
    traffic::{ANSWER_WITHIN, asks},
};

/// Where the pod's ENI leads: the vSwitch's gateway, and somebody behind it.
const GATEWAYS: [&str; 2] = ["10.0.0.253", "fd00::fffd"];
const BEYOND: [&str; 2] = ["198.51.100.7", "fd99::7"];
/// Services: one whose answerer is behind the node's own ENI, one whose answerer is pod 2.
const FAR_SERVICE: [&str; 2] = ["10.96.0.1", "fd96::1"];
const NEAR_SERVICE: [&str; 2] = ["10.96.0.2", "fd96::2"];
/// A resolver on the node.
const ON_HOST: [&str; 2] = ["169.254.20.10", "fd98::10"];
const SERVICES: &str = "nft -f - <<'E'
table inet clusterips {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr 10.96.0.1 dnat ip to 198.51.100.1
    ip6 daddr fd96::1 dnat ip6 to fd99::1
    ip daddr 10.96.0.2 dnat ip to 10.0.0.2
    ip6 daddr fd96::2 dnat ip6 to fd00::2
  }
}
E";

/// Pod 1 with the ENI eth2 of `node` as its eth0.
fn plan(node: &Node) -> PodNet {
    let mut plan = stage::plan(1, 42);
    let eth2 = &node.namespace.ip_json("link show eth2")[0];
    let mac = eth2["address"].as_str().unwrap().parse().unwrap();
    (plan.veth.pod, plan.veth.group) = (name("veth1"), LINK_GROUP_OWN_ENI);
    plan.devices = vec![Device {
        mac,
        home: name("eth2"),
        up: false,
        pod: name("eth0"),
        mtu: 1500,
    }];
    let twins = plan.pod_addresses.clone().into_iter();
    plan.pod_addresses.extend(twins.map(|it| LinkAddress {
        link: name("veth1"),
        ..it
    }));
    let neighbours = plan.pod_neighbours.iter_mut();
    neighbours.for_each(|it| it.link = name("veth1"));
    for (at, gateway) in GATEWAYS.into_iter().enumerate() {
        let by_host = [FAR_SERVICE, NEAR_SERVICE, ON_HOST, OF_NODE].map(|to| Route {
            destination: ip_address(to[at]).into(),
            link: name("veth1"),
            ..plan.pod_routes[at].clone()
        });
        plan.pod_routes[at].gateway = Some(ip_address(gateway));
        plan.pod_routes.extend(by_host);
    }
    plan.host_rules.clear();
    plan
}

/// A node with an ENI of its own, one for pod 2, an ordinary one, behind which nobody answers, and
/// one for pod 1.
struct Scene {
    node: Node,
    client: Namespace,
    vpc: Namespace,
    pod: Pod,
    ordinary: Pod,
    _nowhere: Namespace,
}

impl Scene {
    fn new() -> Self {
        let [client, vpc, nowhere] = [(); 3].map(|()| Namespace::new());
        let mut node = Node::new();
        give_own_eni(&mut node, &client);
        let index = node.add_eni("eth1", &nowhere, "far");
        node.add_eni("eth2", &vpc, "far");
        let mut ordinary = Pod::numbered(2, index);
        terway_datapath::apply_eni(&mut node.netlink, &node.trunk, &crate::eni::plan(index))
            .unwrap();
        node.apply(&mut ordinary).unwrap();
        let pod = Pod::new(plan(&node));
        Self {
            node,
            client,
            vpc,
            pod,
            ordinary,
            _nowhere: nowhere,
        }
    }

    fn apply(&mut self) {
        self.node.apply(&mut self.pod).unwrap();
    }

    fn differences(&mut self) -> Vec<String> {
        let (node, pod) = (&mut self.node, &mut self.pod);
        let found = check_pod(&mut node.netlink, &node.trunk, &mut pod.netlink, &pod.plan);
        found.unwrap().iter().map(ToString::to_string).collect()
    }

    fn remove(&mut self) {
        let (node, pod) = (&mut self.node, &mut self.pod);
        bring_devices_home(&mut node.netlink, Some(&mut pod.netlink), &pod.plan).unwrap();
        remove_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
    }

    /// Name and state of the pod's ENI on the node, if it is there.
    fn at_home(&self) -> Option<(String, bool)> {
        let mac = self.pod.plan.devices[0].mac.to_string();
        let links = self.node.namespace.ip_json("link").into_iter();
        let mut links = links.filter(|link| link["address"] == *mac);
        let link = links.next()?;
        let up = link["flags"].as_array().unwrap().contains(&json!("UP"));
        Some((link["ifname"].as_str()?.to_owned(), up))
    }
}

#[test]
fn the_device_is_the_pods_and_comes_back_as_it_was() {
    let mut scene = Scene::new();
    for up in [false, true] {
        scene.pod.plan.devices[0].up = up;
        let state = if up { "up" } else { "down" };
        let setting = format!("link set eth2 {state}");
        scene.node.namespace.ip(&setting);
        scene.apply();
        assert_eq!(scene.at_home(), None);
        let mac = scene.pod.plan.devices[0].mac.to_string();
        let links = scene.pod.namespace.ip_json("link");
        let eth0 = json!({"ifname": "eth0", "address": mac, "mtu": 1500, "flags": ["UP"]});
        assert_some(&links, &eth0);
        assert_eq!(scene.differences(), [""; 0]);
        let before = scene.pod.namespace.snapshot();
        scene.apply();
        assert_eq!(scene.pod.namespace.snapshot(), before);
        for _ in 0..2 {
            scene.remove();
            assert_eq!(scene.at_home(), Some(("eth2".into(), up)));
        }
        let pod = scene.pod.namespace.ip_json("link show type veth");
        assert_eq!(pod, [] as [serde_json::Value; 0]);
    }
}

#[test]
fn whatever_was_half_done_is_finished() {
    let mut scene = Scene::new();
    let harms: [(bool, &str); 6] = [
        (true, "link set eth0 down"),
        (true, "link set eth0 name eth2"),
        (true, "addr flush dev eth0"),
        (true, "link del veth1"),
        (true, "route del default"),
        (false, "link del cali00000000001"),
    ];
    scene.apply();
    for (inside, harm) in harms {
        // A link that is up has another name only on newer kernels.
        if harm.contains("name") {
            scene.pod.namespace.ip("link set eth0 down");
        }
        match inside {
            true => scene.pod.namespace.ip(harm),
            false => scene.node.namespace.ip(harm),
        };
        assert_ne!(scene.differences(), [""; 0], "{harm}");
        scene.apply();
        assert_eq!(scene.differences(), [""; 0], "{harm}");
    }
    // It came home by itself, under the name the kernel had left.
    scene.remove();
    scene.node.namespace.ip("link set eth2 name dev7");
    bring_devices_home(&mut scene.node.netlink, None, &scene.pod.plan).unwrap();
    assert_eq!(scene.at_home(), Some(("eth2".into(), false)));
    // Its name went to another meanwhile.
    scene.apply();
    scene
        .node
        .namespace
        .ip("link add eth2 type veth peer name other");
    scene.remove();
    let (name, _) = scene.at_home().unwrap();
    assert!(!["eth0", "eth1", "eth2"].contains(&&*name), "{name}");
    scene.apply();
    assert_eq!(scene.differences(), [""; 0]);
}

#[test]
fn a_device_in_a_namespace_that_lives_is_waited_for_and_one_that_is_gone_is_not() {
    let mut scene = Scene::new();
    scene.apply();
    let home =
        |scene: &mut Scene| bring_devices_home(&mut scene.node.netlink, None, &scene.pod.plan);
    let error = home(&mut scene).unwrap_err();
    assert!(matches!(error, Error::DeviceAway { .. }), "{error}");
    scene.node.namespace.ip("link del cali00000000001");
    home(&mut scene).unwrap();
    // Unplugged by the cloud: nothing comes back, and nothing can be set up.
    scene.pod.namespace.ip("link del eth0");
    scene.remove();
    let error = scene.node.apply(&mut scene.pod).unwrap_err();
    assert!(matches!(error, Error::NoDevice { .. }), "{error}");
    scene.remove();
}

#[test]
fn services_and_the_node_are_reached_by_the_node_and_all_else_by_the_eni() {
    let mut scene = Scene::new();
    for (at, gateway) in GATEWAYS.into_iter().enumerate() {
        let (pod, nodad) = (addresses(1)[at], ["", " nodad"][at]);
        for setup in [
            format!("addr add {gateway} dev far{nodad}"),
            format!("addr add {} dev lo", BEYOND[at]),
            format!("route add {pod} dev far"),
        ] {
            scene.vpc.ip(&setup);
        }
        let resolver = format!("addr add {} dev lo", ON_HOST[at]);
        scene.node.namespace.ip(&resolver);
    }
    scene.node.namespace.shell(SERVICES);
    scene.apply();
    let mut nftables = scene.node.namespace.run(|| Nftables::open().unwrap());
    let plan = ServicePath {
        group: LINK_GROUP_OWN_ENI,
        pod_links: "cali".into(),
        families: Family::BOTH.into(),
    };
    let mut keep =
        |node: &mut Node| keep_service_path(&mut node.netlink, &mut nftables, &plan).unwrap();
    assert_eq!(keep(&mut scene.node).len(), 4, "tables and rules");
    assert_eq!(keep(&mut scene.node), [""; 0]);
    let Scene {
        node,
        client,
        vpc,
        pod,
        ordinary,
        ..
    } = &scene;
    let (node, pod, ordinary) = (&node.namespace, &pod.namespace, &ordinary.namespace);
    for at in [0, 1] {
        let [of_pod, of_node] = [addresses(1)[at], ip_address(OF_NODE[at])];
        let to = |all: [&str; 2]| ip_address(all[at]);
        // Who asks whom, by which address, and as whom he is seen.
        for (from, server, to, seen) in [
            (pod, vpc, to(BEYOND), Some(of_pod)),
            (vpc, pod, of_pod, None),
            (pod, client, to(FAR_SERVICE), Some(of_node)),
            (pod, ordinary, to(NEAR_SERVICE), None),
            (pod, node, to(ON_HOST), Some(of_pod)),
            (node, pod, of_pod, None),
            // What came in by the node's own ENI, as by a NodePort.
            (client, pod, of_node, None),
        ] {
            let found = asks(from, server, to, ANSWER_WITHIN);
            assert!(found.is_some(), "{to} does not answer");
            assert!(seen.is_none() || seen == found, "{to} sees {found:?}");
        }
    }
}
