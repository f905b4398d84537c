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
        let place = place.to_owned();
        match error {
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                LakeError::AccessDenied {
                    place,
                    detail: store_code(&text),
                }
            }
            _ if ACCESS_CODES.iter().any(|code| text.contains(code)) => LakeError::AccessDenied {
                place,
                detail: store_code(&text),
            },
            _ if text.contains("NoSuchBucket") => {
                let bucket = place.strip_prefix("s3://").unwrap_or(&place);
                LakeError::NoBucket {
                    bucket: bucket.split('/').next().unwrap_or(bucket).to_owned(),
                }
            }
            _ if text.contains("Permission denied (os error 13)") => LakeError::AccessDenied {
                place,
                detail: "permission denied by the file system".to_owned(),
            },
            _ => LakeError::Unreachable {
                place,
                detail: shorten(&text),
            },
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
