//! Whole answers against the files in `golden/`.
//!
//! Field names and nesting come from the generated models of the official SDKs (PyPI
//! `alibabacloud-ecs20140526` 7.11.8, `alibabacloud-vpc20160428` 7.2.2), the error document from the
//! API pages. Set `UPDATE_GOLDEN=1` to write the files anew, then read the difference.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use std::{fs, path::PathBuf};

use serde_json::Value;
use support::{ECS, Lab, VPC};

fn golden(name: &str, answer: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.json"));
    let answer: Value = serde_json::from_str(answer).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(&answer).unwrap();
        fs::write(&path, format!("{text}\n")).unwrap();
    }
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let expected: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        answer,
        expected,
        "{} differs from the answer",
        path.display()
    );
}

#[test]
fn answers_have_the_clouds_shape() {
    let mut lab = Lab::new();
    let instance = lab.instance("ecs.g7.xlarge", "vsw-bp1labh");
    let create = [
        ("VSwitchId", "vsw-bp1labh"),
        ("SecurityGroupIds.1", "sg-bp1lab"),
        ("SecondaryPrivateIpAddressCount", "1"),
        ("NetworkInterfaceName", "pool-1"),
        ("Description", "interface create by terway"),
        ("Tag.1.Key", "creator"),
        ("Tag.1.Value", "terway"),
        ("ClientToken", "intent-1"),
    ];
    let made = lab.answer(ECS, "CreateNetworkInterface", &create);
    golden("create_network_interface", &made.body);
    let made: Value = serde_json::from_str(&made.body).unwrap();
    let eni = support::text(&made["NetworkInterfaceId"]);
    let id = ("NetworkInterfaceId", eni.as_str());
    let place = [id, ("InstanceId", instance.id.as_str())];
    let one = [
        ("NetworkInterfaceId.1", eni.as_str()),
        ("MaxResults", "500"),
    ];

    golden(
        "describe_available",
        &lab.answer(ECS, "DescribeNetworkInterfaces", &one).body,
    );
    golden(
        "attach_network_interface",
        &lab.answer(ECS, "AttachNetworkInterface", &place).body,
    );
    lab.pass(1);
    golden(
        "describe_in_use",
        &lab.answer(ECS, "DescribeNetworkInterfaces", &one).body,
    );
    let assign = [id, ("SecondaryPrivateIpAddressCount", "2")];
    golden(
        "assign_private_ip_addresses",
        &lab.answer(ECS, "AssignPrivateIpAddresses", &assign).body,
    );
    golden(
        "delete_in_use",
        &lab.answer(ECS, "DeleteNetworkInterface", &[id]).body,
    );
    let types = [("InstanceTypes.1", "ecs.g7.xlarge")];
    golden(
        "describe_instance_types",
        &lab.answer(ECS, "DescribeInstanceTypes", &types).body,
    );
    let vswitch = [("VSwitchId", "vsw-bp1labh")];
    golden(
        "describe_v_switches",
        &lab.answer(VPC, "DescribeVSwitches", &vswitch).body,
    );
    let mut all = [("PageNumber", "1"), ("PageSize", "1"), ("Type", "Primary")];
    golden(
        "describe_primary",
        &lab.answer(ECS, "DescribeNetworkInterfaces", &all).body,
    );
    all[2] = ("Type", "Member");
    golden(
        "describe_none",
        &lab.answer(ECS, "DescribeNetworkInterfaces", &all).body,
    );
}
