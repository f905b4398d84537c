//! One OpenSearch node on a free loopback port, asked past our own code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::{Value, json};

use crate::kafka::{Kafka, READ_LIMIT};
use crate::wait::wait_for;
use crate::{http, parts, scenario, spawn};

const START_LIMIT: Duration = Duration::from_secs(240);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Where the runner of the node looks for a port: it takes none above.
const PORTS: std::ops::Range<u16> = 9201..9299;
const PAGE: usize = 5_000;

/// A running node; stopped when dropped.
pub struct OpenSearch {
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl OpenSearch {
    /// Starts a node whose indices lie in `dir`.
    ///
    /// # Errors
    /// When it does not come up within four minutes; the message holds the end of its log.
    pub fn start(dir: &Path) -> Result<OpenSearch> {
        fs::create_dir_all(dir)?;
        let mut node = OpenSearch {
            dir: dir.to_path_buf(),
            port: free_port()?,
            child: None,
        };
        node.start_again()?;
        // A full disk of the machine that tests run on is not what is tested.
        let settings = json!({"persistent": {"cluster.routing.allocation.disk.threshold_enabled": false}});
        node.ask("PUT", "/_cluster/settings", Some(&settings))?;
        Ok(node)
    }

    /// Kills it as a power cut would; its indices and its port stay.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            spawn::stop(&mut child);
        }
    }

    /// Starts it again on the same indices and port, and waits until it answers.
    ///
    /// # Errors
    /// As [`OpenSearch::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.kill();
        let log_file = self.dir.join("opensearch.log");
        let log = File::options().create(true).append(true).open(&log_file)?;
        let mut command = Command::new("java");
        command
            .args(["-Xms512m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(parts::opensearch_libs().join("*"))
            .arg("org.codelibs.opensearch.runner.OpenSearchRunner")
            .arg("-basePath")
            .arg(self.dir.join("node"))
            .args(["-numOfNode", "1", "-clusterName", "scenario"])
            // The first node serves at the next port.
            .args(["-baseHttpPort", &(self.port - 1).to_string()])
            .current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = spawn::spawn(command).context("cannot start OpenSearch's java")?;
        let ready = wait_for("OpenSearch to answer", START_LIMIT, || {
            if let Some(status) = child.try_wait()? {
                bail!("OpenSearch stopped with {status} while starting");
            }
            let health = http::get(self.address(), "/_cluster/health");
            let is_up = health.is_ok_and(|answer| answer.status == 200 && !answer.body.contains("\"red\""));
            Ok(is_up.then_some(()))
        });
        self.child = Some(child);
        ready.with_context(|| scenario::end_of(&log_file))
    }

    /// What `--index-url` is given.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        http::loopback(self.port)
    }

    /// Sends JSON, and returns the JSON of the answer.
    ///
    /// # Errors
    /// When the answer is an error.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let address = self.address();
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer in HTTP")?;
        let is_good = head
            .split(' ')
            .nth(1)
            .is_some_and(|status| status.starts_with('2'));
        ensure!(is_good, "{method} {path}: {head}\n{body}");
        serde_json::from_str(body).with_context(|| format!("{path}: {body}"))
    }

    /// The ids of all documents of an index or alias, as a search finds them now.
    ///
    /// # Errors
    /// When one is found twice, or OpenSearch refuses.
    pub fn ids(&self, index: &str) -> Result<BTreeSet<String>> {
        self.ask("POST", &format!("/{index}/_refresh"), None)?;
        let query = json!({"size": PAGE, "_source": false, "sort": ["_doc"]});
        let mut page = self.ask("POST", &format!("/{index}/_search?scroll=5m"), Some(&query))?;
        let mut ids = BTreeSet::new();
        loop {
            let hits = page["hits"]["hits"].as_array().context("no hits")?;
            if hits.is_empty() {
                return Ok(ids);
            }
            for hit in hits {
                let id = hit["_id"].as_str().context("no id")?.to_owned();
                ensure!(ids.insert(id), "twice: {hit}");
            }
            let next = json!({"scroll": "5m", "scroll_id": page["_scroll_id"]});
            page = self.ask("POST", "/_search/scroll", Some(&next))?;
        }
    }

    /// The counts of an aggregation's buckets, by key.
    ///
    /// # Errors
    /// When OpenSearch refuses.
    pub fn buckets(&self, index: &str, aggregation: &Value) -> Result<BTreeMap<String, u64>> {
        let query = json!({"size": 0, "track_total_hits": true, "aggs": {"a": aggregation}});
        let answer = self.ask("POST", &format!("/{index}/_search"), Some(&query))?;
        let buckets = answer["aggregations"]["a"]["buckets"].as_array();
        let bucket = |bucket: &Value| {
            let key = &bucket["key"];
            let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
            Some((key, bucket["doc_count"].as_u64()?))
        };
        buckets
            .with_context(|| format!("no buckets: {answer}"))?
            .iter()
            .map(|found| bucket(found).with_context(|| format!("no bucket: {found}")))
            .collect()
    }
}

impl Drop for OpenSearch {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> Result<u16> {
    let start = u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start))?;
    PORTS
        .map(|port| PORTS.start + (port - PORTS.start + start) % (PORTS.end - PORTS.start))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no port is free from 9201 to 9298")
}

impl Kafka {
    /// Writes one record with headers, acknowledged when it returns.
    ///
    /// # Errors
    /// When it is not acknowledged within 60 s.
    pub fn produce_with_headers(&self, topic: &str, payload: &str, headers: &[(&str, &str)]) -> Result<()> {
        self.produce_all_with_headers(topic, [(payload.to_owned(), headers)])
    }

    /// The same with many.
    ///
    /// # Errors
    /// As [`Kafka::produce_with_headers`].
    pub fn produce_all_with_headers<'a>(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = (String, &'a [(&'a str, &'a str)])>,
    ) -> Result<()> {
        let producer: ThreadedProducer<DefaultProducerContext> = self.client().create()?;
        for (payload, headers) in records {
            let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(*value),
                })
            });
            let record = BaseRecord::<(), str>::to(topic)
                .payload(&payload)
                .headers(headers);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        Ok(producer.flush(READ_LIMIT)?)
    }
}
