//! Input and output on two clusters. A Kafka transaction does not span them: exactly once is refused with an explanation, at
//! least once works and says so, and what repeats after a crash carries the same source position, so that a reader can drop
//! it. Two names of one cluster are one cluster.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::exactness::{input_positions, published_at_least_once, published_each_once};
use loginlake_scenarios::kafka::{self, Record};
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, events};
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

const EVENTS: u64 = 20_000;
const PHASES: u64 = 2;
const LIMIT: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        exactly_once_is_refused,
        at_least_once_loses_nothing_and_names_what_repeats,
        two_names_of_one_cluster_are_one_cluster,
    ])
}

fn exactly_once_is_refused() -> Result<()> {
    let scenario = Scenario::new("two-refused")?.with_outputs_on(kafka::second()?);
    scenario.create_topics()?;
    let output = scenario.realtime().arg("--exit-at-end").run(LIMIT)?;
    assert_eq!(output.code, 2, "{}", output.stderr);
    for part in [
        "exactly once is not possible",
        "does not span clusters",
        "--guarantee at-least-once",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    Ok(())
}

fn at_least_once_loses_nothing_and_names_what_repeats() -> Result<()> {
    let scenario = Scenario::new("two-clusters")?.with_outputs_on(kafka::second()?);
    scenario.create_topics()?;
    let group = scenario.realtime_group();
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &group)?;
    let mut load = Load::of(&scenario, &progress, events(EVENTS)?, PHASES, 21);
    let realtime = || scenario.realtime().args(["--guarantee", "at-least-once"]);

    let first = realtime().start()?;
    load.phase("it is killed", || {
        let before: i64 = progress.committed()?.values().sum();
        progress.wait_committed(before + 1, LIMIT)?;
        first.kill();
        Ok(())
    })?;
    load.phase("nobody is there", || Ok(()))?;
    let last = realtime().arg("--exit-at-end").run_ok(LIMIT)?;
    assert!(
        last.stderr
            .lines()
            .any(|line| line.contains("WARN") && line.contains("two clusters")),
        "{}",
        last.stderr
    );

    let input = input_positions(&scenario)?;
    assert_eq!(input.len(), load.events());
    let repeats = published_at_least_once(&scenario, &input)?;
    println!("{repeats} of {} records repeat", input.len());
    for topic in [scenario.output_topic(), scenario.dead_letter_topic()] {
        repeats_say_the_same(&scenario.outputs().read_committed(&topic)?).context(topic)?;
    }
    Ok(())
}

/// Records of one source position differ in when they were made, and in nothing else.
fn repeats_say_the_same(records: &[Record]) -> Result<()> {
    let mut first: BTreeMap<(i32, i64), &Record> = BTreeMap::new();
    for record in records {
        let known = first.entry(record.source_position()?).or_insert(record);
        ensure!(
            (&known.key, &known.headers, known.partition) == (&record.key, &record.headers, record.partition)
                && without_clock(known) == without_clock(record),
            "{known:?} came again as {record:?}"
        );
    }
    Ok(())
}

/// The payload; of an event without the moment at which it was processed.
fn without_clock(record: &Record) -> Result<Value, Option<Vec<u8>>> {
    let json = serde_json::from_slice(record.payload.as_deref().unwrap_or_default());
    if let Ok(Value::Object(mut event)) = json
        && event.remove("processed_timestamp").is_some()
    {
        return Ok(Value::Object(event));
    }
    Err(record.payload.clone())
}

fn two_names_of_one_cluster_are_one_cluster() -> Result<()> {
    let scenario = Scenario::new("two-names")?;
    scenario.create_topics()?;
    scenario
        .generate(2_000, 22)
        .args(["--bad-share", "0.02"])
        .run_ok(LIMIT)?;
    let output = scenario
        .realtime()
        .args(["--output-brokers", &scenario.kafka.brokers_by_name()])
        .arg("--exit-at-end")
        .run_ok(LIMIT)?;
    assert!(!output.stderr.contains("two clusters"), "{}", output.stderr);
    published_each_once(&scenario, &input_positions(&scenario)?)
}
