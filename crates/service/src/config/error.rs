//! Why a configuration cannot be used. Every variant says where the value came from, and has a hint where there is
//! something to do that the message does not say.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::unknown_keys::line_of;
use crate::exit::{ExitCode, ExitError};

/// A configuration that cannot be used; always the exit code for wrong usage.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, or a value is of the wrong kind.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A key that does not exist.
    #[error("{}:{line}: unknown key {key}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, quoted, with its section.
        key: String,
        /// What was probably meant.
        hint: String,
    },
    /// A librdkafka property on which correctness rests.
    #[error("the Kafka property `{property}` ({origin}) is set by this program and cannot be overridden")]
    OwnedProperty {
        /// The property.
        property: String,
        /// Where it was given.
        origin: &'static str,
        /// What to use in its place.
        instead: &'static str,
    },
    /// A `-X` that is not `key=value`. The text is not repeated, as it may hold a password.
    #[error("{flag} number {position} is not of the form key=value")]
    MalformedProperty {
        /// The flag.
        flag: &'static str,
        /// Which of its occurrences, from 1.
        position: usize,
    },
    /// A setting with a value that cannot be used.
    #[error("{setting}: {problem}")]
    Invalid {
        /// The setting, as its flag.
        setting: &'static str,
        /// What is wrong with the value.
        problem: String,
    },
    /// HTTP beyond loopback without permission.
    #[error("refusing to serve HTTP on {address}, which other machines can reach")]
    RemoteHttp {
        /// The address.
        address: SocketAddr,
    },
    /// The key of the pseudonyms cannot be read.
    #[error("cannot read the pseudonym key file `{}`", path.display())]
    ReadKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Pseudonyms are wanted, and there is no key.
    #[error("--pseudonymise needs a key, and there is none")]
    MissingKey,
    /// A key that can be guessed.
    #[error("the pseudonym key has {length} bytes, and fewer than {minimum} can be guessed")]
    ShortKey {
        /// Its length in bytes.
        length: usize,
        /// The least length in bytes.
        minimum: usize,
    },
}

impl ConfigError {
    /// What to do about it, where the message does not say.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownKey { hint, .. } => hint,
            Self::OwnedProperty { instead, .. } => *instead,
            Self::MalformedProperty { .. } => "write it as in: -X security.protocol=SASL_SSL",
            Self::RemoteHttp { .. } => {
                "let clients send a token (--http-token-file), listen on 127.0.0.1, or give --http-allow-remote to serve anybody"
            }
            Self::MissingKey => "set LOGINLAKE_PSEUDONYM_KEY or --pseudonym-key-file",
            Self::ShortKey { .. } => "make one with: openssl rand -hex 32",
            Self::Read { .. } | Self::Syntax { .. } | Self::Invalid { .. } | Self::ReadKey { .. } => {
                return None;
            }
        };
        Some(hint.to_owned())
    }

    pub(super) fn invalid(setting: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid {
            setting,
            problem: problem.into(),
        }
    }

    pub(crate) fn from_toml(error: &toml::de::Error, text: &str, path: &Path) -> Self {
        let offset = error.span().map_or(0, |span| span.start);
        Self::Syntax {
            path: path.to_owned(),
            line: line_of(text, offset),
            message: error.message().to_owned(),
        }
    }
}

impl From<ConfigError> for ExitError {
    fn from(error: ConfigError) -> Self {
        let exit = Self::caused_by(ExitCode::Usage, &error);
        match error.hint() {
            Some(hint) => exit.with_hint(hint),
            None => exit,
        }
    }
}
