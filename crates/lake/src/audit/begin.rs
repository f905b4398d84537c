//! What is compared of each Kafka partition: by the log, and by what the topic still has.

use super::chain::{Facts, SourceRange};
use super::files::stated_bounds;
use super::positions::{OffsetRanges, passes};
use super::published::SpeedPath;
use super::report::{Finding, PartitionSummary, Ranges, What};
use super::run::{Audit, TopicFacts};
use super::side::Side;
use crate::error::LakeError;
use crate::table::TableName;

impl Audit {
    /// Begins the passes. `topic`, `speed_path`: compares with them; ask for their bounds after [`Audit::open`], because the
    /// tables must not be ahead of them.
    ///
    /// # Errors
    /// [`LakeError::DataLossRefused`]: the topic is not the one that the table is filled from.
    pub fn begin(
        &mut self,
        topic: Option<TopicFacts>,
        speed_path: Option<SpeedPath>,
    ) -> Result<(), LakeError> {
        let (logins, rejected) = (
            std::mem::take(&mut self.logins),
            std::mem::take(&mut self.rejected),
        );
        self.topic = topic;
        self.speed_path = speed_path;
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
        let mut incarnations = 1;
        for (partition, side) in &self.sides {
            let end = side.ends.iter().copied().max().unwrap_or(0);
            let compared = side.compared;
            let from = match compared.0 < compared.1 {
                true => lowest.min(compared.0),
                false => lowest,
            };
            ranges.insert(*partition, (from.min(end), end));
            incarnations = incarnations.max(side.ends.len());
        }
        let bits = self.sides_compared().bits(incarnations);
        self.passes = passes(&ranges, bits, self.options.memory_budget_bytes / 2).into();
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
            from: newest.and_then(|newest| newest.from),
            gaps,
            erased,
            ..Side::default()
        }
    }

    /// Which offsets of the topic are compared: from the first that the topic has, and the table began with, to the next that
    /// the table has committed.
    fn prepare_topic(&mut self, topic: &TopicFacts, logins: &Facts) -> Result<(), LakeError> {
        let mut known = false;
        for partition in topic
            .bounds
            .keys()
            .filter(|partition| !logins.sources.contains_key(partition))
        {
            let ends = topic.bounds[partition];
            if ends.0 < ends.1 {
                self.report.note(format!(
                    "partition {partition}: the table has no offset of it yet, and the topic has {} to {}",
                    ends.0,
                    ends.1 - 1
                ));
            }
        }
        for (partition, sources) in &logins.sources {
            let app_id = topic.pipeline.app_id(*partition);
            let Some(side) = self.sides.get_mut(partition) else {
                continue;
            };
            let source = sources.iter().find(|source| source.app_id == app_id);
            let bounds = topic.bounds.get(partition);
            let (Some(source), Some((low, high))) = (source, bounds) else {
                let of_topic = |source: &&SourceRange| topic.pipeline.is_other_incarnation(&source.app_id);
                if let Some(other) = sources.iter().find(|source| !source.retired && of_topic(source)) {
                    known = true;
                    self.report.found(made_again(*partition, other, topic, bounds));
                }
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
            // By the log, or by the time that the lake was begun at; the earlier one, so that what lies between is missed.
            let begins = [source.from, topic.begins.get(partition).copied()];
            let from = match begins.into_iter().flatten().min() {
                Some(from) => from.max(*low),
                None => {
                    self.report.note(format!(
                        "partition {partition}: the log does not say any more where the table began; compared from {low} on"
                    ));
                    *low
                }
            };
            side.from = Some(side.from.map_or(from, |began| began.min(from)));
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
}

/// The topic is another one than that whose offsets the table has.
fn made_again(
    partition: i32,
    held: &SourceRange,
    topic: &TopicFacts,
    bounds: Option<&(i64, i64)>,
) -> Finding {
    let mut ranges = Ranges::default();
    if let Some(to) = held.to {
        ranges.push_range(held.from.unwrap_or(0).min(to), to);
    }
    let now = match bounds {
        Some((low, high)) => format!("from {low} to {high}"),
        None => "without this partition".to_owned(),
    };
    let detail = format!(
        "the table holds offsets of topic {} as {}, and the topic is {} now, {now}: it was deleted and made again; `olap ingest` \
         says how to go on",
        topic.pipeline.topic(),
        held.app_id,
        topic.pipeline.incarnation(),
    );
    Finding::new(What::TopicMadeAgain, detail)
        .in_table(TableName::Logins.as_str())
        .at(partition, &ranges)
}
