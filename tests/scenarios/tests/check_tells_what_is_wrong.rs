//! `realtime check` and `olap check` on real parts: a healthy system is all ok, each fault is found by a line of its own that says
//! what to do, nothing is left behind, and it ends soon even where nobody answers. `--print-config` prints what can be loaded again.

use std::net::TcpListener;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::checklist::check;
use loginlake_scenarios::kafka::Kafka;
use loginlake_scenarios::parts::{self, Part};
use loginlake_scenarios::process::{Output, Program};
use loginlake_scenarios::scenario::{Scenario, free_port, run_dir};
use loginlake_scenarios::{entries, http, runner};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(180);
/// How long a check takes at most where nobody answers.
const SILENT: Duration = Duration::from_secs(60);
const EVENTS: u64 = 500;

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        a_healthy_system_is_all_ok,
        each_fault_of_a_topic_has_its_line,
        each_missing_right_has_its_line,
        each_fault_of_the_lake_has_its_line,
        nobody_answers_and_it_ends,
        a_wrong_configuration_is_told_from_a_fault_outside,
        an_empty_variable_is_nothing_or_is_named,
        printed_settings_can_be_loaded_again,
        editors_are_told_what_is_wrong,
        shells_and_man_are_told_of_every_command,
    ])
}

fn realtime(scenario: &Scenario) -> Program {
    scenario.realtime_command("check")
}

fn olap(scenario: &Scenario) -> Program {
    scenario.ingest_command("check", &scenario.lake())
}

fn a_healthy_system_is_all_ok() -> Result<()> {
    let scenario = Scenario::new("check-healthy")?;
    scenario.create_topics()?;
    // Before anything has run, and after.
    check(&realtime(&scenario).arg("--write-probe"), 0)?.all_ok()?;
    check(&olap(&scenario), 0)?.all_ok()?;
    ensure!(
        scenario.minio.list(&scenario.bucket())?.is_empty(),
        "the check left something behind"
    );
    scenario.generate(EVENTS, 71).run_ok(LIMIT)?;
    scenario.realtime().arg("--exit-at-end").run_ok(LIMIT)?;
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    let published = scenario.kafka.read_committed(&scenario.output_topic())?.len();

    let said = check(&realtime(&scenario).arg("--write-probe"), 0)?;
    said.all_ok()?;
    said.has(
        "kafka",
        &format!("lag of group {}", scenario.realtime_group()),
        "ok",
        &["0 records"],
    )?;
    let said = check(&olap(&scenario), 0)?;
    said.all_ok()?;
    said.has("table", "logins", "ok", &["version"])?;
    said.has("kafka", "lag of the table", "ok", &["0 records"])?;
    said.has("store", "put-if-absent", "ok", &[])?;

    let after = scenario.kafka.read_committed(&scenario.output_topic())?.len();
    ensure!(after == published, "a reader saw what the write probe wrote");
    let rest = scenario.minio.list(&scenario.bucket())?;
    ensure!(!rest.iter().any(|name| name.contains("_check")), "{rest:?}");

    let text = realtime(&scenario).run_ok(LIMIT)?;
    ensure!(
        text.stdout
            .lines()
            .last()
            .is_some_and(|line| line.ends_with("0 warning, 0 failed")),
        "{}",
        text.stdout
    );
    ensure!(
        !text.stdout.contains('\u{1b}'),
        "colours in a file: {}",
        text.stdout
    );
    let taken = TcpListener::bind(http::loopback(free_port()?))?;
    let address = taken.local_addr()?.to_string();
    check(&realtime(&scenario).args(["--http", &address]), 0)?.only(
        "machine",
        "http",
        "warning",
        &[&address],
    )?;

    let forced = realtime(&scenario).env("CLICOLOR_FORCE", "1").run_ok(LIMIT)?;
    ensure!(forced.stdout.contains("\u{1b}[32mok"), "{}", forced.stdout);
    let plain = realtime(&scenario)
        .env("CLICOLOR_FORCE", "1")
        .env("NO_COLOR", "1")
        .run_ok(LIMIT)?;
    ensure!(!plain.stdout.contains('\u{1b}'), "{}", plain.stdout);
    Ok(())
}

