//! An ingester is killed at every step of a commit in turn, at the first and at a later passage, and another one goes on:
//! each time every input record is in the tables exactly once (invariant 6), and every data commit begins where the one
//! before it ended (invariant 7), by the log itself and by an independent reader. The steps are those that the binary
//! names, so that none is forgotten.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::exactness::{Position, positions};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::Program;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::side_lake::SideLake;
use loginlake_scenarios::{entries, runner};

/// Several batches (sizes are looked at every 1,024 records), each with rows of several dates and with rejected ones.
const EVENTS: u64 = 2_500;
const BATCH_ROWS: &str = "1000";
const PARTITIONS: i32 = 2;
const SEED: u64 = 91;
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        every_record_is_in_the_lake_once_wherever_the_ingester_died,
        a_step_that_fails_is_done_again,
    ])
}

fn every_record_is_in_the_lake_once_wherever_the_ingester_died() -> Result<()> {
    let scenario = Scenario::new("kill-every-step")?;
    let input = produce(&scenario)?;
    for step in steps(&scenario)? {
        let lake = SideLake::new(&scenario, &step);
        for passage in 1..=2 {
            let choice = format!("{step}:kill:{passage}");
            let died =
                dies(&ingest(&lake).env("LOGINLAKE_FAIL_POINT", &choice)).with_context(|| choice.clone())?;
            // What was done before the first death need not be done again, so the second may not come.
            ensure!(died || passage > 1, "{step} was not passed");
            lake.is_exact(&input).context(choice)?;
        }
        ingest(&lake).run_ok(LIMIT)?;
        let next_offsets = lake
            .is_exact(&input)
            .with_context(|| format!("after a kill at {step}"))?;
        ensure!(
            next_offsets == ends(&scenario)?,
            "after a kill at {step} the table ends at {next_offsets:?}"
        );
    }
    Ok(())
}

/// The same steps, when the store is away for a moment.
fn a_step_that_fails_is_done_again() -> Result<()> {
    let scenario = Scenario::new("fail-every-step")?;
    let input = produce(&scenario)?;
    for step in steps(&scenario)? {
        // The batch cannot be put together again once it is taken apart: the process ends, and the next one goes on.
        let lake = SideLake::new(&scenario, &step);
        let failing = ingest(&lake).env("LOGINLAKE_FAIL_POINT", format!("{step}:error"));
        let output = failing.run(LIMIT)?;
        ensure!(
            output.code == 0 || step == "batch-closed",
            "{step}: {}",
            output.stderr
        );
        if output.code != 0 {
            ingest(&lake).run_ok(LIMIT)?;
        }
        let next_offsets = lake
            .is_exact(&input)
            .with_context(|| format!("after a failure at {step}"))?;
        ensure!(
            next_offsets == ends(&scenario)?,
            "after a failure at {step} the table ends at {next_offsets:?}"
        );
    }
    Ok(())
}

fn produce(scenario: &Scenario) -> Result<Vec<Position>> {
    scenario.create_topics_of(PARTITIONS)?;
    scenario
        .generate(EVENTS, SEED)
        .args(["--bad-share", "0.1"])
        .run_ok(LIMIT)?;
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len() as u64, EVENTS);
    Ok(positions(&input).collect())
}

fn ends(scenario: &Scenario) -> Result<std::collections::BTreeMap<i32, i64>> {
    Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?.stable_ends()
}

fn ingest(lake: &SideLake<'_>) -> Program {
    lake.ingest()
        .args(["--exit-at-end", "--max-batch-rows", BATCH_ROWS])
}

/// All steps, as the binary lists them when it is asked for one that is not there.
fn steps(scenario: &Scenario) -> Result<Vec<String>> {
    let output = scenario.ingest().env("LOGINLAKE_FAIL_POINT", "list").run(LIMIT)?;
    let (_, list) = output
        .stderr
        .split_once("there are: ")
        .with_context(|| format!("a release build has no fail points: {}", output.stderr))?;
    let steps: Vec<String> = list.trim().split(", ").map(str::to_owned).collect();
    ensure!(steps.len() > 10, "few steps: {steps:?}");
    Ok(steps)
}

/// Whether SIGKILL ended it, rather than the end of the topic.
fn dies(program: &Program) -> Result<bool> {
    match program.run(LIMIT) {
        Err(error) if format!("{error:#}").contains("signal: 9") => Ok(true),
        Err(error) => Err(error),
        Ok(output) => output.ok().map(|_| false),
    }
}
