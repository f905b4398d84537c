//! Instances of `realtime run` die, freeze, come back, join and leave under load. Every committed input record is on one
//! of the two output topics exactly once (invariant 1), the committed offsets are the ends of the topic (invariant 2),
//! nothing of an aborted transaction is seen (invariant 3), and order is kept (invariant 4); by both group protocols.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use loginlake_scenarios::exactness::published_exactly;
use loginlake_scenarios::kafka::SESSION_TIMEOUT_MS;
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::Signal;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, events};
use loginlake_scenarios::{entries, runner};

const EVENTS: u64 = 60_000;
const PARTITIONS: i32 = 6;
const PHASES: u64 = 5;
const LIMIT: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        with_the_classic_group_protocol,
        with_the_newer_group_protocol,
    ])
}

fn with_the_classic_group_protocol() -> Result<()> {
    let session = format!("session.timeout.ms={SESSION_TIMEOUT_MS}");
    instances_come_and_go("realtime-classic", 11, &[&session, "heartbeat.interval.ms=500"])
}

fn with_the_newer_group_protocol() -> Result<()> {
    instances_come_and_go("realtime-newer", 12, &["group.protocol=consumer"])
}

fn instances_come_and_go(name: &str, seed: u64, properties: &[&str]) -> Result<()> {
    let scenario = Scenario::new(name)?;
    scenario.create_topics_of(PARTITIONS)?;
    // What a dead instance left open holds its partitions back for so long.
    fs::write(
        scenario.dir().join("quick.toml"),
        "[realtime]\ntransaction-timeout = \"5s\"\n",
    )?;
    let instance = |id: &str| {
        // Frozen past its session means past the longest time between two polls, too.
        let poll = format!("max.poll.interval.ms={SESSION_TIMEOUT_MS}");
        let program = properties.iter().fold(scenario.realtime(), |program, property| {
            program.args(["-X", property])
        });
        program
            .args(["-X", &poll])
            .args(["--config", "quick.toml"])
            .args(["--transactional-id", &format!("{name}-{id}")])
    };
    let progress = Progress::watch(
        &scenario.kafka,
        &scenario.input_topic(),
        &scenario.realtime_group(),
    )?;
    let mut load = Load::of(&scenario, &progress, events(EVENTS)?, PHASES, seed);

    let first = instance("first").start()?;
    let second = instance("second").start()?;
    let third = instance("third").start()?;
    load.phase("three instances join", || Ok(()))?;
    progress.wait_all_committed(LIMIT).context("three instances")?;

    load.phase("one is killed", || {
        first.kill();
        Ok(())
    })?;
    progress.wait_all_committed(LIMIT).context("one was killed")?;

    // It comes back under its old name, and takes its transactions over.
    let first = instance("first").start()?;
    load.phase("one is frozen", || second.signal(Signal::Stop))?;
    progress
        .wait_all_committed(LIMIT)
        .context("one is frozen past its session")?;

    let mut fourth = None;
    load.phase("the frozen one goes on, a new one joins", || {
        second.signal(Signal::Continue)?;
        fourth = Some(instance("fourth").start()?);
        Ok(())
    })?;
    progress
        .wait_all_committed(LIMIT)
        .context("the frozen one went on, a new one joined")?;

    load.phase("one leaves", || third.terminate(LIMIT).map(drop))?;
    for process in [Some(first), Some(second), fourth].into_iter().flatten() {
        process
            .terminate(LIMIT)
            .context("all leave before everything is read")?;
    }
    instance("last").arg("--exit-at-end").run_ok(LIMIT)?;

    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len() as u64, load.events());
    published_exactly(&scenario, &input)?;
    assert_eq!(progress.committed()?, progress.ends()?);
    Ok(())
}
