//! The lake through other people's code: Python's deltalake finds the files of a table, DuckDB or Polars answer SQL over them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::parts;

/// How often a reader is asked that aborts.
const ATTEMPTS: u32 = 3;

/// The offsets of a Kafka partition that are in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Rows.
    pub rows: i64,
    /// Different offsets among them.
    pub distinct: i64,
    /// The smallest offset.
    pub min: i64,
    /// The largest offset.
    pub max: i64,
}

/// A lake as another engine sees it.
#[derive(Debug, Clone)]
pub struct Reader {
    lake: String,
    environment: Vec<(&'static str, String)>,
}

impl Reader {
    /// `environment` holds the AWS_* variables of an S3 lake; it is empty for a folder.
    pub fn new(lake: &str, environment: Vec<(&'static str, String)>) -> Reader {
        Reader {
            lake: lake.to_owned(),
            environment,
        }
    }

    /// The rows of a query over one table of the lake, which is called `t` there.
    ///
    /// # Errors
    /// When the table cannot be read, or the query fails.
    pub fn query(&self, table: &str, sql: &str) -> Result<Vec<Vec<Value>>> {
        self.rows_if_any(table, sql)?
            .with_context(|| format!("there is no table {}", self.table_uri(table)))
    }

    /// The same at one version of the table.
    ///
    /// # Errors
    /// As [`Reader::query`].
    pub fn query_at(&self, table: &str, version: i64, sql: &str) -> Result<Vec<Vec<Value>>> {
        let answer = self.ask(
            "read_table.py",
            &[&self.table_uri(table), sql, &version.to_string()],
        )?;
        serde_json::from_str(&answer).with_context(|| format!("no rows of JSON: {answer}"))
    }

    fn rows_if_any(&self, table: &str, sql: &str) -> Result<Option<Vec<Vec<Value>>>> {
        let answer = self.ask("read_table.py", &[&self.table_uri(table), sql])?;
        serde_json::from_str(&answer).with_context(|| format!("no rows of JSON: {answer}"))
    }

    /// The number of a table's rows; 0 when there is no such table yet.
    ///
    /// # Errors
    /// When the table is there and cannot be read.
    pub fn count(&self, table: &str) -> Result<usize> {
        let rows = self.rows_if_any(table, "SELECT count(*) FROM t")?;
        let count = rows
            .as_ref()
            .map_or(Some(0), |rows| rows.first()?.first()?.as_u64());
        Ok(usize::try_from(
            count.with_context(|| format!("no count: {rows:?}"))?,
        )?)
    }

    /// The one number that a query gives.
    ///
    /// # Errors
    /// As [`Reader::query`], or when the answer is anything else.
    pub fn number(&self, table: &str, sql: &str) -> Result<i64> {
        let rows = self.query(table, sql)?;
        let first = rows.first().and_then(|row| row.first()).and_then(Value::as_i64);
        first.with_context(|| format!("{sql} gives no number: {rows:?}"))
    }

    /// The same in Polars, with its own reader of Parquet files and its own SQL.
    ///
    /// # Errors
    /// As [`Reader::query`].
    pub fn query_with_polars(&self, table: &str, sql: &str) -> Result<Vec<Vec<Value>>> {
        let answer = self.ask("polars_table.py", &[&self.table_uri(table), sql])?;
        serde_json::from_str(&answer).with_context(|| format!("no rows of JSON: {answer}"))
    }

    /// For each Kafka partition of `below` the rows of both tables whose offsets are below it, `logins` at a version, `rejected` now;
    /// of `logins` also those above. Counted by the other engine, so any number of rows will do.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn count_below(&self, version: i64, below: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, Counted>> {
        let limits = serde_json::to_string(below)?;
        let answer = self.ask("count_positions.py", &[&self.lake, &version.to_string(), &limits])?;
        let rows: Vec<(i32, i64, i64, i64, i64)> =
            serde_json::from_str(&answer).with_context(|| format!("no counts: {answer}"))?;
        let counted = |(partition, rows, distinct, min, max)| {
            (
                partition,
                Counted {
                    rows,
                    distinct,
                    min,
                    max,
                },
            )
        };
        Ok(rows.into_iter().map(counted).collect())
    }

    /// Makes a Delta table that is none of ours, with one column and two rows, where a table of the lake would be.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn write_foreign_table(&self, table: &str) -> Result<()> {
        self.run("write_foreign_table.py", &[&self.table_uri(table)])
            .map(|_| ())
    }

    /// Damages a table as another software could (`damage_table.py` says how), at the row of a position.
    ///
    /// # Errors
    /// There is no such row, or the table refuses.
    pub fn damage(&self, table: &str, operation: &str, (partition, offset): (i32, i64)) -> Result<()> {
        let position = [partition.to_string(), offset.to_string()];
        let arguments = [&self.table_uri(table), operation, &position[0], &position[1]];
        self.run("damage_table.py", &arguments).map(drop)
    }

    fn table_uri(&self, table: &str) -> String {
        format!("{}/{table}", self.lake)
    }

    /// What a script that only reads prints. One that a signal ended is asked again: Arrow's threads now and then abort the
    /// interpreter, whatever was read (apache/arrow#34314).
    fn ask(&self, script: &str, arguments: &[&str]) -> Result<String> {
        for _ in 1..ATTEMPTS {
            let output = self.output(script, arguments)?;
            if output.status.code().is_some() {
                return printed(script, arguments, output);
            }
        }
        self.run(script, arguments)
    }

    /// What a script of `python/` prints, with the lake's credentials in its environment.
    ///
    /// # Errors
    /// When it fails; the message holds its stderr.
    pub fn run(&self, script: &str, arguments: &[&str]) -> Result<String> {
        printed(script, arguments, self.output(script, arguments)?)
    }

    fn output(&self, script: &str, arguments: &[&str]) -> Result<Output> {
        let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "python", script].iter().collect();
        let mut command = Command::new(parts::python_program());
        command
            .arg(file)
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null());
        command.output().with_context(|| format!("cannot start {script}"))
    }
}

fn printed(script: &str, arguments: &[&str], output: Output) -> Result<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{script} {arguments:?} failed ({}): {stderr}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}
