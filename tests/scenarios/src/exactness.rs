//! Is every input record there, once and in order? Judged by source position, the (partition, offset) of the input, which
//! every output record carries in its headers and every row in its columns.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::delta_log::{self, Commit};
use crate::kafka::Record;
use crate::scenario::Scenario;

/// Partition and offset in the input topic.
pub type Position = (i32, i64);

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
    let wanted: BTreeSet<Position> = wanted.into_iter().collect();
    let mut seen = BTreeSet::new();
    let twice: Vec<Position> = found
        .into_iter()
        .filter(|position| !seen.insert(*position))
        .collect();
    let lost: Vec<Position> = wanted.difference(&seen).copied().collect();
    let foreign: Vec<Position> = seen.difference(&wanted).copied().collect();
    ensure!(
        twice.is_empty() && lost.is_empty() && foreign.is_empty(),
        "of {} positions: {}, {}, {}",
        wanted.len(),
        named("lost", &lost),
        named("there again", &twice),
        named("not in the input", &foreign)
    );
    Ok(())
}

fn named(what: &str, positions: &[Position]) -> String {
    let first = &positions[..positions.len().min(NAMED)];
    format!("{} {what} {first:?}", positions.len())
}

/// The positions of input records.
pub fn positions(input: &[Record]) -> impl Iterator<Item = Position> {
    input.iter().map(|record| (record.partition, record.offset))
}

/// Both output topics as a read_committed reader sees them.
///
/// # Errors
/// When they cannot be read.
pub fn published(scenario: &Scenario) -> Result<Vec<Record>> {
    let mut records = scenario.kafka.read_committed(&scenario.output_topic())?;
    records.extend(scenario.kafka.read_committed(&scenario.dead_letter_topic())?);
    Ok(records)
}

/// The speed path has published every input record once (invariant 1), and in the order of its partition (invariant 4).
///
/// # Errors
/// When it has not.
pub fn published_exactly(scenario: &Scenario, input: &[Record]) -> Result<()> {
    let found = published(scenario)?;
    let sources = found
        .iter()
        .map(Record::source_position)
        .collect::<Result<Vec<_>>>()?;
    each_once(positions(input), sources).context("processed records and dead letters")?;
    for topic in [scenario.output_topic(), scenario.dead_letter_topic()] {
        in_order(&scenario.kafka.read_committed(&topic)?).with_context(|| topic.clone())?;
    }
    Ok(())
}

/// In each output partition the records of one input partition follow each other as they did there (invariant 4).
fn in_order(records: &[Record]) -> Result<()> {
    let mut last: BTreeMap<(i32, i32), i64> = BTreeMap::new();
    for record in records {
        let (partition, offset) = record.source_position()?;
        if let Some(before) = last.insert((record.partition, partition), offset) {
            ensure!(
                before < offset,
                "output partition {} has {partition}/{offset} behind {partition}/{before}",
                record.partition
            );
        }
    }
    Ok(())
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
    }
}
