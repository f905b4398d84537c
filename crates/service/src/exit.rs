//! How a process ends: one line on stderr that says what was wrong, a second one that says what to do, and a code
//! that scripts can rely on. No backtrace, no terminal control sequence from outside, no half sentence.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal, Write};

use clap::Command;
use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};

/// The codes of every binary; 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// The work failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Going on would lose data or act for somebody else: fenced, or data loss refused.
    Refused = 3,
}

/// Why a process ends before its work is done.
#[derive(Debug)]
pub struct ExitError {
    /// The code of the process.
    pub code: ExitCode,
    /// What was wrong, with its whole chain of causes, on one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Lines to be shown below the message as they are: the place in a text, with a caret.
    pub excerpt: Option<String>,
    quiet: bool,
}

impl ExitError {
    /// The work failed: code 1. An `anyhow::Error` is shown with its causes; for other errors with sources use
    /// [`ExitError::caused_by`].
    pub fn failed(message: impl Display) -> Self {
        Self::new(ExitCode::Failed, message)
    }

    /// The command line or the configuration is wrong: code 2.
    pub fn usage(message: impl Display) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// Fenced, or data loss refused: code 3.
    pub fn refused(message: impl Display) -> Self {
        Self::new(ExitCode::Refused, message)
    }

    /// `error` and everything that caused it, joined with `: `. A cause that its parent's text already ends with is
    /// not said twice.
    pub fn caused_by(code: ExitCode, error: &(dyn Error + 'static)) -> Self {
        Self {
            code,
            message: one_line(&chain(error)),
            hint: None,
            excerpt: None,
            quiet: false,
        }
    }

    /// Writing to standard output failed. A reader that went away (`| head`) has what it wanted: the process ends
    /// quietly and with code 0. Use this for standard output only: a broken pipe anywhere else is a failure.
    pub fn stdout(error: io::Error) -> Self {
        let quiet = error.kind() == io::ErrorKind::BrokenPipe;
        Self {
            quiet,
            ..Self::failed(format_args!("cannot write to standard output: {error}"))
        }
    }

    /// Whether the process ends with it without a word: whoever read its output has gone.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The same error with lines that show the place. They must be free of control characters but for their line ends.
    #[must_use]
    pub fn with_excerpt(mut self, excerpt: impl Into<String>) -> Self {
        self.excerpt = Some(excerpt.into());
        self
    }

    /// The same error with a second line that says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(one_line(&hint.to_string()));
        self
    }

    fn new(code: ExitCode, message: impl Display) -> Self {
        Self {
            code,
            message: one_line(&format!("{message:#}")),
            hint: None,
            excerpt: None,
            quiet: false,
        }
    }

    /// Writes the `error:` line and, where there is one, the `hint:` line. A quiet error writes nothing.
    fn report(&self, out: &mut impl Write, colour: bool) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let (red, cyan, plain) = if colour {
            ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        writeln!(out, "{red}error:{plain} {}", self.message)?;
        for line in self.excerpt.iter().flat_map(|excerpt| excerpt.lines()) {
            writeln!(out, "{line}")?;
        }
        if let Some(hint) = &self.hint {
            writeln!(out, "{cyan}hint:{plain} {hint}")?;
        }
        Ok(())
    }
}

impl Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ExitError {}

/// Code 1 with the whole chain; an [`ExitError`] inside keeps its code and its hint.
impl From<anyhow::Error> for ExitError {
    fn from(error: anyhow::Error) -> Self {
        let message = chain(error.as_ref());
        match error.downcast::<ExitError>() {
            Ok(inner) => Self {
                message: one_line(&message),
                ..inner
            },
            Err(_) => Self::failed(message),
        }
    }
}

/// Reads the command line. Help and version are printed as usual and end the process with code 0; a wrong command
/// line becomes a [`ExitCode::Usage`] error of one line.
///
/// # Errors
/// The command line does not fit the definition of `T`.
pub fn parse_args<T: clap::Parser>() -> Result<T, ExitError> {
    parse_matches().map(|(args, _)| args)
}

/// The same, with what clap found: where each value comes from.
///
/// # Errors
/// As [`parse_args`].
pub fn parse_matches<T: clap::Parser>() -> Result<(T, clap::ArgMatches), ExitError> {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let mut command = without_empty_variables(T::command(), is_empty);
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    let matches = matches.map_err(|error| {
        let from = variable_behind(&error, &command, std::env::args_os())
            .filter(|name| std::env::var_os(name).is_some());
        let error = shown_or_refused(error);
        match from {
            Some(name) if is_empty(&name) => error.with_hint(format_args!(
                "the variable {} is empty: give it a value, or unset it",
                name.display()
            )),
            Some(name) => error.with_hint(format_args!(
                "it is the value of the variable {}; --help lists what is accepted",
                name.display()
            )),
            None => error,
        }
    })?;
    match T::from_arg_matches(&matches) {
        Ok(args) => Ok((args, matches)),
        Err(error) => Err(shown_or_refused(error.format(&mut command))),
    }
}

