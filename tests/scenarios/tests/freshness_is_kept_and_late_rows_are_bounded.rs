//! `olap ingest` and time. With `--freshness`, 99 of 100 records can be queried in time, in the largest batches that allow it;
//! a store that gets slower gets smaller ones. Batches age without new records, too. A burst of old dates does not open
//! hundreds of files with each commit (ADR 7), and every row lands in its own date, once.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Days, NaiveDate, Utc};
use loginlake_scenarios::delta_log::DeltaLog;
use loginlake_scenarios::exactness::{Position, each_once, position};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::records::Record;
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::trouble::{Proxy, Weather};
use loginlake_scenarios::{entries, http, runner};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

const SEED: u64 = 71;
const LIMIT: Duration = Duration::from_secs(120);

/// What is promised; a bound of the histogram.
const FRESHNESS: f64 = 5.0;
/// The least age that is ever chosen for it.
const LEAST_AGE: f64 = FRESHNESS / 10.0;
const RATE: u64 = 200;
const DELAY: &str = "logins_commit_delay_seconds";
/// Of each request to the slow store: a commit is several in a row.
const LATENCY: Duration = Duration::from_millis(150);

/// Old dates of the burst.
const DATES: u64 = 200;
const LATE_PARTITIONS: usize = 8;
const HOLD: Duration = Duration::from_secs(6);
/// Usual age of a batch beside it.
const AGE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        records_can_be_queried_in_time,
        a_burst_of_old_dates_is_held,
    ])
}

fn records_can_be_queried_in_time() -> Result<()> {
    let scenario = Scenario::new("freshness")?;
    scenario.create_topics_of(4)?;
    let proxy = Proxy::before(scenario.minio.address(), SEED)?;
    let page = http::loopback(free_port()?);
    let mut ingester = scenario
        .ingest()
        .env("AWS_ENDPOINT_URL", proxy.url())
        .args(["--freshness", "5s", "--http", &page.to_string()])
        .start()?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");

    // No other record comes: they are there all the same.
    ingester.wait_until("health", LIMIT, || {
        Ok(http::get(page, "/health/ready")
            .ok()
            .filter(|answer| answer.status == 200))
    })?;
    let few = 5;
    produce(&scenario, few, 1, RATE)?;
    ingester.wait_until("a few records to be stored by age", LIMIT, || {
        log.has(&progress.ends()?)
    })?;
    ingester.wait_until("their commit to be counted", LIMIT, || {
        Ok((http::metric(page, "ingest_commits_total")? >= 1.0).then_some(()))
    })?;
    let by_age = http::metric_with(page, "ingest_commits_total", "reason=\"age\"")?;
    ensure!(by_age >= 1.0, "closed by something else than age");

    let events = RATE * 25;
    produce(&scenario, events, 2, RATE)?;
    let fair = settled(&mut ingester, page, few + events)?;
    let age = http::metric(page, "ingest_batch_age_limit_seconds")?;
    println!("fair: {fair:?}, batches of {age:.2} s");
    ensure!(fair.in_time() >= 0.99, "not 99 of 100 in time: {fair:?}");
    ensure!(
        fair.within_2s >= fair.all / 10 && fair.within_2s < fair.all,
        "a steady load has young and old records in a batch: {fair:?}"
    );
    ensure!(age >= FRESHNESS / 3.0, "needlessly small batches, of {age} s");

    proxy.set(Weather::Slow {
        latency: LATENCY,
        bytes_per_second: 100_000_000,
    });
    // Two batches tell it that the store is slower.
    produce(&scenario, RATE * 12, 3, RATE)?;
    let before = settled(&mut ingester, page, few + events + RATE * 12)?;
    let shorter = http::metric(page, "ingest_batch_age_limit_seconds")?;
    ensure!(proxy.losses().slowed.load(Ordering::SeqCst) > 0);
    ensure!(
        shorter < age - LATENCY.as_secs_f64() && shorter >= LEAST_AGE,
        "a slower store, and batches of {shorter} s after {age} s"
    );
    produce(&scenario, RATE * 15, 4, RATE)?;
    let slow = settled(&mut ingester, page, few + events + RATE * 27)?.since(&before);
    println!("slow: {slow:?}, batches of {shorter:.2} s");
    ensure!(slow.in_time() >= 0.99, "not 99 of 100 in time: {slow:?}");
    ingester.terminate(LIMIT)?;
    assert_eq!(log.has(&progress.ends()?)?, Some(()));
    Ok(())
}

