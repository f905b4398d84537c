//! `olap ingest` with its default settings takes no more memory than its bar, with 4 or 400 Kafka partitions, large records, floods of
//! rejected ones, and rows of hundreds of dates; where the system gives it too little it ends, and nothing is lost.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::delta_log::DeltaLog;
use loginlake_scenarios::exactness::{counts_are_exact, input_positions};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::scenario::{self, Scenario};
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What may be resident.
const BAR_BYTES: u64 = 256_000_000;
/// What is resident of a release build's code, at most. Of a debug build it is 76 MiB, which no user has: its code counts as so
/// much.
const CODE_BYTES: u64 = 36 << 20;
/// What the system gives at most. It counts address space: the rooms of about fifteen stacks, and what the allocator keeps of its
/// own after it gave the memory behind it back, are in it, too.
const DATA_BYTES: u64 = 640 << 20;
/// Not even the threads fit into this.
const TOO_LITTLE_BYTES: u64 = 200 << 20;
const EVENTS: u64 = 150_000;
/// Large records: with their key and headers below the broker's limit of 1 MiB.
const GOOD_BYTES: usize = 100 * 1024;
const GOOD: usize = 300;
const REJECTED_BYTES: usize = 900 * 1024;
const REJECTED: usize = 200;
/// 2025-01-01T00:00:00Z, epoch seconds, and how many dates there are from it on.
const FIRST_DAY_SECS: i64 = 1_735_689_600;
const DATES: usize = 300;
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        a_backlog_in_four_partitions_fits,
        a_backlog_in_four_hundred_partitions_fits,
        large_records_and_a_flood_of_rejected_ones_fit,
        rows_of_hundreds_of_dates_fit,
        too_little_memory_ends_it_and_loses_nothing,
    ])
}

fn a_backlog_in_four_partitions_fits() -> Result<()> {
    let scenario = Scenario::new("memory-of-four")?;
    create_topics(&scenario, 4)?;
    produce(&scenario)?;
    ingest_within_the_limit(&scenario)
}

fn a_backlog_in_four_hundred_partitions_fits() -> Result<()> {
    let scenario = Scenario::new("memory-of-four-hundred")?;
    create_topics(&scenario, 400)?;
    produce(&scenario)?;
    ingest_within_the_limit(&scenario)
}

fn large_records_and_a_flood_of_rejected_ones_fit() -> Result<()> {
    let scenario = Scenario::new("memory-of-large-records")?;
    create_topics(&scenario, 4)?;
    let mut random = SmallRng::seed_from_u64(7);
    // Letters of which nothing can be taken away: a compressor does not help.
    let mut letters = |bytes: usize| -> String {
        (0..bytes)
            .map(|_| char::from(b'0' + random.random_range(0..64_u8)))
            .filter(|letter| *letter != '\\')
            .collect()
    };
    let padding = letters(GOOD_BYTES);
    let good = (0..GOOD).map(|number| {
        (
            format!("good-{number}"),
            good_record(number, FIRST_DAY_SECS, &padding),
        )
    });
    scenario.kafka.produce(&scenario.input_topic(), good)?;
    let rejected =
        (0..REJECTED).map(|number| (format!("rejected-{number}"), letters(REJECTED_BYTES).into_bytes()));
    scenario.kafka.produce(&scenario.input_topic(), rejected)?;
    ingest_within_the_limit(&scenario)?;
    let reader = scenario.reader();
    let (good, rejected) = (reader.count("logins")?, reader.count("rejected")?);
    ensure!(
        (good, rejected) == (GOOD, REJECTED),
        "{good} good ones, {rejected} rejected"
    );
    Ok(())
}

fn rows_of_hundreds_of_dates_fit() -> Result<()> {
    let scenario = Scenario::new("memory-of-many-dates")?;
    create_topics(&scenario, 4)?;
    let count = usize::try_from(scenario::events(EVENTS)?)?;
    let records = (0..count).map(|number| {
        let timestamp = FIRST_DAY_SECS + (number % DATES) as i64 * 86_400 + (number % 86_400) as i64;
        (format!("key-{number}"), good_record(number, timestamp, ""))
    });
    scenario.kafka.produce(&scenario.input_topic(), records)?;
    ingest_within_the_limit(&scenario)?;
    ensure!(
        scenario.reader().count("logins")? == count,
        "not every row is a good one"
    );
    Ok(())
}

