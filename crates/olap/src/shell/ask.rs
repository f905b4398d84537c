//! One statement, or the statements of one file: a session of their own over the newest state, the answer, and the line
//! that says what it stands for.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use chrono::Utc;
use loginlake_lake::TableName;
use loginlake_query::print::{Format, Printer};
use loginlake_query::{QueryEngine, QueryError, ResultSink, RunSummary, Script, View};
use loginlake_service::exit::{ExitError, colours_wanted};

use super::{INPUT, Shell};
use crate::fresh::receipt::Receipt;
use crate::fresh::{Fresh, FreshPosition, KafkaTail};
use crate::output::terminal_width;
use crate::setup::query_error;

impl Shell {
    /// Runs what a text holds, and prints each answer. Ctrl-C at the terminal stops it.
    pub(super) async fn ask(&mut self, sql: &str, source_name: &str) -> Result<(), ExitError> {
        let began = Instant::now();
        let script = Script::parse(sql, source_name).map_err(query_error)?;
        let (summary, receipt) = self.unless_interrupted(self.answer(&script)).await??;
        self.answers += summary.statements.len() as u64;
        for statement in summary.statements.iter().filter(|statement| statement.truncated) {
            eprintln!("only the first {} rows are shown (--max-rows)", statement.rows);
        }
        if self.timing {
            let rows: u64 = summary.statements.iter().map(|statement| statement.rows).sum();
            let word = if rows == 1 { "row" } else { "rows" };
            eprintln!("{rows} {word} in {}; {receipt}", shown(began.elapsed()));
        }
        Ok(())
    }

    /// At the terminal Ctrl-C drops the work, which stops it. From a pipe it ends the process as usual.
    async fn unless_interrupted<T>(&self, work: impl Future<Output = T>) -> Result<T, ExitError> {
        if !self.interactive {
            return Ok(work.await);
        }
        tokio::select! {
            result = work => Ok(result),
            _ = tokio::signal::ctrl_c() => Err(ExitError::failed("stopped by Ctrl-C")),
        }
    }

    async fn answer(&self, script: &Script) -> Result<(RunSummary, Receipt), ExitError> {
        let asked_at = Utc::now();
        let (view, fresh) = self.view(script).await?;
        let mut options = self.query.clone();
        // A table is laid out as a whole.
        options.max_rows = options.max_rows.or(self.format.default_max_rows());
        let engine = QueryEngine::open_view(&self.lake, options, view).map_err(query_error)?;
        let params = self.params.only(script.parameters());
        let mut printer = self.printer();
        let summary = engine
            .run_script(script, &params, &mut printer)
            .await
            .map_err(query_error)?;
        let receipt = Receipt::new(
            self.lake.uri(),
            (script.source_name(), script.sql()),
            asked_at,
            &engine.table_facts(),
            fresh.as_ref().map(|(position, tail)| (position, tail.as_ref())),
        );
        Ok((summary, receipt))
    }

    async fn view(
        &self,
        script: &Script,
    ) -> Result<(View, Option<(FreshPosition, Arc<KafkaTail>)>), ExitError> {
        match &self.source {
            Some(source) if self.fresh => {
                let Fresh { view, position, tail } = source.newest(&self.lake, &script.tables()).await?;
                Ok((view, Some((position, tail))))
            }
            _ => Ok((View::Newest, None)),
        }
    }

    fn printer(&self) -> Separated<Printer<BufWriter<io::Stdout>>> {
        // From a pipe, answers follow each other as those of one file do.
        let is_first = self.interactive || self.answers == 0;
        let has_gaps = matches!(self.format, Format::Table | Format::Csv);
        let is_terminal = io::stdout().is_terminal();
        let width = is_terminal.then(terminal_width).flatten();
        let printer = Printer::new(self.format, width, BufWriter::new(io::stdout()));
        Separated {
            gap: has_gaps && !is_first,
            inner: if is_terminal {
                printer.for_terminal(colours_wanted())
            } else {
                printer
            },
        }
    }

    /// The columns of one table.
    pub(super) async fn describe(&mut self, table: &str) -> Result<(), ExitError> {
        let names = TableName::ALL.map(TableName::as_str);
        if !names.contains(&table) {
            return Err(ExitError::failed(format!(
                "there is no table {table:?}; the tables are {}",
                names.join(", ")
            )));
        }
        self.ask(&format!("DESCRIBE {table}"), INPUT).await
    }

    /// The tables, as they are now.
    pub(super) async fn describe_tables(&mut self) -> Result<(), ExitError> {
        let engine = QueryEngine::open(&self.lake, self.query.clone()).map_err(query_error)?;
        let pinning = self.unless_interrupted(engine.pin(TableName::ALL));
        let facts = pinning.await?.map_err(query_error)?;
        let column = |name: &str, values: ArrayRef| (name.to_owned(), values, true);
        let names = facts.iter().map(|table| table.table.as_str());
        let columns = [
            column("table", Arc::new(StringArray::from_iter_values(names))),
            column(
                "version",
                Arc::new(facts.iter().map(|table| table.version).collect::<Int64Array>()),
            ),
            column(
                "rows",
                Arc::new(
                    facts
                        .iter()
                        .map(|table| table.version.and(table.rows).map(|rows| rows as i64))
                        .collect::<Int64Array>(),
                ),
            ),
            column(
                "newest_event",
                Arc::new(
                    facts
                        .iter()
                        .map(|table| table.newest_event_ms)
                        .collect::<TimestampMillisecondArray>(),
                ),
            ),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns)
            .map_err(|error| ExitError::failed(format!("cannot list the tables: {error}")))?;
        let mut printer = self.printer();
        let printed = printer
            .begin(&batch.schema())
            .and_then(|()| printer.rows(&batch))
            .and_then(|()| printer.end());
        self.answers += 1;
        printed.map_err(|error| query_error(QueryError::Output(error)))
    }
}

/// An empty line before the first answer, once there is one.
struct Separated<S> {
    gap: bool,
    inner: S,
}

impl<S: ResultSink> ResultSink for Separated<S> {
    fn begin(&mut self, schema: &arrow::datatypes::SchemaRef) -> io::Result<()> {
        if std::mem::take(&mut self.gap) {
            io::stdout().write_all(b"\n")?;
        }
        self.inner.begin(schema)
    }

    fn rows(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.inner.rows(batch)
    }

    fn end(&mut self) -> io::Result<()> {
        self.inner.end()
    }
}

fn shown(elapsed: Duration) -> String {
    let ms = elapsed.as_millis();
    if ms < 10_000 {
        format!("{ms} ms")
    } else {
        format!("{:.1} s", elapsed.as_secs_f64())
    }
}
