//! Many trunk pods at once on nodes that have none of their ENIs, against a cloud that counts calls by the
//! minute. Every call takes as long as the cloud's own take on a quiet day.

use std::{collections::BTreeMap, fmt, time::Duration};

use model::podnetworking::Tenure;

use super::{
    Setup,
    calls::{CALL, LOOK, Pace, WRITE},
    world::World,
};
use crate::{schedule::Schedule, world::START};

const MINUTE: Duration = Duration::from_secs(60);

/// The pods come late in one of the cloud's minutes, of which the machine does not know.
const INTO: Duration = Duration::from_secs(57);

/// What a cold start may take, as a multiple of what the windows allow.
pub const RATIO: f64 = 1.1;

/// What came of a cold start.
#[derive(Debug)]
pub struct Cold {
    /// How long until the last pod was bound.
    pub took: Duration,
    /// The shortest time the windows of each API allow for the calls that were let through.
    pub bounds: BTreeMap<&'static str, Duration>,
    /// Calls by API, those refused for their number included.
    pub calls: BTreeMap<&'static str, u64>,
    /// Calls refused for their number.
    pub throttled: u64,
    /// What one pod takes on its own at best, from its node being known to its ENI being bound.
    pub alone: Duration,
    /// Events of the run.
    pub events: u64,
}

impl Cold {
    /// The time that could not be undercut: the fullest windows, and one pod on its own after the last.
    pub fn bound(&self) -> Duration {
        self.bounds.values().max().copied().unwrap_or_default() + self.alone
    }

    /// What it took beside what it must take; the goal is [`RATIO`].
    pub fn ratio(&self) -> f64 {
        self.took.as_secs_f64() / self.bound().as_secs_f64()
    }
}

/// Brings up `pods` trunk pods on `nodes` nodes.
///
/// # Panics
/// When the world comes to a stop before all are bound: a defect of the simulator.
pub fn cold(pods: u16, nodes: usize) -> Cold {
    let schedule = Schedule {
        title: format!("{pods} cold trunk pods"),
        setup: Setup::default(),
        steps: vec![],
        known: None,
    };
    let moves = Duration::from_millis(schedule.setup.moves);
    let mut world = World::new(schedule, nodes, false);
    (world.pace, world.thorough) = (Pace::Quiet, false);
    world.queue.take(|_| true);
    let began = START.after(INTO);
    world.now = began;
    world.boot();
    for number in 0..pods {
        let node = usize::from(number) % nodes;
        world.create(number, (Tenure::Elastic, 1), Some(node));
    }
    while world.report.starts.len() < usize::from(pods) {
        assert!(world.step(), "nothing is left to happen");
    }
    let took = world.now.since(began);
    world.sum_up();
    let bounds = world.cloud.calls.iter().map(|(api, calls)| {
        let through = calls.saturating_sub(world.cloud.throttled);
        let full = through.saturating_sub(1) / u64::from(world.config.calls(*api));
        (api.name(), MINUTE * u32::try_from(full).unwrap_or(u32::MAX))
    });
    // Looking at the vSwitches, then record, ENI, id, attach; the look that sees it, the last write.
    let alone = Duration::from_millis(LOOK + WRITE * 3 + CALL * 2 + LOOK) + moves;
    Cold {
        took,
        bounds: bounds.collect(),
        calls: world.report.calls,
        throttled: world.cloud.throttled,
        alone,
        events: world.report.events,
    }
}

impl fmt::Display for Cold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "all pods bound after {:.1} s; the windows allow {:.1} s; ratio {:.3}; one pod alone {:.2} s at best",
            self.took.as_secs_f64(),
            self.bound().as_secs_f64(),
            self.ratio(),
            self.alone.as_secs_f64()
        )?;
        for (api, calls) in &self.calls {
            let bound = self.bounds.get(api).copied().unwrap_or_default();
            writeln!(f, "{calls:12}  {api}, {} s of windows", bound.as_secs())?;
        }
        writeln!(
            f,
            "calls refused because the minute was full: {}",
            self.throttled
        )
    }
}
