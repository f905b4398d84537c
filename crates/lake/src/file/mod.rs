//! Parquet files of the lake: encoded piece by piece in memory, put together and uploaded.
//!
//! - [`properties`]: encodings, compression and statistics, chosen by column;
//! - [`encode`]: rows into an encoded row group that waits, compressed, until its file is written;
//! - [`stats`]: the file's Delta statistics, from its Parquet metadata;
//! - [`upload`]: row groups into one file, and the file into the store;
//! - `stream`: a file of any size, written and uploaded while its rows come;
//! - `row_groups`: the same, its columns encoded next to each other;
//! - `parts`: bytes into an object while they come;
//! - `stored`: a file of the store, as Parquet's readers ask for it.

pub mod encode;
mod parts;
pub mod properties;
pub(crate) mod row_groups;
pub mod stats;
pub(crate) mod stored;
pub(crate) mod stream;
pub mod upload;
