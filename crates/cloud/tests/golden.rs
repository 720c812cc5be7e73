//! What calls say and what answers mean, against the fixtures shared with the simulated region.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path};

use model::{
    ClientToken, Eni, EniId, EniKind, EniStatus, InstanceId, InstanceLimits, Ipv4Prefix, NextHop,
    PrivateIp, RegionId, RouteEntry, RouteEntryId, RouteTableId, SecurityGroupId, VSwitch,
    VSwitchId, VpcId, ZoneId,
};
use terway_cloud::{
    Call, Endpoint, Keys, Scheme, Secret,
    ecs::*,
    rpc::{self, Stamp},
    vpc::*,
};

fn fixture(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cloud");
    fs::read(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn eni(name: &str) -> EniId {
    EniId::new(name).unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn token(text: &str) -> ClientToken {
    ClientToken::new(text).unwrap()
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn create() -> CreateNetworkInterface {
    CreateNetworkInterface {
        vswitch: VSwitchId::new("vsw-1").unwrap(),
        security_groups: ["sg-1", "sg-2"]
            .map(|id| SecurityGroupId::new(id).unwrap())
            .into(),
        primary_address: None,
        secondary_address_count: 9,
        ipv4_prefix_count: 0,
        description: "made for node a*b~c & 节点".into(),
        tags: tags(&[("creator", "terway"), ("ack.aliyun.com", "c1")]),
        resource_group: Some("rg-1".into()),
        kind: NewEniKind::Secondary,
        delete_on_release: true,
        token: token("token-1"),
    }
}

fn assign() -> AssignPrivateIpAddresses {
    AssignPrivateIpAddresses {
        eni: eni("eni-1"),
        count: 10,
        token: token("token-3"),
    }
}

fn prefixes(texts: &[&str]) -> Vec<Ipv4Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn assign_prefixes() -> AssignIpv4Prefixes {
    AssignIpv4Prefixes {
        eni: eni("eni-1"),
        count: 10,
        token: token("token-4"),
    }
}

/// An independent reading of `application/x-www-form-urlencoded`.
fn decode_form(body: &[u8]) -> BTreeMap<String, String> {
    let unescape = |text: &str| {
        let mut out = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => {
                    let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                    assert!(!digits.iter().any(u8::is_ascii_lowercase), "{text}");
                    let digits = std::str::from_utf8(&digits).unwrap();
                    out.push(u8::from_str_radix(digits, 16).unwrap());
                }
                b'+' => panic!("a blank must be %20: {text}"),
                plain => out.push(plain),
            }
        }
        String::from_utf8(out).unwrap()
    };
    let text = std::str::from_utf8(body).unwrap();
    let pairs = text.split('&').map(|pair| pair.split_once('=').unwrap());
    pairs
        .map(|(name, value)| (unescape(name), unescape(value)))
        .collect()
}

fn assert_request<C: Call>(call: &C, keys: &Keys, name: &str) {
    call.check().unwrap();
    let request = rpc::request(
        &Endpoint::parse("ecs.example", Scheme::Https).unwrap(),
        C::PRODUCT,
        C::ACTION,
        &RegionId::new("cn-hangzhou").unwrap(),
        call.params(),
        keys,
        Stamp {
            timestamp: "2016-02-23T12:46:24Z",
            nonce: "00000000000000000000000000000001",
        },
    );
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), "https://ecs.example/");
    assert_eq!(
        request.headers()["content-type"],
        "application/x-www-form-urlencoded"
    );
    let shown = format!("{request:?}");
    assert!(
        !shown.contains("sts") && !shown.contains("Signature"),
        "{shown}"
    );
    let expected: BTreeMap<String, String> =
        serde_json::from_slice(&fixture(&format!("requests/{name}.json"))).unwrap();
    let sent = decode_form(&request.into_body().into_bytes());
    assert_eq!(sent, expected, "{name}");
}

