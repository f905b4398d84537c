//! `olap maintain` as it runs for days: all jobs by interval and by cron, metrics that are those of `olap files`, a successor for one that was
//! killed, debt that is told before anything else, a store that goes away and comes back, a clean end in the middle of a
//! compaction, and limits on CPU and memory that the system itself confirms.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::delta_log::DeltaLog;
use loginlake_scenarios::exactness::stored_exactly;
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::{Part, top};
use loginlake_scenarios::process::{Process, Program, Signal};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, events, free_port};
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, http, runner};

const EVENTS: u64 = 6_000;
const PARTITIONS: i32 = 3;
const LIMIT: Duration = Duration::from_secs(240);
const JOBS: [&str; 3] = ["compact", "refresh", "vacuum"];
/// A compaction of so many rows within the limits.
const MANY_EVENTS: u64 = 120_000;
/// What may be resident beside the code.
const BAR_BYTES: u64 = 256_000_000;
/// What the system gives at most, address space included: see `memory_stays_within_a_hard_limit`.
const DATA_BYTES: u64 = 640 << 20;
const NICE: i64 = 7;

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        every_job_runs_and_the_metrics_are_those_of_the_files,
        a_successor_takes_over_and_the_metrics_name_one_maintainer,
        debt_is_told_first_and_goes_away,
        a_store_that_goes_away_is_counted_and_outlived,
        a_stop_in_the_middle_of_a_compaction_is_a_clean_one,
        cpu_and_memory_are_limited,
        the_commands_of_deploy_are_taken,
    ])
}

fn ingester(scenario: &Scenario) -> Program {
    scenario.ingest().args(["--max-batch-age", "300ms"])
}

/// Some commits of small files, of dates that are closed but for the last; nobody ingests afterwards.
fn fill(scenario: &Scenario, seed: u64) -> Result<()> {
    scenario.create_topics_of(PARTITIONS)?;
    for part in 0..3 {
        let count = EVENTS / 3;
        let producer = scenario
            .generate(count, seed + part)
            .args(["--bad-share", "0.02"]);
        producer.run_ok(LIMIT)?;
        ingester(scenario).arg("--exit-at-end").run_ok(LIMIT)?;
    }
    Ok(())
}

/// A maintainer with a page, and its address.
fn maintainer(scenario: &Scenario, schedules: [&str; 3]) -> Result<(Program, SocketAddr)> {
    let address = http::loopback(free_port()?);
    let program = scenario
        .olap("maintain")
        .env("LOGINLAKE_LOG_FORMAT", "text")
        .args(["--http", &address.to_string()])
        .args(["--compact-every", schedules[0], "--refresh-every", schedules[1]])
        .args(["--vacuum-every", schedules[2]]);
    Ok((program, address))
}

fn of_job(address: SocketAddr, metric: &str, job: &str) -> Result<f64> {
    http::metric_with(address, metric, &format!("job=\"{job}\""))
}

/// Waits until each job has succeeded so often since the process began.
fn wait_runs(process: &mut Process, address: SocketAddr, runs: f64) -> Result<()> {
    process.wait_until(&format!("{runs} runs of every job"), LIMIT, || {
        for job in JOBS {
            match of_job(address, "maintain_job_runs_total", job) {
                Ok(count) if count >= runs => {}
                _ => return Ok(None),
            }
        }
        Ok(Some(()))
    })
}

/// Table → (files, small files, bytes as they are shown), as `olap files` prints them.
fn files(scenario: &Scenario) -> Result<BTreeMap<String, (f64, f64, String)>> {
    let output = scenario.olap("files").run_ok(LIMIT)?;
    let mut tables = BTreeMap::new();
    let mut table = String::new();
    for line in output.stdout.lines() {
        if let Some((name, _)) = line.split_once(" at version ") {
            table = name.to_owned();
        }
        // The last line of a table is that of all of it.
        if let [_, files, small, _, bytes, ..] = cells(line)[..]
            && let (Ok(files), Ok(small)) = (files.parse(), small.parse())
        {
            tables.insert(table.clone(), (files, small, bytes.to_owned()));
        }
    }
    ensure!(tables.len() == 3, "three tables: {}", output.stdout);
    Ok(tables)
}

