//! Records of Kafka partitions into the tables `logins` and `rejected`, exactly once.
//!
//! In the order in which a record meets them:
//! - [`session`]: the partitions of this process and what it has buffered of them (pure);
//! - [`offsets`]: is it the next one of its partition? (pure)
//! - [`buffer`]: into Arrow columns, and full chunks of them into encoded row groups, in the background;
//! - [`gauge`]: the memory of all that waits;
//! - [`roll`], [`freshness`]: when is the batch closed? (pure)
//! - [`pipeline`]: the name of a topic's incarnation in the table, and where its partitions stand;
//! - [`gap`]: does the topic hold what the table needs next? What an operator may accept (pure);
//! - [`in_flight`]: a closed batch, its files put together;
//! - [`rejected`]: its rejected rows, as one file;
//! - [`commit`]: files, then `rejected`, then `logins`, each with the batch's offsets in the same Delta commit;
//! - [`tables`]: what that needs of the tables, as traits; the fence is in [`crate::table::commit`];
//! - [`fail_point`]: places where a test lets the process die.
//!
//! A process that dies anywhere in between loses nothing: what is not in the table's commit is read again from Kafka.

pub mod buffer;
pub mod commit;
pub mod fail_point;
pub mod freshness;
pub mod gap;
pub mod gauge;
pub mod in_flight;
pub mod offsets;
pub mod pipeline;
pub mod rejected;
pub mod roll;
pub mod session;
pub mod tables;

#[cfg(test)]
mod model;

pub use buffer::{Batch, BatchBuffer};
pub use commit::{BatchOutcome, Committer};
pub use fail_point::FailPoint;
pub use freshness::FreshnessController;
pub use gap::{GapRequest, TopicBounds};
pub use gauge::MemoryGauge;
pub use offsets::{BatchRanges, OffsetRange, Offsets, Verdict};
pub use pipeline::Pipeline;
pub use roll::{BatchSize, LateHold, RollPolicy, RollReason};
pub use session::{Rows, Session};
