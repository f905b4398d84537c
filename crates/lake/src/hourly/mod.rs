//! The batch view `logins_hourly`: logins counted by hour and dimensions, derived from `logins` and from nothing else.
//!
//! In the order in which it happens:
//! - [`changes`]: which dates of `logins` changed since the last refresh, from its log (pure but for reading it);
//! - `count`: the rows of a date counted in bounded memory;
//! - `files`: a date's rows stored;
//! - [`complete`]: up to where the view is complete, and which hours are closed;
//! - [`mod@refresh`]: the dates' files replaced by one commit.
//!
//! Guarantee: after a refresh at version V of `logins` the view is what counting all rows of version V gives. Its log says V, the
//! offsets of V and which commit V was, as `txn` actions of the same commit. Of two refreshers at once one wins, the other begins
//! anew. When the log of `logins` does not go back to the last refresh, or is another table's (made again, put back from a copy),
//! all dates are counted again: the view is never stale without saying so.
//!
//! However often it is refreshed, the view has one file for each date (more only for a date whose groups did not fit into the
//! memory), and its log a checkpoint every ten commits: what a query opens does not grow with the number of refreshes.

pub mod changes;
pub mod complete;
mod count;
mod files;
pub mod refresh;

pub use complete::Completeness;
pub use refresh::{RefreshOptions, RefreshReport, refresh};
