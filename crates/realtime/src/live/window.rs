//! What the last 15 minutes held: a ring of one-second buckets and their running totals.
//!
//! A record belongs to the second at which it was published (its `processed_timestamp`; a dead letter: its Kafka
//! timestamp). One that says it comes from the future counts for now, one that is too old is not counted. Memory is fixed
//! (about 4 MB), and so is the work per record and per second; time is passed in.

use loginlake_events::{DeviceType, RejectReason};

use super::delays;
use super::record::Login;
use super::slots::{self, Names};

/// Length of the window in seconds; the last of them is the second that still goes on.
pub const WINDOW_SECONDS: usize = 900;

const WINDOW: i64 = WINDOW_SECONDS as i64;

/// Counts of the last [`WINDOW_SECONDS`].
pub(super) struct Window {
    /// One row of [`slots::COUNT`] per second; a second's row is its number modulo [`WINDOW_SECONDS`].
    rows: Box<[u32]>,
    totals: Box<[u64]>,
    /// The epoch second that goes on.
    now: i64,
    newest_ms: Option<i64>,
    versions: Names,
    regions: Names,
}

impl Window {
    /// An empty window that ends with this epoch second.
    pub(super) fn new(now_second: i64) -> Self {
        Self {
            rows: vec![0; WINDOW_SECONDS * slots::COUNT].into_boxed_slice(),
            totals: vec![0; slots::COUNT].into_boxed_slice(),
            now: now_second,
            newest_ms: None,
            versions: Names::new(slots::VERSIONS),
            regions: Names::new(slots::REGIONS),
        }
    }

    /// Moves on to this epoch second: what is older than the window leaves the totals. A clock that goes back is ignored.
    pub(super) fn advance(&mut self, now_second: i64) {
        let steps = now_second.saturating_sub(self.now).clamp(0, WINDOW);
        for step in 0..steps {
            // The oldest row becomes that of a new second.
            let row = row_of(now_second - step);
            for (total, count) in self.totals.iter_mut().zip(&mut self.rows[row]) {
                *total -= u64::from(*count);
                *count = 0;
            }
        }
        self.now = self.now.max(now_second);
    }

    /// Counts a login. `kafka_ms`: when its input record came to Kafka, epoch milliseconds, if that is known.
    pub(super) fn count_login(&mut self, login: &Login<'_>, kafka_ms: Option<i64>) {
        let Some(second) = self.second_of(login.processed_ms) else {
            return;
        };
        let version = self.versions.place(&login.app_version, &self.totals, self.now);
        if version.taken_over {
            self.move_counts(version.slot, self.versions.other());
        }
        let region = self.regions.place(&login.region, &self.totals, self.now);
        if region.taken_over {
            self.move_counts(region.slot, self.regions.other());
        }
        let delay_of = |from_ms: i64| delays::bucket_of(login.processed_ms.saturating_sub(from_ms));
        let device = DeviceType::ALL
            .iter()
            .position(|known| *known == login.device_type);
        let counted = [
            Some(slots::LOGINS),
            Some(slots::EVENT_DELAY.start + delay_of(login.event_ms)),
            // The same time says the same again: then the event's own time was taken for the record's.
            kafka_ms
                .filter(|ms| *ms != login.event_ms)
                .map(|ms| slots::KAFKA_DELAY.start + delay_of(ms)),
            Some(slots::UTC_HOURS.start + usize::from(login.utc_hour)),
            login
                .local_hour
                .map(|hour| slots::LOCAL_HOURS.start + usize::from(hour)),
            device.map(|index| slots::DEVICES.start + index),
            Some(region.slot),
            Some(version.slot),
            Some(slots::locale(&login.locale)),
        ];
        for slot in counted.into_iter().flatten() {
            self.count(second, slot);
        }
        self.newest_ms = self.newest_ms.max(Some(login.processed_ms));
    }

    /// Counts a dead letter; `None`: its reason is not known here.
    pub(super) fn count_dead_letter(&mut self, reason: Option<RejectReason>, kafka_ms: i64) {
        let Some(second) = self.second_of(kafka_ms) else {
            return;
        };
        let index = reason.map_or(slots::REASONS.len() - 1, |reason| reason as usize);
        self.count(second, slots::DEAD_LETTERS);
        self.count(second, slots::REASONS.start + index);
    }

    /// Counts a record of the processed topic that is none of ours.
    pub(super) fn count_unreadable(&mut self) {
        self.count(self.now, slots::UNREADABLE);
    }

    /// Total of a slot over the window.
    pub(super) fn total(&self, slot: usize) -> u64 {
        self.totals[slot]
    }

