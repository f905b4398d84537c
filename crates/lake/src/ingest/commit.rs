//! A closed batch into the tables: its files first, then `rejected`, then `logins`, each with the offsets in the commit.
//!
//! `rejected` goes first with offsets of its own, and rows that it already holds are skipped, so at every version of
//! `logins` the rejected records below its offsets are there (EVENTS, "In the lake"). Whoever loses a race is fenced:
//! its files are removed and its batch is never used again.
//!
//! The steps are written against [`Tables`]; property tests run them on tables in memory.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde_json::json;
use uuid::Uuid;

use super::buffer::Batch;
use super::fail_point::{FailPoint, pass};
use super::gap::{self, GapRequest, TopicBounds};
use super::in_flight::BatchInFlight;
use super::offsets::BatchRanges;
use super::pipeline::Pipeline;
use super::tables::{RejectedRows, StagedFile, StoreTables, Tables};
use crate::error::LakeError;
use crate::store::Lake;
use crate::table::TableName;
use crate::table::commit::{CommitOutcome, CommitRequest, NewFile, TableWriter, TxnStep};
use crate::table::schema::{PartitionBy, TableSpec};

/// Delta's name for what ingestion does.
const OPERATION: &str = "STREAMING UPDATE";
/// The name of an accepted gap in the table's history.
const GAP_OPERATION: &str = "ACCEPT GAP";

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

/// Commits batches of one pipeline, one at a time.
#[derive(Debug)]
pub struct Committer<T = StoreTables> {
    tables: T,
    pipeline: Pipeline,
}

impl Committer<StoreTables> {
    /// Opens both tables, and creates those that are missing.
    ///
    /// # Errors
    /// The store cannot be used, or holds something else there; [`LakeError::DataLossRefused`] when the table belongs to
    /// an earlier incarnation of the topic.
    pub async fn open(lake: &Lake, partition_by: PartitionBy, pipeline: Pipeline) -> Result<Self, LakeError> {
        let committer = Self::open_any(lake, partition_by, None, pipeline).await?;
        if let Some(predecessor) = committer
            .pipeline
            .predecessor(committer.tables.transactions(TableName::Logins))
        {
            return Err(LakeError::DataLossRefused(gap::predecessor_text(
                committer.pipeline.topic(),
                &predecessor,
                &TopicBounds::new(),
            )));
        }
        Ok(committer)
    }

    /// The same for a table that may belong to an earlier incarnation of the topic: ask [`Committer::check_topic`].
    /// `only_date`: `logins` holds the rows of one date, and the caller leaves out the others.
    ///
    /// # Errors
    /// The store cannot be used, or holds something else there, or the rows of other dates.
    pub async fn open_any(
        lake: &Lake,
        partition_by: PartitionBy,
        only_date: Option<NaiveDate>,
        pipeline: Pipeline,
    ) -> Result<Self, LakeError> {
        let spec = TableSpec {
            only_date,
            ..TableSpec::current(TableName::Logins, partition_by)
        };
        let logins = TableWriter::open_or_create_as(lake, &spec).await?;
        let rejected = TableWriter::open_or_create(lake, TableName::Rejected, partition_by).await?;
        Ok(Self {
            tables: StoreTables { logins, rejected },
            pipeline,
        })
    }

    /// The partition columns of `logins`.
    pub fn partition_columns(&self) -> &[String] {
        &self.tables.logins.head().partition_columns
    }

    /// Waits for a batch's encoders and puts its files together.
    ///
    /// # Errors
    /// An encoder failed.
    pub async fn prepare(batch: Batch) -> Result<BatchInFlight, LakeError> {
        BatchInFlight::prepare(batch).await
    }
}

impl<T: Tables> Committer<T> {
    /// Commits to these tables.
    pub fn on(tables: T, pipeline: Pipeline) -> Self {
        Self { tables, pipeline }
    }

    /// The topic's incarnation.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The newest version of `logins` that was seen.
    pub fn version(&self) -> i64 {
        self.tables.version(TableName::Logins)
    }

    /// Loads the end of both logs anew and tells where each Kafka partition stands.
    ///
    /// # Errors
    /// The store failed.
    pub async fn reload_offsets(&mut self) -> Result<BTreeMap<i32, i64>, LakeError> {
        self.tables.reload(TableName::Rejected).await?;
        self.tables.reload(TableName::Logins).await?;
        Ok(self.offsets())
    }

