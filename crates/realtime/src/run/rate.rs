//! `--max-rate`: at most so many records in a second, for all workers of an instance together.
//!
//! A worker takes records in small portions. A portion that comes too early is granted for later (a virtual schedule, GCRA):
//! so workers that wait are served in turn, and none starves. What was saved up while little came is 50 ms worth at
//! most. A worker that has to wait does so for 20 ms at least: then a transaction is worth its while. Below the limit
//! nobody ever waits, and without a limit nothing is asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use loginlake_service::config::Rate;

/// How much can be saved up.
const BURST: Duration = Duration::from_millis(50);
/// Shortest wait.
const MIN_WAIT: Duration = Duration::from_millis(20);
/// A portion is what comes in this time; one record at least.
const PORTION: Duration = Duration::from_millis(1);
/// Largest portion: what a worker can hold back from the others.
const MAX_PORTION: u64 = 64;

/// The limit of an instance; clones share it.
#[derive(Clone, Debug)]
pub struct RateLimit {
    rate: Rate,
    portion: u64,
    /// When the next record is due, if records came exactly at the limit.
    due: Arc<Mutex<Instant>>,
}

impl RateLimit {
    /// At most `rate`.
    pub fn new(rate: Rate, now: Instant) -> Self {
        let portion = (PORTION.as_nanos() / rate.time_of(1).as_nanos().max(1)) as u64;
        Self {
            rate,
            portion: portion.clamp(1, MAX_PORTION),
            due: Arc::new(Mutex::new(now)),
        }
    }

    /// Grants a portion, and says from when on.
    fn grant(&self, now: Instant) -> Instant {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*due).max(now);
        *due = start + self.rate.time_of(self.portion);
        start.checked_sub(BURST).unwrap_or(start)
    }
}

/// One worker's share of the limit.
#[derive(Debug)]
pub struct Pace {
    limit: Option<RateLimit>,
    left: u64,
    /// A portion that is granted for later.
    granted_from: Option<Instant>,
}

impl Pace {
    /// `None`: no limit.
    pub fn new(limit: Option<RateLimit>) -> Self {
        Self {
            limit,
            left: 0,
            granted_from: None,
        }
    }

    /// Takes a record, or says how long to wait before asking again.
    pub fn take(&mut self, now: impl FnOnce() -> Instant) -> Result<(), Duration> {
        let Some(limit) = &self.limit else {
            return Ok(());
        };
        if self.left == 0 {
            let now = now();
            let from = self.granted_from.take().unwrap_or_else(|| {
                let from = limit.grant(now);
                if from > now {
                    from.max(now + MIN_WAIT)
                } else {
                    from
                }
            });
            if from > now {
                self.granted_from = Some(from);
                return Err(from - now);
            }
            self.left = limit.portion;
        }
        self.left -= 1;
        Ok(())
    }

    /// There was no record to take.
    pub fn give_back(&mut self) {
        if self.limit.is_some() {
            self.left += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as much as it gets for `seconds`, by a clock of its own. Returns the records, and those of the first 50 ms.
    fn run(paces: &mut [Pace], start: Instant, seconds: u64) -> (u64, u64) {
        let (mut now, end) = (start, start + Duration::from_secs(seconds));
        let (mut records, mut at_first) = (0, 0);
        while now < end {
            let mut wait = Duration::MAX;
            for pace in paces.iter_mut() {
                wait = wait.min(loop {
                    match pace.take(|| now) {
                        Ok(()) => records += 1,
                        Err(wait) => break wait,
                    }
                });
            }
            if now == start {
                at_first = records;
            }
            now += wait;
        }
        (records, at_first)
    }

    fn paces(rate: &str, workers: usize, now: Instant) -> Vec<Pace> {
        let limit = RateLimit::new(rate.parse().expect("a rate"), now);
        (0..workers).map(|_| Pace::new(Some(limit.clone()))).collect()
    }

    #[test]
    fn as_much_as_is_allowed_goes_through_and_not_more() {
        let start = Instant::now();
        for (rate, workers, expected) in [
            ("50000/s", 1, 500_000),
            ("50000/s", 4, 500_000),
            ("3000000/min", 2, 500_000),
            ("1000", 3, 10_000),
            ("7/s", 1, 70),
            ("30/min", 2, 5),
        ] {
            let (records, at_first) = run(&mut paces(rate, workers, start), start, 10);
            let burst = expected / 200 + workers as u64 * MAX_PORTION;
            assert!(
                records >= expected && records <= expected + burst,
                "{rate} {workers}: {records}"
            );
            assert!(at_first <= burst, "{rate} {workers}: {at_first} at once");
        }
    }

    #[test]
    fn below_the_limit_nobody_waits() {
        let start = Instant::now();
        let mut pace = paces("1000/s", 1, start).remove(0);
        for millis in 0..5_000_u64 {
            let now = start + Duration::from_micros(millis * 1_100);
            assert_eq!(pace.take(|| now), Ok(()));
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let start = Instant::now();
        let mut pace = paces("1/s", 1, start).remove(0);
        assert_eq!(pace.take(|| start), Ok(()));
        pace.give_back();
        assert_eq!(pace.take(|| start), Ok(()));
        let wait = pace.take(|| start).expect_err("the second comes later");
        assert_eq!(wait, Duration::from_millis(950));
        assert_eq!(pace.take(|| start + wait), Ok(()));
    }

    #[test]
    fn a_wait_is_worth_its_while_and_goes_on_where_it_was() {
        let start = Instant::now();
        let mut pace = paces("50000/s", 1, start).remove(0);
        while pace.take(|| start).is_ok() {}
        let half = start + MIN_WAIT / 2;
        assert_eq!(pace.take(|| half), Err(MIN_WAIT / 2));
        let end = start + MIN_WAIT;
        let mut records = 0;
        while pace.take(|| end).is_ok() {
            records += 1;
        }
        assert!((1_000..=1_064).contains(&records), "20 ms worth: {records}");
    }

    #[test]
    fn workers_that_wait_are_served_in_turn() {
        let start = Instant::now();
        let mut paces = paces("10/s", 3, start);
        assert_eq!(paces[0].take(|| start), Ok(()));
        let waits: Vec<u128> = paces
            .iter_mut()
            .map(|pace| pace.take(|| start).expect_err("all wait").as_millis())
            .collect();
        assert_eq!(waits, [50, 150, 250]);
    }

    #[test]
    fn without_a_limit_no_clock_is_read() {
        let mut pace = Pace::new(None);
        assert_eq!(pace.take(|| unreachable!("nobody asks for the time")), Ok(()));
        pace.give_back();
        assert_eq!(pace.take(|| unreachable!("nobody asks for the time")), Ok(()));
    }
}
