//! `realtime index`: every processed login once in OpenSearch, for people who look at it there.
//!
//! Guarantee: at least once on the way, once in the index. Offsets of the consumer group are committed only after everything
//! below them is answered for: stored, found to be stored already, or on the dead-letter topic. The id of a document is its
//! record's position in the *input* topic, and the index follows from the event's own time, so whatever is read again (a
//! crash, a replay from the beginning, repeats of an at-least-once `realtime run`) meets its own document and is refused as
//! one that is there ([ADR 11](../../../docs/adr/0011-indices-by-month.md)).
//!
//! OpenSearch away, overloaded or refusing: what is read waits in bounded memory, partitions are paused, the group is served,
//! readiness says why, and it is tried again with growing pauses, for ever. Only what is wrong with a document itself makes
//! it a dead letter.
//!
//! In the order in which a record goes through:
//! - [`args`]: flags and configuration into [`IndexOptions`];
//! - `template`: types of the fields, installed at the start;
//! - `document`: one record into its id, its index and its line, or a reason why not;
//! - `batch`: lines of one bulk request;
//! - `worker`: polls, hands batches to senders, commits; `offsets`: what may be committed; `end`: whether all is read;
//! - `deliver`: one batch, until everything in it is settled; `client`: HTTP; `answer`: what OpenSearch said of each item;
//! - `letters`: what cannot be stored;
//! - `metrics`: what is counted; `check`: what `realtime check` asks.

mod answer;
pub mod args;
mod batch;
pub(crate) mod check;
mod client;
mod deliver;
mod document;
mod end;
mod letters;
mod metrics;
mod offsets;
mod template;
mod worker;

use std::time::Duration;

use loginlake_kafka::KafkaSettings;
use loginlake_kafka::topics::Topics as TopicClient;
use loginlake_service::exit::ExitError;
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;

pub use args::IndexArgs;
pub use client::{ClientSettings, Credentials};

use crate::run::exit_error;

/// What `realtime index` is told.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// The cluster of the processed topic.
    pub kafka: KafkaSettings,
    /// The processed topic.
    pub topic: String,
    /// Where records go that OpenSearch cannot take.
    pub dead_letter_topic: String,
    /// The consumer group.
    pub group_id: String,
    /// How OpenSearch is reached.
    pub client: ClientSettings,
    /// Alias of all indices, and the beginning of their names.
    pub name: String,
    /// Largest bulk request, bytes.
    pub batch_bytes: usize,
    /// Most records of a bulk request.
    pub batch_records: usize,
    /// Longest that a record waits for others.
    pub batch_age: Duration,
    /// Most bulk requests on their way at once.
    pub in_flight: usize,
    /// Install the template when it is missing or older.
    pub create_template: bool,
    /// Stop once everything that the topic held at the start is settled and committed.
    pub exit_at_end: bool,
}

/// Runs until told to stop, or until the end of the topic with `exit_at_end`. Blocks.
///
/// # Errors
/// Exit code 2 for settings that cannot work, 1 for what Kafka or OpenSearch refuse at the start, or Kafka for good later.
pub fn run(
    options: &IndexOptions,
    shutdown: &Shutdown,
    health: &Health,
    metrics: &Metrics,
) -> Result<(), ExitError> {
    let topics = TopicClient::connect(&options.kafka).map_err(exit_error)?;
    let bounds = topics.bounds(&options.topic).map_err(exit_error)?;
    topics.describe(&options.dead_letter_topic).map_err(exit_error)?;
    let client = client::Client::new(&options.client)?;
    template::ensure(&client, &options.name, options.create_template)?;
    let metrics = metrics::IndexMetrics::register(metrics);
    let component = health.component("index", Some(worker::STALL_LIMIT));
    worker::Worker::new(options, &bounds, shutdown, component, metrics).run(&client)
}
