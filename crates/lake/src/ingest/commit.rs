//! A closed batch into the tables: its files first, then `rejected`, then `logins`, each with the offsets in the commit.
//!
//! `rejected` goes first with offsets of its own, and rows that it already holds are skipped, so at every version of
//! `logins` the rejected records below its offsets are there (EVENTS, "In the lake"). Whoever loses a race is fenced:
//! its files are removed and its batch is never used again.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use serde_json::json;
use uuid::Uuid;

use super::buffer::{Batch, Reservation, encode_error, join, keep_rows};
use super::offsets::BatchRanges;
use super::pipeline::Pipeline;
use crate::error::LakeError;
use crate::file::encode::{EncodedRowGroup, PartitionValues, encode};
use crate::file::properties::Tier;
use crate::file::upload::{AssembledFile, put_file};
use crate::store::Lake;
use crate::table::TableName;
use crate::table::commit::{CommitOutcome, CommitRequest, NewFile, TableWriter, TxnStep};
use crate::table::schema::PartitionBy;

/// Delta's name for what ingestion does.
const OPERATION: &str = "STREAMING UPDATE";

/// The incarnation of every topic of the demo's embedded broker, which has no topic ids.
pub const EMBEDDED: &str = "embedded";

/// How a batch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// All of it is in the tables.
    Committed {
        /// The version of `logins` that holds it.
        version: i64,
        /// Files of `logins` that were added.
        files: usize,
        /// Their size in bytes.
        bytes: u64,
    },
    /// Another process has moved one of its partitions: nothing of the batch is in `logins`.
    Fenced {
        /// Who found what, for the log.
        detail: String,
    },
}

/// A batch on its way into the tables. Each step is done once, however often the store fails in between.
pub struct BatchInFlight {
    id: Uuid,
    ranges: BatchRanges,
    rejected: Option<RecordBatch>,
    rejected_request: Option<CommitRequest>,
    rejected_done: bool,
    /// How often somebody else wrote a part of the rejected rows first; part of the file's name.
    rejected_fences: usize,
    /// A commit was not answered: whether the log names the files is not known before it is answered.
    in_doubt: bool,
    files: Vec<(String, AssembledFile)>,
    uploaded: usize,
    logins_request: Option<CommitRequest>,
    /// Keeps the batch counted in the memory gauge until it is done.
    _reservations: Vec<Reservation>,
}

/// Commits batches of one pipeline, one at a time.
#[derive(Debug)]
pub struct Committer {
    logins: TableWriter,
    rejected: TableWriter,
    pipeline: Pipeline,
}

impl Committer {
    /// Opens both tables, and creates those that are missing.
    ///
    /// # Errors
    /// The store cannot be used, or holds something else there; [`LakeError::DataLossRefused`] when the table belongs to
    /// an earlier incarnation of the topic.
    pub async fn open(lake: &Lake, partition_by: PartitionBy, pipeline: Pipeline) -> Result<Self, LakeError> {
        let logins = TableWriter::open_or_create(lake, TableName::Logins, partition_by).await?;
        let rejected = TableWriter::open_or_create(lake, TableName::Rejected, partition_by).await?;
        if let Some(other) = pipeline.predecessor(&logins.head().transactions) {
            let made_by_demo = if other == EMBEDDED {
                " (that of a demo's own broker)"
            } else {
                ""
            };
            return Err(LakeError::DataLossRefused(format!(
                "topic {} was deleted and made again: the lake {} holds offsets of its incarnation {other}{made_by_demo}; ingest into \
                 another --lake, or bring the old topic back",
                pipeline.topic(),
                lake.uri()
            )));
        }
        Ok(Self {
            logins,
            rejected,
            pipeline,
        })
    }

    /// The partition columns of `logins`.
    pub fn partition_columns(&self) -> &[String] {
        &self.logins.head().partition_columns
    }

    /// The newest version of `logins` that was seen.
    pub fn version(&self) -> i64 {
        self.logins.head().version
    }

    /// Loads the end of both logs anew and tells where each Kafka partition stands.
    ///
    /// # Errors
    /// The store failed.
    pub async fn reload_offsets(&mut self) -> Result<BTreeMap<i32, i64>, LakeError> {
        self.rejected.reload().await?;
        self.logins.reload().await?;
        Ok(self.offsets())
    }

