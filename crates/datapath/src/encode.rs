//! Plans as rtnetlink messages (include/uapi/linux/{rtnetlink,if_link,fib_rules}.h). Pure.
//!
//! Both families go through the same code. What cannot be said to the kernel is refused here, before
//! anything is sent.

use std::{
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use ipnet::IpNet;
use model::{
    Family, InterfaceName,
    net::{LinkAddress, Neighbour, PROTOCOL_TERWAY, Route, Rule, VethPair},
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{
        InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
        LinkMessage,
    },
    neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState},
    nsid::{NsidAttribute, NsidMessage},
    route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};

use crate::{
    error::{Error, Result},
    object::Object,
};

/// Our mark on routes and rules.
pub(crate) const OURS: RouteProtocol = RouteProtocol::Other(PROTOCOL_TERWAY);

/// The kernel's number of a family.
pub(crate) fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn family_of(address: IpAddr) -> AddressFamily {
    family(Family::of(address))
}

/// Creates both ends at once, the pod's end inside `netns`, both with their final names, MACs and
/// MTUs: nothing is left to rename or to move. Only the pod's end cannot be up yet, since the kernel
/// looks at its flags before the ends know each other (ENOTCONN from `veth_open`).
pub(crate) fn create_veth(pair: &VethPair, netns: BorrowedFd<'_>) -> RouteNetlinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(pair.pod.to_string()),
        LinkAttribute::Address(pair.pod_mac.0.to_vec()),
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::NetNsFd(netns.as_raw_fd()),
    ];
    let mut host = up(LinkMessage::default());
    host.attributes = vec![
        LinkAttribute::IfName(pair.host.to_string()),
        LinkAttribute::Address(pair.host_mac.0.to_vec()),
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    let grouped = (pair.group != 0).then_some(LinkAttribute::Group(pair.group));
    host.attributes.extend(grouped);
    RouteNetlinkMessage::NewLink(host)
}

fn up(mut link: LinkMessage) -> LinkMessage {
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

/// Sets the link with `index` up, with `mtu`.
pub(crate) fn set_up(index: u32, mtu: u32) -> RouteNetlinkMessage {
    let mut link = up(LinkMessage::default());
    link.header.index = index;
    link.attributes = vec![LinkAttribute::Mtu(mtu)];
    RouteNetlinkMessage::SetLink(link)
}

/// Gives the node's end of `pair`, with `index`, all that can be given to a link that stands, and sets it
/// up.
pub(crate) fn restore(index: u32, pair: &VethPair) -> RouteNetlinkMessage {
    let mut link = up(LinkMessage::default());
    link.header.index = index;
    link.attributes = vec![
        LinkAttribute::Address(pair.host_mac.0.to_vec()),
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::Group(pair.group),
    ];
    RouteNetlinkMessage::SetLink(link)
}

/// Sets the link with `index` down, as the kernel wants it of a link that gets another name.
pub(crate) fn set_down(index: u32) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(link)
}

/// Gives the link with `index` the name `name`, which may be a pattern as `eth%d`; before that moves it
/// to the namespace `to`, if that is said. A link that moves goes down and loses its addresses.
pub(crate) fn rename(index: u32, name: &str, to: Option<BorrowedFd<'_>>) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    let to = to.map(|netns| LinkAttribute::NetNsFd(netns.as_raw_fd()));
    link.attributes.extend(to);
    RouteNetlinkMessage::SetLink(link)
}

/// Asks for one link, without the statistics that make up most of an answer.
pub(crate) fn get_link(name: &InterfaceName) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
    ];
    RouteNetlinkMessage::GetLink(link)
}

/// Deletes a link by its index: a name may have passed to another link meanwhile.
pub(crate) fn delete_link(index: u32) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    RouteNetlinkMessage::DelLink(link)
}

/// Asks by which id the namespace of the socket knows `netns`.
pub(crate) fn get_namespace_id(netns: BorrowedFd<'_>) -> RouteNetlinkMessage {
    let mut message = NsidMessage::default();
    // A descriptor is never negative, and the attribute is unsigned.
    message.attributes = vec![NsidAttribute::Fd(netns.as_raw_fd().cast_unsigned())];
    RouteNetlinkMessage::GetNsId(message)
}

/// An address for the link with `index`.
///
/// No prefix route: routes are in the plan, and one that the kernel makes by itself would send
/// neighbours of the subnet past the ENI's table. No duplicate address detection: the cloud hands out
/// an address once, and detection keeps an IPv6 address unusable for a second.
pub(crate) fn address(plan: &LinkAddress, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(plan.address.addr());
    message.header.prefix_len = plan.address.prefix_len();
    message.header.index = index;
    let mut flags = AddressFlags::Noprefixroute;
    if plan.address.addr().is_ipv6() {
        flags |= AddressFlags::Nodad;
    }
    message.attributes = vec![
        AddressAttribute::Local(plan.address.addr()),
        AddressAttribute::Address(plan.address.addr()),
        AddressAttribute::Flags(flags),
    ];
    message
}

