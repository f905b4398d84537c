//! One answer: pinned, run, counted, written. It is whole, or it is an error: a client never sees the beginning of one.
//!
//! 1. The tables that the query names are pinned; their versions and files, query and parameters make the ETag. If the client
//!    has it, 304.
//! 2. The query runs within its memory, time and rows; its rows wait in memory, within a limit of bytes.
//! 3. They are written in the format that was asked for, within the same limit.
//!
//! Dropping the future stops the query: that is what happens when the client goes away.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use axum::http::StatusCode;
use chrono::Utc;
use loginlake_query::print::{Format, Printer};
use loginlake_query::{QueryEngine, ResultSink, Script, View};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::catalog::Entry;
use super::columns::{in_types_of, widely_known};
use super::error::ApiError;
use super::request::{AnswerFormat, Request};
use crate::fresh::receipt::Receipt;
use crate::fresh::{Fresh, FreshPosition, KafkaTail};

/// What a request for a query gets.
#[derive(Debug)]
pub enum Answer {
    /// The client's copy still holds.
    NotModified {
        /// The tag of it.
        etag: String,
    },
    /// Rows.
    Whole(WholeAnswer),
}

/// Rows, written.
#[derive(Debug)]
pub struct WholeAnswer {
    /// None where the same question can have another answer.
    pub etag: Option<String>,
    /// What it stands for, in a line.
    pub receipt: String,
    /// How many rows.
    pub rows: u64,
    /// Whether the client's own limit left rows out.
    pub truncated: bool,
    /// The bytes, and the right to hold them.
    pub body: Held,
}

/// Bytes of an answer. As long as they wait to be sent they count as a running query.
#[derive(Debug)]
pub struct Held {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Answers a request. `known` says whether the client has a tag.
///
/// # Errors
/// Whatever keeps the answer from being whole.
pub async fn answer(
    api: &Api,
    entry: &Entry,
    request: Request,
    known: impl Fn(&str) -> bool,
) -> Result<Answer, ApiError> {
    entry.script.check(&request.params)?;
    if request.limit.is_some_and(|limit| limit > api.limits.max_rows) {
        return Err(
            ApiError::bad_request(format!("limit is {} at most", api.limits.max_rows)).of_parameter("limit"),
        );
    }
    let permit = Arc::clone(&api.permits).try_acquire_owned().map_err(|_| {
        ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!(
                "{} queries run already, as many as may: ask again",
                api.limits.max_queries
            ),
        )
        .retry_after(1)
    })?;
    let failed = |error| ApiError::of_query(&entry.name, error);
    let asked_at = Utc::now();
    let (view, fresh) = view(api, &entry.name, &entry.script, request.fresh).await?;
    let mut options = api.query.clone();
    options.max_rows = Some(request.limit.unwrap_or(api.limits.max_rows));
    let engine = QueryEngine::open_view(&api.lake, options, view).map_err(failed)?;
    let facts = engine.pin(entry.script.tables()).await.map_err(failed)?;
    let etag = entry.is_repeatable.then(|| {
        let tables = facts.iter().map(|table| format!("{table:?}")).collect::<Vec<_>>();
        etag(
            api,
            entry,
            &request,
            &tables,
            fresh.as_ref().map(|(position, _)| position),
        )
    });
    if let Some(etag) = etag.as_ref().filter(|etag| known(etag)) {
        return Ok(Answer::NotModified { etag: etag.clone() });
    }

    let mut stream = engine
        .stream(&entry.script, 0, &request.params)
        .await
        .map_err(failed)?;
    let (mut batches, mut held_bytes) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await.map_err(failed)? {
        held_bytes += batch.get_array_memory_size();
        if held_bytes > api.limits.max_answer_bytes {
            return Err(too_large(api));
        }
        batches.push(batch);
    }
    let outcome = stream.outcome();
    if outcome.truncated && request.limit.is_none() {
        let message = format!(
            "the answer has more than {} rows: ask for less, or for the first ones with limit",
            api.limits.max_rows
        );
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    let receipt = Receipt::new(
        api.lake.uri(),
        (&entry.name, entry.script.sql()),
        asked_at,
        &facts,
        fresh.as_ref().map(|(position, tail)| (position, tail.as_ref())),
    );
    let (schema, format, limit) = (
        Arc::clone(stream.schema()),
        request.format,
        api.limits.max_answer_bytes,
    );
    let written = tokio::task::spawn_blocking(move || write(format, &schema, &batches, limit)).await;
    let bytes = match written {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => return Err(too_large(api)),
        Ok(Err(error)) => return Err(failed(error.into())),
        Err(error) => return Err(failed(io::Error::other(error).into())),
    };
    Ok(Answer::Whole(WholeAnswer {
        etag,
        receipt: receipt.to_string(),
        rows: outcome.rows,
        truncated: outcome.truncated,
        body: Held {
            bytes,
            _permit: permit,
        },
    }))
}

/// The state of the lake that a query called `name` sees.
///
/// # Errors
/// Fresh records are not offered, or cannot be had.
pub async fn view(
    api: &Api,
    name: &str,
    script: &Script,
    fresh: bool,
) -> Result<(View, Option<(FreshPosition, Arc<KafkaTail>)>), ApiError> {
    if !fresh {
        return Ok((View::Newest, None));
    }
    let Some(source) = &api.source else {
        return Err(ApiError::bad_request("fresh answers are not offered here").of_parameter("fresh"));
    };
    let Fresh { view, position, tail } = source
        .newest(&api.lake, &script.tables())
        .await
        .map_err(|error| ApiError::of_source(name, &error))?;
    Ok((view, Some((position, tail))))
}

fn too_large(api: &Api) -> ApiError {
    ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        format!(
            "the answer is larger than {} MiB: ask for less, or for the first rows with limit",
            api.limits.max_answer_bytes >> 20
        ),
    )
}

