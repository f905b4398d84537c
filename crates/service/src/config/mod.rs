//! The configuration: built-in defaults < file < environment < flags, resolved once into plain settings.
//!
//! Each group of flags is a clap `Args` to be flattened into a command; clap puts a flag over its environment
//! variable, and `resolve` puts both over the file and the default. Whoever gets the settings never looks at the
//! environment again. A wrong value stops the process before it does anything, with one line that says where it is.
//!
//! ```
//! use clap::Parser;
//! use loginlake_service::config::{CommonArgs, ConfigError, KafkaArgs, TopicArgs};
//!
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(flatten)]
//!     common: CommonArgs,
//!     #[command(flatten)]
//!     kafka: KafkaArgs,
//!     #[command(flatten)]
//!     topics: TopicArgs,
//! }
//!
//! fn main() -> Result<(), ConfigError> {
//!     let cli = Cli::parse_from(["realtime", "--brokers", "broker-1:9092", "-X", "linger.ms=5"]);
//!     let file = cli.common.load()?;
//!     let kafka = cli.kafka.resolve(&file)?;
//!     let topics = cli.topics.resolve(&file)?;
//!     assert_eq!((kafka.brokers.as_str(), topics.input.as_str()), ("broker-1:9092", "user-login"));
//!     Ok(())
//! }
//! ```

mod alerts;
mod choices;
mod rate;
mod values;

mod properties;

mod file;
mod unknown_keys;

mod document;
pub mod keys;
mod schema;

mod common;
mod contract;
mod http;
mod kafka;
mod schema_registry;
mod secret_files;
mod telemetry;

mod error;

pub use alerts::{AlertArgs, AlertLimits, AlertName, AlertSettings, AlertsSection, NotAShare, Share};
pub use choices::{Guarantee, LogFormat, PersonalField, TablePartitioning};
pub use common::{CommonArgs, LakeArgs, LogSettings, Service};
pub use contract::{ContractArgs, PSEUDONYM_KEY_VARIABLE, ResolvedContract};
pub use document::configuration_markdown;
pub use error::ConfigError;
pub use file::{
    ConfigFile, IndexSection, IngestSection, MaintainSection, PrivacySection, QuerySection, RealtimeSection,
    ServeSection,
};
pub use http::{HTTP_TOKEN_VARIABLE, HttpArgs, HttpBind, TokenSource};
pub use kafka::{
    CreateTopics, CreateTopicsArgs, GroupArgs, KafkaArgs, OutputKafkaArgs, ResolvedKafka, TopicArgs, Topics,
    topic_name,
};
pub(crate) use properties::is_secret as is_secret_property;
pub use properties::{Properties, PropertyArg, properties_from_environment};
pub use rate::Rate;
pub use schema::json_schema;
pub use schema_registry::{
    RegistryCredentials, ResolvedSchemaRegistry, SCHEMA_REGISTRY_CREDENTIALS_VARIABLE, SchemaRegistryArgs,
};
pub use telemetry::{
    LineageSettings, OPENLINEAGE_API_KEY_VARIABLE, ParentRun, Telemetry, TelemetryArgs, TraceSettings,
};
pub(crate) use unknown_keys::line_of;
pub use values::{ByteSize, HttpAddress, LogFilter, Secret, Span, UtcTime, ValueError};

/// The layering of one setting: what a flag or its variable says, else what the file says, else the default.
pub fn layered<T>(flag: Option<T>, file: Option<T>, default: T) -> T {
    flag.or(file).unwrap_or(default)
}

/// This process's variables. Those that are not UTF-8 cannot be ours and are left out.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn not_empty(setting: &'static str, value: String) -> Result<String, ConfigError> {
    if value.trim().is_empty() {
        Err(ConfigError::invalid(setting, "is empty"))
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
