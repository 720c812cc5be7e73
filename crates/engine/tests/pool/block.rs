//! Mode VPC: addresses of the node's own block, one owner each, and no call of the cloud.

use std::net::IpAddr;

use engine::node::{Api, PodBlock};
use model::{EniId, VSwitchId};

use crate::world::{Step, World};

/// A node whose pods live in `cidr`.
fn world(cidr: &str) -> World {
    World::with(|config| {
        config.policy.block = Some(PodBlock {
            cidr: cidr.parse().unwrap(),
            eni: EniId::new("eni-own").unwrap(),
            vswitch: VSwitchId::new("vsw-1").unwrap(),
        });
    })
}

fn of(world: &World, pod: u8) -> IpAddr {
    let addresses = world.addresses(pod);
    assert_eq!(addresses.len(), 1, "pod {pod}: {addresses:?}");
    *addresses.first().unwrap()
}

#[test]
fn pods_get_addresses_of_the_block_and_the_cloud_is_asked_for_nothing() {
    let mut world = world("172.16.5.0/28");
    for pod in 0..14 {
        world.step(Step::Add(pod));
    }
    world.pass(5);
    assert_eq!(of(&world, 0).to_string(), "172.16.5.1");
    assert_eq!((world.view().assigned, world.view().enis.len()), (14, 1));
    assert!(!world.has_rules(), "the main table knows the way");
    world.step(Step::Kill);
    world.pass(2_000);
    assert_eq!(world.view().assigned, 14);
    assert_eq!(world.cloud().called(&Api::ALL), 0);
    world.check();
}

#[test]
fn a_full_block_says_so_and_an_address_rests_before_the_next_pod() {
    let mut world = world("172.16.5.0/30");
    for pod in 0..3 {
        world.step(Step::Add(pod));
    }
    world.pass(5);
    let why = world.explain(2).missing.unwrap();
    assert!(
        why.contains("all 2 addresses of the node's podCIDR 172.16.5.0/30"),
        "{why}"
    );
    let first = of(&world, 0);
    world.step(Step::Del(0));
    world.pass(30);
    assert!(
        world.addresses(2).is_empty(),
        "its last peers may still talk to it"
    );
    world.pass(35);
    world.step(Step::Add(2));
    world.pass(5);
    assert_eq!(of(&world, 2), first);
    world.check();
}

#[test]
fn a_new_block_serves_new_pods_and_the_old_one_nobody_after_its_pods() {
    let mut world = world("172.16.5.0/28");
    world.step(Step::Add(1));
    world.step(Step::Add(2));
    world.pass(5);
    world.step(Step::Del(2));
    world.configure(|config| {
        let block = config.policy.block.as_mut().unwrap();
        block.cidr = "172.16.9.0/28".parse().unwrap();
    });
    world.step(Step::Add(3));
    world.pass(100);
    assert_eq!(of(&world, 1).to_string(), "172.16.5.1");
    assert_eq!(of(&world, 3).to_string(), "172.16.9.1");
    world.step(Step::Del(1));
    world.step(Step::Add(4));
    world.pass(100);
    assert_eq!(of(&world, 4).to_string(), "172.16.9.2");
    world.configure(|config| config.policy.block = None);
    world.step(Step::Del(3));
    world.step(Step::Del(4));
    world.pass(200);
    let own = EniId::new("eni-own").unwrap();
    assert_eq!(world.ledger().eni(&own), None, "another mode forgets it");
    world.check();
}
