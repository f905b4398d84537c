//! The passes of an audit. The caller brings the topic's records to each of them; what a record says beside its position is not
//! looked at.
//!
//! `logins` is pinned before `rejected`, so every rejected record below the offsets of `logins` is in the version of `rejected`
//! that is read; rejected rows beyond are of a batch on its way, and left alone.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::chain::{Chain, Facts, ProvableCompaction, SourceRange};
use super::files::{self, stated_bounds};
use super::log;
use super::pass::{Hours, Pass, Side, may_have, take};
use super::positions::{OffsetRanges, Window, passes};
use super::report::{AuditReport, Finding, PartitionSummary, Ranges, What};
use crate::compact::Fingerprint;
use crate::error::LakeError;
use crate::ingest::TopicBounds;
use crate::ingest::pipeline::Pipeline;
use crate::store::Lake;
use crate::table::{DataFile, TableName, TableSnapshot};

/// The input topic, as far as it matters.
#[derive(Clone, Debug)]
pub struct TopicFacts {
    /// The topic's incarnation.
    pub pipeline: Pipeline,
    /// First and last stable offset of each partition, asked for after [`Audit::open`].
    pub bounds: TopicBounds,
    /// Whether the broker compacts the topic: records may be gone that the tables have.
    pub compacted: bool,
}

/// What is audited.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Memory for the positions, in bytes: one bit each offset and side. Default 256 MiB; less means more passes.
    pub memory_budget_bytes: usize,
    /// Compares with what the speed path published.
    pub published: bool,
    /// The speed path holds records back by filters: what is in the tables need not be published.
    pub filtered: bool,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            memory_budget_bytes: 256 << 20,
            published: false,
            filtered: false,
        }
    }
}

/// An audit under way.
#[derive(Debug)]
pub struct Audit {
    pub(super) lake: Lake,
    pub(super) options: AuditOptions,
    pub(super) topic: Option<TopicFacts>,
    logins: Facts,
    rejected: Facts,
    pub(super) tables: Vec<TableSnapshot>,
    pub(super) sides: BTreeMap<i32, Side>,
    pub(super) passes: VecDeque<OffsetRanges>,
    pub(super) first: bool,
    pub(super) compactions: Vec<(TableName, ProvableCompaction)>,
    pub(super) file_sums: HashMap<(TableName, String), Fingerprint>,
    pub(super) hours: Hours,
    pub(super) report: AuditReport,
}

impl Audit {
    /// Pins the tables and judges their logs. `None`: the lake has no `logins`.
    ///
    /// # Errors
    /// The store failed, or a log cannot be read.
    pub async fn open(lake: &Lake, options: AuditOptions) -> Result<Option<Self>, LakeError> {
        let mut tables = Vec::new();
        let mut report = AuditReport {
            lake: lake.uri().to_owned(),
            ..AuditReport::default()
        };
        let mut facts = BTreeMap::new();
        for table in [TableName::Logins, TableName::Rejected] {
            let Some(snapshot) = lake.snapshot(table, None).await? else {
                continue;
            };
            let mut chain = Chain::new(table);
            let versions = log::versions(lake, table, snapshot.version).await?;
            log::read(lake, table, versions, |commit| chain.commit(commit)).await?;
            let paths = snapshot.files.iter().map(|file| file.path.as_str());
            let (found, findings) = chain.finish(&snapshot.transactions, paths);
            findings.into_iter().for_each(|finding| report.found(finding));
            report.commits += found.commits;
            report.versions.insert(table.as_str(), snapshot.version);
            if let Some(first) = found.first_version.filter(|first| *first > 0) {
                report.note(format!(
                    "the log of {table} begins at version {first}: what came before is judged by its rows only"
                ));
            }
            facts.insert(table, found);
            tables.push(snapshot);
        }
        let Some(logins) = facts.remove(&TableName::Logins) else {
            return Ok(None);
        };
        let rejected = facts.remove(&TableName::Rejected).unwrap_or_default();
        Ok(Some(Self {
            lake: lake.clone(),
            options,
            topic: None,
            logins,
            rejected,
            tables,
            sides: BTreeMap::new(),
            passes: VecDeque::new(),
            first: true,
            compactions: Vec::new(),
            file_sums: HashMap::new(),
            hours: BTreeMap::new(),
            report,
        }))
    }

    /// Begins the passes. `topic`: compares with it; ask for its bounds after [`Audit::open`], because the tables must not be
    /// ahead of them.
    ///
    /// # Errors
    /// [`LakeError::DataLossRefused`]: the topic is not the one that the table is filled from.
    pub fn begin(&mut self, topic: Option<TopicFacts>) -> Result<(), LakeError> {
        let (logins, rejected) = (
            std::mem::take(&mut self.logins),
            std::mem::take(&mut self.rejected),
        );
        self.topic = topic;
        self.prepare(&logins, &rejected)
    }

