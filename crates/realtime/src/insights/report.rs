//! The report of one window: a JSON record, and a log line without anything personal.
//!
//! The members and their meaning are an interface: consumers of the insights topic read them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::counts::Counts;
use crate::live::delays;

/// Locales with the most logins in a report.
const TOP_LOCALES: usize = 10;
/// Locales with the fewest logins in a report.
const BOTTOM_LOCALES: usize = 5;
/// Locales and reasons in the log line.
const SHOWN: usize = 3;

/// What one worker committed in one window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InsightReport {
    /// When the window began, RFC 3339, UTC.
    pub window_start: String,
    /// When it ended.
    pub window_end: String,
    /// The worker of the instance, from 0.
    pub worker: u16,
    /// The worker's report, from 1.
    pub sequence: u64,
    /// Everything that was handled: logins, filtered and dead letters.
    pub records: u64,
    /// Republished logins; all that follows but `filtered`, `dead_letters` and `rejected` is about these.
    pub logins: u64,
    /// Good events that a filter held back.
    pub filtered: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Dead letters by reason, without those that did not occur.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Logins by device type, all of them.
    pub device_types: BTreeMap<&'static str, u64>,
    /// Logins by region, without those that did not occur.
    pub regions: BTreeMap<String, u64>,
    /// Logins by UTC hour, without those that did not occur.
    pub hours: BTreeMap<u8, u64>,
    /// Logins by time of day, all of them.
    pub times_of_day: BTreeMap<&'static str, u64>,
    /// The ten locales with the most logins, the most first.
    pub top_locales: Vec<LocaleCount>,
    /// The five locales with the fewest logins among those that had any, the fewest first.
    pub bottom_locales: Vec<LocaleCount>,
    /// The five users with the most logins, the most first; fewer when no others stand out.
    pub top_users: Vec<UserCount>,
    /// About how many users there were.
    pub distinct_users: u64,
    /// From the event to its publication.
    pub event_to_published: Delay,
    /// From the record in Kafka to its publication.
    pub broker_to_published: Delay,
    /// When the window began, epoch milliseconds; the JSON has it as `window_start`.
    #[serde(skip)]
    pub start_ms: i64,
}

/// Logins of a locale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocaleCount {
    /// Two letters, or `unknown`.
    pub locale: String,
    /// Its logins.
    pub logins: u64,
}

/// Logins of a user. A sketch counts them: the truth is between the two numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserCount {
    /// As in the processed event.
    pub user_id: String,
    /// At most so many logins.
    pub logins: u64,
    /// At least so many logins; the same number while there are few users.
    pub logins_at_least: u64,
}

/// Delays of a window, right within an eighth; null when there are none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delay {
    /// Half of the logins took no longer, milliseconds.
    pub p50_ms: Option<f64>,
    /// 99 % of the logins took no longer, milliseconds.
    pub p99_ms: Option<f64>,
}

/// What a report is made of.
pub(super) struct Content<'a> {
    pub worker: u16,
    pub sequence: u64,
    pub start_ms: i64,
    pub end_ms: i64,
    pub counts: &'a Counts,
    /// Locale, its region, logins.
    pub locales: Vec<(String, &'a str, u64)>,
    pub top_users: Vec<UserCount>,
    pub distinct_users: u64,
    /// By bucket of [`delays`].
    pub event_delay: &'a [u64],
    pub kafka_delay: &'a [u64],
}

impl InsightReport {
    pub(super) fn of(content: &Content<'_>) -> Self {
        let counts = content.counts;
        let mut regions = BTreeMap::new();
        for (_, region, logins) in &content.locales {
            *regions.entry((*region).to_owned()).or_insert(0) += logins;
        }
        Self {
            window_start: rfc3339(content.start_ms),
            window_end: rfc3339(content.end_ms),
            worker: content.worker,
            sequence: content.sequence,
            records: counts.records(),
            logins: counts.logins(),
            filtered: counts.filtered(),
            dead_letters: counts.dead_letters(),
            rejected: counts.reasons().filter(|(_, records)| *records > 0).collect(),
            device_types: counts.devices().collect(),
            regions,
            hours: counts.hours().filter(|(_, logins)| *logins > 0).collect(),
            times_of_day: counts.times_of_day().collect(),
            top_locales: ranked(&content.locales, TOP_LOCALES, Reverse),
            bottom_locales: ranked(&content.locales, BOTTOM_LOCALES, |logins| logins),
            top_users: content.top_users.clone(),
            distinct_users: content.distinct_users,
            event_to_published: Delay::of(content.event_delay),
            broker_to_published: Delay::of(content.kafka_delay),
            start_ms: content.start_ms,
        }
    }