fn each_fault_of_a_topic_has_its_line() -> Result<()> {
    let scenario = Scenario::new("check-topics")?;
    let (input, output, letters) = (
        scenario.input_topic(),
        scenario.output_topic(),
        scenario.dead_letter_topic(),
    );
    scenario.create_topics()?;
    let settings = |topic: &str| format!("settings of topic {topic}");

    scenario
        .kafka
        .set_topic(&input, &[("cleanup.policy", "compact")])?;
    check(&realtime(&scenario), 1)?.only("kafka", &settings(&input), "failed", &["compact"])?;
    check(&olap(&scenario), 1)?.only("kafka", &settings(&input), "failed", &["compact"])?;
    scenario.kafka.set_topic(&input, &[])?;

    scenario
        .kafka
        .set_topic(&output, &[("cleanup.policy", "compact")])?;
    check(&realtime(&scenario), 0)?.only("kafka", &settings(&output), "warning", &["compact"])?;
    scenario.kafka.set_topic(&output, &[])?;

    scenario
        .kafka
        .set_topic(&letters, &[("max.message.bytes", "2000")])?;
    let size = format!("message size of topic {letters}");
    check(&realtime(&scenario), 0)?.only("kafka", &size, "warning", &["2000"])?;
    scenario.kafka.set_topic(&letters, &[])?;

    // What was committed is gone: retention was faster than the reader.
    scenario.generate(EVENTS, 72).run_ok(LIMIT)?;
    scenario.realtime().arg("--exit-at-end").run_ok(LIMIT)?;
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    scenario.generate(EVENTS, 73).run_ok(LIMIT)?;
    let ends = scenario
        .kafka
        .committed_offsets(&scenario.realtime_group(), &input)?;
    let end = ends.get(&0).copied().unwrap_or_default();
    scenario.kafka.delete_records(&input, 0, end + 5)?;
    let gone = format!("the records {end} to {}", end + 4);
    let lag = format!("lag of group {}", scenario.realtime_group());
    check(&realtime(&scenario), 1)?.only("kafka", &lag, "failed", &[&gone])?;
    check(&olap(&scenario), 1)?.only("kafka", "lag of the table", "failed", &[&gone])?;

    // Another topic of the same name.
    scenario.kafka.delete_topic(&input)?;
    let missing = format!("topic {input}");
    check(&realtime(&scenario), 1)?.only("kafka", &missing, "failed", &["no such topic"])?;
    scenario.kafka.create_topic(&input, 4)?;
    check(&olap(&scenario), 1)?.only("kafka", "lag of the table", "failed", &["made again"])?;
    Ok(())
}

fn each_missing_right_has_its_line() -> Result<()> {
    let kafka = Kafka::start_guarded(&run_dir()?.join("check-rights-kafka"))?;
    let scenario = Scenario::on("check-rights", Arc::new(kafka))?;
    scenario.create_topics()?;
    let (output, group) = (scenario.output_topic(), scenario.realtime_group());
    check(&realtime(&scenario).arg("--write-probe"), 0)?.all_ok()?;

    scenario.kafka.make_read_only(&output)?;
    let rights = format!("rights on topic {output}");
    let said = check(&realtime(&scenario).arg("--write-probe"), 1)?;
    said.has("kafka", &rights, "failed", &["WRITE is not allowed"])?;
    said.has("kafka", &format!("write probe of topic {output}"), "failed", &[])?;
    check(&realtime(&scenario), 1)?.only("kafka", &rights, "failed", &["WRITE"])?;
    scenario.kafka.make_writable(&output)?;

    scenario.kafka.forbid_group(&group)?;
    let said = check(&realtime(&scenario), 1)?;
    said.has("kafka", &format!("group {group}"), "failed", &[])?;

    let wrong = realtime(&scenario).env("LOGINLAKE_KAFKA_SASL_PASSWORD", "not-the-password");
    let said = check(&wrong, 1)?;
    said.only("kafka", "input brokers", "failed", &["refused"])?;
    ensure!(!said.shown.contains("not-the-password"), "{}", said.shown);
    Ok(())
}

