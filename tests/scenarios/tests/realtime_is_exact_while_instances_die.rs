//! Instances of `realtime run` die, freeze, come back, join and leave under load. Every committed input record is on one
//! of the two output topics exactly once (invariant 1), the committed offsets are the ends of the topic (invariant 2),
//! nothing of an aborted transaction is seen (invariant 3), and order is kept (invariant 4); by both group protocols.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use loginlake_scenarios::exactness::published_exactly;
use loginlake_scenarios::kafka::SESSION_TIMEOUT_MS;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Program, Signal};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, events};
use loginlake_scenarios::{entries, runner};

const EVENTS: u64 = 60_000;
const PARTITIONS: i32 = 6;
/// The load is produced over so many seconds, so that what happens to the instances happens under load.
const LOAD_SECONDS: u64 = 20;
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
    let events = events(EVENTS)?;
    let scenario = Scenario::new(name)?;
    scenario.create_topics_of(PARTITIONS)?;
    let instance = |id: &str| {
        let program = properties.iter().fold(scenario.realtime(), |program, property| {
            program.args(["-X", property])
        });
        program.args(["--transactional-id", &format!("{name}-{id}")])
    };
    let progress = Progress::watch(
        &scenario.kafka,
        &scenario.input_topic(),
        &scenario.realtime_group(),
    )?;
    let first = instance("first").start()?;
    let second = instance("second").start()?;
    let third = instance("third").start()?;
    let load = start_load(&scenario, events, seed)?;
    progress.wait_all_move(LIMIT).context("three instances start")?;

    progress.wait_produced(events / 6, LIMIT)?;
    first.kill();
    progress.wait_all_move(LIMIT).context("one was killed")?;

    // It comes back under its old name, and takes its transactions over.
    let first = instance("first").start()?;
    progress.wait_produced(events * 2 / 6, LIMIT)?;
    second.signal(Signal::Stop)?;
    progress
        .wait_all_move(LIMIT)
        .context("one is frozen past its session")?;

    let fourth = instance("fourth").start()?;
    second.signal(Signal::Continue)?;
    progress.wait_produced(events * 4 / 6, LIMIT)?;
    third.terminate(LIMIT).context("one leaves")?;
    progress.wait_all_move(LIMIT).context("one has left")?;

    load.wait_exit(LIMIT)?.ok()?;
    for (name, process) in [("killed and started", first), ("frozen", second), ("new", fourth)] {
        leave(process).with_context(|| format!("the {name} instance"))?;
    }
    instance("last").arg("--exit-at-end").run_ok(LIMIT)?;

    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len() as u64, events);
    published_exactly(&scenario, &input)?;
    assert_eq!(progress.committed()?, progress.ends()?);
    Ok(())
}

fn start_load(scenario: &Scenario, events: u64, seed: u64) -> Result<Process> {
    let rate = (events / LOAD_SECONDS).to_string();
    let load: Program = scenario.generate(events, seed);
    load.args(["--bad-share", "0.02", "--rate", &rate]).start()
}

/// A clean end at any moment: what is open is committed or aborted, and the exit code is 0.
fn leave(process: Process) -> Result<()> {
    process.terminate(LIMIT).map(drop)
}
