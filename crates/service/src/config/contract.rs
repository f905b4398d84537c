//! What the event contract can be configured with: regions, the window of time, personal fields. The key of the
//! pseudonyms comes from the environment or a file, never from a flag, where every user of the machine could see it.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::BoolishValueParser;

use super::choices::PersonalField;
use super::error::ConfigError;
use super::file::ConfigFile;
use super::values::{Secret, Span, UtcTime};
use super::{environment, layered};

/// The environment variable that holds the key of the pseudonyms.
pub const PSEUDONYM_KEY_VARIABLE: &str = "LOGINLAKE_PSEUDONYM_KEY";

/// 2015-01-01T00:00:00Z.
const DEFAULT_EARLIEST: UtcTime = UtcTime::from_epoch_ms(1_420_070_400_000);
const DEFAULT_MAX_AHEAD: Span = Span::from_secs(24 * 60 * 60);
const MIN_KEY_BYTES: usize = 16;

/// The event contract.
#[derive(Args, Clone, Debug, Default)]
pub struct ContractArgs {
    /// CSV file of regions and divisions [default: the US states]
    #[arg(long, env = "LOGINLAKE_REGIONS", hide_env_values = true, value_name = "FILE")]
    pub regions: Option<PathBuf>,
    /// Earliest event time that is accepted [default: 2015-01-01]
    #[arg(long, env = "LOGINLAKE_EARLIEST", hide_env_values = true, value_name = "DATE")]
    pub earliest: Option<UtcTime>,
    /// How far an event time may be ahead of its record's Kafka timestamp [default: 24h]
    #[arg(
        long,
        env = "LOGINLAKE_MAX_AHEAD",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    pub max_ahead: Option<Span>,
    /// Replace these fields by keyed pseudonyms (the key: LOGINLAKE_PSEUDONYM_KEY or --pseudonym-key-file)
    #[arg(
        long,
        env = "LOGINLAKE_PSEUDONYMISE",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "FIELD,…"
    )]
    pub pseudonymise: Option<Vec<PersonalField>>,
    /// File that holds the key of the pseudonyms
    #[arg(
        long,
        env = "LOGINLAKE_PSEUDONYM_KEY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub pseudonym_key_file: Option<PathBuf>,
    /// Set the host part of the IP address to zero
    #[arg(
        long,
        env = "LOGINLAKE_MASK_IP",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    pub mask_ip: Option<bool>,
}

/// The contract's settings; the crate that decodes builds its contract from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedContract {
    /// Regions and divisions; None is the built-in table.
    pub regions_file: Option<PathBuf>,
    /// Earliest event time, milliseconds since the epoch.
    pub earliest_ms: i64,
    /// Furthest ahead of the Kafka timestamp, milliseconds.
    pub max_ahead_ms: i64,
    /// Fields to replace by pseudonyms, sorted, each once. Where there is one, there is a key.
    pub pseudonymise: Vec<PersonalField>,
    /// Whether the host part of the IP address is set to zero.
    pub mask_ip: bool,
    /// The key of the pseudonyms; None where nothing is pseudonymised.
    pub key: Option<Secret>,
}

impl ContractArgs {
    /// Resolves against the file and this process's environment.
    ///
    /// # Errors
    /// Pseudonyms without a key, a key of fewer than 16 bytes, a key file that cannot be read, or an IP address that
    /// is to be both masked and replaced.
    pub fn resolve(&self, file: &ConfigFile) -> Result<ResolvedContract, ConfigError> {
        self.resolve_with(file, environment())
    }

