//! How far a partition is behind, in records and in seconds, from what this instance knows anyway: nothing is asked or read.
//!
//! The oldest unhandled record cannot be older than the last handled one, nor than the moment at which nothing was left to
//! read. The smaller of the two ages is an upper bound of its age, and close to it under load.

use std::collections::BTreeMap;
use std::time::Instant;

/// How far behind a partition is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lag {
    /// Records that are not handled.
    pub records: u64,
    /// Upper bound of the age of the oldest of them.
    pub seconds: f64,
}

/// What is known of one partition when its lag is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Next offset that is not handled; `None` where the group has committed nothing yet.
    pub next_offset: Option<i64>,
    /// End of the partition, as the last fetch told it.
    pub end: Option<i64>,
    /// Up to here everything that can be read is handled: the rest below it are transaction markers.
    pub read_to: Option<i64>,
    /// What the client counts itself, from the group's offset.
    pub client_records: Option<u64>,
}

/// The partitions of one worker.
#[derive(Debug, Default)]
pub struct Lags(BTreeMap<i32, Known>);

#[derive(Debug)]
struct Known {
    came: Instant,
    /// When nothing was left to read.
    empty: Option<Instant>,
    /// The broker's timestamp of the last handled record.
    handled_ms: Option<i64>,
}

impl Lags {
    /// Takes note of the broker's timestamps of the last handled records, epoch milliseconds.
    pub fn handled(&mut self, newest_ms: &[(i32, i64)], now: Instant) {
        for (partition, handled_ms) in newest_ms {
            self.known(*partition, now).handled_ms = Some(*handled_ms);
        }
    }

    /// Forgets partitions that left.
    pub fn keep(&mut self, here: impl Fn(i32) -> bool) {
        self.0.retain(|partition, _| here(*partition));
    }

    /// The lag of a partition at `now`, which is `now_ms` by the clock; `None` when nothing tells.
    pub fn look(&mut self, partition: i32, seen: Seen, now: Instant, now_ms: i64) -> Option<Lag> {
        let known = self.known(partition, now);
        let counted = seen.end.zip(seen.next_offset).map(|(end, next)| {
            let rest_is_markers = seen.read_to.is_some_and(|read_to| read_to >= end);
            if rest_is_markers {
                0
            } else {
                (end - next).max(0).unsigned_abs()
            }
        });
        let records = counted.or(seen.client_records)?;
        if records == 0 {
            known.empty = Some(now);
            return Some(Lag::default());
        }
        let since_empty = known.empty.map(|empty| now.duration_since(empty).as_secs_f64());
        let since_handled = known
            .handled_ms
            .map(|handled_ms| now_ms.saturating_sub(handled_ms).max(0) as f64 / 1_000.0);
        let seconds = match (since_handled, since_empty) {
            (Some(handled), Some(empty)) => handled.min(empty),
            (Some(age), None) | (None, Some(age)) => age,
            // A backlog of which nothing is handled yet: for so long at least it has been waiting here.
            (None, None) => now.duration_since(known.came).as_secs_f64(),
        };
        Some(Lag { records, seconds })
    }

    fn known(&mut self, partition: i32, now: Instant) -> &mut Known {
        self.0.entry(partition).or_insert(Known {
            came: now,
            empty: None,
            handled_ms: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn seen(next_offset: i64, end: i64) -> Seen {
        Seen {
            next_offset: Some(next_offset),
            end: Some(end),
            ..Seen::default()
        }
    }

    #[test]
    fn under_load_the_age_is_that_of_the_last_handled_record() {
        let (mut lags, now) = (Lags::default(), Instant::now());
        lags.handled(&[(0, NOW_MS - 9_000), (1, NOW_MS - 4_000)], now);
        let lag = lags.look(0, seen(10, 25), now, NOW_MS);
        assert_eq!(
            lag,
            Some(Lag {
                records: 15,
                seconds: 9.0
            })
        );
        let lag = lags.look(1, seen(10, 11), now, NOW_MS);
        assert_eq!(
            lag,
            Some(Lag {
                records: 1,
                seconds: 4.0
            })
        );
    }

    #[test]
    fn after_a_quiet_hour_a_new_record_is_not_an_hour_old() {
        let (mut lags, mut now) = (Lags::default(), Instant::now());
        lags.handled(&[(0, NOW_MS - 3_600_000)], now);
        assert_eq!(lags.look(0, seen(10, 10), now, NOW_MS), Some(Lag::default()));
        now += Duration::from_secs(1);
        let lag = lags.look(0, seen(10, 12), now, NOW_MS + 1_000);
        assert_eq!(
            lag,
            Some(Lag {
                records: 2,
                seconds: 1.0
            })
        );
    }

    #[test]
    fn markers_at_the_end_are_no_lag_until_records_follow() {
        let (mut lags, now) = (Lags::default(), Instant::now());
        let mut markers = seen(10, 11);
        markers.read_to = Some(11);
        assert_eq!(lags.look(0, markers, now, NOW_MS), Some(Lag::default()));
        markers.end = Some(14);
        assert_eq!(lags.look(0, markers, now, NOW_MS).map(|lag| lag.records), Some(4));
    }

    #[test]
    fn a_backlog_that_is_not_begun_is_as_old_as_it_has_waited_here() {
        let (mut lags, now) = (Lags::default(), Instant::now());
        assert_eq!(lags.look(0, Seen::default(), now, NOW_MS), None, "nothing tells");
        let mut backlog = Seen {
            client_records: Some(50),
            end: Some(50),
            ..Seen::default()
        };
        let lag = lags.look(0, backlog, now + Duration::from_secs(3), NOW_MS);
        assert_eq!(
            lag,
            Some(Lag {
                records: 50,
                seconds: 3.0
            })
        );
        backlog.client_records = Some(0);
        assert_eq!(lags.look(0, backlog, now, NOW_MS), Some(Lag::default()));
    }

    #[test]
    fn a_partition_that_left_begins_anew() {
        let (mut lags, now) = (Lags::default(), Instant::now());
        lags.handled(&[(0, NOW_MS - 9_000)], now);
        lags.keep(|partition| partition != 0);
        let lag = lags.look(0, seen(10, 25), now, NOW_MS);
        assert_eq!(
            lag,
            Some(Lag {
                records: 15,
                seconds: 0.0
            })
        );
    }
}
