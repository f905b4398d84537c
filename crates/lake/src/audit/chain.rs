//! The log of a table judged commit by commit: offsets follow each other, row counts add up, nothing comes from elsewhere. Pure.
//!
//! Feed it every commit that the log still has, oldest first, then ask for its [`Facts`].

use std::collections::{BTreeMap, HashMap, HashSet};

use super::log::AuditedCommit;
use super::report::{Finding, Ranges, What};
use crate::compact::Fingerprint;
use crate::ingest::pipeline::RETIRED;
use crate::table::TableName;

/// One incarnation of a topic as a source of one Kafka partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRange {
    /// The application id that holds its offset.
    pub app_id: String,
    /// Where the table began with it; `None`: the log does not go back that far.
    pub from: Option<i64>,
    /// The next offset; `None`: it was given up, and the log does not say any more where it stood.
    pub to: Option<i64>,
    /// Whether it was given up by an accepted gap.
    pub retired: bool,
}

/// An accepted gap, `[from, to)` of an application id.
pub type Gap = (String, i64, i64);

/// A compaction whose files can be proved: none of them was replaced since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvableCompaction {
    /// Its version.
    pub version: i64,
    /// The files that it wrote.
    pub files: Vec<String>,
    /// What it took.
    pub taken: Fingerprint,
}

/// What the log says.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Kafka partition → the incarnations that it was filled from.
    pub sources: BTreeMap<i32, Vec<SourceRange>>,
    /// Kafka partition → accepted gaps.
    pub gaps: BTreeMap<i32, Vec<Gap>>,
    /// Kafka partition → what audited erasures took.
    pub erased: BTreeMap<i32, Fingerprint>,
    /// Compactions to prove.
    pub compactions: Vec<ProvableCompaction>,
    /// Commits that were read.
    pub commits: u64,
    /// The first version that the log still has.
    pub first_version: Option<i64>,
}

/// A maintenance commit that a restore may undo.
#[derive(Debug)]
struct Undoable<T> {
    version: i64,
    what: T,
}

/// The judge of one table's log.
#[derive(Debug)]
pub struct Chain {
    table: TableName,
    transactions: BTreeMap<String, i64>,
    /// Where an application id stood before it was given up.
    stood: BTreeMap<String, i64>,
    starts: BTreeMap<String, i64>,
    live: HashMap<String, Option<u64>>,
    batch_ids: HashSet<String>,
    gaps: Vec<Undoable<(i32, Gap)>>,
    erased: Vec<Undoable<BTreeMap<i32, Fingerprint>>>,
    compactions: Vec<ProvableCompaction>,
    commits: u64,
    first_version: Option<i64>,
    last_version: Option<i64>,
    findings: Vec<Finding>,
}

impl Chain {
    /// Nothing read yet.
    pub fn new(table: TableName) -> Self {
        Self {
            table,
            transactions: BTreeMap::new(),
            stood: BTreeMap::new(),
            starts: BTreeMap::new(),
            live: HashMap::new(),
            batch_ids: HashSet::new(),
            gaps: Vec::new(),
            erased: Vec::new(),
            compactions: Vec::new(),
            commits: 0,
            first_version: None,
            last_version: None,
            findings: Vec::new(),
        }
    }

    fn whole(&self) -> bool {
        self.first_version == Some(0)
    }

    fn found(&mut self, commit: &AuditedCommit, what: What, detail: impl Into<String>) {
        let finding = Finding::new(what, detail)
            .in_table(self.table.as_str())
            .at_version(commit.version);
        self.findings.push(finding);
    }

    /// Judges the next commit.
    pub fn commit(&mut self, commit: &AuditedCommit) {
        self.commits += 1;
        self.first_version.get_or_insert(commit.version);
        if let Some(last) = self.last_version.replace(commit.version)
            && commit.version != last + 1
        {
            let detail = format!("the commits between {last} and {} are missing", commit.version);
            self.found(commit, What::LogDiffers, detail);
        }
        if let Some(batch_id) = &commit.batch_id
            && !self.batch_ids.insert(batch_id.clone())
        {
            let detail = format!("batch id {batch_id} is that of an earlier commit");
            self.found(commit, What::BatchTwice, detail);
        }
        self.judge_offsets(commit);
        self.judge_rows(commit);
        self.apply(commit);
    }

