//! One maintainer of a lake at a time, without a service for it: a lease in the lake itself.
//!
//! The lease is a row of numbered objects in `_maintenance/`, each put if absent, as commits are. Who puts the next number has the
//! lease, and puts further ones while it lives. Another one watches: when the newest number has stayed the same for the
//! time that the holder promised to move within, measured by the watcher's own clock, it puts the next number. No two
//! clocks are ever compared, and nothing is needed of the store but what commits need (ADR 10).
//!
//! It saves work and guards nothing: a holder that was frozen may go on beside its successor until it looks. Every job is
//! safe beside itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::LakeError;
use crate::store::Lake;

/// Folder of the lease at the root of a lake.
pub const FOLDER: &str = "_maintenance";
/// Numbers that the holder leaves behind the newest.
const KEPT: u64 = 2;

/// What one number says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    holder: Uuid,
    who: String,
    ttl_ms: u64,
    released: bool,
}

/// Somebody who wants the lease, or has it.
#[derive(Debug)]
pub struct Lease {
    lake: Lake,
    holder: Uuid,
    who: String,
    ttl: Duration,
    /// The newest number, what it says and since when it is known.
    seen: Option<(u64, Entry, Instant)>,
    /// Our own newest number, while we have the lease.
    held: Option<u64>,
}

/// What a look at the lease found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Held,
    /// Somebody else has it.
    Waiting {
        /// Who.
        who: String,
    },
}

impl Lease {
    /// A candidate. `ttl`: how long others wait after its last sign of life. `who` is shown to them.
    pub fn new(lake: &Lake, who: impl Into<String>, ttl: Duration) -> Self {
        Self {
            lake: lake.clone(),
            holder: Uuid::new_v4(),
            who: who.into(),
            ttl,
            seen: None,
            held: None,
        }
    }

    /// Looks, and takes the lease when it is free or its holder has been still for too long at `now`. To be called again and
    /// again, several times within `ttl`.
    ///
    /// # Errors
    /// The store failed: nothing is known, call again.
    pub async fn claim(&mut self, now: Instant) -> Result<Claim, LakeError> {
        if self.held.is_some() {
            return self.renew(now).await;
        }
        let newest = self.newest().await?;
        let next = match newest {
            None => 1,
            Some((number, entry)) => {
                let since = match &self.seen {
                    Some((seen, _, since)) if *seen == number => *since,
                    _ => now,
                };
                self.seen = Some((number, entry.clone(), since));
                let is_free = entry.released || entry.holder == self.holder;
                let patience = Duration::from_millis(entry.ttl_ms);
                if !is_free && now.saturating_duration_since(since) < patience {
                    return Ok(Claim::Waiting { who: entry.who });
                }
                number + 1
            }
        };
        if self.put(next, false).await? {
            // A number that is free because it was cleaned up is not the newest.
            if let Some((number, entry)) = self.newest().await?
                && number != next
            {
                self.remove(next).await;
                return Ok(Claim::Waiting { who: entry.who });
            }
            self.held = Some(next);
            return Ok(Claim::Held);
        }
        Ok(Claim::Waiting {
            who: "another candidate, which was quicker".to_owned(),
        })
    }

    async fn renew(&mut self, now: Instant) -> Result<Claim, LakeError> {
        let Some(number) = self.held else {
            return Ok(Claim::Waiting { who: String::new() });
        };
        let next = number + 1;
        if !self.put(next, false).await? {
            // Ours, of a put that was not answered, or a successor's.
            let newest = self.newest().await?;
            match newest {
                Some((_, entry)) if entry.holder == self.holder => {}
                Some((number, entry)) => {
                    self.held = None;
                    let who = entry.who.clone();
                    self.seen = Some((number, entry, now));
                    return Ok(Claim::Waiting { who });
                }
                None => {}
            }
        }
        self.held = Some(next);
        Ok(Claim::Held)
    }

    /// Gives the lease back, so that nobody has to wait.
    ///
    /// # Errors
    /// The store failed: others wait for `ttl`.
    pub async fn release(&mut self) -> Result<(), LakeError> {
        if let Some(number) = self.held.take() {
            self.put(number + 1, true).await?;
        }
        Ok(())
    }

    fn path(&self, number: u64) -> Path {
        self.lake.root_path(FOLDER).join(format!("{number:020}.json"))
    }

