//! Security groups: their calls, what these refuse, and what the fabric is told.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use cloudsim::Effect;
use serde_json::{Value, json};
use support::{Lab, code, text};

/// A group of a kind, by its id.
fn group(lab: &mut Lab, kind: &str) -> String {
    let named = [("VpcId", "vpc-bp1lab"), ("SecurityGroupType", kind)];
    text(&lab.ok("CreateSecurityGroup", &named)["SecurityGroupId"])
}

fn rules(lab: &mut Lab, group: &str) -> Vec<Value> {
    let body = lab.ok(
        "DescribeSecurityGroupAttribute",
        &[("SecurityGroupId", group)],
    );
    body["Permissions"]["Permission"]
        .as_array()
        .unwrap()
        .clone()
}

/// Parameters of a call about rules: the group and one row, from `Name=value` words.
fn row<'a>(group: &'a str, words: &'a str) -> Vec<(&'a str, &'a str)> {
    let words = words
        .split_whitespace()
        .map(|word| word.split_once('=').unwrap());
    std::iter::once(("SecurityGroupId", group))
        .chain(words)
        .collect()
}

#[test]
fn rules_come_once_and_go_by_their_words_or_their_id() {
    let mut lab = Lab::new();
    let (one, other) = (group(&mut lab, "normal"), group(&mut lab, "normal"));
    let words = format!(
        "Permissions.1.IpProtocol=tcp Permissions.1.PortRange=80/90 Permissions.1.SourceCidrIp=10.1.2.3/16 \
         Permissions.2.IpProtocol=ALL Permissions.2.PortRange=-1/-1 Permissions.2.SourceGroupId={other} \
         Permissions.2.Policy=Drop Permissions.2.Priority=100"
    );
    for _ in 0..2 {
        lab.ok("AuthorizeSecurityGroup", &row(&one, &words));
    }
    let out = "IpProtocol=icmp PortRange=-1/-1 Ipv6DestCidrIp=2408::/32 Description=pings";
    lab.ok("AuthorizeSecurityGroupEgress", &row(&one, out));
    let shown: Vec<Value> = rules(&mut lab, &one)
        .iter()
        .map(|rule| {
            [
                "Direction",
                "Policy",
                "Priority",
                "IpProtocol",
                "PortRange",
                "SourceCidrIp",
                "SourceGroupId",
                "Ipv6DestCidrIp",
            ]
            .map(|member| text(&rule[member]))
            .into_iter()
            .collect()
        })
        .collect();
    let wanted = [
        json!([
            "ingress",
            "Accept",
            "1",
            "TCP",
            "80/90",
            "10.1.0.0/16",
            "",
            ""
        ]),
        json!(["ingress", "Drop", "100", "ALL", "-1/-1", "", other, ""]),
        json!([
            "egress",
            "Accept",
            "1",
            "ICMP",
            "-1/-1",
            "",
            "",
            "2408::/32"
        ]),
    ];
    assert_eq!(shown, wanted);

    lab.ok(
        "RevokeSecurityGroupEgress",
        &row(&one, "IpProtocol=TCP PortRange=1/1 DestCidrIp=10.0.0.0/8"),
    );
    assert_eq!(
        rules(&mut lab, &one).len(),
        3,
        "no rule fits, and that is no error"
    );
    lab.ok("RevokeSecurityGroupEgress", &row(&one, out));
    let id = text(&rules(&mut lab, &one)[0]["SecurityGroupRuleId"]);
    let by_id = [
        ("SecurityGroupId", one.as_str()),
        ("SecurityGroupRuleId.1", &id),
    ];
    lab.ok("RevokeSecurityGroup", &by_id);
    assert_eq!(rules(&mut lab, &one).len(), 1);
    assert_eq!(
        lab.refused("RevokeSecurityGroup", &by_id),
        code(404, "InvalidParam.SecurityGroupRuleId")
    );

    let in_use = lab.refused("DeleteSecurityGroup", &[("SecurityGroupId", &other)]);
    assert_eq!(in_use, code(403, "DependencyViolation"), "a rule names it");
    for group in [one, other] {
        lab.ok("DeleteSecurityGroup", &[("SecurityGroupId", &group)]);
    }
}

