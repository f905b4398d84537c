//! A note in the lake that an erasure began: `_erasures/ID.USERS.begun.json`. A process that dies leaves it, so that the next run
//! for the same users goes on under the same id, and its proof names what the dead one had committed, too.
//!
//! What was done is read from the tables' logs, never from memory: every commit of an erasure carries its id. The note is
//! removed after the proof is stored. Without the note, or once the log no longer goes back to it, an erasure begins anew.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::proof::FOLDER;
use super::{Subjects, TABLES, TableErasure};
use crate::error::LakeError;
use crate::ingest::fail_point::{FailPoint, pass};
use crate::store::Lake;
use crate::table::TableName;
use crate::table::commit::commit_path;
use crate::table::snapshot::WithFiles;

/// How the name of a note ends.
const SUFFIX: &str = ".begun.json";
/// Bytes of the digest of the users that a name has.
const DIGEST_BYTES: usize = 8;
/// Commits that are read at the same time.
const READS_IN_FLIGHT: usize = 8;

/// The beginning of an erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Begun {
    pub(super) erasure: Uuid,
    pub(super) who: String,
    pub(super) began_at: DateTime<Utc>,
    /// The version of each table before the first commit of the erasure; a table that was not there is not named.
    pub(super) versions: BTreeMap<String, i64>,
}

impl Begun {
    /// The unfinished erasure of the same users, or a new one, noted in the lake.
    ///
    /// # Errors
    /// The store failed, or a note is not readable.
    pub(super) async fn of(lake: &Lake, subjects: &Subjects, who: &str) -> Result<Self, LakeError> {
        let hashes = subjects.hashes();
        for path in notes(lake, &hashes).await? {
            let Some(begun) = read(lake, &path).await? else {
                continue;
            };
            if begun.is_unfinished(lake).await? {
                tracing::info!(erasure = %begun.erasure, began_at = %begun.began_at, "an erasure of the same users goes on");
                return Ok(begun);
            }
            // Its proof is stored, or what it did can no longer be told.
            remove(lake, &path).await?;
        }
        let mut begun = Self {
            erasure: Uuid::new_v4(),
            who: who.to_owned(),
            began_at: Utc::now(),
            versions: BTreeMap::new(),
        };
        for table in TABLES {
            if let Some(snapshot) = lake.load_snapshot(table, None, WithFiles::No).await? {
                begun.versions.insert(table.to_string(), snapshot.version);
            }
        }
        // A place without tables is none of ours.
        if begun.versions.is_empty() {
            return Ok(begun);
        }
        let text = serde_json::to_vec_pretty(&begun)
            .map_err(|error| LakeError::Invariant(format!("cannot write a note: {error}")))?;
        let path = note_path(lake, begun.erasure, &hashes);
        let put = lake.object_store().put(&path, Bytes::from(text).into()).await;
        put.map_err(|error| LakeError::from_store(lake.uri(), error))?;
        pass(FailPoint::EraseBegun)?;
        Ok(begun)
    }

