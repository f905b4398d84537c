//! `olap query --fresh` while producers (one of them in transactions, some of which it aborts), ingesters and compactors run:
//! every answer is the count at the offsets that it states, of `logins` and of `rejected`, nothing missed and nothing twice.
//! What cannot be answered exactly is refused. With its receipt an answer is given again.
//!
//! `LOGINLAKE_SCENARIO_QUERIES` sets how many questions are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use loginlake_events::Contract;
use loginlake_kafka::KafkaSettings;
use loginlake_lake::{Lake, StoreOptions};
use loginlake_olap::fresh::FreshSource;
use loginlake_query::print::{Format, Printer};
use loginlake_query::{QueryEngine, QueryOptions, tables_named};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};
use serde_json::Value;
use tokio::runtime::Runtime;

const QUERIES: u64 = 60;
const PARTITIONS: i32 = 4;
const ROUND: u64 = 60;
/// Questions between two compactions.
const QUERIES_PER_COMPACTION: u64 = 8;
/// Rounds that a producer may be ahead of the questions.
const ROUNDS_PER_QUERY: u64 = 2;
const LIMIT: Duration = Duration::from_secs(240);

/// Both tables by Kafka partition: number, sum of offsets, and a sum that tells a wrong pair of offsets from a right one.
const BOTH_TABLES: &str = "SELECT 'all' AS t, -1 AS p, count(*) AS n, 0 AS s, 0 AS q FROM logins;
SELECT 'logins' AS t, kafka_partition AS p, count(*) AS n, sum(kafka_offset) AS s, sum(kafka_offset * kafka_offset % 1009) AS q
FROM logins GROUP BY 2;
SELECT 'rejected' AS t, kafka_partition AS p, count(*) AS n, sum(kafka_offset) AS s, sum(kafka_offset * kafka_offset % 1009) AS q
FROM rejected GROUP BY 2";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        every_answer_is_the_count_at_its_offsets,
        a_receipt_gives_the_answer_again,
        what_is_gone_is_refused,
        a_topic_that_was_made_again_is_refused,
    ])
}

/// Number, sum and second sum of some rows.
type Sums = (i64, i64, i64);
/// Sums by table and Kafka partition.
type Counts = BTreeMap<(String, i64), Sums>;

/// An answer, and the end of each partition that it states.
struct Answer {
    counts: Counts,
    ends: BTreeMap<i32, i64>,
    tail_offsets: i64,
    version: i64,
}

fn every_answer_is_the_count_at_its_offsets() -> Result<()> {
    let scenario = Scenario::new("fresh-answers")?;
    scenario.create_topics_of(PARTITIONS)?;
    let queries = queries()?;
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let ingester = || scenario.ingest().args(["--max-batch-age", "300ms"]).start();
    let ingesters = Mutex::new(vec![ingester()?, ingester()?]);
    write_plainly(&scenario, "first", 0)?;
    wait_for_table(&scenario)?;

    let answers = std::thread::scope(|scope| {
        let plain = scope.spawn(|| produce(&done, &stop, |round| write_plainly(&scenario, "plain", round)));
        let transactional = scope.spawn(|| {
            let producer = scenario.kafka.transactions("fresh-answers")?;
            produce(&done, &stop, |round| {
                producer.begin()?;
                for number in 0..ROUND {
                    let (key, payload) = record("txn", round, number);
                    let partition = i32::try_from(number)? % PARTITIONS;
                    producer.send(&scenario.input_topic(), partition, &key, &payload)?;
                }
                if round.is_multiple_of(3) {
                    producer.abort()
                } else {
                    producer.commit()
                }
            })
        });
        let compactor = scope.spawn(|| {
            for round in 1.. {
                scenario.olap("compact").arg("--all").run_ok(LIMIT)?;
                if wait_for_query(&done, &stop, round * QUERIES_PER_COMPACTION)? {
                    break;
                }
            }
            anyhow::Ok(())
        });
        let asked = ask_all(&scenario, queries, &done, || {
            // One of the ingesters dies, and another takes its place.
            let mut ingesters = ingesters.lock().unwrap_or_else(PoisonError::into_inner);
            ingesters.remove(0).kill();
            ingesters.push(ingester()?);
            Ok(())
        });
        stop.store(true, Ordering::SeqCst);
        for thread in [plain, transactional, compactor] {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a producer panicked"))??;
        }
        asked
    })?;
    for process in ingesters.into_inner().unwrap_or_else(PoisonError::into_inner) {
        process.terminate(LIMIT)?;
    }

    let truth = Truth::of(&scenario)?;
    for (number, answer) in answers.iter().enumerate() {
        let expected = truth.at(&answer.ends);
        ensure!(
            answer.counts == expected,
            "answer {number} at {:?}, on version {}:\n{:?}\ninstead of\n{expected:?}",
            answer.ends,
            answer.version,
            answer.counts
        );
    }
    let versions: BTreeSet<i64> = answers.iter().map(|answer| answer.version).collect();
    let with_tail = answers.iter().filter(|answer| answer.tail_offsets > 0).count();
    println!(
        "{} answers are exact: on {} versions, {with_tail} with records beyond the table, {} offsets at most",
        answers.len(),
        versions.len(),
        answers
            .iter()
            .map(|answer| answer.tail_offsets)
            .max()
            .unwrap_or_default()
    );
    ensure!(
        with_tail * 2 > answers.len() && versions.len() > 2,
        "the table did not move, or nothing was beyond it"
    );
    Ok(())
}

