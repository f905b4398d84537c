//! What vacuum and history must hold: nothing that is needed is removed, and the log tells who did what.

mod common;

use std::time::Duration;

use common::{LATER_MS, TestLake, paths};
use loginlake_lake::compact::{CompactOptions, ExecuteOptions, execute, file_report, plan};
use loginlake_lake::table::checkpoint;
use loginlake_lake::vacuum::{VacuumOptions, VacuumReport, vacuum};
use loginlake_lake::{LakeError, TableName};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Two dates of three files each, compacted into one each.
async fn compacted() -> (TestLake, Vec<String>) {
    let mut lake = TestLake::new().await;
    for _ in 0..3 {
        lake.ingest(&[0, 1], 20, 2).await;
    }
    let before = lake.snapshot(TableName::Logins).await;
    let options = CompactOptions {
        include_open: true,
        ..CompactOptions::at(LATER_MS)
    };
    execute(&lake.lake, plan(&before, &options), &ExecuteOptions::default())
        .await
        .unwrap();
    (lake, paths(&before))
}

/// The defaults, this long after now.
fn after(time: Duration) -> VacuumOptions {
    VacuumOptions::at(chrono::Utc::now().timestamp_millis() + time.as_millis() as i64)
}

async fn run(lake: &TestLake, options: VacuumOptions) -> VacuumReport {
    vacuum(&lake.lake, TableName::Logins, &options)
        .await
        .unwrap()
        .unwrap()
}

