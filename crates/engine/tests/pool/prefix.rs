//! Growing by prefixes, going on without them, giving them back; and which ENI grows first.

use engine::{
    ledger::AddressState,
    node::{Api, EniPolicy, ExhaustionKind, Notice, PrefixPolicy},
};
use model::{Exhausted, FaultClass, Ipv4Prefix};

use crate::world::{Step, World};

/// A node that grows by prefixes, in a vSwitch that has so many.
fn world(blocks: u32, least: u32) -> World {
    let mut world = World::with(|config| config.policy.prefixes = Some(PrefixPolicy { least }));
    world.cloud().reserve("vsw-1", blocks);
    world
}

fn add(world: &mut World, pods: std::ops::Range<u8>) {
    for pod in pods {
        world.step(Step::Add(pod));
    }
}

fn prefixes(world: &World) -> usize {
    let ledger = world.ledger();
    let enis = ledger.enis();
    enis.map(|eni| ledger.prefixes_of(&eni.id).len()).sum()
}

fn told(world: &World, wanted: ExhaustionKind) -> (usize, usize) {
    let begun = world.notices.iter().filter(
        |it| matches!(it, Notice::Exhausted(state) if state.kind == wanted && state.until.is_some()),
    );
    let ended = world
        .notices
        .iter()
        .filter(|it| **it == Notice::Recovered(wanted));
    (begun.count(), ended.count())
}

#[test]
fn sixteen_addresses_are_one_call_and_one_place() {
    let mut world = world(20, 0);
    add(&mut world, 0..24);
    world.pass(20);
    // 24 pods and 2 idle: two prefixes and the primary address on one ENI, in the call that makes it.
    assert_eq!((world.view().assigned, world.view().enis.len()), (24, 1));
    assert_eq!(prefixes(&world), 2);
    let growing = [Api::CreateNetworkInterface, Api::AssignPrivateIpAddresses];
    assert_eq!(world.cloud().called(&growing), 1);
    world.calm();
    world.check_at_rest();
}

#[test]
fn without_a_block_single_addresses_serve_and_prefixes_come_back() {
    let mut world = world(1, 0);
    add(&mut world, 0..20);
    world.pass(30);
    assert_eq!(world.view().assigned, 20, "{:?}", world.view());
    assert_eq!(prefixes(&world), 1, "the only one there was");
    let state = world
        .view()
        .exhausted
        .expect("it is said that prefixes ran out");
    assert_eq!(state.kind, ExhaustionKind::Prefix);
    assert!(
        state.reason.contains("enable_ip_prefix"),
        "{}",
        state.reason
    );
    assert_eq!(
        told(&world, ExhaustionKind::Prefix).0,
        1,
        "once, not at every try"
    );
    world.cloud().reserve("vsw-1", 5);
    world.pass(700);
    assert_eq!(told(&world, ExhaustionKind::Prefix), (1, 1));
    add(&mut world, 20..24);
    world.pass(30);
    assert_eq!((world.view().assigned, prefixes(&world)), (24, 2));
    world.calm();
    world.check_at_rest();
}

#[test]
fn a_cloud_without_prefixes_is_asked_once_in_a_rest() {
    let mut world = world(0, 0);
    world.cloud().refuse(FaultClass::Invalid);
    world.step(Step::Add(1));
    world.pass(5);
    world.cloud().refuse(None);
    world.pass(60);
    assert_eq!(world.view().assigned, 1, "{:?}", world.view());
    assert_eq!(prefixes(&world), 0);
    world.calm();
    world.check_at_rest();
}

#[test]
fn an_eni_that_takes_no_more_is_no_lack_of_blocks() {
    let mut world = world(20, 0);
    world.calm();
    world
        .cloud()
        .refuse(FaultClass::Exhausted(Exhausted::AddressPerEni));
    add(&mut world, 0..24);
    world.pass(5);
    assert_eq!(told(&world, ExhaustionKind::Prefix).0, 0);
}

