//! A running `olap ingest` and an object store, a disk or a broker that fails in every way we know of: slow, busy, gone, with other
//! credentials, without checkpoints, full. Each time the process lives, says what is wrong by its readiness and its counter of
//! retries, goes on by itself, and every record is in the tables exactly once (invariants 6 and 7).
//!
//! Lost requests and replies of commits are in `lost_replies_do_not_double`, and partitions that move meanwhile in
//! `a_rebalance_waits_for_the_store`; what a broker has lost for good is in `a_gap_is_accepted_only_by_command`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::delta_log::DeltaLog;
use loginlake_scenarios::exactness::{counts_are_exact, each_once, position, positions};
use loginlake_scenarios::keys::KeyServer;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Program};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::reader::Reader;
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::trouble::{Proxy, Weather};
use loginlake_scenarios::{entries, http, runner};

const PARTITIONS: i32 = 4;
const SEED: u64 = 51;
/// Events before, during and after the trouble, each.
const EVENTS: u64 = 1_500;
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        a_slow_store_only_delays,
        a_busy_store_is_waited_for,
        a_store_that_is_gone_is_waited_for,
        credentials_that_are_refused_are_waited_for,
        credentials_that_expire_are_renewed,
        a_checkpoint_that_fails_is_no_failed_commit,
        a_full_disk_is_waited_for,
        a_broker_that_is_away_is_waited_for,
    ])
}

fn a_slow_store_only_delays() -> Result<()> {
    let scenario = Scenario::new("slow-store")?;
    let proxy = Proxy::before(scenario.minio.address(), SEED)?;
    let mut ingest = Ingest::start(&scenario, |program| program.env("AWS_ENDPOINT_URL", proxy.url()))?;
    ingest.stores()?;
    proxy.set(Weather::Slow {
        latency: Duration::from_millis(150),
        bytes_per_second: 200_000,
    });
    for _ in 0..3 {
        ingest.stores()?;
    }
    ensure!(proxy.losses().slowed.load(Ordering::SeqCst) > 20);
    assert_eq!(ingest.retries()?, 0.0, "slow is no failure");
    ingest.wait_ready()?;
    proxy.set(Weather::Fair);
    ingest.end_exact()
}

fn a_busy_store_is_waited_for() -> Result<()> {
    let scenario = Scenario::new("busy-store")?;
    let proxy = Proxy::before(scenario.minio.address(), SEED)?;
    let mut ingest = Ingest::start(&scenario, |program| program.env("AWS_ENDPOINT_URL", proxy.url()))?;
    ingest.stores()?;
    proxy.set(Weather::Busy);
    ingest.produce()?;
    ingest.wait_not_ready("503")?;
    ensure!(proxy.losses().refused.load(Ordering::SeqCst) > 0);
    proxy.set(Weather::Fair);
    ingest.goes_on()?;
    ingest.end_exact()
}

fn a_store_that_is_gone_is_waited_for() -> Result<()> {
    let scenario = Scenario::with_own_store("gone-store")?;
    let mut ingest = Ingest::start(&scenario, |program| program)?;
    ingest.stores()?;
    scenario.minio.kill();
    ingest.produce()?;
    ingest.wait_not_ready("Connection refused")?;
    scenario.minio.start_again()?;
    ingest.goes_on()?;
    ingest.end_exact()
}

/// Somebody changes the store's password, and takes it back.
fn credentials_that_are_refused_are_waited_for() -> Result<()> {
    let scenario = Scenario::with_own_store("refused-keys")?;
    let mut ingest = Ingest::start(&scenario, |program| program)?;
    ingest.stores()?;
    let password = scenario.minio.password();
    scenario
        .minio
        .start_again_with_password("another-one-for-a-while")?;
    ingest.produce()?;
    ingest.wait_not_ready("SignatureDoesNotMatch")?;
    scenario.minio.start_again_with_password(&password)?;
    ingest.goes_on()?;
    ingest.end_exact()
}

