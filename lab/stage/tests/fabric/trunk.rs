//! Member ENIs: the same owner rule, with a VLAN as part of who is who.

use aya::{
    Ebpf, EbpfLoader,
    programs::{
        SchedClassifier, TcAttachType,
        tc::{NlOptions, TcAttachOptions, qdisc_add_clsact},
    },
};
use stage::fabric::{FabricError, Member, PortCounters};

use crate::{
    Pair, ip,
    rig::{ARP, DATAGRAM, Node},
};

static TAGGER: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tagger.bpf.o"));

/// Puts everything on `node`'s `eth1` under `vlan`, until dropped with the node.
fn tag(node: &Node, vlan: u16) -> Ebpf {
    node.inside(|| {
        qdisc_add_clsact("eth1").unwrap();
        let mut object = EbpfLoader::new()
            .override_global("VLAN", &vlan, true)
            .load(TAGGER)
            .unwrap();
        for (name, side) in [
            ("push", TcAttachType::Egress),
            ("pop", TcAttachType::Ingress),
        ] {
            let program = object.program_mut(name).unwrap();
            let program: &mut SchedClassifier = program.try_into().unwrap();
            program.load().unwrap();
            let options = TcAttachOptions::Netlink(NlOptions::default());
            program.attach_with_options("eth1", side, options).unwrap();
        }
        object
    })
}

fn member(vlan: u16) -> Member {
    Member {
        eni: "eni-member".into(),
        mac: model::Mac([0x00, 0x16, 0x3e, 0, 1, 1]),
        trunk: "eni-1".into(),
        vlan,
        source_dest_check: true,
        groups: Vec::new(),
    }
}

#[test]
fn a_member_is_its_vlan() {
    let pair = Pair::start("member");
    pair.fabric.own(ip("192.168.1.30"), "eni-member").unwrap();
    pair.fabric.plug_member(member(101)).unwrap();
    let _tagger = tag(&pair.one, 101);
    pair.one.ip("addr replace 192.168.1.30/32 dev eth1");
    pair.one.ip("addr del 192.168.1.10/32 dev eth1");
    pair.one
        .ip("route replace default via 192.168.1.253 dev eth1 onlink");
    let _server = pair.two.serve();
    assert!(pair.one.reaches("192.168.1.20", 3));
    let wanted = PortCounters {
        received_packets: 1 + 3,
        received_bytes: ARP + 3 * DATAGRAM,
        delivered_packets: 3,
        delivered_bytes: 3 * DATAGRAM,
        arp_answered: 1,
        ..PortCounters::default()
    };
    assert_eq!(pair.counters("eni-member"), wanted);
    assert_eq!(pair.counters("eni-1"), PortCounters::default());

    // The trunk's own address under a member's VLAN is foreign.
    pair.fabric
        .disown(ip("192.168.1.30"), "eni-member")
        .unwrap();
    pair.fabric.own(ip("192.168.1.30"), "eni-1").unwrap();
    assert!(pair.one.misses("192.168.1.20"));
    assert_eq!(pair.counters("eni-member").spoofed, 1);
}

#[test]
fn a_vlan_without_a_member_is_foreign_to_the_trunk() {
    let pair = Pair::start("stray");
    let _tagger = tag(&pair.one, 102);
    let _server = pair.two.serve();
    assert!(pair.one.misses("192.168.1.20"));
    let one = pair.counters("eni-1");
    assert!(one.spoofed > 0, "{one:?}");
    assert_eq!(one.received_packets, one.spoofed, "{one:?}");
    assert_eq!(pair.counters("eni-2"), PortCounters::default());
}

#[test]
fn a_member_needs_a_trunk_and_a_free_vlan_and_goes_with_the_trunk() {
    let pair = Pair::start("rules");
    let refused = |member| pair.fabric.plug_member(member).unwrap_err();
    for vlan in [0, 4095] {
        assert!(matches!(refused(member(vlan)), FabricError::Vlan { .. }));
    }
    let mut orphan = member(101);
    orphan.trunk = "eni-none".into();
    assert!(matches!(refused(orphan), FabricError::NotPlugged { .. }));
    pair.fabric.plug_member(member(101)).unwrap();
    let mut second = member(101);
    second.eni = "eni-second".into();
    assert!(matches!(refused(second.clone()), FabricError::Vlan { .. }));
    second.vlan = 102;
    second.trunk = "eni-member".into();
    assert!(matches!(refused(second), FabricError::Vlan { .. }));

    pair.fabric.unplug("eni-1").unwrap();
    let left: Vec<String> = pair.fabric.counters().unwrap().into_keys().collect();
    assert_eq!(left, ["eni-2"]);
}
