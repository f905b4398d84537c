//! What `realtime check` and `olap check` print, line by line.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::{Output, Program};

const LIMIT: Duration = Duration::from_secs(180);

/// What a check said, by area and subject.
pub struct Said {
    /// Each line as it is in the JSON.
    pub lines: BTreeMap<(String, String), Value>,
    /// All of it, for messages.
    pub shown: String,
}

impl Said {
    fn of(output: &Output) -> Result<Said> {
        let value = output.json()?;
        let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let checks = value["checks"].as_array().context("no checks")?;
        let lines: BTreeMap<_, _> = checks
            .iter()
            .map(|line| ((text(line, "area"), text(line, "what")), line.clone()))
            .collect();
        ensure!(lines.len() == checks.len(), "two lines of one subject: {value:#}");
        Ok(Said {
            lines,
            shown: format!("{value:#}"),
        })
    }

    /// Every line is ok.
    ///
    /// # Errors
    /// One is not.
    pub fn all_ok(&self) -> Result<()> {
        let bad = self.lines.values().find(|line| line["status"] != "ok");
        ensure!(bad.is_none(), "not all is ok: {}", self.shown);
        Ok(())
    }

    /// Of this area and subject the line says so, with these words in what was found, and every other line is ok.
    ///
    /// # Errors
    /// It is not so.
    pub fn only(&self, area: &str, what: &str, status: &str, words: &[&str]) -> Result<()> {
        self.has(area, what, status, words)?;
        let others = self.lines.iter().find(|((other_area, other), line)| {
            (other_area.as_str(), other.as_str()) != (area, what) && line["status"] != "ok"
        });
        ensure!(others.is_none(), "there is another complaint: {}", self.shown);
        Ok(())
    }

    /// Of this area and subject the line says so, with these words in what was found, and what to do.
    ///
    /// # Errors
    /// It is not so.
    pub fn has(&self, area: &str, what: &str, status: &str, words: &[&str]) -> Result<()> {
        let line = self
            .lines
            .get(&(area.to_owned(), what.to_owned()))
            .with_context(|| format!("no line on {area}: {what}: {}", self.shown))?;
        ensure!(
            line["status"] == status,
            "{area}: {what} is not {status}: {}",
            self.shown
        );
        for word in words {
            let found = line["found"].as_str().unwrap_or_default();
            ensure!(found.contains(word), "{word} is not in {line}");
        }
        ensure!(
            status == "ok" || line["advice"].as_str().is_some_and(|advice| !advice.is_empty()),
            "it does not say what to do: {line}"
        );
        Ok(())
    }
}

/// Runs a check, which must end with this code within three minutes.
///
/// # Errors
/// It ends otherwise, or prints no list.
pub fn check(program: &Program, code: i32) -> Result<Said> {
    let output = program.clone().args(["--format", "json"]).run(LIMIT)?;
    ensure!(
        output.code == code,
        "{} ended with {}\n{}{}",
        output.shown,
        output.code,
        output.stdout,
        output.stderr
    );
    ensure!(!output.stderr.contains("panicked"), "{}", output.stderr);
    Said::of(&output)
}
