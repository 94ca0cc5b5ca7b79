//! `GET /health`: needs no token and tells nothing that helps an attacker.

use axum::{Json, extract::State, http::StatusCode};
use niks3_core::object_key::ObjectKey;
use serde::Serialize;
use tracing::warn;

use crate::{error::report, state::AppState};

/// Body of `GET /health`.
#[derive(Serialize)]
pub struct Health {
    database: &'static str,
    bucket: &'static str,
}

/// Whether the database and the bucket answer: 200 when both do, else 503.
pub async fn health(State(app): State<AppState>) -> (StatusCode, Json<Health>) {
    let cache_info = ObjectKey::CacheInfo;
    let (database, bucket) =
        tokio::join!(app.uploads.store.ping(), app.uploads.bucket.head(&cache_info));
    let database = match database {
        Ok(()) => "ok",
        Err(error) => {
            warn!(cause = report(&error), "the database does not answer");
            "unreachable"
        }
    };
    let bucket = match bucket {
        Ok(Some(_)) => "ok",
        Ok(None) => {
            warn!("nix-cache-info is gone from the bucket; a restart of the server writes it");
            "without nix-cache-info"
        }
        Err(error) => {
            warn!(cause = report(&error), "the bucket does not answer");
            "unreachable"
        }
    };
    let all = database == "ok" && bucket == "ok";
    let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { database, bucket }))
}
