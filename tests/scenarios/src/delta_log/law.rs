//! What every commit of a table must be, judged from the log alone.
//!
//! Every kind of commit that changes rows has a law of its own, and there is no other kind:
//! - ingestion only adds, and no more rows than offsets that it says it covers, from where the partition stood (invariant 7);
//! - compaction puts as many rows into the place of others, in one table partition, and moves its counter (invariant 8);
//! - an erasure takes exactly the rows that it says it erased, in one table partition, and moves its counter (invariant 9);
//! - a restore brings back the files and offsets of the version that it names, no others.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::{AddedFile, Commit};

/// Where the Kafka partitions stand after a version, and that every commit up to it keeps the law of its kind (see the
/// module). The partitions' numbers are the last part of their application ids.
///
/// # Errors
/// When a commit leaves a gap, repeats something, says something else than its `txn`, or has other rows than it may have.
pub fn next_offsets(commits: &[Commit]) -> Result<BTreeMap<i32, i64>> {
    Ok(State::after(commits)?.standing)
}

/// A table after some of its commits.
#[derive(Debug, Default, PartialEq, Eq)]
struct State<'a> {
    /// Kafka partition → next offset.
    standing: BTreeMap<i32, i64>,
    /// Where each began.
    began: BTreeMap<i32, i64>,
    /// The counters of maintenance, by application id.
    counters: BTreeMap<&'a str, i64>,
    /// Path → file.
    files: BTreeMap<&'a str, &'a AddedFile>,
}

