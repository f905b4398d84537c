//! Running: each statement is planned, its parameters bound, its rows streamed. The first error stops, and says its place.
//!
//! Statements compute on threads of their own, never on those of whoever waits for the rows: time limits, signals and other
//! requests are seen to at any moment. Dropping a [`ResultStream`], or the future of [`QueryEngine::run`], ends the query where
//! its operators next give way. Two batches at most wait for a reader.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::cast::as_string_array;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use futures::future::{AbortHandle, Abortable};
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::error::{Failing, QueryError, planning_error};
use crate::limits::cancel::{Stop, stops_of};
use crate::nesting::PLANNING_STACK_BYTES;
use crate::params::bind::{BindError, Bindings};
use crate::params::{ParameterError, Params};
use crate::script::Script;
use crate::session::QueryEngine;

/// Stack of each computing thread: what the deepest expression that is accepted was seen to need unoptimised, and more.
const COMPUTING_STACK_BYTES: usize = 8 << 20;
/// Batches that wait for whoever reads the rows.
const WAITING_BATCHES: usize = 2;
/// Rows of a batch after a sort has failed, and after it has failed again. So few because texts of sorted rows are not copied: each
/// row of a batch may hold on to another batch of the sort's input, and a merge counts all of them.
const SMALLER_BATCHES: [usize; 2] = [16, 2];
/// How often, and after which pause, it is looked whether operators have given back their memory.
const GONE_LOOKS: u32 = 200;
const GONE_PAUSE: Duration = Duration::from_millis(5);

/// Receives results: for each statement one `begin`, then its rows, then one `end`.
pub trait ResultSink: Send {
    /// The columns of the next result.
    ///
    /// # Errors
    /// When the output cannot be written; the run stops.
    fn begin(&mut self, schema: &SchemaRef) -> io::Result<()>;
    /// Some rows of the current result, in order.
    ///
    /// # Errors
    /// When the output cannot be written; the run stops.
    fn rows(&mut self, batch: &RecordBatch) -> io::Result<()>;
    /// The current result is complete.
    ///
    /// # Errors
    /// When the output cannot be written; the run stops.
    fn end(&mut self) -> io::Result<()>;
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunSummary {
    /// One for each statement of the text, in order.
    pub statements: Vec<StatementOutcome>,
}

/// What one statement gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatementOutcome {
    /// Rows that went into the sink.
    pub rows: u64,
    /// Whether the row limit left rows out.
    pub truncated: bool,
}

/// The rows of one statement, as they come. Dropping it stops the query.
#[derive(Debug)]
pub struct ResultStream {
    schema: SchemaRef,
    is_explain: bool,
    /// The first rows are awaited before a stream is given out: most errors of a running query come here.
    first: Option<RecordBatch>,
    batches: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    /// `None` once it has said how it ended.
    work: Option<Work>,
    failing: Failing,
    deadline: Deadline,
    max_rows: Option<u64>,
    outcome: StatementOutcome,
}

/// The time limit of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<(Instant, Duration)>);

impl Deadline {
    pub(crate) fn after(limit: Option<Duration>) -> Self {
        Self(limit.and_then(|limit| Some((Instant::now().checked_add(limit)?, limit))))
    }

    pub(crate) async fn wait<T>(self, work: impl Future<Output = T>) -> Result<T, QueryError> {
        match self.0 {
            Some((end, limit)) => timeout_at(end, work)
                .await
                .map_err(|_| QueryError::Timeout { limit }),
            None => Ok(work.await),
        }
    }
}

/// The task that runs a plan; ended when dropped.
#[derive(Debug)]
struct Work(JoinHandle<()>, Vec<Stop>);

impl Drop for Work {
    fn drop(&mut self) {
        for stop in &self.1 {
            stop.stop();
        }
        self.0.abort();
    }
}

impl QueryEngine {
    /// Runs every statement of `sql`, which has no parameters or defaults for all of them, their results one after another
    /// into `sink`. `source_name` is how errors call the text: a file name, or `-e`.
    ///
    /// # Errors
    /// As [`Self::run_script`], and those of [`Script::parse`].
    pub async fn run(
        &self,
        sql: &str,
        source_name: &str,
        sink: &mut dyn ResultSink,
    ) -> Result<RunSummary, QueryError> {
        self.run_script(&Script::parse(sql, source_name)?, &Params::new(), sink)
            .await
    }

