//! Which files of a table a filter can leave out, from what the Delta log says about them: no file is opened for it.
//!
//! A filter on partition columns only is decided exactly, by evaluating it on the partition values. Any other filter is
//! decided by the log's minima, maxima and null counts: a file is left out when no row of it can match, and kept when in
//! doubt.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use serde::Deserialize;
use serde_json::Value;

/// The statistics of one file, parsed when a filter first needs them.
#[derive(Debug, Default)]
pub(super) struct FileStatistics {
    json: Option<String>,
    parsed: OnceLock<Option<DeltaStatistics>>,
}

/// The members of Delta's per-file statistics that prune.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeltaStatistics {
    #[serde(default)]
    min_values: HashMap<String, Value>,
    #[serde(default)]
    max_values: HashMap<String, Value>,
    #[serde(default)]
    null_count: HashMap<String, Value>,
}

impl FileStatistics {
    pub(super) fn new(json: Option<String>) -> Self {
        Self {
            json,
            parsed: OnceLock::new(),
        }
    }

    /// The newest time of a column, epoch milliseconds; `None` when the log does not say it.
    pub(super) fn newest_ms(&self, column: &str) -> Option<i64> {
        let newest = self.parsed()?.max_values.get(column)?.as_str()?;
        Some(
            chrono::DateTime::parse_from_rfc3339(newest)
                .ok()?
                .timestamp_millis(),
        )
    }

    /// Statistics that cannot be read are as good as none: the file is kept.
    fn parsed(&self) -> Option<&DeltaStatistics> {
        self.parsed
            .get_or_init(|| {
                self.json
                    .as_deref()
                    .and_then(|json| serde_json::from_str(json).ok())
            })
            .as_ref()
    }
}

/// What pruning knows about one file.
pub(super) trait PrunableFile {
    /// Values of the partition columns, in their order.
    fn partition_values(&self) -> &[ScalarValue];
    /// Number of rows, if the log says it.
    fn rows(&self) -> Option<u64>;
    /// The log's statistics.
    fn statistics(&self) -> &FileStatistics;
}

/// Whether `filter` can be decided by the partition values alone, and always the same way.
pub(super) fn is_decided_by_partition(filter: &Expr, partition_columns: &[String]) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty()
        && columns
            .iter()
            .all(|column| partition_columns.contains(&column.name))
        && !filter.is_volatile()
        && !has_subquery(filter)
}

/// Whether a filter holds a query of its own, which only a plan can decide.
pub(super) fn has_subquery(filter: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    filter
        .exists(|expr| {
            Ok(matches!(
                expr,
                Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::OuterReferenceColumn(..)
            ))
        })
        .unwrap_or(true)
}

/// The files that may hold rows that match all `filters`, in their order. `schema` is the table's, with
/// `partition_schema` the part of it that the partition values stand for.
pub(super) fn kept_files<'a, F: PrunableFile>(
    session: &dyn Session,
    schema: &SchemaRef,
    partition_schema: &SchemaRef,
    files: &'a [F],
    filters: &[Expr],
) -> DataFusionResult<Vec<&'a F>> {
    let partition_columns: Vec<String> = partition_schema
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    let (exact, by_statistics): (Vec<Expr>, Vec<Expr>) = filters
        .iter()
        .cloned()
        .partition(|filter| is_decided_by_partition(filter, &partition_columns));
    let mut kept: Vec<&F> = files.iter().collect();
    if let Some(filter) = conjunction(exact) {
        let matching = partitions_that_match(session, partition_schema, &kept, &filter)?;
        kept = kept
            .into_iter()
            .zip(matching)
            .filter_map(|(file, matches)| matches.then_some(file))
            .collect();
    }
    if let Some(filter) = conjunction(by_statistics)
        && !kept.is_empty()
    {
        let df_schema = DFSchema::try_from(Arc::clone(schema))?;
        let predicate = session.create_physical_expr(filter, &df_schema)?;
        match PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(schema))
            .try_build(predicate)
        {
            Ok(predicate) if predicate.always_true() => {}
            Ok(predicate) => {
                let statistics = LogStatistics {
                    schema,
                    partition_columns: &partition_columns,
                    files: &kept,
                };
                let may_match = predicate.prune(&statistics)?;
                kept = kept
                    .into_iter()
                    .zip(may_match)
                    .filter_map(|(file, may)| may.then_some(file))
                    .collect();
            }
            Err(error) => tracing::debug!(%error, "filter not usable for pruning"),
        }
    }
    Ok(kept)
}

