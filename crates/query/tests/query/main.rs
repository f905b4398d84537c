//! Queries on small lakes on local disk.
//!
//! - [`lake`]: the lakes;
//! - [`tables`]: the right rows, from no more files than needed;
//! - [`running`]: read-only, errors at their place, limits, outputs;
//! - [`view`]: earlier versions, and rows beyond a version;
//! - [`counting`]: rows counted by columns of few values;
//! - [`golden`]: the answers of `sql/`, as `tests/golden` holds them.

mod counting;
mod golden;
mod lake;
mod running;
mod tables;
mod view;
