//! Whether the end of the topic is reached, for `--exit-at-end`.

use std::collections::{BTreeMap, BTreeSet};

use loginlake_kafka::consumer::{GroupConsumer, PartitionListener};

/// Whether the group has committed everything that the topic held at the start, on every partition, whoever has it. `here`: the
/// partitions of this instance, read to their end with nothing left to commit. A partition may end in transaction markers,
/// which no record's offset reaches: what is read to its end is committed as a whole.
pub(super) fn is_reached<L: PartitionListener>(
    consumer: &GroupConsumer<L>,
    here: &BTreeSet<i32>,
    bounds: &BTreeMap<i32, (i64, i64)>,
) -> bool {
    let partitions: Vec<i32> = bounds.keys().copied().collect();
    let Ok(committed) = consumer.committed(&partitions) else {
        return false;
    };
    let behind = behind(bounds, &committed);
    if behind.is_empty() {
        return true;
    }
    let here: BTreeMap<i32, i64> = behind
        .into_iter()
        .filter(|(partition, _)| here.contains(partition))
        .collect();
    if !here.is_empty()
        && let Err(error) = consumer.commit_sync(&here)
    {
        tracing::debug!(%error, "the end of the partitions is not committed yet");
    }
    false
}

/// The partitions whose committed offset is not at their end, each with that end.
fn behind(bounds: &BTreeMap<i32, (i64, i64)>, committed: &BTreeMap<i32, Option<i64>>) -> BTreeMap<i32, i64> {
    let next = |partition: &i32| committed.get(partition).copied().flatten().unwrap_or(0);
    bounds
        .iter()
        .filter(|(partition, (low, end))| end > low && next(partition) < *end)
        .map(|(partition, (_, end))| (*partition, *end))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_partitions_need_no_offset_and_others_their_end() {
        let bounds = BTreeMap::from([(0, (0, 0)), (1, (5, 9)), (2, (0, 4)), (3, (2, 2))]);
        let committed = BTreeMap::from([(1, Some(9)), (2, Some(3))]);
        assert_eq!(behind(&bounds, &committed), BTreeMap::from([(2, 4)]));
    }
}
