//! `olap shell`: statements one after another, at the terminal or from a pipe.
//!
//! Each statement sees its own, newest version of the tables, which the line below its answer names; with `\fresh on` also
//! the records of the topic beyond it. It only reads, as `olap query` does. At the terminal an error ends its statement and
//! Ctrl-C stops it; the shell stays. From a pipe the first error ends the run, with the line of the input.
//!
//! - [`text`]: lines into statements;
//! - [`command`]: what begins with a backslash;
//! - [`complete`]: what Tab offers;
//! - [`editor`]: the terminal and its history;
//! - `ask`: one statement, run and printed;
//! - this file: the loop over what is typed or read.

mod ask;
pub mod command;
pub mod complete;
pub mod editor;
pub mod text;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use loginlake_lake::Lake;
use loginlake_query::print::Format;
use loginlake_query::{Params, QueryOptions, function_names};
use loginlake_service::exit::ExitError;

use crate::fresh::FreshSource;
use command::Command;
use complete::Names;
use editor::{Input, Terminal};
use text::{Splitter, Statement};

/// How errors call what is typed or piped in.
const INPUT: &str = "input";
/// Bytes of a file that `\i` reads.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// Sets up the source of fresh records; it is called when they are asked for first.
pub type OpenSource = Arc<dyn Fn() -> Result<Arc<FreshSource>, ExitError> + Send + Sync>;

/// What a shell is started with.
pub struct ShellOptions {
    /// The lake.
    pub lake: Lake,
    /// Limits of each statement.
    pub query: QueryOptions,
    /// How answers are written at first.
    pub format: Format,
    /// Values of parameters at first.
    pub params: Params,
    /// File of the history; None: no history.
    pub history: Option<PathBuf>,
    /// Where fresh records come from.
    pub open_source: OpenSource,
    /// Neither greeting nor timing.
    pub quiet: bool,
}

impl std::fmt::Debug for ShellOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShellOptions")
            .field("lake", &self.lake)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

/// What the user has set.
struct Shell {
    lake: Lake,
    query: QueryOptions,
    format: Format,
    params: Params,
    timing: bool,
    fresh: bool,
    source: Option<Arc<FreshSource>>,
    open_source: OpenSource,
    /// Whether somebody sits in front of it.
    interactive: bool,
    /// Answers that were written so far.
    answers: u64,
}

/// Whether the loop goes on.
enum Next {
    Go,
    Quit,
}

/// Reads and answers until the input ends.
///
/// # Errors
/// From a pipe: the first error of a statement or a command. At the terminal: the terminal fails, or stdout is gone.
pub async fn run(options: ShellOptions) -> Result<(), ExitError> {
    let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    let mut shell = Shell {
        lake: options.lake,
        query: options.query,
        format: options.format,
        params: options.params,
        timing: interactive && !options.quiet,
        fresh: false,
        source: None,
        open_source: options.open_source,
        interactive,
        answers: 0,
    };
    if interactive {
        if !options.quiet {
            eprintln!(
                "olap {}, lake {}. \\? lists the commands, Ctrl-D leaves.",
                env!("CARGO_PKG_VERSION"),
                shell.lake.uri()
            );
        }
        shell.at_terminal(options.history).await
    } else {
        shell.at_pipe().await
    }
}

impl Shell {
    async fn at_terminal(&mut self, history: Option<PathBuf>) -> Result<(), ExitError> {
        let failed = |error: io::Error| ExitError::failed(format!("the terminal cannot be read: {error}"));
        let mut terminal = Terminal::open(Names::new(function_names()), history).map_err(failed)?;
        // From now on Ctrl-C does not end the process: it is either a key of the editor, or stops a statement.
        let caught = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
        let _caught = caught.map_err(failed)?;
        loop {
            let prompt = if self.fresh { "olap (fresh)> " } else { "olap> " };
            let text = match terminal.read(prompt).map_err(failed)? {
                Input::Text(text) => text,
                Input::Interrupted => continue,
                Input::End => return Ok(()),
            };
            match self.typed(&text).await {
                Ok(Next::Go) => {}
                Ok(Next::Quit) => return Ok(()),
                // Without a terminal to write to there is nobody to talk to.
                Err(error) if error.is_quiet() => return Err(error),
                Err(error) => show(&error),
            }
        }
    }

    async fn typed(&mut self, text: &str) -> Result<Next, ExitError> {
        if text.trim_start().starts_with('\\') {
            return self.command(text).await;
        }
        let mut splitter = Splitter::default();
        let statements = splitter.push(text).map_err(ExitError::failed)?;
        for statement in statements {
            self.ask(&statement.padded(), INPUT).await?;
        }
        Ok(Next::Go)
    }

