//! Alerts by webhook, for those who have no Prometheus: a service looks at its own metrics and health every few seconds, and posts
//! to one URL, as Slack takes it, when something has been wrong for a while, again at times while it goes on, and once it is over.
//!
//! Guarantees: nothing waits for it, whatever the receiver does (two threads of its own, one message for each kind of alert at most
//! under way, every call with a limit); it is quiet while a service starts; the URL is in no log and in no error. A receiver that
//! does not answer is tried again with growing pauses; what is given up is counted, logged, and told later if it still goes on.
//!
//! In the order of data flow:
//!
//! - `readings`: the numbers of this process that matter, from its metrics
//! - `conditions`: which of them are wrong, by the limits
//! - `debounce`: when that is worth a message
//! - `message`: what the message says, as JSON
//! - `deliver`: the way to the receiver
//! - `metrics`: what is counted of all that

mod conditions;
mod debounce;
mod deliver;
mod message;
mod metrics;
mod readings;

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::{AlertLimits, AlertName, AlertSettings};
use crate::exit::ExitError;
use crate::health::Health;
use crate::metrics::Metrics;

use conditions::Conditions;
use debounce::Debounce;
use deliver::Outbox;
use message::{Message, Sender};
use metrics::AlertMetrics;
use readings::Readings;

/// The longest time between two looks.
const MAX_INTERVAL: Duration = Duration::from_secs(5);
/// The shortest, however short the limits are.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// A start may take so long, however short the limits are.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked within the shortest of the times that count.
const LOOKS: u32 = 20;

/// The alerts of a process; stopped when dropped.
#[derive(Debug)]
pub struct Alerts(Option<Running>);

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    looking: Option<JoinHandle<()>>,
}

/// What the looking thread and the owner share.
#[derive(Debug)]
struct Shared {
    limits: Mutex<AlertLimits>,
    stopped: Mutex<bool>,
    woken: Condvar,
}

impl Alerts {
    /// Starts to look, if there is somebody to tell. `service` and `instance` are part of each message: `instance` is best what an
    /// operator would look at, such as host and port.
    ///
    /// # Errors
    /// The system gives no thread, or HTTPS cannot be set up.
    pub fn start(
        settings: &AlertSettings,
        service: &'static str,
        instance: String,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<Self, ExitError> {
        let Some(webhook) = &settings.webhook else {
            return Ok(Self(None));
        };
        let counted = AlertMetrics::register(metrics);
        let outbox = Arc::new(Outbox::default());
        deliver::start(webhook, Arc::clone(&outbox), counted.clone())?;
        let shared = Arc::new(Shared {
            limits: Mutex::new(settings.limits.clone()),
            stopped: Mutex::new(false),
            woken: Condvar::new(),
        });
        let mut watch = Watch {
            shared: Arc::clone(&shared),
            outbox: Arc::clone(&outbox),
            metrics: metrics.clone(),
            health: health.clone(),
            counted,
            rules: Rules::new(Sender { service, instance }, Instant::now()),
        };
        let looking = thread("alerts")
            .spawn(move || watch.run())
            .map_err(|error| ExitError::failed(format!("cannot start a thread for alerts: {error}")))?;
        tracing::info!(after = ?settings.limits.after, "alerts are posted to the webhook");
        Ok(Self(Some(Running {
            shared,
            outbox,
            looking: Some(looking),
        })))
    }

    /// Other limits from now on; what has been wrong so far counts.
    pub fn set_limits(&self, limits: AlertLimits) {
        if let Some(running) = &self.0 {
            *running
                .shared
                .limits
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = limits;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.woken.notify_all();
        // The thread that delivers may be within a call: it is told, and not waited for.
        self.outbox.stop();
        if let Some(looking) = self.looking.take() {
            // Only a panic is an error, and it has been shown.
            let _ = looking.join();
        }
    }
}

/// The name of a process in messages: its host, and its port where it has one.
pub fn instance(http: Option<SocketAddr>) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map_or_else(|| "localhost".to_owned(), |name| name.trim().to_owned());
    match http {
        Some(address) => format!("{host}:{}", address.port()),
        None => host,
    }
}

fn thread(name: &str) -> std::thread::Builder {
    std::thread::Builder::new().name(name.to_owned())
}

/// The thread that looks.
struct Watch {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    metrics: Metrics,
    health: Health,
    counted: AlertMetrics,
    rules: Rules,
}

impl Watch {
    fn run(&mut self) {
        loop {
            let limits = self
                .shared
                .limits
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if self.is_stopped_within(interval(&limits)) {
                return;
            }
            let readings = Readings::of(&self.metrics.encode(), self.health.report());
            let lost = self.outbox.take_lost();
            let messages = self
                .rules
                .look(&limits, &readings, &lost, Instant::now(), now_epoch_s());
            for message in messages {
                let alert = message.alert;
                tracing::warn!(
                    alert = alert.as_str(),
                    status = message.status.as_str(),
                    detail = message.detail,
                    "alert"
                );
                self.outbox.put(message);
            }
            for alert in AlertName::ALL {
                self.counted.firing(alert, self.rules.is_firing(alert));
            }
        }
    }

