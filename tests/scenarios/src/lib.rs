//! The harness of the scenario tests: real Apache Kafka, real MinIO, our real binaries, and a reader of the table that
//! shares no code with us.
//!
//! Guarantees: nothing that a scenario starts outlives the test binary (each child dies with it, whatever ends it);
//! everything listens on loopback only; every wait has a limit and says what it waited for; a scenario whose parts are
//! not installed is reported as ignored with the reason, and fails when `CI=true`.
//!
//! In the order in which a scenario meets them:
//! - [`runner`]: `main` of a file of scenarios
//! - [`parts`]: where the installed parts and our binaries are
//! - [`scenario`]: names, folders and ready-made command lines of one scenario
//! - [`kafka`], [`minio`]: the two servers, one of each shared by a test binary
//! - [`process`]: one of our binaries, started, watched, signalled
//! - [`http`]: its `/metrics` and `/health`
//! - [`progress`]: how far producer and consumers are, the clock of what scenarios do to them
//! - [`load`]: events in phases, each with something that happens in the middle of it
//! - [`exactness`]: is every input position there, once and in order?
//! - [`delta_log`]: the commits of a table as they lie in its log
//! - [`reader`]: the table through Python's deltalake and DuckDB
//! - [`wait`], [`spawn`]: waiting for a condition; starting children that cannot be left behind

pub mod delta_log;
pub mod exactness;
pub mod http;
pub mod kafka;
pub mod load;
pub mod minio;
pub mod parts;
pub mod process;
pub mod progress;
pub mod reader;
pub mod runner;
pub mod scenario;
pub mod spawn;
pub mod wait;
