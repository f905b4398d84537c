//! Records that the topic does not hold any more: what is refused, and what an operator may accept. Pure.
//!
//! The table's next offset n of a Kafka partition has to be in what the topic holds, `low <= n <= high`, and the topic has
//! to be the same incarnation; otherwise nothing is read, and the text names the command that goes on (CORRECTNESS, OLAP
//! path 2). An accepted gap is a commit of its own with the compare-and-set on n, so it never moves offsets that somebody
//! else has moved, and it stays in the table's history.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::pipeline::{Pipeline, Predecessor, RETIRED};
use crate::table::commit::TxnStep;

/// First and last stable offset of each Kafka partition of a topic: what a read_committed reader can reach.
pub type TopicBounds = BTreeMap<i32, (i64, i64)>;

/// A gap that an operator accepts, written `PARTITION:FROM-TO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapRequest {
    /// The Kafka partition.
    pub kafka_partition: i32,
    /// The table's next offset.
    pub from: i64,
    /// The offset to go on from.
    pub to: i64,
}

impl FromStr for GapRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once(':')
            .and_then(|(partition, range)| Some((partition, range.split_once('-')?)));
        let parsed = parts.and_then(|(partition, (from, to))| {
            Some(GapRequest {
                kafka_partition: partition.parse().ok()?,
                from: from.parse().ok()?,
                to: to.parse().ok()?,
            })
        });
        parsed
            .filter(|gap| gap.kafka_partition >= 0 && gap.from >= 0 && gap.to >= 0)
            .ok_or_else(|| {
                format!("`{text}` is no gap: write PARTITION:FROM-TO with offsets, such as 3:1200-1500")
            })
    }
}

impl fmt::Display for GapRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}-{}", self.kafka_partition, self.from, self.to)
    }
}

/// Whether the topic holds what the table needs next.
///
/// # Errors
/// What is lost, and the flags with which to go on.
pub fn check(
    pipeline: &Pipeline,
    transactions: &BTreeMap<String, i64>,
    bounds: &TopicBounds,
) -> Result<(), String> {
    let topic = pipeline.topic();
    let offsets = pipeline.offsets(transactions);
    if offsets.values().any(|next_offset| *next_offset == RETIRED) {
        return Err(format!(
            "topic {topic} with the id {} was given up by an accepted gap, and another topic of that name took its place; \
             nothing was read: ingest it into another --lake",
            pipeline.incarnation()
        ));
    }
    if let Some(predecessor) = pipeline.predecessor(transactions) {
        return Err(predecessor_text(topic, &predecessor, bounds));
    }
    let mut lost = Vec::new();
    let mut gaps = Vec::new();
    for (kafka_partition, next_offset) in offsets {
        let Some((low, high)) = bounds.get(&kafka_partition).copied() else {
            continue;
        };
        if next_offset > high {
            return Err(format!(
                "the table's next offset of {topic}/{kafka_partition} is {next_offset}, but the topic ends at {high}: it lost \
                 records that the table has, and gives their offsets to new ones, which this lake could not tell from them; \
                 nothing was read: ingest the topic into another lake, with another --lake and --group-id"
            ));
        }
        if next_offset < low {
            lost.push(format!(
                "the table's next offset of {topic}/{kafka_partition} is {next_offset}, but records {next_offset} to {} are gone \
                 from the topic (retention)",
                low - 1
            ));
            gaps.push(GapRequest {
                kafka_partition,
                from: next_offset,
                to: low,
            });
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}; nothing was read; to go on without them, once: the same command with {}",
        lost.join(", and "),
        flags(&gaps)
    ))
}

/// What is said when the table belongs to an earlier incarnation of the topic. `bounds` are those of the topic as it is now.
pub fn predecessor_text(topic: &str, predecessor: &Predecessor, bounds: &TopicBounds) -> String {
    let gaps: Vec<GapRequest> = predecessor
        .offsets
        .iter()
        .map(|(kafka_partition, next_offset)| GapRequest {
            kafka_partition: *kafka_partition,
            from: *next_offset,
            to: bounds.get(kafka_partition).map_or(0, |(low, _)| *low),
        })
        .collect();
    let made_by_demo = if predecessor.incarnation == super::commit::EMBEDDED {
        " (that of a demo's own broker)"
    } else {
        ""
    };
    format!(
        "topic {topic} was deleted and made again: the table holds offsets of its incarnation {}{made_by_demo}; nothing was \
         read; ingest into another --lake, or, to give up what is missing of the old topic and go on with the new one in this \
         table, once: the same command with {}",
        predecessor.incarnation,
        flags(&gaps)
    )
}

