//! Where the results of a query go: as text or Parquet to standard output or a file, as a chart beside or instead.
//!
//! A file is there whole or not at all: what is written goes into a new file, which takes its name once everything went
//! well ([`Output::finish`]). Nothing in a result reaches a terminal as a command; colours are for terminals only, and
//! `NO_COLOR` leaves them out.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use clap::Args;
use loginlake_query::chart::{Chart, ChartError, ChartSink, ChartTarget};
use loginlake_query::print::file::WholeFile;
use loginlake_query::print::{Format, PrintError, Printer};
use loginlake_query::{QueryError, ResultSink};
use loginlake_service::exit::{ExitError, colours_wanted};

use crate::setup;

/// Columns of a chart in text when nobody says how wide the terminal is.
const CHART_WIDTH: usize = 100;

/// How and where results are written.
#[derive(Args, Clone, Debug)]
pub struct OutputArgs {
    /// table, csv, json, ndjson or parquet [default: what the name of the output file says, else table]
    #[arg(long, value_name = "FORMAT", value_parser = Format::from_str)]
    format: Option<Format>,
    /// File for the result instead of standard output: there whole or not at all
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Draw the result as well: bars, hours, a heat map or lines, as its columns ask for; - draws in the terminal
    #[arg(long, value_name = "FILE.svg|FILE.png|-", value_parser = ChartTarget::from_str, allow_hyphen_values = true)]
    chart: Option<ChartTarget>,
}

impl OutputArgs {
    /// The file, unless it is `-`.
    fn file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    fn format(&self) -> Format {
        let of_file = || self.file().and_then(Format::of_file);
        self.format.or_else(of_file).unwrap_or_default()
    }

    /// Rows that a result has at most unless the user says otherwise: a chart is of the whole result.
    pub fn default_max_rows(&self) -> Option<u64> {
        match self.chart {
            Some(_) => None,
            None => self.format().default_max_rows(),
        }
    }

    /// Begins the output: every file that will be written.
    ///
    /// # Errors
    /// A usage error for what does not go together, and for a file that cannot be made.
    pub fn open(&self) -> Result<Output, ExitError> {
        let is_terminal = io::stdout().is_terminal();
        let format = self.format();
        let in_terminal = self.chart == Some(ChartTarget::Terminal);
        if in_terminal && self.file().is_none() && self.format.is_some() {
            return Err(ExitError::usage(format!(
                "--chart - and --format {format} both write to standard output: add --output FILE"
            )));
        }
        if format == Format::Parquet && self.file().is_none() && is_terminal {
            return Err(ExitError::usage(
                "--format parquet is not for a terminal: add --output FILE, or send standard output to a file",
            ));
        }
        let printer = match self.file() {
            Some(path) => {
                let file = create(path)?;
                Some(Printer::new(format, None, Sink::File(Box::new(file))))
            }
            None if in_terminal => None,
            None => {
                let width = is_terminal.then(terminal_width).flatten();
                let printer = Printer::new(format, width, Sink::Stdout(BufWriter::new(io::stdout())));
                Some(if is_terminal {
                    printer.for_terminal(colours_wanted())
                } else {
                    printer
                })
            }
        };
        let chart = match &self.chart {
            None => None,
            Some(target) => Some(Drawing {
                sink: ChartSink::default(),
                file: match target {
                    ChartTarget::Terminal => None,
                    ChartTarget::Svg(path) | ChartTarget::Png(path) => Some(create(path)?),
                },
                target: target.clone(),
            }),
        };
        Ok(Output {
            printer,
            chart,
            path: self.file().map(Path::to_owned),
            is_terminal,
        })
    }
}

fn create(path: &Path) -> Result<WholeFile, ExitError> {
    WholeFile::create(path).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> ExitError {
    ExitError::failed(format!("cannot write {}: {error}", path.display()))
}

/// Columns of the terminal: what `COLUMNS` says, else what the terminal says.
pub fn terminal_width() -> Option<usize> {
    let said = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    let said = said.filter(|columns| *columns > 0);
    said.or_else(|| terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0)))
}

/// Receives the results of one run.
#[derive(Debug)]
pub struct Output {
    printer: Option<Printer<Sink>>,
    chart: Option<Drawing>,
    /// Where the printer writes, if not to standard output.
    path: Option<PathBuf>,
    is_terminal: bool,
}

