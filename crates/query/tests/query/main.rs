//! Queries on small lakes on local disk.
//!
//! - [`lake`]: the lakes;
//! - [`tables`]: the right rows, from no more files than needed;
//! - [`running`]: read-only, errors at their place, limits, outputs;
//! - [`outputs`]: every format and chart, as `tests/golden` holds them;
//! - [`parameters`]: values for `$name`s;
//! - [`limits`]: memory, temporary files, time, stopping;
//! - [`stopping`]: what once could not be stopped, or did not spill;
//! - [`functions`]: the functions of this field;
//! - [`view`]: earlier versions, and rows beyond a version;
//! - [`counting`]: rows counted by columns of few values;
//! - [`golden`]: what the files of `sql/` say of themselves, and their answers counted a second time;
//! - [`slt`]: the answers of `sql/`, row by row, as `tests/golden/sql` holds them.

mod counting;
mod functions;
mod golden;
mod lake;
mod limits;
mod outputs;
mod parameters;
mod running;
mod slt;
mod stopping;
mod tables;
mod view;
