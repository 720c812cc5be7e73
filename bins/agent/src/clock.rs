//! Tells when the node's wall clock stepped back, by the steady clock beside it. Plugins and ledger
//! keep time by the wall clock, and after a step an earlier instant of it may be the later one.
//!
//! It knows nothing of what the time is used for.

use std::time::{Duration, Instant};

use model::Timestamp;

/// The smallest step that counts. Clock daemons slew both clocks alike; what is less than this is the
/// time between reading the one and the other.
const STEP_MIN: Duration = Duration::from_millis(50);

/// Both clocks when they were last looked at.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// Takes a look: what the wall clock would show had it not stepped back since the last one.
    pub(crate) fn stepped_back(&mut self, wall: Timestamp, steady: Instant) -> Option<Timestamp> {
        let (last, at) = self.last.replace((wall, steady))?;
        let expected = last.after(steady.saturating_duration_since(at));
        (expected.since(wall) >= STEP_MIN).then_some(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_seen_however_long_ago_the_last_look_was() {
        let (mut clock, began) = (Clock::default(), Instant::now());
        let second = Duration::from_secs(1);
        let wall = |seconds| Timestamp::EPOCH.after(second * seconds);
        assert_eq!(clock.stepped_back(wall(1000), began), None);
        assert_eq!(clock.stepped_back(wall(1100), began + 100 * second), None);
        // Ten seconds later it shows nine more: nothing an observer of the wall clock alone can see.
        let seen = clock.stepped_back(wall(1109), began + 110 * second);
        assert_eq!(seen, Some(wall(1110)));
        assert_eq!(clock.stepped_back(wall(1110), began + 111 * second), None);
        assert_eq!(clock.stepped_back(wall(5000), began + 112 * second), None);
    }
}
