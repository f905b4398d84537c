//! The commands on the embedded broker. It forgets offsets that are committed in transactions and has no transaction
//! markers, so where the next replay goes on, and what an abort hides, is tested on real Kafka only.

use std::time::{Duration, Instant};

use loginlake_kafka::KafkaSettings;
use loginlake_kafka::embedded::EmbeddedBroker;
use loginlake_kafka::producer::{HeaderList, Outgoing, PlainProducer};
use loginlake_kafka::rdkafka::Message as _;
use loginlake_kafka::rdkafka::message::Headers as _;
use loginlake_kafka::reader::{Read, ReadFrom, TopicReader};

use super::replay::{ReplayOptions, Tally, replay};
use super::select::{Position, Selection};
use super::{list, show};

const LIMIT: Duration = Duration::from_secs(30);

/// A broker with four dead letters, two in each partition, and an empty input topic.
struct Scene {
    broker: EmbeddedBroker,
}

/// A record of the input topic: partition, key, payload, headers in order.
type Replayed = (i32, Vec<u8>, Vec<u8>, Vec<(String, String)>);

impl Scene {
    fn new() -> Self {
        let broker = EmbeddedBroker::start(&[("in", 4), ("dead", 2)]).expect("a broker");
        let scene = Self { broker };
        scene.reject(
            0,
            b"{\"bad\":1}",
            &[("error.reason", "BAD_IP"), ("source.partition", "3")],
        );
        scene.reject(
            0,
            b"\xff\xfe",
            &[
                ("error.reason", "NOT_UTF8"),
                ("error.attempt", "3"),
                ("source.partition", "0"),
            ],
        );
        scene.reject(
            1,
            b"{",
            &[
                ("error.reason", "NOT_JSON"),
                ("error.attempt", "2"),
                ("replay.source.topic", "first"),
                ("replay.source.offset", "5"),
                ("source.partition", "9"),
            ],
        );
        scene.reject(
            1,
            b"beg",
            &[("error.reason", "TOO_LARGE"), ("payload.length", "2000000")],
        );
        scene
    }

    fn settings(&self) -> KafkaSettings {
        self.broker.settings()
    }

    fn reject(&self, partition: i32, payload: &[u8], headers: &[(&str, &str)]) {
        let all = [("trace", "t-1"), ("source.topic", "in"), ("source.offset", "42")];
        let list = all
            .iter()
            .chain(headers)
            .fold(HeaderList::with_capacity(8), |list, (key, value)| {
                list.with(key, Some(value.as_bytes()))
            });
        let producer = PlainProducer::new(&self.settings()).expect("a producer");
        let outgoing = Outgoing {
            topic: "dead",
            key: Some(b"the key"),
            payload: Some(payload),
            timestamp_ms: None,
            partition: Some(partition),
            headers: Some(list),
        };
        producer.send_record(outgoing).expect("taken");
        assert_eq!(producer.flush(LIMIT).expect("flushed").failed, 0);
    }

    fn options(&self) -> ReplayOptions {
        ReplayOptions {
            kafka: self.settings(),
            dead_letter_topic: "dead".to_owned(),
            input_topic: "in".to_owned(),
            group_id: "g-dead-letters-replay".to_owned(),
            selection: Selection::default(),
            max_attempts: 3,
            from_beginning: false,
            dry_run: false,
        }
    }

    fn input(&self) -> Vec<Replayed> {
        let reader = TopicReader::open(&self.settings(), &["in"], ReadFrom::Beginning).expect("a reader");
        let deadline = Instant::now() + LIMIT;
        let mut found = Vec::new();
        while !reader.end_reached() {
            assert!(Instant::now() < deadline, "read {found:?}");
            if let Read::Record(message) = reader.poll(Duration::from_millis(100)).expect("readable") {
                let headers = message.headers().expect("headers");
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                found.push((
                    message.partition(),
                    message.key().unwrap_or_default().to_vec(),
                    message.payload().unwrap_or_default().to_vec(),
                    headers
                        .iter()
                        .map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default())))
                        .collect(),
                ));
            }
        }
        found.sort();
        found
    }
}

