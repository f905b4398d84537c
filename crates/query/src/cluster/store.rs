//! What the processes of a cluster can read, whatever plan they are sent.
//!
//! An executor knows one store, that of its lake, and there only the tables, and only to read. A plan that names another store
//! (the machine's files, an HTTP address, another bucket) or a file beside the tables is refused, and so is one that
//! writes. A scheduler only cuts plans into stages: for it every store is empty.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::stream::{self, BoxStream, StreamExt};
use loginlake_lake::{Lake, TableName};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use url::Url;

/// The tables of one lake, to be read.
pub(super) struct TablesOnly {
    inner: Arc<dyn ObjectStore>,
    tables: Vec<Path>,
    lake: String,
}

impl TablesOnly {
    pub(super) fn of(lake: &Lake) -> Self {
        Self {
            inner: lake.object_store(),
            tables: TableName::ALL
                .into_iter()
                .map(|table| lake.table_path(table))
                .collect(),
            lake: lake.uri().to_owned(),
        }
    }

    fn check(&self, location: &Path) -> Result<()> {
        if self.tables.iter().any(|table| location.prefix_matches(table)) {
            return Ok(());
        }
        Err(Error::PermissionDenied {
            path: location.to_string(),
            source: format!(
                "it is not in a table of the lake {}, which this executor reads",
                self.lake
            )
            .into(),
        })
    }
}

fn read_only(location: impl fmt::Display) -> Error {
    Error::PermissionDenied {
        path: location.to_string(),
        source: "a cluster only reads the lake".into(),
    }
}

impl fmt::Debug for TablesOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TablesOnly({})", self.lake)
    }
}

impl fmt::Display for TablesOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the tables of {}", self.lake)
    }
}

#[async_trait]
impl ObjectStore for TablesOnly {
    async fn put_opts(&self, location: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only(location))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only(location))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check(location)?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        locations
            .map(|location| location.and_then(|location| Err(read_only(location))))
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned().unwrap_or_default();
        match self.check(&prefix) {
            Ok(()) => self.inner.list(Some(&prefix)),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        self.check(&prefix)?;
        self.inner.list_with_delimiter(Some(&prefix)).await
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only(from))
    }
}

/// Knows the store of one lake.
#[derive(Debug)]
pub(super) struct OnlyLake {
    url: Url,
    lake: String,
    store: Arc<dyn ObjectStore>,
}

impl OnlyLake {
    pub(super) fn new(lake: &Lake) -> Self {
        Self {
            url: lake.object_store_url(),
            lake: lake.uri().to_owned(),
            store: Arc::new(TablesOnly::of(lake)),
        }
    }
}

impl ObjectStoreRegistry for OnlyLake {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        if (url.scheme(), url.host_str()) == (self.url.scheme(), self.url.host_str()) {
            return Ok(Arc::clone(&self.store));
        }
        Err(DataFusionError::Execution(format!(
            "this executor reads the lake {}, and the query is about {}://{}: give both the same --lake",
            self.lake,
            url.scheme(),
            url.host_str().unwrap_or_default()
        )))
    }
}

/// Every store is an empty one.
#[derive(Debug, Default)]
pub(super) struct NoStores;

impl ObjectStoreRegistry for NoStores {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, _: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        Ok(Arc::new(InMemory::new()))
    }
}
