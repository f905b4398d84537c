//! Prints what insights cost: each login, and each commit.
//!
//! `cargo run --release -p loginlake-realtime --example insights_cost`

use std::time::{Duration, Instant};

use anyhow::Context as _;
use loginlake_events::{Contract, LoginEvent};
use loginlake_realtime::insights::{Insights, InsightsSettings};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

const EVENTS: usize = 20_000;
const ROUNDS: usize = 50;
const NOW_MS: i64 = 1_720_576_825_000;

fn main() -> anyhow::Result<()> {
    for users in [100_u128, 10_000, u128::MAX] {
        let payloads = payloads(users);
        let contract = Contract::default();
        let events: Vec<LoginEvent<'_>> = payloads
            .iter()
            .map(|payload| contract.decode(Some(payload.as_bytes()), None))
            .collect::<Result<_, _>>()
            .context("a generated event is bad")?;
        for commit_after in [100_000, 1_000, 10, 1] {
            let each = cost(&events, commit_after);
            println!("{users:>39} users, {commit_after:>7} records a commit: {each:>7.1} ns a login");
        }
    }
    Ok(())
}

/// Nanoseconds of each login, commits and a report for each million included.
fn cost(events: &[LoginEvent<'_>], commit_after: usize) -> f64 {
    let start = Instant::now();
    let mut insights = Insights::new(&InsightsSettings::default(), 0, start, NOW_MS);
    let mut uncommitted = 0;
    for event in std::iter::repeat_n(events, ROUNDS).flatten() {
        insights.record(event, Some(NOW_MS));
        uncommitted += 1;
        if uncommitted == commit_after {
            insights.commit(NOW_MS);
            uncommitted = 0;
        }
    }
    insights.commit(NOW_MS);
    let report = insights.take_rest(start + Duration::from_secs(1), NOW_MS);
    assert!(report.is_some_and(|report| report.logins == (EVENTS * ROUNDS) as u64));
    start.elapsed().as_nanos() as f64 / (EVENTS * ROUNDS) as f64
}

fn payloads(users: u128) -> Vec<String> {
    let mut random = SmallRng::seed_from_u64(7);
    let locales = ["CA", "TX", "RI", "NY", "GB", "FL"];
    (0..EVENTS)
        .map(|_| {
            let user = uuid::Uuid::from_u128(random.random::<u128>() % users);
            let locale = locales[random.random_range(0..locales.len())];
            format!(
                r#"{{"user_id":"{user}","app_version":"2.3.0","ip":"108.228.145.239","locale":"{locale}",
                "device_id":"x","timestamp":1720576825,"device_type":"iOS"}}"#
            )
        })
        .collect()
}
