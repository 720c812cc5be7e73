//! A pod whose name comes back finds its address again, and nobody waits for that in vain.

use crate::world::{Step, World};

/// The first pod whose name comes back.
const STATEFUL: u8 = 20;

#[test]
fn a_pod_that_comes_back_gets_its_address_again() {
    let mut world = World::new();
    world.calm();
    world.step(Step::Add(STATEFUL));
    world.pass(5);
    let before = world.addresses(STATEFUL);
    world.step(Step::Del(STATEFUL));
    world.pass(5);
    // Others come and go, and the agent dies, meanwhile.
    for pod in 0..5 {
        world.step(Step::Add(pod));
    }
    world.pass(100);
    world.step(Step::Kill);
    world.pass(5);
    world.step(Step::Add(STATEFUL));
    world.pass(5);
    assert_eq!(world.addresses(STATEFUL), before);
    world.check();
}

#[test]
fn an_address_waits_for_its_time_and_no_longer() {
    let mut world = World::with(|config| config.enis_max = 1);
    for pod in STATEFUL..STATEFUL + 4 {
        world.step(Step::Add(pod));
    }
    world.pass(5);
    let before = world.addresses(STATEFUL);
    world.step(Step::Del(STATEFUL));
    world.pass(310);
    let idle = world.view().idle;
    for pod in 0..u8::try_from(idle).unwrap() {
        world.step(Step::Add(pod));
    }
    world.pass(5);
    let taken = (0..6).any(|pod| world.addresses(pod) == before);
    assert!(taken, "after five minutes it serves anybody");
}

#[test]
fn when_the_pool_cannot_grow_an_address_that_waits_yields() {
    let mut world = World::with(|config| config.enis_max = 1);
    for pod in 0..5 {
        world.step(Step::Add(pod));
    }
    world.step(Step::Add(STATEFUL));
    world.pass(5);
    assert_eq!(world.view().assigned, 6, "all there is");
    world.step(Step::Del(STATEFUL));
    world.pass(5);
    world.step(Step::Add(6));
    world.pass(20);
    assert_eq!(world.view().waiting, 1, "it rests");
    world.pass(40);
    assert_eq!(world.view().assigned, 6, "rested, and nobody waits");
    assert!(world.failure(6).is_none());
}
