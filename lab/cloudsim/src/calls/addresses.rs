//! AssignPrivateIpAddresses and UnassignPrivateIpAddresses.

use std::net::Ipv4Addr;

use model::{EniId, Ipv4Prefix, Timestamp};
use serde_json::json;

use super::{Body, check_region};
use crate::{
    params::Params,
    refusal::{Outcome, Refusal},
    render,
    world::{ADDRESSES_UNATTACHED, Wanted, World},
};

/// Prefixes that one call may give or take back (ECS API, Ipv4PrefixCount and Ipv4Prefix.N: 1 to 10).
pub(super) const PREFIXES_MAX: u32 = 10;

pub(super) fn assign(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    params.refuse(&["Ipv4Prefix"])?;
    let eni = world
        .eni(params.required("NetworkInterfaceId")?)?
        .id
        .clone();
    let most = ADDRESSES_UNATTACHED - 1;
    let count = params.number("SecondaryPrivateIpAddressCount", 1..=most)?;
    let named = params.addresses("PrivateIpAddress", most as usize)?;
    if let Some(prefixes) = params.number("Ipv4PrefixCount", 1..=PREFIXES_MAX)? {
        // Unconfirmed: the page does not say whether one call may ask for both.
        if count.is_some() || !named.is_empty() {
            let (one, other) = ("Ipv4PrefixCount", "SecondaryPrivateIpAddressCount");
            return Err(Refusal::conflicting(one, other));
        }
        let prefixes = world.assign_prefixes(now, &eni, prefixes as usize)?;
        return Ok(assigned(&eni, &[], &prefixes));
    }
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
    let addresses = world.assign(now, &eni, &wanted)?;
    Ok(assigned(&eni, &addresses, &[]))
}

fn assigned(eni: &EniId, addresses: &[Ipv4Addr], prefixes: &[Ipv4Prefix]) -> Body {
    render::object(json!({
        "AssignedPrivateIpAddressesSet": {
            "NetworkInterfaceId": eni,
            "PrivateIpSet": { "PrivateIpAddress": addresses },
            "Ipv4PrefixSet": { "Ipv4Prefixes": prefixes },
        },
    }))
}

pub(super) fn unassign(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    let eni = world
        .eni(params.required("NetworkInterfaceId")?)?
        .id
        .clone();
    let addresses = params.addresses("PrivateIpAddress", ADDRESSES_UNATTACHED as usize)?;
    let named = params
        .list("Ipv4Prefix", PREFIXES_MAX as usize)?
        .into_iter();
    let prefixes = named
        .map(|text| {
            text.parse()
                .map_err(|_| Refusal::invalid("Ipv4Prefix.N", "a /28 block"))
        })
        .collect::<Outcome<Vec<Ipv4Prefix>>>()?;
    if addresses.is_empty() && prefixes.is_empty() {
        return Err(Refusal::missing("PrivateIpAddress.N"));
    }
    world.unassign(now, &eni, &addresses, &prefixes)?;
    Ok(Body::new())
}
