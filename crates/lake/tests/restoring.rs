//! A table goes back to an older state with its offsets, or is not touched (invariants 6 and 7).

mod common;

use std::time::Duration;

use common::{LATER_MS, TestLake};
use loginlake_lake::compact::{self, CompactOptions, ExecuteOptions};
use loginlake_lake::erase::{self, EraseOptions, Subjects};
use loginlake_lake::ingest::{Committer, Pipeline};
use loginlake_lake::restore;
use loginlake_lake::table::schema::PartitionBy;
use loginlake_lake::vacuum::{self, VacuumOptions};
use loginlake_lake::{LakeError, TableName};

async fn compact(lake: &TestLake) {
    let mut options = CompactOptions::at(LATER_MS);
    options.include_open = true;
    let plan = compact::plan(&lake.snapshot(TableName::Logins).await, &options);
    compact::execute(&lake.lake, plan, &ExecuteOptions::default())
        .await
        .unwrap();
}

async fn plan(lake: &TestLake, version: i64) -> Result<restore::RestorePlan, LakeError> {
    let plan = restore::plan(&lake.lake, TableName::Logins, version).await?;
    Ok(plan.expect("the table is there"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_offsets_go_back_and_whoever_ingests_is_fenced() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0, 1], 50, 2).await;
    let version = lake.ingest(&[1], 20, 0).await;
    let before = lake.snapshot(TableName::Logins).await;
    lake.ingest(&[1, 2], 30, 1).await;
    compact(&lake).await;
    lake.ingest(&[2], 10, 0).await;
    let counter = |transactions: &std::collections::BTreeMap<String, i64>| -> Vec<i64> {
        let maintenance = transactions
            .iter()
            .filter(|(app_id, _)| app_id.contains("maintenance"));
        maintenance.map(|(_, version)| *version).collect()
    };
    let counters = counter(&lake.snapshot(TableName::Logins).await.transactions);

    let plan = plan(&lake, version).await.unwrap();
    assert_eq!(plan.rows_lost(), Some(70));
    assert!(!plan.offsets.is_empty());
    let restored = restore::execute(&lake.lake, &plan, "tester@here").await.unwrap();
    let after = lake.snapshot(TableName::Logins).await;
    assert_eq!(after.version, restored);
    assert_eq!(lake.rows(&after), lake.rows(&before));
    let history = lake.lake.history(TableName::Logins, 1).await.unwrap().unwrap();
    assert_eq!(history[0].info.as_ref().unwrap()["who"], "tester@here");

    let pipeline = Pipeline::new("user-login", "first");
    assert_eq!(
        pipeline.offsets(&after.transactions),
        pipeline.offsets(&before.transactions)
    );
    let now = counter(&after.transactions);
    assert!(
        counters.iter().zip(&now).all(|(before, after)| after > before),
        "{counters:?} {now:?}"
    );
    // Somebody new reads from there.
    let opened = Committer::open(&lake.lake, PartitionBy::Date, pipeline.clone())
        .await
        .unwrap();
    assert_eq!(opened.offsets(), pipeline.offsets(&before.transactions));
    // Whoever ingested before is fenced, and nothing of its batch is there.
    let snapshot = after.version;
    let reader = lake.lake.clone();
    let _directory = std::mem::replace(&mut lake.directory, tempfile::tempdir().unwrap());
    let zombie = tokio::spawn(async move { lake.ingest(&[2], 5, 0).await }).await;
    let panic = zombie.unwrap_err().into_panic();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("ingestion was fenced"), "{text}");
    let newest = reader.snapshot(TableName::Logins, None).await.unwrap().unwrap();
    assert_eq!(newest.version, snapshot);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_came_later_go_back_to_where_they_began() {
    let mut lake = TestLake::new().await;
    let pipeline = Pipeline::new("user-login", "first");
    // Version 0 made the table; nothing was known of the topic.
    lake.ingest(&[0], 9, 0).await;
    let plan = plan(&lake, 0).await.unwrap();
    restore::execute(&lake.lake, &plan, "tester@here").await.unwrap();
    let after = lake.snapshot(TableName::Logins).await;
    assert_eq!(after.files, []);
    let offsets = pipeline.offsets(&after.transactions);
    assert!(
        !offsets.is_empty() && offsets.values().all(|offset| *offset == 0),
        "{offsets:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_when_files_are_gone_or_somebody_moved_on() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0], 30, 0).await;
    let version = lake.ingest(&[0], 30, 0).await;
    compact(&lake).await;
    let newest = lake.snapshot(TableName::Logins).await.version;
    let error = plan(&lake, newest).await.unwrap_err();
    assert!(matches!(error, LakeError::Configuration(_)), "{error}");

    let stale = plan(&lake, version).await.unwrap();
    lake.ingest(&[1], 3, 0).await;
    let head = lake.snapshot(TableName::Logins).await.version;
    let error = restore::execute(&lake.lake, &stale, "tester@here")
        .await
        .unwrap_err();
    assert!(matches!(error, LakeError::DataLossRefused(_)), "{error}");
    assert_eq!(lake.snapshot(TableName::Logins).await.version, head);
    let overtaken = restore::attempt(&lake.lake, &stale, "tester@here").await.unwrap();
    assert!(
        matches!(overtaken, restore::Attempt::Overtaken { .. }),
        "{overtaken:?}"
    );
    // Planned again from there it would take the new rows away as well.
    let again = stale.again(&lake.lake).await.unwrap();
    assert_eq!((again.from_version, again.to_version), (head, version));
    assert_eq!(again.rows_lost(), stale.rows_lost().map(|rows| rows + 3));

    let options = VacuumOptions {
        retention: Duration::ZERO,
        dry_run: false,
        force: true,
        now_ms: chrono::Utc::now().timestamp_millis() + 60_000,
    };
    vacuum::vacuum(&lake.lake, TableName::Logins, &options)
        .await
        .unwrap();
    let error = plan(&lake, version).await.unwrap_err();
    assert!(matches!(error, LakeError::DataLossRefused(_)), "{error}");
    assert!(error.to_string().contains("are gone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_would_be_undone_is_named() {
    let mut lake = TestLake::new().await;
    let version = lake.ingest(&[0], 30, 0).await;
    let rows = lake.rows(&lake.snapshot(TableName::Logins).await);
    let user = rows[0]
        .split("user_id=")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let subjects = Subjects::of_ids([user]).unwrap();
    let proof = erase::erase(&lake.lake, &subjects, &EraseOptions::by("tester@here"))
        .await
        .unwrap();
    let plan = plan(&lake, version).await.unwrap();
    assert_eq!(
        plan.erasures.into_iter().collect::<Vec<_>>(),
        [proof.erasure.to_string()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_rows_that_logins_needs_do_not_go() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0], 3, 3).await;
    let before = lake.snapshot(TableName::Rejected).await.version;
    lake.ingest(&[0], 3, 3).await;
    let error = restore::plan(&lake.lake, TableName::Rejected, before)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("restore logins"), "{error}");
    let logins = plan(&lake, 1).await.unwrap();
    restore::execute(&lake.lake, &logins, "tester@here")
        .await
        .unwrap();
    let plan = restore::plan(&lake.lake, TableName::Rejected, before)
        .await
        .unwrap()
        .unwrap();
    restore::execute(&lake.lake, &plan, "tester@here").await.unwrap();
    assert_eq!(lake.positions(&lake.snapshot(TableName::Rejected).await).len(), 3);
}
