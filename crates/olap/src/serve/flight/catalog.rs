//! What there is: the catalog, its schema, the tables with their columns, types, and what this server can do.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, Nullable, Searchable,
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedGroupBy,
    SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries,
    SqlSupportedTransaction, SqlSupportedUnions, SqlTransactionIsolationLevel, SupportedSqlGrammar,
    XdbcDataType,
};
use loginlake_lake::TableName;
use loginlake_query::{CATALOG, SCHEMA, Script, Values};
use tonic::Status;

use super::messages::MAX_SQL_BYTES;
use super::status;
use super::stream::{Engines, SOURCE};

/// All of them are tables of the lake.
const TABLE_TYPE: &str = "TABLE";

pub(super) fn catalogs(command: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    builder.append(CATALOG);
    builder.build()
}

pub(super) fn schemas(command: CommandGetDbSchemas) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    builder.append(CATALOG, SCHEMA);
    builder.build()
}

pub(super) fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    builder.append(TABLE_TYPE);
    builder.build()
}

/// The tables; their columns are looked up only if they are asked for.
pub(super) async fn tables(
    engines: &Engines,
    command: CommandGetTables,
) -> std::result::Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for table in TableName::ALL {
        let columns = if builder.include_schema() {
            let sql = format!("SELECT * FROM {CATALOG}.{SCHEMA}.{}", table.as_str());
            let script = Script::parse(&sql, SOURCE).map_err(status::of_query)?;
            engines.describe(&script, &Values::default()).await?.schema
        } else {
            Arc::new(Schema::empty())
        };
        builder.append(CATALOG, SCHEMA, table.as_str(), TABLE_TYPE, &columns)?;
    }
    Ok(builder.build()?)
}

