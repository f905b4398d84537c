//! What a request asks for: parameters of the query, and how the answer is to be written. Pure.
//!
//! All names but [`RESERVED`] are parameters of the query; their values go into the plan as values, never into text.

use axum::http::StatusCode;
use loginlake_query::Params;

use super::error::ApiError;

/// Names in an address that are the API's own.
pub const RESERVED: [&str; 3] = ["format", "limit", "fresh"];
/// Parameters of one request, those of the API included.
const MAX_PARAMETERS: usize = 64;
/// Bytes of a value.
const MAX_VALUE_BYTES: usize = 4 << 10;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFormat {
    /// An array of objects.
    Json,
    /// An object per line.
    Ndjson,
    /// RFC 4180, cells that a spreadsheet would run defused.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl AnswerFormat {
    /// Every format; the first is the default.
    pub const ALL: [Self; 4] = [Self::Json, Self::Ndjson, Self::Csv, Self::Arrow];

    /// Its value of `format`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
        }
    }

    /// Its media type in `Accept`.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// What an answer says of itself.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            other => other.media_type(),
        }
    }
}

/// A request, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// For the query.
    pub params: Params,
    /// How the answer is written.
    pub format: AnswerFormat,
    /// Most rows that are wanted.
    pub limit: Option<u64>,
    /// Whether the records count that the table does not hold yet.
    pub fresh: bool,
}

impl Request {
    /// Reads the pairs of the address and the `Accept` header.
    ///
    /// # Errors
    /// 400 with the name of the parameter, or 406.
    pub fn read(pairs: Vec<(String, String)>, accept: Option<&str>) -> Result<Self, ApiError> {
        if pairs.len() > MAX_PARAMETERS {
            return Err(ApiError::bad_request(format!(
                "more than {MAX_PARAMETERS} parameters"
            )));
        }
        let mut params = Params::new();
        let (mut format, mut limit, mut fresh) = (None, None, None);
        for (name, value) in pairs {
            let wrong = |message: String| ApiError::bad_request(message).of_parameter(&name);
            if value.len() > MAX_VALUE_BYTES {
                return Err(wrong(format!(
                    "the value of {} is longer than {MAX_VALUE_BYTES} bytes",
                    shown(&name)
                )));
            }
            let is_new = match name.as_str() {
                "format" => {
                    let found = AnswerFormat::ALL
                        .into_iter()
                        .find(|format| format.as_str() == value);
                    let known = AnswerFormat::ALL.map(AnswerFormat::as_str).join(", ");
                    let found = found.ok_or_else(|| wrong(format!("format is one of {known}")))?;
                    format.replace(found).is_none()
                }
                "limit" => {
                    let rows = value.parse::<u64>().ok().filter(|rows| *rows > 0);
                    let rows =
                        rows.ok_or_else(|| wrong("limit is a number of rows, 1 or more".to_owned()))?;
                    limit.replace(rows).is_none()
                }
                "fresh" => {
                    let wanted = value.parse::<bool>();
                    let wanted = wanted.map_err(|_| wrong("fresh is true or false".to_owned()))?;
                    fresh.replace(wanted).is_none()
                }
                _ => params.set(name.clone(), value).is_none(),
            };
            if !is_new {
                return Err(wrong(format!("{} is given twice", shown(&name))));
            }
        }
        let format = match format {
            Some(format) => format,
            None => accepted(accept)?,
        };
        Ok(Self {
            params,
            format,
            limit,
            fresh: fresh.unwrap_or(false),
        })
    }
}

/// The beginning of a name from outside.
fn shown(name: &str) -> String {
    name.chars().take(60).collect()
}

/// The format that `Accept` prefers; the default where it prefers none.
fn accepted(accept: Option<&str>) -> Result<AnswerFormat, ApiError> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
        return Ok(AnswerFormat::ALL[0]);
    };
    let mut best: Option<(AnswerFormat, f32)> = None;
    for format in AnswerFormat::ALL {
        let quality = quality_of(format.media_type(), accept);
        if quality > 0.0 && best.is_none_or(|(_, found)| quality > found) {
            best = Some((format, quality));
        }
    }
    best.map(|(format, _)| format).ok_or_else(|| {
        let known = AnswerFormat::ALL.map(AnswerFormat::media_type).join(", ");
        ApiError::new(StatusCode::NOT_ACCEPTABLE, format!("an answer is one of {known}"))
    })
}

/// The quality that an `Accept` header gives a media type, by its most specific range (RFC 9110, 12.5.1).
fn quality_of(media_type: &str, accept: &str) -> f32 {
    let (kind, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    let mut found = (0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let specific = match name.as_str() {
            "*/*" => 1,
            name if name.strip_suffix("/*") == Some(kind) => 2,
            name if name == media_type => 3,
            _ => continue,
        };
        let quality = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1.0, |text| text.parse().unwrap_or(0.0_f32).clamp(0.0, 1.0));
        if specific > found.0 {
            found = (specific, quality);
        }
    }
    found.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)], accept: Option<&str>) -> Result<Request, ApiError> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Request::read(pairs.collect(), accept)
    }

    #[test]
    fn the_names_of_the_api_are_its_own_and_the_rest_are_parameters() {
        let request = read(
            &[
                ("region", "West'; --"),
                ("format", "csv"),
                ("limit", "7"),
                ("fresh", "true"),
            ],
            Some("application/json"),
        )
        .expect("good");
        assert_eq!(request.params.get("region"), Some("West'; --"));
        assert_eq!(request.params.iter().count(), 1);
        assert_eq!(
            (request.format, request.limit, request.fresh),
            (AnswerFormat::Csv, Some(7), true)
        );
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        let long = "x".repeat(MAX_VALUE_BYTES + 1);
        for (name, value) in [
            ("format", "xml"),
            ("limit", "0"),
            ("limit", "-1"),
            ("fresh", "yes"),
            ("region", long.as_str()),
        ] {
            let error = read(&[(name, value)], None).expect_err(name);
            assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{name}");
            assert_eq!(error.parameter(), Some(name));
        }
        let error = read(&[("from", "1"), ("from", "2")], None).expect_err("twice");
        assert_eq!(error.parameter(), Some("from"));
        assert!(read(&[("a", "1"); MAX_PARAMETERS + 1], None).is_err());
    }

    #[test]
    fn accept_chooses_the_format() {
        let cases = [
            (None, Some(AnswerFormat::Json)),
            (Some("*/*"), Some(AnswerFormat::Json)),
            (Some("text/csv"), Some(AnswerFormat::Csv)),
            (Some("TEXT/*"), Some(AnswerFormat::Csv)),
            (
                Some("text/html, text/csv;q=0.5, application/json;q=0.4"),
                Some(AnswerFormat::Csv),
            ),
            (
                Some("application/json;q=0, */*;q=0.1"),
                Some(AnswerFormat::Ndjson),
            ),
            (
                Some("application/vnd.apache.arrow.stream, */*;q=0.1"),
                Some(AnswerFormat::Arrow),
            ),
            (Some("text/html"), None),
            (Some("application/json;q=0"), None),
        ];
        for (accept, format) in cases {
            let found = read(&[], accept);
            assert_eq!(
                found.as_ref().ok().map(|request| request.format),
                format,
                "{accept:?}"
            );
            if let Err(error) = found {
                assert_eq!(error.status(), StatusCode::NOT_ACCEPTABLE);
            }
        }
    }
}
