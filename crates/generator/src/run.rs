//! Source to sink, at a pace, until the end or a request to stop; counts what left.
//!
//! Whatever ends the run, everything that was sent is flushed before [`run`] returns without an error.

use std::fmt;
use std::time::{Duration, Instant};

use loginlake_events::RejectReason;
use loginlake_service::shutdown::Shutdown;

use crate::pace::Pace;
use crate::record::RecordBuffer;
use crate::sink::{RecordSink, SinkError};
use crate::source::{RecordSource, SourceError};

/// At full speed, the clock and the request to stop are looked at once in so many records.
const CHECK_EVERY_RECORDS: u64 = 256;
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The sink cannot be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// What a run has sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records sent.
    pub produced: u64,
    /// How many of them the contract rejects, by [`RejectReason::ALL`]'s order. All 0 in a replay, which does not look.
    pub bad: [u64; RejectReason::ALL.len()],
    /// How long it took.
    pub elapsed: Duration,
}

impl Summary {
    /// Records that the contract rejects, over all reasons.
    pub fn bad_total(&self) -> u64 {
        self.bad.iter().sum()
    }

    /// Records a second; 0 before time has passed.
    pub fn rate(&self) -> f64 {
        let secs = self.elapsed.as_secs_f64();
        if secs > 0.0 {
            self.produced as f64 / secs
        } else {
            0.0
        }
    }
}

/// One line for the run, one for the reasons where there are any.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.elapsed.as_secs_f64();
        write!(
            f,
            "produced {} records in {secs:.1} s ({:.0}/s)",
            self.produced,
            self.rate()
        )?;
        let bad = self.bad_total();
        if bad > 0 {
            write!(f, ", {bad} of them bad:")?;
            let counted = RejectReason::ALL
                .into_iter()
                .zip(self.bad)
                .filter(|(_, count)| *count > 0);
            for (index, (reason, count)) in counted.enumerate() {
                write!(f, "{} {reason} {count}", if index == 0 { "\n " } else { "," })?;
            }
        }
        Ok(())
    }
}

/// Moves records until the source ends or `shutdown` asks to stop. `on_progress` is called about once a second.
///
/// # Errors
/// The first error of the source or the sink; the count up to there is what `on_progress` saw last.
pub fn run(
    source: &mut dyn RecordSource,
    sink: &mut dyn RecordSink,
    pace: Pace,
    shutdown: &Shutdown,
    on_progress: &mut dyn FnMut(&Summary),
) -> Result<Summary, RunError> {
    let started = Instant::now();
    let mut next_progress = PROGRESS_INTERVAL;
    let mut summary = Summary::default();
    let mut record = RecordBuffer::new();
    loop {
        let paused = match pace.due(summary.produced) {
            Some(due) if due > started.elapsed() => {
                sink.before_pause()?;
                true
            }
            _ => false,
        };
        if paused || summary.produced.is_multiple_of(CHECK_EVERY_RECORDS) {
            if shutdown.is_requested() {
                break;
            }
            summary.elapsed = started.elapsed();
            if summary.elapsed >= next_progress {
                on_progress(&summary);
                next_progress = summary.elapsed + PROGRESS_INTERVAL;
            }
            let left = pace
                .due(summary.produced)
                .unwrap_or_default()
                .saturating_sub(summary.elapsed);
            if !left.is_zero() {
                shutdown.wait_timeout(left.min(PROGRESS_INTERVAL));
                continue;
            }
        }
        if !source.next_record(&mut record)? {
            break;
        }
        sink.send(&record)?;
        summary.produced += 1;
        if let Some(reason) = record.expected() {
            summary.bad[reason as usize] += 1;
        }
    }
    sink.flush()?;
    summary.elapsed = started.elapsed();
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{Generator, GeneratorConfig};

    #[derive(Default)]
    struct Kept {
        sent: u64,
        flushed: u64,
        fail_at: Option<u64>,
        stop_at: Option<(u64, Shutdown)>,
    }

    impl RecordSink for Kept {
        fn send(&mut self, _: &RecordBuffer) -> Result<(), SinkError> {
            if self.fail_at == Some(self.sent) {
                return Err(SinkError::Stdout(std::io::Error::other("the disk is full")));
            }
            self.sent += 1;
            if let Some((at, shutdown)) = &self.stop_at
                && self.sent == *at
            {
                shutdown.trigger();
            }
            Ok(())
        }

        fn before_pause(&mut self) -> Result<(), SinkError> {
            self.flush()
        }

        fn flush(&mut self) -> Result<(), SinkError> {
            self.flushed = self.sent;
            Ok(())
        }
    }

    fn generator(count: Option<u64>, bad_share: f64) -> Generator {
        Generator::new(GeneratorConfig {
            count,
            bad_share,
            users: 10,
            ..Default::default()
        })
        .unwrap()
    }

    fn run_into(
        sink: &mut Kept,
        count: Option<u64>,
        pace: Pace,
        shutdown: &Shutdown,
    ) -> Result<Summary, RunError> {
        run(&mut generator(count, 0.5), sink, pace, shutdown, &mut |_| ())
    }

    #[test]
    fn every_record_is_sent_counted_and_flushed() {
        let mut sink = Kept::default();
        let summary = run_into(&mut sink, Some(1_000), Pace::AsFastAsPossible, &Shutdown::new()).unwrap();
        assert_eq!((summary.produced, sink.flushed), (1_000, 1_000));
        assert!((400..600).contains(&summary.bad_total()), "{summary}");
    }

    #[test]
    fn a_request_to_stop_flushes_what_was_sent() {
        let shutdown = Shutdown::new();
        let mut sink = Kept {
            stop_at: Some((300, shutdown.clone())),
            ..Default::default()
        };
        let summary = run_into(&mut sink, None, Pace::AsFastAsPossible, &shutdown).unwrap();
        assert_eq!(
            (summary.produced, sink.flushed),
            (2 * CHECK_EVERY_RECORDS, 2 * CHECK_EVERY_RECORDS)
        );
    }

    #[test]
    fn a_request_to_stop_ends_a_pause() {
        let shutdown = Shutdown::new();
        let mut sink = Kept {
            stop_at: Some((1, shutdown.clone())),
            ..Default::default()
        };
        // The second record is due in 32 years.
        let summary = run_into(&mut sink, None, Pace::PerSecond(1e-9), &shutdown).unwrap();
        assert_eq!((summary.produced, sink.flushed), (1, 1));
    }

    #[test]
    fn the_first_error_ends_the_run() {
        let mut sink = Kept {
            fail_at: Some(7),
            ..Default::default()
        };
        let error = run_into(&mut sink, None, Pace::AsFastAsPossible, &Shutdown::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write to standard output: the disk is full"
        );
        assert_eq!(sink.sent, 7);
    }

    #[test]
    fn a_summary_names_the_reasons_that_occurred() {
        let mut summary = Summary {
            produced: 10,
            elapsed: Duration::from_secs(2),
            ..Default::default()
        };
        assert_eq!(summary.to_string(), "produced 10 records in 2.0 s (5/s)");
        summary.bad[RejectReason::NotJson as usize] = 2;
        summary.bad[RejectReason::BadIp as usize] = 1;
        assert_eq!(
            summary.to_string(),
            "produced 10 records in 2.0 s (5/s), 3 of them bad:\n  NOT_JSON 2, BAD_IP 1"
        );
    }
}
