//! A rate of records: `50000/s`, `3000000/min`; a bare number is per second.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::values::ValueError;

/// So many records in a second, a minute or an hour; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub struct Rate {
    records: u64,
    unit: usize,
}

impl Rate {
    const UNITS: [(&str, u64); 3] = [("s", 1), ("min", 60), ("h", 3_600)];

    /// How long so many records take, exactly at the rate; what does not fit is the longest there is.
    pub fn time_of(self, records: u64) -> Duration {
        let nanos = u128::from(records) * u128::from(Self::UNITS[self.unit].1) * 1_000_000_000
            / u128::from(self.records);
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }
}

impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
        let unit = Self::UNITS.iter().position(|(name, _)| *name == unit.trim());
        let records = number.trim().parse().ok().filter(|records| *records > 0);
        records
            .zip(unit)
            .map(|(records, unit)| Self { records, unit })
            .ok_or_else(|| ValueError::Rate(text.to_owned()))
    }
}

impl Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.records, Self::UNITS[self.unit].0)
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a rate such as \"50000/s\" or a number of records per second"
)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl TryFrom<NumberOrText> for Rate {
    type Error = ValueError;

    fn try_from(value: NumberOrText) -> Result<Self, ValueError> {
        match value {
            NumberOrText::Number(records) => records.to_string().parse(),
            NumberOrText::Text(text) => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_per_second_minute_or_hour() {
        for (text, shown, second) in [
            ("50000/s", "50000/s", Duration::from_secs(1) / 50_000),
            ("50000", "50000/s", Duration::from_secs(1) / 50_000),
            ("3000000/min", "3000000/min", Duration::from_secs(1) / 50_000),
            (" 2 / h ", "2/h", Duration::from_secs(1_800)),
        ] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!((rate.to_string().as_str(), rate.time_of(1)), (shown, second));
            assert_eq!(shown.parse(), Ok(rate), "what is shown can be given back");
        }
        let slow: Rate = "1/h".parse().expect("a rate");
        assert_eq!(slow.time_of(u64::MAX), Duration::MAX);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "0",
            "0/s",
            "/s",
            "-1",
            "1.5/s",
            "50k/s",
            "5/ms",
            "5/",
            "5/s/s",
            "99999999999999999999",
        ] {
            assert_eq!(
                text.parse::<Rate>(),
                Err(ValueError::Rate(text.to_owned())),
                "{text}"
            );
        }
    }
}