/// OpenTelemetry and OpenLineage say of their variables that an empty one counts as not set. Ours are not meant so: an empty
/// `LOGINLAKE_MASK_IP` is a template that went wrong, and should not switch something off without a word.
fn without_empty_variables(command: Command, is_empty: impl Fn(&OsStr) -> bool + Copy) -> Command {
    let is_theirs = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        name.starts_with(b"OTEL_") || name.starts_with(b"OPENLINEAGE_")
    };
    command
        .mut_args(|arg| match arg.get_env() {
            Some(name) if is_theirs(name) && is_empty(name) => arg.env(Resettable::Reset),
            _ => arg,
        })
        .mut_subcommands(|inner| without_empty_variables(inner, is_empty))
}

/// The variable that a value came from which nobody could read; none: it is from the command line.
fn variable_behind(
    error: &clap::Error,
    command: &Command,
    line: impl Iterator<Item = OsString>,
) -> Option<OsString> {
    let ContextValue::String(shown) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    let long = shown.strip_prefix("--")?.split([' ', '=']).next()?;
    let is_given = |word: &OsString| {
        let word = word.to_string_lossy();
        let rest = word.strip_prefix("--").and_then(|word| word.strip_prefix(long));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    if line.skip(1).any(|word| is_given(&word)) {
        return None;
    }
    variable_of(command, long)
}

fn variable_of(command: &Command, long: &str) -> Option<OsString> {
    let own = command.get_arguments().find(|arg| arg.get_long() == Some(long));
    own.and_then(|arg| arg.get_env())
        .map(OsStr::to_owned)
        .or_else(|| {
            command
                .get_subcommands()
                .find_map(|inner| variable_of(inner, long))
        })
}

/// Help and version are shown, and end the process.
fn shown_or_refused(error: clap::Error) -> ExitError {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand as MissingHelp, DisplayVersion,
    };
    match error.kind() {
        DisplayHelp | DisplayVersion | MissingHelp => error.exit(),
        _ => from_clap(&error),
    }
}

/// The first paragraph of clap's text is the error; its tips become the hint.
fn from_clap(error: &clap::Error) -> ExitError {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let paragraph: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let tips: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "))
        .collect();
    let exit = ExitError::usage(paragraph.join(" "));
    if tips.is_empty() {
        exit.with_hint("--help lists what is accepted")
    } else {
        exit.with_hint(tips.join("; "))
    }
}

/// Reports the error, if there is one, on stderr and gives the code for `main` to return.
pub fn finish(result: Result<(), ExitError>) -> std::process::ExitCode {
    let Err(error) = result else {
        return std::process::ExitCode::SUCCESS;
    };
    let stderr = io::stderr();
    let colour = colours_on(&stderr);
    // When stderr is gone, the code is all that is left to say it with.
    let _ = error.report(&mut stderr.lock(), colour);
    if error.quiet {
        std::process::ExitCode::SUCCESS
    } else {
        std::process::ExitCode::from(error.code as u8)
    }
}

/// Whether `NO_COLOR` leaves colours on (<https://no-color.org>: any value that is not empty switches them off).
pub fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether what is written there may be coloured: as clap decides it for its own texts.
pub fn colours_on(stream: &impl IsTerminal) -> bool {
    coloured(stream.is_terminal(), |name| {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    })
}

/// `NO_COLOR` that is not empty: never. Else `CLICOLOR_FORCE` that is neither empty nor 0: always. Else only on a terminal,
/// unless `CLICOLOR` is 0 or the terminal is a dumb one (<https://bixense.com/clicolors>).
fn coloured(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let is_zero = |name: &str| variable(name).is_some_and(|value| value == "0");
    if is_set("NO_COLOR") {
        return false;
    }
    if is_set("CLICOLOR_FORCE") && !is_zero("CLICOLOR_FORCE") {
        return true;
    }
    is_terminal && !is_zero("CLICOLOR") && variable("TERM").is_none_or(|term| term != "dumb")
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !text.is_empty() && !message.ends_with(&text) {
            let _ = write!(message, ": {text}");
        }
        cause = error.source();
    }
    message
}

