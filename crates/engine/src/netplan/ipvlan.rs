//! What the kernel must hold for an ENI whose addresses pods have on ipvlan devices, and for such a pod:
//! the pod is a host of the vSwitch, with the ENI's MAC, and the node reaches it by a slave of its own.
//!
//! Must never know how packets for a Service come from the pod to the node.

use ipnet::IpNet;
use model::{
    Family, InterfaceName,
    family::host_net,
    ipvlan::{IpvlanEni, IpvlanPod},
    net::{Link, LinkAddress, Route, Sysctl, SysctlScope, TABLE_MAIN},
};

use super::{eni_table, everything};
use crate::ledger::{Attachment, EniEntry};

/// How the node's slave on every ENI is called, here and in the Go project, whose place it takes.
pub const SLAVE_PREFIX: &str = "ipvl_";

/// The node's slave on an ENI: the prefix and the index of the ENI's link, fifteen characters at most, the
/// kernel's limit.
pub fn slave_name(link: &Link) -> InterfaceName {
    let name = InterfaceName::new(format!("{SLAVE_PREFIX}{}", link.index));
    name.expect("five characters and at most ten digits")
}

/// What the ENI at `link` needs. What pods send to `to_host` is for the node.
pub fn ipvlan_eni(link: &Link, mtu: u32, to_host: Vec<IpNet>) -> IpvlanEni {
    IpvlanEni {
        link: link.name.clone(),
        mtu,
        slave: slave_name(link),
        to_host,
    }
}

/// What `attachment` needs on the ENI `entry` at `link`. Hosts of the vSwitch, pods of the same ENI among
/// them, are on the pod's own link; everything else is behind the vSwitch's gateway. No rule leads to the
/// ENI's table: what a pod sends does not pass the node's routes.
///
/// What pods on veth pairs of the same ENI send does, and the table of their ENI has the pod too: the VPC
/// need not give a frame back to the ENI it came from. The trunk's table has it not, because there a trunk
/// pod's way is the VPC.
pub fn ipvlan_pod(attachment: &Attachment, entry: Option<&EniEntry>, link: &Link) -> IpvlanPod {
    let device = &attachment.key.interface;
    let slave = slave_name(link);
    let route = |table, destination, gateway, link: &InterfaceName| Route {
        table,
        destination,
        gateway,
        link: link.clone(),
        onlink: gateway.is_some(),
    };
    let mut plan = IpvlanPod {
        link: link.name.clone(),
        device: device.clone(),
        mtu: attachment.mtu,
        owner: attachment.key.to_string(),
        addresses: Vec::new(),
        pod_routes: Vec::new(),
        host_routes: Vec::new(),
    };
    let of_eni = entry.filter(|eni| !eni.trunk).map(|_| eni_table(link));
    for (family, address) in attachment.addresses.iter() {
        let own = host_net(*address);
        plan.addresses.push(LinkAddress {
            address: own,
            link: device.clone(),
        });
        let subnet = entry.and_then(|eni| eni.subnet.get(family));
        let subnet = subnet.map(|net| route(TABLE_MAIN, net.trunc(), None, device));
        let gateway = entry.and_then(|eni| eni.gateway.get(family));
        let default = gateway.map(|to| route(TABLE_MAIN, everything(family), Some(*to), device));
        plan.pod_routes.extend(subnet.into_iter().chain(default));
        let tables = std::iter::once(TABLE_MAIN).chain(of_eni);
        let routes = tables.map(|table| route(table, own, None, &slave));
        plan.host_routes.extend(routes);
    }
    plan
}

