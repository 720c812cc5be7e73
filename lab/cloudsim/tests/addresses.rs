//! Addresses: quotas, vSwitches that run out, assigning and unassigning.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use support::{Lab, code, text};

const GROUP: (&str, &str) = ("SecurityGroupId", "sg-bp1lab");
const ZONE_H: (&str, &str) = ("VSwitchId", "vsw-bp1labh");

fn free(lab: &mut Lab, vswitch: &str) -> u64 {
    let body = lab.ok("DescribeVSwitches", &[("VSwitchId", vswitch)]);
    body["VSwitches"]["VSwitch"][0]["AvailableIpAddressCount"]
        .as_u64()
        .unwrap()
}

#[test]
fn a_vswitch_runs_out_and_recovers() {
    let mut lab = Lab::with(|config| config.vswitches[0].cidr = "10.0.1.0/29".parse().unwrap());
    let eni = lab.create(&[("SecondaryPrivateIpAddressCount", "3")]);
    let more = [
        ("NetworkInterfaceId", eni.as_str()),
        ("SecondaryPrivateIpAddressCount", "1"),
    ];
    assert_eq!(
        lab.refused("AssignPrivateIpAddresses", &more),
        code(403, "InvalidVSwitchId.IpNotEnough")
    );
    assert_eq!(
        lab.refused("CreateNetworkInterface", &[ZONE_H, GROUP]),
        code(403, "InvalidVSwitchId.IpNotEnough")
    );
    lab.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    assert_eq!(free(&mut lab, "vsw-bp1labh"), 4);
}

/// A region whose first vSwitch keeps four prefixes.
fn with_prefixes() -> Lab {
    Lab::with(|config| config.vswitches[0].reserved = vec!["10.0.1.64/26".parse().unwrap()])
}

fn prefixes(list: &serde_json::Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(text).collect()
}

