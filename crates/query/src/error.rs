//! What can go wrong with a query, by cause, each as one clear line; an error in the SQL also shows the place.
//!
//! A broken statement, a refused one and an unknown name all carry a [`SqlError`]: source, line, column, the line of SQL
//! and a caret under the place. `Display` of [`QueryError`] is what the user reads.

use std::sync::Arc;
use std::time::Duration;

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use loginlake_lake::LakeError;

use crate::cluster::ClusterAddress;
use crate::hints::explain;
use crate::limits::spill::SPILL_LIMIT_REACHED;
use crate::params::ParameterError;
use crate::place::{Place, Source, SqlError, Text, split_place, to_usize};
use crate::view::TailError;

/// An error of the query engine. None of them leaves anything behind: queries write nothing.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The SQL cannot be parsed, or names something that does not exist, or its types do not fit.
    #[error("{0}")]
    Sql(Box<SqlError>),
    /// The statement would change something: only reading is allowed.
    #[error("{0}")]
    ReadOnly(Box<SqlError>),
    /// A value that the SQL takes is missing, has another type, or is not taken.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The SQL text holds comments and white space only.
    #[error("{source_name} holds no SQL statement")]
    NoStatement {
        /// The file, or how else the text is called.
        source_name: String,
    },
    /// The lake has none of its tables.
    #[error(
        "the lake {lake} holds no table: fill it with `cargo run --release --bin demo` or `olap ingest`, or name \
         another one with --lake"
    )]
    NoTables {
        /// The lake's address.
        lake: String,
    },
    /// The answer that is asked for is pinned to tables, and this one is not among them.
    #[error("the table {table} is not part of this answer: {detail}")]
    NotInView {
        /// Name of the table.
        table: &'static str,
        /// Why, and what to do.
        detail: &'static str,
    },
    /// The log does not go back that far.
    #[error("no version of the table {table} that was committed by then is in its log: name a later time")]
    NoVersionAt {
        /// Name of the table.
        table: &'static str,
    },
    /// The records that the table does not hold cannot be read.
    #[error(transparent)]
    Tail(TailError),
    /// The lake cannot be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// What the table's log says cannot be understood.
    #[error("cannot use the table {table}: {detail}")]
    Table {
        /// Name of the table.
        table: &'static str,
        /// What is wrong, with the value.
        detail: String,
    },
    /// A data file that the log names is gone: vacuum took it, as no version that is young enough needs it.
    #[error(
        "a file of this version is gone ({path}): vacuum took it; run the query again, or with --at ask a later version"
    )]
    FileGone {
        /// Path of the file in the store.
        path: String,
    },
    /// The query did not end in time.
    #[error("the query did not end within {} s: raise the time limit, or filter by login_date", .limit.as_secs_f64())]
    Timeout {
        /// The limit that was set.
        limit: Duration,
    },
    /// The query needs more memory than it may have, and what it holds cannot be spilled.
    #[error("the query needs more than its {} MiB of memory: raise the memory limit, or filter by login_date ({detail})", .limit_bytes >> 20)]
    OutOfMemory {
        /// The limit that was set.
        limit_bytes: usize,
        /// Which operator could not get more.
        detail: String,
    },
    /// The query needs more room for temporary files than it may have.
    #[error("the query needs more than {} MiB of temporary files: raise the spill limit, or filter by login_date", .limit_bytes >> 20)]
    SpillFull {
        /// The limit that was set.
        limit_bytes: u64,
    },
    /// The query failed while it ran (a division by zero, a value that cannot be cast, an unreadable file), with the place of
    /// the value that is to blame, or else of its statement.
    #[error("{0}")]
    Execution(Box<SqlError>),
    /// The cluster cannot compute it: nothing is wrong with the statement.
    #[error("the cluster at {address} {detail}")]
    Cluster {
        /// Its scheduler.
        address: ClusterAddress,
        /// What it does, with what to do.
        detail: String,
    },
    /// The result could not be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] std::io::Error),
    /// The engine could not be set up.
    #[error("cannot set up the query engine: {0}")]
    Setup(String),
}

/// An error of parsing or planning, at the place that it names, else at `statement`.
pub(crate) fn planning_error(source: Source<'_>, error: DataFusionError, statement: Place) -> QueryError {
    let error = match unpack(error) {
        Ok(ours) => return ours,
        Err(error) => error,
    };
    if !is_about_the_sql(unwrapped(&error)) {
        return QueryError::Execution(source.error_at(statement, one_line(&error)));
    }
    let (text, said_place) = split_place(&one_line(&error));
    let place = error
        .diagnostic()
        .and_then(|diagnostic| diagnostic.span)
        .map(|span| {
            let (start, end) = (span.start, span.end);
            let length = if start.line == end.line {
                end.column.saturating_sub(start.column)
            } else {
                1
            };
            Place {
                line: to_usize(start.line),
                column: to_usize(start.column),
                length: to_usize(length),
            }
        })
        .or(said_place)
        .or_else(|| place_of_quoted(source, statement, &text))
        .unwrap_or(statement);
    QueryError::Sql(source.error_at(place, explain(&error, text)))
}

/// What is needed to say what went wrong in a running statement, and where.
#[derive(Debug)]
pub(crate) struct Failing {
    pub(crate) text: Arc<Text>,
    /// Where the statement begins.
    pub(crate) place: Place,
    pub(crate) memory_limit_bytes: usize,
    pub(crate) spill_limit_bytes: u64,
}

