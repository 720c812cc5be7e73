//! What a pod holds inside for one of its interfaces: its addresses, the next hop, its routes; and with
//! several interfaces, what makes an answer leave by the one the question came in by.
//!
//! Must never know what is on the node.

use std::net::IpAddr;

use model::{
    Family,
    family::host_net,
    net::{
        LinkAddress, Neighbour, PodNet, RULE_PRIORITY_IN_POD, Route, Rule, TABLE_MAIN, VethPair,
    },
};

use super::{everything, next_hop};
use crate::ledger::Wire;

/// Adds what `wire`, whose ends are `pair`, needs in the pod. `table` is its own there, if the pod has
/// several interfaces. Every route has the next hop on the pair, also one of the member's vSwitch:
/// whoever is asked for the vSwitch's gateway on a veth is not there to answer.
pub(super) fn on_pair(net: &mut PodNet, wire: &Wire<'_>, pair: &VethPair, table: Option<u32>) {
    let families = wire.addresses.iter().map(|(family, _)| family);
    net.pod_neighbours.extend(families.map(|family| Neighbour {
        address: next_hop(family),
        mac: pair.host_mac,
        link: wire.interface.clone(),
    }));
    plan(net, wire, |family| Some(next_hop(family)), table);
}

/// Adds the addresses of `wire`, and its routes by `gateway`.
pub(super) fn plan(
    net: &mut PodNet,
    wire: &Wire<'_>,
    gateway: impl Fn(Family) -> Option<IpAddr>,
    table: Option<u32>,
) {
    let link = wire.interface;
    for (family, address) in wire.addresses.iter() {
        let own = host_net(*address);
        net.pod_addresses.push(LinkAddress {
            address: own,
            link: link.clone(),
        });
        let route = |table, destination| Route {
            table,
            destination,
            gateway: gateway(family),
            link: link.clone(),
            onlink: true,
        };
        if wire.member.is_none_or(|member| member.default_route) {
            net.pod_routes.push(route(TABLE_MAIN, everything(family)));
        }
        let routes = wire.member.into_iter().flat_map(|member| &member.routes);
        let routes = routes.filter(|to| Family::of(to.addr()) == family);
        net.pod_routes
            .extend(routes.map(|to| route(TABLE_MAIN, *to)));
        if let Some(table) = table {
            net.pod_routes.push(route(table, everything(family)));
            let bound_to_link = Some(everything(family));
            net.pod_rules.extend([
                Rule::new(RULE_PRIORITY_IN_POD, Some(own), None, table),
                Rule {
                    leaves_by: Some(link.clone()),
                    ..Rule::new(RULE_PRIORITY_IN_POD, bound_to_link, None, table)
                },
            ]);
        }
    }
}
