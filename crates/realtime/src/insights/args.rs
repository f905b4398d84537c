//! Flags of insights, layered over the configuration file.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use loginlake_service::config::{ConfigFile, Span, layered};
use loginlake_service::exit::ExitError;

/// Records of a window, unless its time is over first.
const DEFAULT_EVERY: u64 = 100;
/// Longest that a window with records in it stays open.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// Shortest time between two reports of a worker.
pub(super) const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Flags of insights, to be flattened into a command.
#[derive(Args, Clone, Debug, Default)]
pub struct InsightsArgs {
    /// Records after which insights are published, at most once a second for each worker; 0: no insights [default: 100]
    #[arg(
        long,
        env = "LOGINLAKE_INSIGHTS_EVERY",
        hide_env_values = true,
        value_name = "N"
    )]
    insights_every: Option<u64>,
    /// Longest time after which insights are published if there were any records [default: 10s]
    #[arg(
        long,
        env = "LOGINLAKE_INSIGHTS_INTERVAL",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    insights_interval: Option<Span>,
    /// Directory in which each insight also becomes a file; the oldest of 10,000 files makes room
    #[arg(
        long,
        env = "LOGINLAKE_INSIGHTS_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    insights_dir: Option<PathBuf>,
}

/// When a window closes, and where its report goes beside the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsightsSettings {
    /// Records of a window; 0: no insights at all.
    pub every: u64,
    /// Longest that a window with records in it stays open; at least a second.
    pub interval: Duration,
    /// Where each report becomes a file.
    pub directory: Option<PathBuf>,
}

impl Default for InsightsSettings {
    fn default() -> Self {
        Self {
            every: DEFAULT_EVERY,
            interval: DEFAULT_INTERVAL,
            directory: None,
        }
    }
}

impl InsightsArgs {
    /// Resolves flags and environment over the file.
    ///
    /// # Errors
    /// An interval below a second.
    pub fn resolve(self, file: &ConfigFile) -> Result<InsightsSettings, ExitError> {
        let section = &file.realtime;
        let interval = self.insights_interval.or(section.insights_interval);
        let interval = interval.map_or(DEFAULT_INTERVAL, Span::duration);
        if interval < MIN_INTERVAL {
            return Err(ExitError::usage(format!(
                "--insights-interval: {} ms is below a second; insights are published at most once a second",
                interval.as_millis()
            )));
        }
        Ok(InsightsSettings {
            every: layered(self.insights_every, section.insights_every, DEFAULT_EVERY),
            interval,
            directory: self.insights_dir.or_else(|| section.insights_dir.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: InsightsArgs, file: &str) -> Result<InsightsSettings, ExitError> {
        let file = ConfigFile::parse(file, std::path::Path::new("ll.toml")).expect("a good file");
        args.resolve(&file)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        assert_eq!(
            resolve(InsightsArgs::default(), "").expect("defaults"),
            InsightsSettings::default()
        );
        let file = "[realtime]\ninsights-dir = \"out\"";
        let from_file = resolve(InsightsArgs::default(), file).expect("a directory");
        assert_eq!(from_file.directory, Some(PathBuf::from("out")));
        let args = InsightsArgs {
            insights_every: Some(7),
            insights_interval: Some(Span::from_secs(3)),
            insights_dir: Some(PathBuf::from("mine")),
        };
        let settings = resolve(args, file).expect("flags");
        assert_eq!((settings.every, settings.interval), (7, Duration::from_secs(3)));
        assert_eq!(settings.directory, Some(PathBuf::from("mine")));
    }

    #[test]
    fn an_interval_below_a_second_is_refused() {
        let args = InsightsArgs {
            insights_interval: Some(Span::from_millis(999)),
            ..InsightsArgs::default()
        };
        let error = resolve(args, "").expect_err("too short");
        assert!(error.message.contains("999 ms"), "{error}");
    }
}
