//! Whose template it is, and that it and the dashboard fit the records.

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
    let payload =
        br#"{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","app_version":"2.3.0","ip":"108.228.145.239",
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
fn a_template_of_somebody_else_is_told_from_ours() {
    let ours = template("logins");
    assert_eq!(judge(&ours, "logins"), Ok(Found::Good(VERSION)));
    let changed = |change: fn(&mut Value)| {
        let mut template = ours.clone();
        change(&mut template);
        judge(&template, "logins")
    };
    assert_eq!(changed(|t| t["version"] = json!(7)), Ok(Found::Good(7)));
    assert_eq!(changed(|t| t["version"] = json!(0)), Ok(Found::Older(0)));
    // What an operator wrote by hand, with the same types.
    let by_hand = changed(|t| {
        t["_meta"] = json!({"owner": "search team"});
        t["version"] = Value::Null;
    });
    assert_eq!(by_hand, Ok(Found::Good(VERSION)));
    let other = changed(|t| {
        t["_meta"] = Value::Null;
        t["template"]["mappings"]["properties"]["ip"] = json!({"type": "text"});
    });
    assert_eq!(other, Err("ip is not of the type ip".to_owned()));
    assert!(judge(&json!({"index_patterns": ["logins-*"], "version": 9}), "logins").is_err());
}

#[test]
fn the_template_is_found_in_an_answer() {
    let body = br#"{"index_templates":[{"name":"logins","index_template":{"version":7}}]}"#;
    assert_eq!(template_in(body), Some(json!({"version": 7})));
    assert_eq!(template_in(b"<html>"), None);
    assert_eq!(template_in(b"{}"), None);
}

/// What OpenSearch Dashboards imports: each line is an object, references lead to objects of the file, and every field that a
/// panel groups by or filters is one of the template.
#[test]
fn the_dashboard_asks_only_for_what_there_is() {
    let text = include_str!("../../../../../deploy/opensearch/dashboard.ndjson");
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
