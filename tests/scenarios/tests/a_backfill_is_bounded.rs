//! A second lake gets the records between two times of the topic that a live one has all of: exactly those, also when the run
//! is repeated, when an ingester dies in it, and when others help. A lake that has offsets already refuses another beginning.
//! With `--only-date` it holds the logins of one date, and refuses every other use.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, SecondsFormat};
use loginlake_scenarios::exactness::{Position, each_once, position};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::records::Record;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::side_lake::SideLake;
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};

const PARTITIONS: i32 = 3;
const EVENTS: u64 = 400;
/// One of those that are produced.
const DATE: &str = "2025-03-05";
const LIMIT: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        a_backfill_gets_the_records_between_two_times,
        one_date_goes_into_a_lake_of_its_own,
    ])
}

fn a_backfill_gets_the_records_between_two_times() -> Result<()> {
    let scenario = Scenario::new("backfill")?;
    scenario.create_topics_of(PARTITIONS)?;
    produce(&scenario, 1)?;
    let from = a_later_moment(&scenario)?;
    produce(&scenario, 2)?;
    let until = a_later_moment(&scenario)?;
    produce(&scenario, 3)?;
    let records = scenario.kafka.read_committed(&scenario.input_topic())?;
    let live = SideLake::new(&scenario, "lake");
    live.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    live.is_exact(&all(&records, i64::MIN, i64::MAX))?;

    let lake = SideLake::new(&scenario, "backfill");
    let range = [
        "--from-timestamp",
        &text(from)?,
        "--until-timestamp",
        &text(until)?,
    ];
    let wanted = all(&records, from, until);
    assert_eq!(wanted.len() as u64, EVENTS);
    let killed = lake
        .ingest()
        .args(range)
        .env("LOGINLAKE_FAIL_POINT", "after-rejected-commit:kill")
        .run(LIMIT);
    ensure!(killed.is_err(), "it was to be killed: {killed:?}");
    let (one, other) = (
        lake.ingest().args(range).start()?,
        lake.ingest().args(range).start()?,
    );
    one.wait_exit(LIMIT)?.ok()?;
    other.wait_exit(LIMIT)?.ok()?;
    each_once(wanted.iter().copied(), rows(&lake)?).context("the backfill")?;
    lake.next_offsets()?;
    let commits = lake.commits("logins")?.len();
    lake.ingest().args(range).run_ok(LIMIT)?;
    assert_eq!(
        lake.commits("logins")?.len(),
        commits,
        "again, nothing is left to do"
    );

    for (lake, flags) in [
        (&lake, ["--from-timestamp".to_owned(), text(from + 1)?]),
        (&live, ["--from-timestamp".to_owned(), text(from)?]),
    ] {
        let refused = lake.ingest().args(&flags).arg("--exit-at-end").run(LIMIT)?;
        assert_eq!(refused.code, 3, "{}", refused.stderr);
        ensure!(
            refused.stderr.contains("has offsets of topic"),
            "{}",
            refused.stderr
        );
    }
    let backwards = lake
        .ingest()
        .args([
            "--from-timestamp",
            &text(until)?,
            "--until-timestamp",
            &text(from)?,
        ])
        .run(LIMIT)?;
    assert_eq!(backwards.code, 2, "{}", backwards.stderr);

    // Without bounds it goes on from where it stands.
    lake.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    each_once(all(&records, from, i64::MAX), rows(&lake)?).context("after the backfill")
}

