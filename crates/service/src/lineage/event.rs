//! The words of OpenLineage: events of a run, their datasets, and what is said of each, as its specification 2-0-2 and its facets have
//! them. Pure: the clock and the numbers of runs are passed in.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::config::ParentRun;

/// Who says all this.
const PRODUCER: &str = concat!("urn:loginlake:", env!("CARGO_PKG_VERSION"));
/// The schema of an event.
const RUN_EVENT: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
/// Most characters of an error's text.
const MAX_MESSAGE: usize = 1_000;

/// What happened to a run. There is one start and one end; between them there may be news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It begins.
    Start,
    /// What it did so far.
    Running,
    /// It ended well.
    Complete,
    /// It was given up without an error.
    Abort,
    /// It ended with an error.
    Fail,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Running => "RUNNING",
            Self::Complete => "COMPLETE",
            Self::Abort => "ABORT",
            Self::Fail => "FAIL",
        }
    }
}

/// How a job works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processing {
    /// It has an end.
    Batch,
    /// It goes on until it is stopped.
    Streaming,
}

impl Processing {
    const fn name(self) -> &'static str {
        match self {
            Self::Batch => "BATCH",
            Self::Streaming => "STREAMING",
        }
    }
}

/// Something that is read or written.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    namespace: String,
    name: String,
    facets: Map<String, Value>,
    /// Of this run alone: `inputFacets`, `outputFacets`.
    of_the_run: Map<String, Value>,
}

impl Dataset {
    /// By its names, see <https://openlineage.io/docs/spec/naming>.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            facets: Map::new(),
            of_the_run: Map::new(),
        }
    }

    /// A topic of the cluster that is reached by these bootstrap servers: the first of them names it.
    pub fn topic(brokers: &str, topic: &str) -> Self {
        let first = brokers.split(',').next().unwrap_or_default().trim();
        Self::new(format!("kafka://{first}"), topic)
    }

    /// A folder of a store: `s3://bucket/prefix` and the like, or a directory of this machine.
    pub fn folder(uri: &str, name: &str) -> Self {
        let path = |base: &str| format!("{}/{name}", base.trim_end_matches('/'));
        match uri.split_once("://") {
            Some((scheme, rest)) if scheme != "file" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let inside = path(prefix);
                Self::new(format!("{scheme}://{bucket}"), inside.trim_start_matches('/'))
            }
            Some((_, rest)) => Self::new("file", path(rest)),
            None => Self::new("file", path(uri)),
        }
    }

    /// Its columns: name and type.
    #[must_use]
    pub fn with_columns<'a>(self, columns: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let fields: Vec<Value> = columns
            .into_iter()
            .map(|(name, kind)| json!({ "name": name, "type": kind }))
            .collect();
        self.with("schema", "1-0-0/SchemaDatasetFacet", json!({ "fields": fields }))
    }

    /// Which version of it is meant.
    #[must_use]
    pub fn with_version(self, version: i64) -> Self {
        let version = json!({ "datasetVersion": version.to_string() });
        self.with("version", "1-0-0/DatasetVersionDatasetFacet", version)
    }

    /// What the run wrote into it.
    #[must_use]
    pub fn with_written(mut self, written: Written) -> Self {
        let mut said = json!({ "rowCount": written.rows });
        if let Some(bytes) = written.bytes {
            said["size"] = json!(bytes);
        }
        if let Some(files) = written.files {
            said["fileCount"] = json!(files);
        }
        let schema = "1-0-2/OutputStatisticsOutputDatasetFacet";
        self.of_the_run
            .insert("outputStatistics".to_owned(), facet(schema, said));
        self
    }

    /// The next offset of each Kafka partition of which the run has committed everything before. A facet of our own, and so it names
    /// the base that all facets of an input have.
    #[must_use]
    pub fn with_offsets(mut self, offsets: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let offsets: Map<String, Value> = offsets
            .into_iter()
            .map(|(partition, offset)| (partition.to_string(), offset.into()))
            .collect();
        let said = json!({
            "_producer": PRODUCER,
            "_schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/InputDatasetFacet",
            "nextOffsets": offsets,
        });
        self.of_the_run.insert("loginlake_kafkaOffsets".to_owned(), said);
        self
    }

    fn with(mut self, name: &str, schema: &str, said: Value) -> Self {
        self.facets.insert(name.to_owned(), facet(schema, said));
        self
    }

    fn json(&self, of_the_run: &str) -> Value {
        let mut said = json!({ "namespace": self.namespace, "name": self.name, "facets": self.facets });
        if !self.of_the_run.is_empty() {
            said[of_the_run] = json!(self.of_the_run);
        }
        said
    }
}

