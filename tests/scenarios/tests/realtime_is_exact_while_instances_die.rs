//! Instances of `realtime run` die, freeze, come back, join and leave under load. Every committed input record is on one
//! of the two output topics exactly once (invariant 1), the committed offsets never go back and are the ends of the topic
//! (invariant 2), nothing of an aborted transaction is seen (invariant 3), and order is kept (invariant 4); by both group
//! protocols. At least once, records may repeat, and the rest holds. The group never stands still for longer than a
//! rebalance.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::exactness::{input_positions, published_at_least_once, published_each_once};
use loginlake_scenarios::http;
use loginlake_scenarios::kafka::SESSION_TIMEOUT_MS;
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Program, Signal};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, events, free_port};
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::watch::Watch;
use loginlake_scenarios::{entries, runner};

const EVENTS: u64 = 48_000;
const PARTITIONS: i32 = 8;
const PHASES: u64 = 5;
/// Rebalances that the instance which is there from the beginning must have seen when it leaves.
const REBALANCES: f64 = 5.0;
/// Silence until a member is out (the session), then until all others have joined again (at most the time between two
/// polls, which is as long here), and as much again for a machine that is busy with something else.
const LONGEST_STOP: Duration = Duration::from_millis(4 * SESSION_TIMEOUT_MS as u64);
/// How long a step takes on the slowest machine, and for so many events more at the rate of a debug build.
const LIMIT: Duration = Duration::from_secs(180);
const EVENTS_PER_SECOND: u64 = 2_000;

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        exactly_once_by_the_classic_group_protocol,
        exactly_once_by_the_newer_group_protocol,
        at_least_once_by_the_classic_group_protocol,
        at_least_once_by_the_newer_group_protocol,
        exactly_once_with_two_workers_in_each_instance,
        two_instances_of_one_transactional_id,
    ])
}

fn exactly_once_by_the_classic_group_protocol() -> Result<()> {
    Story::new("realtime-classic", 11, true)?.instances_come_and_go()
}

fn exactly_once_by_the_newer_group_protocol() -> Result<()> {
    Story::new("realtime-newer", 12, false)?.instances_come_and_go()
}

fn at_least_once_by_the_classic_group_protocol() -> Result<()> {
    Story::new("repeating-classic", 13, true)?
        .at_least_once()
        .instances_come_and_go()
}

fn at_least_once_by_the_newer_group_protocol() -> Result<()> {
    Story::new("repeating-newer", 14, false)?
        .at_least_once()
        .instances_come_and_go()
}

fn exactly_once_with_two_workers_in_each_instance() -> Result<()> {
    let mut story = Story::new("realtime-workers", 15, false)?;
    story.workers = "2";
    story.instances_come_and_go()
}

/// What all of them have in common.
struct Story {
    scenario: Scenario,
    name: &'static str,
    seed: u64,
    events: u64,
    limit: Duration,
    properties: Vec<String>,
    exactly_once: bool,
    workers: &'static str,
}

impl Story {
    fn new(name: &'static str, seed: u64, classic: bool) -> Result<Story> {
        let scenario = Scenario::new(name)?;
        scenario.create_topics_of(PARTITIONS)?;
        // What a dead instance left open holds its partitions back for so long.
        fs::write(
            scenario.dir().join("quick.toml"),
            "[realtime]\ntransaction-timeout = \"5s\"\n",
        )?;
        let protocol = if classic {
            vec![
                format!("session.timeout.ms={SESSION_TIMEOUT_MS}"),
                "heartbeat.interval.ms=500".to_owned(),
            ]
        } else {
            vec!["group.protocol=consumer".to_owned()]
        };
        // Frozen past its session means past the longest time between two polls, too.
        let poll = format!("max.poll.interval.ms={SESSION_TIMEOUT_MS}");
        let events = events(EVENTS)?;
        Ok(Story {
            scenario,
            name,
            seed,
            events,
            limit: LIMIT + Duration::from_secs(events / EVENTS_PER_SECOND),
            properties: [protocol, vec![poll]].concat(),
            exactly_once: true,
            workers: "1",
        })
    }

    fn at_least_once(mut self) -> Story {
        self.exactly_once = false;
        self
    }

    fn instance(&self, id: &str) -> Program {
        let program = self
            .properties
            .iter()
            .fold(self.scenario.realtime(), |program, property| {
                program.args(["-X", property])
            });
        let guarantee = if self.exactly_once {
            "exactly-once"
        } else {
            "at-least-once"
        };
        program
            .args(["--config", "quick.toml", "--guarantee", guarantee])
            .args(["--workers", self.workers])
            .args(["--transactional-id", &format!("{}-{id}", self.name)])
    }

