//! `olap audit` beside both paths is clean as long as nothing is wrong: with transaction markers and aborted records, after
//! compaction, restore, erasure and accepted gaps, whatever retention and compaction took of the topics, with a speed path that
//! filters, and while both paths run.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::audits::{
    Found, beside, beside_all, both_paths_to_the_end, clean, copy_of, copy_topic, filled, finds,
    of_partitions, produce, wrong,
};
use loginlake_scenarios::exactness::{position, positions};
use loginlake_scenarios::kafka::Record;
use loginlake_scenarios::parts::{self, Part};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::reader::Reader;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::side_lake::SideLake;
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

const PARTITIONS: i32 = 3;
const EVENTS: u64 = 1_200;
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        a_lake_that_is_right_is_clean_whatever_was_done_to_it,
        what_retention_and_compaction_took_of_the_topics_is_no_damage,
        a_compacted_input_is_no_damage,
        a_filtering_speed_path_is_no_damage,
        an_audit_beside_running_paths_is_clean,
        the_memory_does_not_change_the_report,
    ])
}

/// A clean report, whose sums agree in each partition, and which counts all these records.
fn is_clean(scenario: &Scenario, records: usize) -> Result<Value> {
    let report = clean(&beside_all(scenario, &scenario.lake()))?;
    let mut compared = 0;
    for partition in report["partitions"].as_array().context("no partitions")? {
        let input = &partition["input"];
        if partition["erased"] == 0 {
            assert_eq!(input["rows"], input["records"], "{partition}");
            assert_eq!(input["rows_sum"], input["records_sum"], "{partition}");
        }
        let speed_path = &partition["speed_path"];
        if partition["erased"] == 0 && partition["given_up"] == 0 {
            assert_eq!(speed_path["rows"], speed_path["records"], "{partition}");
            assert_eq!(speed_path["rows_sum"], speed_path["records_sum"], "{partition}");
            assert_eq!(speed_path["rows"], input["rows"], "all of it: {partition}");
        }
        compared += input["records"].as_u64().unwrap_or_default();
    }
    assert_eq!(compared, records as u64, "{report}");
    Ok(report)
}

fn a_lake_that_is_right_is_clean_whatever_was_done_to_it() -> Result<()> {
    let scenario = Scenario::new("audit-clean")?;
    let topic = scenario.input_topic();
    scenario.create_topics_of(PARTITIONS)?;
    // Offsets of markers and of aborted records are nowhere; the last partition has nothing but those at first.
    let text = std::fs::read(parts::top().join("data/sample_events.ndjson"))?;
    let payloads: Vec<&[u8]> = text.split(|byte| *byte == b'\n').take(120).collect();
    let producer = scenario.kafka.transactions("audit-clean")?;
    for (round, partitions) in [PARTITIONS - 1, PARTITIONS, PARTITIONS - 1, PARTITIONS]
        .into_iter()
        .enumerate()
    {
        producer.begin()?;
        for (payload, partition) in payloads.iter().zip((0..partitions).cycle()) {
            producer.send(&topic, partition, &format!("key {round}"), payload)?;
        }
        match partitions == PARTITIONS {
            true => producer.abort()?,
            false => producer.commit()?,
        }
    }
    both_paths_to_the_end(&scenario)?;
    is_clean(&scenario, 240).context("transactions")?;
    produce(&scenario, EVENTS, 1)?;
    both_paths_to_the_end(&scenario)?;
    is_clean(&scenario, 240 + EVENTS as usize).context("two batches")?;

    let lake = SideLake::new(&scenario, "lake");
    let version = lake.commits("logins")?.len() - 2;
    scenario.olap("compact").arg("--all").run_ok(LIMIT)?;
    scenario.olap("refresh").run_ok(LIMIT)?;
    is_clean(&scenario, 240 + EVENTS as usize).context("compacted, with the hourly view")?;
    scenario
        .olap("restore")
        .args(["--to", &version.to_string()])
        .run_ok(LIMIT)?;
    clean(&beside_all(&scenario, &scenario.lake())).context("restored")?;
    both_paths_to_the_end(&scenario)?;
    is_clean(&scenario, 240 + EVENTS as usize).context("read again")?;

    let input = scenario.kafka.read_committed(&topic)?;
    let user = input.iter().rev().find_map(user_of).context("no good record")?;
    scenario.olap("erase").args(["--user", &user]).run_ok(LIMIT)?;
    let report = is_clean(&scenario, input.len()).context("erased")?;
    let erased: u64 = of_partitions(&report, "erased").iter().sum();
    assert!(erased > 0, "{report}");

    // Records that the speed path has handled, and that the topic lost before the batch path came.
    produce(&scenario, 300, 2)?;
    scenario.realtime().arg("--exit-at-end").run_ok(LIMIT)?;
    let stood = lake.next_offsets()?[&0];
    scenario.kafka.delete_records(&topic, 0, stood + 20)?;
    let gap = format!("0:{stood}-{}", stood + 20);
    scenario
        .ingest()
        .args(["--exit-at-end", "--accept-gap", &gap])
        .run_ok(LIMIT)?;
    let report = clean(&beside_all(&scenario, &scenario.lake())).context("a gap was accepted")?;
    assert_eq!(of_partitions(&report, "given_up"), [20, 0, 0]);
    // Whatever fits the memory.
    let careful = beside_all(&scenario, &scenario.lake()).args(["--memory-budget", "1MiB"]);
    assert_eq!(clean(&careful)?, report);
    let positions_only = beside_all(&scenario, &scenario.lake()).args(["--compare", "positions"]);
    clean(&positions_only).map(drop)
}

