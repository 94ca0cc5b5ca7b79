//! `GET /health`: needs no token and tells nothing that helps an attacker.

use std::time::{Duration, Instant};

use axum::{Json, extract::State, http::StatusCode};
use niks3_core::object_key::ObjectKey;
use serde::Serialize;
use tokio::{sync::Mutex, time::timeout};
use tracing::warn;

use crate::{error::report, state::AppState};

/// How long one look is good for: nobody needs a token to ask, and each look costs a request to S3.
const GOOD_FOR: Duration = Duration::from_secs(3);

/// How long S3 is waited for. It may be there and ask for fewer requests: a load balancer that took
/// the server out for that would make things worse.
const PATIENCE: Duration = Duration::from_secs(5);

/// Body of `GET /health`.
#[derive(Clone, Copy, Serialize)]
pub struct Health {
    database: &'static str,
    bucket: &'static str,
}

/// The last look and when it was; one looks at a time.
pub type LastLook = Mutex<Option<(Instant, Health)>>;

/// Whether the database and the bucket answer: 200 when both do, if slowly, else 503.
pub async fn health(State(app): State<AppState>) -> (StatusCode, Json<Health>) {
    let mut last = app.health.lock().await;
    let fresh = last.filter(|(when, _)| when.elapsed() < GOOD_FOR);
    let health = match fresh {
        Some((_, health)) => health,
        None => look(&app).await,
    };
    *last = Some((fresh.map_or_else(Instant::now, |(when, _)| when), health));
    let all = health.database == "ok" && matches!(health.bucket, "ok" | "slow");
    (if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(health))
}

async fn look(app: &AppState) -> Health {
    let cache_info = ObjectKey::CacheInfo;
    let bucket = timeout(PATIENCE, app.uploads.bucket.head(&cache_info));
    let (database, bucket) = tokio::join!(app.uploads.store.ping(), bucket);
    let database = match database {
        Ok(()) => "ok",
        Err(error) => {
            warn!(cause = report(&error), "the database does not answer");
            "unreachable"
        }
    };
    let bucket = match bucket {
        Err(_) => "slow",
        Ok(Ok(Some(_))) => "ok",
        Ok(Ok(None)) => {
            // A HEAD has no body to say whether the bucket is gone too.
            warn!("nix-cache-info is not in the bucket, or the bucket is gone");
            "without nix-cache-info"
        }
        Ok(Err(error)) => {
            warn!(cause = report(&error), "the bucket does not answer");
            "unreachable"
        }
    };
    Health { database, bucket }
}
