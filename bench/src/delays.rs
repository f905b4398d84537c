//! Quantiles of delays, exact: all of them are kept.

use std::time::Duration;

/// Delays of records.
#[derive(Debug, Default)]
pub struct Delays {
    nanos: Vec<u64>,
}

impl Delays {
    /// Takes one.
    pub fn push(&mut self, delay: Duration) {
        self.nanos
            .push(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nanos.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nanos.is_empty()
    }

    /// Milliseconds that the given shares (0 to 1) of the records stay within: the smallest delay with at least that share
    /// at or below it. `None` when there are none.
    pub fn quantiles_ms<const N: usize>(&mut self, shares: [f64; N]) -> Option<[f64; N]> {
        self.nanos.sort_unstable();
        let last = self.nanos.len().checked_sub(1)?;
        Some(shares.map(|share| {
            let rank = (share * self.nanos.len() as f64).ceil() as usize;
            self.nanos[rank.saturating_sub(1).min(last)] as f64 / 1e6
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_delay_that_was_measured() {
        let mut delays = Delays::default();
        assert_eq!(delays.quantiles_ms([0.5]), None);
        (1..=100)
            .rev()
            .for_each(|ms| delays.push(Duration::from_millis(ms)));
        assert_eq!(
            delays.quantiles_ms([0.0, 0.5, 0.99, 1.0]),
            Some([1.0, 50.0, 99.0, 100.0])
        );
        assert_eq!(delays.len(), 100);
    }
}
