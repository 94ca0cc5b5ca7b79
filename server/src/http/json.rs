//! Bodies, read with a bound and without blocking other calls.

use axum::{body::Body, extract::Request, http::StatusCode};
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// Reads a JSON body of at most `limit` bytes. Large ones are parsed on a thread of their own.
///
/// # Errors
/// 413 when it is larger, 400 when it is no such JSON.
pub async fn read<T: DeserializeOwned + Send + 'static>(
    request: Request<Body>,
    limit: usize,
) -> Result<T, ApiError> {
    const ON_THE_SPOT: usize = 256 * 1024;
    let announced = request.headers().get(axum::http::header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    // What was not announced, or announced wrongly, is cut off at the limit as it comes in.
    let body = axum::body::to_bytes(request.into_body(), limit);
    let body = body.await.map_err(|error| {
        let causes = crate::error::report(&error);
        if causes.contains("length limit") {
            too_large(limit)
        } else {
            ApiError::bad_request("the body was cut off")
        }
    })?;
    let parse = move || {
        serde_json::from_slice(&body)
            .map_err(|error| ApiError::bad_request(format!("the body is not as expected: {error}")))
    };
    if announced.is_some_and(|length| length <= ON_THE_SPOT) {
        parse()
    } else {
        tokio::task::spawn_blocking(parse)
            .await
            .unwrap_or_else(|_| Err(ApiError::bad_request("the body cannot be read")))
    }
}

fn too_large(limit: usize) -> ApiError {
    let public = format!("the body is larger than the limit of {limit} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, public)
}