    /// Where each Kafka partition stands, as last seen.
    pub fn offsets(&self) -> BTreeMap<i32, i64> {
        self.pipeline.offsets(self.tables.transactions(TableName::Logins))
    }

    /// The time from which on the table has the topic, epoch milliseconds, as last seen; `None`: from its oldest record on.
    pub fn begins_at_ms(&self) -> Option<i64> {
        self.pipeline
            .begins_at_ms(self.tables.transactions(TableName::Logins))
    }

    /// Whether the topic still holds what the table needs next, as last seen.
    ///
    /// # Errors
    /// [`LakeError::DataLossRefused`] with the command that goes on: records are gone, or the topic was made again.
    pub fn check_topic(&self, bounds: &TopicBounds) -> Result<(), LakeError> {
        let transactions = self.tables.transactions(TableName::Logins);
        gap::check(&self.pipeline, transactions, bounds).map_err(LakeError::DataLossRefused)
    }

    /// Accepts that records are lost: a commit without rows that moves the offsets over gaps, under the compare-and-set.
    /// Returns its version. `who` is kept in the history.
    ///
    /// # Errors
    /// [`LakeError::DataLossRefused`] when a gap is not there as stated; the store failed.
    pub async fn accept_gaps(
        &mut self,
        gaps: &[GapRequest],
        bounds: &TopicBounds,
        who: &str,
    ) -> Result<i64, LakeError> {
        let transactions = self.tables.transactions(TableName::Logins);
        let steps =
            gap::plan(&self.pipeline, transactions, gaps, bounds).map_err(LakeError::DataLossRefused)?;
        let stated: Vec<_> = gaps
            .iter()
            .map(|gap| json!([gap.kafka_partition, gap.from, gap.to]))
            .collect();
        let request = CommitRequest {
            batch_id: Uuid::new_v4(),
            operation: GAP_OPERATION,
            steps,
            adds: Vec::new(),
            removes: Vec::new(),
            data_change: false,
            info: json!({
                "kind": "gap", "gaps": stated, "who": who, "when": chrono::Utc::now().to_rfc3339(),
                "topic": self.pipeline.topic(), "topicId": self.pipeline.incarnation(),
            }),
        };
        pass(FailPoint::BeforeGapCommit)?;
        match self.tables.commit(TableName::Logins, &request).await? {
            CommitOutcome::Committed { version } => {
                pass(FailPoint::AfterGapCommit)?;
                Ok(version)
            }
            CommitOutcome::Fenced {
                app_id,
                expected,
                found,
            } => Err(LakeError::DataLossRefused(format!(
                "the gap was not accepted: {app_id} stands at {found:?}, not at {expected:?}; an ingester still runs"
            ))),
            CommitOutcome::Conflict { detail } => Err(LakeError::DataLossRefused(format!(
                "the gap was not accepted: {detail}; try again"
            ))),
        }
    }

