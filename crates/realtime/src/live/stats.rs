//! What the dashboard shows, as the JSON of `/api/stats` and of each event of `/api/events`.
//!
//! The members and their meaning are an interface: scripts read them, too.

use loginlake_events::{DeviceType, RejectReason};
use serde::Serialize;

use super::PartitionLag;
use super::delays;
use super::slots;
use super::window::{WINDOW_SECONDS, Window};

/// The rate is the mean of this many whole seconds: shorter, and it jumps with every transaction.
const RATE_SECONDS: usize = 10;

/// While records wait, nothing published for so long means that nobody processes them, in milliseconds.
const STALE_AFTER_MS: i64 = 30_000;

/// How far the reader is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub(super) enum ReaderState {
    /// Looks for its start in the topics.
    Starting,
    /// Reads what the window held before somebody looked; the counts still grow towards what is true.
    CatchingUp,
    /// Shows what is true now.
    Live,
    /// Kafka does not answer; says why.
    Retrying(String),
}

/// Everything that the dashboard shows.
#[derive(Debug, Serialize)]
pub(super) struct Stats<'a> {
    /// Epoch milliseconds at which this was taken.
    now_ms: i64,
    window_seconds: usize,
    reader: &'a ReaderState,
    /// The counts are not those of now: Kafka does not answer, or records wait and nothing is published.
    stale: bool,
    /// Milliseconds since the newest login was published; null when there is none.
    newest_age_ms: Option<i64>,
    logins: Logins,
    delay: Delays,
    /// Logins by locale: two letters, or `unknown`.
    locales: std::collections::BTreeMap<String, u64>,
    regions: Vec<Named<'a>>,
    hours: Hours<'a>,
    devices: Vec<Named<'a>>,
    app_versions: Vec<Named<'a>>,
    dead_letters: DeadLetters,
    /// Records that wait in each partition of the input.
    lag: &'a [PartitionLag],
    /// Records of the processed topic that are not of this software.
    unreadable: u64,
}

#[derive(Debug, Serialize)]
struct Logins {
    total: u64,
    /// Per second, over the last 10 whole seconds.
    rate: f64,
    /// The busiest whole second of the window.
    peak: u32,
    /// Second by second, oldest first, without the second that still goes on.
    per_second: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Delays {
    event_to_published: Delay,
    /// Null when no record's Kafka timestamp tells.
    kafka_to_published: Option<Delay>,
}

#[derive(Debug, Serialize)]
struct Delay {
    /// Null when there are no logins.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    distribution: Vec<DelayCount>,
}

#[derive(Debug, Serialize)]
struct DelayCount {
    up_to_ms: u64,
    logins: u64,
}

#[derive(Debug, Serialize)]
struct Named<'a> {
    name: &'a str,
    logins: u64,
}

#[derive(Debug, Serialize)]
struct Hours<'a> {
    /// Logins of each hour of day, from 0.
    utc: &'a [u64],
    /// Local time of the state; logins outside the US have none.
    local: &'a [u64],
}

#[derive(Debug, Serialize)]
struct DeadLetters {
    total: u64,
    /// The most frequent reason first.
    reasons: Vec<ReasonCount>,
}

#[derive(Debug, Serialize)]
struct ReasonCount {
    reason: &'static str,
    records: u64,
}

impl<'a> Stats<'a> {
    /// What the window holds at this moment (epoch milliseconds).
    pub(super) fn of(
        window: &'a Window,
        reader: &'a ReaderState,
        lag: &'a [PartitionLag],
        now_ms: i64,
    ) -> Self {
        let newest_age_ms = window
            .newest_ms()
            .map(|newest| now_ms.saturating_sub(newest).max(0));
        let waiting = lag.iter().any(|partition| partition.records > 0);
        let silent = newest_age_ms.is_none_or(|age| age > STALE_AFTER_MS);
        let stale = match reader {
            ReaderState::Retrying(_) => true,
            ReaderState::Live => waiting && silent,
            ReaderState::Starting | ReaderState::CatchingUp => false,
        };
        Self {
            now_ms,
            window_seconds: WINDOW_SECONDS,
            reader,
            stale,
            newest_age_ms,
            logins: Logins::of(window),
            delay: Delays {
                event_to_published: Delay::of(window.totals(slots::EVENT_DELAY)),
                kafka_to_published: Some(Delay::of(window.totals(slots::KAFKA_DELAY)))
                    .filter(|delay| delay.p50_ms.is_some()),
            },
            locales: window
                .totals(slots::LOCALES)
                .iter()
                .enumerate()
                .filter(|(_, logins)| **logins > 0)
                .map(|(index, logins)| (slots::locale_code(index), *logins))
                .collect(),
            regions: named(window.regions()),
            hours: Hours {
                utc: window.totals(slots::UTC_HOURS),
                local: window.totals(slots::LOCAL_HOURS),
            },
            devices: DeviceType::ALL
                .iter()
                .zip(window.totals(slots::DEVICES))
                .map(|(device, logins)| Named {
                    name: device.as_str(),
                    logins: *logins,
                })
                .collect(),
            app_versions: named(window.versions()),
            dead_letters: DeadLetters::of(window),
            lag,
            unreadable: window.total(slots::UNREADABLE),
        }
    }

