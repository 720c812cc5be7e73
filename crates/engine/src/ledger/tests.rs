//! The invariants no change may break, and rows that rebuild the ledger.

use model::{ContainerId, DualStack, Family, InterfaceName, Mac, PodKey, Timestamp, VSwitchId};

use super::*;
use crate::netplan::LocalTraffic;

fn key(name: &str) -> AttachmentKey {
    AttachmentKey {
        container: ContainerId::new(name).unwrap(),
        interface: InterfaceName::new("eth0").unwrap(),
    }
}

fn eni(id: &str) -> Change {
    Change::Put(Entry::Eni(EniEntry {
        id: EniId::new(id).unwrap(),
        mac: Mac([0; 6]),
        vswitch: VSwitchId::new("vsw-1").unwrap(),
        stage: EniStage::Attached,
        trunk: false,
        gateway: DualStack::default(),
        subnet: DualStack::default(),
    }))
}

fn address(eni: &str, state: AddressState) -> Change {
    Change::Put(Entry::Address(AddressEntry {
        address: "10.0.0.5".parse().unwrap(),
        eni: EniId::new(eni).unwrap(),
        primary: false,
        prefix: None,
        state,
        unseen: 0,
        reserved: None,
    }))
}

#[test]
fn an_address_has_one_owner() {
    let mut ledger = Ledger::default();
    ledger.apply(&eni("eni-1")).unwrap();
    ledger.apply(&eni("eni-2")).unwrap();
    ledger
        .apply(&address("eni-1", AddressState::Assigned { to: key("a") }))
        .unwrap();
    ledger
        .apply(&address("eni-1", AddressState::Assigned { to: key("a") }))
        .expect("its owner may be written again");
    let before = ledger.clone();
    for bad in [
        address("eni-1", AddressState::Assigned { to: key("b") }),
        address(
            "eni-2",
            AddressState::Idle {
                since: Timestamp::EPOCH,
            },
        ),
        Change::Delete(EntryKey::Address("10.0.0.5".parse().unwrap())),
        Change::Delete(EntryKey::Eni(EniId::new("eni-1").unwrap())),
    ] {
        ledger.apply(&bad).unwrap_err();
        assert_eq!(ledger, before, "a refused change changes nothing");
    }
}

fn trunk_pod(container: &str, address: &str) -> Change {
    Change::Put(Entry::Attachment(Attachment {
        key: key(container),
        pod: PodKey::new("default", container).unwrap(),
        uid: None,
        netns: String::new(),
        addresses: DualStack::only(Family::V4, address.parse().unwrap()),
        eni: EniId::new("eni-1").unwrap(),
        host_link: InterfaceName::new("cali0").unwrap(),
        joint: Joint::Veth,
        mtu: 1500,
        created: Timestamp::EPOCH,
        superseded: false,
        sticky: false,
        member: Some(Box::new(Member {
            eni: EniId::new("eni-m").unwrap(),
            reach: Reach::Vlan(7),
            subnet: DualStack::default(),
            default_route: true,
            routes: Vec::new(),
            local: LocalTraffic::Strict,
        })),
        further: Vec::new(),
    }))
}

#[test]
fn a_trunk_pods_address_is_no_pools_and_no_other_pods() {
    let mut ledger = Ledger::default();
    ledger.apply(&eni("eni-1")).unwrap();
    ledger.apply(&trunk_pod("a", "10.0.0.5")).unwrap();
    ledger
        .apply(&trunk_pod("a", "10.0.0.5"))
        .expect("its owner may be written again");
    let before = ledger.clone();
    for bad in [
        trunk_pod("b", "10.0.0.5"),
        address("eni-1", AddressState::Fresh),
        // Its packets leave by this one.
        Change::Delete(EntryKey::Eni(EniId::new("eni-1").unwrap())),
    ] {
        ledger.apply(&bad).unwrap_err();
        assert_eq!(ledger, before, "a refused change changes nothing");
    }
    let mut ledger = Ledger::default();
    ledger.apply(&eni("eni-1")).unwrap();
    ledger
        .apply(&address("eni-1", AddressState::Fresh))
        .unwrap();
    ledger.apply(&trunk_pod("a", "10.0.0.5")).unwrap_err();
}

#[test]
fn a_row_that_does_not_say_how_its_pod_is_joined_is_of_a_veth_pair() {
    let Change::Put(row) = trunk_pod("a", "10.0.0.5") else {
        unreachable!("it is a put")
    };
    let text = serde_json::to_string(&row).unwrap();
    assert!(!text.contains("joint"), "{text}");
    assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), row);
    let Entry::Attachment(mut attachment) = row else {
        unreachable!("it is an attachment")
    };
    attachment.joint = Joint::Ipvlan(model::net::Link {
        name: InterfaceName::new("eth1").unwrap(),
        index: 7,
        mac: Mac([2; 6]),
        up: true,
    });
    let row = Entry::Attachment(attachment);
    let text = serde_json::to_string(&row).unwrap();
    assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), row);
}

#[test]
fn an_address_needs_its_eni() {
    let error = Ledger::default()
        .apply(&address("eni-1", AddressState::Fresh))
        .unwrap_err();
    assert!(matches!(error, Violation::NoSuchEni { .. }));
}

#[test]
fn rows_written_down_in_any_order_rebuild_the_ledger() {
    let mut ledger = Ledger::default();
    let changes = [eni("eni-1"), address("eni-1", AddressState::Fresh)];
    let mut rows = Vec::new();
    for change in &changes {
        ledger.apply(change).unwrap();
        let Change::Put(entry) = change else {
            unreachable!("all are puts")
        };
        let text = serde_json::to_string(entry).unwrap();
        rows.push(serde_json::from_str(&text).unwrap());
    }
    rows.reverse();
    assert_eq!(Ledger::restore(rows).unwrap(), ledger);
}
