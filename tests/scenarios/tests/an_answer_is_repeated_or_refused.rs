//! An answer is given again by its receipt, its version or its time, row by row, whatever was compacted and written since. What
//! vacuum took of its files, and retention of its records, makes it an error that says so, never another answer. A fresh answer
//! that would lack records is refused.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::Program;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

const PARTITIONS: i32 = 4;
const ROUND: u64 = 60;
const LIMIT: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        a_receipt_gives_the_answer_again,
        what_vacuum_took_cannot_be_asked_again,
        what_is_gone_is_refused,
        a_topic_that_was_made_again_is_refused,
    ])
}

fn fresh_query(scenario: &Scenario) -> Program {
    scenario.olap("query").arg("--fresh").args([
        "--brokers",
        &scenario.kafka.brokers(),
        "--input-topic",
        &scenario.input_topic(),
    ])
}

fn number(value: &Value) -> Result<i64> {
    value.as_i64().with_context(|| format!("no number: {value}"))
}

fn write_plainly(scenario: &Scenario, name: &str, round: u64) -> Result<()> {
    let records = (0..ROUND).map(|number| record(name, round, number));
    scenario.kafka.produce(&scenario.input_topic(), records)
}

/// One of nine is bad, and its key says so. The good ones are of three dates.
fn record(name: &str, round: u64, number: u64) -> (String, Vec<u8>) {
    let is_bad = number % 9 == 4;
    let key = format!("{name}-{round}-{number}-{}", if is_bad { "bad" } else { "good" });
    let seconds = 1_741_000_000 + (round % 3) * 86_400 + number;
    let ip = if is_bad { "nowhere" } else { "108.228.145.239" };
    let payload = format!(
        r#"{{"user_id":"a6397988-1649-4859-ae5f-{:012x}","app_version":"2.3.0","ip":"{ip}","locale":"RI","device_id":"d-{number}","timestamp":{seconds},"device_type":"iOS"}}"#,
        round * ROUND + number
    );
    (key, payload.into_bytes())
}

/// The rows themselves, the time of their processing among them.
const ROWS: &str = "SELECT * FROM logins ORDER BY kafka_partition, kafka_offset;
SELECT * FROM rejected ORDER BY kafka_partition, kafka_offset";

fn a_receipt_gives_the_answer_again() -> Result<()> {
    let scenario = Scenario::new("receipts")?;
    scenario.create_topics_of(PARTITIONS)?;
    write_plainly(&scenario, "table", 1)?;
    to_the_end(&scenario)?;
    let ask = |arguments: &[&str]| -> Result<String> {
        let program = scenario.olap("query").args(["--format", "ndjson", "-e", ROWS]);
        Ok(program.args(arguments).run_ok(LIMIT)?.stdout)
    };
    let (brokers, topic) = (scenario.kafka.brokers(), scenario.input_topic());
    let of_topic = ["--brokers", &brokers, "--input-topic", &topic];
    let receipt = |name: &str| scenario.dir().join(name).display().to_string();
    let (at_table, at_topic) = (receipt("table.json"), receipt("topic.json"));

    let before = ask(&["--receipt", &at_table])?;
    let began = Instant::now();
    write_plainly(&scenario, "beyond", 2)?;
    let fresh_arguments = [&["--fresh", "--receipt", &at_topic], &of_topic[..]].concat();
    let fresh = ask(&fresh_arguments)?;
    println!(
        "from the first record sent to the answer that has it: {:?}",
        began.elapsed()
    );
    assert_eq!(u64::try_from(before.lines().count())?, ROUND);
    assert_eq!(u64::try_from(fresh.lines().count())?, 2 * ROUND);
    ensure!(fresh != ask(&[])?, "without --fresh the table answers");

    to_the_end(&scenario)?;
    scenario.olap("compact").arg("--all").run_ok(LIMIT)?;
    write_plainly(&scenario, "later", 3)?;
    to_the_end(&scenario)?;
    assert_eq!(ask(&["--at", &at_table])?, before);
    let again = [&["--at", &at_topic], &of_topic[..]].concat();
    assert_eq!(ask(&again)?, fresh);

    let written: Value = serde_json::from_slice(&std::fs::read(&at_table)?)?;
    let version = number(&written["tables"]["logins"]["version"])?.to_string();
    assert_eq!(ask(&["--at", &version])?, before);
    let asked_at = written["asked_at"].as_str().context("no time")?;
    assert_eq!(ask(&["--at", asked_at])?, before);
    assert_eq!(u64::try_from(ask(&[])?.lines().count())?, 3 * ROUND);

    let early = scenario
        .olap("query")
        .args(["-e", ROWS, "--at", "2020-01-01"])
        .run(LIMIT)?;
    assert_eq!(early.code, 1, "{}", early.stderr);
    let wrong = scenario
        .olap("query")
        .args(["-e", ROWS, "--at", "yesterday"])
        .run(LIMIT)?;
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    Ok(())
}

