//! The one way in which this software changes a table: a compare-and-set on `txn` actions, put-if-absent in the log.
//!
//! A [`CommitRequest`] says from which to which version each of its application ids goes. It is committed only while
//! every one of them still stands at its `from`, judged commit by commit: a writer that lost a race reads each winner
//! before it tries the next version (CORRECTNESS, OLAP path 4 to 6). So a zombie, however late, is [`CommitOutcome::Fenced`].
//!
//! When the store fails the outcome is unknown. Calling [`TableWriter::commit`] again with the *same* request is always
//! right: either the version is still free, or it is taken and carries our batch id, which means that we had succeeded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use deltalake_core::kernel::{Add, Remove};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde_json::{Value, json};
use uuid::Uuid;

use super::race::{self, CommitLog, LoggedCommit, MAX_RACES, Put, Unanswered};
use super::schema::{self, PartitionBy, TableSpec};
use super::snapshot::WithFiles;
use super::{DataFile, TableName, TableSnapshot, checkpoint, definition};
use crate::error::LakeError;
use crate::store::Lake;

/// A head older than this is loaded anew before a commit: the log may have been cleaned up behind it.
const HEAD_MAX_AGE: Duration = Duration::from_secs(600);
/// Name and version that each commit carries.
pub(super) const ENGINE: &str = concat!("loginlake/", env!("CARGO_PKG_VERSION"));

/// One step of an application id: the compare and the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnStep {
    /// The application id.
    pub app_id: String,
    /// The version at which the table must stand; `None`: it has none yet.
    pub from: Option<i64>,
    /// The version at which it stands after the commit.
    pub to: i64,
}

/// A file that was written and that the commit makes part of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Path relative to the table's folder.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When it was written, epoch milliseconds.
    pub modified_ms: i64,
    /// Partition column → value.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Number of rows.
    pub rows: u64,
    /// The Delta statistics as JSON.
    pub stats_json: String,
}

/// What a commit does.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// Tells this commit from all others, also after a lost reply.
    pub batch_id: Uuid,
    /// Delta's name of the operation (`STREAMING UPDATE`, `OPTIMIZE`, …).
    pub operation: &'static str,
    /// The compare-and-set. Must not be empty.
    pub steps: Vec<TxnStep>,
    /// Files that become part of the table.
    pub adds: Vec<NewFile>,
    /// Files that leave it.
    pub removes: Vec<DataFile>,
    /// False when the rows stay the same (compaction).
    pub data_change: bool,
    /// What `olap history` shows beside the operation.
    pub info: Value,
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is in the table.
    Committed {
        /// The Delta version that holds it.
        version: i64,
    },
    /// Somebody else moved an application id: nothing was committed, and this writer's batch is not to be used again.
    Fenced {
        /// The application id.
        app_id: String,
        /// Where the request wanted to find it.
        expected: Option<i64>,
        /// Where it stands.
        found: Option<i64>,
    },
    /// A file that the request removes, or the table's definition, was changed by another commit meanwhile.
    Conflict {
        /// What was changed, and by which version.
        detail: String,
    },
}

/// The end of a table's log, as far as a writer needs it.
#[derive(Clone, Debug)]
pub struct TableHead {
    /// The newest version seen.
    pub version: i64,
    /// `txn` actions: application id → version.
    pub transactions: BTreeMap<String, i64>,
    /// Partition columns of the table.
    pub partition_columns: Vec<String>,
}

/// Commits to one table. Not shared: a writer does one commit at a time.
#[derive(Debug)]
pub struct TableWriter {
    lake: Lake,
    table: TableName,
    store: Arc<dyn ObjectStore>,
    head: TableHead,
    loaded_at: Instant,
    unanswered: Unanswered,
}

impl TableWriter {
    /// Opens a table for writing, creates it when it is not there, and adds the columns that an older version of this
    /// software did not know.
    ///
    /// # Errors
    /// As [`TableWriter::open_or_create_as`].
    pub async fn open_or_create(
        lake: &Lake,
        table: TableName,
        partition_by: PartitionBy,
    ) -> Result<Self, LakeError> {
        Self::open_or_create_as(lake, &TableSpec::current(table, partition_by)).await
    }

