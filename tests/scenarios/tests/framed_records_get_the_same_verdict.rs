//! Records that a schema registry describes, on a real one: the same event gets the same verdict as plain JSON, JSON
//! Schema, Avro and Protobuf, on both paths; what cannot be decoded is a dead letter and a row of `rejected`; and records
//! whose schema nobody can be asked about wait, visibly, until somebody can.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::exactness::{Position, position, published_exactly, stored_exactly};
use loginlake_scenarios::kafka::Record;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Program};
use loginlake_scenarios::registry::{
    AVRO, JSON_SCHEMA, PROTOBUF, Registry, avro_body, framed, is_expressible, protobuf_body,
};
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::{entries, http, runner};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(180);
const EVENTS: usize = 2_000;
const SEED: u64 = 71;
/// Columns of `logins` that are members of the same name in the processed event.
const FIELDS: [&str; 8] = [
    "user_id",
    "device_id",
    "timestamp",
    "ip",
    "locale",
    "device_type",
    "app_version",
    "flags",
];

fn main() -> ExitCode {
    runner::main(
        entries![&[Part::Kafka, Part::Minio, Part::Reader, Part::Registry];
            an_event_in_any_format_is_judged_alike_on_both_paths,
            records_wait_for_a_registry_that_is_away,
        ],
    )
}

fn an_event_in_any_format_is_judged_alike_on_both_paths() -> Result<()> {
    let scenario = Scenario::new("any-format")?;
    scenario.create_topics()?;
    let registry = Registry::start(&scenario.dir().join("registry"))?;
    let ids = Ids::register(&registry, &scenario)?;
    let events = events(&scenario)?;
    let mut records = Vec::new();
    for (number, (line, event)) in events.iter().enumerate() {
        let bodies = [
            ("plain", line.clone()),
            ("json-schema", framed(ids.json_schema, line)),
            ("avro", framed(ids.avro, &avro_body(event)?)),
            ("protobuf", framed(ids.protobuf, &protobuf_body(event)?)),
        ];
        records.extend(bodies.map(|(format, body)| (format!("{number}/{format}"), body)));
    }
    let broken = broken(&ids, &events[0].1)?;
    records.extend(
        broken
            .iter()
            .map(|(reason, body)| (format!("broken/{reason}"), body.clone())),
    );
    scenario.kafka.produce(&scenario.input_topic(), records)?;
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len(), 4 * events.len() + broken.len());

    let realtime = with(&registry, scenario.realtime())
        .arg("--exit-at-end")
        .start()?;
    let ingest = with(&registry, scenario.ingest()).arg("--exit-at-end").start()?;
    realtime.wait_exit(LIMIT)?.ok()?;
    ingest.wait_exit(LIMIT)?.ok()?;
    published_exactly(&scenario, &input)?;
    stored_exactly(&scenario, &input)?;

    let verdicts = verdicts(&scenario, &input)?;
    for (number, (_, event)) in events.iter().enumerate() {
        let of = |format: &str| {
            let key = format!("{number}/{format}");
            verdicts.get(&key).with_context(|| format!("no verdict on {key}"))
        };
        let plain = of("plain")?;
        for format in ["json-schema", "avro", "protobuf"] {
            assert_eq!(of(format)?, plain, "{number} as {format}: {event}");
        }
    }
    for (reason, _) in &broken {
        let verdict = verdicts.get(&format!("broken/{reason}"));
        let Some(Verdict::Rejected { reason: given, .. }) = verdict else {
            panic!("{reason}: {verdict:?}");
        };
        assert_eq!(given, reason.split('-').next().unwrap_or_default());
    }
    let bad = verdicts
        .values()
        .filter(|verdict| matches!(verdict, Verdict::Rejected { .. }))
        .count();
    let share = bad as f64 / input.len() as f64;
    ensure!((0.03..0.12).contains(&share), "{bad} of {} are bad", input.len());
    the_lake_says_the_same(&scenario, &input)?;
    a_replay_keeps_the_frame(&scenario, &input)
}

