//! The commits of a table as they lie in its `_delta_log`, read as JSON without any of our code: which offsets each
//! covers, and whether they follow each other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::scenario::Scenario;
use crate::wait::wait_for;

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
    };
    for line in text.lines() {
        let action: Value = serde_json::from_str(line)?;
        if let Some(info) = action.get("commitInfo") {
            commit.operation = info["operation"].as_str().unwrap_or_default().to_owned();
            let ours = &info["loginlake"]["info"];
            commit.offsets = ranges(&ours["offsets"])?;
            commit.gaps = ranges(&ours["gaps"])?;
        }
        if let Some(txn) = action.get("txn") {
            let app_id = txn["appId"].as_str().context("a txn without appId")?;
            let app_version = txn["version"].as_i64().context("a txn without version")?;
            commit.transactions.insert(app_id.to_owned(), app_version);
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

fn ranges(of: &Value) -> Result<BTreeMap<i32, (i64, i64)>> {
    let mut found = BTreeMap::new();
    for range in of.as_array().into_iter().flatten() {
        let number = |index: usize| range[index].as_i64().context("a range is three numbers");
        found.insert(i32::try_from(number(0)?)?, (number(1)?, number(2)?));
    }
    Ok(found)
}

/// Where the Kafka partitions stand after a version, and that every data commit up to it begins where the one before ended
/// and moves on (invariant 7). The partitions' numbers are the last part of their application ids.
///
/// # Errors
/// When a commit leaves a gap, repeats something, or says something else than its `txn`.
pub fn next_offsets(commits: &[Commit]) -> Result<BTreeMap<i32, i64>> {
    let mut standing: BTreeMap<i32, i64> = BTreeMap::new();
    for commit in commits {
        let version = commit.version;
        let moved = ingested(commit)?;
        for (partition, (from, to)) in &commit.offsets {
            let before = standing.get(partition);
            ensure!(
                before == Some(from) && to > from,
                "version {version} covers {from}..{to} of partition {partition}, which stood at {before:?}"
            );
            ensure!(
                moved.get(partition) == Some(to),
                "version {version} covers {from}..{to} of partition {partition}, and its txn says {:?}",
                moved.get(partition)
            );
        }
        for (partition, (from, to)) in &commit.gaps {
            let before = standing.get(partition);
            ensure!(
                before == Some(from) && moved.get(partition).is_none_or(|moved| moved == to),
                "version {version} accepts the gap {from}..{to} of partition {partition}, which stood at {before:?}"
            );
        }
        for (partition, to) in &moved {
            ensure!(
                commit.offsets.contains_key(partition)
                    || commit.gaps.contains_key(partition)
                    || !standing.contains_key(partition),
                "version {version} moves partition {partition} to {to} without saying what it covers"
            );
        }
        // An erasure takes rows away and moves no offset.
        let erases = commit.operation == "DELETE" && commit.removes > 0 && moved.is_empty();
        ensure!(
            !commit.changes_data || !commit.offsets.is_empty() || erases,
            "version {version} changes rows without saying which offsets it covers"
        );
        standing.extend(moved);
    }
    Ok(standing)
}

/// The `txn` actions of ingestion in a commit, by Kafka partition; those of maintenance have other names, and those of a
/// topic that was given up stand at the end of all numbers.
fn ingested(commit: &Commit) -> Result<BTreeMap<i32, i64>> {
    let of_ingestion =
        |app_id: &str| !app_id.starts_with("loginlake/maintenance/") && !app_id.ends_with("/begins-at-ms");
    commit
        .transactions
        .iter()
        .filter(|(app_id, version)| of_ingestion(app_id) && **version != i64::MAX)
        .map(|(app_id, version)| {
            let partition = app_id.rsplit('/').next().unwrap_or_default();
            let partition = partition
                .parse()
                .with_context(|| format!("{app_id} ends in no partition"))?;
            Ok((partition, *version))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(version: i64, offsets: &[(i32, i64, i64)], txn: &[(i32, i64)]) -> Commit {
        let info: Vec<Value> = offsets.iter().map(|range| serde_json::json!(range)).collect();
        let mut text = serde_json::json!({ "commitInfo": { "operation": "X", "loginlake": { "info": { "offsets": info } } } })
            .to_string();
        for (partition, to) in txn {
            let app_id = format!("loginlake/topic/id/{partition}");
            text += &format!(
                "\n{}",
                serde_json::json!({ "txn": { "appId": app_id, "version": to } })
            );
        }
        parse(version, &text).unwrap()
    }

    #[test]
    fn commits_that_follow_each_other_are_a_chain() {
        let first = commit(0, &[], &[(0, 5), (1, 0)]);
        let second = commit(1, &[(0, 5, 9), (1, 0, 2)], &[(0, 9), (1, 2)]);
        let chain = [first.clone(), second, commit(2, &[(1, 2, 3)], &[(1, 3)])];
        assert_eq!(next_offsets(&chain).unwrap(), BTreeMap::from([(0, 9), (1, 3)]));

        for wrong in [
            commit(1, &[(0, 6, 9)], &[(0, 9)]),
            commit(1, &[(0, 5, 5)], &[(0, 5)]),
            commit(1, &[(0, 5, 9)], &[(0, 8)]),
            commit(1, &[], &[(0, 9)]),
        ] {
            assert!(
                next_offsets(&[first.clone(), wrong.clone()]).is_err(),
                "{wrong:?}"
            );
        }
    }
}
