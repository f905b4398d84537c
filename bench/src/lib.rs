//! What the probes of `bench/` share. A probe is the least program that does a part of the work: it says how fast
//! librdkafka and the broker are on this machine, in the same run as ours, so that a ratio outlives the machine.
//!
//! - [`config`]: the librdkafka settings of `crates/kafka`, kept equal to them by a test;
//! - [`backlog`]: a member of a consumer group that reads a topic to its end;
//! - [`sender`]: a producer that waits while its queue is full and counts what was given up;
//! - [`delays`]: quantiles of measured delays.
//!
//! Each probe prints one JSON object on stdout; `bench/run` reads it.

pub mod backlog;
pub mod config;
pub mod delays;
pub mod sender;
