//! PodNetworkings and the annotations of pods: what is read, written, and refused with which sentence.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::collections::BTreeMap;

use crd::{
    PodNetworking, keys,
    pod::{Networks, has_stable_name, write_networks},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use model::{
    Timestamp, VSwitchId, ZoneId,
    podnetworking::{
        EniAttachment, PodNetworking as Networking, Release, Resolved, Tenure, VSwitchPreference,
        Warm,
    },
};
use serde_json::{Value, json};

fn networking(spec: Value) -> PodNetworking {
    let value = json!({"apiVersion": "network.alibabacloud.com/v1beta1", "kind": "PodNetworking",
        "metadata": {"name": "fixed-ip"}, "spec": spec});
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_networking_is_read_with_what_it_leaves_open() {
    let read = Networking::try_from(&networking(json!({}))).unwrap();
    assert_eq!(read.attachment, EniAttachment::Default);
    assert_eq!((read.tenure, read.pods), (Tenure::Elastic, None));
    assert_eq!(read.preference, VSwitchPreference::Ordered);

    let mut stored = networking(json!({
        "eniOptions": {"eniType": "ENI"},
        "allocationType": {"type": "Fixed", "releaseStrategy": "TTL", "releaseAfter": "5m0s"},
        "selector": {"podSelector": {"matchLabels": {"app": "sts"}}, "namespaceSelector": {}},
        "vSwitchOptions": ["vsw-1"], "securityGroupIDs": ["sg-1"],
        "vSwitchSelectOptions": {"vSwitchSelectionPolicy": "most"},
    }));
    let read = Networking::try_from(&stored).unwrap();
    let delay = std::time::Duration::from_secs(300);
    assert_eq!(read.tenure, Tenure::Fixed(Release::After(delay)));
    assert_eq!(
        (read.attachment, read.preference),
        (EniAttachment::Own, VSwitchPreference::Most)
    );
    let labels: BTreeMap<_, _> = [("app".to_owned(), "sts".to_owned())].into();
    assert!(read.selects(&labels, &BTreeMap::new()) && !read.selects(&BTreeMap::new(), &labels));

    let resolved = Resolved {
        ready: true,
        vswitches: vec![(
            VSwitchId::new("vsw-1").unwrap(),
            ZoneId::new("zone-i").unwrap(),
        )],
        message: String::new(),
        at: Timestamp::from_nanos(1_626_691_531_000_000_000),
    };
    stored = stored.with_status(&resolved).unwrap();
    let status = serde_json::to_value(stored.status.as_ref()).unwrap();
    let expected = json!({"status": "Ready", "updateAt": "2021-07-19T10:45:31Z",
        "vSwitches": [{"id": "vsw-1", "zone": "zone-i"}]});
    assert_eq!(status, expected);
    assert_eq!(
        stored.with_status(&Resolved {
            at: Timestamp::EPOCH,
            ..resolved.clone()
        }),
        None
    );
    assert_eq!(
        Networking::try_from(&stored).unwrap().resolved,
        Some(resolved)
    );
}

#[test]
fn how_many_enis_are_kept_ready_is_said_by_annotations() {
    let table = [
        (None, Some(None)),
        (Some("0"), Some(Some(0))),
        (Some("512"), Some(Some(512))),
        (Some("513"), None),
        (Some("many"), None),
    ];
    for key in [keys::WARM_MEMBERS_PER_NODE, keys::WARM_ENIS_PER_ZONE] {
        for (text, expected) in table {
            let mut stored = networking(json!({}));
            (stored.metadata.uid, stored.metadata.generation) = (Some("u".into()), Some(3));
            let annotation = text.map(|text| (key.to_owned(), text.to_owned()));
            stored.metadata.annotations = Some(annotation.into_iter().collect());
            let read = stored.warm();
            let number = |warm: Warm| match key {
                keys::WARM_MEMBERS_PER_NODE => warm.members_per_node,
                _ => warm.enis_per_zone,
            };
            assert_eq!(read.clone().ok().map(number), expected, "{key} {text:?}");
            if let Err(error) = read {
                assert!(
                    error.to_string().contains("expected a number, 0 to 512"),
                    "{error}"
                );
            }
            let read = Networking::try_from(&stored).unwrap();
            assert_eq!(
                read.edition, "u.3",
                "what cannot be read keeps nothing ready"
            );
        }
    }
}

#[test]
fn a_networking_that_cannot_be_meant_is_named() {
    let fixed = |strategy: &str, after: &str| json!({"allocationType": {"type": "Fixed", "releaseStrategy": strategy, "releaseAfter": after}});
    let selector = json!({"matchExpressions": [{"key": "a", "operator": "Is", "values": ["b"]}]});
    for (spec, sentence) in [
        (
            fixed("Never", "5m"),
            "releaseAfter is \"5m\": releaseStrategy Never takes no duration",
        ),
        (
            fixed("TTL", "5 minutes"),
            "releaseAfter is \"5 minutes\": expected a Go duration",
        ),
        (fixed("TTL", ""), "spec.allocationType.releaseAfter is \"\""),
        (
            fixed("Later", "5m"),
            "spec.allocationType.releaseStrategy is \"Later\"",
        ),
        (
            json!({"allocationType": {"type": "fixed"}}),
            "spec.allocationType.type is \"fixed\"",
        ),
        (
            json!({"eniOptions": {"eniType": "trunk"}}),
            "spec.eniOptions.eniType is \"trunk\"",
        ),
        (
            json!({"vSwitchOptions": ["vsw-1", ""]}),
            "spec.vSwitchOptions[1] is \"\": expected a vSwitch id",
        ),
        (
            json!({"selector": {"podSelector": selector}}),
            "podSelector.matchExpressions[0].operator is \"Is\"",
        ),
        (
            json!({"vSwitchSelectOptions": {"vSwitchSelectionPolicy": "least"}}),
            "SelectionPolicy is \"least\"",
        ),
    ] {
        let error = Networking::try_from(&networking(spec))
            .unwrap_err()
            .to_string();
        assert!(error.contains(sentence), "{error}");
    }
}

fn read(key: &str, text: &str) -> Result<Networks, String> {
    let annotations = [(format!("k8s.aliyun.com/{key}"), text.to_owned())].into();
    Networks::read(Some(&annotations)).map_err(|error| error.to_string())
}

#[test]
fn annotations_are_read_and_written_back() {
    let text = r#"{"podNetworks":[{"vSwitchOptions":["vsw-1"],"securityGroupIDs":["sg-1"],"interface":"eth0"},
        {"vSwitchOptions":["vsw-2","vsw-3"],"securityGroupIDs":["sg-2"],"interface":"eth1",
         "extraRoutes":[{"dst":"10.1.0.0/16"}],"eniOptions":{"eniType":"Trunk"},
         "vSwitchSelectOptions":{"vSwitchSelectionPolicy":"random"},"resourceGroupID":"rg-1",
         "networkInterfaceTrafficMode":"Standard","defaultRoute":true,
         "allocationType":{"type":"Fixed","releaseStrategy":"Never"}}]}"#;
    let networks = read("pod-networks", text).unwrap().full;
    let [first, second] = networks.as_slice() else {
        panic!("{networks:?}")
    };
    assert_eq!(
        (first.attachment, first.tenure),
        (EniAttachment::Default, Tenure::Elastic)
    );
    assert_eq!(second.tenure, Tenure::Fixed(Release::Never));
    assert_eq!((second.default_route, second.routes.len()), (true, 1));
    assert_eq!(
        read("pod-networks", &write_networks(&networks))
            .unwrap()
            .full,
        networks
    );

    let named = r#"[{"network":"a"},{"interfaceName":"eth1","network":"b","defaultRoute":true,"routes":[{"dst":"10.1.0.0/16"}]}]"#;
    let named = read("pod-networks-request", named).unwrap().named;
    let interfaces: Vec<_> = named
        .iter()
        .map(|one| (one.interface.as_str(), one.networking.as_str()))
        .collect();
    assert_eq!(interfaces, [("eth0", "a"), ("eth1", "b")]);
    assert!(read("pod-eni", "true").unwrap().wants_eni);
    assert!(!read("pod-eni", "false").unwrap().wants_eni);
    assert_eq!(Networks::read(None).unwrap(), Networks::default());
}