    /// Like [`ContractArgs::resolve`] with the environment's variables given.
    ///
    /// # Errors
    /// As [`ContractArgs::resolve`].
    pub fn resolve_with(
        &self,
        file: &ConfigFile,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<ResolvedContract, ConfigError> {
        let mut pseudonymise = layered(
            self.pseudonymise.clone(),
            file.privacy.pseudonymise.clone(),
            Vec::new(),
        );
        pseudonymise.sort_unstable();
        pseudonymise.dedup();
        let mask_ip = layered(self.mask_ip, file.privacy.mask_ip, false);
        if mask_ip && pseudonymise.contains(&PersonalField::Ip) {
            let problem = "the IP address is in --pseudonymise, too; choose one of the two";
            return Err(ConfigError::invalid("--mask-ip", problem));
        }
        let key = if pseudonymise.is_empty() {
            None
        } else {
            Some(self.key(file, variables)?)
        };
        Ok(ResolvedContract {
            regions_file: self.regions.clone().or_else(|| file.regions.clone()),
            earliest_ms: layered(self.earliest, file.earliest, DEFAULT_EARLIEST).epoch_ms(),
            max_ahead_ms: layered(self.max_ahead, file.max_ahead, DEFAULT_MAX_AHEAD).millis(),
            pseudonymise,
            mask_ip,
            key,
        })
    }

    /// The file named by a flag, else the variable, else the file named by the configuration file.
    fn key(
        &self,
        file: &ConfigFile,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Secret, ConfigError> {
        let from_variable = || {
            let variable = variables
                .into_iter()
                .find(|(name, value)| name == PSEUDONYM_KEY_VARIABLE && !value.is_empty());
            variable.map(|(_, key)| key.into_bytes())
        };
        let key = match &self.pseudonym_key_file {
            Some(path) => read_key(path)?,
            None => match (from_variable(), &file.privacy.key_file) {
                (Some(key), _) => key,
                (None, Some(path)) => read_key(path)?,
                (None, None) => return Err(ConfigError::MissingKey),
            },
        };
        if key.len() < MIN_KEY_BYTES {
            return Err(ConfigError::ShortKey {
                length: key.len(),
                minimum: MIN_KEY_BYTES,
            });
        }
        Ok(Secret::new(key))
    }
}

/// The file's bytes without the line end that an editor leaves.
fn read_key(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let mut key = std::fs::read(path).map_err(|source| ConfigError::ReadKey {
        path: path.to_owned(),
        source,
    })?;
    while key.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        key.pop();
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn variables(key: &str) -> Vec<(String, String)> {
        vec![(PSEUDONYM_KEY_VARIABLE.to_owned(), key.to_owned())]
    }

    fn pseudonymising() -> ContractArgs {
        ContractArgs {
            pseudonymise: Some(vec![PersonalField::Ip, PersonalField::UserId, PersonalField::Ip]),
            ..ContractArgs::default()
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let contract = ContractArgs::default()
            .resolve_with(&ConfigFile::default(), variables(KEY))
            .expect("valid");
        assert_eq!(
            contract,
            ResolvedContract {
                regions_file: None,
                earliest_ms: 1_420_070_400_000,
                max_ahead_ms: 86_400_000,
                pseudonymise: Vec::new(),
                mask_ip: false,
                key: None,
            }
        );
    }

    #[test]
    fn the_key_comes_from_the_variable_and_is_not_shown() {
        let contract = pseudonymising()
            .resolve_with(&ConfigFile::default(), variables(KEY))
            .expect("valid");
        assert_eq!(contract.pseudonymise, [PersonalField::UserId, PersonalField::Ip]);
        assert_eq!(contract.key.as_ref().map(Secret::expose), Some(KEY.as_bytes()));
        assert!(!format!("{contract:?}").contains(KEY));
    }

    #[test]
    fn a_key_file_named_by_a_flag_wins_and_its_line_end_is_dropped() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        std::fs::write(&path, format!("{}\r\n", KEY.to_uppercase())).expect("written");
        let args = ContractArgs {
            pseudonym_key_file: Some(path.clone()),
            ..pseudonymising()
        };
        let contract = args
            .resolve_with(&ConfigFile::default(), variables(KEY))
            .expect("valid");
        assert_eq!(contract.key, Some(Secret::new(KEY.to_uppercase())));

        let mut file = ConfigFile::default();
        file.privacy.key_file = Some(path);
        let contract = pseudonymising()
            .resolve_with(&file, variables(KEY))
            .expect("valid");
        assert_eq!(
            contract.key,
            Some(Secret::new(KEY)),
            "the environment overrides the file"
        );
    }

    #[test]
    fn pseudonyms_need_a_key_that_cannot_be_guessed() {
        let resolve = |variables| pseudonymising().resolve_with(&ConfigFile::default(), variables);
        assert!(matches!(resolve(Vec::new()), Err(ConfigError::MissingKey)));
        assert!(matches!(resolve(variables("")), Err(ConfigError::MissingKey)));
        assert!(matches!(
            resolve(variables("short")),
            Err(ConfigError::ShortKey { length: 5, .. })
        ));
        let args = ContractArgs {
            pseudonym_key_file: Some("no/such/key".into()),
            ..pseudonymising()
        };
        let error = args
            .resolve_with(&ConfigFile::default(), variables(KEY))
            .expect_err("no file");
        assert!(error.to_string().contains("no/such/key"));
    }

    #[test]
    fn an_address_is_masked_or_replaced_but_not_both() {
        let args = ContractArgs {
            mask_ip: Some(true),
            ..pseudonymising()
        };
        let error = args
            .resolve_with(&ConfigFile::default(), variables(KEY))
            .expect_err("both");
        assert!(error.to_string().starts_with("--mask-ip: "), "{error}");
    }
}