#[test]
fn every_call_encodes_as_its_fixture() {
    let keys = Keys::permanent("testid", "testsecret");
    let instance = InstanceId::new("i-1").unwrap();
    let temporary = Keys {
        token: Some(Secret::new("sts+token/=")),
        ..keys.clone()
    };
    assert_request(&create(), &temporary, "create-network-interface");
    let trunk = CreateNetworkInterface {
        security_groups: vec![SecurityGroupId::new("sg-1").unwrap()],
        primary_address: None,
        secondary_address_count: 0,
        description: "trunk of i-1".into(),
        tags: BTreeMap::new(),
        resource_group: None,
        kind: NewEniKind::Trunk,
        delete_on_release: true,
        token: token("token-2"),
        ..create()
    };
    assert_request(&trunk, &keys, "create-network-interface-trunk");
    let with_prefixes = CreateNetworkInterface {
        ipv4_prefix_count: 3,
        description: "made with prefixes".into(),
        kind: NewEniKind::Secondary,
        delete_on_release: true,
        token: token("token-5"),
        ..trunk
    };
    assert_request(&with_prefixes, &keys, "create-network-interface-prefixes");
    let attach = |id: &str, trunk: Option<&str>| AttachNetworkInterface {
        eni: eni(id),
        instance: instance.clone(),
        trunk: trunk.map(eni),
    };
    assert_request(&attach("eni-1", None), &keys, "attach-network-interface");
    let member = attach("eni-2", Some("eni-1"));
    assert_request(&member, &keys, "attach-network-interface-member");
    let detach = DetachNetworkInterface {
        eni: eni("eni-1"),
        instance: instance.clone(),
        trunk: None,
    };
    assert_request(&detach, &keys, "detach-network-interface");
    let delete = DeleteNetworkInterface { eni: eni("eni-1") };
    assert_request(&delete, &keys, "delete-network-interface");
    let describe = DescribeNetworkInterfaces {
        ids: vec![eni("eni-1"), eni("eni-2")],
        instance: Some(instance),
        vpc: Some(VpcId::new("vpc-1").unwrap()),
        kind: Some(EniKind::Secondary),
        status: Some(EniStatus::InUse),
        made_under: Some(token("token-1")),
        tags: tags(&[("creator", "terway")]),
        next_token: Some("page-2".into()),
    };
    assert_request(&describe, &keys, "describe-network-interfaces");
    assert_request(&assign(), &keys, "assign-private-ip-addresses");
    let unassign = UnassignPrivateIpAddresses {
        eni: eni("eni-1"),
        addresses: vec![address("192.168.0.11"), address("192.168.0.12")],
    };
    assert_request(&unassign, &keys, "unassign-private-ip-addresses");
    assert_request(&assign_prefixes(), &keys, "assign-ipv4-prefixes");
    let unassign = UnassignIpv4Prefixes {
        eni: eni("eni-1"),
        prefixes: prefixes(&["192.168.0.16/28", "192.168.0.64/28"]),
    };
    assert_request(&unassign, &keys, "unassign-ipv4-prefixes");
    let types = DescribeInstanceTypes {
        types: vec!["ecs.g7.xlarge".into(), "ecs.g7.2xlarge".into()],
    };
    assert_request(&types, &keys, "describe-instance-types");
    let vswitch = DescribeVSwitches {
        id: VSwitchId::new("vsw-1").unwrap(),
    };
    assert_request(&vswitch, &keys, "describe-vswitches");
    let unchecked = ModifyNetworkInterfaceAttribute {
        eni: eni("eni-1"),
        source_dest_check: false,
    };
    assert_request(&unchecked, &keys, "modify-network-interface-attribute");
    assert_request(&system_table(), &keys, "describe-route-table-list");
    let entries = DescribeRouteEntryList {
        next_token: Some("page-2".into()),
        ..entries()
    };
    assert_request(&entries, &keys, "describe-route-entry-list");
    assert_request(&create_route(), &keys, "create-route-entry");
    let entry = route_id("rte-1");
    assert_request(&DeleteRouteEntry { entry }, &keys, "delete-route-entry");
}

fn system_table() -> DescribeSystemRouteTable {
    let vpc = VpcId::new("vpc-1").unwrap();
    DescribeSystemRouteTable { vpc }
}

fn entries() -> DescribeRouteEntryList {
    DescribeRouteEntryList {
        table: RouteTableId::new("vtb-1").unwrap(),
        next_token: None,
    }
}

fn route_id(id: &str) -> RouteEntryId {
    RouteEntryId::new(id).unwrap()
}

