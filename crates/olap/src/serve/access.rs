//! Who may ask: whoever has the token, or, without one, whoever is on this machine.
//!
//! Without a token a request must name this machine as its host: otherwise a page of somebody else, open in a browser here,
//! could ask by a name of its own that it lets point to loopback.

use std::fmt;
use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use loginlake_service::exit::ExitError;
use sha2::{Digest, Sha256};

use super::error::ApiError;

/// Characters of the shortest token: 128 bits in hexadecimal digits are twice as many.
const MIN_TOKEN_CHARS: usize = 16;

/// A secret that clients have to know. Only its hash is kept.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

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
        Ok(Self(hash(text)))
    }

    /// Compares hashes, so that the time it takes says nothing about the token.
    fn is(&self, presented: &str) -> bool {
        self.0 == hash(presented)
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// What is asked of every request for data.
#[derive(Debug, Clone)]
pub enum Access {
    /// `Authorization: Bearer …` with this token.
    Token(Token),
    /// The name of this machine as the host.
    Loopback,
    /// Nothing: an operator has said so.
    Anybody,
}

impl Access {
    /// Whether a request may pass.
    ///
    /// # Errors
    /// 401 or 421.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match self {
            Self::Token(token) => match bearer(headers) {
                Some(presented) if token.is(presented) => Ok(()),
                Some(_) => Err(ApiError::new(
                    StatusCode::UNAUTHORIZED,
                    "the token is not the right one",
                )),
                None => Err(ApiError::new(
                    StatusCode::UNAUTHORIZED,
                    "a token is needed: send Authorization: Bearer TOKEN",
                )),
            },
            Self::Loopback if names_loopback(headers) => Ok(()),
            Self::Loopback => Err(ApiError::new(
                StatusCode::MISDIRECTED_REQUEST,
                "without a token only this machine is served: ask by 127.0.0.1 or localhost",
            )),
            Self::Anybody => Ok(()),
        }
    }
}

/// Lets a request through, or answers it.
pub async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            let needs_token = error.status() == StatusCode::UNAUTHORIZED;
            let mut response = error.into_response();
            if needs_token {
                let scheme = HeaderValue::from_static("Bearer realm=\"loginlake\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            }
            response
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: axum::http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("a header"))])
    }

    #[test]
    fn only_the_right_token_passes() {
        let access = Access::Token(Token::new("0123456789abcdef\n").expect("long enough"));
        let status = |value: &str| {
            access
                .check(&with(AUTHORIZATION, value))
                .err()
                .map(|error| error.status())
        };
        assert_eq!(status("Bearer 0123456789abcdef"), None);
        assert_eq!(status("bearer 0123456789abcdef"), None);
        for wrong in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcdef0",
            "Bearer ",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert_eq!(status(wrong), Some(StatusCode::UNAUTHORIZED), "{wrong}");
        }
        assert!(access.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_weak_token_is_refused_and_none_is_shown() {
        for weak in ["", "short", "white space is not allowed", "ümlauts-are-not-ascii"] {
            assert!(Token::new(weak).is_err(), "{weak}");
        }
        let token = Token::new("0123456789abcdef").expect("long enough");
        assert_eq!(format!("{token:?}"), "Token(…)");
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
