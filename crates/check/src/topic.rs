//! A topic: is it there, whole, rightly set, and may this user do what is needed with it?

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loginlake_kafka::KafkaError;
use loginlake_kafka::inspect::{Right, TopicFacts};
use loginlake_service::check::{Checklist, Status};
use loginlake_service::config::Span;

use crate::{AREA, Cluster, counted};

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is read from its beginning to its end.
    Read,
    /// It is written to.
    Write,
}

impl Use {
    const fn right(self) -> Right {
        match self {
            Self::Read => Right::Read,
            Self::Write => Right::Write,
        }
    }
}

/// A topic that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its partitions and replicas.
    pub facts: TopicFacts,
    /// Its settings, where the broker tells them.
    pub settings: BTreeMap<String, String>,
}

impl Found {
    fn number(&self, setting: &str) -> Option<i64> {
        self.settings.get(setting)?.parse().ok()
    }
}

/// Looks at a topic. `None`: it is not there, and the list says what to do.
pub fn topic(list: &mut Checklist, cluster: &Cluster, name: &str, used: Use) -> Option<Found> {
    let what = format!("topic {name}");
    let facts = match cluster.client.facts(name) {
        Ok(facts) => facts,
        Err(error) => {
            let (found, advice) = missing(name, used, &error);
            list.failed(AREA, what, found, advice);
            return None;
        }
    };
    let settings = cluster.client.topic_settings(name);
    let told = settings.as_ref().err().cloned();
    let found = Found {
        name: name.to_owned(),
        facts,
        settings: settings.unwrap_or_default(),
    };
    add(list, what.clone(), replicas(&found, cluster.facts.brokers, used));
    match told {
        Some(why) => list.warning(
            AREA,
            format!("settings of {what}"),
            format!("the broker does not tell them: {why}"),
            format!("allow DESCRIBE_CONFIGS on {what} for these checks; the services work without it"),
        ),
        None => add(list, format!("settings of {what}"), settings_of(&found, used)),
    }
    let rights = cluster.client.topic_rights(name);
    add(
        list,
        format!("rights on {what}"),
        rights_on(name, used, rights.as_ref()),
    );
    Some(found)
}

type Verdict = (Status, String, String);

fn add(list: &mut Checklist, what: String, (status, found, advice): Verdict) {
    match status {
        Status::Ok => list.ok(AREA, what, found),
        Status::Warning => list.warning(AREA, what, found, advice),
        Status::Failed => list.failed(AREA, what, found, advice),
    }
}

fn missing(name: &str, used: Use, error: &KafkaError) -> (String, String) {
    match error {
        KafkaError::NoTopic { .. } => (
            "there is no such topic, or this user may not know of it".to_owned(),
            format!(
                "create it (--create-topics does), or allow {} on topic {name}",
                used.right().as_str()
            ),
        ),
        KafkaError::Refused { detail, .. } => (
            detail.clone(),
            format!("allow {} on topic {name}", used.right().as_str()),
        ),
        error => (error.to_string(), "see the brokers' logs".to_owned()),
    }
}

fn replicas(topic: &Found, brokers: usize, used: Use) -> Verdict {
    let TopicFacts {
        partitions,
        replicas,
        in_sync,
        leaderless,
    } = topic.facts;
    let found = format!(
        "{}, {} of each, {in_sync} in sync",
        counted(partitions, "partition"),
        counted(replicas, "replica")
    );
    let needed = topic.number("min.insync.replicas").unwrap_or(1);
    if leaderless > 0 {
        let advice = "start the brokers that hold them";
        (
            Status::Failed,
            format!("{found}; {leaderless} without a leader"),
            advice.to_owned(),
        )
    } else if used == Use::Write && i64::try_from(in_sync).is_ok_and(|in_sync| in_sync < needed) {
        let found = format!("{found}, and min.insync.replicas is {needed}: nothing can be written");
        (
            Status::Failed,
            found,
            "start the brokers that hold the others".to_owned(),
        )
    } else if in_sync < replicas {
        (
            Status::Warning,
            found,
            "start the brokers that hold the others".to_owned(),
        )
    } else if replicas == 1 && brokers > 1 {
        let advice =
            format!("give it three replicas: of {brokers} brokers the loss of one takes records along");
        (Status::Warning, found, advice)
    } else {
        (Status::Ok, found, String::new())
    }
}

