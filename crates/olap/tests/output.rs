//! The real `olap query`: where results go, and what is there when something goes wrong. The SQL needs no table, so the lake
//! is an empty directory.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const REGIONS: &str = "-- Which region?\nSELECT * FROM (VALUES ('West', 30), ('South', 12)) AS t(region, logins) ORDER BY 2 DESC";

struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("lake")).unwrap();
        Self { directory }
    }

    fn query(&self, sql: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_olap"))
            .current_dir(self.directory.path())
            .env_clear()
            .args(["query", "--lake", "lake", &format!("--execute={sql}")])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// What is in the directory beside the lake.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "lake").collect();
        names.sort();
        names
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn sql_may_begin_with_a_comment() {
    let place = Place::new();
    let output = Command::new(env!("CARGO_BIN_EXE_olap"))
        .current_dir(place.directory.path())
        .env_clear()
        .args(["query", "--lake", "lake", "--format", "csv", "-e", REGIONS])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "region,logins\nWest,30\nSouth,12\n");
}

#[test]
fn the_name_of_the_file_chooses_the_format() {
    let place = Place::new();
    for (name, beginning) in [
        ("out.csv", b"region,logins\nWest,30\n".as_slice()),
        ("out.json", b"[\n{\"region\":\"West\",\"logins\":30}"),
        ("out.ndjson", b"{\"region\":\"West\",\"logins\":30}\n"),
        ("out.parquet", b"PAR1"),
        ("out.txt", " region │ logins\n".as_bytes()),
    ] {
        let output = place.query(REGIONS, &["--output", name]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(output.stdout.is_empty(), "{}", stdout(&output));
        let file = fs::read(place.path(name)).unwrap();
        assert!(
            file.starts_with(beginning),
            "{name}: {}",
            String::from_utf8_lossy(&file)
        );
    }
    let output = place.query(REGIONS, &["--format", "parquet"]);
    assert_eq!(output.stdout, fs::read(place.path("out.parquet")).unwrap());
}

#[test]
fn a_query_that_fails_leaves_the_old_file_and_nothing_else() {
    let place = Place::new();
    fs::write(place.path("out.csv"), "old").unwrap();
    // Some batches are written already when the division fails.
    let sql = "SELECT 1 / (value - 30000) AS a FROM generate_series(1, 40000) AS t(value)";
    let output = place.query(sql, &["--output", "out.csv", "--chart", "out.svg"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(fs::read(place.path("out.csv")).unwrap(), b"old");
    assert_eq!(place.files(), ["out.csv"]);

    let output = place.query(REGIONS, &["--output", "no/such/out.csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("cannot write no/such/out.csv"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_chart_is_drawn_beside_the_result() {
    let place = Place::new();
    let output = place.query(REGIONS, &["--chart", "out.svg", "--format", "csv"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "region,logins\nWest,30\nSouth,12\n");
    assert!(
        stderr(&output).contains("bars: logins by region (2 rows)\n"),
        "{}",
        stderr(&output)
    );
    let svg = fs::read_to_string(place.path("out.svg")).unwrap();
    assert!(svg.contains(">Which region?</text>"), "{svg}");

    let output = place.query(REGIONS, &["--chart", "out.png", "-q"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fs::read(place.path("out.png")).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(place.files(), ["out.png", "out.svg"]);

    let output = place.query(REGIONS, &["--chart", "-", "--output", "out.csv"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).starts_with("Which region?\nlogins by region\n\n West  │████"),
        "{}",
        stdout(&output)
    );
    assert!(
        fs::read_to_string(place.path("out.csv"))
            .unwrap()
            .starts_with("region,")
    );
}

#[test]
fn what_does_not_go_together_is_a_usage_error() {
    let place = Place::new();
    let wide = "SELECT value AS n FROM generate_series(1, 60000) AS t(value)";
    for (sql, arguments, says) in [
        (
            REGIONS,
            ["--chart", "-", "--format", "csv"].as_slice(),
            "add --output FILE",
        ),
        (REGIONS, &["--chart", "out.jpeg"], "end it in .svg or .png"),
        (
            REGIONS,
            &["--format", "xml"],
            "use table, csv, json, ndjson or parquet",
        ),
        (
            "SELECT 1 AS a, 2 AS b",
            &["--chart", "out.svg"],
            "no chart fits the columns",
        ),
        (
            "SELECT 'a' AS a, 1 AS b; SELECT 1",
            &["--chart", "out.svg"],
            "a chart shows one result",
        ),
        (
            wide,
            &["--chart", "out.svg", "--output", "out.csv"],
            "too many for a chart",
        ),
        (
            "SELECT 1; SELECT 2",
            &["--output", "out.parquet"],
            "a Parquet file holds one result",
        ),
        (
            "SELECT INTERVAL '1 month' AS a",
            &["--output", "out.parquet"],
            "cannot be written as Parquet",
        ),
    ] {
        let output = place.query(sql, arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(says),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(place.files().is_empty(), "{arguments:?}: {:?}", place.files());
    }
}

#[test]
fn a_long_table_ends_and_says_so() {
    let place = Place::new();
    let sql = "SELECT value FROM generate_series(1, 10001) AS t(value)";
    let output = place.query(sql, &[]);
    assert_eq!(stdout(&output).lines().count(), 10_002);
    assert!(
        stderr(&output).contains("only the first 10000 rows are shown"),
        "{}",
        stderr(&output)
    );
    for all in [["--format", "csv"], ["--max-rows", "20000"]] {
        let output = place.query(sql, &all);
        assert!(stdout(&output).lines().count() > 10_001, "{all:?}");
        assert!(!stderr(&output).contains("only the first"), "{all:?}");
    }
}

#[test]
fn no_colour_and_no_command_of_a_value_goes_into_a_pipe() {
    let place = Place::new();
    let sql = "SELECT chr(27) || '[31mred' AS region, 1 AS logins";
    for arguments in [
        ["--format", "table"],
        ["--format", "json"],
        ["--format", "ndjson"],
        ["--chart", "-"],
    ] {
        let output = place.query(sql, &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(
            !output.stdout.contains(&0x1b),
            "{arguments:?}: {}",
            stdout(&output)
        );
        assert!(
            stdout(&output).contains("[31mred"),
            "{arguments:?}: {}",
            stdout(&output)
        );
    }
}

#[cfg(unix)]
#[test]
fn a_query_that_is_interrupted_leaves_no_file() {
    let place = Place::new();
    let endless = "SELECT a.value FROM generate_series(1, 1000000) AS a(value), generate_series(1, 1000000) AS b(value)";
    let mut query = Command::new(env!("CARGO_BIN_EXE_olap"))
        .current_dir(place.directory.path())
        .env_clear()
        .args(["query", "--lake", "lake", "--output", "out.csv", "-e", endless])
        .spawn()
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(30);
    let size = || -> u64 {
        let entries = fs::read_dir(place.directory.path()).unwrap();
        let files = entries.filter_map(|entry| entry.unwrap().metadata().ok());
        files.filter(fs::Metadata::is_file).map(|file| file.len()).sum()
    };
    while size() == 0 {
        assert!(Instant::now() < limit, "nothing was written");
        std::thread::yield_now();
    }
    let pid = query.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(query.wait().unwrap().code(), Some(130));
    assert!(place.files().is_empty(), "{:?}", place.files());
}
