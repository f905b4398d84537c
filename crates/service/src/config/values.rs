//! The kinds of values that settings have beyond text and numbers. Each is written in the same way on the command
//! line, in the environment and in the file, and each error shows examples of what is accepted.

use std::fmt::{self, Debug, Display};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

/// Why a text is not a value of the wanted kind.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ValueError {
    /// Not a size.
    #[error(
        "`{0}` is not a size: give a number of bytes, or one with kB, MB, GB, KiB, MiB or GiB, such as 256MiB"
    )]
    Size(String),
    /// Not a duration.
    #[error("`{0}` is not a duration: give a whole number with its unit, such as 500ms, 10s, 2m, 1h or 7d")]
    Duration(String),
    /// Not a date or a point in time.
    #[error("`{0}` is not a date: give one such as 2015-01-01 or 2015-01-01T00:00:00Z")]
    Time(String),
    /// Not a rate.
    #[error(
        "`{0}` is not a rate: give a number of records per second, or one such as 50000/s or 3000000/min"
    )]
    Rate(String),
    /// Not an address to listen on.
    #[error(
        "`{0}` is not an address: give one such as 127.0.0.1:8080, [::1]:8080 or localhost:8080, or `none`"
    )]
    HttpAddress(String),
    /// Not a filter of logs.
    #[error("`{0}` is not a filter of logs: give a level, or levels by target, such as warn,loginlake=debug")]
    LogFilter(String),
}

/// A number of bytes: `1024`, `256MiB`, `1GB`. A bare number is bytes; `K`, `M` and `G` alone are refused, as they
/// mean either of two sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub struct ByteSize(u64);

impl ByteSize {
    const UNITS: [(&str, u64); 9] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];

    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many mebibytes.
    pub const fn from_mib(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = number_and_unit(text);
        let factor = match unit {
            "" => Some(1),
            _ => Self::UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|&(_, factor)| factor),
        };
        number
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| ValueError::Size(text.to_owned()))
    }
}

/// The largest unit that says it exactly, so that what is shown can be given back.
impl Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |&&(_, factor): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(factor);
        let (unit, factor) = Self::UNITS.iter().find(exact).copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a size such as 256MiB or a number of bytes")]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl TryFrom<NumberOrText> for ByteSize {
    type Error = ValueError;

    fn try_from(value: NumberOrText) -> Result<Self, ValueError> {
        match value {
            NumberOrText::Number(bytes) => Ok(Self(bytes)),
            NumberOrText::Text(text) => text.parse(),
        }
    }
}

/// A length of time: `500ms`, `10s`, `2m`, `1h`, `7d`. A unit is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(Duration);

impl Span {
    const UNITS_MS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];

    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As the standard library's type.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// In milliseconds; what does not fit is `i64::MAX`.
    pub fn millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = number_and_unit(text);
        let factor = Self::UNITS_MS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|&(_, factor)| factor);
        number
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .map(Self::from_millis)
            .ok_or_else(|| ValueError::Duration(text.to_owned()))
    }
}

impl TryFrom<String> for Span {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

/// The largest unit that says it exactly.
impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let exact = |&&(_, factor): &&(&str, u64)| millis != 0 && millis.is_multiple_of(u128::from(factor));
        let (unit, factor) = Self::UNITS_MS.iter().find(exact).copied().unwrap_or(("s", 1_000));
        write!(f, "{}{unit}", millis / u128::from(factor))
    }
}

fn number_and_unit(text: &str) -> (Option<u64>, &str) {
    let text = text.trim();
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number.parse().ok(), unit.trim_start())
}

/// A point in time: a date (its first instant in UTC) or an RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "TomlOrText")]
pub struct UtcTime {
    epoch_ms: i64,
}

impl UtcTime {
    /// From milliseconds since the epoch.
    pub const fn from_epoch_ms(epoch_ms: i64) -> Self {
        Self { epoch_ms }
    }

    /// Milliseconds since the epoch.
    pub const fn epoch_ms(self) -> i64 {
        self.epoch_ms
    }
}

impl FromStr for UtcTime {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let given = text.trim();
        if let Ok(time) = chrono::DateTime::parse_from_rfc3339(given) {
            return Ok(Self::from_epoch_ms(time.timestamp_millis()));
        }
        chrono::NaiveDate::parse_from_str(given, "%Y-%m-%d")
            .ok()
            .and_then(|date| date.and_hms_opt(0, 0, 0))
            .map(|midnight| Self::from_epoch_ms(midnight.and_utc().timestamp_millis()))
            .ok_or_else(|| ValueError::Time(text.to_owned()))
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a date such as 2015-01-01")]
enum TomlOrText {
    Toml(toml::value::Datetime),
    Text(String),
}

impl TryFrom<TomlOrText> for UtcTime {
    type Error = ValueError;

