//! One Apache Kafka broker (KRaft, broker and controller in one process, 512 MiB heap) on free loopback ports: started,
//! killed, started again. What scenarios do with it is in [`crate::records`] and [`crate::admin`].
//!
//! A guarded broker has a second listener with a password, for our services: they are the user `app` there, whom limits and
//! ACLs hold, while the scenario itself may do anything.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::process::Program;
pub use crate::records::{Record, Transactions};
use crate::wait::wait_for;
use crate::{http, parts, scenario, spawn};

const START_LIMIT: Duration = Duration::from_secs(90);
pub(crate) const READ_LIMIT: Duration = Duration::from_secs(60);
/// The silence after which the broker takes the partitions of a member of the newer group protocol, which has this limit
/// from the broker, away from it. Short, so that scenarios can wait for it.
pub const SESSION_TIMEOUT_MS: u32 = 4_000;
/// How often the broker looks for transactions that are open for too long.
pub const ABORT_SCAN_MS: u32 = 1_000;
/// The user as whom our services come to a guarded broker.
pub const APP_USER: &str = "app";
const APP_PASSWORD: &str = "app-secret";

static SHARED: Mutex<Option<Arc<Kafka>>> = Mutex::new(None);
static SECOND: Mutex<Option<Arc<Kafka>>> = Mutex::new(None);

/// The broker that the scenarios of one test binary share; started at the first call.
///
/// # Errors
/// When it does not come up.
pub fn shared() -> Result<Arc<Kafka>> {
    started_once(&SHARED, "kafka")
}

/// Another one, a cluster of its own.
///
/// # Errors
/// When it does not come up.
pub fn second() -> Result<Arc<Kafka>> {
    started_once(&SECOND, "second-kafka")
}

fn started_once(place: &Mutex<Option<Arc<Kafka>>>, folder: &str) -> Result<Arc<Kafka>> {
    let mut place = lock(place);
    if place.is_none() {
        *place = Some(Arc::new(Kafka::start(&scenario::run_dir()?.join(folder))?));
    }
    Ok(Arc::clone(place.as_ref().expect("it was set above")))
}

/// Stops the shared brokers that were started. Called once, when all scenarios are over.
pub fn stop_shared() {
    drop(lock(&SHARED).take());
    drop(lock(&SECOND).take());
}

/// A scenario that failed with the lock held must not fail all others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One more listener of a broker.
#[derive(Debug, Clone)]
pub struct Listener {
    name: &'static str,
    protocol: &'static str,
    host: &'static str,
    port: u16,
}

impl Listener {
    /// A name, what is spoken there, and the address that clients are told.
    pub fn new(name: &'static str, protocol: &'static str, host: &'static str, port: u16) -> Listener {
        Listener {
            name,
            protocol,
            host,
            port,
        }
    }
}

/// A running broker; stopped when dropped.
pub struct Kafka {
    dir: PathBuf,
    port: u16,
    controller_port: u16,
    /// Where our services connect to a guarded broker.
    app_port: Option<u16>,
    /// Files that the broker may read by a URL.
    allowed_urls: Option<String>,
    child: Mutex<Option<Child>>,
}

impl Kafka {
    /// Starts a broker of one's own, for scenarios that kill it; all others take [`shared`].
    ///
    /// # Errors
    /// When it does not come up within 90 s; the message holds the end of its log.
    pub fn start(dir: &Path) -> Result<Kafka> {
        Kafka::start_with(dir, None)
    }

