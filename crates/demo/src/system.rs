//! All of it in one process: broker, generator, both paths, compaction, queries.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::Utc;
use loginlake_events::Contract;
use loginlake_events::filter::DropFilters;
use loginlake_generator::{Generator, GeneratorConfig, Timeline};
use loginlake_kafka::KafkaSettings;
use loginlake_kafka::embedded::EmbeddedBroker;
use loginlake_lake::compact::{self, CompactOptions, CompactionEvent, ExecuteOptions};
use loginlake_lake::ingest::commit::EMBEDDED;
use loginlake_lake::ingest::{LateHold, RollPolicy};
use loginlake_lake::table::schema::PartitionBy;
use loginlake_lake::{Lake, StoreOptions, TableName};
use loginlake_olap::ingest::{
    self, AcceptedGaps, DEFAULT_MAX_BATCH_ROWS, DEFAULT_MEMORY_BUDGET, IngestOptions, TimeRange,
};
use loginlake_olap::setup::{kafka_error, lake_error};
use loginlake_query::print::{Format, Printer};
use loginlake_query::{QueryEngine, QueryOptions};
use loginlake_realtime::run::{
    self as realtime, DEFAULT_TRANSACTION_MAX_AGE, DEFAULT_TRANSACTION_MAX_RECORDS,
    DEFAULT_TRANSACTION_TIMEOUT, RunOptions,
};
use loginlake_service::config::{Guarantee, HttpAddress, HttpBind, Topics};
use loginlake_service::exit::ExitError;
use loginlake_service::health::Health;
use loginlake_service::http;
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;
use tokio::runtime::Runtime;

use crate::directory::Found;
use crate::produce::{Produced, Producer};
use crate::report::{Report, number};
use crate::{Cli, directory::prepare as prepare_directory};

/// Kafka partitions of each topic.
const PARTITIONS: i32 = 8;
/// The consumer group of the real-time path.
const REALTIME_GROUP: &str = "loginlake-realtime";
/// How far back the generated logins go.
const PERIOD_SECS: i64 = 7 * 24 * 60 * 60;
/// Logins a second after the demo, with `--keep-running`.
const KEEP_RUNNING_RATE: u64 = 50;
/// How long a record waits for its commit: short, so that there is something to compact.
const MAX_BATCH_AGE: Duration = Duration::from_secs(1);
/// Between two looks at what the paths have done.
const LOOK: Duration = Duration::from_millis(20);
/// The first queries.
const QUERIES: [(&str, &str); 2] = [
    (
        "sql/top_regions.sql",
        include_str!("../../../sql/top_regions.sql"),
    ),
    ("sql/peak_hours.sql", include_str!("../../../sql/peak_hours.sql")),
];

/// The two paths, running.
struct Paths {
    realtime: Option<JoinHandle<Result<realtime::Totals, ExitError>>>,
    ingest: Option<JoinHandle<Result<ingest::Totals, ExitError>>>,
    realtime_progress: realtime::Progress,
    ingest_progress: ingest::Progress,
    stop: Shutdown,
}