fn flags(gaps: &[GapRequest]) -> String {
    let flags: Vec<String> = gaps.iter().map(|gap| format!("--accept-gap {gap}")).collect();
    flags.join(" ")
}

/// The compare-and-set that accepts gaps.
///
/// Of the same incarnation: each gap has to begin at the table's next offset, which the topic does not hold any more, and
/// to end where the topic can be read. Of an earlier incarnation: all of its partitions have to be named; their application
/// ids go to [`RETIRED`], and the new topic's partitions begin at the stated ends.
///
/// # Errors
/// Which gap is not as stated, and what is.
pub fn plan(
    pipeline: &Pipeline,
    transactions: &BTreeMap<String, i64>,
    gaps: &[GapRequest],
    bounds: &TopicBounds,
) -> Result<Vec<TxnStep>, String> {
    let mut by_partition = BTreeMap::new();
    for gap in gaps {
        if by_partition.insert(gap.kafka_partition, *gap).is_some() {
            return Err(format!(
                "--accept-gap names partition {} twice",
                gap.kafka_partition
            ));
        }
    }
    match pipeline.predecessor(transactions) {
        Some(predecessor) => plan_new_incarnation(pipeline, &predecessor, &by_partition, bounds),
        None => {
            let offsets = pipeline.offsets(transactions);
            by_partition
                .values()
                .map(|gap| plan_gap(pipeline, &offsets, *gap, bounds))
                .collect()
        }
    }
}

fn plan_gap(
    pipeline: &Pipeline,
    offsets: &BTreeMap<i32, i64>,
    gap: GapRequest,
    bounds: &TopicBounds,
) -> Result<TxnStep, String> {
    let partition = format!("{}/{}", pipeline.topic(), gap.kafka_partition);
    let Some(next_offset) = offsets.get(&gap.kafka_partition).copied() else {
        return Err(format!(
            "--accept-gap {gap}: the table has no offset of {partition}; leave the flag off"
        ));
    };
    let Some((low, high)) = bounds.get(&gap.kafka_partition).copied() else {
        return Err(format!(
            "--accept-gap {gap}: the topic has no partition {}",
            gap.kafka_partition
        ));
    };
    if next_offset != gap.from {
        let advice = if next_offset == gap.to {
            ": the gap is accepted already; leave the flag off"
        } else {
            ""
        };
        return Err(format!(
            "--accept-gap {gap}: the table's next offset of {partition} is {next_offset}, not {}{advice}",
            gap.from
        ));
    }
    if next_offset >= low && next_offset <= high {
        return Err(format!(
            "--accept-gap {gap}: the topic still holds {partition} from {low} to {high}; nothing is lost; leave the flag off"
        ));
    }
    if gap.to < low || gap.to > high || gap.to <= gap.from {
        return Err(format!(
            "--accept-gap {gap}: {partition} can be read from {low} to {high}, and {} is not in there",
            gap.to
        ));
    }
    Ok(TxnStep {
        app_id: pipeline.app_id(gap.kafka_partition),
        from: Some(gap.from),
        to: gap.to,
    })
}

