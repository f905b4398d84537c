//! SIGINT and SIGTERM for a command that only reads: it stops at once, with the codes that shells give, 130 and 143.
//!
//! The signals are awaited by a thread of its own, because a query may keep every worker busy. When what runs does not give
//! way within `PATIENCE`, as when it waits for a reader of its output, the thread ends the process.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::warn;

/// How long the work may take to be dropped.
const PATIENCE: Duration = Duration::from_millis(300);

/// Which signal asked for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, as of Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// The code of a process that it ended: 128 and the signal's number.
    pub fn code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    /// Ends the process.
    pub fn exit(self) -> ! {
        let name = match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        };
        eprintln!("stopped by {name}");
        std::process::exit(self.code())
    }
}

/// A signal to come.
#[derive(Debug)]
pub struct Stopped(oneshot::Receiver<Signal>);

impl Stopped {
    /// Watches from now on. Where no thread can watch, a signal ends the process as it does by itself.
    pub fn on_signals() -> Self {
        let (sender, receiver) = oneshot::channel();
        let watch = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async move {
                let mut interrupt = signal(SignalKind::interrupt())?;
                let mut terminate = signal(SignalKind::terminate())?;
                let signal = tokio::select! {
                    _ = interrupt.recv() => Signal::Interrupt,
                    _ = terminate.recv() => Signal::Terminate,
                };
                // Nobody listens when the work is done; then the process ends by itself.
                if sender.send(signal).is_ok() {
                    tokio::time::sleep(PATIENCE).await;
                    signal.exit()
                }
                Ok::<(), io::Error>(())
            })
        };
        let watching = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if let Err(error) = watch() {
                    warn!(%error, "signals are not watched for: one ends the process without a word");
                }
            });
        if let Err(error) = watching {
            warn!(%error, "signals are not watched for: one ends the process without a word");
        }
        Self(receiver)
    }

    /// Waits for the first signal.
    pub async fn requested(self) -> Signal {
        match self.0.await {
            Ok(signal) => signal,
            Err(_) => std::future::pending().await,
        }
    }
}
