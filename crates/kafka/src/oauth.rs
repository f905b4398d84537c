//! OAUTHBEARER: tokens from an identity provider (OIDC, client credentials) or from a file that somebody else renews.
//!
//! librdkafka is built here without an HTTP client, so it cannot fetch tokens itself. The settings have librdkafka's names
//! (`sasl.oauthbearer.*`); they are taken out before librdkafka sees them, and a thread for each client gives it tokens: the first
//! before the client is used, the next after four fifths of a token's time. Clients of one configuration share a token. While the
//! provider does not answer, a token is used to its end, and then the client's complaint says why there is none. No secret and no
//! token is part of an error.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::io::Read as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rdkafka::bindings as native;
use rdkafka::types::{RDKafka, RDKafkaRespErr};
use serde::Deserialize;
use url::{Host, Url};

use crate::client::ClientState;
use crate::{KafkaError, KafkaSettings};

const MECHANISMS: [&str; 2] = ["sasl.mechanism", "sasl.mechanisms"];
const METHOD: &str = "sasl.oauthbearer.method";
const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";
const CLIENT_ID: &str = "sasl.oauthbearer.client.id";
const CLIENT_SECRET: &str = "sasl.oauthbearer.client.secret";
const SCOPE: &str = "sasl.oauthbearer.scope";
const EXTENSIONS: &str = "sasl.oauthbearer.extensions";
const GRANT: &str = "sasl.oauthbearer.grant.type";
/// Not of librdkafka: a token that somebody else renews.
const TOKEN_FILE: &str = "sasl.oauthbearer.token.file";
const CA: &str = "https.ca.location";
/// What is understood here; anything else below these names is refused, so that no setting is without effect.
const KNOWN: [&str; 9] = [
    METHOD,
    ENDPOINT,
    CLIENT_ID,
    CLIENT_SECRET,
    SCOPE,
    EXTENSIONS,
    GRANT,
    TOKEN_FILE,
    CA,
];

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const CALL_LIMIT: Duration = Duration::from_secs(8);
const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// After a failure the next question waits so long.
const RETRY_PAUSE_MS: i64 = 5_000;
/// How long a token of a file is used that does not say when it ends.
const OPAQUE_LIFE_MS: i64 = 300_000;
/// Configurations that are kept: a process talks to one cluster, or two.
const MAX_SOURCES: usize = 16;

/// Whether a property is for this module and not for librdkafka.
pub(crate) fn is_ours(key: &str) -> bool {
    key.starts_with("sasl.oauthbearer.") || key == CA
}

/// Where tokens come from.
enum Origin {
    Provider {
        endpoint: Url,
        client_id: String,
        client_secret: String,
        scope: Option<String>,
        ca: Option<PathBuf>,
    },
    File(PathBuf),
}

/// A token, and its times in milliseconds since the epoch.
#[derive(Clone)]
struct Token {
    text: String,
    principal: String,
    refresh_ms: i64,
    ends_ms: i64,
}

/// The tokens of one configuration.
struct Source {
    origin: Origin,
    /// Name, value, name, value.
    extensions: Vec<CString>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    token: Option<Token>,
    failure: Option<(String, i64)>,
}

