//! `--drop`, `--pseudonymise`, `--mask-ip` and `--max-rate` through the binary: what is filtered is counted and not published,
//! its offsets move; no address, device or user gets out; a limited instance is not faster than its limit, and stops quickly.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::exactness::{Position, input_positions, published_each_once};
use loginlake_scenarios::http;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(180);
const EVENTS: u64 = 4_000;
/// Records a second, and how many seconds they must at least be spread over.
const RATE: u64 = 1_000;
const SECONDS: f64 = 3.0;
/// A limited instance is not waiting for its rate for longer than this when it is asked to stop.
const STOP: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        filtered_events_are_counted_and_nobody_is_named,
        a_rate_limit_holds,
    ])
}

fn filtered_events_are_counted_and_nobody_is_named() -> Result<()> {
    let scenario = Scenario::new("filters")?;
    scenario.create_topics()?;
    scenario
        .generate(EVENTS, 51)
        .args(["--bad-share", "0.02"])
        .run_ok(LIMIT)?;
    let page = http::loopback(free_port()?);
    let mut realtime = scenario
        .realtime()
        .args(["--drop", "device_type missing", "--drop", "locale = \"CA\""])
        .args(["--pseudonymise", "user_id,device_id", "--mask-ip"])
        .args(["--http", &page.to_string()])
        .env(
            "LOGINLAKE_PSEUDONYM_KEY",
            "a key of the scenario that is long enough",
        )
        .start()?;
    let progress = Progress::watch(
        &scenario.kafka,
        &scenario.input_topic(),
        &scenario.realtime_group(),
    )?;
    let ends = progress.ends()?;
    realtime.wait_until("everything to be committed", LIMIT, || {
        Ok((progress.committed()? == ends).then_some(()))
    })?;
    let records = |outcome: &str| http::metric_with(page, "realtime_records_total", outcome);
    let (processed, rejected, filtered) = (
        records("processed")?,
        records("dead_letter")?,
        records("filtered")?,
    );
    realtime.terminate(LIMIT)?;

    let input: BTreeMap<Position, Value> = scenario
        .kafka
        .read_committed(&scenario.input_topic())?
        .into_iter()
        .filter_map(|record| {
            let event = serde_json::from_slice(record.payload.as_deref()?).ok()?;
            Some(((record.partition, record.offset), event))
        })
        .collect();
    let published = scenario.kafka.read_committed(&scenario.output_topic())?;
    let letters = scenario.kafka.read_committed(&scenario.dead_letter_topic())?;
    for record in &published {
        let event: Value = serde_json::from_slice(record.payload.as_deref().unwrap_or_default())?;
        let source = input
            .get(&record.source_position()?)
            .context("an unknown source")?;
        assert!(
            event["device_type"] != "unknown" && event["locale"] != "CA",
            "{event}"
        );
        for member in ["user_id", "device_id", "ip"] {
            assert_ne!(event[member], source[member], "{member} got out");
        }
        assert!(
            event["ip"].as_str().is_some_and(|ip| ip.ends_with(".0")),
            "{event}"
        );
    }
    assert!(filtered > 0.0);
    assert_eq!(
        (processed, rejected),
        (published.len() as f64, letters.len() as f64)
    );
    assert_eq!(processed + rejected + filtered, EVENTS as f64);
    Ok(())
}

fn a_rate_limit_holds() -> Result<()> {
    let scenario = Scenario::new("max-rate")?;
    scenario.create_topics()?;
    let count = (RATE as f64 * 1.2 * SECONDS) as u64;
    scenario
        .generate(count, 52)
        .args(["--bad-share", "0.02"])
        .run_ok(LIMIT)?;
    let limited = || scenario.realtime().args(["--max-rate", &format!("{RATE}/s")]);
    let started = Instant::now();
    limited().arg("--exit-at-end").run_ok(LIMIT)?;
    // Whatever else the process did in this time can only make it slower.
    let taken = started.elapsed().as_secs_f64();
    ensure!(
        taken >= SECONDS,
        "{count} records in {taken} s are more than {RATE} a second"
    );
    published_each_once(&scenario, &input_positions(&scenario)?)?;

    scenario.generate(count, 53).run_ok(LIMIT)?;
    let progress = Progress::watch(
        &scenario.kafka,
        &scenario.input_topic(),
        &scenario.realtime_group(),
    )?;
    let realtime = limited().start()?;
    progress.wait_committed(i64::try_from(count)? + 1, LIMIT)?;
    realtime.terminate(STOP)?;
    limited().arg("--exit-at-end").run_ok(LIMIT)?;
    published_each_once(&scenario, &input_positions(&scenario)?)
}
