//! `olap audit`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use loginlake_kafka::producer::{SOURCE_OFFSET, SOURCE_PARTITION};
use loginlake_kafka::range::{RangeRead, RangeReader};
use loginlake_kafka::rdkafka::Message;
use loginlake_kafka::rdkafka::message::{BorrowedMessage, Headers};
use loginlake_kafka::topics::{Incarnation, Topics};
use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_lake::audit::{Audit, AuditOptions, Pass, TopicFacts};
use loginlake_lake::ingest::{Pipeline, TopicBounds};
use loginlake_olap::setup;
use loginlake_service::config::{ByteSize, ConfigFile, KafkaArgs, LakeArgs, TopicArgs};
use loginlake_service::exit::ExitError;

use super::print_line;

/// The least memory for positions: smaller passes would read the files over and over.
const MIN_MEMORY: u64 = 1024 * 1024;
/// How long one poll waits.
const POLL: Duration = Duration::from_millis(200);
/// How long the topic may say nothing before the audit gives up.
const SILENCE: Duration = Duration::from_secs(60);
/// Header with the topic that a record came from.
const SOURCE_TOPIC: &str = "source.topic";
/// The incarnation of a topic without an id.
const NO_TOPIC_ID: &str = loginlake_lake::ingest::commit::EMBEDDED;

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// For people.
    Table,
    /// For programs: one object.
    Json,
}

/// Arguments of `olap audit`.
#[derive(Args, Debug)]
pub struct AuditArgs {
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    topics: TopicArgs,
    /// The speed path holds records back (--drop): what is in the tables need not be published
    #[arg(long)]
    filtered: bool,
    /// How the report is printed
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: ReportFormat,
    /// Memory for the positions, a bit or two each; less means that files are read several times
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    memory_budget: ByteSize,
}

/// The topics to compare with.
struct Sources {
    input: Source,
    /// Processed events and dead letters, when they were named.
    published: Vec<Source>,
}

/// A topic that is read in ranges.
struct Source {
    topic: String,
    reader: RangeReader,
    bounds: TopicBounds,
}

/// Runs it: exit code 3 when something is wrong.
pub async fn run(args: AuditArgs, file: &ConfigFile) -> Result<(), ExitError> {
    let lake = setup::lake(&args.lake.resolve(file)?)?;
    if args.memory_budget.bytes() < MIN_MEMORY {
        return Err(ExitError::usage(format!(
            "--memory-budget {} is too small: at least {}",
            args.memory_budget,
            ByteSize::from_bytes(MIN_MEMORY)
        )));
    }
    let published = args.topics.output_topic.is_some() || args.topics.dead_letter_topic.is_some();
    let with_topic = args.kafka.brokers.is_some();
    if published && !with_topic {
        return Err(ExitError::usage(
            "--output-topic and --dead-letter-topic need --brokers",
        ));
    }
    let options = AuditOptions {
        memory_budget_bytes: usize::try_from(args.memory_budget.bytes()).unwrap_or(usize::MAX),
        published,
        filtered: args.filtered,
    };
    let Some(mut audit) = Audit::open(&lake, options).await.map_err(setup::lake_error)? else {
        return Err(super::no_tables(&lake));
    };
    // The ends of the topics are asked for after the tables were pinned, so that the tables are never ahead.
    let (mut sources, mut facts) = (None, None);
    if with_topic {
        let settings = setup::kafka(args.kafka.resolve(file)?);
        let names = args.topics.resolve(file)?;
        let opened =
            tokio::task::block_in_place(|| open(&settings, &names.input, published.then_some(&names)))?;
        (sources, facts) = (Some(opened.0), Some(opened.1));
    }
    audit.begin(facts).map_err(setup::lake_error)?;
    while let Some(mut pass) = audit.next_pass() {
        audit.read_tables(&mut pass).await.map_err(setup::lake_error)?;
        if let Some(sources) = &mut sources {
            tokio::task::block_in_place(|| read_topics(sources, &mut pass)).map_err(setup::kafka_error)?;
        }
        audit.finish_pass(pass);
    }
    let report = audit.report();
    match args.format {
        ReportFormat::Table => print_line(&report.to_string())?,
        ReportFormat::Json => print_line(&serde_json::to_string(&report).unwrap_or_default())?,
    }
    if report.is_clean() {
        return Ok(());
    }
    Err(ExitError::refused(format!(
        "the lake {} is not what it should be; wrong things found: {}",
        lake.uri(),
        report.findings.len() as u64 + report.more_findings
    ))
    .with_hint("docs/OPERATIONS.md, \"Audit\", says what each finding means"))
}

