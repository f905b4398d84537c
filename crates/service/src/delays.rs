//! How late records are when they can be read by others, at a few nanoseconds for each record. Both paths count with it.
//!
//! A delay is known only at the commit. Until then [`Delays`] counts records by their timestamp, in buckets around the
//! moment at which the batch began; the commit shifts them by the time that has passed since and adds them to a
//! [`DelayHistogram`], bucket by bucket. What is counted is true to 6 % for a record from before the batch; for one that came
//! while the batch was open it is true to 1/64 of the time between the two. Memory is fixed: 3.6 KB for each [`Delays`] that
//! holds anything.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Buckets of values that grow with the value: exact below `2^exact_bits`, then `2^part_bits` for each doubling.
struct Scale {
    exact_bits: u32,
    part_bits: u32,
    /// Values from `2^limit_bits` on are counted as the largest below it.
    limit_bits: u32,
}

/// Records that are older than the beginning of the batch, up to 17 years.
const OLDER: Scale = Scale {
    exact_bits: 6,
    part_bits: 3,
    limit_bits: 39,
};
/// Records that came while the batch was open, up to 70 minutes: a store that is away keeps it open. Finer: their delay is
/// what is left of the batch's time.
const NEWER: Scale = Scale {
    exact_bits: 5,
    part_bits: 5,
    limit_bits: 22,
};
const BUCKETS: usize = OLDER.len() + NEWER.len();

impl Scale {
    const fn len(&self) -> usize {
        (1 << self.exact_bits) + (((self.limit_bits - self.exact_bits) as usize) << self.part_bits)
    }

    fn bucket(&self, value: u64) -> usize {
        let value = value.min((1 << self.limit_bits) - 1);
        if value < 1 << self.exact_bits {
            return value as usize;
        }
        let octave = value.ilog2();
        let part = (value >> (octave - self.part_bits)) as usize & ((1 << self.part_bits) - 1);
        (1 << self.exact_bits) + (((octave - self.exact_bits) as usize) << self.part_bits) + part
    }

    /// The middle of a bucket.
    fn value(&self, bucket: usize) -> u64 {
        let Some(beyond) = bucket.checked_sub(1 << self.exact_bits) else {
            return bucket as u64;
        };
        let octave = self.exact_bits + (beyond >> self.part_bits) as u32;
        let part = (beyond & ((1 << self.part_bits) - 1)) as u64;
        let width = 1_u64 << (octave - self.part_bits);
        (1 << octave) + part * width + width / 2
    }
}

/// Counts of records by timestamp, of one batch.
#[derive(Clone, Debug, Default)]
pub struct Delays(Option<Box<Counts>>);

#[derive(Clone, Debug)]
struct Counts {
    base_ms: i64,
    /// Neighbours often have the same timestamp.
    last: (i64, usize),
    buckets: [u32; BUCKETS],
}

impl Delays {
    /// Counts a record. `base_ms`: when the batch began; what is given with the first record counts.
    pub fn count(&mut self, base_ms: i64, timestamp_ms: i64) {
        let counts = self.0.get_or_insert_with(|| {
            Box::new(Counts {
                base_ms,
                last: (base_ms, 0),
                buckets: [0; BUCKETS],
            })
        });
        if counts.last.0 != timestamp_ms {
            counts.last = (timestamp_ms, bucket_of(counts.base_ms, timestamp_ms));
        }
        counts.buckets[counts.last.1] += 1;
    }

    /// Delays at `now_ms`, in milliseconds, and how many records have each. A clock that is behind the record's gives 0.
    fn at(&self, now_ms: i64) -> impl Iterator<Item = (u64, u32)> {
        let counts = self.0.as_deref();
        counts.into_iter().flat_map(move |counts| {
            let passed = now_ms.saturating_sub(counts.base_ms);
            let filled = counts.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
            filled.map(move |(bucket, count)| {
                let delay = match bucket.checked_sub(OLDER.len()) {
                    None => passed.saturating_add_unsigned(OLDER.value(bucket)),
                    Some(newer) => passed.saturating_sub_unsigned(NEWER.value(newer)),
                };
                (delay.max(0).unsigned_abs(), *count)
            })
        })
    }
}

fn bucket_of(base_ms: i64, timestamp_ms: i64) -> usize {
    if timestamp_ms <= base_ms {
        OLDER.bucket(base_ms.abs_diff(timestamp_ms))
    } else {
        OLDER.len() + NEWER.bucket(base_ms.abs_diff(timestamp_ms))
    }
}

/// Upper bounds, seconds.
const BOUNDS: [f64; 22] = [
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    60.0,
    300.0,
    1_800.0,
    3_600.0,
    21_600.0,
    86_400.0,
    604_800.0,
    f64::INFINITY,
];

