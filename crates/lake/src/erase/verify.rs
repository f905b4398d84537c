//! Whether any file still holds rows of the users: those that the newest version names, and those that merely lie there,
//! for older versions or as leftovers, until vacuum takes them.

use std::collections::HashSet;

use super::find::{Found, count};
use super::rewrite::Rewriter;
use super::{Subjects, TABLES};
use crate::error::LakeError;
use crate::store::Lake;
use crate::table::TableName;
use crate::vacuum::list_data_files;

/// A file that holds such rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// The table.
    pub table: TableName,
    /// Path relative to its folder.
    pub path: String,
    /// How many such rows.
    pub rows: u64,
    /// Whether the newest version names the file; otherwise it waits for vacuum.
    pub is_in_use: bool,
}

/// Looks into every data file of every table, whatever names it.
///
/// # Errors
/// The store failed, or a file is not readable.
pub async fn verify(
    lake: &Lake,
    subjects: &Subjects,
    memory_budget_bytes: usize,
) -> Result<Vec<Remains>, LakeError> {
    let mut remains = Vec::new();
    for table in TABLES {
        let Some(snapshot) = lake.snapshot(table, None).await? else {
            continue;
        };
        let named: HashSet<&str> = snapshot.files.iter().map(|file| file.path.as_str()).collect();
        let reader = Rewriter::new(lake, table, memory_budget_bytes)?;
        for object in list_data_files(lake, table).await? {
            let path = object.location.as_ref();
            let counted = count(
                &reader.store,
                table,
                path,
                object.size,
                subjects,
                reader.budget.batch_rows,
            );
            let found = match counted.await {
                Ok(found) => found,
                Err(error) => {
                    use object_store::ObjectStoreExt;
                    // A file that was removed since it was listed holds nothing.
                    if let Err(object_store::Error::NotFound { .. }) =
                        reader.store.head(&object.location).await
                    {
                        continue;
                    }
                    return Err(reader.read_error(path, error));
                }
            };
            if let Found::Rows(rows) = found
                && rows > 0
            {
                remains.push(Remains {
                    table,
                    path: path.to_owned(),
                    rows,
                    is_in_use: named.contains(path),
                });
            }
        }
    }
    Ok(remains)
}
