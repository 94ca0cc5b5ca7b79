//! One object to its presigned URL.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Seek as _},
    time::Duration,
};

use backon::Retryable as _;
use bytes::Bytes;
use niks3_core::{limits::put_time, s3_error, wire::PresignedUrl};
use reqwest::{Client, StatusCode};
use tokio_util::io::ReaderStream;

use crate::{
    api::{ApiError, retry},
    pack,
};

/// How long connecting to S3 may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that are read from a temporary file at once.
const READ_BYTES: usize = 256 * 1024;

/// Bytes of S3's answer that are looked at.
const MAX_ERROR_BYTES: usize = 16 * 1024;

/// A body that can be sent more than once.
#[derive(Debug)]
pub(super) enum Body {
    /// In memory.
    Memory(Bytes),
    /// In a temporary file.
    File(File),
}

impl From<pack::Body> for Body {
    fn from(body: pack::Body) -> Self {
        match body {
            pack::Body::Memory(bytes) => Self::Memory(bytes.into()),
            pack::Body::File(file) => Self::File(file),
        }
    }
}

/// Why S3 did not take an object. Contains no URL: they are presigned.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// An answer of 400 and above.
    #[error("S3 answered {status}{code}")]
    Refused {
        /// S3's status.
        status: StatusCode,
        /// S3's error code in parentheses, or nothing.
        code: String,
    },
    /// No answer.
    #[error("S3 did not answer")]
    Unreachable(#[source] reqwest::Error),
    /// The temporary file.
    #[error("cannot read the compressed NAR back from its temporary file")]
    Read(#[source] io::Error),
    /// An answer of our server that makes no sense.
    #[error("the server gave no URL for it")]
    NoUrl,
}

impl SendError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { status, .. } if *status == StatusCode::FORBIDDEN => Some(
                "S3 does not take what the server signed: look at its region, credentials and \
                 clock, and at this machine's proxy"
                    .to_owned(),
            ),
            Self::Unreachable(_) => Some(
                "the S3 endpoint in the server's settings must be reachable from this machine too"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Refused { status, code } => {
                // A body that was damaged on the way is refused, and worth sending again.
                retry::is_transient_status(*status) || code.contains("BadDigest")
            }
            Self::Unreachable(error) => !error.is_connect() && !error.is_builder(),
            Self::Read(_) | Self::NoUrl => false,
        }
    }
}

/// A client for presigned URLs.
///
/// # Errors
/// When there are no CA certificates.
pub fn s3_client() -> Result<Client, ApiError> {
    Client::builder().connect_timeout(CONNECT_TIMEOUT).build().map_err(ApiError::Setup)
}

/// PUTs a body of `bytes` with these headers, all of which are signed.
pub(super) async fn put(
    http: &Client,
    url: &PresignedUrl,
    headers: &BTreeMap<String, String>,
    body: &Body,
    bytes: u64,
) -> Result<(), SendError> {
    let attempt = || put_once(http, url, headers, body, bytes);
    attempt.retry(retry::policy()).when(SendError::is_transient).await
}

async fn put_once(
    http: &Client,
    url: &PresignedUrl,
    headers: &BTreeMap<String, String>,
    body: &Body,
    bytes: u64,
) -> Result<(), SendError> {
    let body = match body {
        Body::Memory(bytes) => reqwest::Body::from(bytes.clone()),
        Body::File(file) => {
            // One offset is shared by all clones of a file; tries come one after another.
            let mut file = file.try_clone().map_err(SendError::Read)?;
            file.rewind().map_err(SendError::Read)?;
            let file = tokio::fs::File::from_std(file);
            reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, READ_BYTES))
        }
    };
    let mut request = http.put(&url.0).timeout(put_time(bytes)).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let unreachable = |error: reqwest::Error| SendError::Unreachable(error.without_url());
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let text = retry::read_some(response, MAX_ERROR_BYTES).await;
    let code = s3_error::code(&text).map(|code| format!(" ({code})")).unwrap_or_default();
    Err(SendError::Refused { status, code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_sending_again_is_known() {
        let refused = |status, code: &str| SendError::Refused {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.to_owned(),
        };
        assert!(refused(503, " (SlowDown)").is_transient());
        assert!(refused(400, " (BadDigest)").is_transient());
        assert!(!refused(400, " (InvalidArgument)").is_transient());
        assert!(!refused(403, " (AccessDenied)").is_transient());
        assert!(!SendError::NoUrl.is_transient());
    }
}
