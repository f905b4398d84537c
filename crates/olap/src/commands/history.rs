//! `olap history`.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, ValueEnum};
use loginlake_lake::TableName;
use loginlake_lake::history::CommitSummary;
use loginlake_lake::ingest::pipeline::RETIRED;
use loginlake_olap::setup;
use loginlake_service::config::{ConfigFile, LakeArgs};
use loginlake_service::exit::ExitError;
use serde_json::{Value, json};

use super::print_line;

/// The first part of the application ids of this software.
const OURS: &str = "loginlake";
/// The second part of those that are counters of maintenance.
const MAINTENANCE: &str = "maintenance";
/// Kafka partitions that a line of the table names.
const SHOWN_PARTITIONS: usize = 8;
/// Longest cell, characters: another engine may write anything.
const MAX_CELL: usize = 200;

/// Arguments of `olap history`.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// The table
    #[arg(long, value_enum, default_value_t = HistoryTable::Logins, value_name = "TABLE")]
    table: HistoryTable,
    /// Most commits to list
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// table: for the eye; json: one array; ndjson: an object a line. Both with every offset and all that a commit says
    #[arg(long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    format: Format,
}

/// A table that has a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HistoryTable {
    /// Accepted logins.
    Logins,
    /// Rejected records.
    Rejected,
    /// The batch view.
    #[value(name = "logins_hourly")]
    LoginsHourly,
}

