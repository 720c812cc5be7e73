//! CreateNetworkInterface, carried out and refused, and its ClientToken.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use cloudsim::Effect;
use support::{Lab, code};

const GROUP: (&str, &str) = ("SecurityGroupId", "sg-bp1lab");
const ZONE_H: (&str, &str) = ("VSwitchId", "vsw-bp1labh");

fn free(lab: &mut Lab, vswitch: &str) -> u64 {
    let body = lab.ok("DescribeVSwitches", &[("VSwitchId", vswitch)]);
    body["VSwitches"]["VSwitch"][0]["AvailableIpAddressCount"]
        .as_u64()
        .unwrap()
}

fn effects(lab: &mut Lab) -> Vec<Effect> {
    std::iter::from_fn(|| lab.region.poll_effect()).collect()
}

type Params = &'static [(&'static str, &'static str)];

const BAD_CREATES: [(Params, (u16, &str)); 14] = [
    (&[GROUP], (400, "MissingParameter")),
    (&[ZONE_H], (400, "MissingParameter")),
    (
        &[GROUP, ("VSwitchId", "vsw-none")],
        (404, "InvalidVSwitchId.NotFound"),
    ),
    (
        &[ZONE_H, ("SecurityGroupId", "sg-none")],
        (404, "InvalidSecurityGroupId.NotFound"),
    ),
    (
        &[ZONE_H, GROUP, ("SecurityGroupIds.1", "sg-bp1lab")],
        (400, "InvalidParameter.Conflict"),
    ),
    (
        &[ZONE_H, GROUP, ("SecondaryPrivateIpAddressCount", "50")],
        (400, "InvalidParameter"),
    ),
    (
        &[ZONE_H, GROUP, ("SecondaryPrivateIpAddressCount", "0")],
        (400, "InvalidParameter"),
    ),
    (
        &[ZONE_H, GROUP, ("PrimaryIpAddress", "10.0.1.253")],
        (403, "InvalidVSwitchId.IpInvalid"),
    ),
    (
        &[ZONE_H, GROUP, ("PrimaryIpAddress", "10.0.2.1")],
        (403, "InvalidVSwitchId.IpInvalid"),
    ),
    (
        &[ZONE_H, GROUP, ("PrimaryIpAddress", "ten")],
        (400, "InvalidParameter"),
    ),
    (
        &[
            ZONE_H,
            GROUP,
            ("PrivateIpAddress.1", "10.0.1.9"),
            ("PrivateIpAddress.2", "10.0.1.9"),
        ],
        (403, "InvalidIp.IpRepeated"),
    ),
    (
        &[ZONE_H, GROUP, ("Ipv6AddressCount", "1")],
        (400, "UnsupportedParameter"),
    ),
    (
        &[ZONE_H, GROUP, ("InstanceType", "Member")],
        (400, "InvalidParameter"),
    ),
    (
        &[ZONE_H, GROUP, ("RegionId", "cn-nowhere")],
        (404, "InvalidRegionId.NotFound"),
    ),
];

#[test]
fn create_refuses_what_the_cloud_refuses() {
    let mut lab = Lab::new();
    for (params, (status, code)) in BAD_CREATES {
        assert_eq!(
            lab.refused("CreateNetworkInterface", params),
            support::code(status, code),
            "{params:?}"
        );
    }
    assert_eq!(
        free(&mut lab, "vsw-bp1labh"),
        252,
        "a refused call takes no address"
    );
    assert!(effects(&mut lab).is_empty());
}

#[test]
fn create_takes_named_addresses_and_no_address_twice() {
    let mut lab = Lab::new();
    let named = [
        ("PrimaryIpAddress", "10.0.1.7"),
        ("PrivateIpAddress.1", "10.0.1.8"),
    ];
    lab.create(&named);
    assert_eq!(free(&mut lab, "vsw-bp1labh"), 250);
    let again = [ZONE_H, GROUP, ("PrimaryIpAddress", "10.0.1.8")];
    assert_eq!(
        lab.refused("CreateNetworkInterface", &again),
        code(403, "InvalidIp.IpAssigned")
    );
}

#[test]
fn the_accounts_eni_quota_holds() {
    let mut lab = Lab::with(|config| config.limits.enis = 1);
    lab.instance("ecs.g6.large", "vsw-bp1labh");
    lab.create(&[]);
    assert_eq!(
        lab.refused("CreateNetworkInterface", &[ZONE_H, GROUP]),
        code(403, "MaxEniCountExceeded")
    );
}

#[test]
fn a_client_token_makes_one_eni() {
    let mut lab = Lab::new();
    let params = [ZONE_H, GROUP, ("ClientToken", "intent-1")];
    let first = lab.ok("CreateNetworkInterface", &params);
    let mut second = lab.ok("CreateNetworkInterface", &params);
    assert_ne!(
        first["RequestId"], second["RequestId"],
        "each call has its own RequestId"
    );
    second["RequestId"] = first["RequestId"].clone();
    assert_eq!(first, second);
    assert_eq!(lab.describe(&[]).len(), 1);
    let other = [
        ZONE_H,
        GROUP,
        ("ClientToken", "intent-1"),
        ("SecondaryPrivateIpAddressCount", "1"),
    ];
    assert_eq!(
        lab.refused("CreateNetworkInterface", &other),
        code(400, "IdempotentParameterMismatch")
    );
    let long = "x".repeat(65);
    let long = [ZONE_H, GROUP, ("ClientToken", long.as_str())];
    assert_eq!(
        lab.refused("CreateNetworkInterface", &long),
        code(400, "InvalidParameter")
    );
}

#[test]
fn a_refused_call_leaves_its_client_token_free() {
    let mut lab = Lab::new();
    let bad = [
        ("VSwitchId", "vsw-none"),
        GROUP,
        ("ClientToken", "intent-2"),
    ];
    assert_eq!(lab.refused("CreateNetworkInterface", &bad).0, 404);
    lab.create(&[("ClientToken", "intent-2")]);
}
