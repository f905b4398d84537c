//! What keeps a query within bounds.
//!
//! - [`memory`]: what operators share, with room for those that cannot spill;
//! - [`spill`]: temporary files without a name, and a limit on their bytes;
//! - [`cancel`]: a plan that gives way often enough to be stopped at once.
//!
//! Rows and time are counted where results leave (`run`).

pub(crate) mod cancel;
pub(crate) mod memory;
pub(crate) mod spill;
