//! What is imported into OpenSearch Dashboards, read as Dashboards reads it. Dashboards itself is not among the parts: what is
//! checked here is that nothing refers to something that is not there, and what its panels would ask OpenSearch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

/// Width of a dashboard in columns.
const COLUMNS: u64 = 48;

/// The objects of an export.
pub struct SavedObjects(Vec<Value>);

/// The time that a dashboard shows.
#[derive(Clone, Debug)]
pub struct TimeSpan {
    /// The field that has it.
    pub field: String,
    /// The beginning, in OpenSearch's words.
    pub from: String,
    /// The end.
    pub to: String,
}

impl SavedObjects {
    /// Reads a file of one object a line.
    ///
    /// # Errors
    /// When a line is not one JSON value.
    pub fn read(file: &Path) -> Result<SavedObjects> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let objects = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(SavedObjects(objects))
    }

    fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["type"] == kind)
    }

    fn dashboard(&self) -> Result<&Value> {
        self.of_type("dashboard").next().context("no dashboard")
    }

    /// Everything that is referred to is there, every field is one of `mapping` (an answer of `_mapping`), and the dashboard has every
    /// panel, each in a place of its own, over the last 15 minutes, anew each second.
    ///
    /// # Errors
    /// What is not so.
    pub fn check(&self, mapping: &Value) -> Result<()> {
        let key = |object: &Value| (object["type"].to_string(), object["id"].to_string());
        let there: BTreeSet<_> = self.0.iter().map(key).collect();
        ensure!(there.len() == self.0.len(), "two objects have one id");
        for object in &self.0 {
            for reference in object["references"].as_array().context("no references")? {
                ensure!(
                    there.contains(&key(reference)),
                    "{reference} of {} is not there",
                    object["id"]
                );
            }
            ensure!(
                object["migrationVersion"].is_object(),
                "{}: no version to import it as",
                object["id"]
            );
        }
        let fields = mapped(mapping)?;
        let time = self.time_span()?;
        ensure!(
            fields.get(&time.field).map(String::as_str) == Some("date"),
            "{} is no time",
            time.field
        );
        for object in self.of_type("visualization") {
            let id = object["id"].as_str().context("no id")?;
            let source = inner(
                object,
                &["attributes", "kibanaSavedObjectMeta", "searchSourceJSON"],
            )?;
            let name = source["indexRefName"].as_str().context("no index")?;
            ensure!(
                names_of(object).contains(name),
                "{id}: {name} is no reference of it"
            );
            let state = inner(object, &["attributes", "visState"])?;
            ensure!(
                state["title"] == object["attributes"]["title"],
                "{id}: two titles"
            );
            let numbers: Vec<&Value> = aggregations(&state)?.iter().map(|found| &found["id"]).collect();
            for aggregation in aggregations(&state)? {
                let parameters = &aggregation["params"];
                if let Some(field) = parameters["field"].as_str() {
                    let kind = fields
                        .get(field)
                        .with_context(|| format!("{id}: {field} is not in the index"))?;
                    let fits = match aggregation["type"].as_str() {
                        Some("terms") => kind == "keyword",
                        Some("date_histogram") => kind == "date",
                        Some("histogram") => kind == "byte",
                        _ => false,
                    };
                    ensure!(fits, "{id}: {} of {field}, which is {kind}", aggregation["type"]);
                }
                if let Some(order) = parameters.get("orderBy") {
                    ensure!(numbers.contains(&order), "{id}: ordered by {order}");
                }
            }
        }
        self.check_dashboard()
    }

    fn check_dashboard(&self) -> Result<()> {
        let dashboard = self.dashboard()?;
        let attributes = &dashboard["attributes"];
        ensure!(attributes["timeRestore"] == true, "its time is not taken");
        let refresh = json!({"pause": false, "value": 1000});
        ensure!(
            attributes["refreshInterval"] == refresh,
            "{}",
            attributes["refreshInterval"]
        );
        let time = self.time_span()?;
        ensure!(
            (time.from.as_str(), time.to.as_str()) == ("now-15m", "now"),
            "{time:?}"
        );
        let panels = inner(dashboard, &["attributes", "panelsJSON"])?;
        let panels = panels.as_array().context("no panels")?;
        let (mut used, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in panels {
            let name = panel["panelRefName"].as_str().context("no reference")?;
            ensure!(used.insert(name), "{name} twice");
            ensure!(panel["panelIndex"] == panel["gridData"]["i"], "{panel}");
            let place = |name: &str| panel["gridData"][name].as_u64().context("no place");
            let (x, y, w, h) = (place("x")?, place("y")?, place("w")?, place("h")?);
            ensure!(x + w <= COLUMNS, "{name}: wider than the page");
            let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
            for cell in cells {
                ensure!(taken.insert(cell), "{name} lies on another panel");
            }
        }
        ensure!(used == names_of(dashboard), "{used:?}");
        ensure!(
            panels.len() == self.of_type("visualization").count(),
            "a panel is not shown"
        );
        Ok(())
    }

    /// What the dashboard shows the time of.
    ///
    /// # Errors
    /// When it does not say.
    pub fn time_span(&self) -> Result<TimeSpan> {
        let pattern = self.of_type("index-pattern").next().context("no index pattern")?;
        let attributes = &self.dashboard()?["attributes"];
        let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
        Ok(TimeSpan {
            field: text(&pattern["attributes"]["timeFieldName"])?,
            from: text(&attributes["timeFrom"])?,
            to: text(&attributes["timeTo"])?,
        })
    }

    /// The title of each panel, and its aggregations as Dashboards asks them: one within the other.
    ///
    /// # Errors
    /// When a panel has an aggregation that is not known here.
    pub fn questions(&self) -> Result<Vec<(String, Value)>> {
        self.of_type("visualization")
            .map(|object| {
                let state = inner(object, &["attributes", "visState"])?;
                let title = state["title"].as_str().context("no title")?;
                let mut asked = Value::Null;
                for aggregation in aggregations(&state)?.iter().rev() {
                    asked = around(aggregation, asked).with_context(|| title.to_owned())?;
                }
                let asked = if asked.is_null() { json!({}) } else { asked };
                Ok((title.to_owned(), asked))
            })
            .collect()
    }
}

