//! Counts by columns of few values (`GROUP BY region, division` with `count(*)`), which is what most questions to the lake are.
//!
//! Such columns are numbers into a dictionary in the files. DataFusion makes texts of them and groups these; here the numbers
//! themselves are counted, and each text is looked at once for each dictionary.
//!
//! In the order in which it happens:
//! - `rule`: finds the partial aggregate of such a statement in a plan, and puts a `CountExec` in its place;
//! - `exec`: reads the row groups of a partition's files with dictionaries left as they are;
//! - `groups`: which value is which number, and how many rows each combination has (pure).
//!
//! Guarantee: the same partial state as that of the aggregate that it replaces, whatever the values are: with too many of them
//! what was counted is handed on, and counting begins anew, so that memory is bounded. What it cannot read it leaves to DataFusion.

mod exec;
mod groups;
mod rule;

pub(crate) use self::rule::CountFewValues;
