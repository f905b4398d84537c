//! The lake's tables as DataFusion sees them.
//!
//! - this file: which tables there are; each is loaded when it is first named, and then pinned;
//! - [`provider`]: one pinned table: its columns, its scan;
//! - [`prune`]: which of its files a filter can leave out, from the log alone.
//!
//! A table that does not exist in a lake that has others is an empty table; a lake without any table is an error.

mod provider;
mod prune;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use loginlake_lake::table::snapshot::WithFiles;
use loginlake_lake::{Lake, TableName};
use tokio::sync::OnceCell;

use crate::error::{QueryError, pack};
use provider::LakeTable;

/// The tables that SQL can name.
const TABLES: [TableName; TableName::ALL.len()] = TableName::ALL;

/// The tables of one lake, each pinned to the version that was the newest when it was first asked for.
#[derive(Debug)]
pub(crate) struct LakeSchema {
    lake: Lake,
    /// In the order of [`TABLES`].
    tables: [OnceCell<Arc<LakeTable>>; TABLES.len()],
}

impl LakeSchema {
    pub(crate) fn new(lake: Lake) -> Self {
        Self {
            lake,
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

    async fn load(&self, name: TableName) -> Result<LakeTable, QueryError> {
        match self.lake.snapshot(name, None).await? {
            Some(snapshot) => LakeTable::pinned(&self.lake, name, snapshot),
            None if self.has_any_table().await? => LakeTable::absent(&self.lake, name),
            None => Err(QueryError::NoTables {
                lake: self.lake.uri().to_owned(),
            }),
        }
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
        let table = self.tables[index]
            .get_or_try_init(|| async { self.load(TABLES[index]).await.map(Arc::new) })
            .await
            .map_err(pack)?;
        Ok(Some(Arc::clone(table) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.iter().any(|table| table.as_str() == name)
    }
}
