//! Temporary files of operators that need more than their memory.
//!
//! A spill file has no name: the directory entry is gone before the first byte is written, so that however the process ends,
//! also by SIGKILL, nothing of a query is left on disk. All files of an engine together stay within a limit; at the limit
//! the query fails with what to do. No file and no directory is made for a query that does not spill.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::spill_file::{SpillFile, SpillWriter, TempFileFactory};
use futures::Stream;
use tokio::task::spawn_blocking;

/// Bytes that are read at once. Two or three readers of a merge hold one each.
const READ_BYTES: usize = 256 << 10;

/// By this the error of a full spill area is known.
pub(crate) const SPILL_LIMIT_REACHED: &str = "spill limit reached";

/// Makes the spill files of one engine.
#[derive(Debug)]
pub(crate) struct SpillArea {
    directory: PathBuf,
    limit_bytes: u64,
    used_bytes: Arc<AtomicU64>,
    /// Bytes that were ever written: whether anything was spilled at all.
    written_bytes: AtomicU64,
}

impl SpillArea {
    pub(crate) fn new(directory: PathBuf, limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            directory,
            limit_bytes,
            used_bytes: Arc::default(),
            written_bytes: AtomicU64::new(0),
        })
    }

    /// Bytes that were spilled since the beginning.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }
}

/// What DataFusion asks for files.
#[derive(Debug)]
pub(crate) struct SpillFactory(pub(crate) Arc<SpillArea>);

impl TempFileFactory for SpillFactory {
    fn create_temp_file(&self, _description: &str) -> Result<Arc<dyn SpillFile>> {
        let area = &self.0;
        let file = tempfile::tempfile_in(&area.directory).map_err(|error| {
            DataFusionError::ResourcesExhausted(format!(
                "the query needs more than its memory, and no spill file can be made in {}: {error}",
                area.directory.display()
            ))
        })?;
        Ok(Arc::new(AnonymousFile {
            file: Arc::new(file),
            length_bytes: Arc::default(),
            area: Arc::clone(area),
        }))
    }
}

/// One file; its bytes are given back to the limit when it is dropped.
struct AnonymousFile {
    file: Arc<File>,
    length_bytes: Arc<AtomicU64>,
    area: Arc<SpillArea>,
}

impl Drop for AnonymousFile {
    fn drop(&mut self) {
        let length_bytes = self.length_bytes.load(Ordering::Acquire);
        self.area.used_bytes.fetch_sub(length_bytes, Ordering::AcqRel);
    }
}

impl SpillFile for AnonymousFile {
    fn size(&self) -> Option<u64> {
        Some(self.length_bytes.load(Ordering::Acquire))
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<bytes::Bytes>> + Send>>> {
        let file = Arc::clone(&self.file);
        Ok(Box::pin(futures::stream::try_unfold(0_u64, move |offset| {
            let file = Arc::clone(&file);
            async move {
                let read = spawn_blocking(move || read_chunk(&file, offset)).await;
                let chunk = read.map_err(|error| {
                    DataFusionError::Execution(format!("a spill reader ended: {error}"))
                })??;
                let next = offset + chunk.len() as u64;
                Ok((!chunk.is_empty()).then_some((chunk, next)))
            }
        })))
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        Ok(Box::new(AnonymousWriter {
            file: Arc::clone(&self.file),
            length_bytes: Arc::clone(&self.length_bytes),
            area: Arc::clone(&self.area),
        }))
    }
}

/// The bytes from an offset on; none at the end of the file.
fn read_chunk(file: &File, offset: u64) -> Result<bytes::Bytes> {
    let mut chunk = vec![0; READ_BYTES];
    loop {
        match file.read_at(&mut chunk, offset) {
            Ok(length) => {
                chunk.truncate(length);
                return Ok(chunk.into());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DataFusionError::IoError(error)),
        }
    }
}

/// Appends to one file. The file lives on in `AnonymousFile`, which DataFusion holds until the bytes are read.
struct AnonymousWriter {
    file: Arc<File>,
    length_bytes: Arc<AtomicU64>,
    area: Arc<SpillArea>,
}

impl Write for AnonymousWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len() as u64;
        let used_before = self.area.used_bytes.fetch_add(count, Ordering::AcqRel);
        if used_before + count > self.area.limit_bytes {
            self.area.used_bytes.fetch_sub(count, Ordering::AcqRel);
            return Err(io::Error::other(format!(
                "{SPILL_LIMIT_REACHED}: {} MiB of temporary files",
                self.area.limit_bytes >> 20
            )));
        }
        let offset = self.length_bytes.load(Ordering::Acquire);
        if let Err(error) = self.file.write_all_at(bytes, offset) {
            self.area.used_bytes.fetch_sub(count, Ordering::AcqRel);
            return Err(error);
        }
        self.length_bytes.fetch_add(count, Ordering::AcqRel);
        self.area.written_bytes.fetch_add(count, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpillWriter for AnonymousWriter {
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    #[tokio::test]
    async fn bytes_come_back_in_order_and_the_directory_stays_empty() {
        let directory = tempfile::tempdir().unwrap();
        let area = SpillArea::new(directory.path().to_owned(), 1 << 20);
        let file = SpillFactory(Arc::clone(&area)).create_temp_file("test").unwrap();
        let mut writer = file.open_writer().unwrap();
        let expected: Vec<u8> = (0..600_000_u32).map(|number| (number % 251) as u8).collect();
        for part in expected.chunks(7_000) {
            writer.write_all(part).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!((file.size(), area.written_bytes()), (Some(600_000), 600_000));
        for _ in 0..2 {
            let chunks: Vec<bytes::Bytes> = file.read_stream().unwrap().try_collect().await.unwrap();
            assert_eq!(chunks.concat(), expected);
        }
    }

    #[test]
    fn all_files_share_the_limit_and_give_back_what_they_held() {
        let directory = tempfile::tempdir().unwrap();
        let area = SpillArea::new(directory.path().to_owned(), 1000);
        let factory = SpillFactory(Arc::clone(&area));
        let first = factory.create_temp_file("first").unwrap();
        first.open_writer().unwrap().write_all(&[1; 600]).unwrap();
        let second = factory.create_temp_file("second").unwrap();
        let refused = second.open_writer().unwrap().write_all(&[2; 600]).unwrap_err();
        assert!(refused.to_string().contains(SPILL_LIMIT_REACHED), "{refused}");
        drop(first);
        second.open_writer().unwrap().write_all(&[2; 600]).unwrap();
        drop(second);
        assert_eq!(area.used_bytes.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let area = SpillArea::new(PathBuf::from("/nowhere/at/all"), 1000);
        let error = SpillFactory(area).create_temp_file("x").err().unwrap();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
