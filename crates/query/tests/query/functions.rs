//! The functions of this field (their golden answers are in `functions.slt`): the same as the contract's columns, and constants that cannot be meant.

use crate::lake::TestLake;
use loginlake_events::regions::{HEADER, RegionTable};
use loginlake_query::print::Format;
use loginlake_query::{QueryError, QueryOptions, function_names};

#[tokio::test]
async fn the_functions_say_what_the_contract_wrote() {
    let lake = TestLake::small();
    for (condition, kept) in [
        ("region_of(locale) = region", lake.logins.len()),
        ("ip_prefix(ip, 24) = ip_prefix", lake.logins.len()),
        ("cidr_contains(ip_prefix, ip)", lake.logins.len()),
        ("cidr_contains('108.228.0.0/16', ip)", lake.logins.len()),
        (
            "date_part('hour', local_time(event_time, locale)) = local_hour",
            lake.logins
                .iter()
                .filter(|login| login.local_hour.is_some())
                .count(),
        ),
        (
            "local_time(event_time, locale) IS NULL",
            lake.logins
                .iter()
                .filter(|login| login.local_hour.is_none())
                .count(),
        ),
    ] {
        let rows = lake
            .rows(&format!("SELECT count(*) FROM logins WHERE {condition}"))
            .await;
        assert_eq!(rows, [kept.to_string()], "{condition}");
    }
}

#[tokio::test]
async fn a_constant_that_cannot_be_meant_is_an_error_at_its_place() {
    let lake = TestLake::small();
    for (call, expected) in [
        (
            "cidr_contains('10.0.0.0/33', ip)",
            "test.sql:1:22: cidr_contains(cidr, ip): '10.0.0.0/33' is no network: the prefix has 0 to 32 bits",
        ),
        (
            "cidr_contains('10.1.2.3/8', ip)",
            "test.sql:1:22: cidr_contains(cidr, ip): '10.1.2.3/8' is no network: it has bits behind its prefix; write 10.0.0.0/8",
        ),
        (
            "cidr_contains('10.0.0.0/8', 'here')",
            "test.sql:1:36: cidr_contains(cidr, ip): 'here' is no IPv4 or IPv6 address",
        ),
        (
            "cidr_contains(ip)",
            "cidr_contains(cidr, ip) takes 2 arguments, not 1",
        ),
        ("cidr_contains(login_hour, ip)", "cidr is a text, not Int8"),
        ("ip_prefix(ip, 129)", "a prefix has 0 to 128 bits, not 129"),
        ("ip_prefix(ip, -1)", "a prefix has 0 to 128 bits, not -1"),
        ("ip_prefix(ip, 'a')", "bits is a whole number, not"),
        (
            "version_compare(app_version, 'new')",
            "test.sql:1:37: version_compare(a, b): 'new' is no version",
        ),
        (
            "region_of('California')",
            "test.sql:1:18: region_of(locale): 'California' is no locale",
        ),
        ("local_time(event_time, 'ZZ')", "'ZZ' is no locale"),
        ("local_time('noon', locale)", "event_time is a timestamp, not"),
    ] {
        let error = lake
            .answer(&format!("SELECT {call} FROM logins"), Format::Csv)
            .await
            .unwrap_err();
        assert!(matches!(error, QueryError::Sql(_)), "{call}: {error:?}");
        assert!(error.to_string().contains(expected), "{call}: {error}");
    }
}

#[tokio::test]
async fn a_regions_file_of_ones_own_is_used() {
    let lake = TestLake::small();
    let table = format!("{HEADER}\nCA,California,Coast,Sunny,America/New_York\n");
    let engine = lake.engine_with(QueryOptions {
        regions: Some(RegionTable::from_csv(&table).unwrap()),
        ..QueryOptions::default()
    });
    let sql = "SELECT region_of('CA') AS region, local_time(TIMESTAMP '2026-07-01T12:00:00Z', 'CA') AS t";
    let (text, _) = crate::lake::run(&engine, sql, Format::Csv).await.unwrap();
    assert_eq!(text, "region,t\nCoast,2026-07-01T08:00:00\n");
}

#[tokio::test]
async fn estimates_are_near() {
    let lake = TestLake::small();
    let sql = "SELECT approx_distinct(user_id), count(DISTINCT user_id), approx_percentile_cont(login_hour, 0.5), \
               median(login_hour), approx_median(login_hour) FROM logins";
    let rows = lake.rows(sql).await;
    let cells: Vec<f64> = rows[0].split(',').map(|cell| cell.parse().unwrap()).collect();
    assert!((cells[0] - cells[1]).abs() <= cells[1] * 0.05, "{rows:?}");
    assert!(
        (cells[2] - cells[3]).abs() <= 1.0 && (cells[4] - cells[3]).abs() <= 1.0,
        "{rows:?}"
    );
}

#[test]
fn the_functions_are_among_the_names_for_hints_and_completion() {
    let names = function_names();
    for name in [
        "cidr_contains",
        "ip_prefix",
        "local_time",
        "region_of",
        "version_compare",
        "approx_distinct",
    ] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    assert!(names.is_sorted());
}
