//! A former member of the group has left a transaction open, with offsets in it: nobody knows yet where the group has come to. The
//! partitions are waited for, whoever joins and leaves meanwhile, and then read from the committed offsets, not from the beginning
//! (invariants 1 and 2). librdkafka by itself begins anew when the assignment changes while it waits.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use loginlake_scenarios::exactness::{input_positions, published_each_once};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::Program;
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{entries, runner};

const PARTITIONS: i32 = 8;
const EVENTS: u64 = 4_000;
const LIMIT: Duration = Duration::from_secs(120);
const CLASSIC: &str = "session.timeout.ms=10000";
const NEWER: &str = "group.protocol=consumer";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        by_the_classic_group_protocol,
        by_the_newer_group_protocol,
    ])
}

fn by_the_classic_group_protocol() -> Result<()> {
    members_come_while_a_transaction_is_open("offsets-classic", CLASSIC)
}

fn by_the_newer_group_protocol() -> Result<()> {
    members_come_while_a_transaction_is_open("offsets-newer", NEWER)
}

fn members_come_while_a_transaction_is_open(name: &str, property: &str) -> Result<()> {
    let scenario = Scenario::new(name)?;
    scenario.create_topics_of(PARTITIONS)?;
    let instance = |id: &str| -> Program {
        let program = scenario.realtime().args(["-X", property]);
        program.args(["--transactional-id", &format!("{name}-{id}")])
    };
    scenario.generate(EVENTS, 1).run_ok(LIMIT)?;
    instance("before").arg("--exit-at-end").run_ok(LIMIT)?;
    let (topic, group) = (scenario.input_topic(), scenario.realtime_group());
    let progress = Progress::watch(&scenario.kafka, &topic, &group)?;
    let committed = progress.committed()?;
    ensure!(committed.len() == PARTITIONS as usize, "{committed:?}");

    let former = scenario.kafka.transactions(&format!("{name}-former"))?;
    former.begin()?;
    former.send_offsets(&scenario.kafka, &group, &topic, &committed)?;

    // Each change of the partitions meets answers that are under way.
    let mut members = Vec::new();
    for id in ["first", "second", "third"] {
        let mut member = instance(id).start()?;
        member.wait_has_said("waiting for the group's offsets", LIMIT)?;
        members.push(member);
    }
    members.remove(0).terminate(LIMIT)?;
    scenario.generate(EVENTS, 2).run_ok(LIMIT)?;
    former.abort()?;

    progress.wait_all_committed(LIMIT)?;
    for member in members {
        member.terminate(LIMIT)?;
    }
    let input = input_positions(&scenario)?;
    assert_eq!(input.len() as u64, 2 * EVENTS);
    published_each_once(&scenario, &input)?;
    assert_eq!(progress.committed()?, progress.ends()?);
    Ok(())
}
