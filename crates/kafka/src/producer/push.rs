//! Sends now what librdkafka holds back for larger batches.
//!
//! `linger.ms` makes batches large under load, which the broker, the network and both processors thank us for; when there
//! is nothing more to send, waiting for it would be delay for nothing. librdkafka ignores it while a flush is under way, so
//! a thread of its own flushes whenever it is asked to. That thread is idle under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use rdkafka::bindings::rd_kafka_flush;
use rdkafka::types::RDKafka;

use crate::KafkaError;

/// Longest that one flush goes on: how long a burst that follows is sent in small batches.
const FLUSH_MS: i32 = 5;

const IDLE: u8 = 0;
const ASKED: u8 = 1;
const ENDING: u8 = 2;

/// The thread that flushes. To be dropped before the client.
pub(super) struct Push {
    state: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
}

/// A client that outlives the thread, see [`Push`].
struct Client(*mut RDKafka);

// SAFETY: librdkafka's clients may be used by any thread at any time.
unsafe impl Send for Client {}

impl Push {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(client: *mut RDKafka) -> Result<Self, KafkaError> {
        let state = Arc::new(AtomicU8::new(IDLE));
        let client = Client(client);
        let asked = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("push".to_owned())
            .spawn(move || serve(&client, &asked))
            .map_err(|error| KafkaError::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            state,
            thread: Some(thread),
        })
    }

    /// Asks for everything that was handed over so far to be sent now. Returns at once.
    pub fn ask(&self) {
        let _ = self
            .state
            .compare_exchange(IDLE, ASKED, Ordering::AcqRel, Ordering::Relaxed);
        self.unpark();
    }

    fn unpark(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        self.state.store(ENDING, Ordering::Release);
        self.unpark();
        if let Some(thread) = self.thread.take() {
            // It cannot panic: it only calls librdkafka.
            let _ = thread.join();
        }
    }
}

fn serve(client: &Client, state: &AtomicU8) {
    loop {
        match state.compare_exchange(ASKED, IDLE, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: `Push` ends this thread before the client goes.
            Ok(_) => unsafe {
                rd_kafka_flush(client.0, FLUSH_MS);
            },
            Err(ENDING) => return,
            Err(_) => std::thread::park(),
        }
    }
}
