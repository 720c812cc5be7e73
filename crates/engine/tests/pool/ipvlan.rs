//! Pods on ipvlan: who is, that each stays what it was made as, what its ENI carries for it and for pods on
//! veth pairs beside it, and that nothing of it is left.

use engine::{
    ledger::Joint,
    node::{Notice, PodBlock},
};
use ipnet::IpNet;
use model::{EniId, VSwitchId};

use crate::world::{FIRST_TRUNK, Step, World, joint::ipvlan_pods};

const NODE: &str = "10.0.0.1/32";
const SERVICES: &str = "10.96.0.0/16";

fn world() -> World {
    let mut world = World::with(|config| {
        config.policy.ipvlan = Some(ipvlan_pods(true));
        config.policy.services = vec![net(SERVICES)];
    });
    world.calm();
    world
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn add(world: &mut World, pods: std::ops::Range<u8>) {
    for pod in pods {
        world.step(Step::Add(pod));
    }
    world.pass(5);
}

/// Whether each pod of the ledger, by its name, is on ipvlan.
fn kinds(world: &World) -> Vec<(String, bool)> {
    let all = world.ledger().attachments();
    let mut kinds: Vec<_> = all
        .map(|it| (it.pod.name.clone(), matches!(it.joint, Joint::Ipvlan(_))))
        .collect();
    kinds.sort();
    kinds
}

fn kinds_are(world: &World, expected: &[(&str, bool)]) {
    let expected = expected.iter().map(|(name, is)| (name.to_string(), *is));
    assert_eq!(kinds(world), Vec::from_iter(expected));
}

/// What is led to the node at its only ENI.
fn to_host(world: &World) -> Vec<IpNet> {
    let [to_host] = &Vec::from_iter(world.to_host().values())[..] else {
        panic!("one ENI: {:?}", world.to_host());
    };
    to_host.to_vec()
}

#[test]
fn a_pod_keeps_its_kind_through_restarts_and_its_eni_serves_both() {
    let mut world = world();
    add(&mut world, 1..2);
    kinds_are(&world, &[("pod-1", true)]);
    assert_eq!(to_host(&world), [net(NODE), net(SERVICES)]);
    let shown = world.view().enis[0].addresses.clone();
    assert!(shown.values().any(|it| it == "default/pod-1 (ipvlan)"));
    assert_eq!(world.explain(1).link.as_deref(), Some("ipvlan"));

    // Veth pairs are asked for from now on.
    world.step(Step::Switch);
    add(&mut world, 2..3);
    kinds_are(&world, &[("pod-1", true), ("pod-2", false)]);
    let of_two = IpNet::from(*world.addresses(2).first().unwrap());
    assert_eq!(to_host(&world), [net(NODE), of_two, net(SERVICES)]);
    world.step(Step::Del(2));
    world.pass(5);
    assert_eq!(to_host(&world), [net(NODE), net(SERVICES)], "it is gone");

    // And the kernel can have no ipvlan any more, or the agent may not.
    world.step(Step::Switch);
    add(&mut world, 3..4);
    kinds_are(&world, &[("pod-1", true), ("pod-3", false)]);
    world.step(Step::Switch);
    add(&mut world, 4..5);
    kinds_are(
        &world,
        &[("pod-1", true), ("pod-3", false), ("pod-4", true)],
    );
    for pod in [1, 3, 4] {
        world.step(Step::Del(pod));
    }
    world.calm();
    world.check_at_rest();
}

#[test]
fn a_service_network_that_changes_is_followed_while_pods_stand() {
    let mut world = world();
    add(&mut world, 1..2);
    world.configure(|config| config.policy.services = vec![net("172.21.0.0/20")]);
    world.pass(5);
    assert_eq!(to_host(&world), [net(NODE), net("172.21.0.0/20")]);
}

#[test]
fn a_del_right_after_a_restart_knows_the_pods_device() {
    let mut world = world();
    add(&mut world, 1..2);
    world.cut_off();
    world.step(Step::Kill);
    // Before the node's links are known.
    world.step(Step::Del(1));
    world.settle();
    assert_eq!(world.failure(1), None);
    assert!(world.ledger().attachments().next().is_none());
    assert!(world.routes().is_empty(), "{:?}", world.routes());
}

#[test]
fn a_sandbox_that_went_without_its_del_is_known_by_its_device() {
    let collected = |world: &World| {
        let all = world.notices.iter();
        let texts = all.filter_map(|it| match it {
            Notice::Collected(_, _, why) => Some(why.clone()),
            _ => None,
        });
        Vec::from_iter(texts)
    };
    let mut world = world();
    add(&mut world, 1..3);
    world.pass(1_000);
    assert_eq!(collected(&world), [""; 0], "both live");
    world.step(Step::Vanish(1));
    world.pass(700);
    let [why] = &collected(&world)[..] else {
        panic!("one pod: {:?}", collected(&world));
    };
    assert!(why.ends_with("and its ipvlan device is gone"), "{why}");
    kinds_are(&world, &[("pod-2", true)]);
    assert_eq!(world.routes().len(), 2, "those of the one that lives");
    world.calm();
    world.check_at_rest();
}

#[test]
fn after_a_lost_ledger_routes_of_the_dead_go_and_those_of_the_living_stay() {
    let mut world = world();
    add(&mut world, 1..3);
    let living = world.addresses(1);
    world.lose_ledger();
    world.pass(700);
    assert_eq!(world.routes().len(), 4, "both live");
    world.step(Step::Del(2));
    world.pass(700);
    let led: Vec<_> = world.routes().iter().map(|it| it.destination).collect();
    let living = living.iter().map(|it| IpNet::from(*it));
    let living = Vec::from_iter(living.flat_map(|it| [it, it]));
    assert_eq!(led, living, "in the main table and in the ENI's");
    add(&mut world, 3..9);
    world.check();
    assert_eq!(world.view().assigned, 6, "none with an address that lives");
}

#[test]
fn trunk_pods_and_pods_of_the_nodes_own_block_have_veth_pairs() {
    let mut trunk = World::with(|config| {
        config.limits.trunk = true;
        config.policy.trunk = Some(Default::default());
        config.policy.ipvlan = Some(ipvlan_pods(true));
    });
    trunk.calm();
    trunk.step(Step::Add(FIRST_TRUNK));
    trunk.step(Step::Bind(FIRST_TRUNK));
    add(&mut trunk, 1..2);
    kinds_are(&trunk, &[("pod-1", true), ("pod-24", false)]);
    assert_eq!(to_host(&trunk), [net(NODE)], "the trunk leads no pod back");
    assert_eq!(trunk.routes().len(), 1, "nor does its table");
    let mut block = World::with(|config| {
        config.policy.ipvlan = Some(ipvlan_pods(true));
        config.policy.block = Some(PodBlock {
            cidr: "172.16.5.0/28".parse().unwrap(),
            eni: EniId::new("eni-own").unwrap(),
            vswitch: VSwitchId::new("vsw-1").unwrap(),
        });
    });
    add(&mut block, 1..2);
    kinds_are(&block, &[("pod-1", false)]);
}
