//! The lake's tables as DataFusion sees them.
//!
//! - this file: which tables there are; each is loaded when it is first named, and then pinned;
//! - [`provider`]: one pinned table: its columns, its scan;
//! - [`fresh`]: the same with the records of the topic that come after it;
//! - [`prune`]: which of its files a filter can leave out, from the log alone;
//! - [`time_bounds`]: which times of rows it can leave out.
//!
//! A table that does not exist in a lake that has others is an empty table; a lake without any table is an error.

mod fresh;
mod provider;
mod prune;
mod time_bounds;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use loginlake_lake::table::snapshot::WithFiles;
use loginlake_lake::{Lake, TableName};
use tokio::sync::OnceCell;

use crate::error::{QueryError, pack};
use crate::view::{TableFacts, View};
use fresh::FreshTable;
use provider::LakeTable;

/// The tables that SQL can name.
const TABLES: [TableName; TableName::ALL.len()] = TableName::ALL;

/// The tables of one lake, each pinned to the version that the view says when it is first asked for.
#[derive(Debug)]
pub(crate) struct LakeSchema {
    lake: Lake,
    view: View,
    /// As [`LakeTable`] says.
    is_for_cluster: bool,
    /// In the order of [`TABLES`].
    tables: [OnceCell<Arc<LakeTable>>; TABLES.len()],
}

impl LakeSchema {
    pub(crate) fn new(lake: Lake, view: View, is_for_cluster: bool) -> Self {
        Self {
            lake,
            view,
            is_for_cluster,
            tables: Default::default(),
        }
    }

    /// The version of every table loaded so far; `None` for one that does not exist.
    pub(crate) fn pinned_versions(&self) -> BTreeMap<&'static str, Option<i64>> {
        let loaded = TABLES.iter().zip(&self.tables);
        loaded
            .filter_map(|(name, table)| Some((name.as_str(), table.get()?.version())))
            .collect()
    }

    /// What is known of every table loaded so far.
    pub(crate) fn facts(&self) -> Vec<TableFacts> {
        let loaded = TABLES.iter().zip(&self.tables);
        loaded
            .filter_map(|(name, table)| Some(table.get()?.facts(*name)))
            .collect()
    }

    /// Loads a table now, if it is not pinned yet.
    pub(crate) async fn pin(&self, name: TableName) -> Result<TableFacts, QueryError> {
        let index = TABLES.iter().position(|table| *table == name).unwrap_or_default();
        Ok(self.pinned(index).await?.facts(name))
    }

    async fn pinned(&self, index: usize) -> Result<&Arc<LakeTable>, QueryError> {
        self.tables[index]
            .get_or_try_init(|| async {
                let table = self.load(TABLES[index]).await?;
                Ok(Arc::new(if self.is_for_cluster {
                    table.for_cluster()
                } else {
                    table
                }))
            })
            .await
    }

    async fn load(&self, name: TableName) -> Result<LakeTable, QueryError> {
        let version = match &self.view {
            View::Newest => None,
            View::Time(epoch_ms) => self.version_at(name, *epoch_ms).await?,
            View::LoginsVersion(version) if name == TableName::Logins => Some(*version),
            View::LoginsVersion(version) => {
                let table = TableName::Logins;
                let committed_ms = self.lake.committed_at(table, *version).await?;
                let unknown = QueryError::NoVersionAt {
                    table: table.as_str(),
                };
                self.version_at(name, committed_ms.ok_or(unknown)?).await?
            }
            View::Versions(versions) => match versions.get(&name) {
                Some(Some(version)) => Some(*version),
                Some(None) => return LakeTable::absent(&self.lake, name),
                None => {
                    return Err(QueryError::NotInView {
                        table: name.as_str(),
                        detail: "the receipt does not name it; ask the question of the receipt",
                    });
                }
            },
            View::Fresh(fresh) => match fresh.snapshots.get(&name) {
                Some(Some(snapshot)) => return LakeTable::pinned(&self.lake, name, snapshot.clone()),
                Some(None) => return LakeTable::absent(&self.lake, name),
                None => {
                    return Err(QueryError::NotInView {
                        table: name.as_str(),
                        detail: "it is not as fresh as the others; ask without --fresh",
                    });
                }
            },
        };
        match self.lake.snapshot(name, version).await? {
            Some(snapshot) => LakeTable::pinned(&self.lake, name, snapshot),
            None if self.has_any_table().await? => LakeTable::absent(&self.lake, name),
            None => Err(QueryError::NoTables {
                lake: self.lake.uri().to_owned(),
            }),
        }
    }

    /// The version of a time; `None` for a table that does not exist.
    async fn version_at(&self, name: TableName, epoch_ms: i64) -> Result<Option<i64>, QueryError> {
        if self
            .lake
            .load_snapshot(name, None, WithFiles::No)
            .await?
            .is_none()
        {
            return Ok(None);
        }
        let version = self.lake.version_at(name, epoch_ms).await?;
        version
            .map(Some)
            .ok_or(QueryError::NoVersionAt { table: name.as_str() })
    }

    async fn has_any_table(&self) -> Result<bool, QueryError> {
        for name in TABLES {
            if self
                .lake
                .load_snapshot(name, None, WithFiles::No)
                .await?
                .is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        TABLES.iter().map(|name| name.as_str().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let Some(index) = TABLES.iter().position(|table| table.as_str() == name) else {
            return Ok(None);
        };
        let table = self.pinned(index).await.map_err(pack)?;
        match &self.view {
            View::Fresh(fresh) => Ok(Some(Arc::new(FreshTable {
                lake: Arc::clone(table),
                table: TABLES[index],
                tail: Arc::clone(&fresh.tail),
            }))),
            _ => Ok(Some(Arc::clone(table) as _)),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.iter().any(|table| table.as_str() == name)
    }
}
