//! Engines that many lakes are read by, on a lake of ours: Apache Spark, started for some statements, and a Trino server. Both are
//! installed only when they are asked for (`tests/engines/run`).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::minio::Minio;
use crate::wait::wait_for;
use crate::{http, parts, scenario, spawn};

const START_LIMIT: Duration = Duration::from_secs(180);

/// Rows.
pub type Rows = Vec<Vec<Value>>;

/// Runs statements in Spark on a Delta table in a folder, which is written `{t}` in them. Returns the rows of each.
///
/// # Errors
/// When one fails.
pub fn spark(table: &Path, statements: &[&str]) -> Result<Vec<Rows>> {
    let mut command = Command::new(parts::spark_program());
    command
        .arg(script("spark.py"))
        .arg(parts::spark_jars())
        .arg(table)
        .args(statements);
    let answer = run(command)?;
    serde_json::from_str(&answer).with_context(|| format!("no rows of JSON: {answer}"))
}

/// Runs SQL files of this project in Spark on a lake in a folder. Returns for each, by its path, the rows as objects, or why Spark
/// refuses it.
///
/// # Errors
/// When Spark cannot be started, or a table is not there.
pub fn spark_files(lake: &Path, parameters: &Value, files: &[PathBuf]) -> Result<Value> {
    let mut command = Command::new(parts::spark_program());
    command
        .arg(script("spark_sql.py"))
        .arg(parts::spark_jars())
        .arg(lake)
        .arg(parameters.to_string())
        .args(files);
    let answer = run(command)?;
    serde_json::from_str(&answer).with_context(|| format!("no rows of JSON: {answer}"))
}

/// A Trino server on loopback with two catalogs, `disk` for a folder and `bucket` for a bucket; stopped when dropped.
pub struct Trino {
    child: Child,
    port: u16,
}

impl Trino {
    /// `dir` gets its files; `folder` is what `local:///` is.
    ///
    /// # Errors
    /// When it does not come up; the message holds the end of its log.
    pub fn start(dir: &Path, folder: &Path, minio: &Minio, bucket: &str) -> Result<Trino> {
        let port = scenario::free_port()?;
        let catalogs = dir.join("catalogs");
        fs::create_dir_all(&catalogs)?;
        fs::create_dir_all(folder.join("metastore"))?;
        let common =
            "connector.name=delta_lake\nhive.metastore=file\ndelta.register-table-procedure.enabled=true\n";
        let disk = format!(
            "{common}hive.metastore.catalog.dir=local:///metastore\nfs.native-local.enabled=true\nlocal.location={}\n",
            folder.display()
        );
        let s3 = format!(
            "{common}hive.metastore.catalog.dir=s3://{bucket}/metastore\nfs.native-s3.enabled=true\n\
             s3.endpoint=http://{}\ns3.region=us-east-1\ns3.path-style-access=true\n\
             s3.aws-access-key={}\ns3.aws-secret-key={}\n",
            minio.address(),
            minio.user(),
            minio.password()
        );
        fs::write(catalogs.join("disk.properties"), disk)?;
        fs::write(catalogs.join("bucket.properties"), s3)?;
        let config = dir.join("config.properties");
        let text = format!(
            "coordinator=true\nnode-scheduler.include-coordinator=true\nhttp-server.http.port={port}\n\
             discovery.uri=http://127.0.0.1:{port}\n"
        );
        fs::write(&config, text)?;

        let log_file = dir.join("trino.log");
        let log = File::create(&log_file)?;
        let installed = parts::trino_dir();
        let mut command = Command::new(installed.join("java"));
        command.args([
            "-Xmx1g",
            "--enable-native-access=ALL-UNNAMED",
            "--add-modules=jdk.incubator.vector",
            "-Dnode.environment=scenario",
            "-Dnode.id=one",
            "-Dnode.bind-ip=127.0.0.1",
            "-Dnode.internal-address=127.0.0.1",
        ]);
        for (property, value) in [
            ("node.data-dir", dir.join("data")),
            ("plugin.dir", installed.join("plugin")),
            ("catalog.config-dir", catalogs),
            ("config", config),
        ] {
            command.arg(format!("-D{property}={}", value.display()));
        }
        command.arg("-cp").arg(installed.join("lib/*"));
        command.arg("io.trino.server.TrinoServer");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = spawn::spawn(command).context("cannot start Trino")?;
        let mut trino = Trino { child, port };
        wait_for("Trino to be up", START_LIMIT, || {
            ensure!(trino.child.try_wait()?.is_none(), "Trino has ended");
            let answer = http::get(http::loopback(port), "/v1/info");
            Ok(answer
                .is_ok_and(|answer| answer.body.contains("\"starting\":false"))
                .then_some(()))
        })
        .with_context(|| scenario::end_of(&log_file))?;
        Ok(trino)
    }

    /// The rows of a statement.
    ///
    /// # Errors
    /// When it fails.
    pub fn query(&self, sql: &str) -> Result<Rows> {
        let mut command = Command::new(parts::python_program());
        command
            .arg(script("trino.py"))
            .arg(self.port.to_string())
            .arg(sql);
        let answer = run(command)?;
        serde_json::from_str(&answer).with_context(|| format!("no rows of JSON: {answer}"))
    }
}

impl Drop for Trino {
    fn drop(&mut self) {
        spawn::stop(&mut self.child);
    }
}

fn script(name: &str) -> PathBuf {
    parts::top().join("tests/engines").join(name)
}

fn run(mut command: Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {stderr}");
    Ok(String::from_utf8(output.stdout)?)
}
