//! Parameters are values: of the declared or the inferred type, never text of the statement, and what is wrong with them is
//! said before anything runs.

use std::fs;
use std::path::Path;

use crate::lake::TestLake;
use loginlake_query::print::{Format, Printer};
use loginlake_query::{ParamValue, ParameterDefault, ParameterType, Params, QueryError, Script};

fn params(values: &[(&str, &str)]) -> Params {
    let mut params = Params::new();
    for (name, value) in values {
        params.set(*name, *value);
    }
    params
}

/// The answer as CSV lines without the header.
async fn rows(lake: &TestLake, sql: &str, values: &[(&str, &str)]) -> Result<Vec<String>, QueryError> {
    let script = Script::parse(sql, "test.sql")?;
    let mut printer = Printer::new(Format::Csv, None, Vec::new());
    lake.engine()
        .run_script(&script, &params(values), &mut printer)
        .await?;
    let text = String::from_utf8(printer.into_inner()).unwrap();
    Ok(text.lines().skip(1).map(str::to_owned).collect())
}

async fn problem(lake: &TestLake, sql: &str, values: &[(&str, &str)]) -> String {
    match rows(lake, sql, values).await {
        Err(error @ QueryError::Parameter(_)) => error.to_string(),
        other => panic!("{sql}: {other:?}"),
    }
}

fn sql_files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn the_files_of_sql_count_what_their_parameters_say() {
    let lake = TestLake::small();
    let (from, to, region) = ("2026-01-06", "2026-01-08", "West");
    let is_meant = |login: &&crate::lake::Login| {
        login.login_date.as_str() >= from && login.login_date.as_str() <= to && login.region == region
    };
    let expected = lake.logins.iter().filter(is_meant).count();
    assert!(expected > 10 && expected < lake.logins.len() / 2, "{expected}");
    for (name, sql) in sql_files() {
        if name == "rejected" {
            let all = rows(&lake, &sql, &[]).await.unwrap();
            let of_one = rows(&lake, &sql, &[("reason", "BAD_IP"), ("from", "2026-01-01")])
                .await
                .unwrap();
            let bad_ip: Vec<&String> = all.iter().filter(|row| row.contains(",BAD_IP,")).collect();
            assert!(all.len() > 1 && bad_ip.len() == 1 && of_one.len() == 1, "{all:?}");
            let records = |row: &str| row.split(',').nth(3).unwrap().to_owned();
            assert_eq!(records(&of_one[0]), records(bad_ip[0]));
            continue;
        }
        let script = Script::parse(&sql, &name).unwrap();
        let mut printer = Printer::new(Format::Ndjson, None, Vec::new());
        let values = params(&[("from", from), ("to", to), ("region", region)]);
        lake.engine()
            .run_script(&script, &values, &mut printer)
            .await
            .unwrap();
        let text = String::from_utf8(printer.into_inner()).unwrap();
        let answer: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let sum = |column: &str| answer.iter().filter_map(|row| row[column].as_u64()).sum::<u64>();
        let found = match name.as_str() {
            "peak_hours" => sum("utc_logins"),
            "peak_hours_by_region" => answer[0]["region_logins"].as_u64().unwrap(),
            _ => sum("logins"),
        };
        assert_eq!(found, expected as u64, "{name}: {text}");
    }
}

#[tokio::test]
async fn the_trend_of_some_dates_is_the_trend_of_all_dates_there() {
    let lake = TestLake::small();
    let (_, sql) = sql_files()
        .into_iter()
        .find(|(name, _)| name == "daily_trend")
        .unwrap();
    let all = rows(&lake, &sql, &[]).await.unwrap();
    let some = rows(&lake, &sql, &[("from", "2026-01-07"), ("to", "2026-01-08")])
        .await
        .unwrap();
    assert_eq!((all.len(), some.as_slice()), (5, &all[2..4]));
}

