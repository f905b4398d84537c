//! The least HTTP that a look at `/metrics` and `/health` needs, and an empty PUT that makes a bucket: one request per
//! connection, the answer read whole.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

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

/// The sum of a metric's series, of all labels; 0 when there are none.
///
/// # Errors
/// As [`request`], or when `/metrics` is not there.
pub fn metric(address: SocketAddr, name: &str) -> Result<f64> {
    metric_with(address, name, "")
}

/// The sum of a metric's series whose labels contain `label`, such as `reason="BAD_IP"`; 0 when there are none.
///
/// # Errors
/// As [`metric`].
pub fn metric_with(address: SocketAddr, name: &str, label: &str) -> Result<f64> {
    let answer = get(address, "/metrics")?;
    ensure!(answer.status == 200, "{address}/metrics: {}", answer.status);
    sum(&answer.body, name, label)
}

fn sum(text: &str, name: &str, label: &str) -> Result<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let is_series = labels.is_empty() || labels.starts_with('{');
        (is_series && labels.contains(label)).then_some(value)
    });
    values
        .map(|value| value.parse::<f64>().with_context(|| format!("{name} is {value}")))
        .sum()
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
    fn a_metric_is_the_sum_of_its_series() {
        let text = "# TYPE a counter\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3.5\na_total_more 7\nb 1\n# EOF\n";
        assert_eq!(sum(text, "a_total", "").unwrap(), 5.5);
        assert_eq!(sum(text, "a_total", "x=\"2\"").unwrap(), 3.5);
        assert_eq!(sum(text, "b", "").unwrap(), 1.0);
        assert_eq!(sum(text, "c", "").unwrap(), 0.0);
    }

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
