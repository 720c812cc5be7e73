//! Each way to run out is a state with its own kind, reason and advice, and ends by itself.

use engine::node::{Api, ExhaustionKind, Notice, VSwitchPolicy};
use model::{Exhausted, FaultClass};

use crate::world::{Step, World};

fn kind(world: &World) -> Option<ExhaustionKind> {
    world.view().exhausted.map(|state| state.kind)
}

/// A pod that waits because creating is refused as `class` is told `expected` and why, and gets its
/// address within its ADD once the cloud relents.
fn refused(class: FaultClass, expected: ExhaustionKind, named: &str) {
    let mut world = World::new();
    world.cloud().refuse(class);
    world.step(Step::Add(1));
    world.pass(12);
    let state = world.view().exhausted.expect("the pool cannot grow");
    assert_eq!(state.kind, expected);
    assert!(state.reason.contains(named), "{}", state.reason);
    assert!(state.until.is_some(), "it is tried again by itself");
    let told = world.explain(1);
    assert!(told.missing.unwrap().contains(named));
    assert!(told.next.contains(expected.remedy()), "{}", told.next);
    world.cloud().refuse(None);
    world.pass(76);
    assert_eq!(world.view().assigned, 1, "{:?}", world.view());
    world.pass(120);
    assert_eq!(kind(&world), None);
    let told = |wanted: &Notice| world.notices.iter().filter(|it| *it == wanted).count();
    assert_eq!(told(&Notice::Recovered(expected)), 1);
    let begun = world
        .notices
        .iter()
        .filter(|it| matches!(it, Notice::Exhausted(_)));
    assert_eq!(begun.count(), 1, "said once, not at every try");
    world.calm();
    world.check_at_rest();
}

#[test]
fn an_account_without_quota_is_said_and_recovers() {
    let class = FaultClass::Exhausted(Exhausted::Account);
    refused(class, ExhaustionKind::AccountQuota, "account");
}

#[test]
fn a_full_security_group_is_said_and_recovers() {
    let class = FaultClass::Exhausted(Exhausted::SecurityGroup);
    refused(class, ExhaustionKind::SecurityGroup, "sg-1");
}

#[test]
fn a_call_that_is_not_permitted_is_said_and_recovers() {
    refused(
        FaultClass::Denied,
        ExhaustionKind::Denied,
        "creating an ENI",
    );
}

#[test]
fn a_throttled_api_is_said_and_recovers() {
    let named = "CreateNetworkInterface is throttled";
    refused(FaultClass::Throttled, ExhaustionKind::Throttled, named);
}

#[test]
fn full_vswitches_are_named_and_used_as_soon_as_one_has_room() {
    let mut world = World::new();
    world.cloud().fill("vsw-1");
    world.cloud().fill("vsw-2");
    world.step(Step::Add(1));
    world.pass(1);
    let state = world.view().exhausted.expect("both are full");
    assert_eq!(state.kind, ExhaustionKind::VSwitch);
    assert!(state.reason.contains("vsw-1") && state.reason.contains("vsw-2"));
    assert!(
        state.reason.contains("eni_conf key vswitches"),
        "{}",
        state.reason
    );
    world.cloud().leave("vsw-2", 50);
    world.pass(45);
    assert_eq!(world.view().assigned, 1, "{:?}", world.view());
    assert_eq!(kind(&world), None);
    world.calm();
    world.check_at_rest();
}

#[test]
fn the_last_addresses_of_a_vswitch_are_used() {
    let mut world = World::new();
    world.cloud().fill("vsw-2");
    // What the vSwitch shows is older than what it has: asked for too many, it is asked for fewer.
    world.calm();
    world.cloud().leave("vsw-1", 3);
    for pod in 0..6 {
        world.step(Step::Add(pod));
    }
    world.pass(60);
    assert_eq!(
        world.view().assigned,
        5,
        "2 were idle, 3 were left: {:?}",
        world.view()
    );
    assert_eq!(kind(&world), Some(ExhaustionKind::VSwitch));
}

/// An ENI keeps its vSwitch: a node whose ENIs all were in one that other nodes emptied could serve no more
/// pods, though the next one was empty.
#[test]
fn an_eni_goes_where_it_can_be_filled() {
    let mut world = World::new();
    world.calm();
    // What comes back there goes to whoever asks first, one address at a time.
    world.cloud().leave("vsw-1", 0);
    for pod in 0..12 {
        world.step(Step::Add(pod));
        world.cloud().leave("vsw-1", 1);
        world.pass(70);
    }
    let enis = world.view().enis;
    let elsewhere = enis.iter().filter(|eni| eni.vswitch.as_str() == "vsw-2");
    assert_eq!(elsewhere.count(), enis.len() - 1, "{enis:?}");
    assert_eq!(world.view().assigned, 12);
}

