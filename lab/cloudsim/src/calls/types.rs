//! DescribeInstanceTypes.

use model::Timestamp;
use serde_json::{Value, json};

use super::Body;
use crate::{
    instance_types::{InstanceType, instance_types},
    params::Params,
    refusal::{Outcome, Refusal},
    render,
    world::World,
};

/// Types and families one call may name (ECS API: "Array length: 1 to 10").
const NAMES_MAX: usize = 10;
/// Entries a page (ECS API, MaxResults: at most and by default 1600).
const PAGE_MAX: u32 = 1600;

pub(super) fn empty() -> Body {
    render::object(json!({ "NextToken": "", "InstanceTypes": { "InstanceType": [] } }))
}

pub(super) fn describe(_: &mut World, _: Timestamp, params: &Params) -> Outcome<Body> {
    let ids = params.list("InstanceTypes", NAMES_MAX)?;
    let mut families = params.list("InstanceTypeFamilies", NAMES_MAX)?;
    families.extend(params.text("InstanceTypeFamily"));
    let most = params
        .number("MaxResults", 1..=PAGE_MAX)?
        .unwrap_or(PAGE_MAX) as usize;
    let from = match params.text("NextToken") {
        None => 0,
        Some(token) => token
            .parse()
            .ok()
            .filter(|from| *from < instance_types().len())
            .ok_or_else(|| Refusal::invalid("NextToken", "the NextToken of an earlier answer"))?,
    };
    let fits = |row: &&InstanceType| {
        (ids.is_empty() || ids.contains(&row.id))
            && (families.is_empty() || families.contains(&row.family))
    };
    // The table never changes, so its index is a token that holds between calls.
    let mut rest = instance_types()
        .iter()
        .enumerate()
        .skip(from)
        .filter(|(_, row)| fits(row));
    let page: Vec<Value> = rest
        .by_ref()
        .take(most)
        .map(|(_, row)| render::instance_type(row))
        .collect();
    let next = rest
        .next()
        .map_or(String::new(), |(index, _)| index.to_string());
    Ok(render::object(json!({
        "NextToken": next,
        "InstanceTypes": { "InstanceType": page },
    })))
}
