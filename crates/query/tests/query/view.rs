//! Which state of the lake a query sees: a version and the rows beyond it, the versions of an earlier answer, a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use loginlake_events::Contract;
use loginlake_events::columns::{LoginsBuilder, SourcePosition};
use loginlake_lake::TableName;
use loginlake_query::print::{Format, Printer};
use loginlake_query::{
    FreshView, Params, QueryEngine, QueryError, QueryOptions, Script, Tail, TailError, TailNeed, View,
    tables_named,
};

use crate::lake::{TestLake, run};

/// 2026-01-06T00:00:00Z, one of the dates of the lake, and a date that it does not have.
const DATES: [(i64, &str); 2] = [(1_767_657_600, "2026-01-06"), (1_772_323_200, "2026-03-01")];
/// Rows beyond the table of each of the dates, in each part.
const ROWS: usize = 10;

/// Two parts with rows of both dates; the second one can break off.
#[derive(Debug, Default)]
pub struct Beyond {
    breaks_off: Option<TailError>,
    reads: AtomicUsize,
    /// What was asked for, by each read.
    needs: Mutex<Vec<TailNeed>>,
}

impl Tail for Beyond {
    fn parts(&self, table: TableName) -> usize {
        if table == TableName::Logins { 2 } else { 0 }
    }

