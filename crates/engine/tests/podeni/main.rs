//! The planner of PodENIs against a small model of its world, with the controller killed, answers lost and
//! writes refused at any step.

#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test world: what does not hold fails the test"
)]
mod world;

#[allow(clippy::unwrap_used, reason = "a test world")]
mod cloud;
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test world: what does not hold fails the test"
)]
mod cluster;
#[allow(clippy::unwrap_used, reason = "a test world")]
mod cold;

use std::time::Duration;

use cluster::Region;
use engine::cluster::Notice;
use model::{
    podeni::Phase,
    podnetworking::{Release, Tenure},
};
use proptest::prelude::*;
use world::World;

/// What the seed's example promises.
const FIVE_MINUTES: Duration = Duration::from_secs(300);

fn tenures() -> impl Strategy<Value = Tenure> {
    prop_oneof![
        Just(Tenure::Elastic),
        Just(Tenure::Fixed(Release::Never)),
        Just(Tenure::Fixed(Release::After(FIVE_MINUTES * 100))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn one_eni_a_pod_and_none_left_over(seed in any::<u64>(), tenure in tenures(), steps in 1..300usize) {
        let mut world = World::new(seed, tenure);
        for _ in 0..steps {
            world.step();
        }
        world.calm();
        world.check_at_rest();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn every_pod_is_served_and_nothing_leaks(seed in any::<u64>(), steps in 1..400usize) {
        let mut region = Region::new(seed);
        for _ in 0..steps {
            region.step();
        }
        region.calm();
        region.check_at_rest();
    }
}

#[test]
fn a_fixed_address_survives_its_pod_and_moves_with_the_next() {
    let mut world = World::new(7, Tenure::Fixed(Release::After(FIVE_MINUTES)));
    world.create_pod();
    world.schedule_pod();
    world.calm();
    let first = world.record.clone().expect("a record");
    assert_eq!(first.phase, Phase::Bind);

    world.pod = None;
    world.turn();
    let gone = world.now;
    for _ in 0..60 {
        world.turn();
    }
    let kept = world.record.clone().expect("kept for five minutes");
    assert_eq!(kept.phase, Phase::Unbind);
    assert_eq!(kept.instance, first.instance, "it tells where the pod was");
    assert_eq!(kept.last_seen, Some(gone));

    world.create_pod();
    world.schedule_pod();
    for _ in 0..100 {
        world.turn();
    }
    let second = world.record.clone().expect("a record");
    assert_eq!(second.phase, Phase::Bind);
    assert_eq!(
        second.allocations, first.allocations,
        "the same ENI, address and MAC"
    );

    world.pod = None;
    for _ in 0..60 {
        world.turn();
    }
    world.wait(FIVE_MINUTES);
    world.calm();
    assert_eq!(world.record, None, "its time is over");
    world.check_at_rest();
}

/// A region without faults, in which the pods of these names are bound.
fn bound(names: &[u64]) -> Region {
    let mut region = Region::new(3);
    region.faults = false;
    for name in names {
        region.create(&cluster::name(*name));
    }
    for _ in 0..60 {
        region.turn(Duration::from_millis(500));
    }
    for record in region.records.values() {
        assert_eq!(record.phase, Phase::Bind);
    }
    assert_eq!(region.records.len(), names.len());
    region
}

#[test]
fn a_change_by_hand_is_taken_back() {
    let mut region = bound(&[0, 1]);
    let key = cluster::name(1);
    let before = region.records[&key].clone();
    region.edit(&key, |record| record.allocations[0].security_groups.clear());
    for _ in 0..20 {
        region.turn(Duration::from_millis(500));
    }
    let after = &region.records[&key];
    assert_eq!(after.allocations, before.allocations);
    assert!(after.message.contains("taken back"), "{}", after.message);
    let told = |notice: &Notice| matches!(notice, Notice::Undone(who, _) if *who == key);
    assert!(region.notices.iter().any(told));
}

#[test]
fn a_record_deleted_by_hand_serves_its_pod_to_the_end() {
    let mut region = bound(&[0]);
    let key = cluster::name(0);
    let eni = region.records[&key].allocations[0].eni.clone();
    region.edit(&key, |record| record.deleting = true);
    for _ in 0..40 {
        region.turn(Duration::from_millis(500));
    }
    let record = &region.records[&key];
    assert_eq!(
        (record.phase, &record.allocations[0].eni),
        (Phase::Bind, &eni)
    );
    assert!(record.message.contains("still used"), "{}", record.message);
    region.delete(&key);
    region.calm();
    assert!(
        region.records.is_empty(),
        "given up with its pod, though it was fixed"
    );
    region.check_at_rest();
}

#[test]
fn a_networking_follows_its_vswitches() {
    let mut region = bound(&[]);
    assert!(region.networking.is_ready());
    region.vswitches.clear();
    for _ in 0..100 {
        region.turn(Duration::from_secs(20));
    }
    let found = region.networking.resolved.clone().expect("found out");
    assert!(!found.ready);
    assert!(
        found.message.contains("has no vSwitch vsw-1"),
        "{}",
        found.message
    );
    region.vswitches.insert("vsw-1".into());
    for _ in 0..10 {
        region.turn(Duration::from_secs(20));
    }
    assert!(
        region.networking.is_ready(),
        "seen again within half a minute"
    );
}

/// 3,000 trunk pods at once on 100 nodes: within a tenth of what the cloud's windows allow.
#[test]
fn three_thousand_cold_pods_take_what_the_windows_allow() {
    let outcome = cold::start(3_000, 100);
    let bound = outcome.bounds.values().max().copied().unwrap_or_default() + cold::alone();
    let table = format!(
        "took {:?}, bound {bound:?}; by API {:?}; calls {:?}, throttled {}",
        outcome.took, outcome.bounds, outcome.calls, outcome.throttled
    );
    println!("{table}");
    assert!(outcome.took <= bound.mul_f64(1.1), "{table}");
    let alone = cold::start(1, 1);
    println!("one pod: {:?}, at best {:?}", alone.took, cold::alone());
    assert!(alone.took <= cold::alone().mul_f64(1.25));
}
