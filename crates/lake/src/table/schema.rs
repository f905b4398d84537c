//! The columns of each table, how a table is created, and whether an existing one is ours, or can be made so.
//!
//! Tables ask for reader version 1 and writer version 2 only, so that every Delta reader opens them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use chrono::NaiveDate;
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use serde_json::{Value, json};

use super::{TableName, TableSnapshot};
use crate::error::LakeError;

/// The table property of a `logins` that holds the rows of one date only: its offsets do not mean that every row below them is
/// there.
pub const ONLY_DATE: &str = "loginlake.only-date";

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

/// A table as one version of this software writes it.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// The table.
    pub table: TableName,
    /// All columns, partition columns included; each may be null. New ones are added at the end.
    pub columns: SchemaRef,
    /// How many of them every table of ours has had from its beginning. Without those it is somebody else's table; later
    /// ones are added to a table that lacks them.
    pub first_columns: usize,
    /// How it is partitioned when it is created.
    pub partition_by: PartitionBy,
    /// Of `logins`: the one date whose rows it holds. `None`: all dates. It is decided when the table is created.
    pub only_date: Option<NaiveDate>,
}

impl TableSpec {
    /// The table as this version writes it.
    pub fn current(table: TableName, partition_by: PartitionBy) -> Self {
        let columns = table_schema(table);
        Self {
            table,
            first_columns: columns.fields().len(),
            columns,
            partition_by,
            only_date: None,
        }
    }

    /// Whether an existing table holds the dates that this one is to hold.
    ///
    /// # Errors
    /// A sentence that says why not, and what to do.
    pub fn check_dates(&self, found: &TableSnapshot) -> Result<(), String> {
        match (self.only_date, found.only_date) {
            (wanted, held) if wanted == held => Ok(()),
            (Some(wanted), None) => Err(format!(
                "it holds logins of all dates, and --only-date {wanted} is for a lake of its own: choose another --lake"
            )),
            (wanted, Some(held)) => Err(format!(
                "it holds the logins of {held} only{}: choose another --lake, or go on with --only-date {held}",
                wanted.map(|date| format!(", not of {date}")).unwrap_or_default()
            )),
            (None, None) => Ok(()),
        }
    }

