//! Finds the aggregates that can be counted by numbers.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::udaf::AggregateFunctionExpr;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode};

use super::exec::{CountExec, CountScan, KeyColumn};
use super::groups::MAX_COLUMNS;

/// Columns of the tables whose values are few, by EVENTS.md; others would only be slower this way.
const FEW_VALUES: &[&str] = &[
    "app_version",
    "day_of_week",
    "device_type",
    "division",
    "ip_class",
    "kafka_partition",
    "local_hour",
    "locale",
    "login_hour",
    "reason",
    "region",
    "time_of_day",
];

/// Puts a [`CountExec`] in the place of a partial aggregate that counts the rows of Parquet files by columns of few values.
#[derive(Debug, Default)]
pub(crate) struct CountFewValues;

impl PhysicalOptimizerRule for CountFewValues {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let counted = match plan.downcast_ref::<AggregateExec>() {
                Some(aggregate) => replacement(aggregate)?,
                None => None,
            };
            Ok(counted.map_or_else(|| Transformed::no(plan), Transformed::yes))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "count_few_values"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn replacement(aggregate: &AggregateExec) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
    let group_by = aggregate.group_expr();
    let is_count_by_columns = *aggregate.mode() == AggregateMode::Partial
        && *aggregate.input_order_mode() == InputOrderMode::Linear
        && aggregate.limit_options().is_none()
        && group_by.is_single()
        && (1..=MAX_COLUMNS).contains(&group_by.expr().len())
        && aggregate.filter_expr().iter().all(Option::is_none)
        && aggregate
            .aggr_expr()
            .iter()
            .all(|function| is_count_of_rows(function));
    if !is_count_by_columns {
        return Ok(None);
    }
    let input = aggregate.input();
    let Some(union) = input.downcast_ref::<UnionExec>() else {
        return Ok(counted(aggregate, input).map(|exec| Arc::new(exec) as _));
    };
    // The table and the rest of the topic: only the former is made of files.
    let mut is_any_counted = false;
    let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
    for part in union.inputs() {
        if let Some(exec) = counted(aggregate, part) {
            is_any_counted = true;
            parts.push(Arc::new(exec));
        } else {
            parts.push(Arc::new(AggregateExec::try_new(
                *aggregate.mode(),
                group_by.clone(),
                aggregate.aggr_expr().to_vec(),
                aggregate.filter_expr().to_vec(),
                Arc::clone(part),
                aggregate.input_schema(),
            )?));
        }
    }
    if !is_any_counted {
        return Ok(None);
    }
    UnionExec::try_new(parts).map(Some)
}

/// `count(*)`: not of a column, of which there may be nulls.
fn is_count_of_rows(function: &AggregateFunctionExpr) -> bool {
    let is_constant = |argument: &Arc<dyn PhysicalExpr>| {
        argument
            .downcast_ref::<Literal>()
            .is_some_and(|literal| !literal.value().is_null())
    };
    function.fun().name() == "count"
        && !function.is_distinct()
        && function.order_bys().is_empty()
        && function.expressions().iter().all(is_constant)
}

fn counted(aggregate: &AggregateExec, input: &Arc<dyn ExecutionPlan>) -> Option<CountExec> {
    let (config, source) = input
        .downcast_ref::<DataSourceExec>()?
        .downcast_to_file_source::<ParquetSource>()?;
    // A filter that the scan itself is to apply.
    if config.limit.is_some() || config.file_source.filter().is_some() {
        return None;
    }
    let keys = aggregate.group_expr().expr().iter();
    let keys = keys
        .map(|(key, _)| key_column(config, key))
        .collect::<Option<Vec<_>>>()?;
    // Without one there is nothing to read, and DataFusion has the number of rows.
    keys.iter().find(|key| key.partition_index.is_none())?;
    let scan = CountScan {
        files: config.file_groups.clone(),
        reader_factory: Arc::clone(source.parquet_file_reader_factory()?),
        metadata_size_hint: source.table_parquet_options().global.metadata_size_hint,
        keys,
    };
    Some(CountExec::new(scan, aggregate.schema()))
}

/// The column of the table that a key is, if its values are few.
fn key_column(config: &FileScanConfig, key: &Arc<dyn PhysicalExpr>) -> Option<KeyColumn> {
    let key = key.downcast_ref::<Column>()?;
    let table = config.file_source.table_schema();
    // The scan's own projection comes between.
    let index = match config.file_source.projection() {
        Some(projection) => projection
            .iter()
            .nth(key.index())?
            .expr
            .downcast_ref::<Column>()?
            .index(),
        None => key.index(),
    };
    let field = table.table_schema().fields().get(index)?;
    let columns_of_files = table.file_schema().fields().len();
    let partition_index = index.checked_sub(columns_of_files);
    let is_countable = match field.data_type() {
        _ if partition_index.is_some() => true,
        DataType::Utf8View | DataType::Int8 | DataType::Int16 | DataType::Int32 => {
            FEW_VALUES.contains(&field.name().as_str())
        }
        _ => false,
    };
    is_countable.then(|| KeyColumn {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        partition_index,
    })
}