/// What a run wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows.
    pub rows: u64,
    /// Bytes, where they are known.
    pub bytes: Option<u64>,
    /// Files, where they are known.
    pub files: Option<u64>,
}

/// A job and one run of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RunOf {
    pub namespace: String,
    pub job: String,
    pub run_id: Uuid,
    pub processing: Processing,
    pub parent: Option<ParentRun>,
}

impl RunOf {
    /// An event of it.
    pub fn event(
        &self,
        state: State,
        at: DateTime<Utc>,
        inputs: &[Dataset],
        outputs: &[Dataset],
        error: Option<&str>,
    ) -> Value {
        let mut run = Map::new();
        let engine = json!({ "version": env!("CARGO_PKG_VERSION"), "name": "loginlake" });
        run.insert(
            "processing_engine".to_owned(),
            facet("1-1-0/ProcessingEngineRunFacet", engine),
        );
        if let Some(parent) = &self.parent {
            let said = json!({
                "run": { "runId": parent.run_id },
                "job": { "namespace": parent.namespace, "name": parent.job },
            });
            run.insert("parent".to_owned(), facet("1-0-1/ParentRunFacet", said));
        }
        if let Some(message) = error {
            let message: String = message.chars().take(MAX_MESSAGE).collect();
            let said = json!({ "message": message, "programmingLanguage": "RUST" });
            run.insert(
                "errorMessage".to_owned(),
                facet("1-0-0/ErrorMessageRunFacet", said),
            );
        }
        let kind = json!({ "processingType": self.processing.name(), "integration": "LOGINLAKE", "jobType": "COMMAND" });
        let inputs: Vec<Value> = inputs.iter().map(|input| input.json("inputFacets")).collect();
        let outputs: Vec<Value> = outputs.iter().map(|output| output.json("outputFacets")).collect();
        json!({
            "eventType": state.name(),
            "eventTime": at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "run": { "runId": self.run_id.to_string(), "facets": run },
            "job": {
                "namespace": self.namespace,
                "name": self.job,
                "facets": { "jobType": facet("2-0-3/JobTypeJobFacet", kind) },
            },
            "inputs": inputs,
            "outputs": outputs,
            "producer": PRODUCER,
            "schemaURL": RUN_EVENT,
        })
    }
}

