//! `olap refresh`.

use chrono::NaiveDate;
use clap::Args;
use loginlake_lake::TableName;
use loginlake_lake::hourly::{self, RefreshOptions};
use loginlake_olap::lineage::LakeJob;
use loginlake_olap::maintain::jobs;
use loginlake_olap::setup;
use loginlake_service::config::{ByteSize, ConfigFile, LakeArgs};
use loginlake_service::exit::ExitError;

use super::print_line;

/// The least memory that groups are counted in.
const MIN_MEMORY: u64 = 1024 * 1024;

/// Arguments of `olap refresh`.
#[derive(Args, Debug)]
pub struct RefreshArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// Count every date again, not only those that changed
    #[arg(long)]
    rebuild: bool,
    /// Count this date only (UTC); up to where the view is complete does not move
    #[arg(long, value_name = "YYYY-MM-DD", conflicts_with = "rebuild")]
    date: Option<NaiveDate>,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// Memory for the groups of a date; a date that has more is read several times
    #[arg(long, default_value = "64MiB", value_name = "SIZE")]
    memory_budget: ByteSize,
}

/// Runs it.
pub async fn run(args: RefreshArgs, file: &ConfigFile) -> Result<(), ExitError> {
    let lake = setup::lake(&args.lake.resolve(file)?)?;
    if args.memory_budget.bytes() < MIN_MEMORY {
        return Err(ExitError::usage(format!(
            "--memory-budget {} is too small: at least {}",
            args.memory_budget,
            ByteSize::from_bytes(MIN_MEMORY)
        )));
    }
    let options = RefreshOptions {
        rebuild: args.rebuild,
        date: args.date,
        dry_run: args.dry_run,
        memory_budget_bytes: usize::try_from(args.memory_budget.bytes()).unwrap_or(usize::MAX),
        ..RefreshOptions::at(chrono::Utc::now().timestamp_millis())
    };
    let writes: &[TableName] = match args.dry_run {
        true => &[],
        false => &[TableName::LoginsHourly],
    };
    let mut told = LakeJob::begin("olap.refresh", &lake, &[TableName::Logins], writes);
    let result = match hourly::refresh(&lake, &options).await {
        Ok(Some(report)) => {
            told.wrote(TableName::LoginsHourly, jobs::refreshed(&report));
            print_line(report.to_string().trim_end())
        }
        Ok(None) => Err(super::no_tables(&lake)),
        Err(error) => Err(setup::lake_error(error)),
    };
    told.end_with(result).await
}
