//! The layers together, from a command line to settings. The tests set no variable of this process; a variable that
//! is set outside would only stand for a flag that is not given.

use std::path::Path;

use clap::Parser;

use super::*;
use crate::exit::{ExitCode, ExitError};

#[derive(Parser, Debug)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    output: OutputKafkaArgs,
    #[command(flatten)]
    topics: TopicArgs,
    #[command(flatten)]
    create: CreateTopicsArgs,
    #[command(flatten)]
    group: GroupArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    contract: ContractArgs,
}

fn cli(arguments: &[&str]) -> Cli {
    Cli::try_parse_from([&["test"], arguments].concat()).expect("a good command line")
}

fn file(text: &str) -> ConfigFile {
    ConfigFile::parse(text, Path::new("ll.toml")).expect("a good file")
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn the_command_line_is_well_formed() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn the_environment_variables_are_those_that_scripts_rely_on() {
    let command = <Cli as clap::CommandFactory>::command();
    let variables: Vec<String> = command
        .get_arguments()
        .filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned()))
        .collect();
    for name in [
        "CONFIG",
        "BROKERS",
        "OUTPUT_BROKERS",
        "INPUT_TOPIC",
        "OUTPUT_TOPIC",
        "DEAD_LETTER_TOPIC",
        "INSIGHTS_TOPIC",
        "GROUP_ID",
        "LAKE",
        "HTTP",
        "HTTP_ALLOW_REMOTE",
        "LOG_FORMAT",
    ] {
        assert!(variables.contains(&format!("LOGINLAKE_{name}")), "{name}");
    }
}

#[test]
fn a_flag_is_over_the_file_and_the_file_over_the_default() {
    let empty = ConfigFile::default();
    let from_file = file("lake = \"s3://b/l\"\ninput-topic = \"in\"\n[realtime]\ngroup-id = \"g\"\n");
    let none = cli(&[]);
    let flags = cli(&["--lake", "/l", "--input-topic", "flagged", "--group-id", "f"]);
    let settings = |cli: &Cli, file: &ConfigFile| {
        (
            cli.lake.resolve(file).expect("a lake"),
            cli.topics.resolve(file).expect("topics").input,
            cli.group.resolve(file, Service::Realtime).expect("a group"),
        )
    };
    let expect = |lake: &str, topic: &str, group: &str| (lake.to_owned(), topic.to_owned(), group.to_owned());
    assert_eq!(
        settings(&none, &empty),
        expect("./lake", "user-login", "loginlake-realtime")
    );
    assert_eq!(settings(&none, &from_file), expect("s3://b/l", "in", "g"));
    assert_eq!(settings(&flags, &from_file), expect("/l", "flagged", "f"));
}

#[test]
fn kafka_properties_are_layered_file_environment_flag() {
    let from_file = file("brokers = \"f:1\"\n[kafka]\nlinger.ms = 1\nretries = 1\nclient.id = \"f\"\n");
    let environment = variables(&[
        ("LOGINLAKE_KAFKA_LINGER_MS", "2"),
        ("LOGINLAKE_KAFKA_RETRIES", "2"),
    ]);
    let kafka = cli(&["-X", "linger.ms=3"])
        .kafka
        .resolve_with(&from_file, environment)
        .expect("valid");
    assert_eq!(kafka.brokers, "f:1");
    let properties: Vec<_> = kafka
        .properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        properties,
        [("client.id", "f"), ("linger.ms", "3"), ("retries", "2")]
    );
}

#[test]
fn an_owned_property_is_wrong_usage_wherever_it_comes_from() {
    let none = Vec::new;
    let empty = ConfigFile::default();
    let flag = cli(&["-X", "group.id=x"]).kafka.resolve_with(&empty, none());
    let variable = cli(&[])
        .kafka
        .resolve_with(&empty, variables(&[("LOGINLAKE_KAFKA_GROUP_ID", "x")]));
    let in_file = cli(&[])
        .kafka
        .resolve_with(&file("[kafka]\ngroup.id = \"x\"\n"), none());
    for error in [flag, variable, in_file].map(|result| result.expect_err("owned")) {
        let exit = ExitError::from(error);
        assert_eq!(exit.code, ExitCode::Usage);
        assert!(exit.message.contains("group.id"), "{}", exit.message);
        assert_eq!(exit.hint.as_deref(), Some("use --group-id"));
    }
}

#[test]
fn a_malformed_property_is_not_repeated() {
    let error = cli(&["-X", "a=b", "-X", "sasl.password:hunter2"])
        .kafka
        .resolve_with(&ConfigFile::default(), Vec::new())
        .expect_err("malformed");
    assert_eq!(error.to_string(), "-X number 2 is not of the form key=value");
}

