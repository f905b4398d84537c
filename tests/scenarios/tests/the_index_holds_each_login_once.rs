//! Every processed login is one document of OpenSearch: while the node dies and the indexer is killed, with a record that does not
//! fit the types of the fields, and after all of it is read again from the beginning. What a panel of the dashboard asks is
//! answered with the counts of what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::kafka::Record;
use loginlake_scenarios::opensearch::OpenSearch;
use loginlake_scenarios::parts::{Part, top};
use loginlake_scenarios::process::Program;
use loginlake_scenarios::saved_objects::SavedObjects;
use loginlake_scenarios::scenario::{Scenario, events, free_port};
use loginlake_scenarios::{entries, http, runner};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(180);
const ALIAS: &str = "logins";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::OpenSearch];
        the_index_holds_each_login_once,
    ])
}

fn the_index_holds_each_login_once() -> Result<()> {
    let scenario = Scenario::new("index")?;
    scenario.create_topics()?;
    let letters_topic = format!("{}.index-dead-letters", scenario.bucket());
    scenario.kafka.create_topic(&letters_topic, 1)?;
    let mut node = OpenSearch::start(&scenario.dir().join("opensearch"))?;
    let count = events(12_000)?;
    scenario
        .generate(count, 71)
        .args(["--bad-share", "0.05"])
        .run_ok(LIMIT)?;
    scenario.realtime().arg("--exit-at-end").run_ok(LIMIT)?;
    let records = scenario.kafka.read_committed(&scenario.output_topic())?;
    let (ids, logins) = expected(&scenario, &records)?;
    ensure!(ids.len() == records.len(), "a login was processed twice");
    // Its own fields are good JSON; one of them does not fit its type.
    let misfit = r#"{"timestamp":1741000000,"login_hour":"noon"}"#;
    let headers = [
        ("source.topic", "user-login"),
        ("source.partition", "99"),
        ("source.offset", "0"),
    ];
    scenario
        .kafka
        .produce_with_headers(&scenario.output_topic(), misfit, &headers)?;

    // Small requests, so that there is a middle of it.
    let url = node.url();
    let indexer = |group: &str, port: u16| -> Program {
        Program::ours("realtime", scenario.dir())
            .arg("index")
            .args(["--brokers", &scenario.kafka.brokers()])
            .args(["--output-topic", &scenario.output_topic(), "--group-id", group])
            .args(["--index-dead-letter-topic", &letters_topic, "--index-url", &url])
            .args(["--batch-records", "50", "--batch-age", "100ms"])
            .args(["--http", &http::loopback(port).to_string()])
            .env("LOGINLAKE_LOG_FORMAT", "text")
    };
    let stored =
        |port: u16| http::metric_with(http::loopback(port), "index_records_total", "outcome=\"stored\"");

    let port = free_port()?;
    let mut first = indexer("index", port).start()?;
    first.wait_until("the first documents", LIMIT, || {
        Ok(stored(port).is_ok_and(|records| records >= 500.0).then_some(()))
    })?;
    node.kill();
    first.wait_until("readiness to say why", LIMIT, || {
        let ready = http::get(http::loopback(port), "/health/ready")?;
        Ok((ready.status == 503 && ready.body.contains("OpenSearch")).then_some(()))
    })?;
    let before = stored(port)?;
    ensure!(before < ids.len() as f64, "all was stored before the node died");
    first.kill();
    println!("node and indexer killed at {before} of {} documents", ids.len());

    node.start_again()?;
    let port = free_port()?;
    let again = indexer("index", port).arg("--exit-at-end");
    let mut second = again.start()?;
    second.wait_until("further documents", LIMIT, || {
        Ok(stored(port).is_ok_and(|records| records >= 500.0).then_some(()))
    })?;
    node.kill();
    node.start_again()?;
    second.wait_exit(LIMIT)?.ok()?;
    ensure!(node.ids(ALIAS)? == ids, "the index is not what was processed");
    println!(
        "all {} documents are there after two deaths of the node",
        ids.len()
    );

    // Everything again, as a new group: nothing changes but a second letter about the same record.
    indexer("index-replay", free_port()?)
        .arg("--exit-at-end")
        .run_ok(LIMIT)?;
    ensure!(node.ids(ALIAS)? == ids, "a replay changed the index");
    let letters = scenario.kafka.read_committed(&letters_topic)?;
    ensure!((2..=4).contains(&letters.len()), "{} letters", letters.len());
    for letter in &letters {
        assert_eq!(letter.payload.as_deref(), Some(misfit.as_bytes()));
        assert_eq!(
            letter.headers.get("error.reason").map(String::as_str),
            Some("INDEX_MAPPING")
        );
        assert_eq!(
            letter.headers.get("error.field").map(String::as_str),
            Some("login_hour")
        );
        assert_eq!(letter.source_position()?, (99, 0));
    }
    // One index for each month, under one alias.
    let indices = node.ask("GET", "/_alias/logins", None)?;
    assert_eq!(
        indices
            .as_object()
            .map(|found| found.keys().cloned().collect::<Vec<_>>()),
        Some(vec!["logins-2025.03".to_owned()])
    );
    panels_answer(&node, &logins)?;
    a_closed_month_holds_up_its_own_items_only(&node, &scenario, &indexer)?;
    speed(&scenario, &node, count)?;
    drop(node);
    the_dashboard_is_whole_and_shows_the_last_minutes(&scenario)
}

