//! Spare ENIs of the control plane's machine, in virtual time.

#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test world: what does not hold fails the test"
)]
mod world;

use std::{collections::BTreeSet, time::Duration};

use engine::cluster::Notice;
use model::{EniId, EniStatus, Exhausted, FaultClass, podeni::Phase, podnetworking::Warm};
use world::{World, pod_name};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Two lists of the collector and the rest between them.
const COLLECTED: Duration = Duration::from_secs(25 * 60);

fn members(number: u32) -> Warm {
    Warm {
        members_per_node: Some(number),
        enis_per_zone: None,
    }
}

/// A cluster with a pod on each of its nodes, and its spares made.
fn filled(nodes: usize, warm: Warm) -> World {
    let mut world = World::new(nodes, warm);
    world.run(SECOND);
    for at in 0..nodes {
        world.create(900 + at, &format!("n{at}"));
    }
    world.run(5 * MINUTE);
    assert!(world.all_bound());
    world
}

fn on_trunks(world: &World) -> usize {
    let spare = world.spare().into_iter();
    spare.filter(|eni| eni.status == EniStatus::InUse).count()
}

#[test]
fn a_rolling_restart_waits_for_no_call() {
    let (nodes, pods) = (5, 50);
    let mut world = filled(nodes, members(12));
    assert_eq!(on_trunks(&world), nodes * 12);
    let node = |at: usize| format!("n{}", at % nodes);
    for at in 0..pods {
        world.create(at, &node(at));
    }
    // They drew ten on each node; what they took is made anew, and what they leave is kept.
    world.run(5 * MINUTE);
    let mut slowest = Duration::ZERO;
    for at in 0..pods {
        world.create(100 + at, &node(at));
        world.run(SECOND / 2);
        let took = world.bound.get(&pod_name(100 + at)).copied();
        slowest = slowest.max(took.expect("bound within half a second"));
        world.delete(at);
    }
    println!("slowest of {pods}: {slowest:?}");
    assert!(slowest < SECOND / 10, "two writes and two watches");
    let plane = world.planes.values().next().expect("it lives");
    let spent = plane.view().spent;
    assert_eq!((spent.drawn, spent.missed), (100, 5), "{spent:?}");
    world.run(COLLECTED);
    assert_eq!(on_trunks(&world), nodes * 12, "as many as are wanted");
    assert_eq!(world.spare().len(), nodes * 12, "and no other is left over");
}

/// The control plane dies at its k-th action, for every k: nothing is used twice or left over.
#[test]
fn it_may_die_at_any_step() {
    for carried_out in [false, true] {
        let mut last = 0;
        for kill_at in 1.. {
            let mut world = World::new(1, members(2));
            world.kill_at = Some((kill_at, carried_out));
            for at in 0..4 {
                world.create(at, "n0");
                world.run(40 * SECOND);
                if at > 0 {
                    world.delete(at - 1);
                }
            }
            last = world.actions.max(last);
            if kill_at > last {
                break;
            }
            world.run(2 * COLLECTED);
            assert!(world.all_bound(), "killed at {kill_at}");
            let spare = world.spare();
            assert_eq!(spare.len(), 2, "killed at {kill_at}: {spare:?}");
            assert_eq!(on_trunks(&world), 2, "killed at {kill_at}");
            assert_eq!(world.records.len(), 1);
        }
        println!("killed at each of {last} steps");
        assert!(last > 20);
    }
}

#[test]
fn a_new_leader_draws_nothing_before_the_last_ones_writes_have_ended() {
    let mut world = filled(1, members(3));
    world.planes.clear();
    world.boot();
    world.run(30 * SECOND);
    let before = world.calls.get("create").copied();
    world.create(1, "n0");
    world.run(30 * SECOND);
    assert_eq!(
        world.calls.get("create").map(|calls| calls - 1),
        before,
        "what it found rests, so one is made"
    );
    world.run(MINUTE);
    world.create(2, "n0");
    world.run(SECOND);
    assert!(world.bound[&pod_name(2)] < SECOND / 10, "now it draws");
    world.run(COLLECTED);
    assert_eq!(world.spare().len(), 3, "those found, and no more");
}

#[test]
fn a_list_that_lacks_what_there_is_is_asked_for_again() {
    // The third is believed: somebody took the ENI away that a record names.
    for (blind, spares) in [(1, 3), (2, 3), (3, 6)] {
        let mut world = filled(1, members(3));
        world.planes.clear();
        world.blind = blind;
        world.boot();
        world.run(5 * MINUTE);
        assert_eq!(world.spare().len(), spares, "{blind} empty lists");
    }
}

