//! `olap history`.

use chrono::DateTime;
use clap::Args;
use loginlake_lake::ingest::pipeline::RETIRED;
use loginlake_olap::setup;
use loginlake_service::config::{ConfigFile, LakeArgs};
use loginlake_service::exit::ExitError;

use super::{TableArg, print_line};

/// Arguments of `olap history`.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// The table
    #[arg(long, default_value = "logins", value_name = "TABLE")]
    table: TableArg,
    /// Most commits to list
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
}

/// Runs it.
pub async fn run(args: HistoryArgs, file: &ConfigFile) -> Result<(), ExitError> {
    let lake = setup::lake(&args.lake.resolve(file)?)?;
    let Some(commits) = lake
        .history(args.table.into(), args.limit)
        .await
        .map_err(setup::lake_error)?
    else {
        return Err(super::no_tables(&lake));
    };
    print_line(&format!(
        "{:>8}  {:<20}  {:<18}  {:>12}  {:>12}  {:>6}  {:>6}  {:<16}  offsets",
        "version", "time", "operation", "rows added", "rows removed", "files+", "files-", "engine"
    ))?;
    for commit in commits {
        let time = commit
            .timestamp_ms
            .and_then(DateTime::from_timestamp_millis)
            .map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string());
        let rows = |rows: Option<u64>| rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
        let mut offsets: Vec<String> = commit
            .transactions
            .iter()
            .map(|(app_id, version)| {
                // The last part is the Kafka partition, or the table partition of maintenance.
                let name = app_id.rsplit('/').next().unwrap_or(app_id);
                if *version == RETIRED {
                    format!("{name}=given-up")
                } else {
                    format!("{name}={version}")
                }
            })
            .collect();
        offsets.extend(commit.info.as_ref().and_then(accepted_gaps));
        offsets.extend(commit.info.as_ref().and_then(by_whom));
        print_line(&format!(
            "{:>8}  {:<20}  {:<18}  {:>12}  {:>12}  {:>6}  {:>6}  {:<16}  {}",
            commit.version,
            time.unwrap_or_default(),
            commit.operation.unwrap_or_default(),
            rows(commit.rows_added),
            rows(commit.rows_removed),
            commit.files_added,
            commit.files_removed,
            commit.engine.unwrap_or_default(),
            offsets.join(" ")
        ))?;
    }
    Ok(())
}

/// What an operator accepted as lost by a commit: `gap 0:5-9 by me@here`.
fn accepted_gaps(info: &serde_json::Value) -> Option<String> {
    let gaps: Vec<String> = info["gaps"]
        .as_array()?
        .iter()
        .map(|gap| format!("{}:{}-{}", gap[0], gap[1], gap[2]))
        .collect();
    let who = info["who"].as_str().unwrap_or("?");
    Some(format!("gap {} by {who}", gaps.join(" ")))
}

/// Who erased or restored: `erasure 1f… by me@here`, `to version 7 by me@here`.
fn by_whom(info: &serde_json::Value) -> Option<String> {
    let who = info["who"].as_str()?;
    match info["kind"].as_str()? {
        "erasure" => Some(format!("erasure {} by {who}", info["erasure"].as_str()?)),
        "restore" => Some(format!("to version {} by {who}", info["toVersion"].as_i64()?)),
        _ => None,
    }
}