/// One month takes no writes: its items are sent again until it does, and the others are stored meanwhile.
fn a_closed_month_holds_up_its_own_items_only(
    node: &OpenSearch,
    scenario: &Scenario,
    indexer: &impl Fn(&str, u16) -> Program,
) -> Result<()> {
    const EACH: usize = 20;
    node.ask("PUT", "/logins-2025.04", None)?;
    let block = |on: bool| {
        let settings = json!({"index.blocks.write": on});
        node.ask("PUT", "/logins-2025.04/_settings", Some(&settings))
    };
    block(true)?;
    let closed_from = 1_743_500_000;
    for (month, second) in [(97, 1_741_000_000), (98, closed_from)] {
        for offset in 0..EACH {
            let partition = month.to_string();
            let offset = offset.to_string();
            let headers = [
                ("source.topic", "user-login"),
                ("source.partition", partition.as_str()),
                ("source.offset", offset.as_str()),
            ];
            let login = json!({"timestamp": second, "login_hour": 1}).to_string();
            scenario
                .kafka
                .produce_with_headers(&scenario.output_topic(), &login, &headers)?;
        }
    }
    let held = |month: &str| -> Result<usize> {
        let ids = node.ids(month)?;
        Ok(ids.iter().filter(|id| id.starts_with("user-login:9")).count())
    };
    let port = free_port()?;
    // The group that has read all but these.
    let mut running = indexer("index-replay", port).start()?;
    running.wait_until("the items of the open month", LIMIT, || {
        Ok((held("logins-2025.03")? == EACH).then_some(()))
    })?;
    running.wait_until("items that are sent again", LIMIT, || {
        let again = http::metric(http::loopback(port), "index_retried_records_total")?;
        let ready = http::get(http::loopback(port), "/health/ready")?;
        Ok((again > 0.0 && ready.body.contains("does not take")).then_some(()))
    })?;
    ensure!(held("logins-2025.04")? == 0, "a closed month took something");
    block(false)?;
    running.wait_until("the rest", LIMIT, || {
        Ok((held("logins-2025.04")? == EACH).then_some(()))
    })?;
    running.wait_until("readiness", LIMIT, || {
        let ready = http::get(http::loopback(port), "/health/ready")?;
        Ok((ready.status == 200).then_some(()))
    })?;
    let letters = http::metric(http::loopback(port), "index_dead_letters_total")?;
    ensure!(letters == 0.0, "what is refused for now is no dead letter");
    running.terminate(LIMIT)?;
    println!("a month that takes no writes holds up its own {EACH} items only");
    Ok(())
}

