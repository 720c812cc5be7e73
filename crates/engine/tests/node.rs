//! The node machine against a small model of its world: a cloud that grants, refuses and loses
//! answers, a kernel, and a runtime that adds and deletes pods, with the agent killed at any step.
//!
//! After every step an address has one owner, in the ledger and among the answers given. When faults
//! have stopped, every address is idle, resting or gone, and the ledger agrees with cloud and kernel.

#[allow(
    clippy::unwrap_used,
    reason = "a test world: what does not hold fails the test"
)]
mod pool;
mod recording;
#[allow(
    clippy::unwrap_used,
    reason = "a test world: what does not hold fails the test"
)]
mod world;

use engine::{
    netplan::LocalTraffic,
    node::{PodState, PrefixPolicy},
};
use proptest::prelude::*;
use world::{FIRST_TRUNK, Step, World, joint::ipvlan_pods};

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..24u8).prop_map(Step::Add),
        5 => (0..24u8).prop_map(Step::Del),
        30 => (1..12u8).prop_map(Step::Deliver),
        3 => (1..5_000u64).prop_map(Step::Wait),
        1 => Just(Step::Kill),
        1 => Just(Step::LoseAnswer),
        1 => Just(Step::Throttle),
        1 => Just(Step::EmptyDescribe),
        1 => Just(Step::KernelRefuses),
        2 => (0..24u8).prop_map(Step::Vanish),
        2 => (0..24u8).prop_map(Step::Recreate),
        1 => Just(Step::BlindKernel),
        1 => Just(Step::ListFails),
        1 => Just(Step::EmptyList),
        1 => prop::bool::ANY.prop_map(Step::Flush),
        1 => (30_000..400_000u64).prop_map(Step::Wait),
        3 => (FIRST_TRUNK..28u8).prop_map(Step::Add),
        3 => (FIRST_TRUNK..28u8).prop_map(Step::Bind),
        2 => (FIRST_TRUNK..28u8).prop_map(Step::Del),
        1 => (FIRST_TRUNK..28u8).prop_map(Step::Unbind),
        1 => (FIRST_TRUNK..28u8).prop_map(Step::Vanish),
        1 => (FIRST_TRUNK..28u8).prop_map(Step::Recreate),
        1 => Just(Step::Switch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_leaked(
        steps in prop::collection::vec(step(), 1..160),
        // One world in two grows by prefixes, until the reserved block is used up.
        blocks in prop::option::of(0..4u32),
        // One in two has a trunk.
        trunk in prop::bool::ANY,
        // One in two has pods on ipvlan.
        ipvlan in prop::option::of(prop::bool::ANY),
    ) {
        let mut world = World::with(|config| {
            config.policy.ipvlan = ipvlan.map(ipvlan_pods);
            config.limits.trunk = trunk;
            config.policy.trunk = Some(LocalTraffic::Strict);
            config.policy.prefixes = blocks.map(|blocks| PrefixPolicy { least: blocks / 2 });
        });
        world.cloud().reserve("vsw-1", blocks.unwrap_or(0));
        for step in steps {
            world.step(step);
            world.check();
        }
        world.calm();
        world.check_at_rest();
        world.replays();
    }
}

#[test]
fn a_pod_gets_an_address_and_gives_it_back() {
    let mut world = World::new();
    world.calm();
    assert!(
        world.view().idle >= 2,
        "min_pool_size is kept: {:?}",
        world.view()
    );
    world.step(Step::Add(1));
    world.settle();
    assert_eq!(world.view().assigned, 1);
    world.step(Step::Del(1));
    world.settle();
    assert_eq!((world.view().assigned, world.view().resting), (0, 1));
    world.calm();
    world.check_at_rest();
    // Two were kept idle beside the pod's, and its own came back: three, below the most to keep.
    assert_eq!((world.view().resting, world.view().idle), (0, 3));
}

