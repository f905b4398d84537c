//! The schemas that were asked for, compiled. A schema of an id never changes, so what is known stays; only "there is no
//! such schema" is asked again after a while, as somebody may register it. At most [`CAPACITY`] ids are kept: an input that
//! invents ids costs requests, not memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use loginlake_events::{RejectReason, Rejection};

use crate::frame::SchemaId;
use crate::registry::{Answer, Registry, RegistryError};
use crate::rejection;
use crate::schema::Schema;

/// Ids that are kept.
pub const CAPACITY: usize = 1_000;
/// How long an id is taken for unknown without asking again.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);

/// What is known about an id.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    Schema(Arc<Schema>),
    Unknown { since: Instant },
    Unusable,
}

impl Known {
    /// The schema, or why its records are rejected.
    pub(crate) fn schema(&self, id: SchemaId) -> Result<Arc<Schema>, Rejection> {
        match self {
            Known::Schema(schema) => Ok(Arc::clone(schema)),
            Known::Unknown { .. } => Err(rejection(
                RejectReason::UnknownSchema,
                format!("the registry has no schema of id {id}"),
            )),
            Known::Unusable => Err(rejection(
                RejectReason::UnknownSchema,
                format!("the registry's schema of id {id} cannot be used"),
            )),
        }
    }
}

/// Asks a registry and remembers. Shared by all threads.
#[derive(Debug)]
pub(crate) struct Cache {
    registry: Registry,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    known: HashMap<SchemaId, Known>,
    /// In the order in which they came; the oldest leaves first.
    order: VecDeque<SchemaId>,
}

impl Cache {
    pub(crate) fn new(registry: Registry) -> Self {
        Self {
            registry,
            entries: Mutex::default(),
        }
    }

    /// What is remembered about an id.
    pub(crate) fn recall(&self, id: SchemaId, now: Instant) -> Option<Known> {
        match self.lock().known.get(&id)? {
            Known::Unknown { since } if now.saturating_duration_since(*since) >= UNKNOWN_FOR => None,
            known => Some(known.clone()),
        }
    }

    /// Asks the registry. Several threads may ask for the same id at once; all get the same answer.
    pub(crate) fn ask(&self, id: SchemaId) -> Result<Known, RegistryError> {
        let known = match self.registry.schema(id)? {
            Answer::Unknown => Known::Unknown {
                since: Instant::now(),
            },
            Answer::Unusable(problem) => unusable(id, &problem),
            Answer::Schema(text) => match Schema::compile(&text) {
                Ok(schema) => {
                    tracing::info!(id, schema_type = text.schema_type.as_str(), "new schema");
                    Known::Schema(Arc::new(schema))
                }
                Err(problem) => unusable(id, &problem),
            },
        };
        self.lock().insert(id, known.clone());
        Ok(known)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn insert(&mut self, id: SchemaId, known: Known) {
        if self.known.insert(id, known).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Logged here, once for an id: what is known about it is not asked for again.
fn unusable(id: SchemaId, problem: &str) -> Known {
    tracing::error!(
        id,
        problem,
        "the registry's schema cannot be used: its records are rejected as UNKNOWN_SCHEMA"
    );
    Known::Unusable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leaves_when_it_is_full() {
        let mut entries = Entries::default();
        for id in 1..=u32::try_from(CAPACITY).expect("small") + 1 {
            entries.insert(id, Known::Unusable);
            entries.insert(id, Known::Unusable);
        }
        assert_eq!((entries.known.len(), entries.order.len()), (CAPACITY, CAPACITY));
        assert!(!entries.known.contains_key(&1) && entries.known.contains_key(&2));
    }
}
