//! The tables as SQL sees them: the right rows, from no more files than needed, at one version.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use loginlake_lake::TableName;
use loginlake_lake::table::commit::TableWriter;
use loginlake_lake::table::schema::{PartitionBy, TableSpec};
use loginlake_query::QueryError;
use loginlake_query::print::Format;

use crate::lake::{TestLake, run};

/// The data files that the plan of `sql` names.
async fn planned_files(lake: &TestLake, sql: &str) -> Vec<String> {
    let plan = lake
        .answer(&format!("EXPLAIN {sql}"), Format::Table)
        .await
        .unwrap();
    let mut files: Vec<String> = plan
        .split(|c: char| c.is_whitespace() || "[],{}│".contains(c))
        .filter(|word| word.ends_with(".parquet"))
        .filter_map(|path| {
            path.split("login_date=")
                .nth(1)?
                .split('/')
                .next()
                .map(str::to_owned)
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_filter_on_the_date_opens_only_that_file() {
    let lake = TestLake::small();
    let all = planned_files(&lake, "SELECT region FROM logins").await;
    assert_eq!(
        all,
        [
            "2026-01-05",
            "2026-01-06",
            "2026-01-07",
            "2026-01-08",
            "2026-01-09"
        ]
    );
    let one = planned_files(
        &lake,
        "SELECT region FROM logins WHERE login_date = DATE '2026-01-06'",
    )
    .await;
    assert_eq!(one, ["2026-01-06"]);
    let two = planned_files(
        &lake,
        "SELECT region FROM logins WHERE login_date >= DATE '2026-01-08' AND region <> 'West'",
    );
    assert_eq!(two.await, ["2026-01-08", "2026-01-09"]);
    // A function of the date is decided by its value, too.
    let by_part = planned_files(
        &lake,
        "SELECT region FROM logins WHERE date_part('day', login_date) = 7",
    );
    assert_eq!(by_part.await, ["2026-01-07"]);
}

#[tokio::test]
async fn a_filter_on_another_column_leaves_files_out_by_the_logs_statistics() {
    let lake = TestLake::small();
    let one_day = "SELECT region FROM logins WHERE event_time >= TIMESTAMP '2026-01-07T00:00:00Z' \
                   AND event_time < TIMESTAMP '2026-01-08T00:00:00Z'";
    assert_eq!(planned_files(&lake, one_day).await, ["2026-01-07"]);
    let none = planned_files(&lake, "SELECT region FROM logins WHERE kafka_offset > 1000000").await;
    assert!(none.is_empty(), "{none:?}");
    let unknown = planned_files(&lake, "SELECT region FROM logins WHERE region = 'Nowhere'").await;
    assert_eq!(unknown.len(), 5, "without statistics a file is kept");
}

#[tokio::test]
async fn filters_give_the_rows_that_counting_gives() {
    let lake = TestLake::small();
    for date in ["2026-01-05", "2026-01-09", "2030-01-01"] {
        let expected = lake
            .logins
            .iter()
            .filter(|login| login.login_date == date)
            .count()
            .to_string();
        let counted = lake
            .rows(&format!(
                "SELECT count(*) FROM logins WHERE login_date = DATE '{date}'"
            ))
            .await;
        assert_eq!(counted, [expected.as_str()], "{date}");
        let sql =
            format!("SELECT count(user_id), count(login_date) FROM logins WHERE login_date = DATE '{date}'");
        assert_eq!(
            lake.rows(&sql).await,
            [format!("{expected},{expected}")],
            "{date}"
        );
    }
    let west = lake
        .logins
        .iter()
        .filter(|l| l.login_date.as_str() > "2026-01-06" && l.region == "West")
        .count();
    let sql = "SELECT count(*) FROM logins WHERE login_date > DATE '2026-01-06' AND region = 'West'";
    assert_eq!(lake.rows(sql).await, [west.to_string()]);
    let hours = lake
        .logins
        .iter()
        .filter(|login| login.local_hour.is_none())
        .count();
    assert_eq!(
        lake.rows("SELECT count(*) FROM logins WHERE local_hour IS NULL")
            .await,
        [hours.to_string()]
    );
}

#[tokio::test]
async fn counting_all_rows_opens_no_file() {
    let lake = TestLake::small();
    let sql = "SELECT count(*) FROM logins WHERE login_date < DATE '2026-01-08'";
    assert!(planned_files(&lake, sql).await.is_empty());
    let expected = lake
        .logins
        .iter()
        .filter(|login| login.login_date.as_str() < "2026-01-08")
        .count();
    assert_eq!(lake.rows(sql).await, [expected.to_string()]);
}

#[tokio::test]
async fn columns_come_in_the_order_of_the_contract_with_the_values_of_the_partition() {
    let lake = TestLake::small();
    let text = lake
        .answer(
            "SELECT * FROM logins ORDER BY kafka_partition, kafka_offset LIMIT 3",
            Format::Csv,
        )
        .await;
    let text = text.unwrap();
    let header: Vec<&str> = text.lines().next().unwrap().split(',').collect();
    let schema = loginlake_events::columns::logins_schema();
    let expected: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    assert_eq!(header, expected);
    let date = header.iter().position(|name| *name == "login_date").unwrap();
    let instant = header.iter().position(|name| *name == "event_time").unwrap();
    for row in text.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!(cells[date], &cells[instant][..10], "{row}");
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_yet_reads_as_empty() {
    let lake = TestLake::empty();
    assert_eq!(lake.rows("SELECT count(*) FROM logins").await, ["0"]);
    assert_eq!(
        lake.rows("SELECT count(*), max(reason) FROM rejected").await,
        ["0,"]
    );
    assert_eq!(
        lake.rows("SELECT sum(logins) FROM logins_hourly WHERE login_date = DATE '2026-01-05'")
            .await,
        [""]
    );
}

#[tokio::test]
async fn a_lake_without_any_table_says_how_to_fill_it() {
    let lake = TestLake::without_tables();
    let error = lake
        .answer("SELECT 1 FROM logins", Format::Csv)
        .await
        .unwrap_err();
    assert!(matches!(error, QueryError::NoTables { .. }), "{error:?}");
    assert!(error.to_string().contains("olap ingest"), "{error}");
}

#[tokio::test]
async fn an_engine_stays_at_the_version_that_it_first_saw() {
    let lake = TestLake::small();
    let engine = lake.engine();
    assert!(engine.pinned_versions().is_empty());
    let before = run(&engine, "SELECT count(*) FROM logins", Format::Csv)
        .await
        .unwrap();
    std::fs::write(
        lake.directory.path().join("logins/_delta_log/00000000000000000001.json"),
        "{\"remove\":{\"path\":\"login_date=2026-01-05/part-0.parquet\",\"dataChange\":true,\"deletionTimestamp\":1}}\n",
    )
    .unwrap();
    assert_eq!(
        run(&engine, "SELECT count(*) FROM logins", Format::Csv)
            .await
            .unwrap(),
        before
    );
    assert_eq!(engine.pinned_versions().get("logins"), Some(&Some(0)));
    let newer = lake.engine();
    assert_ne!(
        run(&newer, "SELECT count(*) FROM logins", Format::Csv)
            .await
            .unwrap(),
        before
    );
    assert_eq!(newer.pinned_versions().get("logins"), Some(&Some(1)));
}

#[tokio::test]
async fn a_file_that_was_vacuumed_meanwhile_is_said_so() {
    let lake = TestLake::small();
    std::fs::remove_file(
        lake.directory
            .path()
            .join("logins/login_date=2026-01-07/part-0.parquet"),
    )
    .unwrap();
    let error = lake
        .answer("SELECT max(region) FROM logins", Format::Csv)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, QueryError::FileGone { path } if path.contains("2026-01-07")),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_a_newer_version_added_is_null_in_files_from_before() {
    let lake = TestLake::small();
    let mut spec = TableSpec::current(TableName::Logins, PartitionBy::Date);
    let risk = Arc::new(Field::new("risk", DataType::Int8, true));
    let fields = spec.columns.fields().iter().cloned().chain([risk]);
    spec.columns = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    TableWriter::open_or_create_as(&lake.lake, &spec).await.unwrap();
    let sql = "SELECT count(*), count(risk), count(region) FROM logins WHERE risk IS NULL";
    let rows = lake.logins.len();
    assert_eq!(lake.rows(sql).await, [format!("{rows},0,{rows}")]);
    assert_eq!(
        lake.rows("SELECT user_id FROM logins WHERE risk = 1").await,
        [""; 0]
    );
}
