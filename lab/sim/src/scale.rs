//! Many nodes under the windows of the real cloud: a cold start of all pods, churn, a restart of all
//! agents at once, and half an hour without the API.

use std::{fmt, time::Duration};

use crate::{
    cloud::{Cloud, real_limit},
    plan::jitter,
    report::Report,
    schedule::{AddQuirk, CrashPoint, DelQuirk, Planned, Schedule, Setup, Step},
    world::{Chance, START, World},
};

const MINUTE: u64 = 60_000;
const CHURN: u64 = 40 * MINUTE;
const RESTART: u64 = 55 * MINUTE;
const OUTAGE: u64 = 65 * MINUTE;
const OUTAGE_LENGTH: u64 = 30 * MINUTE;
const END: u64 = 105 * MINUTE;

/// What a scale run showed.
#[derive(Debug)]
pub struct Scale {
    /// What was wrong, if anything.
    pub violation: Option<crate::Violation>,
    /// Until every pod had its address.
    pub ready: Duration,
    /// The least time the cloud's windows allow for that.
    pub bound: Duration,
    /// Pods that started during the outage, of those that were made then.
    pub outage: (usize, usize),
    /// Calls refused because the minute was full.
    pub throttled: u64,
    /// All figures.
    pub report: Report,
}

/// The schedule of a scale run.
pub fn schedule(nodes: usize, pods: u16, seed: u64) -> Schedule {
    let mut chance = Chance::new(seed);
    let mut steps: Vec<Planned> = Vec::new();
    let mut step = |at: u64, step: Step| steps.push(Planned { at, step });
    for node in 0..nodes {
        for pod in 0..pods {
            step(
                jitter(&mut chance, 60_000),
                Step::Create(node, pod, AddQuirk::Plain),
            );
        }
        // A tenth of the pods is replaced while all is well, and a fiftieth during the outage.
        for _ in 0..pods / 10 {
            let (at, pod) = (
                CHURN + jitter(&mut chance, 10 * MINUTE),
                of(&mut chance, pods),
            );
            step(at, Step::Delete(node, pod, DelQuirk::Plain));
            step(at + 5000, Step::Create(node, pod, AddQuirk::Plain));
        }
        for _ in 0..pods / 50 {
            let (at, pod) = (
                OUTAGE + jitter(&mut chance, OUTAGE_LENGTH - 20_000),
                of(&mut chance, pods),
            );
            step(at, Step::Delete(node, pod, DelQuirk::Plain));
            step(at + 5000, Step::Create(node, pod, AddQuirk::Plain));
        }
        step(RESTART, Step::Crash(node, CrashPoint::Now, 1000));
    }
    step(0, Step::Tenants(50));
    step(OUTAGE, Step::Outage(OUTAGE_LENGTH));
    steps.sort_by_key(|planned| planned.at);
    let setup = Setup {
        seed,
        nodes,
        instance_type: "ecs.g7.4xlarge".into(),
        vswitches: vec![16; 4],
        idle_min: 5,
        idle_max: 10,
        calls_a_minute: 0,
        length: END / 1000,
        ..Setup::default()
    };
    Schedule {
        title: format!("{nodes} nodes with {pods} pods each"),
        setup,
        steps,
        known: None,
    }
}

fn of(chance: &mut Chance, pods: u16) -> u16 {
    u16::try_from(chance.below(pods.into())).unwrap_or(0)
}

/// Runs it.
///
/// # Errors
/// When the setup describes no world.
pub fn run(nodes: usize, pods: u16, seed: u64) -> anyhow::Result<Scale> {
    let schedule = schedule(nodes, pods, seed);
    let all = nodes * usize::from(pods);
    let bound = bound(&schedule.setup, nodes, pods)?;
    let created_in = |from: u64, to: u64| {
        let made = |planned: &&Planned| {
            (from..to).contains(&planned.at) && matches!(planned.step, Step::Create(..))
        };
        schedule.steps.iter().filter(made).count()
    };
    let made_in_outage = created_in(OUTAGE, OUTAGE + OUTAGE_LENGTH);
    let mut world = World::new(schedule, false)?;
    world.thorough = false;
    let (mut ready, mut before, mut during) = (Duration::ZERO, 0, 0);
    while world.oracle.violation.is_none() && !world.finished && world.step() {
        let (since, started) = (world.now.since(START), world.report.starts.len());
        if ready.is_zero() && started >= all {
            ready = since;
        }
        let millis = since.as_millis();
        if millis <= u128::from(OUTAGE) {
            before = started;
        } else if millis <= u128::from(OUTAGE + OUTAGE_LENGTH) {
            during = started - before;
        }
    }
    world.sum_up();
    Ok(Scale {
        violation: world.oracle.violation.take(),
        ready,
        bound,
        outage: (during, made_in_outage),
        throttled: world.cloud.throttled,
        report: world.report,
    })
}

/// Each node needs so many ENIs; each of them one create and one attach, of which the account has so
/// many a minute beside the other tenants' 50.
fn bound(setup: &Setup, nodes: usize, pods: u16) -> anyhow::Result<Duration> {
    let per_eni = Cloud::limits(&setup.instance_type)?.ipv4_per_eni;
    let enis = u64::from((u32::from(pods) + setup.idle_min).div_ceil(per_eni)) * nodes as u64;
    let a_minute = u64::from(real_limit("CreateNetworkInterface") - 50);
    Ok(Duration::from_secs(enis * 60 / a_minute))
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| time.as_secs_f64();
        writeln!(
            f,
            "all pods ready after {:.0} s; the windows allow {:.0} s; ratio {:.2}",
            seconds(self.ready),
            seconds(self.bound),
            seconds(self.ready) / seconds(self.bound).max(1.0)
        )?;
        writeln!(
            f,
            "during the outage {} of {} new pods started",
            self.outage.0, self.outage.1
        )?;
        writeln!(
            f,
            "calls refused because the minute was full: {}",
            self.throttled
        )?;
        write!(f, "{}", self.report)
    }
}