    /// The same for a table of any columns: what another version of this software does.
    ///
    /// # Errors
    /// [`LakeError::Foreign`] when the folder holds another table, one that cannot be widened, or files without a log;
    /// [`LakeError::Configuration`] when the table holds other dates.
    pub async fn open_or_create_as(lake: &Lake, spec: &TableSpec) -> Result<Self, LakeError> {
        let snapshot = match definition::load_widened(lake, spec).await? {
            Some(snapshot) => snapshot,
            None => {
                definition::create(lake, spec).await?;
                definition::load_widened(lake, spec)
                    .await?
                    .ok_or_else(|| LakeError::Log {
                        place: lake.table_place(spec.table),
                        detail: "its log vanished right after it was created".to_owned(),
                    })?
            }
        };
        Self::at_snapshot(lake, &snapshot)
    }

    /// A writer whose head is exactly `snapshot`: every commit after it is judged one by one. For maintenance, whose
    /// requests come from a list of files.
    ///
    /// # Errors
    /// [`LakeError::Foreign`] when its columns are not the ones that this software writes.
    pub fn at_snapshot(lake: &Lake, snapshot: &TableSnapshot) -> Result<Self, LakeError> {
        let table = snapshot.table;
        let head = head_of(lake, snapshot)?;
        Ok(Self {
            lake: lake.clone(),
            table,
            store: lake.table_store(table),
            head,
            loaded_at: Instant::now(),
            unanswered: Unanswered::default(),
        })
    }

    /// The table.
    pub fn table(&self) -> TableName {
        self.table
    }

    /// The lake.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The table's folder as a store.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// The end of the log as last seen.
    pub fn head(&self) -> &TableHead {
        &self.head
    }

    /// Loads the end of the log anew.
    ///
    /// # Errors
    /// The store cannot be reached, or the table is gone.
    pub async fn reload(&mut self) -> Result<&TableHead, LakeError> {
        let head = load_head(&self.lake, self.table)
            .await?
            .ok_or_else(|| LakeError::Log {
                place: self.lake.table_place(self.table),
                detail: "the table was deleted while it was in use".to_owned(),
            })?;
        self.head = head;
        self.loaded_at = Instant::now();
        Ok(&self.head)
    }

    /// Commits, or says why not. After an error the outcome is unknown: call again with the same request.
    ///
    /// # Errors
    /// The store failed, or what it holds cannot be read.
    pub async fn commit(&mut self, request: &CommitRequest) -> Result<CommitOutcome, LakeError> {
        assert!(
            !request.steps.is_empty(),
            "a commit without a compare-and-set cannot be fenced"
        );
        if self.loaded_at.elapsed() > HEAD_MAX_AGE {
            let seen = self.head.version;
            self.reload().await?;
            // The request itself may be among what was loaded, when an earlier call was not answered.
            self.unanswered.may_be_from(request, seen + 1);
        }
        let log = StoreLog {
            store: self.store.as_ref(),
            place: self.lake.table_place(self.table),
            body: self.body(request)?,
        };
        let outcome = race::commit(&log, request, &mut self.head, &mut self.unanswered).await?;
        if let Some(CommitOutcome::Committed { version }) = outcome {
            self.maybe_checkpoint(version).await;
        }
        outcome.ok_or_else(|| LakeError::Unreachable {
            place: log.place,
            detail: format!("{MAX_RACES} other commits in a row were first"),
        })
    }

    /// The commit as lines of JSON, the same bytes for every attempt.
    fn body(&self, request: &CommitRequest) -> Result<Bytes, LakeError> {
        let now_ms = chrono::Utc::now().timestamp_millis();
        let mut lines = vec![json!({ "commitInfo": {
            "timestamp": now_ms,
            "operation": request.operation,
            "operationParameters": {},
            "isBlindAppend": request.removes.is_empty(),
            "engineInfo": ENGINE,
            "loginlake": { "batchId": request.batch_id.to_string(), "info": request.info },
        } })];
        for step in &request.steps {
            lines.push(json!({ "txn": { "appId": step.app_id, "version": step.to, "lastUpdated": now_ms } }));
        }
        for file in &request.removes {
            lines.push(remove_action(file, request.data_change, now_ms)?);
        }
        for file in &request.adds {
            lines.push(add_action(file, request.data_change)?);
        }
        Ok(join_lines(&lines))
    }

