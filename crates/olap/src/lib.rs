//! The OLAP path as a library: what the binary `olap` and the demo run.
//!
//! - [`ingest`]: from the topic into the lake, exactly once;
//! - [`setup`]: settings into the things that they describe, and errors into exit codes.

pub mod ingest;
pub mod setup;
