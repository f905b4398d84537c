//! Every output of the files of `sql/` on the small lake, as `tests/golden` holds it, and pictures that are what the result
//! asks for.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use loginlake_query::chart::{Chart, ChartSink, title_of};
use loginlake_query::print::{Format, PrintError, Printer};
use loginlake_query::{QueryError, ResultSink};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::lake::TestLake;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sql(name: &str) -> String {
    fs::read_to_string(repository().join("sql").join(format!("{name}.sql"))).unwrap()
}

/// Compares with the golden file, or writes it when `LOGINLAKE_GOLDEN=rewrite`.
fn check_golden(file: &str, output: &str) {
    let path = repository().join("tests/golden").join(file);
    if std::env::var("LOGINLAKE_GOLDEN").is_ok_and(|value| value == "rewrite") {
        fs::write(&path, output).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; LOGINLAKE_GOLDEN=rewrite makes it", path.display()));
    assert_eq!(
        output, expected,
        "{file} differs; LOGINLAKE_GOLDEN=rewrite accepts the new output"
    );
}

async fn chart(lake: &TestLake, name: &str) -> Chart {
    let (text, mut sink) = (sql(name), ChartSink::default());
    lake.engine().run(&text, name, &mut sink).await.unwrap();
    sink.finish(title_of(&text))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test]
async fn every_format_is_as_its_golden_file_says() {
    let lake = TestLake::small();
    // Shares and groups in one, NULLs and times in the other.
    for name in ["top_regions", "rejected"] {
        for format in [Format::Csv, Format::Json, Format::Ndjson] {
            let output = lake.answer(&sql(name), format).await.unwrap();
            check_golden(&format!("{name}.small.{format}"), &output);
        }
    }
    // Changes with a sign and none at all; long texts; no rows.
    for name in ["top_regions", "daily_trend", "rejected"] {
        let output = lake.answer(&sql(name), Format::Table).await.unwrap();
        check_golden(&format!("{name}.small.txt"), &output);
    }
    let output = TestLake::empty()
        .answer(&sql("top_regions"), Format::Table)
        .await
        .unwrap();
    check_golden("top_regions.empty.txt", &output);
}

#[tokio::test]
async fn a_terminal_of_80_columns_shows_every_region() {
    let lake = TestLake::small();
    let mut printer = Printer::new(Format::Table, Some(80), Vec::new());
    lake.engine()
        .run(&sql("top_regions"), "t", &mut printer)
        .await
        .unwrap();
    let table = String::from_utf8(printer.into_inner()).unwrap();
    check_golden("top_regions.small.80.txt", &table);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(!table.contains("do not fit"), "{table}");
}

#[tokio::test]
async fn parquet_holds_the_rows_and_types_of_the_result() {
    let lake = TestLake::small();
    for name in ["top_regions", "rejected", "daily_trend", "app_versions"] {
        let mut printer = Printer::new(Format::Parquet, None, Vec::new());
        lake.engine().run(&sql(name), name, &mut printer).await.unwrap();
        let file = bytes::Bytes::from(printer.into_inner());
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let schema = reader.schema().clone();
        let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        let stored = concat_batches(&schema, &batches).unwrap();

        let mut again = Printer::new(Format::Csv, None, Vec::new());
        again.begin(&schema).unwrap();
        again.rows(&stored).unwrap();
        again.end().unwrap();
        let again = String::from_utf8(again.into_inner()).unwrap();
        assert_eq!(
            again,
            lake.answer(&sql(name), Format::Csv).await.unwrap(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn parquet_takes_one_result() {
    let lake = TestLake::empty();
    let mut printer = Printer::new(Format::Parquet, None, Vec::new());
    let error = lake
        .engine()
        .run("SELECT 1 AS a; SELECT 2 AS a", "t", &mut printer)
        .await;
    let QueryError::Output(error) = error.unwrap_err() else {
        panic!("another error");
    };
    let inner = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<PrintError>());
    assert_eq!(inner, Some(&PrintError::SeveralResults));
}

#[tokio::test]
async fn a_long_result_is_handed_on_while_it_runs() {
    let lake = TestLake::empty();
    let sql = "SELECT value, value * 7919 % 104729 AS other FROM generate_series(1, 400000) AS t(value)";
    for format in [Format::Csv, Format::Ndjson, Format::Parquet, Format::Table] {
        let mut printer = Watched {
            printer: Printer::new(format, None, Vec::new()),
            written_while_running: 0,
        };
        lake.engine().run(sql, "t", &mut printer).await.unwrap();
        let (all, before) = (printer.printer.into_inner().len(), printer.written_while_running);
        assert!(before > all / 2 && before <= all, "{format}: {before} of {all}");
    }
}

/// Notes how much was written before the end.
struct Watched {
    printer: Printer<Vec<u8>>,
    written_while_running: usize,
}

impl ResultSink for Watched {
    fn begin(&mut self, schema: &arrow::datatypes::SchemaRef) -> std::io::Result<()> {
        self.printer.begin(schema)
    }

    fn rows(&mut self, batch: &RecordBatch) -> std::io::Result<()> {
        self.printer.rows(batch)
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.written_while_running = self.printer.written().len();
        self.printer.end()
    }
}

#[tokio::test]
async fn every_file_of_sql_has_its_chart() {
    let lake = TestLake::small();
    let empty = TestLake::empty();
    for (name, kind, what) in [
        ("top_regions", "bars", "logins by region and division"),
        ("devices", "bars", "logins by device type"),
        ("app_versions", "bars", "logins by app version"),
        ("time_of_day", "bars", "logins by time of day"),
        ("rejected", "bars", "records by reason"),
        (
            "peak_hours",
            "columns by hour",
            "logins by hour of the day, UTC and local",
        ),
        (
            "peak_hours_by_region",
            "heat map",
            "share of region by region and hour of the day",
        ),
        (
            "daily_trend",
            "lines",
            "logins, change, logins 7 days by login date",
        ),
    ] {
        let drawn = chart(&lake, name).await;
        let description = drawn.description();
        assert!(
            description.starts_with(&format!("{kind}: {what}")),
            "{name}: {description}"
        );
        let question = title_of(&sql(name)).unwrap().to_owned();
        assert!(
            drawn
                .svg()
                .contains(&format!("<title id=\"title\">{question}</title>")),
            "{name}"
        );
        let nothing = chart(&empty, name).await;
        assert!(
            nothing.svg().contains(">no rows</text>"),
            "{name}: {}",
            nothing.description()
        );
    }
}

#[tokio::test]
async fn charts_are_as_their_golden_files_say() {
    let lake = TestLake::small();
    for name in ["top_regions", "peak_hours", "peak_hours_by_region", "daily_trend"] {
        let drawn = chart(&lake, name).await;
        check_golden(&format!("{name}.small.svg"), &drawn.svg());
        check_golden(&format!("{name}.small.chart.txt"), &drawn.text(80, false));
    }
}