    /// A failed checkpoint is not a failed commit: the next one tries again.
    async fn maybe_checkpoint(&self, version: i64) {
        if !checkpoint::is_due(version) {
            return;
        }
        if let Err(error) = checkpoint::write(&self.lake, self.table, version).await {
            tracing::warn!(table = %self.table, version, %error, "delta checkpoint not written");
        }
    }
}

/// The log in the store, for one commit.
struct StoreLog<'a> {
    store: &'a dyn ObjectStore,
    place: String,
    body: Bytes,
}

impl CommitLog for StoreLog<'_> {
    async fn put_if_absent(&self, version: i64) -> Result<Put, LakeError> {
        put_commit(self.store, version, self.body.clone())
            .await
            .map_err(|error| LakeError::from_store(&self.place, error))
    }

    async fn read(&self, version: i64) -> Result<Option<LoggedCommit>, LakeError> {
        let bytes = match self.store.get(&commit_path(version)).await {
            Ok(result) => result
                .bytes()
                .await
                .map_err(|error| LakeError::from_store(&self.place, error))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(LakeError::from_store(&self.place, error)),
        };
        LoggedCommit::parse(&bytes)
            .map(Some)
            .map_err(|detail| LakeError::Log {
                place: self.place.clone(),
                detail: format!("version {version}: {detail}"),
            })
    }
}

async fn load_head(lake: &Lake, table: TableName) -> Result<Option<TableHead>, LakeError> {
    match lake.load_snapshot(table, None, WithFiles::No).await? {
        Some(snapshot) => head_of(lake, &snapshot).map(Some),
        None => Ok(None),
    }
}

fn head_of(lake: &Lake, snapshot: &TableSnapshot) -> Result<TableHead, LakeError> {
    schema::check_compatible(snapshot).map_err(|detail| LakeError::Foreign {
        place: lake.table_place(snapshot.table),
        detail,
    })?;
    Ok(TableHead {
        version: snapshot.version,
        transactions: snapshot.transactions.clone(),
        partition_columns: snapshot.partition_columns.clone(),
    })
}

pub(super) async fn put_commit(
    store: &dyn ObjectStore,
    version: i64,
    body: Bytes,
) -> Result<Put, object_store::Error> {
    let options = PutOptions {
        mode: PutMode::Create,
        ..Default::default()
    };
    match store.put_opts(&commit_path(version), body.into(), options).await {
        Ok(_) => Ok(Put::Done),
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            Ok(Put::Taken)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn commit_path(version: i64) -> Path {
    Path::from(format!("_delta_log/{version:020}.json"))
}

pub(super) fn join_lines(lines: &[Value]) -> Bytes {
    lines
        .iter()
        .map(Value::to_string)
        .collect::<Vec<_>>()
        .join("\n")
        .into()
}

fn add_action(file: &NewFile, data_change: bool) -> Result<Value, LakeError> {
    let add = Add {
        path: file.path.clone(),
        partition_values: file.partition_values.clone().into_iter().collect(),
        size: i64::try_from(file.size_bytes).unwrap_or(i64::MAX),
        modification_time: file.modified_ms,
        data_change,
        stats: Some(file.stats_json.clone()),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    };
    as_action("add", serde_json::to_value(add))
}

fn remove_action(file: &DataFile, data_change: bool, now_ms: i64) -> Result<Value, LakeError> {
    let remove = Remove {
        path: file.path.clone(),
        data_change,
        deletion_timestamp: Some(now_ms),
        extended_file_metadata: Some(true),
        partition_values: Some(file.partition_values.clone().into_iter().collect()),
        size: Some(i64::try_from(file.size_bytes).unwrap_or(i64::MAX)),
        ..Default::default()
    };
    as_action("remove", serde_json::to_value(remove))
}

/// Wraps an action by its name, without the fields that it does not have.
fn as_action(name: &str, value: Result<Value, serde_json::Error>) -> Result<Value, LakeError> {
    let mut value =
        value.map_err(|error| LakeError::Invariant(format!("cannot write a Delta action: {error}")))?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    Ok(json!({ name: value }))
}
