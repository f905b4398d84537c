//! The lake: login events as Delta tables of partitioned Parquet, on a local directory or an S3-compatible store.
//!
//! In the order in which a record meets them:
//! - [`store`]: where the lake is, and the object store that holds it;
//! - [`table`]: one Delta table: its schema, a pinned snapshot of it, and the one commit protocol that every writer uses;
//! - [`mod@file`]: rows into Parquet, encoded in memory and uploaded;
//! - [`ingest`]: records of Kafka partitions into batches, files and commits, exactly once;
//! - [`compact`]: many small files of a table partition into few sorted ones, the rows unchanged;
//! - [`erase`]: the rows of a person out of every file;
//! - [`hourly`]: the batch view `logins_hourly`, counted from `logins`;
//! - [`lease`]: one maintainer at a time;
//! - [`restore`]: a table back to an older state, its offsets with it;
//! - [`vacuum`]: files that no version needs any more, removed;
//! - [`audit`]: the proof that all of this holds;
//! - `probe`: does the store do what commits rest on;
//! - [`history`]: who did what to a table, from its log.
//!
//! Guarantee: at every version of `logins`, for each Kafka partition, the rows below the committed offset are there
//! exactly once and none above (invariants 6 and 7; the offsets are `txn` actions of the same commit as the rows).

pub mod audit;
pub mod compact;
pub mod erase;
mod error;
pub mod file;
pub mod history;
pub mod hourly;
pub mod ingest;
pub mod lease;
mod probe;
pub mod restore;
pub mod store;
pub mod table;
pub mod vacuum;

pub use error::LakeError;
pub use probe::StoreProbe;
pub use store::{Lake, StoreOptions};
pub use table::{DataFile, TableName, TablePartition, TableSnapshot};
