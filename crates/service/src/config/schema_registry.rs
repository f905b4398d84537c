//! The schema registry. Its credentials come from the environment or a file, never from a flag or from the address, where
//! every user of the machine could see them.

use std::path::{Path, PathBuf};

use clap::Args;

use super::error::ConfigError;
use super::file::ConfigFile;
use super::values::Secret;
use super::{environment, not_empty};

/// The environment variable that holds the credentials for the registry: `user:password` or `Bearer token`.
pub const SCHEMA_REGISTRY_CREDENTIALS_VARIABLE: &str = "LOGINLAKE_SCHEMA_REGISTRY_CREDENTIALS";

const BEARER: &str = "Bearer ";

/// The schema registry.
#[derive(Args, Clone, Debug, Default)]
pub struct SchemaRegistryArgs {
    /// Schema registry (Confluent's API) for records in Avro, Protobuf or JSON Schema [default: plain JSON only]
    #[arg(
        long,
        env = "LOGINLAKE_SCHEMA_REGISTRY",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub schema_registry: Option<String>,
    /// File with its credentials, `user:password` or `Bearer token` [env: LOGINLAKE_SCHEMA_REGISTRY_CREDENTIALS holds them
    /// themselves]
    #[arg(
        long,
        env = "LOGINLAKE_SCHEMA_REGISTRY_CREDENTIALS_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub schema_registry_credentials_file: Option<PathBuf>,
}

/// A registry and how to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedSchemaRegistry {
    /// Where its API begins, without credentials; whoever connects checks that it is a URL.
    pub url: String,
    /// None: it asks for none.
    pub credentials: Option<RegistryCredentials>,
}

/// How to log in to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryCredentials {
    /// HTTP basic authentication.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token.
    Bearer(Secret),
}

impl SchemaRegistryArgs {
    /// Resolves against the file and this process's environment. None: records are plain JSON.
    ///
    /// # Errors
    /// An empty address, a file of credentials that cannot be read, or credentials of neither form.
    pub fn resolve(&self, file: &ConfigFile) -> Result<Option<ResolvedSchemaRegistry>, ConfigError> {
        self.resolve_with(file, environment())
    }

    /// Like [`SchemaRegistryArgs::resolve`] with the environment's variables given.
    ///
    /// # Errors
    /// As [`SchemaRegistryArgs::resolve`].
    pub fn resolve_with(
        &self,
        file: &ConfigFile,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Option<ResolvedSchemaRegistry>, ConfigError> {
        let url = self
            .schema_registry
            .clone()
            .or_else(|| file.schema_registry.clone());
        let Some(url) = url else {
            return Ok(None);
        };
        let url = not_empty("--schema-registry", url)?.trim().to_owned();
        let from_variable = || {
            let variable = variables
                .into_iter()
                .find(|(name, value)| name == SCHEMA_REGISTRY_CREDENTIALS_VARIABLE && !value.is_empty());
            variable.map(|(_, credentials)| credentials)
        };
        let text = match &self.schema_registry_credentials_file {
            Some(path) => Some(read(path)?),
            None => match (from_variable(), &file.schema_registry_credentials_file) {
                (Some(text), _) => Some(text),
                (None, Some(path)) => Some(read(path)?),
                (None, None) => None,
            },
        };
        let credentials = text.as_deref().map(credentials).transpose()?;
        Ok(Some(ResolvedSchemaRegistry { url, credentials }))
    }
}

/// The text is never part of an error.
fn credentials(text: &str) -> Result<RegistryCredentials, ConfigError> {
    let text = text.trim_end_matches(['\r', '\n']);
    if let Some(token) = text
        .strip_prefix(BEARER)
        .map(str::trim)
        .filter(|token| !token.is_empty())
    {
        return Ok(RegistryCredentials::Bearer(Secret::new(token)));
    }
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() => Ok(RegistryCredentials::Basic {
            user: user.to_owned(),
            password: Secret::new(password),
        }),
        _ => Err(ConfigError::invalid(
            SCHEMA_REGISTRY_CREDENTIALS_VARIABLE,
            "the credentials are neither `user:password` nor `Bearer token`",
        )),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        let problem = format!("cannot read `{}`: {error}", path.display());
        ConfigError::invalid("--schema-registry-credentials-file", problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://localhost:8085";

    fn args() -> SchemaRegistryArgs {
        SchemaRegistryArgs {
            schema_registry: Some(URL.to_owned()),
            ..SchemaRegistryArgs::default()
        }
    }

    fn resolved(args: &SchemaRegistryArgs, variable: &str) -> Result<ResolvedSchemaRegistry, ConfigError> {
        let variables = [(
            SCHEMA_REGISTRY_CREDENTIALS_VARIABLE.to_owned(),
            variable.to_owned(),
        )];
        let resolved = args.resolve_with(&ConfigFile::default(), variables)?;
        Ok(resolved.expect("there is an address"))
    }

    #[test]
    fn without_an_address_there_is_none() {
        let none = SchemaRegistryArgs::default().resolve_with(&ConfigFile::default(), []);
        assert_eq!(none.expect("valid"), None);
        let file = ConfigFile {
            schema_registry: Some(URL.to_owned()),
            ..ConfigFile::default()
        };
        let resolved = SchemaRegistryArgs::default()
            .resolve_with(&file, [])
            .expect("valid");
        assert_eq!(resolved.map(|registry| registry.url).as_deref(), Some(URL));
    }

    #[test]
    fn credentials_are_a_user_and_a_password_or_a_token_and_are_not_shown() {
        let basic = resolved(&args(), "app:a:b\n").expect("valid").credentials;
        let password = Secret::new("a:b");
        assert_eq!(
            basic,
            Some(RegistryCredentials::Basic {
                user: "app".to_owned(),
                password
            })
        );
        let bearer = resolved(&args(), "Bearer t0ken").expect("valid").credentials;
        assert_eq!(bearer, Some(RegistryCredentials::Bearer(Secret::new("t0ken"))));
        assert!(!format!("{basic:?} {bearer:?}").contains("a:b"));
        assert!(!format!("{bearer:?}").contains("t0ken"));
        assert_eq!(resolved(&args(), "").expect("valid").credentials, None);
    }

    #[test]
    fn a_file_named_by_a_flag_wins_over_the_variable() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("credentials");
        std::fs::write(&path, "Bearer filed\r\n").expect("written");
        let args = SchemaRegistryArgs {
            schema_registry_credentials_file: Some(path),
            ..args()
        };
        let credentials = resolved(&args, "app:password").expect("valid").credentials;
        assert_eq!(
            credentials,
            Some(RegistryCredentials::Bearer(Secret::new("filed")))
        );
    }

    #[test]
    fn wrong_credentials_are_not_repeated_in_the_error() {
        for wrong in ["hunter2", ":hunter2", "Bearer "] {
            let error = resolved(&args(), wrong).unwrap_err().to_string();
            assert!(
                error.contains("user:password") && !error.contains("hunter2"),
                "{error}"
            );
        }
        let missing = SchemaRegistryArgs {
            schema_registry_credentials_file: Some("no/such/file".into()),
            ..args()
        };
        assert!(
            resolved(&missing, "")
                .unwrap_err()
                .to_string()
                .contains("no/such/file")
        );
        let empty = SchemaRegistryArgs {
            schema_registry: Some(" ".to_owned()),
            ..SchemaRegistryArgs::default()
        };
        assert!(resolved(&empty, "").is_err());
    }
}
