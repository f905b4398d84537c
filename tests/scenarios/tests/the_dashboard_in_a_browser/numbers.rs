//! What the dashboard shows is what the API says, on every instance; values are text, whatever they are; the demo has it, too.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::browser::{Browser, Look};
use loginlake_scenarios::http;
use loginlake_scenarios::process::{Program, Signal};
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::wait::wait_for;
use serde_json::{Value, json};

use crate::LIMIT;
use crate::page::{address, ensure_clean, instance, number, picture, rows, tiles, wait_logins};

const PARTITIONS: i32 = 4;

pub(crate) fn every_instance_shows_the_whole_group() -> Result<()> {
    let scenario = Scenario::new("group-dashboard")?;
    scenario.create_topics_of(PARTITIONS)?;
    let addresses = [address()?, address()?];
    let mut running = [
        instance(&scenario, addresses[0])?,
        instance(&scenario, addresses[1])?,
    ];
    for (process, address) in running.iter_mut().zip(addresses) {
        process.wait_until("readiness", LIMIT, || {
            Ok(http::get(address, "/health/ready")
                .is_ok_and(|page| page.status == 200)
                .then_some(()))
        })?;
    }
    let good = 3_000;
    scenario.generate(good, 11).run_ok(LIMIT)?;
    let bad = [&br#"{"user_id":1}"#[..], b"{", b"\xff", b"{"];
    let bad = bad
        .into_iter()
        .map(|payload| ("bad".to_owned(), payload.to_vec()));
    scenario.kafka.produce(&scenario.input_topic(), bad)?;
    let mut browser = Browser::start(scenario.dir())?;
    let mut shown = Vec::new();
    for address in addresses {
        let stats = wait_logins(address, good)?;
        browser.open(address, Look::DESKTOP)?;
        browser.wait_text("status", "Live", LIMIT)?;
        browser.wait_text("total", "3,000", LIMIT)?;
        ensure!(number(&mut browser, "dead")? == 4, "dead letters");
        // The lists are what the API says.
        for (id, member) in [("regions", "regions"), ("versions", "app_versions")] {
            let said: Vec<(String, u64)> = named(&stats[member], "name", "logins")?;
            let listed = rows(&mut browser, id)?;
            let whole = listed.iter().take(said.len().min(7));
            for row in whole {
                ensure!(
                    said.contains(row),
                    "#{id} shows {row:?}, and the API says {said:?}"
                );
            }
            let sum: u64 = listed.iter().map(|(_, count)| count).sum();
            ensure!(sum == good, "#{id}: {sum}");
        }
        let devices: u64 = rows(&mut browser, "devices")?
            .iter()
            .map(|(_, count)| count)
            .sum();
        ensure!(devices == good, "devices: {devices}");
        let mut reasons = rows(&mut browser, "reasons")?;
        reasons.sort();
        let expected = [("BAD_TYPE", 1), ("NOT_JSON", 2), ("NOT_UTF8", 1)];
        let expected = expected.map(|(reason, count)| (reason.to_owned(), count));
        ensure!(reasons == expected, "{reasons:?}");
        let tiles = tiles(&mut browser)?;
        ensure!(tiles.len() == 51, "{} tiles", tiles.len());
        for (code, count) in &tiles {
            let said = stats["locales"][code].as_u64().unwrap_or(0);
            ensure!(*count == said, "{code}: {count} and not {said}");
        }
        // All partitions of the group, whoever has them.
        let lag = rows(&mut browser, "lag")?;
        let partitions: BTreeSet<String> = lag.into_iter().map(|(name, _)| name).collect();
        let all = (0..PARTITIONS).map(|partition| format!("partition {partition}"));
        ensure!(partitions == all.collect(), "{partitions:?}");
        ensure_clean(&browser.noticed()?, address)?;
        shown.push((
            tiles,
            rows(&mut browser, "regions")?,
            rows(&mut browser, "versions")?,
        ));
    }
    ensure!(shown[0] == shown[1], "two instances show two truths");
    println!(
        "two instances show the same {good} logins, 4 dead letters and {PARTITIONS} partitions, as the API says"
    );

    // One of them freezes: the other one shows what waits for it.
    for address in addresses {
        wait_for("a share of the partitions for each", LIMIT, || {
            let page = http::get(address, "/metrics")?.body;
            let own = page
                .lines()
                .filter(|line| line.starts_with("realtime_lag_records{"));
            Ok((own.count() == PARTITIONS as usize / 2).then_some(()))
        })?;
    }
    running[0].signal(Signal::Stop)?;
    scenario.generate(2_000, 12).run_ok(LIMIT)?;
    browser.wait_text("status", "Live", LIMIT)?;
    let waiting = wait_for("the lag of the frozen one", LIMIT, || {
        // It is a dash while it is not known.
        let waiting = number(&mut browser, "wait").unwrap_or(0);
        Ok((waiting >= 500).then_some(waiting))
    })?;
    running[0].signal(Signal::Continue)?;
    wait_for("no lag", LIMIT, || {
        Ok((number(&mut browser, "wait").ok() == Some(0)).then_some(()))
    })?;
    println!("the dashboard of one instance shows {waiting} records that wait for the other one");
    Ok(())
}

fn named(list: &Value, name: &str, count: &str) -> Result<Vec<(String, u64)>> {
    let entries = list.as_array().context("no list")?;
    let entry = |entry: &Value| Some((entry[name].as_str()?.to_owned(), entry[count].as_u64()?));
    entries
        .iter()
        .map(|found| entry(found).with_context(|| format!("no entry: {found}")))
        .collect()
}

pub(crate) fn hostile_values_stay_text() -> Result<()> {
    let scenario = Scenario::new("hostile-dashboard")?;
    scenario.create_topics()?;
    let realtime = address()?;
    let _running = instance(&scenario, realtime)?;
    scenario.generate(40, 21).run_ok(LIMIT)?;
    wait_logins(realtime, 40)?;
    // The contract lets none of this through: it is written past it, by somebody who may write to the topic.
    let template = scenario.kafka.read_committed(&scenario.output_topic())?;
    let template = template
        .first()
        .and_then(|record| record.payload.clone())
        .context("no record")?;
    let template: Value = serde_json::from_slice(&template)?;
    let long = "x".repeat(10_000);
    let hostile = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(2)>",
        "<svg onload=alert(3)>",
        "javascript:alert(4)",
        "\u{202e}drawkcab\u{2066}",
        "{{nonce}}</style>",
        "a\nb\u{0}c\u{2028}d",
        "constructor",
        "__proto__",
        &long,
    ];
    let headers = [
        ("source.topic", "t"),
        ("source.partition", "0"),
        ("source.offset", "0"),
    ];
    for value in hostile {
        let with = |members: &[&str]| {
            let mut login = template.clone();
            for member in members {
                login[*member] = json!(value);
            }
            (login.to_string(), &headers[..])
        };
        let logins = std::iter::repeat_with(|| with(&["app_version", "region"])).take(30);
        let strange = ["locale", "event_time", "device_type"].map(|member| with(&[member]));
        let records = logins.chain(strange);
        scenario
            .kafka
            .produce_all_with_headers(&scenario.output_topic(), records)?;
        let reason = [("error.reason", value)];
        scenario
            .kafka
            .produce_with_headers(&scenario.dead_letter_topic(), "{", &reason)?;
    }
    // A device type that is none of ours makes a record unreadable; the others are counted.
    let expected = 40 + 32 * hostile.len();
    let mut browser = Browser::start(scenario.dir())?;
    for look in [Look::DESKTOP, Look::PHONE] {
        browser.open(realtime, look)?;
        browser.wait_text("status", "Live", LIMIT)?;
        browser.wait_text("total", &expected.to_string(), LIMIT)?;
        let versions = rows(&mut browser, "versions")?;
        let shown: BTreeSet<&str> = versions.iter().map(|(name, _)| name.as_str()).collect();
        let as_it_is = hostile.iter().filter(|value| shown.contains(*value)).count();
        ensure!(as_it_is >= 5, "shown as they are: {shown:?}");
        let foreign = browser.evaluate(
            "document.querySelectorAll('main script, main img, main iframe, main style, main a, [onerror], [onload]').length",
        )?;
        ensure!(foreign == 0, "{foreign} elements came from values");
        let too_wide = browser.evaluate("document.documentElement.scrollWidth > innerWidth")?;
        ensure!(too_wide == false, "a value makes the page too wide");
        ensure_clean(&browser.noticed()?, realtime)?;
        picture(
            &mut browser,
            &scenario,
            if look.phone { "hostile-phone" } else { "hostile" },
        )?;
    }
    println!("{} hostile values are text, and nothing else", hostile.len());
    Ok(())
}

pub(crate) fn the_demo_shows_it() -> Result<()> {
    let scenario = Scenario::new("demo-dashboard")?;
    let dashboard = address()?;
    let mut demo = Program::ours("demo", scenario.dir())
        .args(["--events", "2000", "--dir", "demo-lake", "--keep-running"])
        .args(["--http", &dashboard.to_string()])
        .start()?;
    demo.wait_until("its dashboard", LIMIT, || {
        Ok(http::accepts(dashboard).then_some(()))
    })?;
    let mut browser = Browser::start(scenario.dir())?;
    browser.open(dashboard, Look::DESKTOP)?;
    browser.wait_text("status", "Live", LIMIT)?;
    wait_for("logins of the demo", LIMIT, || {
        Ok((number(&mut browser, "total")? >= 1_000).then_some(()))
    })?;
    ensure_clean(&browser.noticed()?, dashboard)?;
    demo.terminate(LIMIT).map(drop)
}