    /// Runs every statement of a script with these parameters, their results one after another into `sink`, within the limits
    /// of the engine. The time limit holds for all statements together.
    ///
    /// # Errors
    /// The first that occurs; statements before it have given their results, none after it is run. What is wrong with the
    /// parameters is said before anything runs.
    pub async fn run_script(
        &self,
        script: &Script,
        params: &Params,
        sink: &mut dyn ResultSink,
    ) -> Result<RunSummary, QueryError> {
        let bindings = Bindings::new(script.source_name(), script.parameters(), params)?;
        let deadline = Deadline::after(self.options().timeout);
        let mut summary = RunSummary::default();
        for index in 0..script.statement_count() {
            let mut stream = self
                .stream_bound(script, index, Arc::clone(&bindings), deadline)
                .await?;
            sink.begin(stream.schema())?;
            while let Some(batch) = stream.next().await? {
                sink.rows(&batch)?;
                // Batches may be there faster than they are written: whoever wants to stop this gets a turn.
                tokio::task::yield_now().await;
            }
            sink.end()?;
            summary.statements.push(stream.outcome());
        }
        Ok(summary)
    }

    /// Starts one statement of a script, counted from 0, and gives its rows as they come, within the limits of the engine;
    /// the time limit begins now. For those who do more with rows than a [`ResultSink`] can, or several at a time.
    ///
    /// # Errors
    /// The parameters do not fit, the statement cannot be planned, or it fails before its first rows.
    ///
    /// # Panics
    /// When the script has no such statement.
    pub async fn stream(
        &self,
        script: &Script,
        statement: usize,
        params: &Params,
    ) -> Result<ResultStream, QueryError> {
        let bindings = Bindings::new(script.source_name(), script.parameters(), params)?;
        let deadline = Deadline::after(self.options().timeout);
        self.stream_bound(script, statement, bindings, deadline).await
    }

    /// [`Self::stream`] with values that are bound already; the time limit ends at `deadline`.
    ///
    /// A merge holds batches of each of its inputs. Where rows are so large that a sort fails by that before its first rows, it is
    /// done again with few rows in a batch, and in one part, so that no merge of sorted parts is needed, which cannot spill.
    pub(crate) async fn stream_bound(
        &self,
        script: &Script,
        statement: usize,
        bindings: Arc<Bindings>,
        deadline: Deadline,
    ) -> Result<ResultStream, QueryError> {
        let mut result = self.start(script, statement, &bindings, deadline, None).await;
        for batch_rows in SMALLER_BATCHES {
            match &result {
                Err(QueryError::OutOfMemory { detail, .. }) if is_of_a_sort(detail) => {}
                _ => break,
            }
            debug!(
                batch_rows,
                "a sort did not fit its memory: again, with smaller batches"
            );
            self.operators_are_gone().await;
            result = self
                .start(script, statement, &bindings, deadline, Some(batch_rows))
                .await;
        }
        result
    }

    /// Waits, not for long, for the operators of a statement that has failed: they end one after the other.
    async fn operators_are_gone(&self) {
        for _ in 0..GONE_LOOKS {
            if self.held_bytes() == 0 {
                return;
            }
            tokio::time::sleep(GONE_PAUSE).await;
        }
    }

