//! `olap serve --flight-sql` over a bucket, asked by clients with nothing of ours (ADBC's driver and pyarrow's Flight): what there
//! is, answers as another engine counts them, prepared statements with values of every kind, more rows than the server may hold;
//! who has no token, writes, or asks for too much is told so; a query that nobody waits for ends at once, also one that gives
//! nothing; an answer that the end of the service cuts off is never taken for a whole one.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Program, Signal};
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

const EVENTS: u64 = 3_000;
const LIMIT: Duration = Duration::from_secs(120);
const TOKEN: &str = "7f3a9c05e2d84b16";
/// What the server may hold beside an answer that it streams, whatever its size: the rows of it are 350 MB.
const STREAM_BYTES: u64 = 160 << 20;

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        drivers_get_answers_or_the_right_error,
        an_answer_that_is_cut_off_is_an_error,
        flight_sql_is_served_to_nobody_by_accident,
    ])
}

/// A server, and how it is asked.
struct Served {
    scenario: Scenario,
    process: Process,
    ports: (u16, u16),
}

impl Served {
    fn start(name: &str, more: &[&str]) -> Result<Served> {
        let scenario = Scenario::new(name)?;
        scenario.create_topics()?;
        // Good records only, so that rows can be counted by records.
        scenario.generate(EVENTS, 7).run_ok(LIMIT)?;
        scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
        let ports = (free_port()?, free_port()?);
        let program = serve(&scenario, ports)?
            .env("LOGINLAKE_SERVE_TOKEN", TOKEN)
            .args(more);
        let mut process = program.start()?;
        process.wait_has_said("serving queries", LIMIT)?;
        Ok(Served {
            scenario,
            process,
            ports,
        })
    }

    fn ask(&self, part: &str, arguments: &[&str]) -> Result<String> {
        let (http, flight) = (self.ports.0.to_string(), self.ports.1.to_string());
        let mut all = vec![http.as_str(), flight.as_str(), TOKEN, part];
        all.extend(arguments);
        self.scenario.reader().run("flight_client.py", &all)
    }
}

fn serve(scenario: &Scenario, (http, flight): (u16, u16)) -> Result<Program> {
    let queries = scenario.dir().join("queries");
    fs::create_dir_all(&queries)?;
    fs::write(queries.join("one.sql"), "SELECT 1 AS one")?;
    let program = scenario.olap("serve").args([
        "--brokers",
        &scenario.kafka.brokers(),
        "--input-topic",
        &scenario.input_topic(),
        "--http",
        &format!("127.0.0.1:{http}"),
        "--flight-sql",
        &format!("127.0.0.1:{flight}"),
        "--queries",
    ]);
    Ok(program.arg(queries).env("LOGINLAKE_LOG_FORMAT", "text"))
}

fn drivers_get_answers_or_the_right_error() -> Result<()> {
    let served = Served::start(
        "flight-client",
        &[
            "--fresh",
            "--timeout",
            "20s",
            "--max-rows",
            "1000000",
            "--max-queries",
            "2",
            "--memory-limit",
            "64MiB",
        ],
    )?;
    let reader = served.scenario.reader();
    served.ask("access", &[])?;
    served.ask("catalogue", &[])?;
    let by_region = "SELECT region, count(*) FROM t GROUP BY region ORDER BY region";
    let wanted = reader.query("logins", by_region)?;
    ensure!(wanted.len() > 3, "too few regions for a test: {wanted:?}");
    let wanted = Value::from(wanted.into_iter().map(Value::from).collect::<Vec<_>>()).to_string();
    served.ask("answers", &[&wanted])?;
    served.ask("prepared", &[&wanted])?;
    served.ask("refused", &[])?;

    let before = served.process.peak_resident_bytes();
    served.ask("stream", &[])?;
    if let (Some(before), Some(after)) = (before, served.process.peak_resident_bytes()) {
        ensure!(
            after < before + STREAM_BYTES,
            "streaming took {} bytes more than the {before} from before",
            after - before
        );
    }
    served.ask("limits", &[])?;
    if cfg!(target_os = "linux") {
        served.ask("cancelled", &[&served.process.id().to_string()])?;
    }

    served.scenario.generate(100, 3).run_ok(LIMIT)?;
    let in_topic = reader.number("logins", "SELECT count(*) FROM t")? + 100;
    served.ask("fresh", &[&in_topic.to_string()])?;

    let output = served.process.terminate(LIMIT)?;
    ensure!(
        !output.stderr.contains(TOKEN),
        "the token is in the log:\n{}",
        output.stderr
    );
    Ok(())
}