    fn is_stopped_within(&self, time: Duration) -> bool {
        let stopped = self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .shared
            .woken
            .wait_timeout_while(stopped, time, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Often enough for each of the times that count.
fn interval(limits: &AlertLimits) -> Duration {
    let shortest = limits
        .after
        .max(MIN_INTERVAL)
        .min(limits.window)
        .min(limits.no_data);
    (shortest / LOOKS).clamp(MIN_INTERVAL, MAX_INTERVAL)
}

fn now_epoch_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// From one look to the next: what is wrong, for how long, and what was told. Time is passed in.
#[derive(Debug)]
struct Rules {
    sender: Sender,
    started: Instant,
    /// `None` while the service starts.
    conditions: Option<Conditions>,
    alerts: [Debounce; AlertName::ALL.len()],
}

impl Rules {
    fn new(sender: Sender, now: Instant) -> Self {
        Self {
            sender,
            started: now,
            conditions: None,
            alerts: Default::default(),
        }
    }

    /// What has to be told now. `lost`: messages that did not arrive.
    fn look(
        &mut self,
        limits: &AlertLimits,
        readings: &Readings,
        lost: &[AlertName],
        now: Instant,
        now_epoch_s: i64,
    ) -> Vec<Message> {
        if self.conditions.is_none() {
            // A start may take a while: it is over when the service has been ready once, or when that took too long.
            let too_long = now.duration_since(self.started) >= limits.after.max(START_LIMIT);
            if !readings.health.ready && !too_long {
                return Vec::new();
            }
        }
        let conditions = self.conditions.get_or_insert_with(|| Conditions::new(now));
        let found = conditions.look(limits, readings, now);
        let mut messages = Vec::new();
        for ((alert, debounce), detail) in AlertName::ALL.into_iter().zip(&mut self.alerts).zip(found) {
            let is_off = limits.off.contains(&alert);
            let times = debounce::Times {
                // Its limit is a time already.
                after: if alert == AlertName::NoData {
                    Duration::ZERO
                } else {
                    limits.after
                },
                // A rebalance, or the end of the process, takes the partitions away: that alone is no end of it.
                quiet: limits.after,
                repeat: limits.repeat,
            };
            if lost.contains(&alert) {
                debounce.not_delivered();
            }
            let told = debounce.step(detail.filter(|_| !is_off), times, now);
            messages.extend(told.map(|told| Message::new(alert, told, &self.sender, now_epoch_s)));
        }
        messages
    }

    fn is_firing(&self, alert: AlertName) -> bool {
        self.alerts[alert as usize].is_firing()
    }
}

#[cfg(test)]
mod tests;
