//! Whether the service does its work (ready) and whether restarting it would help (live).
//!
//! Each part of a service is a component that says whether it is ready and beats as long as it moves. Ready is only a
//! service of which every component is ready and none has been still for longer than its limit; without any component
//! it is not ready. Live is one of which no component has been still for [`LIVENESS_FACTOR`] times its limit: a part
//! that retries for ever keeps beating, so an outage elsewhere makes a service not ready, but does not get it killed.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;

/// How many stall limits a component may be still before the process is not live.
pub const LIVENESS_FACTOR: u32 = 10;

const COMPONENT_READY: (&str, &str) = (
    "service_component_ready",
    "1 when the component is ready and not stalled",
);

/// Where the time comes from, so that tests need not wait.
pub trait Clock: Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Instant;
}

/// The real time.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// A time that moves only when it is told to, for tests.
#[derive(Debug)]
pub struct ManualClock {
    start: Instant,
    passed_ns: AtomicU64,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            passed_ns: AtomicU64::new(0),
        }
    }
}

impl ManualClock {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.passed_ns.fetch_add(nanos(by), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.passed_ns.load(Ordering::Relaxed))
    }
}

/// The health of a process; clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    components: Arc<Mutex<Vec<Arc<Component>>>>,
    clock: Arc<dyn Clock>,
    start: Instant,
}

#[derive(Debug)]
struct Component {
    name: String,
    stall_limit: Option<Duration>,
    /// None when ready.
    reason: Mutex<Option<String>>,
    /// Nanoseconds from the start of the process's health; an atomic, as it is written once per poll.
    heartbeat_ns: AtomicU64,
}

/// A component's own handle; clones are the same component.
#[derive(Clone, Debug)]
pub struct ComponentHealth {
    component: Arc<Component>,
    clock: Arc<dyn Clock>,
    start: Instant,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Without components yet, on the real time.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// On another time.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let start = clock.now();
        Self {
            components: Arc::default(),
            clock,
            start,
        }
    }

    /// Adds a component, which is not ready (`starting`) until it says otherwise. One of the same name is replaced.
    /// `stall_limit` is the longest that it may go without a heartbeat; None for one that has nothing to beat with.
    pub fn component(&self, name: impl Into<String>, stall_limit: Option<Duration>) -> ComponentHealth {
        let component = Arc::new(Component {
            name: name.into(),
            stall_limit,
            reason: Mutex::new(Some("starting".to_owned())),
            heartbeat_ns: AtomicU64::new(nanos(self.clock.now() - self.start)),
        });
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        components.retain(|other| other.name != component.name);
        components.push(Arc::clone(&component));
        ComponentHealth {
            component,
            clock: Arc::clone(&self.clock),
            start: self.start,
        }
    }

    /// Everything as it is now.
    pub fn report(&self) -> HealthReport {
        let now_ns = nanos(self.clock.now() - self.start);
        let components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        let components: Vec<_> = components
            .iter()
            .map(|component| component.report(now_ns))
            .collect();
        HealthReport {
            ready: !components.is_empty() && components.iter().all(|component| component.ready),
            live: components.iter().all(|component| component.live),
            components,
        }
    }

    /// Adds a gauge per component to the metrics, so that a service that retries for ever can be alerted on.
    pub fn register(&self, metrics: &crate::metrics::Metrics) {
        metrics.register(|registry| registry.register_collector(Box::new(self.clone())));
    }
}

impl Component {
    fn report(&self, now_ns: u64) -> ComponentReport {
        let still = Duration::from_nanos(now_ns.saturating_sub(self.heartbeat_ns.load(Ordering::Relaxed)));
        let longer_than = |limit: Option<Duration>| limit.is_some_and(|limit| still > limit);
        let reason = if longer_than(self.stall_limit) {
            Some(format!("no sign of progress for {} s", still.as_secs()))
        } else {
            self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        ComponentReport {
            name: self.name.clone(),
            ready: reason.is_none(),
            live: !longer_than(
                self.stall_limit
                    .map(|limit| limit.saturating_mul(LIVENESS_FACTOR)),
            ),
            reason,
        }
    }
}

impl ComponentHealth {
    /// It does its work. Counts as a heartbeat.
    pub fn ready(&self) {
        self.set(None);
    }