    fn judge_offsets(&mut self, commit: &AuditedCommit) {
        let kind = commit.info["kind"].as_str().unwrap_or_default();
        let stated: BTreeMap<i64, (i64, i64)> = commit.info["offsets"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|range| Some((range[0].as_i64()?, (range[1].as_i64()?, range[2].as_i64()?))))
            .collect();
        for (app_id, to) in &commit.transactions {
            let Some(partition) = kafka_partition(app_id) else {
                continue;
            };
            let stood = self.transactions.get(app_id).copied();
            let broken = |from: i64, to: i64, detail: String| {
                let mut ranges = Ranges::default();
                if from < to && to != RETIRED {
                    ranges.push_range(from, to);
                }
                Finding::new(What::OffsetsBroken, detail)
                    .in_table(self.table.as_str())
                    .at_version(commit.version)
                    .at(partition, &ranges)
            };
            if kind == "restore" {
                continue;
            }
            if let Some(stood) = stood
                && *to <= stood
            {
                let detail = format!("the next offset went from {stood} to {to}");
                self.findings.push(broken(*to, stood, detail));
            }
            // A batch of `rejected` states the range of the whole batch, which may begin before or after its own offset.
            if kind == "ingest" && self.table == TableName::Logins {
                match (stated.get(&i64::from(partition)), stood) {
                    (Some((_, stated_to)), _) if stated_to != to => {
                        let detail =
                            format!("it says that it ends at {stated_to}, and moves the offset to {to}");
                        self.findings.push(broken(*stated_to, *to, detail));
                    }
                    (Some((from, _)), Some(stood)) if *from != stood => {
                        let detail = format!("it begins at {from}, and the one before it ended at {stood}");
                        self.findings
                            .push(broken(stood.min(*from), stood.max(*from), detail));
                    }
                    (None, _) => {
                        let detail = "it moves the offset, and does not say from where".to_owned();
                        self.findings.push(broken(0, 0, detail));
                    }
                    _ => {}
                }
            }
            if commit.batch_id.is_none() && self.whole() {
                let detail = format!("{} of other software moved the offset to {to}", commit.operation);
                self.findings.push(broken(0, 0, detail));
            }
        }
    }

    fn judge_rows(&mut self, commit: &AuditedCommit) {
        let added: Option<u64> = commit.adds.iter().map(|file| file.rows).sum();
        let mut unknown_files = Vec::new();
        let removed: Option<u64> = commit
            .removes
            .iter()
            .map(|path| match self.live.get(path) {
                Some(rows) => *rows,
                None => {
                    unknown_files.push(path.clone());
                    None
                }
            })
            .sum();
        if self.whole() {
            for path in &unknown_files {
                self.found(
                    commit,
                    What::LogDiffers,
                    format!("it removes {path}, which is not in the table"),
                );
            }
            let twice: Vec<&str> = commit
                .adds
                .iter()
                .filter(|file| self.live.contains_key(&file.path) && !commit.removes.contains(&file.path))
                .map(|file| file.path.as_str())
                .collect();
            for path in twice {
                self.found(
                    commit,
                    What::LogDiffers,
                    format!("it adds {path}, which is in the table already"),
                );
            }
        }
        let info = |name: &str| commit.info[name].as_u64();
        let differs = |stated: Option<u64>, found: Option<u64>| {
            stated.zip(found).filter(|(stated, found)| stated != found)
        };
        match commit.info["kind"].as_str().unwrap_or_default() {
            "ingest" => {
                if let Some((stated, found)) = differs(info("rows"), added) {
                    let detail = format!("it says {stated} rows, and its files have {found}");
                    self.found(commit, What::RowsDoNotAddUp, detail);
                }
                if !commit.removes.is_empty() {
                    self.found(commit, What::Unaudited, "ingestion removes files");
                }
            }
            "compaction" => {
                for (name, taken) in [("the files it took have", removed), ("it says", info("rows"))] {
                    if let Some((taken, left)) = differs(taken, added) {
                        let detail = format!("{name} {taken} rows, and those it left have {left}");
                        self.found(commit, What::CompactionChangedRows, detail);
                    }
                }
            }
            "erasure" => {
                let gone = removed
                    .zip(added)
                    .map(|(removed, added)| removed.saturating_sub(added));
                let erased = erased_of(commit).values().map(|erased| erased.rows).sum();
                let sides = [
                    ("it took files of", info("rowsRemoved"), removed),
                    ("it kept", info("rows"), added),
                    ("it lists as erased", Some(erased), gone),
                ];
                for (name, stated, found) in sides {
                    if let Some((stated, found)) = differs(stated, found) {
                        let detail = format!("{name} {stated} rows, and the files say {found}");
                        self.found(commit, What::RowsDoNotAddUp, detail);
                    }
                }
            }
            "restore" => {}
            _ if commit.adds.is_empty() && commit.removes.is_empty() => {}
            _ => {
                let detail = match (removed, added) {
                    // The same rows in other files, as any software may compact them.
                    (Some(removed), Some(added)) if removed == added && !commit.changes_data => return,
                    (Some(removed), Some(added)) if removed == added => {
                        format!("{} put other rows in the place of {added}", commit.operation)
                    }
                    (Some(removed), Some(added)) if removed > added => {
                        format!(
                            "{} took {} rows without an audited erasure",
                            commit.operation,
                            removed - added
                        )
                    }
                    (Some(removed), Some(added)) => {
                        format!(
                            "{} added {} rows outside of ingestion",
                            commit.operation,
                            added - removed
                        )
                    }
                    _ => format!(
                        "{} changed files outside of ingestion and maintenance",
                        commit.operation
                    ),
                };
                self.found(commit, What::Unaudited, detail);
            }
        }
    }

