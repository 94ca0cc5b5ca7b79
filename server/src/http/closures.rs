//! `/api/v1/closures`

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use niks3_core::{
    store_path::StorePathHash,
    wire::{Closure, ClosuresResponse},
};

use super::page::After;
use crate::{
    auth::{MayAdminister, MayPush},
    closures,
    error::ApiError,
    state::AppState,
};

/// `GET /api/v1/closures`
pub async fn list(
    _: MayPush,
    State(app): State<AppState>,
    page: After,
) -> Result<Json<ClosuresResponse>, ApiError> {
    let after = page.read(hash)?;
    Ok(Json(closures::list(&app.uploads, after).await?))
}

/// `GET /api/v1/closures/{hash}`
pub async fn show(
    _: MayPush,
    State(app): State<AppState>,
    Path(root): Path<String>,
) -> Result<Json<Closure>, ApiError> {
    Ok(Json(closures::show(&app.uploads, hash(&root)?).await?))
}

/// `DELETE /api/v1/closures/{hash}`
pub async fn expire(
    _: MayAdminister,
    State(app): State<AppState>,
    Path(root): Path<String>,
) -> Result<StatusCode, ApiError> {
    closures::expire(&app.uploads, hash(&root)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn hash(text: &str) -> Result<StorePathHash, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "{text:?} is not the hash part of a store path: 32 characters"
        ))
    })
}