#[test]
fn every_file_of_sql_declares_what_it_takes() {
    for (name, sql) in sql_files() {
        let script = Script::parse(&sql, &format!("sql/{name}.sql")).unwrap();
        assert!(script.title().is_some_and(|title| title.ends_with('?')), "{name}");
        let names: Vec<&str> = script
            .parameters()
            .iter()
            .map(|parameter| parameter.name.as_str())
            .collect();
        assert!(names.starts_with(&["from", "to"]), "{name}: {names:?}");
        for parameter in script.parameters() {
            assert_eq!(parameter.default, ParameterDefault::Null, "{name}");
            assert!(
                parameter.kind.is_some() && !parameter.meaning.is_empty(),
                "{name}"
            );
        }
        let help = script.help();
        assert!(
            help.contains(&format!("sql/{name}.sql: ")) && help.contains("  from    date  default NULL  "),
            "{help}"
        );
        assert!(
            !help.contains("--  ") && !help.contains("Parameters:\n\n"),
            "{help}"
        );
    }
}

#[tokio::test]
async fn a_parameter_without_a_declaration_gets_the_type_of_its_place() {
    let lake = TestLake::small();
    let all = lake.logins.len();
    let sql = "SELECT kafka_offset FROM logins WHERE login_date >= $from AND region IN ($a, $b) AND local_hour < $hour \
               AND ip LIKE $ip ORDER BY kafka_partition, kafka_offset LIMIT $n";
    let values = [
        ("from", "2026-01-06"),
        ("a", "West"),
        ("b", "South"),
        ("hour", "12"),
        ("ip", "108.%"),
        ("n", "7"),
    ];
    assert_eq!(rows(&lake, sql, &values).await.unwrap().len(), 7);
    let of_all = rows(&lake, "SELECT count(*) + $n FROM logins", &[("n", "1")]);
    assert_eq!(of_all.await.unwrap(), [(all + 1).to_string()]);
    let text = rows(&lake, "SELECT $a AS a, upper($b) AS b", &[("a", "x"), ("b", "y")]);
    assert_eq!(text.await.unwrap(), ["x,Y"]);
    let explained = rows(
        &lake,
        "EXPLAIN SELECT ip FROM logins WHERE region = $a",
        &[("a", "West")],
    );
    assert!(explained.await.unwrap().concat().contains("West"));
}

#[tokio::test]
async fn a_declared_type_holds_wherever_the_parameter_stands() {
    let lake = TestLake::empty();
    let sql = "-- ?\n-- $d date\n-- $t timestamp = 2026-01-31T12:00:00Z\n-- $i integer = 3\n-- $n number = 0.5\n\
               -- $b boolean = true\n-- $s text = 'a b'\n-- $z date = NULL\n\
               SELECT $d + INTERVAL '1' DAY AS d, $t AS t, $i + 1 AS i, $n * 2 AS n, NOT $b AS b, $s || '!' AS s, $z IS NULL AS z, \
               arrow_typeof($d) AS k LIMIT $i";
    assert_eq!(
        rows(&lake, sql, &[("d", "2026-01-31")]).await.unwrap(),
        ["2026-02-01,2026-01-31T12:00:00,4,1.0,false,a b!,true,Date32"]
    );
}

