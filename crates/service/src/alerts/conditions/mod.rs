//! Which numbers are beyond their limits now. Counters are compared with those of a window ago, so that an old trouble is not an
//! alert for ever; the memory of that is bounded. While nothing comes at all, such as between two commits, what was said of the
//! last records stays.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::{AlertLimits, AlertName, ByteSize};

use super::readings::{Buckets, Readings};

/// Most looks that are remembered: with a longer window, they are further apart.
const MAX_LOOKS: usize = 120;
/// With fewer records, a share says nothing.
const MIN_RECORDS: f64 = 20.0;
/// The delay that counts is that of so many of the records.
const QUANTILE: f64 = 0.99;
/// The share of the service's own limit on the compaction debt at which there is an alert.
const DEBT_SHARE: f64 = 0.8;
/// Longest text about one condition, characters.
const MAX_DETAIL: usize = 400;

/// What is remembered from look to look.
#[derive(Debug)]
pub(super) struct Conditions {
    looks: VecDeque<Look>,
    /// When the number of records grew last.
    grew: Instant,
    records: f64,
    /// What was said of records when some came last, by alert.
    said: [Option<String>; 3],
}

/// The counters at one moment.
#[derive(Debug)]
struct Look {
    at: Instant,
    records: f64,
    dead_letters: f64,
    publish_delay: Buckets,
    commit_delay: Buckets,
}

/// For each alert, in the order of [`AlertName::ALL`], what is wrong.
pub(super) type Found = [Option<String>; AlertName::ALL.len()];

impl Conditions {
    pub fn new(now: Instant) -> Self {
        Self {
            looks: VecDeque::new(),
            grew: now,
            records: 0.0,
            said: Default::default(),
        }
    }

    /// What is wrong now.
    pub fn look(&mut self, limits: &AlertLimits, now_at: &Readings, now: Instant) -> Found {
        if now_at.records > self.records {
            self.grew = now;
        }
        self.records = now_at.records;
        let is_old = |look: &Look| now.duration_since(look.at) > limits.window;
        // One that is older than the window stays: it is where the window begins.
        while self.looks.len() >= 2 && is_old(&self.looks[1]) {
            self.looks.pop_front();
        }
        self.judge_records(limits, now_at, now);
        let [share, published, committed] = self.said.clone();
        let found = AlertName::ALL.map(|alert| {
            let detail = match alert {
                AlertName::Lag => lag(limits, now_at),
                AlertName::DeadLetterShare => share.clone(),
                AlertName::PublishDelay => published.clone(),
                AlertName::CommitDelay => committed.clone(),
                AlertName::CompactionDebt => compaction_debt(limits, now_at),
                AlertName::NoData => self.no_data(limits, now_at, now),
                AlertName::NotReady => not_ready(now_at),
            };
            detail.map(|text| text.chars().take(MAX_DETAIL).collect())
        });
        self.remember(limits, now_at, now);
        found
    }

    fn remember(&mut self, limits: &AlertLimits, now_at: &Readings, now: Instant) {
        let apart = limits.window / MAX_LOOKS as u32;
        if self
            .looks
            .back()
            .is_some_and(|last| now.duration_since(last.at) < apart)
        {
            return;
        }
        if self.looks.len() > MAX_LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back(Look {
            at: now,
            records: now_at.records,
            dead_letters: now_at.dead_letters,
            publish_delay: now_at.publish_delay.clone(),
            commit_delay: now_at.commit_delay.clone(),
        });
    }

    /// Of the records that came since the beginning of the window.
    fn judge_records(&mut self, limits: &AlertLimits, now_at: &Readings, now: Instant) {
        if now.duration_since(self.grew) >= limits.no_data {
            // What was said is too old.
            self.said = Default::default();
        }
        // What came before the first look belongs to the start.
        let Some(before) = self.looks.front() else { return };
        let (publish, commit) = (&now_at.publish_delay, &now_at.commit_delay);
        let judged = [
            dead_letter_share(limits, now_at, before),
            delay(
                publish,
                &before.publish_delay,
                limits.publish_delay,
                "to be published",
            ),
            delay(
                commit,
                &before.commit_delay,
                limits.commit_delay,
                "to be in the lake",
            ),
        ];
        for (said, judged) in self.said.iter_mut().zip(judged) {
            match judged {
                Judged::Right => *said = None,
                Judged::Wrong(detail) => *said = Some(detail),
                Judged::NothingCame => {}
            }
        }
    }

    /// An instance without partitions has nothing to read.
    fn no_data(&self, limits: &AlertLimits, now_at: &Readings, now: Instant) -> Option<String> {
        let has_partitions = now_at.lag_seconds.is_some() || now_at.lag_records.is_some();
        let since = now.duration_since(self.grew);
        (has_partitions && since >= limits.no_data).then(|| {
            format!(
                "no record was handled for {}, the limit is {}",
                time(since.as_secs_f64()),
                time(limits.no_data.as_secs_f64())
            )
        })
    }
}

