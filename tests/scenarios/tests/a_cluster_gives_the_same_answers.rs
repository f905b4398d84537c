//! `olap query --cluster` with a scheduler and two executors over a bucket: every file of `sql/`, with and without parameters, and
//! statements that a cluster could answer wrongly, give the same bytes as one process alone. Executors that are killed (SIGKILL) at
//! the beginning or the end of each kind of task change no answer. A query that nobody waits for is cancelled. Whatever is missing, dead
//! or wrong is said within a limit, with the right exit code; and nothing but the lake's tables can be read.
//!
//! All of it needs a build with the cargo feature `cluster` (`tests/run cluster`). Any other build only says how to make one.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::cluster::{self, Cluster};
use loginlake_scenarios::parts::{self, Part};
use loginlake_scenarios::process::{Output, Program, Signal};
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};

const EVENTS: u64 = 6_000;
const LIMIT: Duration = Duration::from_secs(120);
/// How long it may take to say what is wrong.
const SAID_LIMIT: Duration = Duration::from_secs(40);
/// Hours, on any machine.
const SLOW: &str = "SELECT sum(a.kafka_offset % 7 * b.kafka_offset + c.kafka_offset) AS n \
                    FROM logins a CROSS JOIN logins b CROSS JOIN logins c";
/// What a plan that is cut up and sent could get wrong: partition columns in filters, groups and orders, every type of column,
/// functions of ours, joins of each kind, subqueries, sets, windows, limits, what needs no cluster at all.
const STATEMENTS: [&str; 24] = [
    "SELECT count(*) AS n FROM logins WHERE login_date = DATE '2025-03-05'",
    "SELECT count(*) AS n, min(login_date) AS a, max(login_date) AS b FROM logins WHERE login_date > DATE '2025-03-05' AND region = 'West'",
    "SELECT login_date, count(*) AS n FROM logins WHERE login_date <> DATE '2025-03-05' GROUP BY login_date ORDER BY login_date",
    "SELECT * FROM logins WHERE login_date = DATE '2025-03-06' ORDER BY kafka_partition, kafka_offset LIMIT 100",
    "SELECT * FROM rejected ORDER BY kafka_partition, kafka_offset",
    "SELECT count(*) AS n FROM logins",
    "SELECT 1 AS one",
    "SELECT table_name FROM information_schema.tables ORDER BY table_name",
    "SELECT ip_prefix(ip, 16) AS net, count(*) AS n FROM logins WHERE cidr_contains('0.0.0.0/1', ip) GROUP BY net ORDER BY n DESC, net LIMIT 10",
    "SELECT region_of(locale) AS r, count(*) AS n, max(local_time(event_time, locale)) AS t FROM logins GROUP BY r ORDER BY r",
    "SELECT app_version, count(*) AS n FROM logins WHERE version_compare(app_version, '2.0.0') >= 0 GROUP BY app_version ORDER BY app_version",
    "SELECT count(DISTINCT user_id) AS users, abs(approx_distinct(user_id) * 1.0 / count(DISTINCT user_id) - 1) < 0.05 AS about, \
     approx_percentile_cont(kafka_offset, 0.5) > 0 AS half FROM logins",
    "SELECT a.region, count(*) AS n FROM logins a JOIN logins b ON a.user_id = b.user_id AND a.login_date = b.login_date GROUP BY a.region ORDER BY a.region",
    "SELECT count(*) AS n FROM logins a LEFT JOIN rejected r ON a.kafka_partition = r.kafka_partition AND a.kafka_offset = r.kafka_offset WHERE r.kafka_offset IS NULL",
    "SELECT count(*) AS n FROM logins WHERE user_id IN (SELECT user_id FROM logins WHERE login_date = DATE '2025-03-04')",
    "SELECT count(*) AS n FROM logins WHERE user_id NOT IN (SELECT user_id FROM logins WHERE login_date = DATE '2025-03-04')",
    "SELECT count(*) AS n FROM logins WHERE kafka_offset > (SELECT avg(kafka_offset) FROM logins)",
    "SELECT 'good' AS what, count(*) AS n FROM logins UNION ALL SELECT reason, count(*) FROM rejected GROUP BY reason ORDER BY what",
    "SELECT region FROM logins EXCEPT SELECT region FROM logins WHERE region = 'West' ORDER BY region",
    "SELECT kafka_partition, kafka_offset, row_number() OVER (PARTITION BY region ORDER BY kafka_partition, kafka_offset) AS i \
     FROM logins ORDER BY kafka_partition, kafka_offset LIMIT 50",
    "SELECT region, device_type, count(*) AS n FROM logins GROUP BY GROUPING SETS ((region), (device_type), ()) ORDER BY region, device_type, n",
    "SELECT kafka_offset FROM logins ORDER BY kafka_offset DESC, kafka_partition LIMIT 7 OFFSET 3",
    "SELECT count(*) AS n FROM logins WHERE false",
    "SELECT login_date, sum(logins) AS n FROM logins_hourly GROUP BY login_date ORDER BY login_date",
];

