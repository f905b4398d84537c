//! When logins happen: the day curve of each state, and the walk through a period along it.
//!
//! The weight of an hour is, over all states, what the state's users weigh times the activity at the state's local
//! hour. Activity is constant within a local hour, and every US zone is whole hours from UTC with its clock changes on
//! the hour, so one weight per state and UTC hour is exact.
//!
//! A walk of N events puts event i at the quantile (i + u) / N of the period's weight, u drawn anew in [0, 1): times
//! ascend, the counts follow the curve closely, and nothing is stored but the current hour.

use chrono::{DateTime, Datelike, TimeZone, Timelike, Utc, Weekday};

use crate::rng::Rng;
use crate::states::{STATE_COUNT, STATES};

const HOUR_SECS: i64 = 3_600;

/// Logins by local hour, in percent of the busiest: quiet at night, a shoulder by day, the peak in the evening.
const ACTIVITY_BY_LOCAL_HOUR: [u32; 24] = [
    22, 14, 9, 7, 7, 11, 22, 38, 50, 55, 57, 60, 64, 62, 59, 58, 62, 70, 82, 94, 100, 92, 68, 40,
];
/// What is left of it on Saturdays and Sundays, in percent.
const WEEKEND_PERCENT: u32 = 85;

/// How the logins of one UTC hour are spread over the states.
#[derive(Clone, Debug)]
pub(crate) struct HourWeights {
    cumulative: [f64; STATE_COUNT],
}

impl HourWeights {
    /// The weights of the UTC hour that holds `instant_secs`.
    pub(crate) fn at(instant_secs: i64, state_weights: &[f64; STATE_COUNT]) -> HourWeights {
        let instant = DateTime::<Utc>::from_timestamp_secs(instant_secs).unwrap_or(DateTime::UNIX_EPOCH);
        let mut sum = 0.0;
        let cumulative = std::array::from_fn(|i| {
            if state_weights[i] > 0.0 {
                let local = instant.with_timezone(&STATES[i].zone);
                sum += state_weights[i] * f64::from(activity(&local));
            }
            sum
        });
        HourWeights { cumulative }
    }

    fn total(&self) -> f64 {
        self.cumulative[STATE_COUNT - 1]
    }

    /// A state by weight; never one without weight.
    pub(crate) fn draw_state(&self, rng: &mut Rng) -> usize {
        let point = rng.unit() * self.total();
        let index = self.cumulative.partition_point(|&sum| sum <= point);
        // Rounding could put the point at the very end: then the last state that weighs anything.
        index.min(self.cumulative.partition_point(|&sum| sum < self.total()))
    }
}

fn activity<Z: TimeZone>(local: &DateTime<Z>) -> u32 {
    let weekend = matches!(local.weekday(), Weekday::Sat | Weekday::Sun);
    ACTIVITY_BY_LOCAL_HOUR[local.hour() as usize] * if weekend { WEEKEND_PERCENT } else { 100 }
}

/// Ascending instants through [from, to), as many as were asked for.
#[derive(Debug)]
pub(crate) struct Walk {
    state_weights: [f64; STATE_COUNT],
    to_secs: i64,
    count: u64,
    next_index: u64,
    total: f64,
    /// The part of the current UTC hour that is in the period.
    slice: Slice,
    weight_before_slice: f64,
}

#[derive(Debug)]
struct Slice {
    start_secs: i64,
    end_secs: i64,
    hour: HourWeights,
}

impl Slice {
    fn starting_at(start_secs: i64, to_secs: i64, state_weights: &[f64; STATE_COUNT]) -> Slice {
        let hour_end = start_secs - start_secs.rem_euclid(HOUR_SECS) + HOUR_SECS;
        let hour = HourWeights::at(start_secs, state_weights);
        Slice {
            start_secs,
            end_secs: hour_end.min(to_secs),
            hour,
        }
    }

    fn weight(&self) -> f64 {
        self.hour.total() * (self.end_secs - self.start_secs) as f64
    }
}

impl Walk {
    /// `from_secs` must be before `to_secs`.
    pub(crate) fn new(from_secs: i64, to_secs: i64, count: u64, state_weights: [f64; STATE_COUNT]) -> Walk {
        assert!(from_secs < to_secs, "the configuration was validated");
        let first = || Slice::starting_at(from_secs, to_secs, &state_weights);
        let mut slice = first();
        let mut total = slice.weight();
        while slice.end_secs < to_secs {
            slice = Slice::starting_at(slice.end_secs, to_secs, &state_weights);
            total += slice.weight();
        }
        let slice = first();
        Walk {
            state_weights,
            to_secs,
            count,
            next_index: 0,
            total,
            slice,
            weight_before_slice: 0.0,
        }
    }

