//! An ENI's life: attach, detach, delete, modify, and the end of its instance.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use cloudsim::Effect;
use support::{Lab, code, text};

fn effects(lab: &mut Lab) -> Vec<Effect> {
    std::iter::from_fn(|| lab.region.poll_effect()).collect()
}

#[test]
fn attach_and_detach_take_their_time_and_plug_and_unplug() {
    let mut lab = Lab::new();
    let instance = lab.instance("ecs.g7.xlarge", "vsw-bp1labh");
    let eni = lab.create(&[("SecondaryPrivateIpAddressCount", "1")]);
    let begun = effects(&mut lab);
    assert!(
        matches!(begun[1], Effect::Plug { primary: true, .. }),
        "{begun:?}"
    );
    assert_eq!(
        begun
            .iter()
            .filter(|effect| matches!(effect, Effect::Own { .. }))
            .count(),
        3
    );

    let place = [
        ("NetworkInterfaceId", eni.as_str()),
        ("InstanceId", instance.id.as_str()),
    ];
    lab.ok("AttachNetworkInterface", &place);
    assert_eq!(lab.status(&eni), "Attaching");
    assert_eq!(
        lab.refused("AttachNetworkInterface", &place),
        code(400, "InvalidOperation.InvalidEniState")
    );
    assert_eq!(
        lab.refused("DetachNetworkInterface", &place),
        code(400, "InvalidOperation.InvalidEniState")
    );
    let assign = [
        ("NetworkInterfaceId", eni.as_str()),
        ("SecondaryPrivateIpAddressCount", "1"),
    ];
    assert_eq!(
        lab.refused("AssignPrivateIpAddresses", &assign),
        code(400, "InvalidOperation.InvalidEniState")
    );
    assert!(
        effects(&mut lab).is_empty(),
        "a link appears when the attach is complete"
    );
    assert_eq!(
        lab.region.deadline(),
        Some(lab.now.after(std::time::Duration::from_secs(1)))
    );

    lab.pass(1);
    assert_eq!(lab.status(&eni), "InUse");
    assert!(matches!(
        effects(&mut lab)[..],
        [Effect::Plug { primary: false, .. }]
    ));
    let busy = lab.refused("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    assert_eq!(busy, code(400, "InvalidOperation.InvalidEniState"));

    lab.ok("DetachNetworkInterface", &place);
    assert_eq!(lab.status(&eni), "Detaching");
    lab.pass(1);
    assert_eq!(lab.status(&eni), "Available");
    assert!(matches!(effects(&mut lab)[..], [Effect::Unplug { .. }]));
    assert_eq!(lab.region.deadline(), None);
    lab.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    assert!(matches!(
        effects(&mut lab)[..],
        [Effect::Disown { .. }, Effect::Disown { .. }]
    ));
    assert_eq!(lab.status(&eni), "absent");
}

#[test]
fn attach_refuses_what_the_cloud_refuses() {
    let mut lab = Lab::new();
    let instance = lab.instance("ecs.g6.large", "vsw-bp1labh");
    let (near, second) = (lab.create(&[]), lab.create(&[]));
    let far = lab.create(&[("VSwitchId", "vsw-bp1labi")]);
    let wide = lab.create(&[("SecondaryPrivateIpAddressCount", "6")]);
    let trunk = lab.create(&[("InstanceType", "Trunk")]);
    let id = instance.id.as_str();
    let own = instance.primary_eni.as_str();
    for (eni, instance, expected) in [
        ("eni-none", id, code(404, "InvalidEniId.NotFound")),
        (near.as_str(), "i-none", code(404, "InvalidEcsId.NotFound")),
        (
            far.as_str(),
            id,
            code(403, "InvalidOperation.AvailabilityZoneMismatch"),
        ),
        (
            wide.as_str(),
            id,
            code(403, "InvalidOperation.Ipv4CountExceeded"),
        ),
        (
            trunk.as_str(),
            id,
            code(403, "InvalidOperation.InvalidEniType"),
        ),
        (own, id, code(403, "InvalidOperation.InvalidEniType")),
    ] {
        let place = [("NetworkInterfaceId", eni), ("InstanceId", instance)];
        assert_eq!(
            lab.refused("AttachNetworkInterface", &place),
            expected,
            "{eni} to {instance}"
        );
    }
    lab.ok(
        "AttachNetworkInterface",
        &[("NetworkInterfaceId", &near), ("InstanceId", id)],
    );
    let third = [("NetworkInterfaceId", second.as_str()), ("InstanceId", id)];
    assert_eq!(
        lab.refused("AttachNetworkInterface", &third),
        code(403, "EniPerInstanceLimitExceeded")
    );
}

#[test]
fn the_primary_eni_stays_with_its_instance() {
    let mut lab = Lab::new();
    let instance = lab.instance("ecs.g6.large", "vsw-bp1labh");
    let (eni, id) = (instance.primary_eni.as_str(), instance.id.as_str());
    let place = [("NetworkInterfaceId", eni), ("InstanceId", id)];
    let detach = lab.refused("DetachNetworkInterface", &place);
    assert_eq!(
        detach,
        code(400, "InvalidOperation.DetachPrimaryEniNotAllowed")
    );
    let delete = lab.refused("DeleteNetworkInterface", &place[..1]);
    assert_eq!(delete, code(403, "InvalidOperation.InvalidEniType"));
}

#[test]
fn attributes_change_and_the_fabric_hears_of_the_source_check() {
    let mut lab = Lab::new();
    let eni = lab.create(&[]);
    effects(&mut lab);
    let set = |on| {
        [
            ("NetworkInterfaceId", eni.as_str()),
            ("SourceDestCheck", on),
            ("NetworkInterfaceName", "n1"),
        ]
    };
    lab.ok("ModifyNetworkInterfaceAttribute", &set("true"));
    assert!(matches!(
        effects(&mut lab)[..],
        [Effect::SourceDestCheck { enabled: true, .. }]
    ));
    lab.ok("ModifyNetworkInterfaceAttribute", &set("true"));
    assert!(effects(&mut lab).is_empty(), "no change, no effect");
    let seen = &lab.describe(&[("NetworkInterfaceName", "n1")])[0];
    assert_eq!(seen["SourceDestCheck"], true);
    assert_eq!(
        lab.refused("ModifyNetworkInterfaceAttribute", &set("maybe")),
        code(400, "InvalidParameter")
    );
}

#[test]
fn releasing_an_instance_ends_what_belongs_to_it() {
    let mut lab = Lab::new();
    let instance = lab.instance("ecs.g7.xlarge", "vsw-bp1labh");
    let kept = lab.create(&[("DeleteOnRelease", "false")]);
    let (ends, coming) = (lab.create(&[]), lab.create(&[]));
    for eni in [&kept, &ends, &coming] {
        if *eni == coming {
            lab.pass(1);
        }
        lab.ok(
            "AttachNetworkInterface",
            &[
                ("NetworkInterfaceId", eni),
                ("InstanceId", instance.id.as_str()),
            ],
        );
    }
    effects(&mut lab);
    assert!(lab.region.release_instance(lab.now, &instance.id));
    assert!(!lab.region.release_instance(lab.now, &instance.id));
    let unplugged = effects(&mut lab)
        .into_iter()
        .filter(|effect| matches!(effect, Effect::Unplug { .. }))
        .count();
    assert_eq!(unplugged, 3, "the one still attaching was never plugged");
    lab.pass(5);
    assert!(effects(&mut lab).is_empty(), "its pending attach is void");
    let left: Vec<String> = lab
        .describe(&[])
        .iter()
        .map(|eni| text(&eni["NetworkInterfaceId"]))
        .collect();
    assert_eq!(left, [kept]);
}
