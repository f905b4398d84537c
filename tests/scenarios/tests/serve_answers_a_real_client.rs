//! `olap serve` over a bucket, asked by a client with nothing of ours (Python's HTTP, JSON and CSV, pyarrow, an OpenAPI
//! validator): every format gives the rows that another engine counts; who has no token, asks for too much, too long or too
//! often, or with hostile values, is told so with the right status; a copy is good until the table changes; what the client
//! does not wait for is stopped; a stop lets open requests end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::parts::{self, Part};
use loginlake_scenarios::process::{Process, Program, Signal};
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

const EVENTS: u64 = 3_000;
const LIMIT: Duration = Duration::from_secs(120);
const TOKEN: &str = "5d2c8e0f9a1b47c6";
const BY_REGION: &str = "\
-- How many logins has each region?
--
-- One row for each region.
--
-- Parameters:
--   $from    date = NULL  first date that counts; NULL is every one
--   $region  text = NULL  only this region; NULL is every one
SELECT region, count(*) AS logins FROM logins
WHERE ($from IS NULL OR login_date >= $from) AND ($region IS NULL OR region = $region)
GROUP BY region ORDER BY region
";
const ECHO: &str = "\
-- What was said?
--
-- Parameters:
--   $text  text  anything
SELECT $text AS text
";
const ALL_ROWS: &str = "SELECT user_id, event_time FROM logins";
/// A join whose rows do not fit into the memory of a query, and cannot be spilled.
const LARGE: &str = "SELECT count(*) AS n FROM logins a \
                     JOIN logins b ON repeat(a.user_id, 1000) = repeat(b.user_id, 1000)";
/// Hours, on any machine.
const SLOW: &str = "SELECT sum(a.kafka_offset % 7 * b.kafka_offset + c.kafka_offset) AS n \
                    FROM logins a CROSS JOIN logins b CROSS JOIN logins c";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        a_client_gets_whole_answers_or_the_right_error,
        nobody_is_served_by_accident,
    ])
}

fn a_client_gets_whole_answers_or_the_right_error() -> Result<()> {
    let scenario = filled("serve-client")?;
    let queries = queries_of(&scenario)?;
    let token_file = scenario.dir().join("token");
    fs::write(&token_file, format!("{TOKEN}\n"))?;
    let port = free_port()?;
    let serve = serve(&scenario, &queries, port);
    let serve = serve
        .args([
            "--brokers",
            &scenario.kafka.brokers(),
            "--input-topic",
            &scenario.input_topic(),
        ])
        .args([
            "--fresh",
            "--timeout",
            "8s",
            "--max-rows",
            "1000",
            "--max-queries",
            "2",
            "--memory-limit",
            "64MiB",
        ])
        .arg("--token-file")
        .arg(&token_file);
    let mut server = serve.start()?;
    server.wait_has_said("serving queries", LIMIT)?;
    let ask = |part: &str, arguments: &[&str]| {
        let port = port.to_string();
        let mut all = vec![port.as_str(), TOKEN, part];
        all.extend(arguments);
        scenario.reader().run("serve_client.py", &all)
    };

    ask("access", &[])?;
    ask("description", &[])?;
    let by_region = "SELECT region, count(*) FROM t GROUP BY region ORDER BY region";
    let wanted = scenario.reader().query("logins", by_region)?;
    ensure!(wanted.len() > 3, "too few regions for a test: {wanted:?}");
    ask(
        "formats",
        &[&Value::from(wanted.into_iter().map(Value::from).collect::<Vec<_>>()).to_string()],
    )?;
    ask("hostile", &[])?;
    ask("limits", &[])?;

    let tag: String = serde_json::from_str(&ask("etags", &[])?)?;
    scenario.generate(100, 3).run_ok(LIMIT)?;
    let in_topic: i64 = scenario.reader().number("logins", "SELECT count(*) FROM t")? + 100;
    ask("fresh", &[&in_topic.to_string()])?;
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    ask("changed", &[&tag])?;

    drains(&server, ask, scenario.dir())?;
    let output = server.wait_exit(LIMIT)?.ok()?;
    ensure!(
        !output.stderr.contains(TOKEN),
        "the token is in the log:\n{}",
        output.stderr
    );
    Ok(())
}