fn an_answer_that_is_cut_off_is_an_error() -> Result<()> {
    let served = Served::start("flight-cut", &["--max-rows", "1000000"])?;
    // As a crash would.
    let (scenario, ended) = interrupted(served, "error", |process| {
        process.kill();
        Ok(None)
    })?;
    ensure!(ended.is_none(), "a killed process is gone");

    let ports = (free_port()?, free_port()?);
    let program = serve(&scenario, ports)?.env("LOGINLAKE_SERVE_TOKEN", TOKEN);
    let mut process = program.args(["--max-rows", "1000000"]).start()?;
    process.wait_has_said("serving queries", LIMIT)?;
    let served = Served {
        scenario,
        process,
        ports,
    };
    // Asked to stop, it lets the answer end.
    let (_, ended) = interrupted(served, "whole", |process| {
        process.signal(Signal::Terminate)?;
        Ok(Some(process))
    })?;
    ended.context("it was not killed")?.wait_exit(LIMIT)?.ok()?;
    Ok(())
}

/// Ends the service while a client reads an answer, which the client must then find to be as `expected`.
fn interrupted(
    served: Served,
    expected: &str,
    end: impl FnOnce(Process) -> Result<Option<Process>>,
) -> Result<(Scenario, Option<Process>)> {
    let Served {
        scenario,
        process,
        ports: (http, flight),
    } = served;
    let reading = scenario.dir().join(format!("reading-{expected}"));
    let (http, flight, file) = (
        http.to_string(),
        flight.to_string(),
        reading.display().to_string(),
    );
    let arguments = [http.as_str(), &flight, TOKEN, "interrupted", &file, expected];
    let reader = scenario.reader();
    let ended = std::thread::scope(|scope| {
        let asking = scope.spawn(|| reader.run("flight_client.py", &arguments));
        let found = wait_for("a client that reads", LIMIT, || {
            ensure!(!asking.is_finished(), "the client ended before the service did");
            Ok(reading.exists().then_some(()))
        });
        let ended = found.and_then(|()| end(process));
        // Written also after a failure: the client waits for it.
        fs::write(reading.with_extension("sent"), "")?;
        let asked = asking
            .join()
            .map_err(|_| anyhow::anyhow!("the client's thread panicked"))?;
        let ended = ended?;
        asked.map(|_| ended)
    })?;
    Ok((scenario, ended))
}

fn flight_sql_is_served_to_nobody_by_accident() -> Result<()> {
    let scenario = Scenario::new("flight-alone")?;
    let refused = |program: Program, code: i32, said: &str| {
        let output = program.run(LIMIT)?;
        ensure!(
            output.code == code,
            "exit code {}:\n{}",
            output.code,
            output.stderr
        );
        ensure!(
            output.stderr.contains(said),
            "it should say {said:?}:\n{}",
            output.stderr
        );
        anyhow::Ok(())
    };
    let remote = format!("0.0.0.0:{}", free_port()?);
    let queries: PathBuf = scenario.dir().join("queries");
    fs::create_dir_all(&queries)?;
    fs::write(queries.join("one.sql"), "SELECT 1 AS one")?;
    let open = scenario
        .olap("serve")
        .args([
            "--http",
            "127.0.0.1:0",
            "--http-allow-remote",
            "--flight-sql",
            &remote,
            "--queries",
        ])
        .arg(&queries);
    refused(open, 2, "--token-file")?;
    // Taken by somebody else.
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let busy = scenario
        .olap("serve")
        .args(["--http", "127.0.0.1:0", "--flight-sql", &address, "--queries"])
        .arg(&queries);
    refused(busy, 1, "--flight-sql")?;
    Ok(())
}