/// What every facet has. `schema`: version and name of its definition.
fn facet(schema: &str, mut said: Value) -> Value {
    let name = schema.rsplit('/').next().unwrap_or(schema);
    said["_producer"] = json!(PRODUCER);
    said["_schemaURL"] = json!(format!(
        "https://openlineage.io/spec/facets/{schema}.json#/$defs/{name}"
    ));
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dataset: &Dataset) -> (&str, &str) {
        (&dataset.namespace, &dataset.name)
    }

    #[test]
    fn datasets_have_the_names_that_others_give_them() {
        for (dataset, namespace, name) in [
            (
                Dataset::folder("s3://logins/lake", "logins"),
                "s3://logins",
                "lake/logins",
            ),
            (Dataset::folder("s3://logins", "logins"), "s3://logins", "logins"),
            (
                Dataset::folder("s3://logins/a/b/", "logins"),
                "s3://logins",
                "a/b/logins",
            ),
            (
                Dataset::folder("file:///data/lake", "logins"),
                "file",
                "/data/lake/logins",
            ),
            (
                Dataset::folder("/data/lake/", "logins"),
                "file",
                "/data/lake/logins",
            ),
            (
                Dataset::topic("a:9092,b:9092", "user-login"),
                "kafka://a:9092",
                "user-login",
            ),
        ] {
            assert_eq!(names(&dataset), (namespace, name));
        }
    }

    fn run() -> RunOf {
        RunOf {
            namespace: "default".to_owned(),
            job: "olap.ingest".to_owned(),
            run_id: Uuid::nil(),
            processing: Processing::Streaming,
            parent: Some(ParentRun {
                namespace: "airflow".to_owned(),
                job: "dag".to_owned(),
                run_id: Uuid::nil().to_string(),
            }),
        }
    }

    #[test]
    fn an_event_says_who_what_and_when() {
        let input = Dataset::topic("a:9092", "user-login").with_offsets([(0, 12), (1, 7)]);
        let output = Dataset::folder("s3://b/lake", "logins")
            .with_columns([("user_id", "string".to_owned())])
            .with_version(4)
            .with_written(Written {
                rows: 19,
                bytes: Some(5),
                files: None,
            });
        let at = DateTime::from_timestamp_millis(1_700_000_000_123).expect("a time");
        let event = run().event(State::Fail, at, &[input], &[output], Some("the store is away"));
        assert_eq!(event["eventType"], "FAIL");
        assert_eq!(event["eventTime"], "2023-11-14T22:13:20.123Z");
        assert_eq!(
            event["run"]["facets"]["errorMessage"]["message"],
            "the store is away"
        );
        assert_eq!(event["run"]["facets"]["parent"]["job"]["name"], "dag");
        let offsets = &event["inputs"][0]["inputFacets"]["loginlake_kafkaOffsets"]["nextOffsets"];
        assert_eq!(offsets, &json!({ "0": 12, "1": 7 }));
        let output = &event["outputs"][0];
        assert_eq!(output["facets"]["version"]["datasetVersion"], "4");
        assert_eq!(output["facets"]["schema"]["fields"][0]["name"], "user_id");
        let written = &output["outputFacets"]["outputStatistics"];
        assert_eq!((&written["rowCount"], &written["size"]), (&json!(19), &json!(5)));
        assert!(written.get("fileCount").is_none());
    }

    #[test]
    fn every_facet_says_who_made_it_and_by_which_schema() {
        let dataset = Dataset::topic("a:1", "t").with_version(1).with_offsets([]);
        let datasets = std::slice::from_ref(&dataset);
        let event = run().event(State::Start, Utc::now(), datasets, datasets, Some("x"));
        let mut seen = 0;
        for place in [
            "/run/facets",
            "/job/facets",
            "/inputs/0/facets",
            "/inputs/0/inputFacets",
            "/outputs/0/outputFacets",
        ] {
            for (name, facet) in event.pointer(place).expect(place).as_object().expect("facets") {
                let schema = facet["_schemaURL"].as_str().expect("a schema");
                assert!(
                    schema.starts_with("https://openlineage.io/spec/"),
                    "{name}: {schema}"
                );
                assert!(
                    schema.contains("#/$defs/") && facet["_producer"] == PRODUCER,
                    "{name}"
                );
                seen += 1;
            }
        }
        assert!(seen >= 6, "{seen} facets");
    }

    #[test]
    fn a_long_error_is_cut() {
        let event = run().event(State::Fail, Utc::now(), &[], &[], Some(&"ä".repeat(5_000)));
        let message = event["run"]["facets"]["errorMessage"]["message"].as_str();
        assert_eq!(message.expect("a text").chars().count(), MAX_MESSAGE);
    }
}
