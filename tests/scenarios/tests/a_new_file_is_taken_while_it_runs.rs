//! SIGHUP makes a running service read its configuration file again: filters change between two batches, and nothing is lost or
//! repeated; logs change; a wrong file changes nothing; what cannot change is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::exactness::Position;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Signal};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::receiver::Receiver;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(180);
/// Enough that the load is not over when the filters change.
const EVENTS: u64 = 60_000;
const TAKEN: &str = "the configuration file was read again";
const REFUSED: &str = "the configuration file was not taken";
const IN_FORCE: &str = "new filters hold from the next records on";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        filters_change_between_two_transactions,
        filters_change_at_least_once,
        what_cannot_change_stays_and_is_named,
        a_flag_stays_what_it_is,
        an_alert_follows_its_limit,
    ])
}

/// A service with a file of its own.
struct Service {
    scenario: Scenario,
    file: PathBuf,
    process: Process,
    progress: Progress,
}

impl Service {
    fn start(name: &str, text: &str, flags: &[&str]) -> Result<Service> {
        Self::start_with(name, text, flags, &[])
    }

    fn start_with(name: &str, text: &str, flags: &[&str], variables: &[(&str, String)]) -> Result<Service> {
        let scenario = Scenario::new(name)?;
        scenario.create_topics()?;
        let file = scenario.dir().join("loginlake.toml");
        fs::write(&file, text)?;
        let program = scenario
            .realtime()
            .args(["--config", &file.display().to_string()])
            .args(flags);
        let program = variables
            .iter()
            .fold(program, |program, (name, value)| program.env(name, value));
        let mut process = program.start()?;
        process.wait_has_said("running", LIMIT)?;
        let progress = Progress::watch(
            &scenario.kafka,
            &scenario.input_topic(),
            &scenario.realtime_group(),
        )?;
        Ok(Service {
            scenario,
            file,
            process,
            progress,
        })
    }

    /// A new file, and what is said about it.
    fn reload(&mut self, text: &str, said: &str) -> Result<()> {
        fs::write(&self.file, text)?;
        let before = self.count(said)?;
        self.process.signal(Signal::Hangup)?;
        let file = self.process.stderr_file().to_owned();
        self.process.wait_until(&format!("it says {said:?}"), LIMIT, || {
            let now = fs::read_to_string(&file)?.matches(said).count();
            Ok((now > before).then_some(()))
        })
    }

    fn count(&self, text: &str) -> Result<usize> {
        Ok(fs::read_to_string(self.process.stderr_file())?
            .matches(text)
            .count())
    }

    fn wait_all_committed(&mut self) -> Result<()> {
        let ends = self.progress.ends()?;
        let progress = &self.progress;
        self.process.wait_until("everything to be committed", LIMIT, || {
            Ok((progress.committed()? == ends).then_some(()))
        })
    }
}

fn filters_change_between_two_transactions() -> Result<()> {
    change_under_load("reload-exactly", "exactly-once")
}

fn filters_change_at_least_once() -> Result<()> {
    change_under_load("reload-repeating", "at-least-once")
}

/// In each partition there is one offset: before it nothing is held back, from it on everything that the filter is for is, and
/// everything else is published once.
fn change_under_load(name: &str, guarantee: &str) -> Result<()> {
    // Slow enough that the change comes in the middle.
    let flags = ["--guarantee", guarantee, "--max-rate", "8000/s", "--workers", "2"];
    let mut service = Service::start(name, "# nothing yet\n", &flags)?;
    service.scenario.generate(EVENTS, 81).run_ok(LIMIT)?;
    let progress = &service.progress;
    service
        .process
        .wait_until("it is in the middle of the load", LIMIT, || {
            let committed: i64 = progress.committed()?.values().sum();
            Ok((committed > 2_000).then_some(()))
        })?;
    service.reload("[realtime]\nfilters = ['locale = \"CA\"']\n", TAKEN)?;
    let file = service.process.stderr_file().to_owned();
    service
        .process
        .wait_until("both workers have the filters", LIMIT, || {
            let said = fs::read_to_string(&file)?.matches(IN_FORCE).count();
            Ok((said >= 2).then_some(()))
        })?;
    let committed: i64 = service.progress.committed()?.values().sum();
    ensure!(
        committed < EVENTS as i64,
        "the load was over before the filters changed"
    );
    service.wait_all_committed()?;
    let Service {
        scenario, process, ..
    } = service;
    process.terminate(LIMIT)?;

    let mut filtered: BTreeMap<i32, Vec<(i64, bool)>> = BTreeMap::new();
    let mut wanted: BTreeSet<Position> = BTreeSet::new();
    for record in scenario.kafka.read_committed(&scenario.input_topic())? {
        let event: Value = serde_json::from_slice(record.payload.as_deref().unwrap_or_default())?;
        let position = (record.partition, record.offset);
        if event["locale"] == "CA" {
            filtered.entry(position.0).or_default().push((position.1, false));
        } else {
            wanted.insert(position);
        }
    }
    let mut published: BTreeSet<Position> = BTreeSet::new();
    for record in scenario.kafka.read_committed(&scenario.output_topic())? {
        let position = record.source_position()?;
        ensure!(published.insert(position), "{position:?} is there twice");
    }
    ensure!(
        wanted.is_subset(&published),
        "something was lost that the filter is not for"
    );
    let mut held_back = 0;
    for (partition, records) in &mut filtered {
        for (offset, is_published) in records.iter_mut() {
            *is_published = published.remove(&(*partition, *offset));
        }
        records.sort_unstable();
        let border = records.partition_point(|(_, is_published)| *is_published);
        ensure!(
            records[border..].iter().all(|(_, is_published)| !is_published),
            "partition {partition}: there is more than one border"
        );
        held_back += records.len() - border;
    }
    ensure!(held_back > 0, "nothing was held back");
    ensure!(published == wanted, "something was published that never came in");
    Ok(())
}