#[test]
fn a_replay_puts_each_record_back_once_and_ends() {
    let scene = Scene::new();
    let dry = ReplayOptions {
        dry_run: true,
        ..scene.options()
    };
    let tally = replay(&dry).expect("a dry run");
    let expected = Tally {
        considered: 4,
        replayed: 2,
        at_limit: 1,
        truncated: 1,
        ..Tally::default()
    };
    assert_eq!(tally, expected);
    assert!(scene.input().is_empty(), "a dry run changes nothing");

    assert_eq!(replay(&scene.options()).expect("a replay"), expected);
    let input = scene.input();
    assert_eq!(input.len(), 2, "{input:?}");
    assert!(input.iter().all(|(_, key, _, _)| key == b"the key"));
    let header = |record: &Replayed, name: &str| {
        let found: Vec<&str> = record
            .3
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect();
        assert!(found.len() <= 1, "{name} twice: {record:?}");
        found.first().map(|value| (*value).to_owned())
    };
    let first = input
        .iter()
        .find(|record| record.2 == b"{\"bad\":1}")
        .expect("replayed");
    assert_eq!(first.0, 3, "its partition");
    for (name, expected) in [
        ("trace", Some("t-1")),
        ("error.attempt", Some("1")),
        ("replay.source.topic", Some("in")),
        ("replay.source.partition", Some("3")),
        ("replay.source.offset", Some("42")),
        ("error.reason", None),
        ("source.offset", None),
    ] {
        assert_eq!(header(first, name).as_deref(), expected, "{name}");
    }
    let second = input.iter().find(|record| record.2 == b"{").expect("replayed");
    assert_eq!(header(second, "error.attempt").as_deref(), Some("2"));
    assert_eq!(
        header(second, "replay.source.topic").as_deref(),
        Some("first"),
        "the first position stays"
    );
    assert_eq!(header(second, "replay.source.offset").as_deref(), Some("5"));
}

#[test]
fn from_the_beginning_everything_is_considered_and_only_what_is_asked_for_replayed() {
    let scene = Scene::new();
    let again = ReplayOptions {
        from_beginning: true,
        selection: Selection {
            reasons: vec!["BAD_IP".parse().expect("a reason")],
            ..Selection::default()
        },
        ..scene.options()
    };
    let tally = replay(&again).expect("a replay");
    assert_eq!((tally.considered, tally.replayed, tally.left_out), (4, 1, 3));
    assert_eq!(scene.input().len(), 1);
}

#[test]
fn in_an_empty_topic_there_is_nothing_to_do() {
    let broker = EmbeddedBroker::start(&[("in", 1), ("dead", 1)]).expect("a broker");
    let scene = Scene { broker };
    assert_eq!(replay(&scene.options()).expect("nothing to do"), Tally::default());
    let found = list::newest(&scene.settings(), "dead", &Selection::default(), 10).expect("an empty list");
    let mut out = Vec::new();
    found
        .print(super::Format::Table, &mut out)
        .expect("memory takes it");
    assert!(out.is_empty());
}

#[test]
fn a_list_holds_all_of_them() {
    let scene = Scene::new();
    let found = list::newest(&scene.settings(), "dead", &Selection::default(), 10).expect("a list");
    let mut out = Vec::new();
    found
        .print(super::Format::Ndjson, &mut out)
        .expect("memory takes it");
    let text = String::from_utf8(out).expect("text");
    assert_eq!(text.lines().count(), 4, "{text}");
    for reason in ["BAD_IP", "NOT_UTF8", "NOT_JSON", "TOO_LARGE"] {
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn one_record_is_shown_whole_and_safely() {
    let scene = Scene::new();
    let shown = |partition, offset| {
        let mut out = Vec::new();
        show::show(
            &scene.settings(),
            "dead",
            Position { partition, offset },
            &mut out,
        )
        .map(|()| String::from_utf8(out).expect("text"))
    };
    let text = shown(0, 0).expect("there");
    for expected in [
        "key        the key",
        "error.reason: BAD_IP",
        "trace: t-1",
        "{\"bad\":1}",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let binary = shown(0, 1).expect("there");
    assert!(binary.contains("00000000  ff fe"), "{binary}");
    let error = shown(0, 2).expect_err("not there");
    assert!(error.message.contains("no offset 2: it holds 0 to 1"), "{error}");
    assert_eq!(
        shown(7, 0).expect_err("no such partition").code,
        loginlake_service::exit::ExitCode::Usage
    );
}
