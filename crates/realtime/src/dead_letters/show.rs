//! `dead-letters show`: one record with everything that it has.

use std::io::{self, Write};
use std::ops::ControlFlow;

use loginlake_kafka::KafkaSettings;
use loginlake_kafka::rdkafka::Message;
use loginlake_kafka::rdkafka::message::{BorrowedMessage, Headers as _};
use loginlake_kafka::reader::ReadFrom;
use loginlake_kafka::topics::Topics as TopicClient;
use loginlake_service::exit::ExitError;

use super::letter::rfc3339;
use super::scan::scan;
use super::select::Position;
use super::text::{hex_dump, printable, text_or_hex};
use crate::run::exit_error;

/// The reader begins this many offsets earlier than needed: the topic may grow while it opens.
const MARGIN: i64 = 10_000;

/// Writes the record at this position of the topic.
pub(super) fn show(
    kafka: &KafkaSettings,
    topic: &str,
    position: Position,
    out: &mut impl Write,
) -> Result<(), ExitError> {
    let Position { partition, offset } = position;
    let bounds = TopicClient::connect(kafka)
        .and_then(|client| client.bounds(topic))
        .map_err(exit_error)?;
    let Some((low, end)) = bounds.get(&partition).copied() else {
        return Err(ExitError::usage(format!(
            "{topic} has the partitions 0 to {}, and no {partition}",
            bounds.len().saturating_sub(1)
        )));
    };
    if !(low..end).contains(&offset) {
        return Err(ExitError::failed(format!(
            "partition {partition} of {topic} has no offset {offset}: it holds {low} to {}",
            end - 1
        ))
        .with_hint("`dead-letters list` shows what there is; retention removes old ones"));
    }
    // No record is as new as that: the reader begins so many offsets before the end.
    let near = ReadFrom::Time {
        epoch_ms: i64::MAX,
        at_least: (end - offset).saturating_add(MARGIN),
    };
    let mut shown = Ok(false);
    scan(kafka, topic, near, |message| {
        if message.partition() != partition || message.offset() < offset {
            return ControlFlow::Continue(());
        }
        if message.offset() == offset {
            shown = write(message, out).map(|()| true);
        }
        ControlFlow::Break(())
    })?;
    if shown.map_err(ExitError::stdout)? {
        return Ok(());
    }
    Err(ExitError::failed(format!(
        "there is no record at {partition}:{offset} of {topic}: a transaction's marker, an aborted record, or one that was removed"
    )))
}

fn write(message: &BorrowedMessage<'_>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "position   {}:{}", message.partition(), message.offset())?;
    if let Some(ms) = message.timestamp().to_millis() {
        writeln!(out, "timestamp  {}", rfc3339(ms))?;
    }
    writeln!(
        out,
        "key        {}",
        message.key().map_or_else(|| "none".to_owned(), text_or_hex)
    )?;
    writeln!(out, "headers")?;
    for header in message.headers().iter().flat_map(|headers| headers.iter()) {
        let value = header.value.map_or_else(|| "null".to_owned(), text_or_hex);
        writeln!(out, "  {}: {value}", printable(header.key))?;
    }
    match message.payload() {
        None => writeln!(out, "payload    none (a tombstone)")?,
        Some(payload) => {
            writeln!(out, "payload    {} bytes", payload.len())?;
            match std::str::from_utf8(payload) {
                Ok(text) => writeln!(out, "{}", printable(text))?,
                Err(_) => write!(out, "{}", hex_dump(payload))?,
            }
        }
    }
    out.flush()
}
