//! What traces and lineage are sent to: an HTTP server on loopback that takes OTLP (Protobuf over HTTP) and OpenLineage events, keeps both, and
//! can be told to refuse or not to answer at all. What it reads is judged by the specification's own rules, written down here once more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span as OtlpSpan;
use prost::Message as _;
use serde_json::Value;

/// Longest that one request may take.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Largest body that is read, bytes.
const MAX_BODY: usize = 16 << 20;
/// The status that stands for no answer at all.
const SILENT: u16 = 0;

/// A running receiver; it stops listening when dropped.
pub struct Collector {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    spans: Mutex<Vec<Span>>,
    events: Mutex<Vec<Value>>,
    keys: Mutex<Vec<String>>,
    wrong: Mutex<Vec<String>>,
    requests: AtomicU64,
    status: AtomicU16,
    is_over: AtomicBool,
}

/// A span as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of who sent it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Trace, in hexadecimal.
    pub trace_id: String,
    /// Span, in hexadecimal.
    pub span_id: String,
    /// The span above it, in hexadecimal; empty: none.
    pub parent_id: String,
    /// 1 internal, 4 producer, 5 consumer.
    pub kind: i32,
    /// Trace and span of each link.
    pub links: Vec<(String, String)>,
    /// Links that were left out.
    pub dropped_links: u32,
    /// Attributes, as text.
    pub attributes: Vec<(String, String)>,
    /// Whether it says that it failed.
    pub has_failed: bool,
    /// Nanoseconds from its begin to its end.
    pub nanoseconds: u64,
}

impl Span {
    /// An attribute, as text.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }

    fn of(service: &str, span: OtlpSpan) -> Self {
        let attributes = span.attributes.into_iter().map(|attribute| {
            let value = match attribute.value.and_then(|value| value.value) {
                Some(Any::StringValue(text)) => text,
                Some(Any::IntValue(number)) => number.to_string(),
                other => format!("{other:?}"),
            };
            (attribute.key, value)
        });
        Self {
            service: service.to_owned(),
            attributes: attributes.collect(),
            name: span.name,
            trace_id: hexadecimal(&span.trace_id),
            span_id: hexadecimal(&span.span_id),
            parent_id: hexadecimal(&span.parent_span_id),
            kind: span.kind,
            links: span
                .links
                .iter()
                .map(|link| (hexadecimal(&link.trace_id), hexadecimal(&link.span_id)))
                .collect(),
            dropped_links: span.dropped_links_count,
            has_failed: span.status.is_some_and(|status| status.code == 2),
            nanoseconds: span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
        }
    }
}

impl Collector {
    /// Begins to listen on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn start() -> Result<Collector> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        state.status.store(200, Ordering::Release);
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&shared)) else {
                    continue;
                };
                std::thread::spawn(move || {
                    if let Err(error) = serve(&stream, &shared) {
                        lock(&shared.wrong).push(format!("{error:#}"));
                    }
                });
            }
        });
        Ok(Collector { address, state })
    }

    /// The beginning of its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on every request is answered with this status.
    pub fn answer_with(&self, status: u16) {
        self.state.status.store(status, Ordering::Release);
    }

    /// From now on no request is answered; its sender has to give up.
    pub fn say_nothing(&self) {
        self.answer_with(SILENT);
    }

    /// Requests so far, whatever they were answered with.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Acquire)
    }

    /// The spans that it took.
    pub fn spans(&self) -> Vec<Span> {
        lock(&self.state.spans).clone()
    }

    /// The lineage events that it took, in order.
    pub fn events(&self) -> Vec<Value> {
        lock(&self.state.events).clone()
    }

    /// What came as `Authorization`.
    pub fn keys(&self) -> Vec<String> {
        lock(&self.state.keys).clone()
    }

    /// Forgets what it took.
    pub fn forget(&self) {
        lock(&self.state.spans).clear();
        lock(&self.state.events).clear();
        lock(&self.state.keys).clear();
    }

    /// Requests that were not what they should be.
    ///
    /// # Errors
    /// When there were any.
    pub fn check(&self) -> Result<()> {
        let wrong = lock(&self.state.wrong);
        ensure!(wrong.is_empty(), "wrong requests: {wrong:?}");
        drop(wrong);
        for event in self.events() {
            check_event(&event).with_context(|| format!("not by OpenLineage's rules: {event}"))?;
        }
        Ok(())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        // Wakes the thread that listens; when that fails it has gone already.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests of one connection, until it is closed.
fn serve(stream: &TcpStream, state: &State) -> Result<()> {
    stream.set_read_timeout(Some(READ_LIMIT))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        // A connection that is closed, or kept for nothing, is no error.
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return Ok(());
        }
        let mut parts = line.split_whitespace();
        let (method, path) = (
            parts.next().unwrap_or_default().to_owned(),
            parts.next().unwrap_or_default().to_owned(),
        );
        let (mut length, mut kind, mut key) = (0, String::new(), None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else {
                break;
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().context("its length")?,
                "content-type" => kind = value.to_owned(),
                "authorization" => key = Some(value.to_owned()),
                _ => {}
            }
        }
        ensure!(length <= MAX_BODY, "a body of {length} bytes");
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        state.requests.fetch_add(1, Ordering::AcqRel);
        let status = state.status.load(Ordering::Acquire);
        if status == SILENT {
            // Until the other side has enough of it.
            let _ = reader.read(&mut [0; 1]);
            return Ok(());
        }
        if status == 200 {
            lock(&state.keys).extend(key);
            take(state, &method, &path, &kind, &body)?;
        }
        write!(
            &mut &*stream,
            "HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n"
        )?;
    }
}

