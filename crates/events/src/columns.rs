//! The rows of the tables `logins` and `rejected`: their Arrow schemas, and builders that take one record at a time.
//!
//! A column's Rust type is written down once, in the builder; the schemas are what the lake, the queries and the fresh
//! tail agree on. Every column can be null for the readers of the table format, although only those that say so ever
//! are. Appending allocates nothing per row beyond the growth of the buffers. The texts of one column have 32-bit offsets:
//! a caller finishes a batch long before [`LoginsBuilder::memory_bytes`] nears 2 GiB, or appending panics.
//! [`ChosenColumns`] builds only the columns that a query reads.

mod chosen;

use std::mem;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryBuilder, Date32Builder, Int8Builder, Int32Builder,
    Int64Builder, ListBuilder, PrimitiveBuilder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

pub use chosen::ChosenColumns;

use crate::event::LoginEvent;
use crate::reason::Rejection;
use crate::{KEPT_OF_TOO_LARGE_BYTES, MAX_PAYLOAD_BYTES};

const UTC: &str = "UTC";

static LOGINS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("user_id", DataType::Utf8),
        ("device_id", DataType::Utf8),
        ("timestamp", DataType::Int64),
        ("ip", DataType::Utf8),
        ("locale", DataType::Utf8),
        ("device_type", DataType::Utf8),
        ("app_version", DataType::Utf8),
        ("event_time", utc_timestamp()),
        ("processed_timestamp", utc_timestamp()),
        ("region", DataType::Utf8),
        ("division", DataType::Utf8),
        ("login_date", DataType::Date32),
        ("login_hour", DataType::Int8),
        ("local_hour", DataType::Int8),
        ("time_of_day", DataType::Utf8),
        ("day_of_week", DataType::Utf8),
        ("ip_class", DataType::Utf8),
        ("ip_prefix", DataType::Utf8),
        ("flags", DataType::List(flag_element())),
        ("kafka_partition", DataType::Int32),
        ("kafka_offset", DataType::Int64),
        ("kafka_timestamp", utc_timestamp()),
    ])
});

static REJECTED_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("reason", DataType::Utf8),
        ("field", DataType::Utf8),
        ("message", DataType::Utf8),
        ("raw", DataType::Binary),
        ("raw_length", DataType::Int64),
        ("kafka_partition", DataType::Int32),
        ("kafka_offset", DataType::Int64),
        ("kafka_timestamp", utc_timestamp()),
    ])
});

/// The columns of `logins`. `local_hour` and `kafka_timestamp` can be null; `timestamp` is in epoch seconds.
pub fn logins_schema() -> SchemaRef {
    Arc::clone(&LOGINS_SCHEMA)
}

/// The columns of `rejected`. `field`, `raw` and `kafka_timestamp` can be null; of a payload over
/// [`MAX_PAYLOAD_BYTES`] `raw` holds the first [`KEPT_OF_TOO_LARGE_BYTES`], `raw_length` always its whole length in bytes.
pub fn rejected_schema() -> SchemaRef {
    Arc::clone(&REJECTED_SCHEMA)
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, kind)| Field::new(*name, kind.clone(), true))
        .collect();
    Arc::new(Schema::new(fields))
}

fn utc_timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// The element of a list is called as the table format calls it.
fn flag_element() -> FieldRef {
    Arc::new(Field::new("element", DataType::Utf8, true))
}

/// Where a record was in the input topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    /// The partition.
    pub kafka_partition: i32,
    /// The offset in the partition.
    pub kafka_offset: i64,
    /// The record's Kafka timestamp in epoch milliseconds; `None` where it has none.
    pub kafka_timestamp_ms: Option<i64>,
}

/// The three columns that both tables have.
struct SourceColumns {
    partition: Int32Builder,
    offset: Int64Builder,
    timestamp: TimestampMicrosecondBuilder,
}

impl SourceColumns {
    /// Bytes of one row: two eight-byte values, one of four, and the null bits.
    const ROW_BYTES: usize = 21;

    fn with_capacity(rows: usize) -> SourceColumns {
        SourceColumns {
            partition: Int32Builder::with_capacity(rows),
            offset: Int64Builder::with_capacity(rows),
            timestamp: timestamps(rows),
        }
    }

    fn append(&mut self, source: SourcePosition) {
        self.partition.append_value(source.kafka_partition);
        self.offset.append_value(source.kafka_offset);
        self.timestamp
            .append_option(source.kafka_timestamp_ms.map(microseconds));
    }

    /// The held values; room for `rows` of them is made again.
    fn finish(&mut self, rows: usize) -> [ArrayRef; 3] {
        [
            finish_numbers(&mut self.partition, rows),
            finish_numbers(&mut self.offset, rows),
            finish_numbers(&mut self.timestamp, rows),
        ]
    }
}

