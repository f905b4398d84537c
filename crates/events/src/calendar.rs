//! Dates and clock times of the proleptic Gregorian calendar in UTC, by integer arithmetic.
//!
//! The hot path formats two dates per event; going through `chrono`'s general formatting would cost more than the rest
//! of the record. The tests hold this module equal to `chrono`.

/// Seconds in a day.
pub(crate) const SECONDS_PER_DAY: i64 = 86_400;

/// 2100-01-01T00:00:00Z in epoch seconds: no event is later, whatever its Kafka timestamp says.
pub(crate) const LATEST_SECS: i64 = 4_102_444_800;

/// An instant taken apart, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CivilTime {
    pub(crate) year: u32,
    pub(crate) month: u8,
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
}

/// Days since 1970-01-01 of an instant in epoch seconds. Only for instants from 1970 to 2100.
pub(crate) fn days_of(secs: i64) -> i32 {
    debug_assert!(
        (0..=LATEST_SECS).contains(&secs),
        "the timestamp window is within 1970 to 2100"
    );
    secs.div_euclid(SECONDS_PER_DAY) as i32
}

/// Takes an instant in epoch seconds (1970 to 2100) apart.
pub(crate) fn civil_of(secs: i64) -> CivilTime {
    let days = days_of(secs) as u32;
    let of_day = secs.rem_euclid(SECONDS_PER_DAY) as u32;
    // Years are counted from 1 March, so that a leap day is the last day of its year, in eras of 400 years; the
    // first era that matters began on 0000-03-01, which is 719,468 days before 1970-01-01.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    CivilTime {
        year: era * 400 + year_of_era + u32::from(month <= 2),
        month: month as u8,
        day: day as u8,
        hour: (of_day / 3_600) as u8,
        minute: (of_day / 60 % 60) as u8,
        second: (of_day % 60) as u8,
    }
}

impl CivilTime {
    /// Appends `2024-07-10`.
    pub(crate) fn write_date(&self, out: &mut Vec<u8>) {
        let mut text = *b"0000-00-00";
        two_digits(&mut text[0..2], (self.year / 100) as u8);
        two_digits(&mut text[2..4], (self.year % 100) as u8);
        two_digits(&mut text[5..7], self.month);
        two_digits(&mut text[8..10], self.day);
        out.extend_from_slice(&text);
    }

    /// Appends `02:00:25`.
    pub(crate) fn write_clock(&self, out: &mut Vec<u8>) {
        let mut text = *b"00:00:00";
        two_digits(&mut text[0..2], self.hour);
        two_digits(&mut text[3..5], self.minute);
        two_digits(&mut text[6..8], self.second);
        out.extend_from_slice(&text);
    }
}

fn two_digits(place: &mut [u8], value: u8) {
    place[0] = b'0' + value / 10;
    place[1] = b'0' + value % 10;
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Datelike, Timelike};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn agrees_with_chrono(secs in 0..=LATEST_SECS) {
            let civil = civil_of(secs);
            let expected = DateTime::from_timestamp(secs, 0).unwrap();
            prop_assert_eq!(civil.year as i32, expected.year());
            prop_assert_eq!(u32::from(civil.month), expected.month());
            prop_assert_eq!(u32::from(civil.day), expected.day());
            prop_assert_eq!(u32::from(civil.hour), expected.hour());
            prop_assert_eq!(u32::from(civil.minute), expected.minute());
            prop_assert_eq!(u32::from(civil.second), expected.second());
            prop_assert_eq!(days_of(secs), expected.date_naive().to_epoch_days());
        }
    }

    #[test]
    fn every_day_up_to_the_latest_agrees_with_chrono() {
        for day in 0..=LATEST_SECS / SECONDS_PER_DAY {
            let mut text = Vec::new();
            civil_of(day * SECONDS_PER_DAY).write_date(&mut text);
            let expected = DateTime::from_timestamp(day * SECONDS_PER_DAY, 0)
                .unwrap()
                .date_naive()
                .to_string();
            assert_eq!(text, expected.as_bytes());
        }
    }

    #[test]
    fn clocks_are_written_with_two_digits() {
        let mut text = Vec::new();
        civil_of(1_720_576_825).write_clock(&mut text);
        assert_eq!(text, b"02:00:25");
    }
}
