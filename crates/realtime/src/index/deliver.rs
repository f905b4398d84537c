//! One batch, until everything in it is settled: stored, found to be there, or a letter. Only what was not settled is sent
//! again. There is no last attempt: what OpenSearch does not take now is tried again with growing, jittered pauses, until the
//! whole delivery is called off.

use loginlake_service::backoff::Backoff;
use loginlake_service::shutdown::Shutdown;

use super::answer::Verdict;
use super::batch::Batch;
use super::document::Reason;
use super::metrics::{IndexMetrics, Outcome, RequestOutcome};

/// Whoever takes bulk requests.
pub(super) trait Bulk: Sync {
    /// Sends lines of so many items.
    fn bulk(&self, body: Vec<u8>, items: usize) -> BulkAnswer;
}

/// What came of a bulk request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BulkAnswer {
    /// A verdict on each item.
    Items(Vec<Verdict>),
    /// All of it is too large.
    TooLarge,
    /// Later: too much is on its way.
    Overloaded,
    /// No answer, or none that says anything about the items; with a public reason.
    Unavailable(String),
}

/// Sends the batch until all of it is settled. `waiting` is told why it takes longer, and `None` when it goes on. Returns
/// whether it is settled: not when it was called off.
pub(super) fn deliver(
    batch: &mut Batch,
    bulk: &impl Bulk,
    call_off: &Shutdown,
    mut backoff: Backoff,
    metrics: &IndexMetrics,
    waiting: impl Fn(Option<String>),
) -> bool {
    let mut open: Vec<usize> = (0..batch.items.len()).collect();
    // Halved as long as the whole is too large.
    let mut most_items = open.len();
    while !open.is_empty() {
        if call_off.is_requested() {
            return false;
        }
        let part = &open[..most_items.clamp(1, open.len())];
        let mut body = Vec::with_capacity(part.iter().map(|index| batch.items[*index].lines.len()).sum());
        for index in part {
            body.extend_from_slice(&batch.body[batch.items[*index].lines.clone()]);
        }
        let sent = part.len();
        let answer = metrics.timed(|| bulk.bulk(body, sent));
        let problem = match answer {
            BulkAnswer::Items(verdicts) => {
                let (left, problem) = settle(batch, &open[..sent], verdicts, metrics);
                metrics.count_request(match problem {
                    None => RequestOutcome::Good,
                    Some(_) => RequestOutcome::Partly,
                });
                if left.len() < sent {
                    backoff.reset();
                }
                open = left.into_iter().chain(open[sent..].iter().copied()).collect();
                problem
            }
            BulkAnswer::TooLarge if sent == 1 => {
                metrics.count_request(RequestOutcome::TooLarge);
                batch.refuse(open.remove(0), Reason::TooLarge, None);
                None
            }
            BulkAnswer::TooLarge => {
                metrics.count_request(RequestOutcome::TooLarge);
                most_items = sent.div_ceil(2);
                None
            }
            BulkAnswer::Overloaded => {
                metrics.count_request(RequestOutcome::Overloaded);
                Some("OpenSearch is overloaded (429)".to_owned())
            }
            BulkAnswer::Unavailable(problem) => {
                metrics.count_request(RequestOutcome::Unavailable);
                Some(format!("OpenSearch: {problem}"))
            }
        };
        match problem {
            None => waiting(None),
            Some(problem) => {
                let pause = backoff.next_delay();
                // One line for each thing that goes wrong, not for each attempt.
                if backoff.attempts() == 1 {
                    tracing::warn!(
                        problem,
                        records = open.len(),
                        "sent again until OpenSearch takes it"
                    );
                }
                waiting(Some(problem));
                call_off.wait_timeout(pause);
            }
        }
    }
    waiting(None);
    true
}

