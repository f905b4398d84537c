//! Alerts by webhook: where they go, and from when on something is one. The address is a secret, because whoever knows it can
//! write there: it comes from a file or the environment, or from a flag where it is none.

mod limits;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::error::ConfigError;
use super::file::ConfigFile;
use super::layered;
use super::values::{ByteSize, Secret, Span};

pub use limits::{AlertLimits, AlertName, NotAShare, Share};

/// Alerts by webhook.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Alerts by webhook")]
pub struct AlertArgs {
    /// URL that alerts are posted to, as Slack takes them. Other users of the machine see a flag: where the URL is a secret, use the
    /// variable or the file [default: none, no alerts]
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_WEBHOOK",
        hide_env_values = true,
        value_parser = secret,
        value_name = "URL"
    )]
    pub alert_webhook: Option<Secret>,
    /// File that holds this URL
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_WEBHOOK_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub alert_webhook_file: Option<PathBuf>,
    /// Alerts that are not sent: lag, dead-letter-share, publish-delay, commit-delay, compaction-debt, no-data, not-ready
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_OFF",
        hide_env_values = true,
        value_delimiter = ',',
        hide_possible_values = true,
        value_name = "NAMES"
    )]
    pub alert_off: Option<Vec<AlertName>>,
    /// How long something is wrong before it is an alert [default: 5m]
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_AFTER",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    pub alert_after: Option<Span>,
    /// How often an alert is sent again while it goes on [default: 4h]
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_REPEAT",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    pub alert_repeat: Option<Span>,
    /// Time over which shares and delays are taken [default: 1m]
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_WINDOW",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    pub alert_window: Option<Span>,
    /// Most time that a record may wait for `realtime run` [default: 30s]
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_LAG",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    pub alert_lag: Option<Span>,
    /// Most records that may wait for `olap ingest` or `realtime index` [default: 1000000]
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_LAG_RECORDS",
        hide_env_values = true,
        value_name = "N"
    )]
    pub alert_lag_records: Option<u64>,
    /// Largest share of records that may be rejected [default: 0.05]
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_DEAD_LETTER_SHARE",
        hide_env_values = true,
        value_name = "SHARE"
    )]
    pub alert_dead_letter_share: Option<Share>,
    /// Longest time from the broker to the processed topic, 99 of 100 records [default: 2s]
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_PUBLISH_DELAY",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    pub alert_publish_delay: Option<Span>,
    /// Longest time from the broker to the lake, 99 of 100 records [default: 2m]
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_COMMIT_DELAY",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    pub alert_commit_delay: Option<Span>,
    /// Most bytes that may wait for compaction [default: 80 % of --debt-limit]
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_COMPACTION_DEBT",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    pub alert_compaction_debt: Option<ByteSize>,
    /// Longest time without any record [default: 10m]
    #[arg(
        long,
        env = "LOGINLAKE_ALERT_NO_DATA",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    pub alert_no_data: Option<Span>,
}

/// `[alerts]`: alerts by webhook.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AlertsSection {
    /// File that holds the URL that alerts are posted to; default: none, no alerts.
    pub webhook_file: Option<PathBuf>,
    /// Alerts that are not sent: `lag`, `dead-letter-share`, `publish-delay`, `commit-delay`, `compaction-debt`, `no-data`,
    /// `not-ready`; default: none.
    pub off: Option<Vec<AlertName>>,
    /// How long something is wrong before it is an alert, a duration; default `5m`.
    pub after: Option<Span>,
    /// How often an alert is sent again while it goes on, a duration; default `4h`.
    pub repeat: Option<Span>,
    /// Time over which shares and delays are taken, a duration; default `1m`.
    pub window: Option<Span>,
    /// Most time that a record may wait for `realtime run`, a duration; default `30s`.
    pub lag: Option<Span>,
    /// Most records that may wait for `olap ingest` or `realtime index`; default 1000000.
    pub lag_records: Option<u64>,
    /// Largest share of records that may be rejected; default 0.05.
    pub dead_letter_share: Option<Share>,
    /// Longest time from the broker to the processed topic, 99 of 100 records, a duration; default `2s`.
    pub publish_delay: Option<Span>,
    /// Longest time from the broker to the lake, 99 of 100 records, a duration; default `2m`.
    pub commit_delay: Option<Span>,
    /// Most bytes that may wait for compaction; default: 80 % of `debt-limit`.
    pub compaction_debt: Option<ByteSize>,
    /// Longest time without any record, a duration; default `10m`.
    pub no_data: Option<Span>,
}

