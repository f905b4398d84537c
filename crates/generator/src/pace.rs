//! When each record may leave: as fast as possible, steadily, or in bursts.
//!
//! The moment of a record depends on its number only, never on when the one before it left: a slow moment is caught
//! up with, and a rate holds over any length of time.

use std::str::FromStr;
use std::time::Duration;

use loginlake_service::config::Span;

/// How fast records leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Nothing waits.
    AsFastAsPossible,
    /// So many records a second, evenly; more than 0.
    PerSecond(f64),
    /// So many at once, then silence until the interval is over.
    Burst(Burst),
}

/// So many records at once, at the start of each interval. Written `500/10s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    records: u64,
    every: Duration,
}

/// A burst that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a burst: give records and interval, both more than 0, such as 500/10s or 2000/1m")]
pub struct BurstError(String);

impl FromStr for Burst {
    type Err = BurstError;

    fn from_str(text: &str) -> Result<Burst, BurstError> {
        let parsed = text.split_once('/').and_then(|(records, every)| {
            let records: u64 = records.trim().parse().ok()?;
            let every = every.parse::<Span>().ok()?.duration();
            (records > 0 && !every.is_zero()).then_some(Burst { records, every })
        });
        parsed.ok_or_else(|| BurstError(text.to_owned()))
    }
}

impl Pace {
    /// When record `index` (from 0) is due, counted from the start; `None` is at once.
    pub fn due(&self, index: u64) -> Option<Duration> {
        match self {
            Pace::AsFastAsPossible => None,
            // A rate so low that the moment is beyond all time: never is long enough as centuries.
            Pace::PerSecond(rate) => {
                Some(Duration::try_from_secs_f64(index as f64 / rate).unwrap_or(Duration::MAX))
            }
            Pace::Burst(burst) => {
                let intervals = u32::try_from(index / burst.records).unwrap_or(u32::MAX);
                Some(burst.every.saturating_mul(intervals))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spaces_records_evenly() {
        let pace = Pace::PerSecond(2.0);
        let due: Vec<u128> = (0..4).map(|i| pace.due(i).unwrap().as_millis()).collect();
        assert_eq!(due, [0, 500, 1_000, 1_500]);
        assert_eq!(Pace::PerSecond(f64::MIN_POSITIVE).due(9), Some(Duration::MAX));
    }

    #[test]
    fn a_burst_leaves_at_once_and_then_waits() {
        let pace = Pace::Burst("3/10s".parse().unwrap());
        let due: Vec<u64> = (0..7).map(|i| pace.due(i).unwrap().as_secs()).collect();
        assert_eq!(due, [0, 0, 0, 10, 10, 10, 20]);
    }

    #[test]
    fn full_speed_never_waits() {
        assert_eq!(Pace::AsFastAsPossible.due(u64::MAX), None);
    }

    #[test]
    fn a_burst_is_written_as_records_and_interval() {
        assert_eq!(
            "500/250ms".parse(),
            Ok(Burst {
                records: 500,
                every: Duration::from_millis(250)
            })
        );
        assert_eq!(
            "1/2m".parse(),
            Ok(Burst {
                records: 1,
                every: Duration::from_secs(120)
            })
        );
        for wrong in [
            "",
            "5",
            "0/1s",
            "5/0s",
            "5/1",
            "5/s",
            "5/1y",
            "-5/1s",
            "5/99999999999999999999s",
        ] {
            assert_eq!(wrong.parse::<Burst>(), Err(BurstError(wrong.to_owned())));
        }
    }
}
