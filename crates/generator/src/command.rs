//! What `generate` does, from the command line to the summary.

use std::io::{IsTerminal, Write, stderr};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{ArgMatches, CommandFactory};
use loginlake_generator::sink::{FileSink, RecordSink, SinkError};
use loginlake_generator::source::{RecordSource, Replay};
use loginlake_generator::to_kafka::KafkaSink;
use loginlake_generator::{Generator, RunError, Summary, run};
use loginlake_kafka::topics::TopicSpec;
use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_service::exit::{ExitCode, ExitError, parse_matches};
use loginlake_service::shutdown::Shutdown;
use loginlake_service::{effective, logging};

use crate::args::{Args, From, Plan, To};

/// Reads the command line and does what it says.
///
/// # Errors
/// Wrong usage (code 2), or a source or sink that failed (code 1).
pub(crate) fn generate() -> Result<(), ExitError> {
    let (args, matches): (Args, ArgMatches) = parse_matches()?;
    if args.shell_help.run(&Args::command())? {
        return Ok(());
    }
    if args.common.print_config {
        return effective::print(&Args::command(), &matches);
    }
    let configured = |error| ExitError::caused_by(ExitCode::Usage, &error);
    let file = args.common.load().map_err(configured)?;
    let logs = args.common.resolve(&file).map_err(configured)?;
    logging::begin(&logs)?;
    let plan = args.resolve(&file, now_ms(), uuid::Uuid::new_v4().as_u64_pair().0)?;

    // The runtime only watches for signals; the work is this thread's.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| ExitError::failed(format_args!("cannot start a thread: {error}")))?;
    let entered = runtime.enter();
    let shutdown = Shutdown::on_signals()
        .map_err(|error| ExitError::failed(format_args!("cannot watch for signals: {error}")))?;
    drop(entered);
    execute(&plan, &shutdown, logs.quiet)
}

fn execute(plan: &Plan, shutdown: &Shutdown, quiet: bool) -> Result<(), ExitError> {
    // The source first: a file that is not there must not leave an empty output behind.
    let mut source = open_source(&plan.from)?;
    let mut sink = open_sink(&plan.to, &plan.from)?;
    let mut progress = Progress {
        shown: !quiet && stderr().is_terminal(),
        drawn: false,
    };
    let result = run(
        source.as_mut(),
        sink.as_mut(),
        plan.pace,
        shutdown,
        &mut |summary| progress.draw(summary),
    );
    progress.clear();
    let summary = result.map_err(failed)?;
    if !quiet {
        let seed = plan
            .chosen_seed
            .map(|seed| format!("\nthe seed was {seed}"))
            .unwrap_or_default();
        // Nobody reads stderr any more: the records are where they belong all the same.
        let _ = writeln!(stderr(), "{summary}{seed}");
    }
    Ok(())
}

fn open_source(from: &From) -> Result<Box<dyn RecordSource>, ExitError> {
    match from {
        From::Generator(config) => {
            let generator = Generator::new(config.clone()).map_err(ExitError::usage)?;
            Ok(Box::new(generator))
        }
        From::File {
            path,
            seed,
            count,
            looping,
        } => {
            let replay = Replay::open(path, *seed, *count, *looping);
            Ok(Box::new(replay.map_err(|error| failed(RunError::Source(error)))?))
        }
    }
}

fn open_sink(to: &To, from: &From) -> Result<Box<dyn RecordSink>, ExitError> {
    match to {
        To::File(path) => {
            if let From::File { path: input, .. } = from
                && is_same_file(input, path)
            {
                let message = format!("--out {} is the file that is read", path.display());
                return Err(ExitError::usage(message).with_hint("write to another file"));
            }
            Ok(Box::new(
                FileSink::create(path).map_err(|error| failed(RunError::Sink(error)))?,
            ))
        }
        To::Kafka { kafka, topic, create } => {
            let settings = KafkaSettings {
                brokers: kafka.brokers.clone(),
                properties: kafka.properties.clone(),
            };
            let spec = create.create.then(|| TopicSpec {
                name: topic.clone(),
                partitions: create.partitions,
                replication_factor: create.replication_factor.into(),
            });
            let sink = KafkaSink::connect(&settings, topic, spec);
            Ok(Box::new(
                sink.map_err(|error| failed(RunError::Sink(error.into())))?,
            ))
        }
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn failed(error: RunError) -> ExitError {
    match error {
        // Whoever reads standard output may have had enough.
        RunError::Sink(SinkError::Stdout(error)) => ExitError::stdout(error),
        RunError::Sink(SinkError::Kafka(KafkaError::Configuration(message))) => ExitError::usage(message),
        error => ExitError::caused_by(ExitCode::Failed, &error),
    }
}

/// One line on a terminal, drawn anew each second.
struct Progress {
    shown: bool,
    drawn: bool,
}

impl Progress {
    fn draw(&mut self, summary: &Summary) {
        if self.shown {
            self.drawn = true;
            let mut out = stderr();
            // A terminal that went away is no reason to stop.
            let _ = write!(
                out,
                "\r\x1b[2K{} records, {:.0}/s",
                summary.produced,
                summary.rate()
            );
            let _ = out.flush();
        }
    }

    fn clear(&mut self) {
        if self.drawn {
            let _ = write!(stderr(), "\r\x1b[2K");
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as i64)
}
