//! What every service of this workspace shares, so that each of them is configured, watched, stopped and reported
//! on in the same way.
//!
//! A binary goes through the modules in this order:
//!
//! 1. [`config`] resolves defaults < file < environment < flags into plain settings, once;
//!    ([`effective`] prints them, [`reload`] reads the file again while a service runs, [`check`] has what every check has);
//! 2. [`logging`] sends structured logs to stderr;
//! 3. [`shutdown`] turns signals into one request to stop;
//! 4. [`metrics`] and [`health`] say what the service does and whether it still does it, [`delays`] how late its records are;
//! 5. [`http`] serves both, and whatever the service adds, to those who may ask, over [`tls`] where it has a certificate;
//!    [`alerts`] posts to a webhook what these two tell a person to look at;
//! 6. [`backoff`] paces what is tried again;
//! 7. [`telemetry`] tells others, where it is told to: traces ([`otel`]) and lineage ([`lineage`]);
//! 8. [`exit`] ends the process with one clear line and the right code.
//!
//! [`shell_help`] makes completion scripts and manual pages. [`memory`] says how it takes memory from the system, before all of these.
//!
//! Nothing here knows Kafka, Arrow or SQL, and nothing reads the environment after the configuration is resolved.

pub mod config;
pub mod contract;
pub mod effective;
pub mod reload;

pub mod memory;

pub mod logging;

pub mod shutdown;

pub mod lineage;
pub mod otel;
pub mod telemetry;
mod telemetry_http;

pub mod metrics;

pub mod delays;

pub mod health;

pub mod http;
mod stall;

pub mod alerts;

pub mod tls;

pub mod backoff;

pub mod check;

pub mod shell_help;

pub mod exit;
