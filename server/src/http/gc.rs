//! `/api/v1/gc`

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::StatusCode,
};
use niks3_core::{
    limits::MAX_BODY_BYTES,
    wire::{CollectStatus, Collection},
};

use super::json;
use crate::{auth::MayCollect, error::ApiError, gc, state::AppState};

/// `POST /api/v1/gc`
pub async fn start(
    _: MayCollect,
    State(app): State<AppState>,
    request: Request<Body>,
) -> Result<(StatusCode, Json<Collection>), ApiError> {
    let request = json::read(request, MAX_BODY_BYTES).await?;
    Ok((StatusCode::ACCEPTED, Json(gc::start(&app.uploads, &request).await?)))
}

/// `GET /api/v1/gc`
pub async fn status(
    _: MayCollect,
    State(app): State<AppState>,
) -> Result<Json<CollectStatus>, ApiError> {
    Ok(Json(gc::status(&app.uploads).await?))
}