fn take(state: &State, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<()> {
    match (method, path, kind) {
        ("POST", "/v1/traces", "application/x-protobuf") => {
            let request = ExportTraceServiceRequest::decode(body).context("no OTLP")?;
            for group in request.resource_spans {
                let resource = group.resource.context("no resource")?;
                let name = resource
                    .attributes
                    .into_iter()
                    .find(|attribute| attribute.key == "service.name")
                    .and_then(|attribute| attribute.value?.value);
                let Some(Any::StringValue(service)) = name else {
                    bail!("no service.name");
                };
                let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
                lock(&state.spans).extend(spans.map(|span| Span::of(&service, span)));
            }
            Ok(())
        }
        ("POST", "/api/v1/lineage", "application/json") => {
            let event = serde_json::from_slice(body).context("no JSON")?;
            lock(&state.events).push(event);
            Ok(())
        }
        _ => bail!("{method} {path} {kind}"),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What OpenLineage 2-0-2 asks of a RunEvent, and its facets of themselves.
fn check_event(event: &Value) -> Result<()> {
    const STATES: [&str; 6] = ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"];
    let text = |place: &str| -> Result<String> {
        let found = event.pointer(place).and_then(Value::as_str);
        Ok(found.with_context(|| format!("no text at {place}"))?.to_owned())
    };
    ensure!(
        STATES.contains(&text("/eventType")?.as_str()),
        "an unknown eventType"
    );
    chrono::DateTime::parse_from_rfc3339(&text("/eventTime")?).context("eventTime")?;
    for place in ["/producer", "/schemaURL"] {
        url::Url::parse(&text(place)?).context(place.to_owned())?;
    }
    ensure!(
        text("/schemaURL")? == "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "another schema"
    );
    let id = text("/run/runId")?;
    ensure!(
        id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12]),
        "no UUID"
    );
    text("/job/namespace")?;
    text("/job/name")?;
    check_facets(event.pointer("/run/facets"))?;
    check_facets(event.pointer("/job/facets"))?;
    if let Some(message) = event.pointer("/run/facets/errorMessage") {
        ensure!(
            message["message"].is_string() && message["programmingLanguage"].is_string(),
            "errorMessage"
        );
    }
    let kind = &event["job"]["facets"]["jobType"];
    ensure!(
        kind["processingType"].is_string() && kind["integration"].is_string(),
        "jobType"
    );
    for side in ["inputs", "outputs"] {
        for dataset in event[side].as_array().context("no datasets")? {
            ensure!(
                dataset["namespace"].is_string() && dataset["name"].is_string(),
                "a dataset without a name"
            );
            check_facets(dataset.get("facets"))?;
            check_facets(dataset.get("inputFacets"))?;
            check_facets(dataset.get("outputFacets"))?;
            if let Some(schema) = dataset.pointer("/facets/schema/fields") {
                let fields = schema.as_array().context("fields")?;
                ensure!(
                    fields.iter().all(|field| field["name"].is_string()),
                    "a field without a name"
                );
            }
            if let Some(version) = dataset.pointer("/facets/version") {
                ensure!(version["datasetVersion"].is_string(), "datasetVersion");
            }
            if let Some(statistics) = dataset.pointer("/outputFacets/outputStatistics") {
                ensure!(statistics["rowCount"].is_u64(), "rowCount");
            }
        }
    }
    Ok(())
}

/// Each says who made it and by which schema.
fn check_facets(facets: Option<&Value>) -> Result<()> {
    let Some(facets) = facets else {
        return Ok(());
    };
    for (name, facet) in facets.as_object().context("facets are no object")? {
        for key in ["_producer", "_schemaURL"] {
            let said = facet[key].as_str();
            let said = said.with_context(|| format!("{name} has no {key}"))?;
            url::Url::parse(said).with_context(|| format!("{name}: {key}"))?;
        }
    }
    Ok(())
}
