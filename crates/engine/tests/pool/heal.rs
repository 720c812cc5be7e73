//! What somebody else takes from the node is put back, and how often, and what is never touched.

use std::time::Duration;

use engine::node::Notice;

use crate::world::{Step, World};

fn with_pod(pod: u8) -> World {
    let mut world = World::new();
    world.calm();
    world.step(Step::Add(pod));
    world.pass(30);
    assert_eq!(world.view().assigned, 1);
    world.notices.clear();
    world
}

fn count(world: &World, wanted: impl Fn(&Notice) -> bool) -> usize {
    world.notices.iter().filter(|it| wanted(it)).count()
}

fn repaired(world: &World) -> usize {
    count(world, |it| matches!(it, Notice::Repaired(..)))
}

fn contested(world: &World) -> usize {
    count(world, |it| matches!(it, Notice::Contested(..)))
}

#[test]
fn what_is_taken_from_a_running_pod_is_back_within_half_a_second() {
    let mut world = with_pod(1);
    let before = world.rules().clone();
    world.flush_rules();
    world.pass_millis(500);
    assert_eq!(*world.rules(), before);
    assert_eq!((repaired(&world), contested(&world)), (1, 0));
    world.pass(3_000);
    assert_eq!(repaired(&world), 1, "once, and said once");
}

#[test]
fn what_the_kernel_does_not_announce_is_back_within_a_minute() {
    let mut world = with_pod(1);
    let before = world.link_mac(1);
    world.renumber_link(1);
    world.pass(60);
    assert_eq!((world.link_mac(1), repaired(&world)), (before, 1));
}

#[test]
fn a_del_during_a_repair_comes_after_it_and_leaves_nothing() {
    let mut world = with_pod(1);
    let looks = world.harm.looks.len();
    world.flush_rules();
    while world.harm.looks.len() == looks {
        assert!(world.deliver(), "a look begins");
    }
    world.hold_repair();
    world.settle();
    world.step(Step::Del(1));
    world.settle();
    assert!(!world.addresses(1).is_empty(), "the DEL waits");
    assert!(world.deliver_repair());
    assert!(world.addresses(1).is_empty());
    assert!(!world.has_rules(), "nothing of the pod is left");
    world.calm();
    world.check_at_rest();
}

#[test]
fn a_check_during_a_repair_waits_for_it() {
    let mut world = with_pod(1);
    let looks = world.harm.looks.len();
    world.flush_rules();
    while world.harm.looks.len() == looks {
        assert!(world.deliver(), "a look begins");
    }
    world.hold_repair();
    world.settle();
    world.check_pod(1);
    world.settle();
    assert_eq!(world.harm.checked, 0);
    assert!(world.deliver_repair());
    assert_eq!(world.harm.checked, 1);
}

#[test]
fn nothing_is_made_for_a_pod_whose_link_is_gone_and_people_are_told_once() {
    let mut world = with_pod(1);
    world.cut_link(1);
    world.flush_rules();
    let told = |world: &World| count(world, |it| matches!(it, Notice::CutOff(..)));
    world.pass(25);
    assert_eq!(
        (told(&world), world.has_rules()),
        (0, false),
        "a DEL may come"
    );
    world.pass(10);
    assert_eq!((told(&world), world.has_rules()), (1, false));
    world.pass(3_000);
    assert_eq!((told(&world), repaired(&world)), (1, 0));
}

#[test]
fn a_link_that_may_be_a_newer_sandboxs_is_left_alone() {
    let mut world = with_pod(1);
    world.step(Step::Recreate(1));
    world.pass(5);
    world.notices.clear();
    world.flush_rules();
    world.pass(20);
    assert_eq!(
        repaired(&world),
        0,
        "two attachments have a link of this name"
    );
    world.pass(300);
    assert_eq!(repaired(&world), 1, "the old one was taken away");
}

#[test]
fn somebody_who_keeps_deleting_is_met_ever_more_rarely_and_told_of_once() {
    let mut world = with_pod(1);
    for _ in 0..600 {
        world.flush_rules();
        world.pass(1);
    }
    let repairs = repaired(&world);
    assert!(
        (12..24).contains(&repairs),
        "{repairs} repairs in ten minutes"
    );
    assert_eq!(contested(&world), 1);
    world.pass(120);
    assert!(world.has_rules(), "the last word is ours");
}

#[test]
fn announcements_all_the_time_are_looked_at_twice_a_second() {
    let mut world = with_pod(1);
    let before = world.harm.looks.len();
    for _ in 0..100 {
        world.disturb();
        world.pass_millis(100);
    }
    let looks = &world.harm.looks[before..];
    assert!(
        (20..27).contains(&looks.len()),
        "{} looks in 10 s",
        looks.len()
    );
    let apart = looks.windows(2).map(|pair| pair[1].since(pair[0]));
    assert!(apart.min().unwrap() >= Duration::from_millis(400));
}

#[test]
fn a_look_that_fails_is_repeated_and_said_once() {
    let mut world = with_pod(1);
    world.harm.blind = true;
    world.flush_rules();
    world.pass(20);
    let failed = count(&world, |it| matches!(it, Notice::KernelFailed(_)));
    assert_eq!(failed, 1);
    world.harm.blind = false;
    world.pass(6);
    assert!(world.has_rules());
}

#[test]
fn an_eni_is_set_up_again_while_its_pods_live_on() {
    let mut world = with_pod(1);
    let eni = world.ledger().enis().next().unwrap().id.clone();
    world.flush_eni(&eni);
    world.pass_millis(500);
    assert!(world.harm.enis.is_empty());
    let told = count(&world, |it| matches!(it, Notice::NodeRepaired(_)));
    assert_eq!(told, 1);
    world.pass(600);
    let told = count(&world, |it| matches!(it, Notice::NodeRepaired(_)));
    assert_eq!(told, 1);
}

#[test]
fn sysctls_are_put_right_once_the_plugin_had_its_time() {
    const PATH: &str = "net/ipv4/ip_forward";
    let mut world = World::new();
    world.calm();
    world.harm.sysctls.insert(PATH.into());
    world.step(Step::Add(1));
    world.pass(2);
    world.disturb();
    world.pass(2);
    assert!(world.harm.judged.is_empty(), "the plugin writes them");
    world.pass(10);
    world.disturb();
    world.pass_millis(500);
    assert!(world.harm.sysctls.is_empty());
    let paths: Vec<_> = world.harm.judged.iter().map(|it| &*it.path).collect();
    let forwarding = |path: &&&str| path.ends_with("/forwarding");
    assert_eq!(
        paths.iter().filter(forwarding).count(),
        3,
        "of the pod, its ENI and the node: {paths:?}"
    );
    assert!(paths.contains(&"net/ipv4/conf/all/rp_filter"), "{paths:?}");
}

#[test]
fn sysctls_that_cannot_be_written_are_told_of_once() {
    let mut world = with_pod(1);
    world.harm.read_only = true;
    world
        .harm
        .sysctls
        .insert("net/ipv4/conf/all/rp_filter".into());
    let told = |world: &World| count(world, |it| matches!(it, Notice::SysctlsWrong(_)));
    world.disturb();
    world.pass(600);
    assert_eq!(told(&world), 1);
    world.harm.sysctls.clear();
    world.pass(120);
    world
        .harm
        .sysctls
        .insert("net/ipv4/conf/all/rp_filter".into());
    world.pass(120);
    assert_eq!(told(&world), 2, "it was right in between");
}
