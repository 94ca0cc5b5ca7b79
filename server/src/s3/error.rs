//! Why S3 did not do what it was asked.

use std::time::Duration;

use niks3_core::verdict::Verdict;
use reqwest::{Method, StatusCode};

/// A request that failed. Contains no URL: they are presigned.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// S3 answered, and not as hoped.
    #[error("S3 answered {status} to {method} {key} in bucket {bucket}{}", code_text(.code))]
    Refused {
        /// The request's method.
        method: Method,
        /// The object.
        key: String,
        /// The bucket.
        bucket: String,
        /// S3's status.
        status: StatusCode,
        /// S3's error code, such as `NoSuchBucket`.
        code: Option<String>,
        /// After how long it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// S3 did not answer.
    #[error("S3 did not answer {method} {key} in bucket {bucket}")]
    Unreachable {
        /// The request's method.
        method: Method,
        /// The object.
        key: String,
        /// The bucket.
        bucket: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// S3 was not asked: it wants fewer requests, or too many wait.
    #[error(
        "S3 could not be asked in time for {method} {key} in bucket {bucket}: it asks for fewer \
         requests, or is slow"
    )]
    NoTurn {
        /// The request's method.
        method: Method,
        /// The object.
        key: String,
        /// The bucket.
        bucket: String,
    },
}

fn code_text(code: &Option<String>) -> String {
    code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default()
}

impl S3Error {
    /// Whether the same request may succeed a moment later, and how soon.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Unreachable { .. } => Verdict::Again,
            // An answer to an opening or a completion that broke off, or is none of S3's.
            Self::Refused { status, code: None, .. } if status.is_success() => Verdict::Again,
            Self::Refused { status, code, .. } => Verdict::of(status.as_u16(), code.as_deref()),
            Self::NoTurn { .. } => Verdict::SlowDown,
        }
    }

    /// Whether nothing of the request can be under way any more: it was not sent, or S3 itself has
    /// answered. A code is S3's; without one somebody between us may have given up waiting for it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::NoTurn { .. } => true,
            Self::Unreachable { source, .. } => source.is_connect(),
            Self::Refused { code, .. } => code.is_some(),
        }
    }

    /// The multipart upload was completed or aborted, or never was.
    #[must_use]
    pub fn is_no_such_upload(&self) -> bool {
        matches!(self, Self::Refused { status, code, .. }
            if code.as_deref() == Some("NoSuchUpload")
                || (code.is_none() && *status == StatusCode::NOT_FOUND))
    }

    /// What S3 asked for, within bounds.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Unreachable { .. } | Self::NoTurn { .. } => None,
        }
    }
}
