//! Encodings, compression and statistics, chosen by column and by how long a file lives.

use std::sync::Arc;

use arrow::datatypes::Schema;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr, WriterVersion};
use parquet::schema::types::ColumnPath;

/// How long a file is expected to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Written by ingestion, soon rewritten: quick.
    Hot,
    /// Written by compaction, kept: small, with a bloom filter on `user_id`.
    Compacted,
}

/// Columns whose values hardly repeat: a dictionary would only be tried and thrown away.
const NEARLY_UNIQUE: &[&str] = &["device_id", "ip", "raw", "user_id"];
/// Integers that grow slowly from row to row.
const SLOWLY_GROWING: &[&str] = &[
    "event_time",
    "kafka_offset",
    "kafka_timestamp",
    "processed_timestamp",
    "timestamp",
    "raw_length",
];
/// The longest value that statistics keep, in bytes.
const STATISTICS_LENGTH: usize = 64;
/// Expected share of false answers of a bloom filter.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// The properties for files of these columns.
pub fn writer_properties(schema: &Schema, tier: Tier, expected_rows: u64) -> WriterPropertiesPtr {
    let level = match tier {
        Tier::Hot => 1,
        Tier::Compacted => 3,
    };
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(STATISTICS_LENGTH))
        .set_column_index_truncate_length(Some(STATISTICS_LENGTH))
        .set_created_by(concat!("loginlake ", env!("CARGO_PKG_VERSION")).to_owned());
    for field in schema.fields() {
        let column = ColumnPath::from(field.name().as_str());
        if NEARLY_UNIQUE.contains(&field.name().as_str()) {
            builder = builder
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::PLAIN);
        } else if SLOWLY_GROWING.contains(&field.name().as_str()) {
            builder = builder
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
    }
    if schema.field_with_name("user_id").is_ok() {
        let column = ColumnPath::from("user_id");
        builder = builder
            .set_column_bloom_filter_enabled(column.clone(), true)
            .set_column_bloom_filter_fpp(column.clone(), BLOOM_FALSE_POSITIVES)
            .set_column_bloom_filter_max_ndv(column, expected_rows.max(1));
    }
    Arc::new(builder.build())
}
