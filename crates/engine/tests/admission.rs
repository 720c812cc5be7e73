//! What a new pod must carry, by table: the seed's two examples, every refusal, and asking again.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{collections::BTreeMap, time::Duration};

use engine::admission::{
    Additions, Admitted, Asked, Defaults, Named, NewPod, Resource, Standing, Verdict,
    admit_networking, admit_pod,
};
use model::{
    InterfaceName, SecurityGroupId, Timestamp, VSwitchId, ZoneId,
    podnetworking::{
        EniAttachment, Labels, PodNetworking, RELEASE_AFTER_MIN, Release, Requirement, Resolved,
        Selector, Tenure, VSwitchPreference, Warm,
    },
};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let owned = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    owned.collect()
}

fn vsw(id: &str) -> VSwitchId {
    VSwitchId::new(id).unwrap()
}

fn zone(id: &str) -> ZoneId {
    ZoneId::new(id).unwrap()
}

fn networking(name: &str, app: Option<&str>) -> PodNetworking {
    PodNetworking {
        name: name.into(),
        edition: format!("{name}.1"),
        warm: Warm::default(),
        attachment: EniAttachment::Default,
        tenure: Tenure::Elastic,
        pods: app.map(|app| Selector(vec![Requirement::In("app".into(), vec![app.into()])])),
        namespaces: None,
        vswitches: vec![vsw("vsw-1"), vsw("vsw-2")],
        preference: VSwitchPreference::Ordered,
        security_groups: vec![SecurityGroupId::new("sg-1").unwrap()],
        resolved: Some(Resolved {
            ready: true,
            vswitches: vec![],
            message: String::new(),
            at: Timestamp::EPOCH,
        }),
    }
}

struct Cluster {
    networkings: BTreeMap<String, PodNetworking>,
    zones: BTreeMap<VSwitchId, ZoneId>,
    defaults: Defaults,
    trunk: bool,
}

impl Cluster {
    fn new(networkings: impl IntoIterator<Item = PodNetworking>) -> Self {
        let all = networkings.into_iter();
        Self {
            networkings: all.map(|one| (one.name.clone(), one)).collect(),
            zones: [("vsw-1", "z-i"), ("vsw-2", "z-i"), ("vsw-3", "z-j")]
                .map(|(id, z)| (vsw(id), zone(z)))
                .into(),
            defaults: Defaults {
                vswitches: [(zone("z-i"), vec![vsw("vsw-1")])].into(),
                security_groups: vec![SecurityGroupId::new("sg-default").unwrap()],
            },
            trunk: true,
        }
    }

    fn admit(&self, pod: &NewPod) -> Verdict {
        admit_pod(
            pod,
            &Standing {
                networkings: &self.networkings,
                zones: &self.zones,
                defaults: &self.defaults,
                trunk: self.trunk,
                inject_resource: true,
                release_after_min: RELEASE_AFTER_MIN,
            },
        )
    }

    fn changed(&self, pod: &NewPod) -> Additions {
        match self.admit(pod) {
            Verdict::Changed(additions) => *additions,
            other => panic!("{other:?}"),
        }
    }

    fn denied(&self, pod: &NewPod) -> String {
        match self.admit(pod) {
            Verdict::Denied(why) => why,
            other => panic!("{other:?}"),
        }
    }
}

fn pod(app: &str) -> NewPod {
    NewPod {
        labels: labels(&[("app", app)]),
        namespace_labels: labels(&[]),
        host_network: false,
        ignored: false,
        wants_eni: false,
        stable_name: false,
        of_daemon_set: false,
        asked: vec![],
        previous_zone: None,
    }
}

#[test]
fn the_seeds_stateless_pod_becomes_a_trunk_pod_and_stays_so() {
    let cluster = Cluster::new([networking("stateless", Some("nginx"))]);
    let first = cluster.changed(&pod("nginx"));
    assert_eq!(first.networking.as_deref(), Some("stateless"));
    assert_eq!(first.networks.len(), 1);
    assert_eq!(first.networks[0].interface.as_str(), "eth0");
    assert_eq!(first.resource, Some((Resource::MemberEni, 1)));
    assert_eq!(first.zones, [vec![zone("z-i")]]);
    assert!(first.warnings.is_empty());

    let mut again = pod("nginx");
    again.wants_eni = true;
    again.asked = vec![
        Asked::Networks(first.networks.clone()),
        Asked::Networking("stateless".into()),
    ];
    assert_eq!(cluster.changed(&again).networks, first.networks);
}

