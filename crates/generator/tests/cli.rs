//! The real binary: the sample of the repository, replays, exit codes and messages.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sample() -> PathBuf {
    repository().join("data/sample_events.ndjson")
}

/// Runs the binary without this process's settings.
fn generate<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(arguments: I) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_generate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LOGINLAKE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_sample_is_what_the_command_in_its_readme_makes() {
    let readme = std::fs::read_to_string(repository().join("data/README.md")).unwrap();
    let command = readme
        .lines()
        .find_map(|line| line.trim().strip_prefix("cargo run --bin generate -- "))
        .unwrap();
    let arguments = command.split_whitespace().map(|argument| match argument {
        "data/sample_events.ndjson" => "-",
        other => other,
    });
    let output = generate(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        output.stdout == std::fs::read(sample()).unwrap(),
        "the sample differs from what is generated now"
    );
}

#[test]
fn the_sample_has_bad_records_of_every_reason() {
    use loginlake_events::{Contract, RejectReason};
    use loginlake_generator::ndjson::{Line, LineReader};

    let contract = Contract::default();
    let text = std::fs::read(sample()).unwrap();
    let mut reader = LineReader::new(&text[..]);
    let mut payload = Vec::new();
    let mut reasons = std::collections::BTreeMap::new();
    let mut records = 0;
    while let Some(line) = reader.read_into(&mut payload).unwrap() {
        records += 1;
        let payload = (line == Line::Payload).then_some(&payload[..]);
        if let Err(rejection) = contract.decode(payload, None) {
            *reasons.entry(rejection.reason).or_insert(0) += 1;
        }
    }
    assert_eq!(records, 500);
    let missing: Vec<_> = RejectReason::OF_CONTRACT
        .into_iter()
        .filter(|reason| !reasons.contains_key(reason))
        .collect();
    assert_eq!(missing, [RejectReason::TooLarge]);
}

#[test]
fn a_replay_into_a_file_gives_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.ndjson");
    let output = generate([Path::new("--from-file"), &sample(), Path::new("--out"), &copy]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(std::fs::read(&copy).unwrap() == std::fs::read(sample()).unwrap());
    assert!(
        stderr(&output).starts_with("produced 500 records in "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_summary_and_the_seed_go_to_stderr_and_data_to_stdout() {
    let output = generate(["--count", "3", "--out", "-"]);
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 3);
    assert!(
        stderr(&output).starts_with("produced 3 records in "),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("\nthe seed was "), "{}", stderr(&output));
    let quiet = generate(["--count", "3", "--out", "-", "--quiet"]);
    assert_eq!(stderr(&quiet), "");
}

#[test]
fn an_input_that_is_not_there_fails_and_leaves_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, copy) = (folder.path().join("missing"), folder.path().join("copy"));
    let output = generate([Path::new("--from-file"), &missing, Path::new("--out"), &copy]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("error: cannot open "),
        "{}",
        stderr(&output)
    );
    assert_eq!(stderr(&output).lines().count(), 1);
    assert!(!copy.exists());
}

#[test]
fn a_file_is_never_replayed_into_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events");
    std::fs::write(&file, "{}\n").unwrap();
    let output = generate([Path::new("--from-file"), &file, Path::new("--out"), &file]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(std::fs::read(&file).unwrap(), b"{}\n");
}

#[test]
fn wrong_usage_is_code_2_and_says_what_to_do() {
    for arguments in [
        &["--rat", "5"][..],
        &["--users", "0"],
        &["--from", "-1d"],
        &["--config", "no/such/file"],
    ] {
        let output = generate(arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
        assert!(stderr(&output).lines().count() <= 2, "{}", stderr(&output));
    }
}
