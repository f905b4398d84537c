//! The registry over HTTP: what it knows about an id, or why it did not say.
//!
//! Only the answers "here it is" and "there is no such schema" are answers. Everything else (nothing there, 5xx, 429, 401,
//! 403, a page of some other server) is an error that a later call may not have: whoever asks waits and asks again. A call
//! takes about [`SCHEMA_TIMEOUT`] at most, so that the group and an open transaction do not time out meanwhile, and what it
//! reads is bounded.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use loginlake_service::config::{RegistryCredentials, ResolvedSchemaRegistry};
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::redirect::Policy;
use serde::Deserialize;
use url::{Host, Url};

use crate::frame::SchemaId;
use crate::schema::{SchemaText, SchemaType};

/// Longest wait for one answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// No further reference is asked for when a schema has taken so long.
pub const SCHEMA_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer that is read, bytes.
const MAX_ANSWER_BYTES: u64 = 4 << 20;
/// Most schemas that one schema may refer to, directly or not.
const MAX_REFERENCES: usize = 64;
/// The registry's codes for "no such subject", "no such version" and "no such schema".
const NOT_FOUND: [u32; 3] = [40401, 40402, 40403];
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json";

/// Why a registry gave no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegistryError {
    /// The settings cannot work.
    #[error("--schema-registry: {0}")]
    Configuration(String),
    /// A later call may get one.
    #[error("schema registry {url}: {problem}")]
    Unavailable {
        /// The address.
        url: String,
        /// What happened, without secrets.
        problem: String,
    },
}

/// What a registry says about an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The schema.
    Schema(SchemaText),
    /// There is none of this id.
    Unknown,
    /// There is one, and it cannot be used, for this reason.
    Unusable(String),
}

/// A client of one registry. Blocks, so it belongs on plain threads.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    url: Url,
    credentials: Option<RegistryCredentials>,
}

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
    #[serde(rename = "schemaType", default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Clone, Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error_code: u32,
}

