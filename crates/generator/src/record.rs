//! One Kafka record, in a buffer that is used again for the next.

use loginlake_events::RejectReason;

use crate::login::write_uuid;
use crate::rng::Rng;
use crate::users::uuid_v4;

/// A record under construction: key, payload, and what is known about them. Holds its memory between records.
#[derive(Clone, Debug, Default)]
pub struct RecordBuffer {
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) tombstone: bool,
    pub(crate) event_time_secs: Option<i64>,
    pub(crate) expected: Option<RejectReason>,
}

impl RecordBuffer {
    /// An empty buffer.
    pub fn new() -> RecordBuffer {
        RecordBuffer::default()
    }

    /// The record's key: the text of a fresh version 4 UUID.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The record's value; `None` is a Kafka tombstone.
    pub fn payload(&self) -> Option<&[u8]> {
        (!self.tombstone).then_some(&self.payload)
    }

    /// When the login happened in epoch milliseconds, for information; `None` for a replayed record. A malformed
    /// record has the time of the login that it was made from.
    pub fn event_time_ms(&self) -> Option<i64> {
        self.event_time_secs.map(|secs| secs * 1_000)
    }

    /// Why the default contract rejects the record; `None` for a good one, and for a replayed one.
    pub fn expected(&self) -> Option<RejectReason> {
        self.expected
    }

    /// Empties the buffer and gives it a fresh key.
    pub(crate) fn begin(&mut self, rng: &mut Rng) {
        self.key.clear();
        let id = uuid_v4(rng.next_u64(), rng.next_u64());
        write_uuid(&id, &mut self.key);
        self.payload.clear();
        self.tombstone = false;
        self.event_time_secs = None;
        self.expected = None;
    }
}

/// One record with its own memory, as the iterator gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedRecord {
    /// The record's key: the text of a fresh version 4 UUID.
    pub key: Vec<u8>,
    /// The record's value; `None` is a Kafka tombstone.
    pub payload: Option<Vec<u8>>,
    /// When the login happened, epoch milliseconds.
    pub timestamp_ms: i64,
    /// Why the default contract rejects the record; `None` for a good one.
    pub expected: Option<RejectReason>,
}