    /// Whether it has no proof yet, and the logs go back to where it began.
    async fn is_unfinished(&self, lake: &Lake) -> Result<bool, LakeError> {
        let proof = lake.root_path(FOLDER).join(format!("{}.json", self.erasure));
        match lake.object_store().head(&proof).await {
            Ok(_) => return Ok(false),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(LakeError::from_store(lake.uri(), error)),
        }
        for table in TABLES {
            let head = lake.load_snapshot(table, None, WithFiles::No).await?;
            let (Some(head), Some(began)) = (head, self.versions.get(table.as_str())) else {
                continue;
            };
            let goes_back = head.version == *began
                || (head.version > *began && lake.read_commit(table, began + 1).await?.is_some());
            if !goes_back {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the commits of the erasure did to a table up to a version that holds none of the rows any more.
    ///
    /// # Errors
    /// The store failed, or the log was cleaned up meanwhile.
    pub(super) async fn done(
        &self,
        lake: &Lake,
        table: TableName,
        files_read: u64,
        clean_at_version: i64,
    ) -> Result<TableErasure, LakeError> {
        let mut done = TableErasure {
            table: table.to_string(),
            rows: 0,
            files_read,
            replaced_files: Vec::new(),
            versions: Vec::new(),
            clean_at_version,
        };
        let began = self.versions.get(table.as_str()).copied().unwrap_or(-1);
        let (store, place) = (lake.table_store(table), lake.table_place(table));
        let mut commits = futures::stream::iter(began + 1..=clean_at_version)
            .map(|version| {
                let store = &store;
                async move {
                    let found = store.get(&commit_path(version)).await?;
                    Ok::<_, object_store::Error>((version, found.bytes().await?))
                }
            })
            .buffered(READS_IN_FLIGHT);
        while let Some(commit) = commits.next().await {
            let (version, bytes) = commit.map_err(|error| LakeError::from_store(&place, error))?;
            self.add(&bytes, version, &mut done)
                .map_err(|detail| LakeError::Log {
                    place: place.clone(),
                    detail: format!("version {version}: {detail}"),
                })?;
        }
        Ok(done)
    }

    /// Adds one commit, if it is one of this erasure.
    fn add(&self, commit: &[u8], version: i64, done: &mut TableErasure) -> Result<(), String> {
        let mut ours = false;
        let (mut rows, mut removed) = (0, Vec::new());
        for line in commit
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
        {
            let action: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            if let Some(info) = action.get("commitInfo") {
                let info = &info["loginlake"]["info"];
                ours = info["kind"] == "erasure" && info["erasure"] == self.erasure.to_string();
                let parts = info["erased"].as_array().into_iter().flatten();
                rows = parts.filter_map(|part| part["rows"].as_u64()).sum();
            } else if let Some(path) = action["remove"]["path"].as_str() {
                let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
                removed.push(path.into_owned());
            }
        }
        if ours {
            done.rows += rows;
            done.versions.push(version);
            done.replaced_files.extend(removed);
        }
        Ok(())
    }
}

/// Takes the note of an erasure away, whose proof is stored.
pub(super) async fn finished(lake: &Lake, erasure: Uuid, hashes: &[String]) -> Result<(), LakeError> {
    remove(lake, &note_path(lake, erasure, hashes)).await
}

fn note_path(lake: &Lake, erasure: Uuid, hashes: &[String]) -> Path {
    let name = format!("{erasure}.{}{SUFFIX}", digest(hashes));
    lake.root_path(FOLDER).join(name)
}

/// Tells one set of users from others.
fn digest(hashes: &[String]) -> String {
    let mut digest = Sha256::new();
    hashes.iter().for_each(|hash| digest.update(hash));
    digest.finalize()[..DIGEST_BYTES]
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The notes of erasures of these users, in a fixed order.
async fn notes(lake: &Lake, hashes: &[String]) -> Result<Vec<Path>, LakeError> {
    let end = format!(".{}{SUFFIX}", digest(hashes));
    let store = lake.object_store();
    let folder = lake.root_path(FOLDER);
    let mut listing = store.list(Some(&folder));
    let mut found = Vec::new();
    while let Some(object) = listing.next().await {
        match object {
            Ok(object) if object.location.as_ref().ends_with(&end) => found.push(object.location),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(LakeError::from_store(lake.uri(), error)),
        }
    }
    found.sort();
    Ok(found)
}

/// `None`: somebody else has removed it meanwhile.
async fn read(lake: &Lake, path: &Path) -> Result<Option<Begun>, LakeError> {
    let store_error = |error| LakeError::from_store(lake.uri(), error);
    let found = match lake.object_store().get(path).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(store_error(error)),
    };
    let bytes = found.bytes().await.map_err(store_error)?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        LakeError::Configuration(format!(
            "{path} in {} is no note of an erasure: {error}; remove it if nobody erases these users now",
            lake.uri()
        ))
    })
}

async fn remove(lake: &Lake, path: &Path) -> Result<(), LakeError> {
    match lake.object_store().delete(path).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(LakeError::from_store(lake.uri(), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commits_of_the_erasure_count() {
        let begun = Begun {
            erasure: Uuid::from_u128(1),
            who: "x".to_owned(),
            began_at: DateTime::UNIX_EPOCH,
            versions: BTreeMap::new(),
        };
        let mut done = TableErasure {
            table: "logins".to_owned(),
            rows: 0,
            files_read: 0,
            replaced_files: Vec::new(),
            versions: Vec::new(),
            clean_at_version: 9,
        };
        let commit = |erasure: u128| {
            format!(
                "{}\n{}\n",
                serde_json::json!({ "commitInfo": { "loginlake": { "info": {
                    "kind": "erasure", "erasure": Uuid::from_u128(erasure), "erased": [{ "rows": 2 }, { "rows": 3 }],
                } } } }),
                r#"{"remove":{"path":"login_date=2026-01-05/a%20b.parquet"}}"#
            )
        };
        begun.add(commit(1).as_bytes(), 4, &mut done).unwrap();
        begun.add(commit(2).as_bytes(), 5, &mut done).unwrap();
        assert_eq!((done.rows, done.versions.as_slice()), (5, &[4][..]));
        assert_eq!(done.replaced_files, ["login_date=2026-01-05/a b.parquet"]);
        assert!(begun.add(b"{", 6, &mut done).is_err());
    }
}
