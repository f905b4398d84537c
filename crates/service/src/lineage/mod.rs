//! Lineage: what a run of this process reads and writes, as OpenLineage events, off unless it is told where they go.
//!
//! - [`event`]: the words (pure);
//! - `send`: the bounded way out.
//!
//! A run says START, then COMPLETE or FAIL, and ABORT when it is left without either. One that goes on for long says RUNNING from time to
//! time, each with everything since its start. A receiver that is away costs events and never time; what is lost is counted
//! ([`Emitter::metrics`]).

pub mod event;
mod send;

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::Utc;
use uuid::Uuid;

pub use event::{Dataset, Processing, State, Written};

use self::event::RunOf;
use self::send::Sender;
use crate::config::{LineageSettings, ParentRun};
use crate::exit::ExitError;

/// The one of this process.
static EMITTER: OnceLock<Emitter> = OnceLock::new();

/// Takes the events of this process.
#[derive(Debug)]
pub struct Emitter {
    sender: Sender,
    namespace: String,
    parent: Option<ParentRun>,
}

/// Begins lineage for this process. Not to be called within an async task.
///
/// # Errors
/// TLS cannot be set up.
pub(crate) fn start(settings: &LineageSettings) -> Result<(), ExitError> {
    let emitter = Emitter {
        sender: Sender::start(settings)?,
        namespace: settings.namespace.clone(),
        parent: settings.parent.clone(),
    };
    EMITTER
        .set(emitter)
        .map_err(|_| ExitError::failed("lineage was begun twice"))
}

/// The emitter of this process; none: lineage is off.
pub fn emitter() -> Option<&'static Emitter> {
    EMITTER.get()
}

impl Emitter {
    /// A run of a job begins.
    pub fn begin(
        &'static self,
        job: impl Into<String>,
        processing: Processing,
        inputs: Vec<Dataset>,
        outputs: Vec<Dataset>,
    ) -> Run {
        let run = Run {
            emitter: self,
            of: RunOf {
                namespace: self.namespace.clone(),
                job: job.into(),
                run_id: Uuid::new_v4(),
                processing,
                parent: self.parent.clone(),
            },
            inputs,
            outputs,
            has_ended: false,
        };
        run.say(State::Start, None);
        run
    }

    /// Events that the receiver took, that it did not take, and that found no room.
    pub fn metrics(&self) -> [(&'static str, u64); 3] {
        let counts = &self.sender.counts;
        [
            ("sent", counts.sent.load(Ordering::Relaxed)),
            ("failed", counts.failed.load(Ordering::Relaxed)),
            ("dropped", counts.dropped.load(Ordering::Relaxed)),
        ]
    }

    /// Sends what waits, for at most this long.
    pub(crate) fn end(&self, limit: Duration) {
        self.sender.end(limit);
    }
}

/// A run that has begun. Dropped without an end it is told of as given up.
#[derive(Debug)]
pub struct Run {
    emitter: &'static Emitter,
    of: RunOf,
    inputs: Vec<Dataset>,
    outputs: Vec<Dataset>,
    has_ended: bool,
}

impl Run {
    /// Its number.
    pub fn id(&self) -> Uuid {
        self.of.run_id
    }

    /// What is known of its datasets now.
    pub fn found(&mut self, inputs: Vec<Dataset>, outputs: Vec<Dataset>) {
        (self.inputs, self.outputs) = (inputs, outputs);
    }

    /// It goes on.
    pub fn running(&self) {
        self.say(State::Running, None);
    }

    /// It is done.
    pub fn complete(mut self) {
        self.has_ended = true;
        self.say(State::Complete, None);
    }

    /// It failed. The text leaves this process: nothing personal belongs in it.
    pub fn fail(mut self, message: &str) {
        self.has_ended = true;
        self.say(State::Fail, Some(message));
    }

    fn say(&self, state: State, error: Option<&str>) {
        let event = self
            .of
            .event(state, Utc::now(), &self.inputs, &self.outputs, error);
        self.emitter.sender.push(event);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.has_ended {
            self.say(State::Abort, None);
        }
    }
}