/// Weak: equal tags stand for equal rows, not for equal bytes (sums of floating numbers can differ in their last digit).
fn etag(
    api: &Api,
    entry: &Entry,
    request: &Request,
    tables: &[String],
    position: Option<&FreshPosition>,
) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    };
    add(env!("CARGO_PKG_VERSION"));
    add(api.lake.uri());
    add(&entry.name);
    add(entry.script.sql());
    add(request.format.as_str());
    add(&request.limit.map(|limit| limit.to_string()).unwrap_or_default());
    for (name, value) in request.params.iter() {
        add(name);
        add(value);
    }
    add("tables");
    for table in tables {
        add(table);
    }
    if let Some(position) = position {
        add(&position.incarnation);
        add(&format!("{:?}", position.partitions));
    }
    let digits: String = hash.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("W/\"{digits}\"")
}

fn write(
    format: AnswerFormat,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    limit: usize,
) -> io::Result<Vec<u8>> {
    let out = Bounded {
        bytes: Vec::new(),
        limit,
    };
    let text = match format {
        AnswerFormat::Json => Format::Json,
        AnswerFormat::Ndjson => Format::Ndjson,
        AnswerFormat::Csv => Format::Csv,
        AnswerFormat::Arrow => return write_arrow(schema, batches, out),
    };
    let mut printer = Printer::new(text, None, out);
    printer.begin(schema)?;
    for batch in batches {
        printer.rows(batch)?;
    }
    printer.end()?;
    Ok(printer.into_inner().bytes)
}

fn write_arrow(schema: &SchemaRef, batches: &[RecordBatch], mut out: Bounded) -> io::Result<Vec<u8>> {
    let schema = widely_known(schema);
    let written = || -> Result<(), arrow::error::ArrowError> {
        let mut writer = StreamWriter::try_new(&mut out, &schema)?;
        for batch in batches {
            writer.write(&in_types_of(&schema, batch)?)?;
        }
        writer.finish()
    };
    let mut written = written;
    match written() {
        Ok(()) => Ok(out.bytes),
        Err(arrow::error::ArrowError::IoError(_, error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// A buffer that refuses more than its limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringViewArray};
    use arrow::datatypes::DataType;
    use arrow::ipc::reader::StreamReader;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([
            (
                "=name",
                Arc::new(StringViewArray::from(vec![Some("=1+1"), None])) as _,
            ),
            ("n", Arc::new(Int64Array::from(vec![1, 2])) as _),
        ])
        .expect("a batch")
    }

    #[test]
    fn every_format_is_whole() {
        let batch = batch();
        let text = |format| {
            let bytes =
                write(format, &batch.schema(), std::slice::from_ref(&batch), 10_000).expect("written");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        assert_eq!(text(AnswerFormat::Csv), "'=name,n\n'=1+1,1\n,2\n");
        let json: serde_json::Value = serde_json::from_str(&text(AnswerFormat::Json)).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!([{ "=name": "=1+1", "n": 1 }, { "=name": null, "n": 2 }])
        );
        assert_eq!(text(AnswerFormat::Ndjson).lines().count(), 2);
    }

    #[test]
    fn an_arrow_stream_has_types_that_every_reader_knows() {
        let batch = batch();
        let bytes = write(
            AnswerFormat::Arrow,
            &batch.schema(),
            &[batch.clone(), batch.clone()],
            100_000,
        );
        let bytes = bytes.expect("written");
        let reader = StreamReader::try_new(bytes.as_slice(), None).expect("a stream");
        assert_eq!(reader.schema().field(0).data_type(), &DataType::Utf8);
        let rows: usize = reader.map(|batch| batch.expect("whole").num_rows()).sum();
        assert_eq!(rows, 4);
    }

    #[test]
    fn an_answer_over_the_limit_is_refused() {
        let batch = batch();
        for format in AnswerFormat::ALL {
            let error =
                write(format, &batch.schema(), std::slice::from_ref(&batch), 8).expect_err("too large");
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{format:?}");
        }
    }
}
