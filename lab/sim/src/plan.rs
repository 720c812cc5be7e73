//! From a seed to a schedule. Each seed uses only some kinds of faults, so that every kind also shows
//! without the noise of all the others; one in seven has none, and pods within what the node can hold.

use cloudsim::CallFault;
use model::Ipv4Prefix;

use crate::{
    schedule::{AddQuirk, CrashPoint, DelQuirk, Fate, Planned, Schedule, Setup, Step},
    world::Chance,
};

/// Kinds of trouble a seed may choose from: see `trouble`.
const KINDS: u64 = 23;

/// Prefixes for two nodes with five pods and at most 19 idle addresses each, while as many again rest:
/// three each, and as many for chance.
pub(crate) const ENOUGH_PREFIXES: u8 = 12;

/// The run of a seed over that many simulated minutes.
pub fn random(seed: u64, minutes: u64) -> Schedule {
    let mut chance = Chance::new(seed);
    let calm = chance.below(7) == 0;
    let setup = setup(seed, minutes, calm, &mut chance);
    let kinds: Vec<u64> = (0..KINDS)
        .filter(|_| !calm && chance.below(4) == 0)
        .collect();
    let pods = if calm { 5 } else { 4 + chance.below(16) };
    let length = setup.length * 1000;
    let mut steps = Vec::new();
    let mut at = chance.below(30_000);
    while at < length {
        let node = below(&mut chance, setup.nodes);
        let pod = u16::try_from(chance.below(pods)).unwrap_or(0);
        let step = match pick(&kinds, &mut chance) {
            Some(kind) if chance.below(3) == 0 => trouble(kind, node, pod, &mut chance),
            _ => life(node, pod, calm, &kinds, &mut chance),
        };
        steps.push(Planned { at, step });
        at += pause(&mut chance, 300);
    }
    Schedule {
        title: format!("seed {seed}"),
        setup,
        steps,
        known: None,
    }
}

/// Milliseconds until the next step, in bursts and pauses: half of the steps follow within `burst`.
pub(crate) fn pause(chance: &mut Chance, burst: u64) -> u64 {
    match chance.below(4) {
        0 | 1 => chance.below(burst),
        2 => chance.below(10_000),
        _ => chance.below(60_000),
    }
}

/// A time below `bound` milliseconds.
pub(crate) fn jitter(chance: &mut Chance, bound: u64) -> u64 {
    chance.below(bound)
}

fn below(chance: &mut Chance, bound: usize) -> usize {
    usize::try_from(chance.below(bound as u64)).unwrap_or(0)
}

fn pick(kinds: &[u64], chance: &mut Chance) -> Option<u64> {
    kinds.get(below(chance, kinds.len())).copied()
}

fn setup(seed: u64, minutes: u64, calm: bool, chance: &mut Chance) -> Setup {
    let types = [
        "ecs.g7.large",
        "ecs.g7.large",
        "ecs.g6.large",
        "ecs.g7.xlarge",
    ];
    let instance_type = types
        .get(below(chance, types.len()))
        .copied()
        .unwrap_or("ecs.g7.large");
    // A /28 has twelve addresses to give: such a world runs dry by itself.
    let bits = |chance: &mut Chance| {
        if !calm && chance.below(5) == 0 {
            28
        } else {
            24
        }
    };
    let (prefixes, least) = prefixes(seed, calm);
    let (spread, reclaim) = habits(seed);
    // More than one prefix at first, so that one may go when the pool's size changes.
    let prefixed = prefixes.map_or(0, |_| Ipv4Prefix::ADDRESSES);
    let idle_min = u32::try_from(chance.below(4)).unwrap_or(0) + prefixed;
    // And room for one to go that is idle for long while the pool is not above its size.
    let reclaimed = reclaim.map_or(0, |_| prefixed);
    Setup {
        seed,
        nodes: 1 + below(chance, 2),
        instance_type: if calm { "ecs.g7.xlarge" } else { instance_type }.into(),
        prefixes,
        least,
        spread,
        any_vswitch: false,
        reclaim,
        vswitches: (0..1 + chance.below(2)).map(|_| bits(chance)).collect(),
        idle_min,
        idle_max: idle_min + reclaimed + u32::try_from(chance.below(5)).unwrap_or(0),
        cooldown: [5, 60, 60, 300]
            .get(below(chance, 4))
            .copied()
            .unwrap_or(60),
        foreign: usize::from(instance_type == "ecs.g7.large" && chance.below(4) == 0),
        attach: [200, 1000, 3000]
            .get(below(chance, 3))
            .copied()
            .unwrap_or(1000),
        calls_a_minute: 120,
        length: minutes * 60,
    }
}

