//! Records that are lost halt ingestion with code 3 and the flags that go on; only those flags do, they leave a commit in the
//! table's history, and what is not lost is in the tables exactly once: with records that retention removed, with a topic that
//! was deleted and made again, and with one that was made again under a running ingester.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::exactness::{Position, each_once, positions};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::Output;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::side_lake::SideLake;
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};

const PARTITIONS: i32 = 2;
const LIMIT: Duration = Duration::from_secs(90);
const FLAG: &str = "--accept-gap";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        what_retention_took_is_given_up_by_command_only,
        a_topic_that_was_made_again_is_gone_on_with_by_command_only,
        a_topic_that_is_made_again_under_an_ingester_does_not_get_into_the_table,
    ])
}

fn what_retention_took_is_given_up_by_command_only() -> Result<()> {
    let scenario = Scenario::new("gap-retention")?;
    scenario.create_topics_of(PARTITIONS)?;
    let topic = scenario.input_topic();
    let lake = SideLake::new(&scenario, "lake");
    produce(&scenario, 400, 1)?;
    lake.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    let stood = lake.next_offsets()?[&0];
    produce(&scenario, 400, 2)?;
    let mut wanted = input(&scenario)?;

    // Twenty records that nobody has read.
    let low = stood + 20;
    scenario.kafka.delete_records(&topic, 0, low)?;
    wanted.retain(|(partition, offset)| *partition != 0 || !(stood..low).contains(offset));
    let before = lake.commits("logins")?;

    let refused = lake.ingest().arg("--exit-at-end").run(LIMIT)?;
    let flags = flags_of(&refused)?;
    assert_eq!(flags, [FLAG.to_owned(), format!("0:{stood}-{low}")]);
    for wrong in [
        format!("0:{}-{low}", stood - 1),
        format!("0:{stood}-{}", low - 1),
        format!("0:{stood}-1000000"),
        format!("1:{stood}-{low}"),
        "7:0-1".to_owned(),
    ] {
        let output = lake.ingest().args(["--exit-at-end", FLAG, &wrong]).run(LIMIT)?;
        assert_eq!(output.code, 3, "{wrong}: {}", output.stderr);
    }
    let output = lake.ingest().args([FLAG, "0:5"]).run(LIMIT)?;
    assert_eq!(output.code, 2, "{}", output.stderr);
    assert_eq!(lake.commits("logins")?, before, "nothing was committed");

    lake.ingest().arg("--exit-at-end").args(&flags).run_ok(LIMIT)?;
    assert_eq!(lake.is_exact(&wanted)?, ends(&scenario)?);
    let gaps: Vec<_> = lake
        .commits("logins")?
        .into_iter()
        .filter(|commit| !commit.gaps.is_empty())
        .map(|commit| (commit.operation, commit.gaps, commit.adds))
        .collect();
    assert_eq!(
        gaps,
        [("ACCEPT GAP".to_owned(), [(0, (stood, low))].into(), 0)],
        "one commit without rows"
    );
    let history = scenario.olap_on("history", &lake.uri()).run_ok(LIMIT)?;
    let line = history.stdout.lines().find(|line| line.contains("ACCEPT GAP"));
    let line = line.with_context(|| history.stdout.clone())?;
    ensure!(line.contains(&format!("gap 0:{stood}-{low} by ")), "{line}");

    let again = lake.ingest().arg("--exit-at-end").args(&flags).run(LIMIT)?;
    assert_eq!(again.code, 3, "{}", again.stderr);
    lake.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    Ok(())
}