fn create_route() -> CreateRouteEntry {
    CreateRouteEntry {
        table: entries().table,
        destination: "172.16.1.0/24".parse().unwrap(),
        instance: InstanceId::new("i-1").unwrap(),
        name: "terway.c1".into(),
        description: "node-1".into(),
        token: token("token-6"),
    }
}

#[test]
fn route_tables_and_their_entries_are_read() {
    let body = fixture("responses/describe-route-table-list.json");
    assert_eq!(system_table().decode(&body).unwrap(), Some(entries().table));
    let body = fixture("responses/create-route-entry.json");
    assert_eq!(create_route().decode(&body).unwrap(), route_id("rte-1"));
    let body = fixture("responses/describe-route-entry-list.json");
    let page = entries().decode(&body).unwrap();
    assert_eq!(page.next_token.as_deref(), Some("page-3"));
    let expected = |number: u8, to: &str, next_hop: NextHop| RouteEntry {
        id: route_id(&format!("rte-{number}")),
        destination: to.parse().unwrap(),
        name: match &next_hop {
            NextHop::Instance(_) => "terway.c1".into(),
            NextHop::Other(_) => String::new(),
        },
        description: match &next_hop {
            NextHop::Instance(_) => format!("node-{number}"),
            NextHop::Other(_) => String::new(),
        },
        next_hop,
        available: number != 2,
    };
    let instance = |id: &str| NextHop::Instance(InstanceId::new(id).unwrap());
    let other = |text: &str| NextHop::Other(text.into());
    let all = [
        expected(1, "172.16.1.0/24", instance("i-1")),
        expected(2, "172.16.2.0/24", instance("i-2")),
        expected(3, "0.0.0.0/0", other("NatGateway ngw-1")),
        expected(
            4,
            "10.8.0.0/16",
            other("RouterInterface ri-1, RouterInterface ri-2"),
        ),
    ];
    assert_eq!(page.entries, all, "the one for a prefix list is left out");
}

#[test]
fn a_call_outside_the_documented_limits_is_refused_before_it_is_sent() {
    let refused = |call: CreateNetworkInterface| call.check().unwrap_err().parameter;
    let too_many = CreateNetworkInterface {
        primary_address: None,
        secondary_address_count: 50,
        ..create()
    };
    assert_eq!(refused(too_many), "SecondaryPrivateIpAddressCount");
    let prefixed = CreateNetworkInterface {
        ipv4_prefix_count: 11,
        ..create()
    };
    assert_eq!(refused(prefixed), "Ipv4PrefixCount");
    for count in [0, 11] {
        let call = AssignIpv4Prefixes {
            count,
            ..assign_prefixes()
        };
        assert_eq!(call.check().unwrap_err().parameter, "Ipv4PrefixCount");
    }
    let ungrouped = CreateNetworkInterface {
        security_groups: Vec::new(),
        ..create()
    };
    assert_eq!(refused(ungrouped), "SecurityGroupIds");
    let long_token = CreateNetworkInterface {
        token: token(&"x".repeat(65)),
        ..create()
    };
    assert_eq!(refused(long_token), "ClientToken");
    let tagged = CreateNetworkInterface {
        tags: (0..21)
            .map(|tag| (tag.to_string(), String::new()))
            .collect(),
        ..create()
    };
    assert_eq!(refused(tagged), "Tag");
    let nothing = AssignPrivateIpAddresses {
        count: 0,
        ..assign()
    };
    assert!(nothing.check().is_err());
    assert!(DescribeInstanceTypes { types: Vec::new() }.check().is_err());
}

fn private(text: &str, primary: bool) -> PrivateIp {
    PrivateIp {
        address: address(text),
        primary,
    }
}

fn described(number: u8) -> DescribedEni {
    DescribedEni {
        eni: Eni {
            id: eni(&format!("eni-{number}")),
            mac: model::Mac([0, 0x16, 0x3e, 0, 0, number]),
            kind: EniKind::Secondary,
            status: EniStatus::InUse,
            instance: Some(InstanceId::new("i-1").unwrap()),
            vswitch: VSwitchId::new("vsw-1").unwrap(),
            vpc: Some(VpcId::new("vpc-1").unwrap()),
            zone: ZoneId::new("cn-hangzhou-i").unwrap(),
            security_groups: vec![SecurityGroupId::new("sg-1").unwrap()],
            addresses: vec![private(&format!("192.168.0.{number}"), true)],
            prefixes: Vec::new(),
            tags: BTreeMap::new(),
        },
        device_index: Some(0),
        trunk: None,
        source_dest_check: false,
    }
}

