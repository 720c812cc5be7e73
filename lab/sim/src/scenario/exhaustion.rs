//! Each way to run out, one scenario each: pods wait, somebody asks why, and in the end there is enough
//! again. That a vSwitch has no block for a prefix stands with the prefixes: nobody waits for it.

use engine::node::ExhaustionKind;

use super::{MINUTE, SECOND, gone, pods, scenario, with};
use crate::schedule::{Schedule, Setup, Step};

/// When somebody asks: every way has been tried, and what was refused rests.
const ASKED: u64 = 30 * SECOND;
const OVER: u64 = MINUTE;

pub(super) fn all() -> Vec<Schedule> {
    let create = "CreateNetworkInterface";
    let attach = "AttachNetworkInterface";
    let mut list = vec![vswitches(), capped(), full()];
    list.extend([
        refused(
            "F27d",
            "the instance takes no further ENI",
            (attach, "EniPerInstanceLimitExceeded"),
            (
                ExhaustionKind::EniQuota,
                "the instance takes no further ENI",
            ),
        ),
        refused(
            "F27e",
            "the account may have no further ENI",
            (create, "MaxEniCountExceeded"),
            (ExhaustionKind::AccountQuota, "the account's ENI quota"),
        ),
        refused(
            "F27f",
            "a security group is full",
            (create, "SecurityGroupInstanceLimitExceed"),
            (ExhaustionKind::SecurityGroup, "sg-bp1lab"),
        ),
        refused(
            "F27g",
            "the cloud is asked too often",
            (create, "Throttling.User"),
            (ExhaustionKind::Throttled, create),
        ),
        refused(
            "F27h",
            "creating an ENI is not permitted",
            (create, "Forbidden.RAM"),
            (ExhaustionKind::Denied, "creating an ENI"),
        ),
        refused(
            "F27i",
            "attaching an ENI is not permitted",
            (attach, "Forbidden.RAM"),
            (ExhaustionKind::Denied, "attaching eni-"),
        ),
        refused(
            "F27j",
            "the configuration names a security group that does not exist",
            (create, "InvalidSecurityGroupId.NotFound"),
            (
                ExhaustionKind::Misconfigured,
                "eni_conf key security_groups",
            ),
        ),
    ]);
    list
}

fn asked(at: u64, kind: ExhaustionKind, named: &str) -> [(u64, Step); 1] {
    [(at, Step::Explain(0, kind, named.to_owned()))]
}

/// Three pods on a new node, and an action that is refused until `OVER`.
fn refused(
    id: &str,
    failure: &str,
    (action, code): (&str, &str),
    (kind, named): (ExhaustionKind, &str),
) -> Schedule {
    let refuse = |at, code: Option<&str>| {
        let step = Step::Refuse(action.to_owned(), code.map(str::to_owned));
        [(at, step)]
    };
    let steps = with(pods(SECOND, 3), refuse(0, Some(code)));
    let steps = with(steps, asked(ASKED, kind, named));
    scenario(
        id,
        failure,
        Setup::default(),
        with(steps, refuse(OVER, None)),
    )
}

fn vswitches() -> Schedule {
    let fill = |at, full| [0, 1].map(|vswitch| (at, Step::Fill(vswitch, full)));
    let steps = with(pods(SECOND, 3), fill(0, true));
    let steps = with(steps, asked(ASKED, ExhaustionKind::VSwitch, "vsw-1"));
    scenario(
        "F27a",
        "no vSwitch has a free address",
        Setup::default(),
        with(steps, fill(OVER, false)),
    )
}

/// An ENI of somebody else stands for a configured cap: the configuration allows one less.
fn capped() -> Schedule {
    let setup = Setup {
        foreign: 1,
        ..Setup::default()
    };
    let steps = with(
        pods(SECOND, 7),
        asked(ASKED, ExhaustionKind::EniQuota, "max_eni"),
    );
    let failure = "the node has all ENIs it is configured to have";
    scenario("F27b", failure, setup, with(steps, gone(OVER, 4)))
}

fn full() -> Schedule {
    let steps = with(
        pods(SECOND, 13),
        asked(ASKED, ExhaustionKind::AddressQuota, "its type allows"),
    );
    let failure = "the node has all addresses its type allows";
    scenario(
        "F27c",
        failure,
        Setup::default(),
        with(steps, gone(OVER, 4)),
    )
}