/// How fast an empty index is filled, with the settings that are built in. In a release build, and with
/// LOGINLAKE_SCENARIO_EVENTS=1000000, that is a figure; here it is a line in the log.
fn speed(scenario: &Scenario, node: &OpenSearch, count: u64) -> Result<()> {
    let started = Instant::now();
    Program::ours("realtime", scenario.dir())
        .args(["index", "--exit-at-end", "--http", "none"])
        .args([
            "--brokers",
            &scenario.kafka.brokers(),
            "--group-id",
            "index-speed",
        ])
        .args(["--output-topic", &scenario.output_topic()])
        .args(["--index-url", &node.url(), "--index-name", "speed"])
        .args([
            "--index-dead-letter-topic",
            "index-speed.letters",
            "--create-topics",
        ])
        .run_ok(LIMIT)?;
    let seconds = started.elapsed().as_secs_f64();
    let documents = node.ids("speed")?.len();
    ensure!(documents as u64 >= count * 9 / 10, "{documents} documents");
    println!(
        "speed: {documents} documents in {seconds:.1} s, start and end of the process included: {:.0} a second",
        documents as f64 / seconds
    );
    Ok(())
}

/// What is imported into OpenSearch Dashboards fits together, and its panels show what happened in the last 15 minutes.
fn the_dashboard_is_whole_and_shows_the_last_minutes(scenario: &Scenario) -> Result<()> {
    // An index of its own, with nothing old in it.
    let node = OpenSearch::start(&scenario.dir().join("opensearch-live"))?;
    let live = Scenario::new("index-live")?;
    live.create_topics()?;
    let recent = 400;
    Program::ours("generate", live.dir())
        .args([
            "--brokers",
            &live.kafka.brokers(),
            "--input-topic",
            &live.input_topic(),
        ])
        .args(["--count", &recent.to_string(), "--seed", "5"])
        .run_ok(LIMIT)?;
    live.realtime().arg("--exit-at-end").run_ok(LIMIT)?;
    Program::ours("realtime", live.dir())
        .args([
            "index",
            "--exit-at-end",
            "--http",
            "none",
            "--brokers",
            &live.kafka.brokers(),
        ])
        .args(["--output-topic", &live.output_topic(), "--group-id", "index-live"])
        .args([
            "--index-dead-letter-topic",
            "index-live.letters",
            "--create-topics",
        ])
        .args(["--index-url", &node.url()])
        .run_ok(LIMIT)?;
    node.ask("POST", "/logins/_refresh", None)?;
    let objects = SavedObjects::read(&top().join("deploy/opensearch/dashboard.ndjson"))?;
    let mapping = node.ask("GET", "/logins/_mapping", None)?;
    objects.check(&mapping)?;
    let records = live.kafka.read_committed(&live.output_topic())?;
    let (_, logins) = expected(&live, &records)?;
    let span = objects.time_span()?;
    let newest = logins
        .iter()
        .filter_map(|login| login["timestamp"].as_i64())
        .max();
    println!("newest login: {newest:?}; {} logins", logins.len());
    let mut shown = Vec::new();
    for (title, aggregations) in objects.questions()? {
        let query = json!({
            "size": 0,
            "track_total_hits": true,
            "query": {"bool": {"filter": [{"range": {span.field.as_str(): {"gte": span.from, "lte": span.to}}}]}},
            "aggs": aggregations,
        });
        let answer = node.ask("POST", "/logins-*/_search", Some(&query))?;
        let total = answer["hits"]["total"]["value"].as_u64().context("no total")?;
        ensure!(
            total == logins.len() as u64,
            "{title}: {total} logins in the last minutes: {answer}"
        );
        let counted = leaves(&answer["aggregations"]);
        ensure!(
            counted.is_none_or(|counted| counted == total),
            "{title}: {counted:?} of {total}"
        );
        shown.push(title);
    }
    ensure!(shown.len() >= 9, "{shown:?}");
    println!(
        "{} panels show the {} logins of the last minutes: {}",
        shown.len(),
        logins.len(),
        shown.join(", ")
    );
    Ok(())
}

