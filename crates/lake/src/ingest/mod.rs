//! Records of Kafka partitions into the tables `logins` and `rejected`, exactly once.
//!
//! In the order in which a record meets them:
//! - [`offsets`]: is it the next one of its partition? (pure)
//! - [`buffer`]: into Arrow columns, and full chunks of them into encoded row groups, in the background;
//! - [`roll`]: when is the batch closed? (pure)
//! - [`pipeline`]: the name of a topic's incarnation in the table, and where its partitions stand;
//! - [`commit`]: files, then `rejected`, then `logins`, each with the batch's offsets in the same Delta commit.
//!
//! A process that dies anywhere in between loses nothing: what is not in the table's commit is read again from Kafka.

pub mod buffer;
pub mod commit;
pub mod offsets;
pub mod pipeline;
pub mod roll;

pub use buffer::{Batch, BatchBuffer, MemoryGauge};
pub use commit::{BatchOutcome, Committer};
pub use offsets::{BatchRanges, OffsetRange, Offsets, Verdict};
pub use pipeline::Pipeline;
pub use roll::{BatchSize, RollPolicy, RollReason};
