//! `olap audit` beside both paths, on real topics and tables: every kind of damage, done by other software to a copy, is named
//! with its partition and offset, and with exit code 3. Lakes that hold a part of the topic are judged by what they should hold.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::audits::{
    Found, beside, beside_all, beside_input, clean, copy_again, copy_of, copy_topic, filled, finds,
    of_partitions, produce, wrong,
};
use loginlake_scenarios::exactness::{Position, position};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::reader::Reader;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::side_lake::SideLake;
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};

const PARTITIONS: i32 = 3;
const EVENTS: u64 = 1_200;
const LIMIT: Duration = Duration::from_secs(120);
/// One of those that are produced.
const DATE: &str = "2025-03-05";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        each_damage_is_found_at_its_partition_and_offset,
        lakes_of_one_date_and_lakes_begun_at_a_time_are_judged_by_what_they_should_hold,
        a_topic_that_was_made_again_is_found,
    ])
}

/// A row in the middle of a table.
fn some_row(reader: &Reader, table: &str) -> Result<Position> {
    let rows = reader.query(
        table,
        "SELECT kafka_partition, kafka_offset FROM t ORDER BY kafka_offset, kafka_partition",
    )?;
    position(rows.get(rows.len() / 2).context("no rows")?)
}

fn each_damage_is_found_at_its_partition_and_offset() -> Result<()> {
    let scenario = filled("audit-damages", PARTITIONS, EVENTS, 11)?;
    let whole = copy_of(&scenario, "lake", "whole")?;
    clean(&beside_all(&scenario, &whole))?;
    let reader = Reader::new(&whole, Vec::new());
    let (login, rejected) = (some_row(&reader, "logins")?, some_row(&reader, "rejected")?);
    // What other software does to a table is seen in its log, too; hours differ where rows do.
    let besides = ["unaudited", "hour_differs", "rows_do_not_add_up"];
    let damages: [(&str, &str, Position, &[&str]); 8] = [
        ("logins", "take", login, &["row_missing"]),
        ("rejected", "take", rejected, &["row_missing"]),
        ("logins", "double", login, &["row_twice"]),
        ("rejected", "double", rejected, &["row_twice"]),
        ("logins", "move", login, &["row_differs", "row_misplaced"]),
        ("logins", "change", login, &["row_differs"]),
        ("rejected", "change", rejected, &["row_differs"]),
        ("logins", "lose", login, &[]),
    ];
    for (number, (table, operation, at, names)) in damages.into_iter().enumerate() {
        let what = format!("{operation} of {table} at {at:?}");
        let damaged = copy_again(&whole, &format!("damaged-{number}"))?;
        Reader::new(&damaged, Vec::new())
            .damage(table, operation, at)
            .with_context(|| what.clone())?;
        let audit = beside_input(&scenario, &damaged);
        if operation == "lose" {
            a_lost_file_is_found(&scenario, &whole, &damaged)?;
            continue;
        }
        let wanted: Vec<Found> = names.iter().map(|name| Found::at(name, at)).collect();
        let report = finds(&audit, &wanted, &besides).with_context(|| what.clone())?;
        let told = report.to_string();
        let column = if table == "logins" {
            "device_type"
        } else {
            "reason"
        };
        if operation == "change" {
            ensure!(told.contains(&format!("in {table}.{column}")), "{what}: {told}");
        }
        if names.contains(&"row_missing") || names.contains(&"row_twice") {
            assert_eq!(report["hours_differing"], 1, "{what}: {told}");
            let hour = &report["hours"][0];
            let rows = hour["logins"].as_u64().zip(hour["rejected"].as_u64());
            let rows = rows.map(|(logins, rejected)| logins + rejected);
            let less = u64::from(names.contains(&"row_missing"));
            let more = 1 - less;
            assert_eq!(
                rows.map(|rows| rows + less),
                hour["records"].as_u64().map(|records| records + more),
                "{what}: {told}"
            );
        }
        // A row that is gone is missing beside the speed path as well.
        if operation == "take" {
            let wanted = [Found::at("row_missing", at), Found::at("published_extra", at)];
            finds(&beside_all(&scenario, &damaged), &wanted, &besides).with_context(|| what.clone())?;
        }
        // Without the topic what the log says is all there is.
        let alone = scenario.olap_on("audit", &damaged).args(["--format", "json"]);
        wrong(&alone).with_context(|| what)?;
    }
    the_log_moved_back_is_found(&scenario, &whole)?;
    damages_of_the_speed_path_are_found(&scenario, &whole, login, rejected)
}

