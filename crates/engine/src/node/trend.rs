//! Whether more pods come than go. What came in the last minute is likely to come in the next one, and a call
//! that brings it now spares some that bring one address each: the account's calls are counted by the minute, and
//! all its nodes share them.
//!
//! Pods that replace others are no trend: their addresses come back by themselves.

use std::time::Duration;

use model::Timestamp;
use serde::{Deserialize, Serialize};

/// What is compared is between this old and twice that: together the minute of the cloud's own windows.
const STEP: Duration = Duration::from_secs(30);

/// One pod more is no trend.
const LEAST: u32 = 2;

/// How many pods the pool served lately.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Trend {
    at: Timestamp,
    then: u32,
    before: u32,
    grew: u32,
}

impl Trend {
    /// Told how many pods there are now, those that wait included: by how many they grew in the last minute.
    pub(super) fn growth(&mut self, now: Timestamp, pods: u32) -> u32 {
        // A clock that was set back tells nothing of what passed: it begins anew.
        let passed = match now < self.at {
            true => 2 * STEP,
            false => now.since(self.at),
        };
        if passed >= STEP {
            self.before = match passed >= 2 * STEP {
                true => pods,
                false => self.then,
            };
            (self.at, self.then) = (now, pods);
        }
        let grew = pods.saturating_sub(self.before);
        self.grew = if grew < LEAST { 0 } else { grew };
        self.grew
    }

    /// Whether they grew when that was asked last.
    pub(super) fn grows(&self) -> bool {
        self.grew > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grew_in_a_minute_is_a_trend_and_what_stands_is_none() {
        let mut trend = Trend::default();
        let mut at = |seconds: u64, pods| {
            let now = Timestamp::from_nanos(seconds * 1_000_000_000);
            trend.growth(now, pods)
        };
        assert_eq!(at(1000, 40), 0, "what an agent finds at its start");
        assert_eq!([at(1001, 41), at(1010, 50), at(1029, 60)], [0, 10, 20]);
        assert_eq!([at(1031, 61), at(1059, 70)], [21, 30]);
        assert_eq!(at(1062, 71), 10, "the first half minute is over");
        assert_eq!(at(1070, 50), 0);
        assert_eq!(at(500, 60), 0, "the clock was set back");
        assert_eq!([at(9000, 90), at(9001, 92)], [0, 2], "long ago is no trend");
    }
}
