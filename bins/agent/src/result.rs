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
