//! `olap query --fresh` while producers (with Kafka timestamps that lie; in transactions, some of which are aborted), ingesters,
//! compactors, an eraser and vacuum run: every answer is the count at the offsets that it states, whatever columns and times it
//! asks for, of `logins` and of `rejected`, nothing missed and nothing twice.
//!
//! `LOGINLAKE_SCENARIO_QUERIES` sets how many questions are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use loginlake_events::Contract;
use loginlake_kafka::KafkaSettings;
use loginlake_lake::{Lake, StoreOptions, TableName};
use loginlake_olap::fresh::FreshSource;
use loginlake_olap::fresh::receipt::Receipt;
use loginlake_query::print::{Format, Printer};
use loginlake_query::{QueryEngine, QueryOptions, View, tables_named};
use loginlake_scenarios::delta_log::DeltaLog;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::Program;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};
use serde_json::Value;
use tokio::runtime::Runtime;

#[path = "fresh_answers_are_exact/questions.rs"]
mod questions;
#[path = "fresh_answers_are_exact/writers.rs"]
mod writers;

use questions::{Counts, Question, Sent, Stated, Truth, lying_record, person, questions, record, records_of};
use writers::{Plain, erase, vacuum};

const QUERIES: u64 = 1_000;
const PARTITIONS: i32 = 4;
/// Records of a round of a producer: each kind of verdict and of Kafka timestamp is among them.
const ROUND: u64 = 9;
/// Questions for each round.
const QUERIES_PER_ROUND: u64 = 4;
/// Questions that are asked of one state, as the statements of a file are.
const QUERIES_PER_STATE: u64 = 5;
/// States that are asked at the same time.
const ASKERS: u64 = 3;
/// Each commit makes a file for each date, and in a debug build each file costs a question more than all records of its rows.
const BATCH_AGE: &str = "5s";
/// States that are asked by the binary: each starts a process.
const BY_BINARY: u64 = 6;
/// Parts of the run after each of which the tables are compacted and vacuumed.
const MAINTENANCES: u64 = 9;
/// The people who are erased, each after another part of the run.
const PERSONS: u64 = 3;
const LIMIT: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        every_answer_is_the_count_at_its_offsets,
    ])
}

/// An answer to a question, and what it states.
struct Answer {
    question: usize,
    counts: Counts,
    stated: Stated,
    /// What the receipt says of `logins`, if it is asked.
    rows_beyond: Option<u64>,
    newest_ms: Option<i64>,
    /// Records that were not decoded.
    skipped: u64,
}

/// How far the questions are.
#[derive(Default)]
struct Clock {
    answered: AtomicU64,
    is_over: AtomicBool,
}

impl Clock {
    /// Waits until so many questions are answered; true when it is over.
    fn wait(&self, number: u64) -> Result<bool> {
        wait_for("the next question", LIMIT, || {
            let is_over = self.is_over.load(Ordering::SeqCst);
            let is_time = is_over || self.answered.load(Ordering::SeqCst) >= number;
            Ok(is_time.then_some(is_over))
        })
    }

    /// Rounds of records, not far ahead of the questions, until the last one is answered.
    fn produce(&self, mut write: impl FnMut(u64) -> Result<()>) -> Result<()> {
        for round in 1.. {
            write(round)?;
            if self.wait(round * QUERIES_PER_ROUND)? {
                break;
            }
        }
        Ok(())
    }
}

/// Ends the others when the questions are over, also when one of them failed.
struct OverAtLast<'a>(&'a Clock);

impl Drop for OverAtLast<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