/// The cells of a printed table's line.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}

/// The same, as the metrics say.
fn files_by_metrics(address: SocketAddr) -> Result<BTreeMap<String, (f64, f64, String)>> {
    let mut tables = BTreeMap::new();
    for table in ["logins", "rejected", "logins_hourly"] {
        let label = format!("table=\"{table}\"");
        let of = |name: &str| http::metric_with(address, name, &label);
        tables.insert(
            table.to_owned(),
            (
                of("maintain_table_files")?,
                of("maintain_table_small_files")?,
                shown(of("maintain_table_bytes")?),
            ),
        );
    }
    Ok(tables)
}

/// Bytes as `olap files` shows them.
fn shown(bytes: f64) -> String {
    if bytes < 1024.0 {
        return format!("{bytes} B");
    }
    let kibibytes = bytes / 1024.0;
    if kibibytes < 1024.0 {
        format!("{kibibytes:.1} KiB")
    } else {
        format!("{:.1} MiB", kibibytes / 1024.0)
    }
}

/// What `olap compact --dry-run` shows as bytes.
fn bytes_of(cell: &str) -> Option<f64> {
    let (number, unit) = cell.split_once(' ')?;
    let unit = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * unit)
}

fn epoch_seconds() -> Result<f64> {
    Ok(SystemTime::now()
        .duration_since(UNIX_EPOCH)?
        .as_secs_f64()
        .floor())
}

fn every_job_runs_and_the_metrics_are_those_of_the_files() -> Result<()> {
    let scenario = Scenario::new("maintain-all")?;
    scenario.create_topics_of(PARTITIONS)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let mut load = Load::of(&scenario, &progress, EVENTS, 2, 101);
    let running = ingester(&scenario).start()?;
    let began = epoch_seconds()?;
    // Cron expressions, of seconds, and an interval.
    let (program, address) = maintainer(&scenario, ["*/2 * * * * *", "1s", "* * * * * *"])?;
    let mut process = program.start()?;
    load.phase("beside an ingester", || Ok(()))?;
    load.phase("and on", || wait_runs(&mut process, address, 2.0))?;
    log.wait_stored(&progress.ends()?, LIMIT)?;
    running.terminate(LIMIT)?;
    // Nobody else changes the tables now, and maintenance soon has nothing left to do.
    let agree = wait_for("the metrics to be those of the files", LIMIT, || {
        let (by_metrics, by_command) = (files_by_metrics(address)?, files(&scenario)?);
        Ok((by_metrics == by_command).then_some(by_command))
    });
    let agreed =
        agree.with_context(|| format!("{:?}, not {:?}", files_by_metrics(address), files(&scenario)))?;
    println!("{agreed:?}");
    ensure!(
        http::metric(address, "maintain_active")? == 1.0,
        "it is not active"
    );
    for job in JOBS {
        let succeeded = of_job(address, "maintain_job_last_success_timestamp_seconds", job)?;
        let now = epoch_seconds()?;
        ensure!(
            (began..=now).contains(&succeeded),
            "{job}: {began} {succeeded} {now}"
        );
        ensure!(
            of_job(address, "maintain_job_failures_total", job)? == 0.0,
            "{job} failed"
        );
    }
    // What the rules and the dashboard ask for is there, by these names.
    let page = http::get(address, "/metrics")?.body;
    for file in ["prometheus/alerts.yml", "grafana/dashboards/loginlake.json"] {
        let text = std::fs::read_to_string(top().join("deploy").join(file))?;
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("maintain_")) {
            ensure!(page.contains(&format!("\n{name}")), "{file} asks for {name}");
        }
    }
    process.terminate(LIMIT)?;
    let compactions = log
        .read_on()?
        .iter()
        .filter(|commit| commit.operation == "OPTIMIZE")
        .count();
    ensure!(compactions > 0, "nothing was compacted");
    stored_exactly(
        &scenario,
        &scenario.kafka.read_committed(&scenario.input_topic())?,
    )
}

