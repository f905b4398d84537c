//! What the dashboard says of itself: paused, stale, away, logged out; and what an unusual day looks like.

use anyhow::{Result, ensure};
use loginlake_scenarios::browser::{Browser, Look};
use loginlake_scenarios::http;
use loginlake_scenarios::process::Process;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::wait::wait_for;
use serde_json::json;

use crate::LIMIT;
use crate::page::{address, ensure_clean, instance, number, picture, stats};

pub(crate) fn it_pauses_tells_that_it_is_stale_and_comes_back() -> Result<()> {
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

    // Worse than one who is away is one who says nothing: all connections stay.
    scenario.kafka.freeze(true)?;
    browser.wait_text("status", "Kafka does not answer", LIMIT)?;
    scenario.kafka.freeze(false)?;
    browser.wait_text("status", "Live", LIMIT)?;
    grows(&mut browser)?;
    println!("it said that Kafka was silent, and came back");

    running.kill();
    browser.wait_text("status", "Reconnecting", LIMIT)?;
    browser.wait_text("banner", "The service does not answer", LIMIT)?;
    let _again = instance(&scenario, realtime)?;
    browser.wait_text("status", "Live", LIMIT)?;
    grows(&mut browser)?;
    println!("it said that the service was away, and came back");
    Ok(())
}

/// Nothing came yet; everything that comes is rejected; history is replayed; a burst does not hide the usual rate.
pub(crate) fn an_unusual_day_is_seen_at_once() -> Result<()> {
    let scenario = Scenario::new("unusual-dashboard")?;
    scenario.create_topics()?;
    let realtime = address()?;
    let _running = instance(&scenario, realtime)?;
    let mut browser = Browser::start(scenario.dir())?;
    let looked_at = |browser: &mut Browser, name: &str| -> Result<()> {
        let barriers = browser.barriers()?;
        ensure!(barriers.is_empty(), "{name}: {barriers:#?}");
        ensure_clean(&browser.noticed()?, realtime)?;
        picture(browser, &scenario, name)
    };
    browser.open(realtime, Look::DESKTOP)?;
    browser.wait_text("status", "Live, no logins", LIMIT)?;
    ensure!(browser.text("p99")? == "–", "a delay of nothing");
    looked_at(&mut browser, "no-logins")?;

    scenario
        .generate(200, 51)
        .args(["--bad-share", "1"])
        .run_ok(LIMIT)?;
    browser.wait_text("status", "Live, dead letters only", LIMIT)?;
    browser.wait_text(
        "banner",
        "Every record of the last 15 minutes was rejected",
        LIMIT,
    )?;
    browser.wait_text("dead", "200", LIMIT)?;
    let title = browser.evaluate("document.title")?;
    ensure!(
        title
            .as_str()
            .is_some_and(|title| title.starts_with("Live, dead letters only · ")),
        "{title}"
    );
    looked_at(&mut browser, "dead-letters-only")?;

    let history = scenario.generate(5_000, 52);
    history.run_ok(LIMIT)?;
    browser.wait_text("status", "Live", LIMIT)?;
    browser.wait_text("total", "5,000", LIMIT)?;
    ensure!(
        browser.text("p50-kafka")? == "age of old events",
        "a replay looks slow: {}",
        browser.text("p50-kafka")?
    );
    ensure!(browser.text("banner")?.is_empty(), "{}", browser.text("banner")?);
    // Seconds that are not many times as busy: as soon as there are more of them than 5 % of the window.
    let _producer = scenario.generate(10_000_000, 53).args(["--rate", "20"]).start()?;
    wait_for("a scale of the usual seconds", 2 * LIMIT, || {
        let is_cut = browser.evaluate("!document.getElementById('beyond').hidden")?;
        Ok((is_cut == true).then_some(()))
    })?;
    let said = browser.text("beyond-text")?;
    ensure!(said.contains("beyond the scale, up to "), "{said}");
    looked_at(&mut browser, "after-a-burst")?;
    println!("no logins, dead letters only, a replay, a burst: {said}");
    Ok(())
}

/// With a token, people log in for a while. A page that is left open says when that is over, not that the service is away.
pub(crate) fn a_session_that_has_ended_is_told() -> Result<()> {
    let scenario = Scenario::new("session-dashboard")?;
    scenario.create_topics()?;
    let realtime = address()?;
    let token_file = scenario.dir().join("token");
    let start = || -> Result<Process> {
        let program = scenario.realtime().args(["--http", &realtime.to_string()]);
        let program = program.arg("--http-token-file").arg(&token_file);
        let mut process = program.args(["--transactional-id", "t-session"]).start()?;
        process.wait_until("its pages", LIMIT, || Ok(http::accepts(realtime).then_some(())))?;
        Ok(process)
    };
    let log_in = |browser: &mut Browser, token: &str| {
        browser.evaluate(&format!(
            "document.getElementById('token').value = {}; null",
            json!(token)
        ))?;
        browser.click("button")?;
        // While the page changes there is nothing that could be asked.
        wait_for("the dashboard behind the form", LIMIT, || {
            let is_live = browser
                .text("status")
                .is_ok_and(|status| status.starts_with("Live"));
            Ok(is_live.then_some(()))
        })
    };
    std::fs::write(&token_file, "the-first-token-of-this-scenario")?;
    let running = start()?;
    let mut browser = Browser::start(scenario.dir())?;
    browser.open(realtime, Look::DESKTOP)?;
    log_in(&mut browser, "the-first-token-of-this-scenario")?;

    running.kill();
    browser.wait_text("status", "Reconnecting", LIMIT)?;
    std::fs::write(&token_file, "the-second-token-of-this-scenario")?;
    let _running = start()?;
    browser.wait_text("status", "Logged out", LIMIT)?;
    browser.wait_text("banner", "The session has ended", LIMIT)?;
    browser.evaluate("location.reload(); null")?;
    wait_for("the form again", LIMIT, || {
        Ok(browser
            .evaluate("document.getElementById('token') !== null")
            .is_ok_and(|is_there| is_there == true)
            .then_some(()))
    })?;
    log_in(&mut browser, "the-second-token-of-this-scenario")?;
    println!("logged in, told that the session has ended, logged in again");
    Ok(())
}
