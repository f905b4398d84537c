//! Which records of the topic a version of the table does not hold, or why an answer with them would not be exact. Pure.

use std::collections::BTreeMap;

use loginlake_lake::TableSnapshot;
use loginlake_lake::ingest::pipeline::RETIRED;
use loginlake_lake::ingest::{OffsetRange, Pipeline, TopicBounds};
use loginlake_service::exit::ExitError;

use super::FreshPosition;

/// Why there is no fresh answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It would lack records, or have others.
    Refused(String),
    /// The lake was never meant to have all of it.
    OneDate(String),
    /// The lake has nothing of this topic.
    OtherTopic(String),
}

impl NoAnswer {
    pub fn into_exit(self) -> ExitError {
        match self {
            Self::Refused(text) => ExitError::refused(text),
            Self::OneDate(text) => ExitError::usage(text),
            Self::OtherTopic(text) => ExitError::failed(text),
        }
    }
}

/// `[o, h)` of each Kafka partition. `begins` has the partitions that the table does not know. `bounds` were asked for after
/// the table was loaded.
pub fn missing(
    pipeline: &Pipeline,
    logins: &TableSnapshot,
    begins: &BTreeMap<i32, i64>,
    bounds: &TopicBounds,
) -> Result<BTreeMap<i32, OffsetRange>, NoAnswer> {
    let topic = pipeline.topic();
    let version = logins.version;
    let offsets = pipeline.offsets(&logins.transactions);
    if let Some(date) = logins.only_date {
        return Err(NoAnswer::OneDate(format!(
            "--fresh: this lake was filled with --only-date {date}, so what the topic has beyond it is not only the rest: ask it \
             without --fresh"
        )));
    }
    let predecessor = pipeline.predecessor(&logins.transactions);
    if let Some(predecessor) = predecessor {
        return Err(NoAnswer::Refused(format!(
            "--fresh: topic {topic} was deleted and made again: version {version} of logins holds offsets of its incarnation \
             {}, and the topic is {} now; `olap ingest` says how to go on, and without --fresh the table answers",
            predecessor.incarnation,
            pipeline.incarnation()
        )));
    }
    if offsets.values().any(|next_offset| *next_offset == RETIRED) {
        return Err(NoAnswer::Refused(format!(
            "--fresh: topic {topic} with the id {} was given up by an accepted gap; without --fresh the table answers",
            pipeline.incarnation()
        )));
    }
    if offsets.is_empty() {
        return Err(NoAnswer::OtherTopic(format!(
            "--fresh: version {version} of logins holds no offsets of topic {topic}: name the topic that it is filled from with \
             --input-topic, or run `olap ingest` first"
        )));
    }
    let mut missing = BTreeMap::new();
    for (partition, from) in offsets.iter().chain(begins) {
        let Some((low, high)) = bounds.get(partition) else {
            return Err(NoAnswer::Refused(format!(
                "--fresh: version {version} of logins holds partition {partition} of topic {topic}, which has no such partition \
                 now; without --fresh the table answers"
            )));
        };
        if from < low {
            return Err(gone(topic, *partition, *from, *low));
        }
        if from > high {
            return Err(NoAnswer::Refused(format!(
                "--fresh: the next offset of {topic}/{partition} in version {version} of logins is {from}, but the topic ends at \
                 {high}: it lost records that the table has; without --fresh the table answers"
            )));
        }
        missing.insert(
            *partition,
            OffsetRange {
                from: *from,
                to: *high,
            },
        );
    }
    Ok(missing)
}

fn gone(topic: &str, partition: i32, from: i64, low: i64) -> NoAnswer {
    NoAnswer::Refused(format!(
        "--fresh: records {from} to {} of {topic}/{partition} are neither in the table nor in the topic any more (retention), \
         and the answer would lack them; `olap ingest` says how to go on, and without --fresh the table answers",
        low - 1
    ))
}

/// Whether the topic still holds the records of an earlier answer.
pub fn still_there(
    position: &FreshPosition,
    incarnation: &str,
    bounds: &TopicBounds,
) -> Result<(), NoAnswer> {
    let topic = &position.topic;
    if position.incarnation != incarnation {
        return Err(NoAnswer::Refused(format!(
            "--at: topic {topic} was deleted and made again since that answer: its records are gone"
        )));
    }
    for (partition, range) in &position.partitions {
        if range.from >= range.to {
            continue;
        }
        let (low, high) = bounds.get(partition).copied().unwrap_or((i64::MAX, i64::MIN));
        if range.from < low || range.to > high {
            return Err(NoAnswer::Refused(format!(
                "--at: records {} to {} of {topic}/{partition} are not all in the topic any more; ask the table at a version \
                 that holds them, with --at VERSION",
                range.from,
                range.to - 1
            )));
        }
    }
    Ok(())
}

