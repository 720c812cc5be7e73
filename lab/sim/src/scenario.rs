//! The failures that every such system has had, one named scenario each; `docs/simulator.md` has the
//! list they come from. What must hold is what always must hold, so a scenario is nothing but steps.

mod exhaustion;

use cloudsim::CallFault;
use engine::node::ExhaustionKind;

use crate::{
    life::Life,
    region,
    schedule::{AddQuirk, CrashPoint, DelQuirk, Fate, Planned, Schedule, Setup, Step},
};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// Failures whose part does not exist yet, and what has to exist first.
pub const NOT_APPLICABLE: [(&str, &str, &str); 3] = [
    (
        "F14",
        "two writers of one node object",
        "a control plane that writes node objects",
    ),
    (
        "F17",
        "a ledger of an older or newer format",
        "a second format; the agent's store has the tests",
    ),
    (
        "F23",
        "the agent cannot restart on a full node",
        "a scheduler; the agent needs no pod address",
    ),
];

/// All of them, of both kinds.
pub fn lives() -> Vec<Life> {
    let region = region::scenario::all().into_iter().map(Life::Region);
    all().into_iter().map(Life::Nodes).chain(region).collect()
}

fn scenario(id: &str, failure: &str, setup: Setup, steps: Vec<(u64, Step)>) -> Schedule {
    let mut steps: Vec<Planned> = steps
        .into_iter()
        .map(|(at, step)| Planned { at, step })
        .collect();
    steps.sort_by_key(|planned| planned.at);
    let last = steps.last().map_or(0, |planned| planned.at / 1000);
    let setup = Setup {
        length: last + 120,
        ..setup
    };
    Schedule {
        title: format!("{id} {failure}"),
        setup,
        steps,
        known: None,
    }
}

fn create(pod: u16) -> Step {
    Step::Create(0, pod, AddQuirk::Plain)
}

fn delete(pod: u16) -> Step {
    Step::Delete(0, pod, DelQuirk::Plain)
}

/// `count` pods from `at` on, 50 ms apart.
fn pods(at: u64, count: u16) -> Vec<(u64, Step)> {
    (0..count)
        .map(|pod| (at + 50 * u64::from(pod), create(pod)))
        .collect()
}

fn gone(at: u64, count: u16) -> Vec<(u64, Step)> {
    (0..count)
        .map(|pod| (at + 50 * u64::from(pod), delete(pod)))
        .collect()
}

fn with(
    mut steps: Vec<(u64, Step)>,
    more: impl IntoIterator<Item = (u64, Step)>,
) -> Vec<(u64, Step)> {
    steps.extend(more);
    steps
}

fn calls(action: &str, times: u8, how: CallFault) -> Step {
    Step::Calls(Some(action.into()), times, how)
}

/// All scenarios, in the order of the list.
fn all() -> Vec<Schedule> {
    let mut list = sandboxes();
    list.extend(views());
    list.extend(absence());
    list.extend(cloud());
    list.extend(nodes());
    list.extend(prefixes());
    list.extend(exhaustion::all());
    list
}

fn sandboxes() -> Vec<Schedule> {
    let setup = Setup::default;
    let race = |pod: u16, delay| {
        (
            u64::from(pod) * 5 * SECOND,
            Step::Create(0, pod, AddQuirk::DelAfter(delay)),
        )
    };
    let crash = |(at, point): (u64, CrashPoint)| {
        let pod = u16::try_from(at % 6).unwrap_or(0);
        let at = at * 20 * SECOND;
        [
            (at, Step::Crash(0, point, 300)),
            (at + 10, create(pod)),
            (at + 9 * SECOND, delete((pod + 3) % 6)),
        ]
    };
    let points = (0..4).flat_map(|left| {
        [
            CrashPoint::BeforeWrite(left),
            CrashPoint::AfterWrite(left),
            CrashPoint::BeforeCall(left),
            CrashPoint::AfterCall(left),
            CrashPoint::BeforeKernel(left),
            CrashPoint::AfterKernel(left),
        ]
    });
    let again = (0..5).map(|pod| (MINUTE, Step::Resandbox(0, pod, DelQuirk::Never)));
    let odd = [
        DelQuirk::NoNetns,
        DelQuirk::Twice,
        DelQuirk::Never,
        DelQuirk::NoNetns,
    ];
    let odd = (0..)
        .zip(odd)
        .map(|(pod, quirk)| (MINUTE, Step::Delete(0, pod, quirk)));
    vec![
        scenario(
            "F1",
            "a DEL races the ADD of its sandbox",
            setup(),
            with(
                vec![
                    race(0, 0),
                    race(1, 3),
                    race(2, 6),
                    race(3, 12),
                    race(4, 800),
                ],
                [(40 * SECOND, Step::Create(0, 5, AddQuirk::DelFirst))],
            ),
        ),
        scenario(
            "F2",
            "kubelet gives an ADD up and the cloud grants it later",
            setup(),
            vec![
                (0, Step::Answer(0, Fate::CallLate(0))),
                (0, Step::Answer(0, Fate::CallLate(0))),
                (0, Step::Answer(0, Fate::CallLate(50 * SECOND))),
                (0, Step::Create(0, 0, AddQuirk::GivesUp(5 * SECOND))),
                (100, Step::Create(0, 1, AddQuirk::GivesUp(30 * SECOND))),
            ],
        ),
        scenario(
            "F3",
            "the agent dies between a cloud call and its record, at every step",
            setup(),
            (0..).zip(points).flat_map(crash).collect(),
        ),
        scenario(
            "F4",
            "sandboxes are made anew and the old ones get no DEL",
            setup(),
            with(pods(0, 5), again),
        ),
        scenario(
            "F5",
            "DEL without a namespace, twice, or never",
            setup(),
            with(pods(0, 4), odd),
        ),
    ]
}

