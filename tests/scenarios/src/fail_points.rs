//! The fail points of `olap ingest`, by the binary's own list, and what it takes to pass each: a test that goes through them forgets
//! none, and a new one is taken for one that every commit passes until it is named here.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Process, Program};
use crate::scenario::Scenario;

/// What has to happen for a fail point to be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Partitions arrive that the table does not know.
    Bootstrap,
    /// A batch with good and with rejected rows is committed.
    Commit,
    /// A batch is committed after another process was first.
    Fenced,
    /// An operator accepts a gap.
    Gap,
    /// A table lacks columns: no binary of today finds one of ours like that. `crates/lake/tests/columns_are_added_once.rs`.
    Widening,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailPoint {
    /// Its name.
    pub name: String,
    /// When it is passed.
    pub occasion: Occasion,
}

impl FailPoint {
    /// `program` dies there as by SIGKILL, at that passage.
    pub fn kills(&self, program: Program, passage: u32) -> Program {
        program.env("LOGINLAKE_FAIL_POINT", format!("{}:kill:{passage}", self.name))
    }

    /// The first passage fails as when the store is away.
    pub fn fails(&self, program: Program) -> Program {
        program.env("LOGINLAKE_FAIL_POINT", format!("{}:error", self.name))
    }
}

/// All of them, as the binary lists them when it is asked for one that is not there.
///
/// # Errors
/// When it is a release build, which has none.
pub fn all(scenario: &Scenario, limit: Duration) -> Result<Vec<FailPoint>> {
    let output = scenario.ingest().env("LOGINLAKE_FAIL_POINT", "list").run(limit)?;
    let (_, list) = output
        .stderr
        .split_once("there are: ")
        .with_context(|| format!("a release build has no fail points: {}", output.stderr))?;
    // Those of maintenance have a scenario of their own.
    let of_ingestion = list
        .trim()
        .split(", ")
        .filter(|name| !name.starts_with("maintenance-"));
    let found: Vec<FailPoint> = of_ingestion.map(named).collect();
    ensure!(found.len() > 20, "few fail points: {found:?}");
    Ok(found)
}

fn named(name: &str) -> FailPoint {
    let occasion = match name {
        "before-bootstrap" | "after-bootstrap" => Occasion::Bootstrap,
        "before-fenced-removal" | "after-fenced-removal" => Occasion::Fenced,
        "before-gap-commit" | "after-gap-commit" => Occasion::Gap,
        "before-widening" | "after-widening" => Occasion::Widening,
        _ => Occasion::Commit,
    };
    FailPoint {
        name: name.to_owned(),
        occasion,
    }
}

/// Whether SIGKILL ended it, rather than the end of the topic.
///
/// # Errors
/// When it ends with an error, or not within `limit`.
pub fn died(process: Process, limit: Duration) -> Result<bool> {
    match process.wait_exit(limit) {
        Err(error) if format!("{error:#}").contains("signal: 9") => Ok(true),
        Err(error) => Err(error),
        Ok(output) => output.ok().map(|_| false),
    }
}
