//! Those who write while questions are asked.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use loginlake_kafka::KafkaSettings;
use loginlake_kafka::producer::{Outgoing, PlainProducer};
use loginlake_scenarios::scenario::Scenario;
use serde_json::Value;

use crate::questions::Sent;

const LIMIT: Duration = Duration::from_secs(240);
/// Far above what a question takes, so that none loses its files.
const VACUUM_RETENTION: &str = "20s";

/// A producer without transactions.
pub struct Plain {
    producer: PlainProducer,
    topic: String,
}

impl Plain {
    /// For the input topic of a scenario.
    pub fn new(scenario: &Scenario) -> Result<Plain> {
        Ok(Plain {
            producer: PlainProducer::new(&KafkaSettings::new(scenario.kafka.brokers()))?,
            topic: scenario.input_topic(),
        })
    }

    /// Sends records, all acknowledged when it returns.
    pub fn send(&self, records: impl Iterator<Item = Sent>) -> Result<()> {
        for record in records {
            self.producer.send_record(Outgoing {
                topic: &self.topic,
                key: Some(record.key.as_bytes()),
                payload: Some(&record.payload),
                timestamp_ms: record.kafka_timestamp_ms,
                partition: None,
                headers: None,
            })?;
        }
        let flushed = self.producer.flush(LIMIT)?;
        ensure!(flushed.failed == 0, "{} records were not taken", flushed.failed);
        Ok(())
    }
}

/// Erases a person; the version of `logins` that did it.
pub fn erase(scenario: &Scenario, person: &str) -> Result<i64> {
    let proof = scenario.dir().join("proof.json");
    let erasure = scenario.olap("erase").args(["--user", person, "--proof"]);
    erasure.arg(&proof).run_ok(LIMIT)?;
    let proof: Value = serde_json::from_slice(&std::fs::read(&proof)?)?;
    let tables = proof["tables"].as_array().context("no tables")?;
    let logins = tables.iter().find(|table| table["table"] == "logins");
    let versions = logins.and_then(|table| table["versions"].as_array());
    match versions.map(Vec::as_slice) {
        Some([version]) => version.as_i64().context("no version"),
        other => bail!("one commit should erase one date's rows: {other:?}"),
    }
}

/// Takes what nobody needs; the number of files.
pub fn vacuum(scenario: &Scenario) -> Result<usize> {
    let arguments = ["--retention", VACUUM_RETENTION, "--force", "--delete"];
    let output = scenario.olap("vacuum").args(arguments).run_ok(LIMIT)?;
    let files = output.stdout.lines().filter(|line| line.ends_with(".parquet"));
    Ok(files.count())
}
