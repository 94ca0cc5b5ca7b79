//! One body to its presigned URL, tried until S3 takes it or will not.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use niks3_core::{
    limits::put_time,
    pace::{Outcome, Pace},
    s3_error,
    verdict::Verdict,
    wire::PresignedUrl,
};
use reqwest::{Client, Response, StatusCode, header};
use tracing::debug;

use super::body::{Body, STALL_TIME, Watch};
use crate::api::{ApiError, retry};

/// How long connecting to S3 may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of S3's answer that are looked at.
const MAX_ERROR_BYTES: usize = 16 * 1024;

/// For how long S3 may ask everyone to slow down and take nothing at all: with the pauses that grow
/// meanwhile some ten tries. While it takes something, a body is sent again as often as it needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// For how long one body is sent again whatever S3 takes of others.
const MOST_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Why S3 did not take an object. Contains no URL: they are presigned.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// An answer of 300 and above.
    #[error("S3 answered {status}{}", .code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Refused {
        /// S3's status.
        status: StatusCode,
        /// S3's error code, such as `AccessDenied`.
        code: Option<String>,
        /// After how long it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// No answer.
    #[error("S3 did not answer")]
    Unreachable(#[source] reqwest::Error),
    /// A connection on which nothing moves.
    #[error("S3 took nothing for {} seconds", STALL_TIME.as_secs())]
    Stalled,
    /// An answer to a part without what the part is called by afterwards.
    #[error("S3 answered a part without an ETag")]
    NoETag,
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

    /// S3 does not take the signature, or not any more: 403 at most stores, 400 at R2.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { status, code, .. }
            if *status == StatusCode::FORBIDDEN || code.as_deref() == Some("ExpiredRequest"))
    }

    /// The multipart upload is no more: another push has completed the NAR, or ours has expired.
    pub(super) fn is_no_such_upload(&self) -> bool {
        matches!(self, Self::Refused { status, code, .. }
            if code.as_deref() == Some("NoSuchUpload")
                || (code.is_none() && *status == StatusCode::NOT_FOUND))
    }

    /// Whether sending it again may succeed.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Refused { status, code, .. } => Verdict::of(status.as_u16(), code.as_deref()),
            // Nobody typed that URL: a node of S3 that is gone for a moment is no mistake.
            Self::Unreachable(error) if error.is_builder() => Verdict::Final,
            Self::Unreachable(_) | Self::Stalled => Verdict::Again,
            Self::NoETag | Self::NoUrl => Verdict::Final,
        }
    }

    /// What it says of how fast we may ask. That so many at once do not get through in time is as good
    /// as being told; without an answer it says nothing else.
    fn outcome(&self) -> Option<Outcome> {
        match (self.verdict(), self) {
            (Verdict::SlowDown, Self::Refused { retry_after, .. }) => {
                Some(Outcome::SlowDown { retry_after: *retry_after })
            }
            (_, Self::Refused { .. }) => Some(Outcome::Served),
            (_, Self::Stalled) => Some(Outcome::SlowDown { retry_after: None }),
            (_, Self::Unreachable(error)) if error.is_timeout() && !error.is_connect() => {
                Some(Outcome::SlowDown { retry_after: None })
            }
            _ => None,
        }
    }
}

/// The way to S3: one for all pushes of a process.
pub struct S3 {
    http: Client,
    pace: Pace,
    requests: AtomicU64,
    opened: Instant,
    /// When S3 last took something, in milliseconds after that.
    served_ms: AtomicU64,
}

impl S3 {
    /// With at most `uploads` requests at once.
    ///
    /// # Errors
    /// When there are no CA certificates.
    pub fn new(uploads: std::num::NonZeroUsize) -> Result<Self, ApiError> {
        let client = Client::builder().connect_timeout(CONNECT_TIMEOUT);
        // What answers elsewhere has not stored anything.
        // HTTP/2 would have all of them share one connection, and one loss stall all.
        let client = client.redirect(reqwest::redirect::Policy::none()).http1_only();
        let http = client.pool_max_idle_per_host(uploads.get()).build().map_err(ApiError::Setup)?;
        Ok(Self {
            http,
            pace: Pace::new(uploads),
            requests: AtomicU64::new(0),
            opened: Instant::now(),
            served_ms: AtomicU64::new(0),
        })
    }

