//! The beginning of a table's log, and the one later change of its definition: columns that a newer version of this
//! software adds.
//!
//! Both are one commit, put if absent. Columns are added at exactly the version after the one that the definition was read
//! from, so nobody else's change of it is overwritten, and of two new versions that start at once one adds them and the
//! other finds them there. Files written before do not have the column: it reads as null. An older version that is
//! writing meanwhile goes on without it: a commit that only adds columns is no conflict ([`super::race`]).

use chrono::Utc;
use futures::StreamExt;
use object_store::ObjectStore;
use serde_json::{Value, json};

use super::commit::{ENGINE, join_lines, put_commit};
use super::race::{MAX_RACES, Put};
use super::schema::{self, TableSpec};
use super::snapshot::run_blocking;
use super::{TableName, TableSnapshot};
use crate::error::LakeError;
use crate::ingest::fail_point::{FailPoint, pass};
use crate::store::Lake;

/// Delta's name of the operation.
const ADD_COLUMNS: &str = "ADD COLUMNS";
/// How a commit says that it adds columns and does nothing else.
pub(super) const WIDENING: &str = "widening";

/// Creates the table as version 0. Losing the race against another creator is fine.
pub(super) async fn create(lake: &Lake, spec: &TableSpec) -> Result<(), LakeError> {
    let table = spec.table;
    let store = lake.table_store(table);
    refuse_foreign_files(lake, table, store.as_ref()).await?;
    let now_ms = Utc::now().timestamp_millis();
    let mut lines = vec![json!({ "commitInfo": {
        "timestamp": now_ms, "operation": "CREATE TABLE", "operationParameters": {}, "engineInfo": ENGINE,
    } })];
    lines.extend(schema::creation_actions(spec, now_ms)?);
    match put_commit(store.as_ref(), 0, join_lines(&lines)).await {
        Ok(Put::Done) => {
            tracing::info!(%table, lake = lake.uri(), "table created");
            Ok(())
        }
        Ok(Put::Taken) => Ok(()),
        Err(error) => Err(LakeError::from_store(&lake.table_place(table), error)),
    }
}

/// A folder with files but without a log is somebody else's.
async fn refuse_foreign_files(
    lake: &Lake,
    table: TableName,
    store: &dyn ObjectStore,
) -> Result<(), LakeError> {
    let mut listing = store.list(None);
    match listing.next().await {
        None | Some(Err(object_store::Error::NotFound { .. })) => Ok(()),
        // Another creator was quicker.
        Some(Ok(object)) if object.location.as_ref().starts_with("_delta_log/") => Ok(()),
        Some(Ok(object)) => Err(LakeError::Foreign {
            place: lake.table_place(table),
            detail: format!("its folder holds {} but no Delta log", object.location),
        }),
        Some(Err(error)) => Err(LakeError::from_store(&lake.table_place(table), error)),
    }
}

/// The newest version of a table (without its files), after it was given the columns that it lacks. `None`: no such table.
///
/// # Errors
/// [`LakeError::Configuration`] when it holds other dates; [`LakeError::Foreign`] when it cannot be widened to `spec`; the store failed, and calling again is right.
pub(super) async fn load_widened(lake: &Lake, spec: &TableSpec) -> Result<Option<TableSnapshot>, LakeError> {
    for _ in 0..MAX_RACES {
        let Some((snapshot, metadata)) = lake.definition(spec.table).await? else {
            return Ok(None);
        };
        spec.check_dates(&snapshot).map_err(|detail| {
            LakeError::Configuration(format!("{}: {detail}", lake.table_place(spec.table)))
        })?;
        let lacking = spec.lacking(&snapshot).map_err(|detail| LakeError::Foreign {
            place: lake.table_place(spec.table),
            detail,
        })?;
        if lacking.is_empty() {
            return Ok(Some(snapshot));
        }
        let names: Vec<&str> = lacking.iter().map(|field| field.name().as_str()).collect();
        let lines = [
            json!({ "commitInfo": {
                "timestamp": Utc::now().timestamp_millis(),
                "operation": ADD_COLUMNS,
                "operationParameters": {},
                "engineInfo": ENGINE,
                "loginlake": { "info": { "kind": WIDENING, "columns": names } },
            } }),
            json!({ "metaData": schema::with_columns(metadata, &lacking)? }),
        ];
        let store = lake.table_store(spec.table);
        pass(FailPoint::BeforeWidening)?;
        let put = put_commit(store.as_ref(), snapshot.version + 1, join_lines(&lines)).await;
        // Whoever was first, the next look says what the table is now.
        if let Put::Done = put.map_err(|error| LakeError::from_store(&lake.table_place(spec.table), error))? {
            tracing::info!(table = %spec.table, columns = ?names, version = snapshot.version + 1, "columns added");
            pass(FailPoint::AfterWidening)?;
        }
    }
    Err(LakeError::Unreachable {
        place: lake.table_place(spec.table),
        detail: format!("{MAX_RACES} other commits in a row were before the one that adds columns"),
    })
}

impl Lake {
    /// The newest version of a table without its files, and its metadata action.
    async fn definition(&self, table: TableName) -> Result<Option<(TableSnapshot, Value)>, LakeError> {
        let Some((kernel, engine)) = self.kernel_snapshot(table, None).await? else {
            return Ok(None);
        };
        let place = self.table_place(table);
        let metadata = serde_json::to_value(kernel.table_configuration().metadata()).map_err(|error| {
            LakeError::Log {
                place: place.clone(),
                detail: format!("its metadata: {error}"),
            }
        })?;
        let snapshot = run_blocking(move || {
            super::snapshot::read_snapshot(
                table,
                &place,
                &kernel,
                engine.as_ref(),
                super::snapshot::WithFiles::No,
            )
        })
        .await?;
        Ok(Some((snapshot, metadata)))
    }
}