/// Evaluates a filter on partition columns on one row per file. NULL does not match, as in any WHERE.
fn partitions_that_match<F: PrunableFile>(
    session: &dyn Session,
    partition_schema: &SchemaRef,
    files: &[&F],
    filter: &Expr,
) -> DataFusionResult<Vec<bool>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let columns = (0..partition_schema.fields().len())
        .map(|index| {
            ScalarValue::iter_to_array(files.iter().map(|file| file.partition_values()[index].clone()))
        })
        .collect::<DataFusionResult<Vec<ArrayRef>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(files.len()));
    let batch = RecordBatch::try_new_with_options(Arc::clone(partition_schema), columns, &options)?;
    let df_schema = DFSchema::try_from(Arc::clone(partition_schema))?;
    let predicate = session.create_physical_expr(filter.clone(), &df_schema)?;
    let result = predicate.evaluate(&batch)?.into_array(files.len())?;
    let result = cast(&result, &DataType::Boolean)?;
    let result = datafusion::common::cast::as_boolean_array(&result)?;
    Ok((0..files.len())
        .map(|row| result.is_valid(row) && result.value(row))
        .collect())
}

/// The log's statistics of several files, column by column, as DataFusion's pruning asks for them.
struct LogStatistics<'a, F> {
    schema: &'a SchemaRef,
    partition_columns: &'a [String],
    files: &'a [&'a F],
}

#[derive(Clone, Copy)]
enum Bound {
    Min,
    Max,
}

impl<F: PrunableFile> LogStatistics<'_, F> {
    fn bounds(&self, column: &Column, bound: Bound) -> Option<ArrayRef> {
        if let Some(index) = self
            .partition_columns
            .iter()
            .position(|name| *name == column.name)
        {
            return ScalarValue::iter_to_array(
                self.files.iter().map(|f| f.partition_values()[index].clone()),
            )
            .ok();
        }
        let data_type = self.schema.field_with_name(&column.name).ok()?.data_type();
        let unknown = ScalarValue::try_from(data_type).ok()?;
        let values = self.files.iter().map(|file| {
            let known = file.statistics().parsed().and_then(|statistics| {
                let values = match bound {
                    Bound::Min => &statistics.min_values,
                    Bound::Max => &statistics.max_values,
                };
                bound_value(values.get(&column.name)?, data_type, bound)
            });
            known.unwrap_or_else(|| unknown.clone())
        });
        ScalarValue::iter_to_array(values).ok()
    }
}

impl<F: PrunableFile> PruningStatistics for LogStatistics<'_, F> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, Bound::Min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, Bound::Max)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let partition = self
            .partition_columns
            .iter()
            .position(|name| *name == column.name);
        let counts = self.files.iter().map(|file| match partition {
            Some(index) if file.partition_values()[index].is_null() => file.rows(),
            Some(_) => Some(0),
            None => file.statistics().parsed()?.null_count.get(&column.name)?.as_u64(),
        });
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(
            self.files.iter().map(|file| file.rows()).collect::<UInt64Array>(),
        ))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// A bound of the log as a value of the column's type; `None` when it says nothing that is certain.
///
/// Texts may be cut by the writer, but stay bounds. Times are cut to milliseconds, so a maximum is raised to the last
/// microsecond that the cut may have hidden.
fn bound_value(value: &Value, data_type: &DataType, bound: Bound) -> Option<ScalarValue> {
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            ScalarValue::Int64(Some(value.as_i64()?)).cast_to(data_type).ok()
        }
        DataType::Utf8 | DataType::Utf8View => {
            ScalarValue::try_from_string(value.as_str()?.to_owned(), data_type).ok()
        }
        DataType::Date32 => ScalarValue::try_from_string(value.as_str()?.to_owned(), data_type).ok(),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let instant = chrono::DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
            let hidden_us = match bound {
                Bound::Min => 0,
                Bound::Max => 999,
            };
            Some(ScalarValue::TimestampMicrosecond(
                Some(instant.timestamp_micros() + hidden_us),
                zone.clone(),
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_bounds_although_the_log_cuts_them_to_milliseconds() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let text = Value::from("2026-01-05T10:00:00.123Z");
        let of = |bound| match bound_value(&text, &utc, bound) {
            Some(ScalarValue::TimestampMicrosecond(Some(us), _)) => us % 1_000_000,
            other => panic!("{other:?}"),
        };
        assert_eq!(of(Bound::Min), 123_000);
        assert_eq!(of(Bound::Max), 123_999);
    }

    #[test]
    fn a_bound_of_another_type_says_nothing() {
        assert!(bound_value(&Value::from("x"), &DataType::Int64, Bound::Min).is_none());
        assert!(bound_value(&Value::from(300), &DataType::Int8, Bound::Max).is_none());
        assert!(bound_value(&Value::from("no date"), &DataType::Date32, Bound::Max).is_none());
        assert!(bound_value(&Value::from(1.5), &DataType::Float64, Bound::Max).is_none());
    }

    #[test]
    fn broken_statistics_are_as_good_as_none() {
        assert!(FileStatistics::new(Some("{".to_owned())).parsed().is_none());
        assert!(FileStatistics::new(None).parsed().is_none());
        assert!(
            FileStatistics::new(Some(r#"{"numRecords":1}"#.to_owned()))
                .parsed()
                .is_some()
        );
    }
}
