//! What once went on, or failed, although it should have stopped, or spilled.

use std::time::{Duration, Instant};

use crate::lake::{TestLake, run};
use arrow::array::AsArray;
use loginlake_query::print::Format;
use loginlake_query::{Params, QueryEngine, QueryOptions, Script};

/// Conditions that never hold: the joins give no row and no batch.
const NEVER: [&str; 3] = [
    "SELECT count(*) FROM generate_series(1, 100000) AS a(x) \
     JOIN generate_series(1, 10000000000) AS b(y) ON a.x * b.y < 0",
    "SELECT count(*) FROM generate_series(1, 100000) AS a(x) \
     LEFT JOIN generate_series(1, 10000000000) AS b(y) ON a.x * b.y < 0",
    "SELECT count(*) FROM (SELECT x, x % 1 AS k FROM generate_series(1, 100000) AS a(x)) \
     JOIN (SELECT y, y % 1 AS l FROM generate_series(1, 1000000000) AS b(y)) ON k = l AND x * y < 0",
];

/// Waits until the operators of an engine's queries are gone: then no thread computes for them.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_whose_condition_never_holds_ends_when_nobody_waits() {
    let lake = TestLake::empty();
    for sql in NEVER {
        let engine = lake.engine_with(QueryOptions::default());
        let script = Script::parse(sql, "-e").unwrap();
        let none = Params::new();
        let mut asking = Box::pin(engine.stream(&script, 0, &none));
        let limit = Instant::now() + Duration::from_secs(60);
        let mut held = 0;
        // Until it joins: then one side is held.
        while held < 100_000 {
            assert!(Instant::now() < limit, "{sql}: it does not begin");
            let waited = tokio::time::timeout(Duration::from_millis(100), asking.as_mut()).await;
            assert!(waited.is_err(), "{sql}: it has an end");
            held = engine.held_bytes();
        }
        drop(asking);
        nothing_is_held(&engine).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sort_of_long_texts_fits_a_small_memory_limit() {
    let (lake, directory) = (TestLake::empty(), tempfile::tempdir().unwrap());
    let engine = lake.engine_with(QueryOptions {
        memory_limit_bytes: 24 << 20,
        spill_directory: directory.path().to_owned(),
        target_partitions: 2,
        ..QueryOptions::default()
    });
    // 36 MB of texts.
    let sql = "SELECT repeat(CAST((x * 7919) % 100003 + 100000 AS VARCHAR), 1000) AS text \
               FROM generate_series(1, 6000) AS t(x) ORDER BY text";
    let script = Script::parse(sql, "-e").unwrap();
    let mut rows = engine.stream(&script, 0, &Params::new()).await.unwrap();
    let mut last = String::new();
    while let Some(batch) = rows.next().await.unwrap() {
        for text in arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8)
            .unwrap()
            .as_string::<i32>()
        {
            let text = text.unwrap();
            assert!(
                last.as_str() < text,
                "{} before {}",
                &last[..12.min(last.len())],
                &text[..12]
            );
            text.clone_into(&mut last);
        }
    }
    assert_eq!(rows.outcome().rows, 6_000);
    assert!(engine.spilled_bytes() > 10 << 20, "{}", engine.spilled_bytes());
}

/// A process that asks for such memory ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_does_not_give_more_than_memory_holds() {
    let lake = TestLake::empty();
    let engine = lake.engine_with(QueryOptions::default());
    for value in [
        "repeat('x', 2000000000)",
        "repeat(CAST(x AS VARCHAR), 1000000000)",
        "lpad('x', 1000000000)",
        "rpad('x', 1000000000, 'é')",
        "array_repeat(x, 100000000000)",
        "array_repeat(repeat('x', 1000000), 1000000)",
        "array_resize([x], 100000000000, 1)",
        "range(100000000000)",
        "range(x, 100000000000)",
        "generate_series(x, 100000000000, 2)",
        "generate_series(100000000000, x, -2)",
        "range(TIMESTAMP '2000-01-01', TIMESTAMP '2200-01-01', INTERVAL '1 microsecond')",
        "range(DATE '0001-01-01', DATE '9999-01-01', INTERVAL '1 nanosecond')",
    ] {
        let sql = format!("SELECT {value} FROM generate_series(1, 3) AS t(x)");
        let error = run(&engine, &sql, Format::Csv).await.expect_err(&sql);
        let said = error.to_string();
        assert!(said.contains("at once: ask for less"), "{sql}: {said}");
    }
    for (value, wanted) in [
        ("length(repeat('xy', 1000000))", "2000000"),
        ("repeat('xy', -1)", ""),
        ("lpad('x', 3, '*')", "**x"),
        ("array_length(range(1000000))", "1000000"),
        ("array_length(range(5, 0, -2))", "3"),
        (
            "array_length(generate_series(DATE '2026-01-01', DATE '2026-12-31', INTERVAL '1 month'))",
            "12",
        ),
        ("range(NULL, 5) IS NULL", "true"),
        ("array_length(array_repeat([1, 2], 3))", "3"),
    ] {
        let sql = format!("SELECT {value} AS v FROM generate_series(1, 1) AS t(x)");
        let (text, _) = run(&engine, &sql, Format::Csv)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(
            text.lines().nth(1).unwrap_or_default().trim_matches('"'),
            wanted,
            "{sql}"
        );
    }
}
