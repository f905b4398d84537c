//! What an audit must find: nothing in a lake that is right, whatever maintenance did to it; and each kind of damage, named with
//! its partition and offsets, whatever the memory.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use common::{LATER_MS, TestLake};
use loginlake_events::columns::SourcePosition;
use loginlake_lake::TableName;
use loginlake_lake::audit::{
    Audit, AuditOptions, AuditReport, Finding, Output, OutputFacts, PublishedRecord, Records, SpeedPath,
    TopicFacts, What,
};
use loginlake_lake::compact::{CompactOptions, ExecuteOptions, execute, plan};
use loginlake_lake::ingest::Pipeline;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

const TABLES: [TableName; 2] = [TableName::Logins, TableName::Rejected];

/// Partition, offset and time of a record.
type Record = (i32, i64, Option<i64>);

async fn filled() -> TestLake {
    let mut lake = TestLake::new().await;
    for _ in 0..3 {
        lake.ingest(&[0, 1], 40, 7).await;
    }
    lake
}

async fn compact(lake: &TestLake) {
    for table in TABLES {
        let options = CompactOptions {
            include_open: true,
            ..CompactOptions::at(LATER_MS)
        };
        let plan = plan(&lake.snapshot(table).await, &options);
        execute(&lake.lake, plan, &ExecuteOptions::default())
            .await
            .unwrap();
    }
}

/// The records of the topic that a lake was filled from, while it is right.
async fn records(lake: &TestLake) -> Vec<Record> {
    let mut records = Vec::new();
    for table in TABLES {
        for file in lake.snapshot(table).await.files {
            for batch in lake.batches(table, &file.path) {
                let partitions = batch["kafka_partition"].as_primitive::<Int32Type>();
                let offsets = batch["kafka_offset"].as_primitive::<Int64Type>();
                let times = batch["kafka_timestamp"].as_primitive::<TimestampMicrosecondType>();
                for row in 0..batch.num_rows() {
                    let time = times.is_valid(row).then(|| times.value(row) / 1_000);
                    records.push((partitions.value(row), offsets.value(row), time));
                }
            }
        }
    }
    records
}

struct Asked<'a> {
    topic: Option<&'a [Record]>,
    published: Option<&'a [(i32, i64)]>,
    at_least_once: bool,
    memory: usize,
}

async fn audit(lake: &TestLake, asked: Asked<'_>) -> AuditReport {
    let options = AuditOptions {
        memory_budget_bytes: asked.memory,
        ..AuditOptions::default()
    };
    let mut audit = Audit::open(&lake.lake, options).await.unwrap().unwrap();
    let facts = asked.topic.map(|records| {
        let mut bounds: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
        for (partition, offset, _) in records {
            let range = bounds.entry(*partition).or_insert((0, 0));
            range.1 = range.1.max(offset + 1);
        }
        TopicFacts {
            pipeline: Pipeline::new("user-login", "first"),
            bounds,
            compacted: false,
            begins: BTreeMap::new(),
        }
    });
    let rejected: BTreeSet<(i32, i64)> = lake
        .positions(&lake.snapshot(TableName::Rejected).await)
        .into_iter()
        .collect();
    let speed_path = asked.published.map(|_| SpeedPath {
        processed: OutputFacts {
            bounds: BTreeMap::from([(0, (0, 1_000))]),
            before: BTreeMap::from([(0, 1_000)]),
            compacted: false,
        },
        dead_letters: OutputFacts {
            bounds: BTreeMap::from([(0, (0, 1_000))]),
            before: BTreeMap::from([(0, 1_000)]),
            compacted: false,
        },
        at_least_once: asked.at_least_once,
        ..SpeedPath::default()
    });
    audit.begin(facts, speed_path).unwrap();
    while let Some(pass) = audit.next_pass() {
        audit.read_tables(&pass).await.unwrap();
        let wanted = pass.topic_ranges();
        let mut records = Records::default();
        for (partition, offset, time) in asked.topic.unwrap_or_default() {
            let in_range = wanted
                .get(partition)
                .is_some_and(|(from, to)| (*from..*to).contains(offset));
            if in_range {
                records.position(SourcePosition {
                    kafka_partition: *partition,
                    kafka_offset: *offset,
                    kafka_timestamp_ms: *time,
                });
            }
        }
        pass.see_topic(&mut records).unwrap();
        for (index, (partition, offset)) in (0..).zip(asked.published.unwrap_or_default()) {
            let output = match rejected.contains(&(*partition, *offset)) {
                true => Output::DeadLetters,
                false => Output::Processed,
            };
            let record = PublishedRecord {
                output_partition: 0,
                output_offset: index,
                source_partition: *partition,
                source_offset: *offset,
            };
            pass.see_published(output, &[record]);
        }
        audit.finish_pass(&pass);
    }
    audit.report()
}