fn each_fault_of_the_lake_has_its_line() -> Result<()> {
    let scenario = Scenario::new("check-lake")?;
    scenario.create_topics()?;
    let on = |lake: &str| scenario.ingest_command("check", lake);
    check(&on("s3://bucket-that-nobody-made/lake"), 1)?.only(
        "store",
        "reachable",
        "failed",
        &["bucket-that-nobody-made"],
    )?;
    let wrong = on(&scenario.lake()).env("AWS_SECRET_ACCESS_KEY", "wrong-secret-key");
    let said = check(&wrong, 1)?;
    said.only("store", "reachable", "failed", &[])?;
    ensure!(!said.shown.contains("wrong-secret-key"), "{}", said.shown);

    scenario.reader().write_foreign_table("logins")?;
    check(&on(&scenario.lake()), 1)?.only("table", "logins", "failed", &["missing"])?;

    let directory = scenario.dir().join("read-only");
    std::fs::write(&directory, "a file is in the way")?;
    let local = directory.join("lake");
    let said = check(&on(&local.display().to_string()), 1)?;
    let is_told = |line: &Value| line["area"] == "store" && line["status"] == "failed";
    ensure!(said.lines.values().any(is_told), "{}", said.shown);
    Ok(())
}

fn nobody_answers_and_it_ends() -> Result<()> {
    let scenario = Scenario::new("check-silence")?;
    // Somebody who accepts and says nothing is worse than nobody.
    let silent = TcpListener::bind(http::loopback(free_port()?))?;
    let address = silent.local_addr()?.to_string();
    let started = Instant::now();
    let program = scenario.olap("check").args(["--brokers", &address]);
    let program = program
        .args(["--schema-registry", &format!("http://{address}")])
        .args(["--http", "none"])
        .env("AWS_ENDPOINT_URL", format!("http://{address}"));
    let said = check(&program, 1)?;
    ensure!(started.elapsed() < SILENT, "it took {:?}", started.elapsed());
    said.has("kafka", "brokers", "failed", &[&address])?;
    said.has("store", "reachable", "failed", &[])?;
    said.has("schema registry", "reachable", "failed", &[&address])?;
    let started = Instant::now();
    let nobody = http::loopback(free_port()?).to_string();
    let program =
        Program::ours("realtime", scenario.dir()).args(["check", "--brokers", &nobody, "--http", "none"]);
    let said = check(&program, 1)?;
    ensure!(started.elapsed() < SILENT, "it took {:?}", started.elapsed());
    said.only("kafka", "input brokers", "failed", &[&nobody])
}

fn a_wrong_configuration_is_told_from_a_fault_outside() -> Result<()> {
    let scenario = Scenario::new("check-configuration")?;
    scenario.create_topics()?;
    let file = scenario.dir().join("wrong.toml");
    std::fs::write(&file, "[ingest]\nmax_batch_age = \"1s\"\n")?;
    let file = file.display().to_string();
    for program in [realtime(&scenario), olap(&scenario)] {
        check(&program.args(["--config", &file]), 2)?.only(
            "configuration",
            "settings",
            "failed",
            &["max_batch_age", "wrong.toml:2"],
        )?;
    }
    let both = realtime(&scenario).args(["--mask-ip", "--pseudonymise", "ip"]);
    check(&both, 2)?.only("configuration", "settings", "failed", &["--mask-ip"])?;
    let small = olap(&scenario).args(["--memory-budget", "1MiB"]);
    check(&small, 2)?.only("configuration", "settings", "failed", &["--memory-budget"])?;
    let property = realtime(&scenario).args(["-X", "no.such.property=1"]);
    check(&property, 2)?.has("configuration", "input brokers", "failed", &["no.such.property"])
}