    /// It does not, and why. Counts as a heartbeat. The reason is public: no secret, no personal field.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// It moves. Cheap enough for every turn of a loop.
    pub fn heartbeat(&self) {
        self.component
            .heartbeat_ns
            .store(nanos(self.clock.now() - self.start), Ordering::Relaxed);
    }

    fn set(&self, reason: Option<String>) {
        *self
            .component
            .reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = reason;
        self.heartbeat();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A service at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// Every component is ready and moves, and there is at least one.
    pub ready: bool,
    /// No component is still beyond its hard limit.
    pub live: bool,
    /// In the order in which they were added.
    pub components: Vec<ComponentReport>,
}

/// A component at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComponentReport {
    /// Its name.
    pub name: String,
    /// It is ready and moves.
    pub ready: bool,
    /// It is not still beyond its hard limit.
    pub live: bool,
    /// Why it is not ready.
    pub reason: Option<String>,
}

impl Collector for Health {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let family: Family<Vec<(&'static str, String)>, Gauge> = Family::default();
        for component in self.report().components {
            family
                .get_or_create(&vec![("component", component.name)])
                .set(i64::from(component.ready));
        }
        let (name, help) = COMPONENT_READY;
        family.encode(encoder.encode_descriptor(name, help, None, family.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn health() -> (Health, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        (Health::with_clock(Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    #[test]
    fn ready_is_only_what_has_components_that_are_all_ready() {
        let (health, _) = health();
        assert!(!health.report().ready);
        assert!(health.report().live);
        let consumer = health.component("consumer", None);
        let producer = health.component("producer", None);
        assert_eq!(health.report().components[0].reason.as_deref(), Some("starting"));
        consumer.ready();
        assert!(!health.report().ready);
        producer.ready();
        assert!(health.report().ready);
        producer.not_ready("no broker");
        let report = health.report();
        assert!(!report.ready && report.live);
        assert_eq!(report.components[1].reason.as_deref(), Some("no broker"));
    }

    #[test]
    fn a_stall_beyond_the_limit_makes_the_service_not_ready_until_it_moves() {
        let (health, clock) = health();
        let consumer = health.component("consumer", Some(LIMIT));
        consumer.ready();
        clock.advance(LIMIT);
        assert!(health.report().ready, "at the limit");
        clock.advance(Duration::from_secs(1));
        let report = health.report();
        assert!(!report.ready && report.live);
        assert_eq!(
            report.components[0].reason.as_deref(),
            Some("no sign of progress for 31 s")
        );
        consumer.heartbeat();
        assert!(health.report().ready);
    }

    #[test]
    fn a_long_stall_is_not_live_and_retrying_for_ever_is() {
        let (health, clock) = health();
        let retrying = health.component("lake", Some(LIMIT));
        for _ in 0..100 {
            clock.advance(LIMIT);
            retrying.not_ready("storage cannot be reached");
        }
        assert!(health.report().live && !health.report().ready);
        clock.advance(LIMIT * LIVENESS_FACTOR);
        assert!(health.report().live, "at the hard limit");
        clock.advance(Duration::from_nanos(1));
        assert!(!health.report().live);
    }

    #[test]
    fn without_a_limit_nothing_stalls() {
        let (health, clock) = health();
        health.component("http", None).ready();
        clock.advance(Duration::from_secs(1_000_000));
        assert!(health.report().ready && health.report().live);
    }

    #[test]
    fn a_component_of_the_same_name_is_replaced() {
        let (health, _) = health();
        health.component("consumer", None).not_ready("lost");
        health.component("consumer", None).ready();
        assert_eq!(health.report().components.len(), 1);
        assert!(health.report().ready);
    }

    #[test]
    fn readiness_is_a_metric() {
        let (health, _) = health();
        let metrics = crate::metrics::Metrics::new("test");
        health.register(&metrics);
        health.component("consumer", None).ready();
        health.component("lake", None);
        let text = metrics.encode();
        assert!(
            text.contains("service_component_ready{component=\"consumer\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("service_component_ready{component=\"lake\"} 0\n"),
            "{text}"
        );
    }
}
