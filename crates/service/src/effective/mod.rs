//! `--print-config`: the settings that a command would run with, each with where it came from, as a configuration file that
//! can be loaded again. Nothing is connected to, and no secret is shown: what is one stays out of the file, as a comment.
//!
//! The values are those that the layers give it (built-in default < file < environment < flag); whether they fit together is
//! what a command checks when it begins.

mod in_file;
mod toml_text;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::config::keys::{self, FLAGS_WITHOUT_KEY, Key, Kind, Preset, SECRET_VARIABLES};
use crate::config::{ConfigError, environment, is_secret_property};
use crate::exit::ExitError;
use in_file::InFile;
use toml_text::{key_text, quoted};

/// Variables of the object stores and of the system that are shown with their values; the others only as set.
const SHOWN_VARIABLES: &[&str] = &[
    "AWS_ALLOW_HTTP",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "LOGINLAKE_OPERATOR",
    "RUST_LOG",
];
/// Flags that may hold a secret.
const SECRET_FLAGS: &[&str] = &["alert-webhook"];
/// How the names of variables begin that stores are configured by.
const STORE_PREFIXES: &[&str] = &["AWS_", "AZURE_", "GOOGLE_"];
/// Of these two keys the second one's default does not hold once the first one is set.
const INSTEAD: &[(&str, &str)] = &[("ingest.freshness", "ingest.max-batch-age")];

/// A command as it was called.
struct Called<'a> {
    path: Vec<&'a str>,
    command: &'a clap::Command,
    matches: &'a ArgMatches,
}

/// A setting and where it came from.
struct Setting {
    /// Its value in TOML; none: it cannot be written, or must not be shown.
    value: Option<String>,
    /// What is said in place of a value that is not there.
    words: String,
    origin: String,
    is_default: bool,
}

/// The settings of the command that these matches are of. `root` is the program's whole command line.
///
/// # Errors
/// The configuration file cannot be read, or is no TOML.
pub fn render(
    root: &clap::Command,
    matches: &ArgMatches,
    variables: &[(String, String)],
) -> Result<String, ExitError> {
    let mut root = root.clone();
    root.build();
    let called = leaf(&root, matches);
    let in_file = match called.raw("config").first() {
        Some(path) => {
            let path = Path::new(path);
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?;
            InFile::read(&text, path)?
        }
        None => InFile::default(),
    };
    Ok(called.render(&in_file, variables))
}

/// Prints the settings of the command that these matches are of.
///
/// # Errors
/// As [`render`], or standard output cannot be written.
pub fn print(root: &clap::Command, matches: &ArgMatches) -> Result<(), ExitError> {
    let mut variables: Vec<(String, String)> = environment().collect();
    variables.sort();
    let text = render(root, matches, &variables)?;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(ExitError::stdout)
}

