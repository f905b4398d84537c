//! Which dead letters are meant: by time, reason, or position.

use std::str::FromStr;
use std::time::Duration;

use loginlake_events::RejectReason;
use loginlake_service::config::{Span, UtcTime};

use super::letter::Letter;
use crate::run::transform::OUTPUT_REFUSED;

/// The reason of a dead letter: one of the contract's, or the output topic's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(&'static str);

impl FromStr for Reason {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == OUTPUT_REFUSED {
            return Ok(Self(OUTPUT_REFUSED));
        }
        match name.parse::<RejectReason>() {
            Ok(reason) => Ok(Self(reason.as_str())),
            Err(_) => {
                let names = RejectReason::ALL.map(RejectReason::as_str).join(", ");
                Err(format!("give one of {names}, {OUTPUT_REFUSED}"))
            }
        }
    }
}

/// A point in time: so long ago, or a date or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBound {
    /// So long before now.
    Ago(Duration),
    /// Epoch milliseconds.
    At(i64),
}

impl FromStr for TimeBound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(span) = text.parse::<Span>() {
            return Ok(Self::Ago(span.duration()));
        }
        let time = text.parse::<UtcTime>().map_err(|_| {
            "give an age such as 30m, 1h or 7d, or a time such as 2024-07-10 or 2024-07-10T02:00:25Z"
                .to_owned()
        })?;
        Ok(Self::At(time.epoch_ms()))
    }
}

impl TimeBound {
    /// In epoch milliseconds.
    pub fn epoch_ms(self, now_ms: i64) -> i64 {
        match self {
            Self::Ago(age) => now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
            Self::At(epoch_ms) => epoch_ms,
        }
    }
}

/// A position in the dead-letter topic, `PARTITION:OFFSET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let position = text.split_once(':').and_then(|(partition, offset)| {
            Some(Self {
                partition: partition.parse().ok()?,
                offset: offset.parse().ok()?,
            })
        });
        position
            .filter(|position| position.partition >= 0 && position.offset >= 0)
            .ok_or_else(|| "give partition and offset as `list` shows them, such as 0:42".to_owned())
    }
}

/// What a dead letter has to be to be meant. Everything is, by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Rejected at this time or later, epoch milliseconds.
    pub since_ms: Option<i64>,
    /// Rejected before this time, epoch milliseconds.
    pub until_ms: Option<i64>,
    /// Rejected for one of these; none: for any reason.
    pub reasons: Vec<Reason>,
}

impl Selection {
    pub(super) fn matches(&self, letter: &Letter) -> bool {
        let after = |since| letter.timestamp_ms.is_some_and(|ms| ms >= since);
        let before = |until| letter.timestamp_ms.is_some_and(|ms| ms < until);
        self.since_ms.is_none_or(after)
            && self.until_ms.is_none_or(before)
            && (self.reasons.is_empty()
                || self
                    .reasons
                    .iter()
                    .any(|reason| letter.reason.as_deref() == Some(reason.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(reason: &str, timestamp_ms: Option<i64>) -> Letter {
        Letter {
            reason: Some(reason.to_owned()),
            timestamp_ms,
            ..Letter::default()
        }
    }

    #[test]
    fn reasons_and_times_select() {
        let selection = Selection {
            since_ms: Some(100),
            until_ms: Some(200),
            reasons: vec![
                "BAD_IP".parse().expect("a reason"),
                "OUTPUT_REFUSED".parse().expect("a reason"),
            ],
        };
        for (reason, timestamp_ms, expected) in [
            ("BAD_IP", Some(100), true),
            ("OUTPUT_REFUSED", Some(199), true),
            ("NOT_JSON", Some(150), false),
            ("BAD_IP", Some(99), false),
            ("BAD_IP", Some(200), false),
            ("BAD_IP", None, false),
        ] {
            let letter = letter(reason, timestamp_ms);
            assert_eq!(selection.matches(&letter), expected, "{reason} {timestamp_ms:?}");
        }
        assert!(Selection::default().matches(&letter("X", None)));
        assert!(Selection::default().matches(&Letter::default()));
    }

    #[test]
    fn bounds_are_ages_or_times() {
        assert_eq!(
            "1h".parse::<TimeBound>().map(|bound| bound.epoch_ms(7_200_000)),
            Ok(3_600_000)
        );
        assert_eq!(
            "1970-01-02".parse::<TimeBound>().map(|bound| bound.epoch_ms(0)),
            Ok(86_400_000)
        );
        assert!("soon".parse::<TimeBound>().is_err());
    }

    #[test]
    fn positions_are_two_numbers() {
        assert_eq!(
            "3:42".parse(),
            Ok(Position {
                partition: 3,
                offset: 42
            })
        );
        for wrong in ["", "3", "3:", ":4", "-1:4", "1:-4", "1:2:3", "99999999999:1"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }
}
