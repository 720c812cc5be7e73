//! rtnetlink messages as `model` types. Pure.
//!
//! What the vocabulary has no words for (a route over several links, a rule with a mark) becomes
//! `None`: it is not one of ours, and what we cannot name we never touch.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use model::{
    InterfaceName, Mac,
    net::{LinkAddress, Neighbour, Route, Rule},
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressAttribute,
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState},
    nsid::NsidAttribute,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteType},
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use crate::encode::OURS;

/// Names of links by index, to read lists that name links by number.
pub(crate) type LinkNames = BTreeMap<u32, InterfaceName>;

/// What is known of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkDetail {
    pub(crate) name: InterfaceName,
    pub(crate) index: u32,
    /// Only Ethernet links have one here.
    pub(crate) mac: Option<Mac>,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) veth: bool,
    pub(crate) ipvlan: bool,
    /// What people or we wrote on it.
    pub(crate) alias: Option<String>,
    pub(crate) group: u32,
    /// Index of the other end of a veth pair, or of the link a slave is of, in its namespace.
    pub(crate) peer: Option<u32>,
    /// Id of the namespace of the other end; without one it is this namespace.
    pub(crate) peer_namespace: Option<i32>,
}

/// Reads a link. `None` when the message is none or the link has no readable name.
pub(crate) fn link_detail(message: &RouteNetlinkMessage) -> Option<LinkDetail> {
    let RouteNetlinkMessage::NewLink(link) = message else {
        return None;
    };
    let mut name = None;
    let mut detail = LinkDetail {
        name: InterfaceName::new("lo").ok()?,
        index: link.header.index,
        mac: None,
        up: link.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        veth: is_kind(link, &InfoKind::Veth),
        ipvlan: is_kind(link, &InfoKind::IpVlan),
        alias: None,
        group: 0,
        peer: None,
        peer_namespace: None,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = InterfaceName::new(text).ok(),
            LinkAttribute::Address(bytes)
                if link.header.link_layer_type == LinkLayerType::Ether =>
            {
                detail.mac = bytes.as_slice().try_into().ok().map(Mac);
            }
            LinkAttribute::Mtu(mtu) => detail.mtu = *mtu,
            LinkAttribute::IfAlias(text) => detail.alias = Some(text.clone()),
            LinkAttribute::Group(group) => detail.group = *group,
            LinkAttribute::Link(index) => detail.peer = Some(*index),
            LinkAttribute::LinkNetNsId(id) => detail.peer_namespace = Some(*id),
            _ => {}
        }
    }
    detail.name = name?;
    Some(detail)
}

fn is_kind(link: &LinkMessage, kind: &InfoKind) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(kind.clone())),
        _ => false,
    })
}

/// Reads the id of a namespace; `None` when it has none.
pub(crate) fn namespace_id(message: &RouteNetlinkMessage) -> Option<i32> {
    let RouteNetlinkMessage::NewNsId(message) = message else {
        return None;
    };
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NsidAttribute::Id(id) if *id >= 0 => Some(*id),
            _ => None,
        })
}

/// Reads an address.
pub(crate) fn address(message: &RouteNetlinkMessage, names: &LinkNames) -> Option<LinkAddress> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    // IFA_ADDRESS is the far end on a point-to-point link; IPv6 has no IFA_LOCAL otherwise.
    let ip = local.or(address)?;
    Some(LinkAddress {
        address: IpNet::new(ip, message.header.prefix_len).ok()?,
        link: names.get(&message.header.index)?.clone(),
    })
}

/// Reads a permanent neighbour; one the kernel learned is `None`.
pub(crate) fn neighbour(message: &RouteNetlinkMessage, names: &LinkNames) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else {
        return None;
    };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(IpAddr::V4(*ip));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(IpAddr::V6(*ip));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(Mac);
            }
            _ => {}
        }
    }
    Some(Neighbour {
        address: address?,
        mac: mac?,
        link: names.get(&message.header.ifindex)?.clone(),
    })
}

fn zero(family: AddressFamily) -> Option<IpAddr> {
    match family {
        AddressFamily::Inet => Some(IpAddr::from([0; 4])),
        AddressFamily::Inet6 => Some(IpAddr::from([0; 16])),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

/// Reads a unicast route of ours over one link.
pub(crate) fn route(message: &RouteNetlinkMessage, names: &LinkNames) -> Option<Route> {
    match message {
        RouteNetlinkMessage::NewRoute(route) if route.header.protocol == OURS => {
            any_route(message, names)
        }
        _ => None,
    }
}

/// Reads a unicast route over one link, whoever made it.
pub(crate) fn any_route(message: &RouteNetlinkMessage, names: &LinkNames) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    let header = &message.header;
    if header.kind != RouteType::Unicast {
        return None;
    }
    let (mut table, mut link, mut gateway) = (u32::from(header.table), None, None);
    let mut destination = zero(header.address_family)?;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Oif(index) => link = names.get(index),
            RouteAttribute::Gateway(address) => gateway = Some(ip(address)?),
            RouteAttribute::Destination(address) => destination = ip(address)?,
            _ => {}
        }
    }
    Some(Route {
        table,
        destination: IpNet::new(destination, header.destination_prefix_length).ok()?,
        gateway,
        link: link?.clone(),
        onlink: header.flags.contains(RouteFlags::Onlink),
    })
}

/// Reads a rule of ours.
pub(crate) fn rule(message: &RouteNetlinkMessage) -> Option<Rule> {
    let RouteNetlinkMessage::NewRule(RuleMessage {
        header, attributes, ..
    }) = message
    else {
        return None;
    };
    let plain = header.action == RuleAction::ToTable
        && header.tos == 0
        && !header.flags.contains(RuleFlags::Invert);
    if !plain || !attributes.contains(&RuleAttribute::Protocol(OURS)) {
        return None;
    }
    let mut rule = Rule::new(0, None, None, u32::from(header.table));
    for attribute in attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Source(ip) => rule.from = Some(IpNet::new(*ip, header.src_len).ok()?),
            RuleAttribute::Destination(ip) => rule.to = Some(IpNet::new(*ip, header.dst_len).ok()?),
            RuleAttribute::Iifname(name) => rule.came_by = Some(InterfaceName::new(name).ok()?),
            RuleAttribute::Oifname(name) => rule.leaves_by = Some(InterfaceName::new(name).ok()?),
            // Without a mark, which is `None` below: these bits must be clear.
            RuleAttribute::FwMask(bits) => rule.unmarked = *bits,
            // Every rule carries these two; u32::MAX is "no limit".
            RuleAttribute::Protocol(_) | RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            _ => return None,
        }
    }
    if rule.from.is_none() && rule.to.is_none() {
        rule.from = Some(IpNet::new(zero(header.family)?, 0).ok()?);
    }
    Some(rule)
}
