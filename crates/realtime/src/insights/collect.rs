//! What one worker saw since its last report: pending until the commit, then part of the open window.
//!
//! Owned by the worker's thread, without locks. A record costs a few tens of nanoseconds, a commit some microseconds.

use std::time::{Duration, Instant};

use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use datasketches::hll::{HllSketch, HllType, HllUnion};
use loginlake_events::{LoginEvent, RejectReason};
use uuid::Uuid;

use super::args::{InsightsSettings, MIN_INTERVAL};
use super::counts::{Counts, LOCALE_COUNT, locale_code, locale_index};
use super::report::{Content, InsightReport, UserCount};
use super::samples::{Samples, Times};
use crate::live::delays;

/// Places of the heavy-hitters sketch: users are exact up to three quarters of them, and wrong by at most 3.5 / 1,024 of a
/// window's logins beyond (a Misra-Gries sketch; the bound is the crate's).
const USER_PLACES: usize = 1_024;
/// 2 to the power of this many registers of one byte: distinct users within about 1.6 % (one standard deviation).
const DISTINCT_LG_REGISTERS: u8 = 12;
/// Users in a report.
const TOP_USERS: usize = 5;

/// A user id is a UUID; so is its pseudonym.
type Users = FrequentItemsSketch<u128>;

/// Collects the insights of one worker.
#[derive(Debug)]
pub struct Insights {
    every: u64,
    interval: Duration,
    worker: u16,
    /// Reports made.
    sequence: u64,
    pending: Pending,
    window: Window,
    /// The region of each locale that was seen: a locale has one region, so only locales are counted.
    regions: Vec<Option<Box<str>>>,
}

/// What is handled and not committed.
#[derive(Debug)]
struct Pending {
    counts: Counts,
    users: Users,
    distinct: HllSketch,
    samples: Samples,
}

/// What is committed and not reported.
#[derive(Debug)]
struct Window {
    started: Instant,
    start_ms: i64,
    counts: Counts,
    users: Users,
    distinct: HllUnion,
    event_delay: Vec<u64>,
    kafka_delay: Vec<u64>,
}

impl Insights {
    /// For the worker with this number; its first window begins now (`now_ms`: the same in epoch milliseconds).
    pub fn new(settings: &InsightsSettings, worker: u16, now: Instant, now_ms: i64) -> Self {
        Self {
            every: settings.every.max(1),
            interval: settings.interval.max(MIN_INTERVAL),
            worker,
            sequence: 0,
            pending: Pending::new(),
            window: Window::new(now, now_ms),
            regions: vec![None; LOCALE_COUNT],
        }
    }

    /// Notes a login that was handed to the output topic.
    pub fn record(&mut self, event: &LoginEvent<'_>, kafka_timestamp_ms: Option<i64>) {
        let locale = locale_index(event.locale());
        if self.regions[locale].is_none() {
            self.regions[locale] = Some(event.region().into());
        }
        self.pending.counts.count_login(event, locale);
        self.pending.samples.push(Times {
            event_ms: event.event_time_ms(),
            kafka_ms: kafka_timestamp_ms,
        });
        // The contract lets nothing else through.
        if let Ok(user) = Uuid::try_parse_ascii(event.user_id().as_bytes()) {
            let user = user.as_u128();
            self.pending.users.update(user);
            self.pending.distinct.update(user);
        }
    }

    /// Notes a dead letter of the contract.
    pub fn record_rejected(&mut self, reason: RejectReason) {
        self.pending.counts.count_rejected(Some(reason));
    }

    /// Notes a dead letter whose enriched record the output topic refused.
    pub fn record_output_refused(&mut self) {
        self.pending.counts.count_rejected(None);
    }

    /// Notes a good event that a filter held back.
    pub fn record_filtered(&mut self) {
        self.pending.counts.count_filtered();
    }

    /// Everything that was noted is published now (epoch milliseconds): it counts.
    pub fn commit(&mut self, published_ms: i64) {
        if self.pending.counts.records() == 0 {
            return;
        }
        let window = &mut self.window;
        window.counts.add(&self.pending.counts);
        window.users.merge(&self.pending.users);
        window.distinct.update(&self.pending.distinct);
        self.pending.samples.drain(|times, records| {
            let delay_since = |ms: i64| delays::bucket_of(published_ms.saturating_sub(ms));
            window.event_delay[delay_since(times.event_ms)] += records;
            if let Some(ms) = times.kafka_ms {
                window.kafka_delay[delay_since(ms)] += records;
            }
        });
        self.pending.clear();
    }

    /// Nothing of what was noted is published: it is forgotten, and comes again.
    pub fn rollback(&mut self) {
        if self.pending.counts.records() > 0 {
            self.pending.clear();
        }
    }

