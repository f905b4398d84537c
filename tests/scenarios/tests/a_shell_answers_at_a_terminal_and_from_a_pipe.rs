//! `olap shell` over a bucket: at a real terminal (a pty) as somebody types, with several lines, Tab, history, an error with
//! its place, Ctrl-C; and from a pipe, where the first error ends it.

use std::fs;
use std::io::Write;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::parts::{self, Part};
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{entries, runner};

const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        a_shell_answers,
    ])
}

fn a_shell_answers() -> Result<()> {
    let scenario = Scenario::new("shell")?;
    scenario.create_topics()?;
    scenario.generate(1_500, 5).run_ok(LIMIT)?;
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;

    let olap = parts::our_binary("olap")?.display().to_string();
    let history = scenario.dir().join("state/history").display().to_string();
    let sql = scenario.sql_file("top_regions.sql");
    scenario
        .reader()
        .run("shell_terminal.py", &[&olap, &scenario.lake(), &history, &sql])?;

    // From a pipe: answers only, in order, and fresh ones.
    scenario.generate(50, 6).run_ok(LIMIT)?;
    let rows = scenario.reader().number("logins", "SELECT count(*) FROM t")?;
    let input = format!(
        "\\format csv\n\
         select count(*) as held\n  from logins; select 'a;b' as b;\n\
         \\param n=7\n\
         select cast($n as bigint) as n;\n\
         \\fresh on\n\
         select count(*) as fresh from logins;\n\
         \\fresh off\n\
         \\i {sql}\n\
         select 'the last one needs no semicolon' as last"
    );
    let output = piped(&scenario, &input)?;
    let stdout = String::from_utf8(output.stdout)?;
    let stderr = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{stderr}");
    let fresh = rows + 50;
    let begin = format!("held\n{rows}\n\nb\na;b\n\nn\n7\n\nfresh\n{fresh}\n\nregion_rank,");
    ensure!(
        stdout.starts_with(&begin),
        "it should begin with {begin:?}:\n{stdout}"
    );
    ensure!(
        stdout.ends_with("\n\nlast\nthe last one needs no semicolon\n"),
        "{stdout}"
    );
    ensure!(
        stderr.is_empty(),
        "data goes to stdout, and there is nothing else to say:\n{stderr}"
    );

    // The first error ends it, with the line of the input.
    let output = piped(
        &scenario,
        "select 1 as n;\n\nselect 2 as n; select\n  regon from logins;\nselect 3 as n;\n",
    )?;
    let stdout = String::from_utf8(output.stdout)?;
    let stderr = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1), "{stderr}");
    ensure!(stdout.contains("2") && !stdout.contains("3"), "{stdout}");
    ensure!(
        stderr.starts_with("error: input:4:3: no column named regon"),
        "{stderr}"
    );
    ensure!(
        stderr.contains("  4 |   regon from logins\n") && stderr.contains("^^^^^"),
        "{stderr}"
    );
    let output = piped(&scenario, "\n\\nonsense\nselect 3 as n;\n")?;
    let stderr = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(1) && stderr.contains("input:2: there is no command"),
        "{stderr}"
    );
    ensure!(output.stdout.is_empty());
    Ok(())
}

fn piped(scenario: &Scenario, input: &str) -> Result<Output> {
    let file = scenario.dir().join("input.sql");
    fs::File::create(&file)?.write_all(input.as_bytes())?;
    let brokers = scenario.kafka.brokers();
    let output = Command::new(parts::our_binary("olap")?)
        .args(["shell", "--lake", &scenario.lake()])
        .args(["--brokers", &brokers, "--input-topic", &scenario.input_topic()])
        .envs(scenario.minio.environment())
        .env("NO_COLOR", "1")
        .current_dir(scenario.dir())
        .stdin(Stdio::from(fs::File::open(&file)?))
        .output();
    output.context("the shell cannot be started")
}