    /// As one line of JSON.
    pub(super) fn to_json(&self) -> String {
        // Strings as keys and finite numbers: there is nothing that serde_json refuses.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Logins {
    fn of(window: &Window) -> Self {
        let mut per_second: Vec<u32> = window.by_second(slots::LOGINS).collect();
        per_second.pop();
        let last = per_second.iter().rev().take(RATE_SECONDS);
        let rate = last.map(|count| f64::from(*count)).sum::<f64>() / RATE_SECONDS as f64;
        Self {
            total: window.total(slots::LOGINS),
            rate,
            peak: per_second.iter().copied().max().unwrap_or(0),
            per_second,
        }
    }
}

impl Delay {
    fn of(counts: &[u64]) -> Self {
        let rounded = |share| delays::quantile_ms(counts, share).map(|ms| (ms * 10.0).round() / 10.0);
        let distribution = delays::by_doubling(counts)
            .into_iter()
            .map(|(up_to_ms, logins)| DelayCount { up_to_ms, logins })
            .collect();
        Self {
            p50_ms: rounded(0.5),
            p99_ms: rounded(0.99),
            distribution,
        }
    }
}

impl DeadLetters {
    fn of(window: &Window) -> Self {
        let names = RejectReason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .chain(["unknown"]);
        let mut reasons: Vec<ReasonCount> = names
            .zip(window.totals(slots::REASONS))
            .filter(|(_, records)| **records > 0)
            .map(|(reason, records)| ReasonCount {
                reason,
                records: *records,
            })
            .collect();
        reasons.sort_by_key(|found| std::cmp::Reverse(found.records));
        Self {
            total: window.total(slots::DEAD_LETTERS),
            reasons,
        }
    }
}

fn named(counts: Vec<(&str, u64)>) -> Vec<Named<'_>> {
    counts
        .into_iter()
        .map(|(name, logins)| Named { name, logins })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::record::Login;
    use serde_json::{Value, json};

    const NOW: i64 = 1_720_576_825;

