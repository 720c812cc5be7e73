//! PodENIs: the facts other programs print and write, and every write laid over what is there.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{net::IpAddr, time::Duration};

use crd::{PodEni, keys};
use model::{
    DualStack, EniId, Family, InstanceId, Mac, PodKey, PodUid, Timestamp, VSwitchId, ZoneId,
    podeni::{Allocation, Attached, OwnedEni, Phase, PodEni as Record},
    podnetworking::{EniAttachment, Release, Tenure},
};
use serde_json::{Value, json};

/// What the Go program stores for a StatefulSet's pod, field by field of the definition podenis v0.4.2.
fn of_go() -> PodEni {
    serde_json::from_value(json!({
        "apiVersion": "network.alibabacloud.com/v1beta1",
        "kind": "PodENI",
        "metadata": {
            "name": "sts-fixed-ip-0", "namespace": "default",
            "uid": "0a1b", "resourceVersion": "41",
            "annotations": {"k8s.aliyun.com/pod-uid": "8d3f", "k8s.aliyun.com/eno-api": "ecs"},
            "labels": {"k8s.aliyun.com/node": "cn-hangzhou.10.0.0.1"},
            "finalizers": ["pod-eni"],
        },
        "spec": {
            "allocations": [{
                "allocationType": {"type": "Fixed", "releaseStrategy": "TTL", "releaseAfter": "5m"},
                "eni": {
                    "id": "eni-bp161irhf5hrdxdzzodq", "vpcID": "vpc-1",
                    "mac": "00:16:3E:10:34:65", "zone": "cn-hangzhou-i",
                    "vSwitchID": "vsw-1", "resourceGroupID": "",
                    "securityGroupIDs": ["sg-1"], "attachmentOptions": {"trunk": true},
                },
                "ipv4": "192.168.63.206", "ipv6": "",
                "ipv4CIDR": "192.168.48.0/20", "ipv6CIDR": "",
                "interface": "", "defaultRoute": true,
                "extraRoutes": [{"dst": "10.9.0.0/16"}],
                "extraConfig": {"theirs": "1"}, "new": {"field": 1},
            }],
            "zone": "cn-hangzhou-i",
        },
        "status": {
            "phase": "Bind", "instanceID": "i-bp18kejuoajwm8jsb0er",
            "trunkENIID": "eni-bp1b1plkgpoi8lxj1hcj", "msg": "",
            "podLastSeen": "2021-07-12T08:21:16Z",
            "eniInfos": {"eni-bp161irhf5hrdxdzzodq": {
                "id": "eni-bp161irhf5hrdxdzzodq", "type": "Member", "vid": 17, "status": "Bind",
                "networkCardIndex": 1, "vfID": 3,
            }},
        },
    }))
    .unwrap()
}

fn record() -> Record {
    let eni = EniId::new("eni-bp161irhf5hrdxdzzodq").unwrap();
    let ip: IpAddr = "192.168.63.206".parse().unwrap();
    Record {
        key: PodKey::new("default", "sts-fixed-ip-0").unwrap(),
        uid: "0a1b".into(),
        version: "41".into(),
        deleting: false,
        held: true,
        pod: PodUid::new("8d3f").unwrap(),
        node: "cn-hangzhou.10.0.0.1".into(),
        zone: ZoneId::new("cn-hangzhou-i").unwrap(),
        allocations: vec![Allocation {
            interface: model::InterfaceName::new("eth0").unwrap(),
            tenure: Tenure::Fixed(Release::After(Duration::from_secs(300))),
            attachment: EniAttachment::Trunk,
            vswitch: VSwitchId::new("vsw-1").unwrap(),
            blocks: DualStack::only(Family::V4, "192.168.48.0/20".parse().unwrap()),
            security_groups: vec![model::SecurityGroupId::new("sg-1").unwrap()],
            resource_group: None,
            default_route: true,
            routes: vec!["10.9.0.0/16".parse().unwrap()],
            edition: None,
            attempt: 0,
            addresses: DualStack::only(Family::V4, ip),
            eni: Some(OwnedEni {
                id: eni.clone(),
                mac: Mac([0x00, 0x16, 0x3e, 0x10, 0x34, 0x65]),
                vpc: Some(model::VpcId::new("vpc-1").unwrap()),
            }),
        }],
        phase: Phase::Bind,
        instance: Some(InstanceId::new("i-bp18kejuoajwm8jsb0er").unwrap()),
        trunk: Some(EniId::new("eni-bp1b1plkgpoi8lxj1hcj").unwrap()),
        attached: [(eni, Attached { vlan: Some(17) })].into(),
        last_seen: Some(Timestamp::from_nanos(1_626_078_076_000_000_000)),
        message: String::new(),
    }
}

