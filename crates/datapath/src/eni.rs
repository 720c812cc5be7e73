//! One ENI on its node: its link, its own addresses and its table.
//!
//! The link itself is the cloud's: it is set up here, never created, set down or deleted.

use model::net::EniNet;
use netlink_packet_route::RouteNetlinkMessage;

use crate::{
    decode::LinkDetail,
    encode,
    error::{Error, Failures, Result},
    exchange::Request,
    netlink::{
        Netlink,
        io_errno::{EADDRNOTAVAIL, ENODEV},
    },
    object::Object,
    pod::{add_address, add_route, remove_route},
    rules,
    trunk::Trunk,
};

/// Sets the link up and gives it its MTU, addresses, routes and, when it is the trunk, tags; then puts the
/// rules of its pods right. Safe to repeat.
///
/// # Errors
/// The first step that failed; [`Error::NoLink`] when the link does not exist (yet).
pub fn apply_eni(host: &mut Netlink, trunk: &Trunk, plan: &EniNet) -> Result<()> {
    let object = Object::Link(&plan.link);
    let Some(LinkDetail { index, .. }) = host.link(&plan.link)? else {
        return Err(Error::NoLink {
            doing: format!("setting up {object}"),
            link: plan.link.clone(),
        });
    };
    let mut requests = vec![Request::new(
        "setting up",
        object,
        &encode::set_up(index, plan.mtu),
    )];
    for address in &plan.addresses {
        requests.push(add_address(address, index));
    }
    for route in &plan.routes {
        let index = match &route.link {
            link if *link == plan.link => index,
            link => host.index_of(link, Object::Route(route))?,
        };
        requests.push(add_route(route, index));
    }
    host.carry_out(&requests, &[])?;
    if let Some(tags) = &plan.tags {
        trunk.set_up(host, &plan.link, index, tags)?;
    }
    rules::settle(host, &plan.rules)
}

/// Takes the plan's tags, routes and addresses off the node. What is not there is fine.
///
/// # Errors
/// Everything that could not be removed; the rest is.
pub fn remove_eni(
    host: &mut Netlink,
    trunk: &Trunk,
    plan: &EniNet,
) -> std::result::Result<(), Failures> {
    let mut failures = Vec::new();
    if plan.tags.is_some() {
        failures.extend(trunk.take_down(host).err());
    }
    for route in &plan.routes {
        failures.extend(remove_route(host, route).err());
    }
    failures.extend(remove_addresses(host, plan).err());
    Failures::from_list(failures)
}

fn remove_addresses(host: &mut Netlink, plan: &EniNet) -> Result<()> {
    let Some(link) = host.link(&plan.link)? else {
        return Ok(());
    };
    let requests: Vec<_> = plan
        .addresses
        .iter()
        .map(|address| {
            let message = encode::address(address, link.index);
            let message = RouteNetlinkMessage::DelAddress(message);
            Request::new("deleting", Object::Address(address), &message)
        })
        .collect();
    host.carry_out(&requests, &[EADDRNOTAVAIL, ENODEV])
}