    fn prepare(&mut self, logins: &Facts, rejected: &Facts) -> Result<(), LakeError> {
        for (table, facts) in [(TableName::Logins, logins), (TableName::Rejected, rejected)] {
            let provable = facts.compactions.iter().cloned();
            self.compactions.extend(provable.map(|proof| (table, proof)));
        }
        let lowest = self.lowest_offset();
        for (partition, sources) in &logins.sources {
            let side = self.side(*partition, sources, logins, rejected);
            self.sides.insert(*partition, side);
        }
        if let Some(topic) = self.topic.clone() {
            self.prepare_topic(&topic, logins)?;
        }
        let mut ranges = OffsetRanges::new();
        let mut planes = 1;
        for (partition, side) in &self.sides {
            let end = side.ends.iter().copied().max().unwrap_or(0);
            let compared = side.compared;
            let from = match compared.0 < compared.1 {
                true => lowest.min(compared.0),
                false => lowest,
            };
            ranges.insert(*partition, (from.min(end), end));
            planes = planes.max(side.ends.len());
        }
        // The plane of what is there too often is made when it is needed.
        planes += 1 + usize::from(self.topic.is_some()) + usize::from(self.options.published);
        self.passes = passes(&ranges, planes, self.options.memory_budget_bytes).into();
        if self.passes.is_empty() {
            self.passes.push_back(OffsetRanges::new());
        }
        Ok(())
    }

    /// The lowest offset of any file, by its statistics; 0 when one does not say it.
    fn lowest_offset(&self) -> i64 {
        self.tables
            .iter()
            .flat_map(|table| &table.files)
            .map(|file| stated_bounds(file, "kafka_offset").map_or(0, |(from, _)| from))
            .min()
            .unwrap_or(0)
    }

    fn side(&mut self, partition: i32, sources: &[SourceRange], logins: &Facts, rejected: &Facts) -> Side {
        let highest = self
            .tables
            .iter()
            .flat_map(|table| &table.files)
            .filter_map(|file| stated_bounds(file, "kafka_offset"))
            .map(|(_, to)| to.saturating_add(1))
            .max()
            .unwrap_or(0);
        if sources.iter().any(|source| source.to.is_none()) {
            self.report.note(format!(
                "partition {partition}: an incarnation of the topic was given up, and the log does not say any more where it stood"
            ));
        }
        let ends: Vec<i64> = sources
            .iter()
            .map(|source| source.to.unwrap_or(highest))
            .collect();
        let newest = sources.iter().find(|source| !source.retired);
        let logins_end = ends.iter().copied().max().unwrap_or(0);
        let rejected_end = rejected
            .sources
            .get(&partition)
            .into_iter()
            .flatten()
            .map(|source| source.to.unwrap_or(highest))
            .max()
            .unwrap_or(0);
        let gaps = logins.gaps.get(&partition).into_iter().flatten();
        let gaps: Vec<(i64, i64)> = gaps
            .filter(|(app_id, ..)| newest.is_none_or(|newest| newest.app_id == *app_id))
            .map(|(_, from, to)| (*from, *to))
            .collect();
        let mut erased = logins.erased.get(&partition).copied().unwrap_or_default();
        erased.merge(rejected.erased.get(&partition).copied().unwrap_or_default());
        Side {
            logins_end,
            rejected_end,
            summary: PartitionSummary {
                kafka_partition: partition,
                next_offset: newest.and_then(|newest| newest.to).unwrap_or(logins_end),
                erased: erased.rows,
                given_up: gaps.iter().map(|(from, to)| from.abs_diff(*to)).sum(),
                ..PartitionSummary::default()
            },
            ends,
            gaps,
            erased,
            ..Side::default()
        }
    }