/// The empty variables of OpenTelemetry and OpenLineage count as not set, as their standards say; ours are an error by their name.
fn an_empty_variable_is_nothing_or_is_named() -> Result<()> {
    let dir = run_dir()?.join("empty-variables");
    std::fs::create_dir_all(&dir)?;
    let print = || Program::ours("realtime", &dir).args(["run", "--print-config"]);
    let usual = print().run_ok(LIMIT)?.stdout;
    let with_empty = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_TRACES_SAMPLER_ARG",
        "OPENLINEAGE_URL",
        "OPENLINEAGE_API_KEY_FILE",
    ]
    .iter()
    .fold(print(), |program, name| program.env(name, ""));
    let printed = with_empty.run_ok(LIMIT)?.stdout;
    ensure!(printed == usual, "{printed}");
    for (value, said) in [("", "LOGINLAKE_WORKERS is empty"), ("many", "LOGINLAKE_WORKERS")] {
        let output = print().env("LOGINLAKE_WORKERS", value).run(LIMIT)?;
        ensure!(
            output.code == 2 && output.stderr.contains(said),
            "{}: {}",
            output.code,
            output.stderr
        );
    }
    Ok(())
}

fn printed_settings_can_be_loaded_again() -> Result<()> {
    let scenario = Scenario::new("print-config")?;
    let print = |program: Program| program.arg("--print-config").run_ok(LIMIT);
    let first = scenario.dir().join("first.toml");
    let secret = "hunter2-and-more-of-it";
    for program in [
        scenario
            .realtime()
            .args([
                "--drop",
                "locale = \"RU\"",
                "--max-rate",
                "3000000/min",
                "--mask-ip",
            ])
            .args(["-X", &format!("sasl.password={secret}"), "-X", "linger.ms=7"])
            .env("LOGINLAKE_PSEUDONYM_KEY", secret),
        scenario
            .ingest()
            .args(["--freshness", "5s"])
            .env("AWS_SESSION_TOKEN", secret),
        scenario.olap("maintain").args(["--jobs", "2", "--lease", "5s"]),
        scenario.olap("serve").args(["--max-rows", "5", "--fresh"]),
        scenario.olap("query").args(["-e", "SELECT 1", "--timeout", "5s"]),
        scenario.olap("compact").args(["--jobs", "3"]),
        Program::ours("generate", scenario.dir()).args(["--brokers", "a:1"]),
    ] {
        let printed = print(program.clone())?;
        ensure!(!printed.stdout.contains(secret), "a secret: {}", printed.stdout);
        std::fs::write(&first, &printed.stdout)?;
        let path = first.display().to_string();
        // The same command with that file and nothing else.
        let name = printed.shown.split(' ').next().unwrap_or_default().to_owned();
        let command = printed.shown.split(' ').nth(1).unwrap_or_default().to_owned();
        let again = match command.as_str() {
            "--brokers" => Program::ours(&name, scenario.dir()),
            "query" => Program::ours(&name, scenario.dir()).args(["query", "-e", "SELECT 1"]),
            command => Program::ours(&name, scenario.dir()).arg(command),
        };
        let again = print(again.args(["--config", &path]))?;
        let values = |output: &Output| -> Vec<String> {
            let is_value = |line: &&str| !line.is_empty() && !line.starts_with('#');
            let lines = output.stdout.lines().filter(is_value);
            lines
                .map(|line| line.split("  # ").next().unwrap_or_default().to_owned())
                .collect()
        };
        ensure!(
            values(&printed) == values(&again),
            "{}\n{}\n{}",
            printed.shown,
            printed.stdout,
            again.stdout
        );
        ensure!(values(&printed).len() > 3, "{}", printed.stdout);
    }
    let printed = print(scenario.realtime().args(["--drop", "locale = \"RU\""]))?;
    ensure!(
        printed
            .stdout
            .contains("filters = [\"locale = \\\"RU\\\"\"]  # flag --drop"),
        "{}",
        printed.stdout
    );
    ensure!(
        printed
            .stdout
            .contains("http = \"none\"  # variable LOGINLAKE_HTTP"),
        "{}",
        printed.stdout
    );
    Ok(())
}

