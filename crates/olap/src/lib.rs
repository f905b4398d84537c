//! The OLAP path as a library: what the binary `olap` and the demo run.
//!
//! - [`ingest`]: from the topic into the lake, exactly once;
//! - [`fresh`]: the table and exactly what the topic has beyond it, for queries;
//! - [`maintain`]: compaction, the batch view and vacuum on their schedules;
//! - [`setup`]: settings into the things that they describe, and errors into exit codes.

pub mod fresh;
pub mod ingest;
pub mod maintain;
pub mod setup;
