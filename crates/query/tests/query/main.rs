//! Queries on small lakes on local disk.
//!
//! - [`lake`]: the lakes;
//! - [`tables`]: the right rows, from no more files than needed;
//! - [`running`]: read-only, errors at their place, limits, outputs;
//! - [`outputs`]: every format and chart, as `tests/golden` holds them;
//! - [`parameters`]: values for `$name`s;
//! - [`limits`]: memory, temporary files, time, stopping;
//! - [`functions`]: the functions of this field;
//! - [`view`]: earlier versions, and rows beyond a version;
//! - [`counting`]: rows counted by columns of few values;
//! - [`golden`]: the answers of `sql/`, as `tests/golden` holds them.

mod counting;
mod functions;
mod golden;
mod lake;
mod limits;
mod outputs;
mod parameters;
mod running;
mod tables;
mod view;
