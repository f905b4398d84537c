//! A query stays within its memory, its temporary files and its time, and ends at once when nobody waits for it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::lake::{TestLake, run};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use loginlake_query::print::Format;
use loginlake_query::{Params, QueryEngine, QueryError, QueryOptions, Script};

/// Would take days.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 100000) AS a(x), generate_series(1, 10000000000) AS b(y) \
                       WHERE (a.x * b.y) % 7 = 3";

/// Rows in an order that has nothing to do with the wanted one, wide enough to need more than the memory.
const SORTED: &str = "SELECT x, x + 1 AS a, x + 2 AS b, x + 3 AS c, x + 4 AS d, x + 5 AS e, x + 6 AS f, x + 7 AS g, x + 8 AS h \
                      FROM generate_series(1, 600000) AS t(x) ORDER BY (x * 7919) % 1000003, x";

fn files_in(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

fn spilling(lake: &TestLake, directory: &Path, max_spill_bytes: u64) -> QueryEngine {
    lake.engine_with(QueryOptions {
        memory_limit_bytes: 32 << 20,
        spill_directory: directory.to_owned(),
        max_spill_bytes,
        target_partitions: 2,
        ..QueryOptions::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sort_over_its_memory_spills_and_is_right() {
    let (lake, directory) = (TestLake::empty(), tempfile::tempdir().unwrap());
    let engine = spilling(&lake, directory.path(), 1 << 30);
    let script = Script::parse(SORTED, "-e").unwrap();
    let mut rows = engine.stream(&script, 0, &Params::new()).await.unwrap();
    let mut last = None;
    let mut sum = 0;
    while let Some(batch) = rows.next().await.unwrap() {
        // A spill file has no name.
        assert_eq!(files_in(directory.path()), 0);
        for x in batch.column(0).as_primitive::<Int64Type>().values() {
            let key = ((x * 7919) % 1_000_003, *x);
            assert!(last < Some(key), "{last:?} before {key:?}");
            last = Some(key);
            sum += x;
        }
    }
    assert_eq!((rows.outcome().rows, sum), (600_000, 600_000 * 600_001 / 2));
    assert!(engine.spilled_bytes() > 1 << 20, "{}", engine.spilled_bytes());
    assert_eq!(files_in(directory.path()), 0);
}

/// Each of them sorts several times, and each sort keeps something aside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_sql_are_answered_with_little_memory() {
    let lake = TestLake::small();
    let engine = lake.engine_with(QueryOptions {
        memory_limit_bytes: 8 << 20,
        target_partitions: 2,
        ..QueryOptions::default()
    });
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql");
    let mut answered = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            let sql = std::fs::read_to_string(&path).unwrap();
            run(&engine, &sql, Format::Csv)
                .await
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            answered += 1;
        }
    }
    assert!(answered >= 8, "{answered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_files_have_a_limit_that_the_error_names() {
    let (lake, directory) = (TestLake::empty(), tempfile::tempdir().unwrap());
    let engine = spilling(&lake, directory.path(), 1 << 20);
    let error = run(&engine, SORTED, Format::Csv).await.unwrap_err();
    assert!(
        matches!(error, QueryError::SpillFull { limit_bytes } if limit_bytes == 1 << 20),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("more than 1 MiB of temporary files"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spill_directory_that_is_not_there_is_named() {
    let lake = TestLake::empty();
    let engine = spilling(&lake, Path::new("/nowhere/at/all"), 1 << 30);
    let error = run(&engine, SORTED, Format::Csv).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_would_run_for_days_ends_at_its_time_limit() {
    let lake = TestLake::empty();
    let limit = Duration::from_millis(200);
    let engine = lake.engine_with(QueryOptions {
        timeout: Some(limit),
        ..QueryOptions::default()
    });
    let began = Instant::now();
    let error = run(&engine, ENDLESS, Format::Csv).await.unwrap_err();
    assert!(matches!(error, QueryError::Timeout { .. }), "{error:?}");
    assert!(
        began.elapsed() < limit + Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    nothing_is_held(&engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_nobody_waits_for_ends() {
    let (lake, directory) = (TestLake::empty(), tempfile::tempdir().unwrap());
    let endless_rows =
        "SELECT a.x FROM generate_series(1, 10000) AS a(x), generate_series(1, 10000000000) AS b(y)";
    let engine = spilling(&lake, directory.path(), 1 << 30);
    let script = Script::parse(endless_rows, "-e").unwrap();
    let mut rows = engine.stream(&script, 0, &Params::new()).await.unwrap();
    assert!(rows.next().await.unwrap().is_some());
    assert!(engine.held_bytes() > 0);
    drop(rows);
    nothing_is_held(&engine).await;

    // Before the first row, too.
    let script = Script::parse(ENDLESS, "-e").unwrap();
    let none = Params::new();
    let waiting = tokio::time::timeout(Duration::from_millis(100), engine.stream(&script, 0, &none));
    assert!(waiting.await.is_err());
    nothing_is_held(&engine).await;
}

/// Waits until the operators of an engine's queries are gone.
async fn nothing_is_held(engine: &QueryEngine) {
    let limit = Instant::now() + Duration::from_secs(10);
    while engine.held_bytes() > 0 {
        assert!(
            Instant::now() < limit,
            "{} bytes are held on",
            engine.held_bytes()
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_row_limit_ends_a_query_that_has_no_end() {
    let lake = TestLake::empty();
    let engine = lake.engine_with(QueryOptions {
        max_rows: Some(10),
        ..QueryOptions::default()
    });
    let sql = "SELECT x FROM generate_series(1, 1000000000000) AS t(x)";
    let (text, summary) = run(&engine, sql, Format::Csv).await.unwrap();
    assert_eq!(text.lines().count(), 11);
    assert!(summary.statements[0].truncated);
}
