//! What OpenSearch answers to a bulk request, by what has to be done about each item. Pure.

use serde::Deserialize;

use super::document::Reason;

/// The parts of an answer that are asked for: the rest of it repeats ids and indices.
pub(super) const FILTER: &str =
    "errors,items.create.status,items.create.error.type,items.create.error.reason";

/// Errors that are a document's own fault. All others (no room for another shard, a closed or blocked index, a missing
/// pipeline, whatever comes) are of the cluster, and nothing is given up for them.
const OF_THE_DOCUMENT: [&str; 4] = [
    "mapper_parsing_exception",
    "document_parsing_exception",
    "strict_dynamic_mapping_exception",
    "illegal_argument_exception",
];
/// Of the same type, but an index setting that names a pipeline that is not there.
const PIPELINE: &str = "pipeline ";
/// Longest name of a field, or of a type of error, that is handed on.
const MAX_NAME_CHARS: usize = 100;

/// What became of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is stored.
    Stored,
    /// It was stored before: an earlier attempt, or a replay.
    AlreadyThere,
    /// It is to be sent again, for this public reason.
    Again(String),
    /// It cannot be stored as it is.
    Refused(Reason, Option<String>),
}

#[derive(Deserialize)]
struct Answer {
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    status: u16,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: String,
}

/// The verdict on each of `sent` items, in their order. `None`: this is no answer to a bulk request of so many.
pub(super) fn verdicts(body: &[u8], sent: usize) -> Option<Vec<Verdict>> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    if answer.items.len() != sent {
        return None;
    }
    let verdicts: Vec<_> = answer
        .items
        .into_iter()
        .map(|item| verdict(item.create))
        .collect();
    let all_good = verdicts.iter().all(|verdict| *verdict == Verdict::Stored);
    // An answer that contradicts itself is none.
    (all_good != answer.errors).then_some(verdicts)
}

fn verdict(item: Created) -> Verdict {
    let problem = item.error.unwrap_or(Problem {
        kind: String::new(),
        reason: String::new(),
    });
    match item.status {
        200 | 201 => Verdict::Stored,
        409 if problem.kind == "version_conflict_engine_exception" => Verdict::AlreadyThere,
        413 => Verdict::Refused(Reason::TooLarge, None),
        400 if OF_THE_DOCUMENT.contains(&problem.kind.as_str()) && !problem.reason.starts_with(PIPELINE) => {
            Verdict::Refused(Reason::Mapping, field(&problem.reason))
        }
        // The reason may repeat a value of the document; status and type do not.
        status => Verdict::Again(format!("{status} {}", name(&problem.kind))),
    }
}

/// The field in `failed to parse field [ip] of type [ip] in document …`.
fn field(reason: &str) -> Option<String> {
    let (_, rest) = reason.split_once("field [")?;
    let (found, _) = rest.split_once(']')?;
    Some(name(found)).filter(|found| !found.is_empty())
}

fn name(text: &str) -> String {
    let of_a_name = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '@' | '-');
    text.chars().take_while(of_a_name).take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(status: u16, kind: &str, reason: &str) -> Verdict {
        let error = serde_json::json!({"type": kind, "reason": reason});
        let body =
            serde_json::json!({"errors": true, "items": [{"create": {"status": status, "error": error}}]});
        let verdicts = verdicts(body.to_string().as_bytes(), 1).expect("an answer");
        verdicts.into_iter().next().expect("one item")
    }

    #[test]
    fn each_item_is_judged_for_itself() {
        let body = br#"{"errors":true,"items":[{"create":{"status":201}},
            {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[t:0:1:2]: exists"}}},
            {"create":{"status":429,"error":{"type":"rejected_execution_exception","reason":"queue"}}}]}"#;
        assert_eq!(
            verdicts(body, 3).expect("an answer"),
            [
                Verdict::Stored,
                Verdict::AlreadyThere,
                Verdict::Again("429 rejected_execution_exception".to_owned())
            ]
        );
    }

    #[test]
    fn only_the_documents_own_faults_give_it_up() {
        let reason = "failed to parse field [ip] of type [ip] in document with id 'x'. Preview of field's value: 'secret'";
        assert_eq!(
            one(400, "mapper_parsing_exception", reason),
            Verdict::Refused(Reason::Mapping, Some("ip".to_owned()))
        );
        assert_eq!(
            one(
                400,
                "illegal_argument_exception",
                "Document contains an immense term"
            ),
            Verdict::Refused(Reason::Mapping, None)
        );
        for (status, kind, reason) in [
            (
                400,
                "validation_exception",
                "this action would add [2] total shards",
            ),
            (400, "index_closed_exception", "closed"),
            (
                400,
                "illegal_argument_exception",
                "pipeline with id [x] does not exist",
            ),
            (
                403,
                "cluster_block_exception",
                "index [x] blocked by: [read-only]",
            ),
            (404, "index_not_found_exception", "no such index"),
            (409, "resource_already_exists_exception", "x"),
            (503, "unavailable_shards_exception", "primary shard is not active"),
        ] {
            assert_eq!(
                one(status, kind, reason),
                Verdict::Again(format!("{status} {kind}"))
            );
        }
    }

    #[test]
    fn no_value_of_a_document_is_handed_on() {
        let Verdict::Again(text) = one(500, "boom 'secret'", "secret") else {
            panic!("not again");
        };
        assert_eq!(text, "500 boom");
        assert_eq!(field("field [a'b] x").as_deref(), Some("a"));
        assert_eq!(field("field ['] x"), None);
    }

    #[test]
    fn what_does_not_fit_is_no_answer() {
        assert_eq!(verdicts(b"{\"errors\":false,\"items\":[]}", 1), None);
        assert_eq!(verdicts(b"<html>", 1), None);
        assert_eq!(
            verdicts(b"{\"errors\":true,\"items\":[{\"create\":{\"status\":201}}]}", 1),
            None
        );
    }
}