/// A permanent neighbour on the link with `index`.
pub(crate) fn neighbour(plan: &Neighbour, index: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family_of(plan.address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        NeighbourAttribute::Destination(plan.address.into()),
        NeighbourAttribute::LinkLayerAddress(plan.mac.0.to_vec()),
    ];
    message
}

/// A route out of the link with `index`.
pub(crate) fn route(plan: &Route, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    let destination = plan.destination.network();
    message.header.address_family = family_of(destination);
    message.header.destination_prefix_length = plan.destination.prefix_len();
    message.header.protocol = OURS;
    message.header.kind = RouteType::Unicast;
    // IPv4 knows "directly on the link" as a scope; IPv6 has no scopes and ignores the field.
    message.header.scope = match plan.gateway {
        Some(_) => RouteScope::Universe,
        None => RouteScope::Link,
    };
    if plan.onlink {
        message.header.flags = RouteFlags::Onlink;
    }
    // The table's own field has 8 bits; the attribute holds any id.
    message.attributes = vec![
        RouteAttribute::Table(plan.table),
        RouteAttribute::Oif(index),
    ];
    if plan.destination.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(destination.into()));
    }
    if let Some(gateway) = plan.gateway {
        message
            .attributes
            .push(RouteAttribute::Gateway(gateway.into()));
    }
    message
}

/// A rule in its table.
///
/// # Errors
/// [`Error::Plan`] when the rule names no network or networks of two families.
pub(crate) fn rule(plan: &Rule) -> Result<RuleMessage> {
    let mut message = rule_in_any_table(plan)?;
    message.attributes.push(RuleAttribute::Table(plan.table));
    Ok(message)
}