    /// Starts a guarded broker of one's own.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start_guarded(dir: &Path) -> Result<Kafka> {
        Kafka::start_with(dir, Some(scenario::free_port()?))
    }

    /// Starts a broker with more listeners, properties for them, a URL of keys that it may read, and users of SCRAM.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start_listening(
        dir: &Path,
        listeners: &[Listener],
        properties: &str,
        keys_url: &str,
        users: &[(&str, &str)],
    ) -> Result<Kafka> {
        let mut kafka = Kafka::new(dir, None)?;
        kafka.allowed_urls = Some(keys_url.to_owned());
        let properties = kafka.leader_properties(listeners) + properties;
        kafka.make(&properties, kafka.port, users)?;
        Ok(kafka)
    }

    fn start_with(dir: &Path, app_port: Option<u16>) -> Result<Kafka> {
        let kafka = Kafka::new(dir, app_port)?;
        let app = app_port.map(|port| Listener::new("APP", "SASL_PLAINTEXT", "127.0.0.1", port));
        let mut properties = kafka.leader_properties(app.as_slice());
        if app.is_some() {
            properties += &guard();
        }
        kafka.make(&properties, kafka.port, &[])?;
        Ok(kafka)
    }

    fn new(dir: &Path, app_port: Option<u16>) -> Result<Kafka> {
        Ok(Kafka {
            dir: dir.to_path_buf(),
            port: scenario::free_port()?,
            controller_port: scenario::free_port()?,
            app_port,
            allowed_urls: None,
            child: Mutex::new(None),
        })
    }

    /// Starts a second broker in the cluster of this one: it holds replicas, and does nothing else that matters.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start_follower(&self, dir: &Path) -> Result<Kafka> {
        let follower = Kafka {
            dir: dir.to_path_buf(),
            port: scenario::free_port()?,
            controller_port: self.controller_port,
            app_port: None,
            allowed_urls: None,
            child: Mutex::new(None),
        };
        follower.make(&follower.follower_properties(), self.port, &[])?;
        Ok(follower)
    }

    /// Writes its folder, and starts it. The clusters of the scenarios are told apart by a port.
    fn make(&self, properties: &str, cluster_port: u16, users: &[(&str, &str)]) -> Result<()> {
        fs::create_dir_all(&self.dir)?;
        let file = self.dir.join("server.properties");
        fs::write(&file, properties).with_context(|| format!("cannot write {}", file.display()))?;
        format_storage(&self.dir, cluster_port, users)?;
        self.start_again()
    }

    /// The bootstrap address, `127.0.0.1:port`.
    pub fn brokers(&self) -> String {
        self.address().to_string()
    }

    /// The same broker under another name, `localhost:port`.
    pub fn brokers_by_name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The flags and variables with which our services connect.
    pub(crate) fn as_service(&self, program: Program) -> Program {
        let Some(app_port) = self.app_port else {
            return program.args(["--brokers", &self.brokers()]);
        };
        let user = format!("sasl.username={APP_USER}");
        program
            .args(["--brokers", &http::loopback(app_port).to_string()])
            .args(["-X", "security.protocol=SASL_PLAINTEXT"])
            .args(["-X", "sasl.mechanism=PLAIN"])
            .args(["-X", &user])
            .env("LOGINLAKE_KAFKA_SASL_PASSWORD", APP_PASSWORD)
    }

    fn address(&self) -> SocketAddr {
        http::loopback(self.port)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("kafka.log")
    }

    /// Kills the broker as a power cut would; its data and its port stay.
    pub fn kill(&self) {
        if let Some(mut child) = lock(&self.child).take() {
            spawn::stop(&mut child);
        }
    }

    /// Stops it in the middle of whatever it does: its connections stay open, and nothing answers. `false` lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self, is_frozen: bool) -> Result<()> {
        let child = lock(&self.child);
        let id = libc::pid_t::try_from(child.as_ref().context("it does not run")?.id())?;
        let number = if is_frozen { libc::SIGSTOP } else { libc::SIGCONT };
        // SAFETY: a plain system call; the id is that of our own child, which is not collected before it is waited for.
        let result = unsafe { libc::kill(id, number) };
        anyhow::ensure!(result == 0, "{}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Starts it again on the same data and port, and waits until it answers.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start_again(&self) -> Result<()> {
        self.kill();
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut command = java();
        if let Some(urls) = &self.allowed_urls {
            let option = format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={urls}");
            command.env("JDK_JAVA_OPTIONS", option);
        }
        command
            .args(["kafka.Kafka", "server.properties"])
            .current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        *lock(&self.child) = Some(spawn::spawn(command).context("cannot start java")?);
        let probe: BaseConsumer = self.client().create()?;
        let own_port = i32::from(self.port);
        wait_for("Kafka to answer", START_LIMIT, || {
            if let Some(status) = lock(&self.child)
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten()
            {
                bail!("Kafka stopped with {status} while starting");
            }
            if !http::accepts(self.address()) {
                return Ok(None);
            }
            Ok(probe
                .fetch_metadata(None, Duration::from_secs(5))
                .ok()
                .filter(|answer| answer.brokers().iter().any(|broker| broker.port() == own_port)))
        })
        .with_context(|| scenario::end_of(&self.log_file()))?;
        Ok(())
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers())
            .set("log_level", "0");
        config
    }

    /// Without retention: processed records carry the times of their events, which for scenarios are long past.
    fn leader_properties(&self, listeners: &[Listener]) -> String {
        let (port, controller_port) = (self.port, self.controller_port);
        let of_each = |text: &dyn Fn(&Listener) -> String| listeners.iter().map(text).collect::<String>();
        let more = of_each(&|one| format!(",{}://{}:{}", one.name, one.host, one.port));
        let bound = of_each(&|one| format!(",{}://127.0.0.1:{}", one.name, one.port));
        let spoken = of_each(&|one| format!(",{}:{}", one.name, one.protocol));
        format!(
            "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{bound}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{more}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{spoken}
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs=data
auto.create.topics.enable=false
log.retention.ms=-1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms={SESSION_TIMEOUT_MS}
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=500
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms={ABORT_SCAN_MS}
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"
        )
    }

    fn follower_properties(&self) -> String {
        let (port, controller_port) = (self.port, self.controller_port);
        format!(
            "process.roles=broker
node.id=2
listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs=data
"
        )
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Java with the heap and the quick start that a broker for a few minutes wants.
pub(crate) fn java() -> Command {
    let mut command = Command::new("java");
    command.args([
        "-Xms128m",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-cp",
    ]);
    command.arg(parts::kafka_libs().join("*"));
    command
}

/// Nobody is held by anything until there is an ACL on the thing in question; the scenario's own clients never are.
fn guard() -> String {
    format!(
        "sasl.enabled.mechanisms=PLAIN
listener.name.app.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
    user_{APP_USER}=\"{APP_PASSWORD}\";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS
"
    )
}

/// A cluster's id is sixteen bytes in base64.
fn format_storage(dir: &Path, port: u16, users: &[(&str, &str)]) -> Result<()> {
    let cluster_id = format!("bG9naW5sYWtlL{port:08}Q");
    let mut command = java();
    command
        .args(["kafka.tools.StorageTool", "format", "-t", &cluster_id, "-c"])
        .arg("server.properties")
        .current_dir(dir);
    for (name, password) in users {
        command.args([
            "--add-scram",
            &format!("SCRAM-SHA-512=[name={name},password={password}]"),
        ]);
    }
    let output = command.output().context("cannot start java")?;
    if !output.status.success() {
        bail!(
            "Kafka's storage cannot be formatted: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