#[test]
fn what_go_wrote_is_read_and_left_as_it_is() {
    let stored = of_go();
    assert_eq!(Record::try_from(&stored).unwrap(), record());
    let halves = stored.halves(&record());
    assert_eq!((halves.spec, halves.status), (None, None));
}

#[test]
fn a_write_keeps_what_it_does_not_mean() {
    let stored = of_go();
    let mut next = record();
    next.node = "cn-hangzhou.10.0.0.2".into();
    next.pod = PodUid::new("9e40").unwrap();
    next.allocations[0].routes.clear();
    next.allocations[0].attempt = 2;
    next.phase = Phase::Unbind;
    next.attached.clear();
    next.message = "waiting".into();
    next.last_seen = Some(Timestamp::from_nanos(1_626_078_099_999_999_999));
    let halves = stored.halves(&next);
    let (spec, status) = (halves.spec.unwrap(), halves.status.unwrap());
    // The status goes with the answer to the spec, so neither half may say more than its own.
    assert_eq!((&spec.status, &status.spec), (&stored.status, &stored.spec));
    for half in [&spec, &status] {
        assert_eq!(half.metadata.resource_version.as_deref(), Some("41"));
    }
    let value = serde_json::to_value(&spec).unwrap();
    for (at, expected) in [
        (
            "/metadata/annotations/k8s.aliyun.com~1eno-api",
            json!("ecs"),
        ),
        (
            "/metadata/annotations/k8s.aliyun.com~1pod-uid",
            json!("9e40"),
        ),
        (
            "/metadata/labels/k8s.aliyun.com~1node",
            json!("cn-hangzhou.10.0.0.2"),
        ),
        ("/metadata/finalizers", json!(["pod-eni"])),
        ("/spec/allocations/0/extraConfig", json!({"theirs": "1"})),
        ("/spec/allocations/0/new", json!({"field": 1})),
        (
            "/spec/allocations/0/allocationType/releaseAfter",
            json!("5m0s"),
        ),
    ] {
        assert_eq!(value.pointer(at), Some(&expected), "{at}");
    }
    let value = serde_json::to_value(&status).unwrap();
    let info = &value["status"]["eniInfos"]["eni-bp161irhf5hrdxdzzodq"];
    let expected = json!({"id": "eni-bp161irhf5hrdxdzzodq", "type": "Member", "status": "Unbind",
        "networkCardIndex": 1, "vfID": 3});
    assert_eq!(info, &expected);

    let mut both = spec;
    both.status = status.status;
    let mut read = Record::try_from(&both).unwrap();
    assert_eq!(
        read.last_seen.unwrap().as_nanos(),
        1_626_078_099_000_000_000
    );
    read.last_seen = next.last_seen;
    assert_eq!(read, next);
    let gone = both.let_go();
    assert_eq!(gone.metadata.finalizers, Some(vec![]));
    assert!(!Record::try_from(&gone).unwrap().held);
}

#[test]
fn a_new_record_is_read_back_as_it_was_meant() {
    let mut made = record();
    made.allocations[0].eni = None;
    made.allocations[0].attachment = EniAttachment::Own;
    made.allocations[0].resource_group = Some("rg-1".into());
    (made.phase, made.instance, made.trunk, made.last_seen) = (Phase::Initial, None, None, None);
    made.attached.clear();
    let mut stored = PodEni::create(&made);
    assert_eq!(stored.status, None);
    // What the API server adds.
    stored.metadata.uid = Some("0a1b".into());
    stored.metadata.resource_version = Some("41".into());
    assert_eq!(Record::try_from(&stored).unwrap(), made);
}

#[test]
fn a_node_with_a_name_no_label_takes_is_found_and_read_back() {
    let long = |end: &str| format!("{}.{end}", "n".repeat(250));
    let labels = [long("a"), long("b")].map(|node| {
        let mut made = record();
        made.node = node;
        let stored = PodEni::create(&made);
        assert_eq!(Record::try_from(&stored).unwrap().node, made.node);
        let label = stored.metadata.labels.as_ref().unwrap()[keys::NODE].clone();
        assert_eq!((label.len(), &label), (63, &keys::node_label(&made.node)));
        // The next pod's node has a short name.
        made.node = "node-1".into();
        let halves = stored.halves(&made);
        assert_eq!(
            Record::try_from(&halves.spec.unwrap()).unwrap().node,
            "node-1"
        );
        label
    });
    assert_ne!(labels[0], labels[1]);
}

