//! Who may ask: whoever has the token, or, without one, whoever is on this machine.
//!
//! Without a token a request must name this machine as its host: otherwise a page of somebody else, open in a browser here,
//! could ask by a name of its own that it lets point to loopback. A person's browser trades the token for a cookie
//! (`login`), so that pages with event streams work.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::exit::ExitError;

/// Characters of the shortest token: 128 bits in hexadecimal digits are twice as many.
const MIN_TOKEN_CHARS: usize = 16;
/// Bytes of the longest token file: whatever is larger is another file.
const MAX_TOKEN_BYTES: u64 = 4096;
/// How long a browser stays logged in.
pub(crate) const SESSION: Duration = Duration::from_secs(12 * 3600);
/// The browser's cookie.
pub(crate) const COOKIE_NAME: &str = "loginlake-session";

/// A secret that clients have to know. Only its hash is kept.
#[derive(Clone)]
pub struct Token {
    hash: [u8; 32],
    /// Where it was read, to be read again when it changes.
    file: Option<PathBuf>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.hash.ct_eq(&other.hash).into()
    }
}

impl Eq for Token {}

impl Token {
    /// Takes a token; white space around it, such as the line end of its file, is left out.
    ///
    /// # Errors
    /// A usage error: it is too short, or has characters that no header can carry.
    pub fn new(text: &str) -> Result<Self, ExitError> {
        let text = text.trim();
        if text.len() < MIN_TOKEN_CHARS || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ExitError::usage(format!(
                "the token is not fit: it needs at least {MIN_TOKEN_CHARS} visible ASCII characters"
            ))
            .with_hint("make one with: openssl rand -hex 32"));
        }
        let hash = Sha256::digest(text.as_bytes()).into();
        Ok(Self { hash, file: None })
    }

    /// Reads a token from a file, which is read again when it changes.
    ///
    /// # Errors
    /// A usage error: the file cannot be read, or as [`Token::new`].
    pub fn from_file(path: &Path) -> Result<Self, ExitError> {
        let wrong = |problem: &dyn fmt::Display| {
            ExitError::usage(format!(
                "cannot read the token file {}: {problem}",
                path.display()
            ))
        };
        let length = std::fs::metadata(path).map_err(|error| wrong(&error))?.len();
        if length > MAX_TOKEN_BYTES {
            return Err(wrong(&format_args!("{length} bytes are more than a token has")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let token = Self::new(&text).map_err(|mut error| {
            error.message = format!("{}: {}", path.display(), error.message);
            error
        })?;
        Ok(Self {
            file: Some(path.to_owned()),
            ..token
        })
    }

    /// The file that it was read from.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Compares hashes, in constant time.
    pub(crate) fn is(&self, presented: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        self.hash.ct_eq(&hash).into()
    }

    /// What a browser holds instead of the token: the end of the session, signed with the token's hash. It ends with the token.
    pub(crate) fn session(&self, now: SystemTime) -> String {
        let ends = seconds(now + SESSION);
        format!("{ends}.{}", hex(&self.sign(ends).finalize().into_bytes()))
    }

    fn holds(&self, session: &str, now: SystemTime) -> bool {
        let Some((ends, signature)) = session.split_once('.') else {
            return false;
        };
        let (Ok(ends), Some(signature)) = (ends.parse::<u64>(), from_hex(signature)) else {
            return false;
        };
        // `verify_slice` takes the same time wherever they differ.
        ends > seconds(now) && self.sign(ends).verify_slice(&signature).is_ok()
    }

    fn sign(&self, ends: u64) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.hash).expect("a key of any length is taken");
        mac.update(b"loginlake session ");
        mac.update(&ends.to_be_bytes());
        mac
    }
}

/// What is asked of every request that is not about health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// `Authorization: Bearer …` with this token, or the cookie that a browser got for it.
    Token(Token),
    /// The name of this machine as the host.
    Loopback,
    /// Nothing: an operator has said so.
    Anybody,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// There is no token.
    NoToken,
    /// There is another one, or a session that is over.
    WrongToken,
    /// The host is not this machine.
    WrongHost,
}

impl Refusal {
    /// What the client is told.
    pub const fn message(self) -> &'static str {
        match self {
            Self::NoToken => "a token is needed: send Authorization: Bearer TOKEN",
            Self::WrongToken => "the token is not the right one",
            Self::WrongHost => "without a token only this machine is served: ask by 127.0.0.1 or localhost",
        }
    }
}

