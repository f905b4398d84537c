//! An ingester is killed at every fail point in turn, or the step there fails, and another one goes on: each time every input
//! record is in the tables exactly once (invariant 6), and every data commit begins where the one before it ended
//! (invariant 7), by the log itself and by an independent reader. The fail points are those that the binary names, so that
//! none is forgotten: those that every commit passes, those of a batch that is fenced, of a gap that is accepted, and of a
//! checkpoint, which may also lack its `_last_checkpoint`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::exactness::{Position, positions};
use loginlake_scenarios::fail_points::{self, FailPoint, Occasion, died};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Program, Signal};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::side_lake::SideLake;
use loginlake_scenarios::{entries, http, runner};

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
        one_that_is_fenced_may_die_or_fail,
        one_that_accepts_a_gap_may_die_or_fail,
        a_checkpoint_without_its_pointer_is_gone_on_with,
    ])
}

fn every_record_is_in_the_lake_once_wherever_the_ingester_died() -> Result<()> {
    let scenario = Scenario::new("kill-every-step")?;
    let input = produce(&scenario, EVENTS, SEED)?;
    for step in of_every_commit(&scenario)? {
        let lake = SideLake::new(&scenario, &step.name);
        for passage in 1..=2 {
            let what = format!("{} passed {passage} times", step.name);
            let died = died(step.kills(ingest(&lake), passage).start()?, LIMIT).context(what.clone())?;
            // What was done before the first death need not be done again, so the second may not come.
            ensure!(died || passage > 1, "{step:?} was not passed");
            lake.is_exact(&input).context(what)?;
        }
        goes_on(&scenario, &lake, &input).with_context(|| format!("after a kill at {step:?}"))?;
    }
    Ok(())
}

/// The same steps, when the store is away for a moment.
fn a_step_that_fails_is_done_again() -> Result<()> {
    let scenario = Scenario::new("fail-every-step")?;
    let input = produce(&scenario, EVENTS, SEED)?;
    for step in of_every_commit(&scenario)? {
        let lake = SideLake::new(&scenario, &step.name);
        let output = step.fails(ingest(&lake)).run(LIMIT)?;
        // The batch cannot be put together again once it is taken apart: the process ends, and the next one goes on.
        ensure!(
            output.code == 0 || step.name == "batch-closed",
            "{step:?}: {}",
            output.stderr
        );
        // A checkpoint that fails is no commit that fails.
        let warned = output.stderr.contains("delta checkpoint not written");
        ensure!(
            warned == step.name.ends_with("-checkpoint"),
            "{step:?}: {}",
            output.stderr
        );
        goes_on(&scenario, &lake, &input).with_context(|| format!("after a failure at {step:?}"))?;
    }
    Ok(())
}

/// Two groups write to one lake; the one that comes second has read the same records before.
fn one_that_is_fenced_may_die_or_fail() -> Result<()> {
    let scenario = Scenario::new("kill-fenced")?;
    let input = produce(&scenario, EVENTS, SEED)?;
    for step in of(&scenario, Occasion::Fenced)? {
        for is_killed in [true, false] {
            let what = format!("{}-{is_killed}", step.name);
            let lake = SideLake::new(&scenario, &what);
            let port = free_port()?;
            let page = http::loopback(port);
            let second = lake.ingest().env("LOGINLAKE_HTTP", page.to_string());
            let second = second.args(["--max-batch-age", "1h"]);
            let second = match is_killed {
                true => step.kills(second, 1),
                false => step.fails(second),
            };
            let mut second = second.start()?;
            second.wait_until("it to hold rows", LIMIT, || {
                let bytes = http::metric(page, "ingest_buffered_bytes").unwrap_or(0.0);
                Ok((bytes > 0.0).then_some(()))
            })?;
            ingest(&lake).run_ok(LIMIT)?;
            second.signal(Signal::Terminate)?;
            assert_eq!(died(second, LIMIT)?, is_killed, "{what}");
            goes_on(&scenario, &lake, &input).context(what)?;
        }
    }
    Ok(())
}

