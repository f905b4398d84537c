//! Erasure, compaction and vacuum held at barriers, or killed at each step, beside running ingesters: the rows stay exact,
//! those of an erased user stay away (invariants 6, 8 and 9), and a second maintainer takes over from a killed one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::audits::{beside_all, clean};
use loginlake_scenarios::delta_log::DeltaLog;
use loginlake_scenarios::exactness::stored_exactly;
use loginlake_scenarios::fail_points::died;
use loginlake_scenarios::kafka::Record;
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Program};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};

const EVENTS: u64 = 12_000;
const SEED: u64 = 71;
const PARTITIONS: i32 = 3;
const PHASES: u64 = 2;
const LIMIT: Duration = Duration::from_secs(240);
/// Every place where compaction can be made to die.
const COMPACTION: [&str; 3] = [
    "maintenance-compaction-before-rewrite",
    "maintenance-compaction-before-commit",
    "maintenance-compaction-after-commit",
];
/// Every place where erasure can.
const ERASURE: [&str; 3] = [
    "maintenance-erase-before-rewrite",
    "maintenance-erase-before-commit",
    "maintenance-erase-after-commit",
];

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        two_compactors_and_an_eraser_at_barriers_keep_every_other_row,
        maintenance_survives_a_kill_at_every_step,
        vacuum_leaves_the_file_of_a_paused_writer,
        a_second_maintainer_takes_over,
    ])
}

/// The independent reader finds each of these records once, and `olap audit` nothing wrong, beside the topic and a speed path that
/// has run to its end.
fn right_by_both_readers(scenario: &Scenario, wanted: &[Record]) -> Result<()> {
    stored_exactly(scenario, wanted)?;
    scenario.realtime().arg("--exit-at-end").run_ok(LIMIT)?;
    clean(&beside_all(scenario, &scenario.lake())).map(drop)
}

fn at(program: Program, point: &str, action: &str) -> Program {
    program.env("LOGINLAKE_FAIL_POINT", format!("{point}:{action}"))
}

/// A process that waits at a fail point until it is let go.
struct Held {
    process: Process,
    barrier: PathBuf,
}

impl Held {
    fn start(scenario: &Scenario, program: Program, point: &str, name: &str) -> Result<Held> {
        let barrier = scenario.dir().join(format!("{name}.barrier"));
        let process = at(program, point, &format!("pause:{}", barrier.display())).start()?;
        let reached = barrier.with_extension("reached");
        wait_for(&format!("{name} at {point}"), LIMIT, || {
            Ok(reached.exists().then_some(()))
        })?;
        Ok(Held { process, barrier })
    }

    fn go_on(self) -> Result<()> {
        std::fs::write(&self.barrier, [])?;
        self.process.wait_exit(LIMIT)?.ok().map(drop)
    }
}

/// The user of a good record.
fn user_of(record: &Record) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(record.payload.as_ref()?).ok()?;
    let user = value["user_id"].as_str()?;
    (user.len() == 36).then(|| user.to_ascii_lowercase())
}

fn names(record: &Record, user: &str) -> bool {
    let text = String::from_utf8_lossy(record.payload.as_deref().unwrap_or_default()).to_ascii_lowercase();
    text.contains(user)
}

fn ingester(scenario: &Scenario) -> Program {
    scenario.ingest().args(["--max-batch-age", "300ms"])
}

fn compaction(scenario: &Scenario) -> Program {
    scenario.olap("compact").arg("--all")
}

fn erasure(scenario: &Scenario, user: &str) -> Program {
    scenario.olap("erase").args(["--user", user])
}

fn two_compactors_and_an_eraser_at_barriers_keep_every_other_row() -> Result<()> {
    let scenario = Scenario::new("erasure-at-barriers")?;
    scenario.create_topics_of(PARTITIONS)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let mut load = Load::of(&scenario, &progress, EVENTS, PHASES, SEED);
    let ingesters = [ingester(&scenario).start()?, ingester(&scenario).start()?];
    load.phase("nothing else", || Ok(()))?;
    log.wait_stored(&progress.ends()?, LIMIT)?;
    let so_far = scenario.kafka.read_committed(&scenario.input_topic())?;
    let user = so_far.iter().find_map(user_of).context("no good record")?;
    load.phase("both compactions ready, then the erasure", || {
        let point = "maintenance-compaction-before-commit";
        let one = Held::start(&scenario, compaction(&scenario), point, "one")?;
        let other = Held::start(&scenario, compaction(&scenario), point, "other")?;
        let point = "maintenance-erase-before-commit";
        let eraser = Held::start(&scenario, erasure(&scenario, &user), point, "eraser")?;
        // The compaction takes the files away under the erasure, which looks again and finds the rows in the new ones.
        one.go_on()?;
        eraser.go_on()?;
        other.go_on()
    })?;
    log.wait_stored(&progress.ends()?, LIMIT)?;
    for process in ingesters {
        process.terminate(LIMIT)?;
    }
    // What the second phase brought of the same user is new data.
    erasure(&scenario, &user).run_ok(LIMIT)?;
    compaction(&scenario).run_ok(LIMIT)?;
    let mut input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len() as u64, load.events());
    let all = input.len();
    input.retain(|record| !names(record, &user));
    ensure!(input.len() < all, "nothing was to be erased");
    right_by_both_readers(&scenario, &input)
}