/// The sum of the innermost buckets; `None` without buckets.
fn leaves(aggregations: &Value) -> Option<u64> {
    let buckets = aggregations
        .as_object()?
        .values()
        .find_map(|found| found["buckets"].as_array())?;
    let of_bucket = |bucket: &Value| {
        let inner = bucket
            .as_object()?
            .iter()
            .find(|(_, value)| value["buckets"].is_array());
        match inner {
            Some((name, value)) => leaves(&json!({name: value})),
            None => bucket["doc_count"].as_u64(),
        }
    };
    Some(buckets.iter().filter_map(of_bucket).sum())
}

/// The ids that documents have to have, and the logins themselves.
fn expected(scenario: &Scenario, records: &[Record]) -> Result<(BTreeSet<String>, Vec<Value>)> {
    let mut ids = BTreeSet::new();
    let mut logins = Vec::new();
    for record in records {
        let login: Value = serde_json::from_slice(record.payload.as_deref().context("a tombstone")?)?;
        let (partition, offset) = record.source_position()?;
        ids.insert(format!(
            "{}:{partition}:{offset}:{}",
            scenario.input_topic(),
            login["timestamp"]
        ));
        logins.push(login);
    }
    Ok((ids, logins))
}

/// Asks what each panel of the dashboard asks, and compares the counts with the logins.
fn panels_answer(node: &OpenSearch, logins: &[Value]) -> Result<()> {
    let text = std::fs::read_to_string(top().join("deploy/opensearch/dashboard.ndjson"))?;
    let mut asked = 0;
    for line in text.lines() {
        let object: Value = serde_json::from_str(line)?;
        let Some(state) = object["attributes"]["visState"].as_str() else {
            continue;
        };
        let state: Value = serde_json::from_str(state)?;
        for aggregation in state["aggs"].as_array().context("no aggregations")? {
            let parameters = &aggregation["params"];
            let field = parameters["field"].as_str().unwrap_or_default();
            match aggregation["type"].as_str() {
                Some("count") => continue,
                Some("terms") => {
                    let size = &parameters["size"];
                    let found = node.buckets(ALIAS, &json!({"terms": {"field": field, "size": size}}))?;
                    let sent = count(logins, field);
                    let most = usize::try_from(size.as_u64().context("no size")?)?;
                    assert_eq!(found.len(), sent.len().min(most), "{field}");
                    for (value, records) in &found {
                        assert_eq!(sent.get(value), Some(records), "{field} {value}");
                    }
                }
                Some("histogram") => {
                    let found =
                        node.buckets(ALIAS, &json!({"histogram": {"field": field, "interval": 1}}))?;
                    let whole = |(key, count): (String, u64)| (key.trim_end_matches(".0").to_owned(), count);
                    let found: BTreeMap<_, _> =
                        found.into_iter().filter(|(_, n)| *n > 0).map(whole).collect();
                    assert_eq!(found, count(logins, field), "{field}");
                }
                Some("date_histogram") => {
                    let by_day = json!({"date_histogram": {"field": field, "calendar_interval": "1d"}});
                    let found = node.buckets(ALIAS, &by_day)?;
                    let counts: Vec<u64> = found.into_values().filter(|n| *n > 0).collect();
                    let sent: Vec<u64> = count(logins, "login_date").into_values().collect();
                    assert_eq!(counts, sent, "{field}");
                }
                other => anyhow::bail!("a panel asks for {other:?}, which is not compared"),
            }
            asked += 1;
        }
    }
    ensure!(asked >= 7, "only {asked} aggregations");
    println!(
        "{asked} aggregations of the dashboard agree with {} logins",
        logins.len()
    );
    Ok(())
}

/// How often each value of a field is there.
fn count(logins: &[Value], field: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for login in logins {
        let value = &login[field];
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        *counts.entry(value).or_insert(0) += 1;
    }
    counts
}