fn every_answer_is_the_count_at_its_offsets() -> Result<()> {
    let scenario = Scenario::new("fresh-answers")?;
    scenario.create_topics_of(PARTITIONS)?;
    let queries = queries()?;
    let clock = Clock::default();
    let ingester = || scenario.ingest().args(["--max-batch-age", BATCH_AGE]).start();
    let mut ingesters = vec![ingester()?, ingester()?];
    let plain = Plain::new(&scenario)?;
    for number in 0..PERSONS {
        plain.send(records_of(&person(number)))?;
    }
    plain.send((0..ROUND).map(|number| lying_record("first", 0, number)))?;
    let ends = ends_of(&scenario)?;
    DeltaLog::of(&scenario, "logins").wait_stored(&ends, LIMIT)?;

    let erased = Mutex::new(BTreeMap::new());
    let vacuumed = AtomicUsize::new(0);
    let answers = std::thread::scope(|scope| {
        let plainly = scope.spawn(|| {
            clock.produce(|round| plain.send((0..ROUND).map(|number| lying_record("plain", round, number))))
        });
        let in_transactions = scope.spawn(|| write_in_transactions(&scenario, &clock));
        let maintained = scope.spawn(|| {
            for part in 1..=MAINTENANCES {
                scenario.olap("compact").arg("--all").run_ok(LIMIT)?;
                let number = part * PERSONS / MAINTENANCES;
                if (part * PERSONS).is_multiple_of(MAINTENANCES) && number <= PERSONS {
                    let person = person(number - 1);
                    let version = erase(&scenario, &person)?;
                    lock(&erased).insert(person, version);
                }
                vacuumed.fetch_add(vacuum(&scenario)?, Ordering::SeqCst);
                if part == MAINTENANCES / 2 {
                    // One of the ingesters dies, and another takes its place.
                    ingesters.remove(0).kill();
                    ingesters.push(ingester()?);
                }
                if clock.wait(part * queries / (MAINTENANCES + 1))? {
                    break;
                }
            }
            anyhow::Ok(())
        });
        let over = OverAtLast(&clock);
        let asked = ask_all(&scenario, queries, &clock);
        drop(over);
        for thread in [plainly, in_transactions, maintained] {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        asked
    })?;
    for process in ingesters {
        process.terminate(LIMIT)?;
    }
    println!("vacuum took {} files", vacuumed.into_inner());
    let erased = erased.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(!erased.is_empty(), "nobody was erased");
    judge(&scenario, &answers, &erased)
}

fn judge(scenario: &Scenario, answers: &[Answer], erased: &BTreeMap<String, i64>) -> Result<()> {
    let truth = Truth::of(scenario.kafka.read_committed(&scenario.input_topic())?, erased)?;
    ensure!(
        truth.without_timestamp() > 0,
        "the broker has given a time to records without one"
    );
    let questions = questions();
    for (number, answer) in answers.iter().enumerate() {
        let question = &questions[answer.question];
        let expected = truth.answer(question, &answer.stated);
        ensure!(
            answer.counts == expected,
            "answer {number} at {:?}:\n{}\n{:?}\ninstead of\n{expected:?}",
            answer.stated,
            question.sql,
            answer.counts
        );
        truth
            .check_receipt(&answer.stated, answer.rows_beyond, answer.newest_ms)
            .with_context(|| format!("the receipt of answer {number} at {:?}", answer.stated))?;
    }
    let versions: BTreeSet<i64> = answers.iter().map(|answer| answer.stated.version).collect();
    let beyond = |answer: &&Answer| answer.stated.offsets_beyond() > 0;
    let with_tail = answers.iter().filter(beyond).count();
    let with_skipped = answers.iter().filter(|answer| answer.skipped > 0).count();
    let after_erasure = answers
        .iter()
        .filter(|answer| erased.values().any(|version| answer.stated.version >= *version))
        .count();
    println!(
        "{} answers are exact: on {} versions, {after_erasure} of them after an erasure; {with_tail} with records beyond the \
         table, {} offsets at most; {with_skipped} without decoding all of them",
        answers.len(),
        versions.len(),
        answers
            .iter()
            .map(|answer| answer.stated.offsets_beyond())
            .max()
            .unwrap_or_default(),
    );
    ensure!(
        with_tail * 2 > answers.len() && versions.len() > 2,
        "the table did not move, or nothing was beyond it"
    );
    ensure!(with_skipped > 0, "no filter by time has skipped a record");
    ensure!(
        (1..answers.len()).contains(&after_erasure),
        "no question came before an erasure, or none after it"
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
fn ask_all(scenario: &Scenario, queries: u64, clock: &Clock) -> Result<Vec<Answer>> {
    let runtime = Runtime::new()?;
    let lake = lake(scenario)?;
    let source = FreshSource::new(
        KafkaSettings::new(scenario.kafka.brokers()),
        scenario.input_topic(),
        Contract::default(),
        None,
    )?;
    let questions = questions();
    let next = AtomicU64::new(0);
    let found = Mutex::new((Vec::new(), Vec::new()));
    let states = queries.div_ceil(QUERIES_PER_STATE);
    let by_binary_every = (states / BY_BINARY).max(1);
    let began = Instant::now();
    let ask = || {
        loop {
            let state = next.fetch_add(1, Ordering::SeqCst);
            if clock.answered.load(Ordering::SeqCst) >= queries {
                return anyhow::Ok(());
            }
            let asked = Instant::now();
            let answers = if state % by_binary_every == by_binary_every - 1 {
                vec![by_binary(scenario, &questions[0])?]
            } else {
                let numbers = state * QUERIES_PER_STATE..(state + 1) * QUERIES_PER_STATE;
                let of_state = numbers.map(|number| number as usize % questions.len());
                let options = QueryOptions {
                    // Operators for one partition are others than those for several.
                    target_partitions: 1 + state as usize % 2,
                    ..QueryOptions::default()
                };
                runtime.block_on(in_process(
                    (&lake, &source),
                    options,
                    &questions,
                    of_state.collect(),
                ))?
            };
            let count = answers.len() as u64;
            let mut found = lock(&found);
            found.0.extend(answers);
            found.1.push(asked.elapsed());
            drop(found);
            let answered = clock.answered.fetch_add(count, Ordering::SeqCst) + count;
            if answered / 100 > (answered - count) / 100 {
                println!("{answered} of {queries} queries after {:?}", began.elapsed());
            }
        }
    };
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS).map(|_| scope.spawn(ask)).collect();
        askers.into_iter().try_for_each(|asker| {
            let asked = asker.join();
            asked.map_err(|_| anyhow::anyhow!("an asker panicked"))?
        })
    })?;
    let (answers, mut took) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    took.sort();
    if let (Some(median), Some(slowest)) = (took.get(took.len() / 2), took.last()) {
        println!(
            "{QUERIES_PER_STATE} of a state, {ASKERS} states at a time: median {median:?}, slowest {slowest:?}"
        );
    }
    Ok(answers)
}

