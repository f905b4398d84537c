//! Where reports go: the log, the last hundred in memory, a file each, and the insights topic.
//!
//! Workers hand reports over without waiting; one thread does the rest. A report that meets a full queue, a broker that is
//! away or a full disk is dropped and counted: insights are a side output, and nothing waits for them.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use loginlake_kafka::producer::{HeaderList, Outgoing, PlainProducer};
use loginlake_kafka::topics::Topics as TopicClient;
use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_service::exit::ExitError;
use loginlake_service::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::args::InsightsSettings;
use super::collect::Insights;
use super::directory::{Directory, MAX_FILES};
use super::report::InsightReport;

/// Reports that `/api/insights` shows.
pub const KEPT_REPORTS: usize = 100;

/// Reports that may wait for the thread.
const QUEUE: usize = 64;
/// Reports that may wait for the broker.
const MAX_IN_FLIGHT: u64 = 256;
/// How long the end of a run waits for the last reports.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// After how long a topic that could not be used is tried again.
const TOPIC_RETRY: Duration = Duration::from_secs(60);
/// Shortest time between two warnings about the same output.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Insights cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum InsightError {
    /// The directory cannot be made or written to.
    #[error("--insights-dir {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The thread cannot be started.
    #[error("cannot start the thread of the insights: {0}")]
    Thread(std::io::Error),
}

impl From<InsightError> for ExitError {
    fn from(error: InsightError) -> Self {
        match error {
            InsightError::Directory { .. } => {
                ExitError::usage(error).with_hint("name a directory that this user may make and write to")
            }
            InsightError::Thread(_) => ExitError::failed(error),
        }
    }
}

/// Label of what a report was lost for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutputLabels {
    output: &'static str,
}

/// The thread's queue is full.
const IN_QUEUE: OutputLabels = OutputLabels { output: "queue" };
const IN_TOPIC: OutputLabels = OutputLabels { output: "topic" };
const IN_DIRECTORY: OutputLabels = OutputLabels { output: "directory" };

#[derive(Clone, Debug, Default)]
struct InsightMetrics {
    made: Counter,
    lost: Family<OutputLabels, Counter>,
}

impl InsightMetrics {
    fn register(metrics: &Metrics) -> Self {
        let new = Self::default();
        metrics.register(|registry| {
            registry.register("realtime_insights", "Insights made", new.made.clone());
            registry.register(
                "realtime_insights_lost",
                "Insights that did not get to an output",
                new.lost.clone(),
            );
        });
        new
    }
}

/// The insights of one instance. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct InsightHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: InsightsSettings,
    metrics: InsightMetrics,
    /// The newest last.
    recent: Mutex<VecDeque<Arc<str>>>,
    /// `None` once stopped, or when there are no insights.
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    queue: SyncSender<InsightReport>,
    thread: JoinHandle<()>,
}

impl InsightHandle {
    /// Starts the thread that publishes to `topic`. Does not wait for a broker.
    ///
    /// # Errors
    /// The directory of the settings cannot be used.
    pub fn start(
        settings: &InsightsSettings,
        kafka: &KafkaSettings,
        topic: &str,
        metrics: &Metrics,
    ) -> Result<Self, InsightError> {
        let handle = Self(Arc::new(Shared {
            settings: settings.clone(),
            metrics: InsightMetrics::register(metrics),
            recent: Mutex::default(),
            running: Mutex::default(),
        }));
        if settings.every == 0 {
            return Ok(handle);
        }
        let open = |path: &PathBuf| {
            Directory::open(path, MAX_FILES).map_err(|source| InsightError::Directory {
                path: path.clone(),
                source,
            })
        };
        let mut sink = Sink {
            shared: Arc::clone(&handle.0),
            directory: settings.directory.as_ref().map(open).transpose()?,
            directory_warned: None,
            topic: TopicOutput::new(kafka, topic),
        };
        let (queue, reports) = mpsc::sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("insights".to_owned())
            .spawn(move || sink.run(&reports))
            .map_err(InsightError::Thread)?;
        *handle.0.running() = Some(Running { queue, thread });
        Ok(handle)
    }

    /// What the worker of this number collects with; `None` when there are no insights.
    pub fn collector(&self, worker: u16, now: Instant, now_ms: i64) -> Option<Insights> {
        (self.0.settings.every > 0).then(|| Insights::new(&self.0.settings, worker, now, now_ms))
    }

    /// Hands a report over. Never waits.
    pub fn publish(&self, report: InsightReport) {
        let running = self.0.running();
        let Some(Running { queue, .. }) = &*running else {
            return;
        };
        self.0.metrics.made.inc();
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send(report) {
            self.0.metrics.lost.get_or_create(&IN_QUEUE).inc();
        }
    }

    /// The last [`KEPT_REPORTS`] reports as one JSON array, the newest first.
    pub fn recent_json(&self) -> String {
        let recent: Vec<Arc<str>> = self.0.recent().iter().rev().cloned().collect();
        format!("[{}]", recent.join(","))
    }

