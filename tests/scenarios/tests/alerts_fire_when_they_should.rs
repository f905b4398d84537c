//! Every metric that an alert or a panel asks for is one that a service has; and a real Prometheus that scrapes them fires when the
//! ingester dies, and is quiet before and after.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::opensearch::OpenSearch;
use loginlake_scenarios::parts::{Part, top};
use loginlake_scenarios::process::Program;
use loginlake_scenarios::prometheus::Prometheus;
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, http, runner};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
/// Beginnings of the names of our metrics.
const AREAS: [&str; 8] = [
    "realtime_",
    "ingest_",
    "logins_",
    "index_",
    "maintain_",
    "service_",
    "process_",
    "loginlake_",
];
/// Metrics that are not looked up here: those of `olap maintain`, which `maintenance_runs_by_itself` does, and those that are shown
/// only after something failed.
const EXPECTED: [&str; 10] = [
    "realtime_retries",
    "realtime_transactions_aborted",
    "maintain_active",
    "maintain_debt_over_limit",
    "maintain_compaction_debt_limit_bytes",
    "maintain_compaction_debt_bytes",
    "maintain_table_files",
    "maintain_table_small_files",
    "maintain_job_last_success_timestamp_seconds",
    "maintain_job_failures",
];

fn main() -> ExitCode {
    runner::main(
        entries![&[Part::Kafka, Part::Minio, Part::Prometheus, Part::OpenSearch];
            every_metric_that_is_asked_for_is_there,
            an_ingester_that_dies_is_told_about,
        ],
    )
}

fn every_metric_that_is_asked_for_is_there() -> Result<()> {
    let scenario = Scenario::new("metric-names")?;
    scenario.create_topics()?;
    let node = OpenSearch::start(&scenario.dir().join("opensearch"))?;
    let address = || anyhow::Ok(http::loopback(free_port()?));
    let (realtime, ingest, index) = (address()?, address()?, address()?);
    let indexer = Program::ours("realtime", scenario.dir())
        .args(["index", "--brokers", &scenario.kafka.brokers(), "--create-topics"])
        .args([
            "--output-topic",
            &scenario.output_topic(),
            "--group-id",
            "metric-names",
        ])
        .args([
            "--index-dead-letter-topic",
            "metric-names.letters",
            "--index-url",
            &node.url(),
        ]);
    let _running = [
        scenario
            .realtime()
            .args(["--http", &realtime.to_string()])
            .start()?,
        scenario.ingest().args(["--http", &ingest.to_string()]).start()?,
        indexer.args(["--http", &index.to_string()]).start()?,
    ];
    scenario
        .generate(2_000, 5)
        .args(["--bad-share", "0.05"])
        .run_ok(LIMIT)?;
    let headers = [
        ("source.topic", "t"),
        ("source.partition", "0"),
        ("source.offset", "0"),
    ];
    let misfit = r#"{"timestamp":1741000000,"login_hour":"noon"}"#;
    scenario
        .kafka
        .produce_with_headers(&scenario.output_topic(), misfit, &headers)?;
    let asked = asked_for()?;
    ensure!(asked.len() >= 20, "{asked:?}");
    // A family is shown from its first series on.
    let mut missing = asked.clone();
    wait_for("every metric that is asked for", LIMIT, || {
        let mut there: BTreeSet<String> = EXPECTED.iter().map(|name| (*name).to_owned()).collect();
        for service in [realtime, ingest, index] {
            there.extend(families(service).unwrap_or_default());
        }
        missing.retain(|name| !is_there(name, &there));
        Ok(missing.is_empty().then_some(()))
    })
    .with_context(|| format!("no service has {missing:?}"))?;
    println!("{} names are asked for, and all are there", asked.len());
    Ok(())
}

/// The names of a service's metrics, without the suffixes of their series.
fn families(service: SocketAddr) -> Result<BTreeSet<String>> {
    let page = http::get(service, "/metrics")?;
    let names = page.body.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some(name.to_owned())
    });
    Ok(names.collect())
}

fn is_there(name: &str, there: &BTreeSet<String>) -> bool {
    let suffixes = ["", "_total", "_bucket", "_sum", "_count", "_info"];
    suffixes
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix))
        .any(|family| there.contains(family))
}