#[tokio::test]
async fn a_value_is_never_part_of_the_statement() {
    let lake = TestLake::small();
    for hostile in [
        "West' OR '1'='1",
        "West'; DROP TABLE logins; --",
        "$region",
        "NULL",
        "",
        "\u{0}",
    ] {
        for sql in [
            "SELECT count(*) FROM logins WHERE region = $region",
            "-- ?\n-- $region text\nSELECT count(*) FROM logins WHERE region = $region",
        ] {
            assert_eq!(
                rows(&lake, sql, &[("region", hostile)]).await.unwrap(),
                ["0"],
                "{hostile:?}"
            );
        }
        let echo = "SELECT $region = concat($region, '') AS same";
        let echoed = rows(&lake, echo, &[("region", hostile)]).await.unwrap();
        assert_eq!(echoed, ["true"], "{hostile:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_said_with_what_is_taken() {
    let lake = TestLake::small();
    const DECLARED: &str = "-- What?\n-- $from date = NULL\n-- $region text\nSELECT count(*) FROM logins WHERE login_date >= $from \
                            AND region = $region";
    const OPEN: &str = "SELECT 1;\nSELECT count(*) FROM logins\nWHERE login_date = $day";
    for (sql, values, expected) in [
        (
            DECLARED,
            &[("regoin", "West")][..],
            "test.sql takes no parameter regoin; did you mean region?; it takes from (date), region (text)",
        ),
        (
            DECLARED,
            &[("from", "2026-01-01")],
            "test.sql: the parameter region has no value; it takes from (date), region (text)",
        ),
        (
            DECLARED,
            &[("from", "soon"), ("region", "West")],
            "test.sql: the parameter from is a date as 2026-01-31, not \"soon\"; it takes from (date), region (text)",
        ),
        (
            OPEN,
            &[],
            "test.sql: the parameter day has no value; it takes day",
        ),
        (
            OPEN,
            &[("day", "Monday")],
            "test.sql:3:20: the parameter day is a date as 2026-01-31, not \"Monday\"\n  3 | WHERE login_date = $day\n    |        \
             \u{20}           ^^^^",
        ),
        (
            "SELECT 1",
            &[("a", "1")],
            "test.sql takes no parameter a; it takes none",
        ),
        (
            "SELECT count(*) FROM logins WHERE local_hour = $hour",
            &[("hour", "300")],
            "test.sql:1:48: the parameter hour is a whole number that fits the column, not \"300\"\n",
        ),
    ] {
        let error = problem(&lake, sql, values).await;
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}

#[tokio::test]
async fn a_text_that_takes_something_unclear_is_refused() {
    let lake = TestLake::small();
    for (sql, expected) in [
        ("SELECT ?", "test.sql:1:8: ? cannot be given a value"),
        ("SELECT $1", "test.sql:1:8: $1 cannot be given a value"),
        (
            "-- ?\n-- $from date = NULL\nSELECT $from, $form",
            "test.sql:3:15: $form is not declared in the comment that the text begins with; did you mean from?",
        ),
        (
            "-- ?\n-- $from date = NULL\nSELECT 1",
            "test.sql:2:4: $from is declared, but no statement uses it",
        ),
        (
            "SELECT count(*) FROM logins WHERE region = $a AND login_date = $a",
            "test.sql:1:1: $a is ",
        ),
    ] {
        let error = rows(&lake, sql, &[("a", "x")]).await.unwrap_err();
        assert!(matches!(error, QueryError::Sql(_)), "{error:?}");
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn an_assignment_is_a_name_and_all_behind_the_first_equals_sign() {
    let parsed = |text: &str| text.parse::<ParamValue>().map(|given| (given.name, given.value));
    let given = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
    assert_eq!(parsed("a=b=c"), given("a", "b=c"));
    assert_eq!(parsed("$from=2026-01-31"), given("from", "2026-01-31"));
    assert_eq!(parsed("a="), given("a", ""));
    for wrong in ["a", "=b", "a b=c", "1=x", "é=x"] {
        let error = parsed(wrong).unwrap_err();
        assert!(error.to_string().contains("write name=value"), "{error}");
    }
    assert_eq!(ParameterType::ALL.map(ParameterType::as_str).len(), 6);
}

#[tokio::test]
async fn several_statements_share_their_parameters() {
    let lake = TestLake::small();
    let sql = "SELECT $a AS x; SELECT $b AS y; SELECT count(*) FROM logins WHERE region = $a";
    let script = Script::parse(sql, "x.sql").unwrap();
    assert_eq!(script.statement_count(), 3);
    let values = params(&[("a", "West"), ("b", "q")]);
    let engine = lake.engine();
    let mut second = engine.stream(&script, 1, &values).await.unwrap();
    assert_eq!(second.schema().field(0).name(), "y");
    let batch = second.next().await.unwrap().unwrap();
    assert_eq!(batch.num_rows(), 1);
    assert!(second.next().await.unwrap().is_none() && second.next().await.unwrap().is_none());
    assert_eq!(second.outcome().rows, 1);
    assert_eq!(values.only(script.parameters()), values);
    assert_eq!(
        params(&[("a", "1"), ("other", "2")]).only(script.parameters()),
        params(&[("a", "1")])
    );
}