/// The rule's priority, selector and owner: for deleting, this matches it in any table.
///
/// # Errors
/// As [`rule`].
pub(crate) fn rule_in_any_table(plan: &Rule) -> Result<RuleMessage> {
    let refuse = |why| Error::Plan {
        object: Object::Rule(plan).to_string(),
        why,
    };
    let family = match (plan.from, plan.to) {
        (None, None) => return Err(refuse("it names neither a source nor a destination")),
        (Some(from), Some(to)) if family_of(from.addr()) != family_of(to.addr()) => {
            return Err(refuse("source and destination are of different families"));
        }
        (Some(net), _) | (None, Some(net)) => family_of(net.addr()),
    };
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(plan.priority),
        RuleAttribute::Protocol(OURS),
    ];
    let came_by = plan.came_by.iter().map(ToString::to_string);
    message
        .attributes
        .extend(came_by.map(RuleAttribute::Iifname));
    let leaves_by = plan.leaves_by.iter().map(ToString::to_string);
    message
        .attributes
        .extend(leaves_by.map(RuleAttribute::Oifname));
    // The mark compared with is 0 when none is named (`fib_nl2rule`, net/core/fib_rules.c).
    let unmarked = (plan.unmarked != 0).then_some(plan.unmarked);
    message
        .attributes
        .extend(unmarked.map(RuleAttribute::FwMask));
    let selects = |net: &IpNet| net.prefix_len() > 0;
    if let Some(from) = plan.from.filter(selects) {
        message.header.src_len = from.prefix_len();
        message
            .attributes
            .push(RuleAttribute::Source(from.network()));
    }
    if let Some(to) = plan.to.filter(selects) {
        message.header.dst_len = to.prefix_len();
        message
            .attributes
            .push(RuleAttribute::Destination(to.network()));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};

    use super::*;
    use crate::decode::{self, LinkNames};

    const INDEX: u32 = 7;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn eth1() -> InterfaceName {
        InterfaceName::new("eth1").unwrap()
    }

    fn names() -> LinkNames {
        LinkNames::from([(INDEX, eth1())])
    }

    /// The message after a journey as bytes.
    fn sent(message: &RouteNetlinkMessage) -> RouteNetlinkMessage {
        let mut payload = vec![0; message.buffer_len()];
        message.serialize(&mut payload);
        let mut header = NetlinkHeader::default();
        header.message_type = message.message_type();
        for end in 0..payload.len() {
            // Whatever the kernel might cut off is an error or less, never a panic.
            let _ = RouteNetlinkMessage::deserialize(&header, &payload[..end]);
        }
        RouteNetlinkMessage::deserialize(&header, &payload).unwrap()
    }

    fn routes() -> Vec<Route> {
        let route = |destination, gateway: Option<&str>, table, onlink| Route {
            table,
            destination: net(destination),
            gateway: gateway.map(|text| text.parse().unwrap()),
            link: eth1(),
            onlink,
        };
        vec![
            route("0.0.0.0/0", Some("169.254.1.1"), 254, true),
            route("::/0", Some("fe80::1"), 1007, true),
            route("10.0.0.5/32", None, 254, false),
            route("fd00::5/128", None, 254, false),
            route("10.1.0.0/16", Some("10.0.0.1"), 70_000, false),
        ]
    }

    fn rules() -> Vec<Rule> {
        let rule = |priority, from: Option<&str>, to: Option<&str>, table| {
            Rule::new(priority, from.map(net), to.map(net), table)
        };
        vec![
            rule(512, None, Some("10.0.0.5/32"), 254),
            rule(2048, Some("fd00::5/128"), None, 1007),
            rule(100, Some("10.0.0.0/8"), Some("10.1.0.0/16"), 70_000),
            rule(32_000, Some("::/0"), None, 254),
            Rule {
                came_by: Some(eth1()),
                unmarked: 0x10,
                ..rule(511, Some("10.0.0.5/32"), None, 1007)
            },
            Rule {
                leaves_by: Some(eth1()),
                ..rule(512, Some("0.0.0.0/0"), None, 1002)
            },
        ]
    }

    #[test]
    fn what_is_encoded_is_decoded_as_it_was() {
        for plan in routes() {
            let message = sent(&RouteNetlinkMessage::NewRoute(route(&plan, INDEX)));
            assert_eq!(decode::route(&message, &names()), Some(plan));
        }
        for plan in rules() {
            let message = sent(&RouteNetlinkMessage::NewRule(rule(&plan).unwrap()));
            assert_eq!(decode::rule(&message), Some(plan));
        }
        for text in ["10.0.0.5/32", "fd00::5/128", "10.0.0.5/24"] {
            let plan = LinkAddress {
                address: net(text),
                link: eth1(),
            };
            let message = sent(&RouteNetlinkMessage::NewAddress(address(&plan, INDEX)));
            assert_eq!(decode::address(&message, &names()), Some(plan));
        }
        for text in ["169.254.1.1", "fe80::1"] {
            let address = text.parse().unwrap();
            let plan = Neighbour {
                address,
                mac: model::Mac([1; 6]),
                link: eth1(),
            };
            let message = sent(&RouteNetlinkMessage::NewNeighbour(neighbour(&plan, INDEX)));
            assert_eq!(decode::neighbour(&message, &names()), Some(plan));
        }
    }

    #[test]
    fn an_object_of_others_is_none_of_ours() {
        let mut theirs = route(&routes()[0], INDEX);
        theirs.header.protocol = RouteProtocol::Static;
        assert_eq!(
            decode::route(&RouteNetlinkMessage::NewRoute(theirs), &names()),
            None
        );
        let message = RouteNetlinkMessage::NewRoute(route(&routes()[0], INDEX + 1));
        assert_eq!(
            decode::route(&message, &names()),
            None,
            "over a link that went away"
        );

        let ours = rule(&rules()[0]).unwrap();
        let mut unmarked = ours.clone();
        unmarked
            .attributes
            .retain(|attribute| *attribute != RuleAttribute::Protocol(OURS));
        let mut richer = ours.clone();
        richer.attributes.push(RuleAttribute::FwMark(1));
        let mut inverted = ours;
        inverted.header.flags = netlink_packet_route::rule::RuleFlags::Invert;
        for message in [unmarked, richer, inverted] {
            assert_eq!(decode::rule(&RouteNetlinkMessage::NewRule(message)), None);
        }
    }

    #[test]
    fn a_rule_that_the_kernel_could_not_tell_apart_is_refused() {
        let nothing = Rule::new(1, None, None, 254);
        let (from, to) = (net("10.0.0.0/8"), net("fd00::/8"));
        let mixed = Rule::new(1, Some(from), Some(to), 254);
        for plan in [nothing, mixed] {
            let error = rule(&plan).unwrap_err();
            assert!(matches!(error, Error::Plan { .. }), "{error}");
        }
    }

    #[test]
    fn the_bytes_of_a_route_are_those_of_iproute2() {
        // strace of `ip route replace 10.0.0.5/32 dev <7> scope link proto 157 table 1007`, attributes
        // in our order: struct rtmsg, RTA_TABLE, RTA_OIF, RTA_DST.
        let plan = Route {
            table: 1007,
            destination: net("10.0.0.5/32"),
            gateway: None,
            link: eth1(),
            onlink: false,
        };
        let message = RouteNetlinkMessage::NewRoute(route(&plan, INDEX));
        let mut payload = vec![0; message.buffer_len()];
        message.serialize(&mut payload);
        let golden: [&[u8]; 4] = [
            &[2, 32, 0, 0, 0, 157, 253, 1, 0, 0, 0, 0],
            &[8, 0, 15, 0, 239, 3, 0, 0],
            &[8, 0, 4, 0, 7, 0, 0, 0],
            &[8, 0, 1, 0, 10, 0, 0, 5],
        ];
        assert_eq!(payload, golden.concat());
    }
}