#[test]
fn an_annotation_that_cannot_be_meant_is_named() {
    let one = |field: &str| {
        format!(r#"{{"podNetworks":[{{"interface":"eth0"}},{{"interface":"eth1",{field}}}]}}"#)
    };
    for (key, text, sentence) in [
        (
            "pod-networks",
            "{".into(),
            "annotation k8s.aliyun.com/pod-networks cannot be read: EOF",
        ),
        (
            "pod-networks",
            "[]".into(),
            "cannot be read: invalid length",
        ),
        (
            "pod-networks",
            r#"{"podNetworks":[{}]}"#.into(),
            "podNetworks[0].interface is \"\": expected the name",
        ),
        (
            "pod-networks",
            one(r#""extraRoutes":[{"dst":"10.0.0.300/8"}]"#),
            "podNetworks[1].extraRoutes[0].dst is",
        ),
        (
            "pod-networks",
            one(r#""networkInterfaceTrafficMode":"HighPerformance""#),
            "only Standard is served",
        ),
        (
            "pod-networks",
            one(r#""securityGroupIDs":["sg 1"]"#),
            "podNetworks[1].securityGroupIDs[0] is \"sg 1\"",
        ),
        (
            "pod-networks",
            one(r#""allocationType":{"type":"Fixed"}"#),
            "podNetworks[1].allocationType.releaseAfter",
        ),
        (
            "pod-networks-request",
            "{}".into(),
            "annotation k8s.aliyun.com/pod-networks-request cannot be read",
        ),
        (
            "pod-networks-request",
            "[{}]".into(),
            "[0].network is \"\": expected the name of a PodNetworking",
        ),
    ] {
        let error = read(key, &text).unwrap_err();
        assert!(error.contains(sentence), "{error}");
    }
}

#[test]
fn a_name_stays_with_a_stateful_owner_or_without_one() {
    let owner = |kind: &str| OwnerReference {
        kind: kind.into(),
        ..OwnerReference::default()
    };
    let kinds = ["CloneSet".to_owned()];
    assert!(has_stable_name(None, &kinds));
    for (kind, stable) in [
        ("StatefulSet", true),
        ("CloneSet", true),
        ("ReplicaSet", false),
        ("statefulset", false),
    ] {
        assert_eq!(
            has_stable_name(Some(&[owner(kind)]), &kinds),
            stable,
            "{kind}"
        );
    }
}
