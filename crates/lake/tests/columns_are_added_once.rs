//! A process that dies, or whose store fails, around the commit that adds columns: the next one finds the table as it was or as
//! it should be, and the columns are added once. The process that dies is this test binary, started again.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use loginlake_lake::ingest::{FailPoint, fail_point};
use loginlake_lake::table::commit::TableWriter;
use loginlake_lake::table::schema::{PartitionBy, TableSpec};
use loginlake_lake::{Lake, LakeError, StoreOptions, TableName};

/// Set for the process that widens, and dies if it is told to.
const LAKE: &str = "LOGINLAKE_TEST_WIDEN";
const FAIL_POINT: &str = "LOGINLAKE_TEST_FAIL_POINT";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if let Ok(lake) = std::env::var(LAKE) {
        let choice = std::env::var(FAIL_POINT).unwrap_or_default();
        if !choice.is_empty() {
            fail_point::arm(&choice).expect("a fail point of this build");
        }
        let failed = open(Path::new(&lake), &newer()).await.is_err();
        std::process::exit(i32::from(failed));
    }
    for point in [FailPoint::BeforeWidening, FailPoint::AfterWidening] {
        for action in ["kill", "error"] {
            columns_are_added_once_whatever_happens_at(point, action).await;
            println!("{}:{action}: ok", point.name());
        }
    }
}

async fn columns_are_added_once_whatever_happens_at(point: FailPoint, action: &str) {
    let folder = tempfile::tempdir().unwrap();
    let spec = TableSpec::current(TableName::Logins, PartitionBy::Date);
    let version = open(folder.path(), &spec).await.unwrap().head().version;

    let status = widen(folder.path(), &format!("{}:{action}", point.name()));
    assert_ne!(status.code(), Some(0), "{}:{action} was not passed", point.name());
    assert_eq!(status.code().is_none(), action == "kill", "{status}");
    let done = point == FailPoint::AfterWidening;
    assert_eq!(
        open(folder.path(), &spec).await.unwrap().head().version,
        version + i64::from(done)
    );
    for _ in 0..2 {
        assert_eq!(widen(folder.path(), "").code(), Some(0));
        let writer = open(folder.path(), &newer()).await.unwrap();
        assert_eq!(writer.head().version, version + 1, "added once");
    }
}

fn widen(folder: &Path, fail_point: &str) -> ExitStatus {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    command.env(LAKE, folder).env(FAIL_POINT, fail_point);
    command.status().unwrap()
}

async fn open(folder: &Path, spec: &TableSpec) -> Result<TableWriter, LakeError> {
    let lake = Lake::open(&folder.display().to_string(), &StoreOptions::default())?;
    TableWriter::open_or_create_as(&lake, spec).await
}

/// What the next version of this software might add.
fn newer() -> TableSpec {
    let mut spec = TableSpec::current(TableName::Logins, PartitionBy::Date);
    let mut fields: Vec<_> = spec.columns.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("risk", DataType::Int8, true)));
    spec.columns = Arc::new(Schema::new(fields));
    spec
}