#[test]
fn another_output_cluster_gets_none_of_the_inputs_properties() {
    let input = ResolvedKafka {
        brokers: "a:1".to_owned(),
        properties: [("sasl.password".to_owned(), "hunter2".to_owned())].into(),
    };
    assert!(!format!("{input:?}").contains("hunter2"));
    let resolve = |arguments: &[&str]| {
        cli(arguments)
            .output
            .resolve_with(&ConfigFile::default(), &input, Vec::new())
            .expect("valid")
    };
    assert_eq!(resolve(&[]), input);
    let other = resolve(&[
        "--output-brokers",
        "b:1",
        "--output-kafka-property",
        "linger.ms=5",
    ]);
    assert_eq!(other.brokers, "b:1");
    assert_eq!(
        other.properties,
        [("linger.ms".to_owned(), "5".to_owned())].into()
    );
}

#[test]
fn topics_have_legal_and_different_names() {
    for (arguments, setting) in [
        (["--input-topic", ""], "--input-topic"),
        (["--output-topic", "a b"], "--output-topic"),
        (["--output-topic", "user-login"], "--output-topic"),
        (["--dead-letter-topic", ".."], "--dead-letter-topic"),
    ] {
        let error = cli(&arguments)
            .topics
            .resolve(&ConfigFile::default())
            .expect_err("refused");
        assert!(error.to_string().starts_with(setting), "{error}");
    }
}

#[test]
fn missing_topics_are_created_only_when_asked() {
    let resolve = |arguments: &[&str], text: &str| cli(arguments).create.resolve(&file(text)).expect("valid");
    let created = CreateTopics {
        create: true,
        partitions: 8,
        replication_factor: 3,
    };
    assert_eq!(
        resolve(&[], ""),
        CreateTopics {
            create: false,
            partitions: 4,
            replication_factor: -1
        }
    );
    assert_eq!(
        resolve(
            &[
                "--create-topics",
                "--partitions",
                "8",
                "--replication-factor",
                "3"
            ],
            ""
        ),
        created
    );
    assert!(!resolve(&["--create-topics=false"], "create-topics = true").create);
    assert!(cli(&[]).create.resolve(&file("partitions = 0")).is_err());
    assert!(cli(&[]).create.resolve(&file("replication-factor = 0")).is_err());
}

#[test]
fn http_stays_on_loopback_without_permission() {
    let resolve = |arguments: &[&str], text: &str| cli(arguments).http.resolve(&file(text), Service::Ingest);
    let address = |text: &str| Some(text.parse().expect("an address"));
    assert_eq!(
        resolve(&[], "").expect("valid").address(),
        address("127.0.0.1:8081")
    );
    assert_eq!(
        resolve(&[], "[ingest]\nhttp = \"[::1]:9\"\n")
            .expect("valid")
            .address(),
        address("[::1]:9")
    );
    assert_eq!(resolve(&["--http", "none"], "").expect("valid"), HttpBind::OFF);
    let error = resolve(&["--http", "0.0.0.0:1"], "").expect_err("refused");
    assert!(error.hint.expect("a hint").contains("--http-allow-remote"));
    let allowed = resolve(&["--http", "0.0.0.0:1", "--http-allow-remote"], "").expect("allowed");
    assert_eq!(allowed.address(), address("0.0.0.0:1"));
}

#[test]
fn an_empty_setting_is_named() {
    let empty = ConfigFile::default();
    let errors = [
        cli(&["--brokers", ""])
            .kafka
            .resolve_with(&empty, Vec::new())
            .expect_err("empty"),
        cli(&["--lake", " "]).lake.resolve(&empty).expect_err("empty"),
        cli(&["--group-id", ""])
            .group
            .resolve(&empty, Service::Ingest)
            .expect_err("empty"),
    ];
    assert_eq!(
        errors.map(|error| error.to_string()),
        ["--brokers: is empty", "--lake: is empty", "--group-id: is empty"]
    );
}

#[test]
fn log_settings_come_from_flag_or_file() {
    let from_file = file("log-format = \"json\"");
    let settings = cli(&["-vv"]).common.resolve(&from_file).expect("valid");
    assert_eq!(
        settings,
        LogSettings {
            format: Some(LogFormat::Json),
            verbosity: 2,
            quiet: false,
            filter: None,
        }
    );
    let settings = cli(&["--log-format", "text", "-q"])
        .common
        .resolve(&from_file)
        .expect("valid");
    assert_eq!(
        settings,
        LogSettings {
            format: Some(LogFormat::Text),
            verbosity: 0,
            quiet: true,
            filter: None,
        }
    );
}
