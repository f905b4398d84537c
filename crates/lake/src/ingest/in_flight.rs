//! A closed batch on its way into the tables: its files, and how far it is.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::buffer::{Batch, encode_error, join};
use super::commit::BatchOutcome;
use super::fail_point::{FailPoint, pass};
use super::gauge::Reservation;
use super::offsets::BatchRanges;
use super::rejected::RejectedFile;
use super::tables::StagedFile;
use crate::error::LakeError;
use crate::file::encode::{EncodedRowGroup, PartitionValues};
use crate::file::properties::Tier;
use crate::file::upload::AssembledFile;
use crate::table::commit::CommitRequest;

/// A batch on its way into the tables. Each step is done once, however often the store fails in between.
pub struct BatchInFlight<F = AssembledFile, R = RejectedFile> {
    pub(super) id: Uuid,
    pub(super) ranges: BatchRanges,
    pub(super) rejected: Option<R>,
    pub(super) rejected_request: Option<CommitRequest>,
    pub(super) rejected_done: bool,
    /// How often somebody else wrote a part of the rejected rows first; part of the file's name.
    pub(super) rejected_fences: usize,
    /// A commit was not answered: whether the log names the files is not known before it is answered.
    pub(super) in_doubt: bool,
    pub(super) files: Vec<(String, F)>,
    pub(super) uploaded: usize,
    pub(super) logins_request: Option<CommitRequest>,
    /// How it ended: asked again, it says the same.
    pub(super) outcome: Option<BatchOutcome>,
    /// Keeps the batch counted in the memory gauge until it is done.
    _reservations: Vec<Reservation>,
}

impl<F: StagedFile, R> BatchInFlight<F, R> {
    /// A batch whose files are put together.
    pub fn new(id: Uuid, ranges: BatchRanges, files: Vec<F>, rejected: Option<R>) -> Self {
        let files = files.into_iter().enumerate();
        Self {
            id,
            ranges,
            rejected,
            rejected_request: None,
            rejected_done: false,
            rejected_fences: 0,
            in_doubt: false,
            files: files
                .map(|(number, file)| (file.path(id, number), file))
                .collect(),
            uploaded: 0,
            logins_request: None,
            outcome: None,
            _reservations: Vec::new(),
        }
    }
}

impl BatchInFlight {
    /// Waits for a batch's encoders and puts its files together.
    ///
    /// # Errors
    /// An encoder failed.
    pub async fn prepare(batch: Batch) -> Result<Self, LakeError> {
        pass(FailPoint::BatchClosed)?;
        let mut by_partition: BTreeMap<PartitionValues, Vec<EncodedRowGroup>> = BTreeMap::new();
        let mut reservations = Vec::new();
        for task in batch.encoding {
            let (groups, reservation) = join(task).await?;
            reservations.push(reservation);
            for group in groups {
                by_partition
                    .entry(group.partition_values.clone())
                    .or_default()
                    .push(group);
            }
        }
        let mut files = Vec::new();
        for groups in by_partition.into_values() {
            let assemble = move || AssembledFile::assemble(groups, Tier::Hot).map_err(encode_error);
            files.push(assembled(assemble).await?);
        }
        let mut groups = Vec::new();
        for task in batch.rejected {
            let (encoded, reservation) = join(task).await?;
            reservations.push(reservation);
            groups.extend(encoded);
        }
        let rejected = assembled(move || RejectedFile::assemble(groups, batch.rejected_firsts)).await?;
        Ok(BatchInFlight {
            _reservations: reservations,
            ..BatchInFlight::new(batch.id, batch.ranges, files, rejected)
        })
    }
}

/// Runs the assembly of a file next to everything else.
async fn assembled<F: Send + 'static>(
    assemble: impl FnOnce() -> Result<F, LakeError> + Send + 'static,
) -> Result<F, LakeError> {
    tokio::task::spawn_blocking(assemble)
        .await
        .map_err(|error| LakeError::Invariant(format!("the assembly of a file panicked: {error}")))?
}
