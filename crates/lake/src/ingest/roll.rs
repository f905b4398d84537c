//! When a batch is closed: as soon as the first of age, rows or bytes reaches its limit. Pure; the caller has the clock.
//!
//! A batch that holds rows of many table partitions would become as many files. It may wait longer, up to
//! [`LateHold::max_age`], so that they are fewer and larger; rows and bytes close it all the same (ADR 7).

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
    /// What holds instead of `max_age` for a batch of many table partitions.
    pub late: LateHold,
}

/// How long a batch of many table partitions waits: a burst of late or early dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateHold {
    /// With more table partitions than this a batch is held.
    pub table_partitions: usize,
    /// Since its first record was buffered. At or below the policy's `max_age`: nothing is held.
    pub max_age: Duration,
}

impl Default for LateHold {
    /// 32 table partitions, 60 s.
    fn default() -> Self {
        Self {
            table_partitions: 32,
            max_age: Duration::from_secs(60),
        }
    }
}

/// What a batch holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchSize {
    /// Records, good and rejected.
    pub rows: u64,
    /// Memory held, in bytes.
    pub bytes: u64,
    /// Table partitions of the good ones: the files that a commit would add.
    pub table_partitions: usize,
}

/// Why a batch was closed; a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RollReason {
    /// It reached its age.
    Age,
    /// It was held because of its many table partitions, as long as that is allowed.
    LateHold,
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
            RollReason::LateHold => "late_hold",
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
        } else if age < self.max_age_of(size) {
            None
        } else if self.is_held(size) {
            Some(RollReason::LateHold)
        } else {
            Some(RollReason::Age)
        }
    }

    /// How long a batch that was begun `age` ago may still wait: the age works without new records, too.
    pub fn time_left(&self, size: BatchSize, age: Duration) -> Duration {
        if size.rows == 0 {
            Duration::MAX
        } else {
            self.max_age_of(size).saturating_sub(age)
        }
    }

    fn is_held(&self, size: BatchSize) -> bool {
        size.table_partitions > self.late.table_partitions && self.late.max_age > self.max_age
    }

    fn max_age_of(&self, size: BatchSize) -> Duration {
        if self.is_held(size) {
            self.late.max_age
        } else {
            self.max_age
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: RollPolicy = RollPolicy {
        max_age: Duration::from_secs(10),
        max_rows: 100,
        max_bytes: 1_000,
        late: LateHold {
            table_partitions: 32,
            max_age: Duration::from_secs(60),
        },
    };

    fn size(rows: u64, bytes: u64, table_partitions: usize) -> BatchSize {
        BatchSize {
            rows,
            bytes,
            table_partitions,
        }
    }

    #[test]
    fn the_first_limit_that_is_reached_closes_the_batch() {
        let decide = |rows, bytes, secs| POLICY.decide(size(rows, bytes, 1), Duration::from_secs(secs));
        assert_eq!(decide(0, 0, 1_000), None);
        assert_eq!(decide(1, 10, 9), None);
        assert_eq!(decide(1, 10, 10), Some(RollReason::Age));
        assert_eq!(decide(100, 10, 0), Some(RollReason::Rows));
        assert_eq!(decide(1, 1_000, 0), Some(RollReason::Bytes));
    }

    #[test]
    fn a_batch_of_many_table_partitions_is_held_but_not_for_ever() {
        let decide =
            |rows, partitions, secs| POLICY.decide(size(rows, 10, partitions), Duration::from_secs(secs));
        assert_eq!(decide(50, 32, 10), Some(RollReason::Age));
        assert_eq!(decide(50, 33, 10), None);
        assert_eq!(decide(50, 33, 59), None);
        assert_eq!(decide(50, 33, 60), Some(RollReason::LateHold));
        assert_eq!(decide(100, 33, 0), Some(RollReason::Rows));
        let slow = RollPolicy {
            max_age: Duration::from_secs(300),
            ..POLICY
        };
        assert_eq!(slow.decide(size(50, 10, 33), Duration::from_secs(100)), None);
        assert_eq!(
            slow.decide(size(50, 10, 33), Duration::from_secs(300)),
            Some(RollReason::Age),
            "a hold never shortens"
        );
    }

    #[test]
    fn an_empty_batch_waits_for_ever_and_a_full_one_not_at_all() {
        assert_eq!(
            POLICY.time_left(BatchSize::default(), Duration::ZERO),
            Duration::MAX
        );
        let (few, many) = (size(1, 1, 1), size(40, 1, 40));
        assert_eq!(
            POLICY.time_left(few, Duration::from_secs(4)),
            Duration::from_secs(6)
        );
        assert_eq!(
            POLICY.time_left(many, Duration::from_secs(4)),
            Duration::from_secs(56)
        );
        assert_eq!(POLICY.time_left(few, Duration::from_secs(40)), Duration::ZERO);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// The bound of ADR 7, for any stream: commits of more than N table partitions that rows or bytes did not close are
        /// at least a hold apart; and no record waits longer than the longer of both ages and a tick.
        #[test]
        fn commits_of_many_table_partitions_are_a_hold_apart(
            // Milliseconds to the next record, and its date.
            stream in prop::collection::vec((0_u64..400, 0_i32..90), 1..2_000),
            rows_limit in 50_u64..5_000,
        ) {
            let policy = RollPolicy { max_rows: rows_limit, max_bytes: u64::MAX, ..POLICY };
            let tick = Duration::from_millis(400);
            let (mut now, mut begun) = (Duration::ZERO, Duration::ZERO);
            let mut rows = 0;
            let mut dates = std::collections::BTreeSet::new();
            let mut last_large = None;
            for (wait, date) in stream {
                now += Duration::from_millis(wait);
                let held = size(rows, rows, dates.len());
                if let Some(reason) = policy.decide(held, now - begun) {
                    prop_assert!(now - begun <= policy.late.max_age + tick);
                    if dates.len() > policy.late.table_partitions && reason != RollReason::Rows {
                        prop_assert!(last_large.is_none_or(|last| now - last >= policy.late.max_age));
                    }
                    if dates.len() > policy.late.table_partitions {
                        last_large = Some(now);
                    }
                    rows = 0;
                    dates.clear();
                }
                if rows == 0 {
                    begun = now;
                }
                rows += 1;
                dates.insert(date);
            }
        }
    }
}
