//! Every reason to drop a frame, and what is delivered: frames no node's kernel would send.
//!
//! A test run pretends that the frame came in on loopback, so loopback is the sender's port. It
//! refuses to make an IPv4 frame without a whole IPv4 header, so that one is not among them.

use aya::programs::{TestRun, TestRunOptions};
use model::Mac;

use crate::fabric::{
    GATEWAY_MAC, PortCounters, layout, layout::Place, layout::PortId, program::Program,
};

pub(super) const REDIRECT: u32 = 7;
const SHOT: u32 = 2;
pub(super) const SENDER: Place = Place {
    port: PortId {
        ifindex: 1,
        vlan: 0,
    },
    mac: Mac([0x00, 0x16, 0x3e, 0, 0, 1]),
};
pub(super) const RECEIVER: Place = Place {
    port: PortId {
        ifindex: 77,
        vlan: 0,
    },
    mac: Mac([0x00, 0x16, 0x3e, 0, 0, 2]),
};
pub(super) const TEN: [u8; 4] = [192, 168, 1, 10];
pub(super) const TWENTY: [u8; 4] = [192, 168, 1, 20];

/// The program with a sender that owns .10 and a receiver that owns .20.
pub(super) fn rig() -> Program {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test loads eBPF: run it as root"
    );
    let mut program = Program::load().unwrap();
    for (place, address) in [(SENDER, TEN), (RECEIVER, TWENTY)] {
        program
            .add_port(place.port, layout::settings(true, &[]))
            .unwrap();
        program.set_owner(address.into(), place).unwrap();
    }
    program
}

/// Runs one frame; the verdict and the frame as the program left it.
pub(super) fn run(program: &mut Program, frame: &[u8]) -> (u32, Vec<u8>) {
    let mut out = vec![0; frame.len()];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ..TestRunOptions::default()
    };
    let verdict = program.classifier().unwrap().test_run(options).unwrap();
    (verdict.return_value, out)
}

pub(super) fn ethernet(protocol: u16, payload: &[u8]) -> Vec<u8> {
    let macs = [GATEWAY_MAC.0, SENDER.mac.0].concat();
    [&macs[..], &protocol.to_be_bytes(), payload].concat()
}

/// An IPv4 header without payload; the checksum is the nodes' business.
fn ipv4(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let start = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0];
    ethernet(0x0800, &[&start[..], &source, &destination].concat())
}

fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let start = [0, 1, 8, 0, 6, 4, 0, operation];
    let macs = [SENDER.mac.0, [0; 6]];
    let payload = [&start[..], &macs[0], &sender, &macs[1], &target].concat();
    ethernet(0x0806, &payload)
}

fn patched(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

#[test]
fn a_delivered_frame_has_both_macs_rewritten_and_no_other_byte() {
    let mut program = rig();
    let frame = ipv4(TEN, TWENTY);
    let (verdict, out) = run(&mut program, &frame);
    assert_eq!(verdict, REDIRECT);
    assert_eq!(out[..6], RECEIVER.mac.0);
    assert_eq!(out[6..12], GATEWAY_MAC.0);
    assert_eq!(out[12..], frame[12..]);
    let (sent, received) = (
        program.counters(SENDER.port).unwrap(),
        program.counters(RECEIVER.port).unwrap(),
    );
    assert_eq!((sent.received_packets, sent.received_bytes), (1, 34));
    assert_eq!(
        (received.delivered_packets, received.delivered_bytes),
        (1, 34)
    );
}

#[test]
fn an_arp_request_is_answered_for_the_gateway() {
    let mut program = rig();
    let (verdict, out) = run(&mut program, &arp(1, TEN, TWENTY));
    assert_eq!(verdict, REDIRECT);
    let payload = [
        &[0, 1, 8, 0, 6, 4, 0, 2][..],
        &GATEWAY_MAC.0,
        &TWENTY,
        &SENDER.mac.0,
        &TEN,
    ]
    .concat();
    assert_eq!(out[..6], SENDER.mac.0);
    assert_eq!(out[6..12], GATEWAY_MAC.0);
    assert_eq!(out[14..], payload);
    assert_eq!(program.counters(SENDER.port).unwrap().arp_answered, 1);
}

#[test]
fn an_arp_request_may_carry_another_address_of_the_vpc() {
    let mut program = rig();
    let (verdict, _) = run(&mut program, &arp(1, TWENTY, [10, 0, 0, 253]));
    assert_eq!(verdict, REDIRECT);
}

#[test]
fn every_other_frame_is_dropped_and_counted_once_for_its_reason() {
    let malformed = |counters: &PortCounters| counters.malformed;
    let refused = |counters: &PortCounters| counters.refused;
    let spoofed = |counters: &PortCounters| counters.spoofed;
    let unowned = |counters: &PortCounters| counters.unowned;
    type Reason = fn(&PortCounters) -> u64;
    let good = ipv4(TEN, TWENTY);
    let cases: [(&str, Vec<u8>, Reason); 14] = [
        (
            "version 6 in an IPv4 frame",
            patched(good.clone(), 14, 0x65),
            malformed,
        ),
        (
            "header of 16 bytes",
            patched(good.clone(), 14, 0x44),
            malformed,
        ),
        (
            "header longer than the packet",
            patched(good.clone(), 14, 0x46),
            malformed,
        ),
        (
            "packet longer than the frame",
            patched(good.clone(), 17, 21),
            malformed,
        ),
        ("foreign source", ipv4(TWENTY, TEN), spoofed),
        ("source of nobody", ipv4([10, 0, 0, 1], TWENTY), spoofed),
        ("broadcast", ipv4(TEN, [255; 4]), unowned),
        (
            "ARP cut short",
            arp(1, TEN, TWENTY)[..41].to_vec(),
            malformed,
        ),
        (
            "ARP for token ring",
            patched(arp(1, TEN, TWENTY), 15, 6),
            malformed,
        ),
        ("ARP reply", arp(2, TEN, TWENTY), refused),
        ("gratuitous ARP", arp(1, TEN, TEN), refused),
        ("ARP probe", arp(1, [0; 4], TWENTY), refused),
        (
            "ARP with a sender nobody owns",
            arp(1, [10, 0, 0, 1], TEN),
            spoofed,
        ),
        ("IPv6", ethernet(0x86dd, &[0; 40]), refused),
    ];
    for (what, frame, reason) in cases {
        let mut program = rig();
        let (verdict, _) = run(&mut program, &frame);
        assert_eq!(verdict, SHOT, "{what}");
        let counters = program.counters(SENDER.port).unwrap();
        assert_eq!(
            (reason(&counters), counters.dropped()),
            (1, 1),
            "{what}: {counters:?}"
        );
        assert_eq!(counters.received_packets, 1, "{what}");
    }
}

#[test]
fn a_receiver_that_checks_takes_nothing_by_a_route() {
    let mut program = rig();
    let frame = ipv4(TEN, [10, 1, 2, 3]);
    program
        .set_route("10.1.0.0/16".parse().unwrap(), RECEIVER)
        .unwrap();
    assert_eq!(run(&mut program, &frame).0, SHOT);
    program
        .set(RECEIVER.port, layout::settings(false, &[]))
        .unwrap();
    assert_eq!(run(&mut program, &frame).0, REDIRECT);
    // The longest prefix wins, and leads to somebody who checks.
    program
        .set_route("10.1.2.0/24".parse().unwrap(), SENDER)
        .unwrap();
    assert_eq!(run(&mut program, &frame).0, SHOT);
    assert_eq!(program.counters(SENDER.port).unwrap().unowned, 2);
}
