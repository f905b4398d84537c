//! The least HTTP that a look at `/metrics` and `/health` needs, and an empty PUT that makes a bucket: one request per
//! connection, the answer read whole.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

const LIMIT: Duration = Duration::from_secs(10);

/// A status and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code, such as 200.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// A loopback address.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Does something listen at this address?
pub fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, LIMIT).is_ok()
}

/// Sends a request without a body.
///
/// # Errors
/// When nothing listens there, or the answer takes longer than 10 s or is not HTTP.
pub fn request(method: &str, address: SocketAddr, path_and_query: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(
        stream,
        "{method} {path_and_query} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .with_context(|| format!("no answer from {address}{path_and_query}"))?;
    parse(&bytes).with_context(|| format!("{address} did not answer in HTTP"))
}

/// Gets a page.
///
/// # Errors
/// As [`request`].
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    request("GET", address, path)
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = parse(b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nnot\r\n\r\nready").unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 503,
                body: "not\r\n\r\nready".to_owned()
            }
        );
        assert_eq!(parse(b"SSH-2.0\r\n\r\n"), None);
    }
}
