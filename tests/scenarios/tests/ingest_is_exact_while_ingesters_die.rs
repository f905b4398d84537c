//! Three ingesters on 8 partitions are killed at seeded moments, one is frozen past its session, and the object store goes
//! away and comes back. Afterwards, by an independent reader and by the log itself: every input record is in `logins` or
//! `rejected` exactly once, now and at earlier versions (invariant 6), and every data commit begins where the one before
//! it ended (invariant 7).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use loginlake_scenarios::delta_log::DeltaLog;
use loginlake_scenarios::exactness::{stored_exactly, stored_exactly_at_versions};
use loginlake_scenarios::kafka::SESSION_TIMEOUT_MS;
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Program, Signal};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, events};
use loginlake_scenarios::{delta_log, entries, runner};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const EVENTS: u64 = 80_000;
const SEED: u64 = 21;
const PARTITIONS: i32 = 8;
const INGESTERS: usize = 3;
/// SIGKILLs at moments of the seed, one in a phase of the load.
const KILLS: u64 = 6;
const PHASES: u64 = KILLS + 4;
const LIMIT: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        every_record_is_in_the_lake_once,
    ])
}

fn every_record_is_in_the_lake_once() -> Result<()> {
    let mut random = SmallRng::seed_from_u64(SEED);
    let scenario = Scenario::new("ingesters-die")?;
    scenario.create_topics_of(PARTITIONS)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let mut load = Load::of(&scenario, &progress, events(EVENTS)?, PHASES, SEED);
    let mut crew = (0..INGESTERS)
        .map(|_| ingester(&scenario).start())
        .collect::<Result<Vec<_>>>()?;

    for kill in 0..KILLS {
        // At any moment of a commit; its place is taken at once.
        load.phase_at(random.random_range(0.1..0.9), "one is killed", || {
            crew.swap_remove(random.random_range(0..INGESTERS)).kill();
            crew.push(ingester(&scenario).start()?);
            Ok(())
        })?;
        log.wait_stored(&progress.ends()?, LIMIT)
            .with_context(|| format!("after kill {kill}"))?;
    }

    let frozen = random.random_range(0..INGESTERS);
    load.phase("one is frozen", || crew[frozen].signal(Signal::Stop))?;
    log.wait_stored(&progress.ends()?, LIMIT)
        .context("one is frozen past its session")?;
    load.phase("the frozen one goes on", || crew[frozen].signal(Signal::Continue))?;
    log.wait_stored(&progress.ends()?, LIMIT)
        .context("the frozen one went on")?;

    load.phase("the store is away", || {
        scenario.minio.kill();
        for process in &mut crew {
            process.wait_says("trying again", LIMIT)?;
        }
        scenario.minio.start_again()
    })?;
    log.wait_stored(&progress.ends()?, LIMIT)
        .context("the store is back")?;

    load.phase("all leave", || {
        for process in crew.drain(..) {
            process.terminate(LIMIT)?;
        }
        Ok(())
    })?;
    ingester(&scenario).arg("--exit-at-end").run_ok(LIMIT)?;

    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len() as u64, load.events());
    stored_exactly(&scenario, &input)?;
    let commits = log.read_on()?;
    assert_eq!(delta_log::next_offsets(commits)?, progress.ends()?);
    stored_exactly_at_versions(&scenario, commits, &input)
}

fn ingester(scenario: &Scenario) -> Program {
    let session = format!("session.timeout.ms={SESSION_TIMEOUT_MS}");
    // Frozen past its session means past the longest time between two polls, too.
    let poll = format!("max.poll.interval.ms={SESSION_TIMEOUT_MS}");
    scenario.ingest().args(["--max-batch-age", "500ms"]).args([
        "-X",
        &session,
        "-X",
        "heartbeat.interval.ms=500",
        "-X",
        &poll,
    ])
}
