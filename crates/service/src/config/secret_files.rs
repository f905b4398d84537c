//! Secrets of Kafka from files: the property `sasl.password.file` names the file that holds the value of `sasl.password`.
//!
//! Where a secret is given in a way that other users can see, that is said in the log.

use std::collections::BTreeMap;
use std::path::Path;

use tracing::warn;

use super::error::ConfigError;
use super::properties::PropertyArg;

/// Properties whose value can be in a file. Not more: other names that end in `.file` are librdkafka's own.
const READABLE: [&str; 9] = [
    "sasl.username",
    "sasl.password",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "ssl.certificate.pem",
    "ssl.ca.pem",
];
/// Properties that name a file which librdkafka reads, without telling which one it could not.
const NAMED: [&str; 4] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
];
const SUFFIX: &str = ".file";
const MAX_BYTES: u64 = 64 << 10;

/// Puts the contents of files in the place of the properties that name them. The line end of a file's last line is left out.
///
/// A file wins over a value of `inherited`, which is what another cluster's settings gave.
///
/// # Errors
/// A file cannot be read, is empty or too large for a secret, or the value is given as well.
pub(super) fn read(
    properties: &mut BTreeMap<String, String>,
    inherited: Option<&BTreeMap<String, String>>,
) -> Result<(), ConfigError> {
    for name in READABLE {
        let Some(path) = properties.remove(&format!("{name}{SUFFIX}")) else {
            continue;
        };
        let given = properties.get(name);
        let is_inherited = given.is_some() && given == inherited.and_then(|inherited| inherited.get(name));
        if given.is_some() && !is_inherited {
            return Err(wrong(
                name,
                &path,
                "the value itself is given as well: give one of them",
            ));
        }
        let value = content(Path::new(&path)).map_err(|problem| wrong(name, &path, &problem))?;
        properties.insert(name.to_owned(), value);
    }
    for name in NAMED {
        // `probe` looks where systems keep authorities.
        if let Some(path) = properties.get(name).filter(|path| *path != "probe")
            && let Err(error) = std::fs::metadata(path)
        {
            return Err(ConfigError::invalid("Kafka", format!("{name} `{path}`: {error}")));
        }
    }
    Ok(())
}

fn content(path: &Path) -> Result<String, String> {
    let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if found.len() > MAX_BYTES {
        return Err(format!("{} bytes are more than a secret has", found.len()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(text.to_owned())
}

fn wrong(name: &str, path: &str, problem: &str) -> ConfigError {
    ConfigError::invalid("Kafka", format!("{name}{SUFFIX} `{path}`: {problem}"))
}

/// Says which secrets stand on the command line.
pub(super) fn warn_of_arguments(flag: &str, arguments: &[PropertyArg]) {
    for (name, _) in arguments.iter().filter_map(PropertyArg::pair) {
        if holds_a_secret(name) {
            warn!(
                "{flag} {name}=…: every user of this machine can read it in the list of processes; use {flag} {name}{SUFFIX}=FILE or a variable"
            );
        }
    }
}

/// Says what takes the worth of TLS away.
pub(super) fn warn_of_weakness(brokers: &str, properties: &BTreeMap<String, String>) {
    let is = |name: &str, value: &str| {
        properties
            .get(name)
            .is_some_and(|given| given.eq_ignore_ascii_case(value))
    };
    if is("enable.ssl.certificate.verification", "false") {
        warn!(
            brokers,
            "enable.ssl.certificate.verification=false: whoever is on the way can read and change everything"
        );
    } else if is("ssl.endpoint.identification.algorithm", "none") {
        warn!(
            brokers,
            "ssl.endpoint.identification.algorithm=none: any server with a certificate of these authorities is taken for the broker"
        );
    }
    let is_local = |broker: &str| {
        let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
        ["localhost", "127.0.0.1", "[::1]"].contains(&host.trim())
    };
    if is("security.protocol", "SASL_PLAINTEXT") && !brokers.split(',').all(is_local) {
        warn!(
            brokers,
            "security.protocol=SASL_PLAINTEXT: the login can be read on the way; use SASL_SSL"
        );
    }
}

fn holds_a_secret(name: &str) -> bool {
    let ends = [
        "password",
        "secret",
        "passphrase",
        "key.pem",
        "jaas.config",
        "oauthbearer.config",
    ];
    ends.iter().any(|end| name.to_ascii_lowercase().ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        own.collect()
    }

    #[test]
    fn a_file_stands_for_its_content() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("password");
        let name = path.to_str().expect("a name");
        std::fs::write(&path, " hunter2 \r\n").expect("written");
        let mut given = properties(&[("sasl.password.file", name), ("linger.ms", "5")]);
        read(&mut given, None).expect("readable");
        assert_eq!(
            given,
            properties(&[("sasl.password", " hunter2 "), ("linger.ms", "5")])
        );
        let inherited = properties(&[("sasl.password", "of the input")]);
        let mut given = properties(&[("sasl.password", "of the input"), ("sasl.password.file", name)]);
        read(&mut given, Some(&inherited)).expect("readable");
        assert_eq!(given, properties(&[("sasl.password", " hunter2 ")]));
        // Of librdkafka itself.
        let own = properties(&[
            ("sasl.oauthbearer.assertion.file", name),
            ("sasl.oauthbearer.token.file", name),
        ]);
        let mut given = own.clone();
        read(&mut given, None).expect("nothing to read");
        assert_eq!(given, own);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_not_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("password");
        let name = path.to_str().expect("a name");
        let problem = |pairs: &[(&str, &str)]| {
            let error = read(&mut properties(pairs), None)
                .expect_err("refused")
                .to_string();
            assert!(
                error.contains("sasl.password.file") && error.contains("/password"),
                "{error}"
            );
            assert!(!error.contains("hunter2"), "{error}");
        };
        problem(&[("sasl.password.file", name)]);
        std::fs::write(&path, "\n").expect("written");
        problem(&[("sasl.password.file", name)]);
        std::fs::write(&path, "hunter2").expect("written");
        problem(&[("sasl.password.file", name), ("sasl.password", "hunter2")]);
    }

    #[test]
    fn secrets_are_told_from_their_files_and_from_settings() {
        for name in ["sasl.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"] {
            assert!(holds_a_secret(name), "{name}");
        }
        for name in [
            "sasl.password.file",
            "sasl.oauthbearer.method",
            "ssl.ca.pem",
            "sasl.username",
        ] {
            assert!(!holds_a_secret(name), "{name}");
        }
    }
}
