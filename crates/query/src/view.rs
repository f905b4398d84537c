//! Which state of the lake a query sees: the newest versions, those of a time or of an earlier answer, or a version and the
//! records of the topic that it does not hold (`--fresh`).
//!
//! A [`Tail`] is that rest: exactly the records `[o, h)` of each Kafka partition, decoded as ingestion would. It is given
//! from outside; this crate knows nothing of Kafka. It can be read any number of times and gives the same rows each time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use loginlake_lake::{TableName, TableSnapshot};

/// The state of the lake that an engine shows.
#[derive(Debug, Default)]
pub enum View {
    /// Each table's newest version, when it is first named.
    #[default]
    Newest,
    /// `logins` at this version; another table at its newest version that was committed no later than that one.
    LoginsVersion(i64),
    /// Each table at its newest version that was committed no later, by the clocks of the writers; epoch milliseconds.
    Time(i64),
    /// These versions; `None` is a table that was not there. Other tables cannot be named.
    Versions(BTreeMap<TableName, Option<i64>>),
    /// Pinned versions and what comes after them.
    Fresh(FreshView),
}

/// Tables at pinned versions, and the rest of the topic. Other tables cannot be named.
#[derive(Debug)]
pub struct FreshView {
    /// The tables, with their files; `None` is a table that is not there.
    pub snapshots: BTreeMap<TableName, Option<TableSnapshot>>,
    /// What they do not hold.
    pub tail: Arc<dyn Tail>,
}

/// The records of a topic that the pinned versions do not hold.
pub trait Tail: fmt::Debug + Send + Sync {
    /// Into how many parts the rest of a table is cut, which are read at the same time; 0: there is none.
    fn parts(&self, table: TableName) -> usize;

    /// Reads one part, blocking, as far as it is needed. A batch holds at least the columns of `need`, by name, or has only
    /// its number of rows when there are none. Ends early, without an error, when `sink` returns false.
    ///
    /// # Errors
    /// The records cannot be read: then the rows given so far are not all.
    fn read(
        &self,
        table: TableName,
        part: usize,
        need: &TailNeed,
        sink: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<(), TailError>;
}

/// What a scan needs of the rest of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailNeed {
    /// The columns.
    pub columns: Vec<String>,
    /// Rows outside of these times are of no use. They may be given all the same.
    pub times: TimeBounds,
}

/// The times that a row has to have to be of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeBounds {
    /// Of `event_time`.
    pub event: TimeRange,
    /// Of `kafka_timestamp`; a row that has none is of no use then. `None`: any, and none.
    pub kafka: Option<TimeRange>,
}

/// Both ends belong to it, epoch microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// The first time.
    pub from_us: i64,
    /// The last one; before the first one when no time will do.
    pub to_us: i64,
}

impl Default for TimeRange {
    fn default() -> Self {
        Self {
            from_us: i64::MIN,
            to_us: i64::MAX,
        }
    }
}

impl TimeRange {
    /// Whether a time belongs to it.
    pub fn has(self, us: i64) -> bool {
        (self.from_us..=self.to_us).contains(&us)
    }

    /// Whether no time belongs to it.
    pub fn is_empty(self) -> bool {
        self.from_us > self.to_us
    }

    fn and(self, other: Self) -> Self {
        Self {
            from_us: self.from_us.max(other.from_us),
            to_us: self.to_us.min(other.to_us),
        }
    }

    fn or(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self {
                from_us: self.from_us.min(other.from_us),
                to_us: self.to_us.max(other.to_us),
            },
        }
    }
}

impl TimeBounds {
    /// Of rows that keep both.
    pub fn and(self, other: Self) -> Self {
        let kafka = match (self.kafka, other.kafka) {
            (Some(one), Some(other)) => Some(one.and(other)),
            (one, other) => one.or(other),
        };
        Self {
            event: self.event.and(other.event),
            kafka,
        }
    }

    /// Of rows that keep at least one of both.
    pub fn or(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        Self {
            event: self.event.or(other.event),
            kafka: self.kafka.zip(other.kafka).map(|(one, other)| one.or(other)),
        }
    }

    /// Whether no row is of use.
    pub fn is_empty(self) -> bool {
        self.event.is_empty() || self.kafka.is_some_and(TimeRange::is_empty)
    }
}

/// Why the rest of a topic cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TailError {
    /// One line: what, where, what to do.
    pub message: String,
    /// The records are gone, so that any answer would lack some; otherwise the same query may succeed later.
    pub is_gone: bool,
}

/// What is known of a table that a query has named, without reading its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableFacts {
    /// The table.
    pub table: TableName,
    /// Its pinned version; `None`: it is not there.
    pub version: Option<i64>,
    /// Its rows; `None` when its log does not say it of each file.
    pub rows: Option<u64>,
    /// The newest `event_time`, epoch milliseconds; `None` when it has no such column, no row, or the log does not say it.
    pub newest_event_ms: Option<i64>,
    /// Stands for the names of its files, in any order. It tells a table from one that was made anew and has the same version;
    /// only to be compared within one build of this software.
    pub files_hash: u64,
}
