//! What the kernel must hold for a pod with ENIs wholly its own: each device in the pod, with the pod's
//! way out by it; and beside the first a veth pair, by which the pod reaches Services and the node, and
//! the node the pod.
//!
//! Must never know how a device is moved.

use ipnet::IpNet;
use model::{
    Family, InterfaceName,
    family::host_net,
    net::{
        Device, LINK_GROUP_OWN_ENI, LinkAddress, Neighbour, POD_TABLE_BASE, PodNet, Route,
        ServicePath, TABLE_MAIN, VethPair,
    },
};

use super::{POD_LINK_PREFIX, everything, inside, next_hop};
use crate::ledger::{Attachment, Lent, Wire};

/// What the pod's end of the pair is called, here and in the projects we stand in for.
pub const HOST_PEER: &str = "veth1";

pub(super) fn host_peer() -> InterfaceName {
    InterfaceName::new(HOST_PEER).expect("five letters and digits")
}

/// The plan of `attachment`, whose pair is `pair` with the pod's end named [`HOST_PEER`].
pub(super) fn plan(attachment: &Attachment, pair: VethPair) -> PodNet {
    let mut net = PodNet::new(VethPair {
        group: LINK_GROUP_OWN_ENI,
        ..pair
    });
    let several = !attachment.further.is_empty();
    for (wire, place) in attachment.wires().zip(1..) {
        let Some(lent) = wire.member.and_then(|member| member.device()) else {
            continue;
        };
        net.devices.push(Device {
            mac: lent.mac,
            home: lent.home.clone(),
            up: lent.up,
            pod: wire.interface.clone(),
            mtu: attachment.mtu,
        });
        // The vSwitch's gateway is asked for itself on the ENI, so nobody's MAC is written down.
        let gateway = |family| lent.gateway.get(family).copied();
        let table = several.then_some(POD_TABLE_BASE + place);
        inside::plan(&mut net, &wire, gateway, table);
    }
    if let Some(lent) = attachment.first().member.and_then(|it| it.device()) {
        // Packets that have the pod's address already are led by its own table, where there are several.
        let own_table = several.then_some(POD_TABLE_BASE + 1);
        join(&mut net, &attachment.first(), lent, own_table);
    }
    net
}

/// Adds what leads over the pair. The pod has its address on both links, so that it has the same one
/// whichever way it asks.
fn join(net: &mut PodNet, wire: &Wire<'_>, lent: &Lent, own_table: Option<u32>) {
    let pair = net.veth.clone();
    let tables = [TABLE_MAIN].into_iter().chain(own_table);
    for (family, address) in wire.addresses.iter() {
        let own = host_net(*address);
        net.pod_addresses.push(LinkAddress {
            address: own,
            link: pair.pod.clone(),
        });
        net.pod_neighbours.push(Neighbour {
            address: next_hop(family),
            mac: pair.host_mac,
            link: pair.pod.clone(),
        });
        let of_family = |to: &&IpNet| Family::of(to.addr()) == family && **to != everything(family);
        for table in tables.clone() {
            let by_host = lent.by_host.iter().filter(of_family);
            net.pod_routes.extend(by_host.map(|to| Route {
                table,
                destination: *to,
                gateway: Some(next_hop(family)),
                link: pair.pod.clone(),
                onlink: true,
            }));
        }
        net.host_routes.push(Route {
            table: TABLE_MAIN,
            destination: own,
            gateway: None,
            link: pair.host.clone(),
            onlink: false,
        });
    }
}

/// What the node needs beside, once there is such a pod.
pub fn service_path() -> ServicePath {
    ServicePath {
        group: LINK_GROUP_OWN_ENI,
        pod_links: POD_LINK_PREFIX.into(),
        families: vec![Family::V4],
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            pod_net,
            tests::{link, member},
        },
        *,
    };
    use crate::{
        ledger::{Further, Reach},
        netplan::{LocalTraffic, sysctls},
    };
    use model::{DualStack, InterfaceName, Mac};

    fn whole() -> Attachment {
        let mut attachment = member("c1", LocalTraffic::Strict);
        let first = attachment.member.as_mut().unwrap();
        first.reach = Reach::Device(Lent {
            mac: Mac([3; 6]),
            home: InterfaceName::new("eth2").unwrap(),
            up: true,
            gateway: DualStack {
                v4: Some("10.0.1.253".parse().unwrap()),
                v6: Some("2408::fffd".parse().unwrap()),
            },
            by_host: ["10.96.0.0/16", "10.0.0.9/32", "fd96::/112"]
                .map(|to| to.parse().unwrap())
                .into(),
        });
        attachment
    }

    #[test]
    fn all_goes_by_the_eni_but_what_is_the_nodes() {
        let attachment = whole();
        let net = pod_net(&attachment, None);
        let routes = net.pod_routes.iter().map(|it| {
            let by = it.gateway.unwrap().to_string();
            format!("{} via {by} dev {}", it.destination, it.link)
        });
        let mut routes = Vec::from_iter(routes);
        routes.sort();
        let expected = [
            "0.0.0.0/0 via 10.0.1.253 dev eth0",
            "10.0.0.9/32 via 169.254.1.1 dev veth1",
            "10.96.0.0/16 via 169.254.1.1 dev veth1",
            "::/0 via 2408::fffd dev eth0",
            "fd96::/112 via fe80::1 dev veth1",
        ];
        assert_eq!(routes, expected);
        assert_eq!((net.host_rules.len(), net.tags.len()), (0, 0));
        assert_eq!(net.host_routes.len(), 2);
        assert_eq!(net.veth.pod.as_str(), HOST_PEER);
        assert_eq!(net.devices[0].pod.as_str(), "eth0");
    }

    #[test]
    fn a_further_interface_has_a_device_and_no_pair() {
        let mut attachment = whole();
        let interface = InterfaceName::new("eth1").unwrap();
        let mut second = (**attachment.member.as_ref().unwrap()).clone();
        second.default_route = false;
        attachment.further = vec![Further {
            host_link: super::super::host_link_name(&attachment.pod, &interface).unwrap(),
            interface,
            addresses: DualStack::only(Family::V4, "10.0.2.6".parse().unwrap()),
            member: second,
        }];
        let net = pod_net(&attachment, None);
        assert_eq!((net.devices.len(), net.pairs().count()), (2, 1));
        assert_eq!(net.pod_rules.len(), 6, "two for each address");
        let default = net
            .pod_routes
            .iter()
            .find(|it| it.table == POD_TABLE_BASE + 2);
        assert_eq!(default.unwrap().link.as_str(), "eth1");
        let by_node = |table| {
            let all = net.pod_routes.iter().filter(move |it| it.table == table);
            all.filter(|it| it.link.as_str() == HOST_PEER).count()
        };
        let [first, main] = [POD_TABLE_BASE + 1, TABLE_MAIN].map(by_node);
        assert_eq!((first, main), (3, 3), "also for packets with its address");
        let checked = sysctls(&attachment, None, Some(&link()));
        let checked = checked.iter().filter(|it| it.path.contains("cali"));
        let checked = Vec::from_iter(checked.map(|it| it.path.rsplit('/').next().unwrap()));
        assert_eq!(checked, ["rp_filter", "src_valid_mark"], "of the one pair");
    }
}