#[derive(Debug)]
struct Drawing {
    sink: ChartSink,
    target: ChartTarget,
    file: Option<WholeFile>,
}

#[derive(Debug)]
enum Sink {
    Stdout(BufWriter<Stdout>),
    File(Box<WholeFile>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

impl Output {
    /// Writes with the printer. A reader of standard output that has enough does not keep a chart from being drawn.
    fn print(&mut self, write: impl FnOnce(&mut Printer<Sink>) -> io::Result<()>) -> io::Result<()> {
        let Some(printer) = &mut self.printer else {
            return Ok(());
        };
        match write(printer) {
            Err(error)
                if error.kind() == io::ErrorKind::BrokenPipe
                    && self.chart.is_some()
                    && self.path.is_none() =>
            {
                self.printer = None;
                Ok(())
            }
            written => written,
        }
    }

    /// An error of the run as an exit. What does not fit a format or a chart is wrong by itself: code 2.
    pub fn error(&self, error: QueryError) -> ExitError {
        match error {
            QueryError::Output(error) => self.write_error(error),
            other => setup::query_error(other),
        }
    }

    fn write_error(&self, error: io::Error) -> ExitError {
        if error
            .get_ref()
            .is_some_and(|inner| inner.is::<PrintError>() || inner.is::<ChartError>())
        {
            return ExitError::usage(error);
        }
        match &self.path {
            Some(path) => cannot_write(path, &error),
            None => ExitError::stdout(error),
        }
    }

    /// Puts the files in their places, and draws. `title`: of the chart; `left_out`: what of the result it does not have.
    /// Gives what was drawn.
    ///
    /// # Errors
    /// When no chart fits the result: no file is there then. When a file cannot be written: that file is not there.
    pub fn finish(
        mut self,
        title: Option<&str>,
        left_out: Option<String>,
    ) -> Result<Option<Chart>, ExitError> {
        let drawn = match self.chart.take() {
            None => None,
            Some(drawing) => {
                let mut chart = drawing.sink.finish(title).map_err(chart_error)?;
                if let Some(left_out) = left_out {
                    chart = chart.with_note(left_out);
                }
                let bytes = match &drawing.target {
                    ChartTarget::Svg(_) => chart.svg().into_bytes(),
                    ChartTarget::Png(_) => chart.png().map_err(chart_error)?,
                    ChartTarget::Terminal => {
                        let width = terminal_width().unwrap_or(CHART_WIDTH);
                        let colours = self.is_terminal && colours_wanted();
                        chart.text(width, colours).into_bytes()
                    }
                };
                Some((chart, drawing.target, drawing.file, bytes))
            }
        };
        if let Some(printer) = self.printer.take()
            && let Sink::File(file) = printer.into_inner()
        {
            file.finish().map_err(|error| self.write_error(error))?;
        }
        let Some((chart, target, file, bytes)) = drawn else {
            return Ok(None);
        };
        match (target, file) {
            (ChartTarget::Svg(path) | ChartTarget::Png(path), Some(mut file)) => {
                let written = file.write_all(&bytes).and_then(|()| file.finish());
                written.map_err(|error| cannot_write(&path, &error))?;
            }
            _ => {
                let mut out = io::stdout();
                let written = out.write_all(&bytes).and_then(|()| out.flush());
                written.map_err(ExitError::stdout)?;
            }
        }
        Ok(Some(chart))
    }
}

fn chart_error(error: ChartError) -> ExitError {
    match error {
        ChartError::Value(_) | ChartError::Picture(_) => ExitError::failed(error),
        other => ExitError::usage(other),
    }
}

impl ResultSink for Output {
    fn begin(&mut self, schema: &SchemaRef) -> io::Result<()> {
        if let Some(drawing) = &mut self.chart {
            drawing.sink.begin(schema)?;
        }
        self.print(|printer| printer.begin(schema))
    }

    fn rows(&mut self, batch: &RecordBatch) -> io::Result<()> {
        if let Some(drawing) = &mut self.chart {
            drawing.sink.rows(batch)?;
        }
        self.print(|printer| printer.rows(batch))
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some(drawing) = &mut self.chart {
            drawing.sink.end()?;
        }
        self.print(ResultSink::end)
    }
}