impl Access {
    /// Whether a request with these headers may pass.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        self.check_at(headers, SystemTime::now())
    }

    fn check_at(&self, headers: &HeaderMap, now: SystemTime) -> Result<(), Refusal> {
        match self {
            Self::Token(token) => match (bearer(headers), cookie(headers)) {
                (Some(presented), _) if token.is(presented) => Ok(()),
                (None, Some(session)) if token.holds(session, now) => Ok(()),
                (None, None) => Err(Refusal::NoToken),
                _ => Err(Refusal::WrongToken),
            },
            Self::Loopback if names_loopback(headers) => Ok(()),
            Self::Loopback => Err(Refusal::WrongHost),
            Self::Anybody => Ok(()),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: axum::http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, axum::http::HeaderValue::from_str(value).expect("a header"))])
    }

    fn token(text: &str) -> Token {
        Token::new(text).expect("long enough")
    }

    #[test]
    fn only_the_right_token_passes() {
        let access = Access::Token(token("0123456789abcdef\n"));
        let check = |value: &str| access.check(&with(AUTHORIZATION, value));
        assert_eq!(check("Bearer 0123456789abcdef"), Ok(()));
        assert_eq!(check("bearer 0123456789abcdef"), Ok(()));
        for wrong in ["Bearer 0123456789abcdeF", "Bearer 0123456789abcdef0", "Bearer "] {
            assert_eq!(check(wrong), Err(Refusal::WrongToken), "{wrong}");
        }
        for none in ["Basic 0123456789abcdef", "0123456789abcdef"] {
            assert_eq!(check(none), Err(Refusal::NoToken), "{none}");
        }
        assert_eq!(access.check(&HeaderMap::new()), Err(Refusal::NoToken));
    }

    #[test]
    fn a_session_ends_with_its_time_and_with_its_token() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (mine, other) = (token("0123456789abcdef"), token("0123456789abcdeg"));
        let session = mine.session(now);
        assert!(!session.contains("0123456789abcdef"));
        let headers = with(COOKIE, &format!("a=b; {COOKIE_NAME}={session}"));
        let check = |token: &Token, at| Access::Token(token.clone()).check_at(&headers, at);
        assert_eq!(check(&mine, now), Ok(()));
        assert_eq!(check(&mine, now + SESSION), Err(Refusal::WrongToken));
        assert_eq!(check(&other, now), Err(Refusal::WrongToken));
        let later = session.replacen("18", "19", 1);
        for forged in ["", ".", "1.2", "99999999999.", later.as_str(), &session[..20]] {
            let headers = with(COOKIE, &format!("{COOKIE_NAME}={forged}"));
            let access = Access::Token(mine.clone());
            assert_eq!(
                access.check_at(&headers, now),
                Err(Refusal::WrongToken),
                "{forged}"
            );
        }
        // A wrong token is not made good by a cookie.
        let mut both = headers.clone();
        both.insert(AUTHORIZATION, "Bearer wrong".parse().expect("a header"));
        assert!(Access::Token(mine).check_at(&both, now).is_err());
    }

    #[test]
    fn a_weak_token_is_refused_and_none_is_shown() {
        for weak in ["", "short", "white space is not allowed", "ümlauts-are-not-ascii"] {
            let error = Token::new(weak).expect_err(weak);
            assert!(weak.is_empty() || !error.message.contains(weak), "{error}");
        }
        assert_eq!(format!("{:?}", token("0123456789abcdef")), "Token(…)");
    }

    #[test]
    fn a_token_file_that_is_none_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        for (text, problem) in [
            (None, "cannot read the token file"),
            (Some("short".to_owned()), "not fit"),
            (Some("x".repeat(5000)), "more than a token has"),
        ] {
            if let Some(text) = text {
                std::fs::write(&path, text).expect("written");
            }
            let error = Token::from_file(&path).expect_err(problem).message;
            assert!(error.contains(problem) && error.contains("/token"), "{error}");
        }
        std::fs::write(&path, "0123456789abcdef\r\n").expect("written");
        assert_eq!(Token::from_file(&path).expect("good"), token("0123456789abcdef"));
    }

    #[test]
    fn without_a_token_the_host_is_this_machine() {
        let is_served = |host: &str| Access::Loopback.check(&with(HOST, host)).is_ok();
        for host in [
            "localhost",
            "LOCALHOST:8084",
            "127.0.0.1:8084",
            "127.1.2.3",
            "[::1]:8084",
            "[::1]",
        ] {
            assert!(is_served(host), "{host}");
        }
        for host in [
            "attacker.example",
            "localhost.attacker.example:8084",
            "10.0.0.1",
            "[::2]:1",
            "",
        ] {
            assert!(!is_served(host), "{host}");
        }
        assert!(Access::Loopback.check(&HeaderMap::new()).is_err());
        assert!(Access::Anybody.check(&HeaderMap::new()).is_ok());
    }
}
