//! Axes: round steps for numbers, and for time.

use chrono::{DateTime, Datelike, Timelike};

use super::model::{Measure, Unit};
use crate::print::cell::separate_thousands;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;
/// Steps of a time axis, from small to large; larger ones are months and years.
const TIME_STEPS_MS: [i64; 16] = [
    SECOND_MS,
    10 * SECOND_MS,
    MINUTE_MS,
    5 * MINUTE_MS,
    15 * MINUTE_MS,
    30 * MINUTE_MS,
    HOUR_MS,
    2 * HOUR_MS,
    3 * HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,
    DAY_MS,
    2 * DAY_MS,
    7 * DAY_MS,
    14 * DAY_MS,
    28 * DAY_MS,
];
const MONTH_STEPS: [u32; 6] = [1, 2, 3, 6, 12, 24];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A number axis from `low` to `high`, both on a tick, and zero within.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<f64>,
}

impl Axis {
    /// An axis that holds all `values` and zero, with about `wanted` steps. Whole numbers get whole steps.
    pub(super) fn over(values: impl Iterator<Item = f64>, unit: Unit, wanted: usize) -> Self {
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for value in values {
            low = low.min(value);
            high = high.max(value);
        }
        if low == high {
            high = if unit == Unit::Share { 0.01 } else { 1.0 };
        }
        let mut step = round_step((high / wanted as f64) - (low / wanted as f64));
        if unit == Unit::Count {
            step = step.ceil();
        }
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        // A step that is lost in the size of the values would not end.
        let count = (last - first).clamp(1.0, 1_000.0) as usize;
        let ticks: Vec<f64> = (0..=count).map(|index| (first + index as f64) * step).collect();
        Self {
            low: ticks[0],
            high: ticks[count],
            ticks,
        }
    }

    /// The text of a tick.
    pub(super) fn text(&self, measure: &Measure, tick: f64) -> String {
        tick_text(measure, tick, self.high.abs().max(self.low.abs()))
    }