/// One world in four grows by prefixes, of which there may be few, and every second of them is to have
/// some at least. Its own chance, so that the others are what they were before there were prefixes.
fn prefixes(seed: u64, calm: bool) -> (Option<u8>, u32) {
    let mut chance = Chance::new(!seed);
    let few = u8::try_from(chance.below(5)).unwrap_or(0);
    let few = if calm { ENOUGH_PREFIXES } else { few };
    let prefixes = (chance.below(4) == 0).then_some(few);
    let least = u32::try_from(chance.below(6))
        .unwrap_or(0)
        .saturating_sub(2);
    (prefixes, prefixes.map_or(0, |_| least))
}

/// Whether new ENIs come before more addresses, and after how many seconds idle addresses go back: each
/// in one world of four, likewise by its own chance.
fn habits(seed: u64) -> (bool, Option<u64>) {
    let mut chance = Chance::new(seed ^ 0x5ca1_ab1e);
    let after = 30 + chance.below(600);
    let reclaims = chance.below(4) == 0;
    (chance.below(4) == 0, reclaims.then_some(after))
}

/// Everyday life of pods, with the misbehaviour of runtimes where this seed has it.
fn life(node: usize, pod: u16, calm: bool, kinds: &[u64], chance: &mut Chance) -> Step {
    let odd = !calm && kinds.first().is_some_and(|kind| kind % 2 == 0) && chance.below(3) == 0;
    match chance.below(20) {
        0..9 if odd => Step::Create(node, pod, add_quirk(chance)),
        0..9 => Step::Create(node, pod, AddQuirk::Plain),
        9..16 if odd => Step::Delete(node, pod, del_quirk(chance)),
        9..16 => Step::Delete(node, pod, DelQuirk::Plain),
        16 => Step::Finish(node, pod),
        17 => Step::Check(node, pod),
        18 => Step::Gc(node),
        _ if odd => Step::Resandbox(node, pod, del_quirk(chance)),
        _ => {
            let min = u32::try_from(chance.below(4)).unwrap_or(0);
            Step::Pool(node, min, min + u32::try_from(chance.below(5)).unwrap_or(0))
        }
    }
}

fn add_quirk(chance: &mut Chance) -> AddQuirk {
    match chance.below(6) {
        5 => AddQuirk::OtherPod,
        4 => AddQuirk::Refused,
        0 => AddQuirk::Twice,
        1 => AddQuirk::DelFirst,
        2 => AddQuirk::DelAfter(delay(chance)),
        _ => AddQuirk::GivesUp(delay(chance)),
    }
}

fn del_quirk(chance: &mut Chance) -> DelQuirk {
    match chance.below(3) {
        0 => DelQuirk::Twice,
        1 => DelQuirk::NoNetns,
        _ => DelQuirk::Never,
    }
}

/// Milliseconds: within the kernel's work, within the cloud's, or beyond both.
fn delay(chance: &mut Chance) -> u64 {
    match chance.below(3) {
        0 => chance.below(20),
        1 => chance.below(3_000),
        _ => chance.below(60_000),
    }
}

fn few(chance: &mut Chance, bound: u64) -> u8 {
    u8::try_from(chance.below(bound)).unwrap_or(0)
}