    /// Totals of a range of slots over the window.
    pub(super) fn totals(&self, slots: std::ops::Range<usize>) -> &[u64] {
        &self.totals[slots]
    }

    /// Counts of a slot second by second, oldest first; the last one is of the second that still goes on.
    pub(super) fn by_second(&self, slot: usize) -> impl Iterator<Item = u32> {
        (0..WINDOW).map(move |index| self.rows[row_of(self.now - WINDOW + 1 + index).start + slot])
    }

    /// App versions and their counts.
    pub(super) fn versions(&self) -> Vec<(&str, u64)> {
        self.named(&self.versions, slots::VERSIONS)
    }

    /// Regions and their counts.
    pub(super) fn regions(&self) -> Vec<(&str, u64)> {
        self.named(&self.regions, slots::REGIONS)
    }

    /// When the newest login was published, epoch milliseconds.
    pub(super) fn newest_ms(&self) -> Option<i64> {
        self.newest_ms
    }

    /// The second in which a record counts; `None` when it is older than the window.
    fn second_of(&self, epoch_ms: i64) -> Option<i64> {
        let second = epoch_ms.div_euclid(1_000).min(self.now);
        (second > self.now - WINDOW).then_some(second)
    }

    fn count(&mut self, second: i64, slot: usize) {
        let count = &mut self.rows[row_of(second).start + slot];
        // The total is the sum of the counts, also at their limit.
        let counted = count.saturating_add(1);
        self.totals[slot] += u64::from(counted - *count);
        *count = counted;
    }

    fn move_counts(&mut self, from: usize, to: usize) {
        for row in self.rows.chunks_exact_mut(slots::COUNT) {
            let sum = row[to].saturating_add(row[from]);
            self.totals[to] += u64::from(sum - row[to]);
            self.totals[from] -= u64::from(row[from]);
            row[to] = sum;
            row[from] = 0;
        }
    }

    /// Names with counts, the largest first; `other` is last.
    fn named<'a>(&self, names: &'a Names, slots: std::ops::Range<usize>) -> Vec<(&'a str, u64)> {
        let other = self.totals[names.other()];
        let mut named: Vec<(&str, u64)> = slots
            .filter_map(|slot| Some((names.name(slot)?, self.totals[slot])))
            .filter(|(_, count)| *count > 0)
            .collect();
        named.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        named.extend((other > 0).then_some(("other", other)));
        named
    }
}