#[test]
fn a_prefix_goes_back_when_all_of_it_is_free_and_rested() {
    let mut world = world(20, 0);
    add(&mut world, 0..24);
    world.pass(20);
    // One pod stays; it holds one prefix, the other one is too much.
    for pod in 1..24 {
        world.step(Step::Del(pod));
    }
    world.pass(50);
    assert_eq!(
        prefixes(&world),
        2,
        "none before all its addresses have rested"
    );
    world.pass(600);
    assert_eq!(prefixes(&world), 1, "{:?}", world.view());
    let held = world.addresses(0).into_iter().next().unwrap();
    assert!(matches!(
        world.ledger().address(held).unwrap().state,
        AddressState::Assigned { .. }
    ));
    world.calm();
    world.check_at_rest();
}

#[test]
fn the_least_of_prefixes_is_kept_whatever_is_used() {
    let mut world = world(20, 3);
    world.pass(30);
    assert_eq!(prefixes(&world), 3);
    world.pass(3600);
    assert_eq!(prefixes(&world), 3);
    let idle = world.view().idle;
    assert_eq!(idle, 3 * Ipv4Prefix::ADDRESSES + 1);
    world.step(Step::Kill);
    add(&mut world, 0..10);
    world.settle();
    assert_eq!(
        world.view().assigned,
        10,
        "a restart serves from the ledger"
    );
    assert_eq!(prefixes(&world), 3);
}

#[test]
fn the_least_asks_for_no_single_address_where_no_block_is_left() {
    let mut world = world(1, 3);
    world.pass(1800);
    assert_eq!((prefixes(&world), world.view().idle), (1, 17));
}

#[test]
fn a_least_that_is_refused_is_said_and_keeps_no_single_address() {
    let mut world = world(0, 0);
    add(&mut world, 0..20);
    world.pass(30);
    let single = world.view().assigned + world.view().idle;
    assert_eq!(prefixes(&world), 0);
    world.cloud().reserve("vsw-1", 20);
    world.cloud().refuse(FaultClass::Denied);
    world.configure(|config| config.policy.prefixes = Some(PrefixPolicy { least: 2 }));
    for pod in 0..20 {
        world.step(Step::Del(pod));
    }
    let growing = [Api::CreateNetworkInterface, Api::AssignPrivateIpAddresses];
    let before = world.cloud().called(&growing);
    world.pass(1800);
    let state = world.view().exhausted.expect("prefixes are wanted");
    assert_eq!(state.kind, ExhaustionKind::Denied);
    assert!(world.view().idle < single, "{:?}", world.view());
    let calls = world.cloud().called(&growing) - before;
    // Both ways rest 30, 60, 120, 240 and then 300 s, less a quarter at the most: 13 tries each.
    assert!(calls <= 26, "{calls} calls");
    world.cloud().refuse(None);
    world.pass(400);
    assert_eq!(prefixes(&world), 2, "{:?}", world.view());
}

#[test]
fn where_metadata_does_not_speak_of_prefixes_the_clouds_list_counts() {
    let mut world = world(20, 0);
    world.cloud().shows_prefixes = false;
    add(&mut world, 0..10);
    world.pass(30);
    assert_eq!(world.view().assigned, 10, "{:?}", world.view());
    let looks = world.cloud().called(&[Api::DescribeNetworkInterfaces]);
    assert!(looks <= 8, "{looks} looks");
    world.calm();
    world.check_at_rest();
}

#[test]
fn a_lost_ledger_finds_its_prefixes_again() {
    let mut world = world(20, 0);
    add(&mut world, 0..10);
    world.pass(30);
    world.lose_ledger();
    world.pass(30);
    assert_eq!(prefixes(&world), 1, "{:?}", world.view());
    world.check();
}

#[test]
fn the_policy_says_which_eni_grows() {
    let enis = |policy| {
        let mut world = World::with(|config| config.policy.enis = policy);
        world.calm();
        for pod in 0..4 {
            world.step(Step::Add(pod));
            // One pod in a while is no trend.
            world.pass(90);
        }
        let enis = world.view().enis;
        let mut sizes: Vec<usize> = enis.iter().map(|eni| eni.addresses.len()).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(enis(EniPolicy::MostIps), [6], "one is filled first");
    assert_eq!(enis(EniPolicy::LeastIps), [2, 2, 2], "new ones come first");
}