impl Source {
    fn of(properties: &BTreeMap<String, String>) -> Result<Option<Self>, KafkaError> {
        let wrong = |problem: String| Err(KafkaError::Configuration(problem));
        let get = |key: &str| {
            properties
                .get(key)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let wants = MECHANISMS
            .iter()
            .any(|key| get(key).is_some_and(|value| value.eq_ignore_ascii_case("OAUTHBEARER")));
        if !wants {
            return Ok(None);
        }
        let unknown = properties
            .keys()
            .find(|key| is_ours(key) && !KNOWN.contains(&key.as_str()));
        if let Some(key) = unknown {
            return wrong(format!(
                "{key} is not supported: tokens are had by client credentials ({METHOD}=oidc, {ENDPOINT}, {CLIENT_ID}, {CLIENT_SECRET}) or from {TOKEN_FILE}"
            ));
        }
        if let Some(grant) = get(GRANT).filter(|grant| *grant != "client_credentials") {
            return wrong(format!(
                "{GRANT}={grant} is not supported: leave it out, or put tokens into {TOKEN_FILE}"
            ));
        }
        let origin = match (get(TOKEN_FILE), get(METHOD)) {
            (Some(path), None) => Origin::File(path.into()),
            (Some(_), Some(_)) => {
                return wrong(format!(
                    "{TOKEN_FILE} and {METHOD} are both given: give one of them"
                ));
            }
            (None, Some(method)) if method.eq_ignore_ascii_case("oidc") => {
                let needed = |key: &str| {
                    let value = get(key).map(ToOwned::to_owned);
                    value.ok_or_else(|| KafkaError::Configuration(format!("{METHOD}=oidc needs {key}")))
                };
                Origin::Provider {
                    endpoint: endpoint(&needed(ENDPOINT)?)?,
                    client_id: needed(CLIENT_ID)?,
                    client_secret: needed(CLIENT_SECRET)?,
                    scope: get(SCOPE).map(ToOwned::to_owned),
                    ca: get(CA).map(PathBuf::from),
                }
            }
            (None, _) => {
                return wrong(format!(
                    "OAUTHBEARER needs tokens: set {METHOD}=oidc with {ENDPOINT}, {CLIENT_ID} and {CLIENT_SECRET}, or {TOKEN_FILE}"
                ));
            }
        };
        Ok(Some(Self {
            origin,
            extensions: extensions(get(EXTENSIONS).unwrap_or_default())?,
            last: Mutex::default(),
        }))
    }

    /// The token to be used now. One at a time asks for it; the others wait and get the same.
    fn token(&self, now_ms: i64) -> Result<Token, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = last.token.as_ref().filter(|token| now_ms < token.refresh_ms) {
            return Ok(token.clone());
        }
        let known = last
            .failure
            .clone()
            .filter(|(_, at_ms)| now_ms < at_ms + RETRY_PAUSE_MS);
        let fetched = match known {
            Some((problem, _)) => Err(problem),
            None => self.fetch(now_ms),
        };
        match fetched {
            Ok(token) => {
                *last = Last {
                    token: Some(token.clone()),
                    failure: None,
                };
                Ok(token)
            }
            Err(problem) => {
                if last
                    .failure
                    .as_ref()
                    .is_none_or(|(_, at_ms)| now_ms >= at_ms + RETRY_PAUSE_MS)
                {
                    last.failure = Some((problem.clone(), now_ms));
                    tracing::warn!(problem, "no new token for Kafka");
                }
                let usable = last.token.clone().filter(|token| now_ms < token.ends_ms);
                usable.ok_or(problem)
            }
        }
    }

