//! Is every input record there, once and in order? Judged by source position, the (partition, offset) of the input, which
//! every output record carries in its headers and every row in its columns.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use rdkafka::Message;
use serde_json::Value;

use crate::delta_log::{self, Commit, DeltaLog};
use crate::kafka::Record;
pub use crate::positions::{Position, Positions};
use crate::reader::Counted;
use crate::records::source_position;
use crate::scenario::Scenario;

/// Versions at which a table is looked at, beside the newest.
const VERSIONS: usize = 4;
/// So many positions of a kind are named in an error.
const NAMED: usize = 10;

/// Every wanted position is found exactly once, and no other (invariant 1).
///
/// # Errors
/// When one is lost, there twice, or nowhere in the input.
pub fn each_once(
    wanted: impl IntoIterator<Item = Position>,
    found: impl IntoIterator<Item = Position>,
) -> Result<()> {
    let mut seen = Found::default();
    found.into_iter().for_each(|position| seen.take(position));
    seen.is_each_once(&wanted.into_iter().collect())
}

/// Positions that were found, and those that were found again.
#[derive(Debug, Default)]
struct Found {
    positions: Positions,
    again: u64,
    /// The first of those that were found again.
    named_again: Vec<Position>,
}

impl Found {
    fn take(&mut self, position: Position) {
        if !self.positions.insert(position) {
            self.again += 1;
            if self.named_again.len() < NAMED {
                self.named_again.push(position);
            }
        }
    }

    fn is_each_once(&self, wanted: &Positions) -> Result<()> {
        self.are_all(wanted)?;
        ensure!(
            self.again == 0,
            "of {} positions: {} there again {:?}",
            wanted.len(),
            self.again,
            self.named_again
        );
        Ok(())
    }

    /// None is lost, none is foreign; some may be there again.
    fn are_all(&self, wanted: &Positions) -> Result<()> {
        ensure!(
            *wanted == self.positions,
            "of {} positions: {}, {} there again {:?}, {}",
            wanted.len(),
            named("lost", wanted.without(&self.positions)),
            self.again,
            self.named_again,
            named("not in the input", self.positions.without(wanted))
        );
        Ok(())
    }
}

fn named(what: &str, mut positions: impl Iterator<Item = Position>) -> String {
    let first: Vec<Position> = positions.by_ref().take(NAMED).collect();
    format!("{} {what} {first:?}", first.len() + positions.count())
}

/// The positions of input records.
pub fn positions(input: &[Record]) -> impl Iterator<Item = Position> {
    input.iter().map(|record| (record.partition, record.offset))
}

/// The positions of everything that is committed in the input topic.
///
/// # Errors
/// When it cannot be read.
pub fn input_positions(scenario: &Scenario) -> Result<Positions> {
    let mut found = Positions::default();
    let topic = scenario.input_topic();
    scenario.kafka.each_committed(&topic, |message| {
        found.insert((message.partition(), message.offset()));
        Ok(())
    })?;
    Ok(found)
}

/// The speed path has published every input record once (invariant 1), and in the order of its partition (invariant 4).
///
/// # Errors
/// When it has not.
pub fn published_exactly(scenario: &Scenario, input: &[Record]) -> Result<()> {
    published_each_once(scenario, &positions(input).collect())
}

/// The same for positions, in a memory that a million of them fit into.
///
/// # Errors
/// As [`published_exactly`].
pub fn published_each_once(scenario: &Scenario, wanted: &Positions) -> Result<()> {
    published(scenario, true)?
        .is_each_once(wanted)
        .context("processed records and dead letters")
}

/// The speed path has published every input record at least once, the first time in the order of its partition. Returns how
/// many records are repeats.
///
/// # Errors
/// When it has not.
pub fn published_at_least_once(scenario: &Scenario, wanted: &Positions) -> Result<u64> {
    at_least_once(scenario, wanted, true)
}

/// The same where the output topic refused batches: those behind them were published before.
///
/// # Errors
/// As [`published_at_least_once`].
pub fn published_in_some_order(scenario: &Scenario, wanted: &Positions) -> Result<u64> {
    at_least_once(scenario, wanted, false)
}

fn at_least_once(scenario: &Scenario, wanted: &Positions, ordered: bool) -> Result<u64> {
    let found = published(scenario, ordered)?;
    found
        .are_all(wanted)
        .context("processed records and dead letters")?;
    Ok(found.again)
}

/// Both output topics as a read_committed reader sees them. A record is on one of them only; if they are to be ordered, the
/// records of one input partition follow each other in each output partition as they did there, repeats left out.
fn published(scenario: &Scenario, ordered: bool) -> Result<Found> {
    let mut all = Found::default();
    for topic in [scenario.output_topic(), scenario.dead_letter_topic()] {
        let mut here = Found::default();
        let mut last: HashMap<(i32, i32), i64> = HashMap::new();
        scenario.outputs().each_committed(&topic, |message| {
            let (partition, offset) = source_position(message)?;
            let is_new = !here.positions.contains((partition, offset));
            here.take((partition, offset));
            if is_new && let Some(before) = last.insert((message.partition(), partition), offset) {
                ensure!(
                    !ordered || before < offset,
                    "partition {} of {topic} has {partition}/{offset} behind {partition}/{before}",
                    message.partition()
                );
            }
            Ok(())
        })?;
        for position in here.positions.iter() {
            ensure!(
                all.positions.insert(position),
                "{position:?} is processed and a dead letter"
            );
        }
        all.again += here.again;
        all.named_again.append(&mut here.named_again);
    }
    Ok(all)
}

