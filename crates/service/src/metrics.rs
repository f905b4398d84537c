//! Metrics in the OpenMetrics text format, encoded when they are scraped. Names are `<area>_<thing>_<unit>`; labels
//! come from closed sets only, so that no input can open a series. What this module adds on its own is below.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const BUILD: (&str, &str) = ("loginlake_build", "Which service and version this is");
const RESIDENT_MEMORY: (&str, &str) = ("process_resident_memory_bytes", "Resident memory, bytes");
const OPEN_FILES: (&str, &str) = ("process_open_fds", "Open file descriptors");
const START_TIME: (&str, &str) = (
    "process_start_time_seconds",
    "When the process started, seconds since the epoch",
);

/// A process's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<RwLock<Registry>>,
}

impl Metrics {
    /// The build's information and the process's own figures are registered already.
    pub fn new(service: &'static str) -> Self {
        let mut registry = Registry::default();
        let build = Info::new([("service", service), ("version", env!("CARGO_PKG_VERSION"))]);
        registry.register(BUILD.0, BUILD.1, build);
        registry.register_collector(Box::new(Process {
            started: seconds_since_epoch(),
        }));
        registry.register_collector(Box::new(crate::telemetry::Told));
        Self {
            registry: Arc::new(RwLock::new(registry)),
        }
    }

    /// Registers metrics; what the closure returns, such as the metrics themselves, is given back.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything as it is now, in the format of [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes everything");
        text
    }
}

/// Figures that the operating system keeps; those that it does not offer are left out.
#[derive(Debug)]
struct Process {
    started: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        gauge(&mut encoder, START_TIME, self.started)?;
        if let Some(bytes) = resident_memory_bytes() {
            gauge(&mut encoder, RESIDENT_MEMORY, bytes)?;
        }
        if let Some(count) = open_files() {
            gauge(&mut encoder, OPEN_FILES, count)?;
        }
        Ok(())
    }
}

fn gauge<N>(encoder: &mut DescriptorEncoder, (name, help): (&str, &str), value: N) -> Result<(), fmt::Error>
where
    ConstGauge<N>: EncodeMetric,
{
    let gauge = ConstGauge::new(value);
    let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(metric)
}

fn seconds_since_epoch() -> f64 {
    // Only a clock before 1970 fails, and then there is no better answer.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

fn resident_memory_bytes() -> Option<i64> {
    resident_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The line `VmRSS:     1234 kB`; the kernel's kB are 1024 bytes.
fn resident_in(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// One less than is listed: listing them opens one.
fn open_files() -> Option<i64> {
    let listed = std::fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(listed.saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn what_is_registered_is_encoded() {
        let metrics = Metrics::new("test");
        let counter = metrics.register(|registry| {
            let counter: Counter = Counter::default();
            registry.register("input_records", "Records read", counter.clone());
            counter
        });
        counter.inc_by(3);
        let text = metrics.encode();
        assert!(text.contains("input_records_total 3\n"), "{text}");
        let build = format!(
            "loginlake_build_info{{service=\"test\",version=\"{}\"}} 1\n",
            env!("CARGO_PKG_VERSION")
        );
        assert!(text.contains(&build), "{text}");
        assert!(text.contains("\nprocess_start_time_seconds "), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_memory_and_files() {
        let text = Metrics::new("test").encode();
        assert!(
            text.contains("\nprocess_resident_memory_bytes ") && text.contains("\nprocess_open_fds "),
            "{text}"
        );
    }

    #[test]
    fn resident_memory_is_read_from_the_status() {
        assert_eq!(
            resident_in("Name:\tx\nVmRSS:\t   1234 kB\nThreads:\t1\n"),
            Some(1_263_616)
        );
        assert_eq!(resident_in("Name:\tx\n"), None);
        assert_eq!(resident_in("VmRSS:\t many kB\n"), None);
    }
}
