//! The dashboard as people see it, in a real browser: what it shows is what the API says, on every instance; hostile values stay
//! text; it pauses, says when it is stale, and comes back by itself; it can be used with a keyboard, a screen reader, a phone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::browser::{Browser, Look, Noticed};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Program, Signal};
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, http, runner};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 4;
/// A folder that gets the pictures, for people to look at.
const PICTURES: &str = "LOGINLAKE_SCENARIO_PICTURES";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Browser];
        every_instance_shows_the_whole_group,
        hostile_values_stay_text,
        it_pauses_tells_that_it_is_stale_and_comes_back,
        everybody_can_use_it,
        the_demo_shows_it,
    ])
}

/// An instance with its dashboard at `address`.
fn instance(scenario: &Scenario, address: SocketAddr) -> Result<Process> {
    let program = scenario.realtime().args(["--http", &address.to_string()]);
    program
        .args(["--transactional-id", &format!("t-{}", address.port())])
        .start()
}

fn address() -> Result<SocketAddr> {
    Ok(http::loopback(free_port()?))
}

fn stats(address: SocketAddr) -> Result<Value> {
    let page = http::get(address, "/api/stats")?;
    ensure!(page.status == 200, "{page:?}");
    Ok(serde_json::from_str(&page.body)?)
}

/// Waits until an instance's numbers hold so many logins, and are complete.
fn wait_logins(address: SocketAddr, logins: u64) -> Result<Value> {
    wait_for(&format!("{logins} logins on the dashboard"), LIMIT, || {
        let Ok(stats) = stats(address) else {
            return Ok(None);
        };
        let is_there = stats["logins"]["total"] == logins && stats["reader"]["state"] == "live";
        Ok(is_there.then_some(stats))
    })
}

/// The records of a list with names and counts.
fn rows(browser: &mut Browser, id: &str) -> Result<Vec<(String, u64)>> {
    let script = format!(
        "[...document.querySelectorAll('#{id} .row')].map((row) => \
         [row.querySelector('.name').textContent, Number(row.querySelector('.count').textContent.replaceAll(',', ''))])"
    );
    Ok(serde_json::from_value(browser.evaluate(&script)?)?)
}

/// The number that an element shows.
fn number(browser: &mut Browser, id: &str) -> Result<u64> {
    let text = browser.text(id)?.replace(',', "");
    text.parse().with_context(|| format!("#{id} shows {text:?}"))
}

/// Nothing was forbidden, nothing failed, nothing was asked for elsewhere.
fn ensure_clean(noticed: &Noticed, address: SocketAddr) -> Result<()> {
    ensure!(
        noticed.errors.is_empty() && noticed.dialogs.is_empty() && noticed.violations.is_empty(),
        "{noticed:?}"
    );
    let own = format!("http://{address}/");
    let elsewhere: Vec<&String> = noticed
        .requests
        .iter()
        .filter(|url| !url.starts_with(&own) && !url.starts_with("data:"))
        .collect();
    ensure!(elsewhere.is_empty(), "it asks elsewhere: {elsewhere:?}");
    Ok(())
}

