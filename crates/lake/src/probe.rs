//! Does a store do what every commit rests on? An object is put where nobody reads, once and a second time, which has to fail; its
//! time is the store's clock; then it is removed again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt, PutMode, PutOptions};
use uuid::Uuid;

use crate::error::LakeError;
use crate::store::Lake;

/// The folder beside the tables that probes are put into.
const FOLDER: &str = "_check";

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreProbe {
    /// Whether a second writer of the same name is refused.
    pub put_if_absent: bool,
    /// Whether the object could be removed again.
    pub removed: bool,
    /// How far the store's clock is ahead of this machine's, milliseconds; some stores count whole seconds.
    pub clock_ahead_ms: i64,
    /// How long the first write took.
    pub write_time: Duration,
}

impl Lake {
    /// Puts an object of a few bytes below `_check/`, and removes it.
    ///
    /// # Errors
    /// The store cannot be reached, or refuses to write or to read.
    pub async fn probe(&self) -> Result<StoreProbe, LakeError> {
        let store = self.object_store();
        let path = self.root_path(FOLDER).join(Uuid::new_v4().to_string());
        let failed = |error| LakeError::from_store(self.uri(), error);
        let put = || {
            let options = PutOptions::from(PutMode::Create);
            store.put_opts(&path, "loginlake check".into(), options)
        };
        let started = SystemTime::now();
        put().await.map_err(failed)?;
        let written = SystemTime::now();
        let again = put().await;
        let meta = store.head(&path).await;
        let removed = store.delete(&path).await.is_ok();
        self.remove_probe_folder(&path);
        let put_if_absent = match again {
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => true,
            Ok(_) | Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => false,
            Err(error) => return Err(failed(error)),
        };
        let modified_ms = meta.map_err(failed)?.last_modified.timestamp_millis();
        Ok(StoreProbe {
            put_if_absent,
            removed,
            clock_ahead_ms: away_from(modified_ms, epoch_ms(started), epoch_ms(written)),
            write_time: written.duration_since(started).unwrap_or_default(),
        })
    }

    /// A directory keeps empty folders, a bucket does not.
    fn remove_probe_folder(&self, path: &Path) {
        let Some(directory) = self.directory() else { return };
        debug_assert!(path.as_ref().contains(FOLDER));
        // Fails, as it should, where somebody else probes at this moment, or where the lake has tables.
        let _ = std::fs::remove_dir(directory.join(FOLDER));
        let _ = std::fs::remove_dir(directory);
    }
}

/// How far a time is outside of the period in which it was taken; a second less, as it may be a whole one.
fn away_from(time_ms: i64, from_ms: i64, to_ms: i64) -> i64 {
    if time_ms > to_ms {
        time_ms - to_ms
    } else {
        (time_ms + 1_000 - from_ms).min(0)
    }
}

fn epoch_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    #[tokio::test]
    async fn a_directory_is_as_it_was_after_a_probe() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lake");
        let lake = Lake::open(path.to_str().expect("UTF-8"), &StoreOptions::default()).expect("a lake");
        let probe = lake.probe().await.expect("a store that works");
        assert!(probe.put_if_absent && probe.removed);
        assert!(probe.clock_ahead_ms.abs() < 1_000, "{probe:?}");
        assert!(!path.exists(), "nothing is left");
    }

    #[test]
    fn a_clock_is_off_by_what_lies_outside_of_the_call() {
        assert_eq!(away_from(5_000, 4_500, 5_500), 0);
        assert_eq!(away_from(4_000, 4_500, 5_500), 0, "a whole second");
        assert_eq!(away_from(9_500, 4_500, 5_500), 4_000);
        assert_eq!(away_from(500, 4_500, 5_500), -3_000);
    }
}
