//! What people are told of a pod that cannot have its ENI, and of one that should have had one: by table.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what does not hold fails the test"
)]

use std::{collections::BTreeSet, time::Duration};

use engine::{
    cluster::{Action, Cluster, ClusterPod, Config, Input, Listed, Notice, Store},
    podeni::{Answer, Call, Fault, NewEni, Node, Pod},
};
use model::{
    DualStack, Eni, EniId, EniKind, EniStatus, Exhausted, Family, FaultClass, InstanceId,
    InterfaceName, Mac, PodKey, PodUid, PrivateIp, SecurityGroupId, Timestamp, VSwitch, VSwitchId,
    ZoneId,
    podeni::{NetworkRequest, OwnedEni, PodEni},
    podnetworking::{
        EniAttachment, Labels, PodNetworking, Release, Requirement, Resolved, Selector, Tenure,
        VSwitchPreference, Warm,
    },
};

const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

fn vsw(id: &str) -> VSwitchId {
    VSwitchId::new(id).unwrap()
}

fn zone(id: &str) -> ZoneId {
    ZoneId::new(id).unwrap()
}

fn key() -> PodKey {
    PodKey::new("default", "web-0").unwrap()
}

fn labels(app: &str) -> Labels {
    [("app".to_owned(), app.to_owned())].into()
}

/// A pod that asks for an ENI in `vsw-1`.
fn pod() -> ClusterPod {
    ClusterPod {
        pod: Pod {
            key: key(),
            uid: PodUid::new("uid-1").unwrap(),
            node: Some("n0".into()),
            finished: false,
            stable_name: false,
            networks: vec![NetworkRequest {
                interface: InterfaceName::new("eth0").unwrap(),
                tenure: Tenure::Elastic,
                attachment: EniAttachment::Trunk,
                vswitches: vec![vsw("vsw-1")],
                preference: VSwitchPreference::Ordered,
                security_groups: vec![SecurityGroupId::new("sg-1").unwrap()],
                resource_group: None,
                default_route: true,
                routes: vec![],
            }],
        },
        labels: labels("web"),
        exempt: false,
        complaint: None,
        addresses: BTreeSet::new(),
    }
}

fn node() -> Node {
    Node {
        name: "n0".into(),
        instance: InstanceId::new("i-0").unwrap(),
        zone: zone("z-a"),
        trunk: Some(EniId::new("eni-trunk").unwrap()),
        members: None,
    }
}

fn networking() -> PodNetworking {
    PodNetworking {
        name: "front".into(),
        edition: "front.1".into(),
        warm: Warm::default(),
        attachment: EniAttachment::Default,
        tenure: Tenure::Elastic,
        pods: Some(Selector(vec![Requirement::In(
            "app".into(),
            vec!["web".into()],
        )])),
        namespaces: None,
        vswitches: vec![vsw("vsw-1")],
        preference: VSwitchPreference::Ordered,
        security_groups: vec![SecurityGroupId::new("sg-1").unwrap()],
        resolved: Some(Resolved {
            ready: true,
            vswitches: vec![(vsw("vsw-1"), zone("z-a"))],
            message: String::new(),
            at: Timestamp::EPOCH,
        }),
    }
}

