//! Where the real parts are (`.parts/`, filled by `tests/parts/install`) and where our binaries are (the build's own
//! folder). Nothing is installed or built from here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A real part that a scenario may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Apache Kafka: jars, and a Java to run them.
    Kafka,
    /// The MinIO server.
    Minio,
    /// Python with deltalake and DuckDB.
    Reader,
    /// Python with an operator's tools: the AWS CLI.
    Ops,
    /// A schema registry (Apicurio), and a Java to run it.
    Registry,
    /// An OpenSearch node: jars, and a Java to run them.
    OpenSearch,
    /// Prometheus and promtool.
    Prometheus,
    /// A headless Chromium with Playwright, and a Node.js to run it.
    Browser,
    /// Apache Spark with Delta Lake. Installed only when it is asked for.
    Spark,
    /// The Trino server. Installed only when it is asked for.
    Trino,
}

impl Part {
    /// None when the part is there; otherwise what is missing.
    pub fn missing(self) -> Option<String> {
        let file = match self {
            Part::Kafka => kafka_libs(),
            Part::Minio => minio_program(),
            Part::Reader => python_program(),
            Part::Ops => ops_programs().join("aws"),
            // A link, which leads nowhere when that Java was removed.
            Part::Registry => registry_java(),
            Part::OpenSearch => opensearch_libs(),
            // A link, too, where the system has it.
            Part::Prometheus => prometheus_program("prometheus"),
            // A link, too, where the system has it.
            Part::Browser => browser_dir().join("chrome"),
            Part::Spark => spark_program(),
            Part::Trino => trino_dir().join("java"),
        };
        if !file.exists() {
            return Some(format!("{} is not installed: tests/parts/install", self.name()));
        }
        if matches!(self, Part::Kafka | Part::OpenSearch) && !java_runs() {
            return Some("there is no java in PATH".to_owned());
        }
        None
    }

    fn name(self) -> &'static str {
        match self {
            Part::Kafka => "Kafka",
            Part::Minio => "MinIO",
            Part::Reader => "the independent reader",
            Part::Ops => "the AWS CLI",
            Part::Registry => "the schema registry",
            Part::OpenSearch => "OpenSearch",
            Part::Prometheus => "Prometheus",
            Part::Browser => "a browser",
            Part::Spark => "Spark",
            Part::Trino => "Trino",
        }
    }
}

fn java_runs() -> bool {
    let java = Command::new("java")
        .arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    java.is_ok_and(|status| status.success())
}

/// The top folder of the repository.
pub fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("this crate lies two folders below the top")
        .to_path_buf()
}

/// The folder of Kafka's jars.
pub fn kafka_libs() -> PathBuf {
    top().join(".parts/kafka/libs")
}

/// The folder of OpenSearch's jars.
pub fn opensearch_libs() -> PathBuf {
    top().join(".parts/opensearch/libs")
}

/// `prometheus` or `promtool`.
pub fn prometheus_program(name: &str) -> PathBuf {
    top().join(".parts/prometheus").join(name)
}

/// The folder of the browser: `chrome`, and `node_modules` with what drives it.
pub fn browser_dir() -> PathBuf {
    top().join(".parts/browser")
}

/// The MinIO server.
pub fn minio_program() -> PathBuf {
    top().join(".parts/minio/minio")
}

/// The Python that has deltalake and DuckDB.
pub fn python_program() -> PathBuf {
    top().join(".parts/py/bin/python")
}

/// The folder of an operator's tools, such as `aws`.
pub fn ops_programs() -> PathBuf {
    top().join(".parts/ops/commands")
}

/// The Python that has Spark.
pub fn spark_program() -> PathBuf {
    top().join(".parts/spark/py/bin/python")
}

/// The folder of Delta Lake's jars for Spark.
pub fn spark_jars() -> PathBuf {
    top().join(".parts/spark/jars")
}

/// The folder of Trino: `lib`, `plugin`, and a link `java` to the Java that it is run with.
pub fn trino_dir() -> PathBuf {
    top().join(".parts/trino")
}

/// The folder of the schema registry.
pub fn registry_dir() -> PathBuf {
    top().join(".parts/registry")
}

/// The Java that the schema registry is run with.
pub fn registry_java() -> PathBuf {
    registry_dir().join("java")
}

/// One of our binaries, from the build that this test belongs to, or the one that a variable such as LOGINLAKE_BINARY_OLAP names.
///
/// # Errors
/// When it has not been built: `cargo test` alone builds only the binaries of the package under test.
pub fn our_binary(name: &str) -> Result<PathBuf> {
    if let Some(file) = std::env::var_os(format!("LOGINLAKE_BINARY_{}", name.to_uppercase())) {
        return Ok(PathBuf::from(file));
    }
    let test = std::env::current_exe().context("this test binary has no path")?;
    // target/debug/deps/scenario-hash → target/debug
    let build = test
        .ancestors()
        .nth(2)
        .context("this test binary is not in a build folder")?;
    let file = build.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !file.exists() {
        bail!(
            "{name} has not been built: cargo build --workspace --bins, or tests/run, which does all of it"
        );
    }
    Ok(file)
}
