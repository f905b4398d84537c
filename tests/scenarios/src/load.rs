//! Events in phases, so that whatever a scenario does to the processes happens while records arrive, however long the
//! machine takes for the rest.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::progress::Progress;
use crate::scenario::Scenario;

/// A phase's events are produced over so many seconds.
const PHASE_SECONDS: u64 = 3;
const LIMIT: Duration = Duration::from_secs(120);

/// The events of a scenario, 2 % of them bad.
pub struct Load<'a> {
    scenario: &'a Scenario,
    progress: &'a Progress,
    events_per_phase: u64,
    phases_done: u64,
    seconds: u64,
    seed: u64,
}

impl<'a> Load<'a> {
    /// `events` in `phases`, rounded down to whole phases. `progress` watches the input topic, which must be empty.
    pub fn of(
        scenario: &'a Scenario,
        progress: &'a Progress,
        events: u64,
        phases: u64,
        seed: u64,
    ) -> Load<'a> {
        Load {
            scenario,
            progress,
            events_per_phase: (events / phases).max(1),
            phases_done: 0,
            seconds: PHASE_SECONDS,
            seed,
        }
    }

    /// The same with phases of one second, for scenarios of many phases.
    #[must_use]
    pub fn in_short_phases(mut self) -> Load<'a> {
        self.seconds = 1;
        self
    }

    /// Events produced so far.
    pub fn events(&self) -> u64 {
        self.phases_done * self.events_per_phase
    }

    /// Produces the events of the next phase, and does something when half of them are there. Ends when all are.
    ///
    /// # Errors
    /// When the producer fails, or what is done does; the message says which phase it was.
    pub fn phase(&mut self, what: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
        self.phase_at(0.5, what, act)
    }

    /// The same at another share of the phase, between 0 and 1.
    ///
    /// # Errors
    /// As [`Load::phase`].
    pub fn phase_at(&mut self, share: f64, what: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let count = self.events_per_phase;
        let rate = (count / self.seconds).max(1).to_string();
        let moment = self.events() + (count as f64 * share) as u64;
        let producer = self
            .scenario
            .generate(count, self.seed + self.phases_done)
            .args(["--bad-share", "0.02", "--rate", &rate])
            .start()?;
        self.phases_done += 1;
        self.progress
            .wait_produced(moment, LIMIT)
            .and_then(|()| act())
            .and_then(|()| producer.wait_exit(LIMIT)?.ok())
            .map(drop)
            .with_context(|| format!("phase {}: {what}", self.phases_done))
    }
}