/// The user of a good record.
fn user_of(record: &Record) -> Option<String> {
    let value: Value = serde_json::from_slice(record.payload.as_ref()?).ok()?;
    let user = value["user_id"].as_str()?;
    (user.len() == 36).then(|| user.to_ascii_lowercase())
}

fn what_retention_and_compaction_took_of_the_topics_is_no_damage() -> Result<()> {
    let scenario = filled("audit-retention", PARTITIONS, EVENTS, 21)?;
    let (input, output) = (scenario.input_topic(), scenario.output_topic());
    let letters = scenario.dead_letter_topic();
    let whole = is_clean(&scenario, EVENTS as usize)?;

    let lake = copy_of(&scenario, "lake", "copy")?;
    let newest = "SELECT kafka_partition, max(kafka_offset) FROM t WHERE kafka_partition = 0 GROUP BY 1";
    let rows = Reader::new(&lake, Vec::new()).query("logins", newest)?;
    let last = position(rows.first().context("no rows")?)?;
    let lost = format!("{output}.lost");
    copy_topic(&scenario, &output, &lost, |at| usize::from(at != last))?;

    // The output topics, not as far in each partition, and further than the input.
    let cut = |topic: &str, partition: i32, share: i64| -> Result<()> {
        let ends = Progress::watch(&scenario.kafka, topic, "nobody")?.stable_ends()?;
        scenario
            .kafka
            .delete_records(topic, partition, ends[&partition] * share / 10)
    };
    for topic in [&output, &lost] {
        cut(topic, 0, 4)?;
        cut(topic, 1, 6)?;
    }
    cut(&letters, 1, 5)?;
    cut(&input, 0, 2)?;
    let report = clean(&beside_all(&scenario, &scenario.lake())).context("retention")?;
    let less = |name: &str| {
        let of = |report: &Value| -> u64 {
            let partitions = report["partitions"].as_array().into_iter().flatten();
            partitions
                .map(|partition| partition[name]["rows"].as_u64().unwrap_or_default())
                .sum()
        };
        of(&report) > 0 && of(&report) < of(&whole)
    };
    ensure!(less("input") && less("speed_path"), "{report:#}");
    // What is left is judged still, up to what the group has committed.
    finds(
        &beside(&scenario, &lake, &lost, &letters),
        &[Found::at("not_published", last)],
        &[],
    )
    .context("the newest record")?;
    // Nothing at all is left.
    for partition in 0..2 {
        cut(&output, partition, 10)?;
        cut(&letters, partition, 10)?;
    }
    clean(&beside_all(&scenario, &scenario.lake()))
        .map(drop)
        .context("nothing is left")
}

