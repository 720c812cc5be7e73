//! What people do to records, and what a cloud does with trunk pods, one named life each: examples of what
//! the control plane promises. What must hold is what always must hold.

use super::{
    Schedule,
    schedule::{Fate, Hand, Ready, Setup, Step, Target},
};
use crate::schedule::Planned;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// Pods of these numbers have elastic ENIs, addresses kept for five minutes, and for ever.
const ELASTIC: u16 = 0;
const KEPT: u16 = 1;
const FOR_EVER: u16 = 2;

fn life(title: &str, steps: &[(u64, Step)]) -> Schedule {
    let steps = steps.iter().map(|(at, step)| Planned {
        at: *at,
        step: step.clone(),
    });
    let steps: Vec<_> = steps.collect();
    let last = steps.last().map_or(0, |step| step.at / 1000);
    Schedule {
        title: title.into(),
        setup: Setup {
            length: last + 60,
            ..Setup::default()
        },
        steps,
        known: None,
    }
}

/// A life of pods that share what is kept ready on trunks of `members`.
fn sharing(title: &str, ready: (u32, u32), members: u32, steps: &[(u64, Step)]) -> Schedule {
    let mut life = life(title, steps);
    let (node, zone) = ready;
    (life.setup.ready, life.setup.members) = (Ready { node, zone }, members);
    life
}

/// Pods of two nodes, each replaced five times; then one node is empty for half as long as it may be.
fn rolling() -> Vec<(u64, Step)> {
    let names = [[0, 6, 15, 21, 27, 36], [3, 9, 18, 24, 30, 39]];
    let mut steps = Vec::new();
    for (node, names) in names.into_iter().enumerate() {
        steps.push((0, Step::Pod(names[0], Some(node))));
        for (turn, pair) in (4..).zip(names.windows(2)) {
            let at = 30 * SECOND * turn;
            steps.push((at, Step::Pod(pair[1], Some(node))));
            steps.push((at + 5 * SECOND, Step::Gone(pair[0])));
        }
    }
    steps.push((5 * MINUTE, Step::Gone(39)));
    steps.push((10 * MINUTE, Step::Pod(42, Some(1))));
    steps.sort_by_key(|(at, _)| *at);
    steps
}

/// Lives of pods that share, and of vSwitches that are full.
fn shared() -> Vec<Schedule> {
    let pod = |at: u64, number: u16, node: usize| (at * SECOND, Step::Pod(number, Some(node)));
    let fill = |at, vswitch| (at * SECOND, Step::Fill(vswitch, true));
    let ready = |node, zone| Step::Ready(Ready { node, zone });
    vec![
        sharing(
            "R7 a rolling restart waits for no call where enough is kept ready",
            (5, 0),
            100,
            &rolling(),
        ),
        sharing(
            "R8 what is kept ready makes room for pods where the trunk is full",
            (3, 0),
            4,
            &[pod(0, 0, 0), pod(0, 6, 0), pod(300, 1, 0), pod(300, 2, 0)],
        ),
        sharing(
            "R9 what is kept ready goes with its edition, and is as many as people say",
            (3, 0),
            100,
            &[
                pod(0, 0, 0),
                pod(0, 3, 1),
                (5 * MINUTE, Step::Renew),
                pod(600, 6, 0),
                (11 * MINUTE, Step::Gone(0)),
                (20 * MINUTE, ready(1, 0)),
            ],
        ),
        sharing(
            "R10 a full vSwitch is told of once and asked rarely",
            (5, 0),
            100,
            &[
                pod(0, 0, 0),
                fill(8, 0),
                fill(8, 1),
                (30 * MINUTE, Step::Tenants(0)),
            ],
        ),
        sharing(
            "R11 a zone keeps ENIs that are only attached; the next controller makes its own",
            (0, 2),
            100,
            &[
                pod(0, 0, 0),
                pod(120, 3, 1),
                (10 * MINUTE, Step::Crash),
                (40 * MINUTE, ready(0, 0)),
            ],
        ),
        sharing(
            "R12 what is kept ready on a node goes with it",
            (3, 1),
            100,
            &[
                pod(0, 0, 0),
                pod(0, 3, 1),
                pod(0, 1, 1),
                (5 * MINUTE, Step::Leave),
                pod(360, 6, 0),
            ],
        ),
        life(
            "R13 a pod asks a full vSwitch once a minute",
            &[
                fill(60, 0),
                fill(60, 1),
                pod(61, ELASTIC, 0),
                (20 * MINUTE, Step::Tenants(0)),
            ],
        ),
    ]
}

/// All of them.
pub fn all() -> Vec<Schedule> {
    let mut all = apart();
    all.extend(shared());
    all
}

/// Lives of pods each of which has ENIs of its own.
fn apart() -> Vec<Schedule> {
    let pod = |number| (0, Step::Pod(number, Some(0)));
    let moved: Vec<_> = (0..6)
        .flat_map(|turn| {
            let at = 30 * SECOND * turn;
            let node = usize::from(turn % 2 == 1);
            [
                (at, Step::Pod(KEPT, Some(node))),
                (at + 20 * SECOND, Step::Gone(KEPT)),
            ]
        })
        .collect();
    vec![
        life(
            "F21 a pod with a fixed address is moved back and forth",
            &moved,
        ),
        life(
            "F12b a failed delete keeps a VLAN id taken",
            &[
                pod(ELASTIC),
                (20 * SECOND, Step::Fate(Target::Delete, 3, Fate::NeverSent)),
                (20 * SECOND, Step::Gone(ELASTIC)),
                (21 * SECOND, Step::Pod(ELASTIC, Some(0))),
            ],
        ),
        life(
            "R1 a fixed address waits for the next pod, and goes when its time is over",
            &[
                pod(KEPT),
                (MINUTE, Step::Gone(KEPT)),
                (5 * MINUTE, Step::Pod(KEPT, Some(1))),
                (6 * MINUTE, Step::Gone(KEPT)),
            ],
        ),
        life(
            "R2 a change by hand is taken back",
            &[pod(KEPT), (MINUTE, Step::Meddle(KEPT, Hand::Edit))],
        ),
        life(
            "R3 a record deleted by hand serves its pod to the end",
            &[
                pod(FOR_EVER),
                (MINUTE, Step::Meddle(FOR_EVER, Hand::Delete)),
                (3 * MINUTE, Step::Gone(FOR_EVER)),
            ],
        ),
        life(
            "R4 a record torn out leaves its pod its ENI, and the ENI is collected after the pod",
            &[
                pod(ELASTIC),
                (MINUTE, Step::Meddle(ELASTIC, Hand::TearOut)),
                (40 * MINUTE, Step::Gone(ELASTIC)),
            ],
        ),
        life(
            "R5 a PodNetworking follows its vSwitches",
            &[
                (MINUTE, Step::VSwitch(0, false)),
                (30 * MINUTE, Step::VSwitch(0, true)),
            ],
        ),
        life(
            "R6 an ENI is asked for, and the next pod of the name comes before the answer",
            &[
                (0, Step::Fate(Target::Create, 1, Fate::AnswerLate(5000))),
                (SECOND, Step::Pod(ELASTIC, Some(0))),
                (3 * SECOND, Step::Supplant(ELASTIC, 0)),
            ],
        ),
    ]
}