    /// Publishes what was handed over, for at most some seconds, and ends the thread. What is handed over later is dropped.
    pub fn stop(&self) {
        // The lock is not held while the thread ends.
        let running = self.0.running().take();
        if let Some(Running { queue, thread }) = running {
            drop(queue);
            if thread.join().is_err() {
                tracing::error!("the thread of the insights panicked");
            }
        }
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Arc<str>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread.
struct Sink {
    shared: Arc<Shared>,
    directory: Option<Directory>,
    directory_warned: Option<Instant>,
    topic: TopicOutput,
}

impl Sink {
    fn run(&mut self, reports: &Receiver<InsightReport>) {
        while let Ok(report) = reports.recv() {
            self.take(&report);
        }
        self.topic.finish(&self.shared.metrics);
    }

    fn take(&mut self, report: &InsightReport) {
        tracing::info!(worker = report.worker, "insights: {report}");
        let json: Arc<str> = report.to_json().into();
        let mut recent = self.shared.recent();
        if recent.len() == KEPT_REPORTS {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&json));
        drop(recent);
        if let Some(directory) = &mut self.directory
            && let Err(error) = directory.write(report.start_ms, report.worker, &json)
        {
            self.shared.metrics.lost.get_or_create(&IN_DIRECTORY).inc();
            if is_due(&mut self.directory_warned, WARN_INTERVAL) {
                tracing::warn!(%error, "an insight could not be written to --insights-dir");
            }
        }
        self.topic.publish(&json, &self.shared.metrics);
    }
}

/// The insights topic. Its producer is made once the topic is known to be there: a producer would make it otherwise.
struct TopicOutput {
    kafka: KafkaSettings,
    topic: String,
    producer: Option<PlainProducer>,
    tried: Option<Instant>,
    warned: Option<Instant>,
    /// Failures of the producer that are counted already.
    failed: u64,
}

impl TopicOutput {
    fn new(kafka: &KafkaSettings, topic: &str) -> Self {
        Self {
            kafka: kafka.clone(),
            topic: topic.to_owned(),
            producer: None,
            tried: None,
            warned: None,
            failed: 0,
        }
    }

    fn publish(&mut self, json: &str, metrics: &InsightMetrics) {
        if self.producer.is_none() && is_due(&mut self.tried, TOPIC_RETRY) {
            match self.open() {
                Ok(producer) => self.producer = Some(producer),
                Err(error) => tracing::warn!(%error, "insights are not published for now"),
            }
        }
        let Some(producer) = &self.producer else {
            metrics.lost.get_or_create(&IN_TOPIC).inc();
            return;
        };
        let sent = if producer.in_flight() >= MAX_IN_FLIGHT {
            Err(KafkaError::Retriable("the broker does not take them".to_owned()))
        } else {
            let headers = HeaderList::with_capacity(1).with("content-type", Some(b"application/json"));
            producer.send_record(Outgoing {
                topic: &self.topic,
                key: None,
                payload: Some(json.as_bytes()),
                timestamp_ms: None,
                partition: None,
                headers: Some(headers),
            })
        };
        if let Err(error) = sent {
            metrics.lost.get_or_create(&IN_TOPIC).inc();
            if is_due(&mut self.warned, WARN_INTERVAL) {
                tracing::warn!(%error, topic = self.topic, "an insight is dropped");
            }
        }
        self.count_failed(metrics);
    }

    fn open(&self) -> Result<PlainProducer, KafkaError> {
        TopicClient::connect(&self.kafka)?.describe(&self.topic)?;
        PlainProducer::new(&self.kafka)
    }

    /// What the broker has refused or not taken in time since the last look.
    fn count_failed(&mut self, metrics: &InsightMetrics) {
        let Some((failed, error)) = self.producer.as_ref().map(PlainProducer::failed) else {
            return;
        };
        if failed > self.failed {
            metrics.lost.get_or_create(&IN_TOPIC).inc_by(failed - self.failed);
            self.failed = failed;
            if is_due(&mut self.warned, WARN_INTERVAL) {
                tracing::warn!(first_error = error, failed, "insights were not published");
            }
        }
    }