/// The rows of the file, and no other.
fn a_lost_file_is_found(scenario: &Scenario, whole: &str, damaged: &str) -> Result<()> {
    let (found, report) = wrong(&beside_input(scenario, damaged))?;
    let missing: Vec<&Found> = found
        .iter()
        .filter(|found| found.what == "file_missing")
        .collect();
    assert_eq!(missing.len(), 1, "{report}");
    let findings = report["findings"].as_array().context("no findings")?;
    let file = findings.iter().find_map(|finding| finding["file"].as_str());
    let file = file.context("no file is named")?.to_owned();
    let name = file.rsplit('/').next().unwrap_or_default().to_owned();
    let path = std::path::Path::new(whole).join("logins").join(&file);
    ensure!(path.exists(), "{name} was in the whole lake");
    let count = |what: &str| -> u64 {
        let named = findings.iter().filter(|finding| finding["what"] == what);
        named
            .map(|finding| finding["count"].as_u64().unwrap_or_default())
            .sum()
    };
    assert_eq!(
        count("file_missing"),
        count("row_missing"),
        "each of its rows: {report}"
    );
    Ok(())
}

fn the_log_moved_back_is_found(scenario: &Scenario, whole: &str) -> Result<()> {
    let damaged = copy_again(whole, "damaged-log")?;
    let commits = SideLake::new(scenario, "lake").commits("logins")?;
    let newest = commits.last().context("no commits")?;
    let (app_id, stood) = commits
        .iter()
        .flat_map(|commit| &commit.transactions)
        .rfind(|(app_id, _)| app_id.ends_with("/1"))
        .context("no offsets")?;
    let (from, to) = (stood - 5, *stood);
    let lines = [
        serde_json::json!({"commitInfo": {"timestamp": 1, "operation": "STREAMING UPDATE", "engineInfo": "other/1"}}),
        serde_json::json!({"txn": {"appId": app_id, "version": from, "lastUpdated": 1}}),
    ];
    let name = format!("logins/_delta_log/{:020}.json", newest.version + 1);
    let text = format!("{}\n{}\n", lines[0], lines[1]);
    std::fs::write(std::path::Path::new(&damaged).join(name), text)?;
    let (found, report) = wrong(&beside_input(scenario, &damaged))?;
    let back = Found {
        what: "offsets_broken".to_owned(),
        partition: Some(1),
        offsets: vec![(from, to)],
    };
    ensure!(found.contains(&back), "{back:?}: {report:#}");
    let above: u64 = report["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|finding| finding["what"] == "above_committed" && finding["kafka_partition"] == 1)
        .map(|finding| finding["count"].as_u64().unwrap_or_default())
        .sum();
    ensure!(above > 0, "rows stand above the offset: {report:#}");
    Ok(())
}

fn damages_of_the_speed_path_are_found(
    scenario: &Scenario,
    whole: &str,
    login: Position,
    rejected: Position,
) -> Result<()> {
    let (output, letters) = (scenario.output_topic(), scenario.dead_letter_topic());
    let cases = [
        (&output, "processed-lost", login, 0, "not_published"),
        (&output, "processed-twice", login, 2, "published_twice"),
        (&letters, "letter-lost", rejected, 0, "not_published"),
        (&letters, "letter-twice", rejected, 2, "published_twice"),
    ];
    for (from, name, at, times, what) in cases {
        let topic = format!("{}.{name}", scenario.bucket());
        copy_topic(
            scenario,
            from,
            &topic,
            |position| if position == at { times } else { 1 },
        )?;
        let audit = match from == &output {
            true => beside(scenario, whole, &topic, &letters),
            false => beside(scenario, whole, &output, &topic),
        };
        finds(&audit, &[Found::at(what, at)], &[]).context(name)?;
        let repeats = audit.args(["--guarantee", "at-least-once"]);
        match times {
            2 => clean(&repeats).map(drop).context("a repeat is allowed")?,
            _ => finds(&repeats, &[Found::at(what, at)], &[])
                .map(drop)
                .context(name)?,
        }
    }
    Ok(())
}

fn lakes_of_one_date_and_lakes_begun_at_a_time_are_judged_by_what_they_should_hold() -> Result<()> {
    let scenario = Scenario::new("audit-backfills")?;
    scenario.create_topics_of(PARTITIONS)?;
    produce(&scenario, EVENTS / 2, 41)?;
    let from = a_later_moment(&scenario)?;
    produce(&scenario, EVENTS / 2, 42)?;
    scenario.realtime().arg("--exit-at-end").run_ok(LIMIT)?;
    let from_text = chrono::DateTime::from_timestamp_millis(from).context("no time")?;
    let from_text = from_text.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);

    let dated = SideLake::new(&scenario, "dated");
    dated
        .ingest()
        .args(["--only-date", DATE, "--exit-at-end"])
        .run_ok(LIMIT)?;
    let begun = SideLake::new(&scenario, "begun");
    begun
        .ingest()
        .args(["--from-timestamp", &from_text, "--exit-at-end"])
        .run_ok(LIMIT)?;
    for lake in [&dated, &begun] {
        let rows = lake.rows("logins")?.len() + lake.rows("rejected")?.len();
        for audit in [
            beside_all(&scenario, &lake.uri()),
            beside_input(&scenario, &lake.uri()).args(["--compare", "positions"]),
        ] {
            let report = clean(&audit).with_context(|| lake.uri())?;
            assert_eq!(
                of_partitions(&report, "topic").iter().sum::<u64>(),
                rows as u64,
                "what it should hold: {report}"
            );
        }
    }
    for (folder, name) in [("dated", "one date"), ("begun", "from a time")] {
        let whole = copy_of(&scenario, folder, &format!("{folder}-whole"))?;
        let reader = Reader::new(&whole, Vec::new());
        for (table, operation, what) in [
            ("logins", "take", "row_missing"),
            ("rejected", "take", "row_missing"),
            ("logins", "change", "row_differs"),
        ] {
            let at = some_row(&reader, table)?;
            let damaged = copy_again(&whole, &format!("{folder}-{table}-{operation}"))?;
            Reader::new(&damaged, Vec::new()).damage(table, operation, at)?;
            let besides = ["unaudited", "hour_differs"];
            finds(
                &beside_input(&scenario, &damaged),
                &[Found::at(what, at)],
                &besides,
            )
            .with_context(|| format!("{name}: {operation} of {table}"))?;
        }
    }
    Ok(())
}