/// The values under `/proc/sys` such an attachment relies on. The node forwards what its pods send to a
/// Service; a source that is not a pod's of this ENI is dropped at the node's slave.
pub fn ipvlan_sysctls(attachment: &Attachment, link: &Link) -> Vec<Sysctl> {
    let sysctl = |scope, path: String, value: &str| Sysctl {
        scope,
        path,
        value: value.into(),
    };
    let slave = slave_name(link);
    let of = |family| match family {
        Family::V4 => vec![
            sysctl(SysctlScope::Node, "net/ipv4/ip_forward".into(), "1"),
            sysctl(SysctlScope::Node, "net/ipv4/conf/all/rp_filter".into(), "0"),
            sysctl(
                SysctlScope::Node,
                format!("net/ipv4/conf/{slave}/rp_filter"),
                "1",
            ),
        ],
        Family::V6 => vec![
            sysctl(
                SysctlScope::Node,
                "net/ipv6/conf/all/forwarding".into(),
                "1",
            ),
            sysctl(
                SysctlScope::Pod,
                format!("net/ipv6/conf/{}/accept_ra", attachment.key.interface),
                "0",
            ),
        ],
    };
    let families = attachment.addresses.iter().map(|(family, _)| family);
    families.flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use model::{DualStack, EniId, VSwitchId};

    use super::super::tests::{attachment, link};
    use super::*;
    use crate::ledger::EniStage;

    fn entry() -> EniEntry {
        let both = |v4: &str, v6: &str| (v4.parse().unwrap(), v6.parse().unwrap());
        let (gateway_v4, gateway_v6) = both("10.0.1.253", "2408::fffd");
        EniEntry {
            id: EniId::new("eni-1").unwrap(),
            mac: link().mac,
            vswitch: VSwitchId::new("vsw-1").unwrap(),
            stage: EniStage::Attached,
            trunk: false,
            gateway: DualStack {
                v4: Some(gateway_v4),
                v6: Some(gateway_v6),
            },
            subnet: DualStack {
                v4: Some("10.0.1.0/24".parse().unwrap()),
                v6: Some("2408::/64".parse().unwrap()),
            },
        }
    }

    #[test]
    fn a_pod_is_a_host_of_its_vswitch_in_both_families() {
        let plan = ipvlan_pod(&attachment("c1"), Some(&entry()), &link());
        let shape = |routes: &[Route]| -> Vec<String> {
            let text = |it: &Route| {
                let via = it
                    .gateway
                    .map_or_else(String::new, |via| format!(" via {via}"));
                format!("{}{via} dev {}", it.destination, it.link)
            };
            routes.iter().map(text).collect()
        };
        assert_eq!(
            shape(&plan.pod_routes),
            [
                "10.0.1.0/24 dev eth0",
                "0.0.0.0/0 via 10.0.1.253 dev eth0",
                "2408::/64 dev eth0",
                "::/0 via 2408::fffd dev eth0"
            ]
        );
        let by_slave = |routes: &[Route]| {
            let ours = routes.iter().filter(|it| it.link.as_str() == "ipvl_7");
            Vec::from_iter(ours.map(|it| (it.table, it.destination.to_string())))
        };
        let (v4, v6) = ("10.0.1.5/32".to_owned(), "2408::5/128".to_owned());
        let both = [254, 1007];
        let expected = both.map(|table| (table, v4.clone()));
        let expected = Vec::from_iter(expected.into_iter().chain(both.map(|it| (it, v6.clone()))));
        assert_eq!(by_slave(&plan.host_routes), expected);
        let trunk = EniEntry {
            trunk: true,
            ..entry()
        };
        let on_trunk = ipvlan_pod(&attachment("c1"), Some(&trunk), &link());
        assert_eq!(by_slave(&on_trunk.host_routes), [(254, v4), (254, v6)]);
        let other = ipvlan_pod(&attachment("c2"), Some(&entry()), &link());
        assert_ne!(plan.owner, other.owner, "two sandboxes of one pod");
    }

    #[test]
    fn a_foreign_source_ends_at_the_nodes_slave() {
        let list = ipvlan_sysctls(&attachment("c1"), &link());
        let check = list.iter().find(|it| it.path.contains("ipvl_7"));
        assert_eq!(check.map(|it| it.value.as_str()), Some("1"));
    }
}