    /// Where `value` is on the axis, 0 to 1.
    pub(super) fn position(&self, value: f64) -> f64 {
        let size = self.high - self.low;
        if size.is_finite() && size > 0.0 {
            ((value - self.low) / size).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    if !least.is_finite() || least <= 0.0 {
        return 1.0;
    }
    let least = least.max(1e-300);
    let mut power = 1.0_f64;
    while power > least {
        power /= 10.0;
    }
    while power * 10.0 <= least {
        power *= 10.0;
    }
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least * 0.999_999)
        .unwrap_or(10.0 * power)
}

/// The text of a tick on an axis whose largest number is `largest`: short, and all of one axis in one unit.
pub(super) fn tick_text(measure: &Measure, value: f64, largest: f64) -> String {
    if measure.unit == Unit::Share {
        return trimmed(value * 100.0);
    }
    let size = largest.abs();
    let units = [
        (1e12, 1e12, " T"),
        (1e9, 1e9, " bn"),
        (1e6, 1e6, " M"),
        (1e5, 1e3, " k"),
    ];
    match units.into_iter().find(|(from, ..)| size >= *from) {
        Some((_, divisor, name)) if value != 0.0 => {
            format!("{}{name}", separate_thousands(&trimmed(value / divisor)))
        }
        _ => separate_thousands(&trimmed(value)),
    }
}

/// `1,250`, or beside `12k` rather `1.3k`; `3.5M`: a number for a narrow place, rounded, as they are beside `largest`.
pub(super) fn short(value: f64, largest: f64) -> String {
    let size = value.abs();
    let thousands = if largest.abs() >= 1e4 { 1e3 } else { 1e4 };
    for (from, divisor, name) in [
        (1e12, 1e12, "T"),
        (1e9, 1e9, "bn"),
        (1e6, 1e6, "M"),
        (thousands, 1e3, "k"),
    ] {
        if size >= from {
            let value = value / divisor;
            let decimals = if value.abs() < 10.0 { 10.0 } else { 1.0 };
            return format!("{}{name}", trimmed((value * decimals).round() / decimals));
        }
    }
    separate_thousands(&trimmed(value))
}

/// Up to two decimals, none that are zero.
fn trimmed(value: f64) -> String {
    if value != 0.0 && !(0.005..1e15).contains(&value.abs()) {
        return format!("{value:e}");
    }
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// A tick of a time axis: its time, its text, and a second line where the day or the year begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeTick {
    pub(super) at_ms: i64,
    pub(super) text: String,
    pub(super) below: Option<String>,
}

/// Ticks from `low_ms` to `high_ms`, at most `most` and not below `least_step_ms`.
pub(super) fn time_ticks(low_ms: i64, high_ms: i64, least_step_ms: i64, most: usize) -> Vec<TimeTick> {
    let most = i64::try_from(most.max(1)).unwrap_or(1);
    let span = high_ms.saturating_sub(low_ms);
    let step = TIME_STEPS_MS
        .into_iter()
        .find(|step| *step >= least_step_ms && span / step < most);
    let mut ticks = Vec::new();
    let mut said = String::new();
    if let Some(step) = step {
        // Steps of days count from the first date, shorter ones from midnight.
        let origin = if step > DAY_MS { low_ms } else { 0 };
        let mut at = low_ms + (origin - low_ms).rem_euclid(step);
        while at <= high_ms {
            push_tick(&mut ticks, &mut said, at, step < DAY_MS);
            at += step;
        }
        return ticks;
    }
    for months in MONTH_STEPS {
        let firsts = firsts_of_months(low_ms, high_ms, months);
        if firsts.len() <= usize::try_from(most).unwrap_or(1) || months == 24 {
            let stride = firsts.len().div_ceil(usize::try_from(most).unwrap_or(1)).max(1);
            for at in firsts.into_iter().step_by(stride) {
                push_tick(&mut ticks, &mut said, at, false);
            }
            break;
        }
    }
    ticks
}

/// Midnights of the first of every `step`th month between two times; at most a few thousand.
fn firsts_of_months(low_ms: i64, high_ms: i64, step: u32) -> Vec<i64> {
    let Some(low) = DateTime::from_timestamp_millis(low_ms) else {
        return Vec::new();
    };
    let start_month = i64::from(low.year()) * 12 + i64::from(low.month0());
    let step = i64::from(step);
    let mut month = start_month.div_euclid(step) * step;
    let mut firsts = Vec::new();
    while firsts.len() < 5_000 {
        let (year, month0) = (month.div_euclid(12), month.rem_euclid(12));
        let date = i32::try_from(year)
            .ok()
            .zip(u32::try_from(month0).ok())
            .and_then(|(year, month0)| chrono::NaiveDate::from_ymd_opt(year, month0 + 1, 1));
        let Some(date) = date else { break };
        let at = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
        if at > high_ms {
            break;
        }
        if at >= low_ms {
            firsts.push(at);
        }
        month += step;
    }
    firsts
}

fn push_tick(ticks: &mut Vec<TimeTick>, said: &mut String, at_ms: i64, is_clock: bool) {
    let Some(time) = DateTime::from_timestamp_millis(at_ms) else {
        return;
    };
    let day = format!("{} {}", time.day(), MONTHS[time.month0() as usize]);
    let (text, below) = if is_clock {
        let clock = if time.second() == 0 {
            format!("{:02}:{:02}", time.hour(), time.minute())
        } else {
            format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
        };
        (clock, format!("{day} {}", time.year()))
    } else {
        (day, time.year().to_string())
    };
    let is_new = *said != below;
    said.clone_from(&below);
    ticks.push(TimeTick {
        at_ms,
        text,
        below: is_new.then_some(below),
    });
}

/// A point of time as text: a date, or a date with its time.
pub(super) fn time_text(at_ms: i64, is_daily: bool) -> String {
    let format = if is_daily { "%Y-%m-%d" } else { "%Y-%m-%d %H:%M:%S" };
    DateTime::from_timestamp_millis(at_ms).map_or_else(String::new, |time| time.format(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(values: &[f64], unit: Unit) -> Vec<f64> {
        Axis::over(values.iter().copied(), unit, 5).ticks
    }

    #[test]
    fn axes_are_round_and_hold_zero_and_all_values() {
        assert_eq!(
            ticks(&[3.0, 118.0], Unit::Count),
            [0.0, 25.0, 50.0, 75.0, 100.0, 125.0]
        );
        assert_eq!(ticks(&[1.0], Unit::Count), [0.0, 1.0]);
        assert_eq!(ticks(&[], Unit::Count), [0.0, 1.0]);
        assert_eq!(
            ticks(&[-40.0, 55.0], Unit::Count),
            [-40.0, -20.0, 0.0, 20.0, 40.0, 60.0]
        );
        for values in [[0.1, 0.07], [1e-9, 3e-9], [1e18, 2e18], [f64::MAX, f64::MIN]] {
            let axis = Axis::over(values.into_iter(), Unit::Number, 5);
            assert!(axis.ticks.len() <= 1_001, "{values:?}");
            for value in values {
                assert!((0.0..=1.0).contains(&axis.position(value)), "{values:?}");
            }
        }
    }

    #[test]
    fn ticks_are_short() {
        let logins = Measure {
            name: "logins".to_owned(),
            unit: Unit::Count,
        };
        for (value, largest, text) in [
            (0.0, 5.0, "0"),
            (1_250.0, 5_000.0, "1,250"),
            (50_000.0, 200_000.0, "50 k"),
            (0.0, 200_000.0, "0"),
            (1_500_000.0, 2e6, "1.5 M"),
            (-2e9, 2e9, "-2 bn"),
        ] {
            assert_eq!(tick_text(&logins, value, largest), text);
        }
        for (value, text) in [
            (999.0, "999"),
            (9_999.0, "9,999"),
            (12_345.0, "12k"),
            (-1_540_000.0, "-1.5M"),
        ] {
            assert_eq!(short(value, value), text);
        }
        assert_eq!(
            (short(9_999.0, 12e3), short(1_250.0, 12e3)),
            ("10k".to_owned(), "1.3k".to_owned())
        );
        let share = Measure {
            name: "share".to_owned(),
            unit: Unit::Share,
        };
        assert_eq!(tick_text(&share, 0.075, 0.1), "7.5");
    }

    #[test]
    fn time_axes_say_the_year_once_and_stay_sparse() {
        let day = |days: i64| days * DAY_MS;
        let first = 20_458; // 2026-01-05
        let week = time_ticks(day(first), day(first + 4), DAY_MS, 10);
        let texts: Vec<&str> = week.iter().map(|tick| tick.text.as_str()).collect();
        assert_eq!(texts, ["5 Jan", "6 Jan", "7 Jan", "8 Jan", "9 Jan"]);
        assert_eq!(week[0].below.as_deref(), Some("2026"));
        assert!(week[1..].iter().all(|tick| tick.below.is_none()));
        for days in [0, 1, 10, 31, 100, 365, 1_000, 10_000, 100_000] {
            let ticks = time_ticks(day(first), day(first + days), DAY_MS, 10);
            assert!(ticks.len() <= 10, "{days} days: {}", ticks.len());
            assert!(!ticks.is_empty(), "{days} days");
        }
        let hours = time_ticks(day(first), day(first) + 12 * HOUR_MS, 1, 10);
        assert_eq!(hours[0].text, "00:00");
        assert_eq!(hours[0].below.as_deref(), Some("5 Jan 2026"));
    }
}
