//! Member ENIs: joining a trunk, riding on it under a VLAN, leaving it, and who goes with whom.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use cloudsim::{Effect, Instance, MetadataRequest};
use support::{Lab, code, text};

/// 4 ENIs and 20 in total: 16 members.
const TYPE: &str = "ecs.g7.xlarge";

fn effects(lab: &mut Lab) -> Vec<Effect> {
    std::iter::from_fn(|| lab.region.poll_effect()).collect()
}

fn asked<'a>(eni: &'a str, instance: &'a Instance, trunk: &'a str) -> Vec<(&'a str, &'a str)> {
    let all = [
        ("NetworkInterfaceId", eni),
        ("InstanceId", instance.id.as_str()),
        ("TrunkNetworkInstanceId", trunk),
    ];
    all.into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// A region with an instance whose trunk is in use.
fn with_trunk() -> (Lab, Instance, String) {
    let mut lab = Lab::new();
    let instance = lab.instance(TYPE, "vsw-bp1labh");
    let trunk = lab.create(&[("InstanceType", "Trunk")]);
    lab.ok("AttachNetworkInterface", &asked(&trunk, &instance, ""));
    lab.pass(1);
    effects(&mut lab);
    (lab, instance, trunk)
}

fn joined(lab: &mut Lab, instance: &Instance, trunk: &str) -> String {
    let eni = lab.create(&[]);
    lab.ok("AttachNetworkInterface", &asked(&eni, instance, trunk));
    eni
}

#[test]
fn a_member_is_one_while_it_rides_and_secondary_before_and_after() {
    let (mut lab, instance, trunk) = with_trunk();
    let eni = joined(&mut lab, &instance, &trunk);
    let shown = |lab: &mut Lab| {
        let eni = lab.describe(&[("NetworkInterfaceId.1", &eni)]).remove(0);
        let [kind, status, mac, ip, on] = [
            "Type",
            "Status",
            "MacAddress",
            "PrivateIpAddress",
            "InstanceId",
        ]
        .map(|key| text(&eni[key]));
        let ride = eni["Attachment"].clone();
        ((kind, status, on), (mac, ip), ride)
    };
    let is =
        |kind: &str, status: &str, on: &str| (kind.to_owned(), status.to_owned(), on.to_owned());
    let id = instance.id.as_str();
    let (state, identity, ride) = shown(&mut lab);
    assert_eq!(state, is("Member", "Attaching", id));
    assert_eq!(
        (&ride["TrunkNetworkInterfaceId"], &ride["DeviceIndex"]),
        (&trunk.clone().into(), &1.into())
    );
    lab.pass(1);
    assert_eq!(shown(&mut lab).0, is("Member", "InUse", id));
    let plugged = effects(&mut lab);
    let [Effect::Own { .. }, Effect::PlugMember { ride, mac, .. }] = &plugged[..] else {
        panic!("{plugged:?}");
    };
    assert_eq!(
        (ride.trunk.as_str(), ride.vlan, mac.to_string()),
        (trunk.as_str(), 1, identity.0.clone())
    );
    let members = lab.describe(&[("Type", "Member"), ("Status", "InUse"), ("InstanceId", id)]);
    assert_eq!(members.len(), 1);
    let request = MetadataRequest::get("/latest/meta-data/network/interfaces/macs/");
    let macs = lab.region.metadata(lab.now, &instance.id, &request).body;
    assert!(
        macs.lines().count() == 2 && !macs.contains(&identity.0),
        "{macs}"
    );

    lab.ok("DetachNetworkInterface", &asked(&eni, &instance, &trunk));
    assert_eq!(shown(&mut lab).0, is("Member", "Detaching", id));
    lab.pass(1);
    let (state, same, ride) = shown(&mut lab);
    assert_eq!(
        (state, same, ride),
        (
            is("Secondary", "Available", ""),
            identity,
            serde_json::json!({})
        )
    );
    assert!(matches!(effects(&mut lab)[..], [Effect::Unplug { .. }]));
}

#[test]
fn what_cannot_join_or_leave_is_refused() {
    let (mut lab, instance, trunk) = with_trunk();
    let [member, plain, loose] = [
        joined(&mut lab, &instance, &trunk),
        lab.create(&[]),
        lab.create(&[]),
    ];
    let far = lab.create(&[("VSwitchId", "vsw-bp1labi")]);
    let second = lab.create(&[("InstanceType", "Trunk")]);
    let other = lab.instance(TYPE, "vsw-bp1labh");
    lab.ok("AttachNetworkInterface", &asked(&plain, &instance, ""));
    lab.pass(1);
    let (state, kind) = (
        "InvalidOperation.InvalidEniState",
        "InvalidOperation.InvalidEniType",
    );
    for (action, eni, on, trunk, expected) in [
        (
            "Attach",
            &*loose,
            &instance,
            "eni-none",
            code(404, "InvalidEniId.NotFound"),
        ),
        ("Attach", &loose, &instance, &plain, code(403, kind)),
        ("Attach", &loose, &instance, &second, code(400, state)),
        (
            "Attach",
            &loose,
            &other,
            &trunk,
            code(400, "InvalidParameter"),
        ),
        (
            "Attach",
            &far,
            &instance,
            &trunk,
            code(403, "InvalidOperation.AvailabilityZoneMismatch"),
        ),
        ("Attach", &second, &instance, &trunk, code(403, kind)),
        ("Attach", &member, &instance, &trunk, code(403, kind)),
        (
            "Detach",
            &member,
            &instance,
            "",
            code(400, "MissingParameter"),
        ),
        (
            "Detach",
            &member,
            &instance,
            &second,
            code(400, "InvalidParameter"),
        ),
        ("Detach", &plain, &instance, &trunk, code(403, kind)),
        (
            "Detach",
            &member,
            &other,
            &trunk,
            code(400, "InvalidParameter"),
        ),
    ] {
        let action = format!("{action}NetworkInterface");
        let refused = lab.refused(&action, &asked(eni, on, trunk));
        assert_eq!(
            refused, expected,
            "{action} {eni} on {} with {trunk}",
            on.id
        );
    }
}

#[test]
fn members_have_a_quota_of_their_own_and_vlans_are_used_again() {
    let (mut lab, instance, trunk) = with_trunk();
    let members: Vec<String> = (0..16)
        .map(|_| joined(&mut lab, &instance, &trunk))
        .collect();
    let [late, plain] = [lab.create(&[]), lab.create(&[])];
    let refused = lab.refused("AttachNetworkInterface", &asked(&late, &instance, &trunk));
    assert_eq!(refused, code(403, "EniPerInstanceLimitExceeded"));
    lab.ok("AttachNetworkInterface", &asked(&plain, &instance, ""));
    lab.pass(1);
    lab.ok(
        "DetachNetworkInterface",
        &asked(&members[4], &instance, &trunk),
    );
    lab.pass(1);
    lab.ok("AttachNetworkInterface", &asked(&late, &instance, &trunk));
    let shown = lab.describe(&[("NetworkInterfaceId.1", &late)]).remove(0);
    assert_eq!(shown["Attachment"]["DeviceIndex"], 5);
}

#[test]
fn members_go_with_their_trunk_and_before_it() {
    for release in [false, true] {
        let (mut lab, instance, trunk) = with_trunk();
        let rides = joined(&mut lab, &instance, &trunk);
        lab.pass(1);
        let comes = joined(&mut lab, &instance, &trunk);
        effects(&mut lab);
        // Released at once, the second is still coming and was never plugged; a detach takes as long
        // as its attach, which is complete a moment before.
        let members = if release {
            assert!(lab.region.release_instance(lab.now, &instance.id));
            vec![&rides]
        } else {
            lab.ok("DetachNetworkInterface", &asked(&trunk, &instance, ""));
            lab.pass(1);
            vec![&rides, &comes]
        };
        let state = if release { "absent" } else { "Available" };
        for eni in [&rides, &comes, &trunk] {
            assert_eq!(lab.status(eni), state);
        }
        let mut gone: Vec<String> = effects(&mut lab)
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Unplug { eni, .. } => Some(eni.to_string()),
                _ => None,
            })
            .filter(|eni| eni != instance.primary_eni.as_str())
            .collect();
        assert_eq!(gone.pop(), Some(trunk), "the trunk goes last");
        gone.sort();
        let mut members: Vec<String> = members.into_iter().cloned().collect();
        members.sort();
        assert_eq!(gone, members);
    }
}
