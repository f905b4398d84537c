//! When a batch is closed: as soon as the first of age, rows or bytes reaches its limit. Pure; the caller has the clock.

use std::time::Duration;

/// The limits of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollPolicy {
    /// Since the first record of the batch was buffered.
    pub max_age: Duration,
    /// Records, good and rejected.
    pub max_rows: u64,
    /// Memory that the batch holds, in bytes.
    pub max_bytes: u64,
}

/// What a batch holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchSize {
    /// Records, good and rejected.
    pub rows: u64,
    /// Memory held, in bytes.
    pub bytes: u64,
}

/// Why a batch was closed; a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RollReason {
    /// It reached its age.
    Age,
    /// It reached its rows.
    Rows,
    /// It reached its bytes.
    Bytes,
    /// The process stops, or the end of the topics was reached.
    Drain,
}

impl RollReason {
    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            RollReason::Age => "age",
            RollReason::Rows => "rows",
            RollReason::Bytes => "bytes",
            RollReason::Drain => "drain",
        }
    }
}

impl RollPolicy {
    /// Whether a batch that was begun `age` ago is to be closed. An empty batch never is.
    pub fn decide(&self, size: BatchSize, age: Duration) -> Option<RollReason> {
        if size.rows == 0 {
            None
        } else if size.bytes >= self.max_bytes {
            Some(RollReason::Bytes)
        } else if size.rows >= self.max_rows {
            Some(RollReason::Rows)
        } else if age >= self.max_age {
            Some(RollReason::Age)
        } else {
            None
        }
    }

    /// How long a batch that was begun `age` ago may still wait: the age works without new records, too.
    pub fn time_left(&self, size: BatchSize, age: Duration) -> Duration {
        if size.rows == 0 {
            Duration::MAX
        } else {
            self.max_age.saturating_sub(age)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RollPolicy = RollPolicy {
        max_age: Duration::from_secs(10),
        max_rows: 100,
        max_bytes: 1_000,
    };

    #[test]
    fn the_first_limit_that_is_reached_closes_the_batch() {
        let decide = |rows, bytes, secs| POLICY.decide(BatchSize { rows, bytes }, Duration::from_secs(secs));
        assert_eq!(decide(0, 0, 1_000), None);
        assert_eq!(decide(1, 10, 9), None);
        assert_eq!(decide(1, 10, 10), Some(RollReason::Age));
        assert_eq!(decide(100, 10, 0), Some(RollReason::Rows));
        assert_eq!(decide(1, 1_000, 0), Some(RollReason::Bytes));
    }

    #[test]
    fn an_empty_batch_waits_for_ever_and_a_full_one_not_at_all() {
        assert_eq!(
            POLICY.time_left(BatchSize::default(), Duration::ZERO),
            Duration::MAX
        );
        let size = BatchSize { rows: 1, bytes: 1 };
        assert_eq!(
            POLICY.time_left(size, Duration::from_secs(4)),
            Duration::from_secs(6)
        );
        assert_eq!(POLICY.time_left(size, Duration::from_secs(40)), Duration::ZERO);
    }
}
