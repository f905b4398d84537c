//! What alerts are posted to: an HTTP server that keeps every body, and answers as a scenario wants it to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::http;

/// What is in its path, and must be seen nowhere else.
pub const SECRET: &str = "T00SECRET/B00SECRET/s3cr3t";

/// How it answers from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// Never, while the caller waits.
    Silence,
}

/// A receiver on a free loopback port. It ends with the process.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    answer: Answer,
    calls: Vec<Call>,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it was whole.
    pub at: Instant,
    /// How it was answered.
    pub answer: Answer,
    /// Its body.
    pub body: Value,
}

impl Call {
    /// Alert, status and instance of each message in it.
    ///
    /// # Errors
    /// When it is not of the form that Slack takes.
    pub fn messages(&self) -> Result<Vec<(String, String, String)>> {
        self.body["text"].as_str().context("no text")?;
        let attachments = self.body["attachments"].as_array().context("no attachments")?;
        attachments
            .iter()
            .map(|attachment| {
                let fields = attachment["fields"].as_array().context("no fields")?;
                let field = |title: &str| -> Result<String> {
                    let field = fields.iter().find(|field| field["title"] == title);
                    let value = field.and_then(|field| field["value"].as_str());
                    Ok(value
                        .with_context(|| format!("no {title}: {attachment}"))?
                        .to_owned())
                };
                Ok((field("alert")?, field("status")?, field("instance")?))
            })
            .collect()
    }
}

impl Receiver {
    /// Starts one that answers with 200.
    ///
    /// # Errors
    /// When the system has no port left.
    pub fn start() -> Result<Receiver> {
        let listener = TcpListener::bind(http::loopback(0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            answer: Answer::Status(200),
            calls: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // A call that broke off is none.
                    let _ = take(stream, &shared);
                });
            }
        });
        Ok(Receiver { address, state })
    }

    /// Its URL, with the secret in it.
    pub fn url(&self) -> String {
        format!("http://{}/services/{SECRET}", self.address)
    }

    /// Answers so from now on.
    pub fn answer(&self, answer: Answer) {
        self.lock().answer = answer;
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// When which messages about an alert were taken (answered with 200), by status.
    ///
    /// # Errors
    /// As [`Call::messages`].
    pub fn taken(&self, alert: &str) -> Result<Vec<(Instant, String)>> {
        let mut taken = Vec::new();
        for call in self
            .calls()
            .iter()
            .filter(|call| call.answer == Answer::Status(200))
        {
            let messages = call.messages()?;
            let about_it = messages.into_iter().filter(|(name, ..)| name == alert);
            taken.extend(about_it.map(|(_, status, _)| (call.at, status)));
        }
        Ok(taken)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take(mut stream: TcpStream, state: &Mutex<State>) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(30);
    stream.set_read_timeout(Some(LIMIT))?;
    let mut request = Vec::new();
    let mut part = [0; 4_096];
    // One call for each connection: the answer says so.
    let body = loop {
        let read = stream.read(&mut part)?;
        anyhow::ensure!(read > 0, "the request broke off");
        request.extend_from_slice(&part[..read]);
        if let Some(body) = whole(&request) {
            break body;
        }
    };
    let body = serde_json::from_str(&body)?;
    let answer = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = state.answer;
        state.calls.push(Call {
            at: Instant::now(),
            answer,
            body,
        });
        answer
    };
    match answer {
        Answer::Status(status) => write!(
            stream,
            "HTTP/1.1 {status} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?,
        // Until the caller gives up.
        Answer::Silence => drop(stream.read(&mut part)),
    }
    Ok(())
}

/// The body of a request, once it is all there.
fn whole(request: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    })?;
    (body.len() >= length).then(|| body.to_owned())
}
