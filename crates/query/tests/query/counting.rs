//! Rows counted by columns of few values, against the same count by DataFusion's own aggregate.

use std::sync::Arc;

use crate::lake::TestLake;
use crate::view::{csv, fresh};

/// Columns to count by, and whether all of them have few values.
const KEYS: &[(&str, bool)] = &[
    ("region", true),
    ("local_hour", true),
    ("kafka_partition", true),
    ("region, division", true),
    ("login_hour, local_hour", true),
    ("login_date, device_type", true),
    ("time_of_day, day_of_week, ip_class, app_version", true),
    ("locale, login_hour, login_date, device_type", true),
    ("locale, login_hour, login_date, device_type, region", false),
    ("region, user_id", false),
    ("login_date", false),
    ("region, kafka_offset", false),
];

/// The scan of so small a table has one part and needs no partial aggregate; beside the rest of the topic it does.
#[tokio::test]
async fn counts_are_those_of_the_general_way() {
    let lake = TestLake::small();
    let engine = fresh(&lake, Arc::default()).await;
    for (keys, is_few) in KEYS {
        // Never null, so that it counts the same rows, but a column.
        let general =
            format!("SELECT {keys}, count(kafka_offset) AS n FROM logins GROUP BY {keys} ORDER BY {keys}");
        let counted = general.replace("count(kafka_offset)", "count(*)");
        assert_eq!(
            csv(&engine, &counted).await,
            csv(&engine, &general).await,
            "{keys}"
        );
        let plan = |sql: &str| format!("EXPLAIN {sql}");
        let has = |lines: Vec<String>| lines.iter().any(|line| line.contains("CountExec"));
        assert_eq!(has(csv(&engine, &plan(&counted)).await), *is_few, "{keys}");
        assert!(!has(csv(&engine, &plan(&general)).await), "{keys}");
    }
}

#[tokio::test]
async fn distinct_filters_and_other_aggregates_are_right() {
    let lake = TestLake::small();
    let engine = fresh(&lake, Arc::default()).await;
    let all = lake.logins.len() + 40;
    for (sql, expected) in [
        (
            "SELECT sum(n) FROM (SELECT region, count(*) AS n FROM logins GROUP BY region)",
            all,
        ),
        (
            "SELECT sum(n) FROM (SELECT region, count(*) AS n FROM logins WHERE region = 'West' GROUP BY region)",
            {
                let west = lake.logins.iter().filter(|login| login.region == "West");
                west.count() + 40
            },
        ),
        (
            "SELECT sum(n) FROM (SELECT region, count(*) AS n FROM logins WHERE login_date = '2026-01-06' GROUP BY region)",
            {
                let day = lake
                    .logins
                    .iter()
                    .filter(|login| login.login_date == "2026-01-06");
                day.count() + 20
            },
        ),
        ("SELECT count(*) FROM (SELECT DISTINCT region FROM logins)", {
            let regions: std::collections::BTreeSet<&str> =
                lake.logins.iter().map(|login| login.region.as_str()).collect();
            regions.len()
        }),
    ] {
        assert_eq!(csv(&engine, sql).await, [expected.to_string()], "{sql}");
    }
}