/// The keys that a flag or a variable sets, whatever the file says.
pub fn overridden(root: &clap::Command, matches: &ArgMatches) -> BTreeSet<String> {
    let mut root = root.clone();
    root.build();
    let called = leaf(&root, matches);
    let has_flag = |flag: &str| called.argument(flag).is_some();
    let is_set = |key: &&Key| {
        let argument = key.flag.and_then(|flag| called.argument(flag));
        let source = argument.and_then(|argument| called.source(argument.get_id().as_str()));
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let keys = keys::of_command(&called.path, has_flag).filter(is_set);
    keys.map(Key::path).collect()
}

/// The command that was called at last, below all others.
fn leaf<'a>(root: &'a clap::Command, matches: &'a ArgMatches) -> Called<'a> {
    let mut called = Called {
        path: vec![root.get_name()],
        command: root,
        matches,
    };
    while let Some((name, inner)) = called.matches.subcommand() {
        let Some(command) = called.command.find_subcommand(name) else {
            break;
        };
        called.path.push(command.get_name());
        called.command = command;
        called.matches = inner;
    }
    called
}

impl Called<'_> {
    fn render(&self, in_file: &InFile, variables: &[(String, String)]) -> String {
        let mut out = format!(
            "# What `{}` runs with, and where each value comes from. Secrets are not shown: they are comments.\n",
            self.path.join(" ")
        );
        let has_flag = |flag: &str| self.argument(flag).is_some();
        let mut section = "";
        let keys: Vec<&Key> = keys::of_command(&self.path, has_flag).collect();
        let (tables, plain): (Vec<&Key>, Vec<&Key>) =
            keys.iter().partition(|key| key.kind == Kind::Properties);
        let top = |key: &&&Key| key.section.is_empty();
        for key in plain.iter().filter(top) {
            self.write(&mut out, key, in_file);
        }
        for key in tables {
            self.write_properties(&mut out, key, in_file, variables);
        }
        for key in plain.iter().filter(|key| !top(key)) {
            if key.section != section {
                section = key.section;
                let _ = writeln!(out, "\n[{section}]");
            }
            self.write(&mut out, key, in_file);
        }
        self.write_rest(&mut out, &keys, variables);
        out
    }

    fn write(&self, out: &mut String, key: &Key, in_file: &InFile) {
        let setting = self.setting(key, in_file);
        let is_replaced = setting.is_default
            && INSTEAD.iter().any(|(other, replaced)| {
                let other = keys::all().iter().find(|key| key.path() == *other);
                *replaced == key.path() && other.is_some_and(|other| !self.setting(other, in_file).is_default)
            });
        let _ = match (&setting.value, is_replaced) {
            (Some(value), false) => writeln!(out, "{} = {value}  # {}", key.name, setting.origin),
            (Some(_), true) => writeln!(out, "# {}: does not hold", key.name),
            (None, _) => writeln!(out, "# {}: {}  # {}", key.name, setting.words, setting.origin),
        };
    }

    /// The value of a key and its origin. Flag and variable first, then the file, then the default.
    fn setting(&self, key: &Key, in_file: &InFile) -> Setting {
        let of = |value: String, origin: String| {
            let is_hidden = key.is_secret || has_credentials(&value);
            Setting {
                words: "hidden".to_owned(),
                value: (!is_hidden).then_some(value),
                origin,
                is_default: false,
            }
        };
        let flag = key.flag.and_then(|flag| self.argument(flag));
        if let (Some(argument), Some(flag)) = (flag, key.flag) {
            let raw = self.raw(argument.get_id().as_str());
            match self.source(argument.get_id().as_str()) {
                Some(ValueSource::CommandLine) => {
                    return of(value_text(&key.kind, &raw), format!("flag --{flag}"));
                }
                Some(ValueSource::EnvVariable) => {
                    let variable = key.variable.as_deref().unwrap_or_default();
                    return of(value_text(&key.kind, &raw), format!("variable {variable}"));
                }
                _ => {}
            }
        }
        if let Some((value, place)) = in_file.value(&key.path()) {
            return of(value.to_owned(), place);
        }
        let (value, words) = match &key.default {
            Preset::Value(value) => (Some(toml_text::of_json(value)), String::new()),
            Preset::Words(words) => (None, words.clone()),
        };
        Setting {
            value,
            words,
            origin: "default".to_owned(),
            is_default: true,
        }
    }

    /// A table of librdkafka properties: file < environment < flags.
    fn write_properties(
        &self,
        out: &mut String,
        key: &Key,
        in_file: &InFile,
        variables: &[(String, String)],
    ) {
        let mut properties: std::collections::BTreeMap<String, (String, String)> =
            in_file.properties(key.name);
        let prefix = key.variable.as_deref().unwrap_or_default().trim_end_matches('…');
        for (name, value) in crate::config::properties_from_environment(variables.iter().cloned(), prefix) {
            let variable = format!("{prefix}{}", name.to_ascii_uppercase().replace('.', "_"));
            properties.insert(name, (quoted(&value), format!("variable {variable}")));
        }
        if let (Some(flag), Some(argument)) = (key.flag, key.flag.and_then(|flag| self.argument(flag))) {
            for pair in self.raw(argument.get_id().as_str()) {
                if let Some((name, value)) = pair.split_once('=') {
                    properties.insert(name.trim().to_owned(), (quoted(value), format!("flag --{flag}")));
                }
            }
        }
        if properties.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n[{}]", key.name);
        for (name, (value, origin)) in properties {
            let name = key_text(&name);
            let _ = match is_secret_property(&name) {
                true => writeln!(out, "# {name}: hidden  # {origin}"),
                false => writeln!(out, "{name} = {value}  # {origin}"),
            };
        }
    }

    /// What is no key: flags of this run, secrets and stores in the environment.
    fn write_rest(&self, out: &mut String, keys: &[&Key], variables: &[(String, String)]) {
        let mut rest = String::new();
        for argument in self.command.get_arguments() {
            let Some(flag) = argument.get_long() else { continue };
            let id = argument.get_id().as_str();
            let is_key = keys.iter().any(|key| key.flag == Some(flag));
            if is_key || flag == "print-config" || self.source(id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let values: Vec<String> = match SECRET_FLAGS.contains(&flag) {
                true => vec!["hidden".to_owned()],
                false => self.raw(id).iter().map(|value| quoted(value)).collect(),
            };
            let reason = FLAGS_WITHOUT_KEY.iter().find(|(name, _)| *name == flag);
            let reason = reason.map_or("of this run", |(_, reason)| reason);
            let _ = writeln!(rest, "# --{flag} {}  # {reason}", values.join(" "));
        }
        for (name, value) in variables {
            let is_secret = SECRET_VARIABLES.iter().any(|(secret, _)| secret == name);
            let is_store = STORE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            let is_shown = SHOWN_VARIABLES.contains(&name.as_str());
            if value.is_empty() || !(is_secret || is_store || is_shown) {
                continue;
            }
            let _ = match is_shown && !has_credentials(value) {
                true => writeln!(rest, "# {name}={}", quoted(value)),
                false => writeln!(rest, "# {name} is set"),
            };
        }
        if !rest.is_empty() {
            let _ = write!(out, "\n# Not of the file:\n{rest}");
        }
    }

    fn argument(&self, flag: &str) -> Option<&clap::Arg> {
        self.command
            .get_arguments()
            .find(|argument| argument.get_long() == Some(flag))
    }

    fn source(&self, id: &str) -> Option<ValueSource> {
        // Only what this command defines may be asked for.
        self.command.get_arguments().find(|arg| arg.get_id() == id)?;
        self.matches.value_source(id)
    }

    fn raw(&self, id: &str) -> Vec<String> {
        if self.command.get_arguments().all(|arg| arg.get_id() != id) {
            return Vec::new();
        }
        let values = self.matches.get_raw(id).into_iter().flatten();
        values
            .map(|value: &OsStr| value.to_string_lossy().into_owned())
            .collect()
    }
}

/// The text of a flag or variable as a value of its kind.
fn value_text(kind: &Kind, raw: &[String]) -> String {
    let first = raw.first().map(String::as_str).unwrap_or_default();
    match kind {
        Kind::List(_) => {
            let values: Vec<String> = raw.iter().map(|value| quoted(value.trim())).collect();
            format!("[{}]", values.join(", "))
        }
        // What clap takes as false; everything else that it takes is true.
        Kind::Bool => {
            let no = ["n", "no", "f", "false", "off", "0"];
            (!no.contains(&first.to_ascii_lowercase().as_str())).to_string()
        }
        Kind::Integer | Kind::Number => first.to_owned(),
        _ => quoted(first),
    }
}

/// Whether an address carries a password.
fn has_credentials(value: &str) -> bool {
    value.split_once("://").is_some_and(|(_, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.contains('@')
    })
}

#[cfg(test)]
mod tests;
