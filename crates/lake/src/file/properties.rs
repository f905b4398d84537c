//! Encodings, compression and statistics, chosen by column and by how long a file lives, by measurement:
//! `bench/peers/table.py columns` shows the bytes of each column.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterPropertiesPtr, WriterVersion,
};
use parquet::schema::types::ColumnPath;

/// How long a file is expected to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Written by ingestion, soon rewritten: quick.
    Hot,
    /// Written by compaction, kept: small, with a bloom filter on `user_id`.
    Compacted,
}

/// Texts that hardly repeat: a dictionary would only be tried and thrown away.
const NEARLY_UNIQUE: &[&str] = &["ip", "raw"];
/// Texts that repeat when the same users come again, and do not when each comes once.
const MAY_REPEAT: &[&str] = &["device_id", "ip_prefix", "user_id"];
/// Integers that grow slowly from row to row.
const SLOWLY_GROWING: &[&str] = &[
    "event_time",
    "kafka_offset",
    "kafka_timestamp",
    "processed_timestamp",
    "timestamp",
    "raw_length",
];
/// Small integers: worth a dictionary in files that are kept; in others looking each value up costs more than it saves.
const SMALL: &[&str] = &["kafka_partition", "local_hour", "login_hour"];
/// Lengths first, then the bytes of all values: what a general compressor finds more in than in lengths and bytes by turns.
const LENGTHS_APART: Encoding = Encoding::DELTA_LENGTH_BYTE_ARRAY;
/// In the form that Java's readers parse; they trust the statistics of no file whose writer they cannot.
const CREATED_BY: &str = concat!("loginlake version ", env!("CARGO_PKG_VERSION"));
/// The longest value that statistics keep, in bytes.
const STATISTICS_LENGTH: usize = 64;
/// Rows that are looked at to see whether a column repeats.
const SAMPLE_ROWS: usize = 4096;
/// A dictionary pays when at least one in so many of the sampled values was seen before: of 65,536 values about half are
/// distinct then, and each saves more than the dictionary's indices cost.
const REPEATS_ONE_IN: usize = 16;
/// Expected share of false answers of a bloom filter.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// The properties for files of these columns. A dictionary is tried wherever values may repeat; where it grows too large
/// the writer goes on without it.
pub fn writer_properties(schema: &Schema, tier: Tier, expected_rows: u64) -> WriterPropertiesPtr {
    Arc::new(builder(schema, tier, expected_rows).build())
}

/// The properties for the one row group that `rows` become: a dictionary only where a sample of the values repeats, so
/// that users who come once each cost no dictionary, and users who come again cost little else.
pub fn row_group_properties(rows: &RecordBatch, tier: Tier) -> WriterPropertiesPtr {
    let schema = rows.schema();
    let mut builder = builder(&schema, tier, rows.num_rows() as u64);
    for name in MAY_REPEAT {
        let texts = rows
            .column_by_name(name)
            .and_then(|column| column.as_string_opt::<i32>());
        if let Some(texts) = texts {
            builder = builder.set_column_dictionary_enabled(ColumnPath::from(*name), repeats(texts));
        }
    }
    Arc::new(builder.build())
}

/// Whether a sample over all of the column has enough values twice.
fn repeats(texts: &StringArray) -> bool {
    let step = texts.len().div_ceil(SAMPLE_ROWS).max(1);
    let sampled = texts.len().div_ceil(step);
    let distinct: HashSet<&str> = (0..texts.len())
        .step_by(step)
        .map(|row| texts.value(row))
        .collect();
    (sampled - distinct.len()) * REPEATS_ONE_IN >= sampled
}

fn builder(schema: &Schema, tier: Tier, expected_rows: u64) -> WriterPropertiesBuilder {
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
        .set_created_by(CREATED_BY.to_owned());
    for field in schema.fields() {
        let name = field.name().as_str();
        let column = ColumnPath::from(name);
        if NEARLY_UNIQUE.contains(&name) {
            builder = builder
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, LENGTHS_APART);
        } else if MAY_REPEAT.contains(&name) {
            // With a dictionary this is what follows when it has grown too large.
            builder = builder.set_column_encoding(column, LENGTHS_APART);
        } else if SLOWLY_GROWING.contains(&name) || (tier == Tier::Hot && SMALL.contains(&name)) {
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
    builder
}

#[cfg(test)]
mod tests {
    use arrow::array::ArrayRef;

    use super::*;

    fn dictionary_of_users(rows: usize, users: usize) -> bool {
        let ids = (0..rows).map(|row| format!("user-{}", (row * 7919) % users));
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(ids));
        let batch = RecordBatch::try_from_iter([("user_id", ids)]).unwrap();
        row_group_properties(&batch, Tier::Hot).dictionary_enabled(&ColumnPath::from("user_id"))
    }

    #[test]
    fn a_row_group_has_a_dictionary_of_users_only_when_they_come_again() {
        assert!(dictionary_of_users(65_536, 10_000));
        assert!(!dictionary_of_users(65_536, 65_537));
        assert!(dictionary_of_users(100, 10));
        assert!(!dictionary_of_users(100, 101));
        assert!(!dictionary_of_users(1, 1));
    }
}
