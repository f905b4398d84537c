//! The dashboard on its own, with made-up logins on the embedded broker: `cargo run -p loginlake-realtime --example
//! live_demo [-- ADDR [hostile]]`, then open the address that it prints. For work on the page. With `hostile`, some records
//! carry markup where a version or a region should be.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use loginlake_events::{Contract, RejectReason};
use loginlake_kafka::embedded::EmbeddedBroker;
use loginlake_kafka::producer::{HeaderList, Outgoing, PlainProducer};
use loginlake_realtime::live::{self, LiveHandle, LiveSettings, PartitionLag};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

const PARTITIONS: i32 = 8;
/// What the embedded broker can keep of 15 minutes.
const LOGINS_PER_SECOND: f64 = 60.0;
const HISTORY_SECONDS: i64 = 900;
/// Locales and how often they come.
const LOCALES: &[(&str, u32)] = &[
    ("CA", 390),
    ("TX", 300),
    ("FL", 220),
    ("NY", 195),
    ("PA", 130),
    ("IL", 126),
    ("OH", 118),
    ("GA", 108),
    ("NC", 106),
    ("MI", 100),
    ("NJ", 93),
    ("VA", 87),
    ("WA", 78),
    ("AZ", 73),
    ("TN", 70),
    ("MA", 70),
    ("IN", 68),
    ("MO", 62),
    ("MD", 61),
    ("WI", 59),
    ("CO", 58),
    ("MN", 57),
    ("SC", 53),
    ("AL", 51),
    ("LA", 46),
    ("KY", 45),
    ("OR", 42),
    ("OK", 40),
    ("CT", 36),
    ("UT", 34),
    ("IA", 32),
    ("NV", 31),
    ("AR", 30),
    ("KS", 29),
    ("MS", 29),
    ("NM", 21),
    ("NE", 19),
    ("ID", 19),
    ("WV", 18),
    ("HI", 14),
    ("NH", 14),
    ("ME", 13),
    ("MT", 11),
    ("RI", 11),
    ("DE", 10),
    ("SD", 9),
    ("ND", 8),
    ("AK", 7),
    ("DC", 7),
    ("VT", 6),
    ("WY", 6),
    ("PR", 20),
    ("GB", 25),
    ("BR", 12),
    ("JP", 9),
    ("unknown", 40),
];
const DEVICES: &[(&str, u32)] = &[
    ("iOS", 46),
    ("android", 38),
    ("web", 9),
    ("TV", 2),
    ("unknown", 5),
];
const VERSIONS: &[(&str, u32)] = &[
    ("2.3.0", 58),
    ("2.2.1", 21),
    ("2.4.0", 9),
    ("2.1.0", 6),
    ("1.9.4", 3),
    ("2.4.1-beta", 2),
    ("unknown", 1),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let hostile = arguments.next().is_some_and(|word| word == "hostile");
    let broker = EmbeddedBroker::start(&[("processed", PARTITIONS), ("dead", 1)])?;
    let mut source = Source::new(&broker, hostile)?;
    let lag = || {
        (0..PARTITIONS)
            .map(|partition| PartitionLag {
                partition,
                records: lag_of(partition),
            })
            .collect()
    };
    let settings = LiveSettings {
        kafka: broker.settings(),
        output_topic: "processed".to_owned(),
        dead_letter_topic: "dead".to_owned(),
    };
    let handle = LiveHandle::new(settings, Arc::new(lag));
    std::thread::spawn(move || source.run());
    let listener = tokio::net::TcpListener::bind(&address)
        .await
        .with_context(|| format!("cannot use {address}"))?;
    println!("http://{address}/");
    axum::serve(listener, live::router(handle))
        .await
        .context("cannot serve")
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Something that moves a little.
fn lag_of(partition: i32) -> u64 {
    let turn = (now_ms() / 1_000 + i64::from(partition) * 7) % 30;
    turn.unsigned_abs() * (partition.unsigned_abs() as u64 % 3 + 1)
}

fn pick(random: &mut SmallRng, choices: &[(&'static str, u32)]) -> &'static str {
    let mut at = random.random_range(0..choices.iter().map(|(_, weight)| weight).sum());
    for (name, weight) in choices {
        if at < *weight {
            return name;
        }
        at -= weight;
    }
    "unknown"
}

struct Source {
    producer: PlainProducer,
    contract: Contract,
    random: SmallRng,
    hostile: bool,
    sent: i32,
}

impl Source {
    fn new(broker: &EmbeddedBroker, hostile: bool) -> anyhow::Result<Self> {
        let producer = PlainProducer::new(&broker.settings())?;
        let random = SmallRng::seed_from_u64(7);
        Ok(Self {
            producer,
            contract: Contract::default(),
            random,
            hostile,
            sent: 0,
        })
    }

    /// The last 15 minutes at once, then each second as it comes.
    fn run(&mut self) {
        let start_ms = now_ms();
        for second in -HISTORY_SECONDS.. {
            let wait_ms = start_ms + second * 1_000 - now_ms();
            std::thread::sleep(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)));
            let wave = 1.0 + 0.45 * (second as f64 / 140.0).sin() + self.random.random_range(-0.2..0.2);
            for _ in 0..(LOGINS_PER_SECOND * wave) as u32 {
                let processed_ms = start_ms + second * 1_000 + self.random.random_range(0..1_000);
                if let Err(error) = self.login(processed_ms) {
                    eprintln!("{error:#}");
                }
            }
        }
    }

    fn login(&mut self, processed_ms: i64) -> anyhow::Result<()> {
        if self.random.random_bool(0.018) {
            let common = [
                RejectReason::BadIp,
                RejectReason::MissingField,
                RejectReason::BadTimestamp,
            ];
            let pool: &[RejectReason] = if self.random.random_bool(0.7) {
                &common
            } else {
                &RejectReason::ALL
            };
            let reason = pool[self.random.random_range(0..pool.len())].as_str();
            let headers = HeaderList::with_capacity(1).with("error.reason", Some(reason.as_bytes()));
            return self.send("dead", b"{", processed_ms, headers);
        }
        // Mostly some tens of milliseconds, now and then seconds.
        let delay_ms = 25.0 * (-self.random.random::<f64>().ln())
            + if self.random.random_bool(0.02) { 900.0 } else { 8.0 };
        let received_ms = processed_ms - delay_ms as i64;
        let event_ms = received_ms - self.random.random_range(40..400);
        let random = &mut self.random;
        let input = format!(
            r#"{{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","device_id":"x","ip":"108.228.145.239","timestamp":{}"#,
            event_ms / 1_000
        );
        let optional = [
            ("locale", LOCALES),
            ("device_type", DEVICES),
            ("app_version", VERSIONS),
        ];
        let members = optional.map(|(name, choices)| match pick(random, choices) {
            "unknown" => String::new(),
            value => format!(r#","{name}":"{value}""#),
        });
        let input = format!("{input}{}}}", members.concat());
        let mut record = Vec::new();
        let event = self.contract.decode(Some(input.as_bytes()), None)?;
        event.write_json(processed_ms, &mut record);
        if self.hostile && self.random.random_bool(0.05) {
            let markup = r"<img src=x onerror=alert(1)>";
            let text = String::from_utf8(record)?;
            let text = text
                .replace("2.3.0", markup)
                .replace("\"South\"", "\"</script><script>alert(2)</script>\"");
            record = text.into_bytes();
        }
        let received = received_ms.to_string();
        let headers = HeaderList::with_capacity(1).with("source.timestamp", Some(received.as_bytes()));
        self.send("processed", &record, event_ms, headers)
    }

    fn send(&mut self, topic: &str, payload: &[u8], at_ms: i64, headers: HeaderList) -> anyhow::Result<()> {
        self.sent += 1;
        let outgoing = Outgoing {
            topic,
            key: None,
            payload: Some(payload),
            timestamp_ms: Some(at_ms),
            partition: Some(if topic == "dead" {
                0
            } else {
                self.sent % PARTITIONS
            }),
            headers: Some(headers),
        };
        Ok(self.producer.send_record(outgoing)?)
    }
}