fn one_date_goes_into_a_lake_of_its_own() -> Result<()> {
    let scenario = Scenario::new("only-date")?;
    scenario.create_topics_of(PARTITIONS)?;
    produce(&scenario, 1)?;
    let from = a_later_moment(&scenario)?;
    produce(&scenario, 2)?;
    let until = a_later_moment(&scenario)?;
    produce(&scenario, 3)?;
    let records = scenario.kafka.read_committed(&scenario.input_topic())?;
    let live = SideLake::new(&scenario, "lake");
    live.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    let (version, files) = (
        live.commits("logins")?.len(),
        scenario.minio.list(&scenario.bucket())?,
    );

    let lake = SideLake::new(&scenario, "one-date");
    let only = ["--only-date", DATE];
    let (from_text, until_text) = (text(from)?, text(until)?);
    let range = [
        "--from-timestamp",
        from_text.as_str(),
        "--until-timestamp",
        &until_text,
    ];
    let killed = lake
        .ingest()
        .args(only)
        .args(range)
        .env("LOGINLAKE_FAIL_POINT", "after-rejected-commit:kill")
        .run(LIMIT);
    ensure!(killed.is_err(), "it was to be killed: {killed:?}");
    lake.ingest().args(only).args(range).run_ok(LIMIT)?;
    is_the_date_of(&lake, &live, &all(&records, from, until))?;
    let commits = lake.commits("logins")?.len();
    lake.ingest().args(only).args(range).run_ok(LIMIT)?;
    assert_eq!(
        lake.commits("logins")?.len(),
        commits,
        "again, nothing is left to do"
    );

    for (lake, flags, reason) in [
        (&lake, &[][..], "it holds the logins of 2025-03-05 only"),
        (&lake, &["--only-date", "2025-03-06"], "only, not of 2025-03-06"),
        (&live, &only, "it holds logins of all dates"),
    ] {
        let refused = lake.ingest().args(flags).arg("--exit-at-end").run(LIMIT)?;
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        ensure!(refused.stderr.contains(reason), "{reason}: {}", refused.stderr);
    }
    assert_eq!(
        lake.commits("logins")?.len(),
        commits,
        "who is refused writes nothing"
    );
    let brokers = scenario.kafka.brokers();
    let fresh = scenario
        .olap_on("query", &lake.uri())
        .args(["--fresh", "--brokers", &brokers])
        .args(["--input-topic", &scenario.input_topic()])
        .args(["-e", "SELECT count(*) FROM logins"])
        .run(LIMIT)?;
    assert_eq!(fresh.code, 2, "{}", fresh.stderr);
    ensure!(
        fresh.stderr.contains("--only-date 2025-03-05"),
        "{}",
        fresh.stderr
    );

    lake.ingest().args(only).arg("--exit-at-end").run_ok(LIMIT)?;
    is_the_date_of(&lake, &live, &all(&records, from, i64::MAX)).context("after the backfill")?;
    // The live lake is as it was.
    assert_eq!(live.commits("logins")?.len(), version);
    let now = scenario.minio.list(&scenario.bucket())?;
    ensure!(files.iter().all(|file| now.contains(file)), "a file is gone");
    Ok(())
}

/// `lake` has of these positions the logins of [`DATE`] that `live` has, and all that `live` rejected.
fn is_the_date_of(lake: &SideLake<'_>, live: &SideLake<'_>, range: &[Position]) -> Result<()> {
    let range: BTreeSet<Position> = range.iter().copied().collect();
    let is_wanted = |position: &Position| range.contains(position);
    let of_date = format!("SELECT kafka_partition, kafka_offset FROM t WHERE login_date = DATE '{DATE}'");
    let dated = live.reader().query("logins", &of_date)?;
    let dated: Vec<Position> = dated.iter().map(|row| position(row)).collect::<Result<_>>()?;
    let logins: Vec<Position> = dated.into_iter().filter(is_wanted).collect();
    ensure!(!logins.is_empty() && logins.len() < range.len(), "some of them");
    each_once(logins, lake.rows("logins")?).context("logins of the date")?;
    let rejected = live.rows("rejected")?.into_iter().filter(is_wanted);
    each_once(rejected, lake.rows("rejected")?).context("rejected")?;
    // Both lakes are at the same offsets, as far as the range goes.
    for (partition, next_offset) in lake.next_offsets()? {
        let last = range.range((partition, 0)..(partition, i64::MAX)).next_back();
        ensure!(
            last.is_none_or(|(_, last)| *last < next_offset),
            "partition {partition} is at {next_offset}, before {last:?}"
        );
    }
    Ok(())
}

fn produce(scenario: &Scenario, seed: u64) -> Result<()> {
    let producer = scenario.generate(EVENTS, seed);
    producer.args(["--bad-share", "0.1"]).run_ok(LIMIT).map(drop)
}

/// Later than every record that is there, and before every one that comes, in epoch milliseconds.
fn a_later_moment(scenario: &Scenario) -> Result<i64> {
    let records = scenario.kafka.read_committed(&scenario.input_topic())?;
    let last = records.iter().filter_map(|record| record.timestamp_ms).max();
    let moment = last.context("no timestamps")? + 1;
    wait_for("the clock", LIMIT, || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        Ok((i64::try_from(now)? > moment).then_some(moment))
    })
}

fn text(ms: i64) -> Result<String> {
    let time = DateTime::from_timestamp_millis(ms).context("no time")?;
    Ok(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// The positions from the first record of each partition that is not older than `from` to the first that is not older than
/// `until`.
fn all(records: &[Record], from: i64, until: i64) -> Vec<Position> {
    let mut by_partition: BTreeMap<i32, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_partition.entry(record.partition).or_default().push(record);
    }
    let mut found = Vec::new();
    for records in by_partition.values() {
        let first = |time: i64| {
            records
                .iter()
                .position(|record| record.timestamp_ms.is_some_and(|at| at >= time))
                .unwrap_or(records.len())
        };
        let range = records.get(first(from)..first(until)).unwrap_or_default();
        found.extend(range.iter().map(|record| (record.partition, record.offset)));
    }
    found
}

fn rows(lake: &SideLake<'_>) -> Result<Vec<Position>> {
    let mut rows = lake.rows("logins")?;
    rows.extend(lake.rows("rejected")?);
    Ok(rows)
}