impl<'a> State<'a> {
    fn after(commits: &'a [Commit]) -> Result<State<'a>> {
        let mut state = State::default();
        for (index, commit) in commits.iter().enumerate() {
            state
                .take(commit, &commits[..index])
                .with_context(|| format!("version {} ({})", commit.version, commit.operation))?;
        }
        Ok(state)
    }

    fn take(&mut self, commit: &'a Commit, before: &'a [Commit]) -> Result<()> {
        let moved = ingested(commit)?;
        if commit.operation == "RESTORE" {
            self.files_change(commit)?;
            self.counters_move(commit)?;
            self.standing.extend(moved);
            return self.is_restored(commit, before);
        }
        self.offsets_move(commit, &moved)?;
        let taken = self.files_change(commit)?;
        self.counters_move(commit)?;
        let rows_added = rows(commit.added.iter());
        let rows_taken = rows(taken.iter().copied());
        match (commit.operation.as_str(), commit.changes_data) {
            ("DELETE", true) => {
                ensure!(moved.is_empty(), "it erases and moves {moved:?}");
                ensure!(
                    commit.erased_rows > 0,
                    "it takes files and says of no row that it was erased"
                );
                ensure!(
                    rows_taken? == rows_added? + commit.erased_rows,
                    "it takes {taken:?}, adds {:?}, and says that it erased {} rows",
                    commit.added,
                    commit.erased_rows
                );
                ensure!(
                    commit.added.len() <= taken.len(),
                    "it adds more files than it takes"
                );
                self.is_of_one_partition(commit, &taken)?;
            }
            (_, true) => {
                let covered: i64 = commit.offsets.values().map(|(from, to)| to - from).sum();
                ensure!(taken.is_empty(), "it takes {taken:?}, and is no erasure");
                ensure!(
                    i64::try_from(rows_added?)? <= covered,
                    "it adds {:?}, and covers {:?}",
                    commit.added,
                    commit.offsets
                );
            }
            (_, false) => {
                ensure!(
                    rows_added? == rows_taken?,
                    "it adds {:?} in the place of {taken:?}, and says that no row changed",
                    commit.added
                );
                if !taken.is_empty() {
                    ensure!(moved.is_empty(), "it rewrites files and moves {moved:?}");
                    self.is_of_one_partition(commit, &taken)?;
                }
            }
        }
        for (partition, to) in moved {
            self.began.entry(partition).or_insert(to);
            self.standing.insert(partition, to);
        }
        Ok(())
    }

    /// What a commit covers begins where the partition stood, and ends where its `txn` says; so do accepted gaps.
    fn offsets_move(&self, commit: &Commit, moved: &BTreeMap<i32, i64>) -> Result<()> {
        for (partition, (from, to)) in &commit.offsets {
            let before = self.standing.get(partition);
            ensure!(
                before == Some(from) && to > from,
                "it covers {from}..{to} of partition {partition}, which stood at {before:?}"
            );
            ensure!(
                moved.get(partition) == Some(to),
                "it covers {from}..{to} of partition {partition}, and its txn says {:?}",
                moved.get(partition)
            );
        }
        for (partition, (from, to)) in &commit.gaps {
            let before = self.standing.get(partition);
            ensure!(
                before == Some(from) && moved.get(partition).is_none_or(|moved| moved == to),
                "it accepts the gap {from}..{to} of partition {partition}, which stood at {before:?}"
            );
        }
        for (partition, to) in moved {
            ensure!(
                commit.offsets.contains_key(partition)
                    || commit.gaps.contains_key(partition)
                    || !self.standing.contains_key(partition),
                "it moves partition {partition} to {to} without saying what it covers"
            );
        }
        Ok(())
    }

    /// Only files that are there are taken, and none is added twice. Returns those that were taken.
    fn files_change(&mut self, commit: &'a Commit) -> Result<Vec<&'a AddedFile>> {
        let mut taken = Vec::new();
        for path in &commit.removed {
            let file = self.files.remove(path.as_str());
            taken.push(file.with_context(|| format!("it takes {path}, which the table does not have"))?);
        }
        for file in &commit.added {
            let known = self.files.insert(&file.path, file);
            ensure!(known.is_none(), "it adds {} again", file.path);
        }
        Ok(taken)
    }

    /// A counter of maintenance moves on by one.
    fn counters_move(&mut self, commit: &'a Commit) -> Result<()> {
        for (app_id, to) in commit
            .transactions
            .iter()
            .filter(|(app_id, _)| is_counter(app_id))
        {
            let from = self.counters.insert(app_id, *to).unwrap_or(0);
            ensure!(*to == from + 1, "it moves {app_id} from {from} to {to}");
        }
        Ok(())
    }

    /// A rewrite stays in one table partition, and moves the one counter of it.
    fn is_of_one_partition(&self, commit: &Commit, taken: &[&AddedFile]) -> Result<()> {
        let first = taken.first().context("it takes no file")?;
        let mut files = taken.iter().copied().chain(&commit.added);
        ensure!(
            files.all(|file| file.partition == first.partition),
            "it rewrites files of several table partitions: {taken:?} into {:?}",
            commit.added
        );
        let counters = commit
            .transactions
            .keys()
            .filter(|app_id| is_counter(app_id))
            .count();
        ensure!(
            counters == 1,
            "it rewrites one table partition and moves {counters} counters"
        );
        Ok(())
    }

    /// Files and offsets are those of the version that it names; a partition that this one did not know is where it began.
    fn is_restored(&self, commit: &Commit, before: &[Commit]) -> Result<()> {
        let version = commit
            .restored
            .context("it does not say which version it restored")?;
        let upto = usize::try_from(version)
            .ok()
            .and_then(|version| before.get(..=version));
        let target =
            State::after(upto.with_context(|| format!("it restores {version}, which is not before it"))?)?;
        ensure!(
            self.files.keys().eq(target.files.keys()),
            "its files are not those of version {version}"
        );
        for (partition, stands) in &self.standing {
            let wanted = target.standing.get(partition).or(self.began.get(partition));
            ensure!(
                wanted == Some(stands),
                "partition {partition} is at {stands}, and was at {wanted:?} at version {version}"
            );
        }
        Ok(())
    }
}

/// The rows of files.
fn rows<'a>(files: impl Iterator<Item = &'a AddedFile>) -> Result<u64> {
    files
        .map(|file| {
            file.rows
                .with_context(|| format!("{} has no number of rows", file.path))
        })
        .sum()
}

fn is_counter(app_id: &str) -> bool {
    app_id.starts_with("loginlake/maintenance/")
}

/// The `txn` actions of ingestion in a commit, by Kafka partition; those of maintenance have other names, and those of a
/// topic that was given up stand at the end of all numbers.
fn ingested(commit: &Commit) -> Result<BTreeMap<i32, i64>> {
    let of_ingestion = |app_id: &str| !is_counter(app_id) && !app_id.ends_with("/begins-at-ms");
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
    use serde_json::Value;

    use super::super::parse;
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

    /// A commit with files: (path, date, rows) added, and paths removed.
    fn rewrite(
        version: i64,
        operation: &str,
        info: Value,
        added: &[(&str, &str, u64)],
        removed: &[&str],
        txn: &[(&str, i64)],
    ) -> Commit {
        let changes = operation != "OPTIMIZE";
        let mut lines = vec![
            serde_json::json!({ "commitInfo": { "operation": operation, "loginlake": { "info": info } } }),
        ];
        for (app_id, to) in txn {
            lines.push(serde_json::json!({ "txn": { "appId": app_id, "version": to } }));
        }
        for (path, date, rows) in added {
            lines.push(serde_json::json!({ "add": {
                "path": path, "partitionValues": { "login_date": date }, "dataChange": changes,
                "stats": format!("{{\"numRecords\":{rows}}}"),
            } }));
        }
        for path in removed {
            lines.push(serde_json::json!({ "remove": { "path": path, "dataChange": changes } }));
        }
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        parse(version, &lines.join("\n")).unwrap()
    }

    #[test]
    fn every_kind_of_commit_keeps_its_law() {
        let none = || serde_json::json!({});
        let erased = |rows: u64| serde_json::json!({ "kind": "erasure", "erased": [{ "rows": rows }] });
        let covers = |from: i64, to: i64| serde_json::json!({ "offsets": [[0, from, to]] });
        let (offsets, monday, tuesday) = (
            "loginlake/t/id/0",
            "loginlake/maintenance/date=1",
            "loginlake/maintenance/date=2",
        );
        let start = [
            commit(0, &[], &[(0, 0)]),
            rewrite(
                1,
                "STREAMING UPDATE",
                covers(0, 9),
                &[("a", "1", 5), ("b", "2", 3)],
                &[],
                &[(offsets, 9)],
            ),
            rewrite(
                2,
                "STREAMING UPDATE",
                covers(9, 12),
                &[("c", "1", 3)],
                &[],
                &[(offsets, 12)],
            ),
        ];
        let after = |more: &[Commit]| {
            let all: Vec<Commit> = start.iter().chain(more).cloned().collect();
            next_offsets(&all)
        };
        let compacted = rewrite(
            3,
            "OPTIMIZE",
            none(),
            &[("d", "1", 8)],
            &["a", "c"],
            &[(monday, 1)],
        );
        let erasure = rewrite(4, "DELETE", erased(2), &[("e", "1", 6)], &["d"], &[(monday, 2)]);
        let whole = rewrite(5, "DELETE", erased(3), &[], &["b"], &[(tuesday, 1)]);
        let back = serde_json::json!({ "kind": "restore", "toVersion": 2 });
        let adds = [("a", "1", 5), ("b", "2", 3), ("c", "1", 3)];
        let restored = rewrite(
            6,
            "RESTORE",
            back,
            &adds,
            &["e"],
            &[(offsets, 12), (monday, 3), (tuesday, 2)],
        );
        let story = [compacted.clone(), erasure, whole, restored];
        assert_eq!(after(&story).unwrap(), BTreeMap::from([(0, 12)]));

        let back = |version: i64| serde_json::json!({ "kind": "restore", "toVersion": version });
        for (wrong, why) in [
            (
                rewrite(
                    3,
                    "OPTIMIZE",
                    none(),
                    &[("d", "1", 7)],
                    &["a", "c"],
                    &[(monday, 1)],
                ),
                "a row less",
            ),
            (
                rewrite(
                    3,
                    "OPTIMIZE",
                    none(),
                    &[("d", "1", 8)],
                    &["a", "c"],
                    &[(monday, 2)],
                ),
                "a counter that jumps",
            ),
            (
                rewrite(3, "OPTIMIZE", none(), &[("d", "1", 8)], &["a", "c"], &[]),
                "no counter",
            ),
            (
                rewrite(
                    3,
                    "OPTIMIZE",
                    none(),
                    &[("d", "1", 8)],
                    &["a", "b"],
                    &[(monday, 1)],
                ),
                "two dates",
            ),
            (
                rewrite(
                    3,
                    "OPTIMIZE",
                    none(),
                    &[("d", "2", 8)],
                    &["a", "c"],
                    &[(monday, 1)],
                ),
                "another date",
            ),
            (
                rewrite(
                    3,
                    "OPTIMIZE",
                    none(),
                    &[("d", "1", 8)],
                    &["a", "x"],
                    &[(monday, 1)],
                ),
                "an unknown file",
            ),
            (
                rewrite(3, "DELETE", erased(2), &[("d", "1", 4)], &["a"], &[(monday, 1)]),
                "too many rows stay",
            ),
            (
                rewrite(3, "DELETE", erased(2), &[("d", "1", 2)], &["a"], &[(monday, 1)]),
                "too few rows stay",
            ),
            (
                rewrite(3, "DELETE", none(), &[], &["a"], &[(monday, 1)]),
                "an erasure of nothing",
            ),
            (
                rewrite(3, "DELETE", erased(5), &[], &["a"], &[(monday, 1), (offsets, 13)]),
                "offsets moved",
            ),
            (
                rewrite(
                    3,
                    "STREAMING UPDATE",
                    covers(12, 13),
                    &[("d", "1", 2)],
                    &[],
                    &[(offsets, 13)],
                ),
                "more rows than offsets",
            ),
            (
                rewrite(
                    3,
                    "STREAMING UPDATE",
                    covers(12, 13),
                    &[],
                    &["a"],
                    &[(offsets, 13)],
                ),
                "a file taken",
            ),
            (
                rewrite(
                    3,
                    "STREAMING UPDATE",
                    covers(12, 13),
                    &[("a", "1", 1)],
                    &[],
                    &[(offsets, 13)],
                ),
                "a file again",
            ),
            (
                rewrite(3, "RESTORE", back(1), &[], &["c"], &[(offsets, 12)]),
                "offsets that stay",
            ),
            (
                rewrite(3, "RESTORE", back(1), &[], &["b"], &[(offsets, 9)]),
                "other files",
            ),
            (
                rewrite(3, "RESTORE", back(3), &[], &[], &[(offsets, 12)]),
                "a version to come",
            ),
        ] {
            assert!(after(&[wrong]).is_err(), "{why}");
        }
    }
}
