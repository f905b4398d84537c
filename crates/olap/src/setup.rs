//! Resolved settings into the things that they describe, and errors into exit codes.

use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_lake::table::schema::PartitionBy;
use loginlake_lake::{Lake, LakeError, StoreOptions};
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
