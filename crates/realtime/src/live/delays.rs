//! A histogram of delays with logarithmic buckets: bounded memory, quantiles that are right within an eighth.
//!
//! Four buckets per doubling, from 1 ms to 34 years, so that a replay of old events shows how old they are; what is longer counts as
//! that.

/// Number of buckets: below 1 ms, then four for each of 40 doublings.
pub(crate) const BUCKETS: usize = 1 + 4 * DOUBLINGS;

const DOUBLINGS: usize = 40;

/// The bucket of a delay in milliseconds. A negative delay (two clocks disagree) counts as none.
pub(crate) fn bucket_of(delay_ms: i64) -> usize {
    let Ok(delay) = u64::try_from(delay_ms) else {
        return 0;
    };
    let Some(doubling) = delay.checked_ilog2() else {
        return 0;
    };
    // The two bits below the leading one are the quarter. Below 4 ms there are fewer bits than that.
    let quarter = ((delay << 2) >> doubling) & 3;
    (1 + 4 * doubling as usize + quarter as usize).min(BUCKETS - 1)
}

/// From where to where a bucket reaches, in milliseconds.
fn bounds_ms(bucket: usize) -> (f64, f64) {
    let Some(index) = bucket.checked_sub(1) else {
        return (0.0, 1.0);
    };
    let doubling = (1_u64 << (index / 4)) as f64;
    let quarter = (index % 4) as f64;
    (
        doubling * (1.0 + quarter / 4.0),
        doubling * (1.0 + (quarter + 1.0) / 4.0),
    )
}

/// The delay below which the given share (0 to 1) of the counted ones are, in milliseconds; `None` when there are none.
pub(crate) fn quantile_ms(counts: &[u64], share: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = share * total as f64;
    let mut below = 0.0;
    for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = *count as f64;
        if below + count >= rank {
            let (from, to) = bounds_ms(bucket);
            return Some(from + (to - from) * ((rank - below) / count).clamp(0.0, 1.0));
        }
        below += count;
    }
    None
}

/// The counts by doubling, as (up to so many milliseconds, records); without the empty ones at both ends.
pub(super) fn by_doubling(counts: &[u64]) -> Vec<(u64, u64)> {
    let (below, rest) = counts.split_at(1);
    let sums = std::iter::once((1, below[0])).chain(
        rest.chunks(4)
            .enumerate()
            .map(|(doubling, quarters)| (2 << doubling, quarters.iter().sum())),
    );
    let sums: Vec<(u64, u64)> = sums.collect();
    let first = sums.iter().position(|(_, count)| *count > 0);
    let last = sums.iter().rposition(|(_, count)| *count > 0);
    match (first, last) {
        (Some(first), Some(last)) => sums[first..=last].to_vec(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(delays: impl IntoIterator<Item = i64>) -> Vec<u64> {
        let mut counts = vec![0; BUCKETS];
        for delay in delays {
            counts[bucket_of(delay)] += 1;
        }
        counts
    }

    #[test]
    fn every_delay_is_within_its_bucket() {
        for delay in (0..5_000).chain([86_400_000, 20 * 365 * 86_400_000, (1 << 40) - 1]) {
            let (from, to) = bounds_ms(bucket_of(delay));
            assert!(
                from <= delay as f64 && (delay as f64) < to,
                "{delay} is not in {from}..{to}"
            );
        }
        assert_eq!(bucket_of(-5), 0);
        assert_eq!(bucket_of(i64::MIN), 0);
        assert_eq!(bucket_of(i64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_right_within_an_eighth() {
        let counts = histogram(1..=10_000);
        for (share, exact) in [(0.5, 5_000.0), (0.99, 9_900.0), (0.01, 100.0)] {
            let found = quantile_ms(&counts, share).expect("not empty");
            assert!(
                (found - exact).abs() <= exact / 8.0,
                "{share}: {found} instead of {exact}"
            );
        }
        assert_eq!(quantile_ms(&histogram([]), 0.5), None);
    }

    #[test]
    fn doublings_are_trimmed_and_add_up() {
        assert_eq!(by_doubling(&histogram([])), []);
        assert_eq!(by_doubling(&histogram([0, 0])), [(1, 2)]);
        assert_eq!(by_doubling(&histogram([2, 3, 9])), [(4, 2), (8, 0), (16, 1)]);
        let sum: u64 = by_doubling(&histogram(0..3_000))
            .iter()
            .map(|(_, count)| count)
            .sum();
        assert_eq!(sum, 3_000);
    }
}