    fn progress(&self) -> Result<Progress> {
        let scenario = &self.scenario;
        Progress::watch(
            &scenario.kafka,
            &scenario.input_topic(),
            &scenario.realtime_group(),
        )
    }

    fn watch(&self) -> Result<Watch> {
        let scenario = &self.scenario;
        Watch::start(
            &scenario.kafka,
            &scenario.input_topic(),
            &scenario.realtime_group(),
        )
    }

    fn instances_come_and_go(&self) -> Result<()> {
        let progress = self.progress()?;
        let mut load = Load::of(&self.scenario, &progress, self.events, PHASES, self.seed);
        let all_is_committed = |when: &'static str| progress.wait_all_committed(self.limit).context(when);
        let watch = self.watch()?;

        let page = http::loopback(free_port()?);
        let first = self.instance("first").start()?;
        let second = self.instance("second").start()?;
        let third = self
            .instance("third")
            .args(["--http", &page.to_string()])
            .start()?;
        load.phase("three instances join", || Ok(()))?;
        all_is_committed("three instances")?;

        load.phase("one is killed", || {
            first.kill();
            Ok(())
        })?;
        all_is_committed("one was killed")?;

        // It comes back under its old name, and takes its transactions over.
        let first = self.instance("first").start()?;
        load.phase("one is frozen", || second.signal(Signal::Stop))?;
        all_is_committed("one is frozen past its session")?;

        let mut fourth = None;
        load.phase("the frozen one goes on, a new one joins", || {
            second.signal(Signal::Continue)?;
            fourth = Some(self.instance("fourth").start()?);
            Ok(())
        })?;
        all_is_committed("the frozen one went on, a new one joined")?;
        let rebalances = http::metric(page, "realtime_rebalances_total")?;

        load.phase("one leaves", || third.terminate(self.limit).map(drop))?;
        let seen = watch.end()?;
        for process in [Some(first), Some(second), fourth].into_iter().flatten() {
            process
                .terminate(self.limit)
                .context("all leave before everything is read")?;
        }
        self.instance("last").arg("--exit-at-end").run_ok(self.limit)?;

        println!(
            "{}: {} events, {rebalances} rebalances, {seen:?}",
            self.name,
            load.events()
        );
        ensure!(rebalances >= REBALANCES, "only {rebalances} rebalances");
        ensure!(
            seen.longest_stop < LONGEST_STOP,
            "the group stood still: {seen:?}"
        );
        self.everything_is_published(&progress, load.events())
    }

    fn everything_is_published(&self, progress: &Progress, events: u64) -> Result<()> {
        let input = input_positions(&self.scenario)?;
        assert_eq!(input.len(), events);
        if self.exactly_once {
            published_each_once(&self.scenario, &input)?;
        } else {
            let repeats = published_at_least_once(&self.scenario, &input)?;
            println!("{}: {repeats} repeats", self.name);
        }
        assert_eq!(progress.committed()?, progress.ends()?);
        Ok(())
    }
}

/// They fence each other again and again, until one of them has enough and names the setting that is wrong. Nothing is lost,
/// nothing is there twice.
fn two_instances_of_one_transactional_id() -> Result<()> {
    let story = Story::new("one-transactional-id", 16, true)?;
    let progress = story.progress()?;
    let mut load = Load::of(&story.scenario, &progress, story.events, PHASES, story.seed);
    let watch = story.watch()?;
    let mut twins: Vec<Process> = vec![story.instance("twin").start()?, story.instance("twin").start()?];
    let loser = wait_for("one of the two to give up", story.limit, || {
        load.phase("two of one name", || Ok(()))?;
        for index in 0..twins.len() {
            if twins[index].has_ended()? {
                return Ok(Some(twins.remove(index)));
            }
        }
        Ok(None)
    })?;
    let loser = loser.wait_exit(story.limit)?;
    assert_eq!(loser.code, 3, "{}", loser.stderr);
    assert!(loser.stderr.contains("--transactional-id"), "{}", loser.stderr);

    // The other one has it for itself now, unless it has had enough as well.
    for mut twin in twins {
        if !twin.has_ended()? {
            twin.signal(Signal::Terminate)?;
        }
        let twin = twin.wait_exit(story.limit)?;
        assert!([0, 3].contains(&twin.code), "{}: {}", twin.code, twin.stderr);
    }
    watch.end()?;
    story.instance("twin").arg("--exit-at-end").run_ok(story.limit)?;
    story.everything_is_published(&progress, load.events())
}
