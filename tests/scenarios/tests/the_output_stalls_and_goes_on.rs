//! The output stalls while `realtime run` is at work: the broker is away, the topic is read-only, records are too large for
//! it, a quota holds the producer back, a replica is missing. The service says so, waits, and goes on by itself when that is
//! over. Nothing is lost, no bad record stops a partition, and one process lives through all of it (invariants 1, 4, 12).
//! At least once, a batch that the topic refuses comes after those behind it: order is looked at with exactly once only.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::exactness::{input_positions, published_each_once, published_in_some_order};
use loginlake_scenarios::http;
use loginlake_scenarios::kafka::Kafka;
use loginlake_scenarios::parts::{self, Part};
use loginlake_scenarios::process::Process;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::{Scenario, free_port, run_dir};
use loginlake_scenarios::{entries, runner};

const LIMIT: Duration = Duration::from_secs(120);
/// Events that are there when the broker dies; the service has handled a part of them.
const EVENTS: u64 = 30_000;
/// Events that come in while the output topic is read-only, or a replica is missing.
const WAITING: u64 = 500;
/// Events that come in while the producer may write so little: some seconds' worth.
const THROTTLED: u64 = 8_000;
const QUOTA_BYTES_PER_SECOND: u32 = 50_000;
/// Largest batch that the output topic takes for a while, and the length of keys that do not fit into it.
const MAX_MESSAGE_BYTES: &str = "4096";
const LARGE_KEY: usize = 20_000;
/// Every so many records one is too large, of so many.
const LARGE_EVERY: usize = 100;
const RECORDS: usize = 400;

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        exactly_once_lives_through_every_stall,
        at_least_once_lives_through_every_stall,
        exactly_once_waits_for_a_missing_replica,
        at_least_once_waits_for_a_missing_replica,
    ])
}

fn exactly_once_lives_through_every_stall() -> Result<()> {
    live_through_every_stall("stalls-exactly", "exactly-once")
}

fn at_least_once_lives_through_every_stall() -> Result<()> {
    live_through_every_stall("stalls-repeating", "at-least-once")
}

fn live_through_every_stall(name: &str, guarantee: &'static str) -> Result<()> {
    let kafka = Kafka::start_guarded(&run_dir()?.join(format!("{name}-kafka")))?;
    let scenario = Scenario::on(name, Arc::new(kafka))?;
    scenario.create_topics()?;
    let mut stall = Stall::start(scenario, guarantee)?;
    stall.broker_away().context("the broker is away")?;
    stall.read_only().context("the output topic is read-only")?;
    let large = stall
        .too_large()
        .context("records are too large for the output topic")?;
    stall.throttled().context("a quota holds the producer back")?;
    stall.end(large)
}

fn exactly_once_waits_for_a_missing_replica() -> Result<()> {
    wait_for_a_missing_replica("replica-exactly", "exactly-once")
}

fn at_least_once_waits_for_a_missing_replica() -> Result<()> {
    wait_for_a_missing_replica("replica-repeating", "at-least-once")
}

fn wait_for_a_missing_replica(name: &str, guarantee: &'static str) -> Result<()> {
    let dir = run_dir()?;
    let scenario = Scenario::on(name, Arc::new(Kafka::start(&dir.join(format!("{name}-kafka")))?))?;
    let kafka = &scenario.kafka;
    for topic in [
        scenario.input_topic(),
        scenario.dead_letter_topic(),
        scenario.insights_topic(),
    ] {
        kafka.create_topic(&topic, 2)?;
    }
    // The topics of Kafka's own come into being here: what is there before the second broker is stays on the first.
    kafka.committed_offsets(&scenario.realtime_group(), &scenario.input_topic())?;
    drop(kafka.transactions("first")?);
    let follower = kafka.start_follower(&dir.join(format!("{name}-follower")))?;
    kafka.create_topic_with(&scenario.output_topic(), 2, 2, &[("min.insync.replicas", "2")])?;
    let mut stall = Stall::start(scenario, guarantee)?;
    follower.kill();
    stall.produce(WAITING)?;
    stall.wait_ready(false)?;
    follower.start_again()?;
    stall.wait_all_committed()?;
    stall.wait_ready(true)?;
    stall.end(0)
}

/// One service and what happens to its output.
struct Stall {
    scenario: Scenario,
    progress: Progress,
    process: Process,
    page: std::net::SocketAddr,
    guarantee: &'static str,
    seed: u64,
}

impl Stall {
    /// A service that has published a first load.
    fn start(scenario: Scenario, guarantee: &'static str) -> Result<Stall> {
        let page = http::loopback(free_port()?);
        let process = scenario
            .realtime()
            .args(["--guarantee", guarantee])
            .args(["--http", &page.to_string()])
            .start()?;
        let progress = Progress::watch(
            &scenario.kafka,
            &scenario.input_topic(),
            &scenario.realtime_group(),
        )?;
        let mut stall = Stall {
            scenario,
            progress,
            process,
            page,
            guarantee,
            seed: 31,
        };
        stall.produce(WAITING)?;
        stall.wait_all_committed()?;
        stall.wait_ready(true)?;
        Ok(stall)
    }