/// Where alerts go, and which.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertSettings {
    /// A URL of HTTP; `None`: no alerts.
    pub webhook: Option<Secret>,
    /// From when on.
    pub limits: AlertLimits,
}

/// A window below this holds too few looks.
const MIN_WINDOW: Duration = Duration::from_millis(100);
/// A receiver is not flooded.
const MIN_REPEAT: Duration = Duration::from_secs(1);

impl AlertArgs {
    /// Resolves flags, environment and file. A flag or variable with the URL comes before one that names a file, and both before
    /// the configuration file.
    ///
    /// # Errors
    /// The file of the URL cannot be read, the URL is none of HTTP (it is not repeated), or a duration is too short.
    pub fn resolve(&self, file: &ConfigFile) -> Result<AlertSettings, ConfigError> {
        let named_file = || {
            let of_flag = self
                .alert_webhook_file
                .as_deref()
                .map(|path| ("--alert-webhook-file", path));
            let of_file = file.alerts.webhook_file.as_deref();
            of_flag.or(of_file.map(|path| ("webhook-file in [alerts]", path)))
        };
        // A variable that is set to nothing is none.
        let given = self.alert_webhook.as_ref().filter(|url| !url.expose().is_empty());
        let webhook = match (given, named_file()) {
            (Some(url), _) => Some(checked(
                "--alert-webhook",
                &String::from_utf8_lossy(url.expose()),
            )?),
            (None, Some((setting, path))) => Some(read(setting, path)?),
            (None, None) => None,
        };
        let limits = self.limits(file)?;
        Ok(AlertSettings { webhook, limits })
    }

    /// The limits alone, for a file that was read anew.
    ///
    /// # Errors
    /// A duration is too short.
    pub fn limits(&self, file: &ConfigFile) -> Result<AlertLimits, ConfigError> {
        let (section, default) = (&file.alerts, AlertLimits::default());
        let span = |flag: Option<Span>, file: Option<Span>, default: Duration| {
            flag.or(file).map_or(default, Span::duration)
        };
        let limits = AlertLimits {
            off: layered(self.alert_off.clone(), section.off.clone(), default.off),
            after: span(self.alert_after, section.after, default.after),
            repeat: span(self.alert_repeat, section.repeat, default.repeat),
            window: span(self.alert_window, section.window, default.window),
            lag: span(self.alert_lag, section.lag, default.lag),
            lag_records: layered(self.alert_lag_records, section.lag_records, default.lag_records),
            dead_letter_share: self
                .alert_dead_letter_share
                .or(section.dead_letter_share)
                .map_or(default.dead_letter_share, Share::value),
            publish_delay: span(
                self.alert_publish_delay,
                section.publish_delay,
                default.publish_delay,
            ),
            commit_delay: span(
                self.alert_commit_delay,
                section.commit_delay,
                default.commit_delay,
            ),
            compaction_debt_bytes: self
                .alert_compaction_debt
                .or(section.compaction_debt)
                .map(ByteSize::bytes),
            no_data: span(self.alert_no_data, section.no_data, default.no_data),
        };
        for (setting, value, least) in [
            ("--alert-window", limits.window, MIN_WINDOW),
            ("--alert-repeat", limits.repeat, MIN_REPEAT),
        ] {
            if value < least {
                let problem = format!("is shorter than {}", Span::from_millis(least.as_millis() as u64));
                return Err(ConfigError::invalid(setting, problem));
            }
        }
        Ok(limits)
    }
}

/// The way of a flag's text into a secret; never an error, so that no error shows the text.
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

fn read(setting: &'static str, path: &Path) -> Result<Secret, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::invalid(setting, format!("cannot read `{}`: {error}", path.display()))
    })?;
    checked(setting, &text)
}

/// The text is never part of an error.
fn checked(setting: &'static str, text: &str) -> Result<Secret, ConfigError> {
    let text = text.trim();
    let is_http =
        Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if is_http {
        Ok(Secret::new(text))
    } else {
        let problem = "what it says (not shown here) is no URL such as https://hooks.example/services/…";
        Err(ConfigError::invalid(setting, problem))
    }
}

#[cfg(test)]
mod tests;
