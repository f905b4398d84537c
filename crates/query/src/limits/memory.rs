//! The memory that the operators of an engine share.
//!
//! Those that give way get equal parts of three quarters of it: operators that can spill, and the merges of their spilled runs,
//! which take fewer runs at a time when there is less. The last quarter is kept for those that do not: the merge of all sorted
//! partitions needs a few rows of each while the sorts below it hold all that they may. Without that, a sort spills all of its
//! input and then fails at its last step.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// How DataFusion calls the merges of spilled runs.
const MERGE_OF_RUNS: &str = "ExternalSorterMerge";
/// The part of the memory that operators which give way leave to the others: one in so many.
const KEPT_PART: usize = 4;

/// A limit on the bytes that are reserved.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    limit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Consumers that give way.
    yielding: usize,
    yielding_bytes: usize,
    fixed_bytes: usize,
}

fn gives_way(consumer: &MemoryConsumer) -> bool {
    consumer.can_spill() || consumer.name().starts_with(MERGE_OF_RUNS)
}

impl SharedMemory {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryPool for SharedMemory {
    fn name(&self) -> &str {
        "shared"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.state().yielding += usize::from(gives_way(consumer));
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.state().yielding -= usize::from(gives_way(consumer));
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        let mut state = self.state();
        match gives_way(reservation.consumer()) {
            true => state.yielding_bytes += additional,
            false => state.fixed_bytes += additional,
        }
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let mut state = self.state();
        match gives_way(reservation.consumer()) {
            true => state.yielding_bytes -= shrink,
            false => state.fixed_bytes -= shrink,
        }
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let mut state = self.state();
        let available = if gives_way(reservation.consumer()) {
            let kept = (self.limit_bytes / KEPT_PART).max(state.fixed_bytes);
            let part = self.limit_bytes.saturating_sub(kept) / state.yielding.max(1);
            part.saturating_sub(reservation.size())
        } else {
            self.limit_bytes
                .saturating_sub(state.fixed_bytes + state.yielding_bytes)
        };
        if additional > available {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} holds {} bytes, needs {additional} more, and {available} are left for it",
                reservation.consumer().name(),
                reservation.size()
            )));
        }
        match gives_way(reservation.consumer()) {
            true => state.yielding_bytes += additional,
            false => state.fixed_bytes += additional,
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        let state = self.state();
        state.yielding_bytes + state.fixed_bytes
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit_bytes)
    }
}

impl fmt::Display for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared({} bytes)", self.limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn those_that_cannot_spill_have_room_when_the_others_hold_all_they_may() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SharedMemory::new(1000));
        let first = MemoryConsumer::new("first").with_can_spill(true).register(&pool);
        let second = MemoryConsumer::new("second").with_can_spill(true).register(&pool);
        let merge = MemoryConsumer::new("merge").register(&pool);
        first.try_grow(375).unwrap();
        assert!(first.try_grow(1).is_err());
        second.try_grow(375).unwrap();
        merge.try_grow(250).unwrap();
        let error = merge.try_grow(1).unwrap_err();
        assert!(error.to_string().contains("merge holds 250 bytes"), "{error}");
        assert_eq!(pool.reserved(), 1000);
        drop((first, second));
        merge.try_grow(750).unwrap();
        drop(merge);
        assert_eq!(pool.reserved(), 0);
    }
}
