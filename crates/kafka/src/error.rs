//! What can go wrong with Kafka, by what has to be done about it.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

/// An error of Kafka. `Display` is one line.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// A property or address that librdkafka does not take.
    #[error("kafka configuration: {0}")]
    Configuration(String),
    /// No broker answered in time.
    #[error(
        "no broker answers at {brokers}: {detail}; check --brokers, that Kafka is running, and security.protocol"
    )]
    Unreachable {
        /// The bootstrap brokers.
        brokers: String,
        /// What librdkafka said last.
        detail: String,
    },
    /// The broker refused this client.
    #[error(
        "kafka at {brokers} refused this client: {detail}; {}",
        crate::refusal::advice(detail)
    )]
    Refused {
        /// The bootstrap brokers.
        brokers: String,
        /// What librdkafka said last.
        detail: String,
    },
    /// A topic that is needed is not there.
    #[error("topic {topic} does not exist at {brokers}: create it, or start with --create-topics")]
    NoTopic {
        /// The topic.
        topic: String,
        /// The bootstrap brokers.
        brokers: String,
    },
    /// Another producer with the same transactional id took over, or the group moved on: this one must not go on.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The transaction must be aborted and its records read again.
    #[error("transaction must be aborted: {0}")]
    AbortTransaction(String),
    /// The same call may succeed later.
    #[error("{0}")]
    Retriable(String),
    /// The broker's ACLs do not allow it, at least not now.
    #[error("{0}; check the ACLs of this user")]
    NotAllowed(String),
    /// The record cannot be published as it is, now or later.
    #[error("record refused: {0}")]
    RecordRefused(String),
    /// Records are gone that were to be read: retention, or the topic was deleted.
    #[error("{0}")]
    OutOfRange(String),
    /// Whatever else.
    #[error("{0}")]
    Failed(String),
}

impl KafkaError {
    /// Sorts an error of a call outside of transactions.
    pub(crate) fn of(context: &str, error: &ClientError) -> Self {
        let text = format!("{context}: {error}");
        if let ClientError::MessageConsumptionFatal(_) = error {
            return KafkaError::Fenced(text);
        }
        match error.rdkafka_error_code() {
            Some(code) if is_retriable(code) => KafkaError::Retriable(text),
            Some(code) if is_denial(code) => KafkaError::NotAllowed(text),
            Some(
                Code::Fenced
                | Code::Fatal
                | Code::FencedInstanceId
                | Code::InvalidProducerEpoch
                | Code::ProducerFenced,
            ) => KafkaError::Fenced(text),
            Some(
                Code::MessageSizeTooLarge
                | Code::InvalidMessageSize
                | Code::InvalidRecord
                | Code::InvalidTimestamp,
            ) => KafkaError::RecordRefused(text),
            _ => KafkaError::Failed(text),
        }
    }

    /// Sorts an error of a transactional call (KIP-360, KIP-447): the same call again, abort, or a new producer.
    pub(crate) fn of_transaction(context: &str, error: &ClientError) -> Self {
        let ClientError::Transaction(inner) = error else {
            return match error.rdkafka_error_code() {
                // The producer's transaction is over: it was aborted, or has failed in the background.
                Some(Code::State | Code::PurgeQueue | Code::PurgeInflight) => {
                    KafkaError::AbortTransaction(format!("{context}: {error}"))
                }
                _ => Self::of(context, error),
            };
        };
        let text = format!("{context}: {} ({})", inner.string(), inner.name());
        // First: librdkafka calls some denials fatal and some abortable. A new producer is right for both.
        if is_denial(inner.code()) {
            KafkaError::NotAllowed(text)
        } else if inner.is_fatal() {
            KafkaError::Fenced(text)
        } else if inner.txn_requires_abort() {
            KafkaError::AbortTransaction(text)
        } else if inner.is_retriable() {
            KafkaError::Retriable(text)
        } else {
            match inner.code() {
                Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced => KafkaError::Fenced(text),
                code if is_retriable(code) => KafkaError::Retriable(text),
                _ => KafkaError::Failed(text),
            }
        }
    }

    /// True when the same call may succeed later without anybody changing anything.
    pub fn is_retriable(&self) -> bool {
        matches!(self, KafkaError::Retriable(_) | KafkaError::Unreachable { .. })
    }
}

/// Codes by which a broker denies something to this client. An operator can allow it again.
pub(crate) fn is_denial(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
    )
}

/// Codes that pass by themselves.
fn is_retriable(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::NetworkException
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::RebalanceInProgress
            | Code::AssignmentLost
            | Code::ConcurrentTransactions
            | Code::UnstableOffsetCommit
            // The group has moved on; librdkafka learns it with the next heartbeat.
            | Code::StaleMemberEpoch
            | Code::UnknownMemberId
            | Code::KafkaStorageError
            | Code::QueueFull
            | Code::InProgress
            | Code::WaitCache
            // The group went on without this member, which joins again while it polls.
            | Code::PollExceeded
            // A partition that was just assigned, or is just leaving.
            | Code::State
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_can_allow_again_is_told_from_what_passes_and_from_what_stays() {
        let sorted = |code| KafkaError::of("cannot publish", &ClientError::MessageProduction(code));
        assert!(matches!(
            sorted(Code::TopicAuthorizationFailed),
            KafkaError::NotAllowed(_)
        ));
        assert!(matches!(
            sorted(Code::TransactionalIdAuthorizationFailed),
            KafkaError::NotAllowed(_)
        ));
        for code in [
            Code::NotEnoughReplicas,
            Code::NotEnoughReplicasAfterAppend,
            Code::AllBrokersDown,
        ] {
            assert!(sorted(code).is_retriable(), "{code:?}");
        }
        assert!(matches!(
            sorted(Code::MessageSizeTooLarge),
            KafkaError::RecordRefused(_)
        ));
        assert!(matches!(sorted(Code::InvalidTopic), KafkaError::Failed(_)));
        assert!(matches!(
            KafkaError::of(
                "cannot read",
                &ClientError::MessageConsumptionFatal(Code::InvalidRequest)
            ),
            KafkaError::Fenced(_)
        ));
        let text = sorted(Code::TopicAuthorizationFailed).to_string();
        assert!(
            text.starts_with("cannot publish: ") && text.ends_with("; check the ACLs of this user"),
            "{text}"
        );
    }
}
