//! OpenSearch over HTTP. Blocks, so it belongs on plain threads. Answers are bounded, redirects are not followed, the
//! environment's proxies are not used. No error holds a body or a credential.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use loginlake_service::config::Secret;
use loginlake_service::exit::ExitError;
use reqwest::blocking::{Client as HttpClient, RequestBuilder};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method};
use url::{Host, Url};

use super::answer;
use super::deliver::{Bulk, BulkAnswer};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for one answer. A request that was given up is sent again; what it had done is found to be there.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read, bytes: 5,000 items with an error each are below 4 MiB.
const MAX_ANSWER_BYTES: u64 = 32 << 20;

/// Where bulk requests go.
const BULK: &str = "_bulk";

/// How OpenSearch is reached.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Its address, without credentials.
    pub url: String,
    /// None: it asks for none.
    pub credentials: Option<Credentials>,
    /// PEM file of the authorities that its certificate may be of; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
}

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
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

/// A client of one cluster; threads share it.
pub(super) struct Client {
    http: HttpClient,
    url: Url,
    credentials: Option<Credentials>,
}

/// A status and a body.
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Client {
    /// Nothing is asked yet. Not to be called within an async task.
    ///
    /// # Errors
    /// Code 2: the address is no URL of HTTP, holds credentials, or credentials would travel in the clear beyond this machine;
    /// the file of authorities cannot be used.
    pub fn new(settings: &ClientSettings) -> Result<Self, ExitError> {
        let url = address(settings).map_err(|problem| ExitError::usage(format!("--index-url: {problem}")))?;
        let mut builder = HttpClient::builder()
            .user_agent(concat!("loginlake/", env!("CARGO_PKG_VERSION")))
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            // The environment is read once, by the configuration.
            .no_proxy();
        if let Some(file) = &settings.ca_file {
            let wrong = |problem: String| {
                ExitError::usage(format!("--index-ca-file: `{}`: {problem}", file.display()))
            };
            let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(causes(&error)))?;
            if certificates.is_empty() {
                return Err(wrong("no certificate in PEM is in it".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder
            .build()
            .map_err(|error| ExitError::failed(format!("cannot set up HTTPS: {}", causes(&error))))?;
        Ok(Self {
            http,
            url,
            credentials: settings.credentials.clone(),
        })
    }

    /// The address.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Sends one request, with a body of JSON if there is one.
    ///
    /// # Errors
    /// What happened instead of an answer, in one line.
    pub fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer, String> {
        let url = self.url.join(path).map_err(|error| error.to_string())?;
        let mut request = self.log_in(self.http.request(method, url));
        if let Some(body) = body {
            let kind = if path.starts_with(BULK) {
                "application/x-ndjson"
            } else {
                "application/json"
            };
            request = request.header("content-type", kind).body(body);
        }
        let answer = request.send().map_err(|error| causes(&error.without_url()))?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        answer
            .take(MAX_ANSWER_BYTES + 1)
            .read_to_end(&mut body)
            .map_err(|error| format!("its answer broke off: {error}"))?;
        if body.len() as u64 > MAX_ANSWER_BYTES {
            return Err("its answer is larger than 32 MiB".to_owned());
        }
        Ok(Answer { status, body })
    }

    /// A status that is not good, with what may be done about it.
    pub fn refusal(&self, status: u16) -> String {
        match (status, &self.credentials) {
            (401, None) => "it asks for credentials (401); give them with --index-credentials-file".to_owned(),
            (401, Some(_)) => "it refuses these credentials (401); check --index-credentials-file".to_owned(),
            (403, _) => {
                "its user may not do this (403); docs/OPERATIONS.md, OpenSearch, has the rights that are needed, \
                 --index-credentials-file says who it is"
                    .to_owned()
            }
            (status, _) => format!("it answers {status}"),
        }
    }

    fn log_in(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credentials {
            None => request,
            Some(Credentials::Basic { user, password }) => {
                request.basic_auth(user, Some(String::from_utf8_lossy(password.expose())))
            }
            Some(Credentials::Bearer(token)) => request.bearer_auth(String::from_utf8_lossy(token.expose())),
        }
    }
}

impl Bulk for Client {
    fn bulk(&self, body: Vec<u8>, items: usize) -> BulkAnswer {
        let path = format!("{BULK}?filter_path={}", answer::FILTER);
        match self.send(Method::POST, &path, Some(body)) {
            Ok(Answer { status: 200, body }) => match answer::verdicts(&body, items) {
                Some(verdicts) => BulkAnswer::Items(verdicts),
                None => BulkAnswer::Unavailable("it does not answer as OpenSearch does".to_owned()),
            },
            Ok(Answer { status: 413, .. }) => BulkAnswer::TooLarge,
            Ok(Answer { status: 429, .. }) => BulkAnswer::Overloaded,
            Ok(Answer { status, .. }) => BulkAnswer::Unavailable(self.refusal(status)),
            Err(problem) => BulkAnswer::Unavailable(problem),
        }
    }
}

fn address(settings: &ClientSettings) -> Result<Url, String> {
    let mut url = Url::parse(&settings.url)
        .map_err(|error| format!("not a URL such as https://search.example:9200: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("not a URL such as https://search.example:9200".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the address holds credentials, which every user of the machine can see; use --index-credentials-file"
                .to_owned(),
        );
    }
    if url.scheme() == "http" && settings.credentials.is_some() && !is_loopback(&url) {
        return Err("credentials over plain HTTP can be read on the way; use https".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the address ends in a query or fragment; leave it out".to_owned());
    }
    // So that paths are added to it and do not replace its last part.
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(url: &str, with_credentials: bool) -> Result<Url, String> {
        address(&ClientSettings {
            url: url.to_owned(),
            credentials: with_credentials.then(|| Credentials::Bearer(Secret::new("t"))),
            ca_file: None,
        })
    }

    #[test]
    fn paths_are_added_to_the_address() {
        let url = checked("https://proxy.example/search", true).expect("good");
        assert_eq!(
            url.join("_bulk?x=1").expect("a path").as_str(),
            "https://proxy.example/search/_bulk?x=1"
        );
        assert!(checked("http://127.0.0.1:9200", true).is_ok());
        assert!(checked("http://search.example:9200", false).is_ok());
    }

    #[test]
    fn unsafe_or_useless_addresses_are_refused() {
        for (url, problem) in [
            ("search", "not a URL"),
            ("ftp://a", "not a URL"),
            ("https://u:p@a", "holds credentials"),
            ("http://search.example", "plain HTTP"),
            ("https://a/?x", "query"),
        ] {
            let error = checked(url, true).expect_err(url);
            assert!(
                error.contains(problem) && !error.contains("u:p"),
                "{url}: {error}"
            );
        }
    }
}