fn timestamps(rows: usize) -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::with_capacity(rows).with_timezone(UTC)
}

/// Clocks and Kafka timestamps come from outside: what does not fit is the end of the range.
fn microseconds(milliseconds: i64) -> i64 {
    milliseconds.saturating_mul(1_000)
}

/// A string column whose bytes are reserved after the usual length of its values.
fn strings(rows: usize, usual_bytes: usize) -> StringBuilder {
    StringBuilder::with_capacity(rows, rows * usual_bytes)
}

/// Collects events as rows of `logins`.
pub struct LoginsBuilder {
    user_id: StringBuilder,
    device_id: StringBuilder,
    timestamp: Int64Builder,
    ip: StringBuilder,
    locale: StringBuilder,
    device_type: StringBuilder,
    app_version: StringBuilder,
    event_time: TimestampMicrosecondBuilder,
    processed_timestamp: TimestampMicrosecondBuilder,
    region: StringBuilder,
    division: StringBuilder,
    login_date: Date32Builder,
    login_hour: Int8Builder,
    local_hour: Int8Builder,
    time_of_day: StringBuilder,
    day_of_week: StringBuilder,
    ip_class: StringBuilder,
    ip_prefix: StringBuilder,
    flags: ListBuilder<StringBuilder>,
    source: SourceColumns,
    rows: usize,
    bytes: usize,
    /// The most rows that a batch has had: the next one gets room for as many at once.
    most_rows: usize,
}

/// The held texts; the builder gets room for `rows` texts like them, so that it does not grow by copying.
fn finish_texts(column: &mut StringBuilder, rows: usize) -> ArrayRef {
    let texts = column.finish();
    let bytes = texts.value_data().len();
    let room = bytes.div_ceil(texts.len().max(1)) * rows;
    *column = StringBuilder::with_capacity(rows, room);
    Arc::new(texts)
}

/// The same for numbers.
fn finish_numbers<T: ArrowPrimitiveType>(column: &mut PrimitiveBuilder<T>, rows: usize) -> ArrayRef {
    let numbers = column.finish();
    let kind = numbers.data_type().clone();
    *column = PrimitiveBuilder::with_capacity(rows).with_data_type(kind);
    Arc::new(numbers)
}

impl LoginsBuilder {
    /// Bytes of one row apart from its texts: the numbers, and four bytes of offset for each of the thirteen lists and
    /// texts.
    const ROW_BYTES: usize = 3 * 8 + 4 + 2 + 13 * 4 + SourceColumns::ROW_BYTES;

    /// A builder with room for that many rows before its buffers grow.
    pub fn with_capacity(rows: usize) -> LoginsBuilder {
        LoginsBuilder {
            user_id: strings(rows, 36),
            device_id: strings(rows, 36),
            timestamp: Int64Builder::with_capacity(rows),
            ip: strings(rows, 14),
            locale: strings(rows, 2),
            device_type: strings(rows, 7),
            app_version: strings(rows, 6),
            event_time: timestamps(rows),
            processed_timestamp: timestamps(rows),
            region: strings(rows, 9),
            division: strings(rows, 16),
            login_date: Date32Builder::with_capacity(rows),
            login_hour: Int8Builder::with_capacity(rows),
            local_hour: Int8Builder::with_capacity(rows),
            time_of_day: strings(rows, 8),
            day_of_week: strings(rows, 3),
            ip_class: strings(rows, 6),
            ip_prefix: strings(rows, 16),
            flags: ListBuilder::with_capacity(StringBuilder::new(), rows).with_field(flag_element()),
            source: SourceColumns::with_capacity(rows),
            rows: 0,
            bytes: 0,
            most_rows: rows,
        }
    }

    /// Adds one row. `processed_at_ms` is the caller's clock in epoch milliseconds.
    pub fn append(&mut self, event: &LoginEvent<'_>, source: SourcePosition, processed_at_ms: i64) {
        let mut text_bytes = 0;
        let mut append_text = |column: &mut StringBuilder, text: &str| {
            text_bytes += text.len();
            column.append_value(text);
        };
        append_text(&mut self.user_id, event.user_id());
        append_text(&mut self.device_id, event.device_id());
        append_text(&mut self.ip, event.ip());
        append_text(&mut self.locale, event.locale());
        append_text(&mut self.device_type, event.device_type().as_str());
        append_text(&mut self.app_version, event.app_version());
        append_text(&mut self.region, event.region());
        append_text(&mut self.division, event.division());
        append_text(&mut self.time_of_day, event.time_of_day().as_str());
        append_text(&mut self.day_of_week, event.day_of_week().as_str());
        append_text(&mut self.ip_class, event.ip_class().as_str());
        append_text(&mut self.ip_prefix, event.ip_prefix());
        for flag in event.flags().iter() {
            append_text(self.flags.values(), flag);
        }
        self.flags.append(true);

        self.timestamp.append_value(event.timestamp_secs());
        self.event_time.append_value(microseconds(event.event_time_ms()));
        self.processed_timestamp
            .append_value(microseconds(processed_at_ms));
        self.login_date.append_value(event.login_date_days());
        self.login_hour.append_value(event.login_hour() as i8);
        self.local_hour
            .append_option(event.local_hour().map(|hour| hour as i8));
        self.source.append(source);
        self.rows += 1;
        self.bytes += Self::ROW_BYTES + text_bytes;
    }

