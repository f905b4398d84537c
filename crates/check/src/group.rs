//! A reader of the input topic: its consumer group, and whether the topic still holds what it reads next. The position is the group's
//! committed offset, or for `olap ingest` that of the table.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use loginlake_kafka::KafkaSettings;
use loginlake_kafka::inspect::{Right, committed_offsets};
use loginlake_service::check::Checklist;

use crate::topic::Found;
use crate::{AREA, Cluster, counted};

/// Looks at a consumer group.
pub fn group(list: &mut Checklist, cluster: &Cluster, group: &str) {
    let what = format!("group {group}");
    let advice = || {
        format!(
            "allow it to this user: kafka-acls.sh --add --allow-principal User:… --operation Read --group {group}"
        )
    };
    match cluster.client.group(group) {
        Ok(facts)
            if facts
                .rights
                .as_ref()
                .is_some_and(|rights| !rights.contains(&Right::Read)) =>
        {
            list.failed(AREA, what, "READ is not allowed", advice());
        }
        Ok(facts) => {
            // Kafka calls a group dead that nobody was ever a member of.
            let state = match facts.state.as_str() {
                "Dead" => "not used yet",
                state => state,
            };
            let found = format!("{state}, {}", counted(facts.members, "member"));
            list.ok(AREA, what, found);
        }
        Err(why) if why.to_ascii_lowercase().contains("authoriz") => list.failed(AREA, what, why, advice()),
        Err(why) => list.warning(
            AREA,
            what,
            format!("its coordinator does not tell: {why}"),
            "see the brokers' logs if it stays so; a broker that has just started needs a moment",
        ),
    }
}

/// Looks at the lag of a consumer group.
pub fn group_lag(
    list: &mut Checklist,
    cluster: &Cluster,
    settings: &KafkaSettings,
    group: &str,
    topic: &Found,
) {
    match committed_offsets(settings, group, &topic.name, topic.facts.partitions) {
        Ok(positions) => lag(list, cluster, &format!("lag of group {group}"), topic, &positions),
        Err(error) => list.failed(
            AREA,
            format!("lag of group {group}"),
            error.to_string(),
            format!("allow READ on group {group}, or see the brokers' logs"),
        ),
    }
}

/// How far behind a reader is, and whether the records that it reads next are still there. `positions` are its next offsets.
pub fn lag(
    list: &mut Checklist,
    cluster: &Cluster,
    what: &str,
    topic: &Found,
    positions: &BTreeMap<i32, i64>,
) {
    let bounds = match cluster.client.bounds(&topic.name) {
        Ok(bounds) => bounds,
        Err(error) => {
            list.failed(AREA, what, error.to_string(), "see the brokers' logs");
            return;
        }
    };
    if positions.is_empty() {
        let records: i64 = bounds.values().map(|(low, high)| high - low).sum();
        let found = format!("nothing is read yet: it begins at the oldest of {records} records");
        list.ok(AREA, what, found);
        return;
    }
    if let Some((found, advice)) = out_of_bounds(&bounds, positions) {
        list.failed(AREA, what, found, advice);
        return;
    }
    let records = behind(&bounds, positions);
    let found = format!("{records} records");
    match endangered(cluster, topic, positions) {
        Some(partition) => list.warning(
            AREA,
            what,
            format!("{found}; of partition {partition} it reads next what is older than half of the retention"),
            "start the reader, add instances, or lengthen retention.ms: what retention deletes unread is lost",
        ),
        None => list.ok(AREA, what, found),
    }
}

/// A position that the topic does not have (any more), and what to do.
fn out_of_bounds(
    bounds: &BTreeMap<i32, (i64, i64)>,
    positions: &BTreeMap<i32, i64>,
) -> Option<(String, String)> {
    for (partition, position) in positions {
        let Some((low, high)) = bounds.get(partition) else {
            return Some((
                format!("partition {partition} is not there any more"),
                "the topic was made anew with fewer partitions: see OPERATIONS.md on gaps".to_owned(),
            ));
        };
        if position < low {
            return Some((
                format!(
                    "partition {partition}: the records {position} to {} are gone, and it has not read them",
                    low - 1
                ),
                "lengthen retention.ms; see OPERATIONS.md on accepting a gap".to_owned(),
            ));
        }
        if position > high {
            return Some((
                format!("partition {partition}: it reads on at {position}, and the topic ends at {high}"),
                "the topic was deleted and made again, or is another one: see OPERATIONS.md on gaps"
                    .to_owned(),
            ));
        }
    }
    None
}

fn behind(bounds: &BTreeMap<i32, (i64, i64)>, positions: &BTreeMap<i32, i64>) -> i64 {
    let of = |(partition, (low, high)): (&i32, &(i64, i64))| {
        high - positions.get(partition).copied().unwrap_or(*low)
    };
    bounds.iter().map(of).sum()
}

/// A partition whose next unread record has used up half of its time.
fn endangered(cluster: &Cluster, topic: &Found, positions: &BTreeMap<i32, i64>) -> Option<i32> {
    let retention_ms: i64 = topic.settings.get("retention.ms")?.parse().ok()?;
    if retention_ms < 0 {
        return None;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let half_ms = i64::try_from(now.as_millis()).ok()? - retention_ms / 2;
    let young = cluster.client.offsets_at(&topic.name, half_ms).ok()?;
    positions
        .iter()
        .find(|(partition, position)| young.get(partition).is_some_and(|young| *position < young))
        .map(|(partition, _)| *partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_to_be_within_the_topic() {
        let bounds = BTreeMap::from([(0, (10, 20)), (1, (0, 5))]);
        let at = |zero, one| out_of_bounds(&bounds, &BTreeMap::from([(0, zero), (1, one)]));
        assert_eq!(at(10, 5), None);
        assert_eq!(at(20, 0), None);
        let (found, _) = at(7, 0).expect("gone");
        assert_eq!(
            found,
            "partition 0: the records 7 to 9 are gone, and it has not read them"
        );
        assert!(at(10, 6).expect("beyond").0.contains("the topic ends at 5"));
        assert!(out_of_bounds(&bounds, &BTreeMap::from([(2, 0)])).is_some());
    }

    #[test]
    fn what_was_never_read_counts_from_its_oldest_record() {
        let bounds = BTreeMap::from([(0, (10, 20)), (1, (3, 5))]);
        assert_eq!(behind(&bounds, &BTreeMap::from([(0, 15)])), 5 + 2);
    }
}