    fn broker_away(&mut self) -> Result<()> {
        let before = self.committed()?;
        self.produce(EVENTS)?;
        let progress = &self.progress;
        self.process
            .wait_until("it is in the middle of the load", LIMIT, || {
                let committed: i64 = progress.committed()?.values().sum();
                Ok((committed > before).then_some(()))
            })?;
        self.scenario.kafka.kill();
        self.wait_ready(false)?;
        self.scenario.kafka.start_again()?;
        self.wait_all_committed()?;
        self.wait_ready(true)
    }

    fn read_only(&mut self) -> Result<()> {
        let topic = self.scenario.output_topic();
        let before = self.committed()?;
        self.scenario.kafka.make_read_only(&topic)?;
        self.produce(WAITING)?;
        self.wait_ready(false)?;
        assert_eq!(self.committed()?, before, "nothing of it can be published");
        self.scenario.kafka.make_writable(&topic)?;
        self.wait_all_committed()?;
        self.wait_ready(true)
    }

    /// Returns how many records were too large.
    fn too_large(&mut self) -> Result<usize> {
        let (kafka, topic) = (&self.scenario.kafka, self.scenario.output_topic());
        kafka.set_topic(&topic, &[("max.message.bytes", MAX_MESSAGE_BYTES)])?;
        let sample = std::fs::read(parts::top().join("data/sample_events.ndjson"))?;
        let good = sample.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let key = |number: usize| match number % LARGE_EVERY {
            0 => large_key(number),
            _ => format!("key-{number}"),
        };
        let records = (0..RECORDS).map(|number| (key(number), good.to_vec()));
        kafka.produce(&self.scenario.input_topic(), records)?;
        self.wait_all_committed()?;
        self.wait_ready(true)?;
        self.scenario.kafka.set_topic(&topic, &[])?;
        Ok(RECORDS / LARGE_EVERY)
    }

    fn throttled(&mut self) -> Result<()> {
        self.scenario.kafka.set_quota(QUOTA_BYTES_PER_SECOND)?;
        self.produce(THROTTLED)?;
        let page = self.page;
        self.process
            .wait_until("it says that it is held back", LIMIT, || {
                let held_back = http::metric_with(page, "realtime_throttled_seconds", "producer")?;
                Ok((held_back > 0.0).then_some(()))
            })?;
        let ends: i64 = self.progress.ends()?.values().sum();
        ensure!(self.committed()? < ends, "the quota held nothing back");
        self.scenario.kafka.lift_quota()?;
        self.wait_all_committed()?;
        self.wait_ready(true)
    }

    /// Everything is published; of the dead letters so many say that the output topic refused a record, and these are the
    /// large ones.
    fn end(self, large: usize) -> Result<()> {
        self.process.terminate(LIMIT)?;
        let input = input_positions(&self.scenario)?;
        if self.guarantee == "exactly-once" {
            published_each_once(&self.scenario, &input)?;
        } else {
            published_in_some_order(&self.scenario, &input)?;
        }
        assert_eq!(self.progress.committed()?, self.progress.ends()?);
        let letters = self
            .scenario
            .kafka
            .read_committed(&self.scenario.dead_letter_topic())?;
        let mut refused = BTreeSet::new();
        for letter in &letters {
            let is_refused = letter
                .headers
                .get("error.reason")
                .is_some_and(|reason| reason == "OUTPUT_REFUSED");
            let is_large = letter.key.as_ref().is_some_and(|key| key.len() >= LARGE_KEY);
            assert_eq!(
                is_refused,
                is_large,
                "{:?} {:?}",
                letter.headers,
                letter.source_position()?
            );
            if is_refused {
                refused.insert(letter.source_position()?);
            }
        }
        assert_eq!(refused.len(), large);
        Ok(())
    }

    fn produce(&mut self, events: u64) -> Result<()> {
        self.seed += 1;
        self.scenario
            .generate(events, self.seed)
            .args(["--bad-share", "0.02"])
            .run_ok(LIMIT)?;
        Ok(())
    }

    fn committed(&self) -> Result<i64> {
        Ok(self.progress.committed()?.values().sum())
    }

    fn wait_all_committed(&mut self) -> Result<()> {
        let (ends, progress) = (self.progress.ends()?, &self.progress);
        self.process.wait_until("everything is committed", LIMIT, || {
            Ok((progress.committed()? == ends).then_some(()))
        })
    }

    fn wait_ready(&mut self, wanted: bool) -> Result<()> {
        let page = self.page;
        let what = if wanted {
            "it is ready"
        } else {
            "it says that it is not ready"
        };
        self.process.wait_until(what, LIMIT, || {
            let answer = http::get(page, "/health/ready")?;
            Ok(((answer.status == 200) == wanted).then_some(()))
        })
    }
}

/// Not the same twice, and nothing that a compression makes small.
fn large_key(number: usize) -> String {
    let mut state = number as u64 + 1;
    let digit = |_| {
        // Knuth's MMIX generator; the high bits are the good ones.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + ((state >> 33) % 64) as u8)
    };
    (0..LARGE_KEY).map(digit).collect()
}
