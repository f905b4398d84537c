//! SQL over the lake: the tables `logins`, `rejected` and `logins_hourly`, read-only, by DataFusion.
//!
//! In the order in which a query meets them:
//! - [`view`]: which state of the lake it sees, and what may come after it;
//! - [`session`]: the engine: one DataFusion session with the lake's tables, a memory limit and nothing that writes;
//! - `tables`: the tables as DataFusion sees them, each pinned to one version, its files pruned from the log alone;
//! - `counts`: rows counted by columns of few values, which most questions are, without making texts of them;
//! - [`script`]: a SQL text, parsed and judged: several statements, its comment, its parameters; [`params`]: their values;
//! - [`cluster`]: the same on several machines;
//! - `functions`: the SQL functions of this field; `limits`: spill files and stopping at once;
//! - [`run`]: a script, statement by statement, the first error stops; [`prepared`]: a statement for another program, its columns
//!   and parameters known before it runs;
//! - [`mod@print`]: results as tables, CSV, JSON, NDJSON and Parquet; [`chart`]: as pictures;
//! - [`error`]: what can go wrong, by cause; `place` shows where in the SQL, `hints` what may have been meant.
//!
//! Guarantees: a query changes nothing, neither in the lake nor elsewhere, and reads nothing but the lake's tables; every
//! statement of one [`QueryEngine`] sees the same version of a table; memory is bounded and spills to temporary files.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use loginlake_lake::{Lake, StoreOptions};
//! use loginlake_query::print::{Format, Printer};
//! use loginlake_query::{Params, QueryEngine, QueryOptions, Script};
//!
//! let lake = Lake::open("./lake", &StoreOptions::from_env())?;
//! let engine = QueryEngine::open(&lake, QueryOptions::default())?;
//! let mut printer = Printer::new(Format::Table, Some(100), std::io::stdout());
//! engine.run("SELECT region, count(*) AS logins FROM logins GROUP BY region", "-e", &mut printer).await?;
//!
//! // With parameters, and the rows as they come.
//! let script = Script::parse("SELECT ip FROM logins WHERE login_date >= $from AND region = $region", "-e")?;
//! let mut params = Params::new();
//! params.set("from", "2026-01-31");
//! params.set("region", "West");
//! let mut rows = engine.stream(&script, 0, &params).await?;
//! while let Some(batch) = rows.next().await? {
//!     println!("{} rows of {}", batch.num_rows(), rows.schema());
//! }
//! # Ok(())
//! # }
//! ```

pub mod chart;
pub mod cluster;
mod counts;
pub mod error;
mod functions;
mod hints;
mod limits;
mod nesting;
pub mod params;
mod place;
pub mod prepared;
pub mod print;
pub mod run;
pub mod script;
pub mod session;
mod tables;
pub mod view;

pub use error::QueryError;
pub use params::{ParamValue, Parameter, ParameterDefault, ParameterError, ParameterType, Params};
pub use place::SqlError;
pub use prepared::{Described, Values};
pub use run::{ResultSink, ResultStream, RunSummary, StatementOutcome};
pub use script::{Script, tables_named};
pub use session::{CATALOG, QueryEngine, QueryOptions, SCHEMA, function_names};
pub use view::{FreshView, TableFacts, Tail, TailError, TailNeed, TimeBounds, TimeRange, View};
