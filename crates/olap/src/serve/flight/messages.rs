//! What calls are made of: statements, tickets, columns and rows as messages, and limits on what a client sends.

use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::Any;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use futures::{Stream, StreamExt, TryStreamExt};
use loginlake_query::Script;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::status;
use super::stream::{Messages, SOURCE};

/// Bytes of a statement.
pub(super) const MAX_SQL_BYTES: usize = 256 << 10;
/// Bytes of the values of a statement, as they are sent.
pub(super) const MAX_VALUE_BYTES: usize = 256 << 10;
/// Facts that may be asked for by name.
pub(super) const MAX_FACTS: usize = 1_000;
/// Asks for the records, too, that the table does not hold yet.
pub(super) const FRESH: &str = "loginlake-fresh";
/// What an answer stands for.
pub(super) const ANSWER: &str = "loginlake-answer";
pub(super) const READ_ONLY: &str = "updates are refused: this service only reads; ask with SELECT";
pub(super) const AUTHORIZATION: &str = "authorization";

pub(super) type Result<T> = std::result::Result<T, Status>;
pub(super) type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// Facts are made of constants; that they cannot be made would be a mistake of ours, and is said to whoever asks for them.
pub(super) fn constant<T>(made: &arrow_flight::error::Result<T>) -> Result<&T> {
    made.as_ref()
        .map_err(|error| Status::internal(format!("the facts cannot be written: {error}")))
}

/// One statement that only reads.
pub(super) fn parse(sql: &str) -> Result<Script> {
    if sql.len() > MAX_SQL_BYTES {
        return Err(Status::invalid_argument(format!(
            "the statement is longer than {} KiB",
            MAX_SQL_BYTES >> 10
        )));
    }
    let script = Script::parse_prepared(sql, SOURCE).map_err(status::of_query)?;
    match script.statement_count() {
        1 => Ok(script),
        count => Err(Status::invalid_argument(format!(
            "{count} statements in one: ask them one by one"
        ))),
    }
}

pub(super) fn parse_bytes(sql: &[u8]) -> Result<Script> {
    let sql = std::str::from_utf8(sql)
        .map_err(|_| Status::invalid_argument("the ticket is none of this service: ask again"))?;
    parse(sql)
}

pub(super) fn no_transaction(id: Option<&[u8]>) -> Result<()> {
    match id {
        None | Some([]) => Ok(()),
        Some(_) => Err(Status::invalid_argument(
            "there are no transactions: leave the transaction out",
        )),
    }
}

pub(super) fn is_fresh(metadata: &MetadataMap) -> Result<bool> {
    let Some(value) = metadata.get(FRESH) else {
        return Ok(false);
    };
    let value = value.to_str().ok().and_then(|value| value.parse().ok());
    value.ok_or_else(|| Status::invalid_argument(format!("{FRESH} is true or false")))
}

/// Where rows of these columns are to be had: here, with a ticket.
pub(super) fn info(
    schema: &Schema,
    ticket: &Any,
    request: Request<FlightDescriptor>,
) -> Result<Response<FlightInfo>> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.encode_to_vec()));
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(unwritable)?
        .with_endpoint(endpoint)
        .with_descriptor(request.into_inner())
        .with_ordered(true);
    Ok(Response::new(info))
}

pub(super) fn unwritable(error: arrow::error::ArrowError) -> Status {
    Status::internal(format!("the columns cannot be written: {error}"))
}

pub(super) fn ipc_schema(schema: &Schema) -> Result<Vec<u8>> {
    let message: IpcMessage = SchemaAsIpc::new(schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(unwritable)?;
    Ok(message.0.to_vec())
}

pub(super) fn one_batch(batch: RecordBatch) -> Response<Messages> {
    let encoded = FlightDataEncoderBuilder::new()
        .with_schema(batch.schema())
        .build(futures::stream::iter([Ok(batch)]));
    Response::new(Box::pin(encoded.map_err(Status::from)))
}

pub(super) fn no_rows(schema: SchemaRef) -> Response<Messages> {
    one_batch(RecordBatch::new_empty(schema))
}

/// The row of values that a client sends; None when it sends none.
pub(super) async fn values_of(messages: PeekableFlightDataStream) -> Result<Option<RecordBatch>> {
    let mut bytes = 0;
    let messages = messages.map(move |message| {
        let message = message.map_err(|status| FlightError::Tonic(Box::new(status)))?;
        bytes += message.data_header.len() + message.data_body.len();
        if bytes > MAX_VALUE_BYTES {
            let message = format!("the values are larger than {} KiB", MAX_VALUE_BYTES >> 10);
            return Err(FlightError::Tonic(Box::new(Status::invalid_argument(message))));
        }
        Ok(message)
    });
    let mut rows = FlightRecordBatchStream::new_from_flight_data(messages);
    let mut found: Option<RecordBatch> = None;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|error| match error {
            FlightError::Tonic(status) => *status,
            error => Status::invalid_argument(format!("the values cannot be read: {error}")),
        })?;
        if batch.num_rows() == 0 {
            continue;
        }
        if found.replace(batch).is_some() {
            return Err(Status::invalid_argument(
                "values for several runs at once: give those of one run, as one row",
            ));
        }
    }
    Ok(found)
}
