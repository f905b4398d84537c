//! Insights: what the logins of the last moments look like, as one log line and one JSON record for each window.
//!
//! A window closes after a number of records or after a time, and never sooner than a second after the one before it: at
//! a backlog of 700,000 records a second a window then holds 700,000 records instead of 7,000 windows being published.
//! Only what is committed is counted: records are noted when they are handled, and a commit makes them count, an abort
//! forgets them. (At least once, a record that is handled again after a failure counts again.)
//!
//! Memory is bounded whatever the clients send: closed sets are arrays, users are a heavy-hitters sketch and a HyperLogLog,
//! delays are a logarithmic histogram. What goes wrong with publishing never reaches the path that processes records:
//! reports go through a short queue to a thread of their own, and what does not fit is dropped and counted.
//!
//! User ids stand in the JSON record only, as they stand in the processed event (pseudonyms where privacy asks for them);
//! never in the log line (invariant 11).
//!
//! In the order of data flow:
//!
//! - `args`: flags and configuration
//! - `counts`: the closed sets; `samples`: the delays of a transaction that is not committed yet
//! - `collect`: [`Insights`], one for each worker: pending, committed, due
//! - `report`: [`InsightReport`], the JSON and the log line
//! - `sink`: [`InsightHandle`], the thread that publishes; `directory`: one file for each report
//! - `routes`: `/api/insights`

mod args;
mod collect;
mod counts;
mod directory;
mod report;
mod routes;
mod samples;
mod sink;

pub use args::{InsightsArgs, InsightsSettings};
pub use collect::Insights;
pub use directory::MAX_FILES;
pub use report::{Delay, InsightReport, LocaleCount, UserCount};
pub use routes::router;
pub use sink::{InsightError, InsightHandle, KEPT_REPORTS};