fn lag(limits: &AlertLimits, now_at: &Readings) -> Option<String> {
    let limit_s = limits.lag.as_secs_f64();
    if let Some(seconds) = now_at.lag_seconds.filter(|seconds| *seconds > limit_s) {
        let (waited, limit) = (time(seconds), time(limit_s));
        return Some(format!("a record has waited for {waited}, the limit is {limit}"));
    }
    let limit = limits.lag_records;
    let records = now_at.lag_records.filter(|records| *records > limit as f64)?;
    Some(format!("{records} records wait, the limit is {limit}"))
}

/// What is to be said of the records of a window.
enum Judged {
    Right,
    Wrong(String),
    NothingCame,
}

fn dead_letter_share(limits: &AlertLimits, now_at: &Readings, before: &Look) -> Judged {
    let records = now_at.records - before.records;
    let share = (now_at.dead_letters - before.dead_letters) / records;
    if records < MIN_RECORDS {
        Judged::NothingCame
    } else if share > limits.dead_letter_share {
        Judged::Wrong(format!(
            "{:.1} % of the last {records} records are rejected, the limit is {:.1} %",
            100.0 * share,
            100.0 * limits.dead_letter_share
        ))
    } else {
        Judged::Right
    }
}

fn delay(now: &Buckets, before: &Buckets, limit: Duration, what: &str) -> Judged {
    let limit = limit.as_secs_f64();
    match quantile(now, before) {
        None => Judged::NothingCame,
        Some(seconds) if seconds > limit => Judged::Wrong(format!(
            "1 of 100 records takes more than {} {what}, the limit is {}",
            time(seconds),
            time(limit)
        )),
        Some(_) => Judged::Right,
    }
}

/// As `histogram_quantile` of Prometheus, of what came between two looks.
fn quantile(now: &Buckets, before: &Buckets) -> Option<f64> {
    // The buckets are always the same ones, except that at first there are none.
    let counts: Vec<(f64, f64)> = now
        .iter()
        .enumerate()
        .map(|(index, (bound, count))| (*bound, count - before.get(index).map_or(0.0, |(_, count)| *count)))
        .collect();
    let total = counts
        .last()
        .map(|(_, count)| *count)
        .filter(|total| *total > 0.0)?;
    let rank = QUANTILE * total;
    let index = counts.iter().position(|(_, count)| *count >= rank)?;
    let (low, below) = index.checked_sub(1).map_or((0.0, 0.0), |index| counts[index]);
    let (high, up_to) = counts[index];
    if high.is_infinite() {
        return Some(low);
    }
    Some(low + (high - low) * (rank - below) / (up_to - below))
}

fn compaction_debt(limits: &AlertLimits, now_at: &Readings) -> Option<String> {
    let of_service = now_at.debt_limit_bytes.map(|bytes| DEBT_SHARE * bytes);
    let limit = limits
        .compaction_debt_bytes
        .map(|bytes| bytes as f64)
        .or(of_service)?;
    let bytes = now_at.debt_bytes.filter(|bytes| *bytes > limit)?;
    Some(format!(
        "{} wait for compaction, the limit is {}",
        size(bytes),
        size(limit)
    ))
}

fn not_ready(now_at: &Readings) -> Option<String> {
    if now_at.health.ready {
        return None;
    }
    let reasons: Vec<String> = now_at
        .health
        .components
        .iter()
        .filter_map(|component| {
            let reason = component.reason.as_deref()?;
            Some(format!("{}: {reason}", component.name))
        })
        .collect();
    Some(match reasons.as_slice() {
        [] => "no component has started".to_owned(),
        reasons => reasons.join("; "),
    })
}

/// `20 ms`, `45 s`, `12 min`, `3.5 h`.
pub(super) fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s > 0.0 && s < 1.0 => (s * 1_000.0, "ms"),
        s if s < 120.0 => (s, "s"),
        s if s < 7_200.0 => (s / 60.0, "min"),
        s => (s / 3_600.0, "h"),
    };
    let digits = if value < 10.0 && value.fract() >= 0.05 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {unit}")
}

/// To three digits or so.
fn size(bytes: f64) -> String {
    let units = ["TiB", "GiB", "MiB", "KiB"];
    let mut factor = f64::from(1 << 10).powi(4);
    for unit in units {
        if bytes >= factor {
            return format!("{:.1} {unit}", bytes / factor);
        }
        factor /= 1_024.0;
    }
    ByteSize::from_bytes(bytes as u64).to_string()
}

#[cfg(test)]
mod tests;
