//! Closures that were pushed: looking at them, and ending one.

use std::time::{Duration, Instant};

use niks3_core::{
    pin_name::PinName,
    store_path::StorePathHash,
    wire::{Closure, ClosuresResponse},
};
use tracing::info;

use crate::{
    store::{self, ClosureSize, Connection, PushedClosure, StoreError},
    upload::Uploads,
};

/// Closures that one call lists.
const PAGE: usize = 200;

/// Closures that one call counts, of those that nobody has counted since they were pushed: a page ends
/// before the next one.
const COUNTS: usize = 50;

/// How long one call goes on counting. One closure is always counted, so that the next call is further.
const COUNT_TIME: Duration = Duration::from_secs(2);

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// No closure.
    #[error("{0} is not the root of a closure that was pushed to this cache")]
    Unknown(StorePathHash),
    /// It has lost its root.
    #[error(
        "the cache has lost the root {0} of this closure; push it again, or delete the closure"
    )]
    Lost(StorePathHash),
    /// It is pinned.
    #[error(
        "the closure is pinned as {}; delete or move what pins it first",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Pinned(Vec<PinName>),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Closures by hash, those after `after`. Those that have lost their root are left out: nobody knows
/// their names until they are pushed anew.
///
/// # Errors
/// When the database fails.
pub async fn list(
    cx: &Uploads,
    after: Option<StorePathHash>,
) -> Result<ClosuresResponse, StoreError> {
    let connection = cx.store.connection().await?;
    let mut rows = store::list_closures(&connection, after, PAGE + 1).await?;
    let mut more = rows.len() > PAGE;
    rows.truncate(PAGE);
    let (mut counted, until) = (0, Instant::now() + COUNT_TIME);
    let mut last = None;
    let mut closures = Vec::with_capacity(rows.len());
    for row in rows {
        let size = match row.size {
            Some(size) => size,
            None if counted == COUNTS || (counted > 0 && Instant::now() >= until) => {
                more = true;
                break;
            }
            None => {
                counted += 1;
                store::count_closure(&connection, &row).await?
            }
        };
        last = Some(row.hash);
        closures.extend(closure(row, size));
    }
    Ok(ClosuresResponse { closures, next: last.filter(|_| more) })
}

/// One closure.
///
/// # Errors
/// See [`ClosureError`].
pub async fn show(cx: &Uploads, root: StorePathHash) -> Result<Closure, ClosureError> {
    let connection: Connection = cx.store.connection().await?;
    let found = store::find_closure(&connection, root).await?;
    let found = found.ok_or(ClosureError::Unknown(root))?;
    let size = match found.size {
        Some(size) => size,
        None => store::count_closure(&connection, &found).await?,
    };
    closure(found, size).ok_or(ClosureError::Lost(root))
}

fn closure(row: PushedClosure, size: ClosureSize) -> Option<Closure> {
    let (paths, bytes) = (size.paths, size.bytes);
    let (pushed_at, pinned_by) = (row.pushed_at, row.pinned_by);
    row.path.map(|path| Closure { path, pushed_at, pinned_by, paths, bytes })
}

/// Ends a closure now: the next garbage collection takes what nothing else needs of it.
///
/// # Errors
/// See [`ClosureError`].
pub async fn expire(cx: &Uploads, root: StorePathHash) -> Result<(), ClosureError> {
    let is_transient = |error: &ClosureError| match error {
        ClosureError::Store(error) => error.is_transient(),
        _ => false,
    };
    let expired = store::retry(
        || async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            // Alone: a pin that is being made would not be seen.
            tx.enter_gate_alone().await?;
            let closure = store::closure_id(&tx, root).await?;
            let closure = closure.ok_or(ClosureError::Unknown(root))?;
            let pins = store::pins_of(&tx, closure).await?;
            if !pins.is_empty() {
                return Err(ClosureError::Pinned(pins));
            }
            store::expire_closure(&tx, closure).await?;
            Ok(tx.commit().await?)
        },
        is_transient,
    );
    expired.await?;
    info!(closure.root = %root, "the closure {root} was ended");
    Ok(())
}
