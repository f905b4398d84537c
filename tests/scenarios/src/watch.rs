//! An eye on a group while a scenario runs: its committed offsets never go back (invariant 2), and how long it stood still
//! although there was something to read.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use crate::kafka::Kafka;
use crate::progress::Progress;

/// The pause between two looks.
const INTERVAL: Duration = Duration::from_millis(50);

/// A thread that looks until it is told to end.
pub struct Watch {
    end: mpsc::Sender<()>,
    thread: JoinHandle<Result<Seen>>,
}

/// What was seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Looks at the group.
    pub looks: u64,
    /// Partitions that had committed offsets at the end.
    pub partitions: usize,
    /// The longest time for which no partition moved while one had records that were not committed.
    pub longest_stop: Duration,
    /// The same for the partition that stood still for longest.
    pub longest_partition_stop: Duration,
}

impl Watch {
    /// Looks from the group's first commit on.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn start(kafka: &Kafka, topic: &str, group: &str) -> Result<Watch> {
        let progress = Progress::watch(kafka, topic, group)?;
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || look(&progress, &ended));
        Ok(Watch { end, thread })
    }

    /// Ends looking.
    ///
    /// # Errors
    /// When a committed offset went back, or the broker did not answer.
    pub fn end(self) -> Result<Seen> {
        // It fails only when the thread has ended already, with an error that is told below.
        let _ = self.end.send(());
        self.thread.join().map_err(|_| anyhow!("the watch panicked"))?
    }
}

/// Where a partition was, and since when it has been there with something left to read.
#[derive(Debug, Clone, Copy)]
struct At {
    next_offset: i64,
    since: Instant,
}

fn look(progress: &Progress, ended: &mpsc::Receiver<()>) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut known: BTreeMap<i32, At> = BTreeMap::new();
    let mut moved = Instant::now();
    loop {
        // The ends come first: what is committed of them is done, whatever comes in meanwhile.
        let ends = progress.ends()?;
        let committed = progress.committed()?;
        let now = Instant::now();
        seen.looks += 1;
        let mut is_behind = false;
        for (partition, next_offset) in committed {
            let new = At {
                next_offset,
                since: now,
            };
            let at = known.entry(partition).or_insert(new);
            ensure!(
                at.next_offset <= next_offset,
                "the committed offset of partition {partition} went back from {} to {next_offset}",
                at.next_offset
            );
            let has_moved = at.next_offset < next_offset;
            let has_more = ends.get(&partition).is_some_and(|end| next_offset < *end);
            is_behind |= has_more;
            seen.longest_partition_stop = seen.longest_partition_stop.max(now - at.since);
            if has_moved {
                moved = now;
            }
            if has_moved || !has_more {
                *at = new;
            }
        }
        if known.is_empty() || !is_behind {
            moved = now;
        }
        seen.longest_stop = seen.longest_stop.max(now - moved);
        seen.partitions = known.len();
        match ended.recv_timeout(INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return Ok(seen),
        }
    }
}
