//! When a thread that keeps something looks at it: now and then, at once when the kernel announced a
//! change, and ever more rarely when somebody keeps taking it away.
//!
//! Must not know what is kept.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use engine::contest::Contest;

use crate::plugin::now;

/// How often is looked though nothing was announced: what is kept is read in well under a millisecond, and
/// while it is missing connections break.
const PERIOD: Duration = Duration::from_secs(5);

/// How far apart two looks are at least. A wave of pods announces changes all the time, and a second is what
/// a repair may take.
const GAP: Duration = Duration::from_millis(400);

/// Rings a [`Bell`].
#[derive(Debug, Clone)]
pub(crate) struct Ring(SyncSender<()>);

impl Ring {
    /// It is time to look. One ring that waits is enough.
    pub(crate) fn now(&self) {
        let _ = self.0.try_send(());
    }
}

/// What a keeper waits by.
pub(crate) struct Bell {
    rung: Receiver<()>,
    contest: Contest,
}

impl Bell {
    pub(crate) fn new() -> (Ring, Self) {
        let (ring, rung) = sync_channel(1);
        let contest = Contest::default();
        (Ring(ring), Self { rung, contest })
    }

    /// Something was put back. True when people are to be told that somebody keeps taking it away.
    pub(crate) fn repaired(&mut self) -> bool {
        self.contest.repaired(now())
    }

    /// Waits until it is time to look again.
    pub(crate) fn wait(&self) {
        let (now, may) = (now(), self.contest.not_before());
        let held = match self.contest.may_repair(now) {
            true => Duration::ZERO,
            false => may.since(now),
        };
        thread::sleep(held.max(GAP));
        // Without anybody who rings, the wait is the period's.
        if let Err(std::sync::mpsc::RecvTimeoutError::Disconnected) = self.rung.recv_timeout(PERIOD)
        {
            thread::sleep(PERIOD);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_ring_is_heard_at_once_but_not_more_often_than_the_gap() {
        let (ring, bell) = Bell::new();
        let began = Instant::now();
        for _ in 0..3 {
            ring.now();
            ring.now();
            bell.wait();
        }
        let took = began.elapsed();
        assert!(took >= GAP * 3 && took < PERIOD, "{took:?}");
    }

    #[test]
    fn who_keeps_taking_away_is_waited_out() {
        let (ring, mut bell) = Bell::new();
        let told: Vec<bool> = (0..5).map(|_| bell.repaired()).collect();
        assert_eq!(told, [false, false, false, true, false]);
        ring.now();
        let began = Instant::now();
        bell.wait();
        assert!(began.elapsed() >= Duration::from_millis(1900));
    }
}
