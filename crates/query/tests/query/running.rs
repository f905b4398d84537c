//! Running SQL: only reading, errors at their place, limits, several statements, and outputs that are safe to open.

use crate::lake::{TestLake, run};
use loginlake_query::print::{Format, Printer};
use loginlake_query::{QueryError, QueryOptions, StatementOutcome};

#[tokio::test]
async fn whatever_is_not_reading_is_refused() {
    let lake = TestLake::small();
    let target = lake.directory.path().join("out.csv");
    let statements = [
        "CREATE TABLE t (a INT)".to_owned(),
        "CREATE VIEW v AS SELECT 1".to_owned(),
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'".to_owned(),
        "DROP TABLE logins".to_owned(),
        "INSERT INTO logins (ip) VALUES ('::1')".to_owned(),
        "DELETE FROM logins".to_owned(),
        "UPDATE logins SET ip = ''".to_owned(),
        format!("COPY logins TO '{}'", target.display()),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "RESET datafusion.execution.batch_size".to_owned(),
        "BEGIN".to_owned(),
        "EXPLAIN INSERT INTO logins (ip) VALUES ('::1')".to_owned(),
        format!("EXPLAIN ANALYZE COPY logins TO '{}'", target.display()),
        "SELECT 1 AS a INTO t".to_owned(),
        "PREPARE p AS SELECT 1".to_owned(),
    ];
    for statement in statements {
        let error = lake.answer(&statement, Format::Csv).await.unwrap_err();
        assert!(matches!(error, QueryError::ReadOnly(_)), "{statement}: {error:?}");
        let verb = statement.split(' ').next().unwrap();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("test.sql:1:1: {verb} is refused")),
            "{text}"
        );
        assert!(text.ends_with(&"^".repeat(verb.len())), "{text}");
    }
    assert!(!target.exists());
}

#[tokio::test]
async fn a_refused_statement_keeps_those_before_it_from_running() {
    let lake = TestLake::small();
    let mut printer = Printer::new(Format::Csv, None, Vec::new());
    let result = lake
        .engine()
        .run("SELECT 1;\n DROP TABLE logins;", "x.sql", &mut printer)
        .await;
    assert!(
        result
            .unwrap_err()
            .to_string()
            .starts_with("x.sql:2:2: DROP is refused")
    );
    assert!(printer.into_inner().is_empty());
}

#[tokio::test]
async fn no_other_file_is_read_by_sql() {
    let lake = TestLake::small();
    let file = lake
        .directory
        .path()
        .join("logins/login_date=2026-01-05/part-0.parquet");
    for table in [
        format!("'{}'", file.display()),
        format!("\"{}\"", file.display()),
        "read_csv('/etc/passwd')".to_owned(),
    ] {
        let error = lake
            .answer(&format!("SELECT * FROM {table}"), Format::Csv)
            .await
            .unwrap_err();
        assert!(matches!(error, QueryError::Sql(_)), "{error:?}");
    }
}

