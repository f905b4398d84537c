//! Every record of the sample of `data/`, and of a load of everything that the generator can invent, through both paths:
//! the same verdict, and for a good event the same value in every field.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::DateTime;
use loginlake_scenarios::exactness::{Position, position, published_exactly, stored_exactly};
use loginlake_scenarios::kafka::Record;
use loginlake_scenarios::parts::{self, Part};
use loginlake_scenarios::scenario::{Scenario, events};
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

const EVENTS: u64 = 20_000;
const SEED: u64 = 51;
const LIMIT: Duration = Duration::from_secs(180);
/// Fields with the same JSON on both paths.
const FIELDS: [&str; 17] = [
    "user_id",
    "device_id",
    "timestamp",
    "ip",
    "locale",
    "device_type",
    "app_version",
    "region",
    "division",
    "login_date",
    "login_hour",
    "local_hour",
    "time_of_day",
    "day_of_week",
    "ip_class",
    "ip_prefix",
    "flags",
];

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        the_sample_is_judged_alike,
        whatever_is_generated_is_judged_alike,
    ])
}

fn the_sample_is_judged_alike() -> Result<()> {
    let scenario = Scenario::new("sample-alike")?;
    scenario.create_topics()?;
    let sample = parts::top().join("data/sample_events.ndjson");
    let lines = std::fs::read(&sample)?.split(|byte| *byte == b'\n').count() - 1;
    scenario.replay(&sample.display().to_string()).run_ok(LIMIT)?;
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len(), lines);
    judged_alike(&scenario, &input)
}

fn whatever_is_generated_is_judged_alike() -> Result<()> {
    let scenario = Scenario::new("generated-alike")?;
    scenario.create_topics()?;
    let events = events(EVENTS)?;
    let shares = [
        "--bad-share",
        "0.2",
        "--legacy-share",
        "0.2",
        "--ipv6-share",
        "0.2",
    ];
    scenario.generate(events, SEED).args(shares).run_ok(LIMIT)?;
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len() as u64, events);
    judged_alike(&scenario, &input)
}

fn judged_alike(scenario: &Scenario, input: &[Record]) -> Result<()> {
    let realtime = scenario.realtime().arg("--exit-at-end").start()?;
    let ingest = scenario.ingest().arg("--exit-at-end").start()?;
    realtime.wait_exit(LIMIT)?.ok()?;
    ingest.wait_exit(LIMIT)?.ok()?;
    published_exactly(scenario, input)?;
    stored_exactly(scenario, input)?;
    good_events_are_alike(scenario)?;
    bad_records_are_alike(scenario)
}

fn good_events_are_alike(scenario: &Scenario) -> Result<()> {
    let processed = by_source(scenario, &scenario.output_topic())?;
    let columns: Vec<String> = FIELDS
        .iter()
        .map(|field| match *field {
            "login_date" => "CAST(login_date AS VARCHAR)".to_owned(),
            field => field.to_owned(),
        })
        .collect();
    let sql = format!(
        "SELECT kafka_partition, kafka_offset, epoch_us(event_time), {} FROM t",
        columns.join(", ")
    );
    let rows = scenario.reader().query("logins", &sql)?;
    assert_eq!(rows.len(), processed.len());
    for row in rows {
        let position = position(&row)?;
        let record = processed
            .get(&position)
            .with_context(|| format!("{position:?} is in logins and not processed"))?;
        let event: Value = serde_json::from_slice(record.payload.as_deref().unwrap_or_default())?;
        for (field, value) in FIELDS.iter().zip(&row[3..]) {
            assert_eq!(*value, event[*field], "{field} of {position:?}");
        }
        let time = DateTime::parse_from_rfc3339(event["event_time"].as_str().unwrap_or_default())
            .with_context(|| format!("event_time of {position:?}: {}", event["event_time"]))?;
        assert_eq!(row[2], time.timestamp_micros(), "event_time of {position:?}");
    }
    Ok(())
}

fn bad_records_are_alike(scenario: &Scenario) -> Result<()> {
    let letters = by_source(scenario, &scenario.dead_letter_topic())?;
    let sql = "SELECT kafka_partition, kafka_offset, reason, field, message, hex(raw) FROM t";
    let rows = scenario.reader().query("rejected", sql)?;
    assert_eq!(rows.len(), letters.len());
    ensure!(!rows.is_empty(), "there is nothing bad in the input");
    for row in rows {
        let position = position(&row)?;
        let letter = letters
            .get(&position)
            .with_context(|| format!("{position:?} is in rejected and no dead letter"))?;
        for (header, value) in ["error.reason", "error.field", "error.message"]
            .iter()
            .zip(&row[2..5])
        {
            let said = letter
                .headers
                .get(*header)
                .map(String::as_str)
                .filter(|text| !text.is_empty());
            assert_eq!(value.as_str(), said, "{header} of {position:?}");
        }
        let raw = letter.payload.as_ref().map(|payload| hex(payload));
        assert_eq!(row[5].as_str(), raw.as_deref(), "the bytes of {position:?}");
    }
    Ok(())
}

fn by_source(scenario: &Scenario, topic: &str) -> Result<BTreeMap<Position, Record>> {
    let records = scenario.kafka.read_committed(topic)?;
    records
        .into_iter()
        .map(|record| Ok((record.source_position()?, record)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
