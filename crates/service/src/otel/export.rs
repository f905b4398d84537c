//! Finished spans on their way out: a queue of the SDK's, a thread of the SDK's that posts batches to the collector, and counts of what
//! became of them. Nothing waits for it: what finds no room, or is not taken, is dropped and counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor as _,
};

use crate::config::TraceSettings;
use crate::exit::ExitError;
use crate::telemetry_http;

/// Spans that wait for the collector; more are dropped. The SDK's default; the other `OTEL_BSP_…` variables are as they say.
const MAX_QUEUE: u64 = 2_048;

/// What became of the spans of this process.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub exported: AtomicU64,
    pub failed: AtomicU64,
    pub dropped: AtomicU64,
    /// In the queue, or in the request that is on its way.
    waiting: AtomicU64,
    /// Whether the last request was in vain, so that the log says it once.
    is_away: AtomicBool,
    /// Why the last one that failed did: the SDK only says that there was a network error.
    problem: Mutex<Option<String>>,
}

/// Where finished spans go.
#[derive(Debug)]
pub(super) struct Queue {
    processor: BatchSpanProcessor,
    pub counts: Arc<Counts>,
}

impl Queue {
    /// Starts the thread. Not to be called within an async task.
    ///
    /// # Errors
    /// Code 2: settings that cannot be used.
    pub fn start(settings: &TraceSettings, service: &'static str) -> Result<Self, ExitError> {
        let wrong = |error: String| ExitError::usage(format!("--otlp-endpoint: {error}"));
        let counts = Arc::new(Counts::default());
        let client = Client {
            http: telemetry_http::client(settings.timeout, settings.ca_file.as_deref())?,
            counts: Arc::clone(&counts),
        };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&settings.endpoint)
            .with_timeout(settings.timeout)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let exporter = Counting {
            exporter,
            counts: Arc::clone(&counts),
        };
        // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go first.
        let named = Resource::builder().build();
        let is_named = named
            .get(&"service.name".into())
            .is_some_and(|name| !name.as_str().starts_with("unknown_service"));
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if !is_named {
            resource = resource.with_service_name(service);
        }
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(usize::try_from(MAX_QUEUE).unwrap_or(usize::MAX))
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(config)
            .build();
        opentelemetry_sdk::trace::SpanProcessor::set_resource(&mut processor, &resource.build());
        Ok(Self { processor, counts })
    }

    /// Takes a span, or drops it where there is no room.
    pub fn push(&self, span: SpanData) {
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_QUEUE {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.drop_many(1);
            return;
        }
        self.processor.on_end(span);
    }

    /// Counts spans that nobody sends.
    pub fn drop_many(&self, spans: u64) {
        self.counts.dropped.fetch_add(spans, Ordering::Relaxed);
    }

    /// Sends what waits, for at most this long.
    pub fn end(&self, limit: Duration) {
        let _ = self.processor.shutdown_with_timeout(limit);
        let waiting = self.counts.waiting.load(Ordering::Relaxed);
        if waiting > 0 {
            tracing::warn!(
                waiting,
                "the last spans were not sent: the collector does not answer"
            );
        }
    }
}

/// Counts what another exporter does.
#[derive(Debug)]
struct Counting {
    exporter: opentelemetry_otlp::SpanExporter,
    counts: Arc<Counts>,
}

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        let counts = &self.counts;
        counts.waiting.fetch_sub(spans, Ordering::Relaxed);
        match &result {
            Ok(()) => {
                counts.exported.fetch_add(spans, Ordering::Relaxed);
                if counts.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!("spans are sent again");
                }
            }
            Err(error) => {
                counts.failed.fetch_add(spans, Ordering::Relaxed);
                let why = counts.take_problem().unwrap_or_else(|| error.to_string());
                if !counts.is_away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        why,
                        "spans are lost until the collector takes them; records are not affected"
                    );
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl Counts {
    fn note(&self, problem: String) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
    }

    fn take_problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The client of this workspace as the SDK wants it. It blocks, on the thread of the queue.
#[derive(Debug)]
struct Client {
    http: reqwest::blocking::Client,
    counts: Arc<Counts>,
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let request = self.http.request(parts.method, parts.uri.to_string());
        let answer = request
            .headers(parts.headers)
            .body(body)
            .send()
            .map_err(|error| {
                let problem = telemetry_http::causes(&error);
                self.counts.note(problem.clone());
                problem
            })?;
        if !answer.status().is_success() {
            self.counts
                .note(format!("the collector answers {}", answer.status()));
        }
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.extend(answer.headers().clone());
        }
        Ok(response.body(telemetry_http::body(answer)?.into())?)
    }
}