#[test]
fn of_two_records_that_name_one_eni_the_bound_one_keeps_it() {
    // Nobody is bound: the first by name has it. One is, or both are: the one whose pod runs with it.
    let (first, second) = (Phase::Initial, Phase::Bind);
    for (phases, keeps) in [
        ([first, first], 1),
        ([first, second], 2),
        ([second, second], 1),
        ([second, second], 2),
    ] {
        let mut world = filled(1, members(2));
        world.planes.clear();
        let stray = world.spare()[0].clone();
        for (at, phase) in [1, 2].into_iter().zip(phases) {
            world.create(at, "n0");
            let mut record = world.records[&pod_name(900)].clone();
            let allocation = &mut record.allocations[0];
            let eni = allocation.eni.as_mut().expect("made");
            (eni.id, eni.mac) = (stray.id.clone(), stray.mac);
            allocation.addresses.v4 = stray.primary_address();
            record.key = pod_name(at);
            record.uid = format!("by-hand-{at}");
            record.version = world.next_version();
            record.pod = world.pods[&record.key].uid.clone();
            record.phase = phase;
            let attached = std::mem::take(&mut record.attached);
            if let Some(mut attached) = attached.into_values().next().filter(|_| phase == second) {
                let [.., high, low] = stray.mac.0;
                attached.vlan = Some(u16::from_be_bytes([high, low]));
                record.attached.insert(stray.id.clone(), attached);
            }
            if at != keeps {
                world.by_hand.insert(record.key.clone());
            }
            world.records.insert(record.key.clone(), record);
        }
        world.boot();
        world.run(MINUTE);
        assert!(world.all_bound());
        assert_eq!(eni_of(&world, keeps), stray.id, "{phases:?}");
        assert_ne!(eni_of(&world, 1), eni_of(&world, 2));
        let told = |one: &&Notice| matches!(one, Notice::Doubled(eni, _) if *eni == stray.id);
        let told = world.notices.iter().filter(told).count();
        assert_eq!(told, usize::from(phases == [second, second]), "{phases:?}");
    }
}

fn eni_of(world: &World, at: usize) -> EniId {
    let record = &world.records[&pod_name(at)];
    let eni = record.allocations[0].eni.as_ref();
    eni.expect("made").id.clone()
}

#[test]
fn pods_go_before_spares_where_the_trunk_is_full() {
    let mut world = World::new(1, members(3));
    world.members = 4;
    world.planes.clear();
    world.boot();
    for at in 0..2 {
        world.create(at, "n0");
    }
    world.run(5 * MINUTE);
    assert_eq!(on_trunks(&world), 2, "two of three have room");
    // Pods of another network: none of the spares is what they ask for.
    let groups = world.networking.security_groups.clone();
    world
        .networking
        .security_groups
        .push(model::SecurityGroupId::new("sg-2").expect("an id"));
    world.create(2, "n0");
    world.create(3, "n0");
    world.networking.security_groups = groups;
    world.run(MINUTE);
    assert!(world.all_bound(), "the spares made room");
    assert!(world.spare().is_empty());
}

#[test]
fn what_becomes_free_on_a_full_trunk_goes_to_the_pod_that_waits() {
    // A pod leaves its place, or strangers do, at any moment of the waits between two tries.
    for (leaves, wait) in (0..40).flat_map(|wait| [(true, wait), (false, wait)]) {
        let mut world = World::new(1, members(3));
        (world.members, world.strangers) = (4, 3);
        world.planes.clear();
        world.boot();
        world.create(0, "n0");
        world.run(MINUTE);
        assert!(world.all_bound());
        world.create(1, "n0");
        world.run(4 * MINUTE + SECOND * wait);
        assert!(!world.all_bound(), "the trunk is full");
        match leaves {
            true => world.delete(0),
            false => world.strangers = 2,
        }
        // The longest wait between two tries, a detach and an attach.
        world.run(SECOND * 45);
        assert!(world.all_bound(), "{leaves} {wait}");
    }
}

#[test]
fn spares_of_an_edition_go_with_it() {
    let mut world = filled(2, members(3));
    let before: BTreeSet<EniId> = world.spare().iter().map(|eni| eni.id.clone()).collect();
    world.change(|one| {
        one.edition = "uid.2".into();
        one.security_groups = vec![model::SecurityGroupId::new("sg-2").expect("an id")];
    });
    world.run(5 * MINUTE);
    assert!(
        world.spare().is_empty(),
        "no pod of the new edition runs yet"
    );
    world.create(1, "n0");
    world.delete(900);
    world.run(5 * MINUTE);
    let after = world.spare();
    assert_eq!(after.len(), 3, "on the node where one runs");
    assert!(after.iter().all(|eni| !before.contains(&eni.id)));
    world.change(|one| one.warm = members(1));
    world.run(MINUTE);
    assert_eq!(world.spare().len(), 1);
}

#[test]
fn what_nobody_uses_is_given_back() {
    let mut world = filled(2, members(3));
    world.delete(900);
    world.run(5 * MINUTE);
    assert_eq!(world.spare().len(), 6, "a rolling update comes back");
    world.run(6 * MINUTE);
    assert_eq!(world.spare().len(), 3, "ten minutes later it has not");
    world.node_gone("n1");
    world.delete(901);
    world.run(COLLECTED);
    assert_eq!((world.enis.len(), world.records.len()), (0, 0));
}