/// The names of our metrics in the rules and in the dashboard. Names that the recording rules make are not of a service.
fn asked_for() -> Result<BTreeSet<String>> {
    let read = |file: &str| std::fs::read_to_string(top().join("deploy").join(file)).context(file.to_owned());
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboards/loginlake.json")?)?;
    let mut expressions = vec![read("prometheus/alerts.yml")?, read("prometheus/recording.yml")?];
    for panel in dashboard["panels"].as_array().context("no panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().context("no expression")?.to_owned());
        }
    }
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let words = expressions.iter().flat_map(|text| text.split(|c| !of_a_name(c)));
    let is_ours = |word: &&str| !word.contains(':') && AREAS.iter().any(|area| word.starts_with(area));
    Ok(words.filter(is_ours).map(str::to_owned).collect())
}

fn an_ingester_that_dies_is_told_about() -> Result<()> {
    let scenario = Scenario::new("alerts")?;
    scenario.create_topics()?;
    let (realtime, ingest) = (http::loopback(free_port()?), http::loopback(free_port()?));
    let ingester = || {
        scenario
            .ingest()
            .args(["--http", &ingest.to_string(), "--max-batch-age", "500ms"])
            .start()
    };
    let _realtime = scenario
        .realtime()
        .args(["--http", &realtime.to_string()])
        .start()?;
    let killed = ingester()?;
    // Without an end, so that data keep coming.
    let _producer = scenario.generate(10_000_000, 7).args(["--rate", "50"]).start()?;
    // The real rules, with shorter times: nobody waits ten minutes for a test.
    let dir = scenario.dir().join("prometheus");
    std::fs::create_dir_all(&dir)?;
    for file in ["alerts.yml", "recording.yml"] {
        let rules = std::fs::read_to_string(top().join("deploy/prometheus").join(file))?;
        std::fs::write(dir.join(file), shortened(&rules))?;
    }
    let prometheus = Prometheus::start(
        &dir,
        &format!(
            "global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}\n\
             rule_files: [recording.yml, alerts.yml]\n\
             scrape_configs:\n\
             - {{job_name: loginlake-realtime, static_configs: [{{targets: ['{realtime}']}}]}}\n\
             - {{job_name: loginlake-ingest, static_configs: [{{targets: ['{ingest}']}}]}}\n"
        ),
    )?;
    let rows = "loginlake:ingest_rows:rate5m%20%3E%200";
    wait_for("rows in Prometheus", LIMIT, || {
        Ok((!prometheus.query(rows)?.is_empty()).then_some(()))
    })?;
    let quiet = || {
        let firing = prometheus.firing()?;
        let about_it = firing
            .iter()
            .any(|name| ABOUT_THE_INGESTER.contains(&name.as_str()));
        Ok((!about_it).then_some(()))
    };
    wait_for("no alert about the ingester", LIMIT, quiet)?;
    killed.kill();
    wait_for("the alerts about it", LIMIT, || {
        let firing = prometheus.firing()?;
        let all = ABOUT_THE_INGESTER
            .iter()
            .all(|name| firing.iter().any(|f| f == name));
        Ok(all.then_some(()))
    })?;
    println!(
        "{} fire after the ingester was killed",
        ABOUT_THE_INGESTER.join(" and ")
    );
    ensure!(
        !prometheus
            .firing()?
            .iter()
            .any(|name| name == "LoginlakeNothingPublished"),
        "the other path is well"
    );
    let _again = ingester()?;
    wait_for("the alerts to end", LIMIT, quiet)
}

const ABOUT_THE_INGESTER: [&str; 2] = ["LoginlakeServiceDown", "LoginlakeNoData"];

/// The same rules with windows of 10 s instead of minutes, and two seconds until an alert fires.
fn shortened(rules: &str) -> String {
    let line = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        match line.trim_start() {
            rest if rest.starts_with("for: ") => format!("{}for: 2s\n", &line[..indent]),
            rest if rest.starts_with("interval: ") => String::new(),
            _ => line.replace("[5m]", "[10s]") + "\n",
        }
    };
    rules.lines().map(line).collect()
}
