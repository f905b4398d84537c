//! One Prometheus on a free loopback port, with the rules of `deploy/prometheus`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::wait::wait_for;
use crate::{http, parts, scenario, spawn};

const START_LIMIT: Duration = Duration::from_secs(60);

/// A running Prometheus; stopped when dropped.
pub struct Prometheus {
    port: u16,
    child: Child,
}

impl Prometheus {
    /// Starts one in `dir` with this configuration.
    ///
    /// # Errors
    /// When it does not come up within a minute; the message holds the end of its log.
    pub fn start(dir: &Path, configuration: &str) -> Result<Prometheus> {
        fs::create_dir_all(dir)?;
        let file: PathBuf = dir.join("prometheus.yml");
        fs::write(&file, configuration)?;
        let port = scenario::free_port()?;
        let log_file = dir.join("prometheus.log");
        let log = File::create(&log_file)?;
        let mut command = Command::new(parts::prometheus_program("prometheus"));
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={}", http::loopback(port)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut prometheus = Prometheus {
            port,
            child: spawn::spawn(command).context("cannot start prometheus")?,
        };
        let address = prometheus.address();
        let child = &mut prometheus.child;
        wait_for("Prometheus to be ready", START_LIMIT, || {
            if let Some(status) = child.try_wait()? {
                bail!("prometheus stopped with {status} while starting");
            }
            let ready = http::get(address, "/-/ready");
            Ok(ready.is_ok_and(|answer| answer.status == 200).then_some(()))
        })
        .with_context(|| scenario::end_of(&log_file))?;
        Ok(prometheus)
    }

    fn address(&self) -> SocketAddr {
        http::loopback(self.port)
    }

    /// The names of the alerts that fire now.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn firing(&self) -> Result<Vec<String>> {
        let alerts = self.get("/api/v1/alerts")?;
        let alerts = alerts["data"]["alerts"].as_array().context("no alerts")?;
        let name = |alert: &Value| Some(alert["labels"]["alertname"].as_str()?.to_owned());
        Ok(alerts
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .filter_map(name)
            .collect())
    }

    /// The values of an instant query.
    ///
    /// # Errors
    /// When Prometheus refuses it.
    pub fn query(&self, query: &str) -> Result<Vec<f64>> {
        let encoded: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"))?;
        let result = answer["data"]["result"]
            .as_array()
            .with_context(|| format!("{query}: {answer}"))?;
        result
            .iter()
            .map(|series| {
                let value = series["value"][1].as_str().context("no value")?;
                Ok(value.parse()?)
            })
            .collect()
    }

    /// The jobs of its targets, and whether each is scraped.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn targets(&self) -> Result<BTreeMap<String, bool>> {
        let answer = self.get("/api/v1/targets")?;
        let targets = answer["data"]["activeTargets"].as_array().context("no targets")?;
        let target = |target: &Value| {
            let job = target["labels"]["job"].as_str()?.to_owned();
            Some((job, target["health"] == "up"))
        };
        Ok(targets.iter().filter_map(target).collect())
    }

    fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&http::get(self.address(), path)?.body)?)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        spawn::stop(&mut self.child);
    }
}