#[test]
fn a_created_eni_is_read_whole() {
    let body = fixture("responses/create-network-interface.json");
    let expected = Eni {
        mac: "00:16:3e:12:34:56".parse().unwrap(),
        status: EniStatus::Available,
        instance: None,
        security_groups: create().security_groups,
        addresses: vec![
            private("192.168.0.10", true),
            private("192.168.0.11", false),
        ],
        tags: tags(&[("creator", "terway")]),
        ..described(1).eni
    };
    assert_eq!(create().decode(&body).unwrap(), expected);
}

#[test]
fn a_page_of_enis_is_read_whole() {
    let body = fixture("responses/describe-network-interfaces.json");
    let page = DescribeNetworkInterfaces::default().decode(&body).unwrap();
    let mut primary = described(1);
    primary.eni.kind = EniKind::Primary;
    let mut trunk = described(2);
    trunk.eni.kind = EniKind::Trunk;
    trunk.eni.addresses.push(private("192.168.0.102", false));
    trunk.eni.addresses.push(private("2001:db8::2", false));
    let mut member = described(3);
    member.eni.kind = EniKind::Member;
    member.eni.tags = tags(&[("creator", "terway"), ("empty", "")]);
    member.device_index = Some(107);
    member.trunk = Some(eni("eni-2"));
    let mut free = described(4);
    free.eni.status = EniStatus::Available;
    free.eni.instance = None;
    free.eni.prefixes = prefixes(&["192.168.0.32/28"]);
    let expected = Page {
        interfaces: vec![primary, trunk, member, free],
        next_token: None,
    };
    assert_eq!(page, expected);
}

#[test]
fn addresses_types_and_vswitches_are_read() {
    let body = fixture("responses/assign-private-ip-addresses.json");
    let assigned = assign().decode(&body).unwrap();
    let addresses = vec![address("192.168.0.21"), address("192.168.0.22")];
    assert_eq!(assigned.addresses, addresses);
    let body = fixture("responses/assign-ipv4-prefixes.json");
    let assigned = assign_prefixes().decode(&body).unwrap().prefixes;
    assert_eq!(assigned, prefixes(&["192.168.0.16/28", "192.168.0.64/28"]));

    let call = DescribeInstanceTypes {
        types: vec!["ecs.old.large".into(), "ecs.g7.xlarge".into()],
    };
    let limits = call
        .decode(&fixture("responses/describe-instance-types.json"))
        .unwrap();
    let trunk = InstanceLimits {
        enis: 4,
        ipv4_per_eni: 15,
        ipv6_per_eni: 15,
        enis_total: 24,
        trunk: true,
    };
    assert_eq!(limits["ecs.g7.xlarge"], trunk);
    assert_eq!(
        (
            limits["ecs.old.large"].enis_total,
            limits["ecs.old.large"].trunk
        ),
        (2, false)
    );

    let read = |id: &str, name: &str| {
        let id = VSwitchId::new(id).unwrap();
        DescribeVSwitches { id }.decode(&fixture(name)).unwrap()
    };
    let vswitch = VSwitch {
        id: VSwitchId::new("vsw-1").unwrap(),
        zone: ZoneId::new("cn-hangzhou-i").unwrap(),
        available_addresses: 251,
        cidr: "192.168.0.0/24".parse().unwrap(),
        ipv6_cidr: None,
    };
    assert_eq!(
        read("vsw-1", "responses/describe-vswitches.json"),
        Some(vswitch)
    );
    assert_eq!(read("vsw-9", "responses/describe-vswitches.json"), None);
    let dual = read("vsw-2", "responses/describe-vswitches-ipv6.json").unwrap();
    assert_eq!(dual.ipv6_cidr, Some("2001:db8:0:1::/64".parse().unwrap()));
}
