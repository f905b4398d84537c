//! `olap audit` of a scenario's lake, or of a copy of it, beside the topics; and what it says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::message::{BorrowedMessage, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use serde_json::Value;

use crate::exactness::Position;
use crate::process::Program;
use crate::records::source_position;
use crate::scenario::Scenario;

const LIMIT: Duration = Duration::from_secs(120);
/// Something is wrong.
const WRONG: i32 = 3;

/// What an audit found: the name, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The name of the finding.
    pub what: String,
    /// The Kafka partition.
    pub partition: Option<i64>,
    /// Offsets `[from, to)`.
    pub offsets: Vec<(i64, i64)>,
}

impl Found {
    /// One that names one position.
    pub fn at(what: &str, (partition, offset): Position) -> Found {
        Found {
            what: what.to_owned(),
            partition: Some(i64::from(partition)),
            offsets: vec![(offset, offset + 1)],
        }
    }
}

/// Writes generated events, a tenth of them bad.
///
/// # Errors
/// The generator fails.
pub fn produce(scenario: &Scenario, events: u64, seed: u64) -> Result<()> {
    let generator = scenario.generate(events, seed);
    generator.args(["--bad-share", "0.1"]).run_ok(LIMIT).map(drop)
}

/// Runs both paths until they have all that is there.
///
/// # Errors
/// One of them fails.
pub fn both_paths_to_the_end(scenario: &Scenario) -> Result<()> {
    let realtime = scenario.realtime().arg("--exit-at-end").start()?;
    let ingest = scenario.ingest().arg("--exit-at-end").start()?;
    realtime.wait_exit(LIMIT)?.ok()?;
    ingest.wait_exit(LIMIT)?.ok()?;
    Ok(())
}

/// A scenario with events in its topics and its lake.
///
/// # Errors
/// As those that fill them.
pub fn filled(name: &str, partitions: i32, events: u64, seed: u64) -> Result<Scenario> {
    let scenario = Scenario::new(name)?;
    scenario.create_topics_of(partitions)?;
    produce(&scenario, events, seed)?;
    both_paths_to_the_end(&scenario)?;
    Ok(scenario)
}

/// A number of each Kafka partition of a report.
pub fn of_partitions(report: &Value, name: &str) -> Vec<u64> {
    let partitions = report["partitions"].as_array().into_iter().flatten();
    partitions
        .map(|partition| partition[name].as_u64().unwrap_or_default())
        .collect()
}

/// `olap audit` of a lake beside the input topic.
pub fn beside_input(scenario: &Scenario, lake: &str) -> Program {
    let program = scenario.olap_on("audit", lake).args(["--format", "json"]);
    program.args([
        "--brokers",
        &scenario.kafka.brokers(),
        "--input-topic",
        &scenario.input_topic(),
    ])
}

/// The same and beside the topics of the speed path.
pub fn beside_all(scenario: &Scenario, lake: &str) -> Program {
    beside(
        scenario,
        lake,
        &scenario.output_topic(),
        &scenario.dead_letter_topic(),
    )
}

/// The same with other topics of the speed path.
pub fn beside(scenario: &Scenario, lake: &str, output: &str, dead_letters: &str) -> Program {
    beside_input(scenario, lake).args([
        "--output-brokers",
        &scenario.outputs().brokers(),
        "--output-topic",
        output,
        "--dead-letter-topic",
        dead_letters,
        "--realtime-group",
        &scenario.realtime_group(),
    ])
}

/// The report of an audit that finds nothing wrong.
///
/// # Errors
/// It finds something, or fails.
pub fn clean(audit: &Program) -> Result<Value> {
    let output = audit.run(LIMIT)?;
    ensure!(
        output.code == 0,
        "{} ended with {}\n{}\n{}",
        output.shown,
        output.code,
        output.stdout,
        output.stderr
    );
    output.json()
}

