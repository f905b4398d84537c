//! Proves that a lake holds what it should (invariants 6 to 8), or says exactly what is wrong.
//!
//! In the order in which it happens:
//! - `log`, [`chain`]: the log, commit by commit: offsets follow each other, row counts add up (pure);
//! - [`positions`]: offsets in passes that fit the memory, and sets of them (pure);
//! - `window`: what was seen of the offsets of a Kafka partition (pure);
//! - `contents`: what rows say, as sums (pure);
//! - `records`: records of the topic as the rows that they should be;
//! - `files`: what the log names is there, and is as the log says;
//! - `side`, `pass`: what is kept of each Kafka partition, and what one pass sees, fed by many threads;
//! - `published`: between which offsets the speed path can be judged (pure);
//! - [`run`], `begin`: the passes, and what they are compared with: the topic, and what the speed path published;
//! - `verdict`: what of it is wrong, once erasures and gaps are taken off;
//! - [`report`]: what was found.
//!
//! Guarantee: every row of the pinned versions is read, and a position that is there twice, or where none may be, is found:
//! sets are exact, not samples or sums; what rows say is compared by a sum of 32 bits for each. Without the topic a gap of offsets cannot be told from a lost row, because gaps are
//! legal; what the log says of rows still has to add up. Nothing is written.

mod begin;
pub mod chain;
mod contents;
mod files;
mod log;
mod pass;
pub mod positions;
mod published;
mod records;
pub mod report;
pub mod run;
mod side;
mod verdict;
mod window;

pub use pass::Pass;
pub use published::{OutputFacts, PublishedRecord, SpeedPath};
pub use records::Records;
pub use report::{AuditReport, Comparison, Finding, HourDifference, PartitionSummary, What};
pub use run::{Audit, AuditOptions, TopicFacts};
pub use window::Output;
