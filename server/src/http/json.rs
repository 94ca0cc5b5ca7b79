//! Bodies, read with a bound and without blocking other calls.

use std::time::Duration;

use axum::{body::Body, extract::Request, http::StatusCode};
use futures_util::StreamExt as _;
use niks3_core::limits::put_time;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The length that a request announces. What is announced wrongly is cut off as it comes in.
pub fn announced(request: &Request<Body>) -> Option<usize> {
    let length = request.headers().get(axum::http::header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Reads a JSON body of at most `limit` bytes. Large ones are parsed on a thread of their own.
///
/// # Errors
/// 413 when it is larger, 408 when it comes too slowly, 400 when it is no such JSON.
pub async fn read<T: DeserializeOwned + Send + 'static>(
    request: Request<Body>,
    limit: usize,
) -> Result<T, ApiError> {
    const ON_THE_SPOT: usize = 256 * 1024;
    let announced = announced(&request);
    if announced.is_some_and(|length| length > limit) {
        linger(request.into_body()).await;
        return Err(too_large(limit));
    }
    // As slow as an upload to S3 may be, no slower: who trickles holds a place of others.
    let time = put_time(announced.unwrap_or(limit) as u64);
    let body = tokio::time::timeout(time, read_up_to(request.into_body(), limit));
    let body = body
        .await
        .map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"))??;
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

async fn read_up_to(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut read = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| ApiError::bad_request("the body was cut off"))?;
        if read.len() + chunk.len() > limit {
            linger(Body::from_stream(chunks)).await;
            return Err(too_large(limit));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read)
}

/// Reads on for a moment and keeps nothing: a client that is still sending when the connection is
/// closed never reads why.
async fn linger(body: Body) {
    const LINGER: Duration = Duration::from_secs(2);
    let mut chunks = body.into_data_stream();
    let _ = tokio::time::timeout(LINGER, async { while let Some(Ok(_)) = chunks.next().await {} })
        .await;
}

fn too_large(limit: usize) -> ApiError {
    let public = format!("the body is larger than the limit of {limit} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, public)
}