fn trouble(kind: u64, node: usize, pod: u16, chance: &mut Chance) -> Step {
    let calls = |how, chance: &mut Chance| Step::Calls(action(chance), 1 + few(chance, 3), how);
    let answer = |fate| Step::Answer(node, fate);
    match kind {
        0 => Step::Crash(node, CrashPoint::Now, 20 + delay(chance)),
        1 => Step::Crash(
            node,
            CrashPoint::BeforeWrite(few(chance, 4)),
            20 + delay(chance),
        ),
        2 => Step::Crash(
            node,
            CrashPoint::AfterWrite(few(chance, 4)),
            20 + delay(chance),
        ),
        3 => Step::Crash(
            node,
            CrashPoint::BeforeCall(few(chance, 3)),
            20 + delay(chance),
        ),
        4 => Step::Crash(
            node,
            CrashPoint::AfterCall(few(chance, 3)),
            20 + delay(chance),
        ),
        5 => match chance.below(2) {
            0 => Step::Crash(
                node,
                CrashPoint::BeforeKernel(few(chance, 3)),
                20 + delay(chance),
            ),
            _ => Step::Crash(
                node,
                CrashPoint::AfterKernel(few(chance, 3)),
                20 + delay(chance),
            ),
        },
        6 => Step::Reboot(node),
        7 if chance.below(4) == 0 => Step::Replace(node),
        8 if chance.below(4) == 0 => Step::LoseDisk(node),
        9 if chance.below(3) == 0 => Step::NoPods(node, 1 + few(chance, 8)),
        9 => Step::DiskFull(node, 1 + few(chance, 4)),
        10 => calls(CallFault::Throttle, chance),
        11 if chance.below(2) == 0 => calls(CallFault::ServerErrorAfter, chance),
        11 => calls(CallFault::ServerError, chance),
        12 if chance.below(2) == 0 => calls(CallFault::CutAnswer, chance),
        12 => calls(CallFault::LoseAnswer, chance),
        13 => Step::Calls(describe(chance), 1 + few(chance, 5), CallFault::EmptyList),
        14 => match chance.below(3) {
            0 => answer(Fate::NeverSent),
            1 => answer(Fate::AnswerLost),
            _ => answer(Fate::AnswerTwice),
        },
        15 => match chance.below(3) {
            0 => answer(Fate::CallLate(delay(chance))),
            1 => answer(Fate::AnswerLate(delay(chance))),
            _ => answer(Fate::CallTwice),
        },
        16 => Step::Outage(delay(chance) * 3),
        17 => match chance.below(3) {
            0 => Step::Lag(0, delay(chance) / 4),
            1 => Step::Lag(delay(chance) / 8, 0),
            _ => Step::Lag(0, 0),
        },
        18 => match chance.below(2) {
            0 => Step::Fill(below(chance, 2), chance.below(2) == 0),
            _ => Step::Tenants(u32::try_from(chance.below(125)).unwrap_or(0)),
        },
        19 => Step::Kernel(node, 1 + few(chance, 12)),
        20 => match chance.below(4) {
            3 => Step::Relink(node),
            0 => Step::Unlink(node, pod),
            1 => Step::Flush(node),
            _ => Step::LateLinks(node, delay(chance) * 2),
        },
        // A few minutes at most: more than a clock daemon leaves to steps, less than what nobody survives.
        21 => Step::Clock(
            node,
            i64::try_from(chance.below(240_000)).unwrap_or(0) - 120_000,
        ),
        22 => refusal(chance),
        _ => Step::Gc(node),
    }
}

/// Quotas and permissions end and come back.
fn refusal(chance: &mut Chance) -> Step {
    let codes = [
        "MaxEniCountExceeded",
        "SecurityGroupInstanceLimitExceed",
        "Forbidden.RAM",
        "InvalidSecurityGroupId.NotFound",
        "Throttling.User",
    ];
    let growing = ["CreateNetworkInterface", "AssignPrivateIpAddresses"];
    let action = growing.get(below(chance, 2)).copied().unwrap_or_default();
    let code = codes.get(below(chance, codes.len() * 2));
    Step::Refuse(action.to_owned(), code.map(|code| (*code).to_owned()))
}

fn action(chance: &mut Chance) -> Option<String> {
    let actions = [
        "CreateNetworkInterface",
        "AttachNetworkInterface",
        "DetachNetworkInterface",
        "DeleteNetworkInterface",
        "AssignPrivateIpAddresses",
        "UnassignPrivateIpAddresses",
        "DescribeNetworkInterfaces",
        "DescribeVSwitches",
    ];
    actions
        .get(below(chance, actions.len() + 1))
        .map(|name| (*name).to_owned())
}

fn describe(chance: &mut Chance) -> Option<String> {
    let actions = ["DescribeNetworkInterfaces", "DescribeVSwitches"];
    actions.get(below(chance, 2)).map(|name| (*name).to_owned())
}
