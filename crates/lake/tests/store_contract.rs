//! One suite for every store that a lake can be in: what commits, snapshots, uploads and vacuum rely on. Memory and a local
//! directory are always here; MinIO when the parts are installed (tests/parts/install), and then it has to pass. With CI
//! set a missing MinIO is a failure.

mod store_suite;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loginlake_lake::{Lake, StoreOptions, TableName};
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use store_suite::keeps_the_contract;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract() {
    keeps_the_contract(Arc::new(InMemory::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_directory_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let lake = Lake::open(directory.path().to_str().unwrap(), &StoreOptions::default()).unwrap();
    keeps_the_contract(below(&lake)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_keeps_the_contract() {
    let program: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../.parts/minio/minio"]
        .iter()
        .collect();
    if !program.exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "MinIO is not installed: tests/parts/install"
        );
        println!("not run: the store contract on MinIO: tests/parts/install");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // A folder in its data is a bucket.
    std::fs::create_dir(directory.path().join("bucket")).unwrap();
    let server = Minio::start(&program, directory.path());
    let options = StoreOptions::from_variables(
        [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", server.port)),
            ("AWS_ACCESS_KEY_ID", USER.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let lake = Lake::open("s3://bucket/lake", &options).unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while let Err(error) = lake.check().await {
        assert!(Instant::now() < limit, "MinIO is not ready: {error}");
        tokio::task::yield_now().await;
    }
    keeps_the_contract(below(&lake)).await;
}

/// The folder of a table, as its writer has it.
fn below(lake: &Lake) -> Arc<dyn object_store::ObjectStore> {
    Arc::new(PrefixStore::new(
        lake.object_store(),
        lake.table_path(TableName::Logins),
    ))
}

const USER: &str = "contract";
const PASSWORD: &str = "only-on-loopback-for-one-run";

/// A server on a free loopback port, killed when dropped.
struct Minio {
    child: Child,
    port: u16,
}

impl Minio {
    fn start(program: &Path, data: &Path) -> Minio {
        let free = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let (port, console_port) = (free(), free());
        let mut command = Command::new(program);
        command.arg("server").arg(data);
        command.args(["--address", &format!("127.0.0.1:{port}")]);
        command.args(["--console-address", &format!("127.0.0.1:{console_port}")]);
        command
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", PASSWORD);
        command
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .env("HOME", data);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        Minio { child, port }
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
