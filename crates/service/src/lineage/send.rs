//! Events on their way to the receiver: a short queue and one thread that posts them in order. Nothing waits for it. What finds no room is
//! dropped and counted; what the receiver does not take is tried again a few times, then it is dropped and counted, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use serde_json::Value;

use crate::backoff::Backoff;
use crate::config::{LineageSettings, Secret};
use crate::exit::ExitError;
use crate::telemetry_http::{self, causes};

/// Events that wait.
const MAX_QUEUE: usize = 64;
/// How often one event is tried.
const ATTEMPTS: u32 = 4;
/// How long the receiver gets to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How soon an end is noticed.
const TICK: Duration = Duration::from_millis(50);

/// What became of the events of this process.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub sent: AtomicU64,
    pub failed: AtomicU64,
    pub dropped: AtomicU64,
}

/// The way out.
#[derive(Debug)]
pub(super) struct Sender {
    queue: SyncSender<Value>,
    pub counts: Arc<Counts>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Events that are neither sent nor given up.
    waiting: AtomicU64,
    /// Nothing is tried again any more.
    is_ending: AtomicBool,
}

impl Sender {
    /// Starts the thread. Not to be called within an async task.
    ///
    /// # Errors
    /// The system has no thread left, or TLS cannot be set up.
    pub fn start(settings: &LineageSettings) -> Result<Self, ExitError> {
        let (queue, events) = sync_channel(MAX_QUEUE);
        let (counts, shared) = (Arc::new(Counts::default()), Arc::new(Shared::default()));
        let poster = Poster {
            client: telemetry_http::client(TIMEOUT, None)?,
            endpoint: settings.endpoint.clone(),
            api_key: settings.api_key.clone(),
            counts: Arc::clone(&counts),
            shared: Arc::clone(&shared),
            is_away: false,
        };
        let thread = std::thread::Builder::new()
            .name("lineage".to_owned())
            .spawn(move || poster.run(&events))
            .map_err(|error| ExitError::failed(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            queue,
            counts,
            shared,
            thread,
        })
    }

