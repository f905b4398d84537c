//! The passes of an audit. The caller brings the topic's records and what was published to each of them, from any number of
//! threads.
//!
//! `logins` is pinned before `rejected`, so every rejected record below the offsets of `logins` is in the version of `rejected`
//! that is read; rejected rows beyond are of a batch on its way, and left alone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use chrono::NaiveDate;
use tokio::task::JoinSet;

use super::chain::{Chain, Facts, ProvableCompaction};
use super::files::{self, FileFacts, Room, Wanted, stated_bounds};
use super::log;
use super::pass::{Pass, locked, no_columns};
use super::positions::OffsetRanges;
use super::published::{Spans, SpeedPath};
use super::report::{AuditReport, Finding, What};
use super::side::{PassSide, Side};
use super::window::{Sides, Which, Window};
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
    /// Of a lake that was begun at a time ([`Audit::begins_at_ms`]): the first offset of each partition that is not older.
    pub begins: TopicBegins,
}

/// Kafka partition → offset.
pub type TopicBegins = BTreeMap<i32, i64>;

/// What is audited.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Memory, in bytes: half for what is known of positions, half for the rows that are read. Default 256 MiB; less means
    /// more passes.
    pub memory_budget_bytes: usize,
    /// Whether the caller brings what records say ([`super::Records`]), not only their positions.
    pub contents: bool,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            memory_budget_bytes: 256 << 20,
            contents: false,
        }
    }
}

/// An audit under way.
#[derive(Debug)]
pub struct Audit {
    pub(super) lake: Lake,
    pub(super) options: AuditOptions,
    pub(super) topic: Option<TopicFacts>,
    pub(super) speed_path: Option<SpeedPath>,
    pub(super) logins: Facts,
    pub(super) rejected: Facts,
    pub(super) tables: Vec<TableSnapshot>,
    pub(super) sides: BTreeMap<i32, Side>,
    pub(super) passes: VecDeque<OffsetRanges>,
    pub(super) first: bool,
    pub(super) compactions: Vec<(TableName, ProvableCompaction)>,
    pub(super) file_sums: HashMap<(TableName, String), Fingerprint>,
    /// Hours that were begun.
    pub(super) hours: usize,
    /// What the tables say less what the topic says.
    pub(super) columns: [(TableName, Vec<u64>); 2],
    pub(super) spans: Spans,
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
            speed_path: None,
            logins,
            rejected,
            tables,
            sides: BTreeMap::new(),
            passes: VecDeque::new(),
            first: true,
            compactions: Vec::new(),
            file_sums: HashMap::new(),
            hours: 0,
            columns: no_columns().map(|(table, sums)| (table, locked(&sums).clone())),
            spans: Spans::default(),
            report,
        }))
    }

    /// The one date whose logins the lake holds; `None`: all dates. What records of other dates say is not to be handed in.
    pub fn only_date(&self) -> Option<NaiveDate> {
        self.tables.iter().find_map(|table| table.only_date)
    }

    /// The time from which on the lake has a topic, epoch milliseconds; `None`: from its oldest record on.
    pub fn begins_at_ms(&self, pipeline: &Pipeline) -> Option<i64> {
        let logins = self
            .tables
            .iter()
            .find(|table| table.table == TableName::Logins)?;
        pipeline.begins_at_ms(&logins.transactions)
    }

    pub(super) fn sides_compared(&self) -> Sides {
        Sides {
            topic: self.topic.is_some(),
            contents: self.topic.is_some() && self.options.contents,
            published: self.speed_path.is_some(),
        }
    }

    /// The next part of the offsets; `None`: all were looked at.
    pub fn next_pass(&mut self) -> Option<Arc<Pass>> {
        let windows = self.passes.pop_front()?;
        let compared = self.sides_compared();
        let sides = self.sides.iter_mut().map(|(partition, side)| {
            let window = windows
                .get(partition)
                .map(|(from, to)| Window::new(*from, *to, &side.ends, compared));
            let side = PassSide {
                window,
                found: std::mem::take(&mut side.found),
                compared: side.compared,
                logins_end: side.logins_end,
                rejected_end: side.rejected_end,
                first: self.first,
            };
            (*partition, Mutex::new(side))
        });
        let sides = sides.collect();
        let compared = self
            .sides
            .iter()
            .map(|(partition, side)| (*partition, side.compared));
        Some(Arc::new(Pass {
            sides,
            windows,
            compared: compared.collect(),
            hours: AtomicUsize::new(self.hours),
            columns: no_columns(),
            speed_path: self.speed_path.clone(),
            spans: Mutex::default(),
            first: self.first,
        }))
    }

    /// Reads the tables for a pass: all files for the first one, afterwards those that may have offsets of it. Several at a
    /// time, as the memory allows.
    ///
    /// # Errors
    /// The store failed.
    pub async fn read_tables(&mut self, pass: &Arc<Pass>) -> Result<(), LakeError> {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let room = Arc::new(Room::of(self.options.memory_budget_bytes / 2));
        let tables = std::mem::take(&mut self.tables);
        let mut running = JoinSet::new();
        let mut read = Vec::new();
        let mut result = Ok(());
        let first = self.first;
        for snapshot in &tables {
            let wanted_files = snapshot
                .files
                .iter()
                .filter(|file| first || may_have(file, &pass.windows));
            for file in wanted_files {
                if running.len() >= 2 * threads {
                    took(running.join_next().await, &mut read, &mut result);
                }
                let (lake, table, file) = (self.lake.clone(), snapshot.table, file.clone());
                let (pass, room) = (Arc::clone(pass), Arc::clone(&room));
                let wanted = Wanted {
                    times: self.topic.is_some(),
                    contents: self.sides_compared().contents && may_have(&file, &pass.topic_ranges()),
                };
                running.spawn(async move {
                    let facts = files::read(&lake, table, &file, wanted, &pass, &room).await;
                    (table, file, facts)
                });
            }
        }
        while !running.is_empty() {
            took(running.join_next().await, &mut read, &mut result);
        }
        self.tables = tables;
        if first {
            // In an order that does not depend on who was faster.
            read.sort_by(|(table, file, _), (other, other_file, _)| {
                (table, &file.path).cmp(&(other, &other_file.path))
            });
            for (table, file, facts) in read {
                self.took_first(table, &file, facts);
            }
        }
        result
    }

    fn took_first(&mut self, table: TableName, file: &DataFile, facts: FileFacts) {
        self.report.files += 1;
        self.report.rows += facts.fingerprint.rows;
        if let Some(finding) = facts.finding {
            self.report.found(finding);
        }
        for (partition, rows) in facts.unknown {
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
    }

    /// Ends a pass: what it saw is compared. Nobody feeds it any more.
    pub fn finish_pass(&mut self, pass: &Pass) {
        if self.first {
            self.spans = std::mem::take(&mut *locked(&pass.spans));
            self.judge_speed_path();
        }
        self.first = false;
        self.hours = pass.hours.load(std::sync::atomic::Ordering::Relaxed);
        for ((_, sums), (_, found)) in self.columns.iter_mut().zip(&pass.columns) {
            for (sum, found) in sums.iter_mut().zip(locked(found).iter()) {
                *sum = sum.wrapping_add(*found);
            }
        }
        for (partition, seen) in &pass.sides {
            let Some(side) = self.sides.get_mut(partition) else {
                continue;
            };
            let mut seen = locked(seen);
            side.found = std::mem::take(&mut seen.found);
            if let Some(window) = seen.window.take() {
                compare(*partition, side, &window, self.speed_path.is_some());
            }
        }
    }

    /// Between which offsets what was published is judged.
    fn judge_speed_path(&mut self) {
        let Some(path) = &self.speed_path else {
            return;
        };
        for (partition, side) in &mut self.sides {
            let tables = (side.from.unwrap_or(0), side.summary.next_offset);
            side.judged = self.spans.judged(path, *partition, tables);
        }
    }
}

