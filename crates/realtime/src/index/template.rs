//! The types of the fields: an index template, installed at the start when it is missing or older than this software's.
//!
//! Fields that it does not name are kept in the document and not indexed, so a later version's records are no dead letters and
//! no input can open a field. Without the template OpenSearch would guess types, so nothing is indexed without it: neither where
//! somebody else has a template of its name, nor where one of a higher priority would win.

use chrono::{DateTime, Utc};
use loginlake_service::exit::ExitError;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Answer, Client};

/// Raised with every change of the mappings. An index that is there keeps its types; the next month's has the new ones.
const VERSION: u64 = 1;
/// By this a template is known to be this software's.
const DESCRIPTION: &str = "processed logins, one document for each";
const PRIORITY: u64 = 200;
/// Longest reason that is repeated from an answer.
const MAX_REASON_CHARS: usize = 400;
const UNREACHABLE: &str = "check --index-url (http or https, host, port) and that OpenSearch is running";
const NOT_OPENSEARCH: &str = "it does not answer as OpenSearch does";

/// The whole template for indices whose names begin with `name-`; `name` is the alias of all of them.
pub(super) fn template(name: &str) -> Value {
    let keyword = json!({"type": "keyword", "ignore_above": 256});
    json!({
        "index_patterns": [format!("{name}-*")],
        "priority": PRIORITY,
        "version": VERSION,
        "template": {
            "aliases": {name: {}},
            "settings": {
                "number_of_shards": 1,
                // A copy as soon as there is a second node; a single node stays green.
                "auto_expand_replicas": "0-1",
                "refresh_interval": "1s",
            },
            "mappings": {
                "dynamic": false,
                "properties": {
                    "user_id": keyword,
                    "device_id": keyword,
                    "timestamp": {"type": "date", "format": "epoch_second"},
                    "ip": {"type": "ip"},
                    "locale": keyword,
                    "device_type": keyword,
                    "app_version": keyword,
                    "event_time": {"type": "date", "format": "strict_date_time_no_millis||strict_date_time"},
                    "processed_timestamp": {"type": "date", "format": "epoch_millis"},
                    "region": keyword,
                    "division": keyword,
                    "login_date": {"type": "date", "format": "strict_date"},
                    "login_hour": {"type": "byte"},
                    "local_hour": {"type": "byte"},
                    "time_of_day": keyword,
                    "day_of_week": keyword,
                    "ip_class": keyword,
                    "ip_prefix": keyword,
                    "flags": keyword,
                },
            },
        },
        "_meta": {"description": DESCRIPTION},
    })
}

/// What OpenSearch has of the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Missing,
    /// Of this earlier version.
    Older(u64),
    /// As it should be, or newer.
    Good(u64),
}

/// What a new index would get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Types {
    /// The types and the alias of the template.
    Right,
    /// OpenSearch does not say: this status.
    NotTold(u16),
}

/// Checks that the template is there, new enough, and the one that counts; installs it when `create`.
///
/// # Errors
/// Code 1: OpenSearch does not answer or refuses, the template is somebody else's, or another one wins; code 2: the template is
/// missing or older and is not to be installed.
pub(super) fn ensure(client: &Client, name: &str, create: bool) -> Result<(), ExitError> {
    match look(client, name)? {
        Found::Good(version) => {
            if version > VERSION {
                tracing::warn!(
                    name,
                    version,
                    ours = VERSION,
                    "the index template is of a newer version; it stays"
                );
            }
        }
        found if !create => return Err(not_to_be_installed(name, found)),
        _ => install(client, name)?,
    }
    types_of_new_index(client, name, Found::Good(VERSION), Utc::now()).map(drop)
}

/// Asks for the template.
///
/// # Errors
/// Code 1: OpenSearch does not answer or refuses, or the template of this name is somebody else's.
pub(super) fn look(client: &Client, name: &str) -> Result<Found, ExitError> {
    let answer = ask(client, Method::GET, &format!("_index_template/{name}"), None)?;
    match answer.status {
        200 => {
            let found =
                template_in(&answer.body).ok_or_else(|| failed(client, NOT_OPENSEARCH, UNREACHABLE))?;
            judge(&found, name).map_err(|problem| {
                failed(
                    client,
                    &format!("the index template {name} is not of this software: {problem}"),
                    format!("choose another --index-name, or remove it: DELETE /_index_template/{name}"),
                )
            })
        }
        // Whoever serves something else there has no such page either.
        404 if json_of(&answer.body)["status"] == 404 => Ok(Found::Missing),
        404 => Err(failed(client, NOT_OPENSEARCH, UNREACHABLE)),
        status => Err(refused(client, status)),
    }
}

/// The error where the template would have to be installed, and is not to be.
pub(super) fn not_to_be_installed(name: &str, found: Found) -> ExitError {
    let state = match found {
        Found::Older(version) | Found::Good(version) => format!("of version {version}"),
        Found::Missing => "missing".to_owned(),
    };
    ExitError::usage(format!(
        "the index template {name} is {state}, version {VERSION} is needed"
    ))
    .with_hint("start once without --create-template=false, by a user who may install it")
}

