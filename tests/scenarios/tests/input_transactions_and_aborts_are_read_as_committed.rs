//! The input is written by a transactional producer. Both paths take exactly what it committed, nothing of what it
//! aborted, and nothing behind a transaction that is still open; the end of the topic is found although the partitions
//! end in transaction markers, which no record's offset reaches (invariants 1, 2 and 6).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use loginlake_scenarios::exactness::{published_exactly, stored_exactly};
use loginlake_scenarios::kafka::{Record, Transactions};
use loginlake_scenarios::parts::{self, Part};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{delta_log, entries, runner};

const PARTITIONS: i32 = 4;
/// The last partition gets nothing but aborted records.
const ABORTED_ONLY: i32 = PARTITIONS - 1;
/// Transactions of each kind.
const ROUNDS: usize = 40;
const RECORDS: usize = 60;
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        aborted_records_are_on_neither_path,
        an_open_transaction_is_neither_waited_for_nor_skipped,
    ])
}

fn aborted_records_are_on_neither_path() -> Result<()> {
    let scenario = Scenario::new("aborted-input")?;
    scenario.create_topics_of(PARTITIONS)?;
    let payloads = payloads()?;
    let producer = scenario.kafka.transactions("aborted-input")?;
    for round in 0..ROUNDS {
        write(
            &scenario,
            &producer,
            &payloads,
            &format!("committed-{round}"),
            ABORTED_ONLY,
        )?;
        producer.commit()?;
        write(
            &scenario,
            &producer,
            &payloads,
            &format!("aborted-{round}"),
            PARTITIONS,
        )?;
        producer.abort()?;
    }
    both_paths_to_the_end(&scenario)?;
    let input = both_paths_agree(&scenario)?;
    assert_eq!(input.len(), ROUNDS * RECORDS);
    for record in &input {
        let key = record.key.as_deref().unwrap_or_default();
        ensure!(key.starts_with(b"committed"), "{record:?} was aborted");
    }
    Ok(())
}

fn an_open_transaction_is_neither_waited_for_nor_skipped() -> Result<()> {
    let scenario = Scenario::new("open-input")?;
    scenario.create_topics_of(PARTITIONS)?;
    let payloads = payloads()?;
    let [before, open, behind] =
        ["before", "open", "behind"].map(|id| scenario.kafka.transactions(&format!("open-input-{id}")));
    let (before, open, behind) = (before?, open?, behind?);
    write(&scenario, &before, &payloads, "before", PARTITIONS)?;
    before.commit()?;
    write(&scenario, &open, &payloads, "open", PARTITIONS)?;
    open.flush()?;
    write(&scenario, &behind, &payloads, "behind", PARTITIONS)?;
    behind.commit()?;
    both_paths_to_the_end(&scenario)?;
    assert_eq!(both_paths_agree(&scenario)?.len(), RECORDS);

    open.commit()?;
    both_paths_to_the_end(&scenario)?;
    assert_eq!(both_paths_agree(&scenario)?.len(), 3 * RECORDS);
    Ok(())
}

/// Events of the sample, good and bad.
fn payloads() -> Result<Vec<Vec<u8>>> {
    let text = std::fs::read(parts::top().join("data/sample_events.ndjson"))?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .take(RECORDS)
        .map(<[u8]>::to_vec)
        .collect())
}

/// A transaction's records, in turn to the first `partitions` partitions. It is left open.
fn write(
    scenario: &Scenario,
    producer: &Transactions,
    payloads: &[Vec<u8>],
    key: &str,
    partitions: i32,
) -> Result<()> {
    producer.begin()?;
    for (payload, partition) in payloads.iter().zip((0..partitions).cycle()) {
        producer.send(&scenario.input_topic(), partition, key, payload)?;
    }
    Ok(())
}

fn both_paths_to_the_end(scenario: &Scenario) -> Result<()> {
    let realtime = scenario.realtime().arg("--exit-at-end").start()?;
    let ingest = scenario.ingest().arg("--exit-at-end").start()?;
    realtime.wait_exit(LIMIT)?.ok()?;
    ingest.wait_exit(LIMIT)?.ok()?;
    Ok(())
}

/// Both paths have what a read_committed reader of the input gets, which is returned, and stand at its end.
fn both_paths_agree(scenario: &Scenario) -> Result<Vec<Record>> {
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    published_exactly(scenario, &input)?;
    stored_exactly(scenario, &input)?;
    let progress = Progress::watch(
        &scenario.kafka,
        &scenario.input_topic(),
        &scenario.realtime_group(),
    )?;
    let stable_ends = progress.stable_ends()?;
    assert_eq!(progress.committed()?, stable_ends);
    let mut log = delta_log::DeltaLog::of(scenario, "logins");
    assert_eq!(delta_log::next_offsets(log.read_on()?)?, stable_ends);
    Ok(input)
}
