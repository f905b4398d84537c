//! A lake that was ingested, compacted and vacuumed opens unchanged in Polars, Apache Spark and Trino, with the answers that DuckDB
//! gives: counts, sums, one date of many, rejected rows; Trino also in a bucket. Then Spark writes to it: it optimizes, deletes a
//! row and adds a column, and our ingestion goes on where it stood, because its offsets have survived that.
//!
//! Spark and Trino are large. They are installed by `tests/engines/run`, and what needs them is left out without.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::engines::{Rows, Trino, spark};
use loginlake_scenarios::exactness::{each_once, position, positions};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::Program;
use loginlake_scenarios::reader::Reader;
use loginlake_scenarios::runner::Entry;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{entries, runner};

const EVENTS: u64 = 4_000;
const SEED: u64 = 17;
const LIMIT: Duration = Duration::from_secs(120);
const QUESTIONS: [&str; 3] = [
    "SELECT count(*), sum(kafka_offset), count(DISTINCT user_id) FROM t",
    "SELECT count(*) FROM t WHERE login_date = DATE '2025-03-05'",
    "SELECT region, count(*) FROM t GROUP BY region ORDER BY region",
];
/// The same in a SQL that has no literals of dates.
const POLARS_DATE: &str = "SELECT count(*) FROM t WHERE login_date = CAST('2025-03-05' AS DATE)";
const REASONS: &str = "SELECT reason, count(*) FROM t GROUP BY reason ORDER BY reason";

fn main() -> ExitCode {
    let mut found: Vec<Entry> = entries![&[Part::Kafka, Part::Minio, Part::Reader];
        polars_reads_the_lake,
    ]
    .to_vec();
    // Nothing installs these two unasked, in CI neither.
    if Part::Spark.missing().is_none() {
        found.extend(entries![&[Part::Kafka, Part::Minio, Part::Reader, Part::Spark];
            spark_reads_the_lake_and_writes_to_it,
        ]);
    }
    if Part::Trino.missing().is_none() {
        found.extend(entries![&[Part::Kafka, Part::Minio, Part::Reader, Part::Trino];
            trino_reads_the_lake,
        ]);
    }
    runner::main(&found)
}

fn polars_reads_the_lake() -> Result<()> {
    let lake = Lake::new("polars")?;
    let reader = lake.reader();
    for (question, in_polars) in [
        (QUESTIONS[0], QUESTIONS[0]),
        (QUESTIONS[1], POLARS_DATE),
        (QUESTIONS[2], QUESTIONS[2]),
    ] {
        let wanted = reader.query("logins", question)?;
        assert_eq!(
            reader.query_with_polars("logins", in_polars)?,
            wanted,
            "{question}"
        );
    }
    let wanted = reader.query("rejected", REASONS)?;
    assert_eq!(reader.query_with_polars("rejected", REASONS)?, wanted);
    Ok(())
}

fn spark_reads_the_lake_and_writes_to_it() -> Result<()> {
    let lake = Lake::new("spark")?;
    let asked: Vec<String> = QUESTIONS
        .iter()
        .map(|question| question.replace(" t", " {t}"))
        .collect();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let logins = lake.dir.join("logins");
    assert_eq!(spark(&logins, &asked)?, lake.answers()?);
    let rejected = spark(&lake.dir.join("rejected"), &[&REASONS.replace(" t", " {t}")])?;
    assert_eq!(rejected, [lake.reader().query("rejected", REASONS)?]);

    let rows = lake.positions()?;
    let gone = *rows.first().context("no rows")?;
    spark(
        &logins,
        &[
            "OPTIMIZE {t}",
            &format!(
                "DELETE FROM {{t}} WHERE kafka_partition = {} AND kafka_offset = {}",
                gone.0, gone.1
            ),
            "ALTER TABLE {t} ADD COLUMNS (score DOUBLE)",
        ],
    )?;
    lake.ingest_more(SEED + 2)?;
    let input = lake.scenario.kafka.read_committed(&lake.scenario.input_topic())?;
    each_once(
        positions(&input).filter(|position| *position != gone),
        lake.positions()?,
    )
    .context("after Spark has written")?;
    assert_eq!(spark(&logins, &asked)?, lake.answers()?);
    Ok(())
}

