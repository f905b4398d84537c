//! Structured logs on stderr, so that stdout is data only. Text for people at a terminal, JSON for machines. A log
//! that cannot be written is dropped: it never stops the work.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFilter, LogFormat, LogSettings};
use crate::exit::{ExitError, colours_on};

/// Gives the process another filter.
type Refilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

static REFILTER: OnceLock<Refilter> = OnceLock::new();

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
    begin(&LogSettings {
        format,
        verbosity,
        quiet,
        filter: None,
    })
}

/// The same with all settings of the logs, the filter of the configuration file with them.
///
/// # Errors
/// As [`init`].
pub fn begin(settings: &LogSettings) -> Result<(), LoggingError> {
    let terminal = io::stderr().is_terminal();
    let directives = directives(settings, from_environment());
    let filter = EnvFilter::try_new(&directives).map_err(|source| LoggingError::Filter {
        given: directives,
        source,
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colours_on(&io::stderr()))
        .log_internal_errors(false);
    let format = settings.format.unwrap_or(if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    });
    let (begun, refilter): (_, Refilter) = match format {
        LogFormat::Text => {
            let logs = logs.with_filter_reloading();
            let handle = logs.reload_handle();
            let refilter = move |filter| drop(handle.reload(filter));
            (logs.finish().try_init(), Box::new(refilter))
        }
        LogFormat::Json => {
            let logs = logs.json().flatten_event(true).with_filter_reloading();
            let handle = logs.reload_handle();
            let refilter = move |filter| drop(handle.reload(filter));
            (logs.finish().try_init(), Box::new(refilter))
        }
    };
    begun.map_err(|_| LoggingError::AlreadyBegun)?;
    let _ = REFILTER.set(refilter);
    Ok(())
}

/// Logs by the file's filter from now on, or by the built-in one. Returns what the file cannot change: `RUST_LOG`, or the
/// flag that was given at the start; then nothing happens.
pub fn refilter(at_start: &LogSettings, filter: Option<&LogFilter>) -> Option<&'static str> {
    if from_environment().is_some() {
        return Some("RUST_LOG");
    }
    if at_start.quiet {
        return Some("--quiet");
    }
    if at_start.verbosity > 0 {
        return Some("--verbose");
    }
    let settings = LogSettings {
        filter: filter.cloned(),
        ..at_start.clone()
    };
    if let (Some(refilter), Ok(filter)) = (REFILTER.get(), EnvFilter::try_new(directives(&settings, None))) {
        refilter(filter);
    }
    None
}

fn from_environment() -> Option<String> {
    std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.trim().is_empty())
}

/// `RUST_LOG`, else what `-v` and `-q` say, else the file's filter, else the built-in one.
fn directives(settings: &LogSettings, from_environment: Option<String>) -> String {
    let in_file = settings
        .filter
        .as_ref()
        .filter(|_| settings.verbosity == 0 && !settings.quiet)
        .map(|filter| filter.as_str().to_owned());
    from_environment
        .or(in_file)
        .unwrap_or_else(|| default_directives(settings.verbosity, settings.quiet))
}

/// Logs each error that it returns, too; we say it in our own words.
const SAYS_TWICE: &str = "buoyant_kernel=off";

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
    let mut directives = format!("{others},{}", ours.join(","));
    if verbosity == 0 {
        directives = format!("{directives},{SAYS_TWICE}");
    }
    directives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbosity_chooses_the_levels() {
        let ours = "info,realtime=info,olap=info,demo=info,generate=info,buoyant_kernel=off";
        assert_eq!(default_directives(0, false), format!("warn,loginlake={ours}"));
        assert!(default_directives(1, false).starts_with("info,loginlake=debug,"));
        assert!(default_directives(9, false).starts_with("debug,loginlake=trace,"));
        assert!(default_directives(0, true).starts_with("error,loginlake=error,"));
    }

    #[test]
    fn a_filter_is_from_the_environment_a_flag_or_the_file() {
        let settings = |verbosity, quiet| LogSettings {
            format: None,
            verbosity,
            quiet,
            filter: Some("debug".parse().expect("a filter")),
        };
        assert_eq!(directives(&settings(0, false), None), "debug");
        assert_eq!(directives(&settings(0, false), Some("trace".to_owned())), "trace");
        assert_eq!(
            directives(&settings(1, false), None),
            default_directives(1, false)
        );
        assert_eq!(directives(&settings(0, true), None), default_directives(0, true));
    }

    #[test]
    fn every_default_is_a_filter() {
        for (verbosity, quiet) in [(0, false), (1, false), (2, false), (0, true)] {
            EnvFilter::try_new(default_directives(verbosity, quiet)).expect("a filter");
        }
    }
}
