//! What `realtime check` and `olap check` ask of Kafka and of a schema registry, as lines of a checklist.
//!
//! - [`topic`]: is it there, whole, rightly set, and may this user do what is needed with it?
//! - [`group`]: its state, and whether the topic still holds what it reads next;
//! - [`probe`]: what only a transaction can tell, and which is given up again;
//! - [`registry`]: does it answer?
//!
//! Each question has a limit of some seconds, and where no broker answers at all nothing more is asked. Nothing is changed, but by
//! [`probe`], of which a `read_committed` reader sees nothing.

pub mod group;
pub mod probe;
pub mod registry;
pub mod topic;

use loginlake_kafka::inspect::ClusterFacts;
use loginlake_kafka::topics::Topics;
use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_service::check::{CONFIGURATION, Checklist};

pub(crate) const AREA: &str = "kafka";

/// A cluster that answers.
pub struct Cluster {
    /// Asks it.
    pub client: Topics,
    /// What it said first.
    pub facts: ClusterFacts,
}

/// Connects. `None`: nobody answers, and the list says why. `what` tells two clusters apart.
pub fn cluster(list: &mut Checklist, what: &str, settings: &KafkaSettings) -> Option<Cluster> {
    let client = match Topics::connect(settings) {
        Ok(client) => client,
        Err(error) => {
            let advice = "correct the librdkafka property or the address: see -X and --brokers";
            list.failed(CONFIGURATION, what, error.to_string(), advice);
            return None;
        }
    };
    match client.cluster() {
        Ok(facts) => {
            let id = facts.cluster_id.as_deref().unwrap_or("without an id");
            let version = client
                .broker_settings(facts.broker)
                .ok()
                .and_then(|settings| settings.get("inter.broker.protocol.version").cloned())
                .map(|version| format!(", protocol {version}"));
            let found = format!(
                "{} at {}, cluster {id}{}",
                counted(facts.brokers, "broker"),
                settings.brokers,
                version.unwrap_or_default()
            );
            list.ok(AREA, what, found);
            Some(Cluster { client, facts })
        }
        Err(error) => {
            let (found, advice) = unreachable(&error);
            list.failed(AREA, what, found, advice);
            None
        }
    }
}

/// An error of a first contact without its advice, and the advice.
fn unreachable(error: &KafkaError) -> (String, String) {
    let text = error.to_string();
    match text.rsplit_once("; ") {
        Some((found, advice)) => (found.to_owned(), advice.to_owned()),
        None => (
            text,
            "check --brokers, that Kafka is running, and security.protocol".to_owned(),
        ),
    }
}

pub(crate) fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_and_what_to_do_are_told_apart() {
        let error = KafkaError::Unreachable {
            brokers: "a:1".to_owned(),
            detail: "refused; by peer".to_owned(),
        };
        let (found, advice) = unreachable(&error);
        assert_eq!(found, "no broker answers at a:1: refused; by peer");
        assert_eq!(
            advice,
            "check --brokers, that Kafka is running, and security.protocol"
        );
    }
}
