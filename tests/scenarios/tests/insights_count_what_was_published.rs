//! All insights of a run together are what the run committed: by device type, region, hour, time of day and reason, on the
//! topic and in the files. What an instance that was killed had not committed is in none of them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::exactness::{input_positions, published_each_once};
use loginlake_scenarios::kafka::Record;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(180);
const EVENTS: u64 = 12_000;
/// Five standard deviations of a sketch of distinct users.
const DISTINCT_ERROR: f64 = 0.08;

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        the_sums_of_all_insights_are_the_run,
        a_killed_instance_leaves_no_insight_of_what_it_did_not_commit,
    ])
}

fn the_sums_of_all_insights_are_the_run() -> Result<()> {
    let scenario = Scenario::new("insights")?;
    scenario.create_topics()?;
    produce(&scenario, 61)?;
    // One window holds all of it, so that its rankings can be looked at, too.
    scenario
        .realtime()
        .args([
            "--exit-at-end",
            "--insights-every",
            "1000000",
            "--insights-interval",
            "1h",
        ])
        .args(["--insights-dir", "insights"])
        .run_ok(LIMIT)?;
    let insights = insights(&scenario)?;
    let logins = events(&scenario)?;
    let letters = scenario.kafka.read_committed(&scenario.dead_letter_topic())?;
    published_each_once(&scenario, &input_positions(&scenario)?)?;
    assert_eq!(sum(&insights, "records"), EVENTS);
    assert_eq!(sum(&insights, "logins"), logins.len() as u64);
    assert_eq!(sum(&insights, "dead_letters"), letters.len() as u64);
    for (member, field) in [
        ("device_types", "device_type"),
        ("regions", "region"),
        ("hours", "login_hour"),
        ("times_of_day", "time_of_day"),
    ] {
        assert_eq!(sums(&insights, member), count(&logins, field), "{member}");
    }
    let mut reasons = BTreeMap::new();
    for letter in &letters {
        let reason = letter.headers.get("error.reason").cloned().unwrap_or_default();
        *reasons.entry(reason).or_insert(0) += 1;
    }
    assert_eq!(sums(&insights, "rejected"), reasons);

    let [only] = insights.as_slice() else {
        anyhow::bail!("{} insights of one window", insights.len());
    };
    let mut ranked: Vec<(String, u64)> = count(&logins, "locale").into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let top: Vec<(String, u64)> = only["top_locales"]
        .as_array()
        .context("no top_locales")?
        .iter()
        .map(|entry| {
            (
                text(&entry["locale"]),
                entry["logins"].as_u64().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(top, ranked[..10]);
    let users = count(&logins, "user_id").len() as f64;
    let found = only["distinct_users"].as_f64().context("no distinct_users")?;
    ensure!(
        (found - users).abs() <= users * DISTINCT_ERROR,
        "about {found} users, in truth {users}"
    );
    Ok(())
}

fn a_killed_instance_leaves_no_insight_of_what_it_did_not_commit() -> Result<()> {
    let scenario = Scenario::new("insights-killed")?;
    scenario.create_topics()?;
    produce(&scenario, 62)?;
    let realtime = || {
        scenario
            .realtime()
            .args(["--insights-every", "100", "--insights-interval", "1s"])
            .args([
                "--transactional-id",
                "insights-killed",
                "--insights-dir",
                "insights",
            ])
    };
    let mut killed = realtime().start()?;
    killed.wait_until("an insight", LIMIT, || {
        Ok((!insights_on_the_topic(&scenario)?.is_empty()).then_some(()))
    })?;
    killed.kill();
    realtime().arg("--exit-at-end").run_ok(LIMIT)?;
    published_each_once(&scenario, &input_positions(&scenario)?)?;
    // The killed one may have taken the report of its last window with it; nothing is counted that is not published.
    let all = insights_on_the_topic(&scenario)?;
    let (told, published) = (sum(&all, "logins"), events(&scenario)?.len() as u64);
    ensure!(
        0 < told && told <= published,
        "{told} logins are told, {published} published"
    );
    assert!(sum(&all, "records") <= EVENTS);
    Ok(())
}

fn produce(scenario: &Scenario, seed: u64) -> Result<()> {
    scenario
        .generate(EVENTS, seed)
        .args(["--bad-share", "0.05", "--users", "3000"])
        .run_ok(LIMIT)
        .map(drop)
}

/// The insights of the topic, which are those of the files, too.
fn insights(scenario: &Scenario) -> Result<Vec<Value>> {
    let on_topic = insights_on_the_topic(scenario)?;
    let mut in_files = Vec::new();
    for entry in std::fs::read_dir(scenario.dir().join("insights"))? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        let is_safe = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        ensure!(is_safe && name.ends_with(".json"), "{name}");
        in_files.push(serde_json::from_slice(&std::fs::read(entry.path())?)?);
    }
    let key = |insight: &Value| insight.to_string();
    let mut sorted = on_topic.clone();
    sorted.sort_by_key(key);
    in_files.sort_by_key(key);
    assert_eq!(sorted, in_files);
    Ok(on_topic)
}

fn insights_on_the_topic(scenario: &Scenario) -> Result<Vec<Value>> {
    parsed(&scenario.kafka.read_committed(&scenario.insights_topic())?)
}

fn events(scenario: &Scenario) -> Result<Vec<Value>> {
    parsed(&scenario.kafka.read_committed(&scenario.output_topic())?)
}

fn parsed(records: &[Record]) -> Result<Vec<Value>> {
    let payloads = records
        .iter()
        .map(|record| record.payload.as_deref().unwrap_or_default());
    payloads
        .map(|payload| Ok(serde_json::from_slice(payload)?))
        .collect()
}

fn sum(insights: &[Value], member: &str) -> u64 {
    insights
        .iter()
        .filter_map(|insight| insight[member].as_u64())
        .sum()
}

/// The counts of a member of all insights together, without those that are zero.
fn sums(insights: &[Value], member: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for counts in insights.iter().filter_map(|insight| insight[member].as_object()) {
        for (name, count) in counts {
            *sums.entry(name.clone()).or_insert(0) += count.as_u64().unwrap_or_default();
        }
    }
    sums.retain(|_, count| *count > 0);
    sums
}

/// How often each value of a field is there.
fn count(events: &[Value], field: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for event in events {
        *counts.entry(text(&event[field])).or_insert(0) += 1;
    }
    counts
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
