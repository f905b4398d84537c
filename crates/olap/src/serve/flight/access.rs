//! Who may call: whoever has the token, as a bearer or as the password of any user name, which is what drivers send that know
//! users and passwords only.
//!
//! Without a token this is served on loopback only. That a page in a browser could ask, as of the HTTP API, is no danger here:
//! no browser speaks HTTP/2 without TLS.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use loginlake_service::http::Guard;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Drivers that are written in Go leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether a call may pass; `guard` is None where no token is asked for.
///
/// # Errors
/// `UNAUTHENTICATED`.
pub(super) fn check(guard: Option<&Guard>, metadata: &MetadataMap) -> Result<(), Status> {
    let Some(guard) = guard else {
        return Ok(());
    };
    let mut headers = HeaderMap::new();
    if let Some(header) = bearer(metadata).and_then(|value| value.parse().ok()) {
        headers.insert(AUTHORIZATION, header);
    }
    guard.check(&headers).map_err(|refusal| {
        Status::unauthenticated(format!(
            "{}, or send the token as the password of any user",
            refusal.message()
        ))
    })
}

/// What a client is to send from now on: its own token as a bearer.
pub(super) fn bearer(metadata: &MetadataMap) -> Option<String> {
    let header = metadata.get(AUTHORIZATION.as_str())?.to_str().ok()?;
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(format!("Bearer {}", value.trim()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64.decode(value.trim()).ok()?).ok()?;
    let (_, password) = pair.split_once(':')?;
    Some(format!("Bearer {password}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(header: &str) -> Option<String> {
        let mut metadata = MetadataMap::new();
        metadata.insert(AUTHORIZATION.as_str(), header.parse().unwrap());
        bearer(&metadata)
    }

    #[test]
    fn a_password_is_a_bearer() {
        let basic = |pair: &str| {
            let padded = BASE64.encode(pair);
            let bare = sent(&format!("Basic {}", padded.trim_end_matches('=')));
            assert_eq!(sent(&format!("Basic {padded}")), bare);
            bare
        };
        let token = Some("Bearer 0123456789abcdef".to_owned());
        assert_eq!(sent("bearer  0123456789abcdef "), token);
        assert_eq!(basic("anybody:0123456789abcdef"), token);
        assert_eq!(basic(":0123456789abcdef"), token);
        assert_eq!(basic("a:b:c"), Some("Bearer b:c".to_owned()));
        assert_eq!(basic("0123456789abcdef"), None);
        for nothing in [
            "Bearer",
            "Basic ???",
            "Digest 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert_eq!(sent(nothing), None, "{nothing}");
        }
        assert_eq!(bearer(&MetadataMap::new()), None);
    }
}