/// The region: its only vSwitch is in a zone with so many addresses, and what it says to each step.
struct Region {
    vswitch: Option<(&'static str, u32)>,
    create: Option<Fault>,
    attach: Option<Fault>,
}

const FINE: Region = Region {
    vswitch: Some(("z-a", 100)),
    create: None,
    attach: None,
};

/// What it makes.
fn made() -> NewEni {
    NewEni {
        eni: OwnedEni {
            id: EniId::new("eni-1").unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            vpc: None,
        },
        addresses: DualStack::only(Family::V4, [10, 0, 0, 1].into()),
    }
}

fn refused(class: FaultClass, text: &str) -> Option<Fault> {
    let text = text.into();
    Some(Fault { class, text })
}

/// A machine that was told all this at its start.
fn started(inputs: Vec<Input>) -> Cluster {
    let mut cluster = Cluster::new(Config::default(), 1);
    for input in inputs.into_iter().chain([Input::Complete]) {
        cluster.handle(NOW, input);
    }
    cluster
}

/// Carries out what the machine wants until it rests; what it told people.
fn rest(cluster: &mut Cluster, region: &Region) -> Vec<Notice> {
    let (mut told, mut version) = (Vec::new(), 0);
    while let Some(action) = cluster.poll_action() {
        version += 1;
        let input = match action {
            Action::Notice(notice) => {
                told.push(notice);
                continue;
            }
            Action::DescribeVSwitches(op, ids) => {
                let (first, shown) = (ids[0].clone(), region.vswitch);
                let found = shown.map(|(zone_of, available_addresses)| VSwitch {
                    id: first,
                    zone: zone(zone_of),
                    available_addresses,
                    cidr: "10.0.0.0/16".parse().unwrap(),
                    ipv6_cidr: None,
                });
                Input::VSwitches(op, Ok(found.into_iter().collect()))
            }
            Action::Store(key, Store::Create(record) | Store::Write(record)) => {
                let record = PodEni {
                    uid: "record".into(),
                    version: version.to_string(),
                    ..*record
                };
                Input::Written(key, Ok(Some(Box::new(record))))
            }
            Action::Call(op, call) => {
                let (fault, answer) = match call {
                    Call::Create(_) => (&region.create, Answer::Created(Box::new(made()))),
                    _ => (&region.attach, Answer::Accepted),
                };
                Input::Called(op, fault.clone().map_or(Ok(answer), Err))
            }
            Action::Resolve(name, _) => Input::Resolved(name, Ok(())),
            _ => continue,
        };
        cluster.handle(NOW, input);
    }
    told
}

#[test]
fn a_pod_that_cannot_have_its_eni_is_told_why() {
    let inputs = |pod: ClusterPod, node: Node| {
        vec![
            Input::Node("n0".into(), Some(node)),
            Input::Pod(key(), Some(Box::new(pod))),
        ]
    };
    let fine = || inputs(pod(), node());
    let no_trunk = Node {
        trunk: None,
        ..node()
    };
    let mut fixed = pod();
    fixed.pod.networks[0].tenure = Tenure::Fixed(Release::Never);
    let says = |code: &str| format!("CreateNetworkInterface was refused with {code}");
    let limit = says("InvalidSecurityGroupIds.LimitExceeded: at most 5");
    let mixed = says("InvalidParameter: groups of one type");
    let denied = says("Forbidden.RAM: grant the RAM action ecs:CreateNetworkInterface");
    let create = |class, text: &str| Region {
        create: refused(class, text),
        ..FINE
    };
    let vswitch = |vswitch| Region { vswitch, ..FINE };
    let table = [
        (fine(), vswitch(None), "vsw-1 is not known in the region"),
        (
            fine(),
            vswitch(Some(("z-b", 100))),
            "no vSwitch serves zone z-a: vsw-1 is in zone z-b",
        ),
        (
            fine(),
            vswitch(Some(("z-a", 0))),
            "no vSwitch serves zone z-a: vsw-1 has no free address",
        ),
        (
            inputs(pod(), no_trunk),
            FINE,
            "node n0 has no trunk ENI (no annotation k8s.aliyun.com/trunk-on)",
        ),
        (
            inputs(fixed, node()),
            FINE,
            "a fixed address needs a pod whose name stays",
        ),
        (fine(), create(FaultClass::Invalid, &limit), limit.as_str()),
        (fine(), create(FaultClass::Invalid, &mixed), mixed.as_str()),
        (fine(), create(FaultClass::Denied, &denied), denied.as_str()),
        (
            fine(),
            create(FaultClass::Exhausted(Exhausted::VSwitch), "IpNotEnough"),
            "the ENI for eth0 was not made: IpNotEnough",
        ),
        (
            fine(),
            Region {
                attach: refused(
                    FaultClass::Exhausted(Exhausted::EniPerInstance),
                    "EniPerInstanceLimitExceeded",
                ),
                ..FINE
            },
            "eni-1: EniPerInstanceLimitExceeded",
        ),
    ];
    for (inputs, region, expected) in table {
        let mut cluster = started(inputs);
        rest(&mut cluster, &region);
        let waiting = cluster.waiting(&key()).expect(expected);
        assert!(waiting.why.contains(expected), "{waiting:?}");
    }
}

#[test]
fn a_podnetworking_whose_vswitch_is_unknown_is_told_so() {
    let plane = Input::Networking("front".into(), Some(Box::new(networking())));
    let mut cluster = started(vec![plane]);
    let region = Region {
        vswitch: None,
        ..FINE
    };
    let told = rest(&mut cluster, &region);
    let why = "the region has no vSwitch vsw-1, as far as vpc:DescribeVSwitches shows";
    let failed = |one: &Notice| matches!(one, Notice::NetworkingFailed(name, said) if name == "front" && said.starts_with(why));
    assert!(told.iter().any(failed), "{told:?}");
}

#[test]
fn a_pod_that_came_past_admission_is_told_once() {
    let plain = || {
        let mut one = pod();
        one.pod.networks.clear();
        one
    };
    let of = |change: fn(&mut ClusterPod, &mut PodNetworking)| {
        let (mut pod, mut networking) = (plain(), networking());
        change(&mut pod, &mut networking);
        (pod, networking)
    };
    let table = [
        (of(|_, _| {}), true),
        (of(|pod, _| pod.labels = labels("other")), false),
        (of(|pod, _| pod.exempt = true), false),
        (of(|pod, _| pod.pod.finished = true), false),
        (
            of(|_, one| one.namespaces = Some(Selector::default())),
            true,
        ),
    ];
    for ((pod, networking), missed) in table {
        let told = Notice::Overlooked(key(), "front".into());
        of_a_selected_pod(&pod, &networking, &[told][..usize::from(missed)]);
    }
    for (change, why) in [
        (
            (|one| one.resolved = None) as fn(&mut PodNetworking),
            "PodNetworking front selects this pod but is not Ready: its vSwitches were not looked at yet",
        ),
        (
            |one| one.tenure = Tenure::Fixed(Release::Never),
            "PodNetworking front gives fixed addresses, which only a pod whose name stays can have",
        ),
    ] {
        let mut networking = networking();
        change(&mut networking);
        of_a_selected_pod(&plain(), &networking, &[Notice::Unused(key(), why.into())]);
        if networking.tenure.is_fixed() {
            // It selects all pods of namespaces, and so means only some.
            (networking.pods, networking.namespaces) = (None, Some(Selector::default()));
            of_a_selected_pod(&plain(), &networking, &[]);
        }
    }
}

/// What is told of it, however it comes to be known.
fn of_a_selected_pod(pod: &ClusterPod, networking: &PodNetworking, expected: &[Notice]) {
    let plane = || Input::Networking("front".into(), Some(Box::new(networking.clone())));
    let namespace = || Input::Namespace("default".into(), Some(Labels::new()));
    let pod = || Input::Pod(key(), Some(Box::new(pod.clone())));
    // At the start; created while the machine runs; and told before its namespace.
    for (before, after) in [
        (vec![plane(), namespace(), pod()], vec![]),
        (vec![plane(), namespace()], vec![pod(), pod()]),
        (vec![plane()], vec![pod(), namespace(), namespace()]),
    ] {
        let mut cluster = started(before);
        for input in after {
            cluster.handle(NOW, input);
        }
        let told = rest(&mut cluster, &FINE)
            .into_iter()
            .filter_map(|one| match one {
                // The sentence goes on with what to do.
                Notice::Unused(key, why) => {
                    let begin = expected.iter().find_map(|one| match one {
                        Notice::Unused(_, begin) if why.starts_with(begin) => Some(begin.clone()),
                        _ => None,
                    });
                    Some(Notice::Unused(key, begin.unwrap_or(why)))
                }
                Notice::Overlooked(..) => Some(one),
                _ => None,
            });
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}

/// A whole ENI of ours on a node, with this address.
fn whole(id: &str, address: [u8; 4]) -> Listed {
    Listed {
        eni: Eni {
            id: EniId::new(id).unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            kind: EniKind::Secondary,
            status: EniStatus::InUse,
            instance: Some(node().instance),
            vswitch: vsw("vsw-1"),
            vpc: None,
            zone: zone("z-a"),
            security_groups: vec![],
            addresses: vec![PrivateIp {
                address: address.into(),
                primary: true,
            }],
            prefixes: vec![],
            tags: [("ack.aliyun.com".to_owned(), "c1".to_owned())].into(),
        },
        trunk: None,
    }
}

#[test]
fn a_whole_eni_nobody_names_goes_after_two_lists_unless_a_pod_reports_its_address() {
    let mut used = pod();
    used.pod.networks.clear();
    used.addresses = [[10, 0, 0, 2].into()].into();
    let mut nodes_own = whole("eni-pool", [10, 0, 0, 3]);
    nodes_own.eni.tags.clear();
    let lost = whole("eni-lost", [10, 0, 0, 1]);
    let mut there = vec![lost.clone(), whole("eni-used", [10, 0, 0, 2]), nodes_own];
    let config = Config {
        tags: lost.eni.tags.clone(),
        ..Config::default()
    };
    let mut cluster = Cluster::new(config, 1);
    for input in [Input::Pod(key(), Some(Box::new(used))), Input::Complete] {
        cluster.handle(NOW, input);
    }
    let (mut calls, mut told) = (Vec::new(), Vec::new());
    for minute in 0..25 {
        let now = NOW.after(Duration::from_secs(60 * minute));
        cluster.handle(now, Input::Tick);
        while let Some(action) = cluster.poll_action() {
            let input = match action {
                Action::ListEnis(op) => Input::Listed(op, Ok(there.clone())),
                Action::Call(op, call) => {
                    let eni = &mut there[0].eni;
                    match &call {
                        Call::Detach { .. } => {
                            (eni.status, eni.instance) = (EniStatus::Available, None);
                        }
                        _ => drop(there.remove(0)),
                    }
                    calls.push((minute, call));
                    Input::Called(op, Ok(Answer::Accepted))
                }
                Action::Notice(notice) => {
                    told.push(notice);
                    continue;
                }
                _ => continue,
            };
            cluster.handle(now, input);
        }
    }
    let (since, made): (Vec<u64>, Vec<Call>) = calls.into_iter().unzip();
    let (eni, instance) = (lost.eni.id, node().instance);
    let off = Call::Detach {
        eni: eni.clone(),
        instance,
        trunk: None,
    };
    assert_eq!(made, [off, Call::Delete(eni.clone())]);
    assert!(since[0] >= 10, "{since:?}");
    let kept = Notice::Unrecorded(EniId::new("eni-used").unwrap(), key());
    assert_eq!(told, [kept, Notice::Collected(eni)]);
}