fn settings_of(topic: &Found, used: Use) -> Verdict {
    let policy = topic
        .settings
        .get("cleanup.policy")
        .map_or("delete", String::as_str);
    let retention = match topic.number("retention.ms") {
        Some(ms) if ms >= 0 => Span::from_millis(ms.unsigned_abs()).to_string(),
        Some(_) => "for ever".to_owned(),
        None => "unknown".to_owned(),
    };
    let found = format!(
        "cleanup.policy {policy}, retention {retention}, max.message.bytes {}, min.insync.replicas {}",
        topic
            .settings
            .get("max.message.bytes")
            .map_or("unknown", String::as_str),
        topic
            .settings
            .get("min.insync.replicas")
            .map_or("unknown", String::as_str),
    );
    let compacted = policy.contains("compact");
    if compacted && used == Use::Read {
        let advice = "set cleanup.policy=delete: compaction takes logins away before they are read, and none may be missing";
        (Status::Failed, found, advice.to_owned())
    } else if compacted {
        let advice = "set cleanup.policy=delete: of the records of a key only the newest stays";
        (Status::Warning, found, advice.to_owned())
    } else if used == Use::Write && topic.facts.replicas > 2 && topic.number("min.insync.replicas") == Some(1)
    {
        let advice = "set min.insync.replicas=2: what one broker alone has taken is lost with it";
        (Status::Warning, found, advice.to_owned())
    } else {
        (Status::Ok, found, String::new())
    }
}

fn rights_on(name: &str, used: Use, rights: Option<&BTreeSet<Right>>) -> Verdict {
    let needed = used.right();
    match rights {
        Some(rights) if rights.contains(&needed) => {
            let held: Vec<&str> = rights.iter().map(|right| right.as_str()).collect();
            (Status::Ok, held.join(", "), String::new())
        }
        Some(_) => (
            Status::Failed,
            format!("{} is not allowed", needed.as_str()),
            format!(
                "allow it to this user: kafka-acls.sh --add --allow-principal User:… --operation {} --topic {name}",
                match used {
                    Use::Read => "Read",
                    Use::Write => "Write",
                }
            ),
        ),
        None => (
            Status::Ok,
            "the broker does not tell them; the services will see".to_owned(),
            String::new(),
        ),
    }
}

/// Whether what the input may hold fits into the topic that takes what is rejected.
pub fn sizes(list: &mut Checklist, input: &Found, dead_letters: &Found) {
    let (Some(from), Some(to)) = (
        input.number("max.message.bytes"),
        dead_letters.number("max.message.bytes"),
    ) else {
        return;
    };
    let what = format!("message size of topic {}", dead_letters.name);
    if to < from {
        list.warning(
            AREA,
            what,
            format!("{to} bytes, and topic {} takes {from}", input.name),
            "raise its max.message.bytes to as much: of a larger dead letter only the beginning is kept",
        );
    } else {
        list.ok(
            AREA,
            what,
            format!("{to} bytes, at least as much as topic {}", input.name),
        );
    }
}

/// How far the newest record may be ahead of this machine's clock, or the store's clock away from it.
pub const MAX_SKEW: Duration = Duration::from_secs(30);

