//! Trunk pods: what they wait for, what they get, and what becomes of them.

use engine::{
    ledger::Attachment,
    netplan::LocalTraffic,
    node::{Notice, PodState},
};
use model::{
    EniId, InstanceId, InterfaceName, PodUid,
    podeni::{Phase, PodEni},
    podnetworking::EniAttachment,
};

use crate::world::{FIRST_TRUNK, Step, World, member::second};

const POD: u8 = FIRST_TRUNK;

fn world() -> World {
    let mut world = World::with(|config| {
        config.limits.trunk = true;
        config.policy.trunk = Some(LocalTraffic::Strict);
    });
    world.calm();
    world
}

fn attachment(world: &World) -> Option<Attachment> {
    world.ledger().attachments().next().cloned()
}

fn running() -> World {
    let mut world = world();
    world.step(Step::Add(POD));
    world.step(Step::Bind(POD));
    world.pass(1);
    world
}

fn change(world: &mut World, change: impl FnOnce(&mut PodEni)) {
    let mut record = world.record(POD);
    change(&mut record);
    world.write_record(POD, Some(record));
    world.settle();
}

fn lost(world: &World) -> Vec<String> {
    let told = world.notices.iter().filter_map(|notice| match notice {
        Notice::MemberLost(_, why) => Some(why.clone()),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_trunk_pod_gets_the_address_of_its_own_eni_and_the_pool_is_left_alone() {
    let mut world = world();
    let idle = world.view().idle;
    world.step(Step::Add(POD));
    world.pass(5);
    let view = world.view();
    assert_eq!((view.trunk_waiting, view.waiting, view.idle), (1, 0, idle));
    world.step(Step::Bind(POD));
    world.pass(1);
    let known = attachment(&world).unwrap();
    let member = known.member.unwrap();
    assert_eq!((member.eni.as_str(), member.vlan()), ("eni-m24", Some(124)));
    assert_eq!(world.addresses(POD), ["10.9.0.24".parse().unwrap()].into());
    let view = world.view();
    assert_eq!((view.trunk_waiting, view.idle, view.assigned), (0, idle, 0));
    let trunk = view.enis.iter().find(|eni| eni.trunk).unwrap();
    assert_eq!(trunk.members.len(), 1);
    assert_eq!(world.explain(POD).state, PodState::Attached);
    world.step(Step::Del(POD));
    world.calm();
    assert_eq!(attachment(&world), None);
    world.check_at_rest();
}

#[test]
fn an_add_says_what_it_waits_for() {
    type Change = fn(&mut PodEni);
    let cases: [(Change, &str); 16] = [
        (|it| it.phase = Phase::Initial, "has no ENI yet"),
        (
            |it| (it.phase, it.message) = (Phase::Binding, "vsw-9 is full".into()),
            "is Binding: its ENI is on its way to the node: vsw-9 is full",
        ),
        (|it| it.deleting = true, "is being deleted"),
        (
            |it| it.pod = PodUid::new("another").unwrap(),
            "is of an earlier pod of this name",
        ),
        (
            |it| it.instance = Some(InstanceId::new("i-2").unwrap()),
            "is bound to instance i-2, and this is i-1",
        ),
        (
            |it| it.trunk = Some(EniId::new("eni-t").unwrap()),
            "is bound to trunk eni-t, and this node's is eni-2",
        ),
        (
            |it| it.allocations[0].interface = InterfaceName::new("eth1").unwrap(),
            "has an ENI for eth1 and none for eth0",
        ),
        (
            |it| it.attached.clear(),
            "names no VLAN of the trunk for eni-m24 of eth0",
        ),
        (|it| it.allocations.clear(), "names no interface"),
        (|it| it.allocations[0].eni = None, "names no ENI for eth0"),
        (
            |it| it.allocations[0].attachment = EniAttachment::Own,
            "names a VLAN for eni-m24 of eth0, which is its own",
        ),
        (
            |it| it.allocations[0].routes = vec!["fd00::/8".parse().unwrap()],
            "sends fd00::/8 by eth0, which has no V6 address",
        ),
        (
            |it| {
                second(it);
                it.allocations[1].interface = it.allocations[0].interface.clone();
            },
            "names eth0 twice",
        ),
        (
            |it| {
                second(it);
                it.allocations[1].default_route = true;
            },
            "sends the default route by eth0 and by eth1",
        ),
        (
            |it| {
                second(it);
                it.allocations[0].routes = it.allocations[1].routes.clone();
            },
            "sends 10.8.0.0/16 by eth0 and by eth1",
        ),
        (
            |it| {
                second(it);
                it.allocations[1].addresses = it.allocations[0].addresses;
            },
            "gives 10.9.0.24 to eth1 and to another",
        ),
    ];
    for (edit, expected) in cases {
        let mut world = world();
        world.step(Step::Bind(POD));
        change(&mut world, edit);
        world.step(Step::Add(POD));
        world.pass(1);
        let told = world.explain(POD);
        assert!(
            told.missing.as_ref().unwrap().contains(expected),
            "{told:?}"
        );
        world.pass(91);
        let failure = world.failure(POD).expect("the ADD was answered in time");
        assert!(failure.contains(expected), "{failure}");
    }
}

#[test]
fn without_a_trunk_an_add_says_so() {
    for (on, expected) in [
        (true, "supports no trunk"),
        (false, "enable_eni_trunking is off"),
    ] {
        let mut world = World::with(|config| {
            config.policy.trunk = on.then_some(LocalTraffic::Strict);
        });
        world.step(Step::Add(POD));
        world.pass(91);
        let failure = world.failure(POD).unwrap();
        assert!(failure.contains(expected), "{failure}");
        assert_eq!(world.view().assigned, 0, "no pool address serves it");
    }
}

#[test]
fn a_restart_needs_nobody_to_know_a_trunk_pod() {
    let mut world = running();
    let before = attachment(&world);
    world.cut_off();
    world.step(Step::Unbind(POD));
    world.step(Step::Kill);
    world.pass(5);
    assert_eq!(attachment(&world), before);
    world.step(Step::Del(POD));
    world.pass(5);
    assert_eq!(attachment(&world), None);
}

#[test]
fn another_vlan_is_taken_up_and_what_cuts_a_pod_off_is_said_once() {
    let mut world = running();
    change(&mut world, |record| {
        let attached = record.attached.values_mut().next().unwrap();
        attached.vlan = Some(9);
    });
    let vlan = |world: &World| attachment(world).unwrap().member.unwrap().vlan().unwrap();
    assert_eq!((vlan(&world), lost(&world).len()), (9, 0));
    assert_eq!(world.tags(), [9], "the trunk was set up anew");
    for phase in [Phase::Detaching, Phase::Unbind] {
        change(&mut world, |record| record.phase = phase);
    }
    let told = lost(&world);
    assert!(
        told.len() == 1 && told[0].contains("is Detaching"),
        "{told:?}"
    );
    assert!(attachment(&world).is_some(), "the sandbox is the runtime's");
    let missing = world.explain(POD).missing;
    assert!(missing.unwrap().contains("is Unbind"));
    world.step(Step::Bind(POD));
    world.step(Step::Unbind(POD));
    world.settle();
    assert_eq!(lost(&world).len(), 2, "again, after it was well");
}

#[test]
fn a_newer_sandbox_waits_until_the_older_has_let_go_of_the_address() {
    let mut world = running();
    // The older one is gone from the kernel, and its DEL never comes.
    world.step(Step::Recreate(POD));
    world.pass(20);
    assert_eq!(world.view().trunk_waiting, 1);
    let told = world.explain(POD).missing.unwrap();
    assert!(told.contains("is still held by sandbox"), "{told}");
    world.pass(40);
    assert_eq!(
        world.view().trunk_waiting,
        0,
        "two looks prove that it is gone"
    );
    assert_eq!(world.addresses(POD).len(), 1);
}

/// A pod with two interfaces, its record in the order eth1, eth0 and without a default route.
fn with_two() -> World {
    let mut world = world();
    world.step(Step::Bind(POD));
    change(&mut world, |record| {
        second(record);
        record.allocations[0].default_route = false;
        record.allocations.reverse();
    });
    world.step(Step::Add(POD));
    world.pass(1);
    world
}

#[test]
fn a_pod_gets_all_its_interfaces_at_once_or_none() {
    let mut world = with_two();
    let known = attachment(&world).unwrap();
    let wires: Vec<_> = known
        .wires()
        .map(|wire| {
            let member = wire.member.unwrap();
            (
                wire.interface.as_str(),
                member.vlan().unwrap(),
                member.default_route,
            )
        })
        .collect();
    assert_eq!(wires, [("eth0", 124, true), ("eth1", 224, false)]);
    let both = ["10.9.0.24", "10.9.1.24"].map(|ip| ip.parse().unwrap());
    assert_eq!(world.addresses(POD), both.into());
    let trunk = world.view().enis.into_iter().find(|eni| eni.trunk).unwrap();
    assert_eq!(trunk.members[&both[1]], "default/pod-24 eth1 (VLAN 224)");
    let told = world.explain(POD);
    assert_eq!(told.addresses, both);
    assert_eq!(
        told.interfaces,
        [
            "eth0: 10.9.0.24 on eni-m24, VLAN 124, default route",
            "eth1: 10.9.1.24 on eni-n24, VLAN 224, routes 10.8.0.0/16",
        ]
    );
    // A crash forgets neither, also when nobody can be asked.
    world.cut_off();
    world.step(Step::Kill);
    world.pass(5);
    assert_eq!(attachment(&world), Some(known));
    assert_eq!(world.tags(), [124, 224], "the trunk was told of both");
    world.step(Step::Del(POD));
    world.calm();
    assert_eq!(attachment(&world), None);
    world.check_at_rest();
}

#[test]
fn one_lost_interface_of_two_is_said_and_the_other_follows_its_eni() {
    let mut world = with_two();
    change(&mut world, |record| {
        let eni = record.allocations[0].eni.clone().unwrap();
        record.attached.get_mut(&eni.id).unwrap().vlan = Some(225);
    });
    let wires = attachment(&world).unwrap();
    assert_eq!(
        (wires.further[0].member.vlan().unwrap(), lost(&world).len()),
        (225, 0)
    );
    change(&mut world, |record| {
        record.allocations.remove(0);
        for attached in record.attached.values_mut() {
            attached.vlan = attached.vlan.map(|vlan| vlan + 1);
        }
    });
    let wires = attachment(&world).unwrap();
    let first = wires.member.unwrap().vlan().unwrap();
    assert_eq!([first, wires.further[0].member.vlan().unwrap()], [125, 225]);
    assert!(
        lost(&world)[0].contains("names another"),
        "{:?}",
        lost(&world)
    );
}

#[test]
fn no_interface_is_set_up_while_one_of_its_addresses_is_anothers() {
    let mut world = running();
    let other = POD + 1;
    world.step(Step::Bind(other));
    let mut record = world.record(other);
    record.allocations[1].addresses = world.record(POD).allocations[0].addresses;
    world.write_record(other, Some(record));
    world.step(Step::Add(other));
    world.pass(1);
    let told = world.explain(other).missing.unwrap();
    assert!(told.contains("10.9.0.24 is still held by"), "{told}");
    assert_eq!(world.ledger().attachments().count(), 1);
}

#[test]
fn a_pod_that_stands_follows_the_way_the_configuration_names() {
    let mut world = with_two();
    let before = world.rules().clone();
    assert_eq!(before.len(), 2 * 5, "five a pod's address in strict");
    for restart in [false, true] {
        for (local, rules) in [
            (LocalTraffic::Standard, 2 * 2),
            (LocalTraffic::Strict, 2 * 5),
        ] {
            world.configure(|config| config.policy.trunk = Some(local));
            if restart {
                world.step(Step::Kill);
            }
            world.pass(5);
            assert_eq!(world.rules().len(), rules, "{local:?}");
        }
    }
    assert_eq!(*world.rules(), before);
}

#[test]
fn a_pod_that_goes_takes_the_rules_of_either_way_along() {
    for (from, to) in [
        (LocalTraffic::Strict, LocalTraffic::Standard),
        (LocalTraffic::Standard, LocalTraffic::Strict),
    ] {
        let mut world = with_two();
        world.configure(|config| config.policy.trunk = Some(from));
        world.pass(5);
        // The kernel has not followed yet when the pod goes.
        world.refuse_trunk_filters();
        world.configure(|config| config.policy.trunk = Some(to));
        world.step(Step::Del(POD));
        world.pass(1);
        assert!(world.rules().is_empty(), "{to:?}: {:?}", world.rules());
    }
}
