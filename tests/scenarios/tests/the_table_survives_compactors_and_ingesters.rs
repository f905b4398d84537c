//! Two compactions at once, again and again, beside two ingesters: each either replaces files or is superseded, and at no
//! version is a row lost or there twice (invariants 6, 7 and 8).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use loginlake_scenarios::delta_log::{self, Commit, DeltaLog};
use loginlake_scenarios::exactness::{stored_exactly, stored_exactly_at_versions};
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, events};
use loginlake_scenarios::{entries, runner};

const EVENTS: u64 = 60_000;
const SEED: u64 = 31;
const PARTITIONS: i32 = 4;
const PHASES: u64 = 5;
const LIMIT: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        two_compactions_beside_two_ingesters_keep_every_row,
    ])
}

fn two_compactions_beside_two_ingesters_keep_every_row() -> Result<()> {
    let scenario = Scenario::new("compactors")?;
    scenario.create_topics_of(PARTITIONS)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let mut load = Load::of(&scenario, &progress, events(EVENTS)?, PHASES, SEED);
    let ingester = || scenario.ingest().args(["--max-batch-age", "300ms"]);
    let ingesters = [ingester().start()?, ingester().start()?];
    for _ in 0..PHASES {
        load.phase("two compactions", || two_compactions(&scenario))?;
    }
    log.wait_stored(&progress.ends()?, LIMIT)?;
    for process in ingesters {
        process.terminate(LIMIT)?;
    }
    // Nobody else moves the table now: both plan from the same version.
    two_compactions(&scenario)?;

    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len() as u64, load.events());
    stored_exactly(&scenario, &input)?;
    let commits = log.read_on()?;
    assert_eq!(delta_log::next_offsets(commits)?, progress.ends()?);
    stored_exactly_at_versions(&scenario, commits, &input)?;
    let compactions: Vec<&Commit> = commits.iter().filter(|commit| commit.removes > 0).collect();
    ensure!(!compactions.is_empty(), "nothing was compacted");
    for commit in compactions {
        ensure!(
            !commit.changes_data,
            "a compaction claims to change rows: {commit:?}"
        );
    }
    Ok(())
}

/// Both at once; whoever comes second is superseded, which is no failure.
fn two_compactions(scenario: &Scenario) -> Result<()> {
    let compaction = || scenario.olap("compact").arg("--all").start();
    let (one, other) = (compaction()?, compaction()?);
    one.wait_exit(LIMIT)?.ok()?;
    other.wait_exit(LIMIT)?.ok()?;
    Ok(())
}