/// The columns of a list of primary keys. No table has one.
pub(super) fn primary_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// The columns of a list of foreign keys. No table has one.
pub(super) fn foreign_keys() -> SchemaRef {
    let names = |side: &str| {
        [
            Field::new(format!("{side}_catalog_name"), DataType::Utf8, true),
            Field::new(format!("{side}_db_schema_name"), DataType::Utf8, true),
            Field::new(format!("{side}_table_name"), DataType::Utf8, false),
            Field::new(format!("{side}_column_name"), DataType::Utf8, false),
        ]
    };
    let rest = [
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ];
    let fields = names("pk").into_iter().chain(names("fk")).chain(rest);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// What this server is and can do.
pub(super) fn server() -> Result<SqlInfoData> {
    let mut facts = SqlInfoDataBuilder::new();
    facts.append(SqlInfo::FlightSqlServerName, "loginlake");
    facts.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    facts.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    for is_so in [
        SqlInfo::FlightSqlServerReadOnly,
        SqlInfo::FlightSqlServerSql,
        SqlInfo::SqlAllTablesAreSelectable,
        SqlInfo::SqlSupportsColumnAliasing,
        SqlInfo::SqlNullPlusNullIsNull,
        SqlInfo::SqlSupportsTableCorrelationNames,
        SqlInfo::SqlSupportsExpressionsInOrderBy,
        SqlInfo::SqlSupportsOrderByUnrelated,
        SqlInfo::SqlSupportsLikeEscapeClause,
        SqlInfo::SqlSupportsNonNullableColumns,
        SqlInfo::SqlCatalogAtStart,
        SqlInfo::SqlCorrelatedSubqueriesSupported,
    ] {
        facts.append(is_so, true);
    }
    for is_not_so in [
        SqlInfo::FlightSqlServerSubstrait,
        SqlInfo::FlightSqlServerCancel,
        SqlInfo::FlightSqlServerBulkIngestion,
        SqlInfo::FlightSqlServerIngestTransactionsSupported,
        SqlInfo::SqlDdlCatalog,
        SqlInfo::SqlDdlSchema,
        SqlInfo::SqlDdlTable,
        SqlInfo::SqlSupportsDifferentTableCorrelationNames,
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlTransactionsSupported,
        SqlInfo::SqlDataDefinitionCausesTransactionCommit,
        SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
        SqlInfo::SqlBatchUpdatesSupported,
        SqlInfo::SqlSavepointsSupported,
        SqlInfo::SqlNamedParametersSupported,
        SqlInfo::SqlLocatorsUpdateCopy,
        SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported,
    ] {
        facts.append(is_not_so, false);
    }
    facts.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    facts.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
    facts.append(
        SqlInfo::SqlIdentifierCase,
        i64::from(SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32),
    );
    facts.append(
        SqlInfo::SqlQuotedIdentifierCase,
        i64::from(SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32),
    );
    facts.append(
        SqlInfo::SqlNullOrdering,
        i64::from(SqlNullOrdering::SqlNullsSortedHigh as i32),
    );
    facts.append(
        SqlInfo::SqlDefaultTransactionIsolation,
        i64::from(SqlTransactionIsolationLevel::SqlTransactionNone as i32),
    );
    facts.append(
        SqlInfo::SqlOuterJoinsSupportLevel,
        1 << (SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32),
    );
    // No limit that is known, or none at all.
    for unlimited in (SqlInfo::SqlMaxBinaryLiteralLength as i32)..=(SqlInfo::SqlMaxUsernameLength as i32) {
        if let Ok(name) = SqlInfo::try_from(unlimited) {
            facts.append(name, 0_i64);
        }
    }
    facts.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, false);
    facts.append(SqlInfo::SqlMaxStatementLength, MAX_SQL_BYTES as i64);
    // Nothing of what these count is special to this server, or there is nothing of it.
    for list in [
        SqlInfo::SqlKeywords,
        SqlInfo::SqlNumericFunctions,
        SqlInfo::SqlStringFunctions,
        SqlInfo::SqlSystemFunctions,
        SqlInfo::SqlDatetimeFunctions,
    ] {
        facts.append(list, Vec::<String>::new());
    }
    facts.append(SqlInfo::SqlSupportsConvert, BTreeMap::<i32, Vec<i32>>::new());
    for none in [
        SqlInfo::SqlSchemasSupportedActions,
        SqlInfo::SqlCatalogsSupportedActions,
        SqlInfo::SqlSupportedPositionedCommands,
        SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
        SqlInfo::SqlAnsi92SupportedLevel,
    ] {
        facts.append(none, 0);
    }
    let bits = |bits: &[i32]| bits.iter().fold(0, |sum, bit| sum | 1 << bit);
    for (name, supported) in [
        (
            SqlInfo::SqlSupportedGroupBy,
            bits(&[
                SqlSupportedGroupBy::SqlGroupByUnrelated as i32,
                SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32,
            ]),
        ),
        (
            SqlInfo::SqlSupportedGrammar,
            bits(&[
                SupportedSqlGrammar::SqlMinimumGrammar as i32,
                SupportedSqlGrammar::SqlCoreGrammar as i32,
            ]),
        ),
        (
            SqlInfo::SqlSupportedSubqueries,
            bits(&[
                SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
                SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
                SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
            ]),
        ),
        (
            SqlInfo::SqlSupportedUnions,
            bits(&[
                SqlSupportedUnions::SqlUnion as i32,
                SqlSupportedUnions::SqlUnionAll as i32,
            ]),
        ),
        (
            SqlInfo::SqlSupportedTransactionsIsolationLevels,
            bits(&[SqlTransactionIsolationLevel::SqlTransactionNone as i32]),
        ),
        (
            SqlInfo::SqlSupportedResultSetTypes,
            bits(&[SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32]),
        ),
        (
            SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly,
            bits(&[SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32]),
        ),
    ] {
        facts.append(name, supported);
    }
    for (name, text) in [
        (SqlInfo::SqlIdentifierQuoteChar, "\""),
        (SqlInfo::SqlSearchStringEscape, "\\"),
        (SqlInfo::SqlExtraNameCharacters, ""),
        (SqlInfo::SqlSchemaTerm, "schema"),
        (SqlInfo::SqlCatalogTerm, "catalog"),
        (SqlInfo::SqlProcedureTerm, "procedure"),
    ] {
        facts.append(name, text);
    }
    facts.build()
}

/// The types of values that tables and answers mostly have.
pub(super) fn types() -> Result<XdbcTypeInfoData> {
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, kind, quote) in [
        ("VARCHAR", XdbcDataType::XdbcVarchar, Some("'")),
        ("BIGINT", XdbcDataType::XdbcBigint, None),
        ("INTEGER", XdbcDataType::XdbcInteger, None),
        ("DOUBLE", XdbcDataType::XdbcDouble, None),
        ("BOOLEAN", XdbcDataType::XdbcBit, None),
        ("DATE", XdbcDataType::XdbcDate, Some("'")),
        ("TIMESTAMP", XdbcDataType::XdbcTimestamp, Some("'")),
    ] {
        types.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type: kind,
            sql_data_type: kind,
            literal_prefix: quote.map(str::to_owned),
            literal_suffix: quote.map(str::to_owned),
            nullable: Nullable::NullabilityNullable,
            case_sensitive: kind == XdbcDataType::XdbcVarchar,
            searchable: Searchable::Full,
            ..XdbcTypeInfo::default()
        });
    }
    types.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_can_be_made_and_chosen() {
        let facts = server().unwrap();
        let wanted = SqlInfo::FlightSqlServerReadOnly as u32;
        assert_eq!(facts.record_batch([wanted]).unwrap().num_rows(), 1);
        // Drivers take each of them for granted.
        assert!(facts.record_batch([]).unwrap().num_rows() > 80);
        assert_eq!(types().unwrap().record_batch(None).unwrap().num_rows(), 7);
    }
}