/// Each fact the design document of trunk mode prints of a PodENI, at its place in the current layout.
#[test]
fn the_facts_of_the_design_document_are_there() {
    let fixed = of_go().halves(&Record {
        version: "42".into(),
        ..record()
    });
    assert_eq!(fixed.spec, None);
    let mut elastic = record();
    elastic.allocations[0].tenure = Tenure::Elastic;
    let stored = PodEni::create(&record());
    let status = stored.halves(&record()).status.unwrap();
    let value = serde_json::to_value(&status).unwrap();
    let facts: [(&str, Value); 12] = [
        ("/apiVersion", json!("network.alibabacloud.com/v1beta1")),
        ("/kind", json!("PodENI")),
        ("/metadata/name", json!("sts-fixed-ip-0")),
        (
            "/spec/allocations/0/eni/id",
            json!("eni-bp161irhf5hrdxdzzodq"),
        ),
        ("/spec/allocations/0/eni/mac", json!("00:16:3e:10:34:65")),
        ("/spec/allocations/0/eni/zone", json!("cn-hangzhou-i")),
        (
            "/spec/allocations/0/allocationType",
            json!({"releaseAfter": "5m0s", "releaseStrategy": "TTL", "type": "Fixed"}),
        ),
        ("/spec/allocations/0/ipv4", json!("192.168.63.206")),
        ("/status/podLastSeen", json!("2021-07-12T08:21:16Z")),
        ("/status/phase", json!("Bind")),
        ("/status/instanceID", json!("i-bp18kejuoajwm8jsb0er")),
        ("/status/trunkENIID", json!("eni-bp1b1plkgpoi8lxj1hcj")),
    ];
    for (at, expected) in &facts {
        assert_eq!(value.pointer(at), Some(expected), "{at}");
    }
    // It is kept when its pod is deleted, and only its phase is another.
    let mut kept = record();
    kept.phase = Phase::Unbind;
    kept.attached.clear();
    let status = stored.halves(&kept).status.unwrap();
    let value = serde_json::to_value(&status).unwrap();
    for (at, expected) in facts.iter().filter(|(at, _)| *at != "/status/phase") {
        assert_eq!(value.pointer(at), Some(expected), "{at}");
    }
    assert_eq!(value["status"]["phase"], "Unbind");
    let value = serde_json::to_value(PodEni::create(&elastic)).unwrap();
    let expected = json!({"releaseAfter": "0s", "type": "Elastic"});
    let found = value.pointer("/spec/allocations/0/allocationType");
    assert_eq!(found, Some(&expected));
}

#[test]
fn what_cannot_be_meant_is_named() {
    let cases: [(&str, Value, &str); 10] = [
        (
            "/spec/allocations/0/eni/mac",
            json!("00:16"),
            "spec.allocations[0].eni.mac is \"00:16\"",
        ),
        (
            "/spec/allocations/0/ipv4",
            json!("1.2.3"),
            "spec.allocations[0].ipv4 is \"1.2.3\"",
        ),
        (
            "/spec/allocations/0/ipv4",
            json!("fd00::1"),
            "expected an address of 32 bits",
        ),
        (
            "/spec/allocations/0/ipv4CIDR",
            json!("x"),
            "spec.allocations[0].ipv4CIDR",
        ),
        (
            "/spec/allocations/0/eni/id",
            json!("eni 1"),
            "spec.allocations[0].eni.id",
        ),
        (
            "/spec/allocations/0/extraRoutes/0/dst",
            json!(""),
            "extraRoutes[0].dst",
        ),
        ("/spec/zone", json!("a zone"), "spec.zone"),
        (
            "/status/phase",
            json!("Bound"),
            "status.phase is \"Bound\": expected Binding",
        ),
        (
            "/status/eniInfos/eni-bp161irhf5hrdxdzzodq/vid",
            json!(4095),
            "vid is \"4095\"",
        ),
        (
            "/metadata/annotations/k8s.aliyun.com~1pod-uid",
            json!(""),
            "annotation k8s.aliyun.com/pod-uid",
        ),
    ];
    for (at, wrong, named) in cases {
        let mut value = serde_json::to_value(of_go()).unwrap();
        *value.pointer_mut(at).unwrap() = wrong;
        let stored: PodEni = serde_json::from_value(value).unwrap();
        let error = Record::try_from(&stored).unwrap_err().to_string();
        assert!(error.contains(named), "{at}: {error}");
    }
}

#[test]
fn an_interface_is_named_once() {
    let mut stored = of_go();
    let same = stored.spec.allocations[0].clone();
    stored.spec.allocations.push(same);
    let error = Record::try_from(&stored).unwrap_err().to_string();
    assert_eq!(error, "spec.allocations[1].interface is \"\": given twice");
}

#[test]
fn a_promise_that_cannot_be_read_is_kept() {
    let mut stored = of_go();
    stored.spec.allocations[0].allocation_type.release_after = "soon".into();
    let read = Record::try_from(&stored).unwrap();
    assert_eq!(read.allocations[0].tenure, Tenure::Fixed(Release::Never));
    assert_eq!(
        stored.halves(&read).spec,
        None,
        "and left as it was written"
    );
}