fn plan_new_incarnation(
    pipeline: &Pipeline,
    predecessor: &Predecessor,
    gaps: &BTreeMap<i32, GapRequest>,
    bounds: &TopicBounds,
) -> Result<Vec<TxnStep>, String> {
    let as_stated = predecessor.offsets.len() == gaps.len()
        && gaps.values().all(|gap| {
            // A partition that the new topic does not have is only given up.
            let (low, high) = bounds.get(&gap.kafka_partition).copied().unwrap_or((0, 0));
            predecessor.offsets.get(&gap.kafka_partition) == Some(&gap.from) && (low..=high).contains(&gap.to)
        });
    if !as_stated {
        return Err(format!(
            "--accept-gap does not name what is to be given up: {}",
            predecessor_text(pipeline.topic(), predecessor, bounds)
        ));
    }
    let mut steps = Vec::new();
    for gap in gaps.values() {
        steps.push(TxnStep {
            app_id: pipeline.app_id_of(&predecessor.incarnation, gap.kafka_partition),
            from: Some(gap.from),
            to: RETIRED,
        });
        if bounds.contains_key(&gap.kafka_partition) {
            steps.push(TxnStep {
                app_id: pipeline.app_id(gap.kafka_partition),
                from: None,
                to: gap.to,
            });
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(text: &str) -> GapRequest {
        text.parse().unwrap()
    }

    fn bounds(of: &[(i32, i64, i64)]) -> TopicBounds {
        of.iter().map(|(p, low, high)| (*p, (*low, *high))).collect()
    }

    #[test]
    fn a_gap_is_written_as_partition_and_offsets() {
        assert_eq!(
            gap("3:5-9"),
            GapRequest {
                kafka_partition: 3,
                from: 5,
                to: 9
            }
        );
        assert_eq!(gap("3:5-9").to_string(), "3:5-9");
        for wrong in ["", "3", "3:5", "3:5-", "a:5-9", "-1:5-9", "3:5-9-11", "3:-5-9"] {
            let error = wrong.parse::<GapRequest>().unwrap_err();
            assert!(error.contains("PARTITION:FROM-TO"), "{error}");
        }
    }

    #[test]
    fn what_retention_took_is_refused_with_the_flags_that_accept_it() {
        let pipeline = Pipeline::new("t", "A");
        let transactions = BTreeMap::from([
            (pipeline.app_id(0), 5),
            (pipeline.app_id(1), 9),
            (pipeline.app_id(2), 7),
        ]);
        let held = bounds(&[(0, 5, 5), (1, 0, 9), (2, 3, 70), (3, 0, 0)]);
        assert_eq!(check(&pipeline, &transactions, &held), Ok(()));

        let held = bounds(&[(0, 8, 20), (1, 0, 9), (2, 10, 10)]);
        let text = check(&pipeline, &transactions, &held).unwrap_err();
        assert!(
            text.ends_with("with --accept-gap 0:5-8 --accept-gap 2:7-10"),
            "{text}"
        );
        let steps = plan(&pipeline, &transactions, &[gap("0:5-8"), gap("2:7-10")], &held).unwrap();
        assert_eq!(
            steps,
            [(0, 5, 8), (2, 7, 10)].map(|(partition, from, to)| TxnStep {
                app_id: pipeline.app_id(partition),
                from: Some(from),
                to,
            })
        );
        for (wrong, why) in [
            ("0:4-8", "is 5, not 4"),
            ("0:3-5", "accepted already"),
            ("0:5-7", "from 8 to 20, and 7 is not"),
            ("0:5-21", "from 8 to 20, and 21 is not"),
            ("1:9-9", "nothing is lost"),
            ("3:0-5", "no offset of t/3"),
        ] {
            let error = plan(&pipeline, &transactions, &[gap(wrong)], &held).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
        assert!(plan(&pipeline, &transactions, &[gap("0:5-8"), gap("0:5-9")], &held).is_err());
    }

    #[test]
    fn a_topic_that_ends_below_the_table_cannot_be_gone_on_with() {
        let pipeline = Pipeline::new("t", "A");
        let transactions = BTreeMap::from([(pipeline.app_id(0), 50)]);
        let held = bounds(&[(0, 0, 40)]);
        let text = check(&pipeline, &transactions, &held).unwrap_err();
        assert!(text.contains("another --lake"), "{text}");
        assert!(plan(&pipeline, &transactions, &[gap("0:50-40")], &held).is_err());
    }

    #[test]
    fn an_old_incarnation_is_given_up_as_a_whole_and_fences_who_still_reads_it() {
        let (old, new) = (Pipeline::new("t", "A"), Pipeline::new("t", "B"));
        let mut transactions = BTreeMap::from([(old.app_id(0), 5), (old.app_id(1), 9)]);
        let held = bounds(&[(0, 0, 3)]);
        let text = check(&new, &transactions, &held).unwrap_err();
        assert!(
            text.ends_with("with --accept-gap 0:5-0 --accept-gap 1:9-0"),
            "{text}"
        );
        assert!(plan(&new, &transactions, &[gap("0:5-0")], &held).is_err(), "half");
        assert!(plan(&new, &transactions, &[gap("0:5-4"), gap("1:9-0")], &held).is_err());
        let steps = plan(&new, &transactions, &[gap("0:5-0"), gap("1:9-0")], &held).unwrap();
        for step in &steps {
            assert_eq!(transactions.insert(step.app_id.clone(), step.to), step.from);
        }
        assert_eq!(check(&new, &transactions, &held), Ok(()));
        assert_eq!(new.offsets(&transactions), BTreeMap::from([(0, 0)]));
        assert!(
            check(&old, &transactions, &held)
                .unwrap_err()
                .contains("given up")
        );
    }
}
