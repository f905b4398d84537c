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

use super::schema::{self, PartitionBy};
use super::snapshot::WithFiles;
use super::{DataFile, TableName, TableSnapshot, checkpoint};
use crate::error::LakeError;
use crate::store::Lake;

/// A head older than this is loaded anew before a commit: the log may have been cleaned up behind it.
const HEAD_MAX_AGE: Duration = Duration::from_secs(600);
/// Races lost in a row before a commit gives the store a rest and reports it as retriable.
const MAX_RACES: usize = 1_000;
/// Name and version that each commit carries.
const ENGINE: &str = concat!("loginlake/", env!("CARGO_PKG_VERSION"));

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
}

impl TableWriter {
    /// Opens a table for writing, and creates it when it is not there.
    ///
    /// # Errors
    /// [`LakeError::Foreign`] when the folder holds another table, or files without a log.
    pub async fn open_or_create(
        lake: &Lake,
        table: TableName,
        partition_by: PartitionBy,
    ) -> Result<Self, LakeError> {
        if let Some(writer) = Self::open(lake, table).await? {
            return Ok(writer);
        }
        create(lake, table, partition_by).await?;
        Self::open(lake, table).await?.ok_or_else(|| LakeError::Log {
            place: lake.table_place(table),
            detail: "its log vanished right after it was created".to_owned(),
        })
    }

