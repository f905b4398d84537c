//! Which dead letters are replayed, and as which record.

use loginlake_kafka::producer::{HeaderList, Outgoing};
use loginlake_kafka::rdkafka::Message;
use loginlake_kafka::rdkafka::message::{BorrowedMessage, Headers};

use super::letter::{Letter, header};
use super::select::Selection;
use crate::run::transform::{ATTEMPT, OWN_HEADERS};

/// Headers of a replayed record with the position that it had at first, and the headers that a dead letter has it in.
const ORIGINS: [(&str, &str); 4] = [
    ("replay.source.topic", "source.topic"),
    ("replay.source.partition", "source.partition"),
    ("replay.source.offset", "source.offset"),
    ("replay.source.timestamp", "source.timestamp"),
];

/// What becomes of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its record goes back to the input topic.
    Replay,
    /// The filters do not ask for it.
    LeftOut,
    /// It was tried as often as is allowed.
    AtLimit,
    /// Only the beginning of its payload was kept.
    Truncated,
    /// It has no reason: somebody else wrote it.
    Foreign,
}

/// Decides.
pub(super) fn judge(letter: &Letter, selection: &Selection, max_attempts: u32) -> Verdict {
    if letter.reason.is_none() {
        Verdict::Foreign
    } else if !selection.matches(letter) {
        Verdict::LeftOut
    } else if letter.is_truncated() {
        Verdict::Truncated
    } else if letter.attempt >= max_attempts {
        Verdict::AtLimit
    } else {
        Verdict::Replay
    }
}

/// The original key, bytes and headers; the attempt, so that the next dead letter counts on; and where the record was when
/// it first came. It goes to the partition that it came from, if the input topic has it: a producer's own choice of
/// partitions is kept. Its Kafka timestamp is now: it is a new record.
pub(super) fn record<'a>(
    message: &'a BorrowedMessage<'_>,
    letter: &Letter,
    input_topic: &'a str,
    input_partitions: i32,
) -> Outgoing<'a> {
    let own = message.headers();
    let mut headers = HeaderList::with_capacity(own.map_or(0, Headers::count) + ORIGINS.len() + 1);
    for kept in own.iter().flat_map(|own| own.iter()) {
        if kept.key != ATTEMPT && !OWN_HEADERS.contains(&kept.key) {
            headers = headers.with(kept.key, kept.value);
        }
    }
    headers = headers.with(ATTEMPT, Some(letter.attempt.to_string().as_bytes()));
    // A record that was replayed before has them already, and those are kept.
    if header(message, ORIGINS[0].0).is_none() {
        for (origin, source) in ORIGINS {
            if let Some(value) = header(message, source) {
                headers = headers.with(origin, Some(value));
            }
        }
    }
    Outgoing {
        topic: input_topic,
        key: message.key(),
        payload: message.payload(),
        timestamp_ms: None,
        partition: letter
            .source
            .partition
            .filter(|partition| (0..input_partitions).contains(partition)),
        headers: Some(headers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        Letter {
            reason: Some("BAD_IP".to_owned()),
            attempt: 2,
            payload_bytes: 10,
            ..Letter::default()
        }
    }

    #[test]
    fn only_whole_known_and_asked_for_letters_below_the_limit_are_replayed() {
        let all = Selection::default();
        assert_eq!(judge(&letter(), &all, 3), Verdict::Replay);
        assert_eq!(judge(&letter(), &all, 2), Verdict::AtLimit);
        let truncated = Letter {
            original_bytes: Some(11),
            ..letter()
        };
        assert_eq!(judge(&truncated, &all, 3), Verdict::Truncated);
        let foreign = Letter {
            reason: None,
            ..letter()
        };
        assert_eq!(judge(&foreign, &all, 3), Verdict::Foreign);
        let others = Selection {
            reasons: vec!["NOT_JSON".parse().expect("a reason")],
            ..Selection::default()
        };
        assert_eq!(judge(&letter(), &others, 3), Verdict::LeftOut);
    }
}
