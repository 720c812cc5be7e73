//! CreateRouteEntry, DeleteRouteEntry, DescribeRouteEntryList and DescribeRouteTableList, calls of the VPC
//! product.

use ipnet::Ipv4Net;
use model::Timestamp;
use serde_json::{Value, json};

use super::{Body, check_region};
use crate::{
    params::Params,
    refusal::{Outcome, Refusal},
    render,
    world::{NewRoute, ROUTE_TABLE, Route, RouteStatus, World},
};

/// Entries a page (VPC API, MaxResult: 1 to 100, default 10).
const PAGE: std::ops::RangeInclusive<u32> = 1..=100;
const PAGE_DEFAULT: u32 = 10;
/// Characters of a name and of a description (VPC API).
const NAME_MAX: usize = 128;
const DESCRIPTION_MAX: usize = 256;

const NOT_OFFERED: [&str; 3] = ["DryRun", "NextHopList.1.NextHopId", "ServiceType"];

pub(super) fn no_entries() -> Body {
    render::object(json!({ "TotalCount": 0, "NextToken": "", "RouteEntrys": { "RouteEntry": [] } }))
}

pub(super) fn no_tables() -> Body {
    render::object(json!({
        "TotalCount": 0,
        "PageNumber": 1,
        "PageSize": PAGE_DEFAULT,
        "RouterTableList": { "RouterTableListType": [] },
    }))
}

pub(super) fn create(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    params.refuse(&NOT_OFFERED)?;
    check_table(params.required("RouteTableId")?)?;
    let destination = params.required("DestinationCidrBlock")?;
    let block: Option<Ipv4Net> = destination.parse().ok();
    let destination = block.ok_or_else(|| Refusal::bad_destination(destination))?;
    // Other next hops exist; this region has only instances.
    params.word("NextHopType", &[("Instance", ())])?;
    let text = |name: &'static str, most: usize| {
        let text = params.text(name).unwrap_or_default();
        let url = text.starts_with("http://") || text.starts_with("https://");
        match text.chars().count() <= most && !url {
            true => Ok(text),
            false => Err(Refusal::invalid(
                name,
                format!("at most {most} characters, no URL"),
            )),
        }
    };
    let new = NewRoute {
        destination,
        instance: params.required("NextHopId")?,
        name: text("RouteEntryName", NAME_MAX)?,
        description: text("Description", DESCRIPTION_MAX)?,
    };
    let id = world.create_route(now, &new)?;
    Ok(render::object(json!({ "RouteEntryId": id })))
}

/// By its id, or by table, destination and next hop.
pub(super) fn delete(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    params.refuse(&NOT_OFFERED)?;
    let id = match (
        params.text("RouteEntryId"),
        params.text("DestinationCidrBlock"),
    ) {
        (Some(_), Some(_)) => {
            return Err(Refusal::conflicting("RouteEntryId", "DestinationCidrBlock"));
        }
        (Some(id), None) => id.to_owned(),
        (None, _) => {
            check_table(params.required("RouteTableId")?)?;
            let destination = params.required("DestinationCidrBlock")?;
            let hop = params.text("NextHopId");
            let found = world.routes.values().find(|route| {
                route.destination.to_string() == destination
                    && hop.is_none_or(|hop| route.instance.as_str() == hop)
            });
            let found = found.map(|route| route.id.to_string());
            found.ok_or_else(|| Refusal::no_route(destination))?
        }
    };
    world.delete_route(now, &id)?;
    Ok(Body::new())
}

pub(super) fn describe(world: &mut World, _: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    check_table(params.required("RouteTableId")?)?;
    let size = params.number("MaxResult", PAGE)?.unwrap_or(PAGE_DEFAULT) as usize;
    let is = |name: &str, has: &str| params.text(name).is_none_or(|wanted| wanted == has);
    let fits = |route: &&Route| {
        is("RouteEntryId", route.id.as_str())
            && is("RouteEntryName", &route.name)
            && is("DestinationCidrBlock", &route.destination.to_string())
            && is("NextHopId", route.instance.as_str())
            && is("NextHopType", "Instance")
            && is("RouteEntryType", "Custom")
    };
    let all: Vec<&Route> = world.routes.values().filter(fits).collect();
    // A page goes on behind the last entry it showed.
    let from = params.text("NextToken");
    let left = all
        .iter()
        .filter(|route| from.is_none_or(|from| route.id.as_str() > from));
    let page: Vec<&&Route> = left.clone().take(size).collect();
    let next = page.last().filter(|_| left.count() > size);
    Ok(render::object(json!({
        "TotalCount": all.len(),
        "NextToken": next.map_or("", |route| route.id.as_str()),
        "RouteEntrys": { "RouteEntry": page.iter().map(|route| entry(route)).collect::<Vec<_>>() },
    })))
}

fn entry(route: &Route) -> Value {
    json!({
        "RouteEntryId": route.id,
        "RouteEntryName": route.name,
        "Description": route.description,
        "RouteTableId": ROUTE_TABLE,
        "DestinationCidrBlock": route.destination,
        "IpVersion": "IPv4",
        "Type": "Custom",
        "Status": match route.status {
            RouteStatus::Available => "Available",
            RouteStatus::Pending | RouteStatus::Leaving => "Pending",
        },
        "NextHops": { "NextHop": [{
            "Enabled": 1,
            "NextHopId": route.instance,
            "NextHopType": "Instance",
            "NextHopRegionId": "",
            "Weight": 0,
        }] },
    })
}

pub(super) fn tables(world: &mut World, _: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    let is = |name: &str, has: &str| params.text(name).is_none_or(|wanted| wanted == has);
    let fits = is("VpcId", world.config.vpc.as_str())
        && is("RouteTableId", ROUTE_TABLE)
        && is("RouteTableType", "System");
    if !fits {
        return Ok(no_tables());
    }
    let vswitches: Vec<&str> = world.vswitches.keys().map(|id| id.as_str()).collect();
    Ok(render::object(json!({
        "TotalCount": 1,
        "PageNumber": 1,
        "PageSize": params.number("PageSize", 1..=50)?.unwrap_or(PAGE_DEFAULT),
        "RouterTableList": { "RouterTableListType": [{
            "RouteTableId": ROUTE_TABLE,
            "RouteTableName": "",
            "RouteTableType": "System",
            "RouterType": "VRouter",
            "RouterId": "vrt-bp1lab",
            "AssociateType": "VSwitch",
            "VpcId": world.config.vpc,
            "VSwitchIds": { "VSwitchId": vswitches },
            "Status": "Available",
            "OwnerId": world.config.owner,
            "Tags": { "Tag": [] },
        }] },
    })))
}

fn check_table(id: &str) -> Outcome<()> {
    match id == ROUTE_TABLE {
        true => Ok(()),
        false => Err(Refusal::no_route_table(id)),
    }
}