/// A dead letter goes back to the input with the very bytes that came, so that it can be read once its schema is there.
fn a_replay_keeps_the_frame(scenario: &Scenario, input: &[Record]) -> Result<()> {
    let replay = scenario.dead_letters("replay");
    replay
        .args(["--reason", "UNKNOWN_SCHEMA", "--yes"])
        .run_ok(LIMIT)?;
    let now = scenario.kafka.read_committed(&scenario.input_topic())?;
    let of = |records: &[Record]| -> Vec<Option<Vec<u8>>> {
        let unknown = records
            .iter()
            .filter(|record| key(record) == "broken/UNKNOWN_SCHEMA-nobody");
        unknown.map(|record| record.payload.clone()).collect()
    };
    assert_eq!(now.len(), input.len() + 1);
    assert_eq!(of(&now), [of(input), of(input)].concat());
    Ok(())
}

fn records_wait_for_a_registry_that_is_away() -> Result<()> {
    let scenario = Scenario::new("registry-away")?;
    scenario.create_topics()?;
    let mut registry = Registry::start(&scenario.dir().join("registry"))?;
    let ids = Ids::register(&registry, &scenario)?;
    let events: Vec<Value> = events(&scenario)?
        .into_iter()
        .map(|(_, event)| event)
        .take(400)
        .collect();
    // `rest`: what the schema has behind the members of a login.
    let avro = |phase: &'static str, id: u32, rest: &[u8], events: &[Value]| {
        let record = |(number, event)| {
            let body = [&avro_body(event)?[..], rest].concat();
            anyhow::Ok((format!("{phase}/{number}"), framed(id, &body)))
        };
        events.iter().enumerate().map(record).collect::<Result<Vec<_>>>()
    };
    let topic = scenario.input_topic();
    scenario
        .kafka
        .produce(&topic, avro("before", ids.avro, &[], &events[..200])?)?;
    let (realtime_page, ingest_page) = (http::loopback(free_port()?), http::loopback(free_port()?));
    let mut realtime = start_realtime(&scenario, &registry, realtime_page, "exactly-once")?;
    let ingest = with(&registry, scenario.ingest()).args([
        "--max-batch-age",
        "500ms",
        "--http",
        &ingest_page.to_string(),
    ]);
    let mut ingest = ingest.start()?;
    wait_counted(&scenario, &mut realtime, &mut ingest, 200)?;

    // A new version of the schema, which nobody has asked for yet when the registry goes away.
    let newer = AVRO.replacen(
        "]}]}",
        "]},{\"name\":\"city\",\"type\":[\"null\",\"string\"],\"default\":null}]}",
        1,
    );
    let id = registry.register(&format!("{topic}-avro"), "AVRO", &newer)?;
    ensure!(id != ids.avro, "the registry takes both versions for one");
    registry.kill();
    scenario
        .kafka
        .produce(&topic, avro("during", id, &[0], &events[200..])?)?;
    for (process, page) in [(&mut realtime, realtime_page), (&mut ingest, ingest_page)] {
        process.wait_until("not ready, and why", LIMIT, || {
            let answer = http::get(page, "/health/ready")?;
            let told = answer.status == 503 && answer.body.contains("schema registry");
            Ok((told && http::metric(page, "schema_registry_retries_total")? >= 3.0).then_some(()))
        })?;
    }
    assert_eq!(
        scenario
            .kafka
            .read_committed(&scenario.dead_letter_topic())?
            .len(),
        bad_before(&scenario)?
    );
    // A process that waits still ends when it is asked to; its successor waits in its place, with the other guarantee.
    realtime.terminate(LIMIT)?;
    let realtime_page = http::loopback(free_port()?);
    let mut realtime = start_realtime(&scenario, &registry, realtime_page, "at-least-once")?;
    realtime.wait_until("the successor waits, too", LIMIT, || {
        Ok(
            (http::metric(realtime_page, "schema_registry_retries_total").unwrap_or(0.0) >= 3.0)
                .then_some(()),
        )
    })?;

    registry.start_again()?;
    wait_counted(&scenario, &mut realtime, &mut ingest, 400)?;
    for (process, page) in [(&mut realtime, realtime_page), (&mut ingest, ingest_page)] {
        process.wait_until("ready again", LIMIT, || {
            Ok((http::get(page, "/health/ready")?.status == 200).then_some(()))
        })?;
    }
    realtime.terminate(LIMIT)?;
    ingest.terminate(LIMIT)?;
    let input = scenario.kafka.read_committed(&topic)?;
    assert_eq!(input.len(), 400);
    published_exactly(&scenario, &input)?;
    stored_exactly(&scenario, &input)?;
    let letters = scenario.kafka.read_committed(&scenario.dead_letter_topic())?;
    for letter in &letters {
        let reason = letter.headers.get("error.reason").map(String::as_str);
        ensure!(
            !matches!(reason, Some("UNKNOWN_SCHEMA" | "SCHEMA_MISMATCH" | "BAD_FRAME")),
            "an outage made a dead letter: {letter:?}"
        );
    }
    the_lake_says_the_same(&scenario, &input)
}