    fn apply(&mut self, commit: &AuditedCommit) {
        let kind = commit.info["kind"].as_str().unwrap_or_default();
        if kind == "restore"
            && let Some(to) = commit.info["toVersion"].as_i64()
        {
            self.gaps.retain(|gap| gap.version <= to);
            self.erased.retain(|erased| erased.version <= to);
        }
        for (app_id, to) in &commit.transactions {
            let stood = self.transactions.insert(app_id.clone(), *to);
            let Some(partition) = kafka_partition(app_id) else {
                continue;
            };
            match stood {
                Some(stood) if *to == RETIRED => {
                    self.stood.insert(app_id.clone(), stood);
                }
                Some(stood) if kind == "gap" && *to > stood => self.gaps.push(Undoable {
                    version: commit.version,
                    what: (partition, (app_id.clone(), stood, *to)),
                }),
                None if self.whole() && self.table == TableName::Logins => {
                    let from = if kind == "ingest" { 0 } else { *to };
                    self.starts.insert(app_id.clone(), from);
                }
                _ => {}
            }
        }
        if kind == "erasure" {
            self.erased.push(Undoable {
                version: commit.version,
                what: erased_of(commit),
            });
        }
        for path in &commit.removes {
            self.live.remove(path);
        }
        for file in &commit.adds {
            self.live.insert(file.path.clone(), file.rows);
        }
        if kind == "compaction"
            && let Some(taken) = fingerprint(&commit.info, "rows")
        {
            self.compactions.push(ProvableCompaction {
                version: commit.version,
                files: commit.adds.iter().map(|file| file.path.clone()).collect(),
                taken,
            });
        }
    }

    /// Ends the log, at a version with these offsets and files, and says what is wrong and what it says.
    pub fn finish<'a>(
        mut self,
        transactions: &BTreeMap<String, i64>,
        files: impl Iterator<Item = &'a str>,
    ) -> (Facts, Vec<Finding>) {
        if self.whole() {
            let files: HashSet<&str> = files.collect();
            let hidden = self.live.keys().filter(|path| !files.contains(path.as_str()));
            let mut differing: Vec<String> = hidden
                .map(|path| format!("{path} was added and never removed, and the newest version lacks it"))
                .chain(
                    files
                        .iter()
                        .filter(|path| !self.live.contains_key(**path))
                        .map(|path| format!("the newest version has {path}, which no commit added")),
                )
                .collect();
            differing.sort_unstable();
            for detail in differing {
                self.findings
                    .push(Finding::new(What::LogDiffers, detail).in_table(self.table.as_str()));
            }
        }
        let mut facts = Facts {
            commits: self.commits,
            first_version: self.first_version,
            ..Facts::default()
        };
        for (app_id, to) in transactions {
            let Some(partition) = kafka_partition(app_id) else {
                continue;
            };
            let retired = *to == RETIRED;
            facts.sources.entry(partition).or_default().push(SourceRange {
                app_id: app_id.clone(),
                from: self.starts.get(app_id).copied(),
                to: if retired {
                    self.stood.get(app_id).copied()
                } else {
                    Some(*to)
                },
                retired,
            });
        }
        for Undoable { what, .. } in self.gaps {
            facts.gaps.entry(what.0).or_default().push(what.1);
        }
        for (partition, erased) in self.erased.into_iter().flat_map(|erased| erased.what) {
            facts.erased.entry(partition).or_default().merge(erased);
        }
        let live = &self.live;
        facts.compactions = self
            .compactions
            .into_iter()
            .filter(|compaction| compaction.files.iter().all(|path| live.contains_key(path)))
            .collect();
        (facts, self.findings)
    }
}

/// The Kafka partition of an application id of ingestion; `None` for others.
pub(super) fn kafka_partition(app_id: &str) -> Option<i32> {
    let mut parts = app_id.strip_prefix("loginlake/")?.rsplitn(3, '/');
    let partition = parts.next()?.parse().ok()?;
    let (_, topic) = (parts.next()?, parts.next()?);
    // `loginlake/maintenance/…` and `loginlake/hourly/…` have no topic id between.
    (topic != "maintenance" && topic != "hourly").then_some(partition)
}

fn erased_of(commit: &AuditedCommit) -> BTreeMap<i32, Fingerprint> {
    let mut erased = BTreeMap::new();
    for part in commit.info["erased"].as_array().into_iter().flatten() {
        let partition = part["kafkaPartition"]
            .as_i64()
            .and_then(|p| i32::try_from(p).ok());
        if let (Some(partition), Some(taken)) = (partition, fingerprint(part, "rows")) {
            erased
                .entry(partition)
                .or_insert_with(Fingerprint::default)
                .merge(taken);
        }
    }
    erased
}

/// A fingerprint as commits state it: sums in hexadecimal.
fn fingerprint(info: &serde_json::Value, rows: &str) -> Option<Fingerprint> {
    let hexadecimal = |name: &str| u64::from_str_radix(info[name].as_str()?, 16).ok();
    Some(Fingerprint {
        rows: info[rows].as_u64()?,
        sum: hexadecimal("sum")?,
        xor: hexadecimal("xor")?,
    })
}

#[cfg(test)]
mod tests;
