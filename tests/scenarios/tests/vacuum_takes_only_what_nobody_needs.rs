//! Vacuum takes what nobody needs and nothing else (invariant 8): not the file that a frozen writer has stored and not committed,
//! not those of a version that somebody still reads; the orphans of a dead writer once they are old. What it says before is what
//! it does. A log that it has cleaned opens in other engines, and ingestion goes on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::bucket_copy::BucketCopy;
use loginlake_scenarios::delta_log::DeltaLog;
use loginlake_scenarios::exactness::stored_exactly;
use loginlake_scenarios::fail_points::died;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Program, Signal};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::reader::Reader;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};

const EVENTS: u64 = 3_000;
const BATCHES: u64 = 3;
const SEED: u64 = 271;
const PARTITIONS: i32 = 3;
const LIMIT: Duration = Duration::from_secs(240);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        a_frozen_writer_and_a_slow_reader_keep_their_files,
        orphans_go_when_they_are_old_and_a_cleaned_log_opens_everywhere,
    ])
}

/// A lake of a few commits, each with a checkpoint, compacted; returns the version before the compaction.
fn filled(scenario: &Scenario) -> Result<i64> {
    scenario.create_topics_of(PARTITIONS)?;
    for batch in 0..BATCHES {
        scenario
            .generate(EVENTS, SEED + batch)
            .args(["--bad-share", "0.02"])
            .run_ok(LIMIT)?;
        ingester(scenario)
            .env("LOGINLAKE_FAIL_POINT", "after-checkpoint:error:1000000")
            .run_ok(LIMIT)?;
    }
    let mut log = DeltaLog::of(scenario, "logins");
    let version = log.read_on()?.last().context("no commit")?.version;
    scenario.olap("compact").arg("--all").run_ok(LIMIT)?;
    Ok(version)
}

fn ingester(scenario: &Scenario) -> Program {
    scenario
        .ingest()
        .args(["--exit-at-end", "--max-batch-age", "300ms"])
}

/// The Parquet files of the tables in the bucket.
fn data_files(scenario: &Scenario) -> Result<BTreeSet<String>> {
    let names = scenario.minio.list(&scenario.bucket())?;
    let is_data = |name: &String| name.ends_with(".parquet") && !name.contains("_delta_log");
    Ok(names.into_iter().filter(is_data).collect())
}

/// The files of a table that its newest version names, as Python's deltalake says.
fn named_files(reader: &Reader, lake: &str, table: &str) -> Result<BTreeSet<String>> {
    let answer = reader.run("files_of.py", &[&format!("{lake}/{table}")])?;
    let paths: Vec<String> = serde_json::from_str(&answer)?;
    Ok(paths.into_iter().map(|path| format!("{table}/{path}")).collect())
}

fn reached(name: &str, barrier: &std::path::Path) -> Result<()> {
    let mut reached = barrier.as_os_str().to_owned();
    reached.push(".reached");
    let reached = [PathBuf::from(reached), barrier.with_extension("reached")];
    wait_for(&format!("{name} to be there"), LIMIT, || {
        Ok(reached.iter().any(|path| path.exists()).then_some(()))
    })
}

