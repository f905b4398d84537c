//! Alerts reach a webhook: once when something has been wrong for a while, again only after the interval, and once more when it is
//! over. A receiver that is slow, fails or is away does the service no harm, and its address is in no log, page or process list.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Program};
use loginlake_scenarios::receiver::{Answer, Receiver, SECRET};
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::{entries, http, runner};

const LIMIT: Duration = Duration::from_secs(120);
const REPEAT: Duration = Duration::from_secs(4);
/// Nobody waits for minutes in a test.
const TIMES: [&str; 6] = [
    "--alert-after",
    "1s",
    "--alert-repeat",
    "4s",
    "--alert-window",
    "5s",
];

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        an_alert_is_told_once_then_at_times_then_when_it_is_over,
        a_receiver_in_trouble_does_no_harm,
        late_commits_lag_and_debt_are_told,
    ])
}

/// A service that alerts, with its pages at `address`.
fn alerting(program: Program, receiver: &Receiver, address: SocketAddr, limits: &[&str]) -> Result<Process> {
    program
        .args(["--http", &address.to_string()])
        .args(TIMES)
        .args(limits)
        .args(["-vv"])
        .env("LOGINLAKE_ALERT_WEBHOOK", receiver.url())
        .env("LOGINLAKE_LOG_FORMAT", "text")
        .start()
}

fn address() -> Result<SocketAddr> {
    Ok(http::loopback(free_port()?))
}

/// The statuses of what was told about an alert.
fn statuses(receiver: &Receiver, alert: &str) -> Result<Vec<String>> {
    let taken = receiver.taken(alert)?;
    Ok(taken.into_iter().map(|(_, status)| status).collect())
}

