//! Flags that every service takes: the file, logs, the lake.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::choices::LogFormat;
use super::error::ConfigError;
use super::file::ConfigFile;
use super::values::{HttpAddress, LogFilter};
use super::{layered, not_empty};

/// The configuration file and the logs. For the top level of a command line, valid after a subcommand, too.
#[derive(Args, Clone, Debug, Default)]
pub struct CommonArgs {
    /// Configuration file (TOML); environment and flags override it
    #[arg(
        long,
        global = true,
        env = "LOGINLAKE_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub config: Option<PathBuf>,
    /// Format of the logs on stderr [default: text on a terminal, json otherwise]
    #[arg(
        long,
        global = true,
        env = "LOGINLAKE_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT"
    )]
    pub log_format: Option<LogFormat>,
    /// More logs; -vv for even more (RUST_LOG overrides)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print the settings that this command would run with, and where each comes from, as a configuration file; do nothing else
    #[arg(long, global = true)]
    pub print_config: bool,
}

/// What [`crate::logging::init`] wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// None: text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
    /// How often `-v` was given.
    pub verbosity: u8,
    /// Errors only.
    pub quiet: bool,
    /// What the file says is logged.
    pub filter: Option<LogFilter>,
}

impl CommonArgs {
    /// The configuration file, or an empty one where none was named.
    ///
    /// # Errors
    /// As [`ConfigFile::load`].
    pub fn load(&self) -> Result<ConfigFile, ConfigError> {
        self.config
            .as_deref()
            .map_or_else(|| Ok(ConfigFile::default()), ConfigFile::load)
    }

    /// Resolves the settings of the logs against the file.
    ///
    /// # Errors
    /// None; the result is there so that every group resolves in the same way.
    pub fn resolve(&self, file: &ConfigFile) -> Result<LogSettings, ConfigError> {
        let format = self.log_format.or(file.log_format);
        Ok(LogSettings {
            format,
            verbosity: self.verbose,
            quiet: self.quiet,
            filter: file.log_filter.clone(),
        })
    }
}

/// Which service asks: its defaults and its section of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `realtime`.
    Realtime,
    /// `olap ingest`.
    Ingest,
    /// `olap maintain`. It has no consumer group of its own and uses that of ingest.
    Maintain,
    /// `realtime index`.
    Index,
    /// `olap serve`. It has no consumer group.
    Serve,
    /// `olap scheduler`. It has no consumer group, and no section of the file.
    Scheduler,
    /// `olap executor`, likewise.
    Executor,
}

impl Service {
    pub(super) const fn default_http_port(self) -> u16 {
        match self {
            Self::Realtime => 8080,
            Self::Ingest => 8081,
            Self::Maintain => 8082,
            Self::Index => 8083,
            Self::Serve => 8084,
            Self::Scheduler => 8085,
            Self::Executor => 8086,
        }
    }

    pub(super) const fn http_in(self, file: &ConfigFile) -> Option<HttpAddress> {
        match self {
            Self::Realtime => file.realtime.http,
            Self::Ingest => file.ingest.http,
            Self::Maintain => file.maintain.http,
            Self::Index => file.index.http,
            Self::Serve => file.serve.http,
            Self::Scheduler | Self::Executor => None,
        }
    }

    pub(super) const fn default_group_id(self) -> &'static str {
        match self {
            Self::Realtime => "loginlake-realtime",
            Self::Ingest | Self::Maintain | Self::Serve | Self::Scheduler | Self::Executor => {
                "loginlake-olap"
            }
            Self::Index => "loginlake-index",
        }
    }

    pub(super) const fn group_id_in(self, file: &ConfigFile) -> Option<&String> {
        match self {
            Self::Realtime => file.realtime.group_id.as_ref(),
            Self::Ingest | Self::Maintain | Self::Serve | Self::Scheduler | Self::Executor => {
                file.ingest.group_id.as_ref()
            }
            Self::Index => file.index.group_id.as_ref(),
        }
    }
}

/// The lake.
#[derive(Args, Clone, Debug, Default)]
pub struct LakeArgs {
    /// Where the tables are: a directory, file://… or s3://bucket/prefix [default: ./lake]
    #[arg(long, env = "LOGINLAKE_LAKE", hide_env_values = true, value_name = "URI")]
    pub lake: Option<String>,
}

impl LakeArgs {
    /// The URI or directory.
    ///
    /// # Errors
    /// It is empty.
    pub fn resolve(&self, file: &ConfigFile) -> Result<String, ConfigError> {
        not_empty(
            "--lake",
            layered(self.lake.clone(), file.lake.clone(), "./lake".to_owned()),
        )
    }
}
