//! Three ingesters on 8 partitions live through everything at once, in one story, once for each group protocol: one of them is
//! killed at every fail point there is, and at seeded moments; one is frozen past its session and comes back; another group
//! writes to the same tables and is fenced; the object store is killed under load; a proxy loses requests and replies; at last
//! retention takes records that nobody has read. After each of these, at the version that it left, and at the end, by an
//! independent reader and by the log itself: every input record below the table's offsets is in `logins` or `rejected` exactly
//! once, and none above (invariant 6), and every data commit begins where the one before it ended (invariant 7).

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::delta_log::DeltaLog;
use loginlake_scenarios::exactness::{counts_are_exact, input_positions};
use loginlake_scenarios::fail_points::{self, FailPoint, Occasion, died};
use loginlake_scenarios::kafka::SESSION_TIMEOUT_MS;
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Program, Signal};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, events, free_port};
use loginlake_scenarios::side_lake::SideLake;
use loginlake_scenarios::trouble::{Proxy, Weather};
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, http, runner};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const EVENTS: u64 = 40_000;
const SEED: u64 = 21;
const PARTITIONS: i32 = 8;
const INGESTERS: usize = 3;
/// SIGKILLs at moments of the seed.
const KILLS: u64 = 1;
/// The same in a run of a size that was asked for.
const KILLS_OF_LARGE: u64 = 6;
/// The events are divided by this; how many phases it takes depends on when fail points are passed.
const PHASES: u64 = 18;
/// Records that retention takes before anybody has read them.
const LOST: i64 = 20;
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        every_record_is_in_the_lake_once_with_the_classic_protocol,
        every_record_is_in_the_lake_once_with_the_newer_protocol,
    ])
}

fn every_record_is_in_the_lake_once_with_the_classic_protocol() -> Result<()> {
    let session = format!("session.timeout.ms={SESSION_TIMEOUT_MS}");
    // Frozen past its session means past the longest time between two polls, too.
    let poll = format!("max.poll.interval.ms={SESSION_TIMEOUT_MS}");
    story(
        "ingesters-die",
        &[
            "group.protocol=classic",
            &session,
            &poll,
            "heartbeat.interval.ms=500",
        ],
        0,
    )
}

fn every_record_is_in_the_lake_once_with_the_newer_protocol() -> Result<()> {
    // Its session is the broker's setting, which is as short. The time between two polls stays what it is: librdkafka 2.12 may end a
    // consumer of this protocol that exceeds it (librdkafka#5541), and a debug build on a busy machine does.
    story("ingesters-die-newer", &["group.protocol=consumer"], 1)
}

fn story(name: &'static str, properties: &[&str], half: usize) -> Result<()> {
    let events = events(EVENTS)?;
    let is_large = events != EVENTS;
    let scenario = Scenario::with_own_store(name)?;
    scenario.create_topics_of(PARTITIONS)?;
    let proxy = Proxy::before(scenario.minio.address(), SEED)?;
    let progress = Progress::watch(&scenario.kafka, &scenario.input_topic(), &scenario.ingest_group())?;
    let mut story = Story {
        name,
        properties,
        scenario: &scenario,
        proxy: &proxy,
        progress: &progress,
        log: DeltaLog::of(&scenario, "logins"),
        load: Load::of(&scenario, &progress, events, PHASES, SEED).in_short_phases(),
        random: SmallRng::seed_from_u64(SEED),
        crew: Vec::new(),
        gaps: BTreeMap::new(),
        hit: Vec::new(),
        checks: 0,
        is_large,
        began: Instant::now(),
    };
    let mut fail_points = fail_points::all(&scenario, LIMIT)?;
    fail_points.retain(|point| point.occasion != Occasion::Widening);
    if !is_large {
        // The two protocols share those that many processes pass: a run of the usual size has to be short.
        let mut number = 0;
        fail_points.retain(|point| {
            number += 1;
            point.occasion == Occasion::Bootstrap || number % 2 == half
        });
    }
    let of = |occasion: Occasion| {
        let of_it = |point: &&FailPoint| point.occasion == occasion;
        fail_points.iter().filter(of_it).cloned().collect::<Vec<_>>()
    };
    story.die_in_the_cradle(&of(Occasion::Bootstrap))?;
    story.die_at_each(of(Occasion::Commit))?;
    story.die_at_any_moment()?;
    story.freeze()?;
    story.come_second(&of(Occasion::Fenced))?;
    story.lose_the_store()?;
    story.lose_replies()?;
    story.lose_records(&of(Occasion::Gap))?;
    story.end()?;

    let is_missed = |point: &&FailPoint| !story.hit.contains(&point.name);
    let missed: Vec<_> = fail_points.iter().filter(is_missed).collect();
    ensure!(missed.is_empty(), "nobody died at {missed:?}");
    Ok(())
}

struct Story<'a> {
    name: &'static str,
    properties: &'a [&'a str],
    scenario: &'a Scenario,
    proxy: &'a Proxy,
    progress: &'a Progress,
    log: DeltaLog<'a>,
    load: Load<'a>,
    random: SmallRng,
    crew: Vec<Process>,
    /// What was given up, by Kafka partition.
    gaps: BTreeMap<i32, (i64, i64)>,
    /// Fail points at which somebody died.
    hit: Vec<String>,
    checks: u32,
    is_large: bool,
    began: Instant,
}

