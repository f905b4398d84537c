//! Erasure carried out: passes over the newest version, until one finds nothing.
//!
//! Each pass looks into the files that no earlier pass has found clean, rewrites those that hold rows of the users, and
//! commits table partition by table partition with the partition's maintenance counter as the compare-and-set. Whoever
//! was first wins; what was lost is found again by the next pass, in the files that the winner left. Interrupted, it keeps
//! what it has committed; calling it again for the same users finds the rest, and proves all of it (`begun`).

use std::collections::{BTreeMap, HashSet};

use chrono::Utc;
use serde_json::json;
use uuid::Uuid;

use super::begun::Begun;
use super::find::{Found, count, may_hold};
use super::proof::{ErasureProof, TableErasure};
use super::rewrite::Rewriter;
use super::{Subjects, TABLES};
use crate::compact::Fingerprint;
use crate::compact::execute::{file_schema, loop_commit};
use crate::error::LakeError;
use crate::ingest::fail_point::{FailPoint, pass};
use crate::store::Lake;
use crate::table::commit::{CommitOutcome, CommitRequest, NewFile, TableWriter, TxnStep};
use crate::table::{DataFile, TableName, TablePartition, TableSnapshot};

/// Delta's name for what erasure does.
const OPERATION: &str = "DELETE";
/// How often the newest version is looked at before it is given up: each look but the last found rows that others had
/// written or moved meanwhile.
const MAX_PASSES: u32 = 50;

/// How rows are erased.
#[derive(Clone, Debug)]
pub struct EraseOptions {
    /// Memory in bytes. Default 256 MiB.
    pub memory_budget_bytes: usize,
    /// Only count. Default no.
    pub dry_run: bool,
    /// Who erases, for the history and the proof.
    pub who: String,
}

impl EraseOptions {
    /// The defaults.
    pub fn by(who: impl Into<String>) -> Self {
        Self {
            memory_budget_bytes: 256 << 20,
            dry_run: false,
            who: who.into(),
        }
    }
}

/// Erases the rows of the users from all tables that name users. The proof is returned, not stored.
///
/// # Errors
/// The store failed (what is committed stays, calling again is right); a table is not of this software; the fingerprints
/// of a rewritten file are not those of its source; rows of the users kept coming.
pub async fn erase(
    lake: &Lake,
    subjects: &Subjects,
    options: &EraseOptions,
) -> Result<ErasureProof, LakeError> {
    // A dry run leaves nothing behind.
    let begun = match options.dry_run {
        true => None,
        false => Some(Begun::of(lake, subjects, &options.who).await?),
    };
    let mut proof = ErasureProof {
        erasure: begun.as_ref().map_or_else(Uuid::new_v4, |begun| begun.erasure),
        who: options.who.clone(),
        began_at: begun.as_ref().map_or_else(Utc::now, |begun| begun.began_at),
        ended_at: Utc::now(),
        users: subjects.hashes(),
        tables: Vec::new(),
    };
    for table in TABLES {
        let eraser = Eraser {
            lake,
            table,
            subjects,
            options,
            erasure: proof.erasure,
            rewriter: Rewriter::new(lake, table, options.memory_budget_bytes)?,
        };
        let Some(seen) = eraser.run().await? else {
            continue;
        };
        proof.tables.push(match &begun {
            Some(begun) => {
                begun
                    .done(lake, table, seen.files_read, seen.clean_at_version)
                    .await?
            }
            None => seen,
        });
    }
    proof.ended_at = Utc::now();
    pass(FailPoint::EraseBeforeProof)?;
    Ok(proof)
}

struct Eraser<'a> {
    lake: &'a Lake,
    table: TableName,
    subjects: &'a Subjects,
    options: &'a EraseOptions,
    erasure: Uuid,
    rewriter: Rewriter,
}

