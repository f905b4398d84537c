//! When a job is due: after an interval, at the times of a cron expression (UTC; five fields, or six with seconds first), or
//! never. Pure; the clock is passed in.

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use loginlake_service::config::Span;

/// A schedule, written `5m`, `17 3 * * *` or `never`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Again so long after the last run ended; the first time at once.
    Every(TimeDelta),
    /// At these times; times that pass while a job runs are left out.
    Cron(Box<Cron>),
    /// Not at all.
    Never,
}

impl Schedule {
    /// The first run of a process that begins at `now`.
    pub fn first(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Schedule::Every(_) => Some(now),
            Schedule::Cron(_) => self.next(now),
            Schedule::Never => None,
        }
    }

    /// The run after one that ended at `now`.
    pub fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Schedule::Every(interval) => now.checked_add_signed(*interval),
            Schedule::Cron(cron) => cron.find_next_occurrence(&now, false).ok(),
            Schedule::Never => None,
        }
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "never" {
            return Ok(Schedule::Never);
        }
        if matches!(text.split_whitespace().count(), 5 | 6) {
            let parser = CronParser::builder().seconds(Seconds::Optional).build();
            return match parser.parse(text) {
                Ok(cron) => Ok(Schedule::Cron(Box::new(cron))),
                Err(error) => Err(format!("`{text}` is no cron expression: {error}")),
            };
        }
        let interval = text.parse::<Span>().ok().and_then(|span| {
            let interval = TimeDelta::from_std(span.duration()).ok()?;
            (interval >= TimeDelta::seconds(1)).then_some(interval)
        });
        interval.map(Schedule::Every).ok_or_else(|| {
            format!(
                "`{text}` is no schedule: write an interval of at least 1s such as 5m, a cron expression in UTC of five fields \
                 such as `17 3 * * *` (or six, seconds first), or never"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn intervals_begin_at_once_and_cron_at_its_times() {
        let now = at("2026-01-05T10:20:30Z");
        let every: Schedule = "5m".parse().unwrap();
        assert_eq!(every.first(now), Some(now));
        assert_eq!(every.next(now), Some(at("2026-01-05T10:25:30Z")));
        let nightly: Schedule = "17 3 * * *".parse().unwrap();
        assert_eq!(nightly.first(now), Some(at("2026-01-06T03:17:00Z")));
        assert_eq!(
            nightly.next(at("2026-01-06T03:17:00Z")),
            Some(at("2026-01-07T03:17:00Z"))
        );
        let weekdays: Schedule = "*/30 8-17 * * 1-5".parse().unwrap();
        assert_eq!(
            weekdays.first(at("2026-01-09T17:45:00Z")),
            Some(at("2026-01-12T08:00:00Z"))
        );
        let seconds: Schedule = "*/20 17 3 * * *".parse().unwrap();
        assert_eq!(seconds.first(now), Some(at("2026-01-06T03:17:00Z")));
        assert_eq!(
            seconds.next(at("2026-01-06T03:17:20Z")),
            Some(at("2026-01-06T03:17:40Z"))
        );
        let never: Schedule = "never".parse().unwrap();
        assert_eq!((never.first(now), never.next(now)), (None, None));
    }

    #[test]
    fn what_is_no_schedule_says_what_one_is() {
        for wrong in [
            "",
            "0s",
            "5",
            "61 * * * *",
            "* * * *",
            "61 * * * * *",
            "* * * * * * *",
            "daily",
        ] {
            let error = wrong.parse::<Schedule>().unwrap_err();
            assert!(error.contains("is no "), "{wrong}: {error}");
        }
    }
}
