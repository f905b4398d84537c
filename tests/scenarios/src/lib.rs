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
//! - [`secure`]: a broker with TLS and logins, [`authority`] and [`identity`]: who issues its certificates and tokens
//! - [`registry`]: a schema registry of its own for a scenario, and bodies in the formats that it describes
//! - [`opensearch`], [`prometheus`]: a node and a server of its own for a scenario
//! - [`saved_objects`]: what is imported into OpenSearch Dashboards
//! - [`browser`]: a headless Chromium that looks at our pages
//! - [`receiver`]: what alerts are posted to
//! - [`checklist`]: what `realtime check` and `olap check` print
//! - [`collector`]: what traces and lineage are sent to
//! - [`records`], [`admin`]: what goes into topics and comes out of them; what an operator does to a broker
//! - [`process`]: one of our binaries, started, watched, signalled
//! - [`http`]: its `/metrics` and `/health`
//! - [`progress`]: how far producer and consumers are, the clock of what scenarios do to them
//! - [`load`]: events in phases, each with something that happens in the middle of it
//! - [`watch`]: committed offsets never go back, and the group never stands still for long
//! - [`fail_points`]: where an ingester can be made to die
//! - [`exactness`], [`positions`]: is every input position there, once and in order?
//! - [`bucket_copy`]: every object of a bucket on the disk: what is in its bytes, and what becomes of it when it is old
//! - [`delta_log`]: the commits of a table as they lie in its log
//! - [`document`]: the commands of a document, run as its reader would
//! - [`cluster`]: a scheduler and executors of our own
//! - [`side_lake`]: more lakes beside the one of a scenario, each judged as a whole
//! - [`audits`]: `olap audit` of a lake or of a damaged copy, and what it says
//! - [`reader`]: the table through Python's deltalake and DuckDB
//! - [`keys`]: a server that hands out credentials of the object store for a while
//! - [`engines`]: Spark and Trino, where they are installed
//! - [`trouble`]: retention, deleted topics, lost replies
//! - [`wait`], [`spawn`]: waiting for a condition; starting children that cannot be left behind

pub mod admin;
pub mod audits;
pub mod authority;
pub mod browser;
pub mod bucket_copy;
pub mod checklist;
pub mod cluster;
pub mod collector;
pub mod delta_log;
pub mod document;
pub mod engines;
pub mod exactness;
pub mod fail_points;
pub mod http;
pub mod identity;
pub mod kafka;
pub mod keys;
pub mod load;
pub mod minio;
pub mod opensearch;
pub mod parts;
pub mod positions;
pub mod process;
pub mod progress;
pub mod prometheus;
pub mod reader;
pub mod receiver;
pub mod records;
pub mod registry;
pub mod runner;
pub mod saved_objects;
pub mod scenario;
pub mod secure;
pub mod side_lake;
pub mod spawn;
pub mod trouble;
pub mod wait;
pub mod watch;