    /// How many rows are held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row is held.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// About how many bytes the held rows take, without the spare room of the buffers.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// The held rows as a batch of [`logins_schema`]; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        let rows = self.most_rows.max(self.rows);
        self.most_rows = rows;
        self.rows = 0;
        self.bytes = 0;
        let [kafka_partition, kafka_offset, kafka_timestamp] = self.source.finish(rows);
        let columns: Vec<ArrayRef> = vec![
            finish_texts(&mut self.user_id, rows),
            finish_texts(&mut self.device_id, rows),
            finish_numbers(&mut self.timestamp, rows),
            finish_texts(&mut self.ip, rows),
            finish_texts(&mut self.locale, rows),
            finish_texts(&mut self.device_type, rows),
            finish_texts(&mut self.app_version, rows),
            finish_numbers(&mut self.event_time, rows),
            finish_numbers(&mut self.processed_timestamp, rows),
            finish_texts(&mut self.region, rows),
            finish_texts(&mut self.division, rows),
            finish_numbers(&mut self.login_date, rows),
            finish_numbers(&mut self.login_hour, rows),
            finish_numbers(&mut self.local_hour, rows),
            finish_texts(&mut self.time_of_day, rows),
            finish_texts(&mut self.day_of_week, rows),
            finish_texts(&mut self.ip_class, rows),
            finish_texts(&mut self.ip_prefix, rows),
            Arc::new(self.flags.finish()),
            kafka_partition,
            kafka_offset,
            kafka_timestamp,
        ];
        RecordBatch::try_new(logins_schema(), columns).expect("the columns are those of the schema")
    }
}

/// Collects rejections as rows of `rejected`.
#[derive(Default)]
pub struct RejectedBuilder {
    reason: StringBuilder,
    field: StringBuilder,
    message: StringBuilder,
    raw: BinaryBuilder,
    raw_length: Int64Builder,
    source: SourceColumns,
    rows: usize,
    bytes: usize,
}

impl Default for SourceColumns {
    fn default() -> Self {
        SourceColumns::with_capacity(0)
    }
}

impl RejectedBuilder {
    /// Bytes of one row apart from its texts.
    const ROW_BYTES: usize = 8 + 4 * 4 + SourceColumns::ROW_BYTES;

    /// An empty builder. Rejections are rare: no room is reserved.
    pub fn new() -> RejectedBuilder {
        RejectedBuilder::default()
    }

    /// Adds one row. `payload` is the record's, `None` for a tombstone.
    pub fn append(&mut self, rejection: &Rejection, payload: Option<&[u8]>, source: SourcePosition) {
        let kept = payload.map(kept_of);
        let field = rejection.field.map(|field| field.as_str());
        self.reason.append_value(rejection.reason.as_str());
        self.field.append_option(field);
        self.message.append_value(&rejection.message);
        self.raw.append_option(kept);
        self.raw_length
            .append_value(payload.map_or(0, <[u8]>::len) as i64);
        self.source.append(source);
        self.rows += 1;
        self.bytes += Self::ROW_BYTES
            + rejection.reason.as_str().len()
            + field.map_or(0, str::len)
            + rejection.message.len()
            + kept.map_or(0, <[u8]>::len);
    }

    /// How many rows are held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row is held.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// About how many bytes the held rows take, without the spare room of the buffers.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// The held rows as a batch of [`rejected_schema`]; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        let mut held = mem::take(self);
        let [kafka_partition, kafka_offset, kafka_timestamp] = held.source.finish(0);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(held.reason.finish()),
            Arc::new(held.field.finish()),
            Arc::new(held.message.finish()),
            Arc::new(held.raw.finish()),
            Arc::new(held.raw_length.finish()),
            kafka_partition,
            kafka_offset,
            kafka_timestamp,
        ];
        RecordBatch::try_new(rejected_schema(), columns).expect("the columns are those of the schema")
    }
}

/// What is kept of a rejected payload.
fn kept_of(payload: &[u8]) -> &[u8] {
    if payload.len() > MAX_PAYLOAD_BYTES {
        &payload[..KEPT_OF_TOO_LARGE_BYTES]
    } else {
        payload
    }
}
