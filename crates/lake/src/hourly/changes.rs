//! Which dates of `logins` changed after a version: those of the files that commits added or removed with `dataChange`. Compaction
//! changes none. A version number alone does not say which table it is of: `commit_of` tells one commit from another.

use std::collections::BTreeSet;

use futures::StreamExt;
use object_store::ObjectStoreExt;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::LakeError;
use crate::store::Lake;
use crate::table::TableName;
use crate::table::commit::commit_path;

/// Commits that are read at the same time.
const READS_IN_FLIGHT: usize = 8;
/// The column that the view is partitioned by.
pub(super) const DATE: &str = "login_date";

/// A `login_date` as the log writes it; `None` is SQL's NULL.
pub type DateValue = Option<String>;

/// What the log says of the time after a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// These dates have other rows than before, or may have.
    Dates(BTreeSet<DateValue>),
    /// It cannot be told; everything has to be counted again.
    Unknown {
        /// Why.
        why: String,
    },
}

/// What tells a version of `logins` from all others of its number; `None`: the log does not have it (any more).
///
/// # Errors
/// The store failed.
pub(super) async fn commit_of(lake: &Lake, version: i64) -> Result<Option<i64>, LakeError> {
    let failed = |error| LakeError::from_store(&lake.table_place(TableName::Logins), error);
    let store = lake.table_store(TableName::Logins);
    let found = match store.get(&commit_path(version)).await {
        Ok(found) => found.bytes().await.map_err(failed)?,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let digest = Sha256::digest(&found);
    let first = digest.iter().take(8);
    let number = first.fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    Ok(i64::try_from(number >> 1).ok())
}

/// The dates that the commits `after + 1 ..= up_to` of `logins` changed.
///
/// # Errors
/// The store failed, or a commit is not readable.
pub async fn changes(lake: &Lake, after: i64, up_to: i64) -> Result<Changes, LakeError> {
    if after > up_to {
        let why = format!("logins is at version {up_to}, before version {after} of the last refresh");
        return Ok(Changes::Unknown { why });
    }
    let store = lake.table_store(TableName::Logins);
    let place = lake.table_place(TableName::Logins);
    let mut commits = futures::stream::iter(after + 1..=up_to)
        .map(|version| {
            let (store, place) = (&store, &place);
            async move {
                let bytes = match store.get(&commit_path(version)).await {
                    Ok(found) => found.bytes().await.map(Some),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(error),
                };
                let bytes = bytes.map_err(|error| LakeError::from_store(place, error))?;
                Ok::<_, LakeError>((version, bytes))
            }
        })
        .buffered(READS_IN_FLIGHT);
    let mut dates = BTreeSet::new();
    while let Some(commit) = commits.next().await {
        let (version, bytes) = commit?;
        let Some(bytes) = bytes else {
            let why = format!("the log of logins does not have version {version} any more");
            return Ok(Changes::Unknown { why });
        };
        let complete = collect(&bytes, &mut dates).map_err(|detail| LakeError::Log {
            place: place.clone(),
            detail: format!("version {version}: {detail}"),
        })?;
        if !complete {
            let why = format!("version {version} of logins does not say which dates it changed");
            return Ok(Changes::Unknown { why });
        }
    }
    Ok(Changes::Dates(dates))
}

/// Adds the dates that one commit changed. False: it changed some that it does not name.
fn collect(commit: &[u8], dates: &mut BTreeSet<DateValue>) -> Result<bool, String> {
    for line in commit
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
    {
        let action: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let file = match (action.get("add"), action.get("remove")) {
            (Some(file), _) | (None, Some(file)) => file,
            (None, None) => continue,
        };
        // Without the field it is taken for a change: counting once too often is harmless.
        if file["dataChange"] == Value::Bool(false) {
            continue;
        }
        match file["partitionValues"].get(DATE) {
            Some(Value::String(date)) if !date.is_empty() => dates.insert(Some(date.clone())),
            Some(Value::String(_) | Value::Null) => dates.insert(None),
            _ => return Ok(false),
        };
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_of_rows_count_and_what_is_not_said_is_not_guessed() {
        let mut dates = BTreeSet::new();
        let commit = br#"{"commitInfo":{"operation":"x"}}
{"add":{"path":"a","dataChange":true,"partitionValues":{"login_date":"2026-01-05"}}}
{"remove":{"path":"b","dataChange":true,"partitionValues":{"login_date":"2026-01-06"}}}
{"add":{"path":"c","dataChange":false,"partitionValues":{"login_date":"2026-01-07"}}}
{"add":{"path":"d","dataChange":true,"partitionValues":{"login_date":null}}}"#;
        assert_eq!(collect(commit, &mut dates), Ok(true));
        let date = |text: &str| Some(text.to_owned());
        assert_eq!(
            dates,
            BTreeSet::from([None, date("2026-01-05"), date("2026-01-06")])
        );
        let silent = br#"{"remove":{"path":"b","dataChange":true}}"#;
        assert_eq!(collect(silent, &mut dates), Ok(false));
        let compaction = br#"{"remove":{"path":"b","dataChange":false}}"#;
        assert_eq!(collect(compaction, &mut dates), Ok(true));
        assert!(collect(b"{", &mut dates).is_err());
    }
}
