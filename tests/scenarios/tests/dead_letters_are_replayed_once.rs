//! Dead letters are listed, shown and put back. A replay that dies in the middle and is run again puts each record back
//! once, with the position that it had at first; and nothing loops: at the attempt limit records stay.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use loginlake_scenarios::exactness::{Position, each_once};
use loginlake_scenarios::kafka::Record;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

/// Half of them bad: several transactions of a replay.
const EVENTS: u64 = 12_000;
const LIMIT: Duration = Duration::from_secs(180);
/// The attempts that a replay allows unless told otherwise.
const MAX_ATTEMPTS: usize = 3;

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio]; a_replay_that_is_killed_puts_each_record_back_once])
}

fn a_replay_that_is_killed_puts_each_record_back_once() -> Result<()> {
    let scenario = Scenario::new("dead-letters")?;
    scenario.create_topics()?;
    scenario
        .generate(EVENTS, 41)
        .args(["--bad-share", "0.5"])
        .run_ok(LIMIT)?;
    run_to_the_end(&scenario)?;
    let letters = letters(&scenario)?;
    let reasons = |wanted: &str| {
        letters
            .iter()
            .filter(|letter| header(letter, "error.reason") == wanted)
            .count()
    };
    assert!(reasons("BAD_IP") > 0);

    assert_eq!(listed(&scenario, &[])?.len(), letters.len());
    assert_eq!(listed(&scenario, &["--since", "1h"])?.len(), letters.len());
    assert_eq!(listed(&scenario, &["--until", "1h"])?.len(), 0);
    let bad_ips = listed(&scenario, &["--reason", "BAD_IP"])?;
    assert_eq!(bad_ips.len(), reasons("BAD_IP"));
    assert!(bad_ips.iter().all(|letter| letter["reason"] == "BAD_IP"));
    let place = format!("{}:{}", letters[0].partition, letters[0].offset);
    let shown = scenario.dead_letters("show").arg(&place).run_ok(LIMIT)?.stdout;
    assert!(shown.contains(header(&letters[0], "error.reason")), "{shown}");

    let input = Progress::watch(
        &scenario.kafka,
        &scenario.input_topic(),
        &scenario.realtime_group(),
    )?;
    let before = input.ends()?;
    let dry = scenario.dead_letters("replay").arg("--dry-run").run_ok(LIMIT)?;
    assert_eq!(counted(&dry.stdout, "would be replayed")?, letters.len());
    assert_eq!(input.ends()?, before, "a dry run writes nothing");

    let replay = || scenario.dead_letters("replay").arg("--yes");
    let mut killed = replay().start()?;
    killed.wait_until("records to be put back", LIMIT, || {
        Ok((input.ends()? != before).then_some(()))
    })?;
    killed.kill();
    let rest = counted(&replay().run_ok(LIMIT)?.stdout, "replayed")?;
    assert!(rest > 0, "the first replay was through before it was killed");
    put_back_once(&scenario, &letters, 1)?;
    assert_eq!(counted(&replay().run_ok(LIMIT)?.stdout, "considered")?, 0);

    // Nobody has mended the cause: each is rejected again, and replayed again, until the limit.
    for attempt in 2..=MAX_ATTEMPTS {
        run_to_the_end(&scenario)?;
        let output = replay().run_ok(LIMIT)?;
        let (replayed, at_limit) = if attempt < MAX_ATTEMPTS {
            (letters.len(), 0)
        } else {
            (0, letters.len())
        };
        assert_eq!(
            counted(&output.stdout, "replayed")?,
            replayed,
            "attempt {attempt}"
        );
        assert_eq!(
            counted(&output.stdout, "at the attempt limit")?,
            at_limit,
            "attempt {attempt}"
        );
        put_back_once(&scenario, &letters, attempt.min(MAX_ATTEMPTS - 1))?;
    }
    Ok(())
}

fn run_to_the_end(scenario: &Scenario) -> Result<()> {
    scenario.realtime().arg("--exit-at-end").run_ok(LIMIT).map(drop)
}

fn letters(scenario: &Scenario) -> Result<Vec<Record>> {
    scenario.kafka.read_committed(&scenario.dead_letter_topic())
}

fn header<'a>(record: &'a Record, name: &str) -> &'a str {
    record.headers.get(name).map_or("", String::as_str)
}

/// So often each of these letters' records is on the input topic again: the same bytes, and where it was at first.
fn put_back_once(scenario: &Scenario, letters: &[Record], attempts: usize) -> Result<()> {
    let records = scenario.kafka.read_committed(&scenario.input_topic())?;
    for attempt in 1..=attempts {
        let again: Vec<&Record> = records
            .iter()
            .filter(|record| header(record, "error.attempt") == attempt.to_string())
            .collect();
        let origins = again
            .iter()
            .map(|record| origin(record))
            .collect::<Result<Vec<_>>>()?;
        let wanted = letters
            .iter()
            .map(Record::source_position)
            .collect::<Result<Vec<_>>>()?;
        each_once(wanted, origins).with_context(|| format!("attempt {attempt}"))?;
        let mut bytes: Vec<_> = again
            .iter()
            .map(|record| (&record.key, &record.payload))
            .collect();
        let mut first: Vec<_> = letters
            .iter()
            .map(|letter| (&letter.key, &letter.payload))
            .collect();
        bytes.sort();
        first.sort();
        assert!(bytes == first, "attempt {attempt}: keys or payloads changed");
    }
    let put_back = records
        .iter()
        .filter(|record| record.headers.contains_key("error.attempt"));
    assert_eq!(put_back.count(), attempts * letters.len());
    Ok(())
}

/// The position that a replayed record had at first.
fn origin(record: &Record) -> Result<Position> {
    let partition = header(record, "replay.source.partition").parse();
    let offset = header(record, "replay.source.offset").parse();
    Ok((partition?, offset?))
}

fn listed(scenario: &Scenario, filter: &[&str]) -> Result<Vec<Value>> {
    let output = scenario
        .dead_letters("list")
        .args(["--format", "ndjson", "--limit", "100000"])
        .args(filter)
        .run_ok(LIMIT)?;
    let lines = output.stdout.lines();
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// A number of the tally that a replay prints.
fn counted(tally: &str, name: &str) -> Result<usize> {
    let line = tally.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().last());
    Ok(number.with_context(|| format!("no {name}: {tally}"))?.parse()?)
}
