//! An object store that does what it is told to one kind of request, and passes everything else on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to puts.
#[derive(Clone, Copy)]
pub enum Fault {
    /// The first `times` commits are written, but their replies are lost.
    LoseReplies { times: usize },
    /// No commit is written, and every one is answered with an error.
    RefuseCommits,
    /// Files of compaction are exchanged for what this makes of them, the size unchanged.
    ExchangeCompacted(fn(Bytes) -> Bytes),
}

#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    fault: Fault,
    commits: Arc<AtomicUsize>,
}

impl FaultyStore {
    pub fn wrap(inner: Arc<dyn ObjectStore>, fault: Fault) -> Arc<dyn ObjectStore> {
        Arc::new(Self {
            inner,
            fault,
            commits: Arc::default(),
        })
    }
}

fn unanswered() -> object_store::Error {
    object_store::Error::Generic {
        store: "faulty",
        source: "error sending request: injected".into(),
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let is_commit = location.as_ref().contains("_delta_log/") && location.as_ref().ends_with(".json");
        match self.fault {
            Fault::LoseReplies { times } if is_commit => {
                let before = self.commits.fetch_add(1, Ordering::SeqCst);
                let result = self.inner.put_opts(location, payload, options).await;
                if before < times { Err(unanswered()) } else { result }
            }
            Fault::RefuseCommits if is_commit => Err(unanswered()),
            Fault::ExchangeCompacted(exchange) if location.as_ref().contains("compact-") => {
                let bytes = Bytes::from(payload);
                let exchanged = exchange(bytes.clone());
                assert_eq!(exchanged.len(), bytes.len());
                self.inner.put_opts(location, exchanged.into(), options).await
            }
            _ => self.inner.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}
