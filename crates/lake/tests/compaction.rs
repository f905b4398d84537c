//! What compaction must hold: the rows stay, their files become few and sorted, and nobody is in anybody's way.

mod common;

use std::sync::{Arc, Mutex};

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use common::faulty::{Fault, FaultyStore};
use common::{LATER_MS, TestLake, paths};
use loginlake_lake::compact::{
    CompactOptions, CompactionEvent, CompactionPlan, CompactionReport, ExecuteOptions, PartitionOutcome,
    execute, plan,
};
use loginlake_lake::vacuum::{VacuumOptions, vacuum};
use loginlake_lake::{LakeError, TableName, TableSnapshot};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const TABLES: [TableName; 2] = [TableName::Logins, TableName::Rejected];

fn all_dates() -> CompactOptions {
    CompactOptions {
        include_open: true,
        ..CompactOptions::at(LATER_MS)
    }
}

async fn planned(lake: &TestLake, table: TableName) -> CompactionPlan {
    plan(&lake.snapshot(table).await, &all_dates())
}

async fn compact(lake: &TestLake, table: TableName) -> CompactionReport {
    execute(&lake.lake, planned(lake, table).await, &ExecuteOptions::default())
        .await
        .unwrap()
}

/// Three dates, four files each, and four files of rejected records.
async fn filled() -> TestLake {
    let mut lake = TestLake::new().await;
    for _ in 0..4 {
        lake.ingest(&[0, 1, 2], 60, 10).await;
    }
    lake
}

