//! CreateNetworkInterface.

use std::{collections::BTreeSet, net::Ipv4Addr};

use model::{EniId, EniKind, EniStatus, SecurityGroupId, Timestamp, VSwitchId};

use super::{Body, addresses::PREFIXES_MAX, check_region};
use crate::{
    params::Params,
    refusal::{Outcome, Refusal},
    render,
    state::Eni,
    world::{Wanted, World},
};

/// Secondary addresses one call can bring (ECS API, SecondaryPrivateIpAddressCount: 1 to 49).
const SECONDARY_MAX: u32 = 49;
/// Addresses that can be named one by one (ECS API, PrivateIpAddress.N: 0 to 10).
const NAMED_MAX: usize = 10;

/// What the real cloud takes here and this region does not offer yet.
const NOT_OFFERED: [&str; 5] = [
    "Ipv4Prefix",
    "Ipv6Address",
    "Ipv6AddressCount",
    "Ipv6Prefix",
    "Ipv6PrefixCount",
];

const KINDS: [(&str, EniKind); 2] = [("Secondary", EniKind::Secondary), ("Trunk", EniKind::Trunk)];
const TRAFFIC_MODES: [(&str, &str); 1] = [("Standard", "Standard")];

pub(super) fn create(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    params.refuse(&NOT_OFFERED)?;
    let vswitch_id = params.required("VSwitchId")?;
    let security_groups = security_groups(world, params)?;
    let secondary = wanted_secondary(params)?;
    let prefixes = params
        .number("Ipv4PrefixCount", 1..=PREFIXES_MAX)?
        .unwrap_or(0);
    let kind = params
        .word("InstanceType", &KINDS)?
        .unwrap_or(EniKind::Secondary);
    let mode = params.word("NetworkInterfaceTrafficMode", &TRAFFIC_MODES)?;
    // Unconfirmed: the page names no default.
    let delete_on_release = params.flag("DeleteOnRelease")?.unwrap_or(true);
    let source_dest_check = params.flag("SourceDestCheck")?;
    let tags = params.tags()?;
    let named_primary = match params.text("PrimaryIpAddress") {
        Some(text) => Some(
            text.parse()
                .map_err(|_| Refusal::invalid("PrimaryIpAddress", "an IPv4 address"))?,
        ),
        None => None,
    };
    let vswitch = world.vswitch(vswitch_id)?.spec.clone();
    let held = world
        .enis
        .values()
        .filter(|eni| eni.kind != EniKind::Primary)
        .count();
    if held >= world.config.limits.enis {
        return Err(Refusal::too_many_enis(world.config.limits.enis));
    }

    world.has_prefixes(&vswitch.id, prefixes as usize)?;
    let (primary, secondary) = take(world, &vswitch.id, named_primary, secondary)?;
    let prefixes = world.take_prefixes(&vswitch.id, prefixes as usize)?;
    let eni = Eni {
        id: EniId::new(world.dice.id("eni")).map_err(|_| Refusal::internal())?,
        kind,
        status: EniStatus::Available,
        mac: world.fresh_mac(),
        vswitch: vswitch.id,
        zone: vswitch.zone,
        primary,
        secondary,
        prefixes: prefixes.into_iter().collect(),
        security_groups,
        name: params
            .text("NetworkInterfaceName")
            .unwrap_or_default()
            .into(),
        description: params.text("Description").unwrap_or_default().into(),
        resource_group: params.text("ResourceGroupId").unwrap_or_default().into(),
        traffic_mode: mode.unwrap_or("Standard"),
        tags,
        created: now,
        delete_on_release,
        source_dest_check: source_dest_check.unwrap_or(world.config.source_dest_check),
        instance: None,
        ride: None,
    };
    let body = render::created_eni(&world.config, &eni);
    world.add(now, eni);
    Ok(body)
}

fn security_groups(world: &World, params: &Params) -> Outcome<Vec<SecurityGroupId>> {
    let most = world.config.limits.security_groups_per_eni;
    let several = params.list("SecurityGroupIds", most)?;
    match (params.text("SecurityGroupId"), several.as_slice()) {
        (Some(_), [_, ..]) => Err(Refusal::conflicting(
            "SecurityGroupId",
            "SecurityGroupIds.N",
        )),
        (None, []) => Err(Refusal::missing("SecurityGroupId")),
        (Some(one), []) => world.security_groups(&[one]),
        (None, several) => world.security_groups(several),
    }
}

fn wanted_secondary(params: &Params) -> Outcome<Wanted> {
    let count = params.number("SecondaryPrivateIpAddressCount", 1..=SECONDARY_MAX)?;
    let named = params.addresses("PrivateIpAddress", NAMED_MAX)?;
    if count.is_some() && !named.is_empty() {
        let (one, other) = ("PrivateIpAddress.N", "SecondaryPrivateIpAddressCount");
        return Err(Refusal::conflicting(one, other));
    }
    let any = count.unwrap_or(0) as usize;
    Ok(Wanted { named, any })
}

/// Takes the primary and the secondary addresses, all or none.
fn take(
    world: &mut World,
    vswitch: &VSwitchId,
    primary: Option<Ipv4Addr>,
    mut wanted: Wanted,
) -> Outcome<(Ipv4Addr, BTreeSet<Ipv4Addr>)> {
    match primary {
        Some(address) if wanted.named.contains(&address) => {
            return Err(Refusal::address_twice(address));
        }
        Some(address) => wanted.named.push(address),
        None => wanted.any += 1,
    }
    let mut taken = world.take(vswitch, &wanted)?;
    let primary = primary.or_else(|| taken.pop());
    let primary = primary.ok_or_else(|| Refusal::vswitch_full(vswitch, 1, 0))?;
    taken.retain(|address| *address != primary);
    Ok((primary, taken.into_iter().collect()))
}