/// The rest of `rejected`, which holds what is below `held`: further than `logins` after a commit of its own, less far when
/// nothing was rejected since.
pub fn rest_of_rejected(
    position: &FreshPosition,
    held: &BTreeMap<i32, i64>,
) -> Result<BTreeMap<i32, OffsetRange>, NoAnswer> {
    let topic = &position.topic;
    position
        .partitions
        .iter()
        .map(|(partition, range)| {
            let from = held
                .get(partition)
                .map_or(range.from, |held| range.from.max(*held));
            if from > range.to {
                return Err(NoAnswer::Refused(format!(
                    "--fresh: the table rejected holds {topic}/{partition} up to {from}, beyond {} where this answer ends",
                    range.to
                )));
            }
            Ok((*partition, OffsetRange { from, to: range.to }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use loginlake_lake::TableName;
    use loginlake_lake::table::schema::table_schema;

    fn logins(transactions: &[(String, i64)]) -> TableSnapshot {
        TableSnapshot {
            table: TableName::Logins,
            version: 7,
            schema: table_schema(TableName::Logins),
            partition_columns: Vec::new(),
            files: Vec::new(),
            transactions: transactions.iter().cloned().collect(),
            only_date: None,
            checkpoint_version: None,
        }
    }

    fn range(from: i64, to: i64) -> OffsetRange {
        OffsetRange { from, to }
    }

    fn refused(result: Result<BTreeMap<i32, OffsetRange>, NoAnswer>) -> String {
        match result {
            Err(NoAnswer::Refused(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_is_between_the_table_and_the_end() {
        let a = Pipeline::new("t", "A");
        let table = logins(&[(a.app_id(0), 10), (a.app_id(1), 0)]);
        let bounds = BTreeMap::from([(0, (4, 12)), (1, (0, 0)), (2, (3, 5))]);
        assert_eq!(
            missing(&a, &table, &BTreeMap::from([(2, 3)]), &bounds),
            Ok(BTreeMap::from([
                (0, range(10, 12)),
                (1, range(0, 0)),
                (2, range(3, 5))
            ]))
        );
    }

    #[test]
    fn an_answer_that_would_lack_records_is_refused() {
        let (a, b) = (Pipeline::new("t", "A"), Pipeline::new("t", "B"));
        let table = logins(&[(a.app_id(0), 10)]);
        let (none, nothing) = (BTreeMap::new(), BTreeMap::new());
        let of = |bounds: (i64, i64)| refused(missing(&a, &table, &none, &BTreeMap::from([(0, bounds)])));
        assert!(of((11, 20)).contains("records 10 to 10 of t/0"));
        assert!(of((0, 9)).contains("lost records"));
        assert!(refused(missing(&a, &table, &none, &nothing)).contains("no such partition"));
        let all = BTreeMap::from([(0, (0, 20))]);
        assert!(refused(missing(&b, &table, &none, &all)).contains("made again"));
        let given_up = logins(&[(a.app_id(0), RETIRED), (b.app_id(0), 3)]);
        assert!(refused(missing(&a, &given_up, &none, &all)).contains("was deleted and made again"));
        assert_eq!(
            missing(&b, &given_up, &none, &all),
            Ok(BTreeMap::from([(0, range(3, 20))]))
        );
        assert!(matches!(
            missing(&Pipeline::new("other", "A"), &table, &none, &all),
            Err(NoAnswer::OtherTopic(_))
        ));
    }

    #[test]
    fn a_lake_of_one_date_has_no_rest() {
        let a = Pipeline::new("t", "A");
        let mut table = logins(&[(a.app_id(0), 10)]);
        table.only_date = Some("2026-01-05".parse().unwrap());
        assert!(matches!(
            missing(&a, &table, &BTreeMap::new(), &BTreeMap::from([(0, (0, 20))])),
            Err(NoAnswer::OneDate(_))
        ));
    }

    #[test]
    fn an_answer_is_repeated_only_from_the_same_records() {
        let position = FreshPosition {
            topic: "t".to_owned(),
            incarnation: "A".to_owned(),
            partitions: BTreeMap::from([(0, range(10, 12)), (1, range(4, 4))]),
            asked_at_ms: 0,
        };
        let of = |bounds: (i64, i64)| still_there(&position, "A", &BTreeMap::from([(0, bounds)]));
        assert_eq!(of((10, 12)), Ok(()));
        assert!(of((11, 12)).is_err() && of((0, 11)).is_err());
        assert!(still_there(&position, "B", &BTreeMap::from([(0, (0, 20))])).is_err());
    }

    #[test]
    fn rejected_goes_on_from_where_it_is_itself() {
        let position = FreshPosition {
            topic: "t".to_owned(),
            incarnation: "A".to_owned(),
            partitions: BTreeMap::from([(0, range(10, 20)), (1, range(10, 20)), (2, range(0, 0))]),
            asked_at_ms: 0,
        };
        assert_eq!(
            rest_of_rejected(&position, &BTreeMap::from([(0, 15), (1, 3)])),
            Ok(BTreeMap::from([
                (0, range(15, 20)),
                (1, range(10, 20)),
                (2, range(0, 0))
            ]))
        );
        assert!(rest_of_rejected(&position, &BTreeMap::from([(0, 21)])).is_err());
    }
}
