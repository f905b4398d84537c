//! What librdkafka says about itself: as `tracing` lines, and remembered as the cause of the next error.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

use crate::{KafkaError, Statistics};

/// Shared memory of a client's last complaint and of its last statistics. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ClientState(Arc<Mutex<Complaint>>);

#[derive(Debug, Default)]
struct Complaint {
    /// The last error text, and whether it was about who we are rather than about the network.
    last: Option<(String, bool)>,
    fatal: Option<String>,
    statistics: Option<Statistics>,
    /// The longest throttling that nobody has looked at yet, milliseconds.
    unseen_throttled_ms: u64,
}

impl ClientState {
    fn lock(&self) -> std::sync::MutexGuard<'_, Complaint> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error that ended the client, if there was one.
    pub fn fatal(&self) -> Option<String> {
        self.lock().fatal.clone()
    }

    /// The last complaint.
    pub fn last(&self) -> Option<String> {
        self.lock().last.as_ref().map(|(text, _)| text.clone())
    }

    /// The last complaint since the last call.
    pub fn take_last(&self) -> Option<String> {
        self.lock().last.take().map(|(text, _)| text)
    }

    /// What the client holds in memory; `None` as long as it has not said so. `throttled_ms` is the longest since the last
    /// call, if that is longer ago than the last statistics.
    pub fn statistics(&self) -> Option<Statistics> {
        let mut complaint = self.lock();
        let unseen_ms = std::mem::take(&mut complaint.unseen_throttled_ms);
        let mut statistics = complaint.statistics.clone()?;
        statistics.throttled_ms = statistics.throttled_ms.max(unseen_ms);
        Some(statistics)
    }

    fn note(&self, statistics: Statistics) {
        let mut complaint = self.lock();
        complaint.unseen_throttled_ms = complaint.unseen_throttled_ms.max(statistics.throttled_ms);
        complaint.statistics = Some(statistics);
    }

    /// Turns a failed first contact into the reason that librdkafka gave on the side.
    pub(crate) fn explain(&self, brokers: &str, error: &ClientError) -> KafkaError {
        let brokers = brokers.to_owned();
        match self.lock().last.clone() {
            Some((detail, true)) => KafkaError::Refused { brokers, detail },
            Some((detail, false)) => KafkaError::Unreachable { brokers, detail },
            None => KafkaError::Unreachable {
                brokers,
                detail: error.to_string(),
            },
        }
    }
}

/// The context of every client: remembers and logs.
#[derive(Clone, Debug, Default)]
pub struct LoggingContext {
    /// What was said last.
    pub state: ClientState,
}

impl ClientContext for LoggingContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Errors also arrive through `error`; the log has them with addresses and thread names.
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "loginlake_kafka::librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Warning => {
                tracing::warn!(target: "loginlake_kafka::librdkafka", facility, "{message}")
            }
            _ => tracing::debug!(target: "loginlake_kafka::librdkafka", facility, "{message}"),
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        if let Some(statistics) = Statistics::parse(json) {
            self.state.note(statistics);
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        let code = error.rdkafka_error_code();
        let about_us = matches!(
            code,
            Some(
                Code::Authentication
                    | Code::SSL
                    | Code::SaslAuthenticationFailed
                    | Code::TopicAuthorizationFailed
                    | Code::GroupAuthorizationFailed
                    | Code::ClusterAuthorizationFailed
                    | Code::TransactionalIdAuthorizationFailed
                    | Code::UnsupportedSASLMechanism
            )
        );
        let reason = shorten(reason);
        let mut complaint = self.state.lock();
        if matches!(code, Some(Code::Fatal)) {
            complaint.fatal = Some(reason.clone());
        }
        // "all brokers down" says less than what was said before it.
        if about_us || code != Some(Code::AllBrokersDown) || complaint.last.is_none() {
            complaint.last = Some((reason.clone(), about_us));
        }
        drop(complaint);
        tracing::debug!(code = ?code, "{reason}");
    }
}

/// Without librdkafka's thread prefix `[thrd:…]: host:port/bootstrap: `.
fn shorten(reason: &str) -> String {
    let text = match reason.split_once("]: ") {
        Some((prefix, rest)) if prefix.starts_with("[thrd:") => rest,
        _ => reason,
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttling_that_was_over_before_anybody_looked_is_seen_once() {
        let state = ClientState::default();
        assert_eq!(state.statistics(), None);
        for throttled_ms in [0, 700, 0] {
            state.note(Statistics {
                throttled_ms,
                ..Statistics::default()
            });
        }
        let seen = || state.statistics().map(|statistics| statistics.throttled_ms);
        assert_eq!((seen(), seen()), (Some(700), Some(0)));
    }
}
