//! `backoffOverride`: how long to wait between two tries, by the names the Go program gave its waits.
//!
//! There nobody tries for ever: a worker waits so many steps and fails. Here nobody waits and nothing is given
//! up, so a wait has a first and a longest, and grows to twice itself in between.

use std::{collections::BTreeMap, time::Duration};

use engine::{podeni::Waits, retry::Backoff};
use serde::Deserialize;

use crate::config::GoDuration;

/// Shortest first wait: anything less is a loop of refusals until the minute's calls are used up.
const FIRST_MIN: Duration = Duration::from_millis(100);

/// Longest wait: who mends what was refused does not expect to wait longer for that to be noticed.
const LONGEST_MAX: Duration = Duration::from_secs(600);

/// Waits of the Go program that are not of its control plane's calls, or whose work is done here without
/// waiting.
const WITHOUT_EFFECT: [&str; 12] = [
    "",
    "eni_delete_confirm",
    "eni_ip_ops",
    "meta_assign_private_ip",
    "meta_unassign_private_ip",
    "wait_ecs_hdeni_status",
    "wait_ecs_leni_status",
    "wait_eni_ip_removed",
    "wait_hdeni_status",
    "wait_leni_status",
    "wait_networkinterface_status",
    "wait_podeni_status",
];

/// One wait as it is written: the n-th lasts `duration` times `factor` to the power of n, `cap` at most.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Given {
    #[serde(alias = "Duration")]
    duration: GoDuration,
    #[serde(alias = "Factor", default = "one")]
    factor: f64,
    #[serde(alias = "Steps", default)]
    steps: i32,
    #[serde(alias = "Cap")]
    cap: Option<GoDuration>,
    /// A quarter of each wait is chance here, whatever it says.
    #[serde(alias = "Jitter", default, rename = "jitter")]
    _jitter: f64,
    /// The first wait is the first.
    #[serde(alias = "InitialDelay", rename = "initialDelay")]
    _initial_delay: Option<GoDuration>,
}

fn one() -> f64 {
    1.0
}

impl Given {
    fn backoff(&self, name: &str) -> Result<Backoff, String> {
        let first = self.duration.0;
        if !(FIRST_MIN..=LONGEST_MAX).contains(&first) {
            return Err(format!(
                "backoffOverride: duration of {name} is {first:?}: {FIRST_MIN:?} to {LONGEST_MAX:?} are possible"
            ));
        }
        if !(1.0..=10.0).contains(&self.factor) {
            let factor = self.factor;
            return Err(format!(
                "backoffOverride: factor of {name} is {factor}: 1 to 10 are possible"
            ));
        }
        let growth = self.factor.powi(self.steps.saturating_sub(1).max(0));
        let last = Duration::try_from_secs_f64(first.as_secs_f64() * growth);
        let cap = self.cap.map(|cap| cap.0).filter(|cap| !cap.is_zero());
        let longest = last.unwrap_or(LONGEST_MAX).min(LONGEST_MAX);
        let longest = longest.min(cap.unwrap_or(LONGEST_MAX)).max(first);
        Ok(Backoff { first, longest })
    }
}

/// What the key comes to.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, Given>")]
pub(crate) struct Override(pub(crate) Waits);

impl TryFrom<BTreeMap<String, Given>> for Override {
    type Error = String;

    fn try_from(all: BTreeMap<String, Given>) -> Result<Self, String> {
        let mut waits = Waits::default();
        for (name, given) in all {
            let backoff = given.backoff(&name)?;
            match name.as_str() {
                "eni_create" => waits.create = backoff,
                "eni_ops" => waits.attach = backoff,
                "eni_release" => waits.release = backoff,
                "wait_eni_status" | "wait_member_eni_status" => {
                    let least = Backoff::APPEAR;
                    waits.look = Backoff {
                        first: backoff.first.max(least.first),
                        longest: backoff.longest.max(least.longest),
                    };
                }
                other if WITHOUT_EFFECT.contains(&other) => {
                    tracing::warn!(name, "backoffOverride names a wait that nothing does here");
                }
                _ => {
                    return Err(format!(
                        "backoffOverride names {name}: expected eni_create, eni_ops, eni_release, \
                         wait_eni_status or wait_member_eni_status"
                    ));
                }
            }
        }
        Ok(Self(waits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written, of which wait, and what that comes to.
    type Row = (&'static str, fn(&Waits) -> Backoff, Backoff);

    fn read(text: &str) -> Result<Waits, String> {
        let read: Result<Override, _> = serde_saphyr::from_str(text);
        read.map(|read| read.0).map_err(|error| error.to_string())
    }

    fn backoff(first: u64, longest: u64) -> Backoff {
        let (first, longest) = (Duration::from_millis(first), Duration::from_millis(longest));
        Backoff { first, longest }
    }

    #[test]
    fn each_wait_has_the_first_and_the_longest_of_what_is_written() {
        let usual = Waits::default();
        let table: [Row; 6] = [
            (
                "eni_create: {duration: 10s, factor: 2, steps: 2}",
                |all| all.create,
                backoff(10_000, 20_000),
            ),
            (
                "eni_ops: {Duration: 5s, Factor: 2, Jitter: 0.3, Steps: 6, Cap: 1m}",
                |all| all.attach,
                backoff(5_000, 60_000),
            ),
            (
                "eni_release: {duration: 4s, factor: 10, steps: 900, initialDelay: 1s}",
                |all| all.release,
                backoff(4_000, 600_000),
            ),
            (
                "wait_member_eni_status: {duration: 1s, steps: 120, cap: 0s}",
                |all| all.look,
                backoff(1_000, 2_000),
            ),
            (
                "wait_eni_status: {duration: 100ms}",
                |all| all.look,
                usual.look,
            ),
            (
                "wait_podeni_status: {duration: 1s}",
                |all| all.attach,
                usual.attach,
            ),
        ];
        for (text, of, expected) in table {
            let read = read(text).expect(text);
            assert_eq!(of(&read), expected, "{text}");
        }
        assert_eq!(read("{}"), Ok(usual));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, sentence) in [
            (
                "eni_make: {duration: 1s}",
                "backoffOverride names eni_make: expected eni_create",
            ),
            (
                "eni_create: {duration: 1ms}",
                "duration of eni_create is 1ms: 100ms to 600s",
            ),
            (
                "eni_create: {duration: 1s, factor: 0.5}",
                "factor of eni_create is 0.5: 1 to 10",
            ),
            ("eni_create: {duration: soon}", "soon is no time"),
            ("eni_create: {factor: 2}", "duration"),
            ("eni_create: {duration: 1s, retries: 2}", "retries"),
        ] {
            let why = read(text).expect_err(text);
            assert!(why.contains(sentence), "{text}: {why}");
        }
    }
}
