//! What an operator gets wrong is answered by one clear line on stderr that says what and what to do, by the right exit
//! code (2 for the command line and the configuration, 1 for what the outside world refuses), and by nothing else: no
//! panic, no data on stdout, nothing half written.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Output, Program};
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::{entries, http, runner};

const LIMIT: Duration = Duration::from_secs(120);
const FAILED: i32 = 1;
const USAGE: i32 = 2;

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        an_unreachable_broker,
        a_missing_topic,
        a_missing_bucket,
        wrong_credentials,
        a_table_of_somebody_else,
        a_folder_of_somebody_else,
        a_lake_without_tables,
        a_broken_sql_file,
        an_unknown_key_in_the_configuration_file,
        an_unknown_flag,
        a_value_that_is_none,
        a_librdkafka_property_that_is_ours,
    ])
}

/// Runs a command that must be refused with this code, in one `error:` line that holds all of `words`.
fn refused(program: &Program, code: i32, words: &[&str]) -> Result<Output> {
    let output = program.run(LIMIT)?;
    let context = format!("{} ended with {}\n{}", output.shown, output.code, output.stderr);
    ensure!(output.code == code, "exit code {code} was due: {context}");
    let errors: Vec<&str> = output
        .stderr
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    let [line] = errors[..] else {
        anyhow::bail!("one error: line was due: {context}")
    };
    for word in words {
        ensure!(line.contains(word), "{word} is not in the error: line: {context}");
    }
    for internal in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
        ensure!(
            !output.stderr.contains(internal),
            "{internal} is none of the user's business: {context}"
        );
    }
    ensure!(output.stdout.is_empty(), "stdout is for data: {}", output.stdout);
    Ok(output)
}

fn an_unreachable_broker() -> Result<()> {
    let scenario = Scenario::new("unreachable-broker")?;
    let nobody = http::loopback(free_port()?).to_string();
    let on = |name: &str, command: &[&str]| {
        Program::ours(name, scenario.dir())
            .args(command)
            .args(["--brokers", &nobody])
            .env("LOGINLAKE_HTTP", "none")
    };
    refused(&on("realtime", &["run"]), FAILED, &[&nobody])?;
    refused(&on("generate", &["--count", "10"]), FAILED, &[&nobody])?;
    let ingest = scenario
        .olap("ingest")
        .args(["--brokers", &nobody])
        .env("LOGINLAKE_HTTP", "none");
    refused(&ingest, FAILED, &[&nobody])?;
    nothing_written(&scenario)
}

fn a_missing_topic() -> Result<()> {
    let scenario = Scenario::new("missing-topic")?;
    let input = scenario.input_topic();
    let output = refused(&scenario.realtime(), FAILED, &[&input])?;
    ensure!(
        output.stderr.contains("--create-topics"),
        "what to do is not said: {}",
        output.stderr
    );
    refused(&scenario.ingest(), FAILED, &[&input])?;
    scenario.kafka.create_topic(&input, 1)?;
    refused(&scenario.realtime(), FAILED, &[&scenario.output_topic()])?;
    ensure!(
        scenario.kafka.partitions(&scenario.output_topic())? == 0,
        "it made the topic that it complained about"
    );
    nothing_written(&scenario)
}

fn a_missing_bucket() -> Result<()> {
    let scenario = Scenario::new("missing-bucket")?;
    scenario.create_topics()?;
    let elsewhere = "s3://bucket-that-nobody-made/lake";
    refused(
        &scenario.ingest_into(elsewhere),
        FAILED,
        &["bucket-that-nobody-made"],
    )?;
    let query = scenario
        .olap_on("query", elsewhere)
        .args(["-e", "SELECT count(*) FROM logins"]);
    refused(&query, FAILED, &["bucket-that-nobody-made"])?;
    refused(
        &scenario.olap_on("compact", elsewhere).arg("--all"),
        FAILED,
        &["bucket-that-nobody-made"],
    )?;
    Ok(())
}

fn wrong_credentials() -> Result<()> {
    let scenario = Scenario::new("wrong-credentials")?;
    scenario.create_topics()?;
    let secret = "a-secret-that-is-wrong";
    for program in [
        scenario.ingest(),
        scenario.olap("query").args(["-e", "SELECT count(*) FROM logins"]),
    ] {
        let output = refused(
            &program.env("AWS_SECRET_ACCESS_KEY", secret),
            FAILED,
            &[&scenario.bucket()],
        )?;
        ensure!(
            !output.stderr.contains(secret),
            "a secret is in the output: {}",
            output.stderr
        );
        ensure!(
            output.stderr.contains("AWS_SECRET_ACCESS_KEY"),
            "what to do is not said: {}",
            output.stderr
        );
    }
    nothing_written(&scenario)
}

fn a_table_of_somebody_else() -> Result<()> {
    let scenario = Scenario::new("foreign-table")?;
    scenario.create_topics()?;
    scenario.reader().write_foreign_table("logins")?;
    let before = scenario.minio.list(&scenario.bucket())?;
    refused(&scenario.ingest(), FAILED, &[&scenario.lake()])?;
    refused(
        &scenario.olap("compact").arg("--all"),
        FAILED,
        &[&scenario.lake()],
    )?;
    assert_eq!(scenario.minio.list(&scenario.bucket())?, before);
    Ok(())
}