    async fn start(
        &self,
        script: &Script,
        statement: usize,
        bindings: &Arc<Bindings>,
        deadline: Deadline,
        batch_rows: Option<usize>,
    ) -> Result<ResultStream, QueryError> {
        let parsed = &script.statements()[statement];
        let (text, place) = (Arc::clone(script.text()), parsed.place);
        let is_explain = matches!(parsed.statement, Statement::Explain(_));
        let mut state = self.context().state();
        if let Some(batch_rows) = batch_rows {
            let config = state.config().clone().with_batch_size(batch_rows);
            *state.config_mut() = config.with_target_partitions(1);
        }
        let context = state.task_ctx();
        let planned = plan(state, script.clone(), statement, Arc::clone(bindings));
        let plan = deadline
            .wait(on_large_stack(planned))
            .await??
            .map_err(|error| error.in_statement(script, statement))?;
        #[cfg(feature = "cluster")]
        let plan = self
            .distributed(plan)
            .map_err(|error| planning_error(text.source(), error, place))?;

        let failing = Failing {
            text,
            place,
            memory_limit_bytes: self.options().memory_limit_bytes,
            spill_limit_bytes: self.options().max_spill_bytes,
        };
        let schema = if is_explain {
            explain_schema()
        } else {
            plan.schema()
        };
        let (sender, batches) = mpsc::channel(WAITING_BATCHES);
        let stops = stops_of(&plan);
        let computing = computing()?.spawn(async move {
            let mut stream = match execute_stream(plan, context) {
                Ok(stream) => stream,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
            while let Some(batch) = stream.next().await {
                let failed = batch.is_err();
                // Nobody receives any more when the stream was dropped.
                if sender.send(batch).await.is_err() || failed {
                    break;
                }
            }
        });
        let work = Work(computing, stops);
        let mut result = ResultStream {
            schema,
            is_explain,
            first: None,
            batches,
            work: Some(work),
            failing,
            deadline,
            max_rows: self.options().max_rows,
            outcome: StatementOutcome::default(),
        };
        result.first = result.receive().await?;
        Ok(result)
    }
}

impl ResultStream {
    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows that were given so far, and whether the row limit left rows out.
    pub fn outcome(&self) -> StatementOutcome {
        self.outcome
    }

    /// The next rows; `None` at the end, or at the row limit.
    ///
    /// # Errors
    /// The query failed, ran out of memory or of time; what was given before is not all.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        loop {
            let batch = match self.first.take() {
                Some(first) => first,
                None => match self.receive().await? {
                    Some(next) => next,
                    None => return Ok(None),
                },
            };
            let left = self.max_rows.map_or(u64::MAX, |limit| limit - self.outcome.rows);
            let wanted = usize::try_from(left).map_or(batch.num_rows(), |left| left.min(batch.num_rows()));
            if wanted < batch.num_rows() {
                self.outcome.truncated = true;
                self.work = None;
                self.batches.close();
            }
            if wanted > 0 {
                self.outcome.rows += wanted as u64;
                return Ok(Some(batch.slice(0, wanted)));
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        if self.outcome.truncated {
            return Ok(None);
        }
        match self.deadline.wait(self.batches.recv()).await? {
            Some(Ok(batch)) if self.is_explain => plan_lines(&batch)
                .map(Some)
                .map_err(|error| self.failing.error(error)),
            Some(Ok(batch)) => Ok(Some(batch)),
            Some(Err(error)) => Err(self.failing.error(error)),
            None => match self.work.take() {
                Some(mut work) => match (&mut work.0).await {
                    Err(error) if error.is_panic() => Err(self
                        .failing
                        .failed("an operator panicked; simplify the statement, and report this".to_owned())),
                    Ok(()) => Ok(None),
                    Err(error) => Err(self.failing.failed(format!("it was stopped: {error}"))),
                },
                None => Ok(None),
            },
        }
    }
}

/// Whether it is a sort, or the merge of sorted rows, that has got no more memory, by the names that DataFusion gives them.
fn is_of_a_sort(detail: &str) -> bool {
    detail.contains("ExternalSorter") || detail.contains("SortPreservingMerge")
}

/// The threads that all statements of the process compute on. They are never waited for: a process ends when its answer is
/// written.
fn computing() -> Result<&'static Runtime, QueryError> {
    static COMPUTING: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = COMPUTING.get() {
        return Ok(runtime);
    }
    let runtime = runtime::Builder::new_multi_thread()
        .thread_name("query")
        .thread_stack_size(COMPUTING_STACK_BYTES)
        .enable_all()
        .build()
        .map_err(|error| QueryError::Setup(format!("no threads to compute on: {error}")))?;
    // Another one may have been first; this one has no work yet.
    if let Err(second) = COMPUTING.set(runtime) {
        second.shutdown_background();
    }
    COMPUTING
        .get()
        .ok_or_else(|| QueryError::Setup("no threads to compute on".to_owned()))
}