fn a_successor_takes_over_and_the_metrics_name_one_maintainer() -> Result<()> {
    let scenario = Scenario::new("maintain-successor")?;
    fill(&scenario, 110)?;
    let schedules = ["1s", "1s", "never"];
    let (first, at_first) = maintainer(&scenario, schedules)?;
    let (second, at_second) = maintainer(&scenario, schedules)?;
    let mut first = first.args(["--lease", "3s"]).start()?;
    first.wait_says("job done", LIMIT)?;
    let mut second = second.args(["--lease", "3s"]).start()?;
    second.wait_has_said("another process maintains the lake", LIMIT)?;
    let active = |address| http::metric(address, "maintain_active");
    ensure!(
        (active(at_first)?, active(at_second)?) == (1.0, 0.0),
        "not one is active"
    );
    ensure!(
        http::metric(at_second, "maintain_table_files")? == 0.0,
        "the one that waits tells of files"
    );
    ensure!(
        http::get(at_second, "/health/ready")?.status == 200,
        "who waits is ready"
    );
    // Frozen, as by a long pause of the machine: it learns of its successor, and forgets what it knew.
    first.signal(Signal::Stop)?;
    second.wait_has_said("maintaining the lake", LIMIT)?;
    first.signal(Signal::Continue)?;
    first.wait_until("it to wait", LIMIT, || {
        let files = http::metric(at_first, "maintain_table_files")?;
        Ok((active(at_first)? == 0.0 && files == 0.0).then_some(()))
    })?;
    second.wait_says("job done", LIMIT)?;
    ensure!(active(at_second)? == 1.0, "the successor is not active");
    // Killed: the other one is the successor now.
    second.kill();
    first.wait_until("it to be active again", LIMIT, || {
        Ok((active(at_first)? == 1.0).then_some(()))
    })?;
    first.terminate(LIMIT)?;
    stored_exactly(
        &scenario,
        &scenario.kafka.read_committed(&scenario.input_topic())?,
    )
}

fn debt_is_told_first_and_goes_away() -> Result<()> {
    let scenario = Scenario::new("maintain-debt")?;
    fill(&scenario, 120)?;
    let (idle, address) = maintainer(&scenario, ["never", "never", "17 3 29 2 *"])?;
    let mut process = idle.args(["--debt-limit", "1KiB"]).start()?;
    process.wait_until("the debt to be looked at", LIMIT, || {
        Ok((http::metric(address, "maintain_debt_over_limit").unwrap_or(0.0) == 1.0).then_some(()))
    })?;
    let debt = http::metric_with(address, "maintain_compaction_debt_bytes", "table=\"logins\"")?;
    let plan = scenario
        .olap("compact")
        .args(["--dry-run", "--table", "logins"])
        .run_ok(LIMIT)?;
    // The plan says it for each partition, with one decimal.
    let planned: f64 = plan
        .stdout
        .lines()
        .filter_map(|line| bytes_of(cells(line).get(2)?))
        .sum();
    ensure!(
        debt > 0.0 && (debt - planned).abs() < 0.01 * debt,
        "the metric says {debt}, the plan {planned}: {}",
        plan.stdout
    );
    ensure!(
        http::metric(address, "maintain_compaction_debt_limit_bytes")? == 1024.0,
        "the limit"
    );
    let ready = http::get(address, "/health/ready")?;
    ensure!(
        ready.status == 503 && ready.body.contains("compaction debt"),
        "{} {}",
        ready.status,
        ready.body
    );
    process.wait_has_said("compaction does not keep up", LIMIT)?;
    process.terminate(LIMIT)?;

    let (working, address) = maintainer(&scenario, ["1s", "never", "never"])?;
    let mut process = working.args(["--debt-limit", "1KiB"]).start()?;
    process.wait_until("the debt to be worked off", LIMIT, || {
        let Ok(ready) = http::get(address, "/health/ready") else {
            return Ok(None);
        };
        let runs = of_job(address, "maintain_job_runs_total", "compact")?;
        let debt = http::metric_with(address, "maintain_compaction_debt_bytes", "table=\"logins\"")?;
        let over = http::metric(address, "maintain_debt_over_limit")?;
        Ok((runs >= 1.0 && debt == 0.0 && over == 0.0 && ready.status == 200).then_some(()))
    })?;
    process.terminate(LIMIT).map(drop)
}

