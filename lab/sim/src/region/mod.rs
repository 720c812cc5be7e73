//! Lives of a region: the real machine of the control plane, a cloud, an API server with its watch, and
//! whoever meddles. The same queue, log, report, schedules and shrinking as the lives of nodes.

mod api;
mod calls;
mod cloud;
mod cold;
mod judge;
pub(crate) mod names;
mod oracle;
mod plan;
mod rest;
pub mod scenario;
mod schedule;
mod spare;
mod steps;
mod world;

use crate::world::Outcome;

pub use cold::{Cold, RATIO, cold};
pub use plan::random;
pub use schedule::{Fate, Hand, Ready, Setup, Step, Target};

/// A life of a region.
pub type Schedule = crate::Schedule<Setup, Step>;

/// How many nodes a region of pods by number has.
const NODES: usize = 2;

/// Runs a schedule to its end or to the first oracle it trips.
pub fn run(schedule: &Schedule, log: bool) -> Outcome {
    world::World::new(schedule.clone(), NODES, log).run()
}

/// The same steps in simpler worlds.
pub(crate) fn simpler(schedule: &Schedule) -> Vec<Schedule> {
    let with = |change: fn(&mut Setup, u64)| {
        let mut candidate = schedule.clone();
        let last = schedule.steps.last().map_or(0, |step| step.at / 1000);
        change(&mut candidate.setup, last);
        candidate
    };
    vec![
        with(|setup, _| setup.calls_a_minute = 0),
        with(|setup, _| setup.members = Setup::default().members),
        with(|setup, _| setup.ready.zone = 0),
        with(|setup, last| setup.length = setup.length.min(last + 60)),
    ]
}

/// Makes a step less than it is; false when it is as simple as can be.
pub(crate) fn plain(step: &mut Step) -> bool {
    match step {
        Step::Fate(_, times, _) if *times > 1 => *times = 1,
        Step::Pod(_, node @ Some(1..)) => *node = Some(0),
        _ => return false,
    }
    true
}
