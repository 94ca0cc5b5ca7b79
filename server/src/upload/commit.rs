//! `POST /api/v1/uploads/{id}/commit`: narinfos are composed, signed and published in waves,
//! references first; then the roots are closures.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use niks3_core::{
    hash::FileHash,
    limits::put_time,
    wire::{CommitProgress, UploadId},
};
use tracing::{info, warn};

use super::{Caller, IDLE_TIME, UploadError, Uploads, abandon::release_all, retry};
use crate::{
    s3::{OWN_URL_LIFETIME, S3Error},
    store::{self, Composed, Remaining, Tx, Unpublished, UploadState},
};

/// How long one call works before it answers how far it is. Well below what proxies wait for.
const STEP_TIME: Duration = Duration::from_secs(5);

/// Narinfos in one wave: no transaction is long.
const WAVE: usize = 1000;

/// Narinfos that one commit sends at once; all together stay within the bucket's own bound.
const PUTS_AT_ONCE: usize = 64;

/// How long to wait for another upload that is composing the same paths.
const OTHERS_PAUSE: Duration = Duration::from_millis(100);

/// How far a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// Call again.
    Going(CommitProgress),
    /// The roots are closures.
    Done,
}

/// What is to be done next.
enum Wave {
    Publish(Vec<Unpublished>),
    /// Others have some of our paths in hand.
    Wait(Remaining),
    Committed(i64),
}

/// Works on the commit of an upload for some seconds. Safe to repeat, by several at once too.
///
/// # Errors
/// See [`UploadError`].
pub async fn commit(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
) -> Result<CommitAnswer, UploadError> {
    let until = Instant::now() + STEP_TIME;
    let mut published: Vec<(i64, Option<FileHash>)> = Vec::new();
    loop {
        match retry(|| next_wave(cx, caller, id, &published)).await? {
            Wave::Publish(narinfos) => published = publish(cx, narinfos).await?,
            Wave::Wait(remaining) if Instant::now() >= until => {
                let Remaining { published, total, .. } = remaining;
                return Ok(CommitAnswer::Going(CommitProgress { published, total }));
            }
            Wave::Wait(_) => {
                published.clear();
                tokio::time::sleep(OTHERS_PAUSE).await;
            }
            Wave::Committed(upload) => {
                // Closures hold what this upload held; letting go may be taken up by anyone.
                release_all(cx, upload).await?;
                info!("committed an upload");
                return Ok(CommitAnswer::Done);
            }
        }
        if Instant::now() >= until && !published.is_empty() {
            let remaining = retry(|| note_published(cx, caller, id, &published)).await?;
            let Remaining { published, total, .. } = remaining;
            return Ok(CommitAnswer::Going(CommitProgress { published, total }));
        }
    }
}

/// One transaction: what the last wave published is noted, what that made ready is composed, and
/// what is composed may be written from now on. With nothing left, the roots become closures.
async fn next_wave(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    published: &[(i64, Option<FileHash>)],
) -> Result<Wave, UploadError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let upload = store::lock(&tx, id, &caller.0, cx.url_lifetime + IDLE_TIME).await?;
    if upload.state == UploadState::Committed {
        return Ok(Wave::Committed(upload.number));
    }
    tx.enter_gate().await?;
    store::mark_stored(&tx, published).await?;
    compose(cx, &tx, upload.number).await?;
    let writable = OWN_URL_LIFETIME + put_time(0);
    let narinfos = store::take_unpublished(&tx, upload.number, WAVE, writable).await?;
    if !narinfos.is_empty() {
        tx.commit().await?;
        return Ok(Wave::Publish(narinfos));
    }
    let remaining = store::remaining(&tx, upload.number).await?;
    if let (count @ 1.., Some(example)) = (remaining.without_nar, remaining.example.clone()) {
        tx.commit().await?;
        return Err(UploadError::Incomplete { count, example });
    }
    if remaining.published < remaining.total {
        tx.commit().await?;
        return Ok(Wave::Wait(remaining));
    }
    if upload.roots.is_empty() || store::unpublished_roots(&tx, &upload.roots).await? > 0 {
        return Err(UploadError::Stale);
    }
    store::attach_listings(&tx, upload.number).await?;
    store::push_closures(&tx, &upload.roots).await?;
    store::finish(&tx, upload.number, UploadState::Committed).await?;
    tx.commit().await?;
    Ok(Wave::Committed(upload.number))
}

async fn compose(cx: &Uploads, tx: &Tx<'_>, upload: i64) -> Result<(), UploadError> {
    let mut composed = Vec::new();
    for ready in store::ready(tx, upload, WAVE).await? {
        let narinfo = ready.info.compose(&cx.store_dir, &cx.signing_keys)?;
        composed.push(Composed { id: ready.id, nar_id: ready.nar_id, narinfo });
    }
    Ok(store::compose(tx, upload, &composed).await?)
}

/// Sends narinfos to the bucket. Answers those that it took; some may fail, and are in the next
/// wave again, but if all do, that is the answer.
async fn publish(
    cx: &Uploads,
    narinfos: Vec<Unpublished>,
) -> Result<Vec<(i64, Option<FileHash>)>, S3Error> {
    let results: Vec<_> = stream::iter(narinfos)
        .map(|narinfo| async move {
            let body = cx.bucket.encode(&narinfo.narinfo);
            cx.bucket.put(&narinfo.key, body).await.map(|()| (narinfo.id, None))
        })
        .buffer_unordered(PUTS_AT_ONCE)
        .collect()
        .await;
    let mut published = Vec::with_capacity(results.len());
    let mut failed = None;
    for result in results {
        match result {
            Ok(done) => published.push(done),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if published.is_empty() => Err(error),
        Some(error) => {
            warn!(error = &error as &dyn std::error::Error, "some narinfos were not taken");
            Ok(published)
        }
        None => Ok(published),
    }
}

async fn note_published(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    published: &[(i64, Option<FileHash>)],
) -> Result<Remaining, UploadError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let upload = store::lock(&tx, id, &caller.0, cx.url_lifetime + IDLE_TIME).await?;
    tx.enter_gate().await?;
    store::mark_stored(&tx, published).await?;
    let remaining = store::remaining(&tx, upload.number).await?;
    tx.commit().await?;
    Ok(remaining)
}