fn maintenance_survives_a_kill_at_every_step() -> Result<()> {
    let scenario = Scenario::new("maintenance-kills")?;
    scenario.create_topics_of(PARTITIONS)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let rounds = COMPACTION.len().max(ERASURE.len()) as u64;
    let mut load = Load::of(&scenario, &progress, EVENTS, 2 * rounds, SEED + 10).in_short_phases();
    let running = ingester(&scenario).start()?;
    let mut users = Vec::new();
    for (compacting, erasing) in COMPACTION.into_iter().zip(ERASURE) {
        // Two commits, so that there are files to be merged.
        for _ in 0..2 {
            load.phase("nothing else", || Ok(()))?;
            log.wait_stored(&progress.ends()?, LIMIT)?;
        }
        let input = scenario.kafka.read_committed(&scenario.input_topic())?;
        let new = |record: &Record| user_of(record).filter(|user| !users.contains(user));
        let user = input.iter().rev().find_map(new).context("no user left")?;
        let killed = at(erasure(&scenario, &user), erasing, "kill").start()?;
        ensure!(died(killed, LIMIT)?, "{erasing} was not passed");
        let killed = at(compaction(&scenario), compacting, "kill").start()?;
        ensure!(died(killed, LIMIT)?, "{compacting} was not passed");
        erasure(&scenario, &user).run_ok(LIMIT)?;
        users.push(user);
        let mut left = input;
        left.retain(|record| !users.iter().any(|user| names(record, user)));
        right_by_both_readers(&scenario, &left)
            .with_context(|| format!("after {erasing} and {compacting}"))?;
    }
    running.terminate(LIMIT).map(drop)
}

fn vacuum_leaves_the_file_of_a_paused_writer() -> Result<()> {
    let scenario = Scenario::new("vacuum-beside-a-writer")?;
    scenario.create_topics_of(PARTITIONS)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    scenario.generate(2_000, SEED + 20).run_ok(LIMIT)?;
    let ingest = ingester(&scenario).arg("--exit-at-end");
    let writer = Held::start(&scenario, ingest, "before-logins-commit", "writer")?;
    let vacuum = scenario.olap("vacuum").args(["--delete", "--retention", "1h"]);
    let output = vacuum.run_ok(LIMIT)?;
    ensure!(
        output.stdout.contains("younger than the retention"),
        "vacuum did not see the file that is not committed yet: {}",
        output.stdout
    );
    writer.go_on()?;
    log.wait_stored(&progress.ends()?, LIMIT)?;
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    right_by_both_readers(&scenario, &input)
}

fn a_second_maintainer_takes_over() -> Result<()> {
    let scenario = Scenario::new("maintainers")?;
    scenario.create_topics_of(PARTITIONS)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let mut load = Load::of(&scenario, &progress, EVENTS, PHASES, SEED + 30);
    let running = ingester(&scenario).start()?;
    let maintainer = || {
        scenario.olap("maintain").args([
            "--http",
            "none",
            "--lease",
            "3s",
            "--compact-every",
            "1s",
            "--refresh-every",
            "1s",
            "--vacuum-every",
            "2s",
        ])
    };
    let mut first = maintainer().start()?;
    first.wait_has_said("maintaining the lake", LIMIT)?;
    let mut second = maintainer().start()?;
    second.wait_has_said("another process maintains the lake", LIMIT)?;
    load.phase("the first is killed", || {
        first.wait_says("job done", LIMIT)?;
        first.kill();
        second.wait_has_said("maintaining the lake", LIMIT)
    })?;
    load.phase("the second works", || second.wait_says("job done", LIMIT))?;
    log.wait_stored(&progress.ends()?, LIMIT)?;
    running.terminate(LIMIT)?;
    let once = scenario
        .olap("maintain")
        .args(["--once", "--http", "none", "--lease", "2s"]);
    let refused = once.run(LIMIT)?;
    ensure!(
        refused.code == 1,
        "--once beside a maintainer: {} {}",
        refused.code,
        refused.stderr
    );
    second.terminate(LIMIT)?;
    once.run_ok(LIMIT)?;
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    right_by_both_readers(&scenario, &input)
}
