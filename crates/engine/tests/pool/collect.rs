//! What nobody will ever take away is taken away; what lives is not.

use engine::node::Notice;

use crate::world::{Step, World};

fn collected(world: &World) -> usize {
    let all = world.notices.iter();
    all.filter(|it| matches!(it, Notice::Collected(..))).count()
}

fn with_pod(pod: u8) -> World {
    let mut world = World::new();
    world.calm();
    world.step(Step::Add(pod));
    world.pass(5);
    assert_eq!(world.view().assigned, 1);
    world
}

#[test]
fn a_del_that_never_comes_is_not_waited_for() {
    let mut world = with_pod(1);
    world.step(Step::Vanish(1));
    world.pass(700);
    assert_eq!((world.view().assigned, collected(&world)), (0, 1));
    assert!(!world.has_rules(), "its rules went with it");
    world.calm();
    world.check_at_rest();
}

#[test]
fn a_list_that_comes_sooner_than_the_last_one_did_counts_too() {
    let mut world = with_pod(1);
    world.step(Step::Vanish(1));
    world.hold_list();
    let asked = (0..400).any(|_| {
        world.pass(1);
        world.list_is_held()
    });
    assert!(asked, "a look asks for the pods");
    world.pass(1);
    world.deliver_list();
    assert_eq!(collected(&world), 0, "one list is not enough");
    world.pass(30);
    assert_eq!(collected(&world), 1, "two looks, half a minute apart, are");
}

#[test]
fn the_sandbox_a_runtime_replaced_gives_its_address_back() {
    let mut world = with_pod(1);
    world.step(Step::Recreate(1));
    world.pass(700);
    assert_eq!((world.view().assigned, collected(&world)), (1, 1));
    world.calm();
    world.check_at_rest();
}

#[test]
fn a_pod_whose_link_somebody_deleted_keeps_its_address() {
    let mut world = with_pod(1);
    let before = world.addresses(1);
    world.cut_link(1);
    world.pass(3_000);
    assert_eq!((world.view().assigned, collected(&world)), (1, 0));
    assert_eq!(world.addresses(1), before);
}

#[test]
fn one_wrong_answer_takes_nothing_away() {
    let mut world = with_pod(1);
    world.cut_link(1);
    world.step(Step::EmptyList);
    world.pass(3_000);
    assert_eq!((world.view().assigned, collected(&world)), (1, 0));
}

#[test]
fn a_link_with_a_new_mac_is_no_proof_that_the_sandbox_is_gone() {
    let mut world = with_pod(1);
    world.renumber_link(1);
    world.forget_pod(1);
    world.pass(3_000);
    assert_eq!((world.view().assigned, collected(&world)), (1, 0));
}

#[test]
fn a_pod_the_api_server_denies_keeps_its_address_while_its_sandbox_stands() {
    let mut world = with_pod(1);
    for _ in 0..60 {
        world.step(Step::EmptyList);
        world.pass(50);
    }
    assert_eq!((world.view().assigned, collected(&world)), (1, 0));
}

#[test]
fn an_answer_that_cannot_be_had_confirms_nothing() {
    let mut world = with_pod(1);
    world.step(Step::Vanish(1));
    for _ in 0..200 {
        world.step(Step::ListFails);
        world.pass(10);
    }
    assert_eq!((world.view().assigned, collected(&world)), (1, 0));
    world.calm();
    assert_eq!(collected(&world), 1, "once there is an answer");
    world.check_at_rest();
}

#[test]
fn after_a_lost_ledger_the_living_go_on_and_the_dead_are_cleaned_up() {
    let mut world = World::new();
    world.calm();
    for pod in 1..3 {
        world.step(Step::Add(pod));
    }
    world.pass(5);
    world.lose_ledger();
    world.pass(700);
    assert!(world.has_rules(), "they live");
    for pod in 3..9 {
        world.step(Step::Add(pod));
    }
    world.pass(20);
    world.check();
    assert_eq!(
        world.view().assigned,
        6,
        "none of them with an address that lives"
    );
    for pod in 1..3 {
        world.step(Step::Del(pod));
    }
    world.pass(1_000);
    for pod in 3..9 {
        world.step(Step::Del(pod));
    }
    world.calm();
    assert!(!world.has_rules(), "nothing is left of the dead");
    let view = world.view();
    let total: usize = view.enis.iter().map(|eni| eni.addresses.len()).sum();
    assert_eq!(
        view.idle as usize, total,
        "their addresses serve again without a restart"
    );
    world.check_at_rest();
}