    async fn at_pipe(&mut self) -> Result<(), ExitError> {
        let mut splitter = Splitter::default();
        let mut number = 0;
        while let Some(line) = next_line().await? {
            number += 1;
            let at = |mut error: ExitError| {
                error.message = format!("{INPUT}:{number}: {}", error.message);
                error
            };
            if splitter.is_between_statements() && line.trim_start().starts_with('\\') {
                match self.command(&line).await.map_err(at)? {
                    Next::Go => {}
                    Next::Quit => return Ok(()),
                }
                // The line counts, for the places of statements.
                splitter.push("\n").map_err(ExitError::failed)?;
                continue;
            }
            for statement in splitter.push(&line).map_err(ExitError::failed)? {
                self.piped(&statement).await?;
            }
        }
        match splitter.finish() {
            Some(statement) => self.piped(&statement).await,
            None => Ok(()),
        }
    }

    async fn piped(&mut self, statement: &Statement) -> Result<(), ExitError> {
        self.ask(&statement.padded(), INPUT).await
    }

    async fn command(&mut self, line: &str) -> Result<Next, ExitError> {
        match line.parse::<Command>().map_err(ExitError::failed)? {
            Command::Help => self.say(command::HELP)?,
            Command::Quit => return Ok(Next::Quit),
            Command::Tables => self.describe_tables().await?,
            Command::Columns(table) => self.describe(&table).await?,
            Command::Format(None) => self.say(&format!("format {}\n", self.format))?,
            Command::Format(Some(format)) => self.format = format,
            Command::Timing(wanted) => {
                self.timing = wanted.unwrap_or(!self.timing);
                self.confirm("timing", self.timing);
            }
            Command::Fresh(wanted) => {
                self.set_fresh(wanted.unwrap_or(!self.fresh)).await?;
                self.confirm("fresh", self.fresh);
            }
            Command::Param(None) => {
                let values: String = self
                    .params
                    .iter()
                    .map(|(name, value)| format!("{name}={value:?}\n"))
                    .collect();
                self.say(if values.is_empty() {
                    "no parameter has a value\n"
                } else {
                    &values
                })?;
            }
            Command::Param(Some((name, value))) => {
                self.params.set(name, value);
            }
            Command::Unset(name) => {
                if self.params.remove(&name).is_none() {
                    return Err(ExitError::failed(format!("the parameter {name} has no value")));
                }
            }
            Command::Include(path) => {
                let sql = read_file(&path)?;
                self.ask(&sql, &path.display().to_string()).await?;
            }
        }
        Ok(Next::Go)
    }

    async fn set_fresh(&mut self, wanted: bool) -> Result<(), ExitError> {
        if wanted && self.source.is_none() {
            let open = Arc::clone(&self.open_source);
            // The client of a schema registry cannot be set up within an async task.
            let opened = tokio::task::spawn_blocking(move || open()).await;
            let opened = opened.map_err(|error| ExitError::failed(format!("a thread ended: {error}")))?;
            self.source = Some(opened?);
        }
        self.fresh = wanted;
        Ok(())
    }

    /// A setting that was just changed, for somebody who sits in front of it.
    fn confirm(&self, name: &str, is_on: bool) {
        if self.interactive {
            eprintln!("{name} is {}", if is_on { "on" } else { "off" });
        }
    }

    fn say(&self, text: &str) -> Result<(), ExitError> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(ExitError::stdout)
    }
}

/// An error as the end of a process would show it; the shell goes on.
fn show(error: &ExitError) {
    eprintln!("error: {}", error.message);
    if let Some(excerpt) = &error.excerpt {
        eprintln!("{excerpt}");
    }
    if let Some(hint) = &error.hint {
        eprintln!("hint: {hint}");
    }
}

fn read_file(path: &Path) -> Result<String, ExitError> {
    use std::io::Read;
    let cannot =
        |error: &dyn std::fmt::Display| ExitError::usage(format!("cannot read {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| cannot(&error))?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| cannot(&error))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(cannot(&format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    Ok(text)
}

/// The next line of stdin with its end, read where waiting does not hold up a query's threads.
async fn next_line() -> Result<Option<String>, ExitError> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let limit = text::MAX_STATEMENT_BYTES as u64 + 1;
        let mut stdin = io::Read::take(io::stdin().lock(), limit);
        stdin.read_line(&mut line).map(|_| line)
    });
    let read = read
        .await
        .map_err(|error| ExitError::failed(format!("a thread ended: {error}")))?;
    let line = read.map_err(|error| ExitError::usage(format!("cannot read the input: {error}")))?;
    Ok((!line.is_empty()).then_some(line))
}
