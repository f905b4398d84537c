//! The rows of a person out of the lake (invariant 9), safe beside ingestion and compaction.
//!
//! In the order in which it happens:
//! - [`subjects`]: whose rows, as ids or as their hashes;
//! - `begun`: that it began, noted in the lake, so that a run that dies is gone on with and proved whole;
//! - `find`: which files hold such rows: by statistics, bloom filters and at last the one column that names the user;
//! - `rewrite`: a file once more without them, proved by fingerprints;
//! - [`mod@execute`]: partition after partition committed, until a version holds none;
//! - [`proof`]: what was done, without naming the person;
//! - [`mod@verify`]: whether any file still holds such a row.
//!
//! Guarantee: the version that the proof names holds no row of these users, and at each version between, every other row is
//! there. A commit moves the maintenance counter of its table partition, so a compactor that read the old files cannot bring
//! rows back. Rows that ingestion commits after that version are new data. The bytes are gone once vacuum has removed
//! the replaced files: the log holds no value of a column that names a person ([`crate::file::stats`]). Logs that older
//! versions wrote hold the first characters of some ids until they are cleaned.

mod begun;
pub mod execute;
mod find;
pub mod proof;
mod rewrite;
pub mod subjects;
pub mod verify;

pub use execute::{EraseOptions, erase};
pub use proof::{ErasureProof, TableErasure};
pub use subjects::Subjects;
pub use verify::{Remains, verify};

use crate::table::TableName;

/// The tables whose rows name users. `logins_hourly` only counts; its refresh takes the touched dates anew.
pub const TABLES: [TableName; 2] = [TableName::Logins, TableName::Rejected];

/// The column in which a user is looked for.
fn user_column(table: TableName) -> &'static str {
    match table {
        TableName::Rejected => "raw",
        TableName::Logins | TableName::LoginsHourly => "user_id",
    }
}
