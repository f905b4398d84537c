//! What only a transaction can tell: whether this user may have the transactional id, and write to the topics in it. The
//! transaction is given up: a `read_committed` reader sees nothing of it, and the offsets of its records stay empty.
//!
//! It has an id of its own, so that no running instance is fenced: the name of the instance and `-check` behind it, which an ACL on a
//! prefix holds, as it has to hold the numbers of the workers.

use std::time::{Duration, Instant};

use loginlake_kafka::producer::{Outgoing, TransactionalProducer};
use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_service::check::Checklist;

use crate::AREA;

const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// Begins a transaction with a record for each topic, and gives it up.
pub fn transaction(list: &mut Checklist, settings: &KafkaSettings, transactional_id: &str, topics: &[&str]) {
    let id = format!("{transactional_id}-check");
    let what = "write probe";
    let producer = TransactionalProducer::new(settings, &id, LIMIT);
    let begun = producer.and_then(|producer| {
        producer.init(LIMIT)?;
        producer.begin()?;
        Ok(producer)
    });
    let producer = match begun {
        Ok(producer) => producer,
        Err(error) => {
            let advice = format!(
                "allow WRITE and DESCRIBE on transactional ids that begin with {transactional_id} \
                 (kafka-acls.sh --resource-pattern-type prefixed --transactional-id {transactional_id}), or start with \
                 --guarantee at-least-once"
            );
            list.failed(AREA, what, format!("no transaction as {id}: {error}"), advice);
            return;
        }
    };
    let mut is_whole = true;
    for topic in topics {
        let what = format!("{what} of topic {topic}");
        if let Err(error) = written(&producer, topic) {
            is_whole = false;
            let advice = format!("allow WRITE on topic {topic}, or see the brokers' logs");
            list.failed(AREA, what, error.to_string(), advice);
            break;
        }
        list.ok(AREA, what, "a record was written and given up");
    }
    match producer.abort(LIMIT) {
        Ok(()) => list.ok(
            AREA,
            what,
            format!("a transaction as {id} was begun and given up"),
        ),
        // One that a refusal has ended is not there any more.
        Err(_) if !is_whole => {}
        Err(error) => list.warning(
            AREA,
            what,
            format!("the transaction as {id} could not be given up: {error}"),
            "nothing: the broker gives it up after ten seconds",
        ),
    }
}

/// Writes a record and waits for the answer. A topic that refuses ends the transaction, which the next record is told.
fn written(producer: &TransactionalProducer, topic: &str) -> Result<(), KafkaError> {
    let until = Instant::now() + LIMIT;
    for _ in 0..2 {
        let probe = Outgoing {
            topic,
            key: None,
            payload: Some(b"loginlake check"),
            timestamp_ms: None,
            partition: None,
            headers: None,
        };
        producer
            .send(probe, || Instant::now() >= until)
            .map_err(|error| match producer.client_state().last() {
                Some(said) => KafkaError::Failed(format!("{error}: {said}")),
                None => error,
            })?;
        while producer.in_flight() > 0 {
            if Instant::now() >= until {
                let seconds = LIMIT.as_secs();
                return Err(KafkaError::Retriable(format!(
                    "no answer to a record for topic {topic} in {seconds} s"
                )));
            }
            std::thread::park_timeout(PAUSE);
        }
        if let Some(failure) = producer.take_failure() {
            return Err(failure);
        }
    }
    Ok(())
}
