//! Parquet files of the lake: encoded piece by piece in memory, put together and uploaded.
//!
//! - [`properties`]: encodings, compression and statistics, chosen by column;
//! - [`encode`]: rows into an encoded row group that waits, compressed, until its file is written;
//! - [`stats`]: the file's Delta statistics, from its Parquet metadata;
//! - [`upload`]: row groups into one file, and the file into the store;
//! - `stream`: a file of any size, written and uploaded while its rows come.

pub mod encode;
pub mod properties;
pub mod stats;
pub(crate) mod stream;
pub mod upload;
