//! Two ingesters write to the object store through a proxy that loses requests to write a table's log, or does them and loses
//! the reply, or answers 503 although they are done; then the store itself goes away and comes back. Every record is in the
//! tables exactly once (invariant 6), and every data commit begins where the one before it ended (invariant 7).

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use loginlake_scenarios::delta_log::{self, DeltaLog};
use loginlake_scenarios::exactness::{stored_exactly, stored_exactly_at_versions};
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, events};
use loginlake_scenarios::trouble::{Proxy, Weather};
use loginlake_scenarios::{entries, runner};

const EVENTS: u64 = 20_000;
const SEED: u64 = 33;
const PARTITIONS: i32 = 4;
const PHASES: u64 = 2;
const LIMIT: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        every_record_is_in_the_lake_once_whatever_the_store_says,
    ])
}

fn every_record_is_in_the_lake_once_whatever_the_store_says() -> Result<()> {
    let scenario = Scenario::new("lost-replies")?;
    scenario.create_topics_of(PARTITIONS)?;
    let proxy = Proxy::before(scenario.minio.address(), SEED)?;
    proxy.set(Weather::LosesCommits);
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let mut load = Load::of(&scenario, &progress, events(EVENTS)?, PHASES, SEED);
    let ingester = || {
        let program = scenario.ingest().env("AWS_ENDPOINT_URL", proxy.url());
        program.args(["--max-batch-age", "300ms"])
    };
    // A store that fails at the very start ends a process: the tables are made past the proxy.
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    let mut crew = [ingester().start()?, ingester().start()?];
    load.phase("replies are lost", || Ok(()))?;
    let ends = progress.ends()?;
    crew[0].wait_until("all to be stored", LIMIT, || log.has(&ends))?;
    load.phase("the store is away, too", || {
        scenario.minio.kill();
        scenario.minio.start_again()
    })?;
    let ends = progress.ends()?;
    crew[0].wait_until("all to be stored", LIMIT, || log.has(&ends))?;
    for process in crew {
        process.terminate(LIMIT)?;
    }

    let losses = proxy.losses();
    for (what, count) in [
        ("replies lost", &losses.replies_lost),
        ("answered 503", &losses.answered_503),
        ("requests lost", &losses.requests_lost),
    ] {
        let count = count.load(Ordering::SeqCst);
        ensure!(count >= 3, "{what}: {count} only");
    }
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len() as u64, load.events());
    stored_exactly(&scenario, &input)?;
    let commits = log.read_on()?;
    assert_eq!(delta_log::next_offsets(commits)?, progress.ends()?);
    stored_exactly_at_versions(&scenario, commits, &input)
}
