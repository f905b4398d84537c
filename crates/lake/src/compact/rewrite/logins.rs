//! Logins out of their own sort into files: while one chunk is encoded, column by column on all processors, the next one is
//! merged, and what is encoded is uploaded.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter};
use parquet::errors::ParquetError;
use tokio::task::JoinSet;

use super::{Output, Rewritten};
use crate::compact::sort::{Chunk, ColumnEncoder, SortError, Sorted};
use crate::error::LakeError;
use crate::file::row_groups::RowGroupFile;
use crate::file::stream::ROW_GROUP_ROWS;
use crate::table::commit::NewFile;

/// A row group that is being encoded.
struct RowGroup {
    columns: Arc<Vec<Mutex<Option<ArrowColumnWriter>>>>,
    rows: u64,
}

impl RowGroup {
    fn begin(file: &RowGroupFile) -> Result<Self, LakeError> {
        let columns = file.column_writers()?;
        Ok(Self {
            columns: Arc::new(
                columns
                    .into_iter()
                    .map(|writer| Mutex::new(Some(writer)))
                    .collect(),
            ),
            rows: 0,
        })
    }

    /// About the bytes that it will have.
    fn size_bytes(&self) -> usize {
        let size = |column: &Mutex<Option<ArrowColumnWriter>>| {
            let column = column.lock().unwrap_or_else(PoisonError::into_inner);
            column
                .as_ref()
                .map_or(0, ArrowColumnWriter::get_estimated_total_bytes)
        };
        self.columns.iter().map(size).sum()
    }
}

impl Output<'_> {
    /// Writes the files.
    pub(super) async fn write_sorted(
        &self,
        sorted: Sorted,
        files: &mut Vec<NewFile>,
    ) -> Result<Rewritten, LakeError> {
        let rewritten = Rewritten {
            fingerprint: sorted.fingerprint,
            spilled_bytes: sorted.spilled_bytes,
        };
        let mut open: Option<RowGroupFile> = None;
        let result = self.write_files(sorted, files, &mut open).await;
        if let Some(unfinished) = open.take() {
            unfinished.abort().await;
        }
        result.map(|()| rewritten)
    }

    async fn write_files(
        &self,
        sorted: Sorted,
        files: &mut Vec<NewFile>,
        open: &mut Option<RowGroupFile>,
    ) -> Result<(), LakeError> {
        let encoder = Arc::new(sorted.encoder());
        let mut group: Option<RowGroup> = None;
        let (mut sorted, mut next) = self.next_chunk(sorted).await?;
        while let Some(chunk) = next.take() {
            let file = match &mut *open {
                Some(file) => file,
                none => none.insert(self.begin_file(files.len())?),
            };
            let filling = match &mut group {
                Some(filling) => filling,
                none => none.insert(RowGroup::begin(file)?),
            };
            let rows = chunk.rows as u64;
            filling.rows += rows;
            let encoded = self.encode(&encoder, Arc::new(chunk), &filling.columns);
            let ((), following) = tokio::try_join!(encoded, self.next_chunk(sorted))?;
            (sorted, next) = following;
            (self.progress)(rows);
            let size = filling.size_bytes();
            let file_is_full = file.size_bytes() + size as u64 >= self.target_file_bytes || next.is_none();
            let is_full = filling.rows >= ROW_GROUP_ROWS
                || size >= self.rewriter.budget.row_group_bytes
                || file_is_full;
            if is_full && let Some(full) = group.take() {
                let columns = self.close(&encoder, &full.columns).await?;
                file.append(columns, full.rows).await?;
            }
            if file_is_full {
                files.push(file.finish(&self.plan.partition).await?);
                *open = None;
            }
        }
        Ok(())
    }

    fn begin_file(&self, number: usize) -> Result<RowGroupFile, LakeError> {
        RowGroupFile::begin(
            Arc::clone(&self.rewriter.store),
            &self.rewriter.place,
            self.rewriter.path(self.plan, self.batch_id, number),
            self.schema,
            self.plan.rows().unwrap_or(u64::MAX),
        )
    }

    async fn next_chunk(&self, mut sorted: Sorted) -> Result<(Sorted, Option<Chunk>), LakeError> {
        let rows = self.rewriter.budget.chunk_rows;
        let merged = tokio::task::spawn_blocking(move || {
            let chunk = sorted.next_chunk(rows)?;
            Ok((sorted, chunk))
        });
        merged
            .await
            .unwrap_or_else(|panic| Err(SortError::Layout(format!("a merge panicked: {panic}"))))
            .map_err(|error| self.rewriter.sort_error(self.plan, error))
    }

    async fn encode(
        &self,
        encoder: &Arc<ColumnEncoder>,
        chunk: Arc<Chunk>,
        columns: &Arc<Vec<Mutex<Option<ArrowColumnWriter>>>>,
    ) -> Result<(), LakeError> {
        let encoding = Arc::clone(encoder);
        self.for_each_column(encoder, columns, move |index, writer| match writer {
            Some(writer) => encoding.encode(index, &chunk, writer),
            None => Ok(()),
        })
        .await
    }

    async fn close(
        &self,
        encoder: &Arc<ColumnEncoder>,
        columns: &Arc<Vec<Mutex<Option<ArrowColumnWriter>>>>,
    ) -> Result<Vec<ArrowColumnChunk>, LakeError> {
        let closed: Arc<Mutex<Vec<(usize, ArrowColumnChunk)>>> = Arc::default();
        let chunks = Arc::clone(&closed);
        self.for_each_column(encoder, columns, move |index, writer| {
            if let Some(writer) = writer.take() {
                let chunk = writer.close()?;
                let mut chunks = chunks.lock().unwrap_or_else(PoisonError::into_inner);
                chunks.push((index, chunk));
            }
            Ok(())
        })
        .await?;
        let mut chunks = std::mem::take(&mut *closed.lock().unwrap_or_else(PoisonError::into_inner));
        chunks.sort_by_key(|(index, _)| *index);
        Ok(chunks.into_iter().map(|(_, chunk)| chunk).collect())
    }

    /// Does something with each column, on as many threads as the job has.
    async fn for_each_column(
        &self,
        encoder: &Arc<ColumnEncoder>,
        columns: &Arc<Vec<Mutex<Option<ArrowColumnWriter>>>>,
        work: impl Fn(usize, &mut Option<ArrowColumnWriter>) -> Result<(), ParquetError> + Send + Sync + 'static,
    ) -> Result<(), LakeError> {
        let (work, next) = (Arc::new(work), Arc::new(AtomicUsize::new(0)));
        let mut threads = JoinSet::new();
        for _ in 0..self.rewriter.sort.threads {
            let (work, next) = (Arc::clone(&work), Arc::clone(&next));
            let (encoder, columns) = (Arc::clone(encoder), Arc::clone(columns));
            threads.spawn_blocking(move || {
                while let Some(index) = encoder.order().get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut column = columns[*index].lock().unwrap_or_else(PoisonError::into_inner);
                    work(*index, &mut column)?;
                }
                Ok(())
            });
        }
        while let Some(done) = threads.join_next().await {
            let result = done
                .unwrap_or_else(|panic| Err(ParquetError::General(format!("an encoder panicked: {panic}"))));
            result.map_err(|error| {
                self.rewriter
                    .parquet_error("write", &self.plan.partition.to_string(), error)
            })?;
        }
        Ok(())
    }
}