/// SIGTERM while a request runs.
fn drains(server: &Process, ask: impl Fn(&str, &[&str]) -> Result<String> + Sync, dir: &Path) -> Result<()> {
    let running = dir.join("running");
    let file = running.display().to_string();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask("drain", &[&file]));
        wait_for("a running request", LIMIT, || {
            ensure!(!asking.is_finished(), "the client ended before its request ran");
            Ok(running.exists().then_some(()))
        })?;
        server.signal(Signal::Terminate)?;
        let asked = asking
            .join()
            .map_err(|_| anyhow::anyhow!("the client's thread panicked"))?;
        asked.map(drop)
    })
}

fn nobody_is_served_by_accident() -> Result<()> {
    let scenario = filled("serve-alone")?;
    let queries = queries_of(&scenario)?;
    let port = free_port()?;
    let mut server = serve(&scenario, &queries, port).start()?;
    server.wait_has_said("serving queries", LIMIT)?;
    scenario
        .reader()
        .run("serve_client.py", &[&port.to_string(), "", "loopback"])?;
    server.terminate(LIMIT)?;

    let refused = |program: Program, said: &str| {
        let output = program.run(LIMIT)?;
        ensure!(output.code == 2, "exit code {}:\n{}", output.code, output.stderr);
        ensure!(
            output.stderr.contains(said),
            "it should say {said:?}:\n{}",
            output.stderr
        );
        anyhow::Ok(())
    };
    let remote = format!("0.0.0.0:{}", free_port()?);
    let elsewhere = |queries: &Path| {
        scenario
            .olap("serve")
            .args(["--http", &remote, "--queries"])
            .arg(queries)
    };
    refused(elsewhere(&queries), "--http-token-file")?;
    let weak = scenario.dir().join("weak");
    fs::write(&weak, "short\n")?;
    refused(elsewhere(&queries).arg("--token-file").arg(&weak), "openssl rand")?;
    refused(
        elsewhere(&queries).env("LOGINLAKE_SERVE_TOKEN", "short"),
        "openssl rand",
    )?;
    refused(
        serve(&scenario, &scenario.dir().join("nowhere"), port),
        "--queries",
    )?;
    let broken = scenario.dir().join("broken");
    fs::create_dir(&broken)?;
    fs::write(broken.join("writes.sql"), "DROP TABLE logins")?;
    refused(serve(&scenario, &broken, port), "only read")?;
    Ok(())
}

/// A lake with logins.
fn filled(name: &str) -> Result<Scenario> {
    let scenario = Scenario::new(name)?;
    scenario.create_topics()?;
    // Good records only, so that rows can be counted by records.
    scenario.generate(EVENTS, 7).run_ok(LIMIT)?;
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    Ok(scenario)
}

fn serve(scenario: &Scenario, queries: &Path, port: u16) -> Program {
    scenario
        .olap("serve")
        .args(["--http", &format!("127.0.0.1:{port}"), "--queries"])
        .arg(queries)
        .env("LOGINLAKE_LOG_FORMAT", "text")
}

/// The repository's queries, and those that only a test needs.
fn queries_of(scenario: &Scenario) -> Result<PathBuf> {
    let directory = scenario.dir().join("queries");
    copy_sql(&parts::top().join("sql"), &directory)?;
    for (name, sql) in [
        ("by_region", BY_REGION),
        ("echo", ECHO),
        ("all_rows", ALL_ROWS),
        ("large", LARGE),
        ("slow", SLOW),
    ] {
        fs::write(directory.join(format!("{name}.sql")), sql)?;
    }
    Ok(directory)
}

fn copy_sql(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_sql(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
