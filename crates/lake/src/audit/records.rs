//! Records of the topic as the rows that they should be, collected by a thread that reads it. Bounded: the caller hands them on
//! when they are full.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use loginlake_events::columns::{LoginsBuilder, RejectedBuilder, SourcePosition};
use loginlake_events::event::LoginEvent;
use loginlake_events::reason::Rejection;

/// Records that are handed on at a time.
const BATCH_RECORDS: usize = 8_192;
/// Bytes at which they are handed on early: rejected records can be large.
const BATCH_BYTES: usize = 4 << 20;

/// Some records of the topic.
pub struct Records {
    logins: LoginsBuilder,
    rejected: RejectedBuilder,
    pub(super) positions: Vec<SourcePosition>,
    /// Kafka partition → logins of other dates than the one that the lake holds.
    pub(super) other_dates: BTreeMap<i32, u64>,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            logins: LoginsBuilder::with_capacity(0),
            rejected: RejectedBuilder::new(),
            positions: Vec::new(),
            other_dates: BTreeMap::new(),
        }
    }
}

impl Records {
    /// A record that is a login.
    pub fn login(&mut self, event: &LoginEvent<'_>, position: SourcePosition) {
        self.logins.append(event, position, 0);
    }

    /// A record that is rejected.
    pub fn rejected(&mut self, rejection: &Rejection, payload: Option<&[u8]>, position: SourcePosition) {
        self.rejected.append(rejection, payload, position);
    }

    /// A record of which only the position is compared.
    pub fn position(&mut self, position: SourcePosition) {
        self.positions.push(position);
    }

    /// A login of another date than the one that the lake holds: it should not be there.
    pub fn other_date(&mut self, kafka_partition: i32) {
        *self.other_dates.entry(kafka_partition).or_default() += 1;
    }

    /// Whether they are to be handed on.
    pub fn is_full(&self) -> bool {
        let records = self.logins.len() + self.rejected.len() + self.positions.len();
        records >= BATCH_RECORDS || self.logins.memory_bytes() + self.rejected.memory_bytes() >= BATCH_BYTES
    }

    pub(super) fn take_logins(&mut self) -> Option<RecordBatch> {
        (!self.logins.is_empty()).then(|| self.logins.finish())
    }

    pub(super) fn take_rejected(&mut self) -> Option<RecordBatch> {
        (!self.rejected.is_empty()).then(|| self.rejected.finish())
    }
}