/// Keys that are handed out for two seconds at a time; those of the store change before those that are handed out do.
fn credentials_that_expire_are_renewed() -> Result<()> {
    let scenario = Scenario::with_own_store("expired-keys")?;
    let (user, password) = (scenario.minio.user(), scenario.minio.password());
    let keys = KeyServer::start(scenario.dir(), user, &password)?;
    let mut ingest = Ingest::start(&scenario, |program| {
        let program = program
            .env("AWS_ACCESS_KEY_ID", "")
            .env("AWS_SECRET_ACCESS_KEY", "");
        let environment = keys.environment();
        environment
            .iter()
            .fold(program, |program, (name, value)| program.env(name, value))
    })?;
    ingest.stores()?;
    scenario.minio.start_again_with_password("the-next-one-in-turn")?;
    ingest.produce()?;
    ingest.wait_not_ready("SignatureDoesNotMatch")?;
    let before = keys.handed_out();
    keys.renew("the-next-one-in-turn");
    ingest.goes_on()?;
    ensure!(keys.handed_out() > before && before > 1, "asked {before} times");
    ingest.end_exact()
}

fn a_checkpoint_that_fails_is_no_failed_commit() -> Result<()> {
    let scenario = Scenario::new("no-checkpoints")?;
    let proxy = Proxy::before(scenario.minio.address(), SEED)?;
    proxy.set(Weather::NoCheckpoints);
    let mut ingest = Ingest::start(&scenario, |program| {
        // A checkpoint after every commit; the point itself is never reached so often.
        let program = program.env("LOGINLAKE_FAIL_POINT", "after-checkpoint:error:4000000000");
        program.env("AWS_ENDPOINT_URL", proxy.url())
    })?;
    ingest.stores()?;
    ingest
        .process
        .wait_has_said("delta checkpoint not written", LIMIT)?;
    ensure!(proxy.losses().refused.load(Ordering::SeqCst) > 0);
    ingest.stores()?;
    assert_eq!(ingest.retries()?, 0.0, "the commits themselves did not fail");
    ingest.wait_ready()?;
    let pointers = |scenario: &Scenario| -> Result<usize> {
        let names = scenario.minio.list(&scenario.bucket())?;
        Ok(names
            .iter()
            .filter(|name| name.ends_with("_last_checkpoint"))
            .count())
    };
    assert_eq!(pointers(&scenario)?, 0);
    proxy.set(Weather::Fair);
    ingest.stores()?;
    ensure!(pointers(&scenario)? > 0, "the next one is written");
    ingest.end_exact()
}

/// A limit on the size of files stands for a full disk: writes fail in the middle of a file, and the limit can be taken away again.
fn a_full_disk_is_waited_for() -> Result<()> {
    const LIMIT_BYTES: u64 = 8 * 1024;
    // What comes over the limit is an error for those who ignore this signal, and a child does what its parent did.
    // SAFETY: a plain system call; nobody here waits for that signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let scenario = Scenario::new("full-disk")?;
    scenario.create_topics_of(PARTITIONS)?;
    let lake = scenario.dir().join("lake").display().to_string();
    let page = http::loopback(free_port()?);
    let produce = |seed| {
        scenario
            .generate(10_000, seed)
            .args(["--bad-share", "0.02"])
            .run_ok(LIMIT)
    };
    produce(SEED)?;
    scenario.ingest_into(&lake).arg("--exit-at-end").run_ok(LIMIT)?;
    let program = scenario
        .ingest_into(&lake)
        .env("LOGINLAKE_HTTP", page.to_string());
    let mut process = program.args(["--max-batch-age", "300ms"]).start()?;
    process.wait_until("it to be ready", LIMIT, || is_ready(page))?;
    limit_files(&process, Some(LIMIT_BYTES))?;
    produce(SEED + 1)?;
    wait_not_ready(&mut process, page, "File too large")?;
    ensure!(http::metric(page, "ingest_retries_total")? > 0.0);
    limit_files(&process, None)?;
    process.wait_until("it to be ready", LIMIT, || is_ready(page))?;
    process.terminate(LIMIT)?;

    scenario.ingest_into(&lake).arg("--exit-at-end").run_ok(LIMIT)?;
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    let reader = Reader::new(&lake, Vec::new());
    let mut found = Vec::new();
    for table in ["logins", "rejected"] {
        let rows = reader.query(table, "SELECT kafka_partition, kafka_offset FROM t")?;
        for row in &rows {
            found.push(position(row)?);
        }
    }
    assert_eq!(input.len(), 20_000);
    each_once(positions(&input), found)
}

