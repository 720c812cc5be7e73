//! From a seed to the schedule of a region. Each seed uses only some kinds of trouble, so that every kind
//! also shows without the noise of all the others; one in seven has none.

use super::{
    NODES, Schedule,
    schedule::{Fate, Hand, Ready, Setup, Step, Target},
};
use crate::{plan::pause, schedule::Planned, world::Chance};

/// Pod names of a region.
const NAMES: u64 = 8;

/// Of those where pods share: more of them have elastic addresses, one beside an interface of its own.
const SHARING: [u16; NAMES as usize] = [0, 3, 6, 9, 12, 1, 2, 5];

/// Kinds of trouble a seed may choose from: see `trouble`.
const KINDS: u64 = 14;

/// Those in which records are torn out.
const TEARS: [u64; 2] = [3, 4];

/// The life of a seed over that many simulated minutes.
pub fn random(seed: u64, minutes: u64) -> Schedule {
    let mut chance = Chance::new(seed);
    let calm = chance.below(7) == 0;
    let mut setup = Setup {
        seed,
        moves: [200, 2000, 2000, 6000][chance.below(4) as usize],
        // In one life of four what eight pods need takes minutes.
        calls_a_minute: if chance.below(4) == 0 { 12 } else { 0 },
        length: minutes * 60,
        // In one life of two pods share what is kept ready.
        ready: match chance.below(4) {
            0 => Ready { node: 5, zone: 0 },
            1 => ready(&mut chance),
            _ => Ready::default(),
        },
        members: Setup::default().members,
    };
    let kinds: Vec<u64> = (0..KINDS)
        .filter(|_| !calm && chance.below(3) == 0)
        .collect();
    // Ten are just enough for all pods on one node: what is kept ready must make room. Not where hands tear
    // records out: what those leave behind takes room nobody knows of.
    if chance.below(2) == 0 && !kinds.iter().any(|kind| TEARS.contains(kind)) {
        setup.members = 10;
    }
    let mut steps = Vec::new();
    let mut at = chance.below(30_000);
    while at < setup.length * 1000 {
        let number = chance.below(NAMES) as usize;
        let pod = match setup.ready.is_none() {
            true => number as u16,
            false => SHARING[number],
        };
        let step = match kinds.get(chance.below(kinds.len() as u64) as usize) {
            Some(kind) if chance.below(3) == 0 => trouble(*kind, pod, &mut chance),
            _ => life(pod, &mut chance),
        };
        steps.push(Planned { at, step });
        at += pause(&mut chance, 600);
    }
    Schedule {
        title: format!("seed {seed}"),
        setup,
        steps,
        known: None,
    }
}

fn node(chance: &mut Chance) -> usize {
    chance.below(NODES as u64) as usize
}

fn ready(chance: &mut Chance) -> Ready {
    Ready {
        node: chance.below(4) as u32,
        zone: chance.below(4) as u32,
    }
}

fn life(pod: u16, chance: &mut Chance) -> Step {
    match chance.below(12) {
        0..=4 => Step::Pod(pod, Some(node(chance))),
        5 => Step::Pod(pod, None),
        6 | 7 => Step::Schedule(pod, node(chance)),
        8..=10 => Step::Gone(pod),
        _ => Step::Finish(pod),
    }
}

/// Milliseconds: within a call's time, within an attach's, or beyond both.
fn delay(chance: &mut Chance) -> u64 {
    match chance.below(3) {
        0 => chance.below(500),
        1 => chance.below(6_000),
        _ => chance.below(60_000),
    }
}

fn trouble(kind: u64, pod: u16, chance: &mut Chance) -> Step {
    let fate = |targets: &[Target], fate: Fate, most: u64, chance: &mut Chance| {
        let target = targets[chance.below(targets.len() as u64) as usize];
        Step::Fate(target, 1 + chance.below(most) as u8, fate)
    };
    let calls = [
        Target::Create,
        Target::Create,
        Target::Attach,
        Target::Detach,
        Target::Delete,
        Target::Look,
        Target::List,
        Target::VSwitches,
    ];
    let looks = [Target::Look, Target::List, Target::VSwitches];
    match kind {
        0 => Step::Crash,
        1 => Step::Meddle(pod, Hand::Edit),
        2 => Step::Meddle(pod, Hand::Delete),
        3 => Step::Meddle(pod, Hand::TearOut),
        4 => Step::Supplant(pod, node(chance)),
        5 => Step::Vanish(pod),
        6 => fate(&calls, Fate::Refused, 3, chance),
        7 => match chance.below(3) {
            0 => fate(&calls, Fate::NeverSent, 3, chance),
            1 => match fate(&calls, Fate::AnswerLost, 3, chance) {
                Step::Fate(Target::Create, 1, _) => {
                    Step::Fate(Target::Create, 1, Fate::LostThenRefused)
                }
                lost => lost,
            },
            _ => {
                let late = Fate::AnswerLate(delay(chance));
                fate(&calls, late, 2, chance)
            }
        },
        8 => match chance.below(2) {
            // A vSwitch that three answers lack is gone, whatever there is.
            0 => fate(&looks, Fate::Short, 2, chance),
            _ => fate(&looks, Fate::Empty, 2, chance),
        },
        9 => match chance.below(4) {
            0 => fate(&[Target::Write], Fate::Refused, 3, chance),
            1 => fate(&[Target::Write], Fate::NeverSent, 2, chance),
            2 => fate(&[Target::Write], Fate::AnswerLost, 2, chance),
            _ => fate(&[Target::Write], Fate::Half, 2, chance),
        },
        10 => match chance.below(2) {
            0 => Step::Outage(delay(chance) * 2),
            _ => Step::Late([0, 300, 5_000][chance.below(3) as usize]),
        },
        11 => match chance.below(3) {
            0 => Step::VSwitch(chance.below(2) as usize, chance.below(2) == 0),
            _ => Step::Fill(chance.below(2) as usize, chance.below(2) == 0),
        },
        12 => match chance.below(2) {
            0 => Step::Ready(ready(chance)),
            _ => Step::Renew,
        },
        _ => Step::Tenants([0, 400, 495, 11][chance.below(4) as usize]),
    }
}
