//! The surroundings of one scenario: a folder, names that no other scenario has, the shared servers, and the command
//! lines of our binaries with all of that filled in.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::kafka::{self, Kafka};
use crate::minio::{self, Minio};
use crate::parts;
use crate::process::Program;
use crate::reader::Reader;

static RUN_DIR: Mutex<Option<tempfile::TempDir>> = Mutex::new(None);
static PORTS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// The folder of this test run; made at the first call.
///
/// # Errors
/// When the system's folder for temporary files is full or read-only.
pub fn run_dir() -> Result<PathBuf> {
    let mut dir = RUN_DIR.lock().unwrap_or_else(PoisonError::into_inner);
    if dir.is_none() {
        *dir = Some(
            tempfile::Builder::new()
                .prefix("loginlake-scenarios-")
                .tempdir()?,
        );
    }
    Ok(dir.as_ref().expect("it was set above").path().to_path_buf())
}

/// Removes the folder of this test run; keeps and names it when `keep`.
pub fn remove_files(keep: bool) {
    if let Some(dir) = RUN_DIR.lock().unwrap_or_else(PoisonError::into_inner).take()
        && keep
    {
        eprintln!(
            "the logs and files of this run are kept in {}",
            dir.keep().display()
        );
    }
}

/// A loopback port that nobody listens on and that this run has not given out before.
///
/// # Errors
/// When the system has none left.
pub fn free_port() -> Result<u16> {
    let mut given = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if given.insert(port) {
            return Ok(port);
        }
    }
}

/// The last lines of a log, for the message of an error.
pub fn end_of(file: &Path) -> String {
    const LINES: usize = 15;
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
    format!("the end of its log:\n{end}")
}

/// How many events a scenario of exactness takes: the variable LOGINLAKE_SCENARIO_EVENTS, or else `default`, which is
/// sized for a debug build on two busy cores.
///
/// # Errors
/// When the variable is not a number.
pub fn events(default: u64) -> Result<u64> {
    const VARIABLE: &str = "LOGINLAKE_SCENARIO_EVENTS";
    match std::env::var(VARIABLE) {
        Err(_) => Ok(default),
        Ok(text) => text
            .parse()
            .with_context(|| format!("{VARIABLE} is no number of events: {text}")),
    }
}

/// How programs reach a broker: an address, and the variables of its settings.
#[derive(Debug, Clone)]
pub struct Way {
    /// What `--brokers` is given.
    pub brokers: String,
    /// Variables, such as `LOGINLAKE_KAFKA_…`.
    pub environment: Vec<(String, String)>,
}

impl Way {
    /// The same with a property of librdkafka, as its variable names it; the last one of a name counts.
    #[must_use]
    pub fn with(mut self, property: &str, value: &str) -> Way {
        self.environment
            .push((format!("LOGINLAKE_KAFKA_{property}"), value.to_owned()));
        self
    }

    /// The same to another address.
    #[must_use]
    pub fn to(self, brokers: String) -> Way {
        Way { brokers, ..self }
    }

    /// Adds them to a command line.
    pub fn add_to(&self, program: Program) -> Program {
        let program = program.args(["--brokers", &self.brokers]);
        let variables = self.environment.iter();
        variables.fold(program, |program, (name, value)| program.env(name, value))
    }
}

/// One scenario with a topic set and a lake of its own.
pub struct Scenario {
    name: String,
    dir: PathBuf,
    /// The broker.
    pub kafka: Arc<Kafka>,
    /// How our programs reach it, if not as the scenario does.
    way: Option<Way>,
    /// Where the output topics are, if not there.
    output_kafka: Option<Arc<Kafka>>,
    /// The object store.
    pub minio: Arc<Minio>,
}

impl Scenario {
    /// A scenario on the shared servers with its bucket made and no topic yet. `name` is part of every name and must be
    /// one that a bucket may have: lower case, digits, hyphens.
    ///
    /// # Errors
    /// When a server does not come up.
    pub fn new(name: &str) -> Result<Scenario> {
        Scenario::on(name, kafka::shared()?)
    }

