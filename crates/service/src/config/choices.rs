//! Settings that are one of a few words. The same words on the command line, in the environment and in the file.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Deserialize;

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What `realtime run` guarantees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Kafka transactions: one visible output per input, whatever fails.
    #[default]
    ExactlyOnce,
    /// Idempotent producer, offsets committed after delivery: nothing lost, repeats after a crash.
    AtLeastOnce,
}

/// How the table `logins` is partitioned; never by anything that a client can invent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, ValueEnum)]
pub enum TablePartitioning {
    /// By `login_date`.
    #[default]
    #[serde(rename = "login_date")]
    #[value(name = "login_date")]
    Date,
    /// By `login_date`, then `login_hour`.
    #[serde(rename = "login_date,login_hour")]
    #[value(name = "login_date,login_hour")]
    DateAndHour,
}

/// A field that can be pseudonymised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum PersonalField {
    /// `user_id`.
    UserId,
    /// `device_id`.
    DeviceId,
    /// `ip`.
    Ip,
}
