//! How often the same thing is put back: at once, until somebody keeps taking it away; then ever more
//! rarely, and people are told once.
//!
//! Two programs that undo each other's work would else keep a node busy for nothing. Never knows what is
//! put back, nor by whom.

use core::time::Duration;

use model::Timestamp;
use serde::{Deserialize, Serialize};

/// Repairs in a row that are made at once: a script that flushes and sets up anew (networkd, a firewall)
/// takes things away twice or three times and is done.
const AT_ONCE: u32 = 3;

/// The wait before the next repair, doubled each time from the first to the longest. Somebody who deletes
/// something every second meets 3 repairs, then 7 more in the first two minutes, then one a minute.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Without a repair for so long it is over: ten times the longest wait, so that somebody who waits for
/// the next repair is not taken for somebody else.
const OVER: Duration = Duration::from_secs(600);

/// What one owner's repairs were like lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    repairs: u32,
    last: Timestamp,
    told: bool,
}

impl Contest {
    /// Something was put back, or could not be, at `now`. True when people are to be told that it goes on
    /// and on: once, until it is over.
    pub fn repaired(&mut self, now: Timestamp) -> bool {
        if self.is_over(now) {
            *self = Self::default();
        }
        self.repairs = self.repairs.saturating_add(1);
        self.last = now;
        let tell = self.repairs > AT_ONCE && !self.told;
        self.told |= tell;
        tell
    }

    /// When the next repair may be made, from when on nothing is in the way.
    pub fn not_before(&self) -> Timestamp {
        match self.repairs.checked_sub(AT_ONCE + 1) {
            None => self.last,
            Some(doublings) => {
                let wait = FIRST.saturating_mul(1 << doublings.min(16));
                self.last.after(wait.min(LONGEST))
            }
        }
    }

    /// Whether a repair may be made at `now`. A clock that stepped back keeps nobody waiting.
    pub fn may_repair(&self, now: Timestamp) -> bool {
        now >= self.not_before() || now < self.last
    }

    /// Whether nothing was repaired for so long that it is forgotten.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now < self.last || now.since(self.last) >= OVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.after(Duration::from_secs(seconds))
    }

    /// When each repair is made for somebody who takes away every second, and which of them tells.
    fn fight(seconds: core::ops::Range<u64>, contest: &mut Contest) -> (Vec<u64>, Vec<u64>) {
        let (mut repairs, mut told) = (Vec::new(), Vec::new());
        for second in seconds {
            if contest.may_repair(at(second)) {
                repairs.push(second);
                if contest.repaired(at(second)) {
                    told.push(second);
                }
            }
        }
        (repairs, told)
    }

    #[test]
    fn who_keeps_taking_away_is_met_ever_more_rarely_and_told_of_once() {
        let mut contest = Contest::default();
        let (repairs, told) = fight(1000..1600, &mut contest);
        let expected = [
            1000, 1001, 1002, 1003, 1004, 1006, 1010, 1018, 1034, 1066, 1126, 1186, 1246, 1306,
            1366, 1426, 1486, 1546,
        ];
        assert_eq!(repairs, expected);
        assert_eq!(told, [1003]);
    }

    #[test]
    fn after_ten_quiet_minutes_it_begins_anew() {
        let mut contest = Contest::default();
        fight(1000..1100, &mut contest);
        let (repairs, told) = fight(2000..2005, &mut contest);
        assert_eq!((repairs.len(), told), (5, vec![2003]));
        assert!(!contest.is_over(at(2603)) && contest.is_over(at(2605)));
    }

    #[test]
    fn a_clock_that_steps_back_keeps_nobody_waiting() {
        let mut contest = Contest::default();
        fight(1000..1100, &mut contest);
        assert!(contest.may_repair(at(500)));
        contest.repaired(at(500));
        assert!(contest.may_repair(at(500)), "it began anew");
    }
}
