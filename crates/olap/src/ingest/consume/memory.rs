//! The memory budget: what waits for a commit never takes much more, whatever comes and however slow encoders and store are.
//!
//! What passes it is what one look at the sizes may miss: a mebibyte of payloads and a record.

use std::collections::BTreeSet;
use std::time::Duration;

use loginlake_lake::ingest::RollReason;
use loginlake_service::exit::ExitError;

use super::Ingester;
use crate::setup::kafka_error;

/// With more than one part in so many of the budget under encoding, consumption waits: it shrinks to a tenth by itself, where a batch
/// that is closed early would stay small for ever.
const ENCODING_SHARE: u64 = 2;
/// Longest wait for encoders between two polls.
const ENCODER_PATIENCE: Duration = Duration::from_secs(1);

impl Ingester {
    /// Over the budget: close the batch early; when one is already under way, stop fetching until it is done.
    pub(super) fn bound_memory(&mut self) -> Result<(), ExitError> {
        self.gauge
            .wait_for_encoders(self.options.memory_budget / ENCODING_SHARE, ENCODER_PATIENCE);
        let open = self.assignment.lock().session.rows().open_bytes();
        let waiting = self.gauge.bytes() + open;
        self.metrics
            .buffered_bytes
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let over = waiting > self.options.memory_budget;
        if over && self.in_flight.is_none() {
            self.close(RollReason::Bytes)?;
        }
        self.pause_or_resume(over && self.in_flight.is_some(), waiting)
    }

    /// Pauses every partition that is here, also those that came since, or resumes them. A partition that left and comes again
    /// is not paused any more.
    fn pause_or_resume(&mut self, pause: bool, waiting: u64) -> Result<(), ExitError> {
        if !pause && self.paused.is_empty() {
            return Ok(());
        }
        let here: BTreeSet<i32> = self
            .consumer
            .assignment()
            .map_err(kafka_error)?
            .into_iter()
            .collect();
        if pause {
            if self.paused.is_empty() {
                self.metrics.pauses.inc();
                tracing::debug!(waiting, "over the memory budget: paused");
            }
            let new: Vec<i32> = here.difference(&self.paused).copied().collect();
            if !new.is_empty() {
                self.consumer.pause(&new).map_err(kafka_error)?;
            }
            self.paused = here;
        } else {
            let paused: Vec<i32> = here.intersection(&self.paused).copied().collect();
            if !paused.is_empty() {
                self.consumer.resume(&paused).map_err(kafka_error)?;
            }
            self.paused.clear();
        }
        Ok(())
    }
}