fn one_that_accepts_a_gap_may_die_or_fail() -> Result<()> {
    const LOST: i64 = 20;
    for (number, is_killed) in [true, false].into_iter().enumerate() {
        let lister = Scenario::new(&format!("kill-gap-{number}"))?;
        for step in of(&lister, Occasion::Gap)? {
            let scenario = Scenario::new(&format!("{}-{number}", step.name))?;
            let lake = SideLake::new(&scenario, "lake");
            produce(&scenario, 400, SEED)?;
            ingest(&lake).run_ok(LIMIT)?;
            let stood = lake.next_offsets()?[&0];
            let mut input = produce_more(&scenario, 400, SEED + 1)?;
            let low = stood + LOST;
            scenario.kafka.delete_records(&scenario.input_topic(), 0, low)?;
            input.retain(|(partition, offset)| *partition != 0 || !(stood..low).contains(offset));

            let flags = ["--accept-gap", &format!("0:{stood}-{low}")];
            let is_done = step.name == "after-gap-commit";
            match is_killed {
                true => ensure!(
                    died(step.kills(ingest(&lake).args(flags), 1).start()?, LIMIT)?,
                    "{step:?} was not passed"
                ),
                false => {
                    let output = step.fails(ingest(&lake).args(flags)).run(LIMIT)?;
                    assert_eq!(output.code, 1, "{step:?}: {}", output.stderr);
                }
            }
            lake.is_exact(&input)?;
            // The same command again does it, or says that it is not there any more.
            let again = ingest(&lake).args(flags).run(LIMIT)?;
            assert_eq!(
                again.code,
                if is_done { 3 } else { 0 },
                "{step:?}: {}",
                again.stderr
            );
            goes_on(&scenario, &lake, &input).with_context(|| format!("{step:?}"))?;
            let gaps = lake.commits("logins")?;
            let gaps = gaps.iter().filter(|commit| !commit.gaps.is_empty()).count();
            assert_eq!(gaps, 1, "{step:?}: accepted once");
        }
    }
    Ok(())
}

/// What a death between a checkpoint and `_last_checkpoint` leaves.
fn a_checkpoint_without_its_pointer_is_gone_on_with() -> Result<()> {
    let scenario = Scenario::new("checkpoint-no-pointer")?;
    let input = produce(&scenario, EVENTS, SEED)?;
    let steps = of_every_commit(&scenario)?;
    let step = steps.iter().find(|step| step.name == "after-checkpoint");
    let step = step.context("there is no after-checkpoint")?;
    let lake = SideLake::new(&scenario, "lake");
    for passage in 1..=4 {
        died(step.kills(ingest(&lake), passage).start()?, LIMIT)?;
        let names = scenario.minio.list(&scenario.bucket())?;
        let pointers: Vec<_> = names
            .iter()
            .filter(|name| name.ends_with("_last_checkpoint"))
            .collect();
        ensure!(!pointers.is_empty(), "no checkpoint: {names:?}");
        for pointer in pointers {
            scenario.minio.delete(&scenario.bucket(), pointer)?;
        }
        lake.is_exact(&input)?;
    }
    goes_on(&scenario, &lake, &input)
}

/// Another ingester brings the table to the end of the topic.
fn goes_on(scenario: &Scenario, lake: &SideLake<'_>, input: &[Position]) -> Result<()> {
    ingest(lake).run_ok(LIMIT)?;
    let next_offsets = lake.is_exact(input)?;
    ensure!(
        next_offsets == ends(scenario)?,
        "the table ends at {next_offsets:?}"
    );
    Ok(())
}

fn produce(scenario: &Scenario, count: u64, seed: u64) -> Result<Vec<Position>> {
    scenario.create_topics_of(PARTITIONS)?;
    let input = produce_more(scenario, count, seed)?;
    assert_eq!(input.len() as u64, count);
    Ok(input)
}

/// Returns all that is in the topic then.
fn produce_more(scenario: &Scenario, count: u64, seed: u64) -> Result<Vec<Position>> {
    let producer = scenario.generate(count, seed);
    producer.args(["--bad-share", "0.1"]).run_ok(LIMIT)?;
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    Ok(positions(&input).collect())
}

fn ends(scenario: &Scenario) -> Result<BTreeMap<i32, i64>> {
    Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?.stable_ends()
}

fn ingest(lake: &SideLake<'_>) -> Program {
    lake.ingest()
        .args(["--exit-at-end", "--max-batch-rows", BATCH_ROWS])
}

/// Those that are passed on the way of a new lake to its end.
fn of_every_commit(scenario: &Scenario) -> Result<Vec<FailPoint>> {
    let mut found = of(scenario, Occasion::Bootstrap)?;
    found.extend(of(scenario, Occasion::Commit)?);
    Ok(found)
}

fn of(scenario: &Scenario, occasion: Occasion) -> Result<Vec<FailPoint>> {
    let all = fail_points::all(scenario, LIMIT)?.into_iter();
    let found: Vec<_> = all.filter(|point| point.occasion == occasion).collect();
    ensure!(!found.is_empty(), "no fail point of {occasion:?}");
    Ok(found)
}
