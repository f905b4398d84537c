//! A statement's rows as they come.
//!
//! One task asks the engine for rows and hands them to the connection; two batches wait at most. It ends when the client goes away,
//! and with an error when the time is over, whether the query or the client took it. An answer that ends without an error is
//! whole.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use chrono::Utc;
use futures::{Stream, TryStreamExt};
use loginlake_query::{Described, QueryEngine, ResultStream, Script, Values, View};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::MAX_MESSAGE_BYTES;
use super::status::{of_api, of_query, too_long};
use crate::fresh::receipt::Receipt;
use crate::serve::Api;
use crate::serve::answer::view;
use crate::serve::columns::{in_types_of, widely_known};

/// How the SQL of a client is called by errors.
pub(super) const SOURCE: &str = "query";

/// The messages of an answer.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

/// Statements that wait for their turn; more are refused.
const MAX_WAITING: usize = 64;

/// Asks the engine, for all clients.
#[derive(Debug)]
pub(super) struct Engines {
    api: Arc<Api>,
    /// Plans take little, but not nothing: as many are made at a time as queries may run.
    planning: Semaphore,
    waiting: Semaphore,
}

impl Engines {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Self {
            planning: Semaphore::new(api.limits.max_queries),
            waiting: Semaphore::new(MAX_WAITING),
            api,
        }
    }

    pub(super) fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// Waits for a turn, and not with too many others.
    async fn turn<T>(&self, turn: impl Future<Output = Result<T, AcquireError>>) -> Result<T, Status> {
        let _place = self.waiting.try_acquire().map_err(|_| {
            Status::resource_exhausted(format!(
                "{MAX_WAITING} statements wait already, as many as may: ask again"
            ))
        })?;
        // Semaphores are never closed; if one were, this would be why.
        turn.await
            .map_err(|_| Status::unavailable("the service is stopping: ask again"))
    }

    /// What a statement gives and takes, without running it, in the types that are sent.
    pub(super) async fn describe(&self, script: &Script, values: &Values) -> Result<Described, Status> {
        let limit = self.api.limits.timeout;
        let work = async {
            let _permit = self.turn(self.planning.acquire()).await?;
            let options = self.api.query.clone();
            let engine = QueryEngine::open_view(&self.api.lake, options, View::Newest).map_err(of_query)?;
            engine.describe(script, 0, values).await.map_err(of_query)
        };
        let described = within(Instant::now() + limit, limit, work).await??;
        let parameters = widely_known(&Arc::new(Schema::new(described.parameters)));
        Ok(Described {
            schema: widely_known(&described.schema),
            parameters: parameters
                .fields()
                .iter()
                .map(|field| field.as_ref().clone())
                .collect(),
        })
    }

    /// Runs a statement. Returns its messages once its first rows are there, and what it stands for, in a line.
    pub(super) async fn run(
        &self,
        script: &Script,
        values: &Values,
        fresh: bool,
    ) -> Result<(Messages, String), Status> {
        let limit = self.api.limits.timeout;
        let deadline = Instant::now() + limit;
        let running = self.api.metrics.begin();
        let started = within(deadline, limit, self.start(script, values, fresh)).await;
        let (rows, permit, receipt) = match started {
            Ok(Ok(started)) => started,
            Ok(Err(status)) | Err(status) => {
                running.end();
                return Err(status);
            }
        };
        let schema = widely_known(rows.schema());
        let (sender, receiver) = mpsc::channel(1);
        let (api, sent_schema) = (Arc::clone(&self.api), Arc::clone(&schema));
        tokio::spawn(async move {
            let _permit = permit;
            let work = async {
                let end = pump(&api, rows, &sent_schema, &sender).await?;
                // Room for the end: it comes behind the last rows.
                sender.reserve().await.ok()?;
                Some(end)
            };
            let end = tokio::select! {
                () = sender.closed() => return,
                end = within(deadline, limit, work) => end,
            };
            // Without an end the client has gone away: the query is stopped by dropping its rows.
            let Some(end) = end.unwrap_or_else(|late| Some(Err(late))) else {
                return;
            };
            running.end();
            // The client may take nothing more: then it finds the end of the channel, which is an error, too.
            let _ = sender.try_send(Part::End(end));
        });
        Ok((messages(schema, receiver, limit), receipt))
    }

    async fn start(
        &self,
        script: &Script,
        values: &Values,
        fresh: bool,
    ) -> Result<(ResultStream, OwnedSemaphorePermit, String), Status> {
        let api = &self.api;
        let permit = self.turn(Arc::clone(&api.permits).acquire_owned()).await?;
        let asked_at = Utc::now();
        let (view, fresh) = view(api, SOURCE, script, fresh)
            .await
            .map_err(|error| of_api(&error))?;
        let mut options = api.query.clone();
        options.max_rows = Some(api.limits.max_rows);
        let engine = QueryEngine::open_view(&api.lake, options, view).map_err(of_query)?;
        let rows = engine.stream_values(script, 0, values).await.map_err(of_query)?;
        let receipt = Receipt::new(
            api.lake.uri(),
            (SOURCE, script.sql()),
            asked_at,
            &engine.table_facts(),
            fresh.as_ref().map(|(position, tail)| (position, tail.as_ref())),
        );
        Ok((rows, permit, receipt.to_string()))
    }
}

/// Some rows, or how it ended.
enum Part {
    Rows(RecordBatch),
    End(Result<(), Status>),
}

/// Hands rows on until they end, or fail. `None`: the client has gone away.
async fn pump(
    api: &Api,
    mut rows: ResultStream,
    schema: &SchemaRef,
    sender: &mpsc::Sender<Part>,
) -> Option<Result<(), Status>> {
    loop {
        let batch = match rows.next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(error) => return Some(Err(of_query(error))),
        };
        let count = batch.num_rows() as u64;
        let batch = match in_types_of(schema, &batch) {
            Ok(batch) => batch,
            Err(error) => {
                return Some(Err(Status::internal(format!("the rows cannot be sent: {error}"))));
            }
        };
        sender.send(Part::Rows(batch)).await.ok()?;
        api.metrics.rows.inc_by(count);
    }
    if rows.outcome().truncated {
        return Some(Err(Status::resource_exhausted(format!(
            "the answer has more than {} rows: ask for less, or for the first ones with LIMIT",
            api.limits.max_rows
        ))));
    }
    Some(Ok(()))
}

fn messages(schema: SchemaRef, receiver: mpsc::Receiver<Part>, limit: Duration) -> Messages {
    let batches = futures::stream::unfold(Some(receiver), move |receiver| async move {
        let mut receiver = receiver?;
        let end = match receiver.recv().await {
            Some(Part::Rows(batch)) => return Some((Ok(batch), Some(receiver))),
            Some(Part::End(Ok(()))) => return None,
            Some(Part::End(Err(status))) => status,
            None => Status::deadline_exceeded(too_long(limit)),
        };
        Some((Err(FlightError::Tonic(Box::new(end))), None))
    });
    let encoded = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_max_flight_data_size(MAX_MESSAGE_BYTES / 8)
        .build(batches);
    Box::pin(encoded.map_err(Status::from))
}

async fn within<T>(deadline: Instant, limit: Duration, work: impl Future<Output = T>) -> Result<T, Status> {
    timeout_at(deadline, work)
        .await
        .map_err(|_| Status::deadline_exceeded(too_long(limit)))
}
