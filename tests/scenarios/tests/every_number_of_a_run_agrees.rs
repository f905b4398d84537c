//! 100,000 events, 2 % of them bad, of every reason, go through both paths on real Kafka and MinIO. Every number of the
//! run agrees: produced = processed + dead letters + filtered = rows in `logins` + `rejected` (invariants 1, 6 and 8 of
//! the design), in our own answers and in those of an independent reader.
//!
//! The run is made once; each scenario looks at it from one side.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use chrono::{DateTime, Timelike};
use loginlake_scenarios::kafka::Record;
use loginlake_scenarios::parts::{self, Part};
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

const EVENTS: u64 = 100_000;
const SEED: u64 = 7;
const LIMIT: Duration = Duration::from_secs(600);
/// Every 997th record of each partition is looked at field by field: some hundred, spread over the run.
const SAMPLE: i64 = 997;
/// All of the contract's reasons but TOO_LARGE: a broker with its usual limits takes no such record in.
const REASONS: [&str; 16] = [
    "NULL_PAYLOAD",
    "NOT_UTF8",
    "NOT_JSON",
    "NOT_OBJECT",
    "TOO_DEEP",
    "DUPLICATE_FIELD",
    "MISSING_FIELD",
    "BAD_TYPE",
    "BAD_USER_ID",
    "BAD_DEVICE_ID",
    "BAD_TIMESTAMP",
    "TIMESTAMP_RANGE",
    "BAD_IP",
    "BAD_LOCALE",
    "CONTROL_CHARACTER",
    "BAD_VERSION",
];

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        every_input_record_is_processed_or_a_dead_letter_or_filtered,
        the_table_holds_every_input_record_once,
        both_paths_give_the_same_verdict,
        a_dead_letter_is_the_record_that_came_in,
        a_processed_record_is_enriched_by_the_contract,
        the_table_and_the_processed_topic_say_the_same,
        the_sql_file_adds_up_to_the_table,
        compaction_keeps_every_row,
    ])
}

type Position = (i32, i64);

/// What the topics hold after both paths have come to their ends.
struct Run {
    scenario: Scenario,
    input: BTreeMap<Position, Record>,
    processed: BTreeMap<Position, Record>,
    dead_letters: BTreeMap<Position, Record>,
}