fn a_folder_of_somebody_else() -> Result<()> {
    let scenario = Scenario::new("foreign-folder")?;
    scenario.create_topics()?;
    for name in ["lake/logins/README.txt", "lake/logins/part-00000.parquet"] {
        scenario.minio.put(&scenario.bucket(), name, b"not one of ours")?;
    }
    let before = scenario.minio.list(&scenario.bucket())?;
    refused(&scenario.ingest(), FAILED, &[&scenario.lake()])?;
    assert_eq!(scenario.minio.list(&scenario.bucket())?, before);

    let folder = scenario.dir().join("photos");
    fs::create_dir_all(folder.join("logins"))?;
    fs::write(folder.join("logins/holiday.jpg"), "not one of ours")?;
    refused(
        &scenario.ingest_into(&folder.display().to_string()),
        FAILED,
        &["photos"],
    )?;
    assert_eq!(fs::read_dir(&folder)?.count(), 1);
    assert_eq!(fs::read_dir(folder.join("logins"))?.count(), 1);
    Ok(())
}

fn a_lake_without_tables() -> Result<()> {
    let scenario = Scenario::new("no-tables")?;
    let output = refused(
        &scenario.olap("query").args(["-e", "SELECT count(*) FROM logins"]),
        FAILED,
        &[&scenario.lake()],
    )?;
    ensure!(
        output.stderr.contains("olap ingest"),
        "what to do is not said: {}",
        output.stderr
    );
    nothing_written(&scenario)
}

fn a_broken_sql_file() -> Result<()> {
    let scenario = Scenario::new("broken-sql")?;
    scenario.create_topics()?;
    scenario.generate(100, 1).run_ok(LIMIT)?;
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    fs::write(
        scenario.dir().join("broken.sql"),
        "SELECT region,\n  FROM FROM logins;\n",
    )?;
    refused(&scenario.olap("query").arg("broken.sql"), FAILED, &["broken.sql"])?;
    fs::write(scenario.dir().join("column.sql"), "SELECT regoin FROM logins;\n")?;
    let output = refused(
        &scenario.olap("query").arg("column.sql"),
        FAILED,
        &["column.sql", "regoin"],
    )?;
    ensure!(
        output.stderr.contains("region"),
        "the column that was meant is not named: {}",
        output.stderr
    );
    refused(&scenario.olap("query").arg("absent.sql"), USAGE, &["absent.sql"])?;
    for statement in [
        "DROP TABLE logins",
        "COPY logins TO 'stolen.csv'",
        "CREATE TABLE t AS SELECT 1",
    ] {
        refused(&scenario.olap("query").args(["-e", statement]), FAILED, &[])?;
    }
    ensure!(
        !scenario.dir().join("stolen.csv").exists(),
        "a refused statement wrote a file"
    );
    Ok(())
}

fn an_unknown_key_in_the_configuration_file() -> Result<()> {
    let scenario = Scenario::new("unknown-key")?;
    fs::write(
        scenario.dir().join("settings.toml"),
        "brokers = \"localhost:9092\"\noutput-topik = \"x\"\n",
    )?;
    for program in [
        scenario.realtime(),
        scenario.ingest(),
        scenario.olap("query").args(["-e", "SELECT 1"]),
    ] {
        refused(
            &program.args(["--config", "settings.toml"]),
            USAGE,
            &["settings.toml", "output-topik"],
        )?;
    }
    refused(
        &scenario.realtime().args(["--config", "absent.toml"]),
        USAGE,
        &["absent.toml"],
    )?;
    nothing_written(&scenario)
}

fn an_unknown_flag() -> Result<()> {
    let scenario = Scenario::new("unknown-flag")?;
    for program in [scenario.realtime(), scenario.ingest(), scenario.generate(1, 1)] {
        refused(&program.arg("--frobnicate"), USAGE, &["--frobnicate"])?;
    }
    Ok(())
}

fn a_value_that_is_none() -> Result<()> {
    let scenario = Scenario::new("bad-values")?;
    refused(
        &scenario.ingest().args(["--max-batch-age", "soon"]),
        USAGE,
        &["soon"],
    )?;
    refused(
        &scenario.ingest().args(["--memory-budget", "much"]),
        USAGE,
        &["much"],
    )?;
    refused(
        &scenario.realtime().args(["--guarantee", "perhaps-once"]),
        USAGE,
        &["perhaps-once"],
    )?;
    refused(
        &scenario.realtime().env("LOGINLAKE_HTTP", "everywhere"),
        USAGE,
        &["everywhere"],
    )?;
    Ok(())
}

fn a_librdkafka_property_that_is_ours() -> Result<()> {
    let scenario = Scenario::new("our-property")?;
    let program = scenario.realtime().args(["-X", "enable.auto.commit=true"]);
    refused(&program, USAGE, &["enable.auto.commit"])?;
    Ok(())
}

fn nothing_written(scenario: &Scenario) -> Result<()> {
    let objects = scenario.minio.list(&scenario.bucket())?;
    ensure!(objects.is_empty(), "something was written: {objects:?}");
    Ok(())
}