    /// The same on a broker of its own.
    ///
    /// # Errors
    /// As [`Scenario::new`].
    pub fn on(name: &str, kafka: Arc<Kafka>) -> Result<Scenario> {
        Scenario::on_servers(name, kafka, minio::shared()?)
    }

    /// The same with an object store of its own, for scenarios that take it away.
    ///
    /// # Errors
    /// As [`Scenario::new`].
    pub fn with_own_store(name: &str) -> Result<Scenario> {
        let minio = Minio::start(&run_dir()?.join(format!("{name}-minio")))?;
        Scenario::on_servers(name, kafka::shared()?, Arc::new(minio))
    }

    /// The same with an object store of its own that can encrypt.
    ///
    /// # Errors
    /// As [`Scenario::new`].
    pub fn with_encrypting_store(name: &str) -> Result<Scenario> {
        let minio = Minio::start_encrypting(&run_dir()?.join(format!("{name}-minio")))?;
        Scenario::on_servers(name, kafka::shared()?, Arc::new(minio))
    }

    /// The same with a broker and an object store of its own, for scenarios that take both away.
    ///
    /// # Errors
    /// As [`Scenario::new`].
    pub fn with_own_servers(name: &str) -> Result<Scenario> {
        let kafka = Kafka::start(&run_dir()?.join(format!("{name}-kafka")))?;
        let minio = Minio::start(&run_dir()?.join(format!("{name}-minio")))?;
        Scenario::on_servers(name, Arc::new(kafka), Arc::new(minio))
    }

    fn on_servers(name: &str, kafka: Arc<Kafka>, minio: Arc<Minio>) -> Result<Scenario> {
        let dir = run_dir()?.join(name);
        fs::create_dir(&dir).with_context(|| format!("there are two scenarios with the name {name}"))?;
        let scenario = Scenario {
            name: name.to_owned(),
            dir,
            kafka,
            way: None,
            output_kafka: None,
            minio,
        };
        scenario.minio.create_bucket(&scenario.bucket())?;
        Ok(scenario)
    }

    /// The same with our programs going another way to the broker.
    pub fn reached_by(mut self, way: Way) -> Scenario {
        self.way = Some(way);
        self
    }

    /// The same with its output topics on another cluster.
    pub fn with_outputs_on(mut self, kafka: Arc<Kafka>) -> Scenario {
        self.output_kafka = Some(kafka);
        self
    }

    /// The broker of the output topics.
    pub fn outputs(&self) -> &Kafka {
        self.output_kafka.as_ref().unwrap_or(&self.kafka)
    }