/// A histogram of seconds that takes many equal values at once. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct DelayHistogram(Arc<Mutex<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    seconds: f64,
    count: u64,
    buckets: [u64; BOUNDS.len()],
}

impl DelayHistogram {
    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the records of a batch that others can read since `now_ms`.
    pub fn observe(&self, delays: &Delays, now_ms: i64) {
        let mut sums = self.lock();
        for (delay_ms, count) in delays.at(now_ms) {
            let seconds = delay_ms as f64 / 1_000.0;
            let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
            sums.buckets[bucket] += u64::from(count);
            sums.count += u64::from(count);
            sums.seconds += seconds * f64::from(count);
        }
    }
}

impl TypedMetric for DelayHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for DelayHistogram {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let sums = self.lock();
        let buckets: Vec<(f64, u64)> = BOUNDS.into_iter().zip(sums.buckets).collect();
        encoder.encode_histogram::<NoLabelSet>(sums.seconds, sums.count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn every_bucket_holds_its_own_middle_and_their_order_is_that_of_the_values() {
        for scale in [OLDER, NEWER] {
            let values: Vec<u64> = (0..scale.len()).map(|bucket| scale.value(bucket)).collect();
            assert!(values.is_sorted_by(|a, b| a < b));
            for (bucket, value) in values.into_iter().enumerate() {
                assert_eq!(scale.bucket(value), bucket);
            }
            assert_eq!(scale.bucket(u64::MAX), scale.len() - 1);
        }
    }

    #[test]
    fn a_delay_is_true_to_its_promise() {
        let begun = NOW;
        for age_ms in (0..2_000).chain((2_000..100_000_000).step_by(99_991)) {
            for open_ms in [0, 3, 40, 400] {
                let mut delays = Delays::default();
                delays.count(begun, begun - age_ms);
                let all: Vec<(u64, u32)> = delays.at(begun + open_ms).collect();
                let truth = (age_ms + open_ms) as f64;
                assert_eq!((all.len(), all[0].1), (1, 1));
                assert!(
                    (all[0].0 as f64 - truth).abs() <= truth * 0.0625,
                    "{age_ms} {open_ms}: {all:?}"
                );
            }
        }
        for after_ms in (1_000..4_000_000).step_by(7_919) {
            let mut delays = Delays::default();
            delays.count(begun, begun);
            delays.count(begun, begun + after_ms);
            let newest = delays.at(begun + 4_000_000).map(|(delay, _)| delay).min();
            let error = newest
                .expect("two were counted")
                .abs_diff(4_000_000 - after_ms as u64);
            assert!(error <= after_ms as u64 / 64, "{after_ms}: {error}");
        }
        for after_ms in 0..400 {
            let mut delays = Delays::default();
            delays.count(begun, begun);
            delays.count(begun, begun + after_ms);
            let newest = delays.at(begun + 400).map(|(delay, _)| delay).min();
            let error = newest.expect("two were counted").abs_diff(400 - after_ms as u64);
            assert!(error <= 4, "{after_ms}: {error}");
            assert!(after_ms >= 64 || error == 0, "{after_ms}: {error}");
        }
    }

    #[test]
    fn each_record_is_counted_once_and_a_clock_behind_gives_zero() {
        let mut delays = Delays::default();
        for timestamp in [
            NOW - 5,
            NOW - 5,
            NOW - 7_000_000,
            NOW + 100,
            NOW + 99_999_999,
            i64::MIN,
            0,
        ] {
            delays.count(NOW, timestamp);
        }
        let histogram = DelayHistogram::default();
        histogram.observe(&delays, NOW + 10);
        histogram.observe(&Delays::default(), NOW);
        let sums = histogram.lock();
        assert_eq!(sums.count, 7);
        assert_eq!(sums.buckets.iter().sum::<u64>(), 7);
        assert_eq!(sums.buckets[0], 2, "two from the future");
        assert_eq!(sums.buckets[4], 2, "two of 15 ms");
        assert_eq!(sums.buckets[18], 1, "one of two hours");
        assert_eq!(sums.buckets[21], 2, "two from long ago");
    }

    #[test]
    fn it_is_encoded_as_a_histogram() {
        let histogram = DelayHistogram::default();
        let mut delays = Delays::default();
        delays.count(NOW, NOW - 15);
        delays.count(NOW, NOW - 15);
        histogram.observe(&delays, NOW);
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("delay_seconds", "Delay", histogram);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes everything");
        for line in [
            "# TYPE delay_seconds histogram",
            "delay_seconds_sum 0.03",
            "delay_seconds_count 2",
            "delay_seconds_bucket{le=\"0.01\"} 0",
            "delay_seconds_bucket{le=\"0.02\"} 2",
            "delay_seconds_bucket{le=\"+Inf\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
