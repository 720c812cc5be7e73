//! AuthorizeSecurityGroup, RevokeSecurityGroup, the same for egress, and DescribeSecurityGroupAttribute.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use model::{SecurityGroupId, Timestamp};
use serde_json::{Value, json};

use super::{Body, check_region};
use crate::{
    group::{Direction, KnownRule, Policy, Remote, Rule},
    iso,
    params::Params,
    refusal::{Outcome, Refusal},
    render,
    world::World,
};

/// Rules one call may name (ECS API, Permissions.N and SecurityGroupRuleId.N: 0 to 100).
const ROWS_MAX: usize = 100;
/// Words of `IpProtocol`, in capitals as answers have them, with numbers of IANA's list.
const PROTOCOLS: [(&str, Option<u8>); 6] = [
    ("TCP", Some(6)),
    ("UDP", Some(17)),
    ("ICMP", Some(1)),
    ("ICMPV6", Some(58)),
    ("GRE", Some(47)),
    ("ALL", None),
];
/// `PortRange` where the protocol has no ports, or all are meant.
const ANY_PORT: &str = "-1/-1";
const ALL_PORTS: RangeInclusive<u16> = 0..=u16::MAX;
const DIRECTIONS: [(&str, Option<Direction>); 3] = [
    ("ingress", Some(Direction::Inbound)),
    ("egress", Some(Direction::Outbound)),
    ("all", None),
];

/// The word that stands for the other end in names of parameters.
fn end(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "Source",
        Direction::Outbound => "Dest",
    }
}

pub(super) fn authorize_in(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    authorize(world, now, params, Direction::Inbound)
}

pub(super) fn authorize_out(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    authorize(world, now, params, Direction::Outbound)
}

pub(super) fn revoke_in(world: &mut World, _: Timestamp, params: &Params) -> Outcome<Body> {
    revoke(world, params, Direction::Inbound)
}

pub(super) fn revoke_out(world: &mut World, _: Timestamp, params: &Params) -> Outcome<Body> {
    revoke(world, params, Direction::Outbound)
}

fn authorize(
    world: &mut World,
    now: Timestamp,
    params: &Params,
    direction: Direction,
) -> Outcome<Body> {
    check_region(world, params)?;
    let id = world.group(params.required("SecurityGroupId")?)?.id.clone();
    let rules = rules(params, direction)?;
    world.authorize(now, &id, rules)?;
    Ok(Body::new())
}

fn revoke(world: &mut World, params: &Params, direction: Direction) -> Outcome<Body> {
    check_region(world, params)?;
    let group = world.group(params.required("SecurityGroupId")?)?;
    let ids = params.list("SecurityGroupRuleId", ROWS_MAX)?;
    let ours = |known: &&KnownRule| known.rule.direction == direction;
    for id in &ids {
        if !group.rules.iter().filter(ours).any(|known| known.id == *id) {
            return Err(Refusal::no_rule(direction, id));
        }
    }
    // The page: what no rule fits is not an error.
    let named = match ids.is_empty() {
        true => rules(params, direction)?,
        false => Vec::new(),
    };
    let goes = |known: &KnownRule| {
        ids.contains(&known.id.as_str()) || named.iter().any(|(rule, _)| *rule == known.rule)
    };
    let left = group
        .rules
        .iter()
        .filter(|known| !goes(known))
        .cloned()
        .collect();
    let id = group.id.clone();
    world.change_group(&id, |group| group.rules = left);
    Ok(Body::new())
}

/// The rules a call names: `Permissions.N`, or the older form, one without a prefix.
fn rules(params: &Params, direction: Direction) -> Outcome<Vec<(Rule, String)>> {
    let rows = params.rows("Permissions", ROWS_MAX)?;
    if rows.is_empty() {
        return Ok(vec![read(params, direction)?]);
    }
    rows.iter().map(|row| read(row, direction)).collect()
}

fn read(row: &Params, direction: Direction) -> Outcome<(Rule, String)> {
    let end = end(direction);
    let local = match direction {
        Direction::Inbound => ["DestCidrIp", "Ipv6DestCidrIp"],
        Direction::Outbound => ["SourceCidrIp", "Ipv6SourceCidrIp"],
    };
    row.refuse(&local)?;
    row.refuse(&["SourcePrefixListId", "DestPrefixListId", "PortRangeListId"])?;
    if row
        .text("SourcePortRange")
        .is_some_and(|range| range != ANY_PORT)
    {
        return Err(Refusal::unsupported("SourcePortRange"));
    }
    let word = row.required("IpProtocol")?.to_ascii_uppercase();
    let protocol = PROTOCOLS.iter().find(|(known, _)| *known == word);
    let (_, protocol) = protocol.ok_or_else(Refusal::bad_protocol)?;
    let policy = row.text("Policy").unwrap_or("accept").to_ascii_lowercase();
    let rule = Rule {
        direction,
        policy: match policy.as_str() {
            "accept" => Policy::Accept,
            "drop" => Policy::Drop,
            _ => return Err(Refusal::bad_policy()),
        },
        priority: match row.text("Priority").unwrap_or("1").parse() {
            Ok(priority @ 1..=100) => priority,
            _ => return Err(Refusal::bad_priority()),
        },
        protocol: *protocol,
        ports: ports(row.required("PortRange")?, *protocol)?,
        remote: remote(row, end)?,
    };
    Ok((rule, row.text("Description").unwrap_or_default().into()))
}

