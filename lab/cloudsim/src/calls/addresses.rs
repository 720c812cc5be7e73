//! AssignPrivateIpAddresses and UnassignPrivateIpAddresses.

use model::Timestamp;
use serde_json::json;

use super::{Body, check_region};
use crate::{
    params::Params,
    refusal::{Outcome, Refusal},
    render,
    world::{ADDRESSES_UNATTACHED, Wanted, World},
};

const NOT_OFFERED: [&str; 2] = ["Ipv4Prefix", "Ipv4PrefixCount"];

pub(super) fn assign(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    params.refuse(&NOT_OFFERED)?;
    let eni = world
        .eni(params.required("NetworkInterfaceId")?)?
        .id
        .clone();
    let most = ADDRESSES_UNATTACHED - 1;
    let count = params.number("SecondaryPrivateIpAddressCount", 1..=most)?;
    let named = params.addresses("PrivateIpAddress", most as usize)?;
    let wanted = match (count, named.is_empty()) {
        (Some(_), false) => {
            let (one, other) = ("PrivateIpAddress.N", "SecondaryPrivateIpAddressCount");
            return Err(Refusal::conflicting(one, other));
        }
        (None, true) => return Err(Refusal::missing("SecondaryPrivateIpAddressCount")),
        (count, _) => Wanted {
            named,
            any: count.unwrap_or(0) as usize,
        },
    };
    let assigned = world.assign(now, &eni, &wanted)?;
    Ok(render::object(json!({
        "AssignedPrivateIpAddressesSet": {
            "NetworkInterfaceId": eni,
            "PrivateIpSet": { "PrivateIpAddress": assigned },
            "Ipv4PrefixSet": { "Ipv4Prefixes": [] },
        },
    })))
}

pub(super) fn unassign(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    params.refuse(&NOT_OFFERED)?;
    let eni = world
        .eni(params.required("NetworkInterfaceId")?)?
        .id
        .clone();
    let addresses = params.addresses("PrivateIpAddress", ADDRESSES_UNATTACHED as usize)?;
    if addresses.is_empty() {
        return Err(Refusal::missing("PrivateIpAddress.N"));
    }
    world.unassign(now, &eni, &addresses)?;
    Ok(Body::new())
}
