//! An instance with its dashboard, what its API says, and what a browser finds on its page.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::browser::{Browser, Noticed};
use loginlake_scenarios::http;
use loginlake_scenarios::process::Process;
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::wait::wait_for;
use serde_json::Value;

use crate::LIMIT;

/// A folder that gets the pictures, for people to look at.
const PICTURES: &str = "LOGINLAKE_SCENARIO_PICTURES";

/// An instance with its dashboard at `address`.
pub(crate) fn instance(scenario: &Scenario, address: SocketAddr) -> Result<Process> {
    let program = scenario.realtime().args(["--http", &address.to_string()]);
    program
        .args(["--transactional-id", &format!("t-{}", address.port())])
        .start()
}

pub(crate) fn address() -> Result<SocketAddr> {
    Ok(http::loopback(free_port()?))
}

pub(crate) fn stats(address: SocketAddr) -> Result<Value> {
    let page = http::get(address, "/api/stats")?;
    ensure!(page.status == 200, "{page:?}");
    Ok(serde_json::from_str(&page.body)?)
}

/// Waits until an instance's numbers hold so many logins, and are complete.
pub(crate) fn wait_logins(address: SocketAddr, logins: u64) -> Result<Value> {
    wait_for(&format!("{logins} logins on the dashboard"), LIMIT, || {
        let Ok(stats) = stats(address) else {
            return Ok(None);
        };
        let is_there = stats["logins"]["total"] == logins && stats["reader"]["state"] == "live";
        Ok(is_there.then_some(stats))
    })
}

/// The records of a list with names and counts.
pub(crate) fn rows(browser: &mut Browser, id: &str) -> Result<Vec<(String, u64)>> {
    let script = format!(
        "[...document.querySelectorAll('#{id} .row')].map((row) => \
         [row.querySelector('.name').textContent, Number(row.querySelector('.count').textContent.replaceAll(',', ''))])"
    );
    Ok(serde_json::from_value(browser.evaluate(&script)?)?)
}

/// The number that an element shows.
pub(crate) fn number(browser: &mut Browser, id: &str) -> Result<u64> {
    let text = browser.text(id)?.replace(',', "");
    text.parse().with_context(|| format!("#{id} shows {text:?}"))
}

/// States and their logins, as they are read out.
pub(crate) fn tiles(browser: &mut Browser) -> Result<Vec<(String, u64)>> {
    let script = "[...document.querySelectorAll('.tile')].map((tile) => [tile.querySelector('b').textContent, \
        Number(tile.getAttribute('aria-label').match(/([0-9,]+) logins?$/)[1].replaceAll(',', ''))])";
    Ok(serde_json::from_value(browser.evaluate(script)?)?)
}

/// Nothing was forbidden, nothing failed, nothing was asked for elsewhere.
pub(crate) fn ensure_clean(noticed: &Noticed, address: SocketAddr) -> Result<()> {
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

/// Takes a picture, for people to look at.
pub(crate) fn picture(browser: &mut Browser, scenario: &Scenario, name: &str) -> Result<()> {
    let folder = std::env::var_os(PICTURES).map_or_else(|| scenario.dir().to_path_buf(), PathBuf::from);
    browser.screenshot(&folder.join(format!("{name}.png")))
}