fn what_cannot_change_stays_and_is_named() -> Result<()> {
    let before = "[realtime]\nfilters = ['locale = \"RU\"']\n";
    let mut service = Service::start("reload-refused", before, &[])?;
    for wrong in [
        "[realtime]\nfilters = ['nonsense']\n",
        "[realtime]\nfilters = []\nno-such-key = 1\n",
        "log-filter = 'loginlake=loud'\n",
        "[realtime\n",
    ] {
        service.reload(wrong, REFUSED)?;
    }
    ensure!(service.count(IN_FORCE)? == 0, "a wrong file counted");
    ensure!(service.count(TAKEN)? == 0, "a wrong file was taken");

    let other = "lake = 'elsewhere'\n[realtime]\nfilters = ['locale = \"RU\"']\nworkers = 3\n";
    service.reload(other, "they hold from the next start on")?;
    let said = fs::read_to_string(service.process.stderr_file())?;
    let line = said
        .lines()
        .find(|line| line.contains("they hold from the next start on"))
        .context("no such line")?;
    ensure!(line.contains("lake, realtime.workers"), "{line}");
    ensure!(service.count(IN_FORCE)? == 0, "the filters are the same");

    // More logs, and fewer again.
    service.reload("log-filter = 'debug'\n", IN_FORCE)?;
    service.scenario.generate(10, 82).run_ok(LIMIT)?;
    service.process.wait_has_said("DEBUG", LIMIT)?;
    service.wait_all_committed()?;
    service.reload("log-filter = 'info'\n", TAKEN)?;
    let debug = service.count("DEBUG")?;
    service.scenario.generate(1_000, 83).run_ok(LIMIT)?;
    service.wait_all_committed()?;
    // A line that was on its way.
    ensure!(service.count("DEBUG")? <= debug + 1, "it goes on with debug logs");
    service.process.terminate(LIMIT)?;
    Ok(())
}

fn a_flag_stays_what_it_is() -> Result<()> {
    let mut service = Service::start("reload-flag", "", &["--drop", "locale = \"RU\"", "-v"])?;
    service.reload(
        "log-filter = 'error'\n[realtime]\nfilters = ['device_type missing']\n",
        "changed in the file, but a flag or a variable sets them",
    )?;
    ensure!(service.count(IN_FORCE)? == 0, "the flag was overridden");
    service
        .process
        .wait_has_said("log-filter of the configuration file does not count", LIMIT)?;
    service.process.terminate(LIMIT)?;
    Ok(())
}

/// Half of the records are bad all the time: only the limit decides whether that is told.
fn an_alert_follows_its_limit() -> Result<()> {
    let receiver = Receiver::start()?;
    let with_limit = |share: f64| {
        format!("[alerts]\nafter = \"1s\"\nwindow = \"10s\"\nrepeat = \"1h\"\ndead-letter-share = {share}\n")
    };
    let statuses = || -> Result<Vec<String>> {
        let taken = receiver.taken("dead-letter-share")?;
        Ok(taken.into_iter().map(|(_, status)| status).collect())
    };
    let variables = [("LOGINLAKE_ALERT_WEBHOOK", receiver.url())];
    let mut service = Service::start_with("reload-alerts", &with_limit(0.95), &[], &variables)?;
    let producer = service
        .scenario
        .generate(10_000_000, 84)
        .args(["--rate", "100", "--bad-share", "0.5"]);
    let _producer = producer.start()?;
    let progress = &service.progress;
    service
        .process
        .wait_until("more than a window of records", LIMIT, || {
            Ok((progress.committed()?.values().sum::<i64>() > 2_000).then_some(()))
        })?;
    ensure!(
        statuses()?.is_empty(),
        "half is less than 0.95: {:?}",
        statuses()?
    );

    // A limit that is wrong changes nothing.
    service.reload(&with_limit(1.5), REFUSED)?;
    service.reload(&with_limit(0.2), TAKEN)?;
    service.process.wait_until("the alert", LIMIT, || {
        Ok((statuses()? == ["firing"]).then_some(()))
    })?;
    service.reload(&with_limit(0.95), TAKEN)?;
    service.process.wait_until("the end of it", LIMIT, || {
        Ok((statuses()? == ["firing", "resolved"]).then_some(()))
    })?;
    service.process.terminate(LIMIT)?;
    Ok(())
}