/// Later than every record that is there, and before every one that comes, in epoch milliseconds.
fn a_later_moment(scenario: &Scenario) -> Result<i64> {
    let records = scenario.kafka.read_committed(&scenario.input_topic())?;
    let last = records.iter().filter_map(|record| record.timestamp_ms).max();
    let moment = last.context("no timestamps")? + 1;
    wait_for("the clock", LIMIT, || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        Ok((i64::try_from(now.as_millis())? > moment).then_some(moment))
    })
}

fn a_topic_that_was_made_again_is_found() -> Result<()> {
    let scenario = filled("audit-made-again", PARTITIONS, EVENTS, 51)?;
    let stood = SideLake::new(&scenario, "lake").next_offsets()?;
    scenario.kafka.delete_topic(&scenario.input_topic())?;
    scenario.kafka.create_topic(&scenario.input_topic(), PARTITIONS)?;
    wait_for("the topic", LIMIT, || {
        let known = scenario.kafka.partitions(&scenario.input_topic())?;
        Ok((known == PARTITIONS as usize).then_some(()))
    })?;
    // More than before: by offsets alone it could be the old one.
    produce(&scenario, 2 * EVENTS, 52)?;
    let wanted: Vec<Found> = stood
        .into_iter()
        .map(|(partition, next)| Found {
            what: "topic_made_again".to_owned(),
            partition: Some(i64::from(partition)),
            offsets: vec![(0, next)],
        })
        .collect();
    finds(&beside_input(&scenario, &scenario.lake()), &wanted, &[]).map(drop)
}
