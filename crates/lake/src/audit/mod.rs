//! Proves that a lake holds what it should (invariants 6 to 8), or says exactly what is wrong.
//!
//! In the order in which it happens:
//! - `log`, [`chain`]: the log, commit by commit: offsets follow each other, row counts add up (pure);
//! - [`positions`]: which (partition, offset) were seen, one bit each, in passes that fit the memory (pure);
//! - `files`: what the log names is there, and is as the log says;
//! - `pass`: what is kept of each Kafka partition, and what one pass sees;
//! - [`run`]: the passes, and what they are compared with: the topic, and what the speed path published;
//! - `verdict`: what of it is wrong, once erasures and gaps are taken off;
//! - [`report`]: what was found.
//!
//! Guarantee: every row of the pinned versions is read, and a position that is there twice, or where none may be, is found:
//! sets are exact, not samples or sums. Without the topic a gap of offsets cannot be told from a lost row, because gaps are
//! legal; what the log says of rows still has to add up. Nothing is written.

pub mod chain;
mod files;
mod log;
mod pass;
pub mod positions;
pub mod report;
pub mod run;
mod verdict;

pub use pass::Pass;
pub use report::{AuditReport, Finding, PartitionSummary, What};
pub use run::{Audit, AuditOptions, TopicFacts};