fn a_topic_that_was_made_again_is_gone_on_with_by_command_only() -> Result<()> {
    let scenario = Scenario::new("gap-new-topic")?;
    scenario.create_topics_of(PARTITIONS)?;
    let topic = scenario.input_topic();
    let lake = SideLake::new(&scenario, "lake");
    produce(&scenario, 300, 3)?;
    lake.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    let old_rows = all_rows(&lake)?;
    let old = lake.next_offsets()?;

    scenario.kafka.delete_topic(&topic)?;
    scenario.kafka.create_topic(&topic, PARTITIONS)?;
    // More than before: by offsets alone it could be the old one.
    produce(&scenario, 500, 4)?;
    let refused = lake.ingest().arg("--exit-at-end").run(LIMIT)?;
    let flags = flags_of(&refused)?;
    let stated: Vec<String> = old.iter().map(|(p, next)| format!("{p}:{next}-0")).collect();
    assert_eq!(flags, [FLAG, &stated[0], FLAG, &stated[1]]);
    let half = lake.ingest().arg("--exit-at-end").args(&flags[..2]).run(LIMIT)?;
    assert_eq!(half.code, 3, "{}", half.stderr);
    assert_eq!(all_rows(&lake)?, old_rows, "nothing was read");

    lake.ingest().arg("--exit-at-end").args(&flags).run_ok(LIMIT)?;
    assert_eq!(lake.next_offsets()?, ends(&scenario)?);
    // Positions of both topics are alike: those that were there before are taken away once.
    let mut new_rows = all_rows(&lake)?;
    for position in &old_rows {
        let index = new_rows
            .binary_search(position)
            .map_err(|_| anyhow::anyhow!("{position:?} of the old topic is gone"))?;
        new_rows.remove(index);
    }
    each_once(input(&scenario)?, new_rows)
}

fn a_topic_that_is_made_again_under_an_ingester_does_not_get_into_the_table() -> Result<()> {
    let scenario = Scenario::new("gap-under-way")?;
    scenario.create_topics_of(PARTITIONS)?;
    let topic = scenario.input_topic();
    let lake = SideLake::new(&scenario, "lake");
    produce(&scenario, 200, 5)?;
    let old = input(&scenario)?;
    let fast = [
        "--max-batch-age",
        "200ms",
        "-X",
        "topic.metadata.refresh.interval.ms=500",
    ];
    let mut ingester = lake.ingest().args(fast).start()?;
    let ends = ends(&scenario)?;
    ingester.wait_until("the table to have all", LIMIT, || {
        let stands = lake.next_offsets().unwrap_or_default();
        Ok((stands == ends).then_some(()))
    })?;
    scenario.kafka.delete_topic(&topic)?;
    scenario.kafka.create_topic(&topic, PARTITIONS)?;
    produce(&scenario, 600, 6)?;
    let output = ingester.wait_exit(LIMIT)?;
    assert_eq!(output.code, 3, "{}", output.stderr);
    ensure!(
        output.stderr.contains("was deleted and made again"),
        "{}",
        output.stderr
    );
    assert_eq!(lake.is_exact(&old)?, ends, "nothing of the new topic");
    Ok(())
}

fn produce(scenario: &Scenario, count: u64, seed: u64) -> Result<()> {
    // A topic that was just made may be known to one side only.
    wait_for("the topic", LIMIT, || {
        let known = scenario.kafka.partitions(&scenario.input_topic())?;
        Ok((known == PARTITIONS as usize).then_some(()))
    })?;
    let producer = scenario.generate(count, seed);
    producer.args(["--bad-share", "0.05"]).run_ok(LIMIT).map(drop)
}

fn input(scenario: &Scenario) -> Result<Vec<Position>> {
    let records = scenario.kafka.read_committed(&scenario.input_topic())?;
    Ok(positions(&records).collect())
}

fn ends(scenario: &Scenario) -> Result<std::collections::BTreeMap<i32, i64>> {
    Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?.stable_ends()
}

/// The rows of both tables, sorted, repeats included.
fn all_rows(lake: &SideLake<'_>) -> Result<Vec<Position>> {
    let mut rows = lake.rows("logins")?;
    rows.extend(lake.rows("rejected")?);
    rows.sort_unstable();
    Ok(rows)
}

/// The flags that a refusal names.
fn flags_of(refused: &Output) -> Result<Vec<String>> {
    ensure!(
        refused.code == 3,
        "it ended with {}: {}",
        refused.code,
        refused.stderr
    );
    let error = refused
        .stderr
        .lines()
        .find(|line| line.starts_with("error:"))
        .context("no error line")?;
    let words: Vec<&str> = error.split_whitespace().collect();
    let begin = words
        .iter()
        .position(|word| *word == FLAG)
        .with_context(|| format!("no {FLAG}: {error}"))?;
    let flags: Vec<String> = words[begin..].iter().map(|word| (*word).to_owned()).collect();
    let values: BTreeSet<&String> = flags.iter().skip(1).step_by(2).collect();
    ensure!(values.len() * 2 == flags.len(), "not only flags: {error}");
    Ok(flags)
}