fn install(client: &Client, name: &str) -> Result<(), ExitError> {
    let body = template(name).to_string().into_bytes();
    let answer = ask(
        client,
        Method::PUT,
        &format!("_index_template/{name}"),
        Some(body),
    )?;
    match answer.status {
        200 => tracing::info!(name, version = VERSION, "index template installed"),
        400 => return Err(conflict(client, &answer)),
        status => {
            let problem = format!("the index template is not installed: {}", client.refusal(status));
            return Err(ExitError::failed(format!(
                "OpenSearch at {}: {problem}",
                client.url()
            )));
        }
    }
    Ok(())
}

/// Asks what an index that is made now would get: of all templates, the one with the highest priority holds, and it holds alone.
///
/// # Errors
/// Code 1: OpenSearch does not answer, or other types would count.
pub(super) fn types_of_new_index(
    client: &Client,
    name: &str,
    found: Found,
    now: DateTime<Utc>,
) -> Result<Types, ExitError> {
    let index = format!("{name}-{}", now.format("%Y.%m"));
    // One that is not there yet is sent along, as if it were.
    let body = (found == Found::Missing).then(|| template(name).to_string().into_bytes());
    let path = format!("_index_template/_simulate_index/{index}");
    let answer = ask(client, Method::POST, &path, body)?;
    match answer.status {
        200 => {
            let simulated = json_of(&answer.body);
            let made = &simulated["template"];
            let problem = if made["aliases"].get(name).is_none() {
                Some(format!("it would not be in the alias {name}"))
            } else {
                wrong_type(&made["mappings"], name)
            };
            problem.map_or(Ok(Types::Right), |problem| {
                Err(failed(
                    client,
                    &format!("the index template {name} does not hold for a new index {index}: {problem}"),
                    format!(
                        "another template wins: GET /_index_template lists all; give it a priority below {PRIORITY} or other \
                         patterns, or choose another --index-name"
                    ),
                ))
            })
        }
        400 => Err(conflict(client, &answer)),
        status => {
            tracing::debug!(
                status,
                index,
                "OpenSearch does not say which types a new index would get"
            );
            Ok(Types::NotTold(status))
        }
    }
}

fn ask(client: &Client, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer, ExitError> {
    let answer = client.send(method, path, body);
    answer.map_err(|problem| failed(client, &problem, UNREACHABLE))
}

fn failed(client: &Client, problem: &str, hint: impl std::fmt::Display) -> ExitError {
    ExitError::failed(format!("OpenSearch at {}: {problem}", client.url())).with_hint(hint)
}

fn refused(client: &Client, status: u16) -> ExitError {
    ExitError::failed(format!(
        "OpenSearch at {}: {}",
        client.url(),
        client.refusal(status)
    ))
}

/// OpenSearch does not take the template; its reason names only templates.
fn conflict(client: &Client, answer: &Answer) -> ExitError {
    let body = json_of(&answer.body);
    let reason: String = body["error"]["reason"]
        .as_str()
        .unwrap_or("it does not say why")
        .chars()
        .take(MAX_REASON_CHARS)
        .collect();
    failed(
        client,
        &format!("the index template cannot be installed: {reason}"),
        "change the patterns or the priority of the other template, or choose another --index-name",
    )
}

/// Null where it is none.
fn json_of(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

/// The one template in an answer.
fn template_in(body: &[u8]) -> Option<Value> {
    let mut answer: Value = serde_json::from_slice(body).ok()?;
    Some(
        answer
            .get_mut("index_templates")?
            .get_mut(0)?
            .get_mut("index_template")?
            .take(),
    )
}

/// How good a template of this name is.
///
/// # Errors
/// What shows that it is somebody else's. One that an operator wrote is as good as ours when it has our types.
fn judge(found: &Value, name: &str) -> Result<Found, String> {
    let version = found["version"].as_u64().unwrap_or(0);
    if found["_meta"]["description"] != DESCRIPTION {
        return match wrong_type(&found["template"]["mappings"], name) {
            Some(problem) => Err(problem),
            None => Ok(Found::Good(version.max(VERSION))),
        };
    }
    Ok(match version {
        VERSION.. => Found::Good(version),
        _ => Found::Older(version),
    })
}

/// The first field that has another type in these mappings than in ours.
fn wrong_type(mappings: &Value, name: &str) -> Option<String> {
    let ours = template(name);
    let fields = ours["template"]["mappings"]["properties"].as_object()?;
    let wrong = fields
        .iter()
        .find(|(field, ours)| mappings["properties"][field.as_str()]["type"] != ours["type"]);
    wrong.map(|(field, ours)| {
        format!(
            "{field} is not of the type {}",
            ours["type"].as_str().unwrap_or_default()
        )
    })
}

#[cfg(test)]
mod tests;