/// Each version of these files is exact until its first file is gone, and an error from then on.
fn what_vacuum_took_cannot_be_asked_again() -> Result<()> {
    let scenario = Scenario::new("receipts-vacuumed")?;
    scenario.create_topics_of(1)?;
    // Two files of one date.
    for round in [1, 4] {
        write_plainly(&scenario, "table", round)?;
        to_the_end(&scenario)?;
    }
    let (brokers, topic) = (scenario.kafka.brokers(), scenario.input_topic());
    let of_topic = ["--brokers", &brokers, "--input-topic", &topic];
    let ask = |arguments: &[&str]| {
        let program = scenario.olap("query").args(["--format", "ndjson", "-e", ROWS]);
        program.args(arguments).run(LIMIT)
    };
    let receipt = scenario.dir().join("receipt.json").display().to_string();
    write_plainly(&scenario, "beyond", 3)?;
    let before = ask(&[&["--fresh", "--receipt", &receipt], &of_topic[..]].concat())?.ok()?;
    assert_eq!(u64::try_from(before.stdout.lines().count())?, 3 * ROUND);
    let again = || ask(&[&["--at", &receipt], &of_topic[..]].concat());

    scenario.olap("compact").arg("--all").run_ok(LIMIT)?;
    assert_eq!(again()?.ok()?.stdout, before.stdout, "compacted");
    let vacuum = |arguments: &[&str]| scenario.olap("vacuum").args(arguments).run_ok(LIMIT);
    vacuum(&["--retention", "1h", "--delete"])?;
    assert_eq!(again()?.ok()?.stdout, before.stdout, "the files are too young");
    vacuum(&["--retention", "0s", "--force", "--delete"])?;
    let refused = again()?;
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    for said in ["vacuum", "parquet", "--at"] {
        ensure!(
            refused.stderr.contains(said),
            "{said} is not said: {}",
            refused.stderr
        );
    }
    let written: Value = serde_json::from_slice(&std::fs::read(&receipt)?)?;
    let version = number(&written["tables"]["logins"]["version"])?.to_string();
    let refused = ask(&["--at", &version])?;
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    // The newest version is whole, and with the topic it is the same rows.
    let fresh = ask(&[&["--fresh"], &of_topic[..]].concat())?.ok()?;
    assert_eq!(fresh.stdout.lines().count(), before.stdout.lines().count());
    Ok(())
}

fn what_is_gone_is_refused() -> Result<()> {
    let scenario = Scenario::new("fresh-retention")?;
    scenario.create_topics_of(1)?;
    write_plainly(&scenario, "table", 1)?;
    to_the_end(&scenario)?;
    write_plainly(&scenario, "beyond", 2)?;
    let receipt = scenario.dir().join("receipt.json").display().to_string();
    let count = ["-e", "SELECT count(*) FROM logins"];
    let query = || fresh_query(&scenario).args(count);
    query().args(["--receipt", &receipt]).run_ok(LIMIT)?;
    let below = i64::try_from(ROUND)?;
    // Up to what the table has: nothing is missing.
    scenario.kafka.delete_records(&scenario.input_topic(), 0, below)?;
    query().run_ok(LIMIT)?;
    scenario
        .kafka
        .delete_records(&scenario.input_topic(), 0, below + 1)?;
    let refused = query().run(LIMIT)?;
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    ensure!(refused.stderr.contains("retention"), "{}", refused.stderr);
    assert_eq!(refused.stdout, "");
    let again = scenario.olap("query").args(count).args([
        "--brokers",
        &scenario.kafka.brokers(),
        "--input-topic",
        &scenario.input_topic(),
        "--at",
        &receipt,
    ]);
    let refused = again.run(LIMIT)?;
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    scenario.olap("query").args(count).run_ok(LIMIT)?;
    Ok(())
}

fn a_topic_that_was_made_again_is_refused() -> Result<()> {
    let scenario = Scenario::new("fresh-made-again")?;
    scenario.create_topics_of(1)?;
    write_plainly(&scenario, "table", 1)?;
    to_the_end(&scenario)?;
    let topic = scenario.input_topic();
    scenario.kafka.delete_topic(&topic)?;
    scenario.kafka.create_topic(&topic, 1)?;
    // As many again: by the offsets alone it could be the same topic.
    write_plainly(&scenario, "other", 1)?;
    let query = fresh_query(&scenario).args(["-e", "SELECT count(*) FROM logins"]);
    let refused = query.run(LIMIT)?;
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    ensure!(refused.stderr.contains("made again"), "{}", refused.stderr);
    let other = scenario.olap("query").arg("--fresh").args([
        "--brokers",
        &scenario.kafka.brokers(),
        "--input-topic",
        &scenario.output_topic(),
        "-e",
        "SELECT count(*) FROM logins",
    ]);
    let other = other.run(LIMIT)?;
    if other.code != 1 {
        bail!(
            "a topic that the lake knows nothing of: {} {}",
            other.code,
            other.stderr
        );
    }
    let hourly = fresh_query(&scenario).args(["-e", "SELECT count(*) FROM logins_hourly"]);
    assert_eq!(hourly.run(LIMIT)?.code, 2);
    Ok(())
}

fn to_the_end(scenario: &Scenario) -> Result<()> {
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    Ok(())
}
