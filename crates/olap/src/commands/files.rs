//! `olap files`.

use clap::Args;
use loginlake_lake::TableName;
use loginlake_lake::compact::file_report;
use loginlake_olap::setup;
use loginlake_service::config::{ConfigFile, LakeArgs};
use loginlake_service::exit::ExitError;

use super::print_line;

/// Arguments of `olap files`.
#[derive(Args, Debug)]
pub struct FilesArgs {
    #[command(flatten)]
    lake: LakeArgs,
}

/// Runs it.
pub async fn run(args: FilesArgs, file: &ConfigFile) -> Result<(), ExitError> {
    let lake = setup::lake(&args.lake.resolve(file)?)?;
    let mut found = false;
    for table in TableName::ALL {
        if let Some(snapshot) = lake.snapshot(table, None).await.map_err(setup::lake_error)? {
            found = true;
            print_line(file_report(&snapshot).to_string().trim_end())?;
        }
    }
    if found {
        Ok(())
    } else {
        Err(super::no_tables(&lake))
    }
}
