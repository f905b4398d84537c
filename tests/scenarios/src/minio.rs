//! One MinIO server on free loopback ports, its buckets, and a look at what is in them that goes past our own code.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as ObjectPath;
use object_store::signer::Signer;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::wait::wait_for;
use crate::{http, parts, scenario, spawn};

const START_LIMIT: Duration = Duration::from_secs(60);
/// MinIO answers with this region when it is told nothing else.
const REGION: &str = "us-east-1";
const USER: &str = "scenario";
const PASSWORD: &str = "only-on-loopback-for-one-run";
/// The name of the key of a server that encrypts.
pub const KMS_KEY: &str = "scenario-key";
/// Thirty-two bytes, for tests only.
const KMS_SECRET: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

static SHARED: Mutex<Option<Arc<Minio>>> = Mutex::new(None);

/// The server that the scenarios of one test binary share; started at the first call.
///
/// # Errors
/// When it does not come up.
pub fn shared() -> Result<Arc<Minio>> {
    let mut shared = lock(&SHARED);
    if shared.is_none() {
        *shared = Some(Arc::new(Minio::start(&scenario::run_dir()?.join("minio"))?));
    }
    Ok(Arc::clone(shared.as_ref().expect("it was set above")))
}

/// Stops the shared server, if there is one. Called once, when all scenarios are over.
pub fn stop_shared() {
    drop(lock(&SHARED).take());
}

/// A scenario that failed with the lock held must not fail all others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running server; stopped when dropped.
pub struct Minio {
    dir: PathBuf,
    port: u16,
    console_port: u16,
    /// Whether it has a key to encrypt with.
    encrypts: bool,
    child: Mutex<Option<Child>>,
    /// The password of the one user.
    password: Mutex<String>,
    runtime: tokio::runtime::Runtime,
}

impl Minio {
    /// Starts a server of one's own, for scenarios that kill it; all others take [`shared`].
    ///
    /// # Errors
    /// When it does not come up within 60 s; the message holds the end of its log.
    pub fn start(dir: &Path) -> Result<Minio> {
        Minio::start_with(dir, false)
    }

    /// The same with a key ([`KMS_KEY`]), for those who ask for encryption.
    ///
    /// # Errors
    /// As [`Minio::start`].
    pub fn start_encrypting(dir: &Path) -> Result<Minio> {
        Minio::start_with(dir, true)
    }

    fn start_with(dir: &Path, encrypts: bool) -> Result<Minio> {
        fs::create_dir_all(dir.join("data"))?;
        let minio = Minio {
            dir: dir.to_path_buf(),
            port: scenario::free_port()?,
            console_port: scenario::free_port()?,
            encrypts,
            child: Mutex::new(None),
            password: Mutex::new(PASSWORD.to_owned()),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
        };
        minio.start_again()?;
        Ok(minio)
    }

    /// Kills the server as a power cut would; its data and its port stay.
    pub fn kill(&self) {
        if let Some(mut child) = lock(&self.child).take() {
            spawn::stop(&mut child);
        }
    }

    /// Starts it again on the same data and port, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Minio::start`].
    pub fn start_again(&self) -> Result<()> {
        self.kill();
        let log_file = self.dir.join("minio.log");
        let log = File::options().create(true).append(true).open(&log_file)?;
        let mut command = Command::new(parts::minio_program());
        command.arg("server").arg(self.dir.join("data"));
        command.arg("--address").arg(self.address().to_string());
        command
            .arg("--console-address")
            .arg(http::loopback(self.console_port).to_string());
        command
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", self.password());
        command
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .env("HOME", &self.dir);
        if self.encrypts {
            command.env("MINIO_KMS_SECRET_KEY", format!("{KMS_KEY}:{KMS_SECRET}"));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        *lock(&self.child) = Some(spawn::spawn(command).context("cannot start minio")?);
        wait_for("MinIO to be ready", START_LIMIT, || {
            if let Some(status) = lock(&self.child)
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten()
            {
                bail!("MinIO stopped with {status} while starting");
            }
            // Its health page says ready a moment before the API is: an anonymous request is refused once that works.
            let answers = |path: &str, status: u16| {
                http::get(self.address(), path).is_ok_and(|answer| answer.status == status)
            };
            let ready = answers("/minio/health/ready", 200) && answers("/", 403);
            Ok(ready.then_some(()))
        })
        .with_context(|| scenario::end_of(&log_file))
    }

    /// The same, and from then on its user has another password: all who have the old one are refused.
    ///
    /// # Errors
    /// As [`Minio::start`].
    pub fn start_again_with_password(&self, password: &str) -> Result<()> {
        self.kill();
        *lock(&self.password) = password.to_owned();
        self.start_again()
    }

    /// The name of the one user.
    pub fn user(&self) -> &'static str {
        USER
    }

    /// That user's password.
    pub fn password(&self) -> String {
        lock(&self.password).clone()
    }

    /// Where a bucket lies on the disk.
    pub fn folder_of(&self, bucket: &str) -> PathBuf {
        self.dir.join("data").join(bucket)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        http::loopback(self.port)
    }

    /// The variables by which any S3 client finds this server.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address())),
            ("AWS_ACCESS_KEY_ID", USER.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", self.password()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// A bucket through object_store's own client.
    ///
    /// # Errors
    /// When the name cannot be one of a bucket.
    pub fn bucket(&self, name: &str) -> Result<AmazonS3> {
        let builder = AmazonS3Builder::new().with_endpoint(format!("http://{}", self.address()));
        let builder = builder
            .with_access_key_id(USER)
            .with_secret_access_key(self.password());
        Ok(builder
            .with_region(REGION)
            .with_bucket_name(name)
            .with_allow_http(true)
            .build()?)
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        let bucket = self.bucket(name)?;
        let itself = ObjectPath::default();
        let signed = bucket.signed_url("PUT".parse()?, &itself, Duration::from_secs(60));
        let url = self.runtime.block_on(signed)?;
        let answer = http::request("PUT", self.address(), &url[url::Position::BeforePath..])?;
        ensure!(
            answer.status == 200,
            "MinIO does not make bucket {name}: {} {}",
            answer.status,
            answer.body
        );
        Ok(())
    }

    /// The names of all objects in a bucket, sorted.
    ///
    /// # Errors
    /// When there is no such bucket.
    pub fn list(&self, bucket: &str) -> Result<Vec<String>> {
        let store = self.bucket(bucket)?;
        let found = self.runtime.block_on(store.list(None).try_collect::<Vec<_>>())?;
        let mut names: Vec<String> = found
            .into_iter()
            .map(|object| object.location.to_string())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Reads an object; `None` when there is none of the name.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn get(&self, bucket: &str, name: &str) -> Result<Option<Vec<u8>>> {
        let store = self.bucket(bucket)?;
        let read = async { store.get(&ObjectPath::from(name)).await?.bytes().await };
        match self.runtime.block_on(read) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an object.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn delete(&self, bucket: &str, name: &str) -> Result<()> {
        let store = self.bucket(bucket)?;
        self.runtime.block_on(store.delete(&ObjectPath::from(name)))?;
        Ok(())
    }

    /// Writes an object.
    ///
    /// # Errors
    /// When there is no such bucket.
    pub fn put(&self, bucket: &str, name: &str, bytes: &'static [u8]) -> Result<()> {
        let store = self.bucket(bucket)?;
        self.runtime
            .block_on(store.put(&ObjectPath::from(name), bytes.into()))?;
        Ok(())
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        self.kill();
    }
}
