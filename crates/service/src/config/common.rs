//! Flags that every service takes: the file, logs, HTTP, the lake.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use super::choices::LogFormat;
use super::error::ConfigError;
use super::file::ConfigFile;
use super::values::HttpAddress;
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
}

/// What [`crate::logging::init`] wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// None: text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
    /// How often `-v` was given.
    pub verbosity: u8,
    /// Errors only.
    pub quiet: bool,
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
}

impl Service {
    const fn default_http_port(self) -> u16 {
        match self {
            Self::Realtime => 8080,
            Self::Ingest => 8081,
            Self::Maintain => 8082,
            Self::Index => 8083,
            Self::Serve => 8084,
        }
    }

    const fn http_in(self, file: &ConfigFile) -> Option<HttpAddress> {
        match self {
            Self::Realtime => file.realtime.http,
            Self::Ingest => file.ingest.http,
            Self::Maintain => file.maintain.http,
            Self::Index => file.index.http,
            Self::Serve => file.serve.http,
        }
    }

    pub(super) const fn default_group_id(self) -> &'static str {
        match self {
            Self::Realtime => "loginlake-realtime",
            Self::Ingest | Self::Maintain | Self::Serve => "loginlake-olap",
            Self::Index => "loginlake-index",
        }
    }

    pub(super) const fn group_id_in(self, file: &ConfigFile) -> Option<&String> {
        match self {
            Self::Realtime => file.realtime.group_id.as_ref(),
            Self::Ingest | Self::Maintain | Self::Serve => file.ingest.group_id.as_ref(),
            Self::Index => file.index.group_id.as_ref(),
        }
    }
}

/// Health, metrics and dashboard.
#[derive(Args, Clone, Debug, Default)]
pub struct HttpArgs {
    /// Address of health, metrics and dashboard, or `none` [default: 127.0.0.1, port 8080 realtime, 8081 ingest, 8082
    /// maintain, 8083 index, 8084 serve]
    #[arg(long, env = "LOGINLAKE_HTTP", hide_env_values = true, value_name = "ADDR")]
    pub http: Option<HttpAddress>,
    /// Let other machines reach it: there is no authentication (needed in a container)
    #[arg(
        long,
        env = "LOGINLAKE_HTTP_ALLOW_REMOTE",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    pub http_allow_remote: Option<bool>,
}

/// Where HTTP is served. An address beyond loopback exists only with permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpBind(Option<SocketAddr>);

impl HttpBind {
    /// No HTTP.
    pub const OFF: Self = Self(None);

    /// This address; port 0 is a free one.
    ///
    /// # Errors
    /// It is not a loopback address, and `allow_remote` is not set.
    pub fn new(address: SocketAddr, allow_remote: bool) -> Result<Self, ConfigError> {
        if address.ip().to_canonical().is_loopback() || allow_remote {
            Ok(Self(Some(address)))
        } else {
            Err(ConfigError::RemoteHttp { address })
        }
    }

    /// The address, or None where HTTP is off.
    pub const fn address(self) -> Option<SocketAddr> {
        self.0
    }
}

impl HttpArgs {
    /// Resolves against the file's section for this service.
    ///
    /// # Errors
    /// An address beyond loopback without `--http-allow-remote`.
    pub fn resolve(&self, file: &ConfigFile, service: Service) -> Result<HttpBind, ConfigError> {
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, service.default_http_port()));
        match layered(self.http, service.http_in(file), HttpAddress::On(default)) {
            HttpAddress::Off => Ok(HttpBind::OFF),
            HttpAddress::On(address) => HttpBind::new(
                address,
                layered(self.http_allow_remote, file.http_allow_remote, false),
            ),
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