fn a_store_that_goes_away_is_counted_and_outlived() -> Result<()> {
    let scenario = Scenario::with_own_store("maintain-outage")?;
    fill(&scenario, 130)?;
    let (program, address) = maintainer(&scenario, ["1s", "1s", "1s"])?;
    let mut process = program.args(["--lease", "5s"]).start()?;
    wait_runs(&mut process, address, 1.0)?;
    scenario.minio.kill();
    process.wait_until("a failure to be counted", LIMIT, || {
        let failures = http::metric(address, "maintain_job_failures_total")?;
        let ready = http::get(address, "/health/ready")?;
        Ok((failures >= 1.0 && ready.status == 503).then_some(()))
    })?;
    process.wait_has_said("job failed", LIMIT)?;
    ensure!(
        http::get(address, "/health/live")?.status == 200,
        "a restart would not help"
    );
    scenario.minio.start_again()?;
    let mut before = BTreeMap::new();
    for job in JOBS {
        before.insert(job, of_job(address, "maintain_job_runs_total", job)?);
    }
    process.wait_until("every job to succeed again", LIMIT, || {
        for (job, before) in &before {
            if of_job(address, "maintain_job_runs_total", job)? <= *before {
                return Ok(None);
            }
        }
        Ok((http::get(address, "/health/ready")?.status == 200).then_some(()))
    })?;
    process.terminate(LIMIT)?;
    stored_exactly(
        &scenario,
        &scenario.kafka.read_committed(&scenario.input_topic())?,
    )
}

fn a_stop_in_the_middle_of_a_compaction_is_a_clean_one() -> Result<()> {
    let scenario = Scenario::new("maintain-stop")?;
    fill(&scenario, 140)?;
    let barrier = scenario.dir().join("barrier");
    let reached = barrier.with_extension("reached");
    // A lease that nobody would want to wait for: it has to be given back.
    let maintain = |point: &str| {
        let (program, _) = maintainer(&scenario, ["1s", "never", "never"])?;
        let program = program.args(["--lease", "600s"]);
        let pause = format!("maintenance-compaction-{point}:pause:{}", barrier.display());
        program.env("LOGINLAKE_FAIL_POINT", pause).start()
    };
    for point in ["before-rewrite", "before-commit"] {
        let mut process = maintain(point)?;
        process.wait_until("a compaction in the middle", LIMIT, || {
            Ok(reached.exists().then_some(()))
        })?;
        process.signal(Signal::Terminate)?;
        process.wait_has_said("stopping once the work in flight is done", LIMIT)?;
        std::fs::write(&barrier, [])?;
        let output = process.wait_exit(LIMIT)?;
        ensure!(output.code == 0, "{point}: {} {}", output.code, output.stderr);
        ensure!(
            !output.stderr.contains("job=\"compact\""),
            "{point}: it had ended before: {}",
            output.stderr
        );
        stored_exactly(
            &scenario,
            &scenario.kafka.read_committed(&scenario.input_topic())?,
        )
        .with_context(|| point.to_owned())?;
        for file in [&barrier, &reached] {
            std::fs::remove_file(file)?;
        }
    }
    let once = scenario.olap("maintain").args(["--once", "--http", "none"]);
    once.run_ok(LIMIT)?;
    stored_exactly(
        &scenario,
        &scenario.kafka.read_committed(&scenario.input_topic())?,
    )?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let compactions = log
        .read_on()?
        .iter()
        .filter(|commit| commit.operation == "OPTIMIZE")
        .count();
    ensure!(compactions > 0, "the successor had nothing to do");
    Ok(())
}

