//! Instance metadata: paths, session tokens, what it shows and when.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use std::time::Duration;

use cloudsim::{Instance, MetadataRequest, MetadataTokens};
use support::Lab;

fn get(lab: &mut Lab, instance: &Instance, path: &str) -> (u16, String) {
    let request = MetadataRequest::get(format!("/latest/meta-data/{path}"));
    let answer = lab.region.metadata(lab.now, &instance.id, &request);
    (answer.status, answer.body)
}

fn put(lab: &mut Lab, instance: &Instance, ttl: Option<&str>) -> (u16, String) {
    let request = MetadataRequest {
        method: "PUT".into(),
        path: "/latest/api/token".into(),
        token: None,
        token_ttl: ttl.map(str::to_owned),
    };
    let answer = lab.region.metadata(lab.now, &instance.id, &request);
    (answer.status, answer.body)
}

#[test]
fn an_instance_reads_itself() {
    let mut lab = Lab::new();
    let instance = lab.instance("ecs.g7.xlarge", "vsw-bp1labh");
    let (mac, address) = (
        instance.primary_mac.to_string(),
        instance.primary_address.to_string(),
    );
    let of_mac = |leaf: &str| format!("network/interfaces/macs/{mac}/{leaf}");
    for (path, expected) in [
        ("instance-id".to_owned(), instance.id.to_string()),
        ("instance/instance-type".into(), "ecs.g7.xlarge".into()),
        ("region-id".into(), "cn-hangzhou".into()),
        ("zone-id".into(), "cn-hangzhou-h".into()),
        ("vpc-id".into(), "vpc-bp1lab".into()),
        ("vpc-cidr-block".into(), "10.0.0.0/16".into()),
        ("vswitch-id".into(), "vsw-bp1labh".into()),
        ("mac".into(), mac.clone()),
        ("network/interfaces/macs/".into(), format!("{mac}/")),
        (
            of_mac("network-interface-id"),
            instance.primary_eni.to_string(),
        ),
        (of_mac("primary-ip-address"), address.clone()),
        (of_mac("private-ipv4s"), format!("[\"{address}\"]")),
        (of_mac("ipv4-prefixes"), "[]".into()),
        (of_mac("gateway"), "10.0.1.253".into()),
        (of_mac("netmask"), "255.255.255.0".into()),
        (of_mac("vswitch-id"), "vsw-bp1labh".into()),
        (of_mac("vswitch-cidr-block"), "10.0.1.0/24".into()),
        ("ram/security-credentials/".into(), "terway-node".into()),
    ] {
        assert_eq!(get(&mut lab, &instance, &path), (200, expected), "{path}");
    }
    for absent in [
        "no-such",
        "ipv6s",
        "instance-id/x",
        "ram/security-credentials/other",
    ] {
        assert_eq!(get(&mut lab, &instance, absent).0, 404, "{absent}");
    }
    let foreign = MetadataRequest::get("/latest/user-data");
    assert_eq!(
        lab.region.metadata(lab.now, &instance.id, &foreign).status,
        404
    );
}

#[test]
fn an_instance_never_reads_another() {
    let mut lab = Lab::new();
    let (one, other) = (
        lab.instance("ecs.g6.large", "vsw-bp1labh"),
        lab.instance("ecs.g6.large", "vsw-bp1labh"),
    );
    let path = format!(
        "network/interfaces/macs/{}/private-ipv4s",
        other.primary_mac
    );
    assert_eq!(get(&mut lab, &one, &path).0, 404);
    let (_, token) = put(&mut lab, &other, Some("60"));
    let mut request = MetadataRequest::get("/latest/meta-data/mac");
    request.token = Some(token);
    assert_eq!(
        lab.region.metadata(lab.now, &one.id, &request).status,
        401,
        "another's session token"
    );
}

#[test]
fn session_tokens_are_asked_for_and_end() {
    let mut lab = Lab::with(|config| config.metadata_tokens = MetadataTokens::Required);
    let instance = lab.instance("ecs.g6.large", "vsw-bp1labh");
    assert_eq!(get(&mut lab, &instance, "mac").0, 403);
    for bad in [None, Some("0"), Some("21601"), Some("soon")] {
        assert_eq!(put(&mut lab, &instance, bad).0, 400, "{bad:?}");
    }
    let (status, token) = put(&mut lab, &instance, Some("60"));
    assert_eq!(status, 200);
    let mut request = MetadataRequest::get("/latest/meta-data/mac");
    request.token = Some(token);
    assert_eq!(
        lab.region.metadata(lab.now, &instance.id, &request).status,
        200
    );
    lab.pass(60);
    assert_eq!(
        lab.region.metadata(lab.now, &instance.id, &request).status,
        401
    );
}

#[test]
fn only_attached_enis_are_shown() {
    let mut lab = Lab::new();
    let instance = lab.instance("ecs.g7.xlarge", "vsw-bp1labh");
    let eni = lab.create(&[("SecondaryPrivateIpAddressCount", "2")]);
    let place = [
        ("NetworkInterfaceId", eni.as_str()),
        ("InstanceId", instance.id.as_str()),
    ];
    let shown = |lab: &mut Lab| {
        get(lab, &instance, "network/interfaces/macs/")
            .1
            .lines()
            .count()
    };
    lab.ok("AttachNetworkInterface", &place);
    assert_eq!(shown(&mut lab), 1);
    lab.pass(1);
    assert_eq!(shown(&mut lab), 2);
    lab.ok("DetachNetworkInterface", &place);
    lab.pass(1);
    assert_eq!(shown(&mut lab), 1);
}

#[test]
fn metadata_and_describe_trail_by_their_own_lags() {
    let mut lab = Lab::with(|config| {
        config.timing.metadata_lag = Duration::from_secs(3);
        config.timing.describe_lag = Duration::from_secs(2);
    });
    let instance = lab.instance("ecs.g7.xlarge", "vsw-bp1labh");
    lab.pass(10);
    let eni = instance.primary_eni.as_str();
    lab.ok(
        "AssignPrivateIpAddresses",
        &[
            ("NetworkInterfaceId", eni),
            ("SecondaryPrivateIpAddressCount", "1"),
        ],
    );
    let path = format!(
        "network/interfaces/macs/{}/private-ipv4s",
        instance.primary_mac
    );
    let mut seen = Vec::new();
    for _ in 0..4 {
        let described = lab.describe(&[("NetworkInterfaceId.1", eni)]);
        let described = described[0]["PrivateIpSets"]["PrivateIpSet"]
            .as_array()
            .unwrap()
            .len();
        let metadata: Vec<String> =
            serde_json::from_str(&get(&mut lab, &instance, &path).1).unwrap();
        seen.push((described, metadata.len()));
        lab.pass(1);
    }
    assert_eq!(seen, [(1, 1), (1, 1), (2, 1), (2, 2)]);
    let secondary = lab.create(&[]);
    lab.pass(5);
    lab.ok(
        "DeleteNetworkInterface",
        &[("NetworkInterfaceId", &secondary)],
    );
    assert_eq!(
        lab.status(&secondary),
        "Available",
        "a deleted ENI is still described for a while"
    );
    lab.pass(2);
    assert_eq!(lab.status(&secondary), "absent");
}
