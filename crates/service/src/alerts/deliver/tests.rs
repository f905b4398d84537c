//! Delivery to receivers that take, fail, refuse, or are not there.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use super::*;
use crate::alerts::debounce::Told;
use crate::alerts::message::{Sender, Status};
use crate::metrics::Metrics;

const LIMIT: Duration = Duration::from_secs(30);

fn message(alert: AlertName, detail: &str) -> Message {
    let told = Told::Firing {
        detail: detail.to_owned(),
        since: Duration::ZERO,
    };
    let sender = Sender {
        service: "test",
        instance: "here".to_owned(),
    };
    Message::new(alert, told, &sender, 0)
}

/// A receiver that gives these answers, one for each connection, and what it was sent.
fn receiver(answers: &'static [&'static str]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/s3cret", listener.local_addr().expect("listening"));
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().expect("a connection");
            let _ = sender.send(answer_one(stream, answer));
        }
    });
    (url, received)
}

fn answer_one(mut stream: TcpStream, answer: &str) -> String {
    let mut request = Vec::new();
    let mut part = [0; 4_096];
    let is_whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))?;
        (body.len() >= length.parse().ok()?).then(|| body.to_owned())
    };
    loop {
        let read = stream.read(&mut part).expect("a request");
        assert!(read > 0, "the request broke off");
        request.extend_from_slice(&part[..read]);
        if let Some(body) = is_whole(&request) {
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).expect("answered");
            return body;
        }
    }
}

struct Running {
    outbox: Arc<Outbox>,
    metrics: Metrics,
    thread: std::thread::JoinHandle<()>,
}

fn running(url: String) -> Running {
    let (outbox, metrics) = (Arc::new(Outbox::default()), Metrics::new("test"));
    let (shared, counted) = (Arc::clone(&outbox), AlertMetrics::register(&metrics));
    let thread = std::thread::spawn(move || {
        let client = Client::builder().no_proxy().redirect(Policy::none()).build();
        let client = client.expect("a client");
        deliver(&client, &url, &shared, &counted, Duration::from_millis(2));
    });
    Running {
        outbox,
        metrics,
        thread,
    }
}

impl Running {
    fn stop(self) -> String {
        self.outbox.stop();
        self.thread.join().expect("no panic");
        self.metrics.encode()
    }

    fn wait_lost(&self) -> Vec<AlertName> {
        let deadline = std::time::Instant::now() + LIMIT;
        loop {
            let lost = self.outbox.take_lost();
            if !lost.is_empty() {
                return lost;
            }
            assert!(std::time::Instant::now() < deadline, "nothing was given up");
            std::thread::yield_now();
        }
    }
}

#[test]
fn what_failed_is_sent_again_until_it_is_taken() {
    let (url, received) = receiver(&["500 No", "429 Later", "200 OK", "200 OK"]);
    let running = running(url);
    running.outbox.put(message(AlertName::Lag, "detail 1"));
    for _ in 0..3 {
        assert!(received.recv_timeout(LIMIT).expect("a call").contains("detail 1"));
    }
    running.outbox.put(message(AlertName::NoData, "detail 2"));
    let last = received.recv_timeout(LIMIT).expect("a call");
    assert!(last.contains("detail 2") && !last.contains("detail 1"), "{last}");
    let metrics = running.stop();
    assert!(metrics.contains("alerts_retries_total 2\n"), "{metrics}");
}

#[test]
fn a_receiver_that_refuses_is_not_asked_again() {
    let (url, received) = receiver(&["404 No", "302 There", "200 OK"]);
    let running = running(url);
    for alert in [AlertName::Lag, AlertName::NotReady] {
        running.outbox.put(message(alert, "x"));
        received.recv_timeout(LIMIT).expect("a call");
        assert_eq!(running.wait_lost(), [alert]);
    }
    running.outbox.put(message(AlertName::Lag, "y"));
    received.recv_timeout(LIMIT).expect("a call");
    let metrics = running.stop();
    assert!(
        metrics.contains("alerts_messages_total{outcome=\"lost\"} 2\n"),
        "{metrics}"
    );
}

#[test]
fn what_nobody_takes_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/s3cret", listener.local_addr().expect("listening"));
    drop(listener);
    let running = running(url);
    running.outbox.put(message(AlertName::Lag, "x"));
    assert_eq!(running.wait_lost(), [AlertName::Lag]);
    let metrics = running.stop();
    assert!(
        metrics.contains(&format!("alerts_retries_total {MAX_ATTEMPTS}\n")),
        "{metrics}"
    );
}

#[test]
fn a_newer_message_takes_the_place_of_an_older_one() {
    let outbox = Outbox::default();
    for number in 0..1_000 {
        outbox.put(message(AlertName::Lag, &number.to_string()));
        outbox.put(message(AlertName::NoData, "x"));
    }
    let waiting = outbox.wait().expect("not stopped");
    assert_eq!(waiting.len(), 2, "memory is bounded by the kinds of alerts");
    assert!(waiting[0].message.detail.contains("999"));
    // A message that was under way when its successor came does not take it along.
    outbox.put(message(AlertName::Lag, "newest"));
    assert_eq!(outbox.settle(&waiting, &Outcome::Delivered), 0);
    let left = outbox.wait().expect("not stopped");
    assert_eq!(left.len(), 1);
    assert!(left[0].message.detail.contains("newest") && left[0].message.status == Status::Firing);
    outbox.stop();
    assert!(outbox.wait().is_none());
}

#[test]
fn no_error_holds_the_address() {
    let client = Client::builder().no_proxy().build().expect("a client");
    for url in ["http://127.0.0.1:1/s3cret", "http://no-such-host.invalid/s3cret"] {
        let Outcome::Later { why, .. } = post(&client, url, Vec::new()) else {
            panic!("{url} answered");
        };
        assert!(!why.contains("s3cret"), "{why}");
    }
}