fn main() -> ExitCode {
    match cluster::is_built() {
        Ok(true) => runner::main(entries![&[Part::Kafka, Part::Minio];
            every_file_gives_the_same_answer_as_alone,
            executors_that_die_change_no_answer,
            a_query_that_nobody_waits_for_is_cancelled,
            what_is_missing_or_wrong_is_said,
            processes_end_as_they_are_asked_to,
            nothing_but_the_lake_is_read,
        ]),
        Ok(false) => {
            println!(
                "not run: a cluster: olap was built without the cargo feature `cluster` (tests/run cluster builds it)"
            );
            runner::main(entries![&[]; a_build_without_clusters_says_how_to_make_one])
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn a_build_without_clusters_says_how_to_make_one() -> Result<()> {
    let dir = loginlake_scenarios::scenario::run_dir()?;
    for arguments in [
        &["query", "--cluster", "df://127.0.0.1:50050", "-e", "SELECT 1"][..],
        &["scheduler"],
        &["executor"],
    ] {
        let output = Program::ours("olap", &dir).args(arguments).run(LIMIT)?;
        refused(&output, 2, "--features loginlake-olap/cluster")?;
    }
    let wrong = Program::ours("olap", &dir).args(["query", "--cluster", "db-1:50050", "-e", "SELECT 1"]);
    refused(&wrong.run(LIMIT)?, 2, "df://host:50050")
}

fn every_file_gives_the_same_answer_as_alone() -> Result<()> {
    let scenario = filled("cluster-same")?;
    let (cluster, _executors) = Cluster::with_executors(&scenario, 2)?;
    for file in sql_files()? {
        let shown = file.display().to_string();
        let in_table = cluster.same_as_alone(&[&shown])?;
        ensure!(
            in_table.lines().count() > 3,
            "{shown} answers nothing:\n{in_table}"
        );
        let only = if shown.ends_with("rejected.sql") {
            "reason=BAD_IP"
        } else {
            "region=West"
        };
        let from = if shown.ends_with("rejected.sql") {
            "from=2020-01-01"
        } else {
            "from=2025-03-05"
        };
        cluster.same_as_alone(&[&shown, "--format", "json", "--param", from, "--param", only])?;
    }
    for statement in STATEMENTS {
        cluster.same_as_alone(&["--format", "json", "-e", statement])?;
    }

    // The trap of partition columns, without a comparison that both could fail.
    let of_date = |statement: &str| -> Result<i64> {
        let answer = cluster
            .query(&["--format", "json", "-e", statement])
            .run_ok(LIMIT)?;
        answer.json()?[0]["n"].as_i64().context("a count")
    };
    let one = of_date("SELECT count(user_id) AS n FROM logins WHERE login_date = DATE '2025-03-05'")?;
    let others = of_date("SELECT count(user_id) AS n FROM logins WHERE login_date <> DATE '2025-03-05'")?;
    let all = of_date("SELECT count(user_id) AS n FROM logins")?;
    ensure!(
        one > 0 && others > 0 && one + others == all,
        "{one} + {others} != {all}"
    );

    for format in ["csv", "ndjson"] {
        let file = scenario.sql_file("peak_hours_by_region.sql");
        cluster.same_as_alone(&[&file, "--format", format])?;
    }
    cluster.same_as_alone(&[&scenario.sql_file("top_regions.sql"), "--chart", "-"])?;
    receipts_repeat_answers(&scenario, &cluster)
}

/// What alone was answered and written down, the cluster answers again, although the table has gone on.
fn receipts_repeat_answers(scenario: &Scenario, cluster: &Cluster) -> Result<()> {
    let (receipt, file) = (
        scenario.dir().join("receipt.json"),
        scenario.sql_file("devices.sql"),
    );
    let receipt_file = receipt.display().to_string();
    let first = cluster
        .query(&[&file, "--format", "csv", "--receipt", &receipt_file])
        .run_ok(LIMIT)?;
    scenario.generate(500, 99).run_ok(LIMIT)?;
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    let again = cluster.same_as_alone(&[&file, "--format", "csv", "--at", &receipt_file])?;
    ensure!(again == first.stdout, "{again}\nis not\n{}", first.stdout);
    let newest = cluster.same_as_alone(&[&file, "--format", "csv"])?;
    ensure!(newest != again, "nothing was ingested");
    Ok(())
}

fn executors_that_die_change_no_answer() -> Result<()> {
    let scenario = filled("cluster-deaths")?;
    let file = scenario.sql_file("peak_hours_by_region.sql");
    let question = [file.as_str(), "--format", "csv"];
    let wanted = scenario.olap("query").args(question).run_ok(LIMIT)?.stdout;
    for point in ["map-begins", "map-written", "reduce-begins", "reduce-written"] {
        let cluster = Cluster::start(&scenario)?;
        // What reads a small table is one task: it is the dying executor's when there is no other one yet. What reads its results is many
        // tasks, on both.
        let is_alone = point.starts_with("map");
        let mut living = Vec::new();
        if !is_alone {
            living.push(cluster.executor()?.start()?);
        }
        let mut dying = cluster
            .executor()?
            .env("LOGINLAKE_EXECUTOR_FAIL_POINT", point)
            .start()?;
        cluster.wait_executors(living.len() + 1)?;
        let query = cluster.query(&question).start()?;
        dying
            .wait_has_said("standing still at the fail point", LIMIT)
            .with_context(|| format!("{point}: the executor had no such task"))?;
        if is_alone {
            living.push(cluster.executor()?.start()?);
            cluster.wait_executors(2)?;
        }
        dying.kill();
        let answer = query.wait_exit(LIMIT)?.ok().with_context(|| point.to_owned())?;
        ensure!(
            answer.stdout == wanted,
            "{point}: {}\nis not\n{wanted}",
            answer.stdout
        );
        cluster.wait_executors(1)?;
        let answer = cluster
            .query(&question)
            .run_ok(LIMIT)
            .with_context(|| point.to_owned())?;
        ensure!(answer.stdout == wanted, "{point}, after it: {}", answer.stdout);
    }
    Ok(())
}

fn a_query_that_nobody_waits_for_is_cancelled() -> Result<()> {
    let scenario = filled("cluster-cancel")?;
    let (cluster, _executors) = Cluster::with_executors(&scenario, 2)?;
    for (signal, code) in [(Signal::Interrupt, 130), (Signal::Terminate, 143)] {
        let query = cluster.query(&["-e", SLOW]).start()?;
        cluster.wait_running(1)?;
        let asked = Instant::now();
        query.signal(signal)?;
        let output = query.wait_exit(SAID_LIMIT)?;
        ensure!(
            output.code == code,
            "exit code {}: {}",
            output.code,
            output.stderr
        );
        ensure!(
            asked.elapsed() < Duration::from_secs(5),
            "it took {:?}",
            asked.elapsed()
        );
        cluster.wait_running(0)?;
    }
    let late = cluster.query(&["-e", SLOW, "--timeout", "3s"]).run(SAID_LIMIT)?;
    refused(&late, 1, "did not end within 3 s")?;
    cluster.wait_running(0)?;
    // Nothing of these holds the executors up.
    let asked = Instant::now();
    cluster.same_as_alone(&[&scenario.sql_file("top_regions.sql")])?;
    ensure!(
        asked.elapsed() < Duration::from_secs(30),
        "it took {:?}",
        asked.elapsed()
    );
    Ok(())
}

fn what_is_missing_or_wrong_is_said() -> Result<()> {
    let scenario = filled("cluster-errors")?;
    let file = scenario.sql_file("top_regions.sql");
    let cluster = Cluster::start(&scenario)?;
    refused(&cluster.query(&[&file]).run(SAID_LIMIT)?, 1, "has no executor")?;

    let executor = cluster.executor()?.start()?;
    cluster.wait_executors(1)?;
    refused(
        &cluster.query(&[&file, "--fresh"]).run(SAID_LIMIT)?,
        2,
        "records of the topic",
    )?;
    for (statement, said) in [
        ("DROP TABLE logins", "queries only read"),
        ("COPY (SELECT 1) TO '/tmp/x.csv'", "queries only read"),
        (
            "EXPLAIN ANALYZE SELECT count(user_id) FROM logins",
            "ask without --cluster",
        ),
        ("SELECT count(user_id) FROM login", "logins"),
        (
            "SELECT kafka_offset / (kafka_offset - kafka_offset) FROM logins",
            "ivide by zero",
        ),
    ] {
        refused(&cluster.query(&["-e", statement]).run(SAID_LIMIT)?, 1, said)?;
    }
    let regions = scenario.dir().join("regions.csv");
    fs::write(
        &regions,
        "code,name,census_region,census_division,time_zone\nCA,California,Far West,Pacific,America/Los_Angeles\n",
    )?;
    let own = ["-e", "SELECT region_of(locale) FROM logins", "--regions"];
    refused(
        &cluster.query(&own).arg(&regions).run(SAID_LIMIT)?,
        1,
        "ask without --cluster",
    )?;

    let elsewhere = format!("df://127.0.0.1:{}", free_port()?);
    let query = scenario.olap("query").args(["--cluster", &elsewhere, &file]);
    refused(&query.run(SAID_LIMIT)?, 1, "cannot be reached")?;
    let query = scenario.olap("query").args(["--cluster", "http://x", &file]);
    refused(&query.run(SAID_LIMIT)?, 2, "df://host:50050")?;

    cluster.wait_running(0)?;
    let query = cluster.query(&["-e", SLOW]).start()?;
    cluster.wait_running(1)?;
    let died = Instant::now();
    cluster.scheduler.kill();
    refused(&query.wait_exit(SAID_LIMIT)?, 1, "does not answer any more")?;
    ensure!(
        died.elapsed() < Duration::from_secs(30),
        "it took {:?}",
        died.elapsed()
    );
    refused(&executor.wait_exit(LIMIT)?, 1, "does not answer any more")
}

fn processes_end_as_they_are_asked_to() -> Result<()> {
    let scenario = filled("cluster-ends")?;
    let (cluster, mut executors) = Cluster::with_executors(&scenario, 2)?;
    let folders = || -> Result<usize> {
        let entries = fs::read_dir(cluster.work_dir())?.collect::<Result<Vec<_>, _>>()?;
        Ok(entries.iter().filter(|entry| entry.path().is_dir()).count())
    };
    ensure!(folders()? == 2, "{} folders", folders()?);
    let file = scenario.sql_file("devices.sql");
    cluster.same_as_alone(&[&file])?;

    // One is asked to end, one is killed; the next one cleans up after it.
    executors.remove(0).terminate(LIMIT)?;
    wait_for("its folder to be gone", LIMIT, || {
        Ok((folders()? == 1).then_some(()))
    })?;
    cluster.wait_executors(1)?;
    cluster.same_as_alone(&[&file])?;
    executors.remove(0).kill();
    ensure!(folders()? == 1, "{} folders", folders()?);
    let next = cluster.executor()?.start()?;
    wait_for("the folder of the dead to be gone", LIMIT, || {
        Ok((folders()? == 1).then_some(()))
    })?;
    cluster.wait_executors(1)?;
    cluster.same_as_alone(&[&file])?;

    let taken = free_port()?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", taken))?;
    let bind = format!("127.0.0.1:{taken}");
    refused(
        &cluster.executor_with("--bind", &bind)?.run(SAID_LIMIT)?,
        1,
        "cannot listen on",
    )?;
    let scheduler = |bind: &str| {
        Program::ours("olap", scenario.dir()).args(["scheduler", "--http", "none", "--bind", bind])
    };
    refused(&scheduler(&bind).run(SAID_LIMIT)?, 1, "cannot listen on")?;
    drop(listener);
    refused(
        &cluster
            .executor_with("--scheduler", &format!("df://127.0.0.1:{taken}"))?
            .run(SAID_LIMIT)?,
        1,
        "cannot reach the scheduler",
    )?;
    refused(
        &cluster
            .executor_with("--work-dir", "/proc/version/work")?
            .run(SAID_LIMIT)?,
        1,
        "work directory",
    )?;
    refused(&scheduler("0.0.0.0:0").run(SAID_LIMIT)?, 2, "--allow-remote")?;
    refused(
        &cluster
            .executor_with("--bind", "0.0.0.0:50051")?
            .run(SAID_LIMIT)?,
        2,
        "--allow-remote",
    )?;
    refused(
        &scheduler("0.0.0.0:0").arg("--allow-remote").run(SAID_LIMIT)?,
        2,
        "--advertise",
    )?;

    next.terminate(LIMIT)?;
    let output = cluster.scheduler.terminate(LIMIT)?;
    ensure!(output.stdout.is_empty(), "logs on stdout: {}", output.stdout);
    Ok(())
}

/// An executor of one lake is asked about another, and about files beside the tables.
fn nothing_but_the_lake_is_read() -> Result<()> {
    let scenario = filled("cluster-lakes")?;
    let other = filled("cluster-other")?;
    let (cluster, _executors) = Cluster::with_executors(&scenario, 1)?;
    let query = other.olap("query").args(["--cluster", &cluster.address()]);
    let output = query
        .args(["-e", "SELECT count(user_id) FROM logins"])
        .run(SAID_LIMIT)?;
    refused(&output, 1, "give both the same --lake")?;

    // The same bucket, another folder of it.
    let beside = format!("{}-beside", scenario.lake());
    scenario.ingest_into(&beside).arg("--exit-at-end").run_ok(LIMIT)?;
    let query = scenario
        .olap_on("query", &beside)
        .args(["--cluster", &cluster.address()]);
    let output = query
        .args(["-e", "SELECT count(user_id) FROM logins"])
        .run(SAID_LIMIT)?;
    refused(&output, 1, "not in a table of the lake")
}

fn refused(output: &Output, code: i32, said: &str) -> Result<()> {
    ensure!(
        output.code == code && output.stderr.contains(said),
        "{}\nexit code {} instead of {code}, and it should say {said:?}:\n{}",
        output.shown,
        output.code,
        output.stderr
    );
    ensure!(
        output.stdout.is_empty(),
        "{} has written {}",
        output.shown,
        output.stdout
    );
    Ok(())
}

/// A lake of many files, with rejected rows and the counts by the hour.
fn filled(name: &str) -> Result<Scenario> {
    let scenario = Scenario::new(name)?;
    scenario.create_topics()?;
    let producer = scenario.generate(EVENTS, 23);
    producer.args(["--bad-share", "0.05"]).run_ok(LIMIT)?;
    scenario
        .ingest()
        .args(["--exit-at-end", "--max-batch-rows", "1000"])
        .run_ok(LIMIT)?;
    scenario.olap("refresh").run_ok(LIMIT)?;
    Ok(scenario)
}

/// Every file of the repository's `sql/`.
fn sql_files() -> Result<Vec<PathBuf>> {
    let top = parts::top().join("sql");
    let mut files = Vec::new();
    for directory in [top.clone(), top.join("hourly")] {
        for entry in
            fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?
        {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "sql") {
                files.push(path);
            }
        }
    }
    files.sort();
    ensure!(files.len() >= 14, "only {} files", files.len());
    Ok(files)
}
