//! One request to stop, seen by tasks and plain threads alike. SIGINT or SIGTERM asks for it and lets the work in
//! flight finish; a second signal ends the process at once with code 130. A request is never taken back.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The code of a process that a second signal ended.
const INTERRUPTED: i32 = 130;

/// A request to stop; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    blocked: Arc<Blocked>,
}

/// Where plain threads wait.
#[derive(Debug, Default)]
struct Blocked {
    requested: Mutex<bool>,
    changed: Condvar,
}

impl Shutdown {
    /// One that only [`Shutdown::trigger`] requests.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that SIGINT and SIGTERM request. Needs a tokio runtime, which watches for the signals.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let mut signals = Signals::install()?;
        let shutdown = Self::new();
        let requested = shutdown.clone();
        tokio::spawn(async move {
            let signal = signals.next().await;
            info!(
                signal,
                "stopping once the work in flight is done; a second signal stops at once"
            );
            requested.trigger();
            let signal = signals.next().await;
            warn!(signal, "stopping at once");
            std::process::exit(INTERRUPTED);
        });
        Ok(shutdown)
    }

    /// Asks everybody to stop.
    pub fn trigger(&self) {
        self.token.cancel();
        *self
            .blocked
            .requested
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.blocked.changed.notify_all();
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits, in a task, until it is asked for.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Waits, in a plain thread, until it is asked for or `limit` is over. Returns whether it was asked for: this is
    /// how a thread paces what it tries again.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        let requested = self
            .blocked
            .requested
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .blocked
            .changed
            .wait_timeout_while(requested, limit, |requested| !*requested);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The same request as a token, for what takes one.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "ctrl-c"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_is_woken() {
        let shutdown = Shutdown::new();
        let waiting = shutdown.clone();
        let thread = std::thread::spawn(move || waiting.wait_timeout(Duration::from_secs(600)));
        shutdown.trigger();
        assert!(thread.join().expect("no panic"));
        assert!(shutdown.is_requested());
    }

    #[test]
    fn a_wait_that_is_over_says_that_nobody_asked() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.wait_timeout(Duration::ZERO));
        assert!(!shutdown.is_requested());
    }

    #[tokio::test]
    async fn a_task_that_waits_is_woken_and_a_later_one_does_not_wait() {
        let shutdown = Shutdown::new();
        let waiting = shutdown.clone();
        let task = tokio::spawn(async move { waiting.requested().await });
        shutdown.trigger();
        task.await.expect("no panic");
        shutdown.requested().await;
        assert!(shutdown.token().is_cancelled());
    }
}