    fn fetch(&self, now_ms: i64) -> Result<Token, String> {
        match &self.origin {
            Origin::File(path) => {
                let shown = path.display();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("no token: {TOKEN_FILE} {shown}: {error}"))?;
                let text = text.trim().to_owned();
                if text.is_empty() {
                    return Err(format!("no token: {TOKEN_FILE} {shown} is empty"));
                }
                token_of(text, None, now_ms).map_err(|problem| format!("{TOKEN_FILE} {shown}: {problem}"))
            }
            // A thread that no asynchronous runtime is entered on, whoever asks.
            Origin::Provider { endpoint, .. } => std::thread::scope(|scope| {
                let asked = scope.spawn(|| self.ask(now_ms)).join();
                asked
                    .unwrap_or_else(|_| Err("the client of HTTP panicked".to_owned()))
                    .map_err(|problem| format!("no token from {endpoint}: {problem}"))
            }),
        }
    }

    fn ask(&self, now_ms: i64) -> Result<Token, String> {
        let Origin::Provider {
            endpoint,
            client_id,
            client_secret,
            scope,
            ca,
        } = &self.origin
        else {
            return Err("it has none".to_owned());
        };
        let mut client = reqwest::blocking::Client::builder()
            .user_agent(concat!("loginlake/", env!("CARGO_PKG_VERSION")))
            .timeout(CALL_LIMIT)
            .connect_timeout(CONNECT_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            // The environment is read once, by the configuration.
            .no_proxy();
        if let Some(path) = ca {
            let wrong = |problem: String| format!("{CA} {}: {problem}", path.display());
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let certificates =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(causes(&error)))?;
            if certificates.is_empty() {
                return Err(wrong("no certificate in PEM is in it".to_owned()));
            }
            client = client.tls_certs_only(certificates);
        }
        let mut form = url::form_urlencoded::Serializer::new("grant_type=client_credentials".to_owned());
        if let Some(scope) = scope {
            form.append_pair("scope", scope);
        }
        let login = STANDARD.encode(format!("{client_id}:{client_secret}"));
        let answer = client
            .build()
            .map_err(|error| causes(&error))?
            .post(endpoint.clone())
            .header("authorization", format!("Basic {login}"))
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.finish())
            .send()
            .map_err(|error| causes(&error.without_url()))?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        answer
            .take(MAX_ANSWER_BYTES)
            .read_to_end(&mut body)
            .map_err(|error| format!("its answer broke off: {error}"))?;
        let answer: Answer = serde_json::from_slice(&body).unwrap_or_default();
        if status != 200 {
            let code = answer.error.filter(|code| is_code(code));
            let code = code.map_or_else(String::new, |code| format!(" ({code})"));
            return Err(format!(
                "it answers {status}{code}; check {CLIENT_ID}, {CLIENT_SECRET} and {SCOPE}"
            ));
        }
        let text = answer.access_token.ok_or("its answer holds no access_token")?;
        let life_ms = answer.expires_in.map(|seconds| seconds.saturating_mul(1000));
        let mut token = token_of(text, life_ms, now_ms)?;
        if token.principal.is_empty() {
            token.principal.clone_from(client_id);
        }
        Ok(token)
    }
}

/// The answer of a token endpoint (RFC 6749, 5.1 and 5.2).
#[derive(Default, Deserialize)]
struct Answer {
    access_token: Option<String>,
    expires_in: Option<i64>,
    error: Option<String>,
}

/// The claims of a JWT that matter here. The broker judges the token; this only looks when it ends.
#[derive(Default, Deserialize)]
struct Claims {
    exp: Option<f64>,
    sub: Option<String>,
}

fn token_of(text: String, life_ms: Option<i64>, now_ms: i64) -> Result<Token, String> {
    let claims: Claims = text
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok())
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default();
    let from_claim = claims.exp.map(|seconds| (seconds * 1000.0) as i64);
    let ends_ms = from_claim.unwrap_or_else(|| now_ms + life_ms.unwrap_or(OPAQUE_LIFE_MS));
    if ends_ms <= now_ms {
        return Err("the token has expired".to_owned());
    }
    Ok(Token {
        text,
        principal: claims.sub.unwrap_or_default(),
        refresh_ms: now_ms + (ends_ms - now_ms) / 5 * 4,
        ends_ms,
    })
}

fn endpoint(text: &str) -> Result<Url, KafkaError> {
    let wrong = |problem: &str| KafkaError::Configuration(format!("{ENDPOINT}: {problem}"));
    let url = Url::parse(text).map_err(|error| wrong(&format!("not a URL: {error}")))?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => return Err(wrong("names no host")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "holds credentials: use sasl.oauthbearer.client.id and .secret",
        ));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        _ => Err(wrong("the secret would be sent in the clear; use https")),
    }
}

/// `name=value,name=value` (RFC 7628, 3.1), such as Confluent Cloud's `logicalCluster=…,identityPoolId=…`.
fn extensions(text: &str) -> Result<Vec<CString>, KafkaError> {
    let mut found = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let parts = pair.split_once('=').and_then(|(name, value)| {
            let name = CString::new(name.trim()).ok().filter(|name| !name.is_empty())?;
            Some([name, CString::new(value.trim()).ok()?])
        });
        let parts =
            parts.ok_or_else(|| KafkaError::Configuration(format!("{EXTENSIONS} is not name=value,…")))?;
        found.extend(parts);
    }
    Ok(found)
}

