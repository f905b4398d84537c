//! Bytes into an object of the store as they come: one put when they are few, a multipart upload otherwise.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use tokio::task::JoinSet;

use super::upload::PART_BYTES;
use crate::error::LakeError;

/// Parts of one object on their way at the same time.
const PARTS_IN_FLIGHT: usize = 4;

/// An upload that is under way.
pub(super) struct PartUpload {
    store: Arc<dyn ObjectStore>,
    location: Path,
    multipart: Option<Box<dyn MultipartUpload>>,
    /// The beginning of the next part.
    waiting: Vec<u8>,
    /// Parts on their way, next to the encoding of the following ones.
    parts: JoinSet<object_store::Result<()>>,
    size: u64,
}

impl PartUpload {
    /// An upload to `path` of the table's `store`; nothing is sent yet. `place` names the table in errors.
    pub(super) fn begin(store: Arc<dyn ObjectStore>, place: &str, path: &str) -> Result<Self, LakeError> {
        let location = Path::parse(path)
            .map_err(|source| LakeError::from_store(place, object_store::Error::InvalidPath { source }))?;
        Ok(Self {
            store,
            location,
            multipart: None,
            waiting: Vec::new(),
            parts: JoinSet::new(),
            size: 0,
        })
    }

    /// Bytes that were pushed so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether parts were sent already.
    #[cfg(test)]
    pub(super) fn is_multipart(&self) -> bool {
        self.multipart.is_some()
    }

    /// Adds bytes. Waits for the store when too many parts are on their way.
    pub(super) async fn push(&mut self, mut bytes: Bytes) -> object_store::Result<()> {
        self.size += bytes.len() as u64;
        while self.waiting.len() + bytes.len() > PART_BYTES {
            let head = bytes.split_to(PART_BYTES - self.waiting.len());
            self.waiting.extend_from_slice(&head);
            self.put_part().await?;
        }
        self.waiting.extend_from_slice(&bytes);
        Ok(())
    }

    async fn put_part(&mut self) -> object_store::Result<()> {
        let part = std::mem::take(&mut self.waiting);
        while self.parts.len() >= PARTS_IN_FLIGHT {
            self.join_part().await?;
        }
        if self.multipart.is_none() {
            self.multipart = Some(self.store.put_multipart(&self.location).await?);
        }
        if let Some(multipart) = &mut self.multipart {
            self.parts.spawn(multipart.put_part(part.into()));
        }
        Ok(())
    }

    async fn join_part(&mut self) -> object_store::Result<()> {
        match self.parts.join_next().await {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(object_store::Error::Generic {
                store: "upload",
                source: Box::new(error),
            }),
        }
    }

    /// Completes the object.
    pub(super) async fn finish(&mut self) -> object_store::Result<()> {
        if self.multipart.is_none() {
            let bytes = std::mem::take(&mut self.waiting);
            return self.store.put(&self.location, bytes.into()).await.map(|_| ());
        }
        self.put_part().await?;
        while !self.parts.is_empty() {
            self.join_part().await?;
        }
        if let Some(multipart) = &mut self.multipart {
            multipart.complete().await?;
        }
        self.multipart = None;
        Ok(())
    }

    /// Gives it up: the parts in the store would be kept, and charged for, otherwise.
    pub(super) async fn abort(mut self) {
        self.parts.shutdown().await;
        if let Some(mut multipart) = self.multipart.take()
            && let Err(error) = multipart.abort().await
        {
            tracing::debug!(path = %self.location, %error, "parts of an abandoned upload stay in the store");
        }
    }
}