fn a_frozen_writer_and_a_slow_reader_keep_their_files() -> Result<()> {
    let scenario = Scenario::new("vacuum-leaves")?;
    let old = filled(&scenario)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let rows = scenario
        .reader()
        .query_at("logins", old, "SELECT count(*) FROM t")?[0][0]
        .clone();

    let go = scenario.dir().join("reader-go");
    let (path, reader) = (go.clone(), scenario.reader());
    let uri = format!("{}/logins", scenario.lake());
    let slow = std::thread::spawn(move || {
        reader.run(
            "hold_version.py",
            &[&uri, &old.to_string(), &path.display().to_string()],
        )
    });
    reached("the slow reader", &go)?;

    // A writer between upload and commit, frozen there.
    scenario.generate(EVENTS, SEED + BATCHES).run_ok(LIMIT)?;
    let before = data_files(&scenario)?;
    let barrier = scenario.dir().join("writer.barrier");
    let pause = format!("before-logins-commit:pause:{}", barrier.display());
    let writer: Process = ingester(&scenario).env("LOGINLAKE_FAIL_POINT", pause).start()?;
    reached("the writer", &barrier)?;
    writer.signal(Signal::Stop)?;
    let with_writer = data_files(&scenario)?;
    ensure!(with_writer.len() > before.len(), "the writer has stored no file");

    for arguments in [
        &["--retention", "1h"][..],
        &["--retention", "1h", "--table", "logins"],
        &[],
    ] {
        let dry = scenario.olap("vacuum").args(arguments).run_ok(LIMIT)?;
        let done = scenario
            .olap("vacuum")
            .args(arguments)
            .arg("--delete")
            .run_ok(LIMIT)?;
        ensure!(
            done.stdout.contains("younger than the retention"),
            "it did not see the file of the writer: {}",
            done.stdout
        );
        ensure!(
            dry.stdout.replace("would be removed", "removed") == done.stdout,
            "what was said before, {}, is not what was done: {}",
            dry.stdout,
            done.stdout
        );
        ensure!(
            data_files(&scenario)? == with_writer,
            "vacuum took a file: {}",
            done.stdout
        );
    }
    let unsafe_one = scenario
        .olap("vacuum")
        .args(["--delete", "--retention", "59m"])
        .run(LIMIT)?;
    ensure!(
        unsafe_one.code == 2 && unsafe_one.stderr.contains("--force"),
        "a retention below the floor: {} {}",
        unsafe_one.code,
        unsafe_one.stderr
    );
    ensure!(
        data_files(&scenario)? == with_writer,
        "a refused vacuum took a file"
    );

    let query = scenario.olap("query").args([
        "-e",
        "SELECT count(*) FROM logins",
        "--at",
        &old.to_string(),
        "--format",
        "csv",
    ]);
    let at = query.run(LIMIT)?;
    ensure!(
        at.code == 0 && at.stdout.contains(&rows.to_string()),
        "version {old}: {} {}, not {rows}",
        at.stdout,
        at.stderr
    );
    std::fs::write(&go, [])?;
    let read = slow
        .join()
        .map_err(|_| anyhow::anyhow!("the slow reader panicked"))??;
    ensure!(
        read.trim()
            .parse::<serde_json::Value>()
            .is_ok_and(|read| read == rows),
        "the slow reader has {read}, not {rows}"
    );

    writer.signal(Signal::Continue)?;
    std::fs::write(&barrier, [])?;
    writer.wait_exit(LIMIT)?.ok()?;
    DeltaLog::of(&scenario, "logins").wait_stored(&progress.ends()?, LIMIT)?;
    stored_exactly(
        &scenario,
        &scenario.kafka.read_committed(&scenario.input_topic())?,
    )
}

