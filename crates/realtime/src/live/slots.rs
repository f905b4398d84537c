//! Where each thing that is counted has its place in a bucket: a fixed number of slots, whatever the clients send.
//!
//! Locales, hours, devices and reasons are closed sets. App versions and region names are not: [`Names`] gives them a
//! fixed number of slots and counts the rest as `other`.

use std::ops::Range;

use loginlake_events::{DeviceType, RejectReason};

use super::delays;

/// All logins.
pub(super) const LOGINS: usize = 0;
/// All dead letters.
pub(super) const DEAD_LETTERS: usize = 1;
/// Records that could not be read.
pub(super) const UNREADABLE: usize = 2;
/// Delay from the event to its publication; the delay's bucket is the index.
pub(super) const EVENT_DELAY: Range<usize> = after(2..3, delays::BUCKETS);
/// Delay from the record in Kafka to its publication.
pub(super) const KAFKA_DELAY: Range<usize> = after(EVENT_DELAY, delays::BUCKETS);
/// UTC hours.
pub(super) const UTC_HOURS: Range<usize> = after(KAFKA_DELAY, 24);
/// Local hours.
pub(super) const LOCAL_HOURS: Range<usize> = after(UTC_HOURS, 24);
/// Device types, in the order of [`DeviceType::ALL`].
pub(super) const DEVICES: Range<usize> = after(LOCAL_HOURS, DeviceType::ALL.len());
/// Reject reasons in the order of [`RejectReason::ALL`], then those that are not known here.
pub(super) const REASONS: Range<usize> = after(DEVICES, RejectReason::ALL.len() + 1);
/// Region names, then `other`.
pub(super) const REGIONS: Range<usize> = after(REASONS, 16 + 1);
/// App versions, then `other`.
pub(super) const VERSIONS: Range<usize> = after(REGIONS, 64 + 1);
/// `AA` to `ZZ`, then `unknown`.
pub(crate) const LOCALES: Range<usize> = after(VERSIONS, LETTERS * LETTERS + 1);
/// Number of slots.
pub(super) const COUNT: usize = LOCALES.end;

const LETTERS: usize = 26;

/// A name that is longer counts as `other`, in bytes.
const MAX_NAME_BYTES: usize = 48;

const fn after(before: Range<usize>, length: usize) -> Range<usize> {
    before.end..before.end + length
}

/// The slot of a locale; anything but two capital letters is `unknown`.
pub(crate) fn locale(code: &str) -> usize {
    match code.as_bytes() {
        [first @ b'A'..=b'Z', second @ b'A'..=b'Z'] => {
            LOCALES.start + usize::from(first - b'A') * LETTERS + usize::from(second - b'A')
        }
        _ => LOCALES.end - 1,
    }
}

/// The locale of an index into [`LOCALES`].
pub(crate) fn locale_code(index: usize) -> String {
    let letter = |index: usize| char::from(b'A' + (index % LETTERS) as u8);
    if index == LETTERS * LETTERS {
        return "unknown".to_owned();
    }
    [letter(index / LETTERS), letter(index)].iter().collect()
}

/// Gives names slots of a range whose last one is `other`.
///
/// A name keeps its slot while it is counted. When all are taken, a new name may take the place of the rarest one, once
/// a second and only from one that hardly counts: names that come often get in within seconds, even while somebody
/// sends a new name with every record, and that somebody costs nothing.
pub(super) struct Names {
    slots: Range<usize>,
    names: Vec<Option<Box<str>>>,
    last_taken_over_second: i64,
}

impl Names {
    pub(super) fn new(slots: Range<usize>) -> Self {
        let names = vec![None; slots.len() - 1];
        Self {
            slots,
            names,
            last_taken_over_second: i64::MIN,
        }
    }

    /// The slot of `other`.
    pub(super) fn other(&self) -> usize {
        self.slots.end - 1
    }

    /// The name in a slot; `None` when the slot is free or is `other`.
    pub(super) fn name(&self, slot: usize) -> Option<&str> {
        self.names.get(slot.checked_sub(self.slots.start)?)?.as_deref()
    }

    /// The slot of a name.
    pub(super) fn place(&mut self, name: &str, totals: &[u64], now_second: i64) -> Place {
        let other = Place {
            slot: self.other(),
            taken_over: false,
        };
        if name.len() > MAX_NAME_BYTES {
            return other;
        }
        if let Some(index) = self.names.iter().position(|known| known.as_deref() == Some(name)) {
            return Place {
                slot: self.slots.start + index,
                taken_over: false,
            };
        }
        // A slot that is free, or whose name has left the window, has counted nothing: the rarest of all.
        let own = totals[self.slots.start..self.other()].iter().enumerate();
        let Some((index, &rarest)) = own.min_by_key(|(_, count)| **count) else {
            return other;
        };
        let taken_over = rarest > 0;
        if taken_over {
            let hardly_counts = rarest <= 1 + totals[LOGINS] / 1_024;
            if !hardly_counts || self.last_taken_over_second == now_second {
                return other;
            }
            self.last_taken_over_second = now_second;
        }
        self.names[index] = Some(name.into());
        Place {
            slot: self.slots.start + index,
            taken_over,
        }
    }
}

/// Where a name is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The slot.
    pub slot: usize,
    /// The slot still holds what another name has counted; that has to be moved to `other` first.
    pub taken_over: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_locale_has_a_slot_of_its_own() {
        assert_eq!(locale("AA"), LOCALES.start);
        assert_eq!(locale("ZZ"), LOCALES.end - 2);
        for code in ["AA", "RI", "CA", "ZZ", "unknown"] {
            assert_eq!(locale_code(locale(code) - LOCALES.start), code);
        }
        for odd in ["", "A", "ri", "USA", "É!", "<script>"] {
            assert_eq!(locale(odd), LOCALES.end - 1, "{odd}");
        }
    }
}
