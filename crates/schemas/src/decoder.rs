//! A payload into the JSON that the contract judges, and what to do while the registry does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loginlake_events::{MAX_PAYLOAD_BYTES, RejectReason, Rejection};
use loginlake_service::backoff::Backoff;
use loginlake_service::config::ResolvedSchemaRegistry;
use loginlake_service::exit::ExitError;
use loginlake_service::health::{ComponentHealth, Health};
use loginlake_service::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;

use crate::cache::Cache;
use crate::frame::{self, SchemaId};
use crate::registry::{Registry, RegistryError};
use crate::rejection;
use crate::schema::Schema;

/// Longest pause between two calls: nothing is read meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A record that was not tried again for so long has gone to another instance.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// Why a payload gave no JSON.
#[derive(Debug)]
pub enum Failure {
    /// It never will: a dead letter, a row of `rejected`.
    Rejected(Rejection),
    /// It may later: the record has to be read again.
    Unavailable(RegistryError),
}

/// The schemas of a process; clones share them.
#[derive(Clone, Debug)]
pub struct Schemas(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cache: Cache,
    url: String,
    health: ComponentHealth,
    /// Decoders that wait for the registry.
    waiting: AtomicUsize,
    requests: Counter,
    retries: Counter,
}

impl Schemas {
    /// Sets up the client, its health and its metrics. Nothing is asked before there is a framed record. Not to be called
    /// within an async task.
    ///
    /// # Errors
    /// A usage error: the settings cannot work.
    pub fn new(
        settings: &ResolvedSchemaRegistry,
        health: &Health,
        metrics: &Metrics,
    ) -> Result<Self, ExitError> {
        let registry = Registry::new(settings).map_err(ExitError::usage)?;
        let shared = Shared {
            url: registry.url().to_owned(),
            cache: Cache::new(registry),
            health: health.component("schema-registry", None),
            waiting: AtomicUsize::new(0),
            requests: Counter::default(),
            retries: Counter::default(),
        };
        shared.health.ready();
        metrics.register(|registry| {
            registry.register(
                "schema_registry_lookups",
                "Schemas that the registry was asked for and answered about",
                shared.requests.clone(),
            );
            registry.register(
                "schema_registry_retries",
                "Lookups repeated because the registry did not answer",
                shared.retries.clone(),
            );
        });
        Ok(Self(Arc::new(shared)))
    }

    /// The registry's address.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// A decoder for one thread.
    pub fn decoder(&self) -> Decoder {
        Decoder {
            shared: Arc::clone(&self.0),
            last: None,
            buffer: Vec::new(),
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            failed: None,
        }
    }
}

/// Decodes the records of one thread.
#[derive(Debug)]
pub struct Decoder {
    shared: Arc<Shared>,
    /// The schema of the record before: mostly the next one has the same.
    last: Option<(SchemaId, Arc<Schema>)>,
    buffer: Vec<u8>,
    backoff: Backoff,
    /// When the registry failed to answer last; None once it has answered.
    failed: Option<Instant>,
}

impl Decoder {
    /// The JSON of a payload: the payload itself when it is not framed. Asks the registry, and blocks for it, when the
    /// schema is not known yet.
    ///
    /// # Errors
    /// [`Failure::Rejected`]; the same bytes give the same rejection as long as the registry knows the same schemas.
    /// [`Failure::Unavailable`]: the registry did not answer. Then read the record again after [`Decoder::pause_after`].
    pub fn json_of<'a>(&'a mut self, payload: Option<&'a [u8]>) -> Result<Option<&'a [u8]>, Failure> {
        match payload {
            Some(payload) if frame::is_framed(payload) => self.decode(payload).map(Some),
            _ => Ok(payload),
        }
    }

    fn decode<'a>(&'a mut self, payload: &'a [u8]) -> Result<&'a [u8], Failure> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            let lengths = format!(
                "the payload has {} bytes; at most {MAX_PAYLOAD_BYTES} are accepted",
                payload.len()
            );
            return Err(Failure::Rejected(rejection(RejectReason::TooLarge, lengths)));
        }
        let (id, body) = frame::split(payload).map_err(Failure::Rejected)?;
        if self.last.as_ref().is_none_or(|(last, _)| *last != id) {
            self.last = Some((id, self.schema(id)?));
        }
        let Some((_, schema)) = &self.last else {
            unreachable!("it was set above");
        };
        schema.json_of(body, &mut self.buffer).map_err(Failure::Rejected)
    }

    fn schema(&mut self, id: SchemaId) -> Result<Arc<Schema>, Failure> {
        let known = match self.shared.cache.recall(id, Instant::now()) {
            Some(known) => known,
            None => {
                let known = self.shared.cache.ask(id).map_err(Failure::Unavailable)?;
                self.shared.requests.inc();
                self.answered();
                known
            }
        };
        known.schema(id).map_err(Failure::Rejected)
    }

    /// Makes a failure of the registry visible in health, logs and metrics. Returns how long to wait before the record is
    /// read again: two seconds at most.
    pub fn pause_after(&mut self, error: &RegistryError) -> Duration {
        if self.failed.replace(Instant::now()).is_none() {
            self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.health.not_ready(error.to_string());
        self.shared.retries.inc();
        let attempts = self.backoff.attempts();
        tracing::warn!(%error, attempts, "waiting for the schema registry");
        self.backoff.next_delay()
    }

    /// There is nothing to read. When that holds for some seconds after a failure, the record that failed is not here any
    /// more, and nobody waits for it here. Costs nothing without a failure.
    pub fn idle(&mut self, now: Instant) {
        if self
            .failed
            .is_some_and(|failed| now.saturating_duration_since(failed) >= GONE_AFTER)
        {
            self.answered();
        }
    }

    /// Ready again, once no decoder waits.
    fn answered(&mut self) {
        if self.failed.take().is_none() {
            return;
        }
        self.backoff.reset();
        if self.shared.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.shared.health.ready();
        }
    }
}

/// The JSON of a payload, with a decoder or, without a registry, as it is. The inner error is a verdict.
///
/// # Errors
/// The registry did not answer.
pub fn json_of<'a>(
    decoder: Option<&'a mut Decoder>,
    payload: Option<&'a [u8]>,
) -> Result<Result<Option<&'a [u8]>, Rejection>, RegistryError> {
    match decoder.map_or(Ok(payload), |decoder| decoder.json_of(payload)) {
        Ok(json) => Ok(Ok(json)),
        Err(Failure::Rejected(rejection)) => Ok(Err(rejection)),
        Err(Failure::Unavailable(error)) => Err(error),
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.answered();
    }
}
