//! Rows of `logins` with only those columns that somebody reads: for the fresh tail, whose queries need two or three of them.
//!
//! A column has the same values here as in a batch of [`LoginsBuilder`](super::LoginsBuilder), its texts as views, which is
//! how queries hold them. What no column needs is not copied. Ingestion writes every column and does not come here.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Builder, Int8Builder, Int32Builder, Int64Builder, ListBuilder, RecordBatch,
    RecordBatchOptions, StringBuilder, StringViewBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::{SourcePosition, UTC, flag_element, microseconds};
use crate::event::LoginEvent;
use crate::privacy::PersonalField;

/// What a view of a text takes; longer texts than [`INLINE_BYTES`] lie beside it.
const VIEW_BYTES: usize = 16;
const INLINE_BYTES: usize = 12;

/// Collects events as rows of some columns of `logins`.
pub struct ChosenColumns {
    columns: Vec<(&'static str, Column)>,
    schema: SchemaRef,
    rows: usize,
    bytes: usize,
}

/// What the values of a row come from.
struct Row<'r, 'e> {
    event: &'r LoginEvent<'e>,
    source: SourcePosition,
    processed_at_ms: i64,
}

type TextOf = for<'r> fn(&'r LoginEvent<'_>) -> &'r str;
type NumberOf<T> = fn(&Row<'_, '_>) -> Option<T>;

enum Column {
    Text(StringViewBuilder, TextOf),
    Int8(Int8Builder, NumberOf<i8>),
    Int32(Int32Builder, NumberOf<i32>),
    Int64(Int64Builder, NumberOf<i64>),
    Date(Date32Builder, NumberOf<i32>),
    /// From milliseconds.
    Time(TimestampMicrosecondBuilder, NumberOf<i64>),
    Flags(ListBuilder<StringBuilder>),
}

impl ChosenColumns {
    /// A builder of these columns. A name that `logins` does not have is left out.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> ChosenColumns {
        let mut columns: Vec<(&'static str, Column)> = Vec::new();
        for name in names {
            if let Some(column) = Column::of(name)
                && columns.iter().all(|(held, _)| *held != name)
            {
                columns.push(column);
            }
        }
        let mut chosen = ChosenColumns {
            columns,
            schema: Arc::new(Schema::empty()),
            rows: 0,
            bytes: 0,
        };
        // The types are those of a batch without rows.
        let fields: Vec<Field> = chosen
            .columns
            .iter_mut()
            .map(|(name, column)| Field::new(*name, column.finish().data_type().clone(), true))
            .collect();
        chosen.schema = Arc::new(Schema::new(fields));
        chosen
    }

    /// Whether a column shows this field, or a part of it.
    pub fn shows(&self, field: PersonalField) -> bool {
        let has = |name: &str| self.columns.iter().any(|(held, _)| *held == name);
        match field {
            PersonalField::Ip => has("ip") || has("ip_prefix"),
            PersonalField::DeviceId => has("device_id"),
            PersonalField::UserId => has("user_id"),
        }
    }

    /// Adds one row. `processed_at_ms` is the caller's clock in epoch milliseconds.
    pub fn append(&mut self, event: &LoginEvent<'_>, source: SourcePosition, processed_at_ms: i64) {
        let row = Row {
            event,
            source,
            processed_at_ms,
        };
        for (_, column) in &mut self.columns {
            self.bytes += column.append(&row);
        }
        self.rows += 1;
    }

    /// How many rows are held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row is held.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// About how many bytes the held rows take.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// The held rows, with the chosen columns in the order in which they were named; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        let columns = self.columns.iter_mut().map(|(_, column)| column.finish());
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.collect(), &options)
            .expect("the columns are those of the schema, of the same length")
    }
}

