//! `POST /api/v1/uploads/{id}/commit`: narinfos are composed, signed and published in waves,
//! references first; then what is attached to them; then the roots are closures.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use niks3_core::wire::{CommitProgress, UploadId};
use tracing::{info, warn};

use super::{Caller, UploadError, Uploads, abandon::release_all, attach, retry};
use crate::{
    s3::S3Error,
    store::{self, Composed, NextPath, Token, Tx, Unpublished, Upload, UploadGone, UploadState},
};

/// How long one call works before it answers how far it is. Well below what proxies wait for.
const STEP_TIME: Duration = Duration::from_secs(5);

/// Paths that one wave looks at: no transaction is long.
const WAVE: usize = 1000;

/// Narinfos that one commit sends at once; all together stay within the bucket's own bound.
const PUTS_AT_ONCE: usize = 64;

/// A wave that was taken is sent for this long at least, however long it took to take it: under
/// load each call would pay for a wave and send none of it.
const LEAST_SENDING: Duration = Duration::from_secs(2);

/// How long to wait for another upload that is composing or publishing the same paths.
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
pub(super) enum Wave {
    /// These narinfos or attachments may be written from now on.
    Publish(Vec<Unpublished>),
    /// Something was noted: look again at once.
    Again,
    /// Others have the paths in hand that are next.
    Wait,
    Committed,
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
    let mut published: Vec<Token> = Vec::new();
    loop {
        let (upload, wave) = retry(|| next_wave(cx, caller, id, &published)).await?;
        published.clear();
        match wave {
            Wave::Publish(narinfos) => {
                let until = until.max(Instant::now() + LEAST_SENDING);
                published = publish(cx, narinfos, until).await?;
            }
            Wave::Again => {}
            Wave::Wait => tokio::time::sleep(OTHERS_PAUSE).await,
            Wave::Committed => {
                // Closures hold what this upload held; letting go may be taken up by anyone.
                release_all(cx, upload.number).await?;
                info!("committed an upload");
                return Ok(CommitAnswer::Done);
            }
        }
        if Instant::now() >= until {
            retry(|| note_published(cx, caller, id, &published)).await?;
            let connection = cx.store.connection().await?;
            let (published, total) = store::progress(&connection, upload.number).await?;
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
    published: &[Token],
) -> Result<(Upload, Wave), UploadError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let upload = lock(cx, &tx, caller, id).await?;
    if upload.state == UploadState::Committed {
        return Ok((upload, Wave::Committed));
    }
    tx.enter_gate().await?;
    note(&tx, &upload, published).await?;
    let next = store::next_paths(&tx, upload.number, WAVE).await?;
    let attachments = match next.is_empty() {
        true => store::next_attachments(&tx, upload.number, WAVE).await?,
        false => Vec::new(),
    };
    let wave = if !attachments.is_empty() {
        attach::advance(cx, &tx, &upload, &attachments).await?
    } else if next.is_empty() {
        let roots = store::roots_of(&tx, upload.number).await?;
        if roots.is_empty() || store::unpublished(&tx, &roots).await? > 0 {
            return Err(UploadError::Stale);
        }
        store::push_closures(&tx, &roots).await?;
        store::finish(&tx, upload.number, UploadState::Committed).await?;
        Wave::Committed
    } else {
        advance(cx, &tx, &upload, &next).await?
    };
    tx.commit().await?;
    Ok((upload, wave))
}

/// An upload that failed holds nothing any more; one that is committed is done.
async fn lock(
    cx: &Uploads,
    tx: &Tx<'_>,
    caller: &Caller,
    id: &UploadId,
) -> Result<Upload, store::StoreError> {
    let upload = store::lock(tx, id, &caller.0, cx.idle_time()).await?;
    match upload.state {
        UploadState::Failed => Err(UploadGone::Failed.into()),
        UploadState::Open | UploadState::Committed => Ok(upload),
    }
}

async fn note(tx: &Tx<'_>, upload: &Upload, published: &[Token]) -> Result<(), UploadError> {
    // What another commit has noted before us is met as published by the next wave.
    let stored = store::mark_stored(tx, published).await?;
    Ok(store::mark_done(tx, upload.number, &stored).await?)
}

async fn advance(
    cx: &Uploads,
    tx: &Tx<'_>,
    upload: &Upload,
    next: &[NextPath],
) -> Result<Wave, UploadError> {
    let ids = |wanted: fn(&NextPath) -> bool| -> Vec<i64> {
        next.iter().filter(|path| wanted(path)).map(|path| path.id).collect()
    };
    // Published before, or by another upload meanwhile.
    let there = ids(|path| path.published);
    store::mark_done(tx, upload.number, &there).await?;

    // All that lies lower is done, so what is not there now has gone since.
    if next.iter().any(|path| !path.published && !path.composed && !path.refs_published) {
        return Err(UploadError::Stale);
    }
    // Composed with references that have been lost since, and that may not be this upload's: void, and
    // composed anew when nobody can write the old text any more.
    let void = ids(|path| !path.published && path.composed && !path.refs_published);
    if !void.is_empty() && store::void_narinfos(tx, &void).await? > 0 {
        return Ok(Wave::Again);
    }
    let ready = ids(|path| !path.published && !path.composed && path.quiet && path.has_nar);
    let composable = store::lock_composable(tx, upload.number, &ready).await?;
    let mut composed = Vec::with_capacity(composable.len());
    for path in composable {
        let narinfo = path.info.compose(&cx.store_dir, &cx.signing_keys)?;
        composed.push(Composed { id: path.id, nar_id: path.nar_id, narinfo });
    }
    store::compose(tx, upload.number, &composed).await?;

    let mut unpublished = ids(|path| !path.published && path.composed);
    unpublished.extend(composed.iter().map(|narinfo| narinfo.id));
    let times = cx.bucket.times;
    let writable = times.writable(times.own_url(), 0);
    let narinfos = store::take_unpublished(tx, &unpublished, writable).await?;
    if !narinfos.is_empty() {
        return Ok(Wave::Publish(narinfos));
    }
    if !there.is_empty() {
        return Ok(Wave::Again);
    }
    match next.iter().find(|path| !path.composed && !path.has_nar) {
        Some(path) => Err(UploadError::Incomplete(path.store_path.clone())),
        None => Ok(Wave::Wait),
    }
}

/// Sends narinfos to the bucket until the time is up. Answers those that it took; some may fail,
/// and are in a later wave again, but if all do, that is the answer.
async fn publish(
    cx: &Uploads,
    narinfos: Vec<Unpublished>,
    until: Instant,
) -> Result<Vec<Token>, S3Error> {
    // What has not begun by then is left to a later wave.
    let until = until.min(Instant::now() + cx.bucket.times.latest_put());
    let results: Vec<_> = stream::iter(narinfos)
        .map(|narinfo| async move {
            if Instant::now() >= until {
                return None;
            }
            let body = cx.bucket.encode(&narinfo.key, &narinfo.text);
            let put = cx.bucket.put(&narinfo.key, body, narinfo.fenced_at).await;
            Some(put.map(|()| narinfo.token))
        })
        .buffer_unordered(PUTS_AT_ONCE)
        .collect()
        .await;
    let mut published = Vec::with_capacity(results.len());
    let mut failed = None;
    for result in results.into_iter().flatten() {
        match result {
            Ok(token) => published.push(token),
            Err(error) => failed = Some(error),
        }
    }
    // In one order, in whichever they were sent: two commits that note the same ones do not
    // dead-lock.
    published.sort_unstable();
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
    published: &[Token],
) -> Result<(), UploadError> {
    if published.is_empty() {
        return Ok(());
    }
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let upload = lock(cx, &tx, caller, id).await?;
    if upload.state == UploadState::Committed {
        // By another call, which has noted all of it. The upload holds nothing any more, so what we sent
        // may have been deleted since.
        return Ok(());
    }
    tx.enter_gate().await?;
    note(&tx, &upload, published).await?;
    Ok(tx.commit().await?)
}
