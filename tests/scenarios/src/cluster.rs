//! A cluster of our own binaries: a scheduler and executors over the lake of a scenario.
//!
//! They are only in a build with the cargo feature `cluster`. The variable LOGINLAKE_BINARY_OLAP names such a build where the one in
//! the build folder is another.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::http;
use crate::process::{Process, Program};
use crate::scenario::{self, Scenario, free_port};

const LIMIT: Duration = Duration::from_secs(60);
/// The shortest that a scheduler takes.
const EXECUTOR_TIMEOUT: &str = "7s";

/// Whether `olap` is built with clusters, as itself says.
///
/// # Errors
/// When it has not been built at all.
pub fn is_built() -> Result<bool> {
    let dir = scenario::run_dir()?;
    let output = Program::ours("olap", &dir)
        .args(["query", "--cluster", "df://127.0.0.1:1", "-e", "SELECT 1"])
        .run(LIMIT)?;
    Ok(!output.stderr.contains("without clusters"))
}

/// A scheduler, and the executors that were started for it.
pub struct Cluster<'a> {
    scenario: &'a Scenario,
    /// Its process.
    pub scheduler: Process,
    port: u16,
    http: SocketAddr,
}

impl<'a> Cluster<'a> {
    /// Starts a scheduler; there is no executor yet.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(scenario: &'a Scenario) -> Result<Cluster<'a>> {
        let (port, http_port) = (free_port()?, free_port()?);
        // It has no access to the lake: no address, no keys.
        let program = Program::ours("olap", scenario.dir()).arg("scheduler");
        let mut scheduler = program
            .args(["--bind", &http::loopback(port).to_string()])
            .args(["--http", &http::loopback(http_port).to_string()])
            .args(["--executor-timeout", EXECUTOR_TIMEOUT])
            .env("LOGINLAKE_LOG_FORMAT", "text")
            .start()?;
        scheduler.wait_has_said("scheduling queries", LIMIT)?;
        Ok(Cluster {
            scenario,
            scheduler,
            port,
            http: http::loopback(http_port),
        })
    }

    /// The same with so many executors.
    ///
    /// # Errors
    /// As [`Cluster::start`], or when one does not register.
    pub fn with_executors(scenario: &'a Scenario, count: usize) -> Result<(Cluster<'a>, Vec<Process>)> {
        let cluster = Cluster::start(scenario)?;
        let executors = (0..count)
            .map(|_| cluster.executor()?.start())
            .collect::<Result<Vec<Process>>>()?;
        cluster.wait_executors(count)?;
        Ok((cluster, executors))
    }

    /// `df://…`
    pub fn address(&self) -> String {
        format!("df://{}", http::loopback(self.port))
    }

    /// Where executors of this scenario put their intermediate results.
    pub fn work_dir(&self) -> PathBuf {
        self.scenario.dir().join("work")
    }

    /// The command line of one more executor.
    ///
    /// # Errors
    /// When no port is free.
    pub fn executor(&self) -> Result<Program> {
        self.executor_with("", "")
    }

    /// The same with another value for one of its flags.
    ///
    /// # Errors
    /// When no port is free.
    pub fn executor_with(&self, flag: &str, value: &str) -> Result<Program> {
        let (port, control_port) = (free_port()?, free_port()?);
        let flags = [
            ("--http", "none".to_owned()),
            ("--scheduler", self.address()),
            ("--bind", http::loopback(port).to_string()),
            ("--control-port", control_port.to_string()),
            ("--work-dir", self.work_dir().display().to_string()),
            ("--vcores", "2".to_owned()),
            ("--memory-limit", "256MiB".to_owned()),
        ];
        let program = self.scenario.olap("executor");
        let program = flags.iter().fold(program, |program, (name, usual)| {
            program.args([*name, if *name == flag { value } else { usual.as_str() }])
        });
        Ok(program.env("LOGINLAKE_LOG_FORMAT", "text"))
    }

    /// Waits until exactly so many executors live.
    ///
    /// # Errors
    /// When they do not within a minute.
    pub fn wait_executors(&self, count: usize) -> Result<()> {
        self.wait_metric("scheduler_executors", count)
    }

    /// Waits until exactly so many queries run.
    ///
    /// # Errors
    /// When they do not within a minute.
    pub fn wait_running(&self, count: usize) -> Result<()> {
        self.wait_metric("scheduler_jobs_running", count)
    }

    fn wait_metric(&self, name: &str, count: usize) -> Result<()> {
        crate::wait::wait_for(&format!("{name} {count}"), LIMIT, || {
            let found = http::metric(self.http, name)?;
            Ok((found == count as f64).then_some(()))
        })
    }

    /// `olap query --cluster` on the scenario's lake.
    pub fn query(&self, arguments: &[&str]) -> Program {
        self.scenario
            .olap("query")
            .args(["--cluster", &self.address()])
            .args(arguments)
    }

    /// Asks the cluster and this machine alone; both must say the same. Returns what they say.
    ///
    /// # Errors
    /// When they do not, or one fails.
    pub fn same_as_alone(&self, arguments: &[&str]) -> Result<String> {
        let alone = self.scenario.olap("query").args(arguments).run_ok(LIMIT)?.stdout;
        let cluster = self.query(arguments).run_ok(LIMIT)?.stdout;
        ensure!(
            cluster == alone,
            "{arguments:?}\nalone:\n{alone}\non the cluster:\n{cluster}"
        );
        Ok(alone)
    }
}