/// One line, whatever it was: white space is collapsed, other control characters are escaped.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        for character in word.chars() {
            if character.is_control() {
                line.extend(character.escape_default())
            } else {
                line.push(character)
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    fn reported(error: &ExitError, colour: bool) -> String {
        let mut out = Vec::new();
        error.report(&mut out, colour).expect("a vector takes everything");
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn an_error_is_one_line_and_a_hint_is_the_next() {
        let error = ExitError::usage("no topic\n`x`").with_hint("make it:\n  --create-topics");
        assert_eq!(
            reported(&error, false),
            "error: no topic `x`\nhint: make it: --create-topics\n"
        );
    }

    #[test]
    fn colours_are_only_there_when_asked_for() {
        assert_eq!(
            reported(&ExitError::failed("x"), true),
            "\x1b[1;31merror:\x1b[0m x\n"
        );
        assert_eq!(
            reported(&ExitError::failed("\x1b[31mred"), false),
            "error: \\u{1b}[31mred\n"
        );
    }

    #[test]
    fn the_whole_chain_is_joined_and_nothing_is_said_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot commit: {source}")]
        struct Commit {
            source: io::Error,
        }
        let commit = Commit {
            source: io::Error::other("disk is full"),
        };
        assert_eq!(
            ExitError::caused_by(ExitCode::Failed, &commit).message,
            "cannot commit: disk is full"
        );

        let error: anyhow::Result<()> = Err(commit).context("batch 7");
        let exit = ExitError::from(error.expect_err("an error"));
        assert_eq!(
            (exit.code, exit.message.as_str()),
            (ExitCode::Failed, "batch 7: cannot commit: disk is full")
        );
    }

    #[test]
    fn an_exit_error_keeps_its_code_and_hint_on_its_way_through_anyhow() {
        let error = anyhow::Error::new(ExitError::refused("fenced").with_hint("stop the other one"));
        let exit = ExitError::from(error.context("partition 3"));
        assert_eq!(exit.code, ExitCode::Refused);
        assert_eq!(exit.message, "partition 3: fenced");
        assert_eq!(exit.hint.as_deref(), Some("stop the other one"));
    }

    #[test]
    fn only_a_closed_stdout_is_quiet() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(reported(&ExitError::stdout(closed()), false), "");
        assert!(
            reported(&ExitError::stdout(io::Error::other("disk is full")), false).contains("disk is full")
        );
        assert!(!reported(&ExitError::from(anyhow::Error::new(closed())), false).is_empty());
    }

    #[test]
    fn colours_are_for_terminals_unless_a_variable_says_otherwise() {
        let on = |is_terminal, variables: &[(&str, &str)]| {
            coloured(is_terminal, |name| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(on(true, &[("TERM", "xterm")]) && !on(false, &[]));
        assert!(!on(true, &[("NO_COLOR", "1")]) && on(true, &[("NO_COLOR", "")]));
        assert!(on(false, &[("CLICOLOR_FORCE", "1")]) && !on(false, &[("CLICOLOR_FORCE", "0")]));
        assert!(!on(false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(!on(true, &[("CLICOLOR", "0")]) && !on(true, &[("TERM", "dumb")]));
    }

    #[test]
    fn a_wrong_command_line_is_one_line_with_a_hint() {
        #[derive(clap::Parser, Debug)]
        struct Args {
            #[arg(long)]
            brokers: Option<String>,
        }
        let parse = |flag| <Args as clap::Parser>::try_parse_from(["x", flag]).expect_err("a wrong flag");
        let exit = from_clap(&parse("--broker"));
        assert_eq!(exit.code, ExitCode::Usage);
        assert_eq!(exit.message, "unexpected argument '--broker' found");
        assert!(exit.hint.expect("a hint").contains("--brokers"));
        assert_eq!(
            from_clap(&parse("--zzz")).hint.as_deref(),
            Some("--help lists what is accepted")
        );
    }

    #[derive(clap::Parser, Debug)]
    struct Service {
        #[command(subcommand)]
        command: ServiceCommand,
    }

    #[derive(clap::Subcommand, Debug)]
    enum ServiceCommand {
        Run {
            #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG")]
            ratio: Option<f64>,
            #[arg(long, env = "LOGINLAKE_WORKERS")]
            workers: Option<u16>,
        },
    }

    #[test]
    fn an_empty_variable_of_opentelemetry_counts_as_not_set() {
        let variables = |is_empty: bool| {
            let command = without_empty_variables(<Service as clap::CommandFactory>::command(), |_| is_empty);
            let run = command.find_subcommand("run").expect("a command");
            let names = run.get_arguments().filter_map(|arg| arg.get_env());
            names
                .map(|name| name.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(variables(false), ["OTEL_TRACES_SAMPLER_ARG", "LOGINLAKE_WORKERS"]);
        assert_eq!(variables(true), ["LOGINLAKE_WORKERS"]);
    }

    #[test]
    fn a_wrong_value_is_told_by_the_variable_that_it_came_from() {
        let mut command = <Service as clap::CommandFactory>::command();
        let line = ["x", "run", "--workers", "many"];
        let error = command
            .try_get_matches_from_mut(line)
            .expect_err("no number of workers");
        let behind = |words: &[&str]| variable_behind(&error, &command, words.iter().map(OsString::from));
        assert_eq!(behind(&["x", "run"]), Some(OsString::from("LOGINLAKE_WORKERS")));
        assert_eq!(behind(&line), None);
        assert_eq!(behind(&["x", "run", "--workers=many"]), None);
    }
}
