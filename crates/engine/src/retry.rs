//! How long to wait before trying again, as arithmetic.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A seeded generator for jitter: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom
/// number generators", 2014). Good enough to spread retries, and the same seed spreads them the same
/// way in a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dice(u64);

impl Dice {
    /// A generator that starts at `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Exponential back-off with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Backoff {
    /// Cloud calls that failed. The cloud's throttling windows are minutes, so half a minute at the
    /// most keeps a waiting pod within two tries of the window's end.
    pub const CLOUD: Self = Self {
        first: Duration::from_millis(500),
        longest: Duration::from_secs(30),
    };
    /// Waiting for something on its way to appear on the node (metadata, a link). Looking costs little,
    /// so the wait doubles from 200 ms to 2 s: five looks for an attach of 3 s, and at most 2 s lost.
    pub const APPEAR: Self = Self {
        first: Duration::from_millis(200),
        longest: Duration::from_secs(2),
    };
    /// Asking the cloud about an attach whose link has not come. It takes the real cloud about 2 s and
    /// shows itself on the node, so the cloud is asked only when that is late.
    pub const PLUG: Self = Self {
        first: Duration::from_secs(4),
        longest: Duration::from_secs(8),
    };
    /// Waiting for a detach before the delete. It takes the cloud a second or two, and a delete that
    /// comes too early is a call that is refused.
    pub const DETACH: Self = Self {
        first: Duration::from_millis(1500),
        longest: Duration::from_secs(6),
    };
    /// Kernel work that failed: cheap to repeat and usually about an object in motion.
    pub const KERNEL: Self = Self {
        first: Duration::from_millis(50),
        longest: Duration::from_secs(5),
    };

    /// The wait after `failures` failures in a row (1 or more): doubled each time up to the longest,
    /// then a random quarter taken off so that nodes that failed together do not return together.
    pub fn wait(self, failures: u32, dice: &mut Dice) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        let per_mille = u32::try_from(dice.roll() % 250).unwrap_or(0);
        full - full * per_mille / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_within_bounds_and_replay() {
        let (mut one, mut two) = (Dice::new(7), Dice::new(7));
        for failures in 1..100 {
            let wait = Backoff::CLOUD.wait(failures, &mut one);
            assert_eq!(wait, Backoff::CLOUD.wait(failures, &mut two));
            assert!(wait <= Backoff::CLOUD.longest && wait >= Backoff::CLOUD.first * 3 / 4);
        }
    }
}
