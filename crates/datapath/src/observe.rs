//! What is in the kernel of what could be ours.
//!
//! Reads only. Links, addresses and permanent neighbours carry no owner and are all listed; routes
//! and rules carry one, and only those with our protocol id are.

use ipnet::IpNet;
use model::{
    Family,
    net::{Link, LinkAddress, Neighbour, Route, Rule, TABLE_MAIN},
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressMessage,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
    neighbour::NeighbourMessage,
    route::RouteMessage,
    rule::RuleMessage,
};

use crate::{
    decode::{self, LinkDetail, LinkNames},
    encode::{self, OURS},
    error::Result,
    netlink::Netlink,
};

/// A network namespace as the kernel lists it, each list in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Ethernet links, by name.
    pub links: Vec<ObservedLink>,
    /// Addresses of all links.
    pub addresses: Vec<LinkAddress>,
    /// Permanent neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Routes that carry our protocol id.
    pub routes: Vec<Route>,
    /// Rules that carry our protocol id.
    pub rules: Vec<Rule>,
}

/// A link and what the plan may say about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObservedLink {
    /// The link.
    pub link: Link,
    /// Its MTU.
    pub mtu: u32,
    /// Its group; 0 is every link's.
    pub group: u32,
}

/// Reads the namespace of `netlink`. Its parts are read one after the other: what changes meanwhile
/// may show in one and not in the other.
///
/// # Errors
/// When a list cannot be read.
pub fn observe(netlink: &mut Netlink) -> Result<Observed> {
    let details = link_details(netlink)?;
    let names: LinkNames = details
        .iter()
        .map(|detail| (detail.index, detail.name.clone()))
        .collect();
    let addresses = netlink.list(
        "addresses",
        &RouteNetlinkMessage::GetAddress(AddressMessage::default()),
    )?;
    let neighbours = netlink.list(
        "neighbours",
        &RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
    )?;
    let mut observed = Observed {
        links: ethernet(details),
        addresses: addresses
            .iter()
            .filter_map(|message| decode::address(message, &names))
            .collect(),
        neighbours: neighbours
            .iter()
            .filter_map(|message| decode::neighbour(message, &names))
            .collect(),
        routes: routes(netlink, &names)?,
        rules: rules(netlink)?,
    };
    observed.addresses.sort();
    observed.neighbours.sort();
    Ok(observed)
}

/// The Ethernet links but those on ipvlan, by name.
pub(crate) fn links(netlink: &mut Netlink) -> Result<Vec<ObservedLink>> {
    let mut details = link_details(netlink)?;
    details.retain(|detail| !detail.ipvlan);
    Ok(ethernet(details))
}

pub(crate) fn link_details(netlink: &mut Netlink) -> Result<Vec<LinkDetail>> {
    let mut ask = LinkMessage::default();
    ask.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    let list = netlink.list("links", &RouteNetlinkMessage::GetLink(ask))?;
    Ok(list.iter().filter_map(decode::link_detail).collect())
}

fn ethernet(details: Vec<LinkDetail>) -> Vec<ObservedLink> {
    let mut links: Vec<_> = details
        .into_iter()
        .filter_map(|detail| {
            Some(ObservedLink {
                mtu: detail.mtu,
                group: detail.group,
                link: Link {
                    mac: detail.mac?,
                    name: detail.name,
                    index: detail.index,
                    up: detail.up,
                },
            })
        })
        .collect();
    links.sort();
    links
}

/// Our routes. The kernel filters by protocol id, so the cost is that of our routes, not of all.
fn routes(netlink: &mut Netlink, names: &LinkNames) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in Family::BOTH {
        let mut ask = RouteMessage::default();
        ask.header.address_family = encode::family(family);
        ask.header.protocol = OURS;
        let list = netlink.list("routes", &RouteNetlinkMessage::GetRoute(ask))?;
        routes.extend(
            list.iter()
                .filter_map(|message| decode::route(message, names)),
        );
    }
    routes.sort();
    Ok(routes)
}

/// Every network the main table leads to over a link whose name starts with `prefix`, whoever made the
/// route.
///
/// # Errors
/// When links or routes cannot be listed.
pub fn routed_over(netlink: &mut Netlink, prefix: &str) -> Result<Vec<IpNet>> {
    let names: LinkNames = link_details(netlink)?
        .into_iter()
        .map(|detail| (detail.index, detail.name))
        .collect();
    let mut networks = Vec::new();
    for family in Family::BOTH {
        let mut ask = RouteMessage::default();
        ask.header.address_family = encode::family(family);
        let list = netlink.list("routes", &RouteNetlinkMessage::GetRoute(ask))?;
        networks.extend(
            list.iter()
                .filter_map(|message| decode::any_route(message, &names))
                .filter(|route| {
                    route.table == TABLE_MAIN && route.link.as_str().starts_with(prefix)
                })
                .map(|route| route.destination),
        );
    }
    networks.sort();
    Ok(networks)
}

/// Our rules, a rule that was added twice twice.
pub(crate) fn rules(netlink: &mut Netlink) -> Result<Vec<Rule>> {
    let ask = RouteNetlinkMessage::GetRule(RuleMessage::default());
    let list = netlink.list("rules", &ask)?;
    let mut rules: Vec<_> = list.iter().filter_map(decode::rule).collect();
    rules.sort();
    Ok(rules)
}
