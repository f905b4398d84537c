//! The hour of day in a time zone, exactly as the IANA database says and at the price of an array look-up.
//!
//! Asking `chrono-tz` for each event would cost a binary search over two centuries of rules. A [`ZoneHours`] keeps, for
//! each stretch of about a year that an event fell into, the few moments at which the zone's offset changes there. A
//! stretch is worked out when its first event comes, is never changed afterwards, and depends on nothing but the zone,
//! so the answer is the same in every thread and at any time. Memory is bounded: 123 stretches cover 1970 to 2100.

use std::sync::OnceLock;

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;

use crate::calendar::LATEST_SECS;

/// A stretch is 2^25 seconds (388 days) long, so that its number is a shift away.
const STRETCH_BITS: u32 = 25;
const STRETCH_SECS: i64 = 1 << STRETCH_BITS;
const STRETCHES: usize = (LATEST_SECS >> STRETCH_BITS) as usize + 1;

/// How far apart the probes for a change of offset are. Since 1970 no zone of the database changed its offset twice
/// within six days.
const PROBE_SECS: i64 = 12 * 3_600;

/// A time zone, with what is already known of its offsets.
#[derive(Debug)]
pub(crate) struct ZoneHours {
    zone: Tz,
    stretches: Box<[OnceLock<Stretch>]>,
}

/// The offsets of one stretch.
#[derive(Debug)]
struct Stretch {
    /// Seconds east of UTC at the beginning of the stretch.
    first_offset_secs: i64,
    /// Each change within the stretch: from this epoch second on, this offset.
    changes: Vec<(i64, i64)>,
}

impl ZoneHours {
    pub(crate) fn new(zone: Tz) -> ZoneHours {
        ZoneHours {
            zone,
            stretches: (0..STRETCHES).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The IANA name of the zone.
    pub(crate) fn name(&self) -> &'static str {
        self.zone.name()
    }

    /// The hour of day, 0 to 23, at an instant from 1970 to 2100 in epoch seconds.
    pub(crate) fn local_hour(&self, secs: i64) -> u8 {
        ((secs + self.offset_secs(secs)).rem_euclid(86_400) / 3_600) as u8
    }

    /// Seconds east of UTC at an instant from 1970 to 2100 in epoch seconds.
    pub(crate) fn offset_secs(&self, secs: i64) -> i64 {
        let number = (secs >> STRETCH_BITS) as usize;
        let stretch =
            self.stretches[number].get_or_init(|| Stretch::find(self.zone, number as i64 * STRETCH_SECS));
        stretch
            .changes
            .iter()
            .rev()
            .find(|(from, _)| *from <= secs)
            .map_or(stretch.first_offset_secs, |(_, offset_secs)| *offset_secs)
    }
}

impl Stretch {
    fn find(zone: Tz, start: i64) -> Stretch {
        let first_offset_secs = offset_at(zone, start);
        let mut changes = Vec::new();
        let mut known = (start, first_offset_secs);
        for probe in (start..=start + STRETCH_SECS)
            .step_by(PROBE_SECS as usize)
            .skip(1)
        {
            let offset_secs = offset_at(zone, probe);
            if offset_secs != known.1 {
                changes.push((first_with_another_offset(zone, known, probe), offset_secs));
            }
            known = (probe, offset_secs);
        }
        Stretch {
            first_offset_secs,
            changes,
        }
    }
}

/// The second at which the offset changes, known to lie in `(before.0, after]`.
fn first_with_another_offset(zone: Tz, before: (i64, i64), after: i64) -> i64 {
    let (mut low, mut high) = (before.0, after);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if offset_at(zone, middle) == before.1 {
            low = middle
        } else {
            high = middle
        }
    }
    high
}

fn offset_at(zone: Tz, secs: i64) -> i64 {
    let instant = DateTime::from_timestamp(secs, 0)
        .expect("stretches end soon after 2100")
        .naive_utc();
    i64::from(zone.offset_from_utc_datetime(&instant).fix().local_minus_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Timelike;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn expected_hour(zone: Tz, secs: i64) -> u8 {
        DateTime::from_timestamp(secs, 0)
            .unwrap()
            .with_timezone(&zone)
            .hour() as u8
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn agrees_with_chrono_tz_in_every_zone(zone in prop::sample::select(&chrono_tz::TZ_VARIANTS[..]),
                                               instants in prop::collection::vec(0..LATEST_SECS, 20)) {
            let hours = ZoneHours::new(zone);
            for secs in instants {
                prop_assert_eq!(hours.local_hour(secs), expected_hour(zone, secs), "{} at {}", zone, secs);
            }
        }
    }

    #[test]
    fn agrees_with_chrono_tz_around_every_change_of_the_american_zones() {
        for zone in [
            Tz::America__New_York,
            Tz::America__Phoenix,
            Tz::America__Anchorage,
            Tz::Pacific__Honolulu,
        ] {
            let hours = ZoneHours::new(zone);
            let window = 1_420_070_400..LATEST_SECS;
            for number in (window.start >> STRETCH_BITS)..=(window.end >> STRETCH_BITS) {
                for (change, _) in Stretch::find(zone, number * STRETCH_SECS).changes {
                    for secs in change - 2..change + 2 {
                        assert_eq!(
                            hours.local_hour(secs),
                            expected_hour(zone, secs),
                            "{zone} at {secs}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_instant_has_a_stretch() {
        let hours = ZoneHours::new(Tz::America__New_York);
        assert_eq!(hours.local_hour(LATEST_SECS), 19);
    }
}
