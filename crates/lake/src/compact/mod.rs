//! Many small files of a table partition into few large sorted ones, the rows unchanged.
//!
//! In the order in which it happens:
//! - [`files`]: how the files of a table are: how many, how large, how many small ones;
//! - [`mod@plan`]: which files of which partitions are rewritten (pure);
//! - `budget`, `scan`, `sort`, `rewrite`: rows read, sorted in bounded memory and written;
//! - [`fingerprint`]: the proof that these are the same rows;
//! - [`mod@execute`]: a partition after the other rewritten, proved and committed;
//! - [`report`]: what is told meanwhile and at the end.
//!
//! Guarantee (invariant 8): a commit of compaction leaves the multiset of (`kafka_partition`, `kafka_offset`) of its
//! partition as it was. Of two maintainers that planned on the same version one wins, by a counter of the partition that
//! both move on; ingestion is never in the way. Whatever fails, the table is as before, and at the worst files lie about
//! that no version names, until [`mod@crate::vacuum`] takes them.

pub(crate) mod budget;
pub mod execute;
pub mod files;
pub mod fingerprint;
pub mod plan;
pub mod report;
mod rewrite;
pub(crate) mod scan;
mod sort;
pub(crate) mod text;

pub use execute::{ExecuteOptions, execute};
pub use files::{FileReport, PartitionFiles, file_report};
pub use fingerprint::Fingerprint;
pub use plan::{CompactOptions, CompactionPlan, PartitionPlan, plan};
pub use report::{CompactionEvent, CompactionReport, PartitionOutcome, PartitionReport, Progress};