    /// Where each Kafka partition stands, as last seen.
    pub fn offsets(&self) -> BTreeMap<i32, i64> {
        self.pipeline.offsets(&self.logins.head().transactions)
    }

    /// Writes down where partitions begin that the table does not know yet, by a commit without rows, so that the first
    /// batch has something to compare with. Returns where they stand, which another process may have decided first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn bootstrap(&mut self, starts: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, LakeError> {
        loop {
            let known = self.offsets();
            let steps: Vec<TxnStep> = starts
                .iter()
                .filter(|(partition, _)| !known.contains_key(partition))
                .map(|(partition, offset)| TxnStep {
                    app_id: self.pipeline.app_id(*partition),
                    from: None,
                    to: *offset,
                })
                .collect();
            if steps.is_empty() {
                return Ok(known
                    .into_iter()
                    .filter(|(partition, _)| starts.contains_key(partition))
                    .collect());
            }
            let request = CommitRequest {
                batch_id: Uuid::new_v4(),
                operation: OPERATION,
                steps,
                adds: Vec::new(),
                removes: Vec::new(),
                data_change: false,
                info: json!({ "kind": "bootstrap" }),
            };
            // Fenced: somebody else wrote theirs first; what they wrote is now in the head.
            if let CommitOutcome::Conflict { detail } = self.logins.commit(&request).await? {
                return Err(LakeError::Unreachable {
                    place: self.logins.lake().uri().to_owned(),
                    detail,
                });
            }
        }
    }

    /// Waits for a batch's encoders and puts its files together.
    ///
    /// # Errors
    /// An encoder failed.
    pub async fn prepare(batch: Batch) -> Result<BatchInFlight, LakeError> {
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
            let file = tokio::task::spawn_blocking(move || AssembledFile::assemble(groups, Tier::Hot))
                .await
                .map_err(|error| LakeError::Invariant(format!("the assembly of a file panicked: {error}")))?
                .map_err(encode_error)?;
            files.push((file.path(batch.id, files.len()), file));
        }
        let rejected = match batch.rejected.first() {
            None => None,
            Some(first) => Some(
                concat_batches(&first.schema(), &batch.rejected)
                    .map_err(|error| LakeError::Invariant(error.to_string()))?,
            ),
        };
        Ok(BatchInFlight {
            id: batch.id,
            ranges: batch.ranges,
            rejected,
            rejected_request: None,
            rejected_done: false,
            rejected_fences: 0,
            in_doubt: false,
            files,
            uploaded: 0,
            logins_request: None,
            _reservations: reservations,
        })
    }

    /// Commits a batch. After an error call again with the same batch: what is done is not done twice.
    ///
    /// # Errors
    /// The store failed.
    pub async fn commit(&mut self, batch: &mut BatchInFlight) -> Result<BatchOutcome, LakeError> {
        self.commit_rejected(batch).await?;
        let place = self.logins.lake().table_place(TableName::Logins);
        let store = self.logins.store();
        while let Some((path, file)) = batch.files.get(batch.uploaded) {
            put_file(store.as_ref(), &place, path, &file.bytes).await?;
            batch.uploaded += 1;
        }
        let request = match batch.logins_request.take() {
            Some(request) => request,
            None => self.logins_request(batch),
        };
        let outcome = self.logins.commit(&request).await;
        let (files, bytes) = (
            request.adds.len(),
            request.adds.iter().map(|file| file.size_bytes).sum(),
        );
        batch.logins_request = Some(request);
        batch.in_doubt |= outcome.is_err();
        match outcome? {
            CommitOutcome::Committed { version } => Ok(BatchOutcome::Committed {
                version,
                files,
                bytes,
            }),
            CommitOutcome::Fenced {
                app_id,
                expected,
                found,
            } => {
                self.remove_files(batch).await;
                let detail = format!("{app_id} stands at {found:?}, not at {expected:?}");
                Ok(BatchOutcome::Fenced { detail })
            }
            CommitOutcome::Conflict { detail } => {
                self.remove_files(batch).await;
                Ok(BatchOutcome::Fenced { detail })
            }
        }
    }

    fn logins_request(&self, batch: &BatchInFlight) -> CommitRequest {
        let steps = batch
            .ranges
            .iter()
            .map(|(partition, range)| TxnStep {
                app_id: self.pipeline.app_id(*partition),
                from: Some(range.from),
                to: range.to,
            })
            .collect();
        let adds: Vec<NewFile> = batch
            .files
            .iter()
            .map(|(path, file)| file.as_new_file(path.clone()))
            .collect();
        let rows: u64 = adds.iter().map(|file| file.rows).sum();
        CommitRequest {
            batch_id: batch.id,
            operation: OPERATION,
            steps,
            adds,
            removes: Vec::new(),
            data_change: true,
            info: json!({ "kind": "ingest", "rows": rows, "offsets": offsets_info(&batch.ranges) }),
        }
    }

    /// Rejected rows that the table does not hold yet, in a commit of their own. Repeated until nobody else interferes.
    async fn commit_rejected(&mut self, batch: &mut BatchInFlight) -> Result<(), LakeError> {
        while !batch.rejected_done {
            if batch.rejected_request.is_none() {
                batch.rejected_request = self.rejected_request(batch).await?;
            }
            let Some(request) = &batch.rejected_request else {
                batch.rejected_done = true;
                return Ok(());
            };
            let outcome = self.rejected.commit(request).await;
            batch.in_doubt |= outcome.is_err();
            match outcome? {
                CommitOutcome::Committed { .. } => batch.rejected_done = true,
                // Somebody else wrote a part of these rows: leave those out. The file is an orphan from now on.
                CommitOutcome::Fenced { .. } | CommitOutcome::Conflict { .. } => {
                    let request = batch.rejected_request.take();
                    batch.rejected_fences += 1;
                    if batch.in_doubt {
                        continue;
                    }
                    for file in request.iter().flat_map(|request| &request.adds) {
                        self.remove_file(&self.rejected, &file.path).await;
                    }
                }
            }
        }
        Ok(())
    }

    async fn rejected_request(&mut self, batch: &BatchInFlight) -> Result<Option<CommitRequest>, LakeError> {
        let Some(rows) = &batch.rejected else {
            return Ok(None);
        };
        let held = self.pipeline.offsets(&self.rejected.head().transactions);
        let rows = keep_rows(rows, |partition, offset| {
            held.get(&partition).is_none_or(|held| offset >= *held)
        })?;
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        let groups = encode(&rows, &[], Tier::Hot).map_err(encode_error)?;
        let moved: Vec<i32> = groups
            .iter()
            .flat_map(|group| group.kafka_partitions.iter().copied())
            .collect();
        let file = AssembledFile::assemble(groups, Tier::Hot).map_err(encode_error)?;
        let path = file.path(batch.id, batch.rejected_fences);
        let place = self.rejected.lake().table_place(TableName::Rejected);
        put_file(self.rejected.store().as_ref(), &place, &path, &file.bytes).await?;
        let steps = moved
            .into_iter()
            .filter_map(|partition| {
                let range = batch.ranges.get(&partition)?;
                let app_id = self.pipeline.app_id(partition);
                Some(TxnStep {
                    app_id,
                    from: held.get(&partition).copied(),
                    to: range.to,
                })
            })
            .collect();
        Ok(Some(CommitRequest {
            batch_id: batch.id,
            operation: OPERATION,
            steps,
            info: json!({ "kind": "ingest", "rows": file.rows, "offsets": offsets_info(&batch.ranges) }),
            adds: vec![file.as_new_file(path)],
            removes: Vec::new(),
            data_change: true,
        }))
    }

    /// The files of a batch that will never be committed.
    async fn remove_files(&self, batch: &BatchInFlight) {
        if batch.in_doubt {
            // Better an orphan until vacuum than a hole in the table.
            return;
        }
        for (path, _) in &batch.files {
            self.remove_file(&self.logins, path).await;
        }
    }

    async fn remove_file(&self, table: &TableWriter, path: &str) {
        use object_store::ObjectStoreExt;
        if let Err(error) = table.store().delete(&object_store::path::Path::from(path)).await {
            tracing::debug!(path, %error, "file of an abandoned batch stays until vacuum");
        }
    }
}

/// Offsets as `olap history` shows them.
fn offsets_info(ranges: &BatchRanges) -> serde_json::Value {
    ranges
        .iter()
        .map(|(partition, range)| json!([partition, range.from, range.to]))
        .collect()
}
