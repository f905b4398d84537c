//! The name under which a topic's incarnation keeps its offsets in the table: one application id per Kafka partition.
//!
//! A topic that is deleted and made again has another topic id, and so other application ids: its offsets begin anew and
//! must not be taken for those of its predecessor (CORRECTNESS, OLAP path 2).

use std::collections::BTreeMap;

/// First part of every application id of ingestion.
const PREFIX: &str = "loginlake";

/// A topic's incarnation as a source of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    topic: String,
    incarnation: String,
}

impl Pipeline {
    /// `incarnation` is the broker's topic id.
    pub fn new(topic: impl Into<String>, incarnation: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            incarnation: incarnation.into(),
        }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The application id of one of its Kafka partitions.
    pub fn app_id(&self, kafka_partition: i32) -> String {
        format!("{PREFIX}/{}/{}/{kafka_partition}", self.topic, self.incarnation)
    }

    /// The next offset of each Kafka partition of this incarnation, as a table's `txn` actions say it.
    pub fn offsets(&self, transactions: &BTreeMap<String, i64>) -> BTreeMap<i32, i64> {
        let prefix = format!("{PREFIX}/{}/{}/", self.topic, self.incarnation);
        transactions
            .iter()
            .filter_map(|(app_id, version)| Some((app_id.strip_prefix(&prefix)?.parse().ok()?, *version)))
            .collect()
    }

    /// Another incarnation of the same topic that the table has records of.
    pub fn predecessor(&self, transactions: &BTreeMap<String, i64>) -> Option<String> {
        let prefix = format!("{PREFIX}/{}/", self.topic);
        transactions.keys().find_map(|app_id| {
            let (incarnation, _) = app_id.strip_prefix(&prefix)?.rsplit_once('/')?;
            (incarnation != self.incarnation).then(|| incarnation.to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_this_incarnation_only() {
        let old = Pipeline::new("user-login", "AAA");
        let new = Pipeline::new("user-login", "BBB");
        let transactions = BTreeMap::from([
            (old.app_id(0), 5),
            (new.app_id(0), 7),
            (new.app_id(12), 9),
            ("other".to_owned(), 1),
        ]);
        assert_eq!(new.offsets(&transactions), BTreeMap::from([(0, 7), (12, 9)]));
        assert_eq!(new.predecessor(&transactions).as_deref(), Some("AAA"));
        assert_eq!(Pipeline::new("logins", "AAA").predecessor(&transactions), None);
    }
}
