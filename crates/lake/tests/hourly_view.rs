//! What the batch view must hold: whatever happened to `logins` since, in whatever order, a refresh makes the view what counting
//! all rows from scratch gives; and it counts no more dates than changed.

mod common;

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int8Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use common::{LATER_MS, MONDAY_SECS, TestLake};
use loginlake_lake::TableName;
use loginlake_lake::compact::{CompactOptions, ExecuteOptions, execute, plan};
use loginlake_lake::hourly::complete::LOGINS_VERSION;
use loginlake_lake::hourly::{RefreshOptions, RefreshReport, refresh};
use loginlake_lake::table::commit::{CommitOutcome, CommitRequest, TableWriter, TxnStep};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use serde_json::json;

const DIMENSIONS: [&str; 7] = [
    "login_hour",
    "local_hour",
    "time_of_day",
    "region",
    "locale",
    "device_type",
    "app_version",
];

type Counts = BTreeMap<(String, Vec<String>), i64>;

/// The table's rows by date and dimensions: counted in `logins`, added up in the view.
async fn counts(lake: &TestLake, table: TableName) -> Counts {
    let mut counts = Counts::new();
    for file in lake.snapshot(table).await.files {
        let date = file.partition_values["login_date"].clone().unwrap();
        for batch in lake.batches(table, &file.path) {
            let options = FormatOptions::default().with_null("NULL");
            let columns: Vec<_> = DIMENSIONS
                .iter()
                .map(|name| ArrayFormatter::try_new(&batch[*name], &options).unwrap())
                .collect();
            for row in 0..batch.num_rows() {
                let key = columns
                    .iter()
                    .map(|column| column.value(row).to_string())
                    .collect();
                let logins = batch
                    .column_by_name("logins")
                    .map_or(1, |column| column.as_primitive::<Int64Type>().value(row));
                *counts.entry((date.clone(), key)).or_default() += logins;
            }
        }
    }
    counts
}

async fn refreshed(lake: &TestLake, options: RefreshOptions) -> RefreshReport {
    refresh(&lake.lake, &options).await.unwrap().unwrap()
}

fn incremental() -> RefreshOptions {
    RefreshOptions::at(LATER_MS)
}

async fn assert_exact(lake: &TestLake) {
    let wanted = counts(lake, TableName::Logins).await;
    assert_eq!(counts(lake, TableName::LoginsHourly).await, wanted);
}

async fn compact(lake: &TestLake) {
    let options = CompactOptions {
        include_open: true,
        ..CompactOptions::at(LATER_MS)
    };
    let plan = plan(&lake.snapshot(TableName::Logins).await, &options);
    execute(&lake.lake, plan, &ExecuteOptions::default())
        .await
        .unwrap();
}

/// Takes one file out of `logins`, as an erasure of all its rows would.
async fn remove_a_file(lake: &TestLake, which: usize) {
    let snapshot = lake.snapshot(TableName::Logins).await;
    let Some(file) = snapshot.files.get(which % snapshot.files.len().max(1)).cloned() else {
        return;
    };
    let mut writer = TableWriter::at_snapshot(&lake.lake, &snapshot).unwrap();
    let app_id = "test/removals".to_owned();
    let from = snapshot.transactions.get(&app_id).copied();
    let request = CommitRequest {
        batch_id: uuid::Uuid::new_v4(),
        operation: "DELETE",
        steps: vec![TxnStep {
            app_id,
            from,
            to: from.unwrap_or(0) + 1,
        }],
        adds: Vec::new(),
        removes: vec![file],
        data_change: true,
        info: json!({}),
    };
    let outcome = writer.commit(&request).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Ingest { days: Vec<i64>, rows: usize },
    Compact,
    RemoveAFile(usize),
    Refresh,
    Rebuild,
    RefreshOneDate(i64),
    LoseTheLog,
}