fn ports(range: &str, protocol: Option<u8>) -> Outcome<RangeInclusive<u16>> {
    let has_ports = matches!(protocol, Some(6 | 17));
    if range == ANY_PORT && !has_ports {
        return Ok(ALL_PORTS);
    }
    let ends = range.split_once('/');
    let ends = ends.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match ends {
        Some((from, to)) if has_ports && (1..=to).contains(&from) => Ok(from..=to),
        _ => Err(Refusal::bad_ports()),
    }
}

/// A network goes before a group, as the page of ModifySecurityGroupRule says.
fn remote(row: &Params, end: &str) -> Outcome<Remote> {
    for (name, v4) in [
        (format!("{end}CidrIp"), true),
        (format!("Ipv6{end}CidrIp"), false),
    ] {
        let Some(text) = row.text(&name) else {
            continue;
        };
        let net = text
            .parse()
            .or_else(|_| text.parse().map(|ip: std::net::IpAddr| ip.into()));
        let net: Option<IpNet> = net.ok().filter(|net: &IpNet| net.addr().is_ipv4() == v4);
        let net = net.ok_or_else(|| Refusal::bad_network(end == "Source", &name))?;
        return Ok(Remote::Net(net.trunc()));
    }
    let group = row.text(&format!("{end}GroupId"));
    let group = group.ok_or_else(|| Refusal::no_remote(end == "Source"))?;
    let id = SecurityGroupId::new(group).map_err(|_| Refusal::no_source_group(group))?;
    Ok(Remote::Group(id))
}

pub(super) fn describe(world: &mut World, _: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    params.refuse(&["MaxResults", "NextToken"])?;
    let direction = params.word("Direction", &DIRECTIONS)?.flatten();
    let group = world.group(params.required("SecurityGroupId")?)?;
    let shown = group
        .rules
        .iter()
        .filter(|known| direction.is_none_or(|wanted| wanted == known.rule.direction));
    Ok(render::object(json!({
        "SecurityGroupId": group.id,
        "SecurityGroupName": group.name,
        "Description": group.description,
        "RegionId": world.config.region,
        "VpcId": world.config.vpc,
        "InnerAccessPolicy": if group.inner_access { "Accept" } else { "Drop" },
        "Permissions": { "Permission": shown.map(row).collect::<Vec<_>>() },
    })))
}

fn row(known: &KnownRule) -> Value {
    let rule = &known.rule;
    let word = DIRECTIONS
        .iter()
        .find(|(_, is)| *is == Some(rule.direction));
    let protocol = PROTOCOLS
        .iter()
        .find(|(_, number)| *number == rule.protocol);
    let ports = match rule.ports == ALL_PORTS {
        true => ANY_PORT.to_owned(),
        false => format!("{}/{}", rule.ports.start(), rule.ports.end()),
    };
    let mut row = json!({
        "SecurityGroupRuleId": known.id,
        "Direction": word.map_or("", |(word, _)| word),
        "Policy": match rule.policy { Policy::Accept => "Accept", Policy::Drop => "Drop" },
        "Priority": rule.priority.to_string(),
        "IpProtocol": protocol.map_or("", |(word, _)| word),
        "PortRange": ports,
        "SourcePortRange": ANY_PORT,
        "NicType": "intranet",
        "Description": known.description,
        "CreateTime": iso::format(known.created),
    });
    for end in ["Source", "Dest"] {
        for member in [
            format!("{end}CidrIp"),
            format!("Ipv6{end}CidrIp"),
            format!("{end}GroupId"),
        ] {
            row[member] = "".into();
        }
    }
    let end = end(rule.direction);
    match &rule.remote {
        Remote::Net(net @ IpNet::V4(_)) => row[format!("{end}CidrIp")] = net.to_string().into(),
        Remote::Net(net) => row[format!("Ipv6{end}CidrIp")] = net.to_string().into(),
        Remote::Group(group) => row[format!("{end}GroupId")] = group.as_str().into(),
    }
    row
}