    /// As one line of JSON.
    pub fn to_json(&self) -> String {
        // Strings and numbers as keys, finite numbers: there is nothing that serde_json refuses.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Delay {
    fn of(counts: &[u64]) -> Self {
        let rounded = |share| delays::quantile_ms(counts, share).map(|ms| (ms * 10.0).round() / 10.0);
        Self {
            p50_ms: rounded(0.5),
            p99_ms: rounded(0.99),
        }
    }
}

/// The first locales in the order of `key`; equal ones by name.
fn ranked<K: Ord>(locales: &[(String, &str, u64)], limit: usize, key: impl Fn(u64) -> K) -> Vec<LocaleCount> {
    let mut ranked: Vec<_> = locales
        .iter()
        .map(|(locale, _, logins)| (key(*logins), locale, *logins))
        .collect();
    ranked.sort();
    let first = ranked.into_iter().take(limit);
    first
        .map(|(_, locale, logins)| LocaleCount {
            locale: locale.clone(),
            logins,
        })
        .collect()
}

fn rfc3339(epoch_ms: i64) -> String {
    let time: DateTime<Utc> = DateTime::from_timestamp_millis(epoch_ms).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The log line: no user, no address, nothing that a client wrote.
impl fmt::Display for InsightReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records: {} logins of about {} users",
            self.records, self.logins, self.distinct_users
        )?;
        for (index, top) in self.top_locales.iter().take(SHOWN).enumerate() {
            let before = if index == 0 { ", most from " } else { ", " };
            write!(f, "{before}{} {}", top.locale, top.logins)?;
        }
        write!(
            f,
            "; {} filtered, {} dead letters",
            self.filtered, self.dead_letters
        )?;
        let mut reasons: Vec<_> = self.rejected.iter().collect();
        reasons.sort_by_key(|(reason, records)| (Reverse(**records), **reason));
        for (index, (reason, records)) in reasons.iter().take(SHOWN).enumerate() {
            write!(f, "{}{reason} {records}", if index == 0 { " (" } else { ", " })?;
        }
        if !reasons.is_empty() {
            write!(f, "{})", if reasons.len() > SHOWN { ", …" } else { "" })?;
        }
        if let Delay {
            p50_ms: Some(p50),
            p99_ms: Some(p99),
        } = self.broker_to_published
        {
            write!(f, "; published after {p50} ms, p99 {p99} ms")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loginlake_events::RejectReason;
    use serde_json::{Value, json};

    const USER: &str = "a6397988-1649-4859-ae5f-a1407b638ca6";

    fn report() -> InsightReport {
        let mut counts = Counts::new();
        counts.count_rejected(Some(RejectReason::BadIp));
        counts.count_filtered();
        let event_delay = vec![0; delays::BUCKETS];
        let mut kafka_delay = event_delay.clone();
        kafka_delay[delays::bucket_of(100)] = 5;
        let locales = (0..12_u8).map(|index| {
            let code = format!("A{}", char::from(b'A' + index));
            (
                code,
                if index < 2 { "South" } else { "West" },
                u64::from(index) + 1,
            )
        });
        InsightReport::of(&Content {
            worker: 1,
            sequence: 9,
            start_ms: 1_720_576_825_250,
            end_ms: 1_720_576_835_250,
            counts: &counts,
            locales: locales.collect(),
            top_users: vec![UserCount {
                user_id: USER.to_owned(),
                logins: 5,
                logins_at_least: 4,
            }],
            distinct_users: 77,
            event_delay: &event_delay,
            kafka_delay: &kafka_delay,
        })
    }

    #[test]
    fn the_json_has_exactly_the_members_of_the_interface() {
        let value: Value = serde_json::from_str(&report().to_json()).expect("JSON");
        let names: Vec<&str> = value
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = [
            "window_start",
            "window_end",
            "worker",
            "sequence",
            "records",
            "logins",
            "filtered",
            "dead_letters",
            "rejected",
            "device_types",
            "regions",
            "hours",
            "times_of_day",
            "top_locales",
            "bottom_locales",
            "top_users",
            "distinct_users",
            "event_to_published",
            "broker_to_published",
        ];
        expected.sort_unstable();
        let mut found = names.clone();
        found.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(value["window_start"], "2024-07-10T02:00:25.250Z");
        assert_eq!(value["rejected"], json!({"BAD_IP": 1}));
        assert_eq!(value["regions"], json!({"South": 3, "West": 75}));
        assert_eq!(
            value["device_types"],
            json!({"android": 0, "ios": 0, "web": 0, "other": 0, "unknown": 0})
        );
        assert_eq!(value["hours"], json!({}));
        assert_eq!(
            value["top_users"],
            json!([{"user_id": USER, "logins": 5, "logins_at_least": 4}])
        );
        assert_eq!(
            value["event_to_published"],
            json!({"p50_ms": null, "p99_ms": null})
        );
        assert!(
            value["broker_to_published"]["p50_ms"]
                .as_f64()
                .is_some_and(|ms| ms > 80.0)
        );
    }

    #[test]
    fn ten_locales_are_top_and_five_are_bottom() {
        let report = report();
        let codes = |counts: &[LocaleCount]| {
            counts
                .iter()
                .map(|count| count.locale.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            codes(&report.top_locales),
            ["AL", "AK", "AJ", "AI", "AH", "AG", "AF", "AE", "AD", "AC"]
        );
        assert_eq!(codes(&report.bottom_locales), ["AA", "AB", "AC", "AD", "AE"]);
    }

    #[test]
    fn the_log_line_names_no_user() {
        let line = report().to_string();
        assert!(!line.contains(USER), "{line}");
        assert!(
            line.starts_with("2 records: 0 logins of about 77 users, most from AL 12, AK 11, AJ 10;"),
            "{line}"
        );
        assert!(line.contains("1 filtered, 1 dead letters (BAD_IP 1)"), "{line}");
        assert!(!line.contains('\n'));
    }
}