/// An error code of RFC 6749 and not a text that could repeat what was sent.
fn is_code(text: &str) -> bool {
    text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// One source for each configuration, whatever the number of clients.
fn shared(settings: &KafkaSettings) -> Result<Option<Arc<Source>>, KafkaError> {
    type Known = Vec<(BTreeMap<String, String>, Arc<Source>)>;
    static SOURCES: Mutex<Known> = Mutex::new(Vec::new());
    let Some(source) = Source::of(&settings.properties)? else {
        return Ok(None);
    };
    let own = settings.properties.iter().filter(|(key, _)| is_ours(key));
    let own: BTreeMap<String, String> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = sources.iter().find(|(key, _)| *key == own) {
        return Ok(Some(Arc::clone(known)));
    }
    let source = Arc::new(source);
    if sources.len() >= MAX_SOURCES {
        sources.remove(0);
    }
    sources.push((own, Arc::clone(&source)));
    Ok(Some(source))
}

/// Gives tokens to a client that wants them. To be dropped before the client.
pub(crate) struct TokenKeeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A client that outlives the thread, see [`TokenKeeper`].
struct Client(*mut RDKafka);

// SAFETY: librdkafka's clients may be used by any thread at any time.
unsafe impl Send for Client {}

impl TokenKeeper {
    /// Gives the first token, and starts the thread that gives the next ones. `None`: these settings want none. That there is no token
    /// now is not an error here: the client says so when it is used, and the thread goes on asking.
    ///
    /// # Errors
    /// [`KafkaError::Configuration`]: settings that cannot be used.
    pub(crate) fn start(
        client: *mut RDKafka,
        settings: &KafkaSettings,
        state: &ClientState,
    ) -> Result<Option<Self>, KafkaError> {
        let Some(source) = shared(settings)? else {
            return Ok(None);
        };
        let (client, state) = (Client(client), state.clone());
        let mut problem = None;
        let mut due_ms = give(&client, &source, &state, &mut problem);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = move || {
            let client = client;
            while !stopped.load(Ordering::Acquire) {
                let wait_ms = u64::try_from(due_ms - now_ms()).unwrap_or(0);
                if wait_ms > 0 {
                    std::thread::park_timeout(Duration::from_millis(wait_ms));
                } else {
                    due_ms = give(&client, &source, &state, &mut problem);
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("kafka-tokens".to_owned())
            .spawn(serve);
        let thread = thread.map_err(|error| KafkaError::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Some(Self {
            stop,
            thread: Some(thread),
        }))
    }
}

impl Drop for TokenKeeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic.
            let _ = thread.join();
        }
    }
}

/// Gives the client a token, or says that there is none. Returns when to come again.
fn give(client: &Client, source: &Source, state: &ClientState, known: &mut Option<String>) -> i64 {
    let now_ms = now_ms();
    let result = source.token(now_ms).and_then(|token| {
        set(client, source, &token)?;
        if let Some(problem) = known.take() {
            state.forget(&problem);
        }
        // A token that could not be renewed is used to its end, and another one is asked for soon.
        Ok(token.refresh_ms.max(now_ms + RETRY_PAUSE_MS))
    });
    result.unwrap_or_else(|problem| {
        state.refuse(&problem);
        if let Ok(text) = CString::new(problem.as_str()) {
            // SAFETY: the client lives; the text outlives the call, which copies it.
            unsafe { native::rd_kafka_oauthbearer_set_token_failure(client.0, text.as_ptr()) };
        }
        *known = Some(problem);
        now_ms + RETRY_PAUSE_MS
    })
}

fn set(client: &Client, source: &Source, token: &Token) -> Result<(), String> {
    let no_text = |_| "the token holds a zero byte".to_owned();
    let text = CString::new(token.text.as_str()).map_err(no_text)?;
    let principal = CString::new(token.principal.as_str()).map_err(no_text)?;
    let mut extensions: Vec<*const c_char> = source.extensions.iter().map(|part| part.as_ptr()).collect();
    let mut problem: [c_char; 512] = [0; 512];
    // SAFETY: the client lives; all texts outlive the call, which copies them; the length of the buffer is given.
    let code = unsafe {
        native::rd_kafka_oauthbearer_set_token(
            client.0,
            text.as_ptr(),
            token.ends_ms,
            principal.as_ptr(),
            extensions.as_mut_ptr(),
            extensions.len(),
            problem.as_mut_ptr(),
            problem.len(),
        )
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // librdkafka's text can repeat the token.
    Err("the token is not one that can be sent: check its form".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = [("sasl.mechanism", "OAUTHBEARER")];
        let all = own.iter().chain(pairs);
        all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.signature", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn settings_that_cannot_be_used_are_said_without_the_secret() {
        let oidc = [
            (METHOD, "oidc"),
            (ENDPOINT, "https://login.example/token"),
            (CLIENT_ID, "app"),
            (CLIENT_SECRET, "hunter2"),
        ];
        assert!(Source::of(&properties(&oidc)).expect("good").is_some());
        assert!(Source::of(&BTreeMap::new()).expect("no mechanism").is_none());
        for (changed, value, problem) in [
            (METHOD, "default", "OAUTHBEARER needs tokens"),
            (CLIENT_ID, "", "needs sasl.oauthbearer.client.id"),
            (ENDPOINT, "http://login.example/token", "use https"),
            (ENDPOINT, "login.example", "not a URL"),
            (EXTENSIONS, "logicalCluster", "name=value"),
            (GRANT, "password", "not supported"),
            ("sasl.oauthbearer.assertion.file", "x", "not supported"),
            (TOKEN_FILE, "x", "both given"),
        ] {
            let mut given = properties(&oidc);
            given.insert(changed.to_owned(), value.to_owned());
            let error = Source::of(&given).err().expect(problem).to_string();
            assert!(error.contains(problem) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_token_says_itself_when_it_ends() {
        let token = token_of(jwt(r#"{"exp":1800000100,"sub":"app"}"#), Some(1), NOW).expect("good");
        assert_eq!((token.refresh_ms, token.ends_ms), (NOW + 80_000, NOW + 100_000));
        assert_eq!(token.principal, "app");
        let opaque = token_of("opaque".to_owned(), Some(10_000), NOW).expect("good");
        assert_eq!((opaque.refresh_ms, opaque.ends_ms), (NOW + 8_000, NOW + 10_000));
        assert!(token_of(jwt(r#"{"exp":1799999999}"#), None, NOW).is_err());
    }

    #[test]
    fn a_file_is_read_again_and_its_last_token_is_used_to_its_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        let source = Source::of(&properties(&[(TOKEN_FILE, path.to_str().expect("a name"))]));
        let source = source.expect("good").expect("wanted");
        let text = |now_ms| source.token(now_ms).map(|token| token.text);
        assert!(text(NOW).expect_err("no file").contains("/token"));
        std::fs::write(&path, "first\n").expect("written");
        assert!(text(NOW + 1).is_err(), "it is not asked at once again");
        let start = NOW + RETRY_PAUSE_MS;
        assert_eq!(text(start).as_deref(), Ok("first"));
        std::fs::write(&path, "").expect("written");
        assert_eq!(text(start + 1).as_deref(), Ok("first"));
        let late = start + OPAQUE_LIFE_MS - 1;
        assert_eq!(text(late).as_deref(), Ok("first"));
        assert!(text(late + 1).expect_err("it has ended").contains("empty"));
        std::fs::write(&path, "second").expect("written");
        assert_eq!(text(late + 1 + RETRY_PAUSE_MS).as_deref(), Ok("second"));
    }

    #[test]
    fn only_a_code_of_the_provider_is_repeated() {
        assert!(is_code("invalid_client"));
        for text in ["AADSTS7000215: Invalid client secret", "a=b", &"x".repeat(60)] {
            assert!(!is_code(text), "{text}");
        }
    }
}