/// Whether the newest record of a topic is ahead of this machine's clock.
pub fn clock(list: &mut Checklist, cluster: &Cluster, topic: &Found) {
    let newest = cluster
        .client
        .newest_timestamp_ms(&topic.name, topic.facts.partitions);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let what = format!("clock of topic {}", topic.name);
    match newest {
        None => list.ok(AREA, what, "no record yet, or the broker does not tell its time"),
        Some(ms) if ms - now_ms > i64::try_from(MAX_SKEW.as_millis()).unwrap_or(i64::MAX) => list.warning(
            AREA,
            what,
            format!("the newest record is {} s ahead of this machine", (ms - now_ms) / 1_000),
            "set the clocks of the producers, the brokers and this machine (NTP): delays are measured by them",
        ),
        Some(ms) => list.ok(
            AREA,
            what,
            format!("the newest record is {} s old", (now_ms - ms).max(0) / 1_000),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(replicas: usize, in_sync: usize, settings: &[(&str, &str)]) -> Found {
        Found {
            name: "t".to_owned(),
            facts: TopicFacts {
                partitions: 4,
                replicas,
                in_sync,
                leaderless: 0,
            },
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn replicas_have_to_be_there() {
        let status = |topic: &Found, brokers, used| replicas(topic, brokers, used).0;
        assert_eq!(status(&found(1, 1, &[]), 1, Use::Write), Status::Ok);
        assert_eq!(status(&found(1, 1, &[]), 3, Use::Write), Status::Warning);
        assert_eq!(status(&found(3, 3, &[]), 3, Use::Read), Status::Ok);
        assert_eq!(status(&found(3, 2, &[]), 3, Use::Read), Status::Warning);
        let strict = found(3, 1, &[("min.insync.replicas", "2")]);
        assert_eq!(
            status(&strict, 3, Use::Read),
            Status::Warning,
            "it can still be read"
        );
        assert_eq!(status(&strict, 3, Use::Write), Status::Failed);
        let mut headless = found(3, 3, &[]);
        headless.facts.leaderless = 1;
        assert_eq!(status(&headless, 3, Use::Read), Status::Failed);
    }

    #[test]
    fn no_login_may_be_compacted_away() {
        let compacted = found(1, 1, &[("cleanup.policy", "compact,delete")]);
        assert_eq!(settings_of(&compacted, Use::Read).0, Status::Failed);
        assert_eq!(settings_of(&compacted, Use::Write).0, Status::Warning);
        let plain = found(
            1,
            1,
            &[("cleanup.policy", "delete"), ("retention.ms", "604800000")],
        );
        let (status, text, _) = settings_of(&plain, Use::Read);
        assert_eq!(status, Status::Ok);
        assert!(text.contains("retention 7d"), "{text}");
        let alone = found(3, 3, &[("min.insync.replicas", "1")]);
        assert_eq!(settings_of(&alone, Use::Write).0, Status::Warning);
    }

    #[test]
    fn the_right_that_is_missing_is_named() {
        let rights = BTreeSet::from([Right::Read, Right::Describe]);
        assert_eq!(rights_on("t", Use::Read, Some(&rights)).0, Status::Ok);
        let (status, text, advice) = rights_on("t", Use::Write, Some(&rights));
        assert_eq!((status, text.as_str()), (Status::Failed, "WRITE is not allowed"));
        assert!(advice.ends_with("--operation Write --topic t"), "{advice}");
        assert_eq!(rights_on("t", Use::Write, None).0, Status::Ok);
    }

    #[test]
    fn dead_letters_are_as_large_as_what_comes_in() {
        let sized = |bytes| found(1, 1, &[("max.message.bytes", bytes)]);
        let mut list = Checklist::default();
        sizes(&mut list, &sized("1048588"), &sized("1048588"));
        sizes(&mut list, &sized("1048588"), &sized("1000"));
        sizes(&mut list, &sized("1048588"), &found(1, 1, &[]));
        let statuses: Vec<Status> = list.lines().iter().map(|line| line.status).collect();
        assert_eq!(statuses, [Status::Ok, Status::Warning]);
    }
}
