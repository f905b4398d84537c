//! `--freshness`: the age at which a batch is closed, so that its records can be queried in time, and its files are as large
//! as that allows. Pure; the caller has the clock.
//!
//! A batch's oldest record waits for its age and for the commit. The commit's part is not known beforehand, so it is taken
//! from the commits before: the larger of the mean with four mean deviations (as TCP times its retransmissions, RFC 6298) and
//! of the slowest of the last 100. What is left of the wanted time is the age. A record that was behind already when it was
//! read (a backlog) is late anyway: smaller batches would only make it later.

use std::collections::VecDeque;
use std::time::Duration;

/// Commits that are remembered: the slowest of so many is their 99th percentile.
const REMEMBERED: usize = 100;
/// Of the wanted time that is always left to the age: a store that is slower than the rest cannot be helped by smaller files.
const SMALLEST_SHARE: f64 = 0.1;
/// The first age, before a commit was measured.
const FIRST_SHARE: f64 = 0.5;
/// For the polling thread, which looks at the clock every 50 ms, and for the time from the broker to it.
const SLACK: Duration = Duration::from_millis(200);

/// Chooses the age.
#[derive(Clone, Debug)]
pub struct FreshnessController {
    wanted: Duration,
    /// Seconds; `None` before the first commit.
    mean: Option<f64>,
    deviation: f64,
    last: VecDeque<Duration>,
}

impl FreshnessController {
    /// Records are to be queryable `wanted` after the broker got them, 99 of 100.
    pub fn new(wanted: Duration) -> Self {
        Self {
            wanted,
            mean: None,
            deviation: 0.0,
            last: VecDeque::with_capacity(REMEMBERED),
        }
    }

    /// A batch was committed, `took` after it was closed.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        match self.mean {
            None => {
                self.mean = Some(seconds);
                self.deviation = seconds / 2.0;
            }
            Some(mean) => {
                self.deviation += 0.25 * ((seconds - mean).abs() - self.deviation);
                self.mean = Some(mean + 0.125 * (seconds - mean));
            }
        }
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(took);
    }

    /// The age at which to close a batch now.
    pub fn max_age(&self) -> Duration {
        let least = self.wanted.mul_f64(SMALLEST_SHARE);
        match self.mean {
            None => self.wanted.mul_f64(FIRST_SHARE).max(least),
            Some(mean) => {
                let usual = Duration::from_secs_f64(mean + 4.0 * self.deviation);
                let slowest = self.last.iter().max().copied().unwrap_or_default();
                self.wanted
                    .saturating_sub(usual.max(slowest))
                    .saturating_sub(SLACK.min(self.wanted / 4))
                    .max(least)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const WANTED: Duration = Duration::from_secs(30);

    /// What the oldest record of each batch waits, when the commit takes a fixed time and some for the size of the batch.
    fn waits(
        wanted: Duration,
        batches: usize,
        commit: impl Fn(&mut SmallRng, Duration) -> Duration,
    ) -> Vec<Duration> {
        let mut random = SmallRng::seed_from_u64(7);
        let mut controller = FreshnessController::new(wanted);
        let mut waits = Vec::new();
        for _ in 0..batches {
            let age = controller.max_age();
            let took = commit(&mut random, age);
            controller.observe(took);
            waits.push(age + took);
        }
        waits
    }

    fn late(waits: &[Duration]) -> usize {
        waits.iter().filter(|wait| **wait > WANTED).count()
    }

    #[test]
    fn a_quick_store_gets_nearly_all_of_the_time() {
        let waits = waits(WANTED, 500, |_, _| Duration::from_millis(300));
        assert_eq!(late(&waits), 0);
        assert!(
            waits.last().unwrap() > &Duration::from_secs(29),
            "the largest files"
        );
    }

    #[test]
    fn commits_that_scatter_and_grow_with_the_batch_are_in_time_for_99_of_100() {
        let waits = waits(WANTED, 2_000, |random, age| {
            // A tenth of the batch's age, and up to 4 s of the store's mood.
            age.mul_f64(0.1) + Duration::from_millis(random.random_range(200..4_000))
        });
        assert!(late(&waits) <= waits.len() / 100, "{} late", late(&waits));
        let mean = waits.iter().sum::<Duration>() / 2_000;
        assert!(
            mean > Duration::from_secs(24),
            "and not needlessly small: {mean:?}"
        );
    }

    #[test]
    fn rare_slow_commits_are_allowed_for_as_long_as_they_are_remembered() {
        let waits = waits(WANTED, 2_000, |random, _| {
            let slow = random.random_range(0..50) == 0;
            Duration::from_millis(if slow { 8_000 } else { 300 })
        });
        assert!(late(&waits) <= waits.len() / 100, "{} late", late(&waits));
    }

    #[test]
    fn a_store_that_is_too_slow_does_not_make_batches_of_nothing() {
        let mut controller = FreshnessController::new(WANTED);
        assert_eq!(controller.max_age(), Duration::from_secs(15));
        controller.observe(Duration::from_secs(100));
        assert_eq!(controller.max_age(), Duration::from_secs(3));
        for _ in 0..REMEMBERED {
            controller.observe(Duration::from_millis(100));
        }
        assert!(controller.max_age() > Duration::from_secs(28), "it recovers");
        assert!(FreshnessController::new(Duration::from_millis(400)).max_age() > Duration::from_millis(100));
    }
}