fn cpu_and_memory_are_limited() -> Result<()> {
    let scenario = Scenario::new("maintain-limits")?;
    scenario.create_topics_of(PARTITIONS)?;
    let count = events(MANY_EVENTS)?;
    scenario.generate(count, 150).run_ok(LIMIT)?;
    scenario
        .ingest()
        .args(["--exit-at-end", "--max-batch-rows", &(count / 4).to_string()])
        .run_ok(LIMIT)?;
    let program = scenario.olap("maintain").args(["--once", "--http", "none"]);
    let program = program.args(["--threads", "1", "--jobs", "2", "--memory-budget", "64MiB"]);
    let mut process = program
        .args(["--nice", &NICE.to_string()])
        .data_limit(DATA_BYTES)
        .start()?;
    let (mut peak, mut code, mut most_threads) = (0, 0, 0);
    wait_for("all jobs", LIMIT, || {
        peak = process.peak_resident_bytes().unwrap_or(0).max(peak);
        code = process.resident_code_bytes().unwrap_or(0).max(code);
        let threads = nice_of_threads(process.id());
        // The first thread is the test's own until the program is started in it.
        if threads.len() > 1 {
            ensure!(
                threads.iter().all(|nice| *nice == NICE),
                "nice values {threads:?}"
            );
        }
        most_threads = most_threads.max(threads.len());
        Ok(process.has_ended()?.then_some(()))
    })?;
    process.wait_exit(LIMIT)?.ok()?;
    println!(
        "{count} rows: at most {} MiB resident, {} MiB of it code, {most_threads} threads",
        peak >> 20,
        code >> 20
    );
    ensure!(
        peak.saturating_sub(code) <= BAR_BYTES,
        "{peak} bytes were resident, {code} of them code"
    );
    if cfg!(target_os = "linux") {
        // The first one, a worker, and two that read, sort and write files.
        ensure!((2..=4).contains(&most_threads), "{most_threads} threads");
    }
    stored_exactly(
        &scenario,
        &scenario.kafka.read_committed(&scenario.input_topic())?,
    )
}

/// Of every thread of a process; none where the system does not tell.
fn nice_of_threads(process: u32) -> Vec<i64> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(|thread| {
            let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
            // Behind the name, which may hold anything.
            stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()
        })
        .collect()
}

/// Compose file, units and manifests start our programs with flags that they have.
fn the_commands_of_deploy_are_taken() -> Result<()> {
    let scenario = Scenario::new("maintain-deploy")?;
    let mut commands = Vec::new();
    for place in [
        "docker-compose.yml",
        "deploy/systemd",
        "deploy/kubernetes/base",
        "deploy/kubernetes/cronjobs",
        "deploy/kubernetes/search",
    ] {
        let place = top().join(place);
        let mut files = Vec::new();
        if place.is_dir() {
            for entry in std::fs::read_dir(&place)? {
                files.push(entry?.path());
            }
        } else {
            files.push(place);
        }
        for file in files.iter().filter(|file| file.is_file()) {
            let text = std::fs::read_to_string(file)?;
            commands.extend(text.lines().filter_map(command_of));
        }
    }
    ensure!(commands.len() >= 16, "few commands: {commands:?}");
    for command in commands {
        let (program, arguments) = command.split_first().context("an empty command")?;
        // With --help at its end nothing is started, and everything before it is parsed.
        let output = Program::ours(program, scenario.dir())
            .args(arguments)
            .arg("--help")
            .run(LIMIT)?;
        ensure!(output.code == 0, "{command:?}: {}", output.stderr);
    }
    Ok(())
}

/// The command of one of our programs in a line of a unit or of YAML, with values in place of variables.
fn command_of(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    let words: Vec<String> = if let Some(command) = line.strip_prefix("ExecStart=/usr/local/bin/") {
        command.split(' ').map(str::to_owned).collect()
    } else {
        let list = ["command: [", "args: [", "entrypoint: ["]
            .iter()
            .find_map(|start| line.strip_prefix(start))?;
        let list = list.strip_suffix(']')?.split(',');
        list.map(|word| word.trim().trim_matches('"').to_owned())
            .collect()
    };
    let value = |word: String| match word.as_str() {
        "$(LOGINLAKE_BROKERS)" => "localhost:9092".to_owned(),
        word => match word.split_once(":-") {
            // ${NAME:-default}
            Some((_, default)) => default.trim_end_matches('}').to_owned(),
            None => word.replace("%i", "8090"),
        },
    };
    let ours = ["olap", "realtime", "generate"];
    ours.contains(&words.first()?.as_str())
        .then(|| words.into_iter().map(value).collect())
}
