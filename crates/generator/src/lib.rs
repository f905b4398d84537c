//! Seeded login events for the topic `user-login`: good, from older releases, and malformed in every way that the
//! contract rejects.
//!
//! The flow of a record:
//!
//! ```text
//! users × states × timeline ─► login ─► (bad) ─► record ─► run at a pace ─► Kafka, or a file of lines
//!                                    a file of lines ─┘
//! ```
//!
//! The same seed with a fixed period gives the same bytes on every machine and in every release of this crate's
//! dependencies; the sample in `data/` is tested to be made again byte for byte. Memory does not grow with the number
//! of records.
//!
//! - `rng`: the random numbers; `states`, `users`: who logs in; `timeline`: when
//! - `login`: a good event's bytes; `bad`: a malformed record's
//! - [`generator`]: the sequence of records, as [`RecordBuffer`]s or by iteration
//! - [`ndjson`]: records as lines of a file; [`source`]: where they come from; [`sink`], [`to_kafka`]: where they go
//! - [`pace`]: when each may leave; [`run`](mod@run): all of it together
//!
//! ```
//! use loginlake_generator::{Generator, GeneratorConfig};
//!
//! let config = GeneratorConfig { seed: 7, count: Some(3), bad_share: 0.02, ..Default::default() };
//! let records: Vec<_> = Generator::new(config).unwrap().collect();
//! assert_eq!(records.len(), 3);
//! ```

mod bad;
pub mod generator;
mod login;
pub mod ndjson;
pub mod pace;
mod record;
mod rng;
pub mod run;
pub mod sink;
pub mod source;
mod states;
mod timeline;
pub mod to_kafka;
mod users;

pub use generator::{ConfigError, Generator, GeneratorConfig, Timeline};
pub use record::{GeneratedRecord, RecordBuffer};
pub use run::{RunError, Summary, run};
