//! A checklist of what a service needs, for `realtime check` and `olap check`: each line says what was looked at, what was found,
//! and, where it is not right, what to do. The list ends in a bounded time whatever answers, and changes nothing that anybody reads.
//!
//! - here: the lines, how they are written, and the exit code: 0 all is right or a warning, 1 something outside is wrong, 2 the
//!   configuration is;
//! - [`local`]: what this machine tells: the port, memory, open files.

pub mod local;

use std::fmt::Write as _;
use std::io::Write as _;

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::{ExitError, colours_on};

/// The area of what is wrong by itself: exit code 2.
pub const CONFIGURATION: &str = "configuration";

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warning,
    /// It does not work.
    Failed,
}

impl Status {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Self::Ok => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Failed => "\x1b[1;31m",
        }
    }
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it is about: `kafka`, `store`, …
    pub area: &'static str,
    /// What was looked at.
    pub what: String,
    /// How good it is.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How the list is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// A line for each, and one with what to do.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// All lines, in the order in which they were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checklist {
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Written<'a> {
    ok: usize,
    warning: usize,
    failed: usize,
    checks: &'a [Line],
}

impl Checklist {
    /// The lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// As it should be.
    pub fn ok(&mut self, area: &'static str, what: impl Into<String>, found: impl Into<String>) {
        self.add(area, what, Status::Ok, found, None);
    }

    /// It works, and somebody should know.
    pub fn warning(
        &mut self,
        area: &'static str,
        what: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(area, what, Status::Warning, found, Some(advice.into()));
    }

    /// It does not work.
    pub fn failed(
        &mut self,
        area: &'static str,
        what: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(area, what, Status::Failed, found, Some(advice.into()));
    }

    /// An error that says what to do itself, or has a hint.
    pub fn error(&mut self, area: &'static str, what: impl Into<String>, error: &ExitError) {
        let general = match area {
            CONFIGURATION => {
                "correct it: docs/CONFIGURATION.md has all keys, --print-config shows where a value comes from"
            }
            _ => "see the message, and the log of who said it",
        };
        let advice = error.hint.clone().unwrap_or_else(|| general.to_owned());
        self.failed(area, what, error.message.clone(), advice);
    }

    /// All lines of another list.
    pub fn extend(&mut self, other: Self) {
        self.lines.extend(other.lines);
    }

    fn add(
        &mut self,
        area: &'static str,
        what: impl Into<String>,
        status: Status,
        found: impl Into<String>,
        advice: Option<String>,
    ) {
        let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.lines.push(Line {
            area,
            what: what.into(),
            status,
            found: one_line(found.into()),
            advice: advice.map(one_line),
        });
    }

    fn count(&self, status: Status) -> usize {
        self.lines.iter().filter(|line| line.status == status).count()
    }

    /// Writes the list to standard output.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn print(&self, format: CheckFormat) -> Result<(), ExitError> {
        let stdout = std::io::stdout();
        let text = match format {
            CheckFormat::Text => self.text(colours_on(&stdout)),
            CheckFormat::Json => self.json(),
        };
        let mut out = stdout.lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(ExitError::stdout)
    }

    fn text(&self, colour: bool) -> String {
        let mut out = String::new();
        for line in &self.lines {
            let (on, off) = match colour {
                true => (line.status.colour(), "\x1b[0m"),
                false => ("", ""),
            };
            let _ = writeln!(
                out,
                "{on}{:<7}{off}  {}: {}: {}",
                line.status.word(),
                line.area,
                line.what,
                line.found
            );
            if let Some(advice) = &line.advice {
                let _ = writeln!(out, "         what to do: {advice}");
            }
        }
        let _ = writeln!(
            out,
            "{} ok, {} warning, {} failed",
            self.count(Status::Ok),
            self.count(Status::Warning),
            self.count(Status::Failed)
        );
        out
    }

    fn json(&self) -> String {
        let written = Written {
            ok: self.count(Status::Ok),
            warning: self.count(Status::Warning),
            failed: self.count(Status::Failed),
            checks: &self.lines,
        };
        // Texts and numbers are always JSON.
        let text = serde_json::to_string_pretty(&written).unwrap_or_default();
        format!("{text}\n")
    }

    /// The end of a check: an error where a line failed.
    ///
    /// # Errors
    /// Code 2 when the configuration is wrong, else 1.
    pub fn result(&self) -> Result<(), ExitError> {
        let failed = self.count(Status::Failed);
        if failed == 0 {
            return Ok(());
        }
        let text = format!("{failed} of {} checks failed", self.lines.len());
        let is_configuration = |line: &Line| line.area == CONFIGURATION && line.status == Status::Failed;
        Err(match self.lines.iter().any(is_configuration) {
            true => ExitError::usage(text),
            false => ExitError::failed(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCode;

    fn list() -> Checklist {
        let mut list = Checklist::default();
        list.ok("kafka", "brokers", "3 at\nkafka:9092");
        list.warning("kafka", "topic a", "one replica", "use three");
        list
    }

    #[test]
    fn a_line_says_what_was_found_and_the_next_one_what_to_do() {
        assert_eq!(
            list().text(false),
            "ok       kafka: brokers: 3 at kafka:9092\nwarning  kafka: topic a: one replica\n         what to do: use three\n1 ok, \
             1 warning, 0 failed\n"
        );
        assert!(list().text(true).starts_with("\x1b[32mok     \x1b[0m  kafka"));
    }

    #[test]
    fn the_same_is_in_the_json() {
        let value: serde_json::Value = serde_json::from_str(&list().json()).expect("JSON");
        assert_eq!(
            (&value["ok"], &value["warning"], &value["failed"]),
            (&1.into(), &1.into(), &0.into())
        );
        assert_eq!(value["checks"][1]["status"], "warning");
        assert_eq!(value["checks"][1]["advice"], "use three");
        assert!(value["checks"][0].get("advice").is_none());
    }

    #[test]
    fn the_code_says_whose_fault_it_is() {
        let mut list = list();
        assert!(list.result().is_ok(), "a warning is no failure");
        list.failed("store", "reachable", "nobody answers", "start it");
        let error = list.result().expect_err("failed");
        assert_eq!(
            (error.code, error.message.as_str()),
            (ExitCode::Failed, "1 of 3 checks failed")
        );
        list.failed(CONFIGURATION, "--mask-ip", "two at once", "choose");
        assert_eq!(list.result().expect_err("failed").code, ExitCode::Usage);
    }
}
