//! Where traces and lineage go, under the names that OpenTelemetry and OpenLineage have for it. Off unless an address is given.
//! The key for the lineage's receiver comes from the environment or a file, never from a flag.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::environment;
use super::error::ConfigError;
use super::file::ConfigFile;
use super::values::Secret;

/// The environment variable that holds the key for the receiver of lineage events.
pub const OPENLINEAGE_API_KEY_VARIABLE: &str = "OPENLINEAGE_API_KEY";
/// Where OpenTelemetry's collectors take traces, below `--otlp-endpoint`.
const TRACES_PATH: &str = "v1/traces";
/// Where receivers of OpenLineage take events, below `--openlineage-url`.
const LINEAGE_PATH: &str = "api/v1/lineage";
/// The namespace of jobs that nobody has named, as OpenLineage's own clients have it.
const DEFAULT_NAMESPACE: &str = "default";
/// How long a collector gets to answer, OpenTelemetry's default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that `OTEL_EXPORTER_OTLP_TIMEOUT` can say, milliseconds.
const LONGEST_TIMEOUT_MS: u64 = 60_000;

/// Traces and lineage. For the top level of a command line, valid after a subcommand, too.
#[derive(Args, Clone, Debug, Default)]
pub struct TelemetryArgs {
    /// OpenTelemetry collector (OTLP over HTTP) that traces are sent to [default: no traces]
    #[arg(
        long,
        global = true,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub otlp_endpoint: Option<String>,
    /// Share of the records without a trace of their own that begin one, 0 to 1 [default: 0]
    #[arg(
        long,
        global = true,
        env = "OTEL_TRACES_SAMPLER_ARG",
        hide_env_values = true,
        value_name = "SHARE"
    )]
    pub trace_ratio: Option<f64>,
    /// Receiver of OpenLineage events about ingestion, maintenance and queries [default: no events]
    #[arg(
        long,
        global = true,
        env = "OPENLINEAGE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub openlineage_url: Option<String>,
    /// Namespace of the jobs in these events [default: default]
    #[arg(
        long,
        global = true,
        env = "OPENLINEAGE_NAMESPACE",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub openlineage_namespace: Option<String>,
    /// File with the key that this receiver asks for [env: OPENLINEAGE_API_KEY holds the key itself]
    #[arg(
        long,
        global = true,
        env = "OPENLINEAGE_API_KEY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub openlineage_api_key_file: Option<PathBuf>,
}

/// Where traces and lineage go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// None: no traces.
    pub traces: Option<TraceSettings>,
    /// None: no events.
    pub lineage: Option<LineageSettings>,
}

/// Where traces go, and which records are in them.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// The address that spans are posted to.
    pub endpoint: String,
    /// How long it gets to answer.
    pub timeout: Duration,
    /// PEM file of the authorities that its certificate may be of; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether a record that has a trace decides by itself.
    pub follows_parent: bool,
    /// Share of the other records that begin a trace, 0 to 1.
    pub ratio: f64,
    /// The trace that started this process, as a `traceparent`.
    pub parent: Option<String>,
}

/// Where lineage events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageSettings {
    /// The address that events are posted to.
    pub endpoint: String,
    /// The namespace of jobs.
    pub namespace: String,
    /// What the receiver asks for.
    pub api_key: Option<Secret>,
    /// The run that started this process, as `namespace/job/run id`.
    pub parent: Option<ParentRun>,
}

/// A run of another program that started this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentRun {
    /// The namespace of its job.
    pub namespace: String,
    /// Its job.
    pub job: String,
    /// Its run.
    pub run_id: String,
}

impl TelemetryArgs {
    /// Resolves against the file and this process's environment.
    ///
    /// # Errors
    /// An address that is none, a share that is none, a file that cannot be read.
    pub fn resolve(&self, file: &ConfigFile) -> Result<Telemetry, ConfigError> {
        self.resolve_with(file, environment())
    }

