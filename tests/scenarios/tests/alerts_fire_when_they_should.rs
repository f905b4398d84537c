//! A real Prometheus scrapes every service: every metric that an alert or a panel asks for is there, every panel has an answer, and
//! alerts fire when a record does not fit the index and when the ingester dies, and are quiet before and after.

use std::collections::{BTreeMap, BTreeSet};
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
const AREAS: [&str; 9] = [
    "realtime_",
    "ingest_",
    "logins_",
    "index_",
    "maintain_",
    "serve_",
    "service_",
    "process_",
    "loginlake_",
];
/// Questions about what failed: in a run in which nothing does, some of them have no answer.
const ABOUT_FAILURES: [&str; 2] = ["realtime_retries_total", "realtime_transactions_aborted_total"];

fn main() -> ExitCode {
    runner::main(
        entries![&[Part::Kafka, Part::Minio, Part::Prometheus, Part::OpenSearch];
            every_service_is_scraped_and_every_panel_has_an_answer,
            an_ingester_that_dies_is_told_about,
        ],
    )
}

fn every_service_is_scraped_and_every_panel_has_an_answer() -> Result<()> {
    let scenario = Scenario::new("metric-names")?;
    scenario.create_topics()?;
    let node = OpenSearch::start(&scenario.dir().join("opensearch"))?;
    let mut services = BTreeMap::new();
    for name in ["realtime", "ingest", "index", "maintain", "serve"] {
        services.insert(name, http::loopback(free_port()?));
    }
    let bind = |name: &str| ["--http".to_owned(), services[name].to_string()];
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
    // Something comes all the time, so that there are rates.
    let _producer = scenario
        .generate(10_000_000, 5)
        .args(["--rate", "100", "--bad-share", "0.05"])
        .start()?;
    let ingest = scenario.ingest().args(["--max-batch-age", "500ms"]);
    let _paths = [
        scenario.realtime().args(bind("realtime")).start()?,
        ingest.args(bind("ingest")).start()?,
        indexer.args(bind("index")).start()?,
    ];
    wait_for("rows in the lake", LIMIT, || {
        let rows = http::metric(services["ingest"], "ingest_logins_rows_total");
        Ok(rows.is_ok_and(|rows| rows > 0.0).then_some(()))
    })?;
    let maintain = scenario.olap("maintain").args(["--refresh-every", "2s"]);
    let maintain = maintain.args(["--compact-every", "2s", "--vacuum-every", "2s"]);
    let queries = top().join("sql");
    let serve = scenario.olap("serve").arg("--queries").arg(queries);
    let _lake = [
        maintain.args(bind("maintain")).start()?,
        serve.args(bind("serve")).start()?,
    ];
    let jobs: String = services
        .iter()
        .map(|(name, address)| {
            format!("- {{job_name: loginlake-{name}, static_configs: [{{targets: ['{address}']}}]}}\n")
        })
        .collect();
    let prometheus = start_prometheus(&scenario, &jobs)?;
    wait_for("all five services", LIMIT, || {
        let targets = prometheus.targets()?;
        Ok((targets.len() == services.len() && targets.values().all(|up| *up)).then_some(()))
    })?;
    let headers = [
        ("source.topic", "t"),
        ("source.partition", "0"),
        ("source.offset", "0"),
    ];
    let misfit = r#"{"timestamp":1741000000,"login_hour":"noon"}"#;
    scenario
        .kafka
        .produce_with_headers(&scenario.output_topic(), misfit, &headers)?;

    // Every name that a rule or a panel asks for is one that a service has.
    let names = names_asked_for()?;
    ensure!(names.len() >= 20, "{names:?}");
    let failures: BTreeSet<String> = ABOUT_FAILURES.map(str::to_owned).into();
    let mut missing: BTreeSet<String> = names.difference(&failures).cloned().collect();
    wait_for("every metric that is asked for", LIMIT, || {
        // Somebody asks for an answer, too.
        let _ = http::get(services["serve"], "/queries/top_regions");
        let mut there = BTreeSet::new();
        for service in services.values() {
            there.extend(families(*service).unwrap_or_default());
        }
        missing.retain(|name| !is_there(name, &there));
        Ok(missing.is_empty().then_some(()))
    })
    .with_context(|| format!("no service has {missing:?}"))?;

    // And every question of a panel has an answer, with a number in it.
    let mut questions = panel_questions()?;
    let count = questions.len();
    wait_for("an answer to every question", LIMIT, || {
        let _ = http::get(services["serve"], "/queries/top_regions");
        let mut open = Vec::new();
        for question in questions.drain(..) {
            let answer = prometheus.query(&question)?;
            let about_failures = ABOUT_FAILURES.iter().any(|name| question.contains(name));
            if !about_failures && !answer.iter().any(|value| value.is_finite()) {
                open.push(question);
            }
        }
        questions = open;
        Ok(questions.is_empty().then_some(()))
    })
    .with_context(|| format!("no answer to {questions:#?}"))?;
    println!(
        "five services are scraped; {} names are asked for, and all are there; {count} questions of panels are answered",
        names.len()
    );
    wait_for("the alert about the record that does not fit", LIMIT, || {
        let firing = prometheus.firing()?;
        Ok(firing
            .iter()
            .any(|name| name == "LoginlakeIndexDeadLetters")
            .then_some(()))
    })
}

/// Prometheus with the real rules, but with shorter times: nobody waits ten minutes for a test.
fn start_prometheus(scenario: &Scenario, jobs: &str) -> Result<Prometheus> {
    let dir = scenario.dir().join("prometheus");
    std::fs::create_dir_all(&dir)?;
    for file in ["alerts.yml", "recording.yml"] {
        let rules = std::fs::read_to_string(top().join("deploy/prometheus").join(file))?;
        std::fs::write(dir.join(file), shortened(&rules))?;
    }
    let configuration = format!(
        "global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}\n\
         rule_files: [recording.yml, alerts.yml]\n\
         scrape_configs:\n{jobs}"
    );
    Prometheus::start(&dir, &configuration)
}

/// What the panels of the dashboard ask, as Grafana would ask it.
fn panel_questions() -> Result<Vec<String>> {
    let file = top().join("deploy/grafana/dashboards/loginlake.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| {
            let question = target["expr"].as_str().context("no expression")?;
            Ok(question.replace("$__rate_interval", "10s"))
        })
        .collect()
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
fn names_asked_for() -> Result<BTreeSet<String>> {
    let read = |file: &str| {
        std::fs::read_to_string(top().join("deploy/prometheus").join(file)).context(file.to_owned())
    };
    let mut expressions = vec![read("alerts.yml")?, read("recording.yml")?];
    expressions.extend(panel_questions()?);
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
    let prometheus = start_prometheus(
        &scenario,
        &format!(
            "- {{job_name: loginlake-realtime, static_configs: [{{targets: ['{realtime}']}}]}}\n\
             - {{job_name: loginlake-ingest, static_configs: [{{targets: ['{ingest}']}}]}}\n"
        ),
    )?;
    let rows = "loginlake:ingest_rows:rate5m > 0";
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