fn produce(scenario: &Scenario, count: u64, seed: u64, rate: u64) -> Result<()> {
    let rate = rate.to_string();
    let producer = scenario.generate(count, seed);
    let producer = producer.args(["--bad-share", "0.05", "--rate", &rate]);
    producer.run_ok(LIMIT).map(drop)
}

/// The delays of committed records.
#[derive(Debug, Clone, Copy)]
struct Delays {
    all: u64,
    within_2s: u64,
    within_promise: u64,
}

impl Delays {
    fn in_time(&self) -> f64 {
        self.within_promise as f64 / self.all as f64
    }

    fn since(&self, before: &Delays) -> Delays {
        Delays {
            all: self.all - before.all,
            within_2s: self.within_2s - before.within_2s,
            within_promise: self.within_promise - before.within_promise,
        }
    }
}

/// The delays once every one of so many records has one.
fn settled(
    ingester: &mut loginlake_scenarios::process::Process,
    page: SocketAddr,
    records: u64,
) -> Result<Delays> {
    ingester.wait_until(&format!("delays of {records} records"), LIMIT, || {
        let number = |name: &str, label: &str| http::metric_with(page, name, label).map(|n| n as u64);
        let bucket = |bound: &str| number(&format!("{DELAY}_bucket"), &format!("le=\"{bound}\""));
        let all = number(&format!("{DELAY}_count"), "")?;
        ensure!(all <= records, "{all} records have a delay, of {records}");
        Ok((all == records).then_some(Delays {
            all,
            within_2s: bucket("2.0")?,
            within_promise: bucket("5.0")?,
        }))
    })
}

fn a_burst_of_old_dates_is_held() -> Result<()> {
    let scenario = Scenario::new("late-rows")?;
    scenario.create_topics_of(2)?;
    let page = http::loopback(free_port()?);
    let partitions = LATE_PARTITIONS.to_string();
    let (hold, age) = (format!("{}s", HOLD.as_secs()), format!("{}ms", AGE.as_millis()));
    let mut ingester = scenario
        .ingest()
        .args(["--late-partitions", &partitions, "--late-hold", &hold])
        .args(["--max-batch-age", &age, "--http", &page.to_string()])
        .start()?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");

    // Rows of today come and go at the usual age.
    let today = write(&scenario, "today.ndjson", 20, |_| Utc::now())?;
    scenario.replay(&today).run_ok(LIMIT)?;
    ingester.wait_until("today's rows", LIMIT, || log.has(&progress.ends()?))?;
    let usual = log.read_on()?.len();

    let begun = Instant::now();
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut lines: Vec<u64> = (0..3_000).collect();
    lines.shuffle(&mut random);
    let burst = write(&scenario, "burst.ndjson", lines.len(), |number| {
        let line = lines[number];
        match line % 20 {
            // Outside of the window: before 2015, and days ahead.
            0 if line.is_multiple_of(40) => time(date(2014, 6, 1), line),
            0 => Utc::now() + Duration::from_secs(3 * 86_400),
            1..=8 => Utc::now(),
            _ => time(date(2025, 1, 1) + Days::new(random.random_range(0..DATES)), line),
        }
    })?;
    scenario.replay(&burst).args(["--rate", "200"]).run_ok(LIMIT)?;
    ingester.wait_until("the burst", LIMIT, || log.has(&progress.ends()?))?;
    let took = begun.elapsed();
    let large = |from: usize, log: &[loginlake_scenarios::delta_log::Commit]| {
        let commits = log[from..].iter().map(|commit| commit.adds);
        commits.filter(|adds| *adds > LATE_PARTITIONS).collect::<Vec<_>>()
    };
    let files = large(usual, log.read_on()?);
    println!("{took:?}: commits of {files:?} files");
    let bound = 1 + took.as_secs() / HOLD.as_secs();
    ensure!(!files.is_empty(), "no commit of many files");
    ensure!(
        files.len() as u64 <= bound,
        "{} commits of more than {LATE_PARTITIONS} files in {took:?}: {files:?}",
        files.len()
    );
    ensure!(
        files.iter().all(|adds| *adds as u64 <= DATES + 1),
        "a file for each date: {files:?}"
    );

    // Nothing else arrives: what is held is committed when the hold is over, in one commit.
    let (before, alone) = (log.read_on()?.len(), Instant::now());
    let by_hold = |page| http::metric_with(page, "ingest_commits_total", "reason=\"late_hold\"");
    let held_before = by_hold(page)?;
    let few = write(&scenario, "few.ndjson", 50, |number| {
        time(date(2025, 1, 1) + Days::new(number as u64), 0)
    })?;
    scenario.replay(&few).run_ok(LIMIT)?;
    ingester.wait_until("what is held", LIMIT, || log.has(&progress.ends()?))?;
    let waited = alone.elapsed();
    assert_eq!(large(before, log.read_on()?), [50]);
    ensure!(
        waited >= HOLD,
        "committed after {waited:?}, not held for {HOLD:?}"
    );
    ingester.wait_until("its commit to be counted", LIMIT, || {
        Ok((by_hold(page)? == held_before + 1.0).then_some(()))
    })?;
    ingester.terminate(LIMIT)?;
    every_row_is_in_its_date(&scenario)
}