/// Runs the demo.
pub fn run(cli: &Cli, runtime: &Runtime) -> Result<(), ExitError> {
    let started = Instant::now();
    let signals = Shutdown::on_signals()
        .map_err(|error| ExitError::failed(format!("cannot catch signals: {error}")))?;
    let mut report = Report::new();
    if prepare_directory(&cli.dir)? == Found::EarlierDemo {
        report.step(&format!(
            "replacing the lake of an earlier demo in {}",
            cli.dir.display()
        ));
    }
    let lake = Lake::open(&cli.dir.to_string_lossy(), &StoreOptions::default()).map_err(lake_error)?;
    let topics = Topics {
        input: "user-login".to_owned(),
        output: "processed-user-login".to_owned(),
        dead_letter: "user-login-dead-letters".to_owned(),
        insights: "login-insights".to_owned(),
    };
    let names = [
        &topics.input,
        &topics.output,
        &topics.dead_letter,
        &topics.insights,
    ];
    let broker =
        EmbeddedBroker::start(&names.map(|name| (name.as_str(), PARTITIONS))).map_err(kafka_error)?;
    let kafka = broker.settings();
    report.step(&format!(
        "embedded broker at {}, {PARTITIONS} partitions a topic; lake in {}",
        kafka.brokers,
        cli.dir.display()
    ));

    let metrics = Metrics::new("demo");
    let health = Health::new();
    let mut paths = start_paths(&kafka, &topics, &lake, runtime, &metrics, &health)?;
    let server = if cli.keep_running {
        Some(serve(cli, &kafka, &topics, &paths, runtime, &metrics, &health)?)
    } else {
        None
    };

    report.step(&format!(
        "generating {} logins of the last seven days; both paths read them",
        number(cli.events)
    ));
    let mut producer = Producer::new(&kafka, &topics.input, PARTITIONS).map_err(kafka_error)?;
    let mut generator = generator(cli, Some(cli.events), past_week())?;
    let produced = produce(&mut producer, &mut generator, None, &paths, &signals, &mut report)?;
    if produced.waited > Duration::from_millis(100) {
        report.step(&format!(
            "the embedded broker keeps only 5 MB of a partition: the generator waited {:.1} s for the two paths, no record was lost",
            produced.waited.as_secs_f64()
        ));
    }
    paths.wait_for(produced.records, &signals, &mut report)?;
    if signals.is_requested() {
        return paths.finish().map(|_| ());
    }
    if !cli.keep_running {
        paths.finish()?;
    }
    check(&paths, produced, &mut report)?;
    compact(&lake, runtime, &mut report)?;
    answer(&lake, runtime, &mut report)?;
    report.step(&format!("done in {:.1} s", started.elapsed().as_secs_f64()));
    go_on(cli, &mut report);

    if let Some((server, live)) = server {
        report.step(&format!(
            "dashboard at http://{}/ — {KEEP_RUNNING_RATE} logins a second until Ctrl-C",
            server
                .local_addr()
                .map(|address| address.to_string())
                .unwrap_or_default()
        ));
        let mut generator = self::generator(cli, None, Timeline::WallClock)?;
        produce(
            &mut producer,
            &mut generator,
            Some(KEEP_RUNNING_RATE),
            &paths,
            &signals,
            &mut report,
        )?;
        report.step("stopping: committing what was read");
        live.stop();
        paths.finish()?;
        runtime.block_on(server.shutdown());
    }
    drop(broker);
    Ok(())
}

fn generator(cli: &Cli, count: Option<u64>, timeline: Timeline) -> Result<Generator, ExitError> {
    let config = GeneratorConfig {
        seed: cli.seed,
        count,
        bad_share: cli.bad_share,
        timeline,
        ..GeneratorConfig::default()
    };
    Generator::new(config).map_err(ExitError::usage)
}

fn past_week() -> Timeline {
    let now = Utc::now().timestamp();
    Timeline::Period {
        from_secs: now - PERIOD_SECS,
        to_secs: now,
    }
}

/// Starts both paths as their binaries do, each on its thread and in its own consumer group.
fn start_paths(
    kafka: &KafkaSettings,
    topics: &Topics,
    lake: &Lake,
    runtime: &Runtime,
    metrics: &Metrics,
    health: &Health,
) -> Result<Paths, ExitError> {
    let contract = Contract::default();
    let filters = DropFilters::parse::<[&str; 0], &str>([]).map_err(ExitError::failed)?;
    let realtime_options = RunOptions {
        input: kafka.clone(),
        output: kafka.clone(),
        topics: topics.clone(),
        group_id: REALTIME_GROUP.to_owned(),
        guarantee: Guarantee::ExactlyOnce,
        contract: contract.clone(),
        schema_registry: None,
        filters: filters.into(),
        max_rate: None,
        workers: 1,
        transactional_id: "loginlake-demo".to_owned(),
        transaction_max_age: DEFAULT_TRANSACTION_MAX_AGE,
        transaction_max_records: DEFAULT_TRANSACTION_MAX_RECORDS,
        transaction_timeout: DEFAULT_TRANSACTION_TIMEOUT,
        exit_at_end: false,
        bounds_at_start: std::collections::BTreeMap::new(),
    };
    let ingest_options = IngestOptions {
        kafka: kafka.clone(),
        topic: topics.input.clone(),
        group_id: "loginlake-olap".to_owned(),
        // The embedded broker has no topic ids; this lake never meets another one.
        incarnation: Some(EMBEDDED.to_owned()),
        lake: lake.clone(),
        partition_by: PartitionBy::Date,
        contract,
        schema_registry: None,
        roll: RollPolicy {
            max_age: MAX_BATCH_AGE,
            max_rows: DEFAULT_MAX_BATCH_ROWS,
            max_bytes: DEFAULT_MEMORY_BUDGET / 3,
            late: LateHold::default(),
        },
        freshness: None,
        only_date: None,
        range: TimeRange::default(),
        gaps: AcceptedGaps::default(),
        memory_budget: DEFAULT_MEMORY_BUDGET,
        exit_at_end: false,
    };
    let stop = Shutdown::new();
    let (realtime_progress, ingest_progress) = (realtime::Progress::default(), ingest::Progress::default());
    let realtime = {
        let (stop, progress) = (stop.clone(), realtime_progress.clone());
        let (metrics, health) = (metrics.clone(), health.clone());
        spawn("realtime", move || {
            realtime::run(&realtime_options, &stop, &health, &metrics, &progress)
        })?
    };
    let ingest = {
        let (stop, progress) = (stop.clone(), ingest_progress.clone());
        let (metrics, health) = (metrics.clone(), health.clone());
        let handle = runtime.handle().clone();
        spawn("ingest", move || {
            let _entered = handle.enter();
            ingest::run(ingest_options, &stop, &health, &metrics, &progress)
        })?
    };
    Ok(Paths {
        realtime: Some(realtime),
        ingest: Some(ingest),
        realtime_progress,
        ingest_progress,
        stop,
    })
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ExitError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| ExitError::failed(format!("cannot start a thread: {error}")))
}

