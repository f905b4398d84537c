//! Every file of `sql/` says what it answers, those of `sql/hourly` answer as those of `sql/`, and the answers that the
//! project is known by are counted here a second time, without SQL.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::lake::TestLake;
use loginlake_lake::hourly::{RefreshOptions, refresh};
use loginlake_query::print::Format;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sql(name: &str) -> String {
    fs::read_to_string(repository().join("sql").join(format!("{name}.sql"))).unwrap()
}

/// The names of all files of `sql/`, in order.
fn sql_files() -> Vec<String> {
    files_of("sql")
}

/// The same of `sql/hourly/`, which asks the batch view.
fn hourly_files() -> Vec<String> {
    files_of("sql/hourly")
}

fn files_of(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(repository().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn every_file_of_sql_says_what_it_answers_and_names_its_columns() {
    let lake = TestLake::empty();
    for name in sql_files() {
        let text = sql(&name);
        let comment: Vec<&str> = text.lines().take_while(|line| line.starts_with("--")).collect();
        assert!(
            comment.first().is_some_and(|line| line.ends_with('?')),
            "{name} does not begin with its question"
        );
        let header = lake.answer(&text, Format::Csv).await.unwrap();
        for column in header.lines().next().unwrap().split(',') {
            let is_said = comment
                .iter()
                .any(|line| line.starts_with(&format!("--   {column} ")));
            assert!(is_said, "{name} does not say what {column} is");
        }
    }
}

#[tokio::test]
async fn the_batch_view_gives_the_answers_of_the_logins() {
    let names = hourly_files();
    assert!(names.len() >= 6, "{names:?}");
    for (size, lake) in [("empty", TestLake::empty()), ("small", TestLake::small())] {
        let options = RefreshOptions::at(0);
        let report = refresh(&lake.lake, &options).await.unwrap().unwrap();
        assert_eq!(report.logins, lake.logins.len() as u64);
        for name in &names {
            let of_view = lake.answer(&sql(&format!("hourly/{name}")), Format::Table).await;
            let of_view = of_view.unwrap_or_else(|error| panic!("hourly/{name} on the {size} lake: {error}"));
            let of_logins = lake.answer(&sql(name), Format::Table).await.unwrap();
            assert_eq!(of_view, of_logins, "{name} on the {size} lake");
            let text = sql(&format!("hourly/{name}"));
            assert!(
                text.lines()
                    .next()
                    .is_some_and(|line| line.starts_with("--") && line.ends_with('?'))
            );
        }
    }
}

#[tokio::test]
async fn top_regions_counts_what_the_events_say() {
    let lake = TestLake::small();
    let mut regions: BTreeMap<&str, usize> = BTreeMap::new();
    let mut divisions: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for login in &lake.logins {
        *regions.entry(&login.region).or_default() += 1;
        *divisions.entry((&login.region, &login.division)).or_default() += 1;
    }
    let mut expected: Vec<(&str, usize, &str, usize)> = divisions
        .iter()
        .map(|(&(region, division), &count)| (region, regions[region], division, count))
        .collect();
    expected.sort_by(|a, b| {
        b.1.cmp(&a.1)
            .then(a.0.cmp(b.0))
            .then(b.3.cmp(&a.3))
            .then(a.2.cmp(b.2))
    });

    let rows = lake.rows(&sql("top_regions")).await;
    let total: f64 = lake.logins.len() as f64;
    assert_eq!(rows.len(), expected.len());
    for (row, (region, region_logins, division, logins)) in rows.iter().zip(expected) {
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!(
            (cells[1], cells[2], cells[5], cells[6]),
            (
                region,
                region_logins.to_string().as_str(),
                division,
                logins.to_string().as_str()
            )
        );
        assert!(
            (cells[7].parse::<f64>().unwrap() - logins as f64 / total).abs() < 1e-12,
            "{row}"
        );
    }
}

#[tokio::test]
async fn peak_hours_are_the_peaks_of_the_events() {
    let lake = TestLake::small();
    let mut utc: BTreeMap<u8, usize> = BTreeMap::new();
    let mut local: BTreeMap<u8, usize> = BTreeMap::new();
    for login in &lake.logins {
        *utc.entry(login.login_hour).or_default() += 1;
        if let Some(hour) = login.local_hour {
            *local.entry(hour).or_default() += 1;
        }
    }
    let ranking = |hours: BTreeMap<u8, usize>| {
        let mut ranking: Vec<(u8, usize)> = hours.into_iter().collect();
        ranking.sort_by_key(|(hour, count)| (std::cmp::Reverse(*count), *hour));
        ranking
    };
    let (utc, local) = (ranking(utc), ranking(local));

    let rows = lake.rows(&sql("peak_hours")).await;
    assert_eq!(rows.len(), utc.len().max(local.len()));
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!(cells[0], (index + 1).to_string());
        for (cells, expected) in [(&cells[1..3], utc.get(index)), (&cells[4..6], local.get(index))] {
            let (hour, count) =
                expected.map_or_else(Default::default, |(h, c)| (h.to_string(), c.to_string()));
            assert_eq!(cells, [hour, count], "{row}");
        }
    }
}

#[tokio::test]
async fn nothing_is_lost_between_the_files_of_sql() {
    let lake = TestLake::small();
    for (name, column, expected) in [
        ("daily_trend", "logins", lake.logins.len()),
        ("devices", "logins", lake.logins.len()),
        ("app_versions", "logins", lake.logins.len()),
        ("time_of_day", "logins", lake.logins.len()),
        ("rejected", "records", lake.rejected),
    ] {
        let answer = lake.answer(&sql(name), Format::Csv).await.unwrap();
        let mut lines = answer.lines();
        let index = lines
            .next()
            .unwrap()
            .split(',')
            .position(|header| header == column)
            .unwrap();
        let total: usize = lines
            .map(|line| line.split(',').nth(index).unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!(total, expected, "{name}");
    }
}
