//! The server as typed calls, one method per endpoint.

mod collect;
mod error;
mod pins;
pub mod retry;
mod token;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use niks3_core::{
    verdict::Verdict,
    wire::{
        CommitProgress, ErrorBody, PlanRequest, PlanResponse, StoredRequest, StoredResponse,
        UploadId, UrlsRequest, UrlsResponse, VerifyRequest, VerifyResponse,
    },
};
use reqwest::{Client, Method, Response, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

pub use error::ApiError;
pub use token::{ScriptError, Token, TokenError, TokenSources, Tokens};

use retry::{Known, Tries};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one call may take. A plan of 100,000 paths takes the server some seconds, more where
/// its database is slow; it answers 503 itself before it waits for long.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Giving up is a courtesy: whoever pressed Ctrl-C does not wait for it.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an error's body that are looked at.
const MAX_ERROR_BYTES: usize = 16 * 1024;

/// Bytes of an answer: those of a plan of 200,000 paths, all of them missing, are some MB.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A status and a body.
type Answer = (StatusCode, Vec<u8>);

/// A niks3 server.
pub struct Api {
    base: Url,
    tokens: Tokens,
    http: Client,
    /// Whether it has answered, and whether it has carried out a call: then it is worth waiting for.
    answered: AtomicBool,
    served: AtomicBool,
    calls: AtomicU64,
}

/// How far a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Call again.
    Going(CommitProgress),
    /// The closures are in the cache.
    Done,
}