fn start_realtime(
    scenario: &Scenario,
    registry: &Registry,
    page: SocketAddr,
    guarantee: &str,
) -> Result<Process> {
    with(registry, scenario.realtime())
        .args(["--http", &page.to_string(), "--guarantee", guarantee])
        .start()
}

fn with(registry: &Registry, program: Program) -> Program {
    program.args(["--schema-registry", &registry.url()])
}

/// Dead letters of records that came before the outage.
fn bad_before(scenario: &Scenario) -> Result<usize> {
    let letters = scenario.kafka.read_committed(&scenario.dead_letter_topic())?;
    let before = |record: &&Record| {
        record
            .key
            .as_deref()
            .is_some_and(|key| key.starts_with(b"before/"))
    };
    Ok(letters.iter().filter(before).count())
}

/// Waits until both paths have committed so many records.
fn wait_counted(
    scenario: &Scenario,
    realtime: &mut Process,
    ingest: &mut Process,
    records: usize,
) -> Result<()> {
    realtime.wait_until("all of it published", LIMIT, || {
        let processed = scenario.kafka.read_committed(&scenario.output_topic())?.len();
        let letters = scenario
            .kafka
            .read_committed(&scenario.dead_letter_topic())?
            .len();
        Ok((processed + letters >= records).then_some(()))
    })?;
    ingest.wait_until("all of it in the lake", LIMIT, || {
        let reader = scenario.reader();
        let rows = reader.count("logins")? + reader.count("rejected")?;
        Ok((rows >= records).then_some(()))
    })
}

/// The schemas of a scenario. Each type has a subject of its own: a registry keeps one type in a subject.
struct Ids {
    avro: u32,
    protobuf: u32,
    json_schema: u32,
}

impl Ids {
    fn register(registry: &Registry, scenario: &Scenario) -> Result<Ids> {
        let subject = |format: &str| format!("{}-{format}", scenario.input_topic());
        Ok(Ids {
            avro: registry.register(&subject("avro"), "AVRO", AVRO)?,
            protobuf: registry.register(&subject("protobuf"), "PROTOBUF", PROTOBUF)?,
            json_schema: registry.register(&subject("json"), "JSON", JSON_SCHEMA)?,
        })
    }
}

/// Generated events that all formats can say, good and bad, with the line that each is as JSON.
fn events(scenario: &Scenario) -> Result<Vec<(Vec<u8>, Value)>> {
    let file = scenario.dir().join("events.ndjson");
    let generate = Program::ours("generate", scenario.dir())
        .args(["--count", &(2 * EVENTS).to_string(), "--seed", &SEED.to_string()])
        .args(["--from", "2025-03-03", "--to", "2025-03-10"])
        .args([
            "--bad-share",
            "0.1",
            "--legacy-share",
            "0.2",
            "--ipv6-share",
            "0.2",
            "--out",
        ])
        .arg(&file);
    generate.run_ok(LIMIT)?;
    let lines = std::fs::read(&file)?;
    let expressible = lines.split(|byte| *byte == b'\n').filter_map(|line| {
        let event: Value = serde_json::from_slice(line).ok()?;
        // A line that holds a member twice, or spaces, is longer than what it says.
        let says_all = event.to_string().len() == line.len();
        (says_all && is_expressible(&event)).then(|| (line.to_vec(), event))
    });
    let events: Vec<_> = expressible.take(EVENTS).collect();
    ensure!(
        events.len() == EVENTS,
        "only {} events can be said in all formats",
        events.len()
    );
    Ok(events)
}

