//! The server's own requests.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use niks3_core::{hash::BodyMd5, object_key::ObjectKey, s3_error, verdict::Verdict};
use reqwest::{Method, StatusCode, header};
use rusty_s3::S3Action as _;

use super::{Body, Bucket, OWN_URL_LIFETIME};

/// How long one small request may take, its answer included. Tries fit into the life of the URL.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Tries of one request, with growing pauses between them.
const TRIES: usize = 3;

/// Bytes that we read of an answer: nix-cache-info or an error in XML.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What S3 says of an object without sending it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its length.
    pub bytes: Option<u64>,
    /// Its Content-Encoding.
    pub encoding: Option<String>,
}

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
            Self::Refused { status, code, .. } => Verdict::of(status.as_u16(), code.as_deref()),
        }
    }

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.verdict() != Verdict::Final
    }
}

impl Bucket {
    /// Looks whether an object is there. `None`: it is not.
    ///
    /// # Errors
    /// When S3 does not answer, or neither yes nor no.
    pub async fn head(&self, key: &ObjectKey) -> Result<Option<Head>, S3Error> {
        let name = key.to_string();
        let url = || self.bucket.head_object(Some(&self.credentials), &name).sign(OWN_URL_LIFETIME);
        let answer = self.send(Method::HEAD, &name, url, &[], Bytes::new()).await;
        let Some(answer) = found(answer)? else { return Ok(None) };
        let text = |header| {
            let value: &header::HeaderValue = answer.headers.get(header)?;
            value.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        // An empty or `identity` encoding is none: some servers send it.
        let encoding = text(header::CONTENT_ENCODING).filter(|encoding| encoding != "identity");
        let bytes = text(header::CONTENT_LENGTH).and_then(|bytes| bytes.parse().ok());
        Ok(Some(Head { bytes, encoding }))
    }

    /// Reads a small object. `None`: it is not there.
    ///
    /// # Errors
    /// When S3 does not answer, or neither yes nor no.
    pub async fn get(&self, key: &ObjectKey) -> Result<Option<Bytes>, S3Error> {
        let name = key.to_string();
        let url = || self.bucket.get_object(Some(&self.credentials), &name).sign(OWN_URL_LIFETIME);
        let answer = self.send(Method::GET, &name, url, &[], Bytes::new()).await;
        Ok(found(answer)?.map(|answer| answer.body))
    }

    /// Writes a small object. The caller has recorded that its key may be written for
    /// [`OWN_URL_LIFETIME`] from `signed_at` on, and the time of a PUT; all tries share that.
    ///
    /// # Errors
    /// When S3 does not take it.
    pub async fn put(&self, key: &ObjectKey, body: Vec<u8>, signed_at: f64) -> Result<(), S3Error> {
        let md5 = BodyMd5::new(Md5::digest(&body).into());
        let body = Bytes::from(body);
        let spec = Body { bytes: body.len() as u64, md5 };
        let put = self.presign_put(key, spec, signed_at, OWN_URL_LIFETIME);
        let headers: Vec<(String, String)> = put.headers.into_iter().collect();
        let url = || put.url.clone();
        self.send(Method::PUT, &key.to_string(), url, &headers, body).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        key: &str,
        url: impl Fn() -> url::Url,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Answer, S3Error> {
        let attempt = || async {
            // Closed never, so a permit always comes. Signed after it: a URL's life does not run
            // while it queues. A PUT's does, on purpose, and its caller looks at the time.
            let _slot = self.slots.acquire().await;
            self.send_once(method.clone(), key, url(), headers, body.clone()).await
        };
        let policy = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_jitter()
            .with_max_times(TRIES - 1);
        attempt.retry(policy).when(S3Error::is_transient).await
    }

    async fn send_once(
        &self,
        method: Method,
        key: &str,
        url: url::Url,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Answer, S3Error> {
        let unreachable = |source: reqwest::Error| S3Error::Unreachable {
            method: method.clone(),
            key: key.to_owned(),
            bucket: self.name().to_owned(),
            // Its text would have the presigned URL in it.
            source: source.without_url(),
        };
        let mut request = self.http.request(method.clone(), url).timeout(REQUEST_TIMEOUT);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if method == Method::PUT {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            let room = MAX_ANSWER_BYTES - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() == MAX_ANSWER_BYTES {
                break;
            }
        }
        if status.is_success() {
            return Ok(Answer { headers, body: body.into() });
        }
        let (method, key, bucket) = (method.clone(), key.to_owned(), self.name().to_owned());
        Err(S3Error::Refused { method, key, bucket, status, code: s3_error::code(&body) })
    }
}

struct Answer {
    headers: header::HeaderMap,
    body: Bytes,
}

/// Turns a 404 into `None`. A 403 stays an error: with our credentials it is no "missing".
fn found(answer: Result<Answer, S3Error>) -> Result<Option<Answer>, S3Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(S3Error::Refused { status: StatusCode::NOT_FOUND, code, .. })
            if code.as_deref() != Some("NoSuchBucket") =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
