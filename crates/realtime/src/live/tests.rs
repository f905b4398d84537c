//! The dashboard from Kafka to HTTP, on the embedded broker.

use super::*;
use std::net::SocketAddr;

use loginlake_events::{Contract, RejectReason};
use loginlake_kafka::embedded::EmbeddedBroker;
use loginlake_kafka::producer::{HeaderList, Outgoing, PlainProducer};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_secs(30);

struct Fixture {
    broker: EmbeddedBroker,
    live: LiveHandle,
    address: SocketAddr,
}

impl Fixture {
    async fn start(idle_limit: Duration) -> Self {
        let broker = EmbeddedBroker::start(&[("out", 2), ("dead", 1)]).expect("a broker");
        let settings = LiveSettings {
            kafka: broker.settings(),
            output_topic: "out".to_owned(),
            dead_letter_topic: "dead".to_owned(),
        };
        let lag = || {
            vec![PartitionLag {
                partition: 0,
                records: 4,
            }]
        };
        let live = LiveHandle::with_idle_limit(settings, Arc::new(lag), idle_limit);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("listening");
        let router = router(live.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            broker,
            live,
            address,
        }
    }

    fn produce(&self, topic: &str, payload: &[u8], reason: Option<&str>) {
        let producer = PlainProducer::new(&self.broker.settings()).expect("a producer");
        let headers =
            reason.map(|name| HeaderList::with_capacity(1).with("error.reason", Some(name.as_bytes())));
        let outgoing = Outgoing {
            topic,
            key: None,
            payload: Some(payload),
            timestamp_ms: None,
            partition: Some(0),
            headers,
        };
        producer.send_record(outgoing).expect("taken");
        assert_eq!(producer.flush(LIMIT).expect("flushed").failed, 0);
    }

    async fn send(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    }

    /// Head and body of an answer.
    async fn get(&self, path: &str) -> (String, String) {
        let mut answer = String::new();
        self.send(path)
            .await
            .read_to_string(&mut answer)
            .await
            .expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), body.to_owned())
    }

    fn is_reading(&self) -> bool {
        self.live.0.looking().reader.is_some()
    }
}

fn processed() -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let input = format!(
        r#"{{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","app_version":"2.3.0","ip":"108.228.145.239",
        "locale":"RI","device_id":"x","timestamp":{},"device_type":"iOS"}}"#,
        now.as_secs()
    );
    let mut out = Vec::new();
    let contract = Contract::default();
    let event = contract
        .decode(Some(input.as_bytes()), None)
        .expect("a good event");
    event.write_json(now.as_millis() as i64, &mut out);
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_group_published_is_shown_and_nothing_is_read_before_somebody_looks() {
    let fixture = Fixture::start(IDLE_LIMIT).await;
    for _ in 0..3 {
        fixture.produce("out", &processed(), None);
    }
    fixture.produce("out", b"not ours", None);
    fixture.produce("dead", b"{", Some(RejectReason::NotJson.as_str()));
    fixture.produce("dead", b"{", Some("SOMETHING_NEW"));
    let (head, _) = fixture.get("/").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(!fixture.is_reading(), "the page itself reads nothing");

    let deadline = Instant::now() + LIMIT;
    let stats: Value = loop {
        let (head, body) = fixture.get("/api/stats").await;
        assert!(
            head.contains("application/json") && head.contains("no-store"),
            "{head}"
        );
        let stats: Value = serde_json::from_str(&body).expect("JSON");
        if stats["reader"]["state"] == "live" {
            break stats;
        }
        assert!(Instant::now() < deadline, "never live: {stats}");
        tokio::task::yield_now().await;
    };
    assert_eq!(stats["logins"]["total"], 3);
    assert_eq!(stats["locales"]["RI"], 3);
    assert_eq!(
        (&stats["unreadable"], &stats["dead_letters"]["total"]),
        (&1.into(), &2.into())
    );
    let reasons: Vec<&str> = stats["dead_letters"]["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|reason| reason["reason"].as_str())
        .collect();
    assert_eq!(reasons, ["NOT_JSON", "unknown"]);
    assert_eq!(stats["lag"][0]["records"], 4);
    fixture.live.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_sends_the_numbers_again_and_again_and_ends_with_the_service() {
    let fixture = Fixture::start(IDLE_LIMIT).await;
    let mut lines = BufReader::new(fixture.send("/api/events").await).lines();
    let mut taken_at = Vec::new();
    while let Some(line) = lines.next_line().await.expect("readable") {
        if let Some(json) = line.strip_prefix("data: ") {
            let stats: Value = serde_json::from_str(json).expect("one JSON value per event");
            taken_at.push(stats["now_ms"].as_i64().expect("a time"));
            if taken_at.len() == 3 {
                fixture.live.stop();
            }
        }
    }
    assert!(taken_at.len() >= 3 && taken_at.is_sorted(), "{taken_at:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_nobody_has_looked_for_a_while_the_reader_ends_and_the_next_look_starts_it_again() {
    let fixture = Fixture::start(Duration::from_millis(1)).await;
    for _ in 0..2 {
        let numbers = fixture.live.look();
        let deadline = Instant::now() + LIMIT;
        while fixture.is_reading() {
            assert!(Instant::now() < deadline, "the reader did not end");
            tokio::task::yield_now().await;
        }
        assert!(
            numbers.borrow().is_none(),
            "old numbers are not shown to whoever looks next"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_may_run_only_what_is_its_own() {
    let fixture = Fixture::start(IDLE_LIMIT).await;
    let (head, page) = fixture.get("/").await;
    let policy = head
        .lines()
        .find_map(|line| line.strip_prefix("content-security-policy: "))
        .expect("a policy")
        .to_owned();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let nonce = policy
        .split_once("script-src 'nonce-")
        .and_then(|(_, rest)| rest.split_once('\''))
        .map(|(nonce, _)| nonce)
        .expect("a nonce");
    for tag in ["<script", "<style"] {
        assert_eq!(page.matches(tag).count(), 1, "{tag}");
        assert!(page.contains(&format!("{tag} nonce=\"{nonce}\"")), "{tag}");
    }
    let (next, _) = fixture.get("/").await;
    assert!(!next.contains(nonce), "a nonce is used once");
    // Nothing from elsewhere, no markup from values, no handlers and styles that the policy would refuse.
    for banned in [
        "http://",
        "https://",
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        " style=",
        " onclick=",
    ] {
        let allowed = page.matches("http://www.w3.org/2000/svg").count();
        let found = page.matches(banned).count();
        assert_eq!(
            found - if banned == "http://" { allowed } else { 0 },
            0,
            "{banned}"
        );
    }
}