fn took(
    file: Option<ReadFile>,
    read: &mut Vec<(TableName, DataFile, FileFacts)>,
    result: &mut Result<(), LakeError>,
) {
    match file {
        Some(Ok((table, file, Ok(facts)))) => read.push((table, file, facts)),
        Some(Ok((.., Err(error)))) => *result = Err(error),
        Some(Err(error)) => *result = Err(LakeError::Invariant(format!("a file was not read: {error}"))),
        None => {}
    }
}

/// A file that was read in a task of its own.
type ReadFile = Result<(TableName, DataFile, Result<FileFacts, LakeError>), tokio::task::JoinError>;

fn compare(partition: i32, side: &mut Side, window: &Window, published: bool) {
    side.too_often.append(&window.too_often());
    if side.summary.topic.is_some() {
        let (lacking, extra) = window.against_topic(partition, side.compared, &side.gaps);
        side.lacking.append(&lacking);
        side.extra.append(&extra);
        side.differing.append(&window.differing(side.compared));
        side.input
            .rows
            .merge(window.sums(partition, side.compared, Which::Tables));
        side.input
            .records
            .merge(window.sums(partition, side.compared, Which::Topic));
    }
    if published {
        let both = side.judged.both();
        let (logins, rejected) =
            window.not_published(partition, side.judged.logins, side.judged.rejected, &side.gaps);
        side.not_processed.append(&logins);
        side.not_dead_lettered.append(&rejected);
        let known = (side.from.unwrap_or(0), side.summary.next_offset);
        side.published_extra
            .append(&window.published_extra(partition, known, &side.gaps));
        let (twice, again) = window.published_twice();
        side.published_twice.append(&twice);
        side.speed_path
            .rows
            .merge(window.sums(partition, both, Which::Tables));
        side.speed_path
            .records
            .merge(window.sums(partition, both, Which::Published));
        *side.summary.published.get_or_insert(0) += window.published();
        *side.summary.published_again.get_or_insert(0) += again;
    }
}

/// Whether a file may have some offsets, by its statistics.
fn may_have(file: &DataFile, ranges: &OffsetRanges) -> bool {
    let partitions = stated_bounds(file, "kafka_partition").unwrap_or((i64::MIN, i64::MAX));
    let offsets = stated_bounds(file, "kafka_offset").unwrap_or((i64::MIN, i64::MAX));
    ranges.iter().any(|(partition, (from, to))| {
        (partitions.0..=partitions.1).contains(&i64::from(*partition))
            && offsets.0 < *to
            && offsets.1 >= *from
    })
}
