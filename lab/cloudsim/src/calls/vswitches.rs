//! DescribeVSwitches, a call of the VPC product.

use model::Timestamp;
use serde_json::{Value, json};

use super::{Body, check_region};
use crate::{
    params::Params,
    refusal::{Outcome, Refusal},
    render,
    vswitch::VSwitch,
    world::World,
};

/// Entries a page (VPC API, PageSize: default 10, at most 50).
const PAGE_SIZE_DEFAULT: u32 = 10;
const PAGE_SIZE_MAX: u32 = 50;

pub(super) fn empty() -> Body {
    render::object(json!({
        "TotalCount": 0,
        "PageNumber": 1,
        "PageSize": PAGE_SIZE_DEFAULT,
        "VSwitches": { "VSwitch": [] },
    }))
}

pub(super) fn describe(world: &mut World, _: Timestamp, params: &Params) -> Outcome<Body> {
    // The API page: at least one of RegionId and VpcId.
    match (params.text("RegionId"), params.text("VpcId")) {
        (None, None) => return Err(Refusal::missing("RegionId")),
        (Some(_), _) => check_region(world, params)?,
        (None, Some(_)) => {}
    }
    let number = params.number("PageNumber", 1..=u32::MAX)?.unwrap_or(1);
    let size = params
        .number("PageSize", 1..=PAGE_SIZE_MAX)?
        .unwrap_or(PAGE_SIZE_DEFAULT);
    let is = |name: &str, has: &str| params.text(name).is_none_or(|wanted| wanted == has);
    let fits = |vswitch: &&VSwitch| {
        let spec = &vswitch.spec;
        is("VSwitchId", spec.id.as_str())
            && is("VSwitchName", &spec.name)
            && is("ZoneId", spec.zone.as_str())
            && is("VpcId", world.config.vpc.as_str())
    };
    let shown: Vec<&VSwitch> = world.vswitches.values().filter(fits).collect();
    let page: Vec<Value> = shown
        .iter()
        .skip((number as usize - 1).saturating_mul(size as usize))
        .take(size as usize)
        .map(|vswitch| render::vswitch(&world.config, vswitch, world.free(vswitch)))
        .collect();
    Ok(render::object(json!({
        "TotalCount": shown.len(),
        "PageNumber": number,
        "PageSize": size,
        "VSwitches": { "VSwitch": page },
    })))
}
