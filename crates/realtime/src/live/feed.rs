//! The thread that reads both topics while somebody looks, and publishes the numbers once a second.
//!
//! It begins 15 minutes ago, so a dashboard that was just opened is complete as soon as it has caught up. Whatever goes
//! wrong with Kafka is shown, and tried again for ever; the window then begins anew, so that nothing is counted twice.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use loginlake_kafka::KafkaError;
use loginlake_kafka::rdkafka::Message;
use loginlake_kafka::rdkafka::message::BorrowedMessage;
use loginlake_kafka::reader::{Read, ReadFrom, TopicReader};

use super::record::{self, Login};
use super::stats::{ReaderState, Stats};
use super::window::{WINDOW_SECONDS, Window};
use super::{Numbers, PartitionLag, Shared};

/// The numbers are published in the middle of every second: by then, those of the second before are complete.
const PUBLISH_AT_MS: i64 = 500;
/// How long Kafka is left alone after it could not be read.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A topic that is silent for so long may have a broker that is: it is asked. librdkafka notices by itself after a minute and more.
const ASK_AFTER: Duration = Duration::from_secs(4);
/// A broker that has said nothing for so long does not answer.
const SILENT_AFTER: Duration = Duration::from_secs(8);
/// How long a question about a silent broker may hold the numbers up.
const PING_LIMIT: Duration = Duration::from_millis(500);
/// Read of each partition whatever the Kafka timestamps say: those of a replay are old, although it was published now.
const AT_LEAST_OFFSETS: i64 = 20_000;

/// Reads and publishes until nobody looks any more.
pub(super) fn run(shared: &Shared) {
    while shared.is_wanted() {
        let mut feed = Feed::new(shared);
        let Err(error) = feed.follow() else { return };
        tracing::warn!(%error, "the dashboard cannot read Kafka; trying again");
        feed.state = ReaderState::Retrying(error.to_string());
        let again = Instant::now() + RETRY_AFTER;
        while shared.is_wanted() && Instant::now() < again {
            feed.publish();
            shared.wait(until_next());
        }
    }
}

/// One attempt: a reader and the window that it fills.
struct Feed<'a> {
    shared: &'a Shared,
    window: Window,
    state: ReaderState,
    lag: Vec<PartitionLag>,
    /// When Kafka last said something.
    heard: Instant,
}

impl<'a> Feed<'a> {
    fn new(shared: &'a Shared) -> Self {
        let window = Window::new(now_ms().div_euclid(1_000));
        Self {
            shared,
            window,
            state: ReaderState::Starting,
            lag: Vec::new(),
            heard: Instant::now(),
        }
    }

    /// Ends well when nobody looks any more.
    fn follow(&mut self) -> Result<(), KafkaError> {
        self.publish();
        let settings = &self.shared.settings;
        let topics = [
            settings.output_topic.as_str(),
            settings.dead_letter_topic.as_str(),
        ];
        let epoch_ms = now_ms() - WINDOW_SECONDS as i64 * 1_000;
        let from = ReadFrom::Time {
            epoch_ms,
            at_least: AT_LEAST_OFFSETS,
        };
        let reader = TopicReader::open(&settings.kafka, &topics, from)?;
        self.state = ReaderState::CatchingUp;
        self.heard = Instant::now();
        while self.shared.is_wanted() {
            self.ask(&reader);
            self.publish();
            self.read_until(&reader, Instant::now() + until_next())?;
        }
        Ok(())
    }

    /// Asks a broker that is silent whether it is there.
    fn ask(&mut self, reader: &TopicReader) {
        let is_retrying = matches!(self.state, ReaderState::Retrying(_));
        if !is_retrying && self.heard.elapsed() < ASK_AFTER {
            return;
        }
        match reader.ping(PING_LIMIT) {
            Ok(()) => {
                self.heard = Instant::now();
                if is_retrying {
                    self.state = caught_up(reader);
                }
            }
            Err(error) if !is_retrying && self.heard.elapsed() >= SILENT_AFTER => {
                self.state = ReaderState::Retrying(error.to_string());
            }
            Err(_) => {}
        }
    }

    /// Counts whatever comes until then.
    fn read_until(&mut self, reader: &TopicReader, deadline: Instant) -> Result<(), KafkaError> {
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Ok(());
            }
            match reader.poll(remaining) {
                Ok(Read::Record(message)) => {
                    self.heard = Instant::now();
                    self.count(&message);
                }
                Ok(Read::EndOfPartition { .. }) => {
                    self.heard = Instant::now();
                    self.state = caught_up(reader);
                }
                Ok(Read::Nothing) => return Ok(()),
                Err(error) if error.is_retriable() => self.state = ReaderState::Retrying(error.to_string()),
                Err(error) => return Err(error),
            }
        }
    }

    fn count(&mut self, message: &BorrowedMessage<'_>) {
        if message.topic() == self.shared.settings.dead_letter_topic {
            let kafka_ms = message.timestamp().to_millis().unwrap_or_else(now_ms);
            return self
                .window
                .count_dead_letter(record::reason_of(message), kafka_ms);
        }
        match message.payload().and_then(Login::parse) {
            Some(login) => self.window.count_login(&login, record::received_ms(message)),
            None => self.window.count_unreadable(),
        }
    }

    fn publish(&mut self) {
        let now_ms = now_ms();
        self.window.advance(now_ms.div_euclid(1_000));
        self.lag = self.shared.lag.lag();
        let stats = Stats::of(&self.window, &self.state, &self.lag, now_ms);
        let settled = !matches!(self.state, ReaderState::Starting | ReaderState::CatchingUp);
        self.shared.published.send_replace(Some(Numbers {
            json: stats.to_json().into(),
            settled,
        }));
    }
}

fn caught_up(reader: &TopicReader) -> ReaderState {
    if reader.end_reached() {
        ReaderState::Live
    } else {
        ReaderState::CatchingUp
    }
}

/// How long until the numbers are published again.
fn until_next() -> Duration {
    let since_last_ms = (now_ms() - PUBLISH_AT_MS).rem_euclid(1_000);
    Duration::from_millis((1_000 - since_last_ms).unsigned_abs())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
