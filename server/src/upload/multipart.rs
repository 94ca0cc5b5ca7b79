//! Large NARs: multipart uploads are opened, completed and aborted here, and nowhere else.

use std::collections::HashSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::{
    hash::NarHash,
    object_key::ObjectKey,
    wire::{ObjectSpec, StoredPart},
};
use tracing::{debug, warn};

use super::{UploadError, Uploads, grant::Granted, look, retry};
use crate::{
    s3::S3Error,
    store::{self, Multipart, StoreError},
};

/// Requests to S3 of one call; all calls together stay within the bucket's own bound.
const AT_ONCE: usize = 8;

/// Multipart uploads of ended pushes that are aborted in one go.
const ENDED_AT_ONCE: usize = 100;

/// Looks whether those large NARs that would be adopted are really there: a push whose own multipart
/// upload was aborted for another one's counts that as success only then. What is lost is noted, so
/// that it is not adopted.
pub(super) async fn confirm_adoptable(
    cx: &Uploads,
    objects: &[ObjectSpec],
) -> Result<(), UploadError> {
    let large: Vec<NarHash> = objects
        .iter()
        .filter_map(|object| match object {
            ObjectSpec::LargeNar { nar_hash } => Some(*nar_hash),
            _ => None,
        })
        .collect();
    if large.is_empty() {
        return Ok(());
    }
    let recorded = store::recorded_nars(&cx.store.connection().await?, &large).await?;
    look::note_lost(cx, recorded).await.map(drop)
}

/// Has S3 open what is to be opened. Answers the rows of those that are.
pub(super) async fn open_all(
    cx: &Uploads,
    granted: impl Iterator<Item = &Granted>,
) -> Result<HashSet<i64>, UploadError> {
    let to_open: Vec<Multipart> = granted
        .filter_map(|granted| match granted {
            Granted::ToOpen(multipart) => Some(multipart.clone()),
            _ => None,
        })
        .collect();
    let opened: Vec<Option<i64>> = stream::iter(to_open)
        .map(|multipart| open(cx, multipart))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(opened.into_iter().flatten().collect())
}

/// `None`: the push has ended meanwhile.
async fn open(cx: &Uploads, multipart: Multipart) -> Result<Option<i64>, UploadError> {
    let s3_id = cx.bucket.open_multipart(&multipart.key).await?;
    let noted = retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        let noted = store::multipart_opened(&tx, multipart.id, &s3_id).await?;
        tx.commit().await?;
        Ok(noted)
    });
    if noted.await? {
        return Ok(Some(multipart.id));
    }
    cx.bucket.abort_multipart(&multipart.key, &s3_id).await?;
    Ok(None)
}

/// Has S3 make one object of the parts. `false`: it is not there, and never will be.
///
/// Only the object itself decides. S3 may answer 200 and an error in the body; its answer may be
/// lost although the object is there; and a second call for what was completed by a first one is
/// told that there is no such upload.
///
/// # Errors
/// When S3 cannot say. Asking again is safe.
pub(super) async fn complete(
    cx: &Uploads,
    multipart: &Multipart,
    parts: &[StoredPart],
    signed_at: f64,
) -> Result<bool, S3Error> {
    let (key, bytes) = (&multipart.key, parts.iter().map(|part| part.bytes).sum());
    let Some(s3_id) = &multipart.s3_id else { return Ok(false) };
    let completed = cx.bucket.complete_multipart(key, s3_id, parts, signed_at).await;
    if look::is_there(&cx.bucket, key, Some(bytes)).await? {
        if let Err(error) = completed {
            debug!(error = &error as &dyn std::error::Error, "completed all the same: {key}");
        }
        return Ok(true);
    }
    match completed {
        Err(error) if error.is_no_such_upload() => Ok(false),
        Err(error) => Err(error),
        Ok(()) => Ok(false),
    }
}

/// Aborts multipart uploads of contents that are stored by now. Their rows stay until their own push
/// ends, and are aborted again then: a part that is on its way now may arrive after this.
pub(super) async fn abort_others(cx: &Uploads, others: &[Multipart]) {
    for other in others {
        if let Err(error) = abort(cx, other).await {
            warn!(error = &error as &dyn std::error::Error, "cannot abort a duplicate upload");
        }
    }
}

/// Aborts all that an ended upload has open at S3. What fails is tried again by
/// [`abort_ended`].
pub(super) async fn abort_of(cx: &Uploads, upload: i64) -> Result<(), StoreError> {
    let open = store::multiparts_of(&cx.store.connection().await?, upload).await?;
    abort_and_forget(cx, open).await.map(drop)
}

/// Aborts multipart uploads whose push has ended or is gone: what a crash of a client or a server
/// leaves at S3, which is paid for and seen by nobody. Answers how many there were.
///
/// # Errors
/// When the database fails. What S3 does not abort is left for the next time.
pub async fn abort_ended(cx: &Uploads) -> Result<usize, StoreError> {
    let mut aborted = 0;
    loop {
        let connection = cx.store.connection().await?;
        let ended = store::ended_multiparts(&connection, ENDED_AT_ONCE).await?;
        drop(connection);
        let found = ended.len();
        let forgotten = abort_and_forget(cx, ended).await?;
        aborted += forgotten;
        if found < ENDED_AT_ONCE || forgotten == 0 {
            return Ok(aborted);
        }
    }
}

async fn abort_and_forget(cx: &Uploads, open: Vec<Multipart>) -> Result<usize, StoreError> {
    if open.is_empty() {
        return Ok(0);
    }
    let aborted: Vec<Option<i64>> = stream::iter(open)
        .map(|multipart| async move {
            match abort(cx, &multipart).await {
                Ok(()) => Some(multipart.id),
                Err(error) => {
                    let key = multipart.key;
                    warn!(error = &error as &dyn std::error::Error, "cannot abort {key} at S3");
                    None
                }
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let aborted: Vec<i64> = aborted.into_iter().flatten().collect();
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    store::forget_multiparts(&tx, &aborted).await?;
    tx.commit().await?;
    Ok(aborted.len())
}

async fn abort(cx: &Uploads, multipart: &Multipart) -> Result<(), S3Error> {
    let key: &ObjectKey = &multipart.key;
    if let Some(s3_id) = &multipart.s3_id {
        return cx.bucket.abort_multipart(key, s3_id).await;
    }
    // S3 may have opened it and nobody heard.
    for s3_id in cx.bucket.open_multiparts(key).await? {
        cx.bucket.abort_multipart(key, &s3_id).await?;
    }
    Ok(())
}
