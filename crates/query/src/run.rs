//! A SQL text, statement by statement: all of it is parsed first, then each statement is checked, planned and streamed
//! into the sink. The first error stops, and says its place.
//!
//! Only what reads is run: queries, EXPLAIN, DESCRIBE and SHOW. Anything else is refused before it is planned, and once
//! more on the plan (a SELECT can hide an INTO).

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::common::cast::as_string_array;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::tokenizer::Token;
use futures::StreamExt;
use loginlake_lake::TableName;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::{QueryError, execution_error, planning_error};
use crate::nesting::{PLANNING_STACK_BYTES, check_nesting};
use crate::place::{Place, Source};
use crate::session::QueryEngine;

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

/// The tables of a lake that a SQL text names, before anything is read. All of them when it asks for more than rows, and none
/// when it cannot be parsed: running it says why.
pub fn tables_named(sql: &str) -> BTreeSet<TableName> {
    let source = Source { name: "", sql };
    let mut found = BTreeSet::new();
    if check_nesting(source).is_err() {
        return found;
    }
    for parsed in parse(source).unwrap_or_default() {
        let is_query = match &parsed.statement {
            Statement::Statement(statement) => matches!(statement.as_ref(), SqlStatement::Query(_)),
            _ => false,
        };
        match resolve_table_references(&parsed.statement, true) {
            Ok((tables, _)) if is_query && !tables.iter().any(is_about_tables) => {
                let named = |name: &TableName| tables.iter().any(|table| table.table() == name.as_str());
                found.extend(TableName::ALL.into_iter().filter(named));
            }
            _ => return TableName::ALL.into_iter().collect(),
        }
    }
    found
}

fn is_about_tables(table: &TableReference) -> bool {
    table.schema() == Some("information_schema")
}

/// A parsed statement, and where it begins.
struct Parsed {
    statement: Statement,
    place: Place,
    /// Its first word, in capitals.
    verb: String,
}

impl QueryEngine {
    /// Runs every statement of `sql`, their results one after another into `sink`. `source_name` is how errors call the
    /// text: a file name, or `-e`.
    ///
    /// # Errors
    /// The first that occurs; statements before it have given their results, none after it is run.
    pub async fn run(
        &self,
        sql: &str,
        source_name: &str,
        sink: &mut dyn ResultSink,
    ) -> Result<RunSummary, QueryError> {
        let source = Source {
            name: source_name,
            sql,
        };
        let work = self.run_statements(source, sink);
        match self.options().timeout {
            Some(limit) => tokio::time::timeout(limit, work)
                .await
                .unwrap_or(Err(QueryError::Timeout { limit })),
            None => work.await,
        }
    }

    async fn run_statements(
        &self,
        source: Source<'_>,
        sink: &mut dyn ResultSink,
    ) -> Result<RunSummary, QueryError> {
        check_nesting(source)?;
        let statements = parse(source)?;
        for parsed in &statements {
            refuse_writing(source, parsed)?;
        }
        let mut summary = RunSummary::default();
        for parsed in statements {
            summary
                .statements
                .push(self.run_statement(source, parsed, sink).await?);
        }
        Ok(summary)
    }

    async fn run_statement(
        &self,
        source: Source<'_>,
        parsed: Parsed,
        sink: &mut dyn ResultSink,
    ) -> Result<StatementOutcome, QueryError> {
        let Parsed {
            statement,
            place,
            verb,
        } = parsed;
        let is_explain = matches!(statement, Statement::Explain(_));
        let state = self.context().state();
        let context = state.task_ctx();
        let plan = on_large_stack(plan(state, statement))
            .await?
            .map_err(|error| match error {
                PlanError::Writes => refusal(source, place, &verb),
                PlanError::Planning(error) => planning_error(source, error, place),
            })?;

        let running = |error| execution_error(error, self.options().memory_limit_bytes);
        let mut stream = execute_stream(plan, context).map_err(running)?;
        let schema = if is_explain {
            explain_schema()
        } else {
            stream.schema()
        };
        // The first rows are awaited before anything is written: most errors of a running query come here.
        let mut next = stream.next().await.transpose().map_err(running)?;
        sink.begin(&schema)?;
        let mut outcome = StatementOutcome::default();
        while let Some(batch) = next {
            let batch = if is_explain {
                plan_lines(&batch).map_err(running)?
            } else {
                batch
            };
            let left = self
                .options()
                .max_rows
                .map_or(u64::MAX, |limit| limit - outcome.rows);
            let wanted = usize::try_from(left).map_or(batch.num_rows(), |left| left.min(batch.num_rows()));
            if wanted > 0 {
                sink.rows(&batch.slice(0, wanted))?;
                outcome.rows += wanted as u64;
            }
            if wanted < batch.num_rows() {
                outcome.truncated = true;
                break;
            }
            next = stream.next().await.transpose().map_err(running)?;
        }
        sink.end()?;
        Ok(outcome)
    }
}

