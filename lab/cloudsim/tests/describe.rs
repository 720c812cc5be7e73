//! What the Describe calls show: filters and paging.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use support::{Lab, code, text};

type Param<'a> = (&'a str, &'a str);

#[test]
fn describe_filters_by_everything_it_names() {
    let mut lab = Lab::new();
    let instance = lab.instance("ecs.g7.xlarge", "vsw-bp1labh");
    let tagged = lab.create(&[("Tag.1.Key", "creator"), ("Tag.1.Value", "terway")]);
    let far = lab.create(&[
        ("VSwitchId", "vsw-bp1labi"),
        ("PrimaryIpAddress", "10.0.2.9"),
    ]);
    let own = instance.primary_eni.to_string();
    let id = instance.id.to_string();
    let cases: [(&[Param<'_>], &[&String]); 12] = [
        (
            &[
                ("NetworkInterfaceId.1", &far),
                ("NetworkInterfaceId.2", "eni-none"),
            ],
            &[&far],
        ),
        (&[("InstanceId", &id)], &[&own]),
        (&[("Type", "Primary")], &[&own]),
        (
            &[("Status", "Available"), ("VSwitchId", "vsw-bp1labh")],
            &[&tagged],
        ),
        (&[("VSwitchId", "vsw-bp1labi")], &[&far]),
        (
            &[("Tag.1.Key", "creator"), ("Tag.1.Value", "terway")],
            &[&tagged],
        ),
        (&[("Tag.1.Key", "creator")], &[&tagged]),
        (&[("Tag.1.Key", "creator"), ("Tag.1.Value", "other")], &[]),
        (&[("PrivateIpAddress.1", "10.0.2.9")], &[&far]),
        (&[("PrimaryIpAddress", "10.0.2.9")], &[&far]),
        (&[("VpcId", "vpc-other")], &[]),
        (&[("SecurityGroupId", "sg-other")], &[]),
    ];
    for (params, expected) in cases {
        let shown: Vec<String> = lab
            .describe(params)
            .iter()
            .map(|eni| text(&eni["NetworkInterfaceId"]))
            .collect();
        assert_eq!(shown.iter().collect::<Vec<_>>(), expected, "{params:?}");
    }
    assert_eq!(
        lab.refused("DescribeNetworkInterfaces", &[("Status", "Dead")]),
        code(400, "InvalidParameter")
    );
    let many: Vec<(String, String)> = (1..=101)
        .map(|n| (format!("NetworkInterfaceId.{n}"), format!("eni-{n}")))
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        lab.refused("DescribeNetworkInterfaces", &many),
        code(400, "InvalidParameter")
    );
}

#[test]
fn both_styles_of_paging_show_every_eni_once() {
    let mut lab = Lab::new();
    let mut made: Vec<String> = (0..25).map(|_| lab.create(&[])).collect();
    made.sort();
    let ids = |body: &serde_json::Value| -> Vec<String> {
        let set = body["NetworkInterfaceSets"]["NetworkInterfaceSet"]
            .as_array()
            .unwrap();
        set.iter()
            .map(|eni| text(&eni["NetworkInterfaceId"]))
            .collect()
    };
    let (mut shown, mut token) = (Vec::new(), String::new());
    loop {
        let body = lab.ok(
            "DescribeNetworkInterfaces",
            &[("MaxResults", "10"), ("NextToken", &token)],
        );
        shown.extend(ids(&body));
        token = text(&body["NextToken"]);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(shown, made);
    let mut shown = Vec::new();
    for page in ["1", "2", "3", "4"] {
        let body = lab.ok(
            "DescribeNetworkInterfaces",
            &[("PageSize", "10"), ("PageNumber", page)],
        );
        assert_eq!(body["TotalCount"], 25);
        shown.extend(ids(&body));
    }
    assert_eq!(shown, made);
    let tiny = lab.ok("DescribeNetworkInterfaces", &[("MaxResults", "1")]);
    assert_eq!(ids(&tiny).len(), 10, "MaxResults below 10 counts as 10");
    let foreign = lab.refused("DescribeNetworkInterfaces", &[("NextToken", "!")]);
    assert_eq!(foreign, code(400, "InvalidParameter"));
}

#[test]
fn catalogues_page_and_filter() {
    let mut lab = Lab::new();
    let names = |body: &serde_json::Value| -> Vec<String> {
        let rows = body["InstanceTypes"]["InstanceType"].as_array().unwrap();
        rows.iter()
            .map(|row| text(&row["InstanceTypeId"]))
            .collect()
    };
    let all = names(&lab.ok("DescribeInstanceTypes", &[]));
    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let body = lab.ok(
            "DescribeInstanceTypes",
            &[("MaxResults", "3"), ("NextToken", &token)],
        );
        paged.extend(names(&body));
        token = text(&body["NextToken"]);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);
    let one = lab.ok(
        "DescribeInstanceTypes",
        &[
            ("InstanceTypes.1", "ecs.g6.large"),
            ("InstanceTypes.2", "ecs.none"),
        ],
    );
    assert_eq!(names(&one), ["ecs.g6.large"]);
    assert_eq!(
        lab.ok("DescribeVSwitches", &[("ZoneId", "cn-hangzhou-i")])["TotalCount"],
        1
    );
    assert_eq!(
        lab.ok("DescribeVSwitches", &[("VSwitchId", "vsw-none")])["TotalCount"],
        0
    );
    assert_eq!(
        lab.refused("DescribeVSwitches", &[("PageSize", "51")]),
        code(400, "InvalidParameter")
    );
    assert_eq!(
        lab.refused("DescribeVSwitches", &[("RegionId", "")]),
        code(400, "MissingParameter")
    );
}