    /// The report of the window, if it is full or old enough and holds anything; the next one begins.
    pub fn take_if_due(&mut self, now: Instant, now_ms: i64) -> Option<InsightReport> {
        let age = now.saturating_duration_since(self.window.started);
        let full = self.window.counts.records() >= self.every && age >= MIN_INTERVAL;
        if full || age >= self.interval {
            self.take_rest(now, now_ms)
        } else {
            None
        }
    }

    /// The report of the window as it is, if it holds anything: for the end of a run.
    pub fn take_rest(&mut self, now: Instant, now_ms: i64) -> Option<InsightReport> {
        let start_ms = std::mem::replace(&mut self.window.start_ms, now_ms);
        self.window.started = now;
        if self.window.counts.records() == 0 {
            return None;
        }
        self.sequence += 1;
        let window = &self.window;
        let content = Content {
            worker: self.worker,
            sequence: self.sequence,
            start_ms,
            end_ms: now_ms,
            counts: &window.counts,
            locales: window
                .counts
                .locales()
                .map(|(locale, logins)| {
                    let region = self.regions[locale].as_deref().unwrap_or_default();
                    (locale_code(locale), region, logins)
                })
                .collect(),
            top_users: window.top_users(),
            distinct_users: window.distinct.estimate().round() as u64,
            event_delay: &window.event_delay,
            kafka_delay: &window.kafka_delay,
        };
        let report = InsightReport::of(&content);
        self.window.clear();
        Some(report)
    }
}

impl Pending {
    fn new() -> Self {
        Self {
            counts: Counts::new(),
            users: new_users(),
            distinct: new_distinct(),
            samples: Samples::new(),
        }
    }

    fn clear(&mut self) {
        self.counts.clear();
        self.samples.clear();
        if !self.users.is_empty() {
            self.users = new_users();
            self.distinct = new_distinct();
        }
    }
}

impl Window {
    fn new(started: Instant, start_ms: i64) -> Self {
        Self {
            started,
            start_ms,
            counts: Counts::new(),
            users: new_users(),
            distinct: HllUnion::new(DISTINCT_LG_REGISTERS).expect("4 to 21 is valid"),
            event_delay: vec![0; delays::BUCKETS],
            kafka_delay: vec![0; delays::BUCKETS],
        }
    }

    fn clear(&mut self) {
        *self = Self::new(self.started, self.start_ms);
    }

    /// Users that are certain to have more logins than any that is not tracked.
    fn top_users(&self) -> Vec<UserCount> {
        let rows = self.users.frequent_items(ErrorType::NoFalsePositives);
        let mut users: Vec<UserCount> = rows
            .iter()
            .map(|row| UserCount {
                user_id: Uuid::from_u128(*row.item()).to_string(),
                logins: row.estimate(),
                logins_at_least: row.lower_bound(),
            })
            .collect();
        users.sort_by(|left, right| {
            let by_logins = right.logins.cmp(&left.logins);
            by_logins.then_with(|| left.user_id.cmp(&right.user_id))
        });
        users.truncate(TOP_USERS);
        users
    }
}

fn new_users() -> Users {
    Users::new(USER_PLACES).expect("a power of two is valid")
}