    /// Requests that were sent, every try counted.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// PUTs a body of `bytes` with these headers, all of which are signed; `tries` times at most,
    /// those not counted after which S3 asked for fewer requests. Answers the ETag.
    pub(super) async fn put(
        &self,
        url: &PresignedUrl,
        headers: &BTreeMap<String, String>,
        (body, bytes): (&Body, u64),
        tries: usize,
    ) -> Result<Option<String>, SendError> {
        let (started, mut pauses) = (Instant::now(), pauses(tries));
        loop {
            let permit = self.pace.enter().await;
            let error = match self.put_once(url, headers, body, bytes).await {
                Ok(etag) => {
                    permit.done(Outcome::Served);
                    let served_ms = self.opened.elapsed().as_millis() as u64;
                    self.served_ms.fetch_max(served_ms, Ordering::Relaxed);
                    return Ok(etag);
                }
                Err(error) => error,
            };
            match error.outcome() {
                Some(outcome) => {
                    if let Some(limit) = permit.done(outcome) {
                        debug!(s3.requests = limit, "S3 wants fewer requests at once");
                    }
                }
                // Not while others could be sending.
                None => drop(permit),
            }
            match error.verdict() {
                // The pace keeps us waiting, as it does everyone.
                Verdict::SlowDown if self.is_worth_waiting(started) => {}
                Verdict::Again => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                },
                Verdict::SlowDown | Verdict::Final => return Err(error),
            }
        }
    }

    fn is_worth_waiting(&self, started: Instant) -> bool {
        let served = Duration::from_millis(self.served_ms.load(Ordering::Relaxed));
        let idle = self.opened.elapsed().saturating_sub(served);
        started.elapsed().min(idle) < PATIENCE && started.elapsed() < MOST_PATIENCE
    }

    async fn put_once(
        &self,
        url: &PresignedUrl,
        headers: &BTreeMap<String, String>,
        body: &Body,
        bytes: u64,
    ) -> Result<Option<String>, SendError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let watch = Watch::start();
        let body = reqwest::Body::wrap_stream(watch.over(body.chunks()));
        let mut request = self.http.put(&url.0).timeout(put_time(bytes)).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let unreachable = |error: reqwest::Error| SendError::Unreachable(error.without_url());
        let response = tokio::select! {
            response = request.send() => response.map_err(unreachable)?,
            () = watch.stalled() => return Err(SendError::Stalled),
        };
        if response.status().is_success() {
            let etag = response.headers().get(header::ETAG);
            return Ok(etag.and_then(|etag| etag.to_str().ok()).map(str::to_owned));
        }
        Err(refused(response).await)
    }
}

/// Between tries that fail for another reason than too many requests: growing, with jitter.
fn pauses(tries: usize) -> impl Iterator<Item = Duration> {
    let policy = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(300))
        .with_max_delay(Duration::from_secs(20))
        .with_jitter()
        .with_max_times(tries.saturating_sub(1));
    policy.build()
}

async fn refused(response: Response) -> SendError {
    let status = response.status();
    let retry_after = retry::retry_after(response.headers());
    let text = retry::read_some(response, MAX_ERROR_BYTES).await;
    SendError::Refused { status, code: s3_error::code(&text), retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_sending_again_is_known() {
        let refused = |status, code: &str| SendError::Refused {
            status: StatusCode::from_u16(status).unwrap(),
            code: Some(code.to_owned()),
            retry_after: None,
        };
        assert_eq!(refused(503, "SlowDown").verdict(), Verdict::SlowDown);
        assert_eq!(refused(400, "BadDigest").verdict(), Verdict::Again);
        assert_eq!(refused(403, "AccessDenied").verdict(), Verdict::Final);
        assert!(refused(404, "NoSuchUpload").is_no_such_upload());
        assert!(!refused(404, "NoSuchBucket").is_no_such_upload());
        assert!(refused(403, "AccessDenied").is_forbidden());
        assert_eq!(SendError::NoUrl.verdict(), Verdict::Final);
        assert_eq!(SendError::Stalled.verdict(), Verdict::Again);
    }
}
