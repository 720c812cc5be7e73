//! A node with two ENIs, pods that share them by ipvlan, and a VPC around it.

use ipnet::IpNet;
use model::{
    InterfaceName,
    ipvlan::{IpvlanEni, IpvlanPod},
    net::{LinkAddress, Route, TABLE_MAIN},
};
use terway_datapath::{
    Difference, HostStack, Netlink, apply_ipvlan_eni, apply_ipvlan_pod, check_ipvlan_pod,
};

use crate::stage::{Namespace, Node, addresses, ip_address, name};

pub(super) const OF_NODE: [&str; 2] = ["10.0.8.8", "fd00:8::8"];
const SERVICES: [&str; 2] = ["172.16.0.0/16", "fd01::/112"];
pub(super) const OUTSIDE: [&str; 2] = ["198.51.100.1", "fd99::1"];
const GATEWAYS: [&str; 2] = ["10.0.0.253", "fd00::fffd"];
const SUBNETS: [&str; 2] = ["10.0.0.0/24", "fd00::/64"];

/// A pod and what it is to have.
pub(super) struct Pod {
    pub(super) namespace: Namespace,
    pub(super) netlink: Netlink,
    pub(super) plan: IpvlanPod,
}

/// A node with ENIs `eth1` and `eth2`, pods 1 and 2 on the first and 3 on the second, and the VPC: a router
/// that answers for what is behind its other side, as the cloud does.
pub(super) struct Scene {
    pub(super) node: Node,
    pub(super) stack: HostStack,
    pub(super) vpc: Namespace,
    pub(super) enis: Vec<IpvlanEni>,
    pub(super) pods: Vec<Pod>,
}

fn route(destination: IpNet, gateway: Option<&str>, link: &InterfaceName) -> Route {
    Route {
        table: TABLE_MAIN,
        destination,
        gateway: gateway.map(ip_address),
        link: link.clone(),
        onlink: gateway.is_some(),
    }
}

/// What pod `number` has on `eni`; `sandbox` tells it from an earlier one.
pub(super) fn plan(number: u8, eni: &IpvlanEni, sandbox: &str) -> IpvlanPod {
    let device = name("eth0");
    let nets = SUBNETS.into_iter().zip(GATEWAYS);
    let routes = nets
        .zip(["0.0.0.0/0", "::/0"])
        .flat_map(|((net, gateway), all)| {
            [
                route(net.parse().unwrap(), None, &device),
                route(all.parse().unwrap(), Some(gateway), &device),
            ]
        });
    IpvlanPod {
        link: eni.link.clone(),
        mtu: 1400,
        owner: format!("{sandbox}-{number}/eth0"),
        addresses: addresses(number)
            .map(|ip| LinkAddress {
                address: ip.into(),
                link: device.clone(),
            })
            .into(),
        pod_routes: routes.collect(),
        host_routes: addresses(number)
            .map(|ip| route(ip.into(), None, &eni.slave))
            .into(),
        device,
    }
}

impl Pod {
    pub(super) fn new(plan: IpvlanPod) -> Self {
        let namespace = Namespace::new();
        let netlink = namespace.netlink();
        Self {
            namespace,
            netlink,
            plan,
        }
    }
}

impl Scene {
    pub(super) fn new() -> Self {
        let (mut node, vpc) = (Node::new(), Namespace::new());
        for (ip, bits) in OF_NODE.into_iter().zip([32, 128]) {
            node.namespace.ip(&format!("addr add {ip}/{bits} dev lo"));
        }
        let to_host = OF_NODE.map(|ip| ip_address(ip).into());
        let to_host: Vec<_> = to_host
            .into_iter()
            .chain(SERVICES.map(|net| net.parse().unwrap()))
            .collect();
        let enis = [("eth1", "far1"), ("eth2", "far2")].map(|(link, far)| {
            let index = node.add_eni(link, &vpc, far);
            IpvlanEni {
                link: name(link),
                mtu: 1500,
                slave: name(&format!("ipvl_{index}")),
                to_host: to_host.clone(),
            }
        });
        let pods =
            [(1, 0), (2, 0), (3, 1)].map(|(number, eni)| Pod::new(plan(number, &enis[eni], "a")));
        let mut scene = Self {
            node,
            stack: HostStack::default(),
            vpc,
            enis: enis.into(),
            pods: pods.into(),
        };
        scene.route_in_vpc();
        for eni in 0..scene.enis.len() {
            scene.apply_eni(eni);
        }
        for pod in 0..scene.pods.len() {
            scene.apply(pod);
        }
        scene
    }

    fn route_in_vpc(&self) {
        let mut lines = vec!["echo 1 > /proc/sys/net/ipv4/ip_forward".to_owned()];
        lines.push("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding".into());
        lines.push("ip addr add 198.51.100.1/32 dev lo; ip -6 addr add fd99::1/128 dev lo".into());
        for far in ["far1", "far2"] {
            lines.push(format!(
                "ip addr add 10.0.0.253/32 dev {far}; ip -6 addr add fd00::fffd/128 dev {far} nodad"
            ));
            lines.push(format!("echo 1 > /proc/sys/net/ipv4/conf/{far}/proxy_arp"));
            lines.push(format!("echo 1 > /proc/sys/net/ipv6/conf/{far}/proxy_ndp"));
        }
        for (number, own, other) in [
            (1, "far1", "far2"),
            (2, "far1", "far2"),
            (3, "far2", "far1"),
        ] {
            let [v4, v6] = addresses(number);
            lines.push(format!(
                "ip route add {v4} dev {own}; ip -6 route add {v6} dev {own}"
            ));
            lines.push(format!("ip -6 neigh add proxy {v6} dev {other}"));
        }
        self.vpc.shell(&format!("set -e\n{}", lines.join("\n")));
    }

    pub(super) fn apply_eni(&mut self, eni: usize) {
        let plan = &self.enis[eni];
        apply_ipvlan_eni(&mut self.node.netlink, &self.stack, plan).unwrap();
        // As the engine has it: a source that is not a pod's of this ENI is dropped.
        let path = format!("/proc/sys/net/ipv4/conf/{}/rp_filter", plan.slave);
        self.node
            .namespace
            .run(|| std::fs::write(path, "1").unwrap());
    }

    pub(super) fn apply(&mut self, pod: usize) {
        apply(&mut self.node, &mut self.pods[pod]);
    }

    pub(super) fn check(&mut self, pod: usize) -> Vec<String> {
        let Pod { netlink, plan, .. } = &mut self.pods[pod];
        let found = check_ipvlan_pod(&mut self.node.netlink, netlink, plan).unwrap();
        found.iter().map(Difference::to_string).collect()
    }

    pub(super) fn pod(&self, number: usize) -> &Namespace {
        &self.pods[number - 1].namespace
    }
}

pub(super) fn apply(node: &mut Node, pod: &mut Pod) {
    let netns = pod.namespace.as_fd();
    apply_ipvlan_pod(&mut node.netlink, &mut pod.netlink, netns, &pod.plan).unwrap();
}
