//! The HTTP client of what this process tells others of itself: bounded answers, no redirect, no proxy, and a limit of time on
//! everything. It blocks, so it belongs on plain threads.

use std::error::Error;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use reqwest::Certificate;
use reqwest::blocking::{Client, ClientBuilder, Response};
use reqwest::redirect::Policy;

use crate::exit::ExitError;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Most of an answer that is read, bytes.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// A client that gives an answer at most `timeout`. Not to be called within an async task.
///
/// # Errors
/// Code 2: the file of authorities cannot be used.
pub(crate) fn client(timeout: Duration, ca_file: Option<&Path>) -> Result<Client, ExitError> {
    let mut builder: ClientBuilder = Client::builder()
        .user_agent(concat!("loginlake/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .redirect(Policy::none())
        // The environment is read once, by the configuration.
        .no_proxy();
    if let Some(file) = ca_file {
        let wrong = |problem: String| {
            ExitError::usage(format!(
                "OTEL_EXPORTER_OTLP_CERTIFICATE: `{}`: {problem}",
                file.display()
            ))
        };
        let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(causes(&error)))?;
        if certificates.is_empty() {
            return Err(wrong("no certificate in PEM is in it".to_owned()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder
        .build()
        .map_err(|error| ExitError::failed(format!("cannot set up HTTPS: {}", causes(&error))))
}

/// The beginning of an answer's body.
pub(crate) fn body(response: Response) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    response.take(MAX_ANSWER_BYTES).read_to_end(&mut body)?;
    Ok(body)
}

/// An error with what caused it, without the address, which the log names already.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn Error> = error.source();
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() {
        text = if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            "the request failed".to_owned()
        };
    }
    text
}
