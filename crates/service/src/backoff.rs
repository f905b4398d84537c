//! How long to wait before something of the outside world is tried again: exponential growth up to a cap, with full
//! jitter so that many instances do not come back at the same moment. There is no last attempt; what is retried for
//! ever has to be visible, for which [`Backoff::attempts`] is there.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// The delays of one thing that is tried again and again.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempts: u32,
    random: SmallRng,
}

impl Backoff {
    /// The first delay is at most `first`, each further one at most twice as long, none longer than `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            attempts: 0,
            random: SmallRng::from_os_rng(),
        }
    }

    /// Like [`Backoff::new`] with the same delays for the same seed, for tests.
    pub fn with_seed(first: Duration, cap: Duration, seed: u64) -> Self {
        Self {
            random: SmallRng::seed_from_u64(seed),
            ..Self::new(first, cap)
        }
    }

    /// The delay before the next attempt, anywhere from zero to the limit that has been reached.
    pub fn next_delay(&mut self) -> Duration {
        let limit = self.limit();
        self.attempts = self.attempts.saturating_add(1);
        limit.mul_f64(self.random.random())
    }

    /// It worked: the next delay is a first one again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Delays since the beginning or the last reset.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The longest that the next delay can be.
    fn limit(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.cap)
    }
}

/// From 100 ms to 30 s.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(5);

    #[test]
    fn limits_double_up_to_the_cap_and_stay_there() {
        let mut backoff = Backoff::with_seed(FIRST, CAP, 7);
        for limit_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            assert_eq!(backoff.limit(), Duration::from_millis(limit_ms));
            assert!(backoff.next_delay() <= Duration::from_millis(limit_ms));
        }
        backoff.attempts = u32::MAX;
        assert_eq!(backoff.limit(), CAP);
        assert!(backoff.next_delay() <= CAP);
        assert_eq!(backoff.attempts(), u32::MAX, "it goes on for ever");
    }

    #[test]
    fn jitter_spreads_over_the_whole_range() {
        let mut backoff = Backoff::with_seed(CAP, CAP, 1);
        let delays: Vec<Duration> = (0..1000).map(|_| backoff.next_delay()).collect();
        assert!(delays.iter().any(|delay| *delay < CAP / 10));
        assert!(delays.iter().any(|delay| *delay > CAP / 10 * 9));
    }

    #[test]
    fn the_same_seed_gives_the_same_delays() {
        let delays = |seed| -> Vec<Duration> {
            let mut backoff = Backoff::with_seed(FIRST, CAP, seed);
            (0..10).map(|_| backoff.next_delay()).collect()
        };
        assert_eq!(delays(3), delays(3));
        assert_ne!(delays(3), delays(4));
    }

    #[test]
    fn a_success_starts_again() {
        let mut backoff = Backoff::with_seed(FIRST, CAP, 7);
        for _ in 0..20 {
            backoff.next_delay();
        }
        assert_eq!(backoff.attempts(), 20);
        backoff.reset();
        assert_eq!((backoff.attempts(), backoff.limit()), (0, FIRST));
    }
}
