//! One object to its presigned URL.

use std::{
    collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _, sync::Arc, time::Duration,
};

use backon::Retryable as _;
use bytes::Bytes;
use futures_util::{Stream, stream};
use niks3_core::{limits::put_time, s3_error, verdict::Verdict, wire::PresignedUrl};
use reqwest::{Client, StatusCode};

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
    File(Arc<File>),
}

impl From<pack::Body> for Body {
    fn from(body: pack::Body) -> Self {
        match body {
            pack::Body::Memory(bytes) => Self::Memory(bytes.into()),
            pack::Body::File(file) => Self::File(Arc::new(file)),
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

    /// S3 does not take the signature, or not any more.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::FORBIDDEN, .. })
    }

    /// Whether sending it again may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { status, code } => {
                let code = code.trim_matches([' ', '(', ')']);
                Verdict::of(status.as_u16(), Some(code)) != Verdict::Final
            }
            // Nobody typed that URL: a node of S3 that is gone for a moment is no mistake.
            Self::Unreachable(error) => !error.is_builder(),
            Self::Read(_) | Self::NoUrl => false,
        }
    }
}

/// A client for presigned URLs.
///
/// # Errors
/// When there are no CA certificates.
pub fn s3_client() -> Result<Client, ApiError> {
    let client = Client::builder().connect_timeout(CONNECT_TIMEOUT);
    // What answers elsewhere has not stored anything.
    client.redirect(reqwest::redirect::Policy::none()).build().map_err(ApiError::Setup)
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

/// The file's bytes. Read by position: an earlier try may still be reading, and an offset would be
/// shared with it.
fn from_the_start(file: Arc<File>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold(0, move |offset| {
        let file = Arc::clone(&file);
        async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; READ_BYTES];
                let bytes = file.read_at(&mut chunk, offset)?;
                chunk.truncate(bytes);
                Ok::<_, io::Error>(chunk)
            });
            let chunk = read.await.map_err(io::Error::other)??;
            let next = offset + chunk.len() as u64;
            Ok((!chunk.is_empty()).then(|| (Bytes::from(chunk), next)))
        }
    })
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
        Body::File(file) => reqwest::Body::wrap_stream(from_the_start(Arc::clone(file))),
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
