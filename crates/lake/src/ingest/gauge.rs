//! The memory of everything that waits for a commit, over all batches of a process.
//!
//! Guarantee: what is reserved is counted until its [`Reservation`] is dropped, on whatever thread. Bytes under encoding are
//! counted a second time on their own, because they shrink by themselves: a reader may wait for that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Counts the bytes that wait, over all batches of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct MemoryGauge(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    all: AtomicU64,
    encoding: Mutex<u64>,
    less_encoding: Condvar,
}

impl MemoryGauge {
    /// Bytes that are waiting now, those under encoding included.
    pub fn bytes(&self) -> u64 {
        self.0.all.load(Ordering::Relaxed)
    }

    /// Waits until no more than `limit_bytes` are under encoding, but not longer than `patience`.
    pub fn wait_for_encoders(&self, limit_bytes: u64, patience: Duration) {
        let encoding = self.0.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .0
            .less_encoding
            .wait_timeout_while(encoding, patience, |encoding| *encoding > limit_bytes);
        drop(waited);
    }

    /// Counts bytes that stay as they are until they are dropped.
    pub(super) fn reserve(&self, bytes: u64) -> Reservation {
        self.reserve_for(bytes, false)
    }

    /// Counts bytes under encoding.
    pub(super) fn reserve_encoding(&self, bytes: u64) -> Reservation {
        self.reserve_for(bytes, true)
    }

    fn reserve_for(&self, bytes: u64, is_encoding: bool) -> Reservation {
        self.0.all.fetch_add(bytes, Ordering::Relaxed);
        if is_encoding {
            *self.0.encoding.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        }
        Reservation {
            gauge: self.clone(),
            bytes,
            is_encoding,
        }
    }
}

/// Bytes counted in a gauge until dropped.
#[derive(Debug)]
pub struct Reservation {
    gauge: MemoryGauge,
    bytes: u64,
    is_encoding: bool,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let counters = &self.gauge.0;
        counters.all.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.is_encoding {
            *counters.encoding.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
            counters.less_encoding.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_counted_until_it_is_dropped() {
        let gauge = MemoryGauge::default();
        let (waiting, encoding) = (gauge.reserve(5), gauge.reserve_encoding(7));
        assert_eq!(gauge.bytes(), 12);
        drop(waiting);
        assert_eq!(gauge.bytes(), 7);
        drop(encoding);
        assert_eq!(gauge.bytes(), 0);
    }

    #[test]
    fn a_reader_waits_for_encoders_and_for_nothing_else() {
        let gauge = MemoryGauge::default();
        let _waiting = gauge.reserve(1_000);
        let encoding = gauge.reserve_encoding(7);
        gauge.wait_for_encoders(7, Duration::MAX);
        gauge.wait_for_encoders(6, Duration::from_millis(1));
        let encoder = std::thread::spawn(move || drop(encoding));
        gauge.wait_for_encoders(6, Duration::from_secs(60));
        assert_eq!(gauge.bytes(), 1_000);
        encoder.join().unwrap();
    }
}