/// Why there is no plan.
enum PlanError {
    /// The statement would do more than read.
    Writes,
    Planning(DataFusionError),
}

/// The plan of one statement, which is sure to only read.
async fn plan(state: SessionState, statement: Statement) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
    let plan = state
        .statement_to_plan(statement)
        .await
        .map_err(PlanError::Planning)?;
    let read_only = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(|_| PlanError::Writes)?;
    state
        .create_physical_plan(&plan)
        .await
        .map_err(PlanError::Planning)
}

/// Runs `work` on a thread with a stack of [`PLANNING_STACK_BYTES`], inside the caller's runtime.
async fn on_large_stack<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, QueryError> {
    let runtime = Handle::current();
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("plan".to_owned())
        .stack_size(PLANNING_STACK_BYTES)
        .spawn(move || {
            // Nobody receives when the time limit ended the run.
            let _ = sender.send(runtime.block_on(work));
        })
        .map_err(|error| QueryError::Setup(format!("no thread to plan on: {error}")))?;
    receiver
        .await
        .map_err(|_| QueryError::Execution("the planner panicked: simplify the statement".to_owned()))
}

/// All statements of the text, separated by `;`.
fn parse(source: Source<'_>) -> Result<Vec<Parsed>, QueryError> {
    let start = Place {
        line: 1,
        column: 1,
        length: 1,
    };
    let mut parser = DFParserBuilder::new(source.sql)
        .build()
        .map_err(|error| planning_error(source, error, start))?;
    let mut statements = Vec::new();
    let mut separated = true;
    loop {
        while parser.parser.consume_token(&Token::SemiColon) {
            separated = true;
        }
        let next = parser.parser.peek_token();
        if next.token == Token::EOF {
            break;
        }
        let place = Place::of(&next);
        if !separated {
            let message = format!("expected ; or the end of the text, found {}", next.token);
            return Err(QueryError::Sql(source.error_at(place, message)));
        }
        let statement = parser
            .parse_statement()
            .map_err(|error| planning_error(source, error, place))?;
        statements.push(Parsed {
            statement,
            place,
            verb: next.token.to_string().to_uppercase(),
        });
        separated = false;
    }
    if statements.is_empty() {
        return Err(QueryError::NoStatement {
            source_name: source.name.to_owned(),
        });
    }
    Ok(statements)
}

/// Refuses a statement that does anything but read.
fn refuse_writing(source: Source<'_>, parsed: &Parsed) -> Result<(), QueryError> {
    if reads_only(&parsed.statement) {
        Ok(())
    } else {
        Err(refusal(source, parsed.place, &parsed.verb))
    }
}

fn reads_only(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => matches!(
            statement.as_ref(),
            SqlStatement::Query(_)
                | SqlStatement::ExplainTable { .. }
                | SqlStatement::ShowTables { .. }
                | SqlStatement::ShowColumns { .. }
                | SqlStatement::ShowFunctions { .. }
                | SqlStatement::ShowVariable { .. }
        ),
        Statement::Explain(explain) => reads_only(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    }
}

fn refusal(source: Source<'_>, place: Place, verb: &str) -> QueryError {
    let message = format!("{verb} is refused: queries only read; write SELECT, EXPLAIN, DESCRIBE or SHOW");
    QueryError::ReadOnly(source.error_at(place, message))
}

fn explain_schema() -> SchemaRef {
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