/// Every record is in the table partition of its own date, or rejected for its time, once.
fn every_row_is_in_its_date(scenario: &Scenario) -> Result<()> {
    let (mut dated, mut outside) = (Vec::new(), Vec::new());
    let earliest = time(date(2015, 1, 1), 0);
    for record in scenario.kafka.read_committed(&scenario.input_topic())? {
        let at = event_time(&record)?;
        let kafka_ms = record.timestamp_ms.context("no Kafka timestamp")?;
        let place = (record.partition, record.offset);
        let is_ahead = at.timestamp_millis() > kafka_ms + 86_400_000;
        match at < earliest || is_ahead {
            true => outside.push(place),
            false => dated.push((place, at.date_naive().to_string())),
        }
    }
    ensure!(outside.len() > 100 && dated.len() > 1_000);
    let sql = "SELECT kafka_partition, kafka_offset, CAST(login_date AS VARCHAR) FROM t";
    let mut found: BTreeMap<Position, String> = BTreeMap::new();
    let rows = scenario.reader().query("logins", sql)?;
    for row in &rows {
        let date = row[2].as_str().context("a row without a date")?;
        found.insert(position(row)?, date.to_owned());
    }
    let positions = rows.iter().map(|row| position(row)).collect::<Result<Vec<_>>>()?;
    each_once(dated.iter().map(|(place, _)| *place), positions).context("logins")?;
    for (place, date) in dated {
        ensure!(
            found[&place] == date,
            "{place:?} of {date} is in {}",
            found[&place]
        );
    }
    let sql = "SELECT kafka_partition, kafka_offset FROM t WHERE reason = 'TIMESTAMP_RANGE'";
    let rows = scenario.reader().query("rejected", sql)?;
    let rejected = rows.iter().map(|row| position(row)).collect::<Result<Vec<_>>>()?;
    each_once(outside, rejected).context("rejected")
}

fn event_time(record: &Record) -> Result<DateTime<Utc>> {
    let payload = record.payload.as_deref().context("no payload")?;
    let value: serde_json::Value = serde_json::from_slice(payload)?;
    let seconds = value["timestamp"].as_i64().context("no timestamp")?;
    DateTime::from_timestamp(seconds, 0).context("no time")
}

fn date(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).expect("a date of the calendar")
}

/// A time of a day.
fn time(date: NaiveDate, number: u64) -> DateTime<Utc> {
    let midnight = date
        .and_hms_opt(0, 0, 0)
        .expect("each day has a midnight")
        .and_utc();
    midnight + Duration::from_secs(number % 86_400)
}

/// A file of logins, each at its time.
fn write(
    scenario: &Scenario,
    name: &str,
    count: usize,
    mut time: impl FnMut(usize) -> DateTime<Utc>,
) -> Result<String> {
    let mut text = String::new();
    for number in 0..count {
        let seconds = time(number).timestamp();
        writeln!(
            text,
            "{{\"user_id\":\"a6397988-1649-4859-ae5f-{number:012x}\",\"app_version\":\"2.3.0\",\"ip\":\"8.8.8.8\",\
             \"locale\":\"RI\",\"device_id\":\"d-{number}\",\"timestamp\":{seconds},\"device_type\":\"iOS\"}}"
        )?;
    }
    let file = scenario.dir().join(name);
    fs::write(&file, text)?;
    Ok(file.display().to_string())
}
