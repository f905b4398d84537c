//! docs/DISASTER_RECOVERY.md is followed to the letter, on Kafka and MinIO, while ingesters and maintenance run: a backup, a lost bucket, a
//! way back to an older version. Afterwards every record is there once, as an independent reader and `olap audit` see it.
//! Where rows would be lost the way back is refused (3), and nothing is written.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::delta_log::{DeltaLog, next_offsets};
use loginlake_scenarios::document::{Document, Shell};
use loginlake_scenarios::exactness::{Position, each_once, position, positions, stored_exactly};
use loginlake_scenarios::kafka::Record;
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::Program;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::reader::Reader;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{entries, runner};

const EVENTS: u64 = 9_000;
const PARTITIONS: i32 = 3;
const PHASES: u64 = 3;
/// Those that arrive while the backup is made, and how many a second.
const SLOW_EVENTS: u64 = 3_000;
const SLOW_RATE: &str = "150";
const LIMIT: Duration = Duration::from_secs(240);
const DOCUMENT: &str = "docs/DISASTER_RECOVERY.md";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader, Part::Ops];
        a_lost_bucket_is_recovered_from_a_backup_that_was_made_while_logins_arrived,
        an_older_version_comes_back_beside_running_ingesters,
        nothing_comes_back_when_records_or_files_are_gone,
        rejected_comes_back_after_logins,
    ])
}

fn ingester(scenario: &Scenario) -> Program {
    scenario.ingest().args(["--max-batch-age", "300ms"])
}

/// All that arrives is in the lake.
fn ingest_all(scenario: &Scenario) -> Result<()> {
    ingester(scenario).arg("--exit-at-end").run_ok(LIMIT).map(drop)
}

/// A shell with the variables that the document asks for, and no others.
fn shell(scenario: &Scenario, document: &Document, version: i64) -> Result<Shell> {
    let bucket = scenario.bucket();
    let variables = [
        ("LOGINLAKE_BROKERS", scenario.kafka.brokers()),
        ("LOGINLAKE_INPUT_TOPIC", scenario.input_topic()),
        ("LAKE", scenario.lake()),
        ("BACKUP", format!("s3://{bucket}-backup/lake-2026-01-05")),
        ("NEW_LAKE", format!("s3://{bucket}-new/lake")),
        ("VERSION", version.to_string()),
    ];
    let block = document.blocks("What the commands below need", 1)?.remove(0);
    let asked: BTreeSet<&str> = block
        .lines()
        .filter_map(|line| line.trim_start_matches("export ").split_once('='))
        .map(|(name, _)| name)
        .collect();
    let set: BTreeSet<&str> = variables.iter().map(|(name, _)| *name).collect();
    ensure!(
        asked == set,
        "the document asks for {asked:?}, the scenario sets {set:?}"
    );
    let shell = Shell::of(scenario)?
        .set(
            "LOGINLAKE_GROUP_ID",
            format!("{}-by-hand", scenario.ingest_group()),
        )
        .set("LOGINLAKE_OPERATOR", "operator@scenario");
    Ok(variables
        .into_iter()
        .fold(shell, |shell, (name, value)| shell.set(name, value)))
}

/// The positions in `logins` and `rejected` of another lake of the same store.
fn rows_of(scenario: &Scenario, lake: &str) -> Result<Vec<Position>> {
    let reader = Reader::new(lake, scenario.minio.environment());
    let mut found = Vec::new();
    for table in ["logins", "rejected"] {
        let rows = reader.query(table, "SELECT kafka_partition, kafka_offset FROM t")?;
        for row in &rows {
            found.push(position(row)?);
        }
    }
    Ok(found)
}

fn input(scenario: &Scenario) -> Result<Vec<Record>> {
    scenario.kafka.read_committed(&scenario.input_topic())
}

fn audit(scenario: &Scenario) -> Result<()> {
    let brokers = scenario.kafka.brokers();
    let topic = scenario.input_topic();
    scenario
        .olap("audit")
        .args(["--brokers", &brokers, "--input-topic", &topic])
        .run_ok(LIMIT)
        .map(drop)
}