/// The row of an epoch second.
fn row_of(second: i64) -> std::ops::Range<usize> {
    let row = second.rem_euclid(WINDOW) as usize * slots::COUNT;
    row..row + slots::COUNT
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_720_576_825;

    fn login(second: i64) -> Login<'static> {
        Login {
            processed_ms: second * 1_000 + 250,
            event_ms: second * 1_000,
            locale: "RI".into(),
            region: "Northeast".into(),
            utc_hour: 2,
            local_hour: Some(22),
            device_type: DeviceType::Ios,
            app_version: "2.3.0".into(),
        }
    }

    fn of_version(version: String) -> Login<'static> {
        Login {
            app_version: version.into(),
            ..login(NOW)
        }
    }

    fn count_of(window: &Window, version: &str) -> u64 {
        window
            .versions()
            .iter()
            .find(|(name, _)| *name == version)
            .map_or(0, |(_, count)| *count)
    }

    #[test]
    fn a_login_is_counted_in_every_view() {
        let mut window = Window::new(NOW);
        window.count_login(&login(NOW), Some(NOW * 1_000 + 240));
        assert_eq!(window.total(slots::LOGINS), 1);
        assert_eq!(window.total(slots::locale("RI")), 1);
        assert_eq!(window.total(slots::UTC_HOURS.start + 2), 1);
        assert_eq!(window.total(slots::LOCAL_HOURS.start + 22), 1);
        assert_eq!(window.totals(slots::DEVICES), [0, 1, 0, 0, 0]);
        assert_eq!(window.regions(), [("Northeast", 1)]);
        assert_eq!(window.versions(), [("2.3.0", 1)]);
        assert_eq!(window.total(slots::EVENT_DELAY.start + delays::bucket_of(250)), 1);
        assert_eq!(window.total(slots::KAFKA_DELAY.start + delays::bucket_of(10)), 1);
        assert_eq!(window.newest_ms(), Some(NOW * 1_000 + 250));
        assert_eq!(window.by_second(slots::LOGINS).last(), Some(1));
    }

    #[test]
    fn a_kafka_timestamp_that_is_the_events_own_says_nothing() {
        let mut window = Window::new(NOW);
        window.count_login(&login(NOW), Some(NOW * 1_000));
        window.count_login(&login(NOW), None);
        assert_eq!(window.totals(slots::KAFKA_DELAY).iter().sum::<u64>(), 0);
    }

    #[test]
    fn counts_leave_after_fifteen_minutes_and_not_before() {
        let mut window = Window::new(NOW);
        window.count_login(&login(NOW), None);
        window.count_dead_letter(Some(RejectReason::BadIp), NOW * 1_000);
        window.advance(NOW + WINDOW - 1);
        assert_eq!(
            (window.total(slots::LOGINS), window.total(slots::DEAD_LETTERS)),
            (1, 1)
        );
        assert_eq!(window.by_second(slots::LOGINS).next(), Some(1));
        window.advance(NOW + WINDOW);
        assert!(window.totals.iter().all(|total| *total == 0));
        assert!(window.rows.iter().all(|count| *count == 0));
        assert_eq!(window.versions(), []);
    }

    #[test]
    fn each_second_that_passes_takes_its_own_counts_along() {
        let mut window = Window::new(NOW);
        for second in 0..2 * WINDOW {
            window.advance(NOW + second);
            window.count_login(&login(NOW + second), None);
            let expected = (second + 1).min(WINDOW) as u64;
            assert_eq!(window.total(slots::LOGINS), expected);
        }
        assert!(window.by_second(slots::LOGINS).all(|count| count == 1));
    }

    #[test]
    fn a_long_sleep_empties_the_window_and_a_clock_that_goes_back_does_not() {
        let mut window = Window::new(NOW);
        window.count_login(&login(NOW), None);
        window.advance(NOW - 100);
        assert_eq!((window.total(slots::LOGINS), window.now), (1, NOW));
        window.advance(NOW + 1_000_000);
        assert_eq!(window.total(slots::LOGINS), 0);
        window.advance(i64::MAX);
        assert_eq!(window.total(slots::LOGINS), 0);
    }

    #[test]
    fn records_from_the_future_count_now_and_records_from_before_the_window_do_not() {
        let mut window = Window::new(NOW);
        window.count_login(&login(NOW + 50), None);
        window.count_login(&login(NOW - WINDOW), None);
        window.count_login(
            &Login {
                processed_ms: i64::MIN,
                ..login(NOW)
            },
            None,
        );
        window.count_dead_letter(None, i64::MAX);
        assert_eq!(window.total(slots::LOGINS), 1);
        assert_eq!(window.by_second(slots::LOGINS).last(), Some(1));
        assert_eq!(window.total(slots::REASONS.end - 1), 1);
    }

    #[test]
    fn a_flood_of_versions_stays_within_the_slots_and_every_login_is_counted() {
        let mut window = Window::new(NOW);
        for index in 0..10_000 {
            window.count_login(&of_version(format!("{index}.0.0")), None);
        }
        window.count_login(&of_version("9".repeat(1_000)), None);
        let versions = window.versions();
        assert_eq!(versions.len(), slots::VERSIONS.len());
        assert_eq!(versions.iter().map(|(_, count)| count).sum::<u64>(), 10_001);
        assert_eq!(versions.last().map(|(name, _)| *name), Some("other"));
    }

    #[test]
    fn a_version_that_comes_often_gets_in_during_a_flood_and_stays() {
        let mut window = Window::new(NOW);
        for second in 0..100 {
            window.advance(NOW + second);
            for index in 0..100 {
                let often = second >= 10 && (index + second) % 2 == 0;
                let name = if often {
                    "2.3.0".to_owned()
                } else {
                    format!("{second}.{index}.1")
                };
                window.count_login(
                    &Login {
                        app_version: name.into(),
                        ..login(NOW + second)
                    },
                    None,
                );
            }
        }
        assert_eq!(count_of(&window, "2.3.0"), 90 * 50);
        let sum: u64 = window.versions().iter().map(|(_, count)| count).sum();
        assert_eq!(sum, 10_000);
    }

    #[test]
    fn versions_that_count_are_not_replaced_and_one_that_left_is() {
        let mut window = Window::new(NOW);
        for index in 0..slots::VERSIONS.len() - 1 {
            for _ in 0..10 {
                window.count_login(&of_version(format!("{index}.0.0")), None);
            }
        }
        window.count_login(&of_version("late".to_owned()), None);
        assert_eq!((count_of(&window, "late"), count_of(&window, "other")), (0, 1));
        window.advance(NOW + WINDOW);
        window.count_login(
            &Login {
                app_version: "late".into(),
                ..login(NOW + WINDOW)
            },
            None,
        );
        assert_eq!(window.versions(), [("late", 1)]);
    }
}
