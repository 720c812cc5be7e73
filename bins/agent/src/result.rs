//! A standing attachment as the result of its ADD: both ends of every interface, and every address.
//!
//! The interface the runtime asked for comes first, because some take the first address of a result for
//! the pod's. Must never decide anything.

use engine::node::Attached;
use ipnet::IpNet;
use model::{InterfaceName, Mac, family::host_net};
use wire::cni::{AddResult, Interface, Ip};

/// The result for the runtime.
pub(crate) fn of(attached: &Attached) -> AddResult {
    let Attached {
        attachment,
        net,
        subnet,
        gateway,
        ..
    } = attached;
    let mut result = AddResult::default();
    for (wire, pair) in attachment.wires().zip(net.pairs()) {
        result
            .interfaces
            .push(interface(&pair.host, pair.host_mac, None));
        let sandbox = Some(attachment.netns.clone());
        let inside = interface(&pair.pod, pair.pod_mac, sandbox);
        let place = result.interfaces.len();
        result.interfaces.push(inside);
        for (family, address) in wire.addresses.iter() {
            let blocks = wire.member.map_or(subnet, |member| &member.subnet);
            let bits = blocks.get(family).map_or(family.bits(), IpNet::prefix_len);
            result.ips.push(Ip {
                address: IpNet::new(*address, bits).unwrap_or_else(|_| host_net(*address)),
                // What its PodENI does not say is not made up.
                gateway: match wire.member {
                    Some(_) => None,
                    None => gateway.get(family).copied(),
                },
                interface: place,
            });
        }
    }
    result
}

fn interface(name: &InterfaceName, mac: Mac, sandbox: Option<String>) -> Interface {
    Interface {
        name: name.to_string(),
        mac,
        sandbox,
    }
}

#[cfg(test)]
mod tests {
    use engine::{
        ledger::{Attachment, Further, Member},
        netplan,
    };
    use model::{AttachmentKey, ContainerId, DualStack, EniId, Family, PodKey, Timestamp};

    use super::*;

    #[test]
    fn every_interface_is_listed_and_each_address_names_its_own() {
        let pod = PodKey::new("default", "web").unwrap();
        let name = |text: &str| InterfaceName::new(text).unwrap();
        let v4 = |text: &str| DualStack::only(Family::V4, text.parse().unwrap());
        let member = |block: &str| Member {
            eni: EniId::new("eni-m").unwrap(),
            vlan: 7,
            subnet: DualStack::only(Family::V4, block.parse().unwrap()),
            default_route: true,
            routes: Vec::new(),
            local: netplan::LocalTraffic::Strict,
        };
        let attachment = Attachment {
            key: AttachmentKey {
                container: ContainerId::new("c1").unwrap(),
                interface: name("eth0"),
            },
            host_link: name("cali0"),
            pod,
            uid: None,
            netns: "/run/netns/x".into(),
            addresses: v4("10.0.1.5"),
            eni: EniId::new("eni-t").unwrap(),
            mtu: 1500,
            created: Timestamp::EPOCH,
            superseded: false,
            sticky: false,
            member: Some(Box::new(member("10.0.1.0/24"))),
            further: vec![Further {
                interface: name("net1"),
                host_link: name("cali1"),
                addresses: v4("10.0.32.5"),
                member: member("10.0.32.0/20"),
            }],
        };
        let result = of(&Attached {
            net: netplan::pod_net(&attachment, None),
            attachment,
            // The trunk's, which are none of the members'.
            subnet: DualStack::only(Family::V4, "10.0.0.0/16".parse().unwrap()),
            gateway: v4("10.0.255.253"),
            sysctls: Vec::new(),
        });
        let links = result.interfaces.iter();
        let links: Vec<_> = links
            .map(|it| (it.name.as_str(), it.sandbox.is_some()))
            .collect();
        let expected = [
            ("cali0", false),
            ("eth0", true),
            ("cali1", false),
            ("net1", true),
        ];
        assert_eq!(links, expected);
        let addresses = result.ips.iter();
        let addresses: Vec<_> = addresses
            .map(|it| (it.address.to_string(), it.gateway, it.interface))
            .collect();
        let expected = [("10.0.1.5/24", 1), ("10.0.32.5/20", 3)];
        assert_eq!(addresses, expected.map(|(ip, at)| (ip.into(), None, at)));
    }
}