fn orphans_go_when_they_are_old_and_a_cleaned_log_opens_everywhere() -> Result<()> {
    let scenario = Scenario::new("vacuum-takes")?;
    filled(&scenario)?;
    let before = data_files(&scenario)?;
    scenario.generate(EVENTS, SEED + 10).run_ok(LIMIT)?;
    let killed = ingester(&scenario)
        .env("LOGINLAKE_FAIL_POINT", "before-logins-commit:kill")
        .start()?;
    ensure!(died(killed, LIMIT)?, "the writer did not die");
    let orphans: Vec<String> = data_files(&scenario)?
        .difference(&before)
        .filter(|name| name.contains("/logins/"))
        .map(|name| name.trim_start_matches("lake/").to_owned())
        .collect();
    ensure!(!orphans.is_empty(), "it left no orphan");
    ingester(&scenario)
        .env("LOGINLAKE_FAIL_POINT", "after-checkpoint:error:1000000")
        .run_ok(LIMIT)?;
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    stored_exactly(&scenario, &input)?;

    // The same lake as it will be in some weeks.
    let copy = BucketCopy::of(&scenario, "later")?;
    let reader = Reader::new(&copy.lake(), Vec::new());
    let tables = ["logins", "rejected"];
    let counts = || -> Result<Vec<usize>> { tables.iter().map(|table| reader.count(table)).collect() };
    let counted = counts()?;
    let vacuum = |arguments: &[&str]| scenario.olap_on("vacuum", &copy.lake()).args(arguments);
    let young = vacuum(&["--delete"]).run_ok(LIMIT)?;
    ensure!(
        orphans.iter().all(|path| copy.path(path).exists()),
        "orphans went while they were young: {}",
        young.stdout
    );
    for table in tables {
        copy.make_older(table, 40 * DAY)?;
    }
    let commits = || -> Result<usize> { Ok(std::fs::read_dir(copy.path("logins/_delta_log"))?.count()) };
    let commits_before = commits()?;
    let dry = vacuum(&[]).run_ok(LIMIT)?;
    ensure!(
        orphans.iter().all(|path| copy.path(path).exists()) && commits()? == commits_before,
        "a dry run removed something"
    );
    let done = vacuum(&["--delete"]).run_ok(LIMIT)?;
    ensure!(
        dry.stdout.replace("would be removed", "removed") == done.stdout,
        "what was said before, {}, is not what was done: {}",
        dry.stdout,
        done.stdout
    );
    for path in &orphans {
        ensure!(!copy.path(path).exists(), "the orphan {path} is still there");
        ensure!(
            done.stdout.contains(path.as_str()),
            "{path} is not named: {}",
            done.stdout
        );
    }
    // What compaction replaced a moment ago stays, however old the files are: readers of the version before may be at work.
    let named = named_files(&reader, &copy.lake(), "logins")?;
    ensure!(
        parquet_in(&copy, "logins")?.len() > named.len(),
        "replaced files went at once"
    );
    ensure!(
        commits()? < commits_before / 2,
        "the log was not cleaned: {}",
        done.stdout
    );
    ensure!(
        counts()? == counted,
        "rows before {counted:?}, after {:?}",
        counts()?
    );
    let polars = reader.query_with_polars("logins", "SELECT count(*) AS n FROM t")?;
    ensure!(
        polars[0][0].as_u64() == Some(counted[0] as u64),
        "Polars counts {polars:?}"
    );

    vacuum(&["--delete", "--force", "--retention", "0s"]).run_ok(LIMIT)?;
    for table in tables {
        let named = named_files(&reader, &copy.lake(), table)?;
        ensure!(
            parquet_in(&copy, table)? == named,
            "{table} has other files than its newest version names"
        );
    }
    ensure!(counts()? == counted, "rows went with files that nobody needs");
    // Ingestion goes on behind the cleaned log.
    scenario.generate(EVENTS, SEED + 20).run_ok(LIMIT)?;
    scenario
        .ingest_into(&copy.lake())
        .args(["--exit-at-end", "--max-batch-age", "300ms"])
        .run_ok(LIMIT)?;
    let all = scenario.kafka.read_committed(&scenario.input_topic())?.len();
    ensure!(
        counts()?.iter().sum::<usize>() == all && counted.iter().sum::<usize>() == input.len(),
        "{:?} rows of {all} records",
        counts()?
    );
    Ok(())
}

/// The Parquet files in a table's folder of a copy, beside its log.
fn parquet_in(copy: &BucketCopy, table: &str) -> Result<BTreeSet<String>> {
    let root = copy.path("");
    let mut folders = vec![copy.path(table)];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                if !path.ends_with("_delta_log") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                found.insert(path.strip_prefix(&root)?.display().to_string());
            }
        }
    }
    Ok(found)
}