    /// The next instant in epoch seconds, with the weights of its hour; `None` after the last.
    pub(crate) fn advance(&mut self, rng: &mut Rng) -> Option<(i64, &HourWeights)> {
        if self.next_index == self.count {
            return None;
        }
        let quantile = (self.next_index as f64 + rng.unit()) / self.count as f64;
        self.next_index += 1;
        let target = quantile * self.total;
        while target >= self.weight_before_slice + self.slice.weight() && self.slice.end_secs < self.to_secs {
            self.weight_before_slice += self.slice.weight();
            self.slice = Slice::starting_at(self.slice.end_secs, self.to_secs, &self.state_weights);
        }
        let slice = &self.slice;
        let length_secs = slice.end_secs - slice.start_secs;
        let into_slice = (target - self.weight_before_slice) / slice.hour.total();
        let offset_secs = (into_slice as i64).clamp(0, length_secs - 1);
        Some((slice.start_secs + offset_secs, &slice.hour))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONDAY_2026_01_05: i64 = 1_767_571_200;
    const DAY_SECS: i64 = 86_400;

    fn only(code: &[u8; 2]) -> [f64; STATE_COUNT] {
        std::array::from_fn(|i| if &STATES[i].code == code { 1.0 } else { 0.0 })
    }

    fn walk(from: i64, to: i64, count: u64, weights: [f64; STATE_COUNT]) -> Vec<i64> {
        let mut rng = Rng::from_seed(5);
        let mut walk = Walk::new(from, to, count, weights);
        std::iter::from_fn(|| walk.advance(&mut rng).map(|(secs, _)| secs)).collect()
    }

    #[test]
    fn instants_ascend_and_stay_in_the_period() {
        let (from, to) = (MONDAY_2026_01_05 + 1_234, MONDAY_2026_01_05 + 2 * DAY_SECS + 77);
        let instants = walk(from, to, 5_000, [1.0; STATE_COUNT]);
        assert_eq!(instants.len(), 5_000);
        assert!(instants.is_sorted());
        assert!(instants[0] >= from && instants[4_999] < to);
    }

    #[test]
    fn a_period_of_one_second_holds_any_number() {
        assert_eq!(walk(10, 11, 3, [1.0; STATE_COUNT]), [10, 10, 10]);
    }

    #[test]
    fn the_evening_of_a_state_is_busiest_and_its_night_quietest() {
        for (code, evening_utc) in [(b"NY", 1), (b"CA", 4), (b"HI", 6)] {
            let mut by_utc_hour = [0u32; 24];
            // Five working days, local and UTC, and the hours around them.
            for secs in walk(
                MONDAY_2026_01_05,
                MONDAY_2026_01_05 + 5 * DAY_SECS,
                200_000,
                only(code),
            ) {
                by_utc_hour[(secs.rem_euclid(DAY_SECS) / HOUR_SECS) as usize] += 1;
            }
            let busiest = (0..24).max_by_key(|&h| by_utc_hour[h]).unwrap();
            assert_eq!(
                busiest, evening_utc,
                "20:00 to 21:00 in {code:?}: {by_utc_hour:?}"
            );
            let at_night = by_utc_hour[(evening_utc + 7) % 24];
            assert!(at_night * 10 < by_utc_hour[busiest], "{by_utc_hour:?}");
        }
    }

    #[test]
    fn the_curve_follows_daylight_saving_time() {
        // In July, New York is four hours behind UTC, not five.
        let july = 1_783_296_000; // 2026-07-06T00:00:00Z, a Monday
        let mut by_utc_hour = [0u32; 24];
        for secs in walk(july, july + 5 * DAY_SECS, 100_000, only(b"NY")) {
            by_utc_hour[(secs.rem_euclid(DAY_SECS) / HOUR_SECS) as usize] += 1;
        }
        assert_eq!((0..24).max_by_key(|&h| by_utc_hour[h]), Some(0));
    }

    #[test]
    fn weekends_are_a_little_quieter() {
        let mut by_day = [0f64; 7];
        for secs in walk(
            MONDAY_2026_01_05,
            MONDAY_2026_01_05 + 7 * DAY_SECS,
            100_000,
            only(b"NY"),
        ) {
            // The local day: in January, five hours behind UTC. Monday misses its five hours before the period.
            let local = (secs - 5 * HOUR_SECS - MONDAY_2026_01_05).div_euclid(DAY_SECS);
            by_day[local.rem_euclid(7) as usize] += 1.0;
        }
        let saturday_to_friday = by_day[5] / by_day[4];
        assert!((0.83..0.87).contains(&saturday_to_friday), "{by_day:?}");
    }

    #[test]
    fn states_without_users_are_never_drawn() {
        let mut rng = Rng::from_seed(9);
        let weights = HourWeights::at(MONDAY_2026_01_05, &only(b"RI"));
        for _ in 0..1_000 {
            assert_eq!(&STATES[weights.draw_state(&mut rng)].code, b"RI");
        }
    }
}
