//! The niks3 server: plans uploads, presigns, composes and signs narinfos, and remembers what
//! needs what. All of its state is in PostgreSQL and S3.

pub mod auth;
mod cache_info;
pub mod cli;
mod closures;
pub mod config;
pub mod dev;
pub mod error;
pub mod fsck;
pub mod gc;
mod http;
mod pins;
pub mod resign;
mod routes;
pub mod s3;
mod state;
pub mod store;
pub mod telemetry;
mod trust;
mod upload;

use std::{future::Future, sync::Arc, time::Duration};

use niks3_core::{resign::Resigning, store_path::StorePathHash};
use tokio::{net::TcpListener, task::JoinSet};
use tracing::{info, warn};

use crate::{
    config::{Config, FsckConfig},
    state::AppState,
    trust::Trust,
    upload::Uploads,
};

/// How long calls that are under way may take to finish when the server is told to stop. A commit
/// works for at most five seconds at a time.
const SHUTDOWN_TIME: Duration = Duration::from_secs(20);

/// Between two looks for multipart uploads of pushes that have ended.
const ABORT_PAUSE: Duration = Duration::from_secs(10 * 60);

/// Between two looks for pins whose files in the bucket do not say what they shall: whoever was told
/// that the file follows should not wait for long. They are few, so a look costs next to nothing.
const PINS_PAUSE: Duration = Duration::from_secs(5);

