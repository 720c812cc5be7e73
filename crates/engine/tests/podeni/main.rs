//! The planner of PodENIs against a small model of its world, with the controller killed, answers lost and
//! writes refused at any step.

#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test world: what does not hold fails the test"
)]
mod world;

use std::time::Duration;

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
