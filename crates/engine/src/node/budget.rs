//! How many calls to the cloud this node makes: a budget a minute for each API, and a rest for an API
//! the cloud throttles.
//!
//! The cloud counts calls by API, account and minute, other tenants' of the account with them. So a
//! throttled API rests as a whole, not the one call that met the limit; after the rest one call goes
//! first, and the others follow when it was let through. What a pod waits for comes before what fills
//! the pool, and that before housekeeping.

use std::{collections::BTreeMap, time::Duration};

use model::{FaultClass, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Node,
    message::{CloudAnswer, CloudCall, CloudFault, OpNumber},
};
use crate::retry::Backoff;

/// The cloud counts by the minute.
const WINDOW: Duration = Duration::from_secs(60);

/// What a throttled API rests: a second at first loses little when it was another node's burst. The
/// limit is lifted with the minute, and three tries in one find the calls that others leave: a thousand
/// nodes that all wait make 3,000 tries a minute, and few that wait do not leave half of it unused.
const THROTTLED: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(20),
};

/// Times in a row an API is throttled before people are told: after two, some three seconds, it may
/// have been a neighbour's burst.
const THROTTLED_TOLD: u32 = 3;

/// A call of the cloud's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Api {
    /// Makes an ENI.
    CreateNetworkInterface,
    /// Attaches one.
    AttachNetworkInterface,
    /// Detaches one.
    DetachNetworkInterface,
    /// Deletes one.
    DeleteNetworkInterface,
    /// More addresses on one.
    AssignPrivateIpAddresses,
    /// Fewer addresses on one.
    UnassignPrivateIpAddresses,
    /// Looks at ENIs.
    DescribeNetworkInterfaces,
    /// Looks at vSwitches.
    DescribeVSwitches,
}

impl Api {
    /// All of them.
    pub const ALL: [Api; 8] = [
        Api::CreateNetworkInterface,
        Api::AttachNetworkInterface,
        Api::DetachNetworkInterface,
        Api::DeleteNetworkInterface,
        Api::AssignPrivateIpAddresses,
        Api::UnassignPrivateIpAddresses,
        Api::DescribeNetworkInterfaces,
        Api::DescribeVSwitches,
    ];

    /// Which API a call is counted under.
    pub fn of(call: &CloudCall) -> Self {
        match call {
            CloudCall::CreateEni(..) => Api::CreateNetworkInterface,
            CloudCall::AttachEni(_) => Api::AttachNetworkInterface,
            CloudCall::DetachEni(_) => Api::DetachNetworkInterface,
            CloudCall::DeleteEni(_) => Api::DeleteNetworkInterface,
            CloudCall::AssignAddresses(..) | CloudCall::AssignPrefixes(..) => {
                Api::AssignPrivateIpAddresses
            }
            CloudCall::UnassignAddresses(..) | CloudCall::UnassignPrefixes(..) => {
                Api::UnassignPrivateIpAddresses
            }
            CloudCall::DescribeNode | CloudCall::DescribeEnis(_) => Api::DescribeNetworkInterfaces,
            CloudCall::DescribeVSwitches(_) => Api::DescribeVSwitches,
        }
    }

    /// Its name in the cloud's documentation.
    pub fn name(self) -> &'static str {
        match self {
            Api::CreateNetworkInterface => "CreateNetworkInterface",
            Api::AttachNetworkInterface => "AttachNetworkInterface",
            Api::DetachNetworkInterface => "DetachNetworkInterface",
            Api::DeleteNetworkInterface => "DeleteNetworkInterface",
            Api::AssignPrivateIpAddresses => "AssignPrivateIpAddresses",
            Api::UnassignPrivateIpAddresses => "UnassignPrivateIpAddresses",
            Api::DescribeNetworkInterfaces => "DescribeNetworkInterfaces",
            Api::DescribeVSwitches => "DescribeVSwitches",
        }
    }
}

/// Who a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// Nobody waits: giving back, looking after.
    Housekeeping,
    /// The next pod.
    Refill,
    /// A pod that waits.
    Pod,
}