fn a_broker_that_is_away_is_waited_for() -> Result<()> {
    let scenario = Scenario::with_own_servers("ingest-no-broker")?;
    let mut ingest = Ingest::start(&scenario, |program| program)?;
    ingest.stores()?;
    ingest.produce()?;
    scenario.kafka.kill();
    ingest.wait_not_ready("kafka")?;
    scenario.kafka.start_again()?;
    ingest.goes_on()?;
    ingest.stores()?;
    ingest.end_exact()
}

/// One ingester of a scenario, and what is known of it.
struct Ingest<'a> {
    scenario: &'a Scenario,
    progress: Progress,
    log: DeltaLog<'a>,
    process: Process,
    page: SocketAddr,
    produced: u64,
    seed: u64,
}

impl<'a> Ingest<'a> {
    /// `with` says what is special about it.
    fn start(scenario: &'a Scenario, with: impl FnOnce(Program) -> Program) -> Result<Ingest<'a>> {
        scenario.create_topics_of(PARTITIONS)?;
        let page = http::loopback(free_port()?);
        let program = scenario.ingest().env("LOGINLAKE_HTTP", page.to_string());
        let mut process = with(program.args(["--max-batch-age", "300ms"])).start()?;
        process.wait_until("it to be ready", LIMIT, || is_ready(page))?;
        Ok(Ingest {
            scenario,
            progress: Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?,
            log: DeltaLog::of(scenario, "logins"),
            process,
            page,
            produced: 0,
            seed: SEED,
        })
    }

    fn produce(&mut self) -> Result<()> {
        let producer = self.scenario.generate(EVENTS, self.seed);
        producer.args(["--bad-share", "0.05"]).run_ok(LIMIT)?;
        self.produced += EVENTS;
        self.seed += 1;
        Ok(())
    }

    /// Some more events get into the table.
    fn stores(&mut self) -> Result<()> {
        self.produce()?;
        self.wait_stored()
    }

    fn wait_stored(&mut self) -> Result<()> {
        let ends = self.progress.ends()?;
        let log = &mut self.log;
        self.process
            .wait_until("all to be in the table", LIMIT, || log.has(&ends))
    }

    fn wait_not_ready(&mut self, reason: &str) -> Result<()> {
        wait_not_ready(&mut self.process, self.page, reason)?;
        ensure!(self.retries()? > 0.0, "retries are counted");
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let page = self.page;
        self.process
            .wait_until("it to be ready", LIMIT, || is_ready(page))
    }

    /// By itself, and what was produced meanwhile gets into the table.
    fn goes_on(&mut self) -> Result<()> {
        self.wait_stored()?;
        self.wait_ready()
    }

    fn retries(&self) -> Result<f64> {
        http::metric(self.page, "ingest_retries_total")
    }

    fn end_exact(mut self) -> Result<()> {
        self.process.terminate(LIMIT)?;
        let standing = counts_are_exact(self.scenario, &mut self.log, &BTreeMap::new())?;
        assert_eq!(standing, self.progress.ends()?);
        assert_eq!(standing.values().sum::<i64>() as u64, self.produced);
        Ok(())
    }
}

fn is_ready(page: SocketAddr) -> Result<Option<()>> {
    let answer = http::get(page, "/health/ready");
    Ok(answer.is_ok_and(|answer| answer.status == 200).then_some(()))
}

/// Its readiness must name the reason.
fn wait_not_ready(process: &mut Process, page: SocketAddr, reason: &str) -> Result<()> {
    let mut said = String::new();
    let waited = process.wait_until(&format!("it says that it is not ready: {reason}"), LIMIT, || {
        let answer = http::get(page, "/health/ready")?;
        said = answer.body;
        Ok((answer.status == 503 && said.contains(reason)).then_some(()))
    });
    waited.with_context(|| format!("it said {said}"))
}

/// The largest file that a process may write from now on; `None`: any.
fn limit_files(process: &Process, bytes: Option<u64>) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: bytes.unwrap_or(libc::RLIM_INFINITY),
        // What is taken away here for good could not be given back.
        rlim_max: libc::RLIM_INFINITY,
    };
    let id = i32::try_from(process.id())?;
    // SAFETY: both pointers are null or to a value that lives on.
    let answer = unsafe { libc::prlimit(id, libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
    ensure!(
        answer == 0,
        "cannot limit its files: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}