fn too_little_memory_ends_it_and_loses_nothing() -> Result<()> {
    let scenario = Scenario::new("memory-too-little")?;
    create_topics(&scenario, 4)?;
    produce(&scenario)?;
    let ingest = scenario.ingest().arg("--exit-at-end");
    match ingest.clone().data_limit(TOO_LITTLE_BYTES).run(LIMIT) {
        Err(died) => println!("with too little it is aborted: {died:#}"),
        Ok(output) => {
            ensure!(
                output.code == 1,
                "it ended with {}: {}",
                output.code,
                output.stderr
            );
            ensure!(output.stderr.contains("error: "), "no reason: {}", output.stderr);
            println!(
                "with too little it ends: {}",
                output.stderr.lines().last().unwrap_or_default()
            );
        }
    }
    is_sound(&scenario)?;
    ingest_within_the_limit(&scenario)
}

/// Makes the topics, and waits until everybody who asks is told of the input topic.
fn create_topics(scenario: &Scenario, partitions: i32) -> Result<()> {
    scenario.create_topics_of(partitions)?;
    let wanted = usize::try_from(partitions)?;
    wait_for("the input topic", LIMIT, || {
        let there = scenario.kafka.partitions(&scenario.input_topic())?;
        Ok((there == wanted).then_some(()))
    })
}

fn produce(scenario: &Scenario) -> Result<()> {
    let producer = scenario.generate(scenario::events(EVENTS)?, 7);
    producer.args(["--bad-share", "0.02"]).run_ok(LIMIT).map(drop)
}

fn good_record(number: usize, timestamp: i64, padding: &str) -> Vec<u8> {
    format!(
        r#"{{"user_id":"00000000-0000-4000-8000-{number:012x}","device_id":"d-{number}","ip":"10.0.0.1","locale":"RI","timestamp":{timestamp},"device_type":"iOS","app_version":"2.3.0","padding":"{padding}"}}"#
    )
    .into_bytes()
}

/// The whole topic into the lake, exactly, within the limits.
fn ingest_within_the_limit(scenario: &Scenario) -> Result<()> {
    let ingest = scenario.ingest().arg("--exit-at-end").data_limit(DATA_BYTES);
    let mut process = ingest.start()?;
    let (mut peak, mut code) = (0, 0);
    wait_for("the end of the topic", LIMIT, || {
        peak = process.peak_resident_bytes().unwrap_or(0).max(peak);
        code = process.resident_code_bytes().unwrap_or(0).max(code);
        Ok(process.has_ended()?.then_some(()))
    })?;
    process.wait_exit(LIMIT)?.ok()?;
    println!(
        "{}: at most {} MiB resident, {} MiB of it code",
        scenario.bucket(),
        peak >> 20,
        code >> 20
    );
    let counted = peak.saturating_sub(code) + code.min(CODE_BYTES);
    ensure!(
        counted <= BAR_BYTES,
        "{counted} bytes were resident, which is over {BAR_BYTES}"
    );
    // Where the system does not tell, only its own limit holds.
    ensure!(peak > 0 || !cfg!(target_os = "linux"), "nobody told the peak");
    let stored: i64 = is_sound(scenario)?.values().sum();
    let wanted = input_positions(scenario)?.len();
    ensure!(
        u64::try_from(stored)? == wanted as u64,
        "{stored} of {wanted} records are in the table"
    );
    Ok(())
}

/// Both tables hold exactly what is below the offsets; returns those.
fn is_sound(scenario: &Scenario) -> Result<BTreeMap<i32, i64>> {
    counts_are_exact(scenario, &mut DeltaLog::of(scenario, "logins"), &BTreeMap::new()).context("the table")
}
