//! What an erasure did, to be kept: who, when, how much and where, and hashes in place of the ids. Somebody who knows an
//! id can check that it was erased; nobody learns one.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::begun;
use crate::error::LakeError;
use crate::ingest::fail_point::{FailPoint, pass};
use crate::store::Lake;

/// Folder of the proofs at the root of a lake. Readers of the tables do not look there.
pub const FOLDER: &str = "_erasures";
/// The most proofs of one erasure.
const MAX_PROOFS: u32 = 100;

/// The proof of one erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErasureProof {
    /// Names the erasure, as its commits do.
    pub erasure: Uuid,
    /// Who ran it.
    pub who: String,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// When the last table held no such row any more.
    pub ended_at: DateTime<Utc>,
    /// SHA-256 of the ids, pseudonyms included.
    pub users: Vec<String>,
    /// What was done to each table.
    pub tables: Vec<TableErasure>,
}

/// What was done to one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableErasure {
    /// The table.
    pub table: String,
    /// Rows erased; of a dry run, those that would be.
    pub rows: u64,
    /// Files that the last run looked into, because neither statistics nor bloom filters ruled them out.
    pub files_read: u64,
    /// The files that were replaced: they hold the rows until vacuum removes them.
    pub replaced_files: Vec<String>,
    /// The versions that the commits made.
    pub versions: Vec<i64>,
    /// A version that holds no such row.
    pub clean_at_version: i64,
}

impl ErasureProof {
    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Stores it in the lake and says where, relative to its root. With it the erasure is finished. A proof that is there
    /// already stays: two runs at once for the same users may share an id, and each proves what it saw.
    ///
    /// # Errors
    /// The store failed.
    pub async fn store(&self, lake: &Lake) -> Result<String, LakeError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| LakeError::Invariant(format!("cannot write a proof: {error}")))?;
        let text = Bytes::from(text);
        let failed = |error| LakeError::from_store(lake.uri(), error);
        let store = lake.object_store();
        for number in 1..=MAX_PROOFS {
            let name = match number {
                1 => format!("{}.json", self.erasure),
                number => format!("{}.{number}.json", self.erasure),
            };
            let path = lake.root_path(FOLDER).join(name.as_str());
            let options = PutOptions {
                mode: PutMode::Create,
                ..PutOptions::default()
            };
            match store.put_opts(&path, text.clone().into(), options).await {
                Ok(_) => {}
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    let held = store.get(&path).await.map_err(failed)?;
                    // Ours, when an earlier try was not answered.
                    if held.bytes().await.map_err(failed)? != text {
                        continue;
                    }
                }
                Err(error) => return Err(failed(error)),
            }
            pass(FailPoint::EraseAfterProof)?;
            begun::finished(lake, self.erasure, &self.users).await?;
            return Ok(format!("{FOLDER}/{name}"));
        }
        Err(LakeError::Configuration(format!(
            "erasure {} has {MAX_PROOFS} proofs in {}/{FOLDER} already: move them elsewhere",
            self.erasure,
            lake.uri()
        )))
    }

    /// Reads a proof back from the lake by the erasure's id.
    ///
    /// # Errors
    /// There is none, or it is not readable.
    pub async fn load(lake: &Lake, erasure: Uuid) -> Result<Self, LakeError> {
        let path: Path = lake.root_path(FOLDER).join(format!("{erasure}.json"));
        let store_error = |error| LakeError::from_store(lake.uri(), error);
        let found = lake.object_store().get(&path).await.map_err(store_error)?;
        let bytes = found.bytes().await.map_err(store_error)?;
        Self::parse(&bytes)
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, LakeError> {
        serde_json::from_slice(bytes)
            .map_err(|error| LakeError::Configuration(format!("this is no proof of an erasure: {error}")))
    }
}