    /// Writes down where partitions begin that the table does not know yet, by a commit without rows, so that the first
    /// batch has something to compare with. Returns where they stand, which another process may have decided first.
    /// `begins_at_ms` is kept in the table: the time by which these starts were chosen.
    ///
    /// # Errors
    /// The store failed.
    pub async fn bootstrap_at(
        &mut self,
        starts: &BTreeMap<i32, i64>,
        begins_at_ms: Option<i64>,
    ) -> Result<BTreeMap<i32, i64>, LakeError> {
        loop {
            let known = self.offsets();
            let mut steps: Vec<TxnStep> = starts
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
            if let Some(ms) = begins_at_ms {
                steps.push(TxnStep {
                    app_id: self.pipeline.begins_at_app_id(),
                    from: self.begins_at_ms(),
                    to: ms,
                });
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
            pass(FailPoint::BeforeBootstrap)?;
            // Fenced: somebody else wrote theirs first; what they wrote is now in the head.
            if let CommitOutcome::Conflict { detail } =
                self.tables.commit(TableName::Logins, &request).await?
            {
                return Err(LakeError::Unreachable {
                    place: format!("table {}", TableName::Logins),
                    detail,
                });
            }
            pass(FailPoint::AfterBootstrap)?;
        }
    }

    /// The same for partitions that begin at their oldest record.
    ///
    /// # Errors
    /// The store failed.
    pub async fn bootstrap(&mut self, starts: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, LakeError> {
        self.bootstrap_at(starts, None).await
    }

    /// Commits a batch. After an error call again with the same batch: what is done is not done twice.
    ///
    /// # Errors
    /// The store failed.
    pub async fn commit<R: RejectedRows<T::File>>(
        &mut self,
        batch: &mut BatchInFlight<T::File, R>,
    ) -> Result<BatchOutcome, LakeError> {
        if let Some(outcome) = &batch.outcome {
            return Ok(outcome.clone());
        }
        pass(FailPoint::AfterEncode)?;
        self.commit_rejected(batch).await?;
        while let Some((path, file)) = batch.files.get(batch.uploaded) {
            pass(FailPoint::BeforeUpload)?;
            self.tables.upload(TableName::Logins, path, file).await?;
            batch.uploaded += 1;
            pass(FailPoint::AfterUpload)?;
        }
        let request = match batch.logins_request.take() {
            Some(request) => request,
            None => self.logins_request(batch),
        };
        let outcome = match pass(FailPoint::BeforeLoginsCommit) {
            Ok(()) => self.tables.commit(TableName::Logins, &request).await,
            Err(error) => Err(error),
        };
        let (files, bytes) = (
            request.adds.len(),
            request.adds.iter().map(|file| file.size_bytes).sum(),
        );
        batch.logins_request = Some(request);
        batch.in_doubt |= outcome.is_err();
        let outcome = match outcome? {
            CommitOutcome::Committed { version } => BatchOutcome::Committed {
                version,
                files,
                bytes,
            },
            CommitOutcome::Fenced {
                app_id,
                expected,
                found,
            } => BatchOutcome::Fenced {
                detail: format!("{app_id} stands at {found:?}, not at {expected:?}"),
            },
            CommitOutcome::Conflict { detail } => BatchOutcome::Fenced { detail },
        };
        batch.outcome = Some(outcome.clone());
        match outcome {
            BatchOutcome::Committed { .. } => pass(FailPoint::AfterLoginsCommit)?,
            BatchOutcome::Fenced { .. } => {
                pass(FailPoint::BeforeFencedRemoval)?;
                self.remove_files(batch).await;
                pass(FailPoint::AfterFencedRemoval)?;
            }
        }
        Ok(outcome)
    }

    fn logins_request<R>(&self, batch: &BatchInFlight<T::File, R>) -> CommitRequest {
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
    async fn commit_rejected<R: RejectedRows<T::File>>(
        &mut self,
        batch: &mut BatchInFlight<T::File, R>,
    ) -> Result<(), LakeError> {
        while !batch.rejected_done {
            if batch.rejected_request.is_none() {
                batch.rejected_request = self.rejected_request(batch).await?;
            }
            let Some(request) = &batch.rejected_request else {
                batch.rejected_done = true;
                return Ok(());
            };
            pass(FailPoint::BeforeRejectedCommit)?;
            let outcome = self.tables.commit(TableName::Rejected, request).await;
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
                        self.tables.remove(TableName::Rejected, &file.path).await;
                    }
                }
            }
            if batch.rejected_done {
                pass(FailPoint::AfterRejectedCommit)?;
            }
        }
        Ok(())
    }

    async fn rejected_request<R: RejectedRows<T::File>>(
        &mut self,
        batch: &BatchInFlight<T::File, R>,
    ) -> Result<Option<CommitRequest>, LakeError> {
        let Some(rows) = &batch.rejected else {
            return Ok(None);
        };
        let held = self
            .pipeline
            .offsets(self.tables.transactions(TableName::Rejected));
        let Some((file, moved)) = rows.file_without(&held)? else {
            return Ok(None);
        };
        let path = file.path(batch.id, batch.rejected_fences);
        pass(FailPoint::BeforeRejectedUpload)?;
        self.tables.upload(TableName::Rejected, &path, &file).await?;
        pass(FailPoint::AfterRejectedUpload)?;
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
        let file = file.as_new_file(path);
        Ok(Some(CommitRequest {
            batch_id: batch.id,
            operation: OPERATION,
            steps,
            info: json!({ "kind": "ingest", "rows": file.rows, "offsets": offsets_info(&batch.ranges) }),
            adds: vec![file],
            removes: Vec::new(),
            data_change: true,
        }))
    }

    /// The files of a batch that will never be committed.
    async fn remove_files<R>(&mut self, batch: &BatchInFlight<T::File, R>) {
        if batch.in_doubt {
            // Better an orphan until vacuum than a hole in the table.
            return;
        }
        for (path, _) in &batch.files {
            self.tables.remove(TableName::Logins, path).await;
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
