//! How many calls to the cloud a process makes: a budget a minute for each API, and a rest for an API
//! the cloud throttles.
//!
//! The cloud counts calls by API, account and minute, other tenants' of the account with them. So a
//! throttled API rests as a whole, not the one call that met the limit; after the rest one call goes
//! first, and the others follow when it was let through. What a pod waits for comes before what fills
//! the pool, and that before housekeeping.
//!
//! Must not know: what a call carries, who makes it.

use std::{collections::BTreeMap, time::Duration};

use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::retry::{Backoff, Dice};

/// The cloud counts by the minute.
const WINDOW: Duration = Duration::from_secs(60);

/// What a throttled API rests: a second at first loses little when it was another node's burst. The
/// limit is lifted with the minute, and three tries in one find the calls that others leave: a thousand
/// nodes that all wait make 3,000 tries a minute, and few that wait do not leave half of it unused.
const THROTTLED: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(20),
};

/// How long after a minute began the calls come that waited for it: a thousand nodes make 200 a second
/// then, and a clock that is a little early still calls inside.
const SPREAD: Duration = Duration::from_secs(5);

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
    /// Makes an entry of a route table.
    CreateRouteEntry,
    /// Deletes one.
    DeleteRouteEntry,
    /// Looks at a route table.
    DescribeRouteEntryList,
}

impl Api {
    /// All of them.
    pub const ALL: [Api; 11] = [
        Api::CreateNetworkInterface,
        Api::AttachNetworkInterface,
        Api::DetachNetworkInterface,
        Api::DeleteNetworkInterface,
        Api::AssignPrivateIpAddresses,
        Api::UnassignPrivateIpAddresses,
        Api::DescribeNetworkInterfaces,
        Api::DescribeVSwitches,
        Api::CreateRouteEntry,
        Api::DeleteRouteEntry,
        Api::DescribeRouteEntryList,
    ];

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
            Api::CreateRouteEntry => "CreateRouteEntry",
            Api::DeleteRouteEntry => "DeleteRouteEntry",
            Api::DescribeRouteEntryList => "DescribeRouteEntryList",
        }
    }
}

/// Who a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
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

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Window {
    began: Timestamp,
    used: u32,
    in_flight: u32,
    /// When the last call was made.
    called: Timestamp,
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

/// Until when an API rests that was throttled `times` in a row, the last time when a call made at `called`
/// was answered `now`. A rest that would reach into the minute after that call's ends as that begins, when
/// the cloud lets calls through again; would its minutes begin elsewhere, that costs one try in each.
fn rest(now: Timestamp, called: Timestamp, times: u32, dice: &mut Dice) -> Timestamp {
    let least = now.after(THROTTLED.wait(1, dice));
    let until = now.after(THROTTLED.wait(times, dice));
    let minute = called.as_nanos() - called.as_nanos() % nanos(WINDOW);
    let next = Timestamp::from_nanos(minute).after(WINDOW);
    let opened = next.after(Duration::from_nanos(dice.roll() % nanos(SPREAD)));
    if until > next {
        until.min(opened).max(least)
    } else {
        until
    }
}

fn nanos(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).unwrap_or(u64::MAX)
}

/// What was called lately.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Budget(BTreeMap<Api, Window>);

impl Budget {
    /// Whether the cloud said lately that `api` is called too often.
    pub(crate) fn is_throttled(&self, api: Api) -> bool {
        self.0.get(&api).is_some_and(|window| window.throttled > 0)
    }

    /// Whether `api`, of which `calls` a minute are ours, may be called now.
    pub(crate) fn may_call(&self, now: Timestamp, api: Api, calls: u32, purpose: Purpose) -> bool {
        self.opens(now, api, calls, purpose) == Some(now)
    }

    /// From when `api`, of which `calls` a minute are ours, may be called: `now` when it may be; nothing
    /// when a call under way must be answered first.
    pub(crate) fn opens(
        &self,
        now: Timestamp,
        api: Api,
        calls: u32,
        purpose: Purpose,
    ) -> Option<Timestamp> {
        let Some(window) = self.0.get(&api) else {
            return Some(now);
        };
        if window.throttled > 0 && window.in_flight > 0 {
            return None;
        }
        let spent = window.used(now) >= purpose.share(calls);
        let refilled = if spent {
            window.began.after(WINDOW)
        } else {
            now
        };
        Some(refilled.max(window.rests_until).max(now))
    }

    /// Why and until when `api` is not called for a pod, if it is not. `key` is the configuration's that
    /// sets `calls`.
    pub(crate) fn held_back(
        &self,
        now: Timestamp,
        api: Api,
        calls: u32,
        key: &str,
    ) -> Option<(String, Timestamp)> {
        let window = self.0.get(&api)?;
        if window.throttled >= THROTTLED_TOLD {
            let why = format!(
                "is throttled by the cloud ({} times in a row)",
                window.throttled
            );
            return Some((why, window.rests_until));
        }
        (window.used(now) >= calls).then(|| {
            let why = format!("was called {calls} times this minute ({key})");
            (why, window.began.after(WINDOW))
        })
    }

    /// `api` is being called.
    pub(crate) fn called(&mut self, now: Timestamp, api: Api) {
        let window = self.0.entry(api).or_default();
        if window.used(now) == 0 {
            (window.began, window.used) = (now, 0);
        }
        window.used += 1;
        window.in_flight += 1;
        window.called = now;
    }

    /// A call of `api` ended, throttled or not.
    pub(crate) fn answered(&mut self, now: Timestamp, api: Api, throttled: bool, dice: &mut Dice) {
        let window = self.0.entry(api).or_default();
        window.in_flight = window.in_flight.saturating_sub(1);
        if throttled {
            window.throttled += 1;
            window.rests_until = rest(now, window.called, window.throttled, dice);
        } else {
            // Halved, not forgotten: under a limit that many share, one call let through is luck.
            window.throttled /= 2;
        }
    }

    /// When an API that may not be called for `purpose` at `now` may be again; `calls` says how many of
    /// each are ours a minute.
    pub(crate) fn deadlines(
        &self,
        now: Timestamp,
        purpose: Purpose,
        calls: impl Fn(Api) -> u32,
    ) -> impl Iterator<Item = Timestamp> {
        self.0.iter().flat_map(move |(api, window)| {
            let spent = window.used(now) >= purpose.share(calls(*api));
            let opens = spent.then(|| window.began.after(WINDOW));
            [Some(window.rests_until), opens].into_iter().flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls at `called` seconds that is refused at `answered`; when the next one may be made.
    fn next_try(called: f64, answered: f64, times: u32) -> f64 {
        let at = |seconds: f64| Timestamp::default().after(Duration::from_secs_f64(seconds));
        let until = rest(
            at(answered),
            at(called),
            times,
            &mut Dice::new(times.into()),
        );
        until.since(Timestamp::default()).as_secs_f64()
    }

    #[test]
    fn a_rest_ends_with_the_minute_that_was_full() {
        for times in 1..20 {
            let within = next_try(6.0, 6.1, times);
            assert!((6.8..=26.1).contains(&within), "{within}");
            let across = next_try(55.0, 55.1, times.max(5));
            assert!((60.0..65.0).contains(&across), "{across}");
            let late = next_try(59.96, 60.02, times.max(5));
            assert!((60.7..65.0).contains(&late), "{late}");
        }
    }
}
