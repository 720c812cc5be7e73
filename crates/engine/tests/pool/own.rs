//! Pods that get a whole ENI: what they wait for, what they get, and that the pool leaves it alone.

use engine::{
    ledger::{Attachment, Lent},
    node::{Notice, PodState},
};
use ipnet::IpNet;
use model::{
    EniId, InterfaceName, Mac,
    podeni::{Attached, Phase, PodEni},
    podnetworking::EniAttachment,
};

use crate::world::{
    FIRST_TRUNK, Step, World,
    member::{second, with_one},
};

const POD: u8 = FIRST_TRUNK;
const SERVICES: &str = "10.96.0.0/16";

fn world() -> World {
    let mut world = World::with(|config| config.policy.services = net(&[SERVICES]));
    world.calm();
    world
}

fn net(all: &[&str]) -> Vec<IpNet> {
    all.iter().map(|net| net.parse().unwrap()).collect()
}

/// The record of the pod once the ENI `eni` is attached to the node.
fn record(world: &World, eni: &EniId) -> PodEni {
    let mut record = with_one(POD, world.uid(POD), world.config(), eni.clone());
    record.trunk = None;
    record.allocations[0].attachment = EniAttachment::Own;
    let last = eni.as_str().trim_start_matches("eni-").parse().unwrap();
    let owned = record.allocations[0].eni.as_mut().unwrap();
    (owned.id, owned.mac) = (eni.clone(), Mac([0, 0x16, 0x3e, 1, 0, last]));
    record.attached = [(eni.clone(), Attached { vlan: None })].into();
    record
}

/// An ENI the control plane made, on the node.
fn plug(world: &mut World) -> EniId {
    let tags = [("creator", "terway-controller")];
    world.cloud().add_foreign(&tags)
}

fn attachment(world: &World) -> Option<Attachment> {
    world.ledger().attachments().next().cloned()
}

fn lent(attachment: &Attachment) -> Lent {
    let member = attachment.member.as_ref().unwrap();
    member.device().unwrap().clone()
}

#[test]
fn a_pod_gets_the_whole_eni_and_the_pool_never_has_it() {
    let mut world = world();
    let before = world.view();
    world.step(Step::Add(POD));
    world.pass(5);
    let eni = plug(&mut world);
    // The cloud shows it to whoever asks before its record does.
    world.pass(1200);
    assert_eq!(world.view().enis, before.enis);
    world.step(Step::Add(POD));
    let record = record(&world, &eni);
    world.write_record(POD, Some(record.clone()));
    world.pass(5);
    let known = attachment(&world).unwrap();
    let lent = lent(&known);
    assert_eq!((known.eni.clone(), known.is_whole()), (eni.clone(), true));
    assert_eq!((lent.home.as_str(), lent.up), ("eth-3", true));
    assert_eq!(lent.gateway.v4, Some("10.0.0.253".parse().unwrap()));
    let by_host = net(&["10.0.0.1/32", SERVICES, "169.254.20.10/32"]);
    assert_eq!(lent.by_host, by_host);
    let told = world.explain(POD);
    assert_eq!((told.state, told.eni), (PodState::Attached, Some(eni)));
    let view = world.view();
    assert_eq!((view.enis, view.assigned), (before.enis, 0));

    // What nobody says again stands: a restart, and a record that goes.
    world.cut_off();
    world.step(Step::Kill);
    world.write_record(POD, None);
    world.pass(5);
    assert_eq!(attachment(&world), Some(known));
    world.step(Step::Del(POD));
    world.pass(5);
    assert_eq!(attachment(&world), None);
}

#[test]
fn an_add_says_what_it_waits_for() {
    type Case = (fn(&mut PodEni), &'static str);
    let cases: [Case; 8] = [
        (|it| it.phase = Phase::Binding, "is Binding"),
        (
            |it| it.allocations[0].eni.as_mut().unwrap().mac = Mac([9; 6]),
            "whose device (09:09:09:09:09:09) has not come to the node yet",
        ),
        (
            |it| it.attached.clear(),
            "does not say that eni-3 of eth0 is attached",
        ),
        (
            |it| {
                second(it);
                let eni = it.allocations[1].eni.as_mut().unwrap();
                eni.id = EniId::new("eni-n").unwrap();
                it.allocations[1].attachment = EniAttachment::Trunk;
            },
            "trunk",
        ),
        (
            |it| it.allocations[0].interface = InterfaceName::new("veth1").unwrap(),
            "names an interface veth1",
        ),
        (
            |it| it.allocations[0].attachment = EniAttachment::Trunk,
            "enable_eni_trunking is off",
        ),
        (
            |it| {
                it.allocations[0].attachment = EniAttachment::Default;
                (it.phase, it.message) = (Phase::Binding, "the account has all its ENIs".into());
            },
            ": the account has all its ENIs",
        ),
        (
            |it| {
                it.allocations[0].attachment = EniAttachment::Trunk;
                it.deleting = true;
            },
            "is being deleted",
        ),
    ];
    for (edit, expected) in cases {
        let mut world = world();
        let eni = plug(&mut world);
        let mut record = record(&world, &eni);
        edit(&mut record);
        world.write_record(POD, Some(record));
        world.step(Step::Add(POD));
        world.pass(2);
        let told = world.explain(POD).missing.unwrap();
        assert!(told.contains(expected), "{told}");
        world.pass(91);
        assert!(world.failure(POD).unwrap().contains(expected));
    }
    let mut world = World::new();
    world.calm();
    let eni = plug(&mut world);
    let record = record(&world, &eni);
    world.write_record(POD, Some(record));
    world.step(Step::Add(POD));
    world.pass(5);
    let told = world.explain(POD).missing.unwrap();
    assert!(told.contains("service_cidr"), "{told}");
}

/// The cloud says who made an ENI by its tags, and somebody may give this one ours.
#[test]
fn an_eni_that_a_record_names_is_no_pools_whatever_its_tags() {
    let mut world = world();
    let eni = plug(&mut world);
    let record = record(&world, &eni);
    world.write_record(POD, Some(record));
    world.cloud().tag(&eni, "creator", "terway");
    world.pass(1200);
    assert!(world.view().enis.iter().all(|known| known.id != eni));
    assert!(
        !world
            .notices
            .iter()
            .any(|it| matches!(it, Notice::Defect(_)))
    );
}