/// How many questions are asked.
fn queries() -> Result<u64> {
    const VARIABLE: &str = "LOGINLAKE_SCENARIO_QUERIES";
    match std::env::var(VARIABLE) {
        Err(_) => Ok(QUERIES),
        Ok(text) => text
            .parse()
            .with_context(|| format!("{VARIABLE} is no number of queries: {text}")),
    }
}

/// Asks, most of the time in this process, and now and then by the binary.
fn ask_all(
    scenario: &Scenario,
    queries: u64,
    done: &AtomicU64,
    halfway: impl Fn() -> Result<()>,
) -> Result<Vec<Answer>> {
    let runtime = Runtime::new()?;
    let lake = lake(scenario)?;
    let source = FreshSource::new(
        KafkaSettings::new(scenario.kafka.brokers()),
        scenario.input_topic(),
        Contract::default(),
        None,
    )?;
    let mut answers = Vec::new();
    let (mut took, by_binary_every) = (Vec::new(), (queries / 6).max(1));
    for number in 0..queries {
        if number == queries / 2 {
            halfway()?;
        }
        let answer = if number % by_binary_every == by_binary_every - 1 {
            by_binary(scenario)?
        } else {
            let began = Instant::now();
            let answer = runtime.block_on(in_process(&lake, &source))?;
            took.push(began.elapsed());
            answer
        };
        answers.push(answer);
        done.store(number + 1, Ordering::SeqCst);
        if (number + 1) % 100 == 0 {
            println!("{} of {queries} queries", number + 1);
        }
    }
    took.sort();
    if let (Some(median), Some(slowest)) = (took.get(took.len() / 2), took.last()) {
        println!("in this process: median {median:?}, slowest {slowest:?}");
    }
    Ok(answers)
}

async fn in_process(lake: &Lake, source: &Arc<FreshSource>) -> Result<Answer> {
    let fresh = source.newest(lake, &tables_named(BOTH_TABLES)).await?;
    let engine = QueryEngine::open_view(lake, QueryOptions::default(), fresh.view)?;
    let mut printer = Printer::new(Format::Ndjson, None, Vec::new());
    engine.run(BOTH_TABLES, "scenario", &mut printer).await?;
    let partitions = &fresh.position.partitions;
    let version = engine.pinned_versions().get("logins").copied().flatten();
    Ok(Answer {
        counts: counts_of(&String::from_utf8(printer.into_inner())?)?,
        ends: partitions.iter().map(|(p, range)| (*p, range.to)).collect(),
        tail_offsets: partitions.values().map(|range| range.to - range.from).sum(),
        version: version.context("logins was not asked")?,
    })
}