/// Between two times that changes of what is stored are added up.
const COUNTS_PAUSE: Duration = Duration::from_secs(60);

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The database's URL.
    #[error("cannot use the database given by --db (NIKS3_DB)")]
    Database(#[from] store::DatabaseUrlError),
    /// The database itself.
    #[error("cannot prepare the database given by --db (NIKS3_DB)")]
    Migrate(#[from] store::MigrateError),
    /// The bucket's settings.
    #[error("cannot use the S3 settings")]
    S3(#[from] s3::S3ConfigError),
    /// The bucket itself.
    #[error("cannot use the bucket given by --s3-bucket (NIKS3_S3_BUCKET)")]
    Bucket(#[from] cache_info::CacheInfoError),
    /// The address.
    #[error("cannot listen on {address}, given by --http-addr (NIKS3_HTTP_ADDR)")]
    Listen {
        /// Which one.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// `niks3-server forget`
    #[error(transparent)]
    Forget(#[from] gc::ForgetError),
    /// `niks3-server resign`
    #[error("cannot sign everything anew")]
    Resign(#[from] resign::ResignError),
    /// `niks3-server fsck`
    #[error("cannot find out whether all is well")]
    Fsck(#[from] fsck::FsckError),
    /// Serving.
    #[error("the server failed")]
    Serve(#[source] std::io::Error),
}

/// Prepares database and bucket, then serves on `listener` until `shutdown` is ready; calls that
/// are under way are finished.
///
/// # Errors
/// When database or bucket cannot be used. Nothing is served then.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    let store = config.database.pool()?;
    for migration in store::migrate(&store).await? {
        info!(migration, "brought the database schema up to date");
    }
    let bucket = config.s3.open()?;
    cache_info::ensure(&bucket, &config.store_dir).await?;
    let keys: Vec<String> = config.signing_keys.iter().map(|key| key.public_key()).collect();
    info!(
        cache.url = config.cache_url.as_ref().map(tracing::field::display),
        cache.public_keys = keys.join(" "),
        "readers trust these keys"
    );
    let uploads = Uploads {
        store,
        bucket,
        signing_keys: config.signing_keys,
        upstream_keys: config.upstream_keys,
        store_dir: config.store_dir,
        trust: Trust::default(),
    };
    if let Err(distrust) = trust::check(&uploads).await
        && !distrust.is_found()
    {
        warn!(cause = %distrust, "cannot tell whether database and bucket belong together");
    }
    let app = AppState::new(uploads, config.api_token);
    // Ends with us: dropped, it is stopped.
    let mut background = JoinSet::new();
    background.spawn(abort_ended_uploads(Arc::clone(&app.uploads)));
    background.spawn(complete_pins(Arc::clone(&app.uploads)));
    background.spawn(compact_counts(app.uploads.store.clone()));
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        info!("stopping; calls under way are finished");
        let _ = stopping.send(());
    };
    let serve = axum::serve(listener, routes::router(app)).with_graceful_shutdown(shutdown);
    tokio::select! {
        served = async { serve.await } => served.map_err(ServerError::Serve),
        () = async {
            // Never before the shutdown; a dropped sender means that serving has ended.
            if stopped.await.is_ok() {
                tokio::time::sleep(SHUTDOWN_TIME).await;
            } else {
                std::future::pending::<()>().await;
            }
        } => {
            warn!("some calls did not end in time; whoever made them tries again");
            Ok(())
        }
    }
}

/// Now and then has S3 throw away what pushes that crashed have left there in parts. Garbage
/// collection takes up the rest of such pushes; parts cost money, and need no grace.
async fn abort_ended_uploads(uploads: Arc<Uploads>) {
    loop {
        match upload::abort_ended(&uploads).await {
            Ok(0) => {}
            Ok(aborted) => {
                info!(multiparts.aborted = aborted, "aborted parts of pushes that ended")
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "cannot look for parts of pushes that ended"
            ),
        }
        tokio::time::sleep(ABORT_PAUSE).await;
    }
}

/// Has the files of pins say what they shall, where a crash or a failing bucket has left them behind.
async fn complete_pins(uploads: Arc<Uploads>) {
    loop {
        match pins::complete(&uploads).await {
            Ok(0) => {}
            Ok(completed) => info!(pins.completed = completed, "the files of pins have followed"),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "cannot complete pins")
            }
        }
        tokio::time::sleep(PINS_PAUSE).await;
    }
}

/// Adds up what has changed of what is stored, so that the sum stays cheap.
async fn compact_counts(store: store::Store) {
    loop {
        if let Err(error) = store::compact_all_counts(&store).await {
            warn!(error = &error as &dyn std::error::Error, "cannot add up what is stored");
        }
        tokio::time::sleep(COUNTS_PAUSE).await;
    }
}

/// Looks whether all is well: `niks3-server fsck`.
///
/// # Errors
/// When database or bucket cannot be used.
pub async fn fsck(
    config: FsckConfig,
    options: fsck::FsckOptions,
) -> Result<fsck::Report, ServerError> {
    let cx = beside_server(config)?;
    if options.repair {
        return Ok(fsck::repair(&cx, options.s3, options.external).await?);
    }
    Ok(fsck::report(&cx, options.s3).await?)
}

/// Deletes paths now, and all that refers to them if that is wanted: `niks3-server forget`. Answers how many.
///
/// # Errors
/// When something needs them, or database or bucket cannot be used.
pub async fn forget(
    config: FsckConfig,
    paths: &[StorePathHash],
    with_referrers: bool,
) -> Result<usize, ServerError> {
    Ok(gc::forget(&beside_server(config)?, paths, with_referrers).await?)
}

/// Gives what is in the cache other signatures: `niks3-server resign`.
///
/// # Errors
/// When another run is under way, or database or bucket cannot be used.
pub async fn resign(
    config: FsckConfig,
    resigning: &Resigning,
) -> Result<resign::Report, ServerError> {
    Ok(resign::resign(&beside_server(config)?, resigning).await?)
}

/// What a command works with that runs beside the server. It composes nothing.
fn beside_server(config: FsckConfig) -> Result<Uploads, ServerError> {
    Ok(Uploads {
        store: config.database.pool()?,
        bucket: config.s3.open()?,
        signing_keys: Vec::new(),
        upstream_keys: Vec::new(),
        store_dir: config.store_dir,
        trust: Trust::default(),
    })
}

/// Brings the database schema up to date and does nothing else: `niks3-server migrate`.
///
/// # Errors
/// When the database cannot be used.
pub async fn migrate(database: store::DatabaseUrl) -> Result<Vec<String>, ServerError> {
    Ok(store::migrate(&database.pool()?).await?)
}