    fn try_from(value: TomlOrText) -> Result<Self, ValueError> {
        match value {
            TomlOrText::Toml(time) => time.to_string().parse(),
            TomlOrText::Text(text) => text.parse(),
        }
    }
}

/// Where a service listens: `127.0.0.1:8080`, `localhost:8080`, or `none` for not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum HttpAddress {
    /// No HTTP.
    Off,
    /// This address; port 0 is a free one.
    On(SocketAddr),
}

impl FromStr for HttpAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let given = text.trim();
        if given.eq_ignore_ascii_case("none") {
            return Ok(Self::Off);
        }
        let numeric = given
            .strip_prefix("localhost:")
            .map(|port| format!("127.0.0.1:{port}"));
        let address = numeric.as_deref().unwrap_or(given).parse();
        address
            .map(Self::On)
            .map_err(|_| ValueError::HttpAddress(text.to_owned()))
    }
}

impl TryFrom<String> for HttpAddress {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

/// What is logged, as `RUST_LOG` says it: `info`, `warn,loginlake=debug`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LogFilter(String);

impl LogFilter {
    /// The directives.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogFilter {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let given = text.trim();
        // An empty filter is one that lets nothing but errors through: nobody means it.
        if given.is_empty() || tracing_subscriber::EnvFilter::try_new(given).is_err() {
            return Err(ValueError::LogFilter(text.to_owned()));
        }
        Ok(Self(given.to_owned()))
    }
}

impl TryFrom<String> for LogFilter {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

/// Bytes that appear in no log, no error and no debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves, for the one place that computes with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("1 KiB", 1024),
            ("256MiB", 256 << 20),
            ("1GB", 1_000_000_000),
            ("7b", 7),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize::from_bytes(bytes)), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1",
            "1.5GiB",
            "256M",
            "1 parsec",
            "99999999999TiB",
            "99999999999999999999",
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(ValueError::Size(text.to_owned())));
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(Span::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1.5s", "1w", "10S", "99999999999999999d"] {
            assert_eq!(text.parse::<Span>(), Err(ValueError::Duration(text.to_owned())));
        }
    }

    #[test]
    fn what_is_shown_can_be_given_back() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (1536, "1536B"),
            (2048, "2KiB"),
            (1_000_000, "1MB"),
            (256 << 20, "256MiB"),
        ] {
            assert_eq!(ByteSize::from_bytes(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(ByteSize::from_bytes(bytes)));
        }
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (90_000, "90s"),
            (7_200_000, "2h"),
            (172_800_000, "2d"),
        ] {
            assert_eq!(Span::from_millis(millis).to_string(), text);
            assert_eq!(text.parse(), Ok(Span::from_millis(millis)));
        }
    }

    #[test]
    fn a_date_is_its_first_instant_in_utc() {
        assert_eq!(
            "2015-01-01".parse(),
            Ok(UtcTime::from_epoch_ms(1_420_070_400_000))
        );
        assert_eq!(
            "2015-01-01T01:00:00+01:00".parse(),
            Ok(UtcTime::from_epoch_ms(1_420_070_400_000))
        );
        for text in ["", "yesterday", "2015-02-29", "2015-01-01 00:00"] {
            assert_eq!(text.parse::<UtcTime>(), Err(ValueError::Time(text.to_owned())));
        }
    }

    #[test]
    fn an_http_address_is_numeric_localhost_or_none() {
        assert_eq!("none".parse(), Ok(HttpAddress::Off));
        for (text, address) in [
            ("localhost:80", "127.0.0.1:80"),
            ("[::1]:8080", "[::1]:8080"),
            ("0.0.0.0:0", "0.0.0.0:0"),
        ] {
            assert_eq!(
                text.parse(),
                Ok(HttpAddress::On(address.parse().expect("an address")))
            );
        }
        for text in ["", "8080", "example.org:80", "127.0.0.1", "127.0.0.1:70000"] {
            assert_eq!(
                text.parse::<HttpAddress>(),
                Err(ValueError::HttpAddress(text.to_owned()))
            );
        }
    }

    #[test]
    fn a_filter_of_logs_is_one_of_levels_and_targets() {
        for text in ["info", " warn,loginlake=debug ", "realtime[worker]=trace"] {
            assert_eq!(text.parse::<LogFilter>().expect(text).as_str(), text.trim());
        }
        for text in ["", " ", "loginlake=loud", "a=b=c"] {
            assert_eq!(
                text.parse::<LogFilter>(),
                Err(ValueError::LogFilter(text.to_owned()))
            );
        }
    }

    #[test]
    fn a_secret_shows_stars() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "*** *** Some(***)"
        );
        assert_eq!(secret.expose(), b"hunter2");
    }
}
