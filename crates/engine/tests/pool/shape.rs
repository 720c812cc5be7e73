//! How large the pool is, when it grows and when it gives back.

use std::time::Duration;

use engine::node::{Api, Reclaim};

use crate::world::{Step, World};

const CHANGES: [Api; 6] = [
    Api::CreateNetworkInterface,
    Api::AttachNetworkInterface,
    Api::DetachNetworkInterface,
    Api::DeleteNetworkInterface,
    Api::AssignPrivateIpAddresses,
    Api::UnassignPrivateIpAddresses,
];

#[test]
fn steady_churn_does_not_make_the_pool_flap() {
    let mut world = World::with(|config| (config.idle_min, config.idle_max) = (2, 2));
    world.calm();
    let mut starts = 0;
    for round in 0..100_u8 {
        // Three of six pods change every twenty seconds.
        let from = (round % 2) * 3;
        for pod in from..from + 3 {
            world.step(Step::Del(pod));
        }
        world.pass(10);
        for pod in from..from + 3 {
            world.step(Step::Add(pod));
            starts += 1;
        }
        world.pass(10);
    }
    let calls = world.cloud().called(&CHANGES);
    assert!(calls <= 12, "{calls} calls for {starts} starts");
    for pod in 0..6 {
        world.step(Step::Del(pod));
    }
    world.calm();
    assert_eq!(world.view().idle, 2, "what stays too much goes back");
    world.check_at_rest();
}

#[test]
fn a_surplus_goes_back_only_when_it_stays() {
    let mut world = World::new();
    for pod in 0..6 {
        world.step(Step::Add(pod));
    }
    world.pass(30);
    for pod in 0..6 {
        world.step(Step::Del(pod));
    }
    world.pass(100);
    assert!(
        world.view().idle > 4,
        "more than max_pool_size, for a while: {:?}",
        world.view()
    );
    world.pass(600);
    assert!(world.view().idle <= 4, "{:?}", world.view());
    world.check_at_rest();
}

#[test]
fn a_new_node_warms_up_once() {
    let mut world = World::with(|config| config.policy.warm_up = 6);
    world.pass(30);
    assert_eq!(world.view().idle, 6);
    for pod in 0..4 {
        world.step(Step::Add(pod));
    }
    world.pass(30);
    assert_eq!(
        world.view().idle,
        2,
        "what pods took is not replaced beyond min_pool_size"
    );
    world.step(Step::Kill);
    world.pass(30);
    assert_eq!(world.view().idle, 2, "a restart is no new node");
}

#[test]
fn what_was_idle_for_long_goes_back_some_at_a_time() {
    let mut world = World::with(|config| {
        config.idle_max = 10;
        config.policy.warm_up = 9;
        config.policy.reclaim = Some(Reclaim {
            after: Duration::from_secs(600),
            batch: 2,
            interval: Duration::from_secs(300),
            jitter_per_mille: 0,
        });
    });
    world.pass(500);
    assert_eq!(world.view().idle, 9);
    world.pass(150);
    assert_eq!(world.view().idle, 7, "the first batch");
    world.pass(300);
    assert_eq!(world.view().idle, 5, "the second");
    world.calm();
    assert_eq!(world.view().idle, 2, "never below min_pool_size");
    world.check_at_rest();
}
