//! A standing attachment as the result of its ADD: both ends of every interface, or the one of a pod on
//! ipvlan, and every address.
//!
//! The interface the runtime asked for comes first, because some take the first address of a result for
//! the pod's. Must never decide anything.

use engine::{ledger::Joint, node::Attached};
use ipnet::IpNet;
use model::{InterfaceName, Mac, family::host_net, net::PodPlan};
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
    let pairs = match net {
        PodPlan::Veth(net) => Vec::from_iter(net.pairs()),
        PodPlan::Ipvlan(_) => Vec::new(),
    };
    let mut result = AddResult::default();
    let sandbox = || Some(attachment.netns.clone());
    for wire in attachment.wires() {
        let pair = pairs.iter().find(|pair| pair.host == *wire.host_link);
        if let Some(pair) = pair {
            let ends = [
                interface(&pair.host, pair.host_mac, None),
                interface(&pair.pod, pair.pod_mac, sandbox()),
            ];
            result.interfaces.extend(ends);
        }
        let device = net.devices().iter().find(|it| it.pod == *wire.interface);
        let device = device.map(|it| interface(&it.pod, it.mac, sandbox()));
        result.interfaces.extend(device);
        if let Joint::Ipvlan(eni) = &attachment.joint {
            // It has the ENI's MAC, and no end on the node.
            let slave = interface(wire.interface, eni.mac, sandbox());
            result.interfaces.push(slave);
        }
        let place = result.interfaces.len().saturating_sub(1);
        for (family, address) in wire.addresses.iter() {
            let blocks = wire.member.map_or(subnet, |member| &member.subnet);
            let bits = blocks.get(family).map_or(family.bits(), IpNet::prefix_len);
            result.ips.push(Ip {
                address: IpNet::new(*address, bits).unwrap_or_else(|_| host_net(*address)),
                // What its PodENI does not say is not made up.
                gateway: match wire.member {
                    Some(member) => member
                        .device()
                        .and_then(|it| it.gateway.get(family).copied()),
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
    use std::net::IpAddr;

    use engine::{
        ledger::{Attachment, Further, Lent, Member, Reach},
        netplan,
    };
    use model::{
        AttachmentKey, ContainerId, DualStack, EniId, Family, PodKey, Timestamp, net::Link,
    };

    use super::*;

    #[test]
    fn every_interface_is_listed_and_each_address_names_its_own() {
        let pod = PodKey::new("default", "web").unwrap();
        let name = |text: &str| InterfaceName::new(text).unwrap();
        let v4 = |text: &str| DualStack::only(Family::V4, text.parse().unwrap());
        let member = |block: &str| Member {
            eni: EniId::new("eni-m").unwrap(),
            reach: Reach::Vlan(7),
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
            joint: Joint::Veth,
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
        let mut whole = attachment.clone();
        for member in whole.members_mut() {
            member.reach = Reach::Device(Lent {
                mac: Mac([3; 6]),
                home: name("eth2"),
                up: true,
                gateway: v4("10.0.1.253"),
                by_host: Vec::new(),
            });
        }
        let members = ["cali0", "eth0*", "cali1", "net1*"];
        let devices = ["cali0", "veth1*", "eth0*", "net1*"];
        let theirs: Option<IpAddr> = Some("10.0.1.253".parse().unwrap());
        for (attachment, names, places, gateway) in [
            (attachment, members, [1, 3], None),
            (whole, devices, [2, 3], theirs),
        ] {
            let result = of(&Attached {
                net: PodPlan::Veth(netplan::pod_net(&attachment, None)),
                attachment,
                // The trunk's, which are none of the members'.
                subnet: DualStack::only(Family::V4, "10.0.0.0/16".parse().unwrap()),
                gateway: v4("10.0.255.253"),
                sysctls: Vec::new(),
            });
            let links = result.interfaces.iter().map(|it| {
                let inside = it.sandbox.as_ref().map_or("", |_| "*");
                format!("{}{inside}", it.name)
            });
            assert_eq!(Vec::from_iter(links), names);
            let addresses = result.ips.iter();
            let addresses = addresses.map(|it| (it.address.to_string(), it.gateway, it.interface));
            let expected = ["10.0.1.5/24", "10.0.32.5/20"].map(str::to_owned);
            let expected = expected.into_iter().zip(places);
            let expected = expected.map(|(ip, at)| (ip, gateway, at));
            assert_eq!(Vec::from_iter(addresses), Vec::from_iter(expected));
        }
    }

    #[test]
    fn a_pod_on_ipvlan_has_its_device_alone() {
        let key = AttachmentKey {
            container: ContainerId::new("c1").unwrap(),
            interface: InterfaceName::new("eth0").unwrap(),
        };
        let link = Link {
            name: InterfaceName::new("eth1").unwrap(),
            index: 7,
            mac: Mac([3; 6]),
            up: true,
        };
        let v4 = |text: &str| DualStack::only(Family::V4, text.parse().unwrap());
        let attachment = Attachment {
            key,
            pod: PodKey::new("default", "web").unwrap(),
            uid: None,
            netns: "/run/netns/x".into(),
            addresses: v4("10.0.1.5"),
            eni: EniId::new("eni-1").unwrap(),
            host_link: InterfaceName::new("cali0").unwrap(),
            joint: Joint::Ipvlan(link.clone()),
            mtu: 1500,
            created: Timestamp::EPOCH,
            superseded: false,
            sticky: false,
            member: None,
            further: Vec::new(),
        };
        let result = of(&Attached {
            net: PodPlan::Ipvlan(netplan::ipvlan_pod(&attachment, None, &link)),
            attachment,
            subnet: DualStack::only(Family::V4, "10.0.1.0/24".parse().unwrap()),
            gateway: v4("10.0.1.253"),
            sysctls: Vec::new(),
        });
        let [device] = &result.interfaces[..] else {
            panic!("nothing on the node: {:?}", result.interfaces);
        };
        assert_eq!((device.name.as_str(), device.mac), ("eth0", link.mac));
        assert_eq!(device.sandbox.as_deref(), Some("/run/netns/x"));
        let [ip] = &result.ips[..] else {
            panic!("one address: {:?}", result.ips);
        };
        assert_eq!(ip.address, "10.0.1.5/24".parse().unwrap());
        assert_eq!(
            (ip.gateway, ip.interface),
            (Some("10.0.1.253".parse().unwrap()), 0)
        );
    }
}