/// Pods that come and go, seven names in turns.
fn churn() -> impl Iterator<Item = (u64, Step)> {
    (0..40_u64).flat_map(|n| {
        let pod = u16::try_from(n % 7).unwrap_or(0);
        [
            (n * 4 * SECOND, create(pod)),
            (n * 4 * SECOND + 2500, delete((pod + 4) % 7)),
        ]
    })
}

fn views() -> Vec<Schedule> {
    let setup = Setup::default;
    let busy = Setup {
        idle_min: 0,
        idle_max: 0,
        cooldown: 5,
        ..setup()
    };
    let shrink = (0..60_u64).flat_map(|n| {
        let at = 2 * MINUTE + n * 700;
        let pod = u16::try_from(n % 5).unwrap_or(0);
        [
            (at, Step::Pool(0, 0, 0)),
            (at, create(pod)),
            (at + 300, Step::Pool(0, 3, 4)),
            (at + 350, delete(pod)),
        ]
    });
    vec![
        scenario(
            "F6",
            "metadata is stale and as long as before",
            busy.clone(),
            with(
                churn().collect(),
                [(0, Step::Lag(0, 4000)), (90 * SECOND, Step::Lag(0, 9000))],
            ),
        ),
        scenario(
            "F7",
            "an address is used again while the rules of its last pod live",
            Setup {
                cooldown: 5,
                ..setup()
            },
            with(
                with(pods(0, 8), gone(MINUTE, 8)),
                with(pods(70 * SECOND, 8), [(MINUTE - 10, Step::Kernel(0, 90))]),
            ),
        ),
        scenario(
            "F8",
            "an address is released while it is being given",
            Setup {
                calls_a_minute: 1000,
                ..busy
            },
            shrink.collect(),
        ),
        scenario(
            "F18",
            "job pods that ended still hold a place",
            Setup {
                cooldown: 5,
                ..setup()
            },
            (0..30_u64)
                .flat_map(|n| {
                    let pod = u16::try_from(n).unwrap_or(0);
                    [
                        (n * 4 * SECOND, create(pod)),
                        (n * 4 * SECOND + 20 * SECOND, Step::Finish(0, pod)),
                    ]
                })
                .collect(),
        ),
    ]
}

/// Who takes what is there for gone.
fn absence() -> Vec<Schedule> {
    let setup = Setup::default;
    vec![
        scenario(
            "F20",
            "garbage collection frees a live address",
            setup(),
            with(
                churn().collect(),
                (0..1600_u64).map(|n| (n * 100, Step::Gc(0))),
            ),
        ),
        scenario(
            "F25",
            "a Describe without permission answers nothing, and live things are released",
            setup(),
            with(
                pods(0, 5),
                [
                    (
                        MINUTE,
                        calls("DescribeNetworkInterfaces", 40, CallFault::EmptyList),
                    ),
                    (MINUTE, calls("DescribeVSwitches", 10, CallFault::EmptyList)),
                    (MINUTE, Step::Crash(0, CrashPoint::Now, 100)),
                    (3 * MINUTE, create(6)),
                    (20 * MINUTE, delete(2)),
                ],
            ),
        ),
    ]
}