impl Column {
    fn of(name: &str) -> Option<(&'static str, Column)> {
        let text = |of: TextOf| Column::Text(StringViewBuilder::new(), of);
        let int8 = |of: NumberOf<i8>| Column::Int8(Int8Builder::new(), of);
        let time =
            |of: NumberOf<i64>| Column::Time(TimestampMicrosecondBuilder::new().with_timezone(UTC), of);
        Some(match name {
            "user_id" => ("user_id", text(|event| event.user_id())),
            "device_id" => ("device_id", text(|event| event.device_id())),
            "timestamp" => {
                let seconds: NumberOf<i64> = |row| Some(row.event.timestamp_secs());
                ("timestamp", Column::Int64(Int64Builder::new(), seconds))
            }
            "ip" => ("ip", text(|event| event.ip())),
            "locale" => ("locale", text(|event| event.locale())),
            "device_type" => ("device_type", text(|event| event.device_type().as_str())),
            "app_version" => ("app_version", text(|event| event.app_version())),
            "event_time" => ("event_time", time(|row| Some(row.event.event_time_ms()))),
            "processed_timestamp" => ("processed_timestamp", time(|row| Some(row.processed_at_ms))),
            "region" => ("region", text(|event| event.region())),
            "division" => ("division", text(|event| event.division())),
            "login_date" => {
                let days: NumberOf<i32> = |row| Some(row.event.login_date_days());
                ("login_date", Column::Date(Date32Builder::new(), days))
            }
            "login_hour" => ("login_hour", int8(|row| Some(row.event.login_hour() as i8))),
            "local_hour" => (
                "local_hour",
                int8(|row| row.event.local_hour().map(|hour| hour as i8)),
            ),
            "time_of_day" => ("time_of_day", text(|event| event.time_of_day().as_str())),
            "day_of_week" => ("day_of_week", text(|event| event.day_of_week().as_str())),
            "ip_class" => ("ip_class", text(|event| event.ip_class().as_str())),
            "ip_prefix" => ("ip_prefix", text(|event| event.ip_prefix())),
            "flags" => {
                let names = ListBuilder::new(StringBuilder::new()).with_field(flag_element());
                ("flags", Column::Flags(names))
            }
            "kafka_partition" => {
                let partition: NumberOf<i32> = |row| Some(row.source.kafka_partition);
                ("kafka_partition", Column::Int32(Int32Builder::new(), partition))
            }
            "kafka_offset" => {
                let offset: NumberOf<i64> = |row| Some(row.source.kafka_offset);
                ("kafka_offset", Column::Int64(Int64Builder::new(), offset))
            }
            "kafka_timestamp" => ("kafka_timestamp", time(|row| row.source.kafka_timestamp_ms)),
            _ => return None,
        })
    }

    /// Adds the value of a row, and says about how many bytes it takes.
    fn append(&mut self, row: &Row<'_, '_>) -> usize {
        match self {
            Column::Text(texts, of) => {
                let text = of(row.event);
                texts.append_value(text);
                let beside = if text.len() > INLINE_BYTES { text.len() } else { 0 };
                return VIEW_BYTES + beside;
            }
            Column::Int8(numbers, of) => numbers.append_option(of(row)),
            Column::Int32(numbers, of) => numbers.append_option(of(row)),
            Column::Int64(numbers, of) => numbers.append_option(of(row)),
            Column::Date(days, of) => days.append_option(of(row)),
            Column::Time(times, of) => times.append_option(of(row).map(microseconds)),
            Column::Flags(lists) => {
                let mut bytes = size_of::<i32>();
                for flag in row.event.flags().iter() {
                    lists.values().append_value(flag);
                    bytes += size_of::<i32>() + flag.len();
                }
                lists.append(true);
                return bytes;
            }
        }
        size_of::<i64>()
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Column::Text(texts, _) => Arc::new(texts.finish()),
            Column::Int8(numbers, _) => Arc::new(numbers.finish()),
            Column::Int32(numbers, _) => Arc::new(numbers.finish()),
            Column::Int64(numbers, _) => Arc::new(numbers.finish()),
            Column::Date(days, _) => Arc::new(days.finish()),
            Column::Time(times, _) => Arc::new(times.finish()),
            Column::Flags(lists) => Arc::new(lists.finish()),
        }
    }
}
