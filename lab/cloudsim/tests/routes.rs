//! The route table: its calls, what these refuse, and what the fabric is told.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use cloudsim::Effect;
use serde_json::Value;
use support::{Lab, VPC, refusal, text};

const TABLE: (&str, &str) = ("RouteTableId", "vtb-bp1lab");

fn call(lab: &mut Lab, action: &str, params: &[(&str, &str)]) -> Result<Value, String> {
    let answer = lab.answer(VPC, action, params);
    match answer.status {
        200 => Ok(serde_json::from_str(&answer.body).unwrap()),
        _ => Err(refusal(&answer).1),
    }
}

fn create(lab: &mut Lab, to: &str, instance: &str) -> Result<String, String> {
    let params = [
        TABLE,
        ("DestinationCidrBlock", to),
        ("NextHopType", "Instance"),
        ("NextHopId", instance),
        ("RouteEntryName", "terway.c1"),
    ];
    call(lab, "CreateRouteEntry", &params).map(|body| text(&body["RouteEntryId"]))
}

fn entries(lab: &mut Lab, params: &[(&str, &str)]) -> (Vec<String>, String) {
    let mut all = vec![TABLE];
    all.extend(params);
    let body = call(lab, "DescribeRouteEntryList", &all).unwrap();
    let entries = body["RouteEntrys"]["RouteEntry"].as_array().unwrap();
    let shown = |entry: &Value| {
        let (to, status) = (text(&entry["DestinationCidrBlock"]), text(&entry["Status"]));
        format!("{to} {status}")
    };
    (
        entries.iter().map(shown).collect(),
        text(&body["NextToken"]),
    )
}

fn effects(lab: &mut Lab) -> Vec<String> {
    std::iter::from_fn(|| lab.region.poll_effect())
        .filter_map(|effect| match effect {
            Effect::Route { destination, eni } => Some(format!("{destination} to {eni}")),
            Effect::Unroute { destination } => Some(format!("{destination} to nobody")),
            _ => None,
        })
        .collect()
}

#[test]
fn an_entry_is_pending_then_available_then_gone() {
    let mut lab = Lab::new();
    let node = lab.instance("ecs.g7.xlarge", "vsw-bp1labh");
    let id = create(&mut lab, "172.16.1.0/24", node.id.as_str()).unwrap();
    assert_eq!(entries(&mut lab, &[]).0, ["172.16.1.0/24 Pending"]);
    assert!(effects(&mut lab).is_empty(), "no packet takes it yet");
    let unstable = Err("IncorrectRouteEntryStatus".into());
    assert_eq!(
        create(&mut lab, "172.16.2.0/24", node.id.as_str()),
        unstable
    );
    lab.pass(1);
    assert_eq!(entries(&mut lab, &[]).0, ["172.16.1.0/24 Available"]);
    assert_eq!(
        effects(&mut lab),
        [format!("172.16.1.0/24 to {}", node.primary_eni)]
    );
    call(&mut lab, "DeleteRouteEntry", &[("RouteEntryId", &id)]).unwrap();
    lab.pass(1);
    assert!(entries(&mut lab, &[]).0.is_empty());
    assert_eq!(effects(&mut lab), ["172.16.1.0/24 to nobody"]);
    let again = call(&mut lab, "DeleteRouteEntry", &[("RouteEntryId", &id)]);
    assert_eq!(again.unwrap_err(), "InvalidRouteEntry.NotFound");
}

#[test]
fn what_the_cloud_refuses_is_refused() {
    let mut lab = Lab::with(|config| {
        config.limits.routes = 1;
        config.timing.route = std::time::Duration::ZERO;
    });
    let node = lab.instance("ecs.g7.xlarge", "vsw-bp1labh").id;
    create(&mut lab, "172.16.1.0/24", node.as_str()).unwrap();
    for (to, instance, code) in [
        ("172.16.1.0/24", node.as_str(), "InvalidCIDRBlock.Duplicate"),
        ("172.16.2.0/24", node.as_str(), "QuotaExceeded"),
        ("172.16.2.0/24", "i-nobody", "InvalidNextHop.NotFound"),
        ("10.0.1.0/25", node.as_str(), "InvalidCidrBlock"),
        ("100.64.3.0/24", node.as_str(), "InvalidCidrBlock"),
    ] {
        assert_eq!(
            create(&mut lab, to, instance),
            Err(code.into()),
            "{to} {instance}"
        );
    }
    let other = [("RouteTableId", "vtb-other")];
    let refused = call(&mut lab, "DescribeRouteEntryList", &other).unwrap_err();
    assert_eq!(refused, "InvalidRouteTableId.NotFound");
}

#[test]
fn pages_show_every_entry_once_and_the_table_is_found_by_its_vpc() {
    let mut lab = Lab::with(|config| config.timing.route = std::time::Duration::ZERO);
    let node = lab.instance("ecs.g7.xlarge", "vsw-bp1labh").id;
    for number in 0..5 {
        create(&mut lab, &format!("172.16.{number}.0/24"), node.as_str()).unwrap();
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = entries(&mut lab, &[("MaxResult", "2"), ("NextToken", &token)]);
        seen.extend(page.0);
        token = page.1;
        if token.is_empty() {
            break;
        }
    }
    seen.sort();
    assert_eq!(seen.len(), 5, "{seen:?}");
    let find = |lab: &mut Lab, vpc: &str| {
        let params = [("VpcId", vpc), ("RouteTableType", "System")];
        let body = call(lab, "DescribeRouteTableList", &params).unwrap();
        body["RouterTableList"]["RouterTableListType"][0]["RouteTableId"].clone()
    };
    assert_eq!(find(&mut lab, "vpc-bp1lab"), "vtb-bp1lab");
    assert_eq!(find(&mut lab, "vpc-other"), Value::Null);
}