fn by_binary(scenario: &Scenario) -> Result<Answer> {
    let file = scenario.dir().join("receipt.json");
    let output = fresh_query(scenario)
        .args(["--format", "ndjson", "-e", BOTH_TABLES, "--receipt"])
        .arg(&file)
        .run_ok(LIMIT)?;
    let receipt: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let partitions = receipt["fresh"]["partitions"]
        .as_object()
        .context("no partitions")?;
    let mut ends = BTreeMap::new();
    let mut tail_offsets = 0;
    for (partition, range) in partitions {
        let (from, to) = (number(&range["from"])?, number(&range["to"])?);
        ends.insert(partition.parse()?, to);
        tail_offsets += to - from;
    }
    let counts = counts_of(&output.stdout)?;
    let beyond = number(&receipt["tables"]["logins"]["rows_beyond"])?;
    let in_table = number(&receipt["tables"]["logins"]["rows"])?;
    let all = counts.get(&("all".to_owned(), -1)).context("no count of all")?;
    ensure!(
        beyond + in_table == all.0,
        "{receipt} does not add up to {} rows",
        all.0
    );
    Ok(Answer {
        counts,
        ends,
        tail_offsets,
        version: number(&receipt["tables"]["logins"]["version"])?,
    })
}

fn fresh_query(scenario: &Scenario) -> loginlake_scenarios::process::Program {
    scenario.olap("query").arg("--fresh").args([
        "--brokers",
        &scenario.kafka.brokers(),
        "--input-topic",
        &scenario.input_topic(),
    ])
}

fn lake(scenario: &Scenario) -> Result<Lake> {
    let variables = scenario.minio.environment().into_iter();
    let options = StoreOptions::from_variables(variables.map(|(name, value)| (name.to_owned(), value)));
    Ok(Lake::open(&scenario.lake(), &options)?)
}

fn counts_of(ndjson: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    for line in ndjson.lines() {
        let row: Value = serde_json::from_str(line)?;
        let table = row["t"].as_str().context("no table")?.to_owned();
        let sums = (number(&row["n"])?, number(&row["s"])?, number(&row["q"])?);
        counts.insert((table, number(&row["p"])?), sums);
    }
    Ok(counts)
}

fn number(value: &Value) -> Result<i64> {
    value.as_i64().with_context(|| format!("no number: {value}"))
}

/// Every record of the topic and which table it belongs to, which its key says.
struct Truth(Vec<(i32, i64, bool)>);

impl Truth {
    fn of(scenario: &Scenario) -> Result<Truth> {
        let mut records = Vec::new();
        for record in scenario.kafka.read_committed(&scenario.input_topic())? {
            let key = String::from_utf8(record.key.unwrap_or_default())?;
            records.push((record.partition, record.offset, !key.ends_with("bad")));
        }
        Ok(Truth(records))
    }

    fn at(&self, ends: &BTreeMap<i32, i64>) -> Counts {
        let mut counts = Counts::from([(("all".to_owned(), -1), (0, 0, 0))]);
        for (partition, offset, is_good) in &self.0 {
            if ends.get(partition).is_none_or(|end| offset >= end) {
                continue;
            }
            let table = if *is_good { "logins" } else { "rejected" };
            let sums = counts
                .entry((table.to_owned(), i64::from(*partition)))
                .or_default();
            *sums = (sums.0 + 1, sums.1 + offset, sums.2 + offset * offset % 1009);
            if *is_good {
                counts.entry(("all".to_owned(), -1)).or_default().0 += 1;
            }
        }
        counts
    }
}

/// Rounds of records, not far ahead of the questions, until the last one is answered.
fn produce(done: &AtomicU64, stop: &AtomicBool, write: impl Fn(u64) -> Result<()>) -> Result<()> {
    for round in 1.. {
        write(round)?;
        if wait_for_query(done, stop, (round / ROUNDS_PER_QUERY).saturating_sub(1))? {
            break;
        }
    }
    Ok(())
}

/// Waits until so many questions are answered; true when it was the last one.
fn wait_for_query(done: &AtomicU64, stop: &AtomicBool, number: u64) -> Result<bool> {
    wait_for("the next question", LIMIT, || {
        let is_over = stop.load(Ordering::SeqCst);
        let is_time = is_over || done.load(Ordering::SeqCst) >= number;
        Ok(is_time.then_some(is_over))
    })
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

fn wait_for_table(scenario: &Scenario) -> Result<()> {
    // The version after the one that makes it says where partitions begin.
    let file = format!("lake/logins/_delta_log/{:020}.json", 1);
    wait_for("the offsets of the table logins", LIMIT, || {
        Ok(scenario.minio.get(&scenario.bucket(), &file)?.map(drop))
    })
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
