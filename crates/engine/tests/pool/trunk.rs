//! The node's trunk: made first, adopted when it is there, never given back, and done without.

use engine::{
    netplan::LocalTraffic,
    node::{Api, Notice, Trunk, TrunkLack},
};
use model::{EniKind, FaultClass};

use crate::world::{Step, World};

fn world() -> World {
    World::with(|config| {
        config.limits.trunk = true;
        config.policy.trunk = Some(LocalTraffic::Strict);
        (config.idle_min, config.idle_max) = (0, 0);
    })
}

fn lacks(world: &World) -> Vec<TrunkLack> {
    let told = world.notices.iter().filter_map(|notice| match notice {
        Notice::TrunkMissing(lack) => Some(lack.clone()),
        _ => None,
    });
    told.collect()
}

fn trunks(world: &World) -> usize {
    world.view().enis.iter().filter(|eni| eni.trunk).count()
}

#[test]
fn the_trunk_is_made_first_and_stays_though_nobody_uses_it() {
    let mut world = world();
    world.step(Step::Add(1));
    world.pass(30);
    let view = world.view();
    assert!(view.enis[0].trunk, "{view:?}");
    assert_eq!(world.addresses(1).len(), 1, "it serves ordinary pods");
    let trunk = Trunk::Attached(view.enis[0].id.clone());
    world.step(Step::Del(1));
    world.calm();
    world.step(Step::Kill);
    world.calm();
    assert_eq!(world.trunk(), trunk);
    assert_eq!(lacks(&world), []);
    world.check_at_rest();
}

#[test]
fn a_trunk_of_ours_is_adopted_and_one_of_others_and_members_are_not() {
    let mut world = world();
    let ours = world.cloud().add_foreign(&[("creator", "terway")]);
    world.cloud().turn_into(&ours, EniKind::Trunk);
    let member = world.cloud().add_foreign(&[("creator", "terway")]);
    world.cloud().turn_into(&member, EniKind::Member);
    world.pass(30);
    assert_eq!(world.trunk(), Trunk::Attached(ours));
    assert!(world.view().enis.iter().all(|eni| eni.id != member));
    assert_eq!(world.cloud().called(&[Api::CreateNetworkInterface]), 0);
}

#[test]
fn without_a_trunk_the_node_says_why_and_serves_ordinary_pods() {
    type Change = fn(&mut World);
    type Told = fn(&TrunkLack) -> bool;
    // What is done, what is told, and how many trunks there are in the end.
    let cases: [(Change, Told, usize); 3] = [
        (
            |world| world.configure(|config| config.limits.trunk = false),
            |lack| *lack == TrunkLack::Unsupported,
            0,
        ),
        (
            |world| {
                for _ in 0..3 {
                    world.cloud().add_foreign(&[("creator", "terway")]);
                }
            },
            |lack| *lack == TrunkLack::NoRoom(3),
            // Two that nobody uses go back, and there is room.
            1,
        ),
        (
            |world| world.cloud().refuse_trunks(FaultClass::Invalid),
            |lack| matches!(lack, TrunkLack::Refused(why) if why.contains("trunk")),
            0,
        ),
    ];
    for (change, expected, in_the_end) in cases {
        let mut world = world();
        change(&mut world);
        world.step(Step::Add(1));
        world.pass(80);
        assert_eq!(world.addresses(1).len(), 1, "{:?}", world.view());
        world.calm();
        let told = lacks(&world);
        assert!(told.len() == 1 && expected(&told[0]), "{told:?}");
        assert_eq!(trunks(&world), in_the_end);
        assert_eq!(world.trunk() == Trunk::Absent, in_the_end == 0);
    }
}

#[test]
fn the_last_place_is_kept_for_the_trunk() {
    let mut world = world();
    world.cloud().add_foreign(&[("creator", "terway")]);
    world.cloud().add_foreign(&[("creator", "terway")]);
    for pod in 0..18 {
        world.step(Step::Add(pod));
    }
    world.calm();
    assert_eq!((trunks(&world), world.view().assigned), (1, 18));
}

#[test]
fn whatever_answer_is_lost_and_wherever_the_agent_dies_there_is_one_trunk() {
    for fault in [Step::LoseAnswer, Step::Kill] {
        for steps in 1..40 {
            let mut world = world();
            for _ in 0..steps {
                world.step(Step::Deliver(1));
                world.step(Step::Wait(40));
            }
            world.step(fault.clone());
            world.calm();
            let enis = world.cloud().secondary_enis().len();
            assert_eq!((trunks(&world), enis), (1, 1), "{fault:?} after {steps}");
        }
    }
}

#[test]
fn where_the_kernel_refuses_the_trunk_other_enis_serve_ordinary_pods() {
    let mut world = world();
    world.refuse_trunk_filters();
    world.step(Step::Add(1));
    world.pass(80);
    assert_eq!(world.addresses(1).len(), 1, "{:?}", world.view());
    let view = world.view();
    let usable: Vec<bool> = view.enis.iter().map(|eni| eni.usable).collect();
    assert_eq!((view.enis[0].trunk, usable), (true, vec![false, true]));
}
