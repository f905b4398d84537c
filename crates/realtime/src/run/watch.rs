//! What a worker looks at once a second, beside its records: the lag of its partitions, what its clients hold in memory, and
//! whether a quota slows them down.

use std::time::{Duration, Instant};

use loginlake_kafka::Statistics;
use loginlake_kafka::consumer::GroupConsumer;

use super::Progress;
use super::lag::{Lags, Seen};
use super::members::{Output, Shared};
use super::metrics::{Client, RealtimeMetrics};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(1);

/// The looks of one worker.
#[derive(Debug)]
pub(super) struct Watch {
    worker: u16,
    looked: Instant,
    lags: Lags,
    /// The clients that were being slowed down at the last look.
    throttled: [bool; 2],
}

impl Watch {
    pub fn new(worker: u16, now: Instant) -> Self {
        Self {
            worker,
            looked: now,
            lags: Lags::default(),
            throttled: [false; 2],
        }
    }

    /// Takes note of the broker's timestamps of the last handled records.
    pub fn handled(&mut self, newest_ms: &[(i32, i64)]) {
        self.lags.handled(newest_ms, Instant::now());
    }

    /// Whether a quota slowed one of the clients down lately.
    pub fn is_throttled(&self) -> bool {
        self.throttled.contains(&true)
    }

    /// Looks, when it is time to.
    pub fn look(
        &mut self,
        consumer: &GroupConsumer<Shared>,
        shared: &Shared,
        metrics: &RealtimeMetrics,
        progress: &Progress,
        now_ms: i64,
    ) {
        let now = Instant::now();
        if now.duration_since(self.looked) < INTERVAL {
            return;
        }
        self.looked = now;
        let reading = consumer.client_state().statistics();
        self.look_at_lag(
            consumer,
            shared,
            reading.as_ref(),
            metrics,
            progress,
            (now, now_ms),
        );
        let writing = shared.output.statistics();
        let clients = [
            (
                Client::Consumer,
                reading.map(|s| (s.fetched_bytes, s.throttled_ms)),
            ),
            (
                Client::Producer,
                writing.map(|s| (s.unsent_bytes, s.throttled_ms)),
            ),
        ];
        for (place, (client, numbers)) in clients.into_iter().enumerate() {
            let Some((queue_bytes, throttled_ms)) = numbers else {
                continue;
            };
            metrics.set_client(
                self.worker,
                client,
                queue_bytes,
                Duration::from_millis(throttled_ms),
            );
            let throttled = throttled_ms > 0;
            if throttled && !self.throttled[place] {
                tracing::warn!(
                    worker = self.worker,
                    ?client,
                    throttled_ms,
                    "a quota slows this client down"
                );
            }
            self.throttled[place] = throttled;
        }
    }

    fn look_at_lag(
        &mut self,
        consumer: &GroupConsumer<Shared>,
        shared: &Shared,
        statistics: Option<&Statistics>,
        metrics: &RealtimeMetrics,
        progress: &Progress,
        (now, now_ms): (Instant, i64),
    ) {
        let known = shared.partitions();
        let mut totals = progress.lock();
        self.lags.keep(|partition| known.here.contains(&partition));
        totals
            .lag_records
            .retain(|partition, _| known.here.contains(partition));
        // Records under way are read, and not handled yet.
        let all_handled = match &shared.output {
            Output::ExactlyOnce(_) => true,
            Output::AtLeastOnce(deliveries) => deliveries.is_idle(),
        };
        for partition in &known.here {
            let seen = Seen {
                next_offset: known
                    .handled
                    .get(partition)
                    .copied()
                    .or_else(|| consumer.began_at(*partition)),
                end: consumer.known_watermarks(*partition).map(|(_, end)| end),
                read_to: known.read_to.get(partition).copied().filter(|_| all_handled),
                client_records: statistics.and_then(|s| s.lag_records.get(partition).copied()),
            };
            if let Some(lag) = self.lags.look(*partition, seen, now, now_ms) {
                metrics.set_lag(*partition, lag);
                totals.lag_records.insert(*partition, lag.records);
            }
        }
    }
}