fn cloud() -> Vec<Schedule> {
    let setup = Setup::default;
    let fill = |at, full| [(at, Step::Fill(0, full)), (at, Step::Fill(1, full))];
    let actions = [
        "CreateNetworkInterface",
        "AttachNetworkInterface",
        "AssignPrivateIpAddresses",
        "UnassignPrivateIpAddresses",
        "DescribeNetworkInterfaces",
        "DescribeVSwitches",
    ];
    let hows = [
        CallFault::Throttle,
        CallFault::ServerError,
        CallFault::ServerErrorAfter,
        CallFault::LoseAnswer,
        CallFault::CutAnswer,
    ];
    let variants = hows
        .into_iter()
        .flat_map(|how| actions.map(|action| calls(action, 2, how)));
    let variants = (0..).zip(variants).flat_map(|(n, step): (u64, Step)| {
        let (at, pod) = (n * 25 * SECOND, u16::try_from(n % 9).unwrap_or(0));
        [
            (at, step),
            (at + 5, create(pod)),
            (at + 12 * SECOND, delete((pod + 5) % 9)),
        ]
    });
    vec![
        scenario(
            "F9",
            "the vSwitches run empty, and space returns",
            setup(),
            with(
                with(pods(2 * SECOND, 6), fill(0, true)),
                fill(4 * MINUTE, false),
            ),
        ),
        scenario(
            "F10",
            "every call is throttled, fails, fails after it was done, and loses its answer",
            Setup {
                cooldown: 5,
                ..setup()
            },
            variants.collect(),
        ),
        scenario(
            "F11",
            "an ENI is made and cannot be attached",
            setup(),
            with(pods(10 * SECOND, 12), [(5 * SECOND, Step::Foreign(0))]),
        ),
        scenario(
            "F12",
            "a delete fails after the detach",
            Setup {
                cooldown: 5,
                idle_min: 0,
                idle_max: 0,
                ..setup()
            },
            with(
                with(pods(0, 11), gone(MINUTE, 11)),
                [
                    (
                        MINUTE,
                        calls("DeleteNetworkInterface", 6, CallFault::ServerError),
                    ),
                    (
                        MINUTE,
                        calls("DetachNetworkInterface", 2, CallFault::LoseAnswer),
                    ),
                ],
            ),
        ),
    ]
}

fn prefixes() -> Vec<Schedule> {
    let few = Setup {
        prefixes: Some(2),
        vswitches: vec![24],
        instance_type: "ecs.g7.xlarge".into(),
        cooldown: 5,
        ..Setup::default()
    };
    vec![scenario(
        "F26",
        "no reserved block is left for a prefix, in the middle of a burst",
        few,
        with(
            with(pods(SECOND, 40), gone(MINUTE, 39)),
            with(
                (0..20).map(|pod| (10 * MINUTE + 40, create(pod))).collect(),
                [
                    (
                        20 * SECOND,
                        Step::Explain(0, ExhaustionKind::Prefix, "enable_ip_prefix".into()),
                    ),
                    (
                        10 * MINUTE + 50,
                        Step::Crash(0, CrashPoint::AfterCall(0), 300),
                    ),
                ],
            ),
        ),
    )]
}

fn nodes() -> Vec<Schedule> {
    let setup = Setup::default;
    let herd = (0..12).map(|node| (2 * MINUTE, Step::Crash(node, CrashPoint::Now, 500)));
    let everywhere =
        |at, pod| (0..12).map(move |node| (at, Step::Create(node, pod, AddQuirk::Plain)));
    vec![
        scenario(
            "F13",
            "a node is deleted and comes back under its name",
            setup(),
            with(
                pods(0, 6),
                with(pods(3 * MINUTE, 6), [(2 * MINUTE, Step::Replace(0))]),
            ),
        ),
        scenario(
            "F15",
            "a foreign process flushes rules and deletes links",
            setup(),
            with(
                pods(0, 5),
                [
                    (MINUTE, Step::Flush(0)),
                    (MINUTE, Step::Unlink(0, 1)),
                    (2 * MINUTE, Step::Check(0, 1)),
                    (2 * MINUTE, delete(2)),
                    (2 * MINUTE, Step::Unlink(0, 3)),
                ],
            ),
        ),
        scenario(
            "F16",
            "the node reboots and its ENIs come back under other names",
            setup(),
            with(
                with(pods(0, 8), [(MINUTE, Step::Reboot(0))]),
                with(gone(3 * MINUTE, 4), [(4 * MINUTE, Step::Reboot(0))]),
            ),
        ),
        scenario(
            "F19",
            "all agents restart at once while others use up the minute",
            Setup {
                nodes: 12,
                calls_a_minute: 60,
                ..setup()
            },
            with(
                everywhere(0, 0)
                    .chain(everywhere(0, 1))
                    .chain(herd)
                    .collect(),
                everywhere(2 * MINUTE, 2)
                    .chain([(MINUTE, Step::Tenants(45)), (8 * MINUTE, Step::Tenants(0))]),
            ),
        ),
        scenario(
            "F22",
            "an ENI is attached and its link is not on the host for 150 s",
            setup(),
            with(pods(0, 9), [(0, Step::LateLinks(0, 150 * SECOND))]),
        ),
        scenario(
            "F24",
            "pods start before the agent on a new node",
            setup(),
            pods(0, 4),
        ),
    ]
}