#[test]
fn a_prefix_takes_one_place_and_comes_from_a_reserved_block() {
    let mut lab = with_prefixes();
    let before = free(&mut lab, "vsw-bp1labh");
    let instance = lab.instance("ecs.g6.large", "vsw-bp1labh");
    let eni = instance.primary_eni.as_str();
    let assign = |what, count| [("NetworkInterfaceId", eni), (what, count)];
    let body = lab.ok("AssignPrivateIpAddresses", &assign("Ipv4PrefixCount", "3"));
    let set = &body["AssignedPrivateIpAddressesSet"];
    let given = prefixes(&set["Ipv4PrefixSet"]["Ipv4Prefixes"]);
    assert_eq!(given.len(), 3);
    assert!(
        set["PrivateIpSet"]["PrivateIpAddress"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        free(&mut lab, "vsw-bp1labh"),
        before - 1,
        "the primary address alone"
    );
    // Six places: the primary address, three prefixes, two more.
    let single = |count| assign("SecondaryPrivateIpAddressCount", count);
    let over = code(403, "InvalidOperation.Ipv4CountExceeded");
    assert_eq!(lab.refused("AssignPrivateIpAddresses", &single("3")), over);
    lab.ok("AssignPrivateIpAddresses", &single("1"));
    let more = assign("Ipv4PrefixCount", "2");
    assert_eq!(lab.refused("AssignPrivateIpAddresses", &more), over);
    let listed = lab.ok(
        "DescribeNetworkInterfaces",
        &[("NetworkInterfaceId.1", eni)],
    );
    let listed = &listed["NetworkInterfaceSets"]["NetworkInterfaceSet"][0];
    let listed = listed["Ipv4PrefixSets"]["Ipv4PrefixSet"]
        .as_array()
        .unwrap();
    let mut listed: Vec<String> = listed.iter().map(|it| text(&it["Ipv4Prefix"])).collect();
    let mut sorted = given.clone();
    sorted.sort();
    listed.sort();
    assert_eq!(listed, sorted);
    let back = [
        ("NetworkInterfaceId", eni),
        ("Ipv4Prefix.1", given[0].as_str()),
    ];
    lab.ok("UnassignPrivateIpAddresses", &back);
    assert_eq!(
        lab.refused("UnassignPrivateIpAddresses", &back),
        code(403, "InvalidIp.IpUnassigned")
    );
}

#[test]
fn reserved_blocks_run_out_and_a_create_is_all_or_nothing() {
    let mut lab = with_prefixes();
    let before = free(&mut lab, "vsw-bp1labh");
    let create = |count| [ZONE_H, GROUP, ("Ipv4PrefixCount", count)];
    let none_left = code(403, "InvalidVSwitchId.IpNotEnough");
    assert_eq!(
        lab.refused("CreateNetworkInterface", &create("5")),
        none_left
    );
    assert_eq!(free(&mut lab, "vsw-bp1labh"), before);
    let made = lab.ok("CreateNetworkInterface", &create("4"));
    assert_eq!(
        made["Ipv4PrefixSets"]["Ipv4PrefixSet"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert_eq!(
        lab.refused("CreateNetworkInterface", &create("1")),
        none_left
    );
    let eni = text(&made["NetworkInterfaceId"]);
    lab.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    lab.ok("CreateNetworkInterface", &create("4"));
}

#[test]
fn addresses_are_assigned_within_the_types_quota() {
    let mut lab = Lab::new();
    let instance = lab.instance("ecs.g6.large", "vsw-bp1labh");
    let eni = instance.primary_eni.as_str();
    let count = |count| {
        [
            ("NetworkInterfaceId", eni),
            ("SecondaryPrivateIpAddressCount", count),
        ]
    };
    assert_eq!(
        lab.refused("AssignPrivateIpAddresses", &count("6")),
        code(403, "InvalidOperation.Ipv4CountExceeded")
    );
    let body = lab.ok("AssignPrivateIpAddresses", &count("5"));
    let set = &body["AssignedPrivateIpAddressesSet"];
    assert_eq!(text(&set["NetworkInterfaceId"]), eni);
    let assigned: Vec<String> = set["PrivateIpSet"]["PrivateIpAddress"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    assert_eq!(assigned.len(), 5);
    assert_eq!(
        lab.refused("AssignPrivateIpAddresses", &count("1")),
        code(403, "InvalidOperation.Ipv4CountExceeded")
    );

    let primary = instance.primary_address.to_string();
    let address = |address| [("NetworkInterfaceId", eni), ("PrivateIpAddress.1", address)];
    assert_eq!(
        lab.refused("UnassignPrivateIpAddresses", &address(&primary)),
        code(400, "InvalidParameter")
    );
    let mixed = [
        address(&assigned[0])[0],
        address(&assigned[0])[1],
        ("PrivateIpAddress.2", "10.0.1.250"),
    ];
    if !assigned.contains(&"10.0.1.250".to_owned()) {
        assert_eq!(
            lab.refused("UnassignPrivateIpAddresses", &mixed),
            code(403, "InvalidIp.IpUnassigned")
        );
    }
    assert_eq!(free(&mut lab, "vsw-bp1labh"), 252 - 6, "all or none");
    lab.ok("UnassignPrivateIpAddresses", &address(&assigned[0]));
    assert_eq!(
        lab.refused("UnassignPrivateIpAddresses", &address(&assigned[0])),
        code(403, "InvalidIp.IpUnassigned")
    );
    assert_eq!(free(&mut lab, "vsw-bp1labh"), 252 - 5);
    assert_eq!(
        lab.refused("UnassignPrivateIpAddresses", &[("NetworkInterfaceId", eni)]),
        code(400, "MissingParameter")
    );
    assert_eq!(
        lab.refused("AssignPrivateIpAddresses", &[("NetworkInterfaceId", eni)]),
        code(400, "MissingParameter")
    );
}
