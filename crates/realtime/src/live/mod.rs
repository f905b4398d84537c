//! The live dashboard of `realtime run`: what the whole group has done in the last 15 minutes.
//!
//! It reads the two topics that the group writes, not what this process did, so every instance shows the same. It costs
//! nothing while nobody looks: the first request starts one reader thread (without a consumer group: it takes no work
//! from anybody), and the thread ends when nobody has asked for a minute. Its memory is bounded whatever the clients
//! send, and nothing that goes wrong here reaches the path that processes records.
//!
//! In the order of data flow:
//!
//! - `record`: one record of either topic, cut down to what is counted
//! - `delays`: the logarithmic histogram; `slots`: the fixed places of everything that is counted
//! - `window`: the ring of 900 one-second buckets
//! - `lag`: how many records wait for the whole group
//! - `stats`: the JSON
//! - `feed`: the thread that fills the window and publishes the JSON each second
//! - `routes`: the page and its API

pub(crate) mod delays;
mod feed;
mod lag;
mod record;
mod routes;
pub(crate) mod slots;
mod stats;
mod window;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use loginlake_kafka::KafkaSettings;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use lag::{GroupSettings, OfGroup};
pub use routes::router;
pub use window::WINDOW_SECONDS;

/// The reader ends when nobody has asked for so long.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// What the reader publishes.
#[derive(Clone)]
struct Numbers {
    /// One line.
    json: Arc<str>,
    /// Everything of the window is counted, or nothing better is to be had at the moment.
    settled: bool,
}

/// What the dashboard reads.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// The cluster of both topics.
    pub kafka: KafkaSettings,
    /// Topic of the processed logins.
    pub output_topic: String,
    /// Topic of the rejected records.
    pub dead_letter_topic: String,
}

/// Records of the input that wait to be processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionLag {
    /// The partition of the input topic.
    pub partition: i32,
    /// How many records wait.
    pub records: u64,
}

/// Tells how many records wait. Asked once a second on the dashboard's own thread; should answer within that second.
pub trait LagSource: Send + Sync + 'static {
    /// The lag of each partition of the input, in the order to be shown.
    fn lag(&self) -> Vec<PartitionLag>;
}

impl<F: Fn() -> Vec<PartitionLag> + Send + Sync + 'static> LagSource for F {
    fn lag(&self) -> Vec<PartitionLag> {
        self()
    }
}

/// The dashboard's state. Cheap to clone; all clones are one dashboard.
#[derive(Clone)]
pub struct LiveHandle(Arc<Shared>);

impl LiveHandle {
    /// Prepares the dashboard; reads nothing before somebody looks.
    pub fn new(settings: LiveSettings, lag: Arc<dyn LagSource>) -> Self {
        Self::with_idle_limit(settings, lag, IDLE_LIMIT)
    }

    fn with_idle_limit(settings: LiveSettings, lag: Arc<dyn LagSource>, idle_limit: Duration) -> Self {
        Self(Arc::new(Shared {
            settings,
            lag,
            idle_limit,
            published: watch::Sender::new(None),
            stopped: CancellationToken::new(),
            looking: Mutex::new(Looking {
                last: Instant::now(),
                reader: None,
            }),
            woken: Condvar::new(),
        }))
    }

    /// Ends the reader and all event streams, for good. Does not wait for them.
    pub fn stop(&self) {
        self.0.stopped.cancel();
        // Under the lock, so that a reader that is about to wait does not miss it.
        let _looking = self.0.looking();
        self.0.woken.notify_all();
    }

    /// Somebody looks: starts the reader if it does not run. Returns where it publishes.
    fn look(&self) -> watch::Receiver<Option<Numbers>> {
        let mut looking = self.0.looking();
        looking.last = Instant::now();
        let running = looking
            .reader
            .as_ref()
            .is_some_and(|reader| !reader.is_finished());
        if !running && !self.0.stopped.is_cancelled() {
            let shared = Arc::clone(&self.0);
            let thread = std::thread::Builder::new().name("live".to_owned());
            match thread.spawn(move || shared.read_while_wanted()) {
                Ok(reader) => looking.reader = Some(reader),
                Err(error) => tracing::error!(%error, "the dashboard's thread cannot be started"),
            }
        }
        self.0.published.subscribe()
    }

    fn stopped(&self) -> &CancellationToken {
        &self.0.stopped
    }
}

/// What requests and the reader's thread share.
struct Shared {
    settings: LiveSettings,
    lag: Arc<dyn LagSource>,
    idle_limit: Duration,
    /// None while nobody looks.
    published: watch::Sender<Option<Numbers>>,
    stopped: CancellationToken,
    looking: Mutex<Looking>,
    woken: Condvar,
}

struct Looking {
    last: Instant,
    /// The reader's thread, while it runs.
    reader: Option<JoinHandle<()>>,
}

impl Shared {
    fn looking(&self) -> MutexGuard<'_, Looking> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody still looks.
    fn is_wanted(&self) -> bool {
        self.wants(&self.looking())
    }

    fn wants(&self, looking: &Looking) -> bool {
        !self.stopped.is_cancelled() && looking.last.elapsed() < self.idle_limit
    }

    /// Waits, but not on after a stop.
    fn wait(&self, time: Duration) {
        let looking = self.looking();
        let not_stopped = |_: &mut Looking| !self.stopped.is_cancelled();
        // Nothing is done with the state: the caller asks anew.
        drop(self.woken.wait_timeout_while(looking, time, not_stopped));
    }

    /// The reader's thread.
    fn read_while_wanted(&self) {
        tracing::debug!("somebody looks at the dashboard: reading");
        loop {
            feed::run(self);
            // Decided under the lock: whoever looks from now on either is seen here or starts another thread.
            let mut looking = self.looking();
            if !self.wants(&looking) {
                self.published.send_replace(None);
                looking.reader = None;
                tracing::debug!("nobody looks at the dashboard: no longer reading");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