/// Some questions of one state.
async fn in_process(
    (lake, source): (&Lake, &Arc<FreshSource>),
    options: QueryOptions,
    questions: &[Question],
    of_state: Vec<usize>,
) -> Result<Vec<Answer>> {
    let texts: Vec<&str> = of_state
        .iter()
        .map(|index| questions[*index].sql.as_str())
        .collect();
    let all = texts.join(";\n");
    let fresh = source.newest(lake, &tables_named(&all)).await?;
    let View::Fresh(view) = &fresh.view else {
        bail!("the view of a fresh answer is not fresh");
    };
    let version = view.snapshots[&TableName::Logins]
        .as_ref()
        .map(|table| table.version);
    let partitions = &fresh.position.partitions;
    let stated = Stated {
        version: version.context("logins is not there")?,
        ranges: partitions
            .iter()
            .map(|(p, range)| (*p, (range.from, range.to)))
            .collect(),
    };
    let engine = QueryEngine::open_view(lake, options, fresh.view)?;
    let mut answers = Vec::new();
    for (index, sql) in of_state.into_iter().zip(texts) {
        let mut printer = Printer::new(Format::Ndjson, None, Vec::new());
        engine.run(sql, "scenario", &mut printer).await?;
        let asked = Some((&fresh.position, fresh.tail.as_ref()));
        let facts = engine.table_facts();
        let receipt = Receipt::new(lake.uri(), ("scenario", sql), chrono::Utc::now(), &facts, asked);
        let logins = receipt.tables.get("logins");
        let rows = [TableName::Logins, TableName::Rejected].map(|table| fresh.tail.rows(table));
        answers.push(Answer {
            question: index,
            counts: counts_of(&String::from_utf8(printer.into_inner())?)?,
            stated: stated.clone(),
            rows_beyond: logins.and_then(|table| table.rows_beyond),
            newest_ms: receipt.newest_event.map(|time| time.timestamp_millis()),
            skipped: rows.into_iter().flatten().map(|rows| rows.skipped).sum(),
        });
    }
    Ok(answers)
}

fn by_binary(scenario: &Scenario, question: &Question) -> Result<Answer> {
    let file = tempfile::NamedTempFile::new_in(scenario.dir())?;
    let output = fresh_query(scenario)
        .args(["--format", "ndjson", "-e", &question.sql, "--receipt"])
        .arg(file.path())
        .run_ok(LIMIT)?;
    let receipt: Receipt = serde_json::from_slice(&std::fs::read(file.path())?)?;
    let counts = counts_of(&output.stdout)?;
    let logins = &receipt.tables["logins"];
    let (rows, beyond) = (
        logins.rows.context("no rows")?,
        logins.rows_beyond.context("not counted")?,
    );
    let all = counts.get(&("all".to_owned(), -1)).context("no count of all")?;
    ensure!(
        i64::try_from(rows + beyond)? == all.0,
        "{receipt} does not add up to {} rows",
        all.0
    );
    let partitions = &receipt.fresh.as_ref().context("not fresh")?.partitions;
    Ok(Answer {
        question: 0,
        counts,
        stated: Stated {
            version: logins.version.context("no version")?,
            ranges: partitions
                .iter()
                .map(|(p, range)| (*p, (range.from, range.to)))
                .collect(),
        },
        rows_beyond: logins.rows_beyond,
        newest_ms: receipt.newest_event.map(|time| time.timestamp_millis()),
        skipped: 0,
    })
}

fn fresh_query(scenario: &Scenario) -> Program {
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
        let number = |name: &str| {
            let value = &row[name];
            value
                .as_i64()
                .with_context(|| format!("{name} is no number: {row}"))
        };
        let of = row["t"].as_str().context("no table")?.to_owned();
        let sums = (number("n")?, number("s")?, number("q")?);
        counts.insert((of, number("p")?), sums);
    }
    Ok(counts)
}

/// The end of each partition, of which nothing is undecided.
fn ends_of(scenario: &Scenario) -> Result<BTreeMap<i32, i64>> {
    let mut ends = BTreeMap::new();
    for record in scenario.kafka.read_committed(&scenario.input_topic())? {
        ends.insert(record.partition, record.offset + 1);
    }
    Ok(ends)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of three transactions is aborted.
fn write_in_transactions(scenario: &Scenario, clock: &Clock) -> Result<()> {
    let producer = scenario.kafka.transactions("fresh-answers")?;
    clock.produce(|round| {
        producer.begin()?;
        for number in 0..ROUND {
            let Sent { key, payload, .. } = record("txn", round, number);
            let partition = i32::try_from(number)? % PARTITIONS;
            producer.send(&scenario.input_topic(), partition, &key, &payload)?;
        }
        if round.is_multiple_of(3) {
            producer.abort()
        } else {
            producer.commit()
        }
    })
}
