//! A second ingester joins while the first has buffered rows of all partitions. Those of the partitions that move are dropped
//! and read again by the other; those of the partitions that stay are not read again, and are in the next commit. The time at
//! which a row was read is in it, and says which of the two it was.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::delta_log::DeltaLog;
use loginlake_scenarios::exactness::stored_exactly;
use loginlake_scenarios::kafka::SESSION_TIMEOUT_MS;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::Program;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::{entries, http, runner};

const PARTITIONS: i32 = 4;
const EVENTS: u64 = 2_000;
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        partitions_that_stay_keep_their_rows_with_the_classic_protocol,
        partitions_that_stay_keep_their_rows_with_the_newer_protocol,
    ])
}

fn partitions_that_stay_keep_their_rows_with_the_classic_protocol() -> Result<()> {
    let session = format!("session.timeout.ms={SESSION_TIMEOUT_MS}");
    story(
        "a-move",
        &["group.protocol=classic", &session, "heartbeat.interval.ms=500"],
    )
}

fn partitions_that_stay_keep_their_rows_with_the_newer_protocol() -> Result<()> {
    story("a-move-newer", &["group.protocol=consumer"])
}

fn story(name: &str, properties: &[&str]) -> Result<()> {
    let scenario = Scenario::new(name)?;
    scenario.create_topics_of(PARTITIONS)?;
    let ingester = |age: &str| -> Program {
        let program = scenario.ingest().args(["--max-batch-age", age]);
        properties
            .iter()
            .fold(program, |program, property| program.args(["-X", property]))
    };
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let address = http::loopback(free_port()?);
    // Nothing closes its batch but its end.
    let mut first = ingester("1h").args(["--http", &address.to_string()]).start()?;
    scenario.generate(EVENTS, 1).run_ok(LIMIT)?;
    let buffered = |wanted: u64| -> Result<Option<()>> {
        let rows = http::metric(address, "ingest_buffered_rows").unwrap_or_default();
        Ok((rows == wanted as f64).then_some(()))
    };
    first.wait_until("all to be buffered", LIMIT, || buffered(EVENTS))?;
    let before_the_move = progress.ends()?;
    ensure!(
        log.read_on()?.iter().all(|commit| commit.offsets.is_empty()),
        "nothing is in the table yet"
    );

    let moved_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let second = ingester("200ms").start()?;
    // The other one commits what it reads of its partitions, the first one nothing.
    let moved = first.wait_until("partitions to move", LIMIT, || {
        let commits = log.read_on()?;
        let moved: BTreeMap<i32, (i64, i64)> =
            commits.iter().flat_map(|commit| commit.offsets.clone()).collect();
        Ok((moved.len() == PARTITIONS as usize / 2).then_some(moved))
    })?;
    let mut stayed = before_the_move.clone();
    stayed.retain(|partition, _| !moved.contains_key(partition));
    let kept: i64 = stayed.values().sum();
    first.wait_until("only what stayed to be buffered", LIMIT, || {
        buffered(kept.unsigned_abs())
    })?;
    println!("{name}: {moved:?} moved, {stayed:?} stayed with {kept} rows");

    // More; then the first one ends, which closes its batch.
    scenario.generate(EVENTS, 2).run_ok(LIMIT)?;
    let ends = progress.ends()?;
    let more: i64 = stayed.keys().map(|partition| ends[partition]).sum();
    first.wait_until("the rest to be buffered", LIMIT, || buffered(more.unsigned_abs()))?;
    first.terminate(LIMIT)?;
    log.wait_stored(&ends, LIMIT)?;
    second.terminate(LIMIT)?;

    let commits = log.read_on()?.iter();
    let of_the_first: Vec<_> = commits
        .filter(|commit| {
            commit
                .offsets
                .keys()
                .any(|partition| stayed.contains_key(partition))
        })
        .collect();
    let whole: BTreeMap<i32, (i64, i64)> = stayed.keys().map(|p| (*p, (0, ends[p]))).collect();
    ensure!(
        of_the_first.len() == 1 && of_the_first[0].offsets == whole,
        "not one commit of {whole:?}: {of_the_first:?}"
    );
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(input.len() as u64, 2 * EVENTS);
    stored_exactly(&scenario, &input)?;

    for (partition, end) in before_the_move {
        let (oldest, newest) = read_between(&scenario, partition, end)?;
        if stayed.contains_key(&partition) {
            ensure!(
                newest < moved_at,
                "partition {partition} stayed, and was read again at {newest}, after {moved_at}"
            );
        } else {
            ensure!(
                oldest >= moved_at,
                "partition {partition} moved, and rows read at {oldest} are in the table"
            );
        }
    }
    Ok(())
}

/// When the rows of a partition below an offset were read: the first and the last of them, epoch milliseconds.
fn read_between(scenario: &Scenario, partition: i32, end: i64) -> Result<(u128, u128)> {
    let sql = format!(
        "SELECT epoch_ms(min(processed_timestamp)), epoch_ms(max(processed_timestamp)) FROM t \
         WHERE kafka_partition = {partition} AND kafka_offset < {end}"
    );
    let rows = scenario.reader().query("logins", &sql)?;
    let time = |column: usize| {
        let value = rows.first().and_then(|row| row.get(column)?.as_i64());
        let value = value.with_context(|| format!("no times of partition {partition}: {rows:?}"))?;
        anyhow::Ok(u128::try_from(value)?)
    };
    Ok((time(0)?, time(1)?))
}