/// An aggregation with the others within it.
fn around(aggregation: &Value, within: Value) -> Result<Value> {
    let parameters = &aggregation["params"];
    let field = &parameters["field"];
    let kind = aggregation["type"].as_str().context("no type")?;
    let own = match kind {
        // The number of documents is in each answer.
        "count" => return Ok(within),
        "terms" => json!({
            "field": field, "size": parameters["size"], "order": {"_count": parameters["order"]},
        }),
        "histogram" => json!({"field": field, "interval": parameters["interval"], "min_doc_count": 0}),
        // What Dashboards makes of "auto" for 15 minutes.
        "date_histogram" => json!({"field": field, "fixed_interval": "30s", "min_doc_count": 1}),
        other => anyhow::bail!("an aggregation {other}"),
    };
    let id = aggregation["id"].as_str().context("no id")?;
    let mut asked = Map::new();
    asked.insert(kind.to_owned(), own);
    if !within.is_null() {
        asked.insert("aggs".to_owned(), within);
    }
    Ok(json!({id: asked}))
}

fn aggregations(state: &Value) -> Result<&Vec<Value>> {
    state["aggs"].as_array().context("no aggregations")
}

/// JSON that is written as a text within JSON.
fn inner(object: &Value, path: &[&str]) -> Result<Value> {
    let text = path.iter().fold(object, |value, name| &value[*name]);
    let text = text
        .as_str()
        .with_context(|| format!("no {path:?} in {}", object["id"]))?;
    Ok(serde_json::from_str(text)?)
}

fn names_of(object: &Value) -> BTreeSet<&str> {
    let references = object["references"].as_array();
    let names = references
        .into_iter()
        .flatten()
        .filter_map(|found| found["name"].as_str());
    names.collect()
}

/// The fields of all indices, and their types.
fn mapped(mapping: &Value) -> Result<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    for index in mapping.as_object().context("no indices")?.values() {
        let properties = index["mappings"]["properties"].as_object().context("no fields")?;
        for (name, field) in properties {
            fields.insert(
                name.clone(),
                field["type"].as_str().context("no type")?.to_owned(),
            );
        }
    }
    Ok(fields)
}