/// The schema, as an independent program understands it.
fn editors_are_told_what_is_wrong() -> Result<()> {
    let schema = parts::top().join("docs/loginlake.schema.json");
    let dir = run_dir()?.join("schema");
    std::fs::create_dir_all(&dir)?;
    let judge = |text: &str| -> Result<(bool, String)> {
        let file = dir.join("file.toml");
        std::fs::write(&file, text)?;
        let output = Command::new(parts::python_program())
            .args(["-m", "check_jsonschema", "--schemafile"])
            .arg(&schema)
            .arg(&file)
            .output()
            .context("cannot start the checker")?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.success(), said))
    };
    let example = std::fs::read_to_string(parts::top().join("docs/loginlake.example.toml"))?;
    let (good, said) = judge(&example)?;
    ensure!(good, "the example is refused: {said}");
    for wrong in [
        "broker = 'a:1'\n",
        "partitions = 'four'\n",
        "log-format = 'xml'\n",
        "max-ahead = '10'\n",
        "[ingest]\nmemory-budget = '256M'\n",
        "[ingest]\nmax-batch-age = 10\n",
        "[realtime]\nguarantee = 'twice'\n",
        "[realtime]\nfilters = 'locale = RU'\n",
        "[realtime]\nmax-rate = 'fast'\n",
        "[privacy]\npseudonymise = ['name']\n",
        "[no-such-section]\n",
        "[kafka]\nclient-id = []\n",
    ] {
        let (good, said) = judge(wrong)?;
        ensure!(!good, "{wrong:?} is accepted: {said}");
        ensure!(said.contains("file.toml"), "it was not judged: {said}");
    }
    Ok(())
}

fn shells_and_man_are_told_of_every_command() -> Result<()> {
    let dir = run_dir()?.join("shell-help");
    std::fs::create_dir_all(&dir)?;
    let pages = dir.join("man").display().to_string();
    for (name, command) in [
        ("realtime", Some("index")),
        ("olap", Some("ingest")),
        ("generate", None),
        ("demo", None),
    ] {
        for shell in ["bash", "zsh", "fish"] {
            let program = Program::ours(name, &dir);
            let program = match command {
                Some(_) => program.args(["completions", shell]),
                None => program.args(["--completions", shell]),
            };
            let script = program.run_ok(LIMIT)?.stdout;
            ensure!(
                script.contains(command.unwrap_or("seed")),
                "{name} {shell}: {script}"
            );
            ensure!(
                !script.contains("LOGINLAKE_BROKERS="),
                "a value of the environment"
            );
            if shell == "bash" {
                let file = dir.join(format!("{name}.bash"));
                std::fs::write(&file, &script)?;
                let checked = Command::new("bash").arg("-n").arg(&file).status()?;
                ensure!(checked.success(), "bash does not take the script of {name}");
            }
        }
        let manual = Program::ours(name, &dir);
        match command {
            Some(_) => manual.args(["manual", &pages]),
            None => manual.args(["--manual", &pages]),
        }
        .run_ok(LIMIT)?;
        let page = std::fs::read_to_string(dir.join("man").join(format!("{name}.1")))?;
        ensure!(page.contains(".TH"), "{page}");
        if let Some(command) = command {
            let page = std::fs::read_to_string(dir.join("man").join(format!("{name}-{command}.1")))?;
            ensure!(page.contains("\\-\\-brokers"), "{page}");
            let hidden = dir.join("man").join(format!("{name}-manual.1"));
            ensure!(!hidden.exists(), "a hidden command has a page");
        }
    }
    Ok(())
}
