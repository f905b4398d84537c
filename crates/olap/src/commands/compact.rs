//! `olap compact`.

use std::sync::Arc;

use clap::Args;
use loginlake_lake::compact::{self, CompactOptions, CompactionEvent, ExecuteOptions};
use loginlake_lake::table::schema;
use loginlake_lake::{Lake, LakeError, TableName};
use loginlake_olap::lineage::LakeJob;
use loginlake_olap::maintain::jobs::{self, MIN_FILES_REJECTED};
use loginlake_olap::setup;
use loginlake_service::config::{ByteSize, ConfigFile, LakeArgs};
use loginlake_service::exit::ExitError;

use super::{TableArg, print_line};

/// The smallest memory that a sort can work in.
const MIN_MEMORY: u64 = 64 * 1024 * 1024;

/// Arguments of `olap compact`.
#[derive(Args, Debug)]
pub struct CompactArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// Only this table [default: both]
    #[arg(long, value_name = "TABLE")]
    table: Option<TableArg>,
    /// Also dates that are still filling
    #[arg(long)]
    all: bool,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// Size at which a file is closed [default: 256MiB]
    #[arg(
        long,
        env = "LOGINLAKE_TARGET_FILE_BYTES",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    target_file_bytes: Option<ByteSize>,
    /// Memory of all jobs together; what does not fit is sorted through temporary files [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<ByteSize>,
    /// Table partitions at the same time [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
}

/// Runs it.
pub async fn run(args: CompactArgs, file: &ConfigFile) -> Result<(), ExitError> {
    super::arm_fail_point()?;
    let lake = setup::lake(&args.lake.resolve(file)?)?;
    let tables = match args.table {
        Some(table) => vec![table.into()],
        None => vec![TableName::Logins, TableName::Rejected],
    };
    let memory = args
        .memory_budget
        .or(file.maintain.memory_budget)
        .map_or(256 << 20, |size| size.bytes());
    if memory < MIN_MEMORY {
        return Err(ExitError::usage(format!(
            "--memory-budget {} is too small: at least {}",
            ByteSize::from_bytes(memory),
            ByteSize::from_bytes(MIN_MEMORY)
        )));
    }
    if args.dry_run {
        return compact_all(&args, file, &lake, &tables, memory, None).await;
    }
    let mut told = LakeJob::begin("olap.compact", &lake, &tables, &tables);
    let result = compact_all(&args, file, &lake, &tables, memory, Some(&mut told)).await;
    told.end_with(result).await
}

async fn compact_all(
    args: &CompactArgs,
    file: &ConfigFile,
    lake: &Lake,
    tables: &[TableName],
    memory: u64,
    mut told: Option<&mut LakeJob<'_>>,
) -> Result<(), ExitError> {
    let mut found = false;
    for table in tables.iter().copied() {
        let Some(snapshot) = lake.snapshot(table, None).await.map_err(setup::lake_error)? else {
            continue;
        };
        found = true;
        schema::check_compatible(&snapshot).map_err(|detail| {
            setup::lake_error(LakeError::Foreign {
                place: lake.table_place(table),
                detail,
            })
        })?;
        let mut options = CompactOptions::at(chrono::Utc::now().timestamp_millis());
        options.include_open = args.all;
        if let Some(size) = args.target_file_bytes.or(file.maintain.target_file_bytes) {
            options.target_file_bytes = size.bytes().max(1);
        }
        if table == TableName::Rejected {
            options.min_files = if args.all { 2 } else { MIN_FILES_REJECTED };
        }
        let plan = compact::plan(&snapshot, &options);
        if args.dry_run {
            print_line(plan.to_string().trim_end())?;
            continue;
        }
        let execute = ExecuteOptions {
            memory_budget_bytes: usize::try_from(memory).unwrap_or(usize::MAX),
            jobs: usize::from(args.jobs.or(file.maintain.jobs).unwrap_or(1).max(1)),
            progress: Some(Arc::new(tell)),
            ..ExecuteOptions::default()
        };
        let report = compact::execute(lake, plan, &execute)
            .await
            .map_err(setup::lake_error)?;
        if let Some(told) = &mut told {
            told.wrote(table, jobs::compacted(&report));
        }
        print_line(report.to_string().trim_end())?;
    }
    if found {
        Ok(())
    } else {
        Err(super::no_tables(lake))
    }
}

/// Progress, as log lines.
fn tell(event: CompactionEvent) {
    match event {
        CompactionEvent::Started {
            partition,
            files,
            bytes,
        } => {
            tracing::info!(%partition, files, bytes, "compacting");
        }
        CompactionEvent::Written { partition, rows } => tracing::debug!(%partition, rows, "written"),
        CompactionEvent::Restarted { partition, detail } => {
            tracing::warn!(%partition, detail, "somebody else changed the partition; beginning anew");
        }
        CompactionEvent::Finished(report) => {
            tracing::info!(partition = %report.partition, rows = report.rows, files = report.files_after, "done");
        }
    }
}
