//! What the cloud does not do on the way of an ENI to the node and off it.

use engine::node::{Api, ExhaustionKind};
use model::FaultClass;

use crate::world::{Step, World};

/// A world of ENIs with few addresses, where a pod waits for a new ENI whose attach is refused.
fn attach_refused(class: FaultClass) -> World {
    let mut world = World::with(|config| (config.idle_min, config.idle_max) = (0, 0));
    world.pass(30);
    world.cloud().refuse_api(Api::AttachNetworkInterface, class);
    world.step(Step::Add(1));
    world.pass(90);
    world
}

#[test]
fn an_attach_that_finds_nothing_makes_no_further_eni() {
    let mut world = attach_refused(FaultClass::Gone);
    let made = world.cloud().called(&[Api::CreateNetworkInterface]);
    assert_eq!(
        made, 1,
        "one for the pod that waits, and no other beside it"
    );
    assert_eq!(world.view().enis.len(), 1);
    world.cloud().refuse_api(Api::AttachNetworkInterface, None);
    world.step(Step::Add(1));
    world.pass(120);
    assert_eq!(world.view().assigned, 1, "{:?}", world.view());
}

#[test]
fn an_attach_refused_as_wrong_is_said_and_tried_rarely() {
    let mut world = attach_refused(FaultClass::Invalid);
    world.step(Step::Add(1));
    world.pass(5);
    let state = world.view().exhausted.expect("nothing can grow");
    assert_eq!(state.kind, ExhaustionKind::Misconfigured);
    assert!(state.reason.contains("attaching eni-"), "{}", state.reason);
    let attach = [Api::AttachNetworkInterface];
    let before = world.cloud().called(&attach);
    world.pass(1_800);
    let tries = world.cloud().called(&attach) - before;
    assert!((1..=12).contains(&tries), "{tries} in half an hour");
    world.cloud().refuse_api(Api::AttachNetworkInterface, None);
    world.step(Step::Add(1));
    world.pass(400);
    assert_eq!(world.view().assigned, 1, "{:?}", world.view());
    assert_eq!(world.view().exhausted, None);
}

#[test]
fn an_eni_deleted_by_hand_on_its_way_is_given_up() {
    let mut world = World::with(|config| (config.idle_min, config.idle_max) = (0, 0));
    world.pass(30);
    world.step(Step::Add(1));
    for _ in 0..100 {
        if world.ledger().enis().next().is_none() {
            world.step(Step::Deliver(1));
            world.step(Step::Wait(50));
        }
    }
    let first = world.ledger().enis().next().expect("made").id.clone();
    world.cloud().delete_by_hand(&first);
    world.pass(60);
    assert!(world.view().enis.iter().all(|eni| eni.id != first));
    assert_eq!(world.view().assigned, 1, "{:?}", world.view());
    world.calm();
    world.check_at_rest();
}

/// Pods come and go, the ENIs that are too many then stay because `api` is refused, and pods come again.
fn kept(api: Api) {
    let mut world = World::with(|config| (config.idle_min, config.idle_max) = (0, 0));
    let each = u8::try_from(world.config().limits.ipv4_per_eni).unwrap();
    let enis = u8::try_from(world.config().enis_max).unwrap();
    let pods = each * enis;
    for pod in 0..pods {
        world.step(Step::Add(pod));
    }
    world.pass(120);
    assert_eq!(world.view().assigned, u32::from(pods), "{:?}", world.view());
    world.cloud().refuse_api(api, FaultClass::Denied);
    for pod in 0..pods {
        world.step(Step::Del(pod));
    }
    world.pass(3_600);
    let before = world.cloud().called(&[api]);
    world.pass(3_600);
    let tries = world.cloud().called(&[api]) - before;
    let most = 15 * u32::from(enis);
    assert!((1..=most).contains(&tries), "{tries} in an hour");
    let made = world.cloud().secondary_enis().len();
    for _ in 0..2 {
        for pod in 0..pods {
            world.step(Step::Add(pod));
        }
        world.pass(120);
    }
    assert_eq!(world.view().assigned, u32::from(pods), "{:?}", world.view());
    if api != Api::UnassignPrivateIpAddresses {
        let now = world.cloud().secondary_enis().len();
        assert_eq!(now, made, "those are used again");
    }
}

#[test]
fn enis_that_cannot_be_deleted_serve_pods_again() {
    kept(Api::DeleteNetworkInterface);
}

#[test]
fn enis_that_cannot_be_detached_serve_pods_again() {
    kept(Api::DetachNetworkInterface);
}

#[test]
fn addresses_that_cannot_be_given_back_are_offered_less_and_less_often() {
    kept(Api::UnassignPrivateIpAddresses);
}

#[test]
fn an_eni_whose_link_does_not_come_holds_up_nobody() {
    let mut world = World::new();
    world.calm();
    let first = world.view().enis[0].id.clone();
    world.cloud().lose_link(&first, true);
    world.step(Step::Kill);
    world.step(Step::Add(1));
    world.pass(100);
    world.step(Step::Add(1));
    world.pass(60);
    assert_eq!(
        world.view().assigned,
        1,
        "by another ENI: {:?}",
        world.view()
    );
    world.cloud().lose_link(&first, false);
    world.calm();
    world.check_at_rest();
}
