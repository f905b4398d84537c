//! What can go wrong with the lake, by cause: every variant is something that an operator or a caller treats differently.

use object_store::Error as StoreError;

/// An error of the lake. `Display` is one line that says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The lake's address or its settings cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// The bucket does not exist.
    #[error("bucket {bucket} does not exist: create it, or change --lake")]
    NoBucket {
        /// Name of the bucket.
        bucket: String,
    },
    /// The store refused the credentials, or they may not do this.
    #[error(
        "the object store refused access to {place} ({detail}): check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the rights of that user"
    )]
    AccessDenied {
        /// The lake, bucket or object.
        place: String,
        /// What the store answered, shortened.
        detail: String,
    },
    /// The store could not be reached, or failed for a reason that may pass: worth another try.
    #[error("cannot reach the object store of {place}: {detail}")]
    Unreachable {
        /// The lake, bucket or object.
        place: String,
        /// The cause, shortened.
        detail: String,
    },
    /// The folder holds something that this software did not write, or that it cannot read.
    #[error("{place} is not a table of this software: {detail}; choose another --lake")]
    Foreign {
        /// The table's folder.
        place: String,
        /// What was found.
        detail: String,
    },
    /// The table's log cannot be read.
    #[error("cannot read the Delta log of {place}: {detail}")]
    Log {
        /// The table's folder.
        place: String,
        /// The cause.
        detail: String,
    },
    /// A version was asked for that the table does not have (any more).
    #[error("{place} has no version {version}: {detail}")]
    NoSuchVersion {
        /// The table's folder.
        place: String,
        /// The version asked for.
        version: i64,
        /// The cause.
        detail: String,
    },
    /// The table's offsets and the topic do not fit together: going on would lose or double records.
    #[error("{0}")]
    DataLossRefused(String),
    /// A Parquet file could not be written or read.
    #[error("cannot {action} the Parquet file {path}: {source}")]
    Parquet {
        /// `read`, `write`.
        action: &'static str,
        /// The file.
        path: String,
        /// The cause.
        source: parquet::errors::ParquetError,
    },
    /// An invariant of the table does not hold: nothing was committed.
    #[error("{0}")]
    Invariant(String),
}

/// Signs in the text of an error that asking again may help. Bodies of S3 hold random identifiers: a number alone is no sign.
const PASSING: &[&str] = &[
    "error sending request",
    "onnection refused",
    "onnection reset",
    "connection closed",
    "connection error",
    "timed out",
    "500 Internal Server Error",
    "502 Bad Gateway",
    "503 Service Unavailable",
    "504 Gateway Timeout",
    "SlowDown",
];

/// Answers of S3 that are about who asks, whatever their status.
const ACCESS_CODES: &[&str] = &[
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "AccessDenied",
    "ExpiredToken",
    "403 Forbidden",
    "401 Unauthorized",
];

impl LakeError {
    /// True when the same call may succeed later without anybody changing anything.
    pub fn is_retriable(&self) -> bool {
        // Credentials that expired are renewed; whoever starts with wrong ones does not retry.
        matches!(
            self,
            LakeError::Unreachable { .. } | LakeError::AccessDenied { .. }
        )
    }

    /// Sorts an error of the object store by what an operator would do about it. `place` is what was accessed.
    pub(crate) fn from_store(place: &str, error: StoreError) -> Self {
        let text = error_chain(&error);
        match error {
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                LakeError::AccessDenied {
                    place: place.to_owned(),
                    detail: store_code(&text),
                }
            }
            _ => Self::refused(place, &text).unwrap_or_else(|| LakeError::Unreachable {
                place: place.to_owned(),
                detail: shorten(&text),
            }),
        }
    }

    /// Sorts an error of the store of which only the text was kept. `None` when it is about what is stored.
    pub(crate) fn from_store_text(place: &str, text: &str) -> Option<Self> {
        Self::refused(place, text).or_else(|| {
            let passing = PASSING.iter().any(|sign| text.contains(sign));
            passing.then(|| LakeError::Unreachable {
                place: place.to_owned(),
                detail: shorten(text),
            })
        })
    }

    /// What the store refuses, however often it is asked.
    fn refused(place: &str, text: &str) -> Option<Self> {
        let place = place.to_owned();
        if ACCESS_CODES.iter().any(|code| text.contains(code)) {
            let detail = store_code(text);
            Some(LakeError::AccessDenied { place, detail })
        } else if text.contains("NoSuchBucket") {
            let bucket = place.strip_prefix("s3://").unwrap_or(&place);
            let bucket = bucket.split('/').next().unwrap_or(bucket).to_owned();
            Some(LakeError::NoBucket { bucket })
        } else if text.contains("Permission denied (os error 13)") {
            let detail = "permission denied by the file system".to_owned();
            Some(LakeError::AccessDenied { place, detail })
        } else {
            None
        }
    }
}

/// An error and its causes, each said once.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The `<Code>` of an S3 error body, or the shortened text.
fn store_code(text: &str) -> String {
    text.split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map_or_else(|| shorten(text), |(code, _)| code.to_owned())
}

/// One line of at most 300 characters: what was tried is at its beginning, and the cause at its end.
fn shorten(text: &str) -> String {
    const BEGIN: usize = 120;
    const END: usize = 178;
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let characters: Vec<char> = line.chars().collect();
    if characters.len() <= 300 {
        return line;
    }
    let begin: String = characters[..BEGIN].iter().collect();
    let end: String = characters[characters.len() - END..].iter().collect();
    format!("{begin} … {end}")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_its_code_and_not_from_a_number_in_an_identifier() {
        let refused = "Error performing GET http://store/b/lake/_delta_log in 2ms - Server returned non-2xx status code: \
            403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code><Message>no</Message>\
            <RequestId>18EA2CA47D4DF1B6</RequestId><HostId>bd56fea9cc8c0f732f503ddac848</HostId></Error>";
        match LakeError::from_store_text("s3://b/lake", refused) {
            Some(LakeError::AccessDenied { detail, .. }) => assert_eq!(detail, "SignatureDoesNotMatch"),
            other => panic!("{other:?}"),
        }
        let missing = "404 Not Found: <HostId>0f732f503ddac848</HostId>";
        assert!(LakeError::from_store_text("s3://b/lake", missing).is_none());
        let bucket = "404 Not Found: <Code>NoSuchBucket</Code>";
        assert!(matches!(
            LakeError::from_store_text("s3://b/lake", bucket),
            Some(LakeError::NoBucket { bucket }) if bucket == "b"
        ));
        let busy = "Server returned non-2xx status code: 503 Service Unavailable: <Code>SlowDown</Code>";
        assert!(matches!(
            LakeError::from_store_text("s3://b/lake", busy),
            Some(LakeError::Unreachable { .. })
        ));
    }
}
