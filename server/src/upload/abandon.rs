//! `DELETE /api/v1/uploads/{id}`: giving up.

use std::time::Duration;

use niks3_core::wire::UploadId;
use tracing::info;

use super::{Caller, UploadError, Uploads, multipart, retry};
use crate::store::{self, RELEASE_CHUNK, UploadState};

/// Gives an upload up: what only it held is garbage. Repeating it is no error, and goes on where a
/// crash ended it.
///
/// # Errors
/// When there is no such upload, or the database fails.
pub async fn abandon(cx: &Uploads, caller: &Caller, id: &UploadId) -> Result<(), UploadError> {
    let upload = retry(|| fail(cx, caller, id)).await?;
    release_all(cx, upload).await?;
    info!("gave an upload up");
    Ok(())
}

async fn fail(cx: &Uploads, caller: &Caller, id: &UploadId) -> Result<i64, UploadError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let upload = store::lock(&tx, id, &caller.0, Duration::ZERO).await?;
    // What is committed stays committed.
    if upload.state == UploadState::Open {
        store::finish(&tx, upload.number, UploadState::Failed).await?;
    }
    tx.commit().await?;
    Ok(upload.number)
}

/// Lets go of all that a finished upload holds, chunk by chunk. A crash in between leaves holds of
/// an upload that is not open: garbage collection takes them up.
///
/// # Errors
/// When the database fails.
pub async fn release_all(cx: &Uploads, upload: i64) -> Result<(), UploadError> {
    while retry(|| release_chunk(cx, upload)).await? == RELEASE_CHUNK {}
    while retry(|| forget_chunk(cx, upload)).await? == RELEASE_CHUNK {}
    // Last: S3 may be slow, and the rest does not wait for it.
    Ok(multipart::abort_of(cx, upload).await?)
}

async fn forget_chunk(cx: &Uploads, upload: i64) -> Result<usize, UploadError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let forgotten = store::forget_paths(&tx, upload).await?;
    tx.commit().await?;
    Ok(forgotten)
}

async fn release_chunk(cx: &Uploads, upload: i64) -> Result<usize, UploadError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    // Inside the gate: whether something alive refers to an object must stay true until we are
    // done, or nobody remembers that object.
    tx.enter_gate().await?;
    let released = store::release(&tx, upload).await?;
    tx.commit().await?;
    Ok(released)
}
