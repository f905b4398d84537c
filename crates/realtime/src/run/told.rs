//! The run of an instance as lineage: which topics it reads and writes, and how far it has come. Off by default; then there is no thread
//! and nothing is looked at. Nothing here is on the way of a record: it reads the counts that are kept anyway.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use loginlake_service::exit::ExitError;
use loginlake_service::lineage::{self, Dataset, Processing, Run, Written};

use super::{Progress, RunOptions, Totals};

/// How often a running instance says what it did so far.
const NEWS_EVERY: Duration = Duration::from_secs(60);

/// A run that is told of.
pub(super) struct Told {
    /// None: lineage is off.
    thread: Option<Thread>,
}

struct Thread {
    end: Sender<End>,
    handle: JoinHandle<()>,
}

/// How a run ends: well, or why not.
type End = Result<(), String>;

impl Told {
    /// It begins.
    pub fn begin(options: &RunOptions, progress: &Progress) -> Self {
        let Some(emitter) = lineage::emitter() else {
            return Self { thread: None };
        };
        let topics = Topics {
            input: Dataset::topic(&options.input.brokers, &options.topics.input),
            output: Dataset::topic(&options.output.brokers, &options.topics.output),
            dead_letters: Dataset::topic(&options.output.brokers, &options.topics.dead_letter),
        };
        let mut run = emitter.begin(
            "realtime.run",
            Processing::Streaming,
            vec![topics.input.clone()],
            vec![topics.output.clone(), topics.dead_letters.clone()],
        );
        let (end, ended) = channel::<End>();
        let progress = progress.clone();
        let thread = std::thread::Builder::new()
            .name("told".to_owned())
            .spawn(move || {
                loop {
                    let news = ended.recv_timeout(NEWS_EVERY);
                    topics.say(&mut run, &progress.totals());
                    match news {
                        Err(RecvTimeoutError::Timeout) => run.running(),
                        // Whoever would say how it ended is gone: given up.
                        Err(RecvTimeoutError::Disconnected) => return,
                        Ok(Ok(())) => return run.complete(),
                        Ok(Err(why)) => return run.fail(&why),
                    }
                }
            });
        match thread {
            Ok(handle) => Self {
                thread: Some(Thread { end, handle }),
            },
            Err(error) => {
                tracing::warn!(%error, "the run is not told of as lineage");
                Self { thread: None }
            }
        }
    }

    /// It ends.
    pub fn end<T>(self, result: &Result<T, ExitError>) {
        let Some(Thread { end, handle }) = self.thread else {
            return;
        };
        let said = match result {
            Ok(_) => Ok(()),
            Err(error) => Err(error.message.clone()),
        };
        // It listens until it has heard this, and then only hands an event to a queue.
        if end.send(said).is_ok() {
            let _ = handle.join();
        }
    }
}

struct Topics {
    input: Dataset,
    output: Dataset,
    dead_letters: Dataset,
}

impl Topics {
    /// Everything since the start.
    fn say(&self, run: &mut Run, totals: &Totals) {
        let offsets = totals.next_offsets.iter();
        let offsets = offsets.map(|(partition, offset)| (*partition, *offset));
        let wrote = |topic: &Dataset, rows| {
            topic.clone().with_written(Written {
                rows,
                ..Written::default()
            })
        };
        run.found(
            vec![self.input.clone().with_offsets(offsets)],
            vec![
                wrote(&self.output, totals.processed),
                wrote(&self.dead_letters, totals.dead_letters),
            ],
        );
    }
}
