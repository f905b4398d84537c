//! What there are alerts about, and from when on.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Deserialize;
use thiserror::Error;

/// What an alert is about: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AlertName {
    /// Records wait to be handled.
    Lag,
    /// Too many of the records are rejected.
    DeadLetterShare,
    /// Records are late when they are published.
    PublishDelay,
    /// Records are late when they can be queried.
    CommitDelay,
    /// Bytes wait for compaction.
    CompactionDebt,
    /// No record was handled.
    NoData,
    /// The service says that it does not do its work.
    NotReady,
}

impl AlertName {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Lag,
        Self::DeadLetterShare,
        Self::PublishDelay,
        Self::CommitDelay,
        Self::CompactionDebt,
        Self::NoData,
        Self::NotReady,
    ];

    /// As it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::DeadLetterShare => "dead-letter-share",
            Self::PublishDelay => "publish-delay",
            Self::CommitDelay => "commit-delay",
            Self::CompactionDebt => "compaction-debt",
            Self::NoData => "no-data",
            Self::NotReady => "not-ready",
        }
    }
}

/// A part of a whole: above 0, up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Share(f64);

/// Not a [`Share`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a share: give a number above 0 and up to 1, such as 0.05")]
pub struct NotAShare(String);

impl Share {
    /// As a number.
    pub const fn value(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Share {
    type Error = NotAShare;

    fn try_from(value: f64) -> Result<Self, NotAShare> {
        if value > 0.0 && value <= 1.0 {
            Ok(Self(value))
        } else {
            Err(NotAShare(value.to_string()))
        }
    }
}

impl FromStr for Share {
    type Err = NotAShare;

    fn from_str(text: &str) -> Result<Self, NotAShare> {
        let value: f64 = text.trim().parse().map_err(|_| NotAShare(text.to_owned()))?;
        Self::try_from(value)
    }
}

impl Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// From when on something is an alert. May be changed while a service runs.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertLimits {
    /// Not sent.
    pub off: Vec<AlertName>,
    /// How long something is wrong before it is an alert.
    pub after: Duration,
    /// How often it is sent again.
    pub repeat: Duration,
    /// Time over which shares and delays are taken.
    pub window: Duration,
    /// Most time that a record may wait.
    pub lag: Duration,
    /// Most records that may wait.
    pub lag_records: u64,
    /// Largest share of rejected records.
    pub dead_letter_share: f64,
    /// Longest time from the broker to the processed topic.
    pub publish_delay: Duration,
    /// Longest time from the broker to the lake.
    pub commit_delay: Duration,
    /// Most bytes that may wait for compaction; `None`: 80 % of the limit that the service itself has.
    pub compaction_debt_bytes: Option<u64>,
    /// Longest time without any record.
    pub no_data: Duration,
}

impl Default for AlertLimits {
    fn default() -> Self {
        Self {
            off: Vec::new(),
            after: Duration::from_secs(5 * 60),
            repeat: Duration::from_secs(4 * 3_600),
            window: Duration::from_secs(60),
            lag: Duration::from_secs(30),
            lag_records: 1_000_000,
            dead_letter_share: 0.05,
            publish_delay: Duration::from_secs(2),
            commit_delay: Duration::from_secs(2 * 60),
            compaction_debt_bytes: None,
            no_data: Duration::from_secs(10 * 60),
        }
    }
}
