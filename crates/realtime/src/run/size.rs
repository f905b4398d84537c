//! How many records a transaction may have. A quota or a slow broker can make a large one take longer than a commit may:
//! it would be given up, read again and given up again, for ever. So after a commit that failed or was slow transactions
//! are smaller, and they grow again as long as commits are fast. Pure.

use std::time::Duration;

/// A commit this fast lets transactions grow.
const FAST: Duration = Duration::from_secs(1);
/// A commit this slow makes them smaller; a third of the time after which a commit is given up.
const SLOW: Duration = Duration::from_secs(5);
/// They do not get smaller than this.
const MIN_RECORDS: u64 = 100;

/// The limit of one worker.
#[derive(Debug)]
pub(super) struct TransactionSize {
    max: u64,
    limit: u64,
}

impl TransactionSize {
    /// At most `max` records, as long as commits are fast.
    pub fn new(max: u64) -> Self {
        Self { max, limit: max }
    }

    /// Most records of the next transaction.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// A transaction of so many records was committed in this time.
    pub fn committed(&mut self, records: u64, took: Duration) {
        if took > SLOW {
            self.set(records / 2);
        } else if took < FAST && self.limit < self.max {
            self.set(self.limit.saturating_mul(2));
        }
    }

    /// The commit of so many records did not come to an end in time.
    pub fn failed(&mut self, records: u64) {
        self.set(records / 8);
    }

    fn set(&mut self, limit: u64) {
        self.limit = limit.max(MIN_RECORDS).min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN_UP: Duration = Duration::from_secs(15);

    /// Commits a backlog through a broker that takes so many records a second. Returns the failures before each commit.
    fn failures_at(records_per_second: u64, commits: usize) -> Vec<u32> {
        let mut size = TransactionSize::new(200_000);
        let mut failures = vec![0];
        while failures.len() <= commits {
            let records = size.limit();
            let took = Duration::from_millis(records * 1_000 / records_per_second);
            if took > GIVEN_UP {
                size.failed(records);
                *failures.last_mut().expect("never empty") += 1;
            } else {
                size.committed(records, took);
                failures.push(0);
            }
        }
        failures
    }

    #[test]
    fn any_speed_gets_through_after_a_few_failures_and_then_without_one() {
        for speed in [20, 100, 1_000, 20_000, 1_000_000] {
            let failures = failures_at(speed, 50);
            assert!(failures[0] <= 4, "{speed}: {failures:?}");
            assert!(
                failures[1..].iter().all(|failed| *failed == 0),
                "{speed}: {failures:?}"
            );
        }
    }

    #[test]
    fn after_an_outage_they_grow_back() {
        let mut size = TransactionSize::new(200_000);
        for _ in 0..10 {
            size.failed(size.limit());
        }
        assert_eq!(size.limit(), MIN_RECORDS);
        for _ in 0..11 {
            size.committed(size.limit(), Duration::from_millis(5));
        }
        assert_eq!(size.limit(), 200_000);
    }

    #[test]
    fn a_small_limit_of_the_operator_stays() {
        let mut size = TransactionSize::new(10);
        size.failed(10);
        assert_eq!(size.limit(), 10);
        size.committed(10, Duration::ZERO);
        assert_eq!(size.limit(), 10);
    }
}