#[test]
fn enis_that_are_tied_to_a_full_vswitch_are_told_from_full_ones() {
    let mut world = World::with(|config| config.enis_max = 1);
    world.calm();
    world.cloud().leave("vsw-1", 0);
    for pod in 0..4 {
        world.step(Step::Add(pod));
    }
    world.pass(20);
    let state = world.view().exhausted.unwrap();
    assert_eq!(state.kind, ExhaustionKind::VSwitch, "{state:?}");
    let named = "vSwitch vsw-1 has no free address; 1 of the node's 1 ENIs";
    assert!(state.reason.starts_with(named), "{}", state.reason);
    world.cloud().leave("vsw-1", 9);
    world.pass(90);
    assert_eq!((world.view().assigned, kind(&world)), (4, None));
}

#[test]
fn a_node_with_all_its_type_allows_says_so_and_serves_what_comes_back() {
    let mut world = World::new();
    for pod in 0..19 {
        world.step(Step::Add(pod));
    }
    world.pass(20);
    assert_eq!(world.view().assigned, 18, "three ENIs with six each");
    let state = world.view().exhausted.unwrap();
    assert_eq!(
        (state.kind, state.until),
        (ExhaustionKind::AddressQuota, None)
    );
    world.step(Step::Del(0));
    world.pass(65);
    assert_eq!(
        world.view().assigned,
        18,
        "the one that came back rested and serves"
    );
    assert_eq!(world.view().waiting, 0);
}

#[test]
fn a_configured_cap_is_named() {
    let mut world = World::with(|config| config.enis_max = 1);
    for pod in 0..7 {
        world.step(Step::Add(pod));
    }
    world.pass(20);
    let state = world.view().exhausted.unwrap();
    assert_eq!(state.kind, ExhaustionKind::EniQuota);
    assert!(state.reason.contains("max_eni"), "{}", state.reason);
    // Raised without a restart.
    world.configure(|config| config.enis_max = 3);
    world.pass(20);
    assert_eq!(world.view().assigned, 7);
}

#[test]
fn a_throttled_cloud_is_not_asked_more_often_by_more_pods() {
    let calls = |pods: u8| {
        let mut world = World::new();
        world.cloud().refuse(FaultClass::Throttled);
        for pod in 0..pods {
            world.step(Step::Add(pod));
        }
        world.pass(85);
        world.cloud().called(&Api::ALL)
    };
    assert!(calls(1) <= 20, "{} calls", calls(1));
    assert!(calls(18) <= calls(1) + 2, "{} calls", calls(18));
}

#[test]
fn a_burst_waits_once_not_once_for_each_pod() {
    let mut world = World::new();
    world.calm();
    for pod in 0..18 {
        world.step(Step::Add(pod));
        world.settle();
    }
    world.pass(20);
    assert_eq!(world.view().assigned, 18);
    let growing = [Api::CreateNetworkInterface, Api::AssignPrivateIpAddresses];
    let calls = world.cloud().called(&growing);
    // One ENI was there; its rest is one call, and two more ENIs are two.
    assert!(calls <= 5, "{calls} calls");
}

#[test]
fn housekeeping_leaves_calls_for_a_pod() {
    let mut world = World::with(|config| config.policy.calls_per_minute = 2);
    world.calm();
    let before = world.view().enis.len();
    for pod in 0..8 {
        world.step(Step::Add(pod));
    }
    world.pass(80);
    assert_eq!(world.view().assigned, 8, "{:?}", world.view());
    assert!(world.view().enis.len() > before);
}

fn first_vswitch(policy: VSwitchPolicy) -> String {
    let mut world = World::with(|config| config.policy.vswitches = policy);
    world.cloud().leave("vsw-2", 240);
    world.calm();
    world.view().enis[0].vswitch.to_string()
}

#[test]
fn the_policy_chooses_among_vswitches_with_room() {
    assert_eq!(first_vswitch(VSwitchPolicy::Ordered), "vsw-1");
    assert_eq!(first_vswitch(VSwitchPolicy::Most), "vsw-2");
    let mut world = World::with(|config| config.policy.vswitches = VSwitchPolicy::Random);
    world.cloud().fill("vsw-1");
    for pod in 0..12 {
        world.step(Step::Add(pod));
    }
    world.pass(60);
    let all: Vec<_> = world
        .view()
        .enis
        .iter()
        .map(|eni| eni.vswitch.to_string())
        .collect();
    assert!(
        all.len() > 1 && all.iter().all(|id| id == "vsw-2"),
        "{all:?}"
    );
}