impl Api {
    /// For the server at `base`.
    ///
    /// # Errors
    /// When no HTTP client can be made, for lack of CA certificates most likely.
    pub fn new(base: Url, tokens: Tokens) -> Result<Self, ApiError> {
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("niks3/", env!("CARGO_PKG_VERSION")))
            // A POST that is redirected becomes a GET, and a token follows to who knows where.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(ApiError::Setup)?;
        let (answered, served) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { base, tokens, http, answered, served, calls: AtomicU64::new(0) })
    }

    /// What of this closure is missing? See [`PlanResponse`].
    ///
    /// # Errors
    /// When the server cannot be reached or refuses the plan.
    pub async fn plan(&self, plan: &PlanRequest) -> Result<PlanResponse, ApiError> {
        self.json(&["uploads"], plan).await
    }

    /// URLs to send objects to.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn urls(
        &self,
        upload: &UploadId,
        want: &UrlsRequest,
    ) -> Result<UrlsResponse, ApiError> {
        self.json(&["uploads", &upload.to_string(), "urls"], want).await
    }

    /// Reports what S3 has taken.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn stored(
        &self,
        upload: &UploadId,
        done: &StoredRequest,
    ) -> Result<StoredResponse, ApiError> {
        self.json(&["uploads", &upload.to_string(), "stored"], done).await
    }

    /// Has the server publish; to be called until it is done.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn commit(&self, upload: &UploadId) -> Result<Commit, ApiError> {
        let url = self.url(&["uploads", &upload.to_string(), "commit"]);
        let answer = self.call(Method::POST, &url, Vec::new()).await?;
        if answer.0 == StatusCode::NO_CONTENT {
            return Ok(Commit::Done);
        }
        self.decode(&answer).map(Commit::Going)
    }

    /// Has the server look in the bucket for what its database says is there.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn verify(&self, what: &VerifyRequest) -> Result<VerifyResponse, ApiError> {
        self.json(&["verify"], what).await
    }

    /// Calls that were made, every try counted.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Gives an upload up. Tried once.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses; the upload then expires by itself.
    pub async fn abandon(&self, upload: &UploadId) -> Result<(), ApiError> {
        let url = self.url(&["uploads", &upload.to_string()]);
        let request = self.request(Method::DELETE, &url, &self.tokens.current());
        let request = request.timeout(ABANDON_TIMEOUT);
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        self.checked(response).await.map(drop)
    }

    async fn json<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.send(Method::POST, &self.url(path), body).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &Url,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        // Serializing our own types to memory does not fail.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let answer = self.call(method, url, body).await?;
        self.decode(&answer)
    }

    async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T, ApiError> {
        let answer = self.call(Method::GET, url, Vec::new()).await?;
        self.decode(&answer)
    }

    async fn delete(&self, url: &Url) -> Result<(), ApiError> {
        self.call(Method::DELETE, url, Vec::new()).await.map(drop)
    }

    /// Every call is safe to repeat: at worst a plan leaves an upload behind that expires.
    async fn call(&self, method: Method, url: &Url, body: Vec<u8>) -> Result<Answer, ApiError> {
        let body = bytes::Bytes::from(body);
        let mut tries = Tries::new();
        let mut renewed = false;
        loop {
            let token = self.tokens.current();
            let error = match self.once(method.clone(), url, body.clone(), &token).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // 1. a DELETE is carried out, and its answer is lost
            // 2. it is sent again
            // 3. the server has nothing of that name any more: what was wanted
            if method == Method::DELETE && error.is_not_found() && tries.have_failed() {
                return Ok((StatusCode::NO_CONTENT, Vec::new()));
            }
            if error.is_unauthorized() && !renewed {
                // It may have expired since it was read. Once: a server that takes no token at
                // all would have us go on for ever.
                renewed = true;
                let base = self.base.clone();
                let renewal = self.tokens.renew(&token, Instant::now()).await;
                if renewal.map_err(|source| ApiError::Token { base, source })? {
                    continue;
                }
            }
            let known = Known {
                answered: self.answered.load(Ordering::Relaxed),
                served: self.served.load(Ordering::Relaxed),
            };
            let Some(pause) = tries.pause_after(&error, known, Instant::now()) else {
                return Err(error);
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(
        &self,
        method: Method,
        url: &Url,
        body: bytes::Bytes,
        token: &Token,
    ) -> Result<Answer, ApiError> {
        let request = self.request(method, url, token).timeout(CALL_TIMEOUT);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let response = request.body(body).send().await;
        self.checked(response.map_err(|source| self.unreachable(source))?).await
    }

    fn request(&self, method: Method, url: &Url, token: &Token) -> reqwest::RequestBuilder {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.http.request(method, url.clone()).bearer_auth(token.reveal())
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        url
    }

    /// A page of a list: what comes after `after`.
    fn page(&self, path: &[&str], after: Option<impl ToString>) -> Url {
        let mut url = self.url(path);
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", &after.to_string());
        }
        url
    }

    async fn checked(&self, response: Response) -> Result<Answer, ApiError> {
        let status = response.status();
        let base = self.base.clone();
        self.answered.store(true, Ordering::Relaxed);
        if status.is_success() {
            self.served.store(true, Ordering::Relaxed);
            let body = retry::read_whole(response, MAX_ANSWER_BYTES).await;
            return body.map(|body| (status, body)).ok_or(ApiError::CutOff { base });
        }
        if status.is_redirection() {
            let location = response.headers().get(header::LOCATION);
            let location = location.and_then(|location| location.to_str().ok()?.parse().ok());
            let location = location.map(|mut location: Url| {
                location.set_query(None);
                location.to_string()
            });
            return Err(ApiError::Moved { base, status, location });
        }
        let retry_after = retry::retry_after(response.headers());
        let body = retry::read_some(response, MAX_ERROR_BYTES).await;
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(ErrorBody { error: message }) => {
                Err(ApiError::Refused { base, status, message, retry_after })
            }
            // A proxy in between answers in words of its own.
            Err(_) if status == StatusCode::PAYLOAD_TOO_LARGE => Err(ApiError::ProxyLimit { base }),
            Err(_)
                if status.is_server_error()
                    || Verdict::of(status.as_u16(), None) != Verdict::Final =>
            {
                let message = "without saying why".to_owned();
                Err(ApiError::Refused { base, status, message, retry_after })
            }
            Err(_) => Err(ApiError::NotNiks3 { base, status }),
        }
    }

    fn decode<T: DeserializeOwned>(&self, (status, body): &Answer) -> Result<T, ApiError> {
        serde_json::from_slice(body)
            .map_err(|_| ApiError::NotNiks3 { base: self.base.clone(), status: *status })
    }

    fn unreachable(&self, source: reqwest::Error) -> ApiError {
        ApiError::Unreachable { base: self.base.clone(), source: source.without_url() }
    }
}

#[cfg(test)]
mod tests;
