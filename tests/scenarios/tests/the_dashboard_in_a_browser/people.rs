//! Everybody can use the dashboard: light, dark, at a desk, on a phone, by keyboard, with a screen reader, and nothing jumps.

use anyhow::{Result, ensure};
use loginlake_scenarios::browser::{Browser, Look};
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::wait::wait_for;

use crate::LIMIT;
use crate::page::{address, ensure_clean, instance, number, picture};

pub(crate) fn everybody_can_use_it() -> Result<()> {
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