fn every_instance_shows_the_whole_group() -> Result<()> {
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

/// States and their logins, as they are read out.
fn tiles(browser: &mut Browser) -> Result<Vec<(String, u64)>> {
    let script = "[...document.querySelectorAll('.tile')].map((tile) => [tile.querySelector('b').textContent, \
        Number(tile.getAttribute('aria-label').match(/([0-9,]+) logins?$/)[1].replaceAll(',', ''))])";
    Ok(serde_json::from_value(browser.evaluate(script)?)?)
}

fn hostile_values_stay_text() -> Result<()> {
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

/// Takes a picture, for people to look at.
fn picture(browser: &mut Browser, scenario: &Scenario, name: &str) -> Result<()> {
    let folder = std::env::var_os(PICTURES).map_or_else(|| scenario.dir().to_path_buf(), PathBuf::from);
    browser.screenshot(&folder.join(format!("{name}.png")))
}

fn it_pauses_tells_that_it_is_stale_and_comes_back() -> Result<()> {
    let scenario = Scenario::with_own_servers("live-dashboard")?;
    scenario.create_topics()?;
    let realtime = address()?;
    let running = instance(&scenario, realtime)?;
    let _producer = scenario.generate(10_000_000, 31).args(["--rate", "50"]).start()?;
    let mut browser = Browser::start(scenario.dir())?;
    browser.open(realtime, Look::DESKTOP)?;
    browser.wait_text("status", "Live", LIMIT)?;
    let grows = |browser: &mut Browser| {
        let before = number(browser, "total")?;
        wait_for("further logins on the page", LIMIT, || {
            Ok((number(browser, "total")? > before).then_some(()))
        })
    };
    grows(&mut browser)?;

    browser.click("#pause")?;
    browser.wait_text("status", "Paused", LIMIT)?;
    let paused = number(&mut browser, "total")?;
    // The service goes on, and the page does not.
    wait_for("logins that are not shown", LIMIT, || {
        let behind = stats(realtime)?["logins"]["total"].as_u64().unwrap_or(0) > paused + 100;
        Ok(behind.then_some(()))
    })?;
    ensure!(number(&mut browser, "total")? == paused, "a paused page moved");
    browser.wait_text("age", "data is ", LIMIT)?;
    browser.click("#pause")?;
    browser.wait_text("status", "Live", LIMIT)?;
    grows(&mut browser)?;
    println!("paused at {paused} logins, then live again");

    scenario.kafka.kill();
    browser.wait_text("status", "Kafka does not answer", LIMIT)?;
    browser.wait_text("banner", "The numbers are not those of now", LIMIT)?;
    let barriers = browser.barriers()?;
    ensure!(barriers.is_empty(), "a page that is old: {barriers:#?}");
    scenario.kafka.start_again()?;
    browser.wait_text("status", "Live", LIMIT)?;
    grows(&mut browser)?;
    println!("it said that Kafka was away, and came back");

    running.kill();
    browser.wait_text("status", "Reconnecting", LIMIT)?;
    browser.wait_text("banner", "The service does not answer", LIMIT)?;
    let _again = instance(&scenario, realtime)?;
    browser.wait_text("status", "Live", LIMIT)?;
    grows(&mut browser)?;
    println!("it said that the service was away, and came back");
    Ok(())
}

fn everybody_can_use_it() -> Result<()> {
    let scenario = Scenario::new("any-dashboard")?;
    scenario.create_topics()?;
    let realtime = address()?;
    let _running = instance(&scenario, realtime)?;
    let _producer = scenario
        .generate(10_000_000, 41)
        .args(["--rate", "100", "--bad-share", "0.1"])
        .start()?;
    let mut browser = Browser::start(scenario.dir())?;
    for (name, look) in [
        ("desktop-light", Look::DESKTOP),
        ("desktop-dark", Look::DESKTOP.dark()),
        ("phone-light", Look::PHONE),
        ("phone-dark", Look::PHONE.dark()),
    ] {
        browser.open(realtime, look)?;
        browser.wait_text("status", "Live", LIMIT)?;
        wait_for("a few hundred logins", LIMIT, || {
            Ok((number(&mut browser, "total")? > 300).then_some(()))
        })?;
        let barriers = browser.barriers()?;
        ensure!(barriers.is_empty(), "{name}: {barriers:#?}");
        let too_wide = browser.evaluate("document.documentElement.scrollWidth > innerWidth")?;
        ensure!(too_wide == false, "{name}: it has to be scrolled sideways");
        // Paused, the colours of a page that is old are judged, too.
        browser.click("#pause")?;
        browser.wait_text("status", "Paused", LIMIT)?;
        let barriers = browser.barriers()?;
        ensure!(barriers.is_empty(), "{name}, paused: {barriers:#?}");
        browser.click("#pause")?;
        browser.wait_text("status", "Live", LIMIT)?;
        picture(&mut browser, &scenario, name)?;
        ensure_clean(&browser.noticed()?, realtime)?;
    }
    println!("no barrier that a program can find: light, dark, desk, phone, live, paused");

    browser.open(realtime, Look::DESKTOP)?;
    browser.wait_text("status", "Live", LIMIT)?;
    numbers_do_not_jump(&mut browser)?;
    by_keyboard(&mut browser)?;
    let spoken = browser.spoken("body")?;
    for part in [
        "heading \"Logins of the last 15 minutes\"",
        "button \"Pause\"",
        "heading \"US states\"",
        "California: ",
        "heading \"Dead letters by reason\"",
        "table \"Logins by hour of day\"",
        "status",
    ] {
        ensure!(spoken.contains(part), "{part} is not read out:\n{spoken}");
    }
    Ok(())
}

/// Everything stays where it is while the numbers change.
fn numbers_do_not_jump(browser: &mut Browser) -> Result<()> {
    // The width of the tile with the rate, too, and the elements themselves.
    let places = "JSON.stringify([...document.querySelectorAll('section, h2, .value, .tile')].map((element) => { \
        const box = element.getBoundingClientRect(); return [box.left, box.top, box.width]; }))";
    browser.evaluate("window.kept = document.querySelector('#devices').firstElementChild; null")?;
    let before = browser.evaluate(places)?;
    let first = number(browser, "total")?;
    for _ in 0..3 {
        let total = number(browser, "total")?;
        wait_for("the next numbers", LIMIT, || {
            Ok((number(browser, "total")? != total).then_some(()))
        })?;
    }
    let after = browser.evaluate(places)?;
    ensure!(before == after, "something moved: {before} {after}");
    let kept = browser.evaluate("window.kept === document.querySelector('#devices').firstElementChild")?;
    ensure!(kept == true, "rows are made anew");
    let last = number(browser, "total")?;
    println!("from {first} to {last} logins nothing moved");
    Ok(())
}

fn by_keyboard(browser: &mut Browser) -> Result<()> {
    let focused = |browser: &mut Browser| {
        let script = "document.activeElement.id || document.activeElement.textContent";
        let name = browser.evaluate(script)?;
        anyhow::Ok(name.as_str().unwrap_or_default().to_owned())
    };
    let visible = "getComputedStyle(document.activeElement).outlineStyle !== 'none'";
    let mut order = Vec::new();
    for _ in 0..3 {
        browser.press("Tab")?;
        order.push(focused(browser)?);
        ensure!(
            browser.evaluate(visible)? == true,
            "{order:?}: the focus is not seen"
        );
    }
    ensure!(order == ["Skip to the numbers", "pause", "line"], "{order:?}");
    browser.press("End")?;
    browser.wait_text("line-readout", "1 s ago: ", LIMIT)?;
    browser.press("ArrowLeft")?;
    browser.wait_text("line-readout", "2 s ago: ", LIMIT)?;
    browser.press("PageUp")?;
    browser.wait_text("line-readout", "1 min 2 s ago: ", LIMIT)?;
    browser.press("Escape")?;
    browser.wait_text("line-readout", "point at the chart", LIMIT)?;
    browser.press("Shift+Tab")?;
    browser.press("Space")?;
    browser.wait_text("status", "Paused", LIMIT)?;
    browser.press("Enter")?;
    browser.wait_text("status", "Live", LIMIT)?;
    println!("by keyboard: {}", order.join(", "));
    Ok(())
}

fn the_demo_shows_it() -> Result<()> {
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
