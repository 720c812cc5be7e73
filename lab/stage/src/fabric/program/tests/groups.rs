//! What security groups say to single frames, and what is remembered of flows.

use cloudsim::{Direction, GroupKind, KnownRule, Policy, Remote, Rule, SecurityGroup};
use model::{SecurityGroupId, Timestamp};

use super::verdicts::{RECEIVER, REDIRECT, SENDER, TEN, TWENTY, ethernet, run};
use crate::fabric::{
    groups::Numbers,
    layout,
    program::{ANY, Program},
};

const UDP: u8 = 17;
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Two ENIs that own .10 and .20, each in groups.
struct Rig {
    program: Program,
    numbers: Numbers,
    groups: [Vec<u16>; 2],
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    DeniedOut,
    DeniedIn,
}
use Verdict::{DeniedIn, DeniedOut, Passes};

impl Rig {
    fn new(groups: [&[&str]; 2]) -> Self {
        let mut rig = Self {
            program: super::verdicts::rig(),
            numbers: Numbers::default(),
            groups: Default::default(),
        };
        rig.groups = groups.map(|of| of.iter().map(|name| rig.numbers.of(&id(name))).collect());
        rig
    }

    /// Makes a group: `basic`, `isolated` (basic, and members are not let in) or `advanced`, then rules.
    fn group(&mut self, name: &str, words: &str) {
        let mut words = words.split("; ");
        let kind = words.next().unwrap();
        let known = |words: &str| KnownRule {
            id: String::new(),
            rule: rule(words),
            description: String::new(),
            created: Timestamp::EPOCH,
        };
        let group = SecurityGroup {
            id: id(name),
            name: String::new(),
            description: String::new(),
            kind: match kind {
                "advanced" => GroupKind::Advanced,
                _ => GroupKind::Basic,
            },
            inner_access: kind == "basic",
            rules: words.map(known).collect(),
            created: Timestamp::EPOCH,
        };
        let (number, encoded) = (self.numbers.of(&group.id), self.numbers.encode(&group));
        self.program.set_group(number, &encoded).unwrap();
    }

    /// Sends from .10 (0) or .20 (1) to the other. A test run always comes in by loopback, so that is
    /// where the sender is made to be.
    fn send(&mut self, from: usize, protocol: u8, ports: [u16; 2], flags: u8) -> Verdict {
        let addresses = [TEN, TWENTY];
        let (source, destination) = (addresses[from], addresses[1 - from]);
        for (end, place, address) in [(from, SENDER, source), (1 - from, RECEIVER, destination)] {
            let settings = layout::settings(true, &self.groups[end]);
            // Not by `set`, which would have every flow asked again.
            self.program
                .ports
                .insert(place.port.encode(), settings, ANY)
                .unwrap();
            self.program.set_owner(address.into(), place).unwrap();
        }
        let before = self.denied();
        let frame = frame(protocol, source, destination, ports, flags);
        let passed = run(&mut self.program, &frame).0 == REDIRECT;
        let after = self.denied();
        match (passed, after.0 - before.0, after.1 - before.1) {
            (true, 0, 0) => Passes,
            (false, 1, 0) => DeniedOut,
            (false, 0, 1) => DeniedIn,
            other => panic!("{other:?}"),
        }
    }

    fn denied(&self) -> (u64, u64) {
        let [one, two] = [SENDER, RECEIVER].map(|end| self.program.counters(end.port).unwrap());
        assert_eq!(
            (one.denied_in, two.denied_out),
            (0, 0),
            "the other end is to blame"
        );
        (one.denied_out, two.denied_in)
    }
}

fn id(name: &str) -> SecurityGroupId {
    SecurityGroupId::new(name).unwrap()
}

/// `in|out accept|drop PRIORITY PROTOCOL PORT NETWORK|GROUP`; protocol, port and network may be `*`.
fn rule(words: &str) -> Rule {
    let words: Vec<&str> = words.split(' ').collect();
    let [direction, policy, priority, protocol, port, remote] = words[..] else {
        panic!("{words:?}");
    };
    Rule {
        direction: match direction {
            "in" => Direction::Inbound,
            _ => Direction::Outbound,
        },
        policy: match policy {
            "accept" => Policy::Accept,
            _ => Policy::Drop,
        },
        priority: priority.parse().unwrap(),
        protocol: protocol.parse().ok(),
        ports: port.parse().map_or(0..=u16::MAX, |port| port..=port),
        remote: match remote.strip_prefix("sg-") {
            Some(_) => Remote::Group(id(remote)),
            None => Remote::Net(remote.replace('*', "0.0.0.0/0").parse().unwrap()),
        },
    }
}

fn frame(
    protocol: u8,
    source: [u8; 4],
    destination: [u8; 4],
    ports: [u16; 2],
    flags: u8,
) -> Vec<u8> {
    let start = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0];
    let [from, to] = ports.map(u16::to_be_bytes);
    let transport = [&from[..], &to, &[0; 9], &[flags], &[0; 6]].concat();
    ethernet(
        0x0800,
        &[&start[..], &source, &destination, &transport].concat(),
    )
}