#[tokio::test]
async fn broken_sql_is_shown_with_its_line_and_a_caret() {
    let lake = TestLake::small();
    let cases = [
        (
            "SELECT 1;\nSELECT region,\n       count(* AS n\nFROM logins",
            "test.sql:3:16: Expected: ), found: AS\n  3 |        count(* AS n\n    |                ^",
        ),
        (
            "SELECT regon\nFROM logins",
            "test.sql:1:8: no column named regon; did you mean region?\n  1 | SELECT regon\n    |        ^^^^^",
        ),
        (
            "SELECT 1\nFROM login",
            "test.sql:2:6: no table named login; the tables are logins, rejected and logins_hourly\n  2 | FROM login\n    \
             |      ^^^^^",
        ),
        (
            "SELECT\n  coutn(*) FROM logins",
            "test.sql:2:3: no function named coutn; did you mean count?\n  2 |   coutn(*) FROM logins\n    |   ^^^^^",
        ),
        (
            "SELECT 'open",
            "test.sql:1:8: Unterminated string literal\n  1 | SELECT 'open\n    |        ^",
        ),
        (
            "SELECT 1 2 3",
            "test.sql:1:10: expected ; or the end of the text, found 2\n  1 | SELECT 1 2 3\n    |          ^",
        ),
    ];
    for (sql, expected) in cases {
        let error = lake.answer(sql, Format::Csv).await.unwrap_err();
        assert!(matches!(error, QueryError::Sql(_)), "{error:?}");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn a_text_without_a_statement_is_an_error() {
    let lake = TestLake::small();
    for sql in ["", " ;; ", "-- only a comment\n/* and another */"] {
        let error = lake.answer(sql, Format::Csv).await.unwrap_err();
        assert!(matches!(error, QueryError::NoStatement { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_first_error_stops_and_keeps_what_was_answered_before() {
    let lake = TestLake::small();
    let mut printer = Printer::new(Format::Csv, None, Vec::new());
    let sql = "SELECT 1 AS a;\nSELECT 1 / (kafka_offset * 0) FROM logins;\nSELECT 2 AS b";
    let error = lake.engine().run(sql, "x.sql", &mut printer).await.unwrap_err();
    assert!(
        matches!(error, QueryError::Execution(_) | QueryError::Sql(_)),
        "{error:?}"
    );
    assert!(
        error.to_string().to_lowercase().contains("divide by zero"),
        "{error}"
    );
    assert_eq!(String::from_utf8(printer.into_inner()).unwrap(), "a\n1\n");
}

#[tokio::test]
async fn the_row_limit_holds_for_each_statement_and_is_reported() {
    let lake = TestLake::small();
    let engine = lake.engine_with(QueryOptions {
        max_rows: Some(3),
        ..QueryOptions::default()
    });
    let sql = "SELECT * FROM generate_series(1, 5); SELECT * FROM generate_series(1, 3); SELECT 1 LIMIT 0";
    let (text, summary) = run(&engine, sql, Format::Ndjson).await.unwrap();
    assert_eq!(text.lines().count(), 6);
    let outcome = |rows, truncated| StatementOutcome { rows, truncated };
    assert_eq!(
        summary.statements,
        [outcome(3, true), outcome(3, false), outcome(0, false)]
    );
}

#[tokio::test]
async fn memory_is_bounded_and_the_error_says_what_to_do() {
    let lake = TestLake::small();
    let options = QueryOptions {
        memory_limit_bytes: 4096,
        target_partitions: 1,
        ..QueryOptions::default()
    };
    let sql = "SELECT user_id, array_agg(ip) FROM logins GROUP BY user_id";
    let error = run(&lake.engine_with(options), sql, Format::Csv)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            QueryError::OutOfMemory {
                limit_bytes: 4096,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("raise the memory limit"), "{error}");
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_ended() {
    let lake = TestLake::small();
    let limit = std::time::Duration::ZERO;
    let engine = lake.engine_with(QueryOptions {
        timeout: Some(limit),
        ..QueryOptions::default()
    });
    let sql = "SELECT count(*) FROM generate_series(1, 1000000000000) AS t(n) WHERE n % 7 = 3";
    let error = run(&engine, sql, Format::Csv).await.unwrap_err();
    assert!(matches!(error, QueryError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn several_results_follow_each_other_in_every_format() {
    let lake = TestLake::small();
    let sql = "SELECT 1 AS a; SELECT 'x' AS b WHERE false; SELECT 1234.5 AS c, NULL AS d, '' AS e";
    let expected = [
        (
            Format::Table,
            " a\n───\n 1\n\n b\n───\n\n        c │ d │ e\n──────────┼───┼───\n 1,234.50 │ ∅ │\n",
        ),
        (Format::Csv, "a\n1\n\nb\n\nc,d,e\n1234.5,,\"\"\n"),
        (
            Format::Json,
            "[\n{\"a\":1}\n]\n[]\n[\n{\"c\":1234.5,\"d\":null,\"e\":\"\"}\n]\n",
        ),
        (
            Format::Ndjson,
            "{\"a\":1}\n{\"c\":1234.5,\"d\":null,\"e\":\"\"}\n",
        ),
    ];
    for (format, text) in expected {
        assert_eq!(lake.answer(sql, format).await.unwrap(), text, "{format}");
    }
}

#[tokio::test]
async fn cells_that_a_spreadsheet_would_run_are_defused_and_numbers_are_not() {
    let lake = TestLake::small();
    let sql = "SELECT '=HYPERLINK(\"x\")' AS \"@a\", '-5' AS b, -5 AS c, -0.5 AS d, '+1 2' AS e";
    let text = lake.answer(sql, Format::Csv).await.unwrap();
    assert_eq!(text, "'@a,b,c,d,e\n\"'=HYPERLINK(\"\"x\"\")\",-5,-5,-0.5,'+1 2\n");
}

#[tokio::test]
async fn explain_describe_and_show_answer() {
    let lake = TestLake::small();
    let explain = lake
        .answer("EXPLAIN SELECT region FROM logins", Format::Table)
        .await
        .unwrap();
    assert!(explain.contains("DataSourceExec"), "{explain}");
    assert!(!explain.contains("\\n"), "{explain}");
    let described = lake.answer("DESCRIBE rejected", Format::Csv).await.unwrap();
    assert!(described.contains("reason,"), "{described}");
    let shown = lake.answer("SHOW TABLES", Format::Csv).await.unwrap();
    assert!(shown.contains("lake,public,logins,"), "{shown}");
}

#[tokio::test]
async fn lists_and_times_keep_their_meaning_in_json() {
    let lake = TestLake::small();
    let sql = "SELECT event_time, login_date, flags FROM logins WHERE device_type = 'unknown' \
               ORDER BY kafka_partition, kafka_offset LIMIT 1";
    let text = lake.answer(sql, Format::Ndjson).await.unwrap();
    let row: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(row["flags"], serde_json::json!(["device_type_missing"]), "{text}");
    let (instant, date) = (
        row["event_time"].as_str().unwrap(),
        row["login_date"].as_str().unwrap(),
    );
    assert!(
        instant.starts_with(&format!("{date}T")) && instant.ends_with('Z'),
        "{text}"
    );
}
#[tokio::test]
async fn long_conditions_are_answered_and_endless_ones_refused() {
    let lake = TestLake::small();
    let condition = |terms: usize| {
        format!(
            "SELECT count(*) FROM logins WHERE {}kafka_offset >= 0",
            "kafka_offset < 0 OR ".repeat(terms)
        )
    };
    assert_eq!(lake.rows(&condition(195)).await, [lake.logins.len().to_string()]);
    let sum = format!("SELECT min(0{}) FROM logins", " + kafka_offset".repeat(395));
    assert_eq!(lake.rows(&sum).await, ["0"]);
    for sql in [
        condition(50_000),
        format!("SELECT 1{}", "+1".repeat(50_000)),
        format!("SELECT {}1", "(".repeat(50_000)),
    ] {
        let error = lake.answer(&sql, Format::Csv).await.unwrap_err();
        assert!(matches!(error, QueryError::Sql(_)), "{error}");
    }
}
