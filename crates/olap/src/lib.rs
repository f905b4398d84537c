//! The OLAP path as a library: what the binary `olap` and the demo run.
//!
//! - [`ingest`]: from the topic into the lake, exactly once;
//! - [`fresh`]: the table and exactly what the topic has beyond it, for queries;
//! - [`maintain`]: compaction, the batch view and vacuum on their schedules;
//! - [`shell`]: SQL at the terminal; [`serve`]: SQL files as an HTTP API;
//! - [`output`]: where results go: text, Parquet, files, charts;
//! - [`lineage`]: what the commands read and write, for whoever is told of it;
//! - [`stopped`]: signals of a command that only reads;
//! - [`setup`]: settings into the things that they describe, and errors into exit codes.

pub mod fresh;
pub mod ingest;
pub mod lineage;
pub mod maintain;
pub mod output;
pub mod serve;
pub mod setup;
pub mod shell;
pub mod stopped;
