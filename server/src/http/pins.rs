//! `/api/v1/pins`

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    http::StatusCode,
};
use niks3_core::{
    limits::MAX_BODY_BYTES,
    pin_name::PinName,
    wire::{Pin, PinRequest, PinsResponse},
};

use super::{json, page::After};
use crate::{auth::MayPin, error::ApiError, pins, state::AppState};

/// `PUT /api/v1/pins/{name}`
pub async fn set(
    _: MayPin,
    State(app): State<AppState>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<Json<Pin>, ApiError> {
    let name = pin_name(&name)?;
    let request: PinRequest = json::read(request, MAX_BODY_BYTES).await?;
    let set = async move { pins::set(&app.uploads, &name, &request.path).await };
    Ok(Json(to_its_end(set).await??))
}

/// `GET /api/v1/pins`
pub async fn list(
    _: MayPin,
    State(app): State<AppState>,
    page: After,
) -> Result<Json<PinsResponse>, ApiError> {
    let after = page.read(pin_name)?;
    Ok(Json(pins::list(&app.uploads, after.as_ref()).await?))
}

/// `DELETE /api/v1/pins/{name}`
pub async fn delete(
    _: MayPin,
    State(app): State<AppState>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (name, uploads) = (pin_name(&name)?, Arc::clone(&app.uploads));
    to_its_end(async move { pins::delete(&uploads, &name).await }).await??;
    Ok(StatusCode::NO_CONTENT)
}

fn pin_name(text: &str) -> Result<PinName, ApiError> {
    text.parse().map_err(|error| ApiError::bad_request(format!("{error}")))
}

/// Also when the caller hangs up: a request to S3 that nobody waits for keeps everyone else from the
/// pin for minutes.
async fn to_its_end<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(call).await.map_err(|_| ApiError::internal("the call ended early"))
}