/// Why there is no plan.
pub(crate) enum PlanError {
    /// The statement would do more than read.
    Writes,
    Parameter(ParameterError),
    Planning(DataFusionError),
}

impl PlanError {
    /// The same with its place in the text.
    pub(crate) fn in_statement(self, script: &Script, statement: usize) -> QueryError {
        let parsed = &script.statements()[statement];
        let source = script.text().source();
        match self {
            Self::Writes => parsed.refusal(source),
            Self::Parameter(error) => {
                let at = script.placeholder_after(&error.name, parsed.place);
                QueryError::Parameter(error.at(source, at))
            }
            Self::Planning(error) => planning_error(source, error, parsed.place),
        }
    }
}

/// The plan of one statement, which is sure to only read.
async fn plan(
    state: SessionState,
    script: Script,
    statement: usize,
    bindings: Arc<Bindings>,
) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
    let plan = logical_plan(&state, &script, statement, &bindings).await?;
    bound_plan(&state, plan, &bindings).await
}

/// What a statement asks for, without values; sure to only read.
pub(crate) async fn logical_plan(
    state: &SessionState,
    script: &Script,
    statement: usize,
    bindings: &Bindings,
) -> Result<LogicalPlan, PlanError> {
    // Copied here, because only here the stack is large enough for any of them.
    let mut statement = script.statements()[statement].statement.clone();
    if !bindings.is_empty() {
        bindings.declare_types(&mut statement);
    }
    let plan = state
        .statement_to_plan(statement)
        .await
        .map_err(PlanError::Planning)?;
    let read_only = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(|_| PlanError::Writes)?;
    Ok(plan)
}

/// How it is answered with these values.
pub(crate) async fn bound_plan(
    state: &SessionState,
    plan: LogicalPlan,
    bindings: &Bindings,
) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
    let plan = bindings.bind(plan).map_err(|error| match error {
        BindError::Value(error) => PlanError::Parameter(error),
        BindError::Planning(error) => PlanError::Planning(error),
    })?;
    state
        .create_physical_plan(&plan)
        .await
        .map_err(PlanError::Planning)
}

/// Runs `work` on a thread with a stack of [`PLANNING_STACK_BYTES`], inside the caller's runtime. The thread ends when the
/// caller no longer waits.
pub(crate) async fn on_large_stack<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, QueryError> {
    let runtime = Handle::current();
    let (sender, receiver) = oneshot::channel();
    let (stop, registration) = AbortHandle::new_pair();
    let _stop = StopOnDrop(stop);
    std::thread::Builder::new()
        .name("plan".to_owned())
        .stack_size(PLANNING_STACK_BYTES)
        .spawn(move || {
            if let Ok(result) = runtime.block_on(Abortable::new(work, registration)) {
                // Nobody receives when the time limit ended the run just now.
                let _ = sender.send(result);
            }
        })
        .map_err(|error| QueryError::Setup(format!("no thread to plan on: {error}")))?;
    receiver
        .await
        .map_err(|_| QueryError::Setup("the planner panicked: simplify the statement".to_owned()))
}

struct StopOnDrop(AbortHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn explain_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![text("plan_type"), text("plan")]))
}

/// The answer of EXPLAIN with one row for each line of a plan, so that every output format shows it readably.
fn plan_lines(batch: &RecordBatch) -> datafusion::error::Result<RecordBatch> {
    let (kinds, plans) = (
        as_string_array(batch.column(0))?,
        as_string_array(batch.column(1))?,
    );
    let lines = kinds.iter().zip(plans).flat_map(|(kind, plan)| {
        let lines = plan.unwrap_or_default().lines().enumerate();
        lines.map(move |(index, line)| (if index == 0 { kind } else { None }, Some(line)))
    });
    let (kinds, lines): (StringArray, StringArray) = {
        let (kinds, lines): (Vec<Option<&str>>, Vec<Option<&str>>) = lines.unzip();
        (kinds.into(), lines.into())
    };
    let columns: Vec<ArrayRef> = vec![Arc::new(kinds), Arc::new(lines)];
    Ok(RecordBatch::try_new(explain_schema(), columns)?)
}