#[test]
fn a_full_vswitch_is_told_of_once_and_asked_rarely() {
    let mut world = World::new(1, members(3));
    world.addresses = 2;
    world.create(1, "n0");
    world.run(30 * MINUTE);
    let told = |one: &&Notice| matches!(one, Notice::SpareFailed(..));
    assert_eq!(world.notices.iter().filter(told).count(), 1);
    let asked = world.calls["create"];
    assert!(asked < 20, "{asked} in half an hour");
    world.addresses = 100;
    world.run(11 * MINUTE);
    assert_eq!(on_trunks(&world), 3);
}

#[test]
fn one_pod_asks_a_full_vswitch_for_all_that_wait() {
    let pods = 20;
    // Nothing is given out while the description says that there is nothing, or that there is plenty.
    for (shown, asked) in [(0, 0), (50, 11)] {
        let mut world = World::new(1, Warm::default());
        (world.addresses, world.shown) = (0, Some(50));
        for at in 0..pods {
            world.create(at, "n0");
        }
        world.run(MINUTE / 2);
        world.shown = Some(shown);
        let before = world.calls["create"];
        world.run(10 * MINUTE);
        let often = world.calls["create"] - before;
        assert!(often <= asked, "{often} times, where {shown} are shown");
        (world.addresses, world.shown) = (pods, None);
        let before = world.calls["create"];
        world.run(2 * MINUTE);
        assert!(world.all_bound());
        let often = world.calls["create"] - before;
        assert!(often <= pods + 1, "{often} for {pods} pods");
    }
}

#[test]
fn what_only_people_can_mend_is_asked_less_and_less_often() {
    let account = FaultClass::Exhausted(Exhausted::Account);
    for class in [FaultClass::Invalid, account, FaultClass::Denied] {
        let mut world = World::new(1, Warm::default());
        world.barred = Some(class);
        world.create(1, "n0");
        world.run(10 * MINUTE);
        // Half a second, doubled up to half a minute, a quarter less at most.
        let asked = world.calls["create"];
        assert!((10..=33).contains(&asked), "{asked} times: {class:?}");
        world.barred = None;
        world.run(MINUTE);
        assert!(world.all_bound());
    }
}

#[test]
fn a_write_that_fails_draws_no_second_one() {
    let mut world = filled(1, members(5));
    world.failing = 4;
    world.create(1, "n0");
    world.run(MINUTE);
    assert!(world.all_bound());
    let plane = world.planes.values().next().expect("it lives");
    assert_eq!(plane.view().spent.drawn, 1);
}

#[test]
fn nodes_that_take_no_eni_hold_up_no_other() {
    for class in [
        FaultClass::Conflict,
        FaultClass::Denied,
        FaultClass::Unknown,
    ] {
        let mut world = filled(14, members(1));
        let refusing = world.nodes.values().take(12);
        world.refusing = refusing
            .map(|node| (node.instance.clone(), class))
            .collect();
        world.change(|one| one.warm = members(3));
        world.run(COLLECTED);
        let well: Vec<_> = world
            .nodes
            .values()
            .skip(12)
            .map(|node| node.instance.clone())
            .collect();
        for instance in well {
            let spare = world.spare().into_iter();
            let here = spare.filter(|eni| eni.instance.as_ref() == Some(&instance));
            assert_eq!(here.count(), 3, "{instance}: {class:?}");
        }
    }
}

#[test]
fn the_eni_of_a_pod_that_runs_is_no_spare() {
    let mut world = filled(1, members(2));
    // One is drawn, and none can be made in its place.
    world.addresses = 0;
    world.create(1, "n0");
    world.run(5 * MINUTE);
    world.delete_record(1);
    world.run(5 * MINUTE);
    let plane = world.planes.values().next().expect("it lives");
    assert_eq!(plane.view().spent.kept, 0);
    world.delete(1);
    world.run(5 * MINUTE);
    let plane = world.planes.values().next().expect("it lives");
    assert_eq!(plane.view().spent.kept, 1, "when the pod goes it is one");
}

#[test]
fn a_zone_keeps_enis_that_are_only_attached() {
    let warm = Warm {
        members_per_node: None,
        enis_per_zone: Some(2),
    };
    let mut world = filled(2, warm);
    assert_eq!((world.spare().len(), on_trunks(&world)), (2, 0));
    let before = world.calls["create"];
    world.create(1, "n0");
    world.run(MINUTE);
    let took = world.bound[&pod_name(1)];
    assert!(took < 5 * SECOND, "an attach and looks: {took:?}");
    let plane = world.planes.values().next().expect("it lives");
    assert_eq!(plane.view().spent.drawn, 1);
    assert_eq!(
        world.calls["create"],
        before + 1,
        "the one that took its place"
    );
    world.planes.clear();
    world.boot();
    world.run(COLLECTED);
    assert_eq!(world.spare().len(), 2, "a new leader takes them over");
    world.change(|one| one.warm = Warm::default());
    world.run(COLLECTED);
    assert!(world.spare().is_empty());
}