/// Audits with the topic, with much memory and with hardly any: the findings are the same.
async fn audited(lake: &TestLake, records: &[Record]) -> Vec<Finding> {
    let asked = |memory| Asked {
        topic: Some(records),
        published: None,
        at_least_once: false,
        memory,
    };
    let report = audit(lake, asked(64 << 20)).await;
    let careful = audit(lake, asked(1)).await;
    assert_eq!(report, careful, "the memory does not matter");
    assert!(report.to_string().ends_with(if report.is_clean() {
        "nothing is wrong"
    } else {
        "wrong"
    }));
    report.findings
}

/// A Kafka partition and ranges of its offsets.
type Named = (Option<i32>, Vec<(i64, i64)>);

fn of(findings: &[Finding], what: What) -> Vec<Named> {
    findings
        .iter()
        .filter(|finding| finding.what == what)
        .map(|finding| (finding.kafka_partition, finding.offsets.clone()))
        .collect()
}

fn path(lake: &TestLake, table: TableName, path: &str) -> PathBuf {
    lake.directory.path().join(table.as_str()).join(path)
}

/// Exchanges the rows of a file, and lets the log say its new size and number of rows.
fn exchange(lake: &TestLake, table: TableName, file: &str, change: impl Fn(RecordBatch) -> RecordBatch) {
    let batches = lake.batches(table, file);
    let rows = concat_batches(&batches[0].schema(), &batches).unwrap();
    let changed = change(rows);
    let on_disk = path(lake, table, file);
    let mut writer = ArrowWriter::try_new(File::create(&on_disk).unwrap(), changed.schema(), None).unwrap();
    writer.write(&changed).unwrap();
    writer.close().unwrap();
    let size = std::fs::metadata(&on_disk).unwrap().len();
    for commit in std::fs::read_dir(path(lake, table, "_delta_log")).unwrap() {
        let commit = commit.unwrap().path();
        if commit.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let lines = std::fs::read_to_string(&commit).unwrap();
        let lines = lines.lines().map(|line| {
            let mut action: Value = serde_json::from_str(line).unwrap();
            if action["add"]["path"] == file {
                action["add"]["size"] = json!(size);
                let stats = action["add"]["stats"].as_str().unwrap();
                let mut stats: Value = serde_json::from_str(stats).unwrap();
                stats["numRecords"] = json!(changed.num_rows());
                action["add"]["stats"] = json!(stats.to_string());
            }
            action.to_string()
        });
        std::fs::write(&commit, lines.collect::<Vec<_>>().join("\n")).unwrap();
    }
}

/// The position of the first row of a file.
fn first_position(lake: &TestLake, table: TableName, file: &str) -> (i32, i64) {
    let batch = &lake.batches(table, file)[0];
    (
        batch["kafka_partition"].as_primitive::<Int32Type>().value(0),
        batch["kafka_offset"].as_primitive::<Int64Type>().value(0),
    )
}