impl Eraser<'_> {
    /// What was looked at, and of a dry run what would go. `None`: no such table.
    async fn run(&self) -> Result<Option<TableErasure>, LakeError> {
        let mut done = TableErasure {
            table: self.table.to_string(),
            rows: 0,
            files_read: 0,
            replaced_files: Vec::new(),
            versions: Vec::new(),
            clean_at_version: -1,
        };
        // Files never change, so what is clean stays so.
        let mut clean: HashSet<String> = HashSet::new();
        for _ in 0..MAX_PASSES {
            let Some(snapshot) = self.lake.snapshot(self.table, None).await? else {
                return Ok(None);
            };
            let dirty = match self.dirty(&snapshot, &mut clean, &mut done).await {
                Ok(dirty) => dirty,
                // A file that vacuum took after somebody else's commit is looked for in vain.
                Err(error) if self.has_moved_on(&snapshot).await? => {
                    tracing::info!(table = %self.table, %error, "the table has changed meanwhile; looked at again");
                    continue;
                }
                Err(error) => return Err(error),
            };
            if dirty.is_empty() {
                done.clean_at_version = snapshot.version;
                return Ok(Some(done));
            }
            if self.options.dry_run {
                done.rows = dirty.iter().map(|(_, rows)| rows).sum();
                done.replaced_files = dirty.into_iter().map(|(file, _)| file.path).collect();
                done.clean_at_version = snapshot.version;
                return Ok(Some(done));
            }
            let mut by_partition: BTreeMap<TablePartition, Vec<DataFile>> = BTreeMap::new();
            for (file, _) in dirty {
                let partition = TablePartition::of(&snapshot.partition_columns, &file);
                by_partition.entry(partition).or_default().push(file);
            }
            for (partition, sources) in by_partition {
                self.partition(&snapshot, &partition, sources).await?;
            }
        }
        Err(LakeError::Unreachable {
            place: self.lake.table_place(self.table),
            detail: format!(
                "others changed it, or rows of these users came, during {MAX_PASSES} looks in a row: stop what sends them, or \
                 erase again later"
            ),
        })
    }

    /// The files that hold rows of the users, with how many. Those that hold none go into `clean`.
    async fn dirty(
        &self,
        snapshot: &TableSnapshot,
        clean: &mut HashSet<String>,
        done: &mut TableErasure,
    ) -> Result<Vec<(DataFile, u64)>, LakeError> {
        let mut dirty = Vec::new();
        for file in &snapshot.files {
            if clean.contains(&file.path) {
                continue;
            }
            let found = if may_hold(file, self.table, self.subjects) {
                let Rewriter { store, budget, .. } = &self.rewriter;
                count(
                    store,
                    self.table,
                    &file.path,
                    file.size_bytes,
                    self.subjects,
                    budget.batch_rows,
                )
                .await
                .map_err(|error| self.rewriter.read_error(&file.path, error))?
            } else {
                Found::RuledOut
            };
            if let Found::Rows(_) = found {
                done.files_read += 1;
            }
            match found {
                Found::Rows(rows) if rows > 0 => dirty.push((file.clone(), rows)),
                Found::Rows(_) | Found::RuledOut => {
                    clean.insert(file.path.clone());
                }
            }
        }
        Ok(dirty)
    }

    async fn has_moved_on(&self, snapshot: &TableSnapshot) -> Result<bool, LakeError> {
        let newest = self.lake.snapshot(self.table, None).await?;
        Ok(newest.is_some_and(|newest| newest.version != snapshot.version))
    }

    /// One commit, or none when somebody else was first: the next pass looks again.
    async fn partition(
        &self,
        snapshot: &TableSnapshot,
        partition: &TablePartition,
        sources: Vec<DataFile>,
    ) -> Result<(), LakeError> {
        pass(FailPoint::EraseBeforeRewrite)?;
        let batch_id = Uuid::new_v4();
        let schema = file_schema(&snapshot.schema, &snapshot.partition_columns);
        let mut adds = Vec::new();
        let (mut kept, mut erased) = (0, BTreeMap::<i32, Fingerprint>::new());
        for (number, source) in sources.iter().enumerate() {
            let rewritten = self
                .rewriter
                .rewrite(source, partition, &schema, self.subjects, batch_id, number)
                .await;
            match rewritten {
                Ok(rewritten) => {
                    adds.extend(rewritten.file);
                    kept += rewritten.kept_rows;
                    for (kafka_partition, rows) in rewritten.erased {
                        erased.entry(kafka_partition).or_default().merge(rows);
                    }
                }
                Err(error) => {
                    self.rewriter.remove(&adds).await;
                    // A source that vacuum took after somebody else's commit is not an error.
                    return match self.current(snapshot, partition, &sources).await {
                        Ok(None) => Ok(()),
                        Ok(Some(_)) | Err(_) => Err(error),
                    };
                }
            }
        }
        let Some(mut writer) = self.current(snapshot, partition, &sources).await? else {
            self.rewriter.remove(&adds).await;
            return Ok(());
        };
        let rows: u64 = erased.values().map(|erased| erased.rows).sum();
        let request = self.request(snapshot, partition, batch_id, sources, adds, kept, &erased);
        pass(FailPoint::EraseBeforeCommit)?;
        let mut failed = false;
        let outcome = loop_commit(&mut writer, &request, &mut failed).await?;
        pass(FailPoint::EraseAfterCommit)?;
        match outcome {
            CommitOutcome::Committed { version } => {
                tracing::info!(table = %self.table, %partition, rows, version, "erased");
            }
            CommitOutcome::Fenced { .. } | CommitOutcome::Conflict { .. } => {
                tracing::info!(table = %self.table, %partition, "somebody else changed the partition; looked at again");
                // After an unanswered try it may be our own commit that is in the way.
                if !failed {
                    self.rewriter.remove(&request.adds).await;
                }
            }
        }
        Ok(())
    }

    /// A writer at the newest version when the sources still are what they were.
    async fn current(
        &self,
        planned: &TableSnapshot,
        partition: &TablePartition,
        sources: &[DataFile],
    ) -> Result<Option<TableWriter>, LakeError> {
        let Some(newest) = self.lake.snapshot(self.table, None).await? else {
            return Ok(None);
        };
        let counter = |snapshot: &TableSnapshot| {
            let app_id = partition.maintenance_app_id();
            snapshot.transactions.get(&app_id).copied()
        };
        let files: HashSet<&str> = newest.files.iter().map(|file| file.path.as_str()).collect();
        let is_same = counter(planned) == counter(&newest)
            && planned.schema == newest.schema
            && sources.iter().all(|source| files.contains(source.path.as_str()));
        if !is_same {
            return Ok(None);
        }
        TableWriter::at_snapshot(self.lake, &newest).map(Some)
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one commit")]
    fn request(
        &self,
        snapshot: &TableSnapshot,
        partition: &TablePartition,
        batch_id: Uuid,
        removes: Vec<DataFile>,
        adds: Vec<NewFile>,
        kept: u64,
        erased: &BTreeMap<i32, Fingerprint>,
    ) -> CommitRequest {
        let app_id = partition.maintenance_app_id();
        let from = snapshot.transactions.get(&app_id).copied();
        let by_kafka_partition: Vec<_> = erased
            .iter()
            .map(|(kafka_partition, erased)| {
                json!({
                    "kafkaPartition": kafka_partition,
                    "rows": erased.rows,
                    "sum": format!("{:016x}", erased.sum),
                    "xor": format!("{:016x}", erased.xor),
                })
            })
            .collect();
        CommitRequest {
            batch_id,
            operation: OPERATION,
            steps: vec![TxnStep {
                app_id,
                from,
                to: from.unwrap_or(0) + 1,
            }],
            adds,
            info: json!({
                "kind": "erasure",
                "erasure": self.erasure.to_string(),
                "who": self.options.who,
                "partition": partition.to_string(),
                "rows": kept,
                "rowsRemoved": kept + erased.values().map(|erased| erased.rows).sum::<u64>(),
                "erased": by_kafka_partition,
            }),
            removes,
            data_change: true,
        }
    }
}