    fn login(second: i64) -> Login<'static> {
        Login {
            processed_ms: second * 1_000,
            event_ms: second * 1_000 - 2_000,
            locale: "RI".into(),
            region: "Northeast".into(),
            utc_hour: 2,
            local_hour: None,
            device_type: DeviceType::Web,
            app_version: "2.3.0".into(),
        }
    }

    /// Half a second after `second` began.
    fn shown(window: &Window, second: i64, reader: &ReaderState, lag: &[PartitionLag]) -> Value {
        let json = Stats::of(window, reader, lag, second * 1_000 + 500).to_json();
        serde_json::from_str(&json).expect("JSON")
    }

    #[test]
    fn known_records_give_known_numbers() {
        let mut window = Window::new(NOW);
        for second in 1..=10 {
            for _ in 0..5 {
                window.count_login(&login(NOW - second), None);
            }
        }
        window.count_dead_letter(Some(RejectReason::BadIp), NOW * 1_000);
        window.count_dead_letter(Some(RejectReason::BadIp), NOW * 1_000);
        window.count_dead_letter(None, NOW * 1_000);
        window.count_unreadable();
        let lag = [PartitionLag {
            partition: 3,
            records: 7,
        }];
        let stats = shown(&window, NOW, &ReaderState::Live, &lag);
        assert_eq!(stats["logins"]["total"], 50);
        assert_eq!(stats["logins"]["rate"], 5.0);
        assert_eq!(stats["logins"]["peak"], 5);
        assert_eq!(
            stats["logins"]["per_second"].as_array().map(Vec::len),
            Some(WINDOW_SECONDS - 1)
        );
        assert_eq!(stats["locales"], json!({"RI": 50}));
        assert_eq!(stats["regions"], json!([{"name": "Northeast", "logins": 50}]));
        assert_eq!(stats["app_versions"], json!([{"name": "2.3.0", "logins": 50}]));
        assert_eq!(stats["devices"][2], json!({"name": "web", "logins": 50}));
        assert_eq!(stats["hours"]["utc"][2], 50);
        assert_eq!(stats["hours"]["local"], json!(vec![0; 24]));
        assert_eq!(stats["dead_letters"]["total"], 3);
        assert_eq!(
            stats["dead_letters"]["reasons"][0],
            json!({"reason": "BAD_IP", "records": 2})
        );
        assert_eq!(
            stats["dead_letters"]["reasons"][1],
            json!({"reason": "unknown", "records": 1})
        );
        assert_eq!(stats["lag"], json!([{"partition": 3, "records": 7}]));
        assert_eq!(stats["unreadable"], 1);
        assert_eq!(stats["delay"]["kafka_to_published"], Value::Null);
        let p50 = stats["delay"]["event_to_published"]["p50_ms"]
            .as_f64()
            .expect("a number");
        assert!((1_750.0..2_250.0).contains(&p50), "{p50}");
        assert_eq!(stats["newest_age_ms"], 1_500);
        assert_eq!(stats["reader"], json!({"state": "live"}));
        assert_eq!(stats["stale"], false);
    }

    #[test]
    fn an_empty_window_has_no_quantiles_and_is_not_stale() {
        let stats = shown(&Window::new(NOW), NOW, &ReaderState::Live, &[]);
        assert_eq!(stats["logins"]["total"], 0);
        assert_eq!(stats["delay"]["event_to_published"]["p50_ms"], Value::Null);
        assert_eq!(
            (&stats["newest_age_ms"], &stats["stale"]),
            (&Value::Null, &json!(false))
        );
    }

    #[test]
    fn stale_is_when_kafka_is_silent_or_when_records_wait_and_nothing_is_published() {
        let mut window = Window::new(NOW);
        window.count_login(&login(NOW), None);
        let waiting = [PartitionLag {
            partition: 0,
            records: 1,
        }];
        assert_eq!(shown(&window, NOW, &ReaderState::Live, &waiting)["stale"], false);
        let retrying = ReaderState::Retrying("no broker".to_owned());
        let stats = shown(&window, NOW, &retrying, &[]);
        assert_eq!(stats["stale"], true);
        assert_eq!(
            stats["reader"],
            json!({"state": "retrying", "detail": "no broker"})
        );
        window.advance(NOW + 31);
        assert_eq!(
            shown(&window, NOW + 31, &ReaderState::Live, &waiting)["stale"],
            true
        );
        assert_eq!(shown(&window, NOW + 31, &ReaderState::Live, &[])["stale"], false);
    }

    /// The page writes values with textContent only; the JSON itself has to stay one line and one value, too.
    #[test]
    fn hostile_values_stay_strings() {
        let hostile = "</script><img src=x onerror=alert(1)>\u{2028}\n\ndata: {}\"'";
        let mut window = Window::new(NOW);
        window.count_login(
            &Login {
                locale: hostile.into(),
                region: hostile.into(),
                app_version: hostile.into(),
                ..login(NOW)
            },
            None,
        );
        let json = Stats::of(&window, &ReaderState::Live, &[], NOW * 1_000).to_json();
        assert!(
            !json.contains('\n') && !json.contains('\r'),
            "one event of the stream is one line"
        );
        let stats: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(stats["locales"], json!({"unknown": 1}));
        assert_eq!(
            stats["regions"][0]["name"], "other",
            "a name that long has no slot"
        );
        let short = "<b>'\"\n&";
        window.count_login(
            &Login {
                app_version: short.into(),
                ..login(NOW)
            },
            None,
        );
        let stats = shown(&window, NOW, &ReaderState::Live, &[]);
        assert!(
            stats["app_versions"]
                .as_array()
                .is_some_and(|all| all.iter().any(|v| v["name"] == short))
        );
    }
}
