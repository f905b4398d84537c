//! The commits of a table as they lie in its `_delta_log`, read as JSON without any of our code: which offsets each
//! covers, which files and rows it adds and takes, and whether they follow each other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::scenario::Scenario;
use crate::wait::wait_for;

mod law;

pub use law::next_offsets;

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The version that it made.
    pub version: i64,
    /// Delta's name of the operation.
    pub operation: String,
    /// Application id → version, of its `txn` actions.
    pub transactions: BTreeMap<String, i64>,
    /// Kafka partition → (from, to), as the commit says what it covers; empty when it covers nothing.
    pub offsets: BTreeMap<i32, (i64, i64)>,
    /// Kafka partition → (from, to) of the gaps that an operator accepted by it.
    pub gaps: BTreeMap<i32, (i64, i64)>,
    /// Files added.
    pub adds: usize,
    /// Files removed.
    pub removes: usize,
    /// Whether a file was added or removed with `dataChange`.
    pub changes_data: bool,
    /// The files that it adds.
    added: Vec<AddedFile>,
    /// The paths of the files that it removes.
    removed: Vec<String>,
    /// Rows that it says it erased.
    erased_rows: u64,
    /// The version that it says it restored.
    restored: Option<i64>,
}

/// A file as its `add` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AddedFile {
    path: String,
    partition: BTreeMap<String, Option<String>>,
    rows: Option<u64>,
}

/// The log of one table of a scenario's lake, read as it grows.
pub struct DeltaLog<'a> {
    scenario: &'a Scenario,
    folder: String,
    table: &'static str,
    commits: Vec<Commit>,
}

impl<'a> DeltaLog<'a> {
    /// Nothing is read yet.
    pub fn of(scenario: &'a Scenario, table: &'static str) -> DeltaLog<'a> {
        DeltaLog::in_folder(scenario, "lake", table)
    }

    /// The same for another lake in the scenario's bucket.
    pub fn in_folder(scenario: &'a Scenario, folder: &str, table: &'static str) -> DeltaLog<'a> {
        DeltaLog {
            scenario,
            folder: folder.to_owned(),
            table,
            commits: Vec::new(),
        }
    }

    /// All commits that are there now, oldest first.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn read_on(&mut self) -> Result<&[Commit]> {
        loop {
            let version = i64::try_from(self.commits.len())?;
            let name = format!("{}/{}/_delta_log/{version:020}.json", self.folder, self.table);
            let Some(bytes) = self.scenario.minio.get(&self.scenario.bucket(), &name)? else {
                return Ok(&self.commits);
            };
            let commit = parse(version, &String::from_utf8(bytes)?).with_context(|| name.clone())?;
            self.commits.push(commit);
        }
    }

    /// Waits until the table has everything below `ends`; whatever it has is a chain of commits ([`next_offsets`]).
    ///
    /// # Errors
    /// When `limit` passes, or the commits are no chain.
    pub fn wait_stored(&mut self, ends: &BTreeMap<i32, i64>, limit: Duration) -> Result<()> {
        wait_for(&format!("the table to hold all below {ends:?}"), limit, || {
            self.has(ends)
        })
    }

    /// Whether the table has everything below `ends` now, for a wait.
    ///
    /// # Errors
    /// When the commits are no chain.
    pub fn has(&mut self, ends: &BTreeMap<i32, i64>) -> Result<Option<()>> {
        let standing = next_offsets(self.read_on()?)?;
        let done = |(partition, end): (&i32, &i64)| standing.get(partition).unwrap_or(&0) >= end;
        Ok(ends.iter().all(done).then_some(()))
    }
}

fn parse(version: i64, text: &str) -> Result<Commit> {
    let mut commit = Commit {
        version,
        operation: String::new(),
        transactions: BTreeMap::new(),
        offsets: BTreeMap::new(),
        gaps: BTreeMap::new(),
        adds: 0,
        removes: 0,
        changes_data: false,
        added: Vec::new(),
        removed: Vec::new(),
        erased_rows: 0,
        restored: None,
    };
    for line in text.lines() {
        let action: Value = serde_json::from_str(line)?;
        if let Some(info) = action.get("commitInfo") {
            commit.operation = info["operation"].as_str().unwrap_or_default().to_owned();
            let ours = &info["loginlake"]["info"];
            commit.offsets = ranges(&ours["offsets"])?;
            commit.gaps = ranges(&ours["gaps"])?;
            let erased = ours["erased"].as_array().into_iter().flatten();
            commit.erased_rows = erased.filter_map(|part| part["rows"].as_u64()).sum();
            commit.restored = ours["toVersion"].as_i64();
        }
        if let Some(txn) = action.get("txn") {
            let app_id = txn["appId"].as_str().context("a txn without appId")?;
            let app_version = txn["version"].as_i64().context("a txn without version")?;
            commit.transactions.insert(app_id.to_owned(), app_version);
        }
        if let Some(file) = action.get("add") {
            commit.added.push(added(file)?);
        }
        if let Some(file) = action.get("remove") {
            let path = file["path"].as_str().context("a remove without path")?;
            commit.removed.push(path.to_owned());
        }
        for (name, count) in [("add", &mut commit.adds), ("remove", &mut commit.removes)] {
            if let Some(file) = action.get(name) {
                *count += 1;
                commit.changes_data |= file["dataChange"]
                    .as_bool()
                    .context("a file without dataChange")?;
            }
        }
    }
    Ok(commit)
}

fn added(file: &Value) -> Result<AddedFile> {
    let stats = file["stats"]
        .as_str()
        .map(serde_json::from_str::<Value>)
        .transpose()?;
    let partition = file["partitionValues"].as_object().into_iter().flatten();
    Ok(AddedFile {
        path: file["path"].as_str().context("an add without path")?.to_owned(),
        partition: partition
            .map(|(column, value)| (column.clone(), value.as_str().map(str::to_owned)))
            .collect(),
        rows: stats.and_then(|stats| stats["numRecords"].as_u64()),
    })
}

fn ranges(of: &Value) -> Result<BTreeMap<i32, (i64, i64)>> {
    let mut found = BTreeMap::new();
    for range in of.as_array().into_iter().flatten() {
        let number = |index: usize| range[index].as_i64().context("a range is three numbers");
        found.insert(i32::try_from(number(0)?)?, (number(1)?, number(2)?));
    }
    Ok(found)
}
