//! Runs as people see them: started, joined, followed.

use std::sync::Arc;

use niks3_core::{
    causes::causes,
    wire::{CacheSize, CollectRequest, CollectState, CollectStatus, Collection},
};
use tracing::{error, info};

use super::run::Run;
use crate::{
    store::{self, CollectionLock, StoreError},
    upload::Uploads,
};

/// Looks for the run of whoever has the lock: it takes the lock a moment before it notes its run.
const LOOKS: u32 = 20;
const LOOK_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Why no run was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one is under way.
    #[error(
        "garbage collection number {number} is under way with other settings; wait for it to end, or \
         follow it with the same ones"
    )]
    Other {
        /// Which.
        number: u64,
    },
    /// Somebody else has the lock and no run is noted.
    #[error(
        "the cache is being repaired (niks3-server fsck --repair); collect when that has ended"
    )]
    Repair,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Starts a run that goes on whoever waits for it. One that is under way with the same settings, on
/// whichever server, is joined.
///
/// # Errors
/// When one with other settings is under way, or the database fails.
pub async fn start(cx: &Arc<Uploads>, request: &CollectRequest) -> Result<Collection, StartError> {
    for _ in 0..LOOKS {
        if let Some(lock) = CollectionLock::try_take(&cx.store).await? {
            return begin(cx, request, lock).await;
        }
        let last = store::last_collection(&cx.store.connection().await?).await?;
        match last.filter(|last| last.state == CollectState::Running) {
            Some(last) if last.parameters == *request => return Ok(last),
            Some(last) => return Err(StartError::Other { number: last.number }),
            None => tokio::time::sleep(LOOK_PAUSE).await,
        }
    }
    Err(StartError::Repair)
}

async fn begin(
    cx: &Arc<Uploads>,
    request: &CollectRequest,
    lock: CollectionLock,
) -> Result<Collection, StartError> {
    let connection = cx.store.connection().await?;
    let opened = store::open_collection(&connection, request).await?;
    let begun = store::last_collection(&connection).await?;
    let (cx, request) = (Arc::clone(cx), request.clone());
    tokio::spawn(async move { carry_out(&cx, request, lock, opened).await });
    begun.ok_or(StartError::Store(StoreError::NoRow("look up the last run")))
}

async fn carry_out(
    cx: &Arc<Uploads>,
    request: CollectRequest,
    lock: CollectionLock,
    opened: (i64, f64),
) {
    let (number, _) = opened;
    info!(gc.run = number, gc.parameters = ?request, "garbage collection begins");
    let mut run = Run::new(cx, lock, request, opened);
    let ended = run.collect().await;
    let progress = &run.progress;
    let why = match &ended {
        Ok(()) => {
            info!(gc.run = number, gc.progress = ?progress, "garbage collection has ended");
            None
        }
        Err(error) => {
            let why = causes(error).join(": ");
            error!(gc.run = number, gc.progress = ?progress, cause = why, "garbage collection failed");
            Some(why)
        }
    };
    // While the lock is still ours, so that nobody sees the run as interrupted.
    let noted = async {
        let connection = cx.store.connection().await?;
        store::close_collection(&connection, number, progress, why.as_deref()).await
    };
    if let Err(error) = noted.await {
        error!(gc.run = number, cause = causes(&error).join(": "), "cannot note the end of a run");
    }
}

/// The run that is under way, or the last one, and what the cache has.
///
/// # Errors
/// When the database fails.
pub async fn status(cx: &Uploads) -> Result<CollectStatus, StoreError> {
    let connection = cx.store.connection().await?;
    let collection = store::last_collection(&connection).await?;
    let (objects, bytes) = store::cache_size(&connection).await?;
    Ok(CollectStatus { collection, cache: CacheSize { objects, bytes } })
}