fn an_alert_is_told_once_then_at_times_then_when_it_is_over() -> Result<()> {
    let scenario = Scenario::new("webhook")?;
    scenario.create_topics()?;
    let (receiver, realtime) = (Receiver::start()?, address()?);
    // Before anything comes: a start is no alert.
    // A busy machine is no trouble here.
    let limits = [
        "--alert-no-data",
        "8s",
        "--alert-dead-letter-share",
        "0.2",
        "--alert-publish-delay",
        "60s",
        "--alert-lag",
        "60s",
    ];
    let mut service = alerting(scenario.realtime(), &receiver, realtime, &limits)?;
    service.wait_until("readiness", LIMIT, || {
        Ok((http::get(realtime, "/health/ready").is_ok_and(|page| page.status == 200)).then_some(()))
    })?;
    ensure!(receiver.calls().is_empty(), "{:?}", receiver.calls());

    let producer = scenario.generate(10_000_000, 3).args(["--rate", "100"]).start()?;
    service.wait_until("published records", LIMIT, || {
        Ok((http::metric(realtime, "realtime_records_total")? > 300.0).then_some(()))
    })?;
    let quiet: Vec<_> = receiver
        .calls()
        .into_iter()
        .filter(|call| !call.body.to_string().contains("no-data"))
        .collect();
    ensure!(quiet.is_empty(), "all is well, and it told {quiet:?}");
    println!("no alert while it starts and while all is well");

    // Nothing comes any more: told once, again after the interval and not before, then resolved.
    let told_before = statuses(&receiver, "no-data")?.len();
    producer.kill();
    service.wait_until("three messages about it", LIMIT, || {
        Ok((statuses(&receiver, "no-data")?.len() >= told_before + 3).then_some(()))
    })?;
    let told = receiver.taken("no-data")?.split_off(told_before);
    let names: Vec<&str> = told.iter().map(|(_, status)| status.as_str()).collect();
    ensure!(
        names[..3] == ["firing", "still firing", "still firing"],
        "{names:?}"
    );
    for pair in told.windows(2) {
        let apart = pair[1].0.duration_since(pair[0].0);
        // The receiver's clock starts when the body is whole.
        ensure!(
            apart >= REPEAT - Duration::from_millis(500),
            "told again after {apart:?}"
        );
    }
    ensure!(
        http::metric_with(realtime, "alerts_firing", "alert=\"no-data\"")? == 1.0,
        "the metric does not say it"
    );
    let producer = scenario
        .generate(10_000_000, 4)
        .args(["--rate", "100", "--bad-share", "0.5"])
        .start()?;
    service.wait_until("the end of it", LIMIT, || {
        let told = statuses(&receiver, "no-data")?;
        Ok((told.last().map(String::as_str) == Some("resolved")).then_some(()))
    })?;
    println!("no data: firing, still firing after the interval, resolved");

    // Half of the records are bad.
    service.wait_until("the share of dead letters", LIMIT, || {
        Ok((!statuses(&receiver, "dead-letter-share")?.is_empty()).then_some(()))
    })?;
    producer.kill();
    let _producer = scenario.generate(10_000_000, 5).args(["--rate", "100"]).start()?;
    service.wait_until("the end of it", LIMIT, || {
        let told = statuses(&receiver, "dead-letter-share")?;
        Ok((told.last().map(String::as_str) == Some("resolved")).then_some(()))
    })?;
    let told = statuses(&receiver, "dead-letter-share")?;
    let rounds = told.iter().filter(|status| *status == "firing").count();
    ensure!(rounds == 1, "one trouble is one alert: {told:?}");
    println!("dead letters: {told:?}");

    // Who tells it is what an operator looks at.
    let port = format!(":{}", realtime.port());
    for call in receiver.calls() {
        for (_, _, instance) in call.messages()? {
            ensure!(instance.ends_with(&port), "{instance}");
        }
        let text = call.body["text"].as_str().unwrap_or_default();
        ensure!(text.starts_with("loginlake realtime at "), "{text}");
    }
    let page = http::get(realtime, "/metrics")?.body;
    let stats = http::get(realtime, "/api/stats")?.body;
    let arguments = std::fs::read(format!("/proc/{}/cmdline", service.id())).unwrap_or_default();
    let output = service.terminate(LIMIT)?;
    let shown = [
        page,
        stats,
        String::from_utf8_lossy(&arguments).into_owned(),
        output.stdout,
        output.stderr,
    ];
    ensure!(
        shown.iter().all(|text| !text.contains("s3cr3t")),
        "the address of the webhook ({SECRET}) is shown"
    );
    Ok(())
}

fn a_receiver_in_trouble_does_no_harm() -> Result<()> {
    let scenario = Scenario::new("webhook-trouble")?;
    scenario.create_topics()?;
    let (receiver, realtime) = (Receiver::start()?, address()?);
    receiver.answer(Answer::Silence);
    // Every delay is too long, so that there is something to tell at once.
    let mut service = alerting(
        scenario.realtime(),
        &receiver,
        realtime,
        &["--alert-publish-delay", "0s"],
    )?;
    let _producer = scenario.generate(10_000_000, 6).args(["--rate", "200"]).start()?;
    let published = || http::metric(realtime, "realtime_records_total");
    service.wait_until("a call that hangs", LIMIT, || {
        Ok((!receiver.calls().is_empty()).then_some(()))
    })?;
    let before = published()?;
    service.wait_until("further records while it hangs", LIMIT, || {
        Ok((published()? > before + 1_000.0).then_some(()))
    })?;
    receiver.answer(Answer::Status(500));
    let failed = || {
        receiver
            .calls()
            .iter()
            .filter(|call| call.answer == Answer::Status(500))
            .count()
    };
    service.wait_until("calls that fail", LIMIT, || Ok((failed() >= 2).then_some(())))?;
    ensure!(
        http::metric(realtime, "alerts_retries_total")? >= 2.0,
        "failed calls are counted"
    );
    receiver.answer(Answer::Status(200));
    service.wait_until("the message that failed", LIMIT, || {
        Ok((!statuses(&receiver, "publish-delay")?.is_empty()).then_some(()))
    })?;
    ensure!(
        http::get(realtime, "/health/ready")?.status == 200,
        "a receiver in trouble makes nothing not ready"
    );
    let lag = http::metric(realtime, "realtime_lag_records")?;
    ensure!(lag < 1_000.0, "{lag} records wait");
    // A stop does not wait for a receiver that hangs.
    receiver.answer(Answer::Silence);
    let calls = receiver.calls().len();
    service.wait_until("one more call that hangs", LIMIT, || {
        Ok((receiver.calls().len() > calls).then_some(()))
    })?;
    let output = service.terminate(Duration::from_secs(9))?;
    ensure!(!output.stderr.contains("s3cr3t"), "the log shows the address");
    println!(
        "a receiver that hangs and one that fails: {} calls, no harm",
        receiver.calls().len()
    );

    // An address that is none is refused before anything is done, and not repeated.
    let wrong = scenario.realtime().env("LOGINLAKE_ALERT_WEBHOOK", "hooks/s3cr3t");
    let output = wrong.run(LIMIT)?;
    ensure!(
        output.code == 2 && !output.stderr.contains("s3cr3t"),
        "{output:?}"
    );
    Ok(())
}

