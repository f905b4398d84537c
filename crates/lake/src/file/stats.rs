//! A file's Delta statistics, from its Parquet metadata: number of rows, and smallest, largest and null count of the
//! columns that queries filter by. Readers prune files by them, so they must never be narrower than the truth.
//!
//! Columns that name a person have no smallest and largest value here: commits and checkpoints of the log outlive files,
//! and an erasure could not take a value out of them. Nothing is lost: ids are spread over every file alike, and the bloom
//! filters of a file rule it out better.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use chrono::{DateTime, SecondsFormat};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

/// The longest text that statistics keep, in characters.
const MAX_TEXT: usize = 32;
/// Columns whose values name or locate a person: the log never holds one.
const PERSONAL: [&str; 4] = ["user_id", "device_id", "ip", "ip_prefix"];

/// The statistics of a whole file as JSON.
pub fn delta_stats(metadata: &ParquetMetaData, schema: &Schema) -> String {
    let rows = metadata.file_metadata().num_rows();
    let mut min_values = Map::new();
    let mut max_values = Map::new();
    let mut null_counts = Map::new();
    let columns: HashMap<String, usize> = metadata
        .file_metadata()
        .schema_descr()
        .columns()
        .iter()
        .enumerate()
        .filter(|(_, column)| column.path().parts().len() == 1)
        .map(|(index, column)| (column.name().to_owned(), index))
        .collect();
    for field in schema.fields() {
        let Some(index) = columns.get(field.name()) else {
            continue;
        };
        let chunks: Option<Vec<&Statistics>> = metadata
            .row_groups()
            .iter()
            .map(|group| group.column(*index).statistics())
            .collect();
        let Some(chunks) = chunks else { continue };
        let nulls: Option<u64> = chunks.iter().map(|chunk| chunk.null_count_opt()).sum();
        if let Some(nulls) = nulls {
            null_counts.insert(field.name().clone(), json!(nulls));
        }
        if PERSONAL.contains(&field.name().as_str()) {
            continue;
        }
        if let Some((min, max)) = bounds(field.data_type(), &chunks) {
            min_values.insert(field.name().clone(), min);
            max_values.insert(field.name().clone(), max);
        }
    }
    json!({ "numRecords": rows, "minValues": min_values, "maxValues": max_values, "nullCount": null_counts })
        .to_string()
}

/// Smallest and largest over all row groups; `None` when unknown or when there are only nulls.
fn bounds(data_type: &DataType, chunks: &[&Statistics]) -> Option<(Value, Value)> {
    // A row group of nulls only has no bounds and changes none.
    let bounded = chunks
        .iter()
        .filter(|chunk| chunk.min_bytes_opt().is_some() && chunk.max_bytes_opt().is_some());
    match data_type {
        DataType::Utf8 => {
            let texts = bounded.map(|chunk| match chunk {
                Statistics::ByteArray(values) => {
                    let min = std::str::from_utf8(values.min_opt()?.data()).ok()?;
                    let max = std::str::from_utf8(values.max_opt()?.data()).ok()?;
                    Some((min.to_owned(), max.to_owned()))
                }
                _ => None,
            });
            let (min, max) = fold(texts)?;
            Some((json!(shorten(&min)), json!(lengthen(&max)?)))
        }
        DataType::Int8
        | DataType::Int32
        | DataType::Int64
        | DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let numbers = bounded.map(|chunk| match chunk {
                Statistics::Int32(values) => {
                    Some((i64::from(*values.min_opt()?), i64::from(*values.max_opt()?)))
                }
                Statistics::Int64(values) => Some((*values.min_opt()?, *values.max_opt()?)),
                _ => None,
            });
            let (min, max) = fold(numbers)?;
            if matches!(data_type, DataType::Timestamp(..)) {
                // Delta keeps milliseconds: down for the smallest, up for the largest.
                Some((
                    timestamp(min.div_euclid(1_000))?,
                    timestamp(-((-max).div_euclid(1_000)))?,
                ))
            } else {
                Some((json!(min), json!(max)))
            }
        }
        _ => None,
    }
}

/// Joins the bounds of row groups; one that is unreadable makes the whole unknown.
fn fold<T: Ord>(bounds: impl Iterator<Item = Option<(T, T)>>) -> Option<(T, T)> {
    let mut whole: Option<(T, T)> = None;
    for bound in bounds {
        let (min, max) = bound?;
        whole = Some(match whole {
            None => (min, max),
            Some((lowest, highest)) => (lowest.min(min), highest.max(max)),
        });
    }
    whole
}

fn timestamp(ms: i64) -> Option<Value> {
    Some(json!(
        DateTime::from_timestamp_millis(ms)?.to_rfc3339_opts(SecondsFormat::Millis, true)
    ))
}

/// A prefix is never larger than the text.
fn shorten(text: &str) -> &str {
    text.char_indices()
        .nth(MAX_TEXT)
        .map_or(text, |(end, _)| &text[..end])
}

/// A prefix with its last character raised is never smaller than the text; `None` when no character can be raised.
fn lengthen(text: &str) -> Option<String> {
    let prefix = shorten(text);
    if prefix.len() == text.len() {
        return Some(text.to_owned());
    }
    let mut raised: Vec<char> = prefix.chars().collect();
    while let Some(last) = raised.pop() {
        if let Some(next) = char::from_u32(u32::from(last) + 1) {
            raised.push(next);
            return Some(raised.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_bounded_from_both_sides() {
        let long = "a".repeat(100);
        assert!(shorten(&long) <= long.as_str());
        assert!(lengthen(&long).unwrap() > long);
        assert_eq!(lengthen("short").unwrap(), "short");
        assert_eq!(lengthen(&char::MAX.to_string().repeat(100)), None);
    }

    #[test]
    fn the_log_holds_no_value_that_names_a_person() {
        use std::sync::Arc;

        use arrow::array::{ArrayRef, RecordBatch, StringArray};

        let names = PERSONAL.into_iter().chain(["region"]);
        let columns = names.map(|name| {
            let values: ArrayRef = Arc::new(StringArray::from(vec!["one", "two"]));
            (name, values)
        });
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        let metadata = writer.finish().unwrap();
        let stats: Value = serde_json::from_str(&delta_stats(&metadata, &rows.schema())).unwrap();
        assert_eq!(stats["minValues"], json!({ "region": "one" }));
        assert_eq!(stats["maxValues"], json!({ "region": "two" }));
        assert_eq!(stats["nullCount"]["user_id"], 0);
        assert_eq!(stats["numRecords"], 2);
    }

    #[test]
    fn milliseconds_never_narrow_the_bounds() {
        let ceil = |us: i64| -((-us).div_euclid(1_000));
        assert_eq!(1_234_567_i64.div_euclid(1_000), 1_234);
        assert_eq!(ceil(1_234_567), 1_235);
        assert_eq!(ceil(1_234_000), 1_234);
        assert_eq!((-1_i64).div_euclid(1_000), -1);
        assert_eq!(ceil(-1), 0);
    }
}
