//! What the node cannot know for certain: an ENI that may have been made, one that a list lacks, and
//! what time it is.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use engine::node::{Api, Input, RequestNumber};
use model::FaultClass;

use crate::world::{Step, World};

/// A world where the answer to the next create is lost, and then all creates are refused.
fn lost_and_refused() -> World {
    let mut world = World::with(|config| config.idle_min = 0);
    world.pass(30);
    world.step(Step::Add(1));
    for _ in 0..30 {
        if world.cloud().secondary_enis().is_empty() {
            world.step(Step::LoseAnswer);
            world.step(Step::Deliver(1));
            world.step(Step::Wait(300));
        }
    }
    assert_eq!(
        world.cloud().secondary_enis().len(),
        1,
        "made, and nobody told"
    );
    assert!(world.view().enis.is_empty());
    world.cloud().refuse(FaultClass::Invalid);
    world
}

#[test]
fn what_a_lost_create_made_is_found_though_its_repetition_is_refused() {
    let mut world = lost_and_refused();
    world.pass(60);
    assert_eq!(world.view().enis.len(), 1, "{:?}", world.view());
    assert_eq!(world.cloud().secondary_enis().len(), 1);
    assert_eq!(world.view().assigned, 1, "the pod that waits has it");
}

#[test]
fn a_create_whose_repetition_is_refused_by_the_next_life_is_sought_by_it() {
    let mut world = lost_and_refused();
    world.step(Step::Kill);
    world.pass(60);
    assert_eq!(world.view().enis.len(), 1, "{:?}", world.view());
}

#[test]
fn what_was_never_made_is_looked_for_three_times() {
    let mut world = World::with(|config| config.idle_min = 0);
    world.pass(30);
    let describe = [Api::DescribeNetworkInterfaces];
    world.cut_off();
    world.step(Step::Add(1));
    world.pass(3);
    world.reconnect();
    world.cloud().refuse(FaultClass::Invalid);
    let before = world.cloud().called(&describe);
    world.pass(60);
    assert_eq!(world.cloud().called(&describe) - before, 3);
    assert!(world.ledger().intents().next().is_none(), "it is over");
}

#[test]
fn two_lists_of_one_moment_make_nothing_gone() {
    let mut world = World::new();
    world.calm();
    let known = |world: &World| -> BTreeSet<IpAddr> {
        let entries = world.ledger().addresses();
        entries.map(|entry| entry.address).collect()
    };
    let before = known(&world);
    world.cloud().trail(true);
    for _ in 0..3 {
        world.step(Step::Kill);
        world.pass(1);
    }
    assert!(known(&world).is_superset(&before));
    world.cloud().trail(false);
    world.pass(60);
    assert!(known(&world).is_superset(&before));
}

#[test]
fn a_gc_of_before_the_clock_stepped_back_spares_what_was_made_since() {
    let mut world = World::new();
    world.calm();
    let listed = world.now();
    // The clock steps back by a second, after a long silence: no input shows it.
    world.give(Input::ClockSteppedBack {
        from: listed.after(Duration::from_millis(100)),
    });
    world.step(Step::Add(1));
    world.pass(5);
    world.give(Input::Gc {
        request: RequestNumber(900),
        started: listed.after(Duration::from_millis(50)),
        valid: BTreeSet::new(),
    });
    world.pass(5);
    assert_eq!(world.view().assigned, 1);
}