#[test]
fn the_seeds_fixed_pod_is_sent_to_the_zone_of_its_address() {
    let mut fixed = networking("fixed-ip", Some("sts-pod"));
    fixed.tenure = Tenure::Fixed(Release::After(Duration::from_secs(300)));
    fixed.vswitches.push(vsw("vsw-3"));
    let mut cluster = Cluster::new([fixed]);
    let mut stateful = pod("sts-pod");
    stateful.stable_name = true;
    assert_eq!(
        cluster.changed(&stateful).zones,
        [vec![zone("z-i"), zone("z-j")]]
    );
    stateful.previous_zone = Some(zone("z-i"));
    let zones = cluster.changed(&stateful).zones;
    assert_eq!(zones, [vec![zone("z-i")], vec![zone("z-i"), zone("z-j")]]);

    // Of a Deployment: who names its labels means it, who names its namespace may mean others there.
    let Verdict::Unchanged(warnings) = cluster.admit(&pod("sts-pod")) else {
        panic!("its name does not stay");
    };
    assert!(warnings[0].contains("which only a pod whose name stays can have"));
    let fixed = cluster.networkings.get_mut("fixed-ip").unwrap();
    (fixed.pods, fixed.namespaces) = (None, Some(Selector::default()));
    assert_eq!(cluster.admit(&pod("sts-pod")), unchanged());
}

#[test]
fn a_pod_without_the_eni_it_is_selected_for_is_told_why() {
    let mut unready = networking("front", Some("nginx"));
    unready.resolved = None;
    let cluster = Cluster::new([unready]);
    let Verdict::Unchanged(warnings) = cluster.admit(&pod("nginx")) else {
        panic!("it is not Ready");
    };
    assert!(warnings[0].contains("front (not Ready): it gets an address"));
}

fn unchanged() -> Verdict {
    Verdict::Unchanged(Vec::new())
}

#[test]
fn interfaces_by_name_stand_beside_the_answer_made_from_them() {
    let cluster = Cluster::new([networking("extra", None)]);
    let named = |interface: &str| {
        Asked::Named(vec![Named {
            interface: interface.into(),
            networking: "extra".into(),
            default_route: false,
            routes: vec![],
        }])
    };
    let mut first = pod("nginx");
    first.asked = vec![named("eth0")];
    let networks = cluster.changed(&first).networks;
    for (interface, taken) in [("eth0", true), ("eth1", false)] {
        let mut again = pod("nginx");
        again.wants_eni = true;
        again.asked = vec![Asked::Networks(networks.clone()), named(interface)];
        let same =
            matches!(cluster.admit(&again), Verdict::Changed(now) if now.networks == networks);
        assert_eq!(same, taken, "{interface}");
    }
}

#[test]
fn who_is_not_meant_is_left_alone() {
    let cluster = Cluster::new([
        networking("front", Some("nginx")),
        networking("named", None),
    ]);
    let change = |change: fn(&mut NewPod)| {
        let mut one = pod("nginx");
        change(&mut one);
        cluster.admit(&one)
    };
    assert_eq!(change(|pod| pod.host_network = true), unchanged());
    assert_eq!(change(|pod| pod.ignored = true), unchanged());
    assert_eq!(change(|pod| pod.labels.clear()), unchanged());
}

#[test]
fn of_several_that_select_the_first_by_name_that_is_ready_is_used_and_people_are_told() {
    let mut unready = networking("a-unready", Some("nginx"));
    unready.resolved = None;
    let cluster = Cluster::new([
        networking("c", Some("nginx")),
        networking("b", Some("nginx")),
        unready,
    ]);
    let additions = cluster.changed(&pod("nginx"));
    assert_eq!(additions.networking.as_deref(), Some("b"));
    let [warning] = additions.warnings.as_slice() else {
        panic!("{:?}", additions.warnings)
    };
    assert!(warning.contains("a-unready (not Ready), c"), "{warning}");
}

#[test]
fn what_eth0_leaves_open_comes_from_eni_conf_and_own_enis_count_as_such() {
    let mut own = networking("own", Some("nginx"));
    own.attachment = EniAttachment::Own;
    (own.vswitches, own.security_groups) = (vec![], vec![]);
    let additions = Cluster::new([own]).changed(&pod("nginx"));
    assert_eq!(additions.networks[0].vswitches, [vsw("vsw-1")]);
    assert_eq!(
        additions.networks[0].security_groups[0].as_str(),
        "sg-default"
    );
    assert_eq!(additions.resource, Some((Resource::Eni, 1)));
}