fn run() -> Result<&'static Run> {
    static RUN: OnceLock<Result<Run, String>> = OnceLock::new();
    RUN.get_or_init(|| make_run().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

fn make_run() -> Result<Run> {
    let scenario = Scenario::new("every-number")?;
    scenario.create_topics()?;
    scenario
        .generate(EVENTS, SEED)
        .args(["--bad-share", "0.02"])
        .run_ok(LIMIT)?;
    std::fs::write(
        scenario.dir().join("filter.toml"),
        "[realtime]\nfilters = [\"device_type missing\"]\n",
    )?;
    let realtime = scenario
        .realtime()
        .args(["--config", "filter.toml", "--exit-at-end"])
        .start()?;
    let ingest = scenario.ingest().arg("--exit-at-end").start()?;
    realtime.wait_exit(LIMIT)?.ok()?;
    ingest.wait_exit(LIMIT)?.ok()?;

    let read = |topic: &str| scenario.kafka.read_committed(topic);
    let input = read(&scenario.input_topic())?;
    let processed = by_source(read(&scenario.output_topic())?)?;
    let dead_letters = by_source(read(&scenario.dead_letter_topic())?)?;
    let input = input
        .into_iter()
        .map(|record| ((record.partition, record.offset), record))
        .collect();
    Ok(Run {
        scenario,
        input,
        processed,
        dead_letters,
    })
}

/// Records by the input position that each names in its headers; two of one position break invariant 1.
fn by_source(records: Vec<Record>) -> Result<BTreeMap<Position, Record>> {
    let mut found = BTreeMap::new();
    for record in records {
        let position = record.source_position()?;
        ensure!(
            found.insert(position, record).is_none(),
            "{position:?} was published twice"
        );
    }
    Ok(found)
}

impl Run {
    /// The input records that neither output topic has.
    fn filtered(&self) -> BTreeSet<Position> {
        let published = |position: &&Position| {
            self.processed.contains_key(position) || self.dead_letters.contains_key(position)
        };
        self.input
            .keys()
            .filter(|position| !published(position))
            .copied()
            .collect()
    }

    fn rows(&self, table: &str) -> Result<usize> {
        self.scenario.reader().count(table)
    }

    fn positions(&self, table: &str, condition: &str) -> Result<BTreeSet<Position>> {
        let sql = format!("SELECT kafka_partition, kafka_offset FROM t WHERE {condition}");
        self.scenario
            .reader()
            .query(table, &sql)?
            .iter()
            .map(|row| position(row))
            .collect()
    }

    fn sample(&self) -> impl Iterator<Item = (&Position, &Record)> {
        self.processed
            .iter()
            .filter(|((_, offset), _)| offset % SAMPLE == 0)
    }
}

fn position(row: &[Value]) -> Result<Position> {
    let number = |index: usize| {
        row.get(index)
            .and_then(Value::as_i64)
            .context("a position is two numbers")
    };
    Ok((i32::try_from(number(0)?)?, number(1)?))
}

fn json(record: &Record) -> Result<Value> {
    serde_json::from_slice(record.payload.as_deref().unwrap_or_default())
        .with_context(|| format!("{record:?}"))
}

fn every_input_record_is_processed_or_a_dead_letter_or_filtered() -> Result<()> {
    let run = run()?;
    assert_eq!(run.input.len() as u64, EVENTS);
    let unknown = run
        .processed
        .keys()
        .chain(run.dead_letters.keys())
        .find(|key| !run.input.contains_key(key));
    assert_eq!(unknown, None, "an output names an input record that is not there");
    assert!(
        run.dead_letters
            .keys()
            .all(|position| !run.processed.contains_key(position))
    );
    let filtered = run.filtered();
    assert!(
        !filtered.is_empty(),
        "the filter of this run matches 5 % of the good events"
    );
    for position in &filtered {
        assert_eq!(
            json(&run.input[position])?.get("device_type"),
            None,
            "{position:?} was lost, not filtered"
        );
    }
    for (position, record) in &run.processed {
        assert_ne!(
            json(record)?["device_type"],
            "unknown",
            "{position:?} should have been filtered"
        );
    }
    let ends = run
        .scenario
        .kafka
        .committed_offsets(&run.scenario.realtime_group(), &run.scenario.input_topic())?;
    for (partition, offset) in run.input.keys() {
        assert!(
            ends.get(partition).is_some_and(|end| end > offset),
            "{partition}/{offset} is not committed: {ends:?}"
        );
    }
    Ok(())
}

fn the_table_holds_every_input_record_once() -> Result<()> {
    let run = run()?;
    let logins = run.positions("logins", "true")?;
    let rejected = run.positions("rejected", "true")?;
    assert_eq!(run.rows("logins")?, logins.len(), "a position is there twice");
    assert_eq!(run.rows("rejected")?, rejected.len(), "a position is there twice");
    assert!(logins.is_disjoint(&rejected));
    let all: BTreeSet<Position> = logins.union(&rejected).copied().collect();
    assert!(
        all.iter().eq(run.input.keys()),
        "{} in the tables, {} in the topic",
        all.len(),
        run.input.len()
    );
    Ok(())
}

fn both_paths_give_the_same_verdict() -> Result<()> {
    let run = run()?;
    let rows = run
        .scenario
        .reader()
        .query("rejected", "SELECT kafka_partition, kafka_offset, reason FROM t")?;
    let in_table = rows
        .iter()
        .map(|row| Ok((position(row)?, row[2].as_str().unwrap_or_default().to_owned())));
    let in_table = in_table.collect::<Result<BTreeMap<Position, String>>>()?;
    let reason = |record: &Record| record.headers.get("error.reason").cloned().unwrap_or_default();
    let in_topic: BTreeMap<Position, String> = run
        .dead_letters
        .iter()
        .map(|(position, record)| (*position, reason(record)))
        .collect();
    assert_eq!(in_table, in_topic);
    let seen: BTreeSet<&str> = in_topic.values().map(String::as_str).collect();
    assert_eq!(seen, BTreeSet::from(REASONS));
    let share = in_topic.len() as f64 / EVENTS as f64;
    assert!(
        (0.018..0.022).contains(&share),
        "2 % were asked for, {share} are bad"
    );

    // A filtered event is not republished, and still reaches the lake.
    assert_eq!(
        run.positions("logins", "list_contains(flags, 'device_type_missing')")?,
        run.filtered()
    );
    Ok(())
}

fn a_dead_letter_is_the_record_that_came_in() -> Result<()> {
    let run = run()?;
    for (position, letter) in &run.dead_letters {
        let source = &run.input[position];
        assert_eq!(
            (&letter.key, &letter.payload),
            (&source.key, &source.payload),
            "{position:?}"
        );
        assert_eq!(
            letter.headers.get("source.topic"),
            Some(&run.scenario.input_topic())
        );
        for header in [
            "error.message",
            "rule.version",
            "error.attempt",
            "source.timestamp",
        ] {
            assert!(
                letter.headers.contains_key(header),
                "{position:?} has no header {header}"
            );
        }
    }
    Ok(())
}

fn a_processed_record_is_enriched_by_the_contract() -> Result<()> {
    let run = run()?;
    let states = states()?;
    let mut looked_at = 0;
    for (position, record) in run.sample() {
        let source = json(&run.input[position])?;
        let event = json(record)?;
        assert_eq!(record.key, run.input[position].key);
        for field in ["user_id", "device_id", "ip", "locale", "app_version", "timestamp"] {
            assert_eq!(event[field], source[field], "{field} of {position:?}");
        }
        let seconds = source["timestamp"]
            .as_i64()
            .context("the generator writes whole seconds")?;
        let time = DateTime::from_timestamp(seconds, 0).context("the generator writes times of 2025")?;
        assert_eq!(event["login_date"], time.format("%Y-%m-%d").to_string());
        assert_eq!(event["login_hour"], time.hour());
        assert_eq!(event["day_of_week"], time.format("%a").to_string());
        assert_eq!(
            record.timestamp_ms,
            Some(seconds * 1000),
            "the Kafka timestamp is the event's own"
        );
        assert_eq!(
            record.headers.get("source.topic"),
            Some(&run.scenario.input_topic())
        );
        assert_eq!(
            record.headers.get("schema.version").map(String::as_str),
            Some("1")
        );

        let locale = source["locale"].as_str().unwrap_or_default();
        let state = states
            .get(locale)
            .with_context(|| format!("{locale} is no state"))?;
        assert_eq!(
            (&event["region"], &event["division"]),
            (&state.region.into(), &state.division.into())
        );
        assert_eq!(event["local_hour"], time.with_timezone(&state.zone).hour());
        looked_at += 1;
    }
    assert!(looked_at >= 80, "only {looked_at} records in the sample");
    Ok(())
}

struct State {
    region: &'static str,
    division: &'static str,
    zone: chrono_tz::Tz,
}

/// The states' facts, read here without the code under test.
fn states() -> Result<BTreeMap<&'static str, State>> {
    let text: &'static str = std::fs::read_to_string(parts::top().join("data/us_states.csv"))?.leak();
    let state = |line: &'static str| {
        let fields: Vec<&'static str> = line.split(',').collect();
        let [code, _, region, division, zone] = fields[..] else {
            return Err(anyhow!(
                "us_states.csv has a line of {} fields: {line}",
                fields.len()
            ));
        };
        Ok((
            code,
            State {
                region,
                division,
                zone: zone.parse().map_err(|_| anyhow!("no time zone: {zone}"))?,
            },
        ))
    };
    text.lines().skip(1).map(state).collect()
}

