//! The two tables in memory: a log of versions and a set of stored files, with faults on request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use uuid::Uuid;

use crate::error::LakeError;
use crate::ingest::offsets::BatchRanges;
use crate::ingest::session::Rows;
use crate::ingest::tables::{RejectedRows, StagedFile, Tables};
use crate::table::TableName;
use crate::table::commit::{CommitOutcome, CommitRequest, NewFile, TableHead};
use crate::table::race::{self, CommitLog, LoggedCommit, Put, Unanswered};

/// Partition and offset in the topic.
pub type Position = (i32, i64);

/// What goes wrong with one request to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never gets there.
    NotSent,
    /// It is done, and the reply is lost.
    ReplyLost,
    /// It gets there later, after its sender has given it up.
    Delayed,
}

/// A version of a table.
#[derive(Clone, Debug)]
pub struct Version {
    pub commit: LoggedCommit,
    pub request: CommitRequest,
}

/// A table in memory.
#[derive(Debug, Default)]
pub struct Table {
    pub versions: Vec<Version>,
    pub stored: BTreeMap<String, Vec<Position>>,
    /// Puts that are still on their way, as which version.
    delayed: Vec<(usize, Version)>,
}

/// Both tables, as all processes see them.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<BTreeMap<&'static str, Table>>>);

impl Shared {
    /// A look at, or a change of, one table.
    pub fn with<T>(&self, table: TableName, look: impl FnOnce(&mut Table) -> T) -> T {
        let mut tables: MutexGuard<'_, _> = self.0.lock().unwrap();
        look(tables.entry(table.as_str()).or_default())
    }

    /// Puts that were on their way arrive.
    pub fn deliver_delayed(&self) {
        for table in [TableName::Logins, TableName::Rejected] {
            self.with(table, |table| {
                for (number, version) in std::mem::take(&mut table.delayed) {
                    if table.versions.len() == number {
                        table.versions.push(version);
                    }
                }
            });
        }
    }

    /// A commit of somebody else who moves no offsets.
    pub fn commit_foreign(&self, batch_id: Uuid, changes_definition: bool) {
        let request = CommitRequest {
            batch_id,
            operation: "OTHER",
            steps: Vec::new(),
            adds: Vec::new(),
            removes: Vec::new(),
            data_change: false,
            info: serde_json::Value::Null,
        };
        let commit = LoggedCommit {
            batch_id: Some(batch_id),
            changes_definition,
            ..LoggedCommit::default()
        };
        self.with(TableName::Logins, |table| {
            table.versions.push(Version { commit, request });
        });
    }

    fn head(&self, table: TableName) -> TableHead {
        self.with(table, |table| TableHead {
            version: table.versions.len() as i64 - 1,
            transactions: transactions(&table.versions),
            partition_columns: Vec::new(),
        })
    }
}

/// What the `txn` actions of versions come to.
pub fn transactions(versions: &[Version]) -> BTreeMap<String, i64> {
    let all = versions.iter().flat_map(|version| &version.commit.transactions);
    all.cloned().collect()
}

/// The tables as one process sees them.
#[derive(Debug)]
pub struct ModelTables {
    shared: Shared,
    logins: (TableHead, Unanswered),
    rejected: (TableHead, Unanswered),
    faults: Arc<Mutex<Option<(u32, Fault)>>>,
}

impl ModelTables {
    pub fn open(shared: &Shared) -> Self {
        Self {
            shared: shared.clone(),
            logins: (shared.head(TableName::Logins), Unanswered::default()),
            rejected: (shared.head(TableName::Rejected), Unanswered::default()),
            faults: Arc::default(),
        }
    }

    /// The fault that this process's requests meet: the `n`-th from now on, or none.
    pub fn faults(&self) -> Arc<Mutex<Option<(u32, Fault)>>> {
        Arc::clone(&self.faults)
    }

    fn fault(&self) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        match &mut *faults {
            Some((0, fault)) => {
                let fault = *fault;
                *faults = None;
                Some(fault)
            }
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }

    /// A request that only reads, or that may be done twice.
    fn request(&self, done: impl FnOnce()) -> Result<(), LakeError> {
        match self.fault() {
            None => {
                done();
                Ok(())
            }
            Some(Fault::NotSent) => Err(no_answer()),
            Some(Fault::ReplyLost | Fault::Delayed) => {
                done();
                Err(no_answer())
            }
        }
    }

    fn known(&self, table: TableName) -> &(TableHead, Unanswered) {
        match table {
            TableName::Rejected => &self.rejected,
            _ => &self.logins,
        }
    }

    fn known_mut(&mut self, table: TableName) -> &mut (TableHead, Unanswered) {
        match table {
            TableName::Rejected => &mut self.rejected,
            _ => &mut self.logins,
        }
    }
}

fn no_answer() -> LakeError {
    LakeError::Unreachable {
        place: "the model".to_owned(),
        detail: "no answer".to_owned(),
    }
}

/// The log in memory, for one commit.
struct ModelLog<'a> {
    tables: &'a ModelTables,
    table: TableName,
    request: &'a CommitRequest,
}

