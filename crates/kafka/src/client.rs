//! What librdkafka says about itself: as `tracing` lines, and remembered as the cause of the next error.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::bindings as native;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

use rdkafka::types::RDKafka;

use crate::{KafkaError, KafkaSettings, Statistics, diagnosis, refusal};

/// Shared memory of a client's last complaint and of its last statistics. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ClientState(Arc<Mutex<Complaint>>);

#[derive(Debug, Default)]
struct Complaint {
    /// The last error text, and whether it was about who we are rather than about the network.
    last: Option<(String, bool)>,
    fatal: Option<String>,
    statistics: Option<Statistics>,
    /// The file of the authorities that the broker's certificate may be of.
    authorities: Option<PathBuf>,
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

    /// Remembers why this client cannot say who it is.
    pub(crate) fn refuse(&self, problem: &str) {
        self.lock().last = Some((problem.to_owned(), true));
    }

    /// Forgets the last complaint if it is about this, as it is over.
    pub(crate) fn forget(&self, problem: &str) {
        let mut complaint = self.lock();
        if complaint
            .last
            .as_ref()
            .is_some_and(|(text, _)| text.contains(problem))
        {
            complaint.last = None;
        }
    }

    /// Remembers a line of the log, unless something is known that says more.
    fn overhear(&self, line: &str) {
        let about_us = refusal::is_about_us(line);
        let mut complaint = self.lock();
        if about_us || complaint.last.as_ref().is_none_or(|(_, about_us)| !about_us) {
            complaint.last = Some((shorten(line), about_us));
        }
    }

    /// Whether the last complaint is about who this client is.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.lock().last, Some((_, true)))
    }

    /// Turns a failed first contact into the reason that librdkafka gave on the side.
    pub(crate) fn explain(&self, brokers: &str, error: &ClientError) -> KafkaError {
        let brokers = brokers.to_owned();
        let (last, authorities) = {
            let complaint = self.lock();
            (complaint.last.clone(), complaint.authorities.clone())
        };
        match last {
            Some((detail, true)) => {
                let problem = authorities
                    .filter(|_| detail.contains("certificate verify failed"))
                    .and_then(|file| diagnosis::certificate_problem(&brokers, &file));
                let detail = problem.unwrap_or(detail);
                KafkaError::Refused { brokers, detail }
            }
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
        let about_us = about_us || refusal::is_about_us(&reason);
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

/// Most events that one look takes.
const MAX_EVENTS: usize = 256;
/// Severities up to this one are complaints, by syslog's numbers.
const INFO: i32 = 6;

impl LoggingContext {
    /// For a client of these settings.
    pub(crate) fn of(settings: &KafkaSettings) -> Self {
        let context = Self::default();
        context.state.lock().authorities = settings.properties.get("ssl.ca.location").map(PathBuf::from);
        context
    }

    /// Takes what librdkafka has to say, from a client that nobody polls: it has no thread for it. Not to be called while records are
    /// read by this client, as it would take them.
    pub(crate) fn listen(&self, client: *mut RDKafka) {
        for _ in 0..MAX_EVENTS {
            // SAFETY: the client lives as long as its owner, who calls; the queue's reference is given back, and each event is
            // destroyed after its texts were copied.
            unsafe {
                let queue = native::rd_kafka_queue_get_main(client);
                let event = native::rd_kafka_queue_poll(queue, 0);
                native::rd_kafka_queue_destroy(queue);
                if event.is_null() {
                    return;
                }
                match native::rd_kafka_event_type(event) {
                    native::RD_KAFKA_EVENT_LOG => {
                        let (mut facility, mut text, mut level): (*const c_char, *const c_char, i32) =
                            (ptr::null(), ptr::null(), 0);
                        let known = native::rd_kafka_event_log(event, &mut facility, &mut text, &mut level);
                        if known == 0 && !text.is_null() && !facility.is_null() {
                            let facility = CStr::from_ptr(facility).to_string_lossy();
                            let text = CStr::from_ptr(text).to_string_lossy();
                            if level <= INFO && ["FAIL", "ERROR"].contains(&&*facility) {
                                self.state.overhear(text.trim());
                            }
                            tracing::debug!(target: "loginlake_kafka::librdkafka", %facility, "{}", text.trim());
                        }
                    }
                    native::RD_KAFKA_EVENT_ERROR => {
                        let code = native::rd_kafka_event_error(event);
                        let text =
                            CStr::from_ptr(native::rd_kafka_event_error_string(event)).to_string_lossy();
                        self.error(ClientError::Global(code.into()), text.trim());
                    }
                    _ => {}
                }
                native::rd_kafka_event_destroy(event);
            }
        }
    }
}

/// Without librdkafka's thread prefix `[thrd:…]: host:port/bootstrap: `.
fn shorten(reason: &str) -> String {
    let text = match reason.split_once("]: ") {
        Some((prefix, rest)) if prefix.starts_with("[thrd:") => rest,
        _ => reason,
    };
    // How long it took, and how often it was said.
    let text = text.split_once(" (after ").map_or(text, |(said, _)| said);
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
