//! What committing a batch needs of the two tables, as small traits, and the real ones: two Delta tables in one store.
//!
//! The order of the steps ([`super::commit`]) is written against the traits, so that property tests drive the very same
//! code on tables in memory.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::error::LakeError;
use crate::file::upload::{AssembledFile, put_file};
use crate::table::TableName;
use crate::table::commit::{CommitOutcome, CommitRequest, NewFile, TableWriter};

/// A file that is ready to be stored.
pub trait StagedFile: Send + Sync {
    /// Where it goes inside its table; `number` tells the files of a batch apart.
    fn path(&self, batch_id: Uuid, number: usize) -> String;
    /// What a commit says about it, once it is stored at `path`.
    fn as_new_file(&self, path: String) -> NewFile;
}

/// The rejected rows of a batch.
pub trait RejectedRows<F>: Send + Sync {
    /// Those that are not below the offsets in `held` as one file, with the Kafka partitions that they came from. `None`:
    /// there are none.
    ///
    /// # Errors
    /// The rows cannot be encoded.
    fn file_without(&self, held: &BTreeMap<i32, i64>) -> Result<Option<(F, BTreeSet<i32>)>, LakeError>;
}

/// The tables `logins` and `rejected` of a lake.
pub trait Tables: Send {
    /// What is stored.
    type File: StagedFile;

    /// The `txn` actions of a table as last seen.
    fn transactions(&self, table: TableName) -> &BTreeMap<String, i64>;
    /// The newest version of a table that was seen.
    fn version(&self, table: TableName) -> i64;
    /// Looks at the end of a table's log anew.
    fn reload(&mut self, table: TableName) -> impl Future<Output = Result<(), LakeError>> + Send;
    /// Stores a file; again, after an error.
    fn upload(
        &mut self,
        table: TableName,
        path: &str,
        file: &Self::File,
    ) -> impl Future<Output = Result<(), LakeError>> + Send;
    /// Removes a file that no log names; one that cannot be removed stays until vacuum.
    fn remove(&mut self, table: TableName, path: &str) -> impl Future<Output = ()> + Send;
    /// Commits. After an error the outcome is unknown: again with the same request.
    fn commit(
        &mut self,
        table: TableName,
        request: &CommitRequest,
    ) -> impl Future<Output = Result<CommitOutcome, LakeError>> + Send;
}

/// The two Delta tables.
#[derive(Debug)]
pub struct StoreTables {
    pub(super) logins: TableWriter,
    pub(super) rejected: TableWriter,
}

impl StoreTables {
    fn writer(&self, table: TableName) -> &TableWriter {
        match table {
            TableName::Rejected => &self.rejected,
            _ => &self.logins,
        }
    }

    fn writer_mut(&mut self, table: TableName) -> &mut TableWriter {
        match table {
            TableName::Rejected => &mut self.rejected,
            _ => &mut self.logins,
        }
    }
}

impl Tables for StoreTables {
    type File = AssembledFile;

    fn transactions(&self, table: TableName) -> &BTreeMap<String, i64> {
        &self.writer(table).head().transactions
    }

    fn version(&self, table: TableName) -> i64 {
        self.writer(table).head().version
    }

    async fn reload(&mut self, table: TableName) -> Result<(), LakeError> {
        self.writer_mut(table).reload().await.map(|_| ())
    }

    async fn upload(&mut self, table: TableName, path: &str, file: &AssembledFile) -> Result<(), LakeError> {
        let writer = self.writer(table);
        let place = writer.lake().table_place(table);
        put_file(writer.store().as_ref(), &place, path, &file.bytes).await
    }

    async fn remove(&mut self, table: TableName, path: &str) {
        use object_store::ObjectStoreExt;
        let store = self.writer(table).store();
        if let Err(error) = store.delete(&object_store::path::Path::from(path)).await {
            tracing::debug!(path, %error, "file of an abandoned batch stays until vacuum");
        }
    }

    async fn commit(
        &mut self,
        table: TableName,
        request: &CommitRequest,
    ) -> Result<CommitOutcome, LakeError> {
        self.writer_mut(table).commit(request).await
    }
}

impl StagedFile for AssembledFile {
    fn path(&self, batch_id: Uuid, number: usize) -> String {
        AssembledFile::path(self, batch_id, number)
    }

    fn as_new_file(&self, path: String) -> NewFile {
        AssembledFile::as_new_file(self, path)
    }
}