impl From<HistoryTable> for TableName {
    fn from(table: HistoryTable) -> Self {
        match table {
            HistoryTable::Logins => TableName::Logins,
            HistoryTable::Rejected => TableName::Rejected,
            HistoryTable::LoginsHourly => TableName::LoginsHourly,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Ndjson,
}

/// Runs it.
pub async fn run(args: HistoryArgs, file: &ConfigFile) -> Result<(), ExitError> {
    let lake = setup::lake(&args.lake.resolve(file)?)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let Some(commits) = lake
        .history(args.table.into(), limit)
        .await
        .map_err(setup::lake_error)?
    else {
        return Err(super::no_tables(&lake));
    };
    match args.format {
        Format::Table => print_line(table(&commits).trim_end())?,
        Format::Json => {
            let all: Vec<Value> = commits.iter().map(as_json).collect();
            print_line(&format!("{:#}", Value::Array(all)))?;
        }
        Format::Ndjson => {
            for commit in &commits {
                print_line(&as_json(commit).to_string())?;
            }
        }
    }
    if commits.len() == limit && commits.last().is_some_and(|oldest| oldest.version > 0) {
        eprintln!(
            "older commits are not listed: --limit {} lists more",
            limit.saturating_mul(10)
        );
    }
    Ok(())
}

/// One line for each commit. Numbers are right, the offsets, which may be many, are last.
fn table(commits: &[CommitSummary]) -> String {
    const HEADER: [&str; 8] = [
        "version",
        "committed (UTC)",
        "operation",
        "rows",
        "files",
        "added",
        "by",
        "next offsets",
    ];
    const RIGHT: [bool; 8] = [true, false, false, true, true, true, false, false];
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(commits.iter().map(|commit| {
        [
            commit.version.to_string(),
            time(commit)
                .map(|time| time.format("%Y-%m-%d %H:%M:%S").to_string())
                .unwrap_or_else(|| "?".to_owned()),
            cell(commit.operation.as_deref().unwrap_or("?")),
            change(commit.rows_added, commit.rows_removed),
            change(Some(commit.files_added), Some(commit.files_removed)),
            if commit.files_added == 0 {
                String::new()
            } else {
                bytes_text(commit.bytes_added)
            },
            cell(&by(commit)),
            cell(&offsets_text(commit)),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEADER.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(RIGHT) {
            let width = *width;
            line.push_str(&if right {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:<width$}  ")
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn time(commit: &CommitSummary) -> Option<DateTime<Utc>> {
    commit.timestamp_ms.and_then(DateTime::from_timestamp_millis)
}

/// `+12`, `-3`, `+12 -12`; `?` for what the commit does not say.
fn change(added: Option<u64>, removed: Option<u64>) -> String {
    match (added, removed) {
        (Some(0), Some(0)) => "0".to_owned(),
        (Some(added), Some(0)) => format!("+{added}"),
        (Some(0), Some(removed)) => format!("-{removed}"),
        (added, removed) => {
            let text =
                |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
            format!("+{} -{}", text(added), text(removed))
        }
    }
}

/// Bytes with a binary unit and one decimal.
fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        // 1023.95 would be shown as 1024.0.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// Whoever a person's command says it was, else the software.
fn by(commit: &CommitSummary) -> String {
    let who = commit.info.as_ref().and_then(|info| info["who"].as_str());
    who.or(commit.engine.as_deref()).unwrap_or("?").to_owned()
}

/// One line, without what would move the cursor, and bounded.
fn cell(text: &str) -> String {
    let mut cell: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_CELL)
        .collect();
    if text.chars().nth(MAX_CELL).is_some() {
        cell.push('…');
    }
    cell
}

/// Where the commit says that a Kafka partition stands.
struct Offset<'a> {
    topic: &'a str,
    topic_id: &'a str,
    partition: i32,
    next: i64,
}

fn offsets(commit: &CommitSummary) -> Vec<Offset<'_>> {
    let mut offsets: Vec<Offset<'_>> = commit
        .transactions
        .iter()
        .filter_map(|(app_id, next)| {
            let (ours, rest) = app_id.split_once('/')?;
            let (rest, partition) = rest.rsplit_once('/')?;
            let (topic, topic_id) = rest.rsplit_once('/')?;
            let partition = partition.parse().ok()?;
            (ours == OURS && topic != MAINTENANCE).then_some(Offset {
                topic,
                topic_id,
                partition,
                next: *next,
            })
        })
        .collect();
    offsets.sort_by_key(|offset| (offset.topic, offset.topic_id, offset.partition));
    offsets
}

/// `0:1200 1:900`, then what an operator decided, or what else the commit is about.
fn offsets_text(commit: &CommitSummary) -> String {
    let offsets = offsets(commit);
    let mut words: Vec<String> = offsets
        .iter()
        .take(SHOWN_PARTITIONS)
        .map(|offset| match offset.next {
            RETIRED => format!("{}:given-up", offset.partition),
            next => format!("{}:{next}", offset.partition),
        })
        .collect();
    if offsets.len() > SHOWN_PARTITIONS {
        words.push(format!(
            "and {} more (--format json)",
            offsets.len() - SHOWN_PARTITIONS
        ));
    }
    words.extend(commit.info.as_ref().and_then(details));
    words.join(" ")
}

/// `gap 0:5-9 by me@here`, `erasure 1f…`, `to version 7`, `login_date=2026-01-05`, `of logins version 12`.
fn details(info: &Value) -> Option<String> {
    match info["kind"].as_str()? {
        "gap" => {
            let gaps: Vec<String> = info["gaps"]
                .as_array()?
                .iter()
                .map(|gap| format!("{}:{}-{}", gap[0], gap[1], gap[2]))
                .collect();
            let who = info["who"].as_str().unwrap_or("?");
            Some(format!("gap {} by {who}", gaps.join(" ")))
        }
        "erasure" => Some(format!("erasure {}", info["erasure"].as_str()?)),
        "restore" => Some(format!("to version {}", info["toVersion"].as_i64()?)),
        "compaction" => Some(info["partition"].as_str()?.to_owned()),
        "refresh" => Some(format!("of logins version {}", info["loginsVersion"].as_i64()?)),
        _ => None,
    }
}

fn as_json(commit: &CommitSummary) -> Value {
    let offsets: Vec<Value> = offsets(commit)
        .iter()
        .map(|offset| {
            json!({
                "topic": offset.topic,
                "topic_id": offset.topic_id,
                "partition": offset.partition,
                "next_offset": (offset.next != RETIRED).then_some(offset.next),
                "given_up": offset.next == RETIRED,
            })
        })
        .collect();
    json!({
        "version": commit.version,
        "time": time(commit).map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true)),
        "operation": commit.operation,
        "by": by(commit),
        "engine": commit.engine,
        "rows_added": commit.rows_added,
        "rows_removed": commit.rows_removed,
        "files_added": commit.files_added,
        "files_removed": commit.files_removed,
        "bytes_added": commit.bytes_added,
        "offsets": offsets,
        "info": commit.info,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingest() -> CommitSummary {
        CommitSummary {
            version: 7,
            timestamp_ms: Some(1_767_614_400_000),
            operation: Some("STREAMING UPDATE".to_owned()),
            engine: Some("loginlake/0.1.0".to_owned()),
            files_added: 2,
            rows_added: Some(1_200),
            rows_removed: Some(0),
            bytes_added: 3 << 20,
            transactions: (0..10)
                .map(|partition| (format!("loginlake/user-login/abc/{partition}"), 100 + partition))
                .collect(),
            info: Some(json!({ "kind": "ingest" })),
            ..CommitSummary::default()
        }
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them_and_many_offsets_are_cut() {
        let foreign = CommitSummary {
            version: 6,
            operation: Some("DE\nLETE".to_owned()),
            files_removed: 1,
            rows_added: Some(0),
            rows_removed: None,
            ..CommitSummary::default()
        };
        let gap = CommitSummary {
            version: 5,
            timestamp_ms: Some(0),
            operation: Some("ACCEPT GAP".to_owned()),
            rows_added: Some(0),
            rows_removed: Some(0),
            transactions: [
                ("loginlake/user-login/abc/0".to_owned(), RETIRED),
                ("loginlake/maintenance/login_date=2026-01-05".to_owned(), 3),
            ]
            .into(),
            info: Some(json!({ "kind": "gap", "who": "me@here", "gaps": [[0, 5, 9]] })),
            ..CommitSummary::default()
        };
        let shown = table(&[ingest(), foreign, gap]);
        let expected = [
            "version  committed (UTC)      operation          rows  files    added  by               next offsets",
            "      7  2026-01-05 12:00:00  STREAMING UPDATE  +1200     +2  3.0 MiB  loginlake/0.1.0  0:100 1:101 2:102 3:103 4:104 \
             5:105 6:106 7:107 and 2 more (--format json)",
            "      6  ?                    DE LETE           +0 -?     -1           ?",
            "      5  1970-01-01 00:00:00  ACCEPT GAP            0      0           me@here          0:given-up gap 0:5-9 by me@here",
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn json_says_all_of_it_and_a_given_up_offset_is_no_number() {
        let value = as_json(&ingest());
        assert_eq!(value["time"], "2026-01-05T12:00:00.000Z");
        assert_eq!(value["offsets"].as_array().map(Vec::len), Some(10));
        assert_eq!(
            value["offsets"][9],
            json!({ "topic": "user-login", "topic_id": "abc", "partition": 9, "next_offset": 109, "given_up": false })
        );
        let mut commit = ingest();
        commit.transactions = [("loginlake/user-login/abc/0".to_owned(), RETIRED)].into();
        let offset = &as_json(&commit)["offsets"][0];
        assert!(offset["next_offset"].is_null() && offset["given_up"] == true);
    }

    #[test]
    fn sizes_have_one_decimal_and_the_next_unit_in_time() {
        let shown = [0, 1023, 1024, 1_048_575, 1 << 20, 5 << 40].map(bytes_text);
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 MiB", "5.0 TiB"]
        );
    }
}
