//! The end of a run: when everything that was to be read is in the table, and what is committed on the way out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use loginlake_lake::ingest::RollReason;
use loginlake_service::exit::ExitError;

use super::Ingester;
use crate::setup::lake_error;

/// How often the table's offsets are asked for, to stop at the end.
const END_INTERVAL: Duration = Duration::from_millis(200);

impl Ingester {
    /// Whether the table has everything that the topic held when this run started, on every partition, whoever has it.
    pub(super) fn is_at_end(&mut self) -> Result<bool, ExitError> {
        let mut filling = self.assignment.lock();
        let ends = self
            .bounds_at_start
            .iter()
            .map(|(partition, (_, end))| (*partition, *end))
            .collect();
        if !filling.session.has_read_to(&ends) {
            return Ok(false);
        }
        let drained = filling.session.offsets().is_drained();
        drop(filling);
        if !drained {
            if self.in_flight.is_none() {
                self.close(RollReason::Drain)?;
            }
            return Ok(false);
        }
        if self.end_asked.elapsed() < END_INTERVAL {
            return Ok(false);
        }
        self.end_asked = Instant::now();
        let offsets = match self
            .runtime
            .block_on(async { self.assignment.committer.lock().await.reload_offsets().await })
        {
            Ok(offsets) => offsets,
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "cannot read the table's offsets; trying again");
                return Ok(false);
            }
            Err(error) => return Err(lake_error(error)),
        };
        Ok(self.bounds_at_start.iter().all(|(partition, (low, end))| {
            end <= low || offsets.get(partition).is_some_and(|next| next >= end)
        }))
    }

    /// Commits what was read.
    pub(super) fn drain(&mut self) -> Result<(), ExitError> {
        loop {
            self.settle(true)?;
            if !self.assignment.lock().session.offsets().has_unsealed() {
                break;
            }
            self.close(RollReason::Drain)?;
        }
        // Let the coordinator know before leaving, so that lag tools agree.
        let group_offsets: BTreeMap<i32, i64> = {
            let filling = self.assignment.lock();
            let offsets = filling.session.offsets();
            let partitions = offsets.partitions().into_iter();
            partitions
                .filter_map(|p| Some((p, offsets.committed_offset(p)?)))
                .collect()
        };
        if !group_offsets.is_empty()
            && let Err(error) = self.consumer.commit_sync(&group_offsets)
        {
            tracing::debug!(%error, "group offsets not written");
        }
        Ok(())
    }
}
