//! CreateSecurityGroup, DeleteSecurityGroup, ModifySecurityGroupPolicy, DescribeSecurityGroups.

use model::{SecurityGroupId, Timestamp};
use serde_json::{Value, json};

use super::{Body, check_region};
use crate::{
    group::{GroupKind, SecurityGroup},
    iso,
    params::Params,
    refusal::{Outcome, Refusal},
    render,
    world::World,
};

const KINDS: [(&str, GroupKind); 2] = [
    ("normal", GroupKind::Basic),
    ("enterprise", GroupKind::Advanced),
];
/// Entries a page (ECS API, DescribeSecurityGroups, PageSize: default 10, at most 50).
const PAGE_SIZE_DEFAULT: u32 = 10;
const PAGE_SIZE_MAX: u32 = 50;

pub(super) fn create(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    let vpc = params.required("VpcId")?;
    if vpc != world.config.vpc.as_str() {
        return Err(Refusal::no_vpc(vpc));
    }
    let kind = params
        .word("SecurityGroupType", &KINDS)?
        .unwrap_or(GroupKind::Basic);
    let id = SecurityGroupId::new(world.dice.id("sg")).map_err(|_| Refusal::internal())?;
    let mut group = SecurityGroup::new(id, kind, now);
    group.name = params.text("SecurityGroupName").unwrap_or_default().into();
    group.description = params.text("Description").unwrap_or_default().into();
    let body = render::object(json!({ "SecurityGroupId": group.id }));
    world.add_group(group);
    Ok(body)
}

pub(super) fn delete(world: &mut World, _: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    world.delete_group(params.required("SecurityGroupId")?)?;
    Ok(Body::new())
}

pub(super) fn policy(world: &mut World, _: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    let group = world.group(params.required("SecurityGroupId")?)?;
    let wanted = params.required("InnerAccessPolicy")?;
    if group.kind == GroupKind::Advanced {
        // Unconfirmed: which code it is. The page: the policy of an advanced group cannot be changed.
        return Err(Refusal::invalid(
            "SecurityGroupId",
            "a basic security group",
        ));
    }
    let wanted = wanted.to_ascii_lowercase();
    if !["accept", "drop"].contains(&wanted.as_str()) {
        return Err(Refusal::bad_policy());
    }
    let id = group.id.clone();
    world.change_group(&id, |group| group.inner_access = wanted == "accept");
    Ok(Body::new())
}

pub(super) fn empty() -> Body {
    page(1, PAGE_SIZE_DEFAULT, 0, Vec::new())
}

pub(super) fn describe(world: &mut World, _: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    params.refuse(&["MaxResults", "NextToken", "Tag"])?;
    let number = params.number("PageNumber", 1..=u32::MAX)?.unwrap_or(1);
    let size = params
        .number("PageSize", 1..=PAGE_SIZE_MAX)?
        .unwrap_or(PAGE_SIZE_DEFAULT);
    // The API takes a list of ids as the text of a JSON array.
    let ids: Option<Vec<String>> = match params.text("SecurityGroupIds") {
        Some(text) => Some(
            serde_json::from_str(text)
                .map_err(|_| Refusal::invalid("SecurityGroupIds", "a JSON array of ids"))?,
        ),
        None => None,
    };
    let kind = params.word("SecurityGroupType", &KINDS)?;
    let is = |name: &str, has: &str| params.text(name).is_none_or(|wanted| wanted == has);
    let fits = |group: &&SecurityGroup| {
        let named = |ids: &Vec<String>| ids.iter().any(|id| id == group.id.as_str());
        is("SecurityGroupId", group.id.as_str())
            && is("SecurityGroupName", &group.name)
            && is("VpcId", world.config.vpc.as_str())
            && ids.as_ref().is_none_or(named)
            && kind.is_none_or(|kind| kind == group.kind)
    };
    let all: Vec<&SecurityGroup> = world.groups.values().filter(fits).collect();
    let skipped = (number as usize - 1).saturating_mul(size as usize);
    let shown = all.iter().skip(skipped).take(size as usize);
    let shown = shown.map(|group| row(world, group)).collect();
    Ok(page(number, size, all.len(), shown))
}

fn page(number: u32, size: u32, total: usize, groups: Vec<Value>) -> Body {
    render::object(json!({
        "TotalCount": total,
        "PageNumber": number,
        "PageSize": size,
        "SecurityGroups": { "SecurityGroup": groups },
    }))
}

fn row(world: &World, group: &SecurityGroup) -> Value {
    let enis = world.enis.values();
    let members = enis.filter(|eni| eni.security_groups.contains(&group.id));
    let kind = KINDS.iter().find(|(_, kind)| *kind == group.kind);
    json!({
        "SecurityGroupId": group.id,
        "SecurityGroupName": group.name,
        "Description": group.description,
        "SecurityGroupType": kind.map_or("", |(word, _)| word),
        "VpcId": world.config.vpc,
        "RuleCount": group.rules.len(),
        "EcsCount": members.count(),
        "CreationTime": iso::format(group.created),
        "Tags": { "Tag": [] },
    })
}