impl Paths {
    /// The next offset that both paths have read.
    fn read_up_to(&self, partition: i32) -> i64 {
        let realtime = self
            .realtime_progress
            .totals()
            .next_offsets
            .get(&partition)
            .copied()
            .unwrap_or(0);
        let ingest = self
            .ingest_progress
            .totals()
            .next_offsets
            .get(&partition)
            .copied()
            .unwrap_or(0);
        realtime.min(ingest)
    }

    /// Records that each path has dealt with.
    fn done(&self) -> (u64, u64) {
        let realtime = self.realtime_progress.totals();
        let ingest = self.ingest_progress.totals();
        (
            realtime.processed + realtime.dead_letters + realtime.filtered,
            ingest.logins + ingest.rejected,
        )
    }

    /// A path that ended by itself has failed: its error is the demo's.
    fn check_alive(&mut self) -> Result<(), ExitError> {
        if self.realtime.as_ref().is_some_and(JoinHandle::is_finished)
            || self.ingest.as_ref().is_some_and(JoinHandle::is_finished)
        {
            self.finish()?;
            return Err(ExitError::failed("one of the paths ended by itself"));
        }
        Ok(())
    }

    /// Waits until both paths have committed that many records.
    fn wait_for(&mut self, records: u64, signals: &Shutdown, report: &mut Report) -> Result<(), ExitError> {
        loop {
            let (realtime, ingest) = self.done();
            if realtime >= records && ingest >= records {
                return Ok(());
            }
            self.check_alive()?;
            report.progress(|| {
                format!(
                    "real time {} · lake {} of {}",
                    number(realtime),
                    number(ingest),
                    number(records)
                )
            });
            if signals.wait_timeout(LOOK) {
                return Ok(());
            }
        }
    }

    /// Stops both paths; they commit what they have read.
    fn finish(&mut self) -> Result<(), ExitError> {
        self.stop.trigger();
        let panicked = |_| Err(ExitError::failed("a path panicked"));
        let realtime = self
            .realtime
            .take()
            .map(|thread| thread.join().unwrap_or_else(panicked));
        let panicked = |_| Err(ExitError::failed("a path panicked"));
        let ingest = self
            .ingest
            .take()
            .map(|thread| thread.join().unwrap_or_else(panicked));
        realtime.transpose()?;
        ingest.transpose()?;
        Ok(())
    }
}

/// Produces, with progress.
fn produce(
    producer: &mut Producer<'_>,
    generator: &mut Generator,
    rate: Option<u64>,
    paths: &Paths,
    signals: &Shutdown,
    report: &mut Report,
) -> Result<Produced, ExitError> {
    let read_up_to = |partition| paths.read_up_to(partition);
    producer
        .run(generator, rate, &read_up_to, signals, &mut |produced| {
            report.progress(|| {
                let (realtime, ingest) = paths.done();
                format!(
                    "produced {} · real time {} · lake {}",
                    number(produced.records),
                    number(realtime),
                    number(ingest)
                )
            });
        })
        .map_err(kafka_error)
}

