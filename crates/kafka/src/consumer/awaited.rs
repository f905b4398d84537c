//! New partitions of which it is not known yet where the group has come to: a transaction of their former owner is still open
//! (KIP-447), or no coordinator answers.
//!
//! Nothing of them is handed out before they have been sought to the group's offsets. librdkafka is not left to find these: where its
//! own question is answered with "unstable", and the assignment has changed meanwhile, it takes the answer for "no offset" and begins
//! at `auto.offset.reset`, so a whole partition is read again (librdkafka 2.12, `rd_kafka_assignment_apply_offsets`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the first answer to each new question is waited for. While it is waited for, nothing else is read.
const PATIENCE: Duration = Duration::from_millis(50);
const LONGEST_PATIENCE: Duration = Duration::from_secs(1);
/// So many times as long as the last answer was waited for, other partitions are read.
const PAUSE_FACTOR: u32 = 4;

/// The partitions that wait.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    /// Read for each record, so apart from the lock.
    count: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    partitions: BTreeSet<i32>,
    patience: Duration,
    not_before: Option<Instant>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            partitions: BTreeSet::new(),
            patience: PATIENCE,
            not_before: None,
        }
    }
}

impl Awaited {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These wait from now on.
    pub(super) fn add(&self, partitions: &[i32]) {
        let mut waiting = self.waiting();
        waiting.partitions.extend(partitions);
        self.count.store(waiting.partitions.len(), Ordering::Release);
    }

    /// These do not wait any more: their place is known, or they are gone.
    pub(super) fn remove(&self, partitions: &[i32]) {
        let mut waiting = self.waiting();
        for partition in partitions {
            waiting.partitions.remove(partition);
        }
        if waiting.partitions.is_empty() {
            *waiting = Waiting::default();
        }
        self.count.store(waiting.partitions.len(), Ordering::Release);
    }

    /// Whether this one waits.
    pub(super) fn contains(&self, partition: i32) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.waiting().partitions.contains(&partition)
    }

    /// What is to be asked for now, and how long the answer may take; `None`: nothing, or not yet.
    pub(super) fn due(&self, now: Instant) -> Option<(Vec<i32>, Duration)> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let waiting = self.waiting();
        if waiting.not_before.is_some_and(|time| now < time) {
            return None;
        }
        Some((waiting.partitions.iter().copied().collect(), waiting.patience))
    }

    /// There was no answer.
    pub(super) fn failed(&self, now: Instant) {
        let mut waiting = self.waiting();
        waiting.not_before = Some(now + waiting.patience * PAUSE_FACTOR);
        waiting.patience = (waiting.patience * 2).min(LONGEST_PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_asked_for_again_and_again_with_growing_patience_until_they_are_gone() {
        let awaited = Awaited::default();
        let start = Instant::now();
        assert!(awaited.due(start).is_none() && !awaited.contains(3));
        awaited.add(&[3, 5]);
        assert!(awaited.contains(3) && !awaited.contains(4));
        assert_eq!(awaited.due(start), Some((vec![3, 5], PATIENCE)));

        awaited.failed(start);
        assert!(awaited.due(start + PATIENCE * (PAUSE_FACTOR - 1)).is_none());
        let next = start + PATIENCE * PAUSE_FACTOR;
        assert_eq!(awaited.due(next), Some((vec![3, 5], PATIENCE * 2)));
        (0..20).for_each(|_| awaited.failed(next));
        let later = next + LONGEST_PATIENCE * PAUSE_FACTOR;
        assert_eq!(awaited.due(later), Some((vec![3, 5], LONGEST_PATIENCE)));

        awaited.remove(&[3]);
        assert!(!awaited.contains(3) && awaited.contains(5));
        awaited.remove(&[5, 7]);
        assert!(awaited.due(later).is_none() && !awaited.contains(5));
        awaited.add(&[1]);
        assert_eq!(awaited.due(next), Some((vec![1], PATIENCE)), "it begins anew");
    }
}