/// Records that no decoder can read, under the reason that they must get and a word that tells them apart.
fn broken(ids: &Ids, event: &Value) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let avro = avro_body(event)?;
    let mut too_long = avro.clone();
    too_long.push(0);
    Ok(vec![
        ("BAD_FRAME-short", vec![0, 0, 0]),
        ("BAD_FRAME-negative", framed(u32::MAX, &avro)),
        ("BAD_FRAME-indexes", framed(ids.protobuf, &[0x80])),
        ("UNKNOWN_SCHEMA-nobody", framed(999_999, &avro)),
        ("SCHEMA_MISMATCH-cut", framed(ids.avro, &avro[..avro.len() / 2])),
        ("SCHEMA_MISMATCH-long", framed(ids.avro, &too_long)),
        ("SCHEMA_MISMATCH-message", framed(ids.protobuf, &[2, 8])),
        ("SCHEMA_MISMATCH-body", framed(ids.protobuf, &[0, 0x0a, 0x7f])),
        ("NOT_JSON-body", framed(ids.json_schema, b"{")),
        ("NULL_PAYLOAD-body", framed(ids.json_schema, b"")),
    ])
}

/// What became of a record on the speed path.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// The event that was published, but for the time of its processing.
    Processed(Value),
    Rejected {
        reason: String,
        field: Option<String>,
        message: String,
    },
}

/// The verdicts of the speed path, by the keys of the input. A dead letter has the bytes that came in.
fn verdicts(scenario: &Scenario, input: &[Record]) -> Result<BTreeMap<String, Verdict>> {
    let sources: BTreeMap<Position, &Record> = input
        .iter()
        .map(|record| ((record.partition, record.offset), record))
        .collect();
    let mut verdicts = BTreeMap::new();
    for record in scenario.kafka.read_committed(&scenario.output_topic())? {
        let mut event: Value = serde_json::from_slice(record.payload.as_deref().unwrap_or_default())?;
        if let Some(members) = event.as_object_mut() {
            members.remove("processed_timestamp");
        }
        let source = sources
            .get(&record.source_position()?)
            .context("a foreign record")?;
        verdicts.insert(key(source), Verdict::Processed(event));
    }
    for letter in scenario.kafka.read_committed(&scenario.dead_letter_topic())? {
        let source = sources
            .get(&letter.source_position()?)
            .context("a foreign record")?;
        assert_eq!(letter.payload, source.payload, "the bytes of {}", key(source));
        let header = |name: &str| letter.headers.get(name).cloned();
        let verdict = Verdict::Rejected {
            reason: header("error.reason").unwrap_or_default(),
            field: header("error.field").filter(|field| !field.is_empty()),
            message: header("error.message").unwrap_or_default(),
        };
        verdicts.insert(key(source), verdict);
    }
    Ok(verdicts)
}

fn key(record: &Record) -> String {
    String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned()
}

/// Every record has the same verdict in the tables: the same values, or the same reason, field, message and bytes.
fn the_lake_says_the_same(scenario: &Scenario, input: &[Record]) -> Result<()> {
    let verdicts = verdicts(scenario, input)?;
    let sources: BTreeMap<Position, &Record> = input
        .iter()
        .map(|record| ((record.partition, record.offset), record))
        .collect();
    let of = |row: &[Value]| -> Result<(&Record, &Verdict)> {
        let source = *sources.get(&position(row)?).context("a foreign row")?;
        Ok((source, verdicts.get(&key(source)).context("no verdict")?))
    };
    let sql = format!(
        "SELECT kafka_partition, kafka_offset, {} FROM t",
        FIELDS.join(", ")
    );
    for row in scenario.reader().query("logins", &sql)? {
        let (source, verdict) = of(&row)?;
        let Verdict::Processed(event) = verdict else {
            panic!("{} is in logins, and {verdict:?}", key(source));
        };
        for (field, value) in FIELDS.iter().zip(&row[2..]) {
            assert_eq!(*value, event[*field], "{field} of {}", key(source));
        }
    }
    let sql = "SELECT kafka_partition, kafka_offset, reason, field, message, hex(raw) FROM t";
    for row in scenario.reader().query("rejected", sql)? {
        let (source, verdict) = of(&row)?;
        let text = |index: usize| row[index].as_str().map(str::to_owned);
        let stored = Verdict::Rejected {
            reason: text(2).unwrap_or_default(),
            field: text(3),
            message: text(4).unwrap_or_default(),
        };
        assert_eq!(stored, *verdict, "{}", key(source));
        let bytes = source.payload.as_deref().unwrap_or_default();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(text(5), Some(hex), "the bytes of {}", key(source));
    }
    Ok(())
}
