//! Structured logs on stderr, so that stdout is data only. Text for people at a terminal, JSON for machines. A log
//! that cannot be written is dropped: it never stops the work.

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogFormat;
use crate::exit::{ExitError, colours_wanted};

/// The targets that are ours: the crates, which all begin alike, and the binaries.
const OUR_TARGETS: [&str; 5] = ["loginlake", "realtime", "olap", "demo", "generate"];

/// Why logging cannot begin.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// `RUST_LOG` cannot be understood.
    #[error("RUST_LOG `{given}` is not a filter: {source}")]
    Filter {
        /// What it says.
        given: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else logs in this process already.
    #[error("logging was begun twice")]
    AlreadyBegun,
}

impl From<LoggingError> for ExitError {
    fn from(error: LoggingError) -> Self {
        match error {
            LoggingError::Filter { .. } => {
                Self::usage(error).with_hint("write it as in: RUST_LOG=warn,olap=debug")
            }
            LoggingError::AlreadyBegun => Self::failed(error),
        }
    }
}

/// Begins logging for this process. Without a format it is text on a terminal and JSON otherwise. `RUST_LOG` wins
/// over `verbosity` (how often `-v` was given) and `quiet`.
///
/// # Errors
/// `RUST_LOG` cannot be understood, or logging was begun before.
pub fn init(format: Option<LogFormat>, verbosity: u8, quiet: bool) -> Result<(), LoggingError> {
    let terminal = io::stderr().is_terminal();
    let from_environment = std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.trim().is_empty());
    let directives = from_environment.unwrap_or_else(|| default_directives(verbosity, quiet));
    let filter = EnvFilter::try_new(&directives).map_err(|source| LoggingError::Filter {
        given: directives,
        source,
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(terminal && colours_wanted())
        .log_internal_errors(false);
    let format = format.unwrap_or(if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    });
    let begun = match format {
        LogFormat::Text => logs.finish().try_init(),
        LogFormat::Json => logs.json().flatten_event(true).finish().try_init(),
    };
    begun.map_err(|_| LoggingError::AlreadyBegun)
}

/// Ours at info and everybody else at warn; each `-v` is one level more, `-q` leaves errors only.
fn default_directives(verbosity: u8, quiet: bool) -> String {
    let (ours, others) = match (quiet, verbosity) {
        (true, _) => ("error", "error"),
        (false, 0) => ("info", "warn"),
        (false, 1) => ("debug", "info"),
        (false, _) => ("trace", "debug"),
    };
    let ours: Vec<String> = OUR_TARGETS
        .iter()
        .map(|target| format!("{target}={ours}"))
        .collect();
    format!("{others},{}", ours.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbosity_chooses_the_levels() {
        let ours = "info,realtime=info,olap=info,demo=info,generate=info";
        assert_eq!(default_directives(0, false), format!("warn,loginlake={ours}"));
        assert!(default_directives(1, false).starts_with("info,loginlake=debug,"));
        assert!(default_directives(9, false).starts_with("debug,loginlake=trace,"));
        assert!(default_directives(0, true).starts_with("error,loginlake=error,"));
    }

    #[test]
    fn every_default_is_a_filter() {
        for (verbosity, quiet) in [(0, false), (1, false), (2, false), (0, true)] {
            EnvFilter::try_new(default_directives(verbosity, quiet)).expect("a filter");
        }
    }
}