/// Takes the verdicts over. Returns the items that are still open, and why.
fn settle(
    batch: &mut Batch,
    part: &[usize],
    verdicts: Vec<Verdict>,
    metrics: &IndexMetrics,
) -> (Vec<usize>, Option<String>) {
    let (mut left, mut problem) = (Vec::new(), None);
    for (index, verdict) in part.iter().copied().zip(verdicts) {
        match verdict {
            Verdict::Stored => metrics.count(Outcome::Stored, 1),
            Verdict::AlreadyThere => metrics.count(Outcome::AlreadyThere, 1),
            Verdict::Refused(reason, field) => batch.refuse(index, reason, field),
            Verdict::Again(reason) => {
                left.push(index);
                problem.get_or_insert(reason);
            }
        }
    }
    let problem = problem.map(|reason| {
        metrics.count_retried(left.len());
        format!("OpenSearch does not take {} records now: {reason}", left.len())
    });
    (left, problem)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, VecDeque};
    use std::sync::Mutex;
    use std::time::Duration;

    use loginlake_service::metrics::Metrics;

    use super::*;
    use crate::index::document;

    /// Answers from a list, then stores everything; keeps what was sent.
    struct Scripted {
        answers: Mutex<VecDeque<BulkAnswer>>,
        sent: Mutex<Vec<usize>>,
        stored: Mutex<BTreeMap<String, u32>>,
        /// Answers "too large" to more items.
        most: usize,
    }

    impl Scripted {
        fn new(answers: impl IntoIterator<Item = BulkAnswer>) -> Self {
            Self {
                answers: Mutex::new(answers.into_iter().collect()),
                sent: Mutex::default(),
                stored: Mutex::default(),
                most: usize::MAX,
            }
        }
    }

    impl Bulk for Scripted {
        fn bulk(&self, body: Vec<u8>, items: usize) -> BulkAnswer {
            let text = String::from_utf8(body).expect("text");
            let actions: Vec<_> = text.lines().step_by(2).map(str::to_owned).collect();
            assert_eq!(actions.len(), items);
            self.sent.lock().expect("no panic").push(items);
            if items > self.most {
                return BulkAnswer::TooLarge;
            }
            let answer = self.answers.lock().expect("no panic").pop_front();
            let answer = answer.unwrap_or_else(|| BulkAnswer::Items(vec![Verdict::Stored; items]));
            if let BulkAnswer::Items(verdicts) = &answer {
                assert_eq!(verdicts.len(), items);
                for (action, verdict) in actions.into_iter().zip(verdicts) {
                    if *verdict == Verdict::Stored {
                        *self.stored.lock().expect("no panic").entry(action).or_default() += 1;
                    }
                }
            }
            answer
        }
    }

    fn batch(records: usize) -> Batch {
        let mut batch = Batch::new(1);
        for offset in 0..records {
            let source = document::source(
                Some(b"t"),
                Some(b"0"),
                Some(offset.to_string().as_bytes()),
                &mut None,
            );
            batch.add("x", source, None, Some(b"{\"timestamp\":1720576825}"));
        }
        batch
    }

    fn backoff() -> Backoff {
        Backoff::with_seed(Duration::from_micros(1), Duration::from_micros(10), 1)
    }

    fn run(batch: &mut Batch, bulk: &Scripted) -> Vec<Option<String>> {
        let metrics = IndexMetrics::register(&Metrics::new("test"));
        let told = RefCell::new(Vec::new());
        let waiting = |reason: Option<String>| told.borrow_mut().push(reason);
        assert!(deliver(
            batch,
            bulk,
            &Shutdown::new(),
            backoff(),
            &metrics,
            waiting
        ));
        told.into_inner()
    }

    #[test]
    fn only_what_was_not_settled_is_sent_again() {
        let again = || Verdict::Again("429 rejected".to_owned());
        let bulk = Scripted::new([
            BulkAnswer::Overloaded,
            BulkAnswer::Unavailable("it answers 503".to_owned()),
            BulkAnswer::Items(vec![
                Verdict::Stored,
                again(),
                Verdict::Refused(Reason::Mapping, Some("login_hour".to_owned())),
                again(),
                Verdict::AlreadyThere,
            ]),
            BulkAnswer::Items(vec![again(), Verdict::Stored]),
        ]);
        let mut batch = batch(5);
        let told = run(&mut batch, &bulk);
        assert_eq!(*bulk.sent.lock().expect("no panic"), [5, 5, 5, 2, 1]);
        assert!(
            bulk.stored
                .lock()
                .expect("no panic")
                .values()
                .all(|times| *times == 1)
        );
        assert_eq!(bulk.stored.lock().expect("no panic").len(), 3);
        assert_eq!(batch.letters.len(), 1);
        assert_eq!(batch.letters[0].field.as_deref(), Some("login_hour"));
        let reasons: Vec<_> = told.iter().flatten().collect();
        assert!(
            reasons[0].contains("429") && reasons[1].contains("503"),
            "{reasons:?}"
        );
        assert_eq!(told.last(), Some(&None), "and then it is over");
    }

    #[test]
    fn what_is_too_large_is_sent_in_parts() {
        let mut bulk = Scripted::new([]);
        bulk.most = 3;
        let mut batch = batch(10);
        run(&mut batch, &bulk);
        assert_eq!(bulk.stored.lock().expect("no panic").len(), 10);
        assert!(batch.letters.is_empty());
        bulk.most = 0;
        let mut batch = self::batch(2);
        run(&mut batch, &bulk);
        let reasons: Vec<_> = batch.letters.iter().map(|letter| letter.reason).collect();
        assert_eq!(reasons, [Reason::TooLarge, Reason::TooLarge]);
    }

    #[test]
    fn a_delivery_that_is_called_off_is_not_settled() {
        let metrics = IndexMetrics::register(&Metrics::new("test"));
        let bulk = Scripted::new(vec![BulkAnswer::Overloaded; 1_000]);
        let call_off = Shutdown::new();
        let waiting = |reason: Option<String>| {
            if reason.is_some() && bulk.sent.lock().expect("no panic").len() == 3 {
                call_off.trigger();
            }
        };
        assert!(!deliver(
            &mut batch(2),
            &bulk,
            &call_off,
            backoff(),
            &metrics,
            waiting
        ));
        assert_eq!(bulk.sent.lock().expect("no panic").len(), 3);
    }
}