    fn finish(&mut self, metrics: &InsightMetrics) {
        if let Some(producer) = &self.producer
            && let Err(error) = producer.flush(FLUSH_TIMEOUT)
        {
            metrics.lost.get_or_create(&IN_TOPIC).inc_by(producer.in_flight());
            tracing::warn!(%error, "the last insights may not be published");
        }
        self.count_failed(metrics);
    }
}

/// Whether it is the first time, or the last one is this long ago; then it is noted.
fn is_due(last: &mut Option<Instant>, interval: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= interval);
    if due {
        *last = Some(Instant::now());
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use loginlake_kafka::embedded::EmbeddedBroker;
    use loginlake_kafka::rdkafka::Message as _;
    use loginlake_kafka::reader::{Read, ReadFrom, TopicReader};

    const LIMIT: Duration = Duration::from_secs(30);

    fn report(handle: &InsightHandle, filtered: u64) -> InsightReport {
        let start = Instant::now();
        let mut insights = handle.collector(0, start, 0).expect("insights are on");
        (0..filtered).for_each(|_| insights.record_filtered());
        insights.commit(0);
        insights.take_rest(start, 1_000).expect("not empty")
    }

    fn settings(directory: Option<PathBuf>) -> InsightsSettings {
        InsightsSettings {
            directory,
            ..InsightsSettings::default()
        }
    }

    #[test]
    fn every_report_gets_to_the_topic_the_directory_and_the_recent_ones() {
        let broker = EmbeddedBroker::start(&[("insights", 1)]).expect("a broker");
        let folder = tempfile::tempdir().expect("a folder");
        let metrics = Metrics::new("realtime");
        let settings = settings(Some(folder.path().to_owned()));
        let handle =
            InsightHandle::start(&settings, &broker.settings(), "insights", &metrics).expect("started");
        for filtered in 1..=3 {
            handle.publish(report(&handle, filtered));
        }
        handle.stop();
        let reader = TopicReader::open(&broker.settings(), &["insights"], ReadFrom::Beginning);
        let reader = reader.expect("a reader");
        let deadline = Instant::now() + LIMIT;
        let mut published = Vec::new();
        while !reader.end_reached() {
            assert!(Instant::now() < deadline, "read {published:?}");
            if let Read::Record(message) = reader.poll(Duration::from_millis(100)).expect("readable") {
                let payload = message.payload().expect("a payload").to_vec();
                published.push(String::from_utf8(payload).expect("text"));
            }
        }
        assert_eq!(published.len(), 3);
        let recent: Vec<serde_json::Value> = serde_json::from_str(&handle.recent_json()).expect("JSON");
        let filtered: Vec<_> = recent.iter().map(|report| report["filtered"].as_u64()).collect();
        assert_eq!(filtered, [Some(3), Some(2), Some(1)], "the newest first");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 3);
        assert!(
            metrics.encode().contains("realtime_insights_total 3"),
            "{}",
            metrics.encode()
        );
    }

    #[test]
    fn a_topic_that_cannot_be_used_costs_the_records_only() {
        let mut kafka = KafkaSettings::new("127.0.0.1:1");
        kafka
            .properties
            .insert("no.such.property".to_owned(), "1".to_owned());
        let metrics = Metrics::new("realtime");
        let handle = InsightHandle::start(&settings(None), &kafka, "insights", &metrics).expect("started");
        handle.publish(report(&handle, 1));
        handle.stop();
        assert!(handle.recent_json().contains("\"filtered\":1"));
        let encoded = metrics.encode();
        assert!(
            encoded.contains("realtime_insights_lost_total{output=\"topic\"} 1"),
            "{encoded}"
        );
        handle.publish(report(&handle, 1));
        // The resident memory among them is another one each time.
        let counted = |encoded: &str| -> Vec<String> {
            let lines = encoded
                .lines()
                .filter(|line| line.starts_with("realtime_insights"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(counted(&encoded).len(), 2, "{encoded}");
        assert_eq!(
            counted(&encoded),
            counted(&metrics.encode()),
            "after the end nothing is counted"
        );
    }

    #[test]
    fn only_the_last_reports_are_kept() {
        let broker = EmbeddedBroker::start(&[("insights", 1)]).expect("a broker");
        let handle = InsightHandle::start(
            &settings(None),
            &broker.settings(),
            "insights",
            &Metrics::new("realtime"),
        )
        .expect("started");
        let mut sink = Sink {
            shared: Arc::clone(&handle.0),
            directory: None,
            directory_warned: None,
            topic: TopicOutput::new(&broker.settings(), "insights"),
        };
        for filtered in 1..=KEPT_REPORTS as u64 + 5 {
            sink.take(&report(&handle, filtered));
        }
        let recent: Vec<serde_json::Value> = serde_json::from_str(&handle.recent_json()).expect("JSON");
        assert_eq!(recent.len(), KEPT_REPORTS);
        assert_eq!(recent[KEPT_REPORTS - 1]["filtered"], 6);
    }

    #[test]
    fn no_insights_means_no_thread_and_no_collector() {
        let settings = InsightsSettings {
            every: 0,
            ..settings(None)
        };
        let kafka = KafkaSettings::new("127.0.0.1:1");
        let handle =
            InsightHandle::start(&settings, &kafka, "insights", &Metrics::new("realtime")).expect("nothing");
        assert!(handle.collector(0, Instant::now(), 0).is_none());
        assert_eq!(handle.recent_json(), "[]");
        handle.stop();
    }

    #[test]
    fn a_directory_that_cannot_be_is_a_usage_error() {
        let folder = tempfile::NamedTempFile::new().expect("a file");
        let settings = settings(Some(folder.path().join("below")));
        let kafka = KafkaSettings::new("127.0.0.1:1");
        let error = InsightHandle::start(&settings, &kafka, "insights", &Metrics::new("realtime"));
        let exit = ExitError::from(error.expect_err("not a directory"));
        assert_eq!(exit.code, loginlake_service::exit::ExitCode::Usage);
        assert!(exit.message.contains("--insights-dir"), "{exit}");
    }
}
