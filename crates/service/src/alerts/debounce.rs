//! When something that is wrong is worth a message: after it has been wrong without a break for a while, again at times while it
//! goes on, and once when it has been right for a while. Time is passed in.

use std::time::{Duration, Instant};

/// How long something has to be right before it is over, at most.
const MAX_QUIET: Duration = Duration::from_secs(60);
/// After a message that did not arrive, the next one comes earlier.
const MAX_AFTER_LOST: Duration = Duration::from_secs(10 * 60);

/// The times that count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// How long it is wrong before it is told.
    pub after: Duration,
    /// How long it is right before it is over, up to a minute.
    pub quiet: Duration,
    /// How often it is told again.
    pub repeat: Duration,
}

/// Where one alert is.
#[derive(Clone, Debug, Default)]
pub(super) enum Debounce {
    /// Nothing is wrong.
    #[default]
    Quiet,
    /// It is wrong, and not for long.
    Pending { since: Instant },
    /// It was told.
    Firing {
        since: Instant,
        told: Instant,
        lost: bool,
        /// Right again since then.
        quiet_since: Option<Instant>,
    },
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is wrong.
    Firing { detail: String, since: Duration },
    /// It is still wrong.
    StillFiring { detail: String, since: Duration },
    /// It is over, after so long.
    Resolved { since: Duration },
}

impl Debounce {
    /// `detail`: what is wrong now.
    pub fn step(&mut self, detail: Option<String>, times: Times, now: Instant) -> Option<Told> {
        match detail {
            Some(detail) => self.wrong(detail, times, now),
            None => self.right(times, now),
        }
    }

    fn wrong(&mut self, detail: String, times: Times, now: Instant) -> Option<Told> {
        if let Self::Quiet = self {
            *self = Self::Pending { since: now };
        }
        match self {
            Self::Pending { since } => {
                let since = *since;
                let elapsed = now.duration_since(since);
                (elapsed >= times.after).then(|| {
                    *self = Self::Firing {
                        since,
                        told: now,
                        lost: false,
                        quiet_since: None,
                    };
                    Told::Firing {
                        detail,
                        since: elapsed,
                    }
                })
            }
            Self::Firing {
                since,
                told,
                lost,
                quiet_since,
            } => {
                *quiet_since = None;
                let repeat = if *lost {
                    times.repeat.min(MAX_AFTER_LOST)
                } else {
                    times.repeat
                };
                (now.duration_since(*told) >= repeat).then(|| {
                    (*told, *lost) = (now, false);
                    Told::StillFiring {
                        detail,
                        since: now.duration_since(*since),
                    }
                })
            }
            Self::Quiet => None,
        }
    }

    fn right(&mut self, times: Times, now: Instant) -> Option<Told> {
        let Self::Firing {
            since, quiet_since, ..
        } = self
        else {
            *self = Self::Quiet;
            return None;
        };
        let quiet = *quiet_since.get_or_insert(now);
        if now.duration_since(quiet) < times.quiet.min(MAX_QUIET) {
            return None;
        }
        let since = quiet.duration_since(*since);
        *self = Self::Quiet;
        Some(Told::Resolved { since })
    }

    /// The last message did not arrive.
    pub fn not_delivered(&mut self) {
        if let Self::Firing { lost, .. } = self {
            *lost = true;
        }
    }

    /// It was told, and is not over.
    pub const fn is_firing(&self) -> bool {
        matches!(self, Self::Firing { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        after: Duration::from_secs(300),
        quiet: Duration::from_secs(300),
        repeat: Duration::from_secs(3_600),
    };

    /// What is told when each second from the first to the last is wrong or right, and when, in seconds.
    fn told(wrong_at: impl Fn(u64) -> bool, seconds: u64) -> Vec<(u64, &'static str)> {
        let (mut debounce, start) = (Debounce::default(), Instant::now());
        let steps = 0..=seconds;
        let step = |second| {
            let detail = wrong_at(second).then(|| "wrong".to_owned());
            let told = debounce.step(detail, TIMES, start + Duration::from_secs(second))?;
            Some((
                second,
                match told {
                    Told::Firing { .. } => "firing",
                    Told::StillFiring { .. } => "still",
                    Told::Resolved { .. } => "resolved",
                },
            ))
        };
        steps.filter_map(step).collect()
    }

    #[test]
    fn it_is_told_once_then_at_times_then_when_it_is_over() {
        let found = told(|second| (100..8_000).contains(&second), 10_000);
        let expected = [
            (400, "firing"),
            (4_000, "still"),
            (7_600, "still"),
            (8_060, "resolved"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_comes_and_goes_is_not_told() {
        assert_eq!(told(|second| second % 300 != 0, 10_000), []);
    }

    #[test]
    fn what_is_right_for_a_moment_is_not_over() {
        let found = told(|second| second % 60 != 0 || second == 0, 3_000);
        assert_eq!(found, [], "it never was wrong long enough");
        let found = told(|second| second <= 400 || second % 60 != 0, 3_000);
        assert_eq!(found, [(300, "firing")]);
    }

    #[test]
    fn after_a_message_that_was_lost_the_next_one_comes_earlier() {
        let (mut debounce, start) = (Debounce::default(), Instant::now());
        let mut at = |second, lost: bool| {
            if lost {
                debounce.not_delivered();
            }
            debounce.step(
                Some("wrong".to_owned()),
                TIMES,
                start + Duration::from_secs(second),
            )
        };
        assert_eq!(at(0, false), None);
        assert!(matches!(at(300, false), Some(Told::Firing { .. })));
        assert_eq!(at(400, true), None);
        assert_eq!(at(899, false), None);
        let again = at(900, false);
        let since = Duration::from_secs(900);
        assert_eq!(
            again,
            Some(Told::StillFiring {
                detail: "wrong".to_owned(),
                since
            })
        );
        assert_eq!(at(1_600, false), None, "that one arrived");
    }

    #[test]
    fn without_a_time_it_is_told_at_once() {
        let (mut debounce, now) = (Debounce::default(), Instant::now());
        let times = Times {
            after: Duration::ZERO,
            quiet: Duration::ZERO,
            ..TIMES
        };
        let told = debounce.step(Some("wrong".to_owned()), times, now);
        assert!(matches!(told, Some(Told::Firing { .. })) && debounce.is_firing());
        let told = debounce.step(None, times, now);
        assert_eq!(
            told,
            Some(Told::Resolved {
                since: Duration::ZERO
            })
        );
        assert!(!debounce.is_firing());
    }

    /// "Nothing comes" is told at once, and a process that loses its partitions for a moment has not mended it.
    #[test]
    fn what_is_told_at_once_is_over_only_after_a_minute_of_quiet() {
        let (mut debounce, start) = (Debounce::default(), Instant::now());
        let times = Times {
            after: Duration::ZERO,
            ..TIMES
        };
        let mut at = |second, is_wrong: bool| {
            let detail = is_wrong.then(|| "wrong".to_owned());
            debounce.step(detail, times, start + Duration::from_secs(second))
        };
        assert!(matches!(at(0, true), Some(Told::Firing { .. })));
        assert_eq!((at(10, false), at(69, false)), (None, None));
        assert_eq!(at(70, true), None, "it goes on, and is no second alert");
        assert_eq!(at(100, false), None);
        let since = Duration::from_secs(100);
        assert_eq!(at(160, false), Some(Told::Resolved { since }));
    }
}