fn open(
    settings: &KafkaSettings,
    input: &str,
    published: Option<&loginlake_service::config::Topics>,
) -> Result<(Sources, TopicFacts), ExitError> {
    let source = |topic: &str| -> Result<Source, KafkaError> {
        let reader = RangeReader::connect(settings, topic)?;
        let bounds = reader.bounds()?;
        Ok(Source {
            topic: topic.to_owned(),
            reader,
            bounds,
        })
    };
    let input = source(input).map_err(setup::kafka_error)?;
    let incarnation = match input.reader.incarnation() {
        Incarnation::Id(id) => id,
        Incarnation::Unknown => NO_TOPIC_ID.to_owned(),
        Incarnation::Gone => {
            return Err(ExitError::refused(format!(
                "topic {} was deleted while it was asked for its offsets",
                input.topic
            )));
        }
    };
    let compacted = Topics::connect(settings)
        .map_err(setup::kafka_error)?
        .is_compacted(&input.topic)
        .unwrap_or(false);
    let facts = TopicFacts {
        pipeline: Pipeline::new(input.topic.clone(), incarnation),
        bounds: input.bounds.clone(),
        compacted,
    };
    let published = match published {
        Some(names) => vec![
            source(&names.output).map_err(setup::kafka_error)?,
            source(&names.dead_letter).map_err(setup::kafka_error)?,
        ],
        None => Vec::new(),
    };
    Ok((Sources { input, published }, facts))
}

/// Brings a pass the records that it wants.
fn read_topics(sources: &mut Sources, pass: &mut Pass) -> Result<(), KafkaError> {
    let wanted = pass.topic_ranges();
    read(&mut sources.input, &wanted, |message| {
        pass.see_topic(
            message.partition(),
            message.offset(),
            message.timestamp().to_millis(),
        );
    })?;
    for published in &mut sources.published {
        let all = published.bounds.clone();
        let input = &sources.input.topic;
        read(published, &all, |message| {
            if let Some((partition, offset)) = source_position(message, input) {
                pass.see_published(partition, offset);
            }
        })?;
    }
    Ok(())
}

/// The record of the input that a published one was made from.
fn source_position(message: &BorrowedMessage<'_>, input: &str) -> Option<(i32, i64)> {
    let headers = message.headers()?;
    let value = |name: &str| {
        // The last one counts: an input record may bring headers of that name along.
        let found = headers.iter().filter(|header| header.key == name).last()?;
        std::str::from_utf8(found.value?).ok().map(str::to_owned)
    };
    if value(SOURCE_TOPIC)? != input {
        return None;
    }
    Some((
        value(SOURCE_PARTITION)?.parse().ok()?,
        value(SOURCE_OFFSET)?.parse().ok()?,
    ))
}

/// Reads ranges of a topic, whole.
fn read(
    source: &mut Source,
    ranges: &BTreeMap<i32, (i64, i64)>,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), KafkaError> {
    source.reader.begin(ranges)?;
    let mut heard = Instant::now();
    let result = loop {
        match source.reader.poll(POLL) {
            Ok(RangeRead::Record(message)) => {
                heard = Instant::now();
                each(&message);
            }
            Ok(RangeRead::Finished) => break Ok(()),
            Ok(RangeRead::Nothing) if heard.elapsed() < SILENCE => {}
            Ok(RangeRead::Nothing) => {
                break Err(KafkaError::Retriable(format!(
                    "topic {} said nothing for {} s",
                    source.topic,
                    SILENCE.as_secs()
                )));
            }
            Err(error) if error.is_retriable() && heard.elapsed() < SILENCE => {
                tracing::debug!(%error, "asked again");
            }
            Err(error) => break Err(error),
        }
    };
    source.reader.stop();
    result
}
