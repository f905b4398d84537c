//! Every file of `sql/`, unchanged but for the way in which parameters are written, gives in Apache Spark over the same tables what
//! `olap query` gives. Files that Spark needs another word in are named here, with the word.
//!
//! Spark is large: it is installed by `tests/engines/run`, and this is left out without it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::engines::spark_files;
use loginlake_scenarios::parts::{self, Part};
use loginlake_scenarios::runner::Entry;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{entries, runner};
use serde_json::{Map, Value, json};

const EVENTS: u64 = 4_000;
const LIMIT: Duration = Duration::from_secs(120);
/// How far shares, which are quotients of the same numbers, may be apart.
const TOLERANCE: f64 = 1e-12;
/// File, what it says, and what Spark needs instead. Its days of the week begin with 1.
const OTHER_WORDS: [(&str, &str, &str); 1] = [(
    "hourly/daily_trend.sql",
    "date_part('dow', login_date)",
    "(date_part('dow', login_date) - 1)",
)];

fn main() -> ExitCode {
    let mut found: Vec<Entry> = Vec::new();
    // Nothing installs it unasked, in CI neither.
    if Part::Spark.missing().is_none() {
        found.extend(
            entries![&[Part::Kafka, Part::Minio, Part::Spark]; every_file_gives_the_same_answer_in_spark],
        );
    } else {
        println!("not run: Spark is not installed: tests/engines/run");
    }
    runner::main(&found)
}

fn every_file_gives_the_same_answer_in_spark() -> Result<()> {
    let scenario = Scenario::new("spark-files")?;
    scenario.create_topics()?;
    let lake = scenario.dir().join("dir");
    let uri = lake.display().to_string();
    let producer = scenario.generate(EVENTS, 31);
    producer.args(["--bad-share", "0.05"]).run_ok(LIMIT)?;
    let ingest = scenario
        .ingest_into(&uri)
        .args(["--exit-at-end", "--max-batch-rows", "1000"]);
    ingest.run_ok(LIMIT)?;
    scenario.olap_on("refresh", &uri).run_ok(LIMIT)?;

    let top = parts::top().join("sql");
    let in_spark = scenario.dir().join("sql");
    let names = copy(&top, &in_spark)?;
    let files: Vec<PathBuf> = names.iter().map(|name| in_spark.join(name)).collect();
    for parameters in [
        json!({}),
        json!({"from": "2025-03-05", "to": "2025-03-08", "region": "West"}),
    ] {
        let answers = spark_files(&lake, &parameters, &files)?;
        for (name, file) in names.iter().zip(&files) {
            let mut query = scenario
                .olap_on("query", &uri)
                .arg(top.join(name))
                .args(["--format", "json"]);
            for (parameter, value) in parameters.as_object().into_iter().flatten() {
                // Rejected records have no region.
                if name.ends_with("rejected.sql") && parameter == "region" {
                    continue;
                }
                let value = value.as_str().context("a text")?;
                query = query.args(["--param", &format!("{parameter}={value}")]);
            }
            let wanted = query.run_ok(LIMIT)?.json()?;
            let found = &answers[file.display().to_string()];
            // What is rejected has the time of this run, which is in no such period.
            let is_empty = name.ends_with("rejected.sql") && parameters.get("to").is_some();
            same(found, &wanted)
                .and_then(|rows| {
                    ensure!((rows == 0) == is_empty, "{rows} rows");
                    Ok(())
                })
                .with_context(|| format!("{name} with {parameters}\nSpark: {found}\nolap: {wanted}"))?;
        }
    }
    Ok(())
}

/// Copies the files with the words that Spark needs; returns their names.
fn copy(from: &Path, to: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in ["", "hourly"] {
        fs::create_dir_all(to.join(folder))?;
        for entry in fs::read_dir(from.join(folder))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "sql") {
                continue;
            }
            let name = path.strip_prefix(from)?.display().to_string();
            let mut text = fs::read_to_string(&path)?;
            for (_, word, other) in OTHER_WORDS.iter().filter(|(file, ..)| *file == name) {
                ensure!(text.contains(word), "{name} does not say {word} any more");
                text = text.replace(word, other);
            }
            fs::write(to.join(&name), text)?;
            names.push(name);
        }
    }
    names.sort();
    ensure!(names.len() >= 14, "only {} files", names.len());
    Ok(names)
}

/// The same rows in the same order, columns by their names.
/// Says how many rows there are.
fn same(found: &Value, wanted: &Value) -> Result<usize> {
    let rows = |value: &Value| -> Result<Vec<Map<String, Value>>> {
        let rows = value.as_array().context("no rows")?;
        rows.iter()
            .map(|row| row.as_object().cloned().context("no row"))
            .collect()
    };
    let (found, wanted) = (rows(found)?, rows(wanted)?);
    ensure!(
        found.len() == wanted.len(),
        "{} rows, not {}",
        found.len(),
        wanted.len()
    );
    for (number, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        ensure!(found.keys().eq(wanted.keys()), "row {number}: other columns");
        for (column, wanted) in wanted {
            let found = &found[column];
            let is_same = match (found.as_f64(), wanted.as_f64()) {
                (Some(found), Some(wanted)) => (found - wanted).abs() <= TOLERANCE,
                _ => found == wanted,
            };
            ensure!(is_same, "row {number}, {column}: {found}, not {wanted}");
        }
    }
    Ok(wanted.len())
}