    /// Like [`TelemetryArgs::resolve`] with the environment's variables given.
    ///
    /// # Errors
    /// As [`TelemetryArgs::resolve`].
    pub fn resolve_with(
        &self,
        file: &ConfigFile,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Telemetry, ConfigError> {
        let variables: Vec<(String, String)> = variables.into_iter().collect();
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| known == name);
            found
                .map(|(_, value)| value.trim())
                .filter(|value| !value.is_empty())
        };
        let is_on = |name: &str| variable(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let no_traces = is_on("OTEL_SDK_DISABLED") || variable("OTEL_TRACES_EXPORTER") == Some("none");
        let traces = match self.traces_endpoint(file, variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))? {
            Some(endpoint) if !no_traces => {
                let (follows_parent, ratio) = self.sampler(file, variable("OTEL_TRACES_SAMPLER"))?;
                Some(TraceSettings {
                    endpoint,
                    timeout: timeout(variable("OTEL_EXPORTER_OTLP_TIMEOUT"))?,
                    ca_file: variable("OTEL_EXPORTER_OTLP_CERTIFICATE").map(PathBuf::from),
                    follows_parent,
                    ratio,
                    parent: variable("TRACEPARENT").map(str::to_owned),
                })
            }
            _ => None,
        };
        let url = given(&self.openlineage_url).or_else(|| given(&file.openlineage_url));
        let lineage = match url {
            Some(url) if !is_on("OPENLINEAGE_DISABLED") => {
                let setting = "--openlineage-url";
                let path = variable("OPENLINEAGE_ENDPOINT").unwrap_or(LINEAGE_PATH);
                let api_key = self.api_key(file, variable(OPENLINEAGE_API_KEY_VARIABLE))?;
                if api_key.is_some() && is_in_the_clear(&url) {
                    let problem = "would send the key in the clear to another machine: use https://";
                    return Err(ConfigError::invalid(setting, problem));
                }
                Some(LineageSettings {
                    endpoint: address(setting, &url, path)?,
                    namespace: given(&self.openlineage_namespace)
                        .or_else(|| given(&file.openlineage_namespace))
                        .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
                    api_key,
                    parent: variable("OPENLINEAGE_PARENT_ID").map(parent_run).transpose()?,
                })
            }
            _ => None,
        };
        Ok(Telemetry { traces, lineage })
    }

    /// The address for traces. That of all signals has a path for each; the one for traces alone is used as it is.
    fn traces_endpoint(&self, file: &ConfigFile, alone: Option<&str>) -> Result<Option<String>, ConfigError> {
        let setting = "--otlp-endpoint";
        if let Some(alone) = alone {
            return address(setting, alone, "").map(Some);
        }
        let url = given(&self.otlp_endpoint).or_else(|| given(&file.otlp_endpoint));
        url.map(|url| address(setting, &url, TRACES_PATH)).transpose()
    }

    /// Whether records that have a trace decide by themselves, and the share of the others.
    fn sampler(&self, file: &ConfigFile, name: Option<&str>) -> Result<(bool, f64), ConfigError> {
        let said = self.trace_ratio.or(file.trace_ratio);
        if said.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
            return Err(ConfigError::invalid(
                "--trace-ratio",
                "is not a share from 0 to 1",
            ));
        }
        match name {
            // Of all records would be too many: whoever wants more says so.
            None => Ok((true, said.unwrap_or(0.0))),
            Some("parentbased_traceidratio") => Ok((true, said.unwrap_or(1.0))),
            Some("parentbased_always_on") => Ok((true, 1.0)),
            Some("parentbased_always_off") => Ok((true, 0.0)),
            Some("traceidratio") => Ok((false, said.unwrap_or(1.0))),
            Some("always_on") => Ok((false, 1.0)),
            Some("always_off") => Ok((false, 0.0)),
            Some(other) => Err(ConfigError::invalid(
                "OTEL_TRACES_SAMPLER",
                format!(
                    "`{other}` is none of always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio"
                ),
            )),
        }
    }

    fn api_key(&self, file: &ConfigFile, variable: Option<&str>) -> Result<Option<Secret>, ConfigError> {
        let path = match (&self.openlineage_api_key_file, variable) {
            (Some(path), _) => path,
            (None, Some(key)) => return Ok(Some(Secret::new(key))),
            (None, None) => match &file.openlineage_api_key_file {
                Some(path) => path,
                None => return Ok(None),
            },
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            let problem = format!("cannot read `{}`: {error}", path.display());
            ConfigError::invalid("--openlineage-api-key-file", problem)
        })?;
        Ok(Some(Secret::new(text.trim())))
    }
}

fn given(text: &Option<String>) -> Option<String> {
    text.as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// An address of HTTP with a path behind it. It is never repeated in an error: it may hold a password.
fn address(setting: &'static str, url: &str, path: &str) -> Result<String, ConfigError> {
    let parsed = url::Url::parse(url)
        .map_err(|error| ConfigError::invalid(setting, format!("is not a URL: {error}")))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(ConfigError::invalid(
            setting,
            "is not an address of http:// or https://",
        ));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(ConfigError::invalid(
            setting,
            "holds a user or a password, which others could see: use OTEL_EXPORTER_OTLP_HEADERS, or OPENLINEAGE_API_KEY",
        ));
    }
    if path.is_empty() {
        return Ok(url.to_owned());
    }
    Ok(format!(
        "{}/{}",
        url.trim_end_matches('/'),
        path.trim_start_matches('/')
    ))
}

/// Whether everybody on the way could read what is sent.
fn is_in_the_clear(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else {
        return false;
    };
    let is_here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !is_here
}

fn timeout(variable: Option<&str>) -> Result<Duration, ConfigError> {
    let Some(text) = variable else {
        return Ok(DEFAULT_TIMEOUT);
    };
    match text.parse() {
        Ok(ms @ 1..=LONGEST_TIMEOUT_MS) => Ok(Duration::from_millis(ms)),
        _ => Err(ConfigError::invalid(
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            format!("`{text}` is not a number of milliseconds from 1 to {LONGEST_TIMEOUT_MS}"),
        )),
    }
}

/// `namespace/job/run id`; a namespace may hold slashes.
fn parent_run(text: &str) -> Result<ParentRun, ConfigError> {
    let mut parts = text.rsplitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(run_id), Some(job), Some(namespace))
            if uuid::Uuid::parse_str(run_id).is_ok() && !job.is_empty() && !namespace.is_empty() =>
        {
            Ok(ParentRun {
                namespace: namespace.to_owned(),
                job: job.to_owned(),
                run_id: run_id.to_owned(),
            })
        }
        _ => Err(ConfigError::invalid(
            "OPENLINEAGE_PARENT_ID",
            "is not of the form namespace/job/run-id, with a UUID as the run's",
        )),
    }
}

#[cfg(test)]
mod tests;
