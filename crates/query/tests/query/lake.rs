//! Small lakes on local disk, made of real events: decoded by the contract, written as Parquet, described by a
//! hand-written Delta log. Everything in them is fixed, so that answers can be kept as golden files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Date32Type};
use loginlake_events::Contract;
use loginlake_events::columns::{LoginsBuilder, RejectedBuilder, SourcePosition};
use loginlake_lake::table::schema::{PartitionBy, TableSpec, creation_actions};
use loginlake_lake::{Lake, StoreOptions, TableName};
use loginlake_query::print::{Format, Printer};
use loginlake_query::{QueryEngine, QueryError, QueryOptions, RunSummary};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use tempfile::TempDir;

/// When the fixture was written: any fixed instant does.
const WRITTEN_AT_MS: i64 = 1_768_000_000_000;
/// 2026-01-05T00:00:00Z, a Monday.
const FIRST_SECOND: i64 = 1_767_571_200;
const DAYS: u64 = 5;

/// What a test counts by itself, from the accessors of the decoded event.
#[derive(Debug, Clone)]
pub struct Login {
    pub region: String,
    pub division: String,
    pub login_date: String,
    pub login_hour: u8,
    pub local_hour: Option<u8>,
}

/// A lake and what is in it.
pub struct TestLake {
    pub directory: TempDir,
    pub lake: Lake,
    pub logins: Vec<Login>,
    pub rejected: usize,
}

impl TestLake {
    /// A lake directory in which nothing is.
    pub fn without_tables() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lake = Lake::open(directory.path().to_str().unwrap(), &StoreOptions::default()).unwrap();
        Self {
            directory,
            lake,
            logins: Vec::new(),
            rejected: 0,
        }
    }

    /// `logins` is there without a row, `rejected` and `logins_hourly` are not there.
    pub fn empty() -> Self {
        let lake = Self::without_tables();
        lake.write_table(TableName::Logins, &[]);
        lake
    }

    /// Some hundred events over five days, a file for each, a few of them bad.
    pub fn small() -> Self {
        let mut lake = Self::without_tables();
        let contract = Contract::default();
        let mut logins = LoginsBuilder::with_capacity(400);
        let mut rejected = RejectedBuilder::new();
        for (offset, (payload, kafka_timestamp_ms)) in payloads().into_iter().enumerate() {
            let position = SourcePosition {
                kafka_partition: i32::try_from(offset % 2).unwrap(),
                kafka_offset: i64::try_from(offset / 2).unwrap(),
                kafka_timestamp_ms: Some(kafka_timestamp_ms),
            };
            match contract.decode(Some(payload.as_bytes()), Some(kafka_timestamp_ms)) {
                Ok(event) => {
                    lake.logins.push(Login {
                        region: event.region().to_owned(),
                        division: event.division().to_owned(),
                        login_date: event.login_date().to_string(),
                        login_hour: event.login_hour(),
                        local_hour: event.local_hour(),
                    });
                    logins.append(&event, position, WRITTEN_AT_MS);
                }
                Err(rejection) => {
                    lake.rejected += 1;
                    rejected.append(&rejection, Some(payload.as_bytes()), position);
                }
            }
        }
        lake.write_table(TableName::Logins, &by_date(&logins.finish()));
        lake.write_table(TableName::Rejected, &[(None, rejected.finish())]);
        lake
    }

    /// Writes one file for each part and version 0 of the log.
    fn write_table(&self, table: TableName, parts: &[(Option<String>, RecordBatch)]) {
        let folder = self.directory.path().join(table.as_str());
        fs::create_dir_all(folder.join("_delta_log")).unwrap();
        let mut actions =
            creation_actions(&TableSpec::current(table, PartitionBy::Date), WRITTEN_AT_MS).unwrap();
        for (date, rows) in parts {
            let path = date.as_ref().map_or("part-0.parquet".to_owned(), |d| {
                format!("login_date={d}/part-0.parquet")
            });
            let size = write_parquet(&folder.join(&path), rows);
            let partition = date
                .as_ref()
                .map_or_else(|| json!({}), |date| json!({ "login_date": date }));
            actions.push(json!({ "add": {
                "path": path,
                "partitionValues": partition,
                "size": size,
                "modificationTime": WRITTEN_AT_MS,
                "dataChange": true,
                "stats": statistics(rows).to_string(),
            } }));
        }
        let log: String = actions.iter().map(|action| format!("{action}\n")).collect();
        fs::write(folder.join("_delta_log/00000000000000000000.json"), log).unwrap();
    }

    pub fn engine(&self) -> QueryEngine {
        self.engine_with(QueryOptions {
            target_partitions: 2,
            ..QueryOptions::default()
        })
    }

    pub fn engine_with(&self, options: QueryOptions) -> QueryEngine {
        QueryEngine::open(&self.lake, options).unwrap()
    }

    pub async fn answer(&self, sql: &str, format: Format) -> Result<String, QueryError> {
        run(&self.engine(), sql, format).await.map(|(text, _)| text)
    }

    /// The answer as CSV lines without the header.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let text = self
            .answer(sql, Format::Csv)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        text.lines().skip(1).map(str::to_owned).collect()
    }
}