fn a_compacted_input_is_no_damage() -> Result<()> {
    let scenario = Scenario::new("audit-compacted")?;
    let topic = scenario.input_topic();
    scenario.create_topics_of(1)?;
    let text = std::fs::read(parts::top().join("data/sample_events.ndjson"))?;
    let payloads = text.split(|byte| *byte == b'\n').take(200);
    let records = payloads
        .enumerate()
        .map(|(number, payload)| (format!("key {}", number % 7), payload.to_vec()));
    scenario.kafka.produce(&topic, records)?;
    both_paths_to_the_end(&scenario)?;
    let before = scenario.kafka.read_committed(&topic)?;
    scenario.kafka.set_topic(
        &topic,
        &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "100"),
            ("min.cleanable.dirty.ratio", "0.001"),
            ("max.compaction.lag.ms", "100"),
        ],
    )?;
    // The cleaner leaves the newest segment, which a further record begins.
    wait_for("the cleaner", LIMIT, || {
        scenario
            .kafka
            .produce(&topic, [("another".to_owned(), b"{}".to_vec())])?;
        Ok((scenario.kafka.read_committed(&topic)?.len() < before.len()).then_some(()))
    })?;
    both_paths_to_the_end(&scenario)?;
    let report = clean(&beside_all(&scenario, &scenario.lake()))?;
    let notes = report["notes"].to_string();
    ensure!(notes.contains("which is compacted"), "{notes}");
    Ok(())
}

fn a_filtering_speed_path_is_no_damage() -> Result<()> {
    let scenario = Scenario::new("audit-filtered")?;
    scenario.create_topics_of(PARTITIONS)?;
    produce(&scenario, EVENTS, 31)?;
    let realtime = scenario.realtime().args(["--drop", "device_type missing"]);
    realtime.arg("--exit-at-end").run_ok(LIMIT)?;
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    let audit = beside_all(&scenario, &scenario.lake());
    let (found, report) = wrong(&audit)?;
    ensure!(
        found.iter().all(|found| found.what == "not_published"),
        "{report:#}"
    );
    clean(&audit.arg("--filtered")).map(drop)
}

fn an_audit_beside_running_paths_is_clean() -> Result<()> {
    const ROUNDS: u64 = 4;
    let scenario = Scenario::new("audit-live")?;
    scenario.create_topics_of(PARTITIONS)?;
    let realtime = [scenario.realtime().start()?, scenario.realtime().start()?];
    let ingest = scenario.ingest().args(["--max-batch-age", "300ms"]).start()?;
    let lake = SideLake::new(&scenario, "lake");
    let generator = scenario.generate(ROUNDS * 2_000, 61);
    let generator = generator.args(["--bad-share", "0.1", "--rate", "500"]).start()?;
    wait_for("the first commits", LIMIT, || {
        let rows = lake.next_offsets()?.values().sum::<i64>();
        Ok((rows > 500).then_some(()))
    })?;
    for _ in 0..ROUNDS {
        clean(&beside_all(&scenario, &scenario.lake()))?;
    }
    generator.wait_exit(LIMIT)?.ok()?;
    for process in realtime.into_iter().chain([ingest]) {
        process.terminate(LIMIT)?;
    }
    both_paths_to_the_end(&scenario)?;
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    assert_eq!(positions(&input).count() as u64, ROUNDS * 2_000);
    is_clean(&scenario, input.len()).map(drop)
}

/// More than one pass over files and topics: the last ones find what the first ones would.
fn the_memory_does_not_change_the_report() -> Result<()> {
    /// Above 107,546 a mebibyte is too small for one pass.
    const MANY: u64 = 150_000;
    let scenario = filled("audit-memory", PARTITIONS, MANY, 71)?;
    let little = ["--memory-budget", "1MiB"];
    let whole = is_clean(&scenario, MANY as usize)?;
    let audit = beside_all(&scenario, &scenario.lake());
    assert_eq!(clean(&audit.args(little))?, whole);

    let lake = copy_of(&scenario, "lake", "copy")?;
    let reader = Reader::new(&lake, Vec::new());
    for partition in 0..PARTITIONS {
        let newest = format!(
            "SELECT kafka_partition, max(kafka_offset) FROM t WHERE kafka_partition = {partition} GROUP BY 1"
        );
        let rows = reader.query("logins", &newest)?;
        let at = position(rows.first().context("no rows")?)?;
        reader.damage("logins", "change", at)?;
    }
    let audit = beside_all(&scenario, &lake);
    let (found, report) = wrong(&audit)?;
    let differing = found.iter().filter(|found| found.what == "row_differs").count();
    assert_eq!(differing, PARTITIONS as usize, "{report:#}");
    assert_eq!(wrong(&audit.args(little))?, (found, report));
    Ok(())
}
