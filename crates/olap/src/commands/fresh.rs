//! Arguments of every command that can read the rest of the topic: as `olap ingest` reads and judges it.

use std::sync::Arc;

use clap::Args;
use loginlake_olap::fresh::FreshSource;
use loginlake_olap::setup;
use loginlake_query::QueryOptions;
use loginlake_service::config::{ConfigFile, ContractArgs, KafkaArgs, SchemaRegistryArgs, Span, TopicArgs};
use loginlake_service::contract;
use loginlake_service::exit::ExitError;

/// Where the topic is, and how its records are judged.
#[derive(Args, Clone, Debug)]
pub struct FreshArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    topics: TopicArgs,
    #[command(flatten)]
    contract: ContractArgs,
    #[command(flatten)]
    schema_registry: SchemaRegistryArgs,
}

impl FreshArgs {
    /// The limits of a query that the configuration file sets, and what locales mean.
    pub fn query_options(&self, file: &ConfigFile) -> Result<QueryOptions, ExitError> {
        let section = &file.query;
        let mut options = QueryOptions::default();
        if let Some(size) = section.memory_limit {
            options.memory_limit_bytes = usize::try_from(size.bytes()).unwrap_or(usize::MAX);
        }
        if let Some(size) = section.max_spill {
            options.max_spill_bytes = size.bytes();
        }
        if let Some(directory) = &section.spill_directory {
            options.spill_directory.clone_from(directory);
        }
        options.timeout = section.timeout.map(Span::duration);
        options.max_rows = section.max_rows;
        if let Some(path) = self.contract.regions.as_ref().or(file.regions.as_ref()) {
            options.regions = Some(contract::regions(path)?);
        }
        Ok(options)
    }

    /// The topic. Not to be called within an async task: the client of a registry cannot be set up there.
    pub fn source(self, file: &ConfigFile) -> Result<Arc<FreshSource>, ExitError> {
        let kafka = setup::kafka(self.kafka.resolve(file)?);
        let topic = self.topics.resolve(file)?.input;
        let contract = contract::contract(&self.contract.resolve(file)?)?;
        let registry = self.schema_registry.resolve(file)?;
        FreshSource::new(kafka, topic, contract, registry.as_ref())
    }
}
