//! Everything that this software asks of Kafka; the only crate that knows rdkafka.
//!
//! - [`settings`]: brokers and librdkafka properties, ours last;
//! - [`client`]: what librdkafka says about itself, as log lines and as the cause of an error;
//! - `oauth`: tokens for OAUTHBEARER; `refusal` and `diagnosis`: what to change when a broker refuses;
//! - `statistics`: what a client holds in memory, and whether a quota slows it down;
//! - [`topics`]: which topics there are, their partitions and incarnation (topic id), making them on request;
//! - [`inspect`]: what a broker tells to who only asks: replicas, settings, rights, groups;
//! - [`consumer`]: a member of a consumer group, polled by one thread, that tells about every change of its partitions
//!   before the group is answered;
//! - [`producer`]: the plain, the at-least-once and the transactional producer;
//! - [`reader`]: all partitions of whole topics without a group, for those who only look;
//! - [`lag`]: how far a whole group is behind, for those who only look;
//! - [`range`]: exactly the offsets from one to another, for those who answer for them;
//! - [`embedded`]: librdkafka's in-process mock cluster, for the demo.

pub mod client;
pub mod consumer;
mod diagnosis;
pub mod embedded;
mod error;
pub mod inspect;
pub mod lag;
mod oauth;
pub mod producer;
pub mod range;
pub mod reader;
mod refusal;
pub mod settings;
mod statistics;
pub mod topics;

pub use error::KafkaError;
pub use settings::KafkaSettings;
pub use statistics::Statistics;

/// The one Rust wrapper of librdkafka that is used, for the types of messages.
pub use rdkafka;
