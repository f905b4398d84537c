//! The US states and DC: how many people live there and which clock they live by.
//!
//! Residents are those of the 2020 census (US Census Bureau, table of the apportionment results), rounded to
//! thousands. The time zone is the one of data/us_states.csv, which the consumers use; a test holds the two together.

use chrono_tz::Tz;

/// One state: where a share of the users lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    /// Two letters, as in the field `locale`.
    pub(crate) code: [u8; 2],
    /// Residents in thousands.
    pub(crate) residents: u32,
    pub(crate) zone: Tz,
}

/// The number of [`STATES`].
pub(crate) const STATE_COUNT: usize = 51;

const fn state(code: [u8; 2], residents: u32, zone: Tz) -> State {
    State {
        code,
        residents,
        zone,
    }
}

/// All states, ordered by their codes.
pub(crate) const STATES: [State; STATE_COUNT] = [
    state(*b"AK", 733, Tz::America__Anchorage),
    state(*b"AL", 5_024, Tz::America__Chicago),
    state(*b"AR", 3_012, Tz::America__Chicago),
    state(*b"AZ", 7_152, Tz::America__Phoenix),
    state(*b"CA", 39_538, Tz::America__Los_Angeles),
    state(*b"CO", 5_774, Tz::America__Denver),
    state(*b"CT", 3_606, Tz::America__New_York),
    state(*b"DC", 690, Tz::America__New_York),
    state(*b"DE", 990, Tz::America__New_York),
    state(*b"FL", 21_538, Tz::America__New_York),
    state(*b"GA", 10_712, Tz::America__New_York),
    state(*b"HI", 1_455, Tz::Pacific__Honolulu),
    state(*b"IA", 3_190, Tz::America__Chicago),
    state(*b"ID", 1_839, Tz::America__Boise),
    state(*b"IL", 12_813, Tz::America__Chicago),
    state(*b"IN", 6_786, Tz::America__Indiana__Indianapolis),
    state(*b"KS", 2_938, Tz::America__Chicago),
    state(*b"KY", 4_506, Tz::America__New_York),
    state(*b"LA", 4_658, Tz::America__Chicago),
    state(*b"MA", 7_030, Tz::America__New_York),
    state(*b"MD", 6_177, Tz::America__New_York),
    state(*b"ME", 1_362, Tz::America__New_York),
    state(*b"MI", 10_077, Tz::America__Detroit),
    state(*b"MN", 5_706, Tz::America__Chicago),
    state(*b"MO", 6_155, Tz::America__Chicago),
    state(*b"MS", 2_961, Tz::America__Chicago),
    state(*b"MT", 1_084, Tz::America__Denver),
    state(*b"NC", 10_439, Tz::America__New_York),
    state(*b"ND", 779, Tz::America__Chicago),
    state(*b"NE", 1_962, Tz::America__Chicago),
    state(*b"NH", 1_378, Tz::America__New_York),
    state(*b"NJ", 9_289, Tz::America__New_York),
    state(*b"NM", 2_118, Tz::America__Denver),
    state(*b"NV", 3_105, Tz::America__Los_Angeles),
    state(*b"NY", 20_201, Tz::America__New_York),
    state(*b"OH", 11_799, Tz::America__New_York),
    state(*b"OK", 3_959, Tz::America__Chicago),
    state(*b"OR", 4_237, Tz::America__Los_Angeles),
    state(*b"PA", 13_003, Tz::America__New_York),
    state(*b"RI", 1_097, Tz::America__New_York),
    state(*b"SC", 5_118, Tz::America__New_York),
    state(*b"SD", 887, Tz::America__Chicago),
    state(*b"TN", 6_911, Tz::America__Chicago),
    state(*b"TX", 29_146, Tz::America__Chicago),
    state(*b"UT", 3_272, Tz::America__Denver),
    state(*b"VA", 8_631, Tz::America__New_York),
    state(*b"VT", 643, Tz::America__New_York),
    state(*b"WA", 7_705, Tz::America__Los_Angeles),
    state(*b"WI", 5_894, Tz::America__Chicago),
    state(*b"WV", 1_794, Tz::America__New_York),
    state(*b"WY", 577, Tz::America__Denver),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_and_their_zones_are_those_of_the_consumers() {
        let mut of_the_csv: Vec<(String, String)> = include_str!("../../../data/us_states.csv")
            .lines()
            .skip(1)
            .map(|line| {
                let cells: Vec<&str> = line.split(',').collect();
                (cells[0].to_owned(), cells[4].to_owned())
            })
            .collect();
        of_the_csv.sort();
        let ours: Vec<(String, String)> = STATES
            .iter()
            .map(|s| {
                (
                    String::from_utf8_lossy(&s.code).into_owned(),
                    s.zone.name().to_owned(),
                )
            })
            .collect();
        assert_eq!(ours, of_the_csv);
    }

    #[test]
    fn the_residents_add_up_to_the_country() {
        let total: u32 = STATES.iter().map(|s| s.residents).sum();
        // 331,449,281 counted people; each row is rounded to a thousand.
        assert!((331_420..=331_480).contains(&total), "{total}");
    }
}
