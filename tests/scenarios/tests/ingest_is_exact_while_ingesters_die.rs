//! Three ingesters on 8 partitions are killed at seeded moments, one is frozen past its session, and the object store goes
//! away and comes back. Afterwards, by an independent reader and by the log itself: every input record is in `logins` or
//! `rejected` exactly once, now and at earlier versions (invariant 6), and every data commit begins where the one before
//! it ended (invariant 7).

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use loginlake_scenarios::exactness::{each_once, positions, rows, stored_exactly};
use loginlake_scenarios::kafka::{Record, SESSION_TIMEOUT_MS};
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
/// The load is produced over so many seconds, so that what happens to the ingesters happens under load.
const LOAD_SECONDS: u64 = 25;
/// SIGKILLs at moments of the seed.
const KILLS: usize = 6;
/// Versions at which the table is looked at, beside the newest.
const VERSIONS: usize = 4;
const LIMIT: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        every_record_is_in_the_lake_once,
    ])
}

fn every_record_is_in_the_lake_once() -> Result<()> {
    let events = events(EVENTS)?;
    let mut random = SmallRng::seed_from_u64(SEED);
    let scenario = Scenario::new("ingesters-die")?;
    scenario.create_topics_of(PARTITIONS)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut crew = (0..INGESTERS)
        .map(|_| ingester(&scenario).start())
        .collect::<Result<Vec<_>>>()?;
    let rate = (events / LOAD_SECONDS).to_string();
    let load = scenario
        .generate(events, SEED)
        .args(["--bad-share", "0.02", "--rate", &rate])
        .start()?;
    progress.wait_all_move(LIMIT).context("the ingesters start")?;

    // Killed at any moment of a commit, and replaced: in the first half of the load.
    let mut moments: Vec<u64> = (0..KILLS)
        .map(|_| random.random_range(events / 10..events / 2))
        .collect();
    moments.sort_unstable();
    for moment in moments {
        progress.wait_produced(moment, LIMIT)?;
        let victim = random.random_range(0..INGESTERS);
        crew.swap_remove(victim).kill();
        crew.push(ingester(&scenario).start()?);
    }

    let frozen = random.random_range(0..INGESTERS);
    crew[frozen].signal(Signal::Stop)?;
    progress
        .wait_all_move(LIMIT)
        .context("one is frozen past its session")?;
    crew[frozen].signal(Signal::Continue)?;

    progress.wait_produced(events * 3 / 4, LIMIT)?;
    scenario.minio.kill();
    for process in &mut crew {
        process.wait_says("trying again", LIMIT)?;
    }
    scenario.minio.start_again()?;
    progress.wait_all_move(LIMIT).context("the store is back")?;

    load.wait_exit(LIMIT)?.ok()?;
    for process in crew {
        process.terminate(LIMIT)?;
    }
    ingester(&scenario).arg("--exit-at-end").run_ok(LIMIT)?;

    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len() as u64, events);
    stored_exactly(&scenario, &input)?;
    commits_follow_each_other(&scenario, &progress.ends()?)?;
    earlier_versions_are_exact(&scenario, &input)
}

fn ingester(scenario: &Scenario) -> Program {
    let session = format!("session.timeout.ms={SESSION_TIMEOUT_MS}");
    scenario.ingest().args(["--max-batch-age", "500ms"]).args([
        "-X",
        &session,
        "-X",
        "heartbeat.interval.ms=500",
    ])
}

fn commits_follow_each_other(scenario: &Scenario, ends: &BTreeMap<i32, i64>) -> Result<()> {
    let commits = delta_log::read(scenario, "logins")?;
    assert_eq!(&delta_log::next_offsets(&commits)?, ends);
    Ok(())
}

/// At versions all over the history: below its offsets the table has each record once, and nothing above (invariant 6).
fn earlier_versions_are_exact(scenario: &Scenario, input: &[Record]) -> Result<()> {
    let commits = delta_log::read(scenario, "logins")?;
    let rejected = rows(scenario, "rejected", None)?;
    for number in 1..=VERSIONS {
        let upto = &commits[..commits.len() * number / (VERSIONS + 1)];
        let Some(last) = upto.last() else { continue };
        let next_offsets = delta_log::next_offsets(upto)?;
        let below =
            |(partition, offset): &(i32, i64)| next_offsets.get(partition).is_some_and(|next| offset < next);
        let mut found = rows(scenario, "logins", Some(last.version))?;
        found.extend(rejected.iter().filter(|position| below(position)));
        each_once(positions(input).filter(|position| below(position)), found)
            .with_context(|| format!("version {}", last.version))?;
    }
    Ok(())
}