#[test]
fn each_refusal_says_what_is_wrong() {
    let mut far = networking("far", None);
    far.vswitches = vec![vsw("vsw-3")];
    let mut unready = networking("unready", None);
    unready.resolved = None;
    let mut own = networking("own", None);
    own.attachment = EniAttachment::Own;
    let mut many = networking("many", None);
    many.security_groups = (0..11)
        .map(|n| SecurityGroupId::new(format!("sg-{n}")).unwrap())
        .collect();
    let mut fixed = networking("fixed", None);
    fixed.tenure = Tenure::Fixed(Release::Never);
    let cluster = Cluster::new([
        networking("near", None),
        networking("selecting", Some("other")),
        far,
        unready,
        own,
        many,
        fixed,
    ]);
    let named = |pairs: &[(&str, &str)]| {
        let one = |(interface, networking): &(&str, &str)| Named {
            interface: (*interface).into(),
            networking: (*networking).into(),
            default_route: false,
            routes: vec![],
        };
        vec![Asked::Named(pairs.iter().map(one).collect())]
    };
    let mut gapped = cluster.changed(&NewPod {
        asked: named(&[("eth0", "near")]),
        ..pod("x")
    });
    gapped.networks[0].interface = InterfaceName::new("eth1").unwrap();
    gapped.networks[0].vswitches.clear();
    let table = [
        (named(&[("eth0", "nowhere")]), "does not exist"),
        (named(&[("eth0", "unready")]), "was not looked at yet"),
        (named(&[("eth0", "selecting")]), "has a selector"),
        (
            named(&[("eth0", "near"), ("eth1", "own")]),
            "same eniOptions.eniType",
        ),
        (
            named(&[("eth0", "near"), ("eth1", "far")]),
            "no zone in common",
        ),
        (
            named(&[("eth0", "near"), ("eth0", "near")]),
            "is given twice",
        ),
        (named(&[("", "near")]), "interface name"),
        (named(&[("eth100", "near")]), "too long"),
        (named(&[("eth0", "many")]), "11 security groups"),
        (named(&[("eth0", "fixed")]), "fixed address"),
        (vec![Asked::Networks(gapped.networks)], "has no vSwitch"),
        (
            vec![Asked::Networking("near".into()), Asked::Named(vec![])],
            "only one of the annotations",
        ),
    ];
    for (asked, expected) in table {
        let why = cluster.denied(&NewPod { asked, ..pod("x") });
        assert!(why.contains(expected), "{why:?} lacks {expected:?}");
    }
}

#[test]
fn a_short_promise_is_refused_unless_it_was_there_before() {
    let short = |seconds| {
        let mut one = networking("fixed", Some("x"));
        one.tenure = Tenure::Fixed(Release::After(Duration::from_secs(seconds)));
        one
    };
    let admit = |old: Option<&PodNetworking>, new| written(old, new, &[], true);
    let configured = |new| {
        let standing = Standing {
            networkings: &BTreeMap::new(),
            zones: &BTreeMap::new(),
            defaults: &Defaults::default(),
            trunk: true,
            inject_resource: true,
            release_after_min: Duration::from_secs(5),
        };
        admit_networking(None, new, &standing)
    };
    assert!(configured(short(5)).unwrap().warnings.is_empty());
    assert!(configured(short(4)).unwrap_err().contains("at least 5s"));
    assert!(admit(None, short(300)).unwrap().warnings.is_empty());
    assert!(admit(None, short(60)).unwrap_err().contains("releaseAfter"));
    assert!(admit(Some(&short(300)), short(60)).is_err());
    let kept = admit(Some(&short(60)), short(60)).unwrap();
    assert!(kept.warnings[0].contains("releaseAfter"));
}

#[test]
fn a_twin_is_reported_and_an_empty_one_refused() {
    let (one, two) = (networking("one", Some("x")), networking("two", Some("x")));
    let admitted = written(None, two, &[one], true).unwrap();
    assert!(admitted.warnings[0].contains("PodNetworking one selects the same pods"));
    let mut empty = networking("empty", Some("y"));
    empty.vswitches.clear();
    let why = written(None, empty, &[], true).unwrap_err();
    assert!(why.contains("vSwitchOptions"), "{why}");
}

#[test]
fn what_pods_ask_for_by_name_needs_the_injected_request() {
    for (selector, attachment, inject, may) in [
        (None, EniAttachment::Trunk, false, false),
        (None, EniAttachment::Own, false, false),
        (None, EniAttachment::Default, false, true),
        (Some("x"), EniAttachment::Trunk, false, true),
        (None, EniAttachment::Trunk, true, true),
    ] {
        let mut one = networking("one", selector);
        one.attachment = attachment;
        let said = written(None, one, &[], inject);
        assert_eq!(
            said.is_ok(),
            may,
            "{selector:?} {attachment:?} {inject}: {said:?}"
        );
    }
}

fn written(
    old: Option<&PodNetworking>,
    new: PodNetworking,
    others: &[PodNetworking],
    inject_resource: bool,
) -> Result<Admitted, String> {
    let others = others.iter().map(|one| (one.name.clone(), one.clone()));
    let standing = Standing {
        networkings: &others.collect(),
        zones: &BTreeMap::new(),
        defaults: &Defaults::default(),
        trunk: true,
        inject_resource,
        release_after_min: RELEASE_AFTER_MIN,
    };
    admit_networking(old, new, &standing)
}
