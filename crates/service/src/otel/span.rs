//! What is told of a step: where it belongs, when it began and ended, what it was, and how it went. No payloads and nothing personal, as
//! in the logs.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{Link, SpanId, Status};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

pub use opentelemetry::Value;
pub use opentelemetry::trace::SpanKind;

use super::MAX_LINKS;
use super::context::TraceContext;

/// A finished step.
#[derive(Clone, Debug)]
pub struct Span(SpanData);

impl Span {
    /// A step that ends now.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        context: TraceContext,
        parent: Option<[u8; 8]>,
        began: SystemTime,
    ) -> Self {
        Self(SpanData {
            span_context: context.span_context(false),
            parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: parent.is_some(),
            span_kind: kind,
            name: name.into(),
            start_time: began,
            end_time: SystemTime::now().max(began),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("loginlake")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        })
    }

    /// Says something of it.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.attributes.push(KeyValue::new(key, value));
        self
    }

    /// Names the traces that it has to do with: at most [`MAX_LINKS`], the others are counted.
    #[must_use]
    pub fn with_links(mut self, links: impl IntoIterator<Item = TraceContext>, further: u64) -> Self {
        let mut links = links.into_iter();
        let made = links.by_ref().take(MAX_LINKS);
        let made = made.map(|context| Link::new(context.span_context(true), Vec::new(), 0));
        self.0.links.links.extend(made);
        let further = further.saturating_add(links.count() as u64);
        self.0.links.dropped_count = u32::try_from(further).unwrap_or(u32::MAX);
        self
    }

    /// It failed.
    #[must_use]
    pub fn failed(mut self, why: impl Into<Cow<'static, str>>) -> Self {
        self.0.status = Status::error(why);
        self
    }

    pub(super) fn into_data(self) -> SpanData {
        self.0
    }
}