fn a_lost_bucket_is_recovered_from_a_backup_that_was_made_while_logins_arrived() -> Result<()> {
    let scenario = Scenario::new("recovery")?;
    let document = Document::open(DOCUMENT)?;
    let shell = shell(&scenario, &document, 0)?;
    let bucket = scenario.bucket();
    for other in ["backup", "new"] {
        scenario.minio.create_bucket(&format!("{bucket}-{other}"))?;
    }
    scenario.create_topics_of(PARTITIONS)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let mut load = Load::of(&scenario, &progress, EVENTS, PHASES, 91);
    let ingesters = [ingester(&scenario).start()?, ingester(&scenario).start()?];
    let mut maintainer = scenario
        .olap("maintain")
        .env("LOGINLAKE_LOG_FORMAT", "text")
        .args(["--http", "none", "--vacuum-every", "never"])
        .args(["--compact-every", "1s", "--refresh-every", "1s"])
        .start()?;
    load.phase("nothing else", || Ok(()))?;
    log.wait_stored(&progress.ends()?, LIMIT)?;
    maintainer.wait_says("job=\"refresh\"", LIMIT)?;
    let backup = document.blocks("Backup", 2)?;
    // Slowly, so that logins arrive as long as the backup takes.
    let producer = scenario
        .generate(SLOW_EVENTS, 990)
        .args(["--bad-share", "0.02", "--rate", SLOW_RATE])
        .start()?;
    progress.wait_produced(load.events() + 1, LIMIT)?;
    shell.run_ok(&backup[0], LIMIT)?;
    producer.wait_exit(LIMIT)?.ok()?;
    shell.run_ok(&backup[1], LIMIT)?;
    scenario.generate(EVENTS / PHASES, 991).run_ok(LIMIT)?;
    log.wait_stored(&progress.ends()?, LIMIT)?;

    for process in ingesters {
        process.kill();
    }
    maintainer.kill();
    shell.run_ok(&format!("aws s3 rb --force s3://{bucket}"), LIMIT)?;
    ensure!(scenario.minio.list(&bucket).is_err(), "the bucket is still there");

    let all = input(&scenario)?;
    let backed_up = rows_of(&scenario, &format!("s3://{bucket}-backup/lake-2026-01-05"))?;
    ensure!(
        !backed_up.is_empty() && backed_up.len() < all.len(),
        "the backup has {} of {} records: nothing is to be read again",
        backed_up.len(),
        all.len()
    );
    let recovery = document.blocks("A lost bucket", 2)?;
    shell.run_ok(&recovery[0], LIMIT)?;
    shell.run_ok(&recovery[1], LIMIT)?;
    let lake = format!("s3://{bucket}-new/lake");
    each_once(positions(&all), rows_of(&scenario, &lake)?)?;
    let reader = Reader::new(&lake, scenario.minio.environment());
    let logins = i64::try_from(reader.count("logins")?)?;
    let counted = reader.number("logins_hourly", "SELECT CAST(sum(logins) AS BIGINT) FROM t")?;
    ensure!(
        counted == logins,
        "the batch view counts {counted} of {logins} logins"
    );
    println!(
        "of {} records the backup had {}; all are in the new bucket",
        all.len(),
        backed_up.len()
    );
    Ok(())
}

fn an_older_version_comes_back_beside_running_ingesters() -> Result<()> {
    let scenario = Scenario::new("restore-live")?;
    scenario.create_topics_of(PARTITIONS)?;
    let document = Document::open(DOCUMENT)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let mut load = Load::of(&scenario, &progress, EVENTS, PHASES, 92);
    let ingesters = [ingester(&scenario).start()?, ingester(&scenario).start()?];
    load.phase("nothing else", || Ok(()))?;
    log.wait_stored(&progress.ends()?, LIMIT)?;
    let good = log.read_on()?.last().context("no commit")?.version;
    let shell = shell(&scenario, &document, good)?;
    let commands = document.blocks("A wrong change: back to an older version", 3)?;
    let restored_at = |log: &mut DeltaLog<'_>| -> Result<Vec<i64>> {
        let commits = log.read_on()?.iter();
        Ok(commits
            .filter(|commit| commit.operation == "RESTORE")
            .map(|commit| commit.version)
            .collect())
    };
    load.phase("the way back", || {
        let history = shell.run_ok(&commands[0], LIMIT)?;
        let listed = history
            .stdout
            .lines()
            .filter(|line| line.contains("STREAMING UPDATE"))
            .count();
        ensure!(listed > 0, "no commit is listed: {}", history.stdout);
        shell.run_ok(&commands[1], LIMIT)?;
        ensure!(
            restored_at(&mut DeltaLog::of(&scenario, "logins"))?.is_empty(),
            "a dry run has restored"
        );
        shell.run_ok(&commands[2], LIMIT).map(drop)
    })?;
    load.phase("more", || Ok(()))?;
    log.wait_stored(&progress.ends()?, LIMIT)?;
    for process in ingesters {
        process.terminate(LIMIT)?;
    }
    let restored = restored_at(&mut log)?;
    ensure!(
        restored.len() == 1 && restored[0] > good,
        "restored at {restored:?}"
    );
    let went_back = next_offsets(&log.read_on()?[..=usize::try_from(restored[0])?])?;
    let ends = progress.ends()?;
    ensure!(
        went_back.values().sum::<i64>() < ends.values().sum::<i64>(),
        "nothing was to be read again"
    );
    stored_exactly(&scenario, &input(&scenario)?)?;
    audit(&scenario)?;
    let history = scenario
        .olap("history")
        .args(["--format", "ndjson", "--limit", "1000"])
        .run_ok(LIMIT)?;
    let by: Vec<serde_json::Value> = history
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<serde_json::Value>, _>>()?
        .into_iter()
        .filter(|commit| commit["operation"] == "RESTORE")
        .map(|commit| commit["by"].clone())
        .collect();
    ensure!(by == ["operator@scenario"], "restored by {by:?}");
    Ok(())
}