impl CommitLog for ModelLog<'_> {
    async fn put_if_absent(&self, version: i64) -> Result<Put, LakeError> {
        let number = usize::try_from(version).unwrap();
        let fault = self.tables.fault();
        let new = Version {
            commit: LoggedCommit {
                batch_id: Some(self.request.batch_id),
                transactions: self
                    .request
                    .steps
                    .iter()
                    .map(|step| (step.app_id.clone(), step.to))
                    .collect(),
                ..LoggedCommit::default()
            },
            request: self.request.clone(),
        };
        self.tables.shared.with(self.table, |table| match fault {
            Some(Fault::NotSent) => Err(no_answer()),
            Some(Fault::Delayed) => {
                table.delayed.push((number, new));
                Err(no_answer())
            }
            None | Some(Fault::ReplyLost) => {
                let put = if table.versions.len() == number {
                    table.versions.push(new);
                    Put::Done
                } else {
                    assert!(table.versions.len() > number, "a version is left out");
                    Put::Taken
                };
                if fault.is_some() {
                    Err(no_answer())
                } else {
                    Ok(put)
                }
            }
        })
    }

    async fn read(&self, version: i64) -> Result<Option<LoggedCommit>, LakeError> {
        self.tables.request(|| {})?;
        let number = usize::try_from(version).unwrap();
        Ok(self.tables.shared.with(self.table, |table| {
            table.versions.get(number).map(|version| version.commit.clone())
        }))
    }
}

impl Tables for ModelTables {
    type File = ModelFile;

    fn transactions(&self, table: TableName) -> &BTreeMap<String, i64> {
        &self.known(table).0.transactions
    }

    fn version(&self, table: TableName) -> i64 {
        self.known(table).0.version
    }

    async fn reload(&mut self, table: TableName) -> Result<(), LakeError> {
        self.request(|| {})?;
        self.known_mut(table).0 = self.shared.head(table);
        Ok(())
    }

    async fn upload(&mut self, table: TableName, path: &str, file: &ModelFile) -> Result<(), LakeError> {
        self.request(|| {
            self.shared.with(table, |table| {
                table.stored.insert(path.to_owned(), file.0.clone());
            });
        })
    }

    async fn remove(&mut self, table: TableName, path: &str) {
        let _ = self.request(|| {
            self.shared.with(table, |table| table.stored.remove(path));
        });
    }

    async fn commit(
        &mut self,
        table: TableName,
        request: &CommitRequest,
    ) -> Result<CommitOutcome, LakeError> {
        let (mut head, mut unanswered) = self.known(table).clone();
        let log = ModelLog {
            tables: self,
            table,
            request,
        };
        let outcome = race::commit(&log, request, &mut head, &mut unanswered).await;
        *self.known_mut(table) = (head, unanswered);
        Ok(outcome?.expect("a few versions only"))
    }
}

/// A file's rows.
#[derive(Clone, Debug)]
pub struct ModelFile(Vec<Position>);

impl StagedFile for ModelFile {
    fn path(&self, batch_id: Uuid, number: usize) -> String {
        format!("part-{batch_id}-{number}")
    }

    fn as_new_file(&self, path: String) -> NewFile {
        NewFile {
            path,
            size_bytes: 1,
            modified_ms: 0,
            partition_values: BTreeMap::new(),
            rows: self.0.len() as u64,
            stats_json: String::new(),
        }
    }
}

/// Rejected rows in a list.
pub struct ModelRejected(Vec<Position>);

impl RejectedRows<ModelFile> for ModelRejected {
    fn file_without(
        &self,
        held: &BTreeMap<i32, i64>,
    ) -> Result<Option<(ModelFile, BTreeSet<i32>)>, LakeError> {
        let is_new = |(partition, offset): &&Position| held.get(partition).is_none_or(|held| offset >= held);
        let rows: Vec<Position> = self.0.iter().filter(is_new).copied().collect();
        let moved = rows.iter().map(|(partition, _)| *partition).collect();
        Ok((!rows.is_empty()).then_some((ModelFile(rows), moved)))
    }
}

/// Rows of a batch in lists.
#[derive(Debug, Default)]
pub struct ListRows {
    pub good: Vec<Position>,
    pub bad: Vec<Position>,
}

/// A closed batch.
pub struct ListBatch {
    pub ranges: BatchRanges,
    rows: ListRows,
}

impl ListBatch {
    /// The good rows in two files, as of two table partitions, and the rejected ones.
    pub fn into_parts(self) -> (Vec<ModelFile>, Option<ModelRejected>) {
        let (even, odd): (Vec<_>, Vec<_>) = self
            .rows
            .good
            .into_iter()
            .partition(|(_, offset)| offset % 2 == 0);
        let files = [even, odd].into_iter().filter(|rows| !rows.is_empty());
        let rejected = (!self.rows.bad.is_empty()).then_some(ModelRejected(self.rows.bad));
        (files.map(ModelFile).collect(), rejected)
    }
}

impl Rows for ListRows {
    type Batch = ListBatch;

    fn drop_kafka_partitions(&mut self, leaving: &BTreeSet<i32>) -> Result<(), LakeError> {
        self.good.retain(|(partition, _)| !leaving.contains(partition));
        self.bad.retain(|(partition, _)| !leaving.contains(partition));
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn close(&mut self, ranges: BatchRanges) -> ListBatch {
        ListBatch {
            ranges,
            rows: std::mem::take(self),
        }
    }
}