    /// Makes the input topic with 4 partitions, and the three output topics with 2 each.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn create_topics(&self) -> Result<()> {
        self.create_topics_of(4)
    }

    /// The same with another number of input partitions.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn create_topics_of(&self, input_partitions: i32) -> Result<()> {
        self.kafka.create_topic(&self.input_topic(), input_partitions)?;
        for topic in [
            self.output_topic(),
            self.dead_letter_topic(),
            self.insights_topic(),
        ] {
            self.outputs().create_topic(&topic, 2)?;
        }
        Ok(())
    }

    /// The scenario's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The bucket of its lake.
    pub fn bucket(&self) -> String {
        self.name.clone()
    }

    /// The lake's address.
    pub fn lake(&self) -> String {
        format!("s3://{}/lake", self.bucket())
    }

    /// The topic of logins.
    pub fn input_topic(&self) -> String {
        format!("{}.user-login", self.name)
    }

    /// The topic of enriched logins.
    pub fn output_topic(&self) -> String {
        format!("{}.processed-user-login", self.name)
    }

    /// The topic of rejected records.
    pub fn dead_letter_topic(&self) -> String {
        format!("{}.user-login-dead-letters", self.name)
    }

    /// The topic of insights.
    pub fn insights_topic(&self) -> String {
        format!("{}.login-insights", self.name)
    }

    /// The consumer group of `realtime`.
    pub fn realtime_group(&self) -> String {
        format!("{}-realtime", self.name)
    }

    /// The consumer group of `olap ingest`.
    pub fn ingest_group(&self) -> String {
        format!("{}-olap", self.name)
    }

    /// `realtime run` on this scenario's topics, without HTTP unless a flag says otherwise.
    pub fn realtime(&self) -> Program {
        self.realtime_command("run")
    }

    /// Another command of `realtime` with the settings of `run`, such as `check`.
    pub fn realtime_command(&self, command: &str) -> Program {
        let topics = [
            ("--input-topic", self.input_topic()),
            ("--output-topic", self.output_topic()),
            ("--dead-letter-topic", self.dead_letter_topic()),
            ("--insights-topic", self.insights_topic()),
            ("--group-id", self.realtime_group()),
        ];
        let program = Program::ours("realtime", &self.dir).arg(command);
        let program = self.as_service(program);
        let program = match &self.output_kafka {
            Some(outputs) => program.args(["--output-brokers", &outputs.brokers()]),
            None => program,
        };
        let program = program
            .env("LOGINLAKE_HTTP", "none")
            .env("LOGINLAKE_LOG_FORMAT", "text");
        topics
            .iter()
            .fold(program, |program, (flag, value)| program.args([*flag, value]))
    }

    /// `realtime dead-letters` with a command such as `list`, on this scenario's topics.
    pub fn dead_letters(&self, command: &str) -> Program {
        let program = Program::ours("realtime", &self.dir).args(["dead-letters", command]);
        let program = self.as_service(program).env("LOGINLAKE_LOG_FORMAT", "text");
        program
            .args(["--input-topic", &self.input_topic()])
            .args(["--dead-letter-topic", &self.dead_letter_topic()])
            .args(["--group-id", &self.realtime_group()])
    }

    /// `olap ingest` from this scenario's input topic into its lake, without HTTP unless a flag says otherwise.
    pub fn ingest(&self) -> Program {
        self.ingest_into(&self.lake())
    }

    /// The same into another lake.
    pub fn ingest_into(&self, lake: &str) -> Program {
        self.ingest_command("ingest", lake)
    }

    /// Another command of `olap` with the settings of `ingest`, such as `check`.
    pub fn ingest_command(&self, command: &str, lake: &str) -> Program {
        let program = self.connected(self.olap_on(command, lake));
        let program = program
            .env("LOGINLAKE_HTTP", "none")
            .env("LOGINLAKE_LOG_FORMAT", "text");
        program.args([
            "--input-topic",
            &self.input_topic(),
            "--group-id",
            &self.ingest_group(),
        ])
    }

    /// Another command of `olap` on this scenario's lake.
    pub fn olap(&self, command: &str) -> Program {
        self.olap_on(command, &self.lake())
    }

    /// The same on another lake.
    pub fn olap_on(&self, command: &str, lake: &str) -> Program {
        let program = Program::ours("olap", &self.dir).args([command, "--lake", lake]);
        self.minio
            .environment()
            .iter()
            .fold(program, |program, (name, value)| program.env(name, value))
    }

    /// `generate` into this scenario's input topic, with event times of one fixed week.
    pub fn generate(&self, count: u64, seed: u64) -> Program {
        let program = self.connected(Program::ours("generate", &self.dir));
        let program = program.args([
            "--input-topic",
            &self.input_topic(),
            "--from",
            "2025-03-03",
            "--to",
            "2025-03-10",
        ]);
        program.args(["--count", &count.to_string(), "--seed", &seed.to_string()])
    }

    /// `generate` with the records of a file into this scenario's input topic.
    pub fn replay(&self, file: &str) -> Program {
        let program = self.connected(Program::ours("generate", &self.dir));
        program.args(["--input-topic", &self.input_topic(), "--from-file", file])
    }

    /// The independent reader of this scenario's lake.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.lake(), self.minio.environment())
    }

    /// A file of the repository's `sql/`.
    pub fn sql_file(&self, name: &str) -> String {
        parts::top().join("sql").join(name).display().to_string()
    }

    fn as_service(&self, program: Program) -> Program {
        match &self.way {
            Some(way) => way.add_to(program),
            None => self.kafka.as_service(program),
        }
    }

    /// A program that takes `--brokers` with the broker.
    pub fn connected(&self, program: Program) -> Program {
        match &self.way {
            Some(way) => way.add_to(program),
            None => program.args(["--brokers", &self.kafka.brokers()]),
        }
    }
}
