//! The only URL table; tests use it too.

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
    routing::{get, post, put},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer},
};
use tracing::Level;

use crate::{
    error::ApiError,
    http::{closures, gc, health, pins, uploads},
    state::AppState,
};

/// All that the server answers.
pub fn router(app: AppState) -> Router {
    Router::new()
        .route("/health", get(health::health))
        .route("/api/v1/uploads", post(uploads::plan))
        .route("/api/v1/uploads/{id}", axum::routing::delete(uploads::abandon))
        .route("/api/v1/uploads/{id}/urls", post(uploads::urls))
        .route("/api/v1/uploads/{id}/stored", post(uploads::stored))
        .route("/api/v1/uploads/{id}/commit", post(uploads::commit))
        .route("/api/v1/gc", get(gc::status).post(gc::start))
        .route("/api/v1/verify", post(uploads::verify))
        .route("/api/v1/pins", get(pins::list))
        .route("/api/v1/pins/{name}", put(pins::set).delete(pins::delete))
        .route("/api/v1/closures", get(closures::list))
        .route("/api/v1/closures/{hash}", get(closures::show).delete(closures::expire))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::new())
        .layer(
            // Without headers: they hold the token.
            TraceLayer::new_for_http()
                .make_span_with(DefaultMakeSpan::new().level(Level::DEBUG))
                .on_response(DefaultOnResponse::new().level(Level::DEBUG))
                // Failures are logged where they are answered, with their causes.
                .on_failure(()),
        )
        .with_state(app)
}

async fn not_found(uri: Uri) -> ApiError {
    let public = format!("there is nothing at {}; the API is under /api/v1", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, public)
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let public = format!("{} takes no {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, public)
}
