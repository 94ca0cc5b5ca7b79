//! What a caller sees of an error, and what the log does.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use niks3_core::{causes::causes, verdict::Verdict, wire::ErrorBody};
use tracing::{error, warn};

use crate::{
    closures::ClosureError,
    gc::StartError,
    pins::PinError,
    s3::S3Error,
    store::{StoreError, UploadGone},
    trust::Distrust,
    upload::UploadError,
};

/// Seconds after which a caller who was told to come back should.
const RETRY_AFTER_SECONDS: u16 = 5;

/// An answer of 400 and above: a status, a sentence for the caller, and what only the log sees.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    public: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ApiError {
    /// With a sentence for the caller.
    pub fn new(status: StatusCode, public: impl Into<String>) -> Self {
        Self { status, public: public.into(), cause: None }
    }

    /// 401.
    pub fn unauthorized(public: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, public)
    }

    /// 503: come back.
    pub fn unavailable(public: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, public)
    }

    /// 400.
    pub fn bad_request(public: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, public)
    }

    /// 500.
    pub fn internal(public: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, public)
    }

    fn caused_by(self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { cause: Some(Box::new(cause)), ..self }
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        use UploadError as E;
        let public = error.to_string();
        match error {
            E::Plan(_)
            | E::NotPlanned(_)
            | E::NotPlannedLog(_)
            | E::NotOwn(_)
            | E::Twice(_)
            | E::TooMany { .. }
            | E::TooLarge { .. }
            | E::NoFileHash(_)
            | E::PartNumber(_)
            | E::Parts(_)
            | E::OtherChecksum(_)
            | E::Compose(_) => Self::bad_request(public),
            // Asking again does not make it fewer.
            E::TooManyBodies => Self::bad_request(public),
            E::TooManyOpen | E::TooManyPlanned => Self::new(StatusCode::TOO_MANY_REQUESTS, public),
            E::Incomplete(_) | E::Stale => Self::new(StatusCode::CONFLICT, public),
            E::Distrust(Distrust::Store(error)) | E::Store(error) => error.into(),
            E::Distrust(Distrust::S3(error)) | E::S3(error) => error.into(),
            E::Distrust(_) => Self::new(StatusCode::CONFLICT, public),
        }
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        let public = error.to_string();
        match error {
            StartError::Other { .. } | StartError::Repair => {
                Self::new(StatusCode::CONFLICT, public)
            }
            StartError::Store(error) => error.into(),
        }
    }
}

impl From<PinError> for ApiError {
    fn from(error: PinError) -> Self {
        use PinError as E;
        let public = error.to_string();
        match error {
            E::NotPushed(_) | E::Unknown(_) => Self::new(StatusCode::NOT_FOUND, public),
            E::OtherPath { .. } | E::Lost(_) => Self::new(StatusCode::CONFLICT, public),
            E::Busy(_) => Self::unavailable(public),
            E::FileFollows { source, .. }
            | E::FileStays { source, .. }
            | E::Unsettled { source, .. } => {
                Self::new(s3_status(&source), format!("{public}: {source}")).caused_by(source)
            }
            E::Store(error) => error.into(),
        }
    }
}

impl From<ClosureError> for ApiError {
    fn from(error: ClosureError) -> Self {
        use ClosureError as E;
        let public = error.to_string();
        match error {
            E::Unknown(_) => Self::new(StatusCode::NOT_FOUND, public),
            E::Lost(_) | E::Pinned(_) => Self::new(StatusCode::CONFLICT, public),
            E::Store(error) => error.into(),
        }
    }
}

fn s3_status(error: &S3Error) -> StatusCode {
    match error.verdict() {
        Verdict::SlowDown => StatusCode::SERVICE_UNAVAILABLE,
        Verdict::Again => StatusCode::BAD_GATEWAY,
        // Asking again mends nothing: 424, the server's own dependency refuses.
        Verdict::Final => StatusCode::FAILED_DEPENDENCY,
    }
}

impl From<S3Error> for ApiError {
    fn from(error: S3Error) -> Self {
        // Its own words: they name bucket, key and S3's answer, and no URL.
        Self::new(s3_status(&error), error.to_string()).caused_by(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let public = error.to_string();
        match error {
            StoreError::Upload(UploadGone::Unknown) => Self::new(StatusCode::NOT_FOUND, public),
            StoreError::Upload(UploadGone::Failed) => Self::new(StatusCode::GONE, public),
            StoreError::Claimed(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, public),
            StoreError::Connect(_) => {
                let public = "the server cannot reach its database";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, public).caused_by(error)
            }
            StoreError::Query { .. } if error.is_transient() => {
                let public = "the server's database is busy or restarting";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, public).caused_by(error)
            }
            StoreError::Query { .. } | StoreError::Corrupt { .. } | StoreError::NoRow(_) => {
                let public = "the server's database failed; its log says more";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, public).caused_by(error)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(cause) = &self.cause {
            let (status, cause) = (self.status.as_u16(), report(cause.as_ref()));
            if self.status == StatusCode::SERVICE_UNAVAILABLE {
                warn!(http.status = status, cause, "could not serve a call for now");
            } else {
                error!(http.status = status, cause, "a call failed");
            }
        }
        let mut response = (self.status, Json(ErrorBody { error: self.public })).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An error and its causes in one line, for the log.
pub fn report(error: &dyn std::error::Error) -> String {
    causes(error).join(": ")
}