    /// Which offsets of the topic are compared: from the first that the topic has, and the table began with, to the next that
    /// the table has committed.
    fn prepare_topic(&mut self, topic: &TopicFacts, logins: &Facts) -> Result<(), LakeError> {
        let mut known = false;
        for (partition, sources) in &logins.sources {
            let app_id = topic.pipeline.app_id(*partition);
            let Some(side) = self.sides.get_mut(partition) else {
                continue;
            };
            let source = sources.iter().find(|source| source.app_id == app_id);
            let (Some(source), Some((low, high))) = (source, topic.bounds.get(partition)) else {
                continue;
            };
            known = true;
            let next = source.to.unwrap_or(0);
            if next > *high {
                let mut ranges = Ranges::default();
                ranges.push_range(*high, next);
                let detail = format!("the topic ends at {high}, and the table has committed up to {next}");
                let finding = Finding::new(What::RowExtra, detail).at(*partition, &ranges);
                self.report.found(finding);
            }
            let from = match source.from {
                Some(from) => from.max(*low),
                None => {
                    self.report.note(format!(
                        "partition {partition}: the log does not say any more where the table began; compared from {low} on"
                    ));
                    *low
                }
            };
            side.compared = (from, next.min(*high));
            side.cut_off = *low > 0;
            side.summary.topic = Some(0);
            if sources.len() > 1 {
                self.report.note(format!(
                    "partition {partition}: the topic was made again; an offset that both incarnations had is there if either has it"
                ));
            }
        }
        if known {
            return Ok(());
        }
        Err(LakeError::DataLossRefused(format!(
            "logins holds no offsets of topic {} with the id {}: name the topic that it is filled from with --input-topic",
            topic.pipeline.topic(),
            topic.pipeline.incarnation()
        )))
    }

    /// The next part of the offsets; `None`: all were looked at.
    pub fn next_pass(&mut self) -> Option<Pass> {
        let ranges = self.passes.pop_front()?;
        let topic = self.topic.is_some();
        let windows = ranges.into_iter().filter_map(|(partition, (from, to))| {
            let side = self.sides.get(&partition)?;
            let window = Window::new(from, to, &side.ends, topic, self.options.published);
            Some((partition, window))
        });
        let compared = self
            .sides
            .iter()
            .map(|(partition, side)| (*partition, side.compared));
        Some(Pass {
            windows: windows.collect(),
            compared: compared.collect(),
            hours: std::mem::take(&mut self.hours),
            published_range: BTreeMap::new(),
        })
    }

    /// Reads the tables for a pass: all files for the first one, afterwards those that may have offsets of it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn read_tables(&mut self, pass: &mut Pass) -> Result<(), LakeError> {
        let tables = std::mem::take(&mut self.tables);
        for snapshot in &tables {
            for file in &snapshot.files {
                if self.first || may_have(file, pass) {
                    self.read_file(snapshot.table, file, pass).await?;
                }
            }
        }
        self.tables = tables;
        Ok(())
    }

    async fn read_file(
        &mut self,
        table: TableName,
        file: &DataFile,
        pass: &mut Pass,
    ) -> Result<(), LakeError> {
        let with_times = self.topic.is_some();
        let (lake, first) = (self.lake.clone(), self.first);
        let sides = &mut self.sides;
        let mut unknown: BTreeMap<i32, u64> = BTreeMap::new();
        let facts = files::read(&lake, table, file, with_times, |positions| {
            take(table, positions, first, sides, pass, &mut unknown);
        })
        .await?;
        if !self.first {
            return Ok(());
        }
        self.report.files += 1;
        self.report.rows += facts.fingerprint.rows;
        if let Some(finding) = facts.finding {
            self.report.found(finding);
        }
        for (partition, rows) in unknown {
            let detail = format!("{rows} rows of a Kafka partition that the table has no offset of");
            let mut finding = Finding::new(What::AboveCommitted, detail)
                .in_table(table.as_str())
                .in_file(&file.path);
            finding.kafka_partition = Some(partition);
            finding.count = rows;
            self.report.found(finding);
        }
        let proves =
            |(of, proof): &(TableName, ProvableCompaction)| *of == table && proof.files.contains(&file.path);
        if self.compactions.iter().any(proves) {
            self.file_sums
                .insert((table, file.path.clone()), facts.fingerprint);
        }
        Ok(())
    }

    /// Ends a pass: what it saw is compared.
    pub fn finish_pass(&mut self, pass: Pass) {
        self.first = false;
        self.hours = pass.hours;
        for (partition, window) in pass.windows {
            let Some(side) = self.sides.get_mut(&partition) else {
                continue;
            };
            side.too_often.append(&window.too_often());
            if let Some(topic) = &mut side.summary.topic {
                *topic += window.topic_records();
                let (lacking, extra) = window.against_topic(partition, side.compared, &side.gaps);
                side.lacking.append(&lacking);
                side.extra.append(&extra);
            }
            if self.options.published {
                let seen = pass.published_range.get(&partition).copied();
                let (from, to) = seen.unwrap_or_default();
                let common = (from, to.min(side.summary.next_offset));
                let (extra, lacking) = window.against_published(partition, common, &side.gaps);
                side.published_extra.append(&extra);
                side.not_published.append(&lacking);
                *side.summary.published.get_or_insert(0) += window.published();
                *side.summary.published_again.get_or_insert(0) += window.published_again;
            }
        }
    }
}