impl Failing {
    /// Sorts an error of a running statement by what the user would do about it.
    pub(crate) fn error(&self, error: DataFusionError) -> QueryError {
        let error = match unpack(error) {
            Ok(ours) => return ours,
            Err(error) => error,
        };
        // Operators that several others read share one error, which cannot be taken out of it.
        if let DataFusionError::External(inner) = unwrapped(&error)
            && let Some(QueryError::Tail(inner)) = inner.downcast_ref::<QueryError>()
        {
            return QueryError::Tail(inner.clone());
        }
        if let DataFusionError::ResourcesExhausted(detail) = unwrapped(&error) {
            let detail = detail
                .lines()
                .next()
                .unwrap_or_default()
                .trim_end_matches([':', ' '])
                .to_owned();
            return QueryError::OutOfMemory {
                limit_bytes: self.memory_limit_bytes,
                detail,
            };
        }
        let text = one_line(&error);
        if text.contains(SPILL_LIMIT_REACHED) {
            return QueryError::SpillFull {
                limit_bytes: self.spill_limit_bytes,
            };
        }
        // The Parquet reader keeps the store's error as text only.
        let gone = text
            .split_once("Object at location ")
            .and_then(|(_, rest)| rest.split_once(" not found"));
        if let Some((path, _)) = gone {
            return QueryError::FileGone {
                path: path.to_owned(),
            };
        }
        self.failed(text)
    }

    /// An error of the statement as it runs.
    pub(crate) fn failed(&self, text: String) -> QueryError {
        let source = self.text.source();
        let place = place_of_quoted(source, self.place, &text).unwrap_or(self.place);
        QueryError::Execution(source.error_at(place, format!("the query failed: {text}")))
    }
}

/// The literal that an error quotes, when the text holds it exactly once from the statement on.
fn place_of_quoted(source: Source<'_>, statement: Place, text: &str) -> Option<Place> {
    let quoted = text.split('\'').nth(1).filter(|quoted| !quoted.is_empty())?;
    let tokens = Tokenizer::new(&GenericDialect {}, source.sql)
        .tokenize_with_location()
        .ok()?;
    let places = tokens.iter().filter_map(|token| {
        let place = Place::of(token);
        let is_it = matches!(&token.token, Token::SingleQuotedString(literal) if literal == quoted);
        (is_it && (place.line, place.column) >= (statement.line, statement.column)).then_some(place)
    });
    let mut places = places.take(2);
    let first = places.next()?;
    places.next().is_none().then_some(first)
}

/// Sends one of our errors through DataFusion; [`unpack`] takes it out at the other end.
pub(crate) fn pack(error: QueryError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn unpack(error: DataFusionError) -> Result<QueryError, DataFusionError> {
    match error {
        DataFusionError::External(inner) => inner
            .downcast::<QueryError>()
            .map(|ours| *ours)
            .map_err(DataFusionError::External),
        DataFusionError::Context(text, inner) => {
            unpack(*inner).map_err(|inner| DataFusionError::Context(text, Box::new(inner)))
        }
        DataFusionError::Diagnostic(diagnostic, inner) => {
            unpack(*inner).map_err(|inner| DataFusionError::Diagnostic(diagnostic, Box::new(inner)))
        }
        other => Err(other),
    }
}

/// Looks below the wrapping that DataFusion puts around an error on its way up.
pub(crate) fn unwrapped(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => unwrapped(inner),
        DataFusionError::Shared(inner) => unwrapped(inner),
        DataFusionError::Collection(errors) if !errors.is_empty() => unwrapped(&errors[0]),
        DataFusionError::External(inner) => inner.downcast_ref::<DataFusionError>().map_or(error, unwrapped),
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            arrow::error::ArrowError::ExternalError(inner) => {
                inner.downcast_ref::<DataFusionError>().map_or(error, unwrapped)
            }
            _ => error,
        },
        _ => error,
    }
}

/// Whether the user's text is at fault, rather than the store or the machine.
fn is_about_the_sql(error: &DataFusionError) -> bool {
    matches!(
        error,
        DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Configuration(_)
            | DataFusionError::Execution(_)
            | DataFusionError::ArrowError(..)
            | DataFusionError::Internal(_)
    )
}

/// The error without its backtrace and DataFusion's prefixes, on one line.
fn one_line(error: &DataFusionError) -> String {
    let text = match error {
        DataFusionError::SQL(error, _) => match error.as_ref() {
            datafusion::sql::sqlparser::parser::ParserError::ParserError(text)
            | datafusion::sql::sqlparser::parser::ParserError::TokenizerError(text) => text.clone(),
            other => other.to_string(),
        },
        DataFusionError::Diagnostic(_, inner) => return one_line(inner),
        _ => error.strip_backtrace(),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = text.as_str();
    // Constants are worked out by a rule of the optimizer, which puts its name before what is wrong.
    if let Some((_, cause)) = rest
        .strip_prefix("Optimizer rule '")
        .and_then(|rule| rule.split_once("' failed caused by "))
    {
        rest = cause;
    }
    for prefix in [
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "Schema error: ",
    ] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    rest.trim_end_matches('.').to_owned()
}