fn the_table_and_the_processed_topic_say_the_same() -> Result<()> {
    let run = run()?;
    let fields = [
        "user_id",
        "device_id",
        "timestamp",
        "ip",
        "locale",
        "device_type",
        "app_version",
        "region",
    ];
    let more = [
        "division",
        "login_hour",
        "local_hour",
        "time_of_day",
        "day_of_week",
        "ip_class",
        "ip_prefix",
        "flags",
    ];
    let fields: Vec<&str> = fields.into_iter().chain(more).collect();
    let sql = format!(
        "SELECT kafka_partition, kafka_offset, CAST(login_date AS VARCHAR), {} FROM t WHERE kafka_offset % {SAMPLE} = 0",
        fields.join(", ")
    );
    let mut compared = 0;
    for row in run.scenario.reader().query("logins", &sql)? {
        let Some(record) = run.processed.get(&position(&row)?) else {
            continue;
        };
        let event = json(record)?;
        assert_eq!(row[2], event["login_date"]);
        for (field, value) in fields.iter().zip(&row[3..]) {
            assert_eq!(*value, event[*field], "{field} of {:?}", position(&row)?);
        }
        compared += 1;
    }
    assert_eq!(compared, run.sample().count());
    Ok(())
}

fn the_sql_file_adds_up_to_the_table() -> Result<()> {
    let run = run()?;
    let query =
        run.scenario
            .olap("query")
            .args([&run.scenario.sql_file("top_regions.sql"), "--format", "json"]);
    let answer = query.run_ok(LIMIT)?.json()?;
    let rows = answer.as_array().context("an array of rows")?;
    let mut by_division = BTreeMap::new();
    for row in rows {
        let text = |name: &str| {
            row[name]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("no {name}: {row}"))
        };
        let logins = row["logins"]
            .as_i64()
            .with_context(|| format!("no logins: {row}"))?;
        by_division.insert((text("region")?, text("division")?), logins);
    }
    let expected = run
        .scenario
        .reader()
        .query(
            "logins",
            "SELECT region, division, count(*) FROM t GROUP BY region, division",
        )?
        .into_iter()
        .map(|row| {
            let text = |index: usize| row[index].as_str().unwrap_or_default().to_owned();
            ((text(0), text(1)), row[2].as_i64().unwrap_or_default())
        })
        .collect::<BTreeMap<_, _>>();
    assert_eq!(by_division, expected);
    assert_eq!(
        by_division.values().sum::<i64>(),
        i64::try_from(run.rows("logins")?)?
    );
    Ok(())
}

fn compaction_keeps_every_row() -> Result<()> {
    let run = run()?;
    let before = run.positions("logins", "true")?;
    run.scenario.olap("compact").arg("--all").run_ok(LIMIT)?;
    assert_eq!(run.positions("logins", "true")?, before);
    assert_eq!(
        run.rows("logins")?,
        before.len(),
        "a row is there twice after compaction"
    );
    Ok(())
}
