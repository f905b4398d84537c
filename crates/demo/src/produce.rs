//! Logins into the embedded broker, never faster than its readers.
//!
//! The broker keeps about 5 MB of each partition and drops what is older, read or not. So the producer knows the size of
//! everything that one of the two paths has not read yet, and waits while a partition has no room: no record is lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use loginlake_generator::{Generator, RecordBuffer};
use loginlake_kafka::embedded::KEPT_BYTES_PER_PARTITION;
use loginlake_kafka::producer::PlainProducer;
use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_service::shutdown::Shutdown;

/// What a record takes in the broker beside key and payload, in bytes, at most.
const RECORD_OVERHEAD_BYTES: u64 = 100;
/// How long the last records may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait before looking again whether there is room.
const ROOM_POLL: Duration = Duration::from_millis(2);
/// Without any progress of the readers for this long something is wrong.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// Records between two flushes: what is acknowledged is certainly in the broker.
const RECORDS_PER_LOOK: u64 = 256;

/// The next offset that both paths have read, by partition; 0 where nothing was read.
pub type ReadUpTo<'a> = dyn Fn(i32) -> i64 + 'a;

/// How the production went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Produced {
    /// Records produced.
    pub records: u64,
    /// Bad ones among them.
    pub bad: u64,
    /// Time spent waiting for the readers, because the broker had no more room.
    pub waited: Duration,
}

/// What one partition holds that is not read yet.
#[derive(Debug, Default)]
struct Unread {
    /// Next offset to be produced.
    next_offset: i64,
    /// Sizes of the unread records, oldest first.
    sizes: VecDeque<u64>,
    bytes: u64,
}

impl Unread {
    fn produced(&mut self, size: u64) {
        self.next_offset += 1;
        self.sizes.push_back(size);
        self.bytes += size;
    }

    fn read_up_to(&mut self, next_offset: i64) {
        let unread =
            usize::try_from(self.next_offset - next_offset.min(self.next_offset)).unwrap_or(usize::MAX);
        while self.sizes.len() > unread {
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
        }
    }

    fn has_room_for(&self, size: u64) -> bool {
        self.bytes + size <= KEPT_BYTES_PER_PARTITION
    }
}

/// Produces to one topic of the embedded broker.
pub struct Producer<'a> {
    producer: PlainProducer,
    topic: &'a str,
    partitions: Vec<Unread>,
    produced: Produced,
}

impl<'a> Producer<'a> {
    /// For a topic with that many partitions, all empty.
    ///
    /// # Errors
    /// librdkafka refuses its settings.
    pub fn new(settings: &KafkaSettings, topic: &'a str, partitions: i32) -> Result<Self, KafkaError> {
        let partitions = (0..partitions.max(1)).map(|_| Unread::default()).collect();
        Ok(Self {
            producer: PlainProducer::new(settings)?,
            topic,
            partitions,
            produced: Produced::default(),
        })
    }

    /// Produces what the generator has, at most `rate` records a second when there is one. Tells about its progress now and
    /// then. Stops early when asked to.
    ///
    /// # Errors
    /// A record was not acknowledged, or the readers stand still.
    pub fn run(
        &mut self,
        generator: &mut Generator,
        rate: Option<u64>,
        read_up_to: &ReadUpTo<'_>,
        shutdown: &Shutdown,
        progress: &mut dyn FnMut(Produced),
    ) -> Result<Produced, KafkaError> {
        let started = Instant::now();
        let before = self.produced.records;
        let mut buffer = RecordBuffer::new();
        while !shutdown.is_requested() && generator.next_into(&mut buffer) {
            let partition = self.partition_of(buffer.key());
            let payload_bytes = buffer.payload().map_or(0, <[u8]>::len);
            let size = (buffer.key().len() + payload_bytes) as u64 + RECORD_OVERHEAD_BYTES;
            if !self.wait_for_room(partition, size, read_up_to, shutdown, progress)? {
                break;
            }
            let number = i32::try_from(partition).unwrap_or(0);
            self.producer.send(
                self.topic,
                Some(number),
                Some(buffer.key()),
                buffer.payload(),
                None,
            )?;
            self.partitions[partition].produced(size);
            self.produced.records += 1;
            self.produced.bad += u64::from(buffer.expected().is_some());
            if self.produced.records.is_multiple_of(RECORDS_PER_LOOK) {
                progress(self.produced);
            }
            if let Some(rate) = rate {
                let due =
                    Duration::from_secs_f64((self.produced.records - before) as f64 / rate.max(1) as f64);
                shutdown.wait_timeout(due.saturating_sub(started.elapsed()));
                progress(self.produced);
            }
        }
        let delivered = self.producer.flush(FLUSH_TIMEOUT)?;
        if delivered.failed > 0 {
            return Err(KafkaError::Failed(format!(
                "{} records were not accepted by the embedded broker: {}",
                delivered.failed,
                delivered.first_error.unwrap_or_default()
            )));
        }
        Ok(self.produced)
    }

    /// The same key always goes to the same partition (FNV-1a).
    fn partition_of(&self, key: &[u8]) -> usize {
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        usize::try_from(hash % self.partitions.len() as u64).unwrap_or(0)
    }

    /// False: asked to stop meanwhile.
    fn wait_for_room(
        &mut self,
        partition: usize,
        size: u64,
        read_up_to: &ReadUpTo<'_>,
        shutdown: &Shutdown,
        progress: &mut dyn FnMut(Produced),
    ) -> Result<bool, KafkaError> {
        if self.partitions[partition].has_room_for(size) {
            return Ok(true);
        }
        let number = i32::try_from(partition).unwrap_or(0);
        let started = Instant::now();
        loop {
            self.partitions[partition].read_up_to(read_up_to(number));
            if self.partitions[partition].has_room_for(size) {
                self.produced.waited += started.elapsed();
                return Ok(true);
            }
            if shutdown.wait_timeout(ROOM_POLL) {
                return Ok(false);
            }
            progress(self.produced);
            if started.elapsed() > STUCK_AFTER {
                return Err(KafkaError::Failed(format!(
                    "the readers of partition {partition} stand still at offset {}: more records would be lost",
                    read_up_to(number)
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_by_what_was_read_only() {
        let mut unread = Unread::default();
        let third = KEPT_BYTES_PER_PARTITION / 3;
        for _ in 0..3 {
            assert!(unread.has_room_for(third));
            unread.produced(third);
        }
        assert!(!unread.has_room_for(third));
        unread.read_up_to(0);
        assert!(!unread.has_room_for(third));
        unread.read_up_to(1);
        assert!(unread.has_room_for(third));
        unread.read_up_to(3);
        assert_eq!(unread.bytes, 0);
        unread.read_up_to(99);
        assert_eq!(unread.next_offset, 3);
    }
}