#[test]
fn the_first_rule_by_priority_speaks_and_then_the_kind() {
    let silent = "basic";
    let cases = [
        ("out, and not in", silent, silent, DeniedIn),
        ("advanced: not out", "advanced", silent, DeniedOut),
        (
            "by network",
            silent,
            "basic; in accept 1 17 80 192.168.1.0/24",
            Passes,
        ),
        (
            "another network",
            silent,
            "basic; in accept 1 17 80 192.168.2.0/24",
            DeniedIn,
        ),
        (
            "another port",
            silent,
            "basic; in accept 1 17 81 *",
            DeniedIn,
        ),
        (
            "another protocol",
            silent,
            "basic; in accept 1 6 80 *",
            DeniedIn,
        ),
        (
            "another direction",
            silent,
            "basic; out accept 1 17 80 *",
            DeniedIn,
        ),
        (
            "another family",
            silent,
            "basic; in accept 1 * * 8000::/1",
            DeniedIn,
        ),
        (
            "anything",
            silent,
            "basic; in accept 1 * * 192.168.1.10/32",
            Passes,
        ),
        (
            "by group",
            silent,
            "basic; in accept 1 17 80 sg-one",
            Passes,
        ),
        (
            "another group",
            silent,
            "basic; in accept 1 17 80 sg-none",
            DeniedIn,
        ),
        (
            "priority",
            silent,
            "basic; in drop 2 17 80 *; in accept 1 17 80 *",
            Passes,
        ),
        (
            "drop of equals",
            silent,
            "basic; in accept 7 17 80 *; in drop 7 17 80 *",
            DeniedIn,
        ),
        (
            "out",
            "basic; out drop 100 17 80 *",
            "basic; in accept 1 * * *",
            DeniedOut,
        ),
        (
            "both",
            "advanced; out accept 1 17 80 *",
            "advanced; in accept 1 17 80 *",
            Passes,
        ),
    ];
    for (what, one, two, wanted) in cases {
        let mut rig = Rig::new([&["sg-one"], &["sg-two"]]);
        rig.group("sg-one", one);
        rig.group("sg-two", two);
        assert_eq!(rig.send(0, UDP, [1000, 80], 0), wanted, "{what}");
    }
}

#[test]
fn the_groups_of_an_eni_speak_together_and_members_reach_each_other() {
    let mut rig = Rig::new([&["sg-one", "sg-both"], &["sg-two", "sg-both"]]);
    rig.group("sg-one", "basic");
    rig.group("sg-two", "basic; in drop 1 * * *");
    rig.group("sg-both", "basic; out drop 1 * * *");
    assert_eq!(
        rig.send(0, UDP, [1, 2], 0),
        Passes,
        "whatever the rules say"
    );
    rig.group("sg-both", "isolated");
    assert_eq!(rig.send(0, UDP, [1, 2], 0), DeniedIn, "the rules speak");
    rig.group("sg-both", "isolated; in accept 2 * * sg-one");
    assert_eq!(
        rig.send(0, UDP, [1, 2], 0),
        DeniedIn,
        "the other group's goes first"
    );
    rig.group("sg-two", "basic");
    assert_eq!(rig.send(0, UDP, [1, 2], 0), Passes);
    rig.groups[0].clear();
    assert_eq!(rig.send(0, UDP, [1, 3], 0), DeniedIn, "no member any more");
    rig.groups[1].clear();
    assert_eq!(rig.send(0, UDP, [1, 4], 0), Passes, "no ENI of the account");
}

#[test]
fn answers_pass_until_a_rule_takes_their_question_back() {
    let mut rig = Rig::new([&["sg-one"], &["sg-two"]]);
    rig.group("sg-one", "basic");
    rig.group("sg-two", "basic; in accept 1 * * sg-one");
    for protocol in [UDP, TCP] {
        assert_eq!(
            rig.send(1, protocol, [80, 1000], ACK),
            DeniedIn,
            "to nothing"
        );
        assert_eq!(rig.send(0, protocol, [1000, 80], SYN), Passes);
        assert_eq!(rig.send(1, protocol, [80, 1000], SYN | ACK), Passes);
        assert_eq!(rig.send(0, protocol, [1000, 80], ACK), Passes);
        assert_eq!(
            rig.send(1, protocol, [80, 1001], ACK),
            DeniedIn,
            "another flow"
        );
    }
    assert_eq!(
        rig.send(1, TCP, [80, 1000], SYN),
        DeniedIn,
        "no answer opens a flow"
    );

    // A change that changes nothing for them leaves them alone; one that does cuts both ways.
    rig.group("sg-two", "basic; in accept 1 * * sg-one; in drop 1 6 1 *");
    assert_eq!(rig.send(1, TCP, [80, 1000], ACK), Passes);
    rig.group("sg-two", "basic");
    assert_eq!(rig.send(0, TCP, [1000, 80], ACK), DeniedIn);
    assert_eq!(
        rig.send(1, TCP, [80, 1000], ACK),
        DeniedOut,
        "the question's end is to blame"
    );
    rig.group("sg-two", "basic; in accept 1 * * sg-one");
    assert_eq!(rig.send(1, TCP, [80, 1000], ACK), Passes);
}

#[test]
fn a_fragment_follows_its_first_one() {
    let mut rig = Rig::new([&["sg-one"], &["sg-two"]]);
    rig.group("sg-one", "basic");
    rig.group("sg-two", "basic");
    assert_eq!(rig.send(0, UDP, [1, 2], 0), DeniedIn);
    let mut later = frame(UDP, TEN, TWENTY, [1, 2], 0);
    later[21] = 185; // in units of 8 bytes
    assert_eq!(run(&mut rig.program, &later).0, REDIRECT);
}