fn step() -> impl Strategy<Value = Step> {
    let days = proptest::collection::vec(0..4_i64, 1..3);
    prop_oneof![
        4 => (days, 1..20_usize).prop_map(|(days, rows)| Step::Ingest { days, rows }),
        1 => Just(Step::Compact),
        2 => any::<usize>().prop_map(Step::RemoveAFile),
        3 => Just(Step::Refresh),
        1 => Just(Step::Rebuild),
        1 => (0..4_i64).prop_map(Step::RefreshOneDate),
        1 => Just(Step::LoseTheLog),
    ]
}

/// What log cleanup leaves: a checkpoint of the newest version, and no commit before it.
async fn lose_the_log(lake: &mut TestLake) {
    let version = lake.snapshot(TableName::Logins).await.version;
    loginlake_lake::table::checkpoint::write(&lake.lake, TableName::Logins, version)
        .await
        .unwrap();
    for old in 0..version {
        let path = lake
            .directory
            .path()
            .join(format!("logins/_delta_log/{old:020}.json"));
        if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }
    lake.start_again().await;
}

async fn run(steps: Vec<Step>) {
    let mut lake = TestLake::new().await;
    for step in steps {
        match step {
            Step::Ingest { days, rows } => {
                lake.ingest(&days, rows, 1).await;
            }
            Step::Compact => compact(&lake).await,
            Step::RemoveAFile(which) => remove_a_file(&lake, which).await,
            Step::Refresh => {
                refreshed(&lake, incremental()).await;
                assert_exact(&lake).await;
            }
            Step::Rebuild => {
                let rebuild = RefreshOptions {
                    rebuild: true,
                    ..incremental()
                };
                refreshed(&lake, rebuild).await;
                assert_exact(&lake).await;
            }
            Step::RefreshOneDate(day) => {
                let date = chrono::DateTime::from_timestamp(MONDAY_SECS + day * common::DAY_SECS, 0);
                let one = RefreshOptions {
                    date: date.map(|date| date.date_naive()),
                    ..incremental()
                };
                refreshed(&lake, one).await;
                let date = date.unwrap().format("%Y-%m-%d").to_string();
                let of_date = |counts: Counts| -> Counts {
                    counts
                        .into_iter()
                        .filter(|((found, _), _)| *found == date)
                        .collect()
                };
                assert_eq!(
                    of_date(counts(&lake, TableName::LoginsHourly).await),
                    of_date(counts(&lake, TableName::Logins).await)
                );
            }
            Step::LoseTheLog => lose_the_log(&mut lake).await,
        }
    }
    refreshed(&lake, incremental()).await;
    assert_exact(&lake).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_refresh_gives_what_counting_from_scratch_gives(steps in proptest::collection::vec(step(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_dates_that_changed_are_counted_and_compaction_changes_none() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0, 1, 2], 30, 2).await;
    lake.ingest(&[0, 1, 2], 30, 2).await;
    let dry = RefreshOptions {
        dry_run: true,
        ..incremental()
    };
    assert_eq!(refreshed(&lake, dry.clone()).await.dates.len(), 3);
    assert!(
        lake.lake
            .snapshot(TableName::LoginsHourly, None)
            .await
            .unwrap()
            .is_none(),
        "a dry run makes no table"
    );
    let first = refreshed(&lake, incremental()).await;
    assert_eq!((first.before, first.dates.len(), first.logins), (None, 3, 180));

    compact(&lake).await;
    let after = refreshed(&lake, incremental()).await;
    assert_eq!((after.dates.len(), after.rows), (0, 0), "{after}");
    assert!(after.version.is_some(), "how far it is complete moves on");
    let idle = refreshed(&lake, incremental()).await;
    assert_eq!(idle.version, None, "nothing to do is no commit");

    lake.ingest(&[1], 5, 0).await;
    let late = refreshed(&lake, incremental()).await;
    assert_eq!(late.dates, [Some("2026-01-06".to_owned())]);
    assert_eq!(late.logins, 65);
    assert_exact(&lake).await;

    lake.ingest(&[0], 1, 0).await;
    lake.ingest(&[0], 1, 0).await;
    lose_the_log(&mut lake).await;
    let rebuilt = refreshed(&lake, incremental()).await;
    assert_eq!(rebuilt.dates.len(), 3);
    assert!(
        rebuilt
            .rebuilt_because
            .is_some_and(|why| why.contains("any more")),
        "it says why"
    );
    assert_exact(&lake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_up_to_where_the_view_is_complete() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0], 50, 0).await;
    let report = refreshed(&lake, incremental()).await;
    let logins = lake.snapshot(TableName::Logins).await;
    let view = lake.snapshot(TableName::LoginsHourly).await;
    assert_eq!(view.transactions[LOGINS_VERSION], logins.version);
    for (app_id, offset) in &logins.transactions {
        assert_eq!(view.transactions.get(app_id), Some(offset), "{app_id}");
    }
    let newest_hour = counts(&lake, TableName::Logins)
        .await
        .into_keys()
        .map(|(_, key)| key[0].parse::<u32>().unwrap())
        .max()
        .unwrap();
    let closed = report.complete.closed_before();
    assert_eq!(closed, format!("2026-01-05T{newest_hour:02}:00:00Z"));

    let path = lake
        .directory
        .path()
        .join("logins_hourly")
        .join(&view.files[0].path);
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let metadata = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let value = |key: &str| {
        let found = metadata.iter().find(|pair| pair.key == key).unwrap();
        found.value.clone().unwrap()
    };
    assert_eq!(value("loginlake.logins-version"), logins.version.to_string());
    assert_eq!(value("loginlake.closed-before"), closed);
    let offsets: BTreeMap<String, i64> = serde_json::from_str(&value("loginlake.offsets")).unwrap();
    assert_eq!(offsets, logins.transactions);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_date_of_more_groups_than_fit_is_counted_in_shares() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0, 1], 400, 0).await;
    let small = RefreshOptions {
        memory_budget_bytes: 8_000,
        ..incremental()
    };
    refreshed(&lake, small).await;
    let view = lake.snapshot(TableName::LoginsHourly).await;
    assert!(view.files.len() > 4, "{} files", view.files.len());
    assert_exact(&lake).await;
    for file in &view.files {
        for batch in lake.batches(TableName::LoginsHourly, &file.path) {
            let hours = batch["login_hour"].as_primitive::<Int8Type>();
            assert_eq!(hours.null_count(), 0);
        }
    }
    assert_eq!(
        lake.files_on_disk(TableName::LoginsHourly).len(),
        view.files.len(),
        "nothing is left over"
    );
    let none = RefreshOptions {
        rebuild: true,
        memory_budget_bytes: 10,
        ..incremental()
    };
    let error = refresh(&lake.lake, &none).await.unwrap_err().to_string();
    assert!(error.contains("--memory-budget"), "{error}");
    assert_exact(&lake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_refreshers_at_once_count_nothing_twice() {
    let mut lake = TestLake::new().await;
    for round in 0..4 {
        lake.ingest(&[0, 1, round], 40, 0).await;
        let options = incremental();
        let (one, other) = tokio::join!(refresh(&lake.lake, &options), refresh(&lake.lake, &options));
        one.unwrap().unwrap();
        other.unwrap().unwrap();
        assert_exact(&lake).await;
    }
    let view = lake.snapshot(TableName::LoginsHourly).await;
    let dates: std::collections::BTreeSet<_> = view
        .files
        .iter()
        .map(|file| file.partition_values.clone())
        .collect();
    assert_eq!(dates.len(), view.files.len(), "one file for each date");
}

/// The folder of a table, put where another one was.
fn put_back(from: &std::path::Path, to: &std::path::Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => put_back(&path, &target),
            false => {
                std::fs::copy(&path, &target).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_table_of_the_same_name_and_versions_is_noticed() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0, 1], 30, 0).await;
    let first = refreshed(&lake, incremental()).await;
    assert_eq!(first.rebuilt_because, None);
    let folder = lake.directory.path().join("logins");
    let copy = tempfile::tempdir().unwrap();
    put_back(&folder, copy.path());

    // Made again, with as many commits, and other rows of other dates.
    let mut other = TestLake::new().await;
    other.ingest(&[1, 2], 7, 0).await;
    put_back(&other.directory.path().join("logins"), &folder);
    assert_eq!(
        lake.snapshot(TableName::Logins).await.version,
        first.complete.logins_version
    );
    let dry = RefreshOptions {
        dry_run: true,
        ..incremental()
    };
    let planned = refreshed(&lake, dry).await;
    assert_eq!(planned.dates.len(), 3);
    let again = refreshed(&lake, incremental()).await;
    assert!(
        again
            .rebuilt_because
            .as_deref()
            .is_some_and(|why| why.contains("made again")),
        "{again}"
    );
    assert_eq!(again.logins, 14);
    assert_exact(&lake).await;
    assert_eq!(
        refreshed(&lake, incremental()).await.version,
        None,
        "it is known now"
    );

    // Put back from a copy, which then went on to more versions than the other table had.
    put_back(copy.path(), &folder);
    lake.start_again().await;
    lake.ingest(&[3], 5, 0).await;
    let back = refreshed(&lake, incremental()).await;
    assert!(back.rebuilt_because.is_some(), "{back}");
    assert_exact(&lake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_and_an_erasure_correct_the_dates_that_they_touch() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0, 1], 30, 0).await;
    lake.ingest(&[1], 20, 0).await;
    let version = lake.snapshot(TableName::Logins).await.version;
    lake.ingest(&[1, 2], 10, 0).await;
    refreshed(&lake, incremental()).await;

    let row = lake.rows(&lake.snapshot(TableName::Logins).await).remove(0);
    let user = row.split("user_id=").nth(1).unwrap().split(' ').next().unwrap();
    let subjects = loginlake_lake::erase::Subjects::of_ids([user]).unwrap();
    let by = loginlake_lake::erase::EraseOptions::by("tester@here");
    let proof = loginlake_lake::erase::erase(&lake.lake, &subjects, &by)
        .await
        .unwrap();
    assert_eq!(proof.rows(), 1);
    let erased = refreshed(&lake, incremental()).await;
    assert_eq!((erased.dates.len(), erased.rebuilt_because.as_ref()), (1, None));
    assert_exact(&lake).await;

    compact(&lake).await;
    let plan = loginlake_lake::restore::plan(&lake.lake, TableName::Logins, version)
        .await
        .unwrap()
        .unwrap();
    loginlake_lake::restore::execute(&lake.lake, &plan, "tester@here")
        .await
        .unwrap();
    let restored = refreshed(&lake, incremental()).await;
    assert_eq!(
        (restored.dates.len(), restored.rebuilt_because.as_ref()),
        (3, None)
    );
    assert_exact(&lake).await;
    let logins = lake.snapshot(TableName::Logins).await;
    let view = lake.snapshot(TableName::LoginsHourly).await;
    for (app_id, offset) in &logins.transactions {
        assert_eq!(
            view.transactions.get(app_id),
            Some(offset),
            "{app_id} went back, too"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_query_opens_does_not_grow_with_refreshes() {
    let mut lake = TestLake::new().await;
    for round in 0..35 {
        lake.ingest(&[0, 1, round % 3], 5, 0).await;
        refreshed(&lake, incremental()).await;
        let view = lake.snapshot(TableName::LoginsHourly).await;
        let dates: std::collections::BTreeSet<_> = view
            .files
            .iter()
            .map(|file| file.partition_values["login_date"].clone())
            .collect();
        assert_eq!(view.files.len(), dates.len(), "one file for each date");
        let commits_to_read = view.version - view.checkpoint_version.unwrap_or(0);
        assert!(
            commits_to_read <= 10,
            "{commits_to_read} commits at version {}",
            view.version
        );
    }
    assert_exact(&lake).await;
}
