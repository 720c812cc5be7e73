//! What people do to records, and what a cloud does with trunk pods, one named life each: examples of what
//! the control plane promises. What must hold is what always must hold.

use super::{
    Schedule,
    schedule::{Fate, Hand, Setup, Step, Target},
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

/// All of them.
pub fn all() -> Vec<Schedule> {
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
