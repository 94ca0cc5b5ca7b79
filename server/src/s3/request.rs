//! The server's own requests.

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;
use niks3_core::{
    hash::BodyChecksum,
    object_key::ObjectKey,
    pace::Outcome,
    s3_error,
    verdict::{self, Verdict},
};
use reqwest::{Method, StatusCode, header};
use rusty_s3::S3Action as _;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::{Body, Bucket, S3Error};

/// How long one small request may take, its answer included.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long after it was wanted a request may still be begun: while S3 wants fewer of them it is
/// tried as often as fits in. Then the caller is told to come back, which costs nobody a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Tries of one request that fails otherwise, with growing pauses between them.
const TRIES: usize = 3;

/// Bytes that we read of an answer: nix-cache-info or an error in XML.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Bytes of a narinfo, decoded: nix-narinfo reads no larger ones.
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// What S3 says of an object without sending it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its length.
    pub bytes: Option<u64>,
    /// Its Content-Encoding.
    pub encoding: Option<String>,
}

impl Bucket {
    /// Looks whether an object is there. `None`: it is not.
    ///
    /// # Errors
    /// When S3 does not answer, or neither yes nor no.
    pub async fn head(&self, key: &ObjectKey) -> Result<Option<Head>, S3Error> {
        let name = key.to_string();
        let url =
            || self.bucket.head_object(Some(&self.credentials), &name).sign(self.times.own_url());
        let answer = self.send(Method::HEAD, &name, url, &[], Bytes::new(), PATIENCE).await;
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

    /// Whether S3 says in words that an object is not there.
    ///
    /// # Errors
    /// When it says something else, or somebody else answers in its place.
    pub async fn is_missing(&self, key: &ObjectKey) -> Result<bool, S3Error> {
        let name = key.to_string();
        let url =
            || self.bucket.get_object(Some(&self.credentials), &name).sign(self.times.own_url());
        // Of what is there after all, one byte will do.
        let headers = [("range".to_owned(), "bytes=0-0".to_owned())];
        match self.send(Method::GET, &name, url, &headers, Bytes::new(), PATIENCE).await {
            Ok(_) => Ok(false),
            Err(S3Error::Refused { status: StatusCode::NOT_FOUND, code: Some(code), .. })
                if code == "NoSuchKey" =>
            {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads a small object. `None`: it is not there.
    ///
    /// # Errors
    /// When S3 does not answer, or neither yes nor no.
    pub async fn get(&self, key: &ObjectKey) -> Result<Option<Bytes>, S3Error> {
        let name = key.to_string();
        let url =
            || self.bucket.get_object(Some(&self.credentials), &name).sign(self.times.own_url());
        let answer = self.send(Method::GET, &name, url, &[], Bytes::new(), PATIENCE).await;
        Ok(found(answer)?.map(|answer| answer.body))
    }

    /// Reads an object that is a text, decoded. `None`: it is not there; `Some(None)`: it is no text, or
    /// much larger than any of ours.
    ///
    /// # Errors
    /// When S3 does not answer, or neither yes nor no.
    pub async fn text(&self, key: &ObjectKey) -> Result<Option<Option<String>>, S3Error> {
        /// The first bytes of whatever zstd has compressed. A server may drop the Content-Encoding.
        const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
        let name = key.to_string();
        let url = self.bucket.get_object(Some(&self.credentials), &name).sign(self.times.own_url());
        let mut tries = 1;
        let answer = loop {
            let limits = (Instant::now() + PATIENCE, REQUEST_TIMEOUT, MAX_TEXT_BYTES);
            let none = Bytes::new();
            let sent = self.send_until(limits, Method::GET, &name, url.clone(), &[], none).await;
            match found(sent) {
                Ok(Some(answer)) => break answer,
                Ok(None) => return Ok(None),
                Err(error) if error.verdict() == Verdict::Final || tries == TRIES => {
                    return Err(error);
                }
                Err(_) => tries += 1,
            }
            sleep(Duration::from_millis(300)).await;
        };
        let body = answer.body;
        let text = match body.starts_with(&ZSTD) {
            true => zstd::bulk::decompress(&body, MAX_TEXT_BYTES).ok(),
            false => Some(body.to_vec()),
        };
        Ok(Some(text.and_then(|text| String::from_utf8(text).ok())))
    }

    /// What time S3 says it is: the `Date` of an answer. `None`: it does not say.
    ///
    /// # Errors
    /// When S3 does not answer.
    pub async fn date(&self) -> Result<Option<SystemTime>, S3Error> {
        let name = ObjectKey::CacheInfo.to_string();
        let url =
            || self.bucket.head_object(Some(&self.credentials), &name).sign(self.times.own_url());
        let answer = self.send(Method::HEAD, &name, url, &[], Bytes::new(), PATIENCE).await;
        let Some(answer) = found(answer)? else { return Ok(None) };
        let date = answer.headers.get(header::DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
    }

    /// Writes a small object. The caller has recorded that its key may be written for
    /// [`own_url`](super::Times::own_url) from `signed_at` on, and the slack; all tries share that. It
    /// calls within [`latest_put`](super::Times::latest_put) of `signed_at`.
    ///
    /// # Errors
    /// When S3 does not take it.
    pub async fn put(&self, key: &ObjectKey, body: Vec<u8>, signed_at: f64) -> Result<(), S3Error> {
        let (url, headers, body) = self.own_put(key, body, signed_at);
        let (url, patience) = (|| url.clone(), self.times.put_patience());
        self.send(Method::PUT, &key.to_string(), url, &headers, body, patience).await.map(drop)
    }

    /// The same, tried once, so that the caller knows what may still be under way.
    ///
    /// # Errors
    /// When S3 does not take it.
    pub async fn put_once(
        &self,
        key: &ObjectKey,
        body: Vec<u8>,
        signed_at: f64,
    ) -> Result<(), S3Error> {
        let (url, headers, body) = self.own_put(key, body, signed_at);
        let (name, time) = (key.to_string(), REQUEST_TIMEOUT);
        self.send_within(time, Method::PUT, &name, url, &headers, body).await.map(drop)
    }

    fn own_put(
        &self,
        key: &ObjectKey,
        body: Vec<u8>,
        signed_at: f64,
    ) -> (url::Url, Vec<(String, String)>, Bytes) {
        let checksum = BodyChecksum::of(self.checksum, &body);
        let spec = Body { bytes: body.len() as u64, checksum };
        let put = self.presign_put(key, spec, signed_at, self.times.own_url());
        (put.url, put.headers.into_iter().collect(), body.into())
    }

    pub(super) async fn send(
        &self,
        method: Method,
        key: &str,
        url: impl Fn() -> url::Url,
        headers: &[(String, String)],
        body: Bytes,
        patience: Duration,
    ) -> Result<Answer, S3Error> {
        let latest = Instant::now() + patience;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_jitter()
            .with_max_times(TRIES - 1)
            .build();
        let mut last = None;
        loop {
            // Looked at first: a turn that is free is given also to who comes too late.
            let turn = match Instant::now() < latest {
                true => timeout_at(latest, self.pace.enter()).await.ok(),
                false => None,
            };
            let Some(permit) = turn else {
                return Err(last.unwrap_or_else(|| self.no_turn(method, key)));
            };
            // Signed now: a URL's life does not run while it waits for its turn. A PUT's does, on
            // purpose, and its patience allows for that.
            let (method, body) = (method.clone(), body.clone());
            let limits = (REQUEST_TIMEOUT, MAX_ANSWER_BYTES);
            let sent = self.send_once(limits, method, key, url(), headers, body).await;
            let error = match sent {
                Ok(answer) => {
                    permit.done(Outcome::Served);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            match error.verdict() {
                Verdict::Final => {
                    permit.done(Outcome::Served);
                    return Err(error);
                }
                Verdict::SlowDown => {
                    let retry_after = error.retry_after();
                    if let Some(limit) = permit.done(Outcome::SlowDown { retry_after }) {
                        warn!(s3.limit = limit, "S3 wants fewer requests: {limit} at once now");
                    }
                }
                Verdict::Again => {
                    // Not while others could be sending.
                    drop(permit);
                    let Some(pause) = pauses.next() else { return Err(error) };
                    let pause = pause.max(error.retry_after().unwrap_or_default());
                    if Instant::now() + pause >= latest {
                        return Err(error);
                    }
                    sleep(pause).await;
                }
            }
            last = Some(error);
        }
    }

    /// Sends a request once, and waits for its answer for `time` at most.
    pub(super) async fn send_within(
        &self,
        time: Duration,
        method: Method,
        key: &str,
        url: url::Url,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Answer, S3Error> {
        let limits = (Instant::now() + PATIENCE, time, MAX_ANSWER_BYTES);
        self.send_until(limits, method, key, url, headers, body).await
    }

    /// Sends a request once: begun until then, waited for so long, so many bytes of its answer read.
    pub(super) async fn send_until(
        &self,
        (begin, time, answer_bytes): (Instant, Duration, usize),
        method: Method,
        key: &str,
        url: url::Url,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Answer, S3Error> {
        let turn = timeout_at(begin, self.pace.enter()).await.ok();
        // A turn that is free is given also to who comes too late.
        let Some(permit) = turn.filter(|_| Instant::now() < begin) else {
            return Err(self.no_turn(method, key));
        };
        let sent = self.send_once((time, answer_bytes), method, key, url, headers, body).await;
        match &sent {
            Ok(_) => drop(permit.done(Outcome::Served)),
            Err(error) if error.verdict() == Verdict::SlowDown => {
                permit.done(Outcome::SlowDown { retry_after: error.retry_after() });
            }
            Err(_) => {}
        }
        sent
    }

    /// Waits for so long, and reads so many bytes of the answer.
    async fn send_once(
        &self,
        (time, answer_bytes): (Duration, usize),
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
        let mut request = self.http.request(method.clone(), url).timeout(time);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if [Method::PUT, Method::POST].contains(&method) {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            let room = answer_bytes - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() == answer_bytes {
                break;
            }
        }
        if status.is_success() {
            return Ok(Answer { headers, body: body.into() });
        }
        let retry_after = headers.get(header::RETRY_AFTER).and_then(|text| text.to_str().ok());
        let retry_after =
            retry_after.and_then(|text| verdict::retry_after(text, SystemTime::now()));
        Err(self.refused(method.clone(), key, status, &body, retry_after))
    }

    /// The error that there was no turn in time: no request is under way.
    pub(super) fn no_turn(&self, method: Method, key: &str) -> S3Error {
        S3Error::NoTurn { method, key: key.to_owned(), bucket: self.name().to_owned() }
    }

    /// The error that an answer is.
    pub(super) fn refused(
        &self,
        method: Method,
        key: &str,
        status: StatusCode,
        body: &[u8],
        retry_after: Option<Duration>,
    ) -> S3Error {
        let (key, bucket, code) = (key.to_owned(), self.name().to_owned(), s3_error::code(body));
        S3Error::Refused { method, key, bucket, status, code, retry_after }
    }
}

/// A success.
pub(super) struct Answer {
    pub(super) headers: header::HeaderMap,
    /// The first bytes of it, as many as were asked for.
    pub(super) body: Bytes,
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

#[cfg(test)]
mod tests;