fn is_compacted(outcome: &PartitionOutcome) -> bool {
    matches!(outcome, PartitionOutcome::Compacted { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_and_offsets_stay_and_the_files_become_few() {
    let lake = filled().await;
    for (table, files_before, files_after) in [(TableName::Logins, 12, 3), (TableName::Rejected, 4, 1)] {
        let before = lake.snapshot(table).await;
        assert_eq!(before.files.len(), files_before);
        let options = ExecuteOptions {
            jobs: 2,
            ..ExecuteOptions::default()
        };
        let report = execute(&lake.lake, plan(&before, &all_dates()), &options)
            .await
            .unwrap();
        assert_eq!(report.compacted(), files_after, "{report}");

        let after = lake.snapshot(table).await;
        assert_eq!(after.files.len(), files_after);
        assert_eq!(
            lake.rows(&after),
            lake.rows(&before),
            "every column of every row, and its partition"
        );
        for (app_id, offset) in &before.transactions {
            assert_eq!(after.transactions.get(app_id), Some(offset), "{app_id}");
        }
        let rows: u64 = after.files.iter().filter_map(|file| file.rows).sum();
        assert_eq!(
            rows,
            report
                .partitions
                .iter()
                .map(|partition| partition.rows)
                .sum::<u64>()
        );
        assert_eq!(rows as usize, lake.rows(&after).len());
        for file in &after.files {
            let folder = file.partition_values.get("login_date").cloned().flatten();
            let folder = folder
                .map(|date| format!("login_date={date}/"))
                .unwrap_or_default();
            assert!(
                file.path.starts_with(&format!("{folder}compact-")),
                "{}",
                file.path
            );
            assert!(file.path.ends_with("-000.zstd.parquet"), "{}", file.path);
            let size = std::fs::metadata(lake.directory.path().join(table.as_str()).join(&file.path))
                .unwrap()
                .len();
            assert_eq!(file.size_bytes, size);
        }
        assert!(
            planned(&lake, table).await.is_empty(),
            "compaction right afterwards has nothing to do"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_sorted_and_the_statistics_bound_them() {
    let lake = filled().await;
    compact(&lake, TableName::Logins).await;
    let snapshot = lake.snapshot(TableName::Logins).await;
    for file in &snapshot.files {
        let mut keys = Vec::new();
        for batch in lake.batches(TableName::Logins, &file.path) {
            let regions = batch["region"].as_string::<i32>();
            let devices = batch["device_type"].as_string::<i32>();
            let times = batch["event_time"].as_primitive::<TimestampMicrosecondType>();
            for row in 0..batch.num_rows() {
                keys.push((
                    regions.value(row).to_owned(),
                    devices.value(row).to_owned(),
                    times.value(row),
                ));
            }
        }
        assert!(keys.is_sorted(), "{}", file.path);
        let stats: serde_json::Value = serde_json::from_str(file.stats_json.as_deref().unwrap()).unwrap();
        assert_eq!(stats["numRecords"], keys.len());
        assert_eq!(stats["minValues"]["region"], keys[0].0);
        assert_eq!(stats["maxValues"]["region"], keys[keys.len() - 1].0);
        assert_eq!(stats["nullCount"]["region"], 0);
        let micros = |value: &serde_json::Value| {
            chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap())
                .unwrap()
                .timestamp_micros()
        };
        let times = || keys.iter().map(|(_, _, time)| *time);
        assert_eq!(Some(micros(&stats["minValues"]["event_time"])), times().min());
        assert_eq!(Some(micros(&stats["maxValues"]["event_time"])), times().max());
        assert!(
            stats["minValues"].get("login_date").is_none(),
            "partition columns have no statistics"
        );
    }
    let rejected = compact(&lake, TableName::Rejected).await;
    assert_eq!(rejected.partitions[0].rows, 40);
    let snapshot = lake.snapshot(TableName::Rejected).await;
    let batches = lake.batches(TableName::Rejected, &snapshot.files[0].path);
    let reasons: Vec<&str> = batches
        .iter()
        .flat_map(|batch| batch["reason"].as_string::<i32>())
        .flatten()
        .collect();
    assert!(reasons.len() == 40 && reasons.is_sorted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_reached_begins_another_file() {
    let mut lake = TestLake::new().await;
    for _ in 0..3 {
        lake.ingest(&[0], 4_000, 0).await;
    }
    let before = lake.snapshot(TableName::Logins).await;
    let options = CompactOptions {
        target_file_bytes: 200 << 10,
        ..all_dates()
    };
    let memory = ExecuteOptions {
        memory_budget_bytes: 16 << 20,
        ..ExecuteOptions::default()
    };
    let report = execute(&lake.lake, plan(&before, &options), &memory)
        .await
        .unwrap();
    let after = lake.snapshot(TableName::Logins).await;
    assert!(report.partitions[0].files_after > 1, "{report}");
    assert_eq!(after.files.len(), report.partitions[0].files_after);
    assert_eq!(lake.rows(&after), lake.rows(&before));
    assert!(plan(&after, &options).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_compactors_on_one_version_one_wins() {
    let lake = filled().await;
    let before = lake.snapshot(TableName::Logins).await;
    let (first, second) = (plan(&before, &all_dates()), plan(&before, &all_dates()));
    let options = ExecuteOptions::default();
    let (first, second) = tokio::join!(
        execute(&lake.lake, first, &options),
        execute(&lake.lake, second, &options)
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    for date in ["2026-01-05", "2026-01-06", "2026-01-07"] {
        let outcomes = [&first, &second].map(|report| {
            let found = report
                .partitions
                .iter()
                .find(|p| p.partition.value("login_date") == Some(date));
            is_compacted(&found.unwrap().outcome)
        });
        assert_eq!(outcomes.iter().filter(|won| **won).count(), 1, "{date}");
    }
    let after = lake.snapshot(TableName::Logins).await;
    assert_eq!(lake.rows(&after), lake.rows(&before));
    let mut on_disk = paths(&before);
    on_disk.extend(paths(&after));
    on_disk.sort();
    assert_eq!(
        lake.files_on_disk(TableName::Logins),
        on_disk,
        "the loser's files are removed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compactor_that_comes_late_changes_nothing() {
    let lake = filled().await;
    let late = planned(&lake, TableName::Logins).await;
    compact(&lake, TableName::Logins).await;
    let between = lake.snapshot(TableName::Logins).await;
    // Even the files that it planned to read may be gone.
    let options = VacuumOptions {
        dry_run: false,
        ..VacuumOptions::at(chrono::Utc::now().timestamp_millis() + month_ms())
    };
    vacuum(&lake.lake, TableName::Logins, &options).await.unwrap();

    let report = execute(&lake.lake, late, &ExecuteOptions::default())
        .await
        .unwrap();
    assert_eq!(report.compacted(), 0, "{report}");
    let after = lake.snapshot(TableName::Logins).await;
    assert_eq!((after.version, paths(&after)), (between.version, paths(&between)));
    assert_eq!(lake.files_on_disk(TableName::Logins), paths(&after));
}

fn month_ms() -> i64 {
    30 * 24 * 60 * 60 * 1_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_between_plan_and_commit_is_kept() {
    let mut lake = filled().await;
    let old = planned(&lake, TableName::Logins).await;
    lake.ingest(&[0, 1, 2], 5, 3).await;
    let before = lake.snapshot(TableName::Logins).await;
    let report = execute(&lake.lake, old, &ExecuteOptions::default())
        .await
        .unwrap();
    assert_eq!(report.compacted(), 3);
    let after = lake.snapshot(TableName::Logins).await;
    assert_eq!(lake.rows(&after), lake.rows(&before));
    assert_eq!(
        after.files.len(),
        6,
        "of each date one compacted file and the new one"
    );
    // Ingestion, in its turn, goes on from its own head.
    lake.ingest(&[0], 5, 0).await;
    assert_eq!(lake.snapshot(TableName::Logins).await.files.len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_beside_running_ingestion_loses_and_doubles_nothing() {
    let mut lake = filled().await;
    let shared = lake.lake.clone();
    let options = CompactOptions {
        min_files: 1,
        ..all_dates()
    };
    let compactor = tokio::spawn(async move {
        let mut compacted = 0;
        for _ in 0..4 {
            let snapshot = shared.snapshot(TableName::Logins, None).await.unwrap().unwrap();
            let report = execute(&shared, plan(&snapshot, &options), &ExecuteOptions::default())
                .await
                .unwrap();
            compacted += report.compacted();
        }
        compacted
    });
    for _ in 0..10 {
        lake.ingest(&[0, 2], 20, 1).await;
    }
    assert!(compactor.await.unwrap() > 0);
    let positions = lake.positions(&lake.snapshot(TableName::Logins).await);
    assert_eq!(positions.len(), 4 * 3 * 60 + 10 * 2 * 20);
    assert!(
        positions.windows(2).all(|pair| pair[0] < pair[1]),
        "each position once"
    );
}

/// The same file without its first row, its size unchanged: readers do not look at what lies before the footer.
fn without_first_row(file: Bytes) -> Bytes {
    let size = file.len();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let all = arrow::compute::concat_batches(&schema, &batches).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    writer.write(&all.slice(1, all.num_rows() - 1)).unwrap();
    let smaller = writer.into_inner().unwrap();
    let length = smaller.len() - 8;
    let footer = length - u32::from_le_bytes(smaller[length..length + 4].try_into().unwrap()) as usize;
    [
        &smaller[..footer],
        &vec![0; size - smaller.len()],
        &smaller[footer..],
    ]
    .concat()
    .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_row_is_noticed_before_the_commit() {
    let lake = filled().await;
    let before = lake.snapshot(TableName::Logins).await;
    let exchanging = lake
        .lake
        .clone()
        .with_store(|inner| FaultyStore::wrap(inner, Fault::ExchangeCompacted(without_first_row)));
    let error = execute(
        &exchanging,
        plan(&before, &all_dates()),
        &ExecuteOptions::default(),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, LakeError::Invariant(_)), "{error}");
    assert!(
        error.to_string().contains("read 240 rows") && error.to_string().contains("written 239"),
        "{error}"
    );
    assert_unchanged(&lake, &before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_do_not_have_the_rows_of_the_log_are_not_compacted() {
    let lake = filled().await;
    let before = lake.snapshot(TableName::Logins).await;
    let mut wrong = plan(&before, &all_dates());
    let rows = &mut wrong.partitions[0].sources[0].rows;
    *rows = rows.map(|rows| rows + 1);
    let error = execute(&lake.lake, wrong, &ExecuteOptions::default())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("its log says 241 rows, its files have 240"),
        "{error}"
    );
    assert_unchanged(&lake, &before).await;
}

async fn assert_unchanged(lake: &TestLake, before: &TableSnapshot) {
    let after = lake.snapshot(before.table).await;
    assert_eq!((after.version, paths(&after)), (before.version, paths(before)));
    assert_eq!(
        lake.files_on_disk(before.table),
        paths(before),
        "what was written is removed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_reply_is_lost_is_found_again() {
    let lake = filled().await;
    let before = lake.snapshot(TableName::Logins).await;
    let losing = lake
        .lake
        .clone()
        .with_store(|inner| FaultyStore::wrap(inner, Fault::LoseReplies { times: 1 }));
    let report = execute(&losing, plan(&before, &all_dates()), &ExecuteOptions::default())
        .await
        .unwrap();
    assert_eq!(report.compacted(), 3, "{report}");
    let after = lake.snapshot(TableName::Logins).await;
    assert_eq!(after.version, before.version + 3, "no commit was written twice");
    assert_eq!(lake.rows(&after), lake.rows(&before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_never_answers_a_commit_ends_the_run_and_keeps_the_files() {
    let lake = filled().await;
    let before = lake.snapshot(TableName::Rejected).await;
    let refusing = lake
        .lake
        .clone()
        .with_store(|inner| FaultyStore::wrap(inner, Fault::RefuseCommits));
    let error = execute(&refusing, plan(&before, &all_dates()), &ExecuteOptions::default())
        .await
        .unwrap_err();
    assert!(error.is_retriable(), "{error}");
    let after = lake.snapshot(TableName::Rejected).await;
    assert_eq!((after.version, paths(&after)), (before.version, paths(&before)));
    let on_disk = lake.files_on_disk(TableName::Rejected).len();
    assert_eq!(
        on_disk,
        before.files.len() + 1,
        "the outcome is not known, so the new file stays until vacuum"
    );
    assert_eq!(
        compact(&lake, TableName::Rejected).await.compacted(),
        1,
        "and the next run does it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_larger_than_the_budget_go_through_temporary_files() {
    let mut lake = TestLake::new().await;
    for _ in 0..3 {
        lake.ingest(&[0, 1], 24_000, 0).await;
    }
    let before = lake.snapshot(TableName::Logins).await;
    let spill = tempfile::tempdir().unwrap();
    let options = ExecuteOptions {
        memory_budget_bytes: 32 << 20,
        jobs: 2,
        spill_directory: Some(spill.path().to_owned()),
        ..ExecuteOptions::default()
    };
    let report = execute(&lake.lake, plan(&before, &all_dates()), &options)
        .await
        .unwrap();
    assert!(
        report
            .partitions
            .iter()
            .all(|partition| partition.spilled_bytes > 1 << 20),
        "{report:?}"
    );
    let after = lake.snapshot(TableName::Logins).await;
    assert_eq!(after.files.len(), 2);
    assert_eq!(lake.rows(&after), lake.rows(&before));
    assert_eq!(files_below(spill.path()), 0, "temporary files are removed");
}

fn files_below(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_too_small_is_refused_before_anything_is_read() {
    let lake = filled().await;
    let options = ExecuteOptions {
        memory_budget_bytes: 1 << 20,
        ..ExecuteOptions::default()
    };
    let error = execute(&lake.lake, planned(&lake, TableName::Logins).await, &options)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, LakeError::Configuration(text) if text.contains("at least 16.0 MiB")),
        "{error}"
    );
}

/// Another engine, or a newer version of this software, has added a column, in front of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_older_files_lack_is_null_in_the_compacted_one() {
    let lake = filled().await;
    let before = lake.snapshot(TableName::Rejected).await;
    let log = lake.directory.path().join("rejected/_delta_log");
    let creation = std::fs::read_to_string(log.join(format!("{:020}.json", 0))).unwrap();
    let mut metadata: serde_json::Value = creation
        .lines()
        .find(|line| line.contains("\"metaData\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .unwrap();
    let mut schema: serde_json::Value =
        serde_json::from_str(metadata["metaData"]["schemaString"].as_str().unwrap()).unwrap();
    let added = serde_json::json!({ "name": "risk", "type": "integer", "nullable": true, "metadata": {} });
    schema["fields"].as_array_mut().unwrap().insert(0, added);
    metadata["metaData"]["schemaString"] = schema.to_string().into();
    std::fs::write(
        log.join(format!("{:020}.json", before.version + 1)),
        metadata.to_string(),
    )
    .unwrap();

    assert_eq!(compact(&lake, TableName::Rejected).await.compacted(), 1);
    let after = lake.snapshot(TableName::Rejected).await;
    let without_risk: Vec<String> = lake
        .rows(&after)
        .iter()
        .map(|row| row.replace(" risk=null", ""))
        .collect();
    let mut expected = lake.rows(&before);
    expected.sort();
    assert!(lake.rows(&after).iter().all(|row| row.contains(" risk=null")));
    assert_eq!(without_risk, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_tells_each_partition_from_start_to_finish() {
    let lake = filled().await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    let options = ExecuteOptions {
        progress: Some(Arc::new(move |event| sink.lock().unwrap().push(event))),
        ..ExecuteOptions::default()
    };
    execute(&lake.lake, planned(&lake, TableName::Logins).await, &options)
        .await
        .unwrap();
    let events = events.lock().unwrap();
    let rows = |event: &CompactionEvent| match event {
        CompactionEvent::Written { rows, .. } => *rows,
        _ => 0,
    };
    assert_eq!(events.iter().map(rows).sum::<u64>(), 720);
    let started = events
        .iter()
        .filter(|event| matches!(event, CompactionEvent::Started { files: 4, .. }))
        .count();
    let finished = events
        .iter()
        .filter(|event| matches!(event, CompactionEvent::Finished(_)))
        .count();
    assert_eq!((started, finished), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_table_has_nothing_to_compact() {
    let lake = TestLake::new().await;
    for table in TABLES {
        let report = compact(&lake, table).await;
        assert_eq!(report.to_string(), format!("{table}: nothing to compact\n"));
    }
}
