//! With the settings of server-side encryption nothing of a lake is in the clear on the store's disks: data files, multipart uploads and
//! the commits of the log, by the store's own key and by a named one. Put-if-absent holds with them as without.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_lake::{Lake, StoreOptions};
use loginlake_scenarios::minio::KMS_KEY;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::Program;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{entries, runner};
use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectStoreExt, PutMode};

const LIMIT: Duration = Duration::from_secs(180);
/// Each is in what a lake writes: the two ends of a Parquet file, a commit, and what is uploaded here in parts.
const CLEAR: [&str; 3] = ["PAR1", "commitInfo", "a-part-in-the-clear"];
/// The least that S3 takes as a part that is not the last.
const PART_BYTES: usize = 5 << 20;

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        by_the_stores_own_key,
        by_a_named_key,
        what_would_not_encrypt_is_refused,
    ])
}

fn by_the_stores_own_key() -> Result<()> {
    let scenario = Scenario::with_encrypting_store("sse-s3")?;
    is_encrypted(&scenario, &[("AWS_SERVER_SIDE_ENCRYPTION", "AES256")])
}

fn by_a_named_key() -> Result<()> {
    let scenario = Scenario::with_encrypting_store("sse-kms")?;
    is_encrypted(
        &scenario,
        &[
            ("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms"),
            ("AWS_SSE_KMS_KEY_ID", KMS_KEY),
        ],
    )
}

fn is_encrypted(scenario: &Scenario, settings: &[(&str, &str)]) -> Result<()> {
    let with = |program: Program| {
        settings
            .iter()
            .fold(program, |program, (name, value)| program.env(name, value))
    };
    scenario.create_topics()?;
    for seed in [1, 2] {
        scenario.generate(300, seed).run_ok(LIMIT)?;
        with(scenario.ingest().arg("--exit-at-end")).run_ok(LIMIT)?;
    }
    with(scenario.olap("compact").arg("--all")).run_ok(LIMIT)?;
    let query = scenario
        .olap("query")
        .args(["--format", "csv", "-e", "SELECT count(*) AS n FROM logins"]);
    let counted = with(query).run_ok(LIMIT)?.stdout;
    ensure!(counted.contains("600"), "600 were sent: {counted}");

    let own = scenario
        .minio
        .environment()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let more = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let lake = Lake::open(&scenario.lake(), &StoreOptions::from_variables(own.chain(more)))?;
    tokio::runtime::Runtime::new()?.block_on(in_parts_and_once(&lake))?;

    let folder = scenario.minio.folder_of(&scenario.bucket());
    let found = in_the_clear(&folder)?;
    ensure!(found.is_empty(), "in the clear: {found:?}");
    // The search itself finds what is not encrypted.
    scenario
        .minio
        .put(&scenario.bucket(), "control", b"PAR1 commitInfo")?;
    ensure!(in_the_clear(&folder)?.len() == 1, "the search finds nothing");
    Ok(())
}

async fn in_parts_and_once(lake: &Lake) -> Result<()> {
    let store = lake.object_store();
    let location = ObjectPath::from("lake/in-parts");
    let text = CLEAR[2].as_bytes();
    let bytes: Vec<u8> = text.iter().copied().cycle().take(PART_BYTES).collect();
    let mut upload = store.put_multipart(&location).await?;
    upload.put_part(bytes.clone().into()).await?;
    upload.put_part(bytes.clone().into()).await?;
    upload.complete().await?;
    let read = store.get(&location).await?.bytes().await?;
    ensure!(
        read == [bytes.clone(), bytes].concat(),
        "what was uploaded in parts is not what is read"
    );
    let once = ObjectPath::from("lake/once");
    let create = || store.put_opts(&once, text.to_vec().into(), PutMode::Create.into());
    create().await?;
    let again = create().await;
    ensure!(
        matches!(again, Err(Error::AlreadyExists { .. })),
        "put twice: {again:?}"
    );
    Ok(())
}

/// The files below a folder that hold something readable.
fn in_the_clear(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            looked_at += 1;
            let bytes = fs::read(&path)?;
            let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            if CLEAR.iter().any(|text| holds(text)) {
                found.push(path.display().to_string());
            }
        }
    }
    ensure!(
        looked_at >= 5,
        "only {looked_at} files below {}",
        folder.display()
    );
    Ok(found)
}

fn what_would_not_encrypt_is_refused() -> Result<()> {
    let scenario = Scenario::with_encrypting_store("sse-wrong")?;
    scenario.create_topics()?;
    scenario.generate(20, 3).run_ok(LIMIT)?;
    let ingest = |name: &str, value: &str| scenario.ingest().arg("--exit-at-end").env(name, value).run(LIMIT);
    let output = ingest("AWS_SERVER_SIDE_ENCRYPTION", "aes-256")?;
    ensure!(
        output.code == 2 && output.stderr.contains("AES256"),
        "{}: {}",
        output.code,
        output.stderr
    );
    let output = ingest("AWS_SSE_KMS_KEY_ID", KMS_KEY)?;
    ensure!(
        output.code == 2 && output.stderr.contains("AWS_SERVER_SIDE_ENCRYPTION=aws:kms"),
        "{}: {}",
        output.code,
        output.stderr
    );
    let objects = scenario.minio.list(&scenario.bucket())?;
    ensure!(objects.is_empty(), "something was written: {objects:?}");
    Ok(())
}
