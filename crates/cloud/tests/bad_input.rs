//! Answers that are cut, wrong or nonsense: always an error, never a guess, never a panic.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{fs, path::Path};

use model::{ClientToken, EniId, RouteTableId, SecurityGroupId, VSwitchId, VpcId};
use proptest::prelude::*;
use serde_json::{Value, json};
use terway_cloud::{Call, DecodeError, ecs::*, vpc::*};

/// Everything that decodes an answer, and an answer it decodes.
type Decoder = (&'static str, fn(&[u8]) -> Result<(), DecodeError>);

const DECODERS: [Decoder; 9] = [
    ("create-network-interface", |body| {
        create().decode(body).map(drop)
    }),
    ("describe-network-interfaces", |body| {
        DescribeNetworkInterfaces::default().decode(body).map(drop)
    }),
    ("assign-private-ip-addresses", |body| {
        assign().decode(body).map(drop)
    }),
    ("assign-ipv4-prefixes", |body| {
        let (eni, token) = (EniId::new("eni-1").unwrap(), ClientToken::new("t").unwrap());
        let call = AssignIpv4Prefixes {
            eni,
            count: 2,
            token,
        };
        call.decode(body).map(drop)
    }),
    ("acknowledged", |body| {
        let eni = EniId::new("eni-1").unwrap();
        DeleteNetworkInterface { eni }.decode(body)
    }),
    ("describe-instance-types", |body| {
        let types = vec!["ecs.g7.xlarge".into()];
        DescribeInstanceTypes { types }.decode(body).map(drop)
    }),
    ("describe-vswitches", |body| {
        let id = VSwitchId::new("vsw-1").unwrap();
        DescribeVSwitches { id }.decode(body).map(drop)
    }),
    ("describe-route-table-list", |body| {
        let vpc = VpcId::new("vpc-1").unwrap();
        DescribeSystemRouteTable { vpc }.decode(body).map(drop)
    }),
    ("describe-route-entry-list", |body| {
        let (table, next_token) = (RouteTableId::new("vtb-1").unwrap(), None);
        let call = DescribeRouteEntryList { table, next_token };
        call.decode(body).map(drop)
    }),
];

fn create() -> CreateNetworkInterface {
    CreateNetworkInterface {
        vswitch: VSwitchId::new("vsw-1").unwrap(),
        security_groups: vec![SecurityGroupId::new("sg-1").unwrap()],
        primary_address: None,
        secondary_address_count: 1,
        ipv4_prefix_count: 0,
        description: "test".into(),
        tags: [].into(),
        resource_group: None,
        kind: NewEniKind::Secondary,
        delete_on_release: true,
        token: ClientToken::new("t").unwrap(),
    }
}

fn assign() -> AssignPrivateIpAddresses {
    AssignPrivateIpAddresses {
        eni: EniId::new("eni-1").unwrap(),
        count: 2,
        token: ClientToken::new("t").unwrap(),
    }
}

fn fixture(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cloud/responses");
    let path = root.join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.trim_end().to_owned()
}

#[test]
fn an_answer_cut_anywhere_is_refused() {
    for (name, decode) in DECODERS {
        let text = fixture(name);
        decode(text.as_bytes()).unwrap();
        for length in 0..text.len() {
            assert!(
                decode(&text.as_bytes()[..length]).is_err(),
                "{name} cut at {length}"
            );
        }
    }
}

#[test]
fn what_is_not_the_documented_json_is_refused() {
    let documents = [
        "",
        "null",
        "[]",
        "{}",
        "true",
        "\"text\"",
        "<html><body>502 Bad Gateway</body></html>",
        "{\"RequestId\":1}",
        "{\"RequestId\":\"\"}",
        "{\"RequestId\":\"two words\"}",
        "{\"NetworkInterfaceSets\":[]}",
        "{\"NetworkInterfaceSets\":{\"NetworkInterfaceSet\":{}}}",
        "{\"VSwitches\":[],\"InstanceTypes\":[]}",
        "{\"InstanceTypes\":{\"InstanceType\":[]}}",
        "\u{feff}{}",
    ];
    for (name, decode) in DECODERS {
        for document in documents {
            assert!(decode(document.as_bytes()).is_err(), "{name}: {document}");
        }
        let twice = format!("{0}{0}", fixture(name));
        assert!(decode(twice.as_bytes()).is_err(), "{name}: two documents");
    }
}

/// Needed fields by answer: without one, or with one of another type, the answer is refused.
const NEEDED: [(&str, &[&str]); 8] = [
    ("create-network-interface", &ENI_FIELDS),
    (
        "describe-network-interfaces",
        &[
            "/NetworkInterfaceSets",
            "/NetworkInterfaceSets/NetworkInterfaceSet",
            "/NetworkInterfaceSets/NetworkInterfaceSet/1/NetworkInterfaceId",
            "/NetworkInterfaceSets/NetworkInterfaceSet/1/MacAddress",
            "/NetworkInterfaceSets/NetworkInterfaceSet/3/PrivateIpSets",
        ],
    ),
    (
        "assign-private-ip-addresses",
        &[
            "/AssignedPrivateIpAddressesSet",
            "/AssignedPrivateIpAddressesSet/NetworkInterfaceId",
            "/AssignedPrivateIpAddressesSet/PrivateIpSet",
            "/AssignedPrivateIpAddressesSet/PrivateIpSet/PrivateIpAddress",
        ],
    ),
    ("acknowledged", &["/RequestId"]),
    (
        "describe-instance-types",
        &[
            "/InstanceTypes/InstanceType/0/InstanceTypeId",
            "/InstanceTypes/InstanceType/0/EniQuantity",
            "/InstanceTypes/InstanceType/0/EniPrivateIpAddressQuantity",
            "/InstanceTypes/InstanceType/0/EniIpv6AddressQuantity",
        ],
    ),
    (
        "describe-vswitches",
        &[
            "/VSwitches/VSwitch",
            "/VSwitches/VSwitch/0/VSwitchId",
            "/VSwitches/VSwitch/0/ZoneId",
            "/VSwitches/VSwitch/0/AvailableIpAddressCount",
            "/VSwitches/VSwitch/0/CidrBlock",
        ],
    ),
    (
        "describe-route-table-list",
        &["/RouterTableList", "/RouterTableList/RouterTableListType"],
    ),
    (
        "describe-route-entry-list",
        &[
            "/RouteEntrys",
            "/RouteEntrys/RouteEntry",
            "/RouteEntrys/RouteEntry/0/RouteEntryId",
            "/RouteEntrys/RouteEntry/0/NextHops",
            "/RouteEntrys/RouteEntry/0/NextHops/NextHop/0/NextHopId",
        ],
    ),
];

const ENI_FIELDS: [&str; 9] = [
    "/NetworkInterfaceId",
    "/MacAddress",
    "/Type",
    "/Status",
    "/VSwitchId",
    "/ZoneId",
    "/PrivateIpSets",
    "/PrivateIpSets/PrivateIpSet",
    "/PrivateIpSets/PrivateIpSet/0/PrivateIpAddress",
];

fn decoder(name: &str) -> fn(&[u8]) -> Result<(), DecodeError> {
    let found = DECODERS.iter().find(|(known, _)| *known == name);
    found.unwrap().1
}

#[test]
fn a_needed_field_that_is_missing_or_of_another_type_is_refused() {
    for (name, pointers) in NEEDED {
        let document: Value = serde_json::from_str(&fixture(name)).unwrap();
        for pointer in pointers {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            let mut without = document.clone();
            let object = without.pointer_mut(parent).unwrap().as_object_mut();
            object.unwrap().remove(field).unwrap();
            let text = without.to_string();
            assert!(
                decoder(name)(text.as_bytes()).is_err(),
                "{name} without {pointer}"
            );
            for other in [
                Value::Null,
                json!(true),
                json!(-1),
                json!({"x": 1}),
                json!(""),
            ] {
                let mut changed = document.clone();
                *changed.pointer_mut(pointer).unwrap() = other.clone();
                let text = changed.to_string();
                let refused = decoder(name)(text.as_bytes()).is_err();
                assert!(refused, "{name} with {pointer} = {other}");
            }
        }
    }
}

#[test]
fn a_field_that_is_not_needed_may_be_anything() {
    for (name, decode) in DECODERS {
        let mut document: Value = serde_json::from_str(&fixture(name)).unwrap();
        let object = document.as_object_mut().unwrap();
        for field in [
            "PageNumber",
            "TotalCount",
            "Description",
            "ServiceID",
            "Newcomer",
        ] {
            object.insert(field.into(), json!({"odd": [null]}));
        }
        decode(document.to_string().as_bytes()).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    }
}

#[test]
fn values_outside_their_documented_set_are_named() {
    let document: Value = serde_json::from_str(&fixture("create-network-interface")).unwrap();
    for (pointer, value) in [
        ("/Type", "Quaternary"),
        ("/Status", "Linked"),
        ("/MacAddress", "00:16:3e"),
        (
            "/PrivateIpSets/PrivateIpSet/0/PrivateIpAddress",
            "192.168.0.256",
        ),
        ("/VSwitchId", "a b"),
    ] {
        let mut changed = document.clone();
        *changed.pointer_mut(pointer).unwrap() = json!(value);
        let error = create().decode(changed.to_string().as_bytes()).unwrap_err();
        let field = pointer.rsplit_once('/').unwrap().1;
        assert!(error.to_string().contains(field), "{pointer}: {error}");
    }
}

#[test]
fn a_primary_flag_may_be_told_by_the_eni_but_is_never_guessed() {
    let mut document: Value = serde_json::from_str(&fixture("create-network-interface")).unwrap();
    for index in 0..2 {
        let entry = document.pointer_mut(&format!("/PrivateIpSets/PrivateIpSet/{index}"));
        entry.unwrap().as_object_mut().unwrap().remove("Primary");
    }
    let eni = create().decode(document.to_string().as_bytes()).unwrap();
    let primary: Vec<_> = eni
        .addresses
        .iter()
        .map(|address| address.primary)
        .collect();
    assert_eq!(primary, [true, false]);
    document.as_object_mut().unwrap().remove("PrivateIpAddress");
    assert!(create().decode(document.to_string().as_bytes()).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..512)) {
        for (_, decode) in DECODERS {
            let _ = decode(&body);
        }
    }

    /// Near misses reach further into a decoder than noise does.
    #[test]
    fn no_damaged_answer_makes_a_decoder_panic(
        which in 0..DECODERS.len(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (name, decode) = DECODERS[which];
        let mut body = fixture(name).into_bytes();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = decode(&body);
    }
}