/// What an audit finds, sorted, and its report; its exit code says that something is wrong.
///
/// # Errors
/// It finds nothing, or fails.
pub fn wrong(audit: &Program) -> Result<(Vec<Found>, Value)> {
    let output = audit.run(LIMIT)?;
    ensure!(
        output.code == WRONG,
        "{} ended with {}\n{}\n{}",
        output.shown,
        output.code,
        output.stdout,
        output.stderr
    );
    let report = output.json()?;
    let mut found: Vec<Found> = Vec::new();
    for finding in report["findings"].as_array().context("no findings")? {
        let ranges = finding["offsets"].as_array().into_iter().flatten();
        found.push(Found {
            what: finding["what"].as_str().unwrap_or_default().to_owned(),
            partition: finding["kafka_partition"].as_i64(),
            offsets: ranges
                .map(|range| (range[0].as_i64().unwrap_or(-1), range[1].as_i64().unwrap_or(-1)))
                .collect(),
        });
    }
    found.sort();
    Ok((found, report))
}

/// An audit finds exactly these things (and, not named here, those that follow from them: `besides`).
///
/// # Errors
/// It finds others.
pub fn finds(audit: &Program, wanted: &[Found], besides: &[&str]) -> Result<Value> {
    let (found, report) = wrong(audit)?;
    let mut wanted = wanted.to_vec();
    wanted.sort();
    let told: Vec<Found> = found
        .into_iter()
        .filter(|finding| !besides.contains(&finding.what.as_str()))
        .collect();
    ensure!(told == wanted, "{told:?} was found, not {wanted:?}: {report:#}");
    Ok(report)
}

/// A copy of a lake of the scenario's bucket in a folder, under this name; its address.
///
/// # Errors
/// The store or the disk fails.
pub fn copy_of(scenario: &Scenario, folder: &str, name: &str) -> Result<String> {
    let to = scenario.dir().join(name);
    let prefix = format!("{folder}/");
    for object in scenario.minio.list(&scenario.bucket())? {
        let Some(path) = object.strip_prefix(&prefix) else {
            continue;
        };
        let bytes = scenario.minio.get(&scenario.bucket(), &object)?;
        let file: PathBuf = to.join(path);
        std::fs::create_dir_all(file.parent().context("no folder")?)?;
        std::fs::write(file, bytes.with_context(|| format!("{object} is gone"))?)?;
    }
    Ok(to.display().to_string())
}

/// Another copy of a copy.
///
/// # Errors
/// The disk fails.
pub fn copy_again(from: &str, name: &str) -> Result<String> {
    let from = Path::new(from);
    let to = from.with_file_name(name);
    copy_folder(from, &to)?;
    Ok(to.display().to_string())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A new topic with the records of another one, in the same partitions and order; each as often as `times` says by its source.
///
/// # Errors
/// The broker refuses.
pub fn copy_topic(
    scenario: &Scenario,
    from: &str,
    to: &str,
    times: impl Fn(Position) -> usize,
) -> Result<()> {
    let kafka = scenario.outputs();
    kafka.create_topic(to, i32::try_from(kafka.partitions(from)?)?)?;
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("enable.idempotence", "true")
        .create()?;
    kafka.each_committed(from, |message| {
        for _ in 0..times(source_position(message)?) {
            send_again(&producer, to, message)?;
        }
        Ok(())
    })?;
    Ok(producer.flush(LIMIT)?)
}

fn send_again(
    producer: &ThreadedProducer<rdkafka::producer::DefaultProducerContext>,
    to: &str,
    message: &BorrowedMessage<'_>,
) -> Result<()> {
    let headers: OwnedHeaders = message
        .headers()
        .map(|headers| headers.detach())
        .unwrap_or_default();
    let key = message.key().unwrap_or_default();
    let payload = message.payload().unwrap_or_default();
    let record = BaseRecord::to(to)
        .partition(message.partition())
        .key(key)
        .payload(payload)
        .timestamp(message.timestamp().to_millis().unwrap_or_default())
        .headers(headers);
    producer.send(record).map_err(|(error, _)| error.into())
}