fn late_commits_lag_and_debt_are_told() -> Result<()> {
    let scenario = Scenario::with_own_store("webhook-lake")?;
    scenario.create_topics()?;
    let receiver = Receiver::start()?;
    let (ingest, maintain) = (address()?, address()?);
    // Every number is too much: what counts is that each of them is told by the service that knows it.
    let limits = ["--alert-commit-delay", "1ms", "--alert-lag-records", "0"];
    let mut ingester = alerting(
        scenario.ingest().args(["--max-batch-age", "2s"]),
        &receiver,
        ingest,
        &limits,
    )?;
    let producer = scenario.generate(10_000_000, 8).args(["--rate", "100"]).start()?;
    let first_of = |alert: &str| Ok(statuses(&receiver, alert)?.first().cloned());
    for alert in ["commit-delay", "lag"] {
        let first = ingester.wait_until(alert, LIMIT, || first_of(alert))?;
        ensure!(first == "firing", "{alert}: {first}");
    }
    // Small files on dates that are over.
    producer.kill();
    let rows = || http::metric(ingest, "ingest_logins_rows_total");
    for seed in [9, 10] {
        let before = rows()?;
        scenario.generate(700, seed).run_ok(LIMIT)?;
        ingester.wait_until("a commit of it", LIMIT, || {
            Ok((rows()? >= before + 700.0).then_some(()))
        })?;
    }
    let limits = ["--alert-compaction-debt", "1B", "--compact-every", "never"];
    let mut maintainer = alerting(scenario.olap("maintain"), &receiver, maintain, &limits)?;
    let first = maintainer.wait_until("compaction debt", LIMIT, || first_of("compaction-debt"))?;
    ensure!(first == "firing", "{first}");
    // Each says who it is.
    let mut senders = BTreeSet::new();
    for call in receiver.calls() {
        let text = call.body["text"].as_str().context("no text")?;
        senders.insert(text.split(' ').take(2).collect::<Vec<_>>().join(" "));
    }
    let expected = ["loginlake ingest", "loginlake maintain"].map(str::to_owned);
    ensure!(senders == BTreeSet::from(expected), "{senders:?}");

    // The store goes away: the ingester says why, and when it is over.
    maintainer.terminate(LIMIT)?;
    let _producer = scenario
        .generate(10_000_000, 11)
        .args(["--rate", "100"])
        .start()?;
    scenario.minio.kill();
    let told = |status: &str| {
        let told = statuses(&receiver, "not-ready")?;
        Ok((told.last().map(String::as_str) == Some(status)).then_some(()))
    };
    ingester.wait_until("not ready", LIMIT, || told("firing"))?;
    scenario.minio.start_again()?;
    ingester.wait_until("ready again", LIMIT, || told("resolved"))?;
    ingester.terminate(LIMIT)?;
    println!("commit delay, lag, compaction debt, and a store that goes away and comes back");
    Ok(())
}
