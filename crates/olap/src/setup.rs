//! Resolved settings into the things that they describe, and errors into exit codes.

use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_lake::table::schema::PartitionBy;
use loginlake_lake::{Lake, LakeError, StoreOptions};
use loginlake_query::{QueryError, SqlError};
use loginlake_service::config::{ResolvedKafka, TablePartitioning};
use loginlake_service::exit::ExitError;

/// How to reach a cluster.
pub fn kafka(resolved: ResolvedKafka) -> KafkaSettings {
    KafkaSettings {
        brokers: resolved.brokers,
        properties: resolved.properties,
    }
}

/// The lake at an address, with the `AWS_*` variables of this process.
///
/// # Errors
/// A usage error.
pub fn lake(uri: &str) -> Result<Lake, ExitError> {
    Lake::open(uri, &StoreOptions::from_env()).map_err(lake_error)
}

/// How a new table is partitioned.
pub fn partition_by(setting: TablePartitioning) -> PartitionBy {
    match setting {
        TablePartitioning::Date => PartitionBy::Date,
        TablePartitioning::DateAndHour => PartitionBy::DateHour,
    }
}

/// An error of the lake as an exit: 2 for settings that are wrong by themselves, 3 for data loss refused, 1 for what the
/// outside world refuses.
pub fn lake_error(error: LakeError) -> ExitError {
    match error {
        LakeError::Configuration(_) => ExitError::usage(error),
        LakeError::DataLossRefused(_) => ExitError::refused(error),
        _ => ExitError::failed(error),
    }
}

/// An error of Kafka as an exit: 2 for settings that are wrong by themselves, 3 for fenced, 1 for what the outside world
/// refuses.
pub fn kafka_error(error: KafkaError) -> ExitError {
    match error {
        KafkaError::Configuration(_) => ExitError::usage(error),
        KafkaError::Fenced(_) => ExitError::refused(error),
        _ => ExitError::failed(error),
    }
}

/// An error of a query as an exit: 2 for what is asked wrongly by its settings, 3 for records that are gone, 1 for the rest.
/// An error in the SQL shows its place.
pub fn query_error(error: QueryError) -> ExitError {
    match error {
        QueryError::Lake(error) => lake_error(error),
        QueryError::Output(error) => ExitError::stdout(error),
        error @ QueryError::NotInView { .. } => ExitError::usage(error),
        QueryError::Parameter(error) => match error.excerpt.is_empty() {
            true => ExitError::usage(error.message),
            false => ExitError::usage(error.message).with_excerpt(error.excerpt),
        },
        QueryError::Tail(error) if error.is_gone => ExitError::refused(error),
        QueryError::Sql(place) | QueryError::ReadOnly(place) | QueryError::Execution(place) => {
            let SqlError {
                source_name,
                line,
                column,
                message,
                excerpt,
            } = *place;
            ExitError::failed(format!("{source_name}:{line}:{column}: {message}")).with_excerpt(excerpt)
        }
        other => ExitError::failed(other),
    }
}