fn nothing_comes_back_when_records_or_files_are_gone() -> Result<()> {
    let scenario = Scenario::new("restore-refused")?;
    scenario.create_topics_of(PARTITIONS)?;
    let document = Document::open(DOCUMENT)?;
    let mut log = DeltaLog::of(&scenario, "logins");
    scenario.generate(600, 93).run_ok(LIMIT)?;
    ingest_all(&scenario)?;
    let good = log.read_on()?.last().context("no commit")?.version;
    let stood = next_offsets(log.read_on()?)?[&0];
    scenario.generate(600, 94).run_ok(LIMIT)?;
    ingest_all(&scenario)?;
    let shell = shell(&scenario, &document, good)?;
    let restore = document
        .blocks("A wrong change: back to an older version", 3)?
        .remove(2);
    let before = log.read_on()?.to_vec();

    // Retention took records that would have to be read again.
    let low = stood + 5;
    scenario.kafka.delete_records(&scenario.input_topic(), 0, low)?;
    let refused = shell.run(&restore, LIMIT)?;
    ensure!(refused.code == 3, "{}: {}", refused.code, refused.stderr);
    let gone = format!("/0: records {stood} to {} are gone", low - 1);
    ensure!(refused.stderr.contains(&gone), "{gone}: {}", refused.stderr);
    ensure!(log.read_on()? == before, "something was committed");

    // The topic is another one, which has other records at these offsets.
    scenario.kafka.delete_topic(&scenario.input_topic())?;
    scenario.kafka.create_topic(&scenario.input_topic(), PARTITIONS)?;
    scenario.generate(2_000, 97).run_ok(LIMIT)?;
    let refused = shell.run(&restore, LIMIT)?;
    ensure!(refused.code == 3, "{}: {}", refused.code, refused.stderr);
    ensure!(refused.stderr.contains("was made again"), "{}", refused.stderr);
    ensure!(log.read_on()? == before, "something was committed");

    // Vacuum took files that would have to come back.
    scenario.olap("compact").arg("--all").run_ok(LIMIT)?;
    let before = log.read_on()?.to_vec();
    scenario
        .olap("vacuum")
        .args(["--delete", "--force", "--retention", "0s"])
        .run_ok(LIMIT)?;
    let refused = scenario
        .olap("restore")
        .args(["--to", &good.to_string()])
        .run(LIMIT)?;
    ensure!(refused.code == 3, "{}: {}", refused.code, refused.stderr);
    ensure!(refused.stderr.contains("vacuum"), "{}", refused.stderr);
    ensure!(log.read_on()? == before, "something was committed");
    Ok(())
}

fn rejected_comes_back_after_logins() -> Result<()> {
    let scenario = Scenario::new("restore-rejected")?;
    scenario.create_topics_of(PARTITIONS)?;
    let newest = |table: &'static str| -> Result<i64> {
        let mut log = DeltaLog::of(&scenario, table);
        Ok(log.read_on()?.last().context("no commit")?.version)
    };
    let produce = |seed: u64| {
        let program = scenario.generate(600, seed);
        program.args(["--bad-share", "0.3"]).run_ok(LIMIT).map(drop)
    };
    produce(95)?;
    ingest_all(&scenario)?;
    let (logins, rejected) = (newest("logins")?, newest("rejected")?);
    produce(96)?;
    ingest_all(&scenario)?;
    let count = || scenario.reader().count("rejected");
    let all = count()?;

    let restore = |table: &str, version: i64| {
        let program = scenario.olap("restore");
        program
            .args(["--table", table, "--to", &version.to_string()])
            .run(LIMIT)
    };
    let refused = restore("rejected", rejected)?;
    ensure!(
        refused.code == 3 && refused.stderr.contains("restore logins"),
        "{}: {}",
        refused.code,
        refused.stderr
    );
    ensure!(count()? == all, "rows of rejected have gone");
    restore("logins", logins)?.ok()?;
    restore("rejected", rejected)?.ok()?;
    ensure!(count()? < all, "no rejected row has gone");
    ingest_all(&scenario)?;
    ensure!(count()? == all, "not every rejected row came back");
    stored_exactly(&scenario, &input(&scenario)?)?;
    audit(&scenario)
}