#[test]
fn bad_rules_are_refused_whole() {
    let mut lab = Lab::new();
    let (basic, advanced) = (group(&mut lab, "normal"), group(&mut lab, "enterprise"));
    let itself = format!("IpProtocol=ALL PortRange=-1/-1 SourceGroupId={basic}");
    let cases = [
        (
            "IpProtocol=sctp PortRange=1/2 SourceCidrIp=10.0.0.0/8",
            400,
            "InvalidIpProtocol.ValueNotSupported",
        ),
        (
            "IpProtocol=tcp PortRange=-1/-1 SourceCidrIp=10.0.0.0/8",
            400,
            "OperationDenied",
        ),
        (
            "IpProtocol=tcp PortRange=9/8 SourceCidrIp=10.0.0.0/8",
            400,
            "OperationDenied",
        ),
        (
            "IpProtocol=icmp PortRange=1/2 SourceCidrIp=10.0.0.0/8",
            400,
            "OperationDenied",
        ),
        (
            "IpProtocol=tcp PortRange=1/2 SourceCidrIp=10.0.0.0/33",
            400,
            "InvalidSourceCidrIp.Malformed",
        ),
        (
            "IpProtocol=tcp PortRange=1/2 SourceCidrIp=2408::/32",
            400,
            "InvalidSourceCidrIp.Malformed",
        ),
        (
            "IpProtocol=tcp PortRange=1/2",
            400,
            "MissingParameter.Source",
        ),
        (
            "IpProtocol=tcp PortRange=1/2 SourceGroupId=sg-none",
            404,
            "InvalidSourceGroupId.NotFound",
        ),
        (
            "IpProtocol=tcp PortRange=1/2 SourceCidrIp=10.0.0.1 Policy=maybe",
            400,
            "InvalidPolicy.Malformed",
        ),
        (
            "IpProtocol=tcp PortRange=1/2 SourceCidrIp=10.0.0.1 Priority=101",
            400,
            "InvalidPriority.ValueNotSupported",
        ),
        (
            "IpProtocol=tcp PortRange=1/2 SourcePrefixListId=pl-1",
            400,
            "UnsupportedParameter",
        ),
        (&itself, 403, "InvalidParamter.Conflict"),
    ];
    for (words, status, wanted) in cases {
        let refused = lab.refused("AuthorizeSecurityGroup", &row(&basic, words));
        assert_eq!(refused, code(status, wanted), "{words}");
    }
    let named = format!("IpProtocol=ALL PortRange=-1/-1 SourceGroupId={basic}");
    let refused = lab.refused("AuthorizeSecurityGroup", &row(&advanced, &named));
    assert_eq!(
        refused,
        code(400, "InvalidParameter"),
        "an advanced group names no groups"
    );
    assert_eq!(rules(&mut lab, &basic), Vec::<Value>::new());

    for batch in 0..2 {
        let words: String = (1..=100)
            .map(|n| format!("Permissions.{n}.IpProtocol=tcp Permissions.{n}.PortRange={n}/{} Permissions.{n}.SourceCidrIp=10.0.0.0/8 ", 500 + batch))
            .collect();
        lab.ok("AuthorizeSecurityGroup", &row(&basic, &words));
    }
    let more = lab.refused(
        "AuthorizeSecurityGroup",
        &row(
            &basic,
            "IpProtocol=tcp PortRange=1/2 SourceCidrIp=10.0.0.0/8",
        ),
    );
    assert_eq!(more, code(403, "AuthorizationLimitExceed"));
}

#[test]
fn an_eni_joins_groups_of_one_kind_and_the_fabric_hears_of_it() {
    let mut lab = Lab::new();
    let (basic, advanced) = (group(&mut lab, "normal"), group(&mut lab, "enterprise"));
    let policy = [
        ("SecurityGroupId", basic.as_str()),
        ("InnerAccessPolicy", "Drop"),
    ];
    lab.ok("ModifySecurityGroupPolicy", &policy);
    let eni = lab.create(&[("SecurityGroupId", &basic)]);
    let mixed = [
        ("NetworkInterfaceId", eni.as_str()),
        ("SecurityGroupId.1", &basic),
        ("SecurityGroupId.2", &advanced),
    ];
    let refused = lab.refused("ModifyNetworkInterfaceAttribute", &mixed);
    assert_eq!(refused, code(400, "InvalidParameter"));
    lab.ok(
        "ModifyNetworkInterfaceAttribute",
        &[
            ("NetworkInterfaceId", &eni),
            ("SecurityGroupId.1", &advanced),
        ],
    );
    let in_use = lab.refused("DeleteSecurityGroup", &[("SecurityGroupId", &advanced)]);
    assert_eq!(in_use, code(403, "DependencyViolation"));
    lab.ok("DeleteSecurityGroup", &[("SecurityGroupId", &basic)]);
    let listed = lab.ok(
        "DescribeSecurityGroups",
        &[("SecurityGroupIds", &format!("[\"{advanced}\",\"{basic}\"]"))],
    );
    let listed = &listed["SecurityGroups"]["SecurityGroup"];
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(
        (&listed[0]["SecurityGroupType"], &listed[0]["EcsCount"]),
        (&json!("enterprise"), &json!(1))
    );

    let told: Vec<String> = std::iter::from_fn(|| lab.region.poll_effect())
        .map(|effect| match effect {
            Effect::Group(group) => format!("{} {}", group.id, group.inner_access),
            Effect::Join { groups, .. } => format!("join {}", groups[0]),
            Effect::GroupGone(id) => format!("gone {id}"),
            Effect::Own { .. } => "own".into(),
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted = [
        format!("{basic} true"),
        format!("{advanced} false"),
        format!("{basic} false"),
        "own".into(),
        format!("join {advanced}"),
        format!("gone {basic}"),
    ];
    assert_eq!(told, wanted);
}
