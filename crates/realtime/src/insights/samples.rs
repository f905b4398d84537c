//! The delays of records that are not committed yet.
//!
//! A record is published when its transaction commits, so its delay is known only then. Until then the times are kept, of
//! every record while they are few, of every second, fourth … record when they are many: at most [`CAPACITY`] of them, and
//! at least half as many once there were that many. A sample counts for all the records that it stands for.

/// Most samples of one transaction.
const CAPACITY: usize = 1_024;

/// When a record was born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// Event time, epoch milliseconds.
    pub event_ms: i64,
    /// Kafka timestamp, epoch milliseconds.
    pub kafka_ms: Option<i64>,
}

/// Evenly spaced samples of a sequence of unknown length.
#[derive(Debug)]
pub(super) struct Samples {
    kept: Vec<Times>,
    /// Every so manyth record is kept.
    stride: u64,
    /// Records to pass over before the next one that is kept.
    to_skip: u64,
}

impl Samples {
    pub(super) fn new() -> Self {
        Self {
            kept: Vec::with_capacity(CAPACITY),
            stride: 1,
            to_skip: 0,
        }
    }

    pub(super) fn push(&mut self, times: Times) {
        if self.to_skip > 0 {
            self.to_skip -= 1;
            return;
        }
        if self.kept.len() == CAPACITY {
            let mut is_odd = false;
            self.kept.retain(|_| {
                is_odd = !is_odd;
                is_odd
            });
            self.stride *= 2;
        }
        self.kept.push(times);
        self.to_skip = self.stride - 1;
    }

    /// Hands every sample and the number of records that it stands for to `count`, and begins anew.
    pub(super) fn drain(&mut self, mut count: impl FnMut(Times, u64)) {
        for times in self.kept.drain(..) {
            count(times, self.stride);
        }
        self.clear();
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.stride = 1;
        self.to_skip = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(records: i64) -> Vec<(i64, u64)> {
        let mut samples = Samples::new();
        for event_ms in 0..records {
            samples.push(Times {
                event_ms,
                kafka_ms: None,
            });
        }
        assert!(samples.kept.len() <= CAPACITY);
        let mut found = Vec::new();
        samples.drain(|times, weight| found.push((times.event_ms, weight)));
        found
    }

    #[test]
    fn few_records_are_all_kept() {
        assert_eq!(sampled(3), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(sampled(1_024).len(), 1_024);
    }

    #[test]
    fn many_records_are_kept_evenly_and_stand_for_all() {
        for records in [1_025, 3_000, 200_000] {
            let found = sampled(records);
            assert!(
                (CAPACITY / 2..=CAPACITY).contains(&found.len()),
                "{}",
                found.len()
            );
            let stride = found[0].1;
            let evenly = found.iter().enumerate().all(|(index, (event_ms, weight))| {
                *weight == stride && *event_ms == index as i64 * stride as i64
            });
            assert!(evenly, "{records}: {found:?}");
            let stands_for = found.len() as u64 * stride;
            assert!(
                stands_for.abs_diff(records as u64) < stride,
                "{records}: {stands_for}"
            );
        }
    }

    #[test]
    fn after_a_drain_it_begins_anew() {
        let mut samples = Samples::new();
        for event_ms in 0..5_000 {
            samples.push(Times {
                event_ms,
                kafka_ms: None,
            });
        }
        samples.drain(|_, _| {});
        samples.push(Times {
            event_ms: 9,
            kafka_ms: Some(8),
        });
        let mut found = Vec::new();
        samples.drain(|times, weight| found.push((times.event_ms, times.kafka_ms, weight)));
        assert_eq!(found, [(9, Some(8), 1)]);
    }
}