    /// Takes an event, or drops it where there is no room.
    pub fn push(&self, event: Value) {
        self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        if self.queue.try_send(event).is_err() {
            self.shared.waiting.fetch_sub(1, Ordering::AcqRel);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends what waits, for at most this long.
    pub fn end(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let waiting = || self.shared.waiting.load(Ordering::Acquire);
        self.shared.is_ending.store(true, Ordering::Release);
        self.thread.thread().unpark();
        while waiting() > 0 && !self.thread.is_finished() && Instant::now() < end {
            std::thread::park_timeout(TICK);
        }
        if waiting() > 0 {
            tracing::warn!(
                waiting = waiting(),
                "the last lineage events were not sent: the receiver does not answer"
            );
        }
    }
}

struct Poster {
    client: Client,
    endpoint: String,
    api_key: Option<Secret>,
    counts: Arc<Counts>,
    shared: Arc<Shared>,
    /// Whether the last event was in vain: the log says it once, and the next ones have one attempt each.
    is_away: bool,
}

impl Poster {
    fn run(mut self, events: &Receiver<Value>) {
        while let Ok(event) = events.recv() {
            self.deliver(&event);
            self.shared.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Tries an event until it is taken or given up.
    fn deliver(&mut self, event: &Value) {
        let body = event.to_string();
        let mut backoff = Backoff::default();
        loop {
            let refusal = match self.post(&body) {
                Ok(()) => {
                    self.counts.sent.fetch_add(1, Ordering::Relaxed);
                    if std::mem::take(&mut self.is_away) {
                        tracing::info!("lineage events are sent again");
                    }
                    return;
                }
                Err(refusal) => refusal,
            };
            let is_ending = self.shared.is_ending.load(Ordering::Acquire);
            let is_last = backoff.attempts() + 1 >= ATTEMPTS;
            if is_last || is_ending || self.is_away || !refusal.is_worth_another {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_away, true) {
                    let why = refusal.why;
                    tracing::warn!(
                        why,
                        "a lineage event is lost: the receiver does not take it; the work is not affected"
                    );
                }
                return;
            }
            // An end wakes it.
            std::thread::park_timeout(backoff.next_delay());
        }
    }

    fn post(&self, body: &str) -> Result<(), Refusal> {
        let mut request = self
            .client
            .post(&self.endpoint)
            .header("content-type", "application/json")
            .body(body.to_owned());
        if let Some(key) = &self.api_key {
            let mut value = b"Bearer ".to_vec();
            value.extend_from_slice(key.expose());
            request = request.header("authorization", value);
        }
        let answer = request.send().map_err(|error| Refusal {
            why: causes(&error),
            is_worth_another: true,
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Refusal {
            why: format!("it answers {status}"),
            is_worth_another: status.is_server_error() || matches!(status.as_u16(), 408 | 429),
        })
    }
}

/// Why an event was not taken. It holds neither the address nor the key.
struct Refusal {
    why: String,
    is_worth_another: bool,
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::mpsc;

    use serde_json::json;

    use super::*;

    fn settings(port: u16) -> LineageSettings {
        LineageSettings {
            endpoint: format!("http://127.0.0.1:{port}/api/v1/lineage"),
            namespace: "test".to_owned(),
            api_key: Some(Secret::new("the-key")),
            parent: None,
        }
    }

    /// A receiver that answers each request with the next of these; it hands on what it was asked.
    fn receiver(answers: &'static [&'static str]) -> (u16, mpsc::Receiver<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (heard, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut request = Vec::new();
                let mut part = [0; 4096];
                while !request.ends_with(b"}") {
                    let length = stream.read(&mut part).expect("a request");
                    request.extend_from_slice(&part[..length]);
                    if length == 0 {
                        break;
                    }
                }
                let said = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(said.as_bytes()).expect("an answer");
                let _ = heard.send(String::from_utf8_lossy(&request).into_owned());
            }
        });
        (port, requests)
    }

    fn counts(sender: &Sender) -> (u64, u64, u64) {
        let counts = &sender.counts;
        let [sent, failed, dropped] =
            [&counts.sent, &counts.failed, &counts.dropped].map(|count| count.load(Ordering::Relaxed));
        (sent, failed, dropped)
    }

    #[test]
    fn an_event_is_tried_again_and_carries_the_key() {
        let (port, requests) = receiver(&["503 Busy", "201 Created"]);
        let sender = Sender::start(&settings(port)).expect("a thread");
        sender.push(json!({ "eventType": "START" }));
        for _ in 0..2 {
            let request = requests.recv_timeout(Duration::from_secs(30)).expect("a request");
            assert!(request.contains("authorization: Bearer the-key"), "{request}");
            assert!(request.ends_with(r#"{"eventType":"START"}"#), "{request}");
        }
        sender.end(Duration::from_secs(30));
        assert_eq!(counts(&sender), (1, 0, 0));
    }

    #[test]
    fn what_is_refused_for_good_is_not_tried_again() {
        let (port, _requests) = receiver(&["400 Wrong", "201 Created"]);
        let sender = Sender::start(&settings(port)).expect("a thread");
        sender.push(json!({ "a": 1 }));
        sender.push(json!({ "b": 2 }));
        sender.end(Duration::from_secs(30));
        assert_eq!(counts(&sender), (1, 1, 0));
    }

    #[test]
    fn a_silent_receiver_costs_events_and_an_end_that_is_bounded() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let sender = Sender::start(&settings(port)).expect("a thread");
        let began = Instant::now();
        for number in 0..MAX_QUEUE + 10 {
            sender.push(json!({ "number": number }));
        }
        assert!(began.elapsed() < Duration::from_secs(2), "a push waited");
        let (sent, _, dropped) = counts(&sender);
        assert!(sent == 0 && (9..=10).contains(&dropped), "{dropped} were dropped");
        sender.end(Duration::from_millis(200));
        assert!(began.elapsed() < Duration::from_secs(4), "the end waited");
    }
}