fn vacuumed(report: &VacuumReport) -> Vec<String> {
    report.files.iter().map(|file| file.path.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_were_replaced_are_removed_after_the_retention_and_not_before() {
    let (lake, replaced) = compacted().await;
    let snapshot = lake.snapshot(TableName::Logins).await;
    let rows = lake.rows(&snapshot);

    assert_eq!(vacuumed(&run(&lake, after(Duration::ZERO)).await), [""; 0]);
    assert_eq!(
        vacuumed(&run(&lake, after(6 * DAY)).await),
        [""; 0],
        "a reader of an older version may need them"
    );
    let dry = run(&lake, after(8 * DAY)).await;
    assert_eq!(vacuumed(&dry), replaced);
    assert!(
        dry.dry_run && dry.bytes() > 0 && dry.to_string().contains("6 files"),
        "{dry}"
    );
    assert_eq!(
        lake.files_on_disk(TableName::Logins).len(),
        8,
        "a dry run removes nothing"
    );

    let done = run(
        &lake,
        VacuumOptions {
            dry_run: false,
            ..after(8 * DAY)
        },
    )
    .await;
    assert_eq!(vacuumed(&done), replaced);
    assert_eq!(lake.files_on_disk(TableName::Logins), paths(&snapshot));
    assert_eq!(lake.rows(&lake.snapshot(TableName::Logins).await), rows);
    assert_eq!(vacuumed(&run(&lake, after(8 * DAY)).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_removed_a_moment_ago_stays_however_old_it_is() {
    let (lake, replaced) = compacted().await;
    let old = std::time::SystemTime::now() - 30 * DAY;
    for path in &replaced {
        let file = std::fs::File::options()
            .write(true)
            .open(lake.directory.path().join("logins").join(path))
            .unwrap();
        file.set_modified(old).unwrap();
    }
    for checkpointed in [false, true] {
        if checkpointed {
            let version = lake.snapshot(TableName::Logins).await.version;
            checkpoint::write(&lake.lake, TableName::Logins, version)
                .await
                .unwrap();
        }
        let now = run(
            &lake,
            VacuumOptions {
                retention: HOUR,
                ..after(Duration::ZERO)
            },
        )
        .await;
        assert_eq!(vacuumed(&now), [""; 0], "checkpointed: {checkpointed}");
        let later = run(
            &lake,
            VacuumOptions {
                retention: HOUR,
                ..after(2 * HOUR)
            },
        )
        .await;
        assert_eq!(vacuumed(&later), replaced, "checkpointed: {checkpointed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_go_when_they_are_old_and_foreign_files_never() {
    let (lake, replaced) = compacted().await;
    let folder = lake.directory.path().join("logins");
    let orphan = "login_date=2026-01-05/part-of-a-writer-that-died-000.zstd.parquet";
    for path in [orphan, "README.md", "_tmp.parquet", ".hidden.parquet"] {
        std::fs::write(folder.join(path), b"x").unwrap();
    }
    let young = run(&lake, after(HOUR)).await;
    assert_eq!(
        (vacuumed(&young).len(), young.too_young),
        (0, 1),
        "its writer may be about to commit it"
    );
    let done = run(
        &lake,
        VacuumOptions {
            dry_run: false,
            ..after(8 * DAY)
        },
    )
    .await;
    let mut expected = replaced;
    expected.push(orphan.to_owned());
    expected.sort();
    assert_eq!(vacuumed(&done), expected);
    assert!(folder.join("README.md").exists() && folder.join("_tmp.parquet").exists());
    assert!(folder.join("_delta_log").join(format!("{:020}.json", 0)).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retention_longer_than_that_of_checkpoints_is_read_from_the_commits() {
    let (lake, replaced) = compacted().await;
    let version = lake.snapshot(TableName::Logins).await.version;
    checkpoint::write(&lake.lake, TableName::Logins, version)
        .await
        .unwrap();
    let month = VacuumOptions {
        retention: 30 * DAY,
        ..after(29 * DAY)
    };
    assert_eq!(vacuumed(&run(&lake, month).await), [""; 0]);
    assert_eq!(
        vacuumed(
            &run(
                &lake,
                VacuumOptions {
                    now_ms: month.now_ms + 2 * 86_400_000,
                    ..month
                }
            )
            .await
        ),
        replaced
    );
    // A log that was cleaned does not say which files the last 30 days needed.
    std::fs::remove_file(
        lake.directory
            .path()
            .join(format!("logins/_delta_log/{:020}.json", 1)),
    )
    .unwrap();
    let error = vacuum(&lake.lake, TableName::Logins, &month).await.unwrap_err();
    assert!(error.to_string().contains("at most 7 days"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retention_below_an_hour_has_to_be_forced() {
    let (lake, replaced) = compacted().await;
    let short = VacuumOptions {
        retention: Duration::from_secs(1),
        ..after(HOUR / 2)
    };
    let error = vacuum(&lake.lake, TableName::Logins, &short).await.unwrap_err();
    assert!(
        matches!(&error, LakeError::Configuration(text) if text.contains("3600 s")),
        "{error}"
    );
    assert_eq!(
        vacuumed(&run(&lake, VacuumOptions { force: true, ..short }).await),
        replaced
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_without_the_table_has_nothing_to_do() {
    let lake = TestLake::new().await;
    assert_eq!(
        vacuum(&lake.lake, TableName::LoginsHourly, &after(DAY))
            .await
            .unwrap(),
        None
    );
    assert_eq!(lake.lake.history(TableName::LoginsHourly, 5).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_tells_newest_first_who_did_what() {
    let (lake, _) = compacted().await;
    let history = lake.lake.history(TableName::Logins, 100).await.unwrap().unwrap();
    let versions: Vec<i64> = history.iter().map(|commit| commit.version).collect();
    assert_eq!(
        versions,
        (0..=6).rev().collect::<Vec<_>>(),
        "created, bootstrap, three batches, two dates compacted"
    );
    let compaction = &history[0];
    assert_eq!(compaction.operation.as_deref(), Some("OPTIMIZE"));
    assert_eq!((compaction.files_added, compaction.files_removed), (1, 3));
    assert_eq!(
        (compaction.rows_added, compaction.rows_removed),
        (Some(60), Some(60))
    );
    assert_eq!(compaction.info.as_ref().unwrap()["kind"], "compaction");
    assert_eq!(compaction.transactions.values().copied().collect::<Vec<_>>(), [1]);
    assert!(
        compaction
            .engine
            .as_deref()
            .is_some_and(|engine| engine.starts_with("loginlake/"))
    );
    let batch = &history[2];
    assert_eq!(batch.operation.as_deref(), Some("STREAMING UPDATE"));
    assert_eq!(
        (batch.rows_added, batch.rows_removed, batch.files_added),
        (Some(40), Some(0), 2)
    );
    assert_eq!(
        batch.info.as_ref().unwrap()["offsets"].as_array().unwrap().len(),
        3
    );
    assert!(batch.timestamp_ms.is_some());
    assert_eq!(history[6].operation.as_deref(), Some("CREATE TABLE"));
    assert_eq!(
        lake.lake.history(TableName::Logins, 2).await.unwrap().unwrap(),
        history[..2]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_on_files_shows_what_compaction_did() {
    let (lake, _) = compacted().await;
    let report = file_report(&lake.snapshot(TableName::Logins).await);
    assert_eq!(
        (
            report.total.files,
            report.total.compacted_files,
            report.total.rows
        ),
        (2, 2, Some(120))
    );
    assert_eq!(report.partitions.len(), 2);
    let rejected = file_report(&lake.snapshot(TableName::Rejected).await);
    assert_eq!((rejected.total.files, rejected.total.rows), (3, Some(6)));
}