/// Both tables together hold every input record once, as the independent reader sees them (invariants 6 and 8).
///
/// # Errors
/// When they do not.
pub fn stored_exactly(scenario: &Scenario, input: &[Record]) -> Result<()> {
    let mut found = rows(scenario, "logins", None)?;
    found.extend(rows(scenario, "rejected", None)?);
    each_once(positions(input), found).context("rows of logins and rejected")
}

/// At versions all over the history of `logins`: below its offsets both tables together have each record once, and
/// nothing above (invariant 6).
///
/// # Errors
/// When they do not.
pub fn stored_exactly_at_versions(scenario: &Scenario, commits: &[Commit], input: &[Record]) -> Result<()> {
    let rejected = rows(scenario, "rejected", None)?;
    for number in 1..=VERSIONS {
        let upto = &commits[..commits.len() * number / (VERSIONS + 1)];
        let Some(last) = upto.last() else { continue };
        let next_offsets = delta_log::next_offsets(upto)?;
        let below =
            |(partition, offset): &Position| next_offsets.get(partition).is_some_and(|next| offset < next);
        let mut found = rows(scenario, "logins", Some(last.version))?;
        found.extend(rejected.iter().filter(|position| below(position)));
        each_once(positions(input).filter(|position| below(position)), found)
            .with_context(|| format!("logins at version {}", last.version))?;
    }
    Ok(())
}

/// At the newest version of the log: below its offsets both tables together have each offset from 0 on once, but for the `gaps` that
/// were accepted, and nothing above (invariant 6). The reader counts, so this is for topics without transaction markers, of
/// any size. Returns where the table stands.
///
/// # Errors
/// When it is not so, or the commits are no chain (invariant 7).
pub fn counts_are_exact(
    scenario: &Scenario,
    log: &mut DeltaLog<'_>,
    gaps: &BTreeMap<i32, (i64, i64)>,
) -> Result<BTreeMap<i32, i64>> {
    let commits = log.read_on()?;
    let standing = delta_log::next_offsets(commits)?;
    let version = match commits.last() {
        Some(last) if !standing.is_empty() => last.version,
        // Before its first offsets a table has no rows: a commit that adds some says which offsets it covers.
        _ => return Ok(standing),
    };
    let mut found = scenario.reader().count_below(version, &standing)?;
    for (partition, next) in standing.iter().filter(|(_, next)| **next > 0) {
        let gap = gaps.get(partition).filter(|(_, to)| to <= next);
        let rows = next - gap.map_or(0, |(from, to)| to - from);
        let end = gap.filter(|(_, to)| to == next).map_or(*next, |(from, _)| *from);
        let counted = found.remove(partition);
        let wanted = Counted {
            rows,
            distinct: rows,
            min: 0,
            max: end - 1,
        };
        ensure!(
            counted == Some(wanted),
            "version {version}: partition {partition} has {counted:?}, not {wanted:?}"
        );
    }
    ensure!(
        found.is_empty(),
        "version {version} has rows of partitions that have no offsets: {found:?}"
    );
    Ok(standing)
}

/// The positions of a table's rows, at a version or now.
///
/// # Errors
/// When the table cannot be read.
pub fn rows(scenario: &Scenario, table: &str, version: Option<i64>) -> Result<Vec<Position>> {
    const SQL: &str = "SELECT kafka_partition, kafka_offset FROM t";
    let reader = scenario.reader();
    let rows = match version {
        Some(version) => reader.query_at(table, version, SQL)?,
        None => reader.query(table, SQL)?,
    };
    rows.iter().map(|row| position(row)).collect()
}

/// A row that begins with a position.
///
/// # Errors
/// When it does not.
pub fn position(row: &[Value]) -> Result<Position> {
    let number = |index: usize| {
        row.get(index)
            .and_then(Value::as_i64)
            .with_context(|| format!("no position: {row:?}"))
    };
    Ok((i32::try_from(number(0)?)?, number(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_repeated_or_foreign_is_named() {
        let wanted = [(0, 0), (0, 1), (1, 0)];
        each_once(wanted, [(1, 0), (0, 1), (0, 0)]).unwrap();
        let error = each_once(wanted, [(0, 0), (0, 0), (1, 0), (7, 7)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "of 3 positions: 1 lost [(0, 1)], 1 there again [(0, 0)], 1 not in the input [(7, 7)]"
        );
        let error = each_once(wanted, [(0, 0), (1, 0), (0, 1), (0, 1)]).unwrap_err();
        assert_eq!(error.to_string(), "of 3 positions: 1 there again [(0, 1)]");
    }
}
