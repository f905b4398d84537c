//! The way to the receiver: one thread that posts what is there, with a limit on each call, and tries again with growing pauses.
//! There is one place for each kind of alert: a newer message takes the place of one that is not delivered yet. Redirects are not
//! followed, the environment's proxies are not used, and no error holds the address.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::blocking::Client;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;

use crate::backoff::Backoff;
use crate::config::{AlertName, Secret};
use crate::exit::ExitError;

use super::message::{Message, body};
use super::metrics::AlertMetrics;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for one answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a message is tried.
const MAX_ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Also the most that a receiver may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Messages that are not delivered yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<AlertName, Waiting>,
    /// The alerts of messages that were given up.
    lost: Vec<AlertName>,
    stopped: bool,
    /// Tells a message from its successor.
    number: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    message: Message,
    number: u64,
    attempts: u32,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits for the receiver.
    pub fn put(&self, message: Message) {
        let mut state = self.state();
        state.number += 1;
        let number = state.number;
        let waiting = Waiting {
            message,
            number,
            attempts: 0,
        };
        state.waiting.insert(waiting.message.alert, waiting);
        self.changed.notify_all();
    }

    /// The alerts whose messages were given up since the last call.
    pub fn take_lost(&self) -> Vec<AlertName> {
        std::mem::take(&mut self.state().lost)
    }

    /// Nothing more is sent.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }

    /// All that waits, when there is something; `None` when it is over.
    fn wait(&self) -> Option<Vec<Waiting>> {
        let nothing = |state: &mut State| state.waiting.is_empty() && !state.stopped;
        let state = self.changed.wait_while(self.state(), nothing);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        (!state.stopped).then(|| state.waiting.values().cloned().collect())
    }

    fn pause(&self, time: Duration) {
        let going_on = |state: &mut State| !state.stopped;
        drop(self.changed.wait_timeout_while(self.state(), time, going_on));
    }

    /// What became of them. Returns how many were given up.
    fn settle(&self, sent: &[Waiting], outcome: &Outcome) -> usize {
        let mut state = self.state();
        let mut given_up = Vec::new();
        for sent in sent {
            let alert = sent.message.alert;
            let attempts = sent.attempts + 1;
            let is_lost = match outcome {
                Outcome::Delivered => false,
                Outcome::Refused(_) => true,
                Outcome::Later { .. } => attempts >= MAX_ATTEMPTS,
            };
            if is_lost {
                given_up.push(alert);
            }
            // A successor stays.
            let Some(waiting) = state
                .waiting
                .get_mut(&alert)
                .filter(|waiting| waiting.number == sent.number)
            else {
                continue;
            };
            waiting.attempts = attempts;
            if is_lost || matches!(outcome, Outcome::Delivered) {
                state.waiting.remove(&alert);
            }
        }
        let lost = given_up.len();
        for alert in given_up {
            if !state.lost.contains(&alert) {
                state.lost.push(alert);
            }
        }
        lost
    }
}

/// What became of a call.
#[derive(Debug)]
enum Outcome {
    Delivered,
    /// It makes no sense to send this again.
    Refused(String),
    /// It does.
    Later {
        why: String,
        /// What the receiver asked for.
        pause: Option<Duration>,
    },
}

/// Starts the thread that delivers. It ends with the process, or when the outbox is stopped and its call is over.
pub(super) fn start(webhook: &Secret, outbox: Arc<Outbox>, metrics: AlertMetrics) -> Result<(), ExitError> {
    let url = String::from_utf8_lossy(webhook.expose()).into_owned();
    // The client has a runtime of its own, which must not be made or dropped within another one.
    let post = move || {
        let client = Client::builder()
            .user_agent(concat!("loginlake/", env!("CARGO_PKG_VERSION")))
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            .no_proxy()
            .build();
        match client {
            Ok(client) => deliver(&client, &url, &outbox, &metrics, FIRST_PAUSE),
            Err(error) => {
                let error = causes(&error);
                tracing::error!(error, "no alert can be sent: HTTPS cannot be set up");
            }
        }
    };
    let started = super::thread("alerts-deliver").spawn(post);
    started
        .map(drop)
        .map_err(|error| ExitError::failed(format!("cannot start a thread for alerts: {error}")))
}

fn deliver(client: &Client, url: &str, outbox: &Outbox, metrics: &AlertMetrics, first_pause: Duration) {
    let mut backoff = Backoff::new(first_pause, MAX_PAUSE);
    while let Some(waiting) = outbox.wait() {
        let messages: Vec<Message> = waiting.iter().map(|waiting| waiting.message.clone()).collect();
        let outcome = post(client, url, body(&messages));
        let lost = outbox.settle(&waiting, &outcome);
        metrics.lost(lost);
        match outcome {
            Outcome::Delivered => {
                metrics.delivered(messages.len());
                backoff.reset();
            }
            Outcome::Refused(why) => {
                tracing::error!(
                    why,
                    lost,
                    "the alert webhook does not take messages; check its URL"
                );
            }
            Outcome::Later { why, pause } => {
                metrics.retried();
                // At least half of it, so that it is no storm.
                let delay = backoff.next_delay().max(first_pause / 2);
                let pause = pause.map_or(delay, |asked| asked.min(MAX_PAUSE).max(delay));
                tracing::warn!(
                    why,
                    ?pause,
                    lost,
                    "the alert webhook does not answer; trying again"
                );
                outbox.pause(pause);
            }
        }
    }
}

fn post(client: &Client, url: &str, body: Vec<u8>) -> Outcome {
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .body(body);
    // The body of an answer is not read: nothing in it changes what is done.
    let answer = match request.send() {
        Ok(answer) => answer,
        Err(error) => {
            return Outcome::Later {
                why: causes(&error.without_url()),
                pause: None,
            };
        }
    };
    let status = answer.status();
    let why = format!("it answers {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Outcome::Delivered,
        408 | 425 | 429 | 500..=599 => {
            let seconds = answer.headers().get(RETRY_AFTER);
            let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Outcome::Later {
                why,
                pause: seconds.map(Duration::from_secs),
            }
        }
        300..=399 => Outcome::Refused(format!("{why}, and redirects are not followed")),
        _ => Outcome::Refused(why),
    }
}

/// An error with what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
