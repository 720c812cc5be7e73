//! Many nodes under the windows of the real cloud: a cold start of all pods, churn, a restart of all
//! agents at once, and half an hour without the API.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    cloud::{Cloud, real_limit},
    plan::jitter,
    report::Report,
    schedule::{AddQuirk, CrashPoint, DelQuirk, Planned, Schedule, Setup, Step},
    world::{Chance, START, World},
};

/// Calls of each API a minute that others make.
const TENANTS: u32 = 50;
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
    /// Calls that had reached the cloud by then, by action.
    pub calls: BTreeMap<&'static str, u64>,
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
    step(0, Step::Tenants(TENANTS));
    step(OUTAGE, Step::Outage(OUTAGE_LENGTH));
    steps.sort_by_key(|planned| planned.at);
    let setup = Setup {
        seed,
        nodes,
        instance_type: "ecs.g7.4xlarge".into(),
        vswitches: vec![16; 4],
        any_vswitch: true,
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

/// Runs it, to the end or until the cold start is over.
///
/// # Errors
/// When the setup describes no world.
pub fn run(nodes: usize, pods: u16, seed: u64, cold_start: bool) -> anyhow::Result<Scale> {
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
    let mut calls = BTreeMap::new();
    while world.oracle.violation.is_none() && !world.finished && world.step() {
        let (since, started) = (world.now.since(START), world.report.starts.len());
        if ready.is_zero() && started >= all {
            ready = since;
            calls = world.cloud.calls.clone();
            if cold_start {
                break;
            }
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
        calls,
        bound,
        outage: (during, made_in_outage),
        throttled: world.cloud.throttled,
        report: world.report,
    })
}

/// The least that must be called, if every node knew all its pods at once but for its first ENI, which is
/// made with the pool's addresses before there is a pod: so many ENIs, each one create and one attach, a
/// create bringing all an ENI takes; and what these do not bring, ten for each assign.
///
/// The account's windows open with the minute and hold so many calls beside the other tenants'. So many
/// calls need so many windows, and the last call may be made when the last of these opens. The APIs are
/// used side by side: the slowest counts. Looks at vSwitches and ENIs are not counted, as no pod needs
/// one to start.
fn bound(setup: &Setup, nodes: usize, pods: u16) -> anyhow::Result<Duration> {
    let per_eni = Cloud::limits(&setup.instance_type)?.ipv4_per_eni;
    let needed = u32::from(pods) + setup.idle_min;
    let enis = needed.div_ceil(per_eni);
    let brought = setup.idle_min.max(1) + (enis - 1) * per_eni;
    let assigns = needed.saturating_sub(brought).div_ceil(10);
    let calls = [
        ("CreateNetworkInterface", enis),
        ("AttachNetworkInterface", enis),
        ("AssignPrivateIpAddresses", assigns),
    ];
    let minutes = calls.map(|(action, each)| {
        let all = u64::from(each) * nodes as u64;
        let windows = all.div_ceil(u64::from(real_limit(action) - TENANTS));
        windows.saturating_sub(1)
    });
    let last = minutes.into_iter().max().unwrap_or(0);
    Ok(Duration::from_secs(60 * last) + Duration::from_millis(setup.attach))
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
        for (action, calls) in &self.calls {
            writeln!(f, "{calls:12}  {action} until then")?;
        }
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