async fn first_file(lake: &TestLake, table: TableName) -> String {
    let mut files: Vec<String> = common::paths(&lake.snapshot(table).await);
    files.sort();
    files.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_that_is_right_has_no_findings() {
    let lake = filled().await;
    let records = records(&lake).await;
    let published: Vec<(i32, i64)> = records.iter().map(|(p, o, _)| (*p, *o)).collect();
    assert_eq!(audited(&lake, &records).await, []);
    compact(&lake).await;
    assert_eq!(audited(&lake, &records).await, []);
    let mut again = published.clone();
    again.extend_from_slice(&published[..3]);
    let asked = |at_least_once| Asked {
        topic: None,
        published: Some(&again),
        at_least_once,
        memory: 1 << 20,
    };
    let repeats = audit(&lake, asked(false)).await;
    let twice = of(&repeats.findings, What::PublishedTwice);
    assert_eq!(twice.len(), repeats.findings.len(), "{:?}", repeats.findings);
    let named: u64 = repeats.findings.iter().map(|finding| finding.count).sum();
    assert_eq!(named, 3, "each by its position");
    let report = audit(&lake, asked(true)).await;
    assert_eq!(report.findings, []);
    let repeated: u64 = report.partitions.iter().filter_map(|p| p.published_again).sum();
    assert_eq!(repeated, 3, "at least once repeats: told, not wrong");
    let rows: u64 = report.partitions.iter().map(|p| p.logins + p.rejected).sum();
    assert_eq!((report.rows, rows), (records.len() as u64, records.len() as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_missing_twice_or_beyond_is_named() {
    for table in TABLES {
        let lake = filled().await;
        let records = records(&lake).await;
        let file = first_file(&lake, table).await;
        let (partition, offset) = first_position(&lake, table, &file);
        let at = [(Some(partition), vec![(offset, offset + 1)])];

        let whole = lake.batches(table, &file);
        let whole = concat_batches(&whole[0].schema(), &whole).unwrap();
        exchange(&lake, table, &file, |rows| rows.slice(1, rows.num_rows() - 1));
        let findings = audited(&lake, &records).await;
        assert_eq!(of(&findings, What::RowMissing), at, "{findings:?}");
        assert_eq!(of(&findings, What::RowsDoNotAddUp).len(), 1, "{findings:?}");
        assert!(!of(&findings, What::HourDiffers).is_empty(), "{findings:?}");

        exchange(&lake, table, &file, |_| {
            concat_batches(&whole.schema(), [&whole, &whole.slice(0, 1)]).unwrap()
        });
        let findings = audited(&lake, &records).await;
        assert_eq!(of(&findings, What::RowTwice), at, "{findings:?}");
        assert_eq!(of(&findings, What::RowMissing), [], "{findings:?}");

        let beyond = 1_000_000;
        exchange(&lake, table, &file, |_| with_first_offset(&whole, beyond));
        let findings = audited(&lake, &records).await;
        assert_eq!(
            of(&findings, What::AboveCommitted),
            [(Some(partition), vec![(beyond, beyond + 1)])],
            "{findings:?}"
        );
        assert_eq!(of(&findings, What::RowMissing), at, "{findings:?}");
        assert_eq!(of(&findings, What::StatisticsWrong).len(), 1, "{findings:?}");
    }
}

fn with_first_offset(rows: &RecordBatch, offset: i64) -> RecordBatch {
    let index = rows.schema().index_of("kafka_offset").unwrap();
    let mut offsets: Vec<i64> = rows.column(index).as_primitive::<Int64Type>().values().to_vec();
    offsets[0] = offset;
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns[index] = Arc::new(Int64Array::from(offsets));
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_gone_or_damaged_is_named() {
    let lake = filled().await;
    let records = records(&lake).await;
    let file = first_file(&lake, TableName::Logins).await;
    let on_disk = path(&lake, TableName::Logins, &file);
    let bytes = std::fs::read(&on_disk).unwrap();

    std::fs::write(&on_disk, &bytes[..bytes.len() - 1]).unwrap();
    let findings = audited(&lake, &records).await;
    let damaged: Vec<_> = findings
        .iter()
        .filter(|finding| finding.what == What::FileDamaged)
        .collect();
    assert_eq!(damaged.len(), 1, "{findings:?}");
    assert_eq!(damaged[0].file.as_ref(), Some(&file));

    std::fs::remove_file(&on_disk).unwrap();
    let findings = audited(&lake, &records).await;
    let gone: Vec<_> = findings
        .iter()
        .filter(|finding| finding.what == What::FileMissing)
        .collect();
    assert_eq!(gone.len(), 1, "{findings:?}");
    assert!(gone[0].detail.contains("offsets"), "{}", gone[0]);
    let lost: u64 = findings
        .iter()
        .filter(|finding| finding.what == What::RowMissing)
        .map(|finding| finding.count)
        .sum();
    assert_eq!(lost, gone[0].count, "each of its rows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_that_lost_a_row_is_named() {
    let lake = filled().await;
    let records = records(&lake).await;
    compact(&lake).await;
    let file = first_file(&lake, TableName::Logins).await;
    let (partition, offset) = first_position(&lake, TableName::Logins, &file);
    exchange(&lake, TableName::Logins, &file, |rows| {
        rows.slice(1, rows.num_rows() - 1)
    });
    let findings = audited(&lake, &records).await;
    // By the rows taken, by the rows stated, and by the fingerprint of what is there.
    assert_eq!(
        of(&findings, What::CompactionChangedRows).len(),
        3,
        "{findings:?}"
    );
    assert_eq!(
        of(&findings, What::RowMissing),
        [(Some(partition), vec![(offset, offset + 1)])]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_that_went_back_are_named() {
    let lake = filled().await;
    let records = records(&lake).await;
    let snapshot = lake.snapshot(TableName::Logins).await;
    let app_id = Pipeline::new("user-login", "first").app_id(1);
    let stood = snapshot.transactions[&app_id];
    let commit = [
        json!({"commitInfo": {"timestamp": 1, "operation": "STREAMING UPDATE", "engineInfo": "other/1"}}),
        json!({"txn": {"appId": app_id, "version": stood - 5, "lastUpdated": 1}}),
    ];
    let name = format!("_delta_log/{:020}.json", snapshot.version + 1);
    let text = format!("{}\n{}", commit[0], commit[1]);
    std::fs::write(path(&lake, TableName::Logins, &name), text).unwrap();
    let findings = audited(&lake, &records).await;
    let broken = of(&findings, What::OffsetsBroken);
    assert!(
        broken.contains(&(Some(1), vec![(stood - 5, stood)])),
        "{findings:?}"
    );
    let above: Vec<_> = findings
        .iter()
        .filter(|finding| finding.what == What::AboveCommitted)
        .collect();
    assert!(!above.is_empty() && above.iter().all(|finding| finding.kafka_partition == Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_speed_path_is_compared_by_source_position() {
    let lake = filled().await;
    let records = records(&lake).await;
    let mut published: Vec<(i32, i64)> = records.iter().map(|(p, o, _)| (*p, *o)).collect();
    published.sort_unstable();
    let lost = published.iter().position(|position| *position == (1, 3)).unwrap();
    published.remove(lost);
    let asked = |memory| Asked {
        topic: Some(&records),
        published: Some(&published),
        at_least_once: false,
        memory,
    };
    let report = audit(&lake, asked(64 << 20)).await;
    assert_eq!(report, audit(&lake, asked(1)).await, "the memory does not matter");
    let sums = report.partitions[1].speed_path.expect("both are there");
    assert_eq!(sums.rows.rows, sums.records.rows + 1);
    assert_eq!(
        of(&report.findings, What::NotPublished),
        [(Some(1), vec![(3, 4)])]
    );
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
}
