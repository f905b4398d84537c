//! The columns of each table, how a table is created, and whether an existing one is ours.
//!
//! Tables ask for reader version 1 and writer version 2 only, so that every Delta reader opens them.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use serde_json::{Value, json};
use std::sync::Arc;

use super::TableName;
use crate::error::LakeError;

/// How `logins` is split into folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PartitionBy {
    /// One folder per UTC date (`login_date`).
    #[default]
    Date,
    /// One folder per UTC date and hour (`login_date`, `login_hour`).
    DateHour,
}

impl PartitionBy {
    /// The partition columns, in order.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            PartitionBy::Date => &["login_date"],
            PartitionBy::DateHour => &["login_date", "login_hour"],
        }
    }

    /// Reads it back from an existing table's partition columns.
    pub fn from_columns(columns: &[String]) -> Option<Self> {
        [PartitionBy::Date, PartitionBy::DateHour].into_iter().find(|by| {
            by.columns()
                .iter()
                .copied()
                .eq(columns.iter().map(String::as_str))
        })
    }
}

/// All columns of a table, partition columns included.
pub fn table_schema(table: TableName) -> SchemaRef {
    match table {
        TableName::Logins => loginlake_events::columns::logins_schema(),
        TableName::Rejected => loginlake_events::columns::rejected_schema(),
        TableName::LoginsHourly => Arc::new(Schema::new(vec![
            Field::new("login_date", DataType::Date32, true),
            Field::new("login_hour", DataType::Int8, true),
            Field::new("local_hour", DataType::Int8, true),
            Field::new("time_of_day", DataType::Utf8, true),
            Field::new("region", DataType::Utf8, true),
            Field::new("locale", DataType::Utf8, true),
            Field::new("device_type", DataType::Utf8, true),
            Field::new("app_version", DataType::Utf8, true),
            Field::new("logins", DataType::Int64, true),
        ])),
    }
}

/// The partition columns that a table is created with.
pub fn partition_columns(table: TableName, partition_by: PartitionBy) -> &'static [&'static str] {
    match table {
        TableName::Logins => partition_by.columns(),
        TableName::Rejected => &[],
        TableName::LoginsHourly => &["login_date"],
    }
}

/// The first actions of a new table: protocol and metadata, each one line of the commit.
///
/// # Errors
/// [`LakeError::Invariant`] when the schema has no Delta form, which a test rules out.
pub fn creation_actions(
    table: TableName,
    partition_by: PartitionBy,
    created_at_ms: i64,
) -> Result<Vec<Value>, LakeError> {
    let delta = delta_schema(&table_schema(table))?;
    let schema_string =
        serde_json::to_string(&delta).map_err(|error| LakeError::Invariant(error.to_string()))?;
    Ok(vec![
        json!({ "protocol": { "minReaderVersion": 1, "minWriterVersion": 2 } }),
        json!({ "metaData": {
            "id": uuid::Uuid::new_v4().to_string(),
            "name": table.as_str(),
            "description": null,
            "format": { "provider": "parquet", "options": {} },
            "schemaString": schema_string,
            "partitionColumns": partition_columns(table, partition_by),
            "createdTime": created_at_ms,
            "configuration": {},
        } }),
    ])
}

/// The Delta form of an Arrow schema.
fn delta_schema(schema: &Schema) -> Result<StructType, LakeError> {
    let delta: Result<StructType, _> = schema.try_into_kernel();
    delta.map_err(|error| LakeError::Invariant(format!("the schema has no Delta form: {error}")))
}

/// Checks that an existing table has the columns that this software writes, with their types. Columns that it does not
/// know are another version's business: they stay null in what this version writes.
///
/// # Errors
/// A sentence that names the first column that does not fit.
pub fn check_compatible(table: TableName, found: &Schema) -> Result<(), String> {
    for field in table_schema(table).fields() {
        match found.field_with_name(field.name()) {
            Err(_) => return Err(format!("column {} is missing", field.name())),
            Ok(other) if !same_type(field.data_type(), other.data_type()) => {
                return Err(format!(
                    "column {} is {}, not {}",
                    field.name(),
                    other.data_type(),
                    field.data_type()
                ));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Equal up to the names and nullability inside lists, which engines write differently.
fn same_type(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(a), DataType::List(b)) => same_type(a.data_type(), b.data_type()),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_a_delta_form() {
        for table in TableName::ALL {
            let actions = creation_actions(table, PartitionBy::Date, 0).unwrap();
            let schema = actions[1]["metaData"]["schemaString"].as_str().unwrap();
            for field in table_schema(table).fields() {
                assert!(
                    schema.contains(&format!("\"name\":\"{}\"", field.name())),
                    "{table}: {}",
                    field.name()
                );
            }
        }
    }

    #[test]
    fn a_foreign_table_is_told_apart_by_the_first_column_that_differs() {
        let foreign = Schema::new(vec![Field::new("user_id", DataType::Int64, true)]);
        let reason = check_compatible(TableName::Logins, &foreign).unwrap_err();
        assert!(reason.contains("user_id is Int64"), "{reason}");
        assert!(check_compatible(TableName::Logins, &table_schema(TableName::Logins)).is_ok());
    }
}
