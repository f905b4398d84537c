//! Counts of everything that is a closed set: a fixed number of slots, whatever the clients send.

use std::ops::Range;

use loginlake_events::{DeviceType, LoginEvent, RejectReason, TimeOfDay};

use crate::live::slots;
use crate::run::transform::OUTPUT_REFUSED;

const LOGINS: usize = 0;
const FILTERED: usize = 1;
const DEVICES: Range<usize> = after(1..2, DeviceType::ALL.len());
const TIMES_OF_DAY: Range<usize> = after(DEVICES, TimeOfDay::ALL.len());
const HOURS: Range<usize> = after(TIMES_OF_DAY, 24);
/// In the order of [`RejectReason::ALL`], then [`OUTPUT_REFUSED`].
const REASONS: Range<usize> = after(HOURS, RejectReason::ALL.len() + 1);
const LOCALES: Range<usize> = after(REASONS, LOCALE_COUNT);
const COUNT: usize = LOCALES.end;

/// Two letters each, and `unknown`.
pub(super) const LOCALE_COUNT: usize = slots::LOCALES.end - slots::LOCALES.start;

const fn after(before: Range<usize>, length: usize) -> Range<usize> {
    before.end..before.end + length
}

/// The index of a locale, below [`LOCALE_COUNT`].
pub(super) fn locale_index(code: &str) -> usize {
    slots::locale(code) - slots::LOCALES.start
}

/// The locale of an index.
pub(super) fn locale_code(index: usize) -> String {
    slots::locale_code(index)
}

/// Records by everything that is a closed set.
#[derive(Debug)]
pub(super) struct Counts(Vec<u64>);

impl Counts {
    pub(super) fn new() -> Self {
        Self(vec![0; COUNT])
    }

    /// Counts a login whose locale has this index.
    pub(super) fn count_login(&mut self, event: &LoginEvent<'_>, locale: usize) {
        let hour = usize::from(event.login_hour());
        for slot in [
            LOGINS,
            DEVICES.start + event.device_type() as usize,
            TIMES_OF_DAY.start + event.time_of_day() as usize,
            HOURS.start + hour,
            LOCALES.start + locale,
        ] {
            self.0[slot] += 1;
        }
    }

    pub(super) fn count_filtered(&mut self) {
        self.0[FILTERED] += 1;
    }

    /// Counts a dead letter; `None`: the output topic refused the record.
    pub(super) fn count_rejected(&mut self, reason: Option<RejectReason>) {
        let index = reason.map_or(RejectReason::ALL.len(), |reason| reason as usize);
        self.0[REASONS.start + index] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (own, more) in self.0.iter_mut().zip(&other.0) {
            *own += more;
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }

    pub(super) fn logins(&self) -> u64 {
        self.0[LOGINS]
    }

    pub(super) fn filtered(&self) -> u64 {
        self.0[FILTERED]
    }

    pub(super) fn dead_letters(&self) -> u64 {
        self.0[REASONS].iter().sum()
    }

    /// All records.
    pub(super) fn records(&self) -> u64 {
        self.logins() + self.filtered() + self.dead_letters()
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = DeviceType::ALL.iter().map(|device| device.as_str());
        names.zip(self.0[DEVICES].iter().copied())
    }

    pub(super) fn times_of_day(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = TimeOfDay::ALL.iter().map(|time| time.as_str());
        names.zip(self.0[TIMES_OF_DAY].iter().copied())
    }

    /// Logins of each UTC hour.
    pub(super) fn hours(&self) -> impl Iterator<Item = (u8, u64)> {
        (0_u8..).zip(self.0[HOURS].iter().copied())
    }

    pub(super) fn reasons(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = RejectReason::ALL.iter().map(|reason| reason.as_str());
        names.chain([OUTPUT_REFUSED]).zip(self.0[REASONS].iter().copied())
    }

    /// The locales that there were, by index.
    pub(super) fn locales(&self) -> impl Iterator<Item = (usize, u64)> {
        let all = self.0[LOCALES].iter().copied().enumerate();
        all.filter(|(_, logins)| *logins > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_sets_are_declared_in_the_order_in_which_they_are_listed() {
        assert!(
            RejectReason::ALL
                .iter()
                .enumerate()
                .all(|(index, reason)| *reason as usize == index)
        );
        assert!(
            DeviceType::ALL
                .iter()
                .enumerate()
                .all(|(index, device)| *device as usize == index)
        );
        assert!(
            TimeOfDay::ALL
                .iter()
                .enumerate()
                .all(|(index, time)| *time as usize == index)
        );
    }

    #[test]
    fn every_locale_has_an_index_of_its_own() {
        for code in ["AA", "RI", "ZZ", "unknown"] {
            assert!(locale_index(code) < LOCALE_COUNT);
            assert_eq!(locale_code(locale_index(code)), code);
        }
    }

    #[test]
    fn counts_add_up_and_are_cleared() {
        let (mut total, mut pending) = (Counts::new(), Counts::new());
        pending.count_filtered();
        pending.count_rejected(Some(RejectReason::BadIp));
        pending.count_rejected(None);
        total.add(&pending);
        total.add(&pending);
        assert_eq!(
            (total.records(), total.filtered(), total.dead_letters()),
            (6, 2, 4)
        );
        let reasons: Vec<_> = total.reasons().filter(|(_, count)| *count > 0).collect();
        assert_eq!(reasons, [("BAD_IP", 2), (OUTPUT_REFUSED, 2)]);
        total.clear();
        assert_eq!(total.records(), 0);
    }
}
