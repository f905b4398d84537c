//! Every file of `sql/` gives the rows that its `.slt` file in `tests/golden/sql` holds, with each of the parameters that it
//! takes; and the functions of this field give those of `functions.slt`.
//!
//! The files are in the format of sqllogictest. Beside SQL a record can be one of two commands: `use small` or `use empty`
//! chooses the lake for what follows (the small one is chosen at the start), `run FILE NAME=VALUE …` runs a file of `sql/`
//! with parameters. Shares have six digits, no value is `NULL`, a text without letters is `(empty)`.
//!
//! `LOGINLAKE_GOLDEN=rewrite` writes what is answered into the files.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use loginlake_lake::hourly::{RefreshOptions, refresh};
use loginlake_query::{ParamValue, Params, QueryError, ResultSink, Script};
use sqllogictest::{
    AsyncDB, DBOutput, DefaultColumnType, Record, Runner, default_normalizer, default_validator,
    strict_column_validator,
};

use crate::lake::TestLake;

/// The fewest runs of a file: as it is, with parameters, and on an empty lake.
const LEAST_RUNS: usize = 4;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn golden() -> PathBuf {
    repository().join("tests/golden")
}

/// The files of a folder with this extension, as paths from the folder, those of `hourly/` among them, without extension.
fn names_of(folder: &Path, extension: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for part in ["", "hourly/"] {
        for entry in fs::read_dir(folder.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|found| found == extension) {
                let stem = path.file_stem().unwrap().to_str().unwrap();
                names.insert(format!("{part}{stem}"));
            }
        }
    }
    names
}

#[test]
fn every_file_of_sql_has_an_slt_that_gives_it_each_of_its_parameters() {
    let names = names_of(&repository().join("sql"), "sql");
    assert!(names.len() >= 14, "{names:?}");
    assert_eq!(
        names,
        names_of(&golden().join("sql"), "slt"),
        "each file of sql/ needs one of tests/golden/sql"
    );
    for name in names {
        let file = format!("sql/{name}.sql");
        let text = fs::read_to_string(repository().join(&file)).unwrap();
        let script = Script::parse(&text, &file).unwrap();
        let path = golden().join(format!("sql/{name}.slt"));
        let records = sqllogictest::parse_file::<DefaultColumnType>(&path).unwrap();
        let runs: BTreeSet<String> = records
            .into_iter()
            .filter_map(|record| match record {
                Record::Query { sql, .. } => sql.strip_prefix(&format!("run {file}")).map(str::to_owned),
                _ => None,
            })
            .collect();
        assert!(runs.len() >= LEAST_RUNS, "{name}.slt runs it with {runs:?} only");
        assert!(runs.contains(""), "{name}.slt never runs it as it is");
        for parameter in script.parameters() {
            let given = format!(" {}=", parameter.name);
            assert!(
                runs.iter().any(|run| run.contains(&given)),
                "{name}.slt never gives {given}"
            );
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("\nuse empty\n"),
            "{name}.slt never asks an empty lake"
        );
    }
}

#[tokio::test]
async fn every_answer_has_the_rows_of_its_slt() {
    let lakes = Arc::new(Lakes::new().await);
    let names = names_of(&golden().join("sql"), "slt");
    let files = names.iter().map(|name| golden().join(format!("sql/{name}.slt")));
    for path in files.chain([golden().join("functions.slt")]) {
        let connect = || async {
            Ok(Asker {
                lakes: Arc::clone(&lakes),
                is_empty: false,
            })
        };
        let mut runner = Runner::new(connect);
        runner.with_column_validator(strict_column_validator);
        if std::env::var("LOGINLAKE_GOLDEN").is_ok_and(|value| value == "rewrite") {
            let (normalizer, validator) = (default_normalizer, default_validator);
            let written = runner
                .update_test_file(&path, " ", validator, normalizer, strict_column_validator)
                .await;
            written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        } else if let Err(error) = runner.run_file_async(&path).await {
            panic!("{error}\nLOGINLAKE_GOLDEN=rewrite accepts the new answers");
        }
    }
}

/// The lakes that can be asked, with their hourly counts.
struct Lakes {
    small: TestLake,
    empty: TestLake,
}

impl Lakes {
    async fn new() -> Self {
        let (small, empty) = (TestLake::small(), TestLake::empty());
        for lake in [&small, &empty] {
            refresh(&lake.lake, &RefreshOptions::at(0)).await.unwrap();
        }
        Self { small, empty }
    }
}

struct Asker {
    lakes: Arc<Lakes>,
    is_empty: bool,
}

/// Why there is no answer: the first line says it.
#[derive(Debug)]
struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

impl From<QueryError> for NoAnswer {
    fn from(error: QueryError) -> Self {
        Self(error.to_string())
    }
}

impl Asker {
    async fn ask(&self, sql: &str, source: &str, params: &Params) -> Result<Rows, NoAnswer> {
        let lake = if self.is_empty {
            &self.lakes.empty
        } else {
            &self.lakes.small
        };
        let script = Script::parse(sql, source)?;
        let mut rows = Rows::default();
        lake.engine().run_script(&script, params, &mut rows).await?;
        Ok(rows)
    }

    async fn run_file(&self, command: &str) -> Result<Rows, NoAnswer> {
        let mut words = command.split(' ');
        let file = words.next().unwrap_or_default();
        let sql = fs::read_to_string(repository().join(file))
            .map_err(|error| NoAnswer(format!("{file}: {error}")))?;
        let mut params = Params::new();
        for word in words {
            let ParamValue { name, value } = word.parse().map_err(|error| NoAnswer(format!("{error}")))?;
            params.set(name, value);
        }
        self.ask(&sql, file, &params).await
    }
}

#[async_trait]
impl AsyncDB for Asker {
    type Error = NoAnswer;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, text: &str) -> Result<DBOutput<DefaultColumnType>, NoAnswer> {
        if let Some(lake) = text.strip_prefix("use ") {
            self.is_empty = match lake {
                "small" => false,
                "empty" => true,
                other => return Err(NoAnswer(format!("there is no lake {other}"))),
            };
            return Ok(DBOutput::StatementComplete(0));
        }
        let Rows { types, rows } = match text.strip_prefix("run ") {
            Some(command) => self.run_file(command).await?,
            None => self.ask(text, "test.slt", &Params::new()).await?,
        };
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}
}

/// The rows of a result as texts.
#[derive(Default)]
struct Rows {
    types: Vec<DefaultColumnType>,
    rows: Vec<Vec<String>>,
}

impl ResultSink for Rows {
    fn begin(&mut self, schema: &SchemaRef) -> std::io::Result<()> {
        let kind_of = |data_type: &DataType| match data_type {
            kind if kind.is_integer() => DefaultColumnType::Integer,
            kind if kind.is_floating() => DefaultColumnType::FloatingPoint,
            _ => DefaultColumnType::Text,
        };
        self.types = schema
            .fields()
            .iter()
            .map(|field| kind_of(field.data_type()))
            .collect();
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> std::io::Result<()> {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| cell(column, row));
            self.rows.push(cells.collect());
        }
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn cell(column: &dyn Array, row: usize) -> String {
    use arrow::array::AsArray;
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    if column.data_type().is_floating() {
        let numbers = cast(column, &DataType::Float64).unwrap();
        return format!("{:.6}", numbers.as_primitive::<Float64Type>().value(row));
    }
    let text = ArrayFormatter::try_new(column, &FormatOptions::default())
        .unwrap()
        .value(row)
        .to_string();
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    text
}
