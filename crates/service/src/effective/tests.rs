//! A command line, variables and a file in; a file out that says the same.

use clap::{CommandFactory, FromArgMatches, Parser};

use super::*;
use crate::config::{
    CommonArgs, ConfigFile, ContractArgs, CreateTopicsArgs, HttpArgs, KafkaArgs, LakeArgs, Span, TopicArgs,
};

/// A command that is called as one of ours, so that it has the keys of that one.
#[derive(Parser)]
#[command(name = "olap")]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Ingest(Ingest),
}

#[derive(clap::Args)]
struct Ingest {
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    topics: TopicArgs,
    #[command(flatten)]
    create: CreateTopicsArgs,
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    contract: ContractArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[arg(long)]
    freshness: Option<Span>,
    #[arg(long)]
    exit_at_end: bool,
}

fn printed(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let matches = Cli::command()
        .try_get_matches_from([&["olap", "ingest"], arguments].concat())
        .expect("a good command line");
    Cli::from_arg_matches(&matches).expect("a good command line");
    let variables: Vec<(String, String)> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    render(&Cli::command(), &matches, &variables).expect("a good file")
}

fn line<'a>(printed: &'a str, start: &str) -> &'a str {
    let found = printed.lines().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no line begins with {start} in:\n{printed}"))
}

/// A configuration file that is there as long as the test.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ll.toml");
    std::fs::write(&path, text).expect("written");
    let path = path.to_str().expect("UTF-8").to_owned();
    (directory, path)
}

#[test]
fn each_value_says_where_it_comes_from() {
    let (_directory, path) =
        file("lake = 's3://b/l'\n\n[ingest]\nmax-batch-rows = 1_000\n[kafka]\nlinger.ms = 5\n");
    let text = printed(
        &["--config", &path, "--brokers", "a:1", "--mask-ip"],
        &[("LOGINLAKE_KAFKA_CLIENT_ID", "x"), ("AWS_REGION", "eu-west-1")],
    );
    assert_eq!(line(&text, "brokers"), "brokers = \"a:1\"  # flag --brokers");
    assert_eq!(line(&text, "lake"), format!("lake = \"s3://b/l\"  # {path}:1"));
    assert_eq!(
        line(&text, "max-batch-rows"),
        format!("max-batch-rows = 1_000  # {path}:4")
    );
    assert_eq!(
        line(&text, "\"linger.ms\""),
        format!("\"linger.ms\" = 5  # {path}:6")
    );
    assert_eq!(
        line(&text, "\"client.id\""),
        "\"client.id\" = \"x\"  # variable LOGINLAKE_KAFKA_CLIENT_ID"
    );
    assert_eq!(line(&text, "mask-ip"), "mask-ip = true  # flag --mask-ip");
    assert_eq!(
        line(&text, "input-topic"),
        "input-topic = \"user-login\"  # default"
    );
    assert_eq!(line(&text, "# AWS_REGION"), "# AWS_REGION=\"eu-west-1\"");
    assert!(!text.contains("[realtime]"), "a section of another command");
}

#[test]
fn secrets_are_not_in_it() {
    let (_directory, path) = file(
        "schema-registry = 'http://user:hunter2@registry'\n[kafka]\nssl.key.pem = 'hunter2'\nsasl.password = 'hunter2'\n",
    );
    let text = printed(
        &[
            "--config",
            &path,
            "-X",
            "sasl.password=hunter2",
            "--lake",
            "s3://u:hunter2@b/l",
        ],
        &[
            ("LOGINLAKE_KAFKA_SSL_KEY_PASSWORD", "hunter2"),
            ("LOGINLAKE_PSEUDONYM_KEY", "hunter2"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_ENDPOINT_URL", "http://u:hunter2@minio"),
        ],
    );
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(
        line(&text, "# \"sasl.password\""),
        "# \"sasl.password\": hidden  # flag --kafka-property"
    );
    assert_eq!(line(&text, "# AWS_SECRET"), "# AWS_SECRET_ACCESS_KEY is set");
    line(&text, "# LOGINLAKE_PSEUDONYM_KEY is set");
    line(&text, "# lake: hidden");
}

#[test]
fn what_is_printed_can_be_loaded_and_says_the_same() {
    let (_directory, path) = file(
        "[ingest]\nmax-batch-bytes = '1GiB'\n[privacy]\npseudonymise = [\n 'ip', # why\n 'user_id',\n]\n",
    );
    let first = printed(
        &[
            "--config",
            &path,
            "-X",
            "linger.ms=7",
            "--earliest",
            "2020-01-01",
            "--http",
            "none",
            "--partitions",
            "8",
            "--exit-at-end",
            "--regions",
            "a \"b\"\\c.csv",
        ],
        &[],
    );
    ConfigFile::parse(&first, Path::new("printed.toml")).expect(&first);
    let (_directory, again) = file(&first);
    let second = printed(&["--config", &again], &[]);
    let values = |text: &str| -> Vec<String> {
        let plain = text.lines().filter(|line| !line.starts_with('#'));
        plain
            .map(|line| line.split("  # ").next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(values(&first), values(&second));
    assert!(
        values(&first)
            .iter()
            .any(|line| line == "pseudonymise = [\"ip\", \"user_id\"]")
    );
    line(&first, "# --exit-at-end");
}

#[test]
fn a_default_that_another_key_replaces_is_no_value() {
    let text = printed(&["--freshness", "5s"], &[]);
    assert_eq!(line(&text, "freshness"), "freshness = \"5s\"  # flag --freshness");
    line(&text, "# max-batch-age: does not hold");
    assert_eq!(
        line(&printed(&[], &[]), "max-batch-age"),
        "max-batch-age = \"10s\"  # default"
    );
}
