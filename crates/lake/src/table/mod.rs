//! One Delta table of the lake.
//!
//! - [`schema`]: the three tables' columns and how they are created or recognised;
//! - [`snapshot`]: a version of a table, pinned: its files, schema and `txn` offsets;
//! - `by_time`: which version stood at a time;
//! - [`partition`]: a partition of it, the unit of maintenance;
//! - [`commit`]: the one way in which this software changes a table: a compare-and-set on the offsets;
//! - `definition`: how a table begins, and how it gets columns that a newer version adds;
//! - `race`: who is first, and the fence in it (pure);
//! - [`checkpoint`]: summaries of the log, so that it opens quickly however long it is;
//! - [`log_cleanup`]: what of the log no retained version needs, removed.

mod by_time;
pub mod checkpoint;
pub mod commit;
mod definition;
pub mod log_cleanup;
pub mod partition;
pub(crate) mod race;
pub mod schema;
pub mod snapshot;

pub use partition::TablePartition;
pub use snapshot::{DataFile, TableSnapshot};

/// The tables of a lake, each a folder below its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableName {
    /// Accepted login events, partitioned by `login_date`.
    Logins,
    /// Rejected records with their reason and bytes.
    Rejected,
    /// Logins counted by hour and dimensions, derived from `logins`.
    LoginsHourly,
}

impl TableName {
    /// All tables.
    pub const ALL: [TableName; 3] = [TableName::Logins, TableName::Rejected, TableName::LoginsHourly];

    /// The name in SQL and of the folder.
    pub const fn as_str(self) -> &'static str {
        match self {
            TableName::Logins => "logins",
            TableName::Rejected => "rejected",
            TableName::LoginsHourly => "logins_hourly",
        }
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