impl Story<'_> {
    fn ingester(&self) -> Program {
        self.configured(self.scenario.ingest(), "500ms")
    }

    /// The same into the same tables, in another group.
    fn second_ingester(&self, max_batch_age: &str) -> Program {
        self.configured(SideLake::new(self.scenario, "lake").ingest(), max_batch_age)
    }

    fn configured(&self, program: Program, max_batch_age: &str) -> Program {
        let program = program.env("AWS_ENDPOINT_URL", self.proxy.url());
        let program = program.args(["--max-batch-age", max_batch_age]);
        let with = |program: Program, property: &&str| program.args(["-X", property]);
        self.properties.iter().fold(program, with)
    }

    fn fill_crew(&mut self) -> Result<()> {
        while self.crew.len() < INGESTERS {
            self.crew.push(self.ingester().start()?);
        }
        Ok(())
    }

    /// Invariants 6 and 7 at the version that is the newest now.
    fn check(&mut self, after: &str) -> Result<()> {
        counts_are_exact(self.scenario, &mut self.log, &self.gaps)
            .with_context(|| format!("after {after}"))?;
        self.checks += 1;
        println!(
            "{}: {after}: exact at version {}, {} events, {:.0} s",
            self.name,
            self.log.read_on()?.len() as i64 - 1,
            self.load.events(),
            self.began.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// The same when all that was produced is in the table.
    fn check_all(&mut self, after: &str) -> Result<()> {
        let ends = self.progress.ends()?;
        self.log
            .wait_stored(&ends, LIMIT)
            .with_context(|| format!("after {after}"))?;
        self.check(after)
    }

    /// Where a table is given its first offsets.
    fn die_in_the_cradle(&mut self, fail_points: &[FailPoint]) -> Result<()> {
        for point in fail_points {
            let process = point.kills(self.ingester(), 1).start()?;
            ensure!(died(process, LIMIT)?, "{point:?} was not passed");
            self.hit.push(point.name.clone());
            self.check(&point.name)?;
        }
        Ok(())
    }

    /// Three at a time, each with a point of its own, until somebody died at each of them.
    fn die_at_each(&mut self, mut waiting: Vec<FailPoint>) -> Result<()> {
        let rounds_limit = waiting.len() * 3;
        let mut armed: Vec<(FailPoint, Process)> = Vec::new();
        for _ in 0..rounds_limit {
            while armed.len() < INGESTERS
                && let Some(point) = waiting.pop()
            {
                // At an earlier or a later file, batch or table of the batch.
                let passage = self.random.random_range(1..=2);
                let process = point.kills(self.ingester(), passage).start()?;
                armed.push((point, process));
            }
            if armed.is_empty() {
                return Ok(());
            }
            self.load.phase("some die at fail points", || Ok(()))?;
            let ends = self.progress.ends()?;
            let mut dead = Vec::new();
            wait_for("them to die, or to have nothing left to do", LIMIT, || {
                let mut alive = Vec::new();
                for (point, mut process) in armed.drain(..) {
                    match process.has_ended()? {
                        true => dead.push((point, process)),
                        false => alive.push((point, process)),
                    }
                }
                armed = alive;
                Ok((armed.is_empty() || self.log.has(&ends)?.is_some()).then_some(()))
            })?;
            let mut names = Vec::new();
            for (point, process) in dead {
                ensure!(died(process, LIMIT)?, "{point:?}: it ended in another way");
                names.push(point.name.clone());
            }
            self.check(&format!("{names:?}"))?;
            self.hit.append(&mut names);
        }
        let left: Vec<_> = armed.iter().map(|(point, _)| &point.name).collect();
        ensure!(
            left.is_empty() && waiting.is_empty(),
            "not passed in {rounds_limit} rounds: {left:?}, {waiting:?}"
        );
        Ok(())
    }

    /// SIGKILL at moments of the seed; its place is taken at once.
    fn die_at_any_moment(&mut self) -> Result<()> {
        self.fill_crew()?;
        let kills = if self.is_large { KILLS_OF_LARGE } else { KILLS };
        for kill in 1..=kills {
            let moment = self.random.random_range(0.1..0.9);
            let victim = self.random.random_range(0..INGESTERS);
            let successor = self.ingester();
            let crew = &mut self.crew;
            self.load.phase_at(moment, "one is killed", || {
                crew.swap_remove(victim).kill();
                crew.push(successor.start()?);
                Ok(())
            })?;
            self.check_all(&format!("SIGKILL {kill}"))?;
        }
        Ok(())
    }

    /// SIGSTOP past the session; the others take its partitions; then it goes on with what it holds.
    fn freeze(&mut self) -> Result<()> {
        let frozen = &self.crew[self.random.random_range(0..INGESTERS)];
        self.load.phase("one is frozen", || frozen.signal(Signal::Stop))?;
        let ends = self.progress.ends()?;
        self.log.wait_stored(&ends, LIMIT).context("one is frozen")?;
        counts_are_exact(self.scenario, &mut self.log, &self.gaps).context("one is frozen")?;
        self.load
            .phase("the frozen one goes on", || frozen.signal(Signal::Continue))?;
        self.check_all("SIGSTOP and SIGCONT")
    }

    /// Somebody of another group has read the same records, and commits them when all are in the tables already.
    fn come_second(&mut self, fail_points: &[FailPoint]) -> Result<()> {
        for point in fail_points {
            let port = free_port()?;
            let page = http::loopback(port);
            let program = self.second_ingester("1h");
            let program = program.env("LOGINLAKE_HTTP", page.to_string());
            let mut second = point.kills(program, 1).start()?;
            self.load.phase("two groups", || {
                second.wait_until("it to hold rows", LIMIT, || {
                    let bytes = http::metric(page, "ingest_buffered_bytes").unwrap_or(0.0);
                    Ok((bytes > 0.0).then_some(()))
                })
            })?;
            let ends = self.progress.ends()?;
            self.log.wait_stored(&ends, LIMIT)?;
            second.signal(Signal::Terminate)?;
            ensure!(died(second, LIMIT)?, "{point:?} was not passed");
            self.hit.push(point.name.clone());
            self.check(&point.name)?;
        }
        Ok(())
    }

    fn lose_the_store(&mut self) -> Result<()> {
        let (scenario, crew) = (self.scenario, &mut self.crew);
        self.load.phase("the store is away", || {
            scenario.minio.kill();
            for process in crew {
                process.wait_says("trying again", LIMIT)?;
            }
            scenario.minio.start_again()
        })?;
        self.check_all("SIGKILL of the store")
    }

    fn lose_replies(&mut self) -> Result<()> {
        self.proxy.set(Weather::LosesCommits);
        let losses = self.proxy.losses();
        for _ in 0..PHASES {
            self.load.phase("replies are lost", || Ok(()))?;
            self.check_all("lost requests and replies")?;
            let counts = [&losses.replies_lost, &losses.answered_503, &losses.requests_lost];
            if counts.iter().all(|count| count.load(Ordering::SeqCst) >= 2) {
                self.proxy.set(Weather::Fair);
                return Ok(());
            }
        }
        anyhow::bail!("too little was lost: {losses:?}")
    }

    /// Everybody leaves, and retention takes what nobody has read.
    fn lose_records(&mut self, fail_points: &[FailPoint]) -> Result<()> {
        for process in self.crew.drain(..) {
            process.terminate(LIMIT)?;
        }
        self.check_all("all left")?;
        let topic = self.scenario.input_topic();
        let stood = self.progress.ends()?[&0];
        self.load.phase("nobody reads", || Ok(()))?;
        let (low, end) = (stood + LOST, self.progress.ends()?[&0]);
        ensure!(low < end, "partition 0 ends at {end}");
        let input = input_positions(self.scenario)?;
        let ends = self.progress.ends()?;
        assert_eq!(
            input.len() as u64,
            self.load.events(),
            "offsets without a record between them"
        );
        assert_eq!(ends.values().sum::<i64>() as u64, self.load.events());

        self.scenario.kafka.delete_records(&topic, 0, low)?;
        let halted = self.ingester().arg("--exit-at-end").run(LIMIT)?;
        assert_eq!(halted.code, 3, "{}", halted.stderr);
        self.gaps.insert(0, (stood, low));
        let gap = format!("0:{stood}-{low}");
        for point in fail_points {
            let program = self.ingester().arg("--exit-at-end");
            let program = program.args(["--accept-gap", &gap]);
            let process = point.kills(program, 1).start()?;
            ensure!(died(process, LIMIT)?, "{point:?} was not passed");
            self.hit.push(point.name.clone());
            let log = self.log.read_on()?;
            let accepted = log.iter().filter(|commit| !commit.gaps.is_empty()).count();
            assert_eq!(accepted, usize::from(point.name == "after-gap-commit"));
        }
        // The other story may have the point that comes after the commit.
        if !fail_points.iter().any(|point| point.name == "after-gap-commit") {
            let program = self.ingester().arg("--exit-at-end");
            program.args(["--accept-gap", &gap]).run_ok(LIMIT)?;
        }
        self.check("a gap was accepted")
    }

    fn end(&mut self) -> Result<()> {
        self.ingester().arg("--exit-at-end").run_ok(LIMIT)?;
        let standing = counts_are_exact(self.scenario, &mut self.log, &self.gaps)?;
        assert_eq!(standing, self.progress.ends()?);
        let reader = self.scenario.reader();
        let count = |table| reader.number(table, "SELECT count(*) FROM t");
        let (logins, rejected) = (count("logins")?, count("rejected")?);
        println!(
            "{}: {} events = {logins} logins + {rejected} rejected + {LOST} lost, {} commits, exact at {} versions, {:.0} s",
            self.name,
            self.load.events(),
            self.log.read_on()?.len(),
            self.checks,
            self.began.elapsed().as_secs_f64()
        );
        assert_eq!((logins + rejected + LOST) as u64, self.load.events());
        Ok(())
    }
}