impl Registry {
    /// A client. Nothing is asked yet. Not to be called within an async task.
    ///
    /// # Errors
    /// The address is no URL of HTTP, holds credentials, or credentials would travel in the clear beyond this machine.
    pub fn new(settings: &ResolvedSchemaRegistry) -> Result<Self, RegistryError> {
        let wrong = |problem: &str| RegistryError::Configuration(problem.to_owned());
        let mut url = Url::parse(&settings.url).map_err(|error| {
            wrong(&format!(
                "not a URL such as https://registry.example:8081: {error}"
            ))
        })?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong("not a URL such as https://registry.example:8081"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "the address holds credentials, which every user of the machine can see; use --schema-registry-credentials-file",
            ));
        }
        if url.scheme() == "http" && settings.credentials.is_some() && !is_loopback(&url) {
            return Err(wrong(
                "credentials over plain HTTP can be read on the way; use https",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("the address ends in a query or fragment; leave it out"));
        }
        // So that paths are added to it and do not replace its last part.
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let client = Client::builder()
            .user_agent(concat!("loginlake/", env!("CARGO_PKG_VERSION")))
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            // The environment is read once, by the configuration.
            .no_proxy()
            .build()
            .map_err(|error| wrong(&format!("cannot set up HTTPS: {}", causes(&error))))?;
        Ok(Self {
            client,
            url,
            credentials: settings.credentials.clone(),
        })
    }

    /// The address.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Asks for a schema with everything that it refers to.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`].
    pub fn schema(&self, id: SchemaId) -> Result<Answer, RegistryError> {
        let id = id.to_string();
        let Some(answer) = self.get(&["schemas", "ids", &id])? else {
            return Ok(Answer::Unknown);
        };
        // Confluent leaves the type out for Avro.
        let schema_type = match answer
            .schema_type
            .as_deref()
            .unwrap_or("AVRO")
            .parse::<SchemaType>()
        {
            Ok(schema_type) => schema_type,
            Err(problem) => return Ok(Answer::Unusable(problem)),
        };
        let mut references = Vec::new();
        // A JSON Schema is not looked at, so what it refers to is not, either.
        if schema_type != SchemaType::JsonSchema {
            let mut seen = BTreeSet::new();
            let direct = answer.references.unwrap_or_default();
            let until = Instant::now() + SCHEMA_TIMEOUT;
            if let Err(problem) = self.collect(direct, until, &mut seen, &mut references)? {
                return Ok(Answer::Unusable(problem));
            }
        }
        Ok(Answer::Schema(SchemaText {
            schema_type,
            text: answer.schema,
            references,
        }))
    }

    /// Collects references depth first, so that each comes after those that it refers to itself. The inner error: the
    /// registry has answered, and they cannot be used.
    fn collect(
        &self,
        references: Vec<Reference>,
        until: Instant,
        seen: &mut BTreeSet<String>,
        collected: &mut Vec<(String, String)>,
    ) -> Result<Result<(), String>, RegistryError> {
        for reference in references {
            if !seen.insert(reference.name.clone()) {
                continue;
            }
            if seen.len() > MAX_REFERENCES {
                return Ok(Err(format!("more than {MAX_REFERENCES} references")));
            }
            if Instant::now() >= until {
                return Err(
                    self.unavailable("it is too slow: the references of one schema take more than 5 s")
                );
            }
            let version = reference.version.to_string();
            let Some(answer) = self.get(&["subjects", &reference.subject, "versions", &version])? else {
                return Ok(Err(format!("its reference {:?} is not there", reference.name)));
            };
            if let Err(problem) =
                self.collect(answer.references.unwrap_or_default(), until, seen, collected)?
            {
                return Ok(Err(problem));
            }
            collected.push((reference.name, answer.schema));
        }
        Ok(Ok(()))
    }

    /// Asks for one thing. None: the registry says that there is no such thing.
    fn get(&self, path: &[&str]) -> Result<Option<SchemaAnswer>, RegistryError> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| self.unavailable("the address takes no path"))?
            .pop_if_empty()
            .extend(path);
        let mut request = self.client.get(url).header("accept", ACCEPT);
        request = match &self.credentials {
            None => request,
            Some(RegistryCredentials::Basic { user, password }) => {
                request.basic_auth(user, Some(String::from_utf8_lossy(password.expose())))
            }
            Some(RegistryCredentials::Bearer(token)) => {
                request.bearer_auth(String::from_utf8_lossy(token.expose()))
            }
        };
        let answer = request
            .send()
            .map_err(|error| self.unavailable(&causes(&error.without_url())))?;
        let status = answer.status();
        let body = self.body(answer)?;
        match status {
            StatusCode::OK => match serde_json::from_slice(&body) {
                Ok(answer) => Ok(Some(answer)),
                Err(_) => Err(self.unavailable(
                    "it does not answer as a schema registry does; check the address and its path",
                )),
            },
            StatusCode::NOT_FOUND => match serde_json::from_slice(&body) {
                Ok(ErrorAnswer { error_code }) if NOT_FOUND.contains(&error_code) => Ok(None),
                // Some other server, or the wrong path: no word about the schema.
                _ => Err(self
                    .unavailable("404 without a code of a schema registry; check the address and its path")),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.unavailable(&format!(
                "it refuses these credentials ({}); check --schema-registry-credentials-file",
                status.as_u16()
            ))),
            status => Err(self.unavailable(&format!("it answers {}", status.as_u16()))),
        }
    }

    fn body(&self, answer: Response) -> Result<Vec<u8>, RegistryError> {
        let mut body = Vec::new();
        answer
            .take(MAX_ANSWER_BYTES + 1)
            .read_to_end(&mut body)
            .map_err(|error| self.unavailable(&format!("its answer broke off: {error}")))?;
        if body.len() as u64 > MAX_ANSWER_BYTES {
            return Err(self.unavailable("its answer is larger than 4 MiB"));
        }
        Ok(body)
    }

    fn unavailable(&self, problem: &str) -> RegistryError {
        RegistryError::Unavailable {
            url: self.url.to_string(),
            problem: problem.to_owned(),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// An error with what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