fn new_distinct() -> HllSketch {
    HllSketch::new(DISTINCT_LG_REGISTERS, HllType::Hll8).expect("4 to 21 is valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use loginlake_events::Contract;

    const START_MS: i64 = 1_720_576_800_000;
    const LATER: Duration = Duration::from_secs(1);

    struct Scene {
        contract: Contract,
        insights: Insights,
        start: Instant,
    }

    impl Scene {
        fn new(every: u64) -> Self {
            let settings = InsightsSettings {
                every,
                ..InsightsSettings::default()
            };
            let start = Instant::now();
            Self {
                contract: Contract::default(),
                insights: Insights::new(&settings, 3, start, START_MS),
                start,
            }
        }

        fn login(&mut self, user: u128, locale: &str) {
            let json = format!(
                r#"{{"user_id":"{}","app_version":"2.3.0","ip":"1.1.1.1","locale":"{locale}","device_id":"x",
                "timestamp":{},"device_type":"web"}}"#,
                Uuid::from_u128(user),
                START_MS / 1_000
            );
            let event = self.contract.decode(Some(json.as_bytes()), None);
            self.insights
                .record(&event.expect("a good event"), Some(START_MS + 500));
        }

        fn take(&mut self, after: Duration) -> Option<InsightReport> {
            let after_ms = i64::try_from(after.as_millis()).expect("short");
            self.insights.take_if_due(self.start + after, START_MS + after_ms)
        }
    }

    #[test]
    fn a_window_closes_when_it_is_full_but_not_within_a_second() {
        let mut scene = Scene::new(2);
        scene.login(1, "RI");
        scene.insights.commit(START_MS + 800);
        assert!(scene.take(LATER).is_none(), "not full");
        scene.login(1, "RI");
        assert!(scene.take(LATER).is_none(), "not committed");
        scene.insights.commit(START_MS + 900);
        assert!(scene.take(Duration::from_millis(999)).is_none(), "too early");
        let report = scene.take(LATER).expect("full");
        assert_eq!((report.logins, report.worker, report.sequence), (2, 3, 1));
        scene.login(1, "RI");
        scene.login(1, "RI");
        scene.login(1, "RI");
        scene.insights.commit(START_MS + 1_100);
        assert!(
            scene.take(Duration::from_millis(1_999)).is_none(),
            "a second after the last one"
        );
        assert_eq!(scene.take(2 * LATER).expect("full").logins, 3);
    }

    #[test]
    fn a_window_closes_when_its_time_is_over_and_nothing_is_said_about_nothing() {
        let mut scene = Scene::new(100);
        assert!(scene.take(Duration::from_secs(10)).is_none(), "empty");
        scene.login(1, "RI");
        scene.insights.commit(START_MS + 12_000);
        assert!(scene.take(Duration::from_secs(19)).is_none());
        let report = scene.take(Duration::from_secs(20)).expect("its time is over");
        assert_eq!(report.logins, 1);
        assert_eq!(
            report.window_start, "2024-07-10T02:00:10.000Z",
            "without the empty time before"
        );
        assert_eq!(report.window_end, "2024-07-10T02:00:20.000Z");
    }

    #[test]
    fn what_is_rolled_back_does_not_count() {
        let mut scene = Scene::new(1);
        scene.login(1, "RI");
        scene.insights.record_filtered();
        scene.insights.record_rejected(RejectReason::BadIp);
        scene.insights.rollback();
        scene.insights.commit(START_MS);
        assert!(scene.take(LATER).is_none());
        scene.login(2, "CA");
        scene.insights.record_output_refused();
        scene.insights.commit(START_MS);
        let report = scene.take(LATER).expect("a report");
        assert_eq!(
            (
                report.records,
                report.logins,
                report.filtered,
                report.dead_letters
            ),
            (2, 1, 0, 1)
        );
        assert_eq!(report.top_users[0].user_id, Uuid::from_u128(2).to_string());
        assert_eq!(report.distinct_users, 1);
    }

    #[test]
    fn delays_end_at_the_commit() {
        let mut scene = Scene::new(1);
        scene.login(1, "RI");
        scene.insights.commit(START_MS + 2_500);
        let report = scene.take(LATER).expect("a report");
        let near = |found: Option<f64>, exact: f64| (found.expect("a delay") - exact).abs() <= exact / 8.0;
        assert!(near(report.event_to_published.p50_ms, 2_500.0), "{report:?}");
        assert!(near(report.broker_to_published.p99_ms, 2_000.0), "{report:?}");
    }

    #[test]
    fn heavy_users_are_found_among_many_in_bounded_memory() {
        let mut scene = Scene::new(1);
        for round in 0..40_u128 {
            for user in 0..1_000 {
                scene.login(1_000_000 + round * 1_000 + user, "CA");
                if user % 50 == 0 {
                    for heavy in 0..3 {
                        scene.login(heavy, "TX");
                    }
                }
            }
            scene.insights.commit(START_MS);
        }
        assert!(scene.insights.window.users.num_active_items() <= USER_PLACES);
        assert!(scene.insights.window.distinct.estimate() > 0.0);
        let report = scene.take(LATER).expect("a report");
        assert_eq!(report.logins, 40_000 + 40 * 20 * 3);
        let top: Vec<&str> = report
            .top_users
            .iter()
            .take(3)
            .map(|user| user.user_id.as_str())
            .collect();
        for heavy in 0..3 {
            assert!(
                top.contains(&Uuid::from_u128(heavy).to_string().as_str()),
                "{top:?}"
            );
        }
        for user in report.top_users.iter().take(3) {
            assert!(user.logins_at_least <= 800 && 800 <= user.logins, "{user:?}");
        }
        let error = (report.distinct_users as f64 - 40_003.0).abs() / 40_003.0;
        assert!(error < 0.05, "{}", report.distinct_users);
    }

    #[test]
    fn few_users_are_counted_exactly() {
        let mut scene = Scene::new(1);
        for user in 1..=6 {
            for _ in 0..user {
                scene.login(user, "RI");
            }
        }
        scene.insights.commit(START_MS);
        let report = scene.take(LATER).expect("a report");
        let counts: Vec<(u64, u64)> = report
            .top_users
            .iter()
            .map(|user| (user.logins, user.logins_at_least))
            .collect();
        assert_eq!(counts, [(6, 6), (5, 5), (4, 4), (3, 3), (2, 2)]);
        assert_eq!(report.distinct_users, 6);
    }
}