/// Every number of the run agrees, or the demo says which does not.
fn check(paths: &Paths, produced: Produced, report: &mut Report) -> Result<(), ExitError> {
    let (realtime, ingest) = (paths.realtime_progress.totals(), paths.ingest_progress.totals());
    report.step(&format!(
        "produced {} = real time: {} published + {} dead letters = lake: {} logins + {} rejected",
        number(produced.records),
        number(realtime.processed),
        number(realtime.dead_letters),
        number(ingest.logins),
        number(ingest.rejected)
    ));
    let good = produced.records - produced.bad;
    let agrees = realtime.processed == good
        && realtime.dead_letters == produced.bad
        && ingest.logins == good
        && ingest.rejected == produced.bad;
    if agrees {
        Ok(())
    } else {
        Err(ExitError::failed(format!(
            "these numbers do not agree: {} good and {} bad records were produced",
            number(good),
            number(produced.bad)
        )))
    }
}

fn compact(lake: &Lake, runtime: &Runtime, report: &mut Report) -> Result<(), ExitError> {
    report.step("compacting the lake");
    for table in [TableName::Logins, TableName::Rejected] {
        let compacted = runtime.block_on(async {
            let Some(snapshot) = lake.snapshot(table, None).await? else {
                return Ok(None);
            };
            let mut options = CompactOptions::at(Utc::now().timestamp_millis());
            options.include_open = true;
            let plan = compact::plan(&snapshot, &options);
            let quiet = |event: CompactionEvent| tracing::debug!(?event, "compaction");
            let execute = ExecuteOptions {
                progress: Some(Arc::new(quiet)),
                ..ExecuteOptions::default()
            };
            compact::execute(lake, plan, &execute).await.map(Some)
        });
        if let Some(done) = compacted.map_err(lake_error)? {
            let before: usize = done
                .partitions
                .iter()
                .map(|partition| partition.files_before)
                .sum();
            let after: usize = done
                .partitions
                .iter()
                .map(|partition| partition.files_after)
                .sum();
            if before > 0 {
                report.step(&format!("  {table}: {before} files became {after}"));
            }
        }
    }
    Ok(())
}

/// The first queries, as tables on stdout.
fn answer(lake: &Lake, runtime: &Runtime, report: &mut Report) -> Result<(), ExitError> {
    let engine = QueryEngine::open(lake, QueryOptions::default()).map_err(ExitError::failed)?;
    for (name, sql) in QUERIES {
        report.step(&format!("\n$ olap query {name}"));
        let mut printer = Printer::new(Format::Table, None, std::io::stdout());
        runtime
            .block_on(engine.run(sql, name, &mut printer))
            .map_err(ExitError::failed)?;
    }
    Ok(())
}

/// The commands to go on with.
fn go_on(cli: &Cli, report: &mut Report) {
    let is_default = cli.dir == std::path::Path::new("lake") || cli.dir == std::path::Path::new("./lake");
    let lake = if is_default {
        String::new()
    } else {
        format!(" --lake {}", cli.dir.display())
    };
    report.step(&format!(
        "\nThe lake stays in {}. Go on with:\n  \
         cargo run --release --bin olap -- query sql/top_regions.sql{lake}\n  \
         cargo run --release --bin olap -- query sql/peak_hours_by_region.sql{lake}\n  \
         cargo run --release --bin olap -- query{lake} -e 'SELECT locale, count(*) AS logins FROM logins GROUP BY 1 ORDER BY 2 DESC LIMIT 5'\n  \
         cargo run --release --bin olap -- files{lake}\n  \
         cargo run --release --bin demo -- --keep-running        # with the live dashboard",
        cli.dir.display()
    ));
}

/// Health, metrics and dashboard.
fn serve(
    cli: &Cli,
    kafka: &KafkaSettings,
    topics: &Topics,
    paths: &Paths,
    runtime: &Runtime,
    metrics: &Metrics,
    health: &Health,
) -> Result<(http::RunningHttp, loginlake_realtime::live::LiveHandle), ExitError> {
    let bind = match cli.http {
        HttpAddress::Off => HttpBind::OFF,
        HttpAddress::On(address) => HttpBind::new(address, false)?,
    };
    let live = loginlake_realtime::dashboard(kafka, kafka, topics, REALTIME_GROUP, &paths.realtime_progress);
    let router = loginlake_realtime::live::router(live.clone());
    let server = runtime.block_on(http::serve(bind, metrics.clone(), health.clone(), router))?;
    Ok((server, live))
}