    /// Puts a number; false: there is one already.
    async fn put(&self, number: u64, released: bool) -> Result<bool, LakeError> {
        let entry = Entry {
            holder: self.holder,
            who: self.who.clone(),
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            released,
        };
        let text = serde_json::to_vec(&entry)
            .map_err(|error| LakeError::Invariant(format!("cannot write the lease: {error}")))?;
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let store = self.lake.object_store();
        match store
            .put_opts(&self.path(number), Bytes::from(text).into(), options)
            .await
        {
            Ok(_) => {
                // Numbers have no holes, whoever puts them: so each put leaves one less behind.
                if let Some(old) = number.checked_sub(KEPT).filter(|old| *old > 0) {
                    self.remove(old).await;
                }
                Ok(true)
            }
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The newest number and what it says.
    async fn newest(&self) -> Result<Option<(u64, Entry)>, LakeError> {
        let store = self.lake.object_store();
        let folder = self.lake.root_path(FOLDER);
        let mut listing = store.list(Some(&folder));
        let mut newest = None;
        while let Some(object) = listing.next().await {
            match object {
                Ok(object) => {
                    let name = object
                        .location
                        .filename()
                        .and_then(|name| name.strip_suffix(".json"));
                    newest = newest.max(name.and_then(|name| name.parse::<u64>().ok()));
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        let Some(number) = newest else { return Ok(None) };
        let found = store.get(&self.path(number)).await;
        let bytes = match found {
            Ok(found) => found.bytes().await.map_err(|error| self.failed(error))?,
            Err(error) => return Err(self.failed(error)),
        };
        let entry = serde_json::from_slice(&bytes).map_err(|error| {
            LakeError::Configuration(format!(
                "{}/{FOLDER}/{number:020}.json is not a lease of this software ({error}): remove it",
                self.lake.uri()
            ))
        })?;
        Ok(Some((number, entry)))
    }

    async fn remove(&self, number: u64) {
        if let Err(error) = self.lake.object_store().delete(&self.path(number)).await {
            tracing::debug!(number, %error, "an old lease stays");
        }
    }

    fn failed(&self, error: object_store::Error) -> LakeError {
        LakeError::from_store(
            &format!("{}/{FOLDER}", self.lake.uri().trim_end_matches('/')),
            error,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    const TTL: Duration = Duration::from_secs(30);

    fn waits_for(claim: &Claim, name: &str) -> bool {
        matches!(claim, Claim::Waiting { who } if who == name)
    }

    #[tokio::test]
    async fn the_second_waits_and_takes_over_when_the_first_is_still() {
        let directory = tempfile::tempdir().unwrap();
        let lake = Lake::open(directory.path().to_str().unwrap(), &StoreOptions::default()).unwrap();
        let began = Instant::now();
        let at = |secs: u64| began + Duration::from_secs(secs);
        let mut first = Lease::new(&lake, "first", TTL);
        let mut second = Lease::new(&lake, "second", TTL);
        assert_eq!(first.claim(at(0)).await.unwrap(), Claim::Held);
        assert!(waits_for(&second.claim(at(0)).await.unwrap(), "first"));
        // Signs of life: the second begins to count anew.
        assert_eq!(first.claim(at(25)).await.unwrap(), Claim::Held);
        assert!(waits_for(&second.claim(at(29)).await.unwrap(), "first"));
        assert!(waits_for(&second.claim(at(58)).await.unwrap(), "first"));
        // Still for the time it promised.
        assert_eq!(second.claim(at(59)).await.unwrap(), Claim::Held);
        // The first comes back, and learns of it by its next look.
        assert!(waits_for(&first.claim(at(60)).await.unwrap(), "second"));
        second.release().await.unwrap();
        assert_eq!(first.claim(at(61)).await.unwrap(), Claim::Held);
        for turn in 0..20 {
            assert_eq!(first.claim(at(62 + turn)).await.unwrap(), Claim::Held);
        }
        let files = std::fs::read_dir(directory.path().join(FOLDER)).unwrap().count();
        assert!(files <= 2, "{files} files are left");
    }

    #[tokio::test]
    async fn of_many_candidates_one_gets_it() {
        let directory = tempfile::tempdir().unwrap();
        let lake = Lake::open(directory.path().to_str().unwrap(), &StoreOptions::default()).unwrap();
        let now = Instant::now();
        let mut candidates: Vec<Lease> = (0..8)
            .map(|index| Lease::new(&lake, format!("candidate {index}"), TTL))
            .collect();
        let claims = futures::future::join_all(candidates.iter_mut().map(|lease| lease.claim(now))).await;
        let held = claims
            .iter()
            .filter(|claim| matches!(claim, Ok(Claim::Held)))
            .count();
        assert_eq!(held, 1, "{claims:?}");
    }
}