#[test]
fn an_add_is_answered_in_time_when_the_cloud_says_nothing() {
    let mut world = World::new();
    world.cut_off();
    world.step(Step::Add(1));
    world.settle();
    world.step(Step::Wait(90_001));
    world.settle();
    let failure = world.failure(1).expect("the ADD was answered");
    assert!(failure.contains("got no address in time"), "{failure}");
}

#[test]
fn a_restart_without_the_cloud_serves_from_the_ledger() {
    let mut world = World::new();
    world.calm();
    world.cut_off();
    world.step(Step::Kill);
    world.step(Step::Add(1));
    world.settle();
    assert_eq!(world.view().assigned, 1, "{:?}", world.view());
    assert!(world.failure(1).is_none());
}

#[test]
fn an_eni_is_filled_before_a_second_is_made() {
    let mut world = World::new();
    world.calm();
    // Two are idle on the first ENI, which takes six: four pods and two idle fill it exactly.
    for pod in 0..4 {
        world.step(Step::Add(pod));
        world.step(Step::Deliver(1));
    }
    world.calm();
    assert_eq!(world.view().assigned, 4);
    assert_eq!(world.view().enis.len(), 1, "{:?}", world.view());
}

#[test]
fn a_full_vswitch_is_left_for_the_next() {
    let mut world = World::new();
    world.fill("vsw-1");
    for pod in 0..6 {
        world.step(Step::Add(pod));
    }
    world.calm();
    assert_eq!(world.view().assigned, 6, "{:?}", world.view());
    assert!(
        world
            .view()
            .enis
            .iter()
            .any(|eni| eni.vswitch.as_str() == "vsw-2")
    );
}

#[test]
fn vswitches_that_do_not_exist_are_named_with_their_key() {
    let mut world = World::new();
    world.forget_vswitches();
    world.step(Step::Add(1));
    world.pass(91);
    let failure = world.failure(1).expect("the ADD was answered");
    assert!(failure.contains("eni_conf key vswitches"), "{failure}");
}

#[test]
fn an_answer_without_the_primary_eni_removes_nothing() {
    let mut world = World::new();
    world.calm();
    let before = world.view();
    world.step(Step::Kill);
    for _ in 0..5 {
        world.step(Step::EmptyDescribe);
        world.settle();
        world.step(Step::Wait(20_000));
    }
    assert_eq!(world.view().enis, before.enis);
}

#[test]
fn a_del_kills_the_add_that_started_before_it() {
    let mut world = World::new();
    world.cut_off();
    world.step(Step::Add(1));
    world.settle();
    world.step(Step::Del(1));
    world.settle();
    assert!(
        world
            .failure(1)
            .expect("the ADD was answered")
            .contains("was deleted")
    );
}

#[test]
fn why_a_pod_has_no_address_is_said_at_every_stage() {
    let mut world = World::new();
    assert_eq!(world.explain(1).state, PodState::Unknown);
    world.forget_vswitches();
    world.step(Step::Add(1));
    world.pass(1);
    let told = world.explain(1);
    assert_eq!(told.state, PodState::Waiting);
    let missing = told.missing.unwrap();
    assert!(missing.contains("eni_conf key vswitches"), "{missing}");
    assert!(
        told.next.contains("asks the cloud again in"),
        "{}",
        told.next
    );
    world.pass(91);
    let told = world.explain(1);
    assert_eq!(told.state, PodState::Failed);
    assert!(
        told.tried
            .iter()
            .any(|event| event.what.contains("got no address in time")),
        "{told:?}"
    );
}

#[test]
fn a_pod_that_has_its_address_is_told_with_it() {
    let mut world = World::new();
    world.calm();
    world.step(Step::Add(1));
    world.settle();
    let told = world.explain(1);
    assert_eq!(
        (told.state, told.addresses.len(), told.missing),
        (PodState::Attached, 1, None)
    );
    world.step(Step::Del(1));
    world.settle();
    assert_eq!(world.explain(1).state, PodState::Unknown);
}
