//! The types of the fields: an index template, installed at the start when it is missing or older than this software's.
//!
//! Fields that it does not name are kept in the document and not indexed, so a later version's records are no dead letters and
//! no input can open a field. Without the template OpenSearch would guess types, so nothing is indexed without it.

use loginlake_service::exit::ExitError;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, refusal};

/// Raised with every change of the mappings. An index that is there keeps its types; the next month's has the new ones.
const VERSION: u64 = 1;

/// The whole template for indices whose names begin with `name-`; `name` is the alias of all of them.
pub(super) fn template(name: &str) -> Value {
    let keyword = json!({"type": "keyword", "ignore_above": 256});
    json!({
        "index_patterns": [format!("{name}-*")],
        "priority": 200,
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
        "_meta": {"description": "processed logins, one document for each"},
    })
}

/// Checks that the template is there and new enough; installs it when `create`.
///
/// # Errors
/// Code 1: OpenSearch does not answer or refuses; code 2: the template is missing or older and is not to be installed.
pub(super) fn ensure(client: &Client, name: &str, create: bool) -> Result<(), ExitError> {
    let path = format!("_index_template/{name}");
    let failed = |problem: String| {
        ExitError::failed(format!("OpenSearch at {}: {problem}", client.url()))
            .with_hint("check --index-url and that OpenSearch is running")
    };
    let answer = client.send(Method::GET, &path, None).map_err(failed)?;
    let found = match answer.status {
        200 => Some(
            version_in(&answer.body)
                .ok_or_else(|| failed("it does not answer as OpenSearch does".to_owned()))?,
        ),
        404 => None,
        status => return Err(failed(refusal(status))),
    };
    match found {
        Some(version) if version >= VERSION => {
            if version > VERSION {
                tracing::warn!(
                    name,
                    version,
                    ours = VERSION,
                    "the index template is of a newer version; it stays"
                );
            }
            return Ok(());
        }
        _ if !create => {
            let state = found.map_or("missing".to_owned(), |version| format!("of version {version}"));
            return Err(ExitError::usage(format!(
                "the index template {name} is {state}, version {VERSION} is needed"
            ))
            .with_hint("start once without --create-template=false, by a user who may install it"));
        }
        _ => {}
    }
    let body = template(name).to_string().into_bytes();
    let answer = client.send(Method::PUT, &path, Some(body)).map_err(failed)?;
    if answer.status != 200 {
        return Err(failed(format!(
            "the index template is not installed: {}",
            refusal(answer.status)
        )));
    }
    tracing::info!(name, version = VERSION, "index template installed");
    Ok(())
}

/// The version of the one template in an answer; 0 where it has none.
fn version_in(body: &[u8]) -> Option<u64> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let template = answer.get("index_templates")?.get(0)?.get("index_template")?;
    Some(template.get("version").and_then(Value::as_u64).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use loginlake_events::Contract;

    use super::*;

    fn mapped() -> BTreeSet<String> {
        let template = template("logins");
        let properties = template["template"]["mappings"]["properties"].as_object();
        properties.expect("properties").keys().cloned().collect()
    }

    #[test]
    fn every_field_of_a_processed_record_has_a_type() {
        let payload = br#"{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","app_version":"2.3.0","ip":"108.228.145.239",
            "locale":"RI","device_id":"d-1","timestamp":1720576825}"#;
        let contract = Contract::default();
        let event = contract.decode(Some(payload), None).expect("a good event");
        let mut json = Vec::new();
        event.write_json(1_720_576_826_000, &mut json);
        let record: serde_json::Map<String, Value> = serde_json::from_slice(&json).expect("an object");
        let fields: BTreeSet<String> = record.keys().cloned().collect();
        assert_eq!(mapped(), fields);
    }

    #[test]
    fn the_version_is_read_from_an_answer() {
        let body = br#"{"index_templates":[{"name":"logins","index_template":{"version":7}}]}"#;
        assert_eq!(version_in(body), Some(7));
        assert_eq!(
            version_in(br#"{"index_templates":[{"index_template":{}}]}"#),
            Some(0)
        );
        assert_eq!(version_in(b"<html>"), None);
    }

    /// What OpenSearch Dashboards imports: each line is an object, references lead to objects of the file, and every field that a
    /// panel groups by or filters is one of the template.
    #[test]
    fn the_dashboard_asks_only_for_what_there_is() {
        let text = include_str!("../../../../deploy/opensearch/dashboard.ndjson");
        let objects: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect();
        let key = |object: &Value| format!("{}/{}", object["type"], object["id"]);
        let keys: BTreeSet<String> = objects.iter().map(key).collect();
        assert_eq!(keys.len(), objects.len(), "ids are unique");
        let mut fields = BTreeSet::new();
        for object in &objects {
            for reference in object["references"].as_array().expect("references") {
                assert!(
                    keys.contains(&key(reference)),
                    "{} refers to {reference}",
                    key(object)
                );
            }
            let attributes = &object["attributes"];
            for text in ["visState", "panelsJSON", "optionsJSON", "fields"] {
                if let Some(text) = attributes[text].as_str() {
                    let value: Value = serde_json::from_str(text).expect("JSON in a text");
                    collect_fields(&value, &mut fields);
                }
            }
            if object["type"] == "index-pattern" {
                assert_eq!(
                    (attributes["title"].as_str(), attributes["timeFieldName"].as_str()),
                    (Some("logins-*"), Some("event_time"))
                );
            }
            if object["type"] == "dashboard" {
                let panels: Vec<Value> =
                    serde_json::from_str(attributes["panelsJSON"].as_str().expect("panels")).expect("JSON");
                let names: BTreeSet<_> = object["references"]
                    .as_array()
                    .expect("references")
                    .iter()
                    .map(|r| r["name"].as_str())
                    .collect();
                assert!(panels.len() >= 6);
                for panel in &panels {
                    assert!(names.contains(&panel["panelRefName"].as_str()), "{panel}");
                }
                assert_eq!(attributes["timeFrom"], "now-15m");
                assert_eq!(attributes["refreshInterval"]["value"], 1000);
            }
        }
        assert!(fields.len() >= 5, "{fields:?}");
        let mapped = mapped();
        let unknown: Vec<_> = fields.difference(&mapped).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    fn collect_fields(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    if let (true, Some(field)) = (name == "field", value.as_str()) {
                        into.insert(field.to_owned());
                    }
                    collect_fields(value, into);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| collect_fields(value, into)),
            _ => {}
        }
    }
}
