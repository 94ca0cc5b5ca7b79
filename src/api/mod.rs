//! The server as typed calls, one method per endpoint.

pub mod retry;
mod token;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use backon::Retryable as _;
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

pub use token::{Token, TokenError, TokenSources};

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
    token: Token,
    http: Client,
    /// Whether it has answered before: then it is worth waiting for it.
    reached: AtomicBool,
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

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No HTTP client could be made.
    #[error("cannot set up an HTTP client")]
    Setup(#[source] reqwest::Error),
    /// No answer.
    #[error("cannot reach the niks3 server at {base}")]
    Unreachable {
        /// The server.
        base: Url,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// An answer of 400 or above, in the server's own words.
    #[error("the niks3 server at {base} answered {status}: {message}")]
    Refused {
        /// The server.
        base: Url,
        /// Its status.
        status: StatusCode,
        /// Its sentence.
        message: String,
        /// After how long it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// An answer of 300 to 399.
    #[error("{base} answered {status}: the server is at another URL{}", at(.location))]
    Moved {
        /// What was asked.
        base: Url,
        /// Its status.
        status: StatusCode,
        /// Where it says that the server is, without a query.
        location: Option<String>,
    },
    /// A body that a proxy does not take, answered in its own words.
    #[error("a proxy before the niks3 server at {base} takes no body that large (413)")]
    ProxyLimit {
        /// What was asked.
        base: Url,
    },
    /// An answer that broke off or is larger than any of ours.
    #[error("the answer of the niks3 server at {base} broke off")]
    CutOff {
        /// The server.
        base: Url,
    },
    /// An answer that no niks3 server gives.
    #[error("{base} answered {status}, and not as a niks3 server does")]
    NotNiks3 {
        /// What was asked.
        base: Url,
        /// Its status.
        status: StatusCode,
    },
}

fn at(location: &Option<String>) -> String {
    location.as_ref().map(|location| format!(", {location}")).unwrap_or_default()
}

impl ApiError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Setup(_) => Some("are the system's CA certificates installed?".to_owned()),
            Self::Unreachable { .. } => {
                Some("is the URL the niks3 server's, and does the server run?".to_owned())
            }
            Self::Refused { status: StatusCode::UNAUTHORIZED, .. } => Some(
                "pass the server's token with --auth-token-path, NIKS3_AUTH_TOKEN_FILE or \
                 NIKS3_AUTH_TOKEN"
                    .to_owned(),
            ),
            Self::Refused { status, .. } if status.is_server_error() => Some(
                "the server's log says more; pushing again goes on where this ended".to_owned(),
            ),
            Self::Refused { .. } => None,
            Self::Moved { .. } => Some("give that URL".to_owned()),
            Self::ProxyLimit { .. } => {
                Some("let it take 96 MiB (nginx: client_max_body_size 96m)".to_owned())
            }
            Self::CutOff { .. } => Some("push again".to_owned()),
            Self::NotNiks3 { .. } => Some(
                "give the URL of the niks3 server, not of the bucket that Nix reads from"
                    .to_owned(),
            ),
        }
    }
}

impl Api {
    /// For the server at `base`.
    ///
    /// # Errors
    /// When no HTTP client can be made, for lack of CA certificates most likely.
    pub fn new(base: Url, token: Token) -> Result<Self, ApiError> {
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("niks3/", env!("CARGO_PKG_VERSION")))
            // A POST that is redirected becomes a GET, and a token follows to who knows where.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(ApiError::Setup)?;
        Ok(Self { base, token, http, reached: AtomicBool::new(false), calls: AtomicU64::new(0) })
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
        let path = ["uploads", &upload.to_string(), "commit"];
        let answer = self.call(Method::POST, &path, Vec::new()).await?;
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
        let request = self
            .request(Method::DELETE, &["uploads", &upload.to_string()])
            .timeout(ABANDON_TIMEOUT);
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        self.checked(response).await.map(drop)
    }

    async fn json<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        // Serializing our own types to memory does not fail.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let answer = self.call(Method::POST, path, body).await?;
        self.decode(&answer)
    }

    async fn call(&self, method: Method, path: &[&str], body: Vec<u8>) -> Result<Answer, ApiError> {
        let body = bytes::Bytes::from(body);
        let attempt = || async {
            let request = self.request(method.clone(), path).timeout(CALL_TIMEOUT);
            let request = request.header(header::CONTENT_TYPE, "application/json");
            let response = request.body(body.clone()).send().await;
            self.checked(response.map_err(|source| self.unreachable(source))?).await
        };
        // Every call is safe to repeat: at worst a plan leaves an upload behind that expires.
        let worth_it =
            |error: &ApiError| retry::is_transient(error, self.reached.load(Ordering::Relaxed));
        attempt.retry(retry::policy()).when(worth_it).adjust(retry::pause_after).await
    }

    fn request(&self, method: Method, path: &[&str]) -> reqwest::RequestBuilder {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        self.http.request(method, url).bearer_auth(self.token.reveal())
    }

    async fn checked(&self, response: Response) -> Result<Answer, ApiError> {
        let status = response.status();
        let base = self.base.clone();
        self.reached.store(true, Ordering::Relaxed);
        if status.is_success() {
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