impl Purpose {
    /// How much of a minute's calls it may use up: what comes later must find some left.
    fn share(self, calls: u32) -> u32 {
        match self {
            Purpose::Housekeeping => (calls / 2).max(1),
            Purpose::Refill => (calls - calls / 4).max(1),
            Purpose::Pod => calls,
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Window {
    began: Timestamp,
    used: u32,
    in_flight: u32,
    /// Times in a row the cloud said that it is too much.
    throttled: u32,
    rests_until: Timestamp,
}

impl Window {
    fn used(&self, now: Timestamp) -> u32 {
        if now.since(self.began) < WINDOW {
            self.used
        } else {
            0
        }
    }
}

/// What was called lately.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Budget {
    windows: BTreeMap<Api, Window>,
    open: BTreeMap<OpNumber, Api>,
}

impl Budget {
    /// Whether the cloud said lately that `api` is called too often.
    pub(super) fn is_throttled(&self, api: Api) -> bool {
        self.windows
            .get(&api)
            .is_some_and(|window| window.throttled > 0)
    }
}

impl Node {
    /// Who the call that lets the pool grow is for.
    pub(super) fn growth_purpose(&self) -> Purpose {
        if self.waiting_count() > 0 {
            Purpose::Pod
        } else {
            Purpose::Refill
        }
    }

    /// Whether `api` may be called now.
    pub(super) fn may_call(&self, now: Timestamp, api: Api, purpose: Purpose) -> bool {
        let Some(window) = self.budget.windows.get(&api) else {
            return true;
        };
        let probing = window.throttled > 0 && window.in_flight > 0;
        let share = purpose.share(self.config.policy.calls(api));
        window.rests_until <= now && !probing && window.used(now) < share
    }

    /// Why and until when `api` is not called for a pod, if it is not.
    pub(super) fn held_back(&self, now: Timestamp, api: Api) -> Option<(String, Timestamp)> {
        let window = self.budget.windows.get(&api)?;
        if window.throttled >= THROTTLED_TOLD {
            let why = format!(
                "is throttled by the cloud ({} times in a row)",
                window.throttled
            );
            return Some((why, window.rests_until));
        }
        let calls = self.config.policy.calls(api);
        (window.used(now) >= calls).then(|| {
            let why = format!("was called {calls} times this minute (eni_conf key rate_limit)");
            (why, window.began.after(WINDOW))
        })
    }

    pub(super) fn called(&mut self, now: Timestamp, number: OpNumber, api: Api) {
        let window = self.budget.windows.entry(api).or_default();
        if window.used(now) == 0 {
            (window.began, window.used) = (now, 0);
        }
        window.used += 1;
        window.in_flight += 1;
        self.budget.open.insert(number, api);
    }

    pub(super) fn call_answered(
        &mut self,
        now: Timestamp,
        number: OpNumber,
        result: &Result<CloudAnswer, CloudFault>,
    ) {
        let Some(api) = self.budget.open.remove(&number) else {
            return;
        };
        let throttled = matches!(result, Err(fault) if fault.class == FaultClass::Throttled);
        let rolled = self.dice.clone();
        let window = self.budget.windows.entry(api).or_default();
        window.in_flight = window.in_flight.saturating_sub(1);
        if throttled {
            window.throttled += 1;
            let mut dice = rolled;
            window.rests_until = now.after(THROTTLED.wait(window.throttled, &mut dice));
            self.dice = dice;
        } else {
            // Halved, not forgotten: under a limit that many share, one call let through is luck.
            window.throttled /= 2;
        }
    }

    pub(super) fn budget_deadlines(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let windows = self.budget.windows.iter();
        windows.flat_map(move |(api, window)| {
            let share = Purpose::Housekeeping.share(self.config.policy.calls(*api));
            let spent = window.used(now) >= share;
            let opens = spent.then(|| window.began.after(WINDOW));
            [Some(window.rests_until), opens].into_iter().flatten()
        })
    }
}
