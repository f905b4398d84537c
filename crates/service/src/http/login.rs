//! The way in for a person: a page that asks for the token, and trades it for a cookie that scripts cannot read and that other
//! sites cannot use. Event streams of the browser send it by themselves, which no header can do for them.

use std::time::SystemTime;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use super::access::{COOKIE_NAME, SESSION, Token};

/// Where the page's form goes.
pub(super) const PATH: &str = "/login";

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Longest address that is come back to after the login.
const MAX_NEXT_BYTES: usize = 1024;

/// What the form sends.
#[derive(Deserialize)]
pub(super) struct LoginForm {
    token: String,
    #[serde(default)]
    next: String,
}

/// Whether a request is that of a browser for a page, which can show the form.
pub(super) fn is_for_a_page(method: &Method, headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    method == Method::GET && accept.is_some_and(|accept| accept.contains("text/html"))
}

/// The form, in the place of the page that was asked for.
pub(super) fn page(asked_for: &Uri) -> Response {
    let path = asked_for.path();
    // Relative, so that it also works behind a proxy that adds a prefix.
    let up = "../".repeat(path.matches('/').count().saturating_sub(1));
    let next = match asked_for.path_and_query() {
        Some(address) if path != PATH => address.as_str().trim_start_matches('/'),
        _ => "",
    };
    form(&up, next, false)
}

/// `up` leads from where it is shown to the root; `next` is where to go then, from there.
fn form(up: &str, next: &str, after_wrong_token: bool) -> Response {
    let next = if next.len() <= MAX_NEXT_BYTES { next } else { "" };
    let problem = if after_wrong_token {
        "<p role=\"alert\">This is not the right token.</p>"
    } else {
        ""
    };
    let html = include_str!("login.html")
        .replace("{action}", &format!("{up}login"))
        .replace("{problem}", problem)
        .replace("{next}", &escaped(next));
    let headers = [(CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, "no-store")];
    (StatusCode::UNAUTHORIZED, headers, Html(html)).into_response()
}

/// Takes the form. `is_tls`: the cookie is for TLS only. False: the token was wrong.
pub(super) fn log_in(
    token: &Token,
    sent: Result<Form<LoginForm>, FormRejection>,
    is_tls: bool,
) -> (bool, Response) {
    let Ok(Form(sent)) = sent else {
        return (true, StatusCode::BAD_REQUEST.into_response());
    };
    if !token.is(sent.token.trim()) {
        return (false, form("", &sent.next, true));
    }
    let secure = if is_tls { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE_NAME}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}",
        token.session(SystemTime::now()),
        SESSION.as_secs()
    );
    let next = format!("./{}", sent.next);
    let header = |text: &str| HeaderValue::from_str(text).ok();
    // The beginning `./` keeps it on this server, whatever follows.
    let location = header(&next).filter(|_| next.len() <= MAX_NEXT_BYTES + 2 && !next.contains('\\'));
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, location.unwrap_or(HeaderValue::from_static("./")));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cookie) = header(&cookie) {
        headers.insert(SET_COOKIE, cookie);
    }
    (true, response)
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            character => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(token: &str, next: &str) -> Result<Form<LoginForm>, FormRejection> {
        Ok(Form(LoginForm {
            token: token.to_owned(),
            next: next.to_owned(),
        }))
    }

    #[test]
    fn a_right_token_is_a_cookie_that_only_this_server_gets() {
        let token = Token::new("0123456789abcdef").expect("long enough");
        for (next, location) in [
            ("", "./"),
            ("queries/x?a=b", "./queries/x?a=b"),
            ("//elsewhere.example", ".///elsewhere.example"),
            ("https://elsewhere.example", "./https://elsewhere.example"),
            ("\\elsewhere.example", "./"),
            ("a\r\nset-cookie: b", "./"),
        ] {
            let (is_good, response) = log_in(&token, sent("0123456789abcdef\n", next), true);
            assert!(is_good);
            assert_eq!(response.status(), StatusCode::SEE_OTHER);
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            assert_eq!(header(LOCATION), Some(location));
            let cookie = header(SET_COOKIE).expect("a cookie");
            for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
                assert!(cookie.contains(part), "{cookie}");
            }
            assert!(!cookie.contains("0123456789abcdef"), "{cookie}");
        }
        let (is_good, response) = log_in(&token, sent("0123456789abcdeX", ""), true);
        assert!(!is_good && response.headers().get(SET_COOKIE).is_none());
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn an_address_is_text_in_the_form() {
        assert_eq!(
            escaped("a&b=\"><script>'"),
            "a&amp;b=&quot;&gt;&lt;script&gt;&#39;"
        );
    }
}
