//! Partitions move to an ingester while the object store is away, for longer than the longest time between two polls of a
//! group's member: it waits for the store, visibly, and loses and repeats nothing (invariants 6 and 7).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use loginlake_scenarios::delta_log::{self, DeltaLog};
use loginlake_scenarios::exactness::stored_exactly;
use loginlake_scenarios::kafka::SESSION_TIMEOUT_MS;
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, events};
use loginlake_scenarios::{entries, runner};

const EVENTS: u64 = 20_000;
const SEED: u64 = 61;
const PARTITIONS: i32 = 4;
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        an_ingester_that_gets_partitions_waits_for_the_store,
        so_does_one_of_the_newer_group_protocol,
    ])
}

fn an_ingester_that_gets_partitions_waits_for_the_store() -> Result<()> {
    let session = format!("session.timeout.ms={SESSION_TIMEOUT_MS}");
    wait_for_the_store(
        "rebalance-no-store",
        &[&session, "heartbeat.interval.ms=500"],
        None,
    )
}

/// There the group gives a member up for good that does not poll for so long: it joins anew.
fn so_does_one_of_the_newer_group_protocol() -> Result<()> {
    wait_for_the_store(
        "newer-rebalance-no-store",
        &["group.protocol=consumer"],
        Some("joining it anew"),
    )
}

fn wait_for_the_store(name: &str, properties: &[&str], says: Option<&str>) -> Result<()> {
    let scenario = Scenario::with_own_store(name)?;
    scenario.create_topics_of(PARTITIONS)?;
    let poll = format!("max.poll.interval.ms={SESSION_TIMEOUT_MS}");
    let ingester = || {
        let program = scenario.ingest().args(["--max-batch-age", "500ms"]);
        let program = program.args(["-X", &poll]);
        properties
            .iter()
            .fold(program, |program, property| program.args(["-X", property]))
    };
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let mut load = Load::of(&scenario, &progress, events(EVENTS)?, 2, SEED);
    let mut survivor = ingester().start()?;
    let other = ingester().start()?;
    load.phase("two ingesters", || Ok(()))?;
    log.wait_stored(&progress.ends()?, LIMIT)?;

    load.phase("the store goes away, and one ingester dies", || {
        scenario.minio.kill();
        other.kill();
        // Its pauses grow: by then the group has long given it the partitions of the other.
        survivor.wait_says("attempt=8", LIMIT)?;
        scenario.minio.start_again()
    })?;
    if let Some(text) = says {
        survivor.wait_says(text, LIMIT)?;
    }
    let ends = progress.ends()?;
    survivor
        .wait_until("all to be in the lake", LIMIT, || log.has(&ends))
        .context("the store is back")?;
    survivor.terminate(LIMIT)?;

    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len() as u64, load.events());
    stored_exactly(&scenario, &input)?;
    assert_eq!(delta_log::next_offsets(log.read_on()?)?, progress.ends()?);
    Ok(())
}
