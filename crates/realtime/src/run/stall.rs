//! Whether records get through, from what came of the last attempts: how long to wait before the next one, and when the
//! worker may call itself ready again. Pure but for the jitter of the waits.
//!
//! Reading the committed offsets again after a failure says nothing about the output topic. So after a failure a worker is
//! ready only once something is committed, or when nothing has failed for half a minute because there is nothing to do.

use std::time::{Duration, Instant};

use loginlake_service::backoff::Backoff;

/// So long after the last failure a worker without anything to do counts as ready.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);

/// Failures in a row of one worker.
#[derive(Debug)]
pub(super) struct Stall {
    backoff: Backoff,
    last_failure: Option<Instant>,
}

impl Stall {
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            last_failure: None,
        }
    }

    /// An attempt failed. Returns how long to wait before the next one.
    pub fn failed(&mut self, now: Instant) -> Duration {
        self.last_failure = Some(now);
        self.backoff.next_delay()
    }

    /// Records got through.
    pub fn committed(&mut self) {
        if self.last_failure.take().is_some() {
            self.backoff.reset();
        }
    }

    /// Failures since something got through.
    pub fn failures(&self) -> u32 {
        if self.last_failure.is_some() {
            self.backoff.attempts()
        } else {
            0
        }
    }

    /// Whether the worker may call itself ready. Asked after a turn in which nothing failed.
    pub fn is_over(&mut self, now: Instant) -> bool {
        if let Some(then) = self.last_failure
            && now.duration_since(then) < FORGIVEN_AFTER
        {
            return false;
        }
        self.committed();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stall() -> Stall {
        Stall::new(Backoff::with_seed(
            Duration::from_millis(100),
            Duration::from_secs(30),
            7,
        ))
    }

    #[test]
    fn only_a_commit_ends_it_at_once() {
        let (mut stall, now) = (stall(), Instant::now());
        assert!(stall.is_over(now), "nothing has failed");
        stall.failed(now);
        assert!(!stall.is_over(now), "a turn without records proves nothing");
        stall.committed();
        assert!(stall.is_over(now));
        assert_eq!(stall.failures(), 0);
    }

    #[test]
    fn without_anything_to_do_it_is_forgiven_after_a_while() {
        let (mut stall, now) = (stall(), Instant::now());
        stall.failed(now);
        assert!(!stall.is_over(now + FORGIVEN_AFTER - Duration::from_millis(1)));
        assert!(stall.is_over(now + FORGIVEN_AFTER));
    }

    #[test]
    fn waits_grow_while_nothing_gets_through_and_begin_anew_afterwards() {
        let (mut stall, now) = (stall(), Instant::now());
        let waits: Vec<Duration> = (0..20).map(|_| stall.failed(now)).collect();
        assert_eq!(stall.failures(), 20);
        assert!(waits.iter().max() > Some(&Duration::from_secs(5)), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(30)));
        stall.committed();
        assert!(stall.failed(now) <= Duration::from_millis(100));
    }
}