    /// The columns that an existing table lacks, to be added. Columns that it has beyond these are another version's
    /// business: they stay null in what this version writes.
    ///
    /// # Errors
    /// A sentence that says why the table is not one of ours, or cannot be widened.
    pub fn lacking(&self, found: &TableSnapshot) -> Result<Vec<FieldRef>, String> {
        let mut lacking = Vec::new();
        for (index, field) in self.columns.fields().iter().enumerate() {
            match found.schema.field_with_name(field.name()) {
                Err(_) if index < self.first_columns => {
                    return Err(format!("column {} is missing", field.name()));
                }
                Err(_) => lacking.push(Arc::clone(field)),
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
        let unknown = found
            .schema
            .fields()
            .iter()
            .find(|field| !field.is_nullable() && self.columns.field_with_name(field.name()).is_err());
        if let Some(field) = unknown {
            return Err(format!(
                "column {} must not be null, and this version has no values for it",
                field.name()
            ));
        }
        let known = [PartitionBy::Date, PartitionBy::DateHour].map(|by| partition_columns(self.table, by));
        if !known
            .iter()
            .any(|columns| columns.iter().eq(&found.partition_columns))
        {
            return Err(format!(
                "it is partitioned by ({}), not by ({})",
                found.partition_columns.join(", "),
                known[0].join(", ")
            ));
        }
        Ok(lacking)
    }
}

/// The first actions of a new table: protocol and metadata, each one line of the commit.
///
/// # Errors
/// [`LakeError::Invariant`] when the schema has no Delta form, which a test rules out.
pub fn creation_actions(spec: &TableSpec, created_at_ms: i64) -> Result<Vec<Value>, LakeError> {
    let delta = delta_schema(&spec.columns)?;
    let schema_string =
        serde_json::to_string(&delta).map_err(|error| LakeError::Invariant(error.to_string()))?;
    let mut configuration = BTreeMap::new();
    if let Some(date) = spec.only_date {
        configuration.insert(ONLY_DATE, date.to_string());
    }
    Ok(vec![
        json!({ "protocol": { "minReaderVersion": 1, "minWriterVersion": 2 } }),
        json!({ "metaData": {
            "id": uuid::Uuid::new_v4().to_string(),
            "name": spec.table.as_str(),
            "description": null,
            "format": { "provider": "parquet", "options": {} },
            "schemaString": schema_string,
            "partitionColumns": partition_columns(spec.table, spec.partition_by),
            "createdTime": created_at_ms,
            "configuration": configuration,
        } }),
    ])
}

/// A table's metadata action with columns added at the end of its schema, and nothing else changed.
pub(super) fn with_columns(mut metadata: Value, columns: &[FieldRef]) -> Result<Value, LakeError> {
    let invariant = |error: serde_json::Error| LakeError::Invariant(format!("a table's schema: {error}"));
    let mut schema: Value =
        serde_json::from_str(metadata["schemaString"].as_str().unwrap_or_default()).map_err(invariant)?;
    let added = delta_schema(&Schema::new(columns.to_vec()))?;
    let added = serde_json::to_value(added).map_err(invariant)?;
    match (schema["fields"].as_array_mut(), added["fields"].as_array()) {
        (Some(fields), Some(added)) => fields.extend(added.iter().cloned()),
        _ => return Err(LakeError::Invariant("a table's schema has no fields".to_owned())),
    }
    metadata["schemaString"] = Value::String(schema.to_string());
    Ok(metadata)
}

/// The Delta form of an Arrow schema.
fn delta_schema(schema: &Schema) -> Result<StructType, LakeError> {
    let delta: Result<StructType, _> = schema.try_into_kernel();
    delta.map_err(|error| LakeError::Invariant(format!("the schema has no Delta form: {error}")))
}

/// Checks that an existing table is one of this software, of whatever version.
///
/// # Errors
/// A sentence that says why not.
pub fn check_compatible(found: &TableSnapshot) -> Result<(), String> {
    TableSpec::current(found.table, PartitionBy::default())
        .lacking(found)
        .map(drop)
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

    fn snapshot(schema: Schema, partition_columns: &[&str]) -> TableSnapshot {
        TableSnapshot {
            table: TableName::Logins,
            version: 0,
            schema: Arc::new(schema),
            partition_columns: partition_columns
                .iter()
                .map(|column| (*column).to_owned())
                .collect(),
            files: Vec::new(),
            transactions: std::collections::BTreeMap::new(),
            only_date: None,
            checkpoint_version: None,
        }
    }

    /// The fields of `logins` with one of them exchanged or added.
    fn with(field: Field) -> Schema {
        let mut fields: Vec<Field> = table_schema(TableName::Logins)
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        match fields.iter_mut().find(|known| known.name() == field.name()) {
            Some(known) => *known = field,
            None => fields.push(field),
        }
        Schema::new(fields)
    }

    #[test]
    fn a_table_that_cannot_be_widened_is_refused_with_the_reason() {
        let refused = |schema: Schema, by: &[&str]| check_compatible(&snapshot(schema, by)).unwrap_err();
        let other_type = with(Field::new("user_id", DataType::Int64, true));
        assert_eq!(
            refused(other_type, &["login_date"]),
            "column user_id is Int64, not Utf8"
        );
        let required = with(Field::new("tenant", DataType::Utf8, false));
        assert!(refused(required, &["login_date"]).starts_with("column tenant must not be null"));
        let ours = table_schema(TableName::Logins).as_ref().clone();
        assert_eq!(
            refused(ours.clone(), &["region"]),
            "it is partitioned by (region), not by (login_date)"
        );
        let foreign = Schema::new(vec![Field::new("x", DataType::Int64, true)]);
        assert_eq!(refused(foreign, &[]), "column user_id is missing");
        for by in [&["login_date"][..], &["login_date", "login_hour"]] {
            check_compatible(&snapshot(ours.clone(), by)).unwrap();
        }
        let newer = with(Field::new("risk", DataType::Int8, true));
        check_compatible(&snapshot(newer, &["login_date"])).unwrap();
    }

    #[test]
    fn columns_are_added_at_the_end_and_nothing_else_changes() {
        let spec = TableSpec::current(TableName::Rejected, PartitionBy::Date);
        let mut before = creation_actions(&spec, 7).unwrap()[1]["metaData"].clone();
        before["configuration"] = json!({ "somebody.elses": "property" });
        let added = [Arc::new(Field::new("risk", DataType::Int8, true))];
        let mut after = with_columns(before.clone(), &added).unwrap();
        let fields = |metadata: &Value| -> Vec<Value> {
            let schema: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
            schema["fields"].as_array().unwrap().clone()
        };
        let (old, new) = (fields(&before), fields(&after));
        assert_eq!(new[..old.len()], old);
        assert_eq!(
            new[old.len()..],
            [json!({ "name": "risk", "type": "byte", "nullable": true, "metadata": {} })]
        );
        after["schemaString"] = before["schemaString"].clone();
        assert_eq!(after, before);
    }
}