pub async fn run(
    engine: &QueryEngine,
    sql: &str,
    format: Format,
) -> Result<(String, RunSummary), QueryError> {
    let mut printer = Printer::new(format, None, Vec::new());
    let summary = engine.run(sql, "test.sql", &mut printer).await?;
    Ok((String::from_utf8(printer.into_inner()).unwrap(), summary))
}

/// Records of the input topic and their Kafka timestamps: a fixed sequence, with every twelfth record bad.
fn payloads() -> Vec<(String, i64)> {
    const LOCALES: [&str; 14] = [
        "CA", "CA", "CA", "TX", "TX", "FL", "NY", "NY", "IL", "WA", "HI", "RI", "PR", "DE",
    ];
    const DEVICES: [&str; 5] = ["iOS", "android", "android", "web", "toaster"];
    const VERSIONS: [&str; 4] = ["2.3.0", "2.3.0", "2.4.1", "10.0"];
    let mut state = 20_260_105_u64;
    let mut next = |below: u64| {
        // Knuth's MMIX generator: the upper half is random enough for a fixture.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let pick = |list: &[&'static str], index: u64| list[usize::try_from(index).unwrap() % list.len()];
    (0..300)
        .map(|number| {
            // The smaller of two draws: early hours are more frequent, so that there is a peak.
            let second = next(86_400).min(next(86_400)) + 86_400 * next(DAYS);
            let timestamp = FIRST_SECOND + i64::try_from(second).unwrap();
            let user = next(60);
            let mut event = json!({
                "user_id": format!("a6397988-1649-4859-ae5f-{user:012x}"),
                "app_version": pick(&VERSIONS, next(4)),
                "ip": format!("108.228.{}.{}", next(256), next(256)),
                "locale": pick(&LOCALES, next(14)),
                "device_id": format!("6221eb3d-89b5-4585-8c98-{user:012x}"),
                "timestamp": timestamp,
                "device_type": pick(&DEVICES, next(5)),
            });
            match number % 36 {
                0 => event["ip"] = json!("not an address"),
                12 => event["user_id"] = Value::Null,
                24 => return ("{".to_owned(), timestamp * 1000 + 40),
                18 => event["device_type"] = Value::Null,
                _ => {}
            }
            (event.to_string(), timestamp * 1000 + 40)
        })
        .collect()
}

/// The rows of each date, without the column of the date.
fn by_date(rows: &RecordBatch) -> Vec<(Option<String>, RecordBatch)> {
    let column = rows.schema().index_of("login_date").unwrap();
    let days = rows.column(column).as_primitive::<Date32Type>().clone();
    let texts = cast(rows.column(column), &DataType::Utf8).unwrap();
    let mut indices: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        indices
            .entry(days.value(row))
            .or_default()
            .push(u32::try_from(row).unwrap());
    }
    let kept: Vec<usize> = (0..rows.num_columns()).filter(|index| *index != column).collect();
    let parts = indices.into_values().map(|indices| {
        let date = texts.as_string::<i32>().value(indices[0] as usize).to_owned();
        let part = take_record_batch(rows, &UInt32Array::from(indices)).unwrap();
        (Some(date), part.project(&kept).unwrap())
    });
    parts.collect()
}

fn write_parquet(path: &Path, rows: &RecordBatch) -> u64 {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
    fs::metadata(path).unwrap().len()
}

/// Delta's statistics of one file, for the columns that the tests prune by.
fn statistics(rows: &RecordBatch) -> Value {
    let (mut minima, mut maxima, mut nulls) = (json!({}), json!({}), json!({}));
    for name in ["user_id", "kafka_offset", "event_time", "local_hour"] {
        let Some(column) = rows.column_by_name(name) else {
            continue;
        };
        nulls[name] = json!(column.null_count());
        let texts = cast(column, &DataType::Utf8).unwrap();
        let texts: Vec<&str> = texts.as_string::<i32>().iter().flatten().collect();
        let value = |text: &str| {
            if column.data_type().is_integer() {
                json!(text.parse::<i64>().unwrap())
            } else {
                json!(text)
            }
        };
        let by_order = |text: &&&str| (text.parse::<i64>().unwrap_or(0), (**text).to_owned());
        if let (Some(min), Some(max)) = (
            texts.iter().min_by_key(by_order),
            texts.iter().max_by_key(by_order),
        ) {
            minima[name] = value(min);
            maxima[name] = value(max);
        }
    }
    json!({ "numRecords": rows.num_rows(), "minValues": minima, "maxValues": maxima, "nullCount": nulls })
}