    /// Opens an existing table for writing; `None` when there is none.
    ///
    /// # Errors
    /// [`LakeError::Foreign`] when its columns are not the ones that this software writes.
    pub async fn open(lake: &Lake, table: TableName) -> Result<Option<Self>, LakeError> {
        let Some(head) = load_head(lake, table).await? else {
            return Ok(None);
        };
        let store = lake.table_store(table);
        Ok(Some(Self {
            lake: lake.clone(),
            table,
            store,
            head,
            loaded_at: Instant::now(),
        }))
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
            if let Some(version) = self.find_batch(request.batch_id, seen + 1).await? {
                return Ok(CommitOutcome::Committed { version });
            }
        }
        let body = self.body(request)?;
        for _ in 0..MAX_RACES {
            if let Some(fenced) = self.fence(request) {
                return Ok(fenced);
            }
            let version = self.head.version + 1;
            match self.put_if_absent(version, body.clone()).await? {
                Put::Done => {
                    self.apply_own(request, version);
                    self.maybe_checkpoint(version).await;
                    return Ok(CommitOutcome::Committed { version });
                }
                Put::Taken => {
                    let Some(winner) = self.read_commit(version).await? else {
                        // S3 may refuse a put because of a concurrent one that then fails itself.
                        continue;
                    };
                    if winner.batch_id == Some(request.batch_id) {
                        self.apply_own(request, version);
                        return Ok(CommitOutcome::Committed { version });
                    }
                    if let Some(conflict) = winner.conflict_with(request, version) {
                        self.apply(&winner, version);
                        return Ok(conflict);
                    }
                    self.apply(&winner, version);
                }
            }
        }
        Err(LakeError::Unreachable {
            place: self.lake.table_place(self.table),
            detail: format!("{MAX_RACES} other commits in a row were first"),
        })
    }

    /// The first step whose application id does not stand where the request needs it.
    fn fence(&self, request: &CommitRequest) -> Option<CommitOutcome> {
        request.steps.iter().find_map(|step| {
            let found = self.head.transactions.get(&step.app_id).copied();
            (found != step.from).then(|| CommitOutcome::Fenced {
                app_id: step.app_id.clone(),
                expected: step.from,
                found,
            })
        })
    }

    fn apply_own(&mut self, request: &CommitRequest, version: i64) {
        for step in &request.steps {
            self.head.transactions.insert(step.app_id.clone(), step.to);
        }
        self.head.version = version;
    }

    fn apply(&mut self, winner: &Winner, version: i64) {
        for (app_id, txn_version) in &winner.transactions {
            self.head.transactions.insert(app_id.clone(), *txn_version);
        }
        self.head.version = version;
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

    async fn put_if_absent(&self, version: i64, body: Bytes) -> Result<Put, LakeError> {
        put_commit(self.store.as_ref(), version, body)
            .await
            .map_err(|error| LakeError::from_store(&self.lake.table_place(self.table), error))
    }

    /// What a commit of somebody else did, as far as it can matter here. `None`: no such version.
    async fn read_commit(&self, version: i64) -> Result<Option<Winner>, LakeError> {
        let place = || self.lake.table_place(self.table);
        let bytes = match self.store.get(&commit_path(version)).await {
            Ok(result) => result
                .bytes()
                .await
                .map_err(|error| LakeError::from_store(&place(), error))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(LakeError::from_store(&place(), error)),
        };
        Winner::parse(&bytes).map(Some).map_err(|detail| LakeError::Log {
            place: place(),
            detail: format!("version {version}: {detail}"),
        })
    }

    /// Looks for a batch among the commits from a version on: none of its calls can have reached an earlier one.
    async fn find_batch(&self, batch_id: Uuid, from_version: i64) -> Result<Option<i64>, LakeError> {
        for version in from_version..=self.head.version {
            let commit = self.read_commit(version).await?;
            if commit.is_some_and(|commit| commit.batch_id == Some(batch_id)) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// A failed checkpoint is not a failed commit: the next one tries again.
    async fn maybe_checkpoint(&self, version: i64) {
        if version % checkpoint::INTERVAL_VERSIONS != 0 {
            return;
        }
        if let Err(error) = checkpoint::write(&self.lake, self.table, version).await {
            tracing::warn!(table = %self.table, version, %error, "delta checkpoint not written");
        }
    }
}

enum Put {
    Done,
    Taken,
}

/// Another writer's commit.
struct Winner {
    batch_id: Option<Uuid>,
    transactions: Vec<(String, i64)>,
    removed_paths: Vec<String>,
    changes_definition: bool,
}

impl Winner {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut winner = Winner {
            batch_id: None,
            transactions: Vec::new(),
            removed_paths: Vec::new(),
            changes_definition: false,
        };
        for line in bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
        {
            let action: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            if let Some(txn) = action.get("txn") {
                let app_id = txn["appId"].as_str().ok_or("a txn action without appId")?;
                let version = txn["version"].as_i64().ok_or("a txn action without version")?;
                winner.transactions.push((app_id.to_owned(), version));
            } else if let Some(remove) = action.get("remove") {
                let path = remove["path"].as_str().ok_or("a remove action without path")?;
                winner.removed_paths.push(
                    percent_encoding::percent_decode_str(path)
                        .decode_utf8_lossy()
                        .into_owned(),
                );
            } else if let Some(info) = action.get("commitInfo") {
                winner.batch_id = info["loginlake"]["batchId"]
                    .as_str()
                    .and_then(|id| Uuid::parse_str(id).ok());
            } else if action.get("metaData").is_some() || action.get("protocol").is_some() {
                winner.changes_definition = true;
            }
        }
        Ok(winner)
    }

    fn conflict_with(&self, request: &CommitRequest, version: i64) -> Option<CommitOutcome> {
        if self.changes_definition {
            let detail = format!("version {version} changed the table's definition");
            return Some(CommitOutcome::Conflict { detail });
        }
        for step in &request.steps {
            if let Some((_, found)) = self
                .transactions
                .iter()
                .find(|(app_id, _)| *app_id == step.app_id)
            {
                return Some(CommitOutcome::Fenced {
                    app_id: step.app_id.clone(),
                    expected: step.from,
                    found: Some(*found),
                });
            }
        }
        let removed = request
            .removes
            .iter()
            .find(|file| self.removed_paths.contains(&file.path))?;
        Some(CommitOutcome::Conflict {
            detail: format!("version {version} removed {}", removed.path),
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
    schema::check_compatible(snapshot.table, &snapshot.schema).map_err(|detail| LakeError::Foreign {
        place: lake.table_place(snapshot.table),
        detail,
    })?;
    Ok(TableHead {
        version: snapshot.version,
        transactions: snapshot.transactions.clone(),
        partition_columns: snapshot.partition_columns.clone(),
    })
}

/// Creates the table as version 0. Losing the race against another creator is fine.
async fn create(lake: &Lake, table: TableName, partition_by: PartitionBy) -> Result<(), LakeError> {
    let place = lake.table_place(table);
    let store = lake.table_store(table);
    refuse_foreign_files(lake, table, store.as_ref()).await?;
    let now_ms = chrono::Utc::now().timestamp_millis();
    let mut lines = vec![json!({ "commitInfo": {
        "timestamp": now_ms, "operation": "CREATE TABLE", "operationParameters": {}, "engineInfo": ENGINE,
    } })];
    lines.extend(schema::creation_actions(table, partition_by, now_ms)?);
    match put_commit(store.as_ref(), 0, join_lines(&lines)).await {
        Ok(Put::Done) => {
            tracing::info!(%table, lake = lake.uri(), "table created");
            Ok(())
        }
        Ok(Put::Taken) => Ok(()),
        Err(error) => Err(LakeError::from_store(&place, error)),
    }
}

/// A folder with files but without a log is somebody else's.
async fn refuse_foreign_files(
    lake: &Lake,
    table: TableName,
    store: &dyn ObjectStore,
) -> Result<(), LakeError> {
    use futures::StreamExt;
    let mut listing = store.list(None);
    match listing.next().await {
        None | Some(Err(object_store::Error::NotFound { .. })) => Ok(()),
        // Another creator was quicker.
        Some(Ok(object)) if object.location.as_ref().starts_with("_delta_log/") => Ok(()),
        Some(Ok(object)) => Err(LakeError::Foreign {
            place: lake.table_place(table),
            detail: format!("its folder holds {} but no Delta log", object.location),
        }),
        Some(Err(error)) => Err(LakeError::from_store(&lake.table_place(table), error)),
    }
}

async fn put_commit(store: &dyn ObjectStore, version: i64, body: Bytes) -> Result<Put, object_store::Error> {
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

fn join_lines(lines: &[Value]) -> Bytes {
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