    fn read(
        &self,
        _table: TableName,
        part: usize,
        need: &TailNeed,
        sink: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<(), TailError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.needs.lock().unwrap().push(need.clone());
        for (index, (seconds, _)) in DATES.iter().enumerate() {
            if !sink(rows(part, index, *seconds)) {
                return Ok(());
            }
        }
        match &self.breaks_off {
            Some(error) if part == 1 => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

fn rows(part: usize, batch: usize, seconds: i64) -> RecordBatch {
    let contract = Contract::default();
    let mut builder = LoginsBuilder::with_capacity(ROWS);
    for number in 0..ROWS {
        let payload = format!(
            r#"{{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","app_version":"9.9.9","ip":"1.2.3.4","locale":"CA","device_id":"d","timestamp":{seconds},"device_type":"web"}}"#
        );
        let kafka_timestamp_ms = Some(seconds * 1_000);
        let event = contract
            .decode(Some(payload.as_bytes()), kafka_timestamp_ms)
            .unwrap();
        let position = SourcePosition {
            kafka_partition: i32::try_from(part).unwrap(),
            kafka_offset: i64::try_from(1_000 + batch * ROWS + number).unwrap(),
            kafka_timestamp_ms,
        };
        builder.append(&event, position, seconds * 1_000);
    }
    builder.finish()
}

pub async fn fresh(lake: &TestLake, tail: Arc<Beyond>) -> QueryEngine {
    let snapshot = lake.lake.snapshot(TableName::Logins, None).await.unwrap();
    let view = View::Fresh(FreshView {
        snapshots: BTreeMap::from([(TableName::Logins, snapshot), (TableName::Rejected, None)]),
        tail,
    });
    open(lake, view)
}

fn open(lake: &TestLake, view: View) -> QueryEngine {
    let options = QueryOptions {
        target_partitions: 2,
        ..QueryOptions::default()
    };
    QueryEngine::open_view(&lake.lake, options, view).unwrap()
}

pub async fn csv(engine: &QueryEngine, sql: &str) -> Vec<String> {
    let (text, _) = run(engine, sql, Format::Csv)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    text.lines().skip(1).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_fresh_table_has_its_rows_and_those_beyond() {
    let lake = TestLake::small();
    let engine = fresh(&lake, Arc::default()).await;
    let all = lake.logins.len() + 4 * ROWS;
    assert_eq!(
        csv(&engine, "SELECT count(*) FROM logins").await,
        [all.to_string()]
    );
    assert_eq!(
        csv(&engine, "SELECT count(*) FROM rejected").await,
        ["0"],
        "nothing is beyond a table that is not there"
    );
    // A table that is named twice is the same table both times.
    let joined = "SELECT count(*) FROM logins a JOIN logins b \
                  ON a.kafka_partition = b.kafka_partition AND a.kafka_offset = b.kafka_offset";
    assert_eq!(csv(&engine, joined).await, [all.to_string()]);
    let columns = "SELECT DISTINCT region, login_date FROM logins WHERE app_version = '9.9.9' ORDER BY 2";
    let expected = DATES.map(|(_, date)| format!("West,{date}"));
    assert_eq!(csv(&engine, columns).await, expected);
}

#[tokio::test]
async fn a_filter_that_leaves_files_out_is_asked_of_the_rows_beyond_too() {
    let lake = TestLake::small();
    let engine = fresh(&lake, Arc::default()).await;
    for (_, date) in DATES {
        let of_lake = lake
            .logins
            .iter()
            .filter(|login| login.login_date == date)
            .count();
        let sql = format!("SELECT count(*) FROM logins WHERE login_date = DATE '{date}'");
        assert_eq!(csv(&engine, &sql).await, [(of_lake + 2 * ROWS).to_string()]);
    }
    let neither = "SELECT count(*) FROM logins WHERE login_date = DATE '2020-01-01'";
    assert_eq!(csv(&engine, neither).await, ["0"]);
}

/// What the parts of the rest are asked for by a query: the same of both.
async fn needed(sql: &str, values: &[(&str, &str)]) -> Option<TailNeed> {
    let lake = TestLake::small();
    let tail = Arc::new(Beyond::default());
    let engine = fresh(&lake, Arc::clone(&tail)).await;
    let script = Script::parse(sql, "test.sql").unwrap();
    let mut params = Params::new();
    for (name, value) in values {
        params.set(*name, *value);
    }
    let mut printer = Printer::new(Format::Csv, None, Vec::new());
    engine.run_script(&script, &params, &mut printer).await.unwrap();
    let needs = tail.needs.lock().unwrap();
    assert!(needs.iter().all(|need| *need == needs[0]), "{needs:?}");
    needs.first().cloned()
}

#[tokio::test]
async fn only_the_columns_and_times_of_the_query_are_asked_of_the_rows_beyond() {
    let day_us = |days: i64| days * 86_400_000_000;
    let of = async |sql: &str| {
        let need = needed(sql, &[]).await.unwrap();
        let mut columns = need.columns;
        columns.sort();
        (
            columns.join(","),
            need.times.event.from_us,
            need.times.event.to_us,
            need.times.kafka,
        )
    };
    let (least, most) = (i64::MIN, i64::MAX);
    assert_eq!(
        of("SELECT count(*) FROM logins").await,
        (String::new(), least, most, None)
    );
    assert_eq!(
        of("SELECT region, division, count(*) FROM logins GROUP BY 1, 2").await,
        ("division,region".to_owned(), least, most, None)
    );
    assert_eq!(
        of("SELECT region FROM logins WHERE login_date >= '2026-01-06' AND login_date < '2026-01-08'").await,
        (
            "login_date,region".to_owned(),
            day_us(20_459),
            day_us(20_461) - 1,
            None
        )
    );
    for literal in ["'2026-01-06T00:00:01Z'", "TIMESTAMP '2026-01-06T00:00:01Z'"] {
        let sql = format!("SELECT count(*) FROM logins WHERE event_time >= {literal}");
        let (columns, from_us, ..) = of(&sql).await;
        assert_eq!(
            (columns.as_str(), from_us),
            ("event_time", day_us(20_459) + 1_000_000),
            "{sql}"
        );
    }
    let (_, _, to_us, kafka) = of(
        "SELECT count(*) FROM logins WHERE CAST(kafka_timestamp AS DATE) <= DATE '2026-01-06' AND event_time < '2026-01-06T00:00:00Z'",
    )
    .await;
    assert_eq!(
        (to_us, kafka.unwrap().to_us),
        (day_us(20_459) - 1, day_us(20_460) - 1)
    );
    let impossible =
        "SELECT count(*) FROM logins WHERE login_date > '2026-01-06' AND event_time < '2026-01-05T00:00:00Z'";
    assert_eq!(needed(impossible, &[]).await, None, "no row can match");
}

#[tokio::test]
async fn the_parameters_of_sql_bound_the_rows_beyond() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sql/top_regions.sql");
    let sql = std::fs::read_to_string(path).unwrap();
    let all = needed(&sql, &[]).await.unwrap();
    assert_eq!((all.columns.len(), all.times), (2, Default::default()), "{all:?}");
    let some = needed(&sql, &[("from", "2026-01-06"), ("to", "2026-01-06")])
        .await
        .unwrap();
    assert_eq!(some.times.event.from_us, 20_459 * 86_400_000_000);
    assert_eq!(some.times.event.to_us, 20_460 * 86_400_000_000 - 1);
}

#[tokio::test]
async fn a_limit_is_kept() {
    let lake = TestLake::small();
    let engine = fresh(&lake, Arc::default()).await;
    let all = lake.logins.len() + 4 * ROWS;
    for limit in [1, ROWS + 1, all, all + 7] {
        let sql = format!("SELECT kafka_offset FROM logins LIMIT {limit}");
        assert_eq!(csv(&engine, &sql).await.len(), limit.min(all));
    }
}

#[tokio::test]
async fn rows_that_cannot_be_read_fail_the_query() {
    let lake = TestLake::small();
    let error = TailError {
        message: "records of t are gone".to_owned(),
        is_gone: true,
    };
    let tail = Arc::new(Beyond {
        breaks_off: Some(error.clone()),
        ..Beyond::default()
    });
    let engine = fresh(&lake, Arc::clone(&tail)).await;
    for sql in [
        "SELECT count(*) FROM logins",
        "SELECT region, count(*) FROM logins GROUP BY region ORDER BY 2",
        "SELECT count(*) FROM logins a JOIN logins b ON a.kafka_offset = b.kafka_offset",
    ] {
        match run(&engine, sql, Format::Csv).await {
            Err(QueryError::Tail(found)) => assert_eq!(found, error, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    assert!(tail.reads.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn what_an_answer_does_not_hold_cannot_be_named() {
    let lake = TestLake::small();
    let versions = BTreeMap::from([(TableName::Logins, Some(0))]);
    let engine = open(&lake, View::Versions(versions));
    assert_eq!(csv(&engine, "SELECT count(*) > 0 FROM logins").await, ["true"]);
    let other = run(&engine, "SELECT count(*) FROM rejected", Format::Csv).await;
    assert!(matches!(
        other,
        Err(QueryError::NotInView {
            table: "rejected",
            ..
        })
    ));
    let engine = fresh(&lake, Arc::default()).await;
    let hourly = run(&engine, "SELECT 1 FROM logins_hourly", Format::Csv).await;
    assert!(matches!(
        hourly,
        Err(QueryError::NotInView {
            table: "logins_hourly",
            ..
        })
    ));
}

#[tokio::test]
async fn a_time_before_the_table_has_no_version() {
    let lake = TestLake::small();
    let early = run(&open(&lake, View::Time(0)), "SELECT 1 FROM logins", Format::Csv).await;
    assert!(matches!(early, Err(QueryError::NoVersionAt { table: "logins" })));
    let now = open(&lake, View::Time(i64::MAX));
    assert_eq!(csv(&now, "SELECT count(*) > 0 FROM logins").await, ["true"]);
    assert_eq!(now.pinned_versions()["logins"], Some(0));
}

#[tokio::test]
async fn what_is_known_of_a_table_is_its_version_its_rows_and_its_newest_event() {
    let lake = TestLake::small();
    let engine = lake.engine();
    assert!(engine.table_facts().is_empty());
    let newest = csv(
        &engine,
        "SELECT to_unixtime(date_trunc('second', max(event_time))) FROM logins",
    )
    .await;
    let facts = engine.table_facts();
    assert_eq!(facts.len(), 1);
    assert_eq!(
        (facts[0].version, facts[0].rows),
        (Some(0), Some(lake.logins.len() as u64))
    );
    let newest_event_ms = facts[0].newest_event_ms.unwrap();
    assert_eq!((newest_event_ms / 1_000).to_string(), newest[0]);
}

#[test]
fn the_tables_that_a_text_names_are_known_before_it_runs() {
    let named = |sql: &str| tables_named(sql);
    let (logins, rejected) = (TableName::Logins, TableName::Rejected);
    assert_eq!(
        named("SELECT 1 FROM Logins l WHERE x IN (SELECT y FROM lake.public.rejected)"),
        BTreeSet::from([logins, rejected])
    );
    let cte = "WITH logins_hourly AS (SELECT 1 FROM logins) SELECT * FROM logins_hourly; SELECT 2";
    assert!(named(cte).contains(&logins));
    let all: BTreeSet<TableName> = TableName::ALL.into_iter().collect();
    for sql in [
        "DESCRIBE logins",
        "SHOW TABLES",
        "SELECT * FROM information_schema.columns",
    ] {
        assert_eq!(named(sql), all, "{sql}");
    }
    assert!(named("SELECT FROM WHERE").is_empty());
    assert!(named("SELECT 1").is_empty());
}