fn trino_reads_the_lake() -> Result<()> {
    let lake = Lake::new("trino")?;
    let scenario = &lake.scenario;
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    scenario.olap("compact").run_ok(LIMIT)?;
    let trino = Trino::start(
        &scenario.dir().join("trino"),
        scenario.dir(),
        &scenario.minio,
        &scenario.bucket(),
    )?;
    for (catalog, place) in [("disk", "local:///dir".to_owned()), ("bucket", scenario.lake())] {
        trino.query(&format!("CREATE SCHEMA {catalog}.lake"))?;
        for table in ["logins", "rejected"] {
            trino.query(&format!(
                "CALL {catalog}.system.register_table('lake', '{table}', '{place}/{table}')"
            ))?;
        }
        let name = format!(" {catalog}.lake.logins");
        let found: Vec<Rows> = QUESTIONS
            .iter()
            .map(|question| trino.query(&question.replace(" t", &name)))
            .collect::<Result<_>>()?;
        assert_eq!(found, lake.answers()?, "{catalog}");
        let name = format!(" {catalog}.lake.rejected");
        let wanted = lake.reader().query("rejected", REASONS)?;
        assert_eq!(trino.query(&REASONS.replace(" t", &name))?, wanted, "{catalog}");
        // One date of seven: the files of the others are not opened.
        let pruned = QUESTIONS[1].replace(" t", &format!(" {catalog}.lake.logins"));
        let explained = trino.query(&format!("EXPLAIN ANALYZE {pruned}"))?;
        let rows = lake.answers()?[1][0][0].as_i64().context("a count")?;
        let text = explained[0][0].as_str().context("a plan")?;
        ensure!(text.contains(&format!("Input: {rows} rows")), "{text}");
    }
    Ok(())
}

/// A lake in a folder: several commits with checkpoints, compacted, vacuumed, and more commits after that.
struct Lake {
    scenario: Scenario,
    dir: PathBuf,
}

impl Lake {
    fn new(name: &str) -> Result<Lake> {
        let scenario = Scenario::new(&format!("engines-{name}"))?;
        scenario.create_topics()?;
        let dir = scenario.dir().join("dir");
        let lake = Lake { scenario, dir };
        lake.ingest_more(SEED)?;
        let uri = lake.uri();
        lake.scenario.olap_on("compact", &uri).run_ok(LIMIT)?;
        lake.scenario.olap_on("vacuum", &uri).run_ok(LIMIT)?;
        lake.ingest_more(SEED + 1)?;
        Ok(lake)
    }

    fn uri(&self) -> String {
        self.dir.display().to_string()
    }

    fn ingest(&self) -> Program {
        let program = self.scenario.ingest_into(&self.uri());
        // A checkpoint after every commit; the point itself is never reached so often.
        let program = program.env("LOGINLAKE_FAIL_POINT", "after-checkpoint:error:4000000000");
        program.args(["--exit-at-end", "--max-batch-rows", "1000"])
    }

    fn ingest_more(&self, seed: u64) -> Result<()> {
        let producer = self.scenario.generate(EVENTS, seed);
        producer.args(["--bad-share", "0.05"]).run_ok(LIMIT)?;
        self.ingest().run_ok(LIMIT).map(drop)
    }

    fn reader(&self) -> Reader {
        Reader::new(&self.uri(), Vec::new())
    }

    /// What DuckDB says to the questions.
    fn answers(&self) -> Result<Vec<Rows>> {
        let reader = self.reader();
        QUESTIONS
            .iter()
            .map(|question| reader.query("logins", question))
            .collect()
    }

    /// Of both tables; those of `logins` first.
    fn positions(&self) -> Result<Vec<(i32, i64)>> {
        let mut found = Vec::new();
        for table in ["logins", "rejected"] {
            let rows = self
                .reader()
                .query(table, "SELECT kafka_partition, kafka_offset FROM t")?;
            for row in &rows {
                found.push(position(row)?);
            }
        }
        Ok(found)
    }
}
