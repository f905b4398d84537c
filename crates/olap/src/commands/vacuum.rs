//! `olap vacuum`.

use std::time::Duration;

use clap::Args;
use loginlake_lake::TableName;
use loginlake_lake::table::log_cleanup::{self, DEFAULT_LOG_RETENTION};
use loginlake_lake::vacuum::{self, VacuumOptions};
use loginlake_olap::setup;
use loginlake_service::config::{ConfigFile, LakeArgs, Span};
use loginlake_service::exit::ExitError;

use super::{TableArg, print_line};

/// Arguments of `olap vacuum`.
#[derive(Args, Debug)]
pub struct VacuumArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// Only this table [default: all]
    #[arg(long, value_name = "TABLE")]
    table: Option<TableArg>,
    /// How long files stay that no version refers to any more: longer than the longest query and commit [default: 7d]
    #[arg(long, value_name = "DURATION")]
    retention: Option<Span>,
    /// How far back the tables' logs reach, with which history, restore and --at go [default: 30d]
    #[arg(long, value_name = "DURATION")]
    log_retention: Option<Span>,
    /// Delete the files that are listed; without it they are only listed
    #[arg(long)]
    delete: bool,
    /// Allow a retention below one hour: a running query or commit may lose its files
    #[arg(long)]
    force: bool,
}

/// A log has to reach back as far as the files that it names.
pub fn check_log_retention(log: Duration, files: Duration) -> Result<(), ExitError> {
    if log < files {
        return Err(ExitError::usage(format!(
            "--log-retention of {} s is shorter than the {} s for which files are kept: which files are still needed could not \
             be told any more",
            log.as_secs(),
            files.as_secs()
        )));
    }
    Ok(())
}

/// Runs it.
pub async fn run(args: VacuumArgs, file: &ConfigFile) -> Result<(), ExitError> {
    let lake = setup::lake(&args.lake.resolve(file)?)?;
    let tables = args
        .table
        .map_or_else(|| TableName::ALL.to_vec(), |table| vec![table.into()]);
    let mut options = VacuumOptions::at(chrono::Utc::now().timestamp_millis());
    if let Some(span) = args.retention.or(file.maintain.vacuum_retention) {
        options.retention = span.duration();
    }
    options.dry_run = !args.delete;
    options.force = args.force;
    let log_retention = args
        .log_retention
        .or(file.maintain.log_retention)
        .map_or(DEFAULT_LOG_RETENTION.max(options.retention), Span::duration);
    check_log_retention(log_retention, options.retention)?;
    let mut found = false;
    for table in tables {
        let report = vacuum::vacuum(&lake, table, &options)
            .await
            .map_err(setup::lake_error)?;
        let Some(report) = report else { continue };
        found = true;
        for file in &report.files {
            print_line(&format!("{table}/{}", file.path))?;
        }
        print_line(report.to_string().trim_end())?;
        let log = log_cleanup::clean_log(&lake, table, log_retention, options.now_ms, options.dry_run)
            .await
            .map_err(setup::lake_error)?;
        if let Some(log) = log
            && let Some(oldest) = log.oldest_version
        {
            let what = if args.delete {
                "removed"
            } else {
                "would be removed"
            };
            print_line(&format!(
                "{table} log: {} commits and {} files of checkpoints {what}; the oldest version is {oldest}",
                log.commits, log.checkpoint_files
            ))?;
        }
    }
    if !found {
        return Err(super::no_tables(&lake));
    }
    if !args.delete {
        eprintln!("nothing was deleted: say --delete to do it");
    }
    Ok(())
}
