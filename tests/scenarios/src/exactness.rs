//! Is every input record there, once and in order? Judged by source position, the (partition, offset) of the input, which
//! every output record carries in its headers and every row in its columns.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use rdkafka::Message;
use serde_json::Value;

use crate::delta_log::{self, Commit};
use crate::kafka::Record;
pub use crate::positions::{Position, Positions};
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
