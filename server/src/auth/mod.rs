//! Who calls, and what they may do.

mod token;

use axum::{extract::FromRequestParts, http::request::Parts};

pub use token::{Token, TokenError};

use crate::{error::ApiError, state::AppState, upload::Caller};

/// A caller who may push. Stands in a handler's signature; nothing else lets one in.
pub struct MayPush(pub Caller);

/// A caller who may collect garbage.
pub struct MayCollect;

/// A caller who may make, move and delete pins.
pub struct MayPin;

/// A caller who may end what others have pushed.
pub struct MayAdminister;

impl FromRequestParts<AppState> for MayPush {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        caller(parts, app).map(Self)
    }
}

impl FromRequestParts<AppState> for MayCollect {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        caller(parts, app).map(|_| Self)
    }
}

impl FromRequestParts<AppState> for MayPin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        caller(parts, app).map(|_| Self)
    }
}

impl FromRequestParts<AppState> for MayAdminister {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        caller(parts, app).map(|_| Self)
    }
}

/// Who calls. Who has the one token may do everything.
fn caller(parts: &Parts, app: &AppState) -> Result<Caller, ApiError> {
    let header = parts.headers.get(axum::http::header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    // The scheme's name is case-insensitive: RFC 9110, section 11.1.
    let token = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    match token {
        None => Err(ApiError::unauthorized("this call needs a bearer token")),
        Some(token) if app.api_token.is(token) => Ok(Caller("token".to_owned())),
        Some(_) => Err(ApiError::unauthorized("the bearer token is not valid here")),
    }
}
