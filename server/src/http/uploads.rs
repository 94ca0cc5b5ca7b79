//! `/api/v1/uploads`

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use niks3_core::{
    limits::{MAX_BODY_BYTES, MAX_PLAN_BYTES},
    plan::check,
    wire::{PlanRequest, PlanResponse, StoredResponse, UploadId, UrlsResponse, VerifyResponse},
};

use tokio::sync::OwnedSemaphorePermit;

use super::json;
use crate::{
    auth::MayPush,
    error::ApiError,
    state::AppState,
    store::UploadGone,
    upload::{self, CommitAnswer},
};

/// Bytes of a plan that needs no turn: some thousand paths.
const SMALL_PLAN_BYTES: usize = 1024 * 1024;

/// How long a large plan waits for its turn.
const PLAN_TURN_WAIT: Duration = Duration::from_secs(30);

/// `POST /api/v1/uploads`
pub async fn plan(
    MayPush(caller): MayPush,
    State(app): State<AppState>,
    request: Request<Body>,
) -> Result<Json<PlanResponse>, ApiError> {
    // Before the body is read: what waits here costs no memory. Small plans take little and need
    // not wait for those who send large ones slowly.
    let _turn = match json::announced(&request) {
        Some(length) if length <= SMALL_PLAN_BYTES => None,
        _ => Some(turn(&app).await?),
    };
    let plan: PlanRequest = json::read(request, MAX_PLAN_BYTES).await?;
    let (plan, uploads) = (Arc::new(plan), Arc::clone(&app.uploads));
    let checked = tokio::task::spawn_blocking({
        let (plan, uploads) = (Arc::clone(&plan), Arc::clone(&uploads));
        move || check(&plan, &uploads.store_dir)
    });
    let order = checked
        .await
        .map_err(|_| ApiError::bad_request("the plan cannot be checked"))?
        .map_err(upload::UploadError::from)?;
    Ok(Json(upload::plan(&uploads, &caller, &plan, &order).await?))
}

/// A place among the large plans. The semaphore is never closed.
async fn turn(app: &AppState) -> Result<OwnedSemaphorePermit, ApiError> {
    let turn = tokio::time::timeout(PLAN_TURN_WAIT, Arc::clone(&app.plans).acquire_owned()).await;
    turn.ok().and_then(Result::ok).ok_or_else(|| {
        ApiError::unavailable("other large plans are being read; try again in a moment")
    })
}

/// `POST /api/v1/uploads/{id}/urls`
pub async fn urls(
    MayPush(caller): MayPush,
    State(app): State<AppState>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Json<UrlsResponse>, ApiError> {
    let request = json::read(request, MAX_BODY_BYTES).await?;
    Ok(Json(upload::urls(&app.uploads, &caller, &upload_id(&id)?, &request).await?))
}

/// `POST /api/v1/uploads/{id}/stored`
pub async fn stored(
    MayPush(caller): MayPush,
    State(app): State<AppState>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Json<StoredResponse>, ApiError> {
    let request = json::read(request, MAX_BODY_BYTES).await?;
    Ok(Json(upload::stored(&app.uploads, &caller, &upload_id(&id)?, &request).await?))
}

/// `POST /api/v1/uploads/{id}/commit`
pub async fn commit(
    MayPush(caller): MayPush,
    State(app): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    Ok(match upload::commit(&app.uploads, &caller, &upload_id(&id)?).await? {
        CommitAnswer::Going(progress) => (StatusCode::ACCEPTED, Json(progress)).into_response(),
        CommitAnswer::Done => StatusCode::NO_CONTENT.into_response(),
    })
}

/// `POST /api/v1/verify`
pub async fn verify(
    _: MayPush,
    State(app): State<AppState>,
    request: Request<Body>,
) -> Result<Json<VerifyResponse>, ApiError> {
    let request = json::read(request, MAX_BODY_BYTES).await?;
    Ok(Json(upload::verify(&app.uploads, &request).await?))
}

/// `DELETE /api/v1/uploads/{id}`
pub async fn abandon(
    MayPush(caller): MayPush,
    State(app): State<AppState>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    upload::abandon(&app.uploads, &caller, &upload_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What cannot be an id names no upload.
fn upload_id(text: &str) -> Result<UploadId, ApiError> {
    text.parse().map_err(|_| crate::store::StoreError::from(UploadGone::Unknown).into())
}
