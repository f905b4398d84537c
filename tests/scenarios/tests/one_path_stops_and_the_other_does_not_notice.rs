//! The two paths share the input topic and nothing else: one of them frozen, or killed, changes nothing for the other,
//! and goes on where it was, with nothing lost and nothing twice (invariants 1, 2 and 6).

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Signal};
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::{entries, http, runner};

const LIMIT: Duration = Duration::from_secs(180);
/// Records of each of the two loads, one before and one during the stop.
const LOAD: usize = 5_000;

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        the_speed_path_is_frozen_and_the_lake_goes_on,
        the_batch_path_is_killed_and_the_speed_path_goes_on,
    ])
}

fn the_speed_path_is_frozen_and_the_lake_goes_on() -> Result<()> {
    let scenario = Scenario::new("speed-path-frozen")?;
    scenario.create_topics()?;
    load(&scenario, 1)?;
    let mut realtime = scenario.realtime().start()?;
    let mut ingest = start_ingest(&scenario)?;
    wait_published(&scenario, &mut realtime, LOAD)?;
    wait_in_lake(&scenario, &mut ingest, LOAD)?;

    realtime.signal(Signal::Stop)?;
    load(&scenario, 2)?;
    wait_in_lake(&scenario, &mut ingest, 2 * LOAD)?;
    assert_eq!(published(&scenario)?, LOAD);

    realtime.signal(Signal::Continue)?;
    wait_published(&scenario, &mut realtime, 2 * LOAD)?;
    realtime.terminate(LIMIT)?;
    ingest.terminate(LIMIT)?;
    each_once(&scenario)
}

fn the_batch_path_is_killed_and_the_speed_path_goes_on() -> Result<()> {
    let scenario = Scenario::new("batch-path-killed")?;
    scenario.create_topics()?;
    load(&scenario, 1)?;
    let page = http::loopback(free_port()?);
    let mut realtime = scenario.realtime().args(["--http", &page.to_string()]).start()?;
    let mut ingest = start_ingest(&scenario)?;
    wait_published(&scenario, &mut realtime, LOAD)?;
    wait_in_lake(&scenario, &mut ingest, LOAD)?;

    ingest.kill();
    load(&scenario, 2)?;
    wait_published(&scenario, &mut realtime, 2 * LOAD)?;
    assert_eq!(http::get(page, "/health/ready")?.status, 200);
    assert_eq!(http::get(page, "/metrics")?.status, 200);
    assert_eq!(rows(&scenario)?, LOAD);

    let mut ingest = start_ingest(&scenario)?;
    wait_in_lake(&scenario, &mut ingest, 2 * LOAD)?;
    ingest.terminate(LIMIT)?;
    realtime.terminate(LIMIT)?;
    each_once(&scenario)
}

fn load(scenario: &Scenario, seed: u64) -> Result<()> {
    scenario
        .generate(LOAD as u64, seed)
        .args(["--bad-share", "0.02"])
        .run_ok(LIMIT)?;
    Ok(())
}

fn start_ingest(scenario: &Scenario) -> Result<Process> {
    scenario.ingest().args(["--max-batch-age", "500ms"]).start()
}

/// Records on both output topics, as a read_committed reader counts them.
fn published(scenario: &Scenario) -> Result<usize> {
    let processed = scenario.kafka.read_committed(&scenario.output_topic())?.len();
    Ok(processed
        + scenario
            .kafka
            .read_committed(&scenario.dead_letter_topic())?
            .len())
}

/// Rows of both tables, as the independent reader counts them.
fn rows(scenario: &Scenario) -> Result<usize> {
    let reader = scenario.reader();
    Ok(reader.count("logins")? + reader.count("rejected")?)
}

fn wait_published(scenario: &Scenario, realtime: &mut Process, wanted: usize) -> Result<()> {
    realtime.wait_until("all to be published", LIMIT, || {
        reached(published(scenario)?, wanted)
    })
}

fn wait_in_lake(scenario: &Scenario, ingest: &mut Process, wanted: usize) -> Result<()> {
    ingest.wait_until("all to be in the lake", LIMIT, || {
        reached(rows(scenario)?, wanted)
    })
}

fn reached(found: usize, wanted: usize) -> Result<Option<()>> {
    ensure!(
        found <= wanted,
        "{found} records where {wanted} were to come: some are there twice"
    );
    Ok((found == wanted).then_some(()))
}

/// Both paths have every input position, each once.
fn each_once(scenario: &Scenario) -> Result<()> {
    let mut published = scenario.kafka.read_committed(&scenario.output_topic())?;
    published.extend(scenario.kafka.read_committed(&scenario.dead_letter_topic())?);
    let positions = published
        .iter()
        .map(|record| record.source_position())
        .collect::<Result<BTreeSet<_>>>()?;
    assert_eq!((published.len(), positions.len()), (2 * LOAD, 2 * LOAD));

    let distinct = "SELECT count(DISTINCT (kafka_partition, kafka_offset)) FROM t";
    let reader = scenario.reader();
    let distinct = reader.number("logins", distinct)? + reader.number("rejected", distinct)?;
    assert_eq!(
        (rows(scenario)?, usize::try_from(distinct)?),
        (2 * LOAD, 2 * LOAD)
    );
    Ok(())
}
