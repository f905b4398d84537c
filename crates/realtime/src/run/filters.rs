//! The drop filters of all workers, which may change while they run.
//!
//! A worker takes new ones between two of its batches, when nothing of it is open: no record is judged by half of a change, and in
//! each partition there is one offset before which the old filters hold and from which on the new ones do. What is read again after
//! a failure was seen by nobody, and is judged by the filters of then. A record costs nothing more by it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use loginlake_events::filter::DropFilters;

/// Filters that all clones share.
#[derive(Clone, Debug, Default)]
pub struct LiveFilters(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Counts the changes.
    version: AtomicU64,
    filters: Mutex<DropFilters>,
}

impl From<DropFilters> for LiveFilters {
    fn from(filters: DropFilters) -> Self {
        Self(Arc::new(Shared {
            version: AtomicU64::new(0),
            filters: Mutex::new(filters),
        }))
    }
}

impl LiveFilters {
    /// These from the workers' next batches on.
    pub fn set(&self, filters: DropFilters) {
        *self.0.filters.lock().unwrap_or_else(PoisonError::into_inner) = filters;
        // Whoever sees the number sees the filters: they are read behind the lock.
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Those of now.
    pub fn get(&self) -> DropFilters {
        self.0
            .filters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Those of now, if they changed since `seen`.
    pub(super) fn newer_than(&self, seen: &mut u64) -> Option<DropFilters> {
        let version = self.0.version.load(Ordering::Acquire);
        if version == *seen {
            return None;
        }
        *seen = version;
        Some(self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_is_given_a_change_once() {
        let live = LiveFilters::from(DropFilters::default());
        let (mut one, mut other) = (0, 0);
        assert!(live.newer_than(&mut one).is_none());
        live.set(DropFilters::parse(["locale = \"RU\""]).expect("a filter"));
        assert!(
            live.newer_than(&mut one)
                .is_some_and(|filters| !filters.is_empty())
        );
        assert!(live.newer_than(&mut one).is_none());
        live.clone().set(DropFilters::default());
        for seen in [&mut one, &mut other] {
            assert!(live.newer_than(seen).is_some_and(|filters| filters.is_empty()));
        }
    }
}
